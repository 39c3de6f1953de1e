"""What the readers share: paths, natural order of names, pairs of files, errors that name the file."""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from guided_attention._checks import cut_list, require, require_path, require_type
from guided_attention._files import PathLike
from guided_attention.case import Case, Volume
from guided_attention.errors import DataError, GuidedAttentionError, MissingFileError

__all__ = [
    "DAMAGE",
    "SLICE_ENDINGS",
    "broken",
    "case_from_files",
    "files_in",
    "is_set_aside",
    "is_setting_aside",
    "keep_ids",
    "natural_key",
    "numbers_of",
    "reading",
    "refuse_dead_links",
    "require_file",
    "require_finite",
    "require_folder",
    "require_pairs",
    "setting_aside",
    "to_labels",
]

_Key = TypeVar("_Key")

# Left by desktops and by DICOM media, never slices.
_LITTER = {"dicomdir", "thumbs.db", "desktop.ini"}
SLICE_ENDINGS = (".dcm", ".dicom", ".ima")
"""What names of DICOM slices end in, where they have an ending."""
_set_aside: ContextVar[frozenset[Path]] = ContextVar("_set_aside", default=frozenset())
DAMAGE = (OSError, EOFError, zlib.error, ValueError, OverflowError)
"""What libraries raise over a damaged file of any kind."""


@contextmanager
def setting_aside(paths: Iterable[Path]) -> Iterator[None]:
    """Look for scans as if some files and folders were not there."""
    before = _set_aside.set(_set_aside.get() | frozenset(paths))
    try:
        yield
    finally:
        _set_aside.reset(before)


def is_set_aside(path: Path) -> bool:
    """Return whether `setting_aside` names a file or folder."""
    return path in _set_aside.get()


def is_setting_aside() -> bool:
    """Return whether `setting_aside` is at work."""
    return bool(_set_aside.get())


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key under which "case2" comes before "case10"."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts if part]


def numbers_of(name: str) -> list[int]:
    """Return every number in a file name, in order."""
    return [int(digits) for digits in re.findall(r"\d+", name)]


def require_file(argument: str, path: PathLike, kind: str, cure: str = "") -> Path:
    """Return `path` as a `Path`, or say that there is no such file, or that a link leads nowhere."""
    file = require_path(argument, path, cure)
    with reading(file, kind):
        if not file.is_file():
            link = (
                "a link that leads nowhere: " if file.is_symlink() else "a folder: " if file.is_dir() else ""
            )
            message = f"`{argument}` must be an existing {kind} file, got {link}{file}."
            raise MissingFileError(message, argument=argument, file=file)
    return file


def require_folder(argument: str, folder: PathLike, *, cure: str = "") -> Path:
    """Return `folder` as a path, or say that it is not there."""
    path = require_path(argument, folder)
    if not path.is_dir():
        message = f"`{argument}` must be an existing folder, got {path}." + (f" {cure}" if cure else "")
        raise MissingFileError(message, argument=argument, file=path)
    return path


def files_in(folder: Path, *, suffix: str = "", argument: str = "folder") -> list[Path]:
    """Return the files of a folder in natural order; an empty one is an error, and so is a link that leads nowhere."""
    with reading(require_folder(argument, folder), "folder"):
        found = [path for path in folder.iterdir() if _is_wanted(path, suffix) and not is_set_aside(path)]
    refuse_dead_links(found, argument)
    names = [path for path in found if path.is_file()]
    odd = [path for path in found if path.is_dir() and path.suffix.lower() in {suffix, *SLICE_ENDINGS} - {""}]
    what, got = (
        f"{argument} {folder}",
        f"folders that are called like files: {cut_list([path.name for path in odd])}",
    )
    cure = "Rename them, or put the files there."
    file = odd[0] if odd else None
    require(not odd, what, "a folder of files", got, cure, error=DataError, file=file)
    if not names:
        kind = f"*{suffix} files" if suffix else "files"
        message = f"`{argument}` must be a folder with {kind} in it, got none in {folder}."
        raise MissingFileError(message, argument=argument, file=folder)
    return sorted(names, key=lambda path: natural_key(path.name))


def refuse_dead_links(paths: Iterable[Path], argument: str | None = None) -> None:
    """Raise where a link leads nowhere, as those of git-annex and of moved data sets do."""
    for path in paths:
        if path.is_symlink() and not path.exists():
            message = f"`{path}` must be a file, got a link that leads nowhere. Fetch the file it stands for."
            raise MissingFileError(message, argument=argument, file=path)


