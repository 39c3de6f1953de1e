"""Folders that one process at a time may write to."""

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from guided_attention._files import json_mapping, replacing
from guided_attention.errors import ExistingFileError

if sys.platform != "win32":
    import fcntl

__all__ = ["LOCK", "locked_folder"]

LOCK = ".lock.json"
"""Says who has the folder: host, process, since when."""

_held: set[int] = set()
"""Open locks of this process. A forked child, such as a loader's worker, must not keep them when we are killed."""

_closed_in_child: set[int] = set()


def _close_in_child() -> None:
    for handle in _held:
        os.close(handle)
    _closed_in_child.update(_held)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def locked_folder(
    folder: Path, *, argument: str = "folder", doing: str = "writing to", take_over: bool | None = None
) -> Iterator[str]:
    """Keep every other process and thread out of a folder; give a text about a dead one whose place this takes.

    The system's lock decides, and is taken back when a process ends, however it ends. Where a disk has no locks, or
    another machine may have the folder, the file `LOCK` decides, and `take_over` goes past it: None where the caller
    has no such argument, so that the file is deleted by hand.

    Raises:
        ExistingFileError: Another process has the folder; the message names it.
    """
    handle = None if sys.platform == "win32" else os.open(folder, os.O_RDONLY)
    try:
        holder = json_mapping(folder / LOCK)
        foreign = bool(holder) and holder.get("host") != platform.node()
        if not _is_free(handle, holder):
            raise _in_use(
                folder, argument, doing, holder, f"Wait for it, stop it, or name another {argument}."
            )
        if foreign and not take_over:
            cure = f"delete {folder / LOCK}" if take_over is None else "set take_over=True"
            raise _in_use(folder, argument, doing, holder, f"If it has ended, {cure}.")
        with replacing(folder / LOCK) as draft:
            draft.write_text(json.dumps(_ourselves()), encoding="utf-8")
        if handle is not None:
            _held.add(handle)
        try:
            yield f"{_named(holder)} left {folder} without releasing it: taken over." if holder else ""
        finally:
            if handle is None or handle in _held:  # else a forked child, which has nothing to release
                (folder / LOCK).unlink(missing_ok=True)
    finally:
        if handle is not None and handle not in _closed_in_child:
            _held.discard(handle)
            os.close(handle)


def _is_free(handle: int | None, holder: dict[str, object]) -> bool:
    """Return whether nobody has the folder: as the system says, or as the file does where there are no locks."""
    if handle is not None and sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return not _is_alive(holder)
        return True
    return not _is_alive(holder)


def _is_alive(holder: dict[str, object]) -> bool:
    """Return whether the process is one of this machine and runs; Windows cannot be asked without harm."""
    number = holder.get("process")
    if holder.get("host") != platform.node() or not isinstance(number, int) or sys.platform == "win32":
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _ourselves() -> dict[str, object]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"host": platform.node(), "process": os.getpid(), "since": since}


def _named(holder: dict[str, object]) -> str:
    if not holder:
        return "another process"
    host, process, since = (holder.get(name, "unknown") for name in ("host", "process", "since"))
    return f"process {process} on {host} (since {since})"


def _in_use(
    folder: Path, argument: str, doing: str, holder: dict[str, object], cure: str
) -> ExistingFileError:
    message = f"`{argument}` must not be in use, got {folder}, which {_named(holder)} is {doing}. {cure}"
    return ExistingFileError(message, argument=argument, file=folder)
