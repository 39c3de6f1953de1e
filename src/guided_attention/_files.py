"""Files and folders that are written atomically: complete, or not there at all."""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    ExistingFileError,
    MissingFileError,
    StorageError,
)

__all__ = [
    "DRAFT_PREFIX",
    "PathLike",
    "made_folder",
    "readable_size",
    "refuse_filled",
    "replacing",
    "require_space",
    "sweep_drafts",
    "unwritable",
    "whole_folder",
]

PathLike: TypeAlias = str | os.PathLike[str]
"""Path of a file or folder."""

DRAFT_PREFIX = ".unfinished-"
"""What the names of temporary files and folders begin with."""

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)


def made_folder(folder: PathLike, argument: str = "folder") -> Path:
    """Return `folder` as a path, created where it is missing; raise where it cannot hold files."""
    path = _as_path(folder, argument)
    message = f"`{argument}` must be a folder that files can be written to, got {path}"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        text = f"{message}, where a file is. Choose another name."
        raise ExistingFileError(text, argument=argument, file=path) from error
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise ArgumentError(
            f"{message} ({error}). Choose another one.", argument=argument, file=path
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ArgumentError(f"{message} (no permission). Choose another one.", argument=argument, file=path)
    return path


def _as_path(path: object, argument: str) -> Path:
    if isinstance(path, (str, os.PathLike)):
        return Path(path)
    message = f"`{argument}` must be a path, got a {type(path).__name__}."
    raise ArgumentTypeError(message, argument=argument)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it to `path` when the block has ended without an error.

    A block that fails leaves `path` as it was; for want of space or permission it raises a `StorageError`. A killed process leaves its temporary file, whose name
    (``.unfinished-<random>.<name>``) is unique, so that two writers of one path never share a draft.
    """
    if not path.parent.is_dir():
        message = f"`path` must be in an existing folder, got {path}. Create the folder first."
        raise MissingFileError(message, argument="path", file=path)
    # The ending stays: writers choose the format by it.
    temporary = path.with_name(f"{DRAFT_PREFIX}{uuid.uuid4().hex}.{path.name}")
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        _discard(temporary)
        if error.errno in _UNWRITABLE:
            raise unwritable(path, error.strerror) from error
        raise
    except BaseException:
        _discard(temporary)
        raise


def _discard(path: Path) -> None:
    with suppress(OSError):  # a disk that cannot be written to any more
        path.unlink(missing_ok=True)


def unwritable(path: Path, fault: object, *, needed: int | None = None) -> StorageError:
    """Return the error of a file that cannot be written: with its path, the bytes needed and those free."""
    need = "" if needed is None else f"it needs {readable_size(needed)}, and "
    try:
        free = f"{need}{readable_size(shutil.disk_usage(path.parent).free)} are free"
    except OSError:
        free = f"{need}how much is free is unknown"
    message = f"`path` must be a file that can be written, got {path} ({fault}): {free}. "
    cure = "Free space or change the permissions; what was there before is whole."
    return StorageError(message + cure, argument="path", file=path)


def readable_size(size: int) -> str:
    """Write a number of bytes.

    >>> readable_size(7), readable_size(2_340_000)
    ('7 bytes', '2.3 MB')
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def require_space(folder: Path, needed: int, argument: str) -> None:
    """Raise unless so many bytes are free on the disk of a folder."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        message = (
            f"`{argument}` must be on a disk with {readable_size(needed)} free, got {folder} "
            f"with {readable_size(free)}. Free space, or name a folder on another disk."
        )
        raise StorageError(message, argument=argument, file=folder)


def sweep_drafts(folder: Path) -> None:
    """Delete the drafts that killed processes have left; only where no other process writes to the folder."""
    for path in folder.iterdir():
        if path.is_file() and path.name.startswith(DRAFT_PREFIX):
            path.unlink()


def _flush_to_disk(path: Path) -> None:
    """Wait for the disk: without this a power cut can leave the new name on an empty file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def refuse_filled(folder: PathLike) -> Path:
    """Return `folder` as a path; raise where it holds something, so that nothing is overwritten."""
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ExistingFileError(
            f"`folder` must be new or empty, got {path}. Choose another name or delete it.",
            file=path,
        )
    return path


def whole_folder(folder: PathLike, fill: Callable[[Path], None], *, replaceable: Sequence[str] = ()) -> Path:
    """Let `fill` write into a draft folder beside `folder`, and rename the draft when it is complete.

    A folder that only holds files with the names in `replaceable` is replaced: a crash leaves the old one, under its
    own name or as a draft.
    """
    path = _replaceable(_as_path(folder, "folder"), replaceable).absolute()
    made_folder(path.parent)
    draft, old = (path.with_name(f"{DRAFT_PREFIX}{uuid.uuid4().hex}.{path.name}") for _ in range(2))
    draft.mkdir()
    try:
        fill(draft)
        if path.exists():
            path.rename(old)
        try:
            draft.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return path


def _replaceable(folder: PathLike, names: Sequence[str]) -> Path:
    path = Path(folder)
    held = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    others = [name for name in held if name not in names]
    if names and held and others:
        message = (
            f"`folder` must hold nothing but {', '.join(names)} to be replaced, got {path} with {others[0]}."
        )
        raise ExistingFileError(f"{message} Choose another name.", argument="folder", file=path)
    return path if names and held else refuse_filled(path)
