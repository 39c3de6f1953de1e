"""A process that kills itself at the n-th of some calls to the system, to see what is left."""

import multiprocessing
import os
import shutil
import signal
import time
from functools import partial

import numpy as np

_CALLS = ("fsync", "replace", "rename", "mkdir", "unlink")


def killed_until_done(work, *, step):
    """Do the work in a process killed at its first call, `step` calls later, and so on, to its end; return the kills.

    The processes are forked: each would take seconds to import torch, and it is the files that are looked at.
    """
    kills = 0
    for call in range(1, 80, step):
        process = _started(partial(_until_call, call, work))
        process.join(120)
        process.kill()  # in case it hangs
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    return kills


def _until_call(last, work):
    """Do the work, and be killed at one of the calls to the system."""
    calls = 0

    def counted(real):
        def call(*args, **keywords):
            nonlocal calls
            calls += 1
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **keywords)

        return call

    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))
    work()


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


def _started(work):
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def _is_killed(work, target, limit_s):
    process = _started(partial(work, target))
    process.join(limit_s)
    if process.is_alive():
        process.kill()
        process.join()
        return True
    assert process.exitcode == 0, target
    return False
