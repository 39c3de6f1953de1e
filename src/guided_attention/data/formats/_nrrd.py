"""Header of an NRRD file: where its voxels stand, where they lie, and the segments that 3D Slicer names in it."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guided_attention._checks import counted, require
from guided_attention._files import PathLike
from guided_attention._typing import Affine
from guided_attention.data._files import broken, reading, require_file
from guided_attention.data.formats._headers import (
    affine_from,
    beside,
    field_error,
    floats,
    in_mm,
    integers,
    read_lines,
)
from guided_attention.data.formats._limits import MAX_BYTES
from guided_attention.data.formats._voxels import Packing, StoredVolume, array_shape
from guided_attention.errors import DataError, GeometryWarning

__all__ = ["Segment", "nrrd_data", "open_nrrd", "read_segments"]

_TYPES: Mapping[str, str] = {
    "signed char": "i1", "int8": "i1", "int8_t": "i1",
    "uchar": "u1", "unsigned char": "u1", "uint8": "u1", "uint8_t": "u1",
    "short": "i2", "short int": "i2", "signed short": "i2", "signed short int": "i2", "int16": "i2", "int16_t": "i2",
    "ushort": "u2", "unsigned short": "u2", "unsigned short int": "u2", "uint16": "u2", "uint16_t": "u2",
    "int": "i4", "signed int": "i4", "int32": "i4", "int32_t": "i4",
    "uint": "u4", "unsigned int": "u4", "uint32": "u4", "uint32_t": "u4",
    "longlong": "i8", "long long": "i8", "long long int": "i8", "signed long long": "i8",
    "signed long long int": "i8", "int64": "i8", "int64_t": "i8",
    "ulonglong": "u8", "unsigned long long": "u8", "unsigned long long int": "u8", "uint64": "u8", "uint64_t": "u8",
    "float": "f4", "double": "f8",
}  # fmt: skip
_PACKINGS: Mapping[str, Packing] = {
    "raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
}  # fmt: skip
_SPACES = {
    "right-anterior-superior": (1, 1), "ras": (1, 1),
    "left-anterior-superior": (-1, 1), "las": (-1, 1),
    "left-posterior-superior": (-1, -1), "lps": (-1, -1),
}  # fmt: skip
"""Signs that take the first two axes of a space to RAS."""
_SPATIAL = {"domain", "space"}
_AXES = 3


@dataclass(frozen=True)
class Segment:
    """A segment of 3D Slicer: its name, its value in a layer of the file, and its colour."""

    name: str
    value: int
    layer: int
    colour: str


def open_nrrd(path: PathLike, argument: str, max_bytes: int = MAX_BYTES) -> StoredVolume:
    """Read only the header, and check it."""
    file = require_file(argument, path, "NRRD")
    with reading(file, "NRRD"):
        fields, end = _read_fields(file)
        sizes = integers(fields["sizes"])
        spatial = _spatial_axes(fields, file)
        packing = _packing(fields, file)
        dtype = _dtype(fields, file)
        _check_axes(sizes, spatial, file)
        affine = _affine(fields, spatial, file)
        data = _data(fields, file)
        start = _after_lines(data, end if data == file else 0, int(fields.get("line skip", "0")))
        skip = int(fields.get("byte skip", "0"))
        if skip < 0:  # the voxels are the last bytes of the file
            start, skip = data.stat().st_size - math.prod(sizes) * dtype.itemsize, 0
    grid = [sizes[axis] for axis in spatial]
    channels = [sizes[axis] for axis in range(len(sizes)) if axis not in spatial]
    shape = array_shape((*grid, *([1] * (_AXES - len(grid))), *channels), file)
    is_interleaved = bool(channels) and 0 not in spatial
    return StoredVolume(
        file, data, shape, dtype, skip, 1.0, 0.0, affine, "NRRD", max_bytes, packing, start, is_interleaved
    )


def nrrd_data(file: Path) -> Path:
    """Return the file that holds the voxels."""
    with reading(file, "NRRD"):
        return _data(_read_fields(file)[0], file)


def _data(fields: Mapping[str, str], file: Path) -> Path:
    name = fields.get("data file", fields.get("datafile"))
    return file if name is None else beside(file, name)


def _check_axes(sizes: Sequence[int], spatial: Sequence[int], path: Path) -> None:
    others = [axis for axis in range(len(sizes)) if axis not in spatial]
    good = others in ([], [0], [len(spatial)]) and len(spatial) in {_AXES - 1, _AXES} and min(sizes) > 0
    wanted = "two or three axes in space, and at most one of channels before or after them"
    got = f"{counted(len(spatial), 'axis', 'axes')} in space of sizes {list(sizes)}"
    cure = "Save one point in time as a file."
    require(good, f"sizes of {path}", wanted, got, cure, error=DataError, file=path)


def read_segments(path: PathLike) -> list[Segment]:
    """Return the segments that the header of a ``.seg.nrrd`` file names; none in other NRRD files."""
    file = require_file("path", path, "NRRD")
    with reading(file, "NRRD"):
        fields, _ = _read_fields(file)
        numbers = sorted({int(found[1]) for key in fields if (found := re.match(r"segment(\d+)_name$", key))})
        return [
            Segment(
                fields[f"segment{number}_name"],
                int(fields.get(f"segment{number}_labelvalue", number + 1)),
                int(fields.get(f"segment{number}_layer", 0)),
                _colour(fields.get(f"segment{number}_color", "")),
            )
            for number in numbers
        ]


def _colour(text: str) -> str:
    shares = floats(text)
    good = len(shares) == _AXES and all(0 <= share <= 1 for share in shares)
    return "#" + "".join(f"{round(share * 255):02x}" for share in shares) if good else ""


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields and the key-value pairs of a header by lower-case name, and the header's size in bytes."""
    with path.open("rb") as stream:
        if stream.read(4) != b"NRRD":
            raise ValueError("it does not begin with NRRD")
    lines, end = read_lines(path, "")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, mark, value = line.partition(":")
        if mark and not line.startswith("#"):
            fields[name.strip().lower()] = value.removeprefix("=").strip()
    missing = [name for name in ("type", "dimension", "sizes", "encoding") if name not in fields]
    if missing or int(fields["dimension"]) != len(fields["sizes"].split()):
        raise ValueError(
            f"its header lacks {', '.join(missing)}" if missing else "sizes do not fit dimension"
        )
    return fields, end


