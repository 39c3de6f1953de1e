"""What the headers of NRRD and MetaImage share: lines of text, numbers in them, and the place of the grid."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require
from guided_attention._geometry import checked_affine
from guided_attention._typing import Affine
from guided_attention.data._files import require_file
from guided_attention.errors import DataError

__all__ = ["affine_from", "beside", "field_error", "floats", "in_mm", "integers", "read_lines"]

_LONGEST_HEADER = 1 << 20
_MILLIMETRES = {
    "m": 1e3,
    "cm": 10.0,
    "mm": 1.0,
    "um": 1e-3,
    "µm": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "nm": 1e-6,
}
_NO_UNIT = {"", "?"}
_AXES = 3


def read_lines(path: Path, last: str) -> tuple[list[str], int]:
    """Return the lines of a header and its size in bytes, up to the line `last` begins, an empty one for ""."""
    lines: list[str] = []
    with path.open("rb") as file:
        while file.tell() < _LONGEST_HEADER:
            content = file.readline(_LONGEST_HEADER)
            line = content.decode("utf-8", errors="replace").rstrip("\r\n")
            if not content or (not last and not line):
                return lines, file.tell()
            lines.append(line)
            if last and line.lower().startswith(last):
                return lines, file.tell()
    raise ValueError("its header does not end")


def integers(text: str) -> tuple[int, ...]:
    """Return the whole numbers in a text."""
    return tuple(int(word) for word in text.split())


def floats(text: str) -> tuple[float, ...]:
    """Return the numbers in a text."""
    return tuple(float(word) for word in text.split())


def in_mm(unit: str, path: Path, field: str) -> float:
    """Return how many millimetres a unit is; one that is not known is an error, none counts as 1."""
    known = unit.strip().lower()
    if known in _NO_UNIT:
        return 1.0
    if known not in _MILLIMETRES:
        raise field_error(path, field, f"of {', '.join(_MILLIMETRES)}", repr(unit))
    return _MILLIMETRES[known]


def field_error(path: Path, field: str, wanted: str, got: object, cure: str = "") -> DataError:
    """Return the error for a field of a header that cannot be used."""
    message = f"`{field} of {path}` must be {wanted}, got {got}." + (f" {cure}" if cure else "")
    return DataError(message, file=path)


def affine_from(
    columns: Sequence[Sequence[float]], origin: Sequence[float], to_ras: npt.NDArray[np.float64], path: Path
) -> Affine:
    """Return the affine of a grid: the step along each axis in millimetres, and the centre of the first voxel.

    A grid of two axes lies in the plane z = 0, in one slice of 1 mm.
    """
    count = len(columns)
    good = all(len(column) == count for column in columns) and len(origin) == count
    require(good, f"geometry of {path}", f"of {count} numbers an axis", "others", error=DataError, file=path)
    affine = np.eye(4)
    affine[:count, :count], affine[:count, _AXES] = np.transpose(columns), origin
    return checked_affine(to_ras @ affine, f"affine of {path}", file=path)


def beside(path: Path, name: str) -> Path:
    """Return the file with the voxels that a header names; it stands beside the header."""
    folded = name.strip().strip('"')
    cure = "Join the files into one first, such as a .nrrd, .mha or .nii.gz."
    if not folded or folded.upper().startswith("LIST") or "%" in folded:
        raise field_error(path, "data file", "the name of one file", repr(name), cure)
    return require_file(f"data file of {path}", path.parent / folded, "data")
