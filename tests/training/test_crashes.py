"""Real kills: whatever happens to a run, resumed from its folder it ends with the same bits as one left in peace."""

import multiprocessing
import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.killed import Run, train

from guided_attention.errors import CheckpointError
from guided_attention.training import load_checkpoint, read_log

pytestmark = [pytest.mark.crash, pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")]

_SETTINGS = {
    "plain": {},
    "averaged": {"ema_decay": 0.9},
    "workers": {"workers": 2},
    "all": {"workers": 2, "ema_decay": 0.9, "accumulate": 4},
}
_KILLS = 5  # of each, at random moments


@pytest.fixture(scope="module")
def processes():
    """A server that has imported torch with what an optimizer imports, and forks: a start takes half a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "tests.training.killed"])
    return context


@pytest.fixture(scope="module")
def unbroken(processes, tmp_path_factory):
    """What is left by runs that nobody kills, and how long they take."""
    made = {}

    def get(name):
        if name not in made:
            assert finished(processes, Run(tmp_path_factory.mktemp(name) / "run", **_SETTINGS[name])) == 0
            run = Run(tmp_path_factory.mktemp(name) / "run", **_SETTINGS[name])
            began = time.monotonic()
            assert finished(processes, run) == 0
            made[name] = (left_in(run.folder), time.monotonic() - began)
        return made[name]

    return get


def started(processes, run):
    process = processes.Process(target=train, args=(run,))
    process.start()
    return process


def finished(processes, run):
    process = started(processes, run)
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def said(run):
    return (run.folder.parent / "said").read_text()


def until(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError


def left_in(folder):
    last, best = load_checkpoint(folder / "last.pt"), load_checkpoint(folder / "best.pt")
    for row in last["run"]["rows"]:
        del row["minutes"], row["waiting"]
    for name in ("minutes", "validation_minutes", "waited", "seconds"):
        del last["run"][name]
    rows = read_log(folder / "log.csv")
    for row in rows:
        del row["minutes"], row["waiting"]
    return {"last": last, "best": best, "log": rows}


def assert_equal(ours, theirs, where=""):
    if isinstance(theirs, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for name in theirs:
            assert_equal(ours[name], theirs[name], f"{where}/{name}")
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("name", _SETTINGS)
def test_runs_killed_at_random_moments_end_with_the_bits_of_one_that_was_not(
    processes, unbroken, tmp_path, name
):
    wanted, seconds = unbroken(name)
    choose, kills, runs = random.Random(name), 0, 0  # noqa: S311 - which moment, no secret
    while kills < _KILLS:
        run = Run(tmp_path / f"run-{runs}", **_SETTINGS[name])
        runs += 1
        code = None
        while code != 0:
            process = started(processes, run)
            if kills < _KILLS:
                process.join(choose.uniform(0.1, 0.6) * seconds)
                process.kill()
            process.join(60)
            code = process.exitcode
            assert code in {0, -signal.SIGKILL}
            kills += code != 0
        assert_equal(left_in(run.folder), wanted)
        assert not list(run.folder.glob(".*"))  # drafts are swept, the lock is released


_WRITINGS = [(what, call) for what in ("fsync", "replace", "link", "save") for call in (1, 2, 5, 9, -7)]


@pytest.mark.parametrize(("deadly", "call"), [*_WRITINGS, ("validate", 1), ("validate", 2)])
def test_runs_that_die_inside_a_writing_end_with_the_same_bits(processes, unbroken, tmp_path, deadly, call):
    run = Run(tmp_path / "run", **_SETTINGS["plain"])
    assert finished(processes, replace(run, deadly=deadly, call=call)) == -signal.SIGKILL
    assert finished(processes, run) == 0
    assert_equal(left_in(run.folder), unbroken("plain")[0])
    assert not list(run.folder.glob(".*"))


@pytest.mark.parametrize("name", ["plain", "all"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_whole_group_ends_with_75_and_the_run_is_resumed(
    processes, unbroken, tmp_path, name, number
):
    # Nothing is stored inside an epoch but on the signal; in the second epoch, as the first has left its row.
    run = Run(tmp_path / "run", **_SETTINGS[name], store_minutes=60.0, step_seconds=0.15, group=True)
    process = started(processes, run)
    until((run.folder / "log.csv").exists)
    time.sleep(0.1)
    os.killpg(process.pid, number)
    process.join(20)
    assert process.exitcode == 75
    state = load_checkpoint(run.folder / "last.pt")["run"]
    assert state["epoch"] == 2
    assert 0 < state["batches"] < 6
    assert finished(processes, run) == 0
    got, wanted = left_in(run.folder), unbroken(name)[0]
    got["last"]["settings"] = wanted["last"]["settings"]
    assert_equal(got, wanted)


def test_a_signal_in_validation_ends_at_once(processes, unbroken, tmp_path):
    run = Run(tmp_path / "run")
    process = started(processes, replace(run, validation_seconds=60.0))
    until((tmp_path / "validating").exists)
    os.kill(process.pid, signal.SIGTERM)
    process.join(10)
    assert process.exitcode == 75
    assert finished(processes, run) == 0
    assert_equal(left_in(run.folder), unbroken("plain")[0])


def test_a_run_in_a_folder_in_use_is_refused_until_the_other_is_killed(processes, tmp_path):
    run = Run(tmp_path / "run", workers=2, step_seconds=0.2)
    first = started(processes, run)
    until((run.folder / "last-1.pt").exists)  # inside an epoch, with workers
    assert finished(processes, run) == 1
    assert f"which process {first.pid} on " in said(run)
    first.kill()
    first.join()
    # The workers of the killed process live on for a while: they do not keep the folder.
    assert finished(processes, replace(run, step_seconds=0.004)) == 0
    assert f"process {first.pid} on " in said(run)


@pytest.mark.parametrize("damage", ["cut short", "a bit"])
def test_a_damaged_newest_state_costs_no_more_than_the_step_since_the_one_before(
    processes, unbroken, tmp_path, damage
):
    run = Run(tmp_path / "run")
    assert finished(processes, replace(run, deadly="link", call=9)) == -signal.SIGKILL
    last = run.folder / "last.pt"
    content = bytearray(last.read_bytes())
    if damage == "a bit":
        content[len(content) // 2] ^= 1
    last.write_bytes(content if damage == "a bit" else content[: len(content) // 2])
    with pytest.raises(CheckpointError):
        load_checkpoint(last)
    (run.folder / "log.csv").unlink()
    assert finished(processes, run) == 0
    assert "last-1.pt, the state before it, is used." in said(run)
    assert_equal(left_in(run.folder), unbroken("plain")[0])


def test_a_full_disk_leaves_the_last_state_whole_and_the_run_is_resumed(processes, unbroken, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs the rights of an administrator")
    try:
        run = Run(disk / "run", step_seconds=0.05)
        process = started(processes, run)
        until((run.folder / "last-1.pt").exists)
        _fill(disk / "filled")
        process.join(60)
        assert process.exitcode == 1
        error = said(run)
        assert "WriteError: `path` must be a file that can be written, got" in error
        assert "run/" in error
        assert load_checkpoint(run.folder / "last.pt")["run"]["epoch"] >= 1
        assert finished(processes, run) == 1
        assert "WriteError: " in said(run)
        (disk / "filled").unlink()
        assert finished(processes, run) == 0
        assert_equal(left_in(run.folder), unbroken("plain")[0])
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 4096)
        except OSError:
            pass
