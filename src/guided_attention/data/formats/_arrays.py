"""NumPy files: ``.npy``, and ``.npz`` with one array or one for the image and one for the mask."""

import math
import tokenize
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from guided_attention._checks import cut_list, require
from guided_attention.data._files import DAMAGE, reading
from guided_attention.data.formats._limits import require_fits
from guided_attention.data.formats._voxels import Stream
from guided_attention.errors import DataError

__all__ = ["holds_mask", "read_array"]

_DAMAGE = (
    *DAMAGE,
    KeyError,
    SyntaxError,
    tokenize.TokenError,
    NotImplementedError,  # a bit that names a compression zipfile does not know
    RuntimeError,
    zipfile.BadZipFile,
)
"""What NumPy and zipfile raise over a damaged file."""
_NAMES = {False: ("image", "images", "img", "data"), True: ("label", "labels", "mask", "seg")}
"""Names of the image and of the mask in a file of both."""
_AXES = (2, 3, 4)
_PIECE = 1 << 15
"""Bytes read at a time."""


def read_array(path: Path, max_bytes: int, *, is_label: bool) -> npt.NDArray[np.generic]:
    """Return the array of a file as ``(depth, height, width)``, or with channels in front; two axes are one slice."""
    with reading(path, "NumPy", _DAMAGE):
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                name = _chosen(_members(archive), path, is_label=is_label)
                size = archive.getinfo(f"{name}.npy").file_size
                with archive.open(f"{name}.npy") as stream:
                    array = _read(stream, size, path, max_bytes)
        else:
            with path.open("rb") as stream:
                array = _read(stream, path.stat().st_size, path, max_bytes)
    wanted = "(height, width), (depth, height, width) or (channels, depth, height, width)"
    good = array.ndim in _AXES and array.size > 0
    require(good, f"array of {path}", wanted, f"shape {array.shape}", error=DataError, file=path)
    return array[None] if array.ndim == _AXES[0] else array


def holds_mask(path: Path) -> bool:
    """Return whether a file is an ``.npz`` with both an image and a mask, without reading either."""
    if path.suffix.lower() != ".npz":
        return False
    with reading(path, "NumPy", _DAMAGE), zipfile.ZipFile(path) as archive:
        names = {name.lower() for name in _members(archive)}
    return all(bool(names & set(some)) for some in _NAMES.values())


def _members(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _chosen(names: Sequence[str], path: Path, *, is_label: bool) -> str:
    fitting = [name for name in names if name.lower() in _NAMES[is_label]] or list(names)
    wanted = f"of one array, or of one called {' or '.join(_NAMES[is_label][:2])}"
    got, cure = cut_list(names) or "none", "Save them under these names."
    require(len(fitting) == 1, f"arrays of {path}", wanted, got, cure, error=DataError, file=path)
    return fitting[0]


def _read(stream: Stream, size: int, path: Path, max_bytes: int) -> npt.NDArray[np.generic]:
    """Read one array to the end of its stream, where zip files have a checksum."""
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, is_fortran, dtype = read_header(stream)
    cure = "Save plain numbers: numpy.save(path, numpy.asarray(array, dtype=...), allow_pickle=False)."
    wanted, got = "a file of plain numbers", f"pickled objects of type {dtype}"
    require(not dtype.hasobject, str(path), wanted, got, cure, error=DataError, file=path)
    good, got = dtype.kind in "biuf", f"type {dtype}"
    require(good, str(path), wanted, got, "Save real numbers.", error=DataError, file=path)
    needed = math.prod(shape) * dtype.itemsize
    require_fits(path, needed, max_bytes)
    if needed > size or min(shape, default=1) < 0:
        raise EOFError("it ends before its last voxel")
    content = bytearray(needed)
    for place in range(0, needed, _PIECE):
        piece = stream.read(min(_PIECE, needed - place))
        if len(piece) < min(_PIECE, needed - place):
            raise EOFError("it ends before its last voxel")
        content[place : place + len(piece)] = piece
    if stream.read(1):
        raise ValueError("it holds more than its header says")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
    return array.astype(np.uint8) if dtype.kind == "b" else array
