"""Header of a MetaImage file: where its voxels stand, and where they lie."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from guided_attention._checks import require
from guided_attention._files import PathLike
from guided_attention._geometry import LPS_RAS
from guided_attention._typing import Affine
from guided_attention.data._files import reading, require_file
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

__all__ = ["metaimage_data", "open_metaimage"]

_TYPES: Mapping[str, str] = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_SCALING = (("slope", "1"), ("offset", "0"))
_AXES = 3


def open_metaimage(path: PathLike, argument: str, max_bytes: int = MAX_BYTES) -> StoredVolume:
    """Read only the header, and check it."""
    file = require_file(argument, path, "MetaImage")
    with reading(file, "MetaImage"):
        fields, end = _read_fields(file)
        sizes, channels = integers(fields["dimsize"]), int(fields.get("elementnumberofchannels", "1"))
        if int(fields["ndims"]) != len(sizes):
            raise ValueError("DimSize does not fit NDims")
        dtype, affine = _dtype(fields, file), _affine(fields, min(len(sizes), _AXES), file)
        data = _data(fields, file)
        packing: Packing = "zlib" if _is_true(fields, "compresseddata") else ""
        start = end if data == file else int(fields.get("headersize", "0"))
        if start < 0:  # the voxels are the last bytes of the file
            start = data.stat().st_size - math.prod(sizes) * channels * dtype.itemsize
        _refuse_scaling(fields, file)
    good, wanted = (
        min((*sizes, channels)) > 0,
        "two or three axes, four with channels last, and at least one voxel",
    )
    good = good and len(sizes) in {_AXES - 1, _AXES, _AXES + 1} and (channels == 1 or len(sizes) <= _AXES)
    require(good, f"DimSize of {file}", wanted, list(sizes), error=DataError, file=file)
    grid = (*sizes, 1) if len(sizes) < _AXES else sizes
    shape = array_shape((*grid, channels) if channels > 1 else grid, file)
    return StoredVolume(
        file, data, shape, dtype, 0, 1.0, 0.0, affine, "MetaImage", max_bytes, packing, start, channels > 1
    )


def metaimage_data(file: Path) -> Path:
    """Return the file that holds the voxels."""
    with reading(file, "MetaImage"):
        return _data(_read_fields(file)[0], file)


def _data(fields: Mapping[str, str], file: Path) -> Path:
    name = fields["elementdatafile"]
    return file if name.upper() == "LOCAL" else beside(file, name)


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a header by lower-case name, and the header's size in bytes."""
    lines, end = read_lines(path, "elementdatafile")
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition("=") for line in lines)
    }
    missing = [
        name for name in ("NDims", "DimSize", "ElementType", "ElementDataFile") if name.lower() not in fields
    ]
    if missing:
        raise ValueError(f"its header lacks {', '.join(missing)}")
    return fields, end


def _refuse_scaling(fields: Mapping[str, str], path: Path) -> None:
    """Raise where values are scaled: ITK and the viewers on it ignore that, so nobody knows what is meant."""
    scaling = tuple(
        float(fields.get(f"elementtointensityfunction{name}", default)) for name, default in _SCALING
    )
    if scaling != (1.0, 0.0):
        cure = "Scale the values first, and save them again."
        raise field_error(path, "ElementToIntensityFunction", "slope 1 and offset 0", scaling, cure)


def _is_true(fields: Mapping[str, str], name: str, default: str = "false") -> bool:
    return fields.get(name, default).lower() in {"true", "1"}


def _dtype(fields: Mapping[str, str], path: Path) -> "np.dtype[np.generic]":
    code = _TYPES.get(fields["elementtype"].upper())
    if code is None:
        raise field_error(path, "ElementType", "a number type", fields["elementtype"])
    if not _is_true(fields, "binarydata", "true"):
        raise field_error(path, "BinaryData", "True", "False", "Save the file again as binary.")
    is_big = _is_true(fields, "binarydatabyteordermsb") or _is_true(fields, "elementbyteordermsb")
    return np.dtype(code).newbyteorder(">" if is_big else "<")


def _affine(fields: Mapping[str, str], count: int, path: Path) -> Affine:
    """Return the affine: the matrix of a file holds the direction of one axis after another, in the LPS frame."""
    axes = int(fields["ndims"])
    matrix = _first(fields, ("transformmatrix", "orientation", "rotation"))
    directions = np.array(floats(matrix)) if matrix else np.eye(axes).ravel()
    spacing = floats(_first(fields, ("elementspacing", "elementsize")) or "1 " * axes)
    origin = floats(_first(fields, ("offset", "position", "origin")) or "0 " * axes)
    if not _first(fields, ("elementspacing", "elementsize")):
        warnings.warn(f"{path} does not say its spacing: 1 mm is taken.", GeometryWarning, stacklevel=4)
    if min(spacing, default=1.0) < 0:
        raise field_error(
            path, "ElementSpacing", "above 0", spacing, "Directions belong into TransformMatrix."
        )
    good = (directions.size, len(spacing), len(origin)) == (axes * axes, axes, axes)
    wanted = f"of {axes * axes} numbers in TransformMatrix, {axes} in ElementSpacing and {axes} in Offset"
    got = f"{directions.size}, {len(spacing)} and {len(origin)}"
    require(good, f"geometry of {path}", wanted, got, error=DataError, file=path)
    unit = in_mm(fields.get("distanceunits", ""), path, "DistanceUnits")
    columns = directions.reshape(axes, axes)[:count, :count] * np.array(spacing)[:count, None] * unit
    place = np.array(origin[:count]) * unit
    return affine_from(columns.tolist(), place.tolist(), LPS_RAS, path)


def _first(fields: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((fields[name] for name in names if name in fields), "")