def _is_wanted(path: Path, suffix: str) -> bool:
    name = path.name.lower()
    return name.endswith(suffix.lower()) and not name.startswith(".") and name not in _LITTER


def keep_ids(found: Sequence[str], case_ids: Sequence[str] | None, *, folder: object) -> list[str]:
    """Return the names asked for, in the order asked for, all of them where none were asked for."""
    if case_ids is None:
        return list(found)
    require_type("case_ids", case_ids, (tuple, list), "a list of names", 'Write ["7"] for one case.')
    missing = [name for name in case_ids if name not in found]
    there = f"Found there: {cut_list(found)}."
    require(not missing, "case_ids", f"names of subjects in {folder}", cut_list(missing), cure=there)
    return list(case_ids)


def require_finite(values: npt.NDArray[Any], path: Path) -> None:
    """Raise where a file holds NaN or infinite values."""
    finite = values.dtype.kind != "f" or bool(np.isfinite(values).all())
    wanted, got, cure = "finite everywhere", "NaN or infinite values", "Replace them first."
    require(finite, f"values of {path}", wanted, got, cure, error=DataError, file=path)


def require_pairs(images: Mapping[_Key, Path], labels: Mapping[_Key, Path], *, cure: str = "") -> None:
    """Raise unless both hold the same keys, and name the files left over."""
    left = [images[key] for key in images if key not in labels]
    right = [labels[key] for key in labels if key not in images]
    parts = [f"no mask for {cut_list([path.name for path in left])}"] if left else []
    parts += [f"no image for {cut_list([path.name for path in right])}"] if right else []
    where = next(iter({**labels, **images}.values())).parent
    odd, what = next(iter([*left, *right]), None), f"images and masks of {where}"
    require(not parts, what, "pairs", "; ".join(parts), cure=cure, error=DataError, file=odd)


@contextmanager
def reading(path: Path, kind: str, damage: tuple[type[Exception], ...] = DAMAGE) -> Iterator[None]:
    """Turn what a library raises over a file into an error that names the file, with a cure that fits the reason.

    `damage` lists what the library raises over a damaged file; anything else is a fault of ours and passes.
    """
    try:
        yield
    except GuidedAttentionError:
        raise
    except PermissionError as error:
        message = (
            f"`{path}` must be a {kind} that you may read, got: permission denied. Change its permissions."
        )
        raise DataError(message, file=path) from error
    except FileNotFoundError as error:
        message = f"`{path}` must be an existing {kind}, got none: it was deleted meanwhile."
        raise MissingFileError(message, file=path) from error
    except damage as error:
        raise broken(path, kind, str(error) or type(error).__name__) from error


def broken(path: Path, kind: str, reason: str) -> DataError:
    """Return the error for a damaged file."""
    cut = " ".join(reason.split())[:200]
    message = f"`{path}` must be a whole {kind} file, got one that cannot be read ({cut}). Copy it again."
    return DataError(message, file=path)


def case_from_files(
    case_id: str, image: Volume, labels: Volume | None, names: Sequence[str], files: Sequence[Path]
) -> Case:
    """Join image and mask as `Case.from_volumes` does, and name their files in errors."""
    try:
        return Case.from_volumes(case_id, image, labels, channel_names=names)
    except DataError as error:
        at_fault = files[-1] if (error.argument or "").startswith("labels") else files[0]
        message = f"{error} Read from {' and '.join(map(str, files))}."
        raise DataError(message, argument=error.argument, file=at_fault) from error


def to_labels(
    grey: npt.NDArray[Any], levels: Mapping[int, int], path: Path, *, shown: str
) -> npt.NDArray[np.uint8]:
    """Turn grey values into classes by a map; others are an error that prints the map (`shown`)."""
    table = np.full(65536, 255, dtype=np.uint8)
    table[list(levels)] = list(levels.values())
    inside = np.isin(grey, list(levels))
    if not inside.all():
        cure = f"The map is {shown}. JPEG or smooth resizing makes such values: export the masks again."
        got = cut_list(np.unique(grey[~inside]).tolist())
        require(False, f"grey values of {path}", "in the map", got, cure, error=DataError, file=path)  # noqa: FBT003
    labels: npt.NDArray[np.uint8] = table[grey]
    return labels