def _dtype(fields: Mapping[str, str], path: Path) -> "np.dtype[np.generic]":
    kind, endian = fields["type"].lower(), fields.get("endian", "little").lower()
    code = _TYPES.get(kind)
    if code is None:
        raise field_error(path, "type", "a number type", repr(kind))
    if endian not in {"little", "big"} or ("endian" not in fields and code[1] != "1"):
        raise field_error(path, "endian", "'little' or 'big'", repr(fields.get("endian")))
    return np.dtype(code).newbyteorder("<" if endian == "little" else ">")


def _packing(fields: Mapping[str, str], path: Path) -> Packing:
    encoding = fields["encoding"].lower()
    if encoding not in _PACKINGS:
        wanted = "raw, gzip or bzip2"
        raise field_error(path, "encoding", wanted, repr(encoding), "Save the file again with gzip.")
    return _PACKINGS[encoding]


def _after_lines(data: Path, start: int, lines: int) -> int:
    with data.open("rb") as file:
        file.seek(start)
        for _ in range(lines):
            if not file.readline():
                raise EOFError("it ends before its first voxel")
        return file.tell()


def _vectors(text: str) -> list[tuple[float, ...] | None]:
    """Return the vectors "(1,0,0) none (0,1,0)" of a field, None for an axis without one."""
    found = re.findall(r"\(([^()]*)\)|(none)", text, flags=re.IGNORECASE)
    return [None if none else floats(inside.replace(",", " ")) for inside, none in found]


def _spatial_axes(fields: Mapping[str, str], path: Path) -> list[int]:
    """Return the axes of the file that lie in space."""
    count = len(fields["sizes"].split())
    if "space directions" in fields:
        vectors = _vectors(fields["space directions"])
        good, wanted = len(vectors) == count, f"{counted(count, 'vector')}, one an axis"
        require(good, f"space directions of {path}", wanted, len(vectors), error=DataError, file=path)
        return [
            axis
            for axis, vector in enumerate(vectors)
            if vector is not None and not any(map(math.isnan, vector))
        ]
    kinds = fields.get("kinds", "").lower().split() or ["domain"] * min(count, _AXES) + ["list"] * (
        count - _AXES
    )
    return [axis for axis, kind in enumerate(kinds) if kind in _SPATIAL]


def _affine(fields: Mapping[str, str], spatial: Sequence[int], path: Path) -> Affine:
    space = fields.get("space", "").lower()
    if space.endswith("time") or re.fullmatch("(ras|las|lps)t", space):
        cure = "Save one point in time as a file of its own."
        raise field_error(path, "space", "of three axes", repr(space), cure)
    x, y = _SPACES.get(space, (-1, -1))
    to_ras = np.diag([float(x), float(y), 1.0, 1.0])
    if space not in _SPACES and len(spatial) == _AXES:
        message = f"{path} does not say which way its axes run: they are taken to run to left, posterior and superior."
        warnings.warn(message, GeometryWarning, stacklevel=4)
    if "space directions" not in fields:
        count = len(fields["sizes"].split())
        given = floats(fields["spacings"]) if "spacings" in fields else (1.0,) * count
        if "spacings" not in fields:
            warnings.warn(f"{path} does not say its spacing: 1 mm is taken.", GeometryWarning, stacklevel=4)
        steps = np.diag([given[axis] for axis in spatial])
        return affine_from(steps.tolist(), [0.0] * len(spatial), to_ras, path)
    vectors = _vectors(fields["space directions"])
    columns = [vector for axis in spatial if (vector := vectors[axis]) is not None]
    origin = (_vectors(fields.get("space origin", "")) or [None])[0] or (0.0,) * len(spatial)
    units = re.findall(r'"([^"]*)"', fields.get("space units", ""))
    scale = [in_mm(unit, path, "space units") for unit in units] or [1.0] * len(origin)
    good = len(scale) == len(origin)
    require(good, f"space units of {path}", "one an axis", units, error=DataError, file=path)
    scaled = [
        (np.array(vector) * scale).tolist() for vector in (*columns, origin) if len(vector) == len(scale)
    ]
    if len(scaled) != len(columns) + 1:
        raise broken(path, "NRRD", "its vectors differ in length")
    if len(columns) == _AXES - 1 and len(origin) == _AXES:  # a plane in space: its normal is the third axis
        normal = np.cross(scaled[0], scaled[1])
        scaled.insert(2, (normal / np.linalg.norm(normal)).tolist())
    return affine_from(scaled[:-1], scaled[-1], to_ras, path)
