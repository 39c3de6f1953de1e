"""A process that kills itself at the n-th of some calls to the system, to see what is left."""

import subprocess
import sys
from pathlib import Path

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
