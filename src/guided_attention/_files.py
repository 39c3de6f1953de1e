"""Files and folders that are written atomically: complete, or not there at all; what is read of them, and hashes."""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    ExistingFileError,
    GuidedAttentionError,
    MissingFileError,
    WriteError,
)

__all__ = [
    "DRAFT_PREFIX",
    "PathLike",
    "draft_of",
    "json_mapping",
    "made_folder",
    "refuse_filled",
    "replacing",
    "require_space",
    "sha256_of_file",
    "sha256_of_json",
    "sweep_drafts",
    "whole_folder",
    "write_error",
    "write_json",
    "writing",
]

PathLike: TypeAlias = str | os.PathLike[str]
"""Path of a file or folder."""

DRAFT_PREFIX = ".unfinished-"
"""What the names of temporary files and folders begin with."""
_DRAFT_NAME = re.compile(rf"^(?:{re.escape(DRAFT_PREFIX)}[0-9a-f]{{32}}\.)+")

_STALE_SECONDS = 24 * 3600
"""A draft that nobody has written to for so long belongs to a process that was killed."""


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

    A block that fails leaves `path` as it was, and an error of the disk becomes a `WriteError`. A killed process leaves
    its temporary file, whose name (``.unfinished-<random>.<name>``) is unique, so that two writers of one path never
    share a draft; whoever writes `path` a day later deletes it.
    """
    _require_file_name(path)
    temporary = draft_of(path)
    try:
        with writing(path, temporary):
            yield temporary
            _flush_to_disk(temporary)
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sweep_stale_drafts(path)


@contextmanager
def writing(path: Path, draft: Path | None = None) -> Iterator[None]:
    """Turn an error of the disk into a `WriteError` about `path`; `draft` is the file that is growing."""
    try:
        yield
    except GuidedAttentionError:
        raise
    except (OSError, RuntimeError) as error:
        # torch.save raises a RuntimeError of its own where its file raised an error of the disk.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise write_error(path, cause, draft) from error


def write_error(path: Path, cause: OSError, draft: Path | None = None) -> WriteError:
    """Return the error for a file that cannot be written, with what is missing and what to do.

    Where `path` is the draft of a file, the error names the file.
    """
    path = path.with_name(_DRAFT_NAME.sub("", path.name))
    reason, cure = cause.strerror or str(cause), "Check the disk, or choose another folder."
    if cause.errno in {errno.ENOSPC, errno.EDQUOT}:
        written = draft.stat().st_size if draft is not None and draft.is_file() else 0
        free = shutil.disk_usage(path.parent).free
        reason += f" (more than {written} bytes are needed, {free + written} are free)"
        cure = "Make space, or choose a folder on another disk."
    elif cause.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        cure = "Change the permissions, or choose another folder."
    elif cause.errno == errno.ENAMETOOLONG:
        cure = "Choose a shorter name."
    message = f"`path` must be a file that can be written, got {path}: {reason}. {cure}"
    return WriteError(message, file=path, errno=cause.errno)


def require_space(folder: Path, needed: int, argument: str) -> None:
    """Raise unless so many bytes are free on the disk of a folder."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        message = f"`{argument}` must be on a disk with {needed} bytes free, got {folder} with {free}. "
        cure = "Make space, or choose a folder on another disk."
        raise WriteError(message + cure, file=folder, errno=errno.ENOSPC)


def sweep_drafts(folder: Path) -> None:
    """Delete the drafts that killed processes have left; only where no other process writes to the folder."""
    for path in folder.glob(f"{DRAFT_PREFIX}*"):
        if path.is_file():
            path.unlink()


def _require_file_name(path: Path) -> None:
    if not path.parent.is_dir():
        message = f"`path` must be in an existing folder, got {path}. Create the folder first."
        raise MissingFileError(message, argument="path", file=path)
    if path.is_dir():
        message = f"`path` must be the name of a file, got the folder {path}. Add a file name."
        raise ExistingFileError(message, argument="path", file=path)


def draft_of(path: Path) -> Path:
    """Return a unique temporary name beside `path`, with its ending: writers choose the format by it."""
    return path.with_name(f"{DRAFT_PREFIX}{uuid.uuid4().hex}.{path.name}")


