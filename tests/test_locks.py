import json
import os
import platform

import pytest

from guided_attention import _locks
from guided_attention._locks import LOCK, locked_folder
from guided_attention.errors import ExistingFileError


def entered(folder, **options):
    with locked_folder(folder, **options) as said:
        return said


def test_a_folder_in_use_is_refused_and_its_holder_named(tmp_path):
    with locked_folder(tmp_path, argument="run_dir", doing="training in") as said:
        assert said == ""
        held = json.loads((tmp_path / LOCK).read_text())
        assert (held["host"], held["process"]) == (platform.node(), os.getpid())
        message = (
            rf"`run_dir` must not be in use, got {tmp_path}, which process {os.getpid()} on {platform.node()} "
            rf"\(since {held['since'][:10]}.*\) is training in\. Wait for it, stop it, or name another run_dir\."
        )
        for take_over in (False, True):  # one that lives is not taken over
            with pytest.raises(ExistingFileError, match=message):
                entered(tmp_path, argument="run_dir", doing="training in", take_over=take_over)
    assert list(tmp_path.iterdir()) == []
    assert entered(tmp_path) == ""


def test_a_block_that_fails_releases_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path):
        raise ZeroDivisionError
    assert entered(tmp_path) == ""


def test_a_dead_holder_of_this_machine_is_taken_over_with_a_word(tmp_path):
    left = {"host": platform.node(), "process": 7, "since": "2026-01-01"}
    (tmp_path / LOCK).write_text(json.dumps(left))
    said = entered(tmp_path)
    assert said == (
        f"process 7 on {platform.node()} (since 2026-01-01) left {tmp_path} without releasing it: taken over."
    )


def test_a_holder_on_another_machine_is_taken_over_on_demand(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({"host": "elsewhere", "process": 7, "since": "2026-01-01"}))
    with pytest.raises(
        ExistingFileError, match=r"process 7 on elsewhere .* If it has ended, set take_over=True"
    ):
        entered(tmp_path, take_over=False)
    assert "process 7 on elsewhere" in entered(tmp_path, take_over=True)
    assert entered(tmp_path) == ""


def test_where_nothing_takes_over_the_file_to_delete_is_named(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({"host": "elsewhere", "process": 7, "since": "2026-01-01"}))
    with pytest.raises(ExistingFileError, match=rf"If it has ended, delete {tmp_path / LOCK}\.$"):
        entered(tmp_path)
    (tmp_path / LOCK).unlink()
    assert entered(tmp_path) == ""


def test_a_damaged_file_is_no_holder(tmp_path):
    for text in ("", "[1]", '{"host": '):
        (tmp_path / LOCK).write_text(text)
        assert entered(tmp_path) == ""


def test_where_a_disk_has_no_locks_the_process_is_looked_for(tmp_path, monkeypatch):
    def no_locks(_handle, _how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(_locks.fcntl, "flock", no_locks)
    with locked_folder(tmp_path), pytest.raises(ExistingFileError, match=f"which process {os.getpid()} on"):
        entered(tmp_path)
    left = {"host": platform.node(), "process": 2**22 + 1, "since": "2026-01-01"}
    (tmp_path / LOCK).write_text(json.dumps(left))
    assert "taken over" in entered(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that are forked")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_lock_of_its_parent(tmp_path):
    """A worker outlives a parent that is killed by some seconds: the folder must be free at once."""
    (reading, writing), (heard, tell) = os.pipe(), os.pipe()
    with locked_folder(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.write(tell, b"x")
            os.read(reading, 1)  # until the parent closes its end
            os._exit(0)
        os.read(heard, 1)
    try:
        assert entered(tmp_path) == ""
    finally:
        for end in (writing, reading, heard, tell):
            os.close(end)
        os.waitpid(child, 0)
