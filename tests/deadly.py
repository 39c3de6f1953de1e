"""A process that kills itself at the n-th of some calls to the system, to see what is left."""

import multiprocessing
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

_SCRIPT = """
import os, sys, warnings
calls = 0
def counted(name):
    real = getattr(os, name)
    def call(*args, **keywords):
        global calls
        calls += 1
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), 9)
        return real(*args, **keywords)
    setattr(os, name, call)
for name in ("fsync", "replace", "rename", "mkdir", "unlink"):
    counted(name)
warnings.simplefilter("ignore")
"""


def killed_until_done(work, *arguments, step):
    """Run code, killed at the first call, then `step` calls later, and so on, until it ends; return the kills."""
    kills = 0
    for call in range(1, 80, step):
        command = [sys.executable, "-c", _SCRIPT + work, str(call), *map(str, arguments)]
        code = subprocess.run(command, check=False, cwd=Path(__file__).parents[1], timeout=120).returncode
        if code == 0:
            break
        assert code == -9
        kills += 1
    return kills


def killed_at_random(work, targets, *, seed):
    """Do the work for each target in a process that is killed at a random moment, then in another to its end.

    The first target is not killed: it says how long the work takes.
    """
    rng = np.random.default_rng(seed)
    begin = time.monotonic()
    assert not _is_killed(work, targets[0], None)
    longest = time.monotonic() - begin
    for target in targets[1:]:
        while not _is_killed(work, target, rng.uniform(0, longest)):  # it was done before
            shutil.rmtree(target)
        assert not _is_killed(work, target, None)


def _is_killed(work, target, limit_s):
    process = multiprocessing.get_context("fork").Process(target=work, args=(target,))
    process.start()
    process.join(limit_s)
    if process.is_alive():
        process.kill()
        process.join()
        return True
    assert process.exitcode == 0, target
    return False
