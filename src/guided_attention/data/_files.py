"""What the readers share: natural order of names, pairs of files, PNG read safely."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from guided_attention._checks import cut_list, require
from guided_attention._files import PathLike

__all__ = [
    "files_in",
    "keep_ids",
    "natural_key",
    "numbers_of",
    "read_png",
    "require_folder",
    "require_pairs",
    "to_labels",
]

_Key = TypeVar("_Key")

# Left by desktops and by DICOM media, never slices.
_LITTER = {"DICOMDIR", "Thumbs.db", "desktop.ini"}


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key under which "case2" comes before "case10"."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), part) if part.isdigit() else (0, 0, part) for part in parts if part]


def numbers_of(name: str) -> list[int]:
    """Return every number in a file name, in order."""
    return [int(digits) for digits in re.findall(r"\d+", name)]


def require_folder(argument: str, folder: PathLike, *, cure: str = "") -> Path:
    """Return `folder` as a path, or say that it is not there."""
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(
            f"`{argument}` must be an existing folder, got {path}." + (f" {cure}" if cure else "")
        )
    return path


def files_in(folder: Path, *, suffix: str = "", argument: str = "folder") -> list[Path]:
    """Return the files of a folder in natural order; an empty one is an error."""
    names = [
        path
        for path in require_folder(argument, folder).iterdir()
        if path.is_file() and _is_wanted(path, suffix)
    ]
    if not names:
        kind = f"*{suffix} files" if suffix else "files"
        raise FileNotFoundError(f"`{argument}` must be a folder with {kind} in it, got none in {folder}.")
    return sorted(names, key=lambda path: natural_key(path.name))


def _is_wanted(path: Path, suffix: str) -> bool:
    return path.name.endswith(suffix) and not path.name.startswith(".") and path.name not in _LITTER


def keep_ids(found: Sequence[str], case_ids: Sequence[str] | None, *, folder: object) -> list[str]:
    """Return the names asked for, in the order asked for, all of them where none were asked for."""
    if case_ids is None:
        return list(found)
    missing = [name for name in case_ids if name not in found]
    there = f"Found there: {cut_list(found)}."
    require(not missing, "case_ids", f"names of subjects in {folder}", cut_list(missing), cure=there)
    return list(case_ids)


def require_pairs(images: Mapping[_Key, Path], labels: Mapping[_Key, Path], *, cure: str = "") -> None:
    """Raise unless both hold the same keys, and name the files left over."""
    left = [images[key].name for key in images if key not in labels]
    right = [labels[key].name for key in labels if key not in images]
    parts = [f"no mask for {cut_list(left)}"] if left else []
    parts += [f"no image for {cut_list(right)}"] if right else []
    where = next(iter({**labels, **images}.values())).parent
    require(not parts, f"images and masks of {where}", "pairs", "; ".join(parts), cure=cure)


def read_png(path: Path) -> npt.NDArray[Any]:
    """Return the grey values of a PNG file, ``(height, width)``; one-bit files give 0 and 1."""
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        message = f"`{path}` must be a whole PNG file, got one that cannot be read ({error}). Copy it again."
        raise ValueError(message) from error
    require(
        mode in {"1", "L", "I", "I;16"},
        str(path),
        "a PNG of grey levels",
        f"mode {mode}",
        "Convert it to mode L.",
    )
    return pixels.astype(np.uint8) if mode == "1" else pixels


def to_labels(
    grey: npt.NDArray[Any], levels: Mapping[int, int], path: Path, *, shown: str
) -> npt.NDArray[np.uint8]:
    """Turn grey values into classes by a map; others are an error that prints the map (`shown`)."""
    table = np.full(65536, 255, dtype=np.uint8)
    table[list(levels)] = list(levels.values())
    inside = np.isin(grey, list(levels))
    if not inside.all():
        cure = f"The map is {shown}. JPEG or smooth resizing makes such values: export the masks again."
        unknown = np.unique(grey[~inside]).tolist()
        require(False, f"grey values of {path}", "in the map", cut_list(unknown), cure)  # noqa: FBT003
    labels: npt.NDArray[np.uint8] = table[grey]
    return labels