def _sweep_stale_drafts(path: Path) -> None:
    """Delete what killed processes left of `path`; a younger draft may belong to a process that is at work."""
    for draft in path.parent.glob(f"{DRAFT_PREFIX}*.{glob.escape(path.name)}"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def _flush_to_disk(path: Path) -> None:
    """Wait for the disk: without this a power cut can leave the new name on an empty file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def refuse_filled(folder: PathLike) -> Path:
    """Return `folder` as a path; raise where it holds more than drafts of killed processes."""
    path = Path(folder)
    if path.exists() and not (
        path.is_dir() and all(one.name.startswith(DRAFT_PREFIX) for one in path.iterdir())
    ):
        raise ExistingFileError(
            f"`folder` must be new or empty, got {path}. Choose another name or delete it.",
            file=path,
        )
    return path


def whole_folder(folder: PathLike, fill: Callable[[Path], None], *, replaceable: Sequence[str] = ()) -> Path:
    """Let `fill` write into a draft folder beside `folder`, and rename the draft when it is complete.

    A folder that only holds files with the names in `replaceable` is replaced. The old one is deleted when the new one
    is in its place: until then an error, Ctrl-C or a crash leaves it, under its own name or as a draft. A link stays,
    and the folder that it leads to is filled. A mount point and the working directory stay as well: their drafts are
    inside, and the files are moved one after another.
    """
    path = _replaceable(_as_path(folder, "folder"), replaceable).absolute()
    place = path.resolve()
    made_folder(place.parent)
    stays = _must_stay(place)
    beside = place / place.name if stays else place
    draft, old, done = draft_of(beside), draft_of(beside), False
    try:
        with writing(path):
            draft.mkdir()
            fill(draft)
            if stays:
                _exchange(place, draft, old)
            else:
                if place.exists():
                    place.rename(old)
                draft.rename(place)
            done = True
    except WriteError as error:  # about a file in the draft: call it what it would have become
        message, file = (str(text).replace(str(draft), str(path)) for text in (error, error.file))
        raise WriteError(message, file=file, errno=error.errno) from error
    finally:
        if old.exists() and not place.exists():  # an error or Ctrl-C came between the two renames
            with suppress(OSError):
                old.rename(place)
        shutil.rmtree(draft, ignore_errors=True)
        if done:
            shutil.rmtree(old, ignore_errors=True)
    _sweep_stale_drafts(beside)
    return path


def _must_stay(folder: Path) -> bool:
    """Return whether a folder cannot be renamed (a mount point), or would be lost to this process by it."""
    with suppress(OSError):  # there is no such folder, or no working directory any more
        return folder.is_mount() or folder.samefile(os.curdir)
    return False


def _exchange(place: Path, draft: Path, old: Path) -> None:
    """Move what a folder holds into `old`, and what the draft holds into the folder; all of it back on an error."""
    old.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for source, into in ((place, old), (draft, place)):
            for entry in [one for one in source.iterdir() if not one.name.startswith(DRAFT_PREFIX)]:
                moved.append((entry, into / entry.name))
                entry.rename(into / entry.name)
    except BaseException:
        for before, after in reversed(moved):
            with suppress(OSError):
                after.rename(before)
        with suppress(OSError):  # what could not be moved back stays in it
            old.rmdir()
        raise


def _replaceable(folder: PathLike, names: Sequence[str]) -> Path:
    path = Path(folder)
    held = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    others = [name for name in held if name not in names and not name.startswith(DRAFT_PREFIX)]
    if names and held and others:
        message = (
            f"`folder` must hold nothing but {', '.join(names)} to be replaced, got {path} with {others[0]}."
        )
        cure = f"Move {others[0]} to another folder, or choose another name."
        raise ExistingFileError(f"{message} {cure}", argument="folder", file=path)
    return path if names and held else refuse_filled(path)


def json_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file that only informs: empty where the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, content: object) -> Path:
    """Write plain values as JSON, atomically, and return the path."""
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def sha256_of_file(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(values: object, other: Callable[[object], object] | None = None) -> str:
    """Return the hash of plain values, whatever the order of their keys; `other` makes values plain that are not."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=other).encode()).hexdigest()
