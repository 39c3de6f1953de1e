"""Voxels of a file as a stream: read piece by piece to the end of the file, so that its checksum is tested."""

import bz2
import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from guided_attention._checks import counted, require
from guided_attention._typing import Affine
from guided_attention.case import whole_labels
from guided_attention.data._files import broken, reading, require_file, require_finite
from guided_attention.data.formats._limits import require_fits
from guided_attention.errors import DataError

__all__ = ["Packing", "StoredVolume", "Stream", "array_shape"]

Packing: TypeAlias = Literal["", "gzip", "zlib", "bzip2"]

_PIECE = 1 << 15
"""Voxels read at a time: what a piece needs in memory is small beside the volume."""
_MOST_UNPACKED: dict[Packing, int] = {"": 1, "gzip": 1032, "zlib": 1032, "bzip2": 1 << 20}
"""What a packing can shrink at most: a header that claims more than this is wrong."""
_AXES, _BYTES_OF_LABELS = 3, 3


@dataclass(frozen=True, eq=False)
class StoredVolume:
    """Header of a file of voxels: what is needed to read them.

    Attributes:
        path: The file asked for.
        data: The file that holds the voxels, another one for a header with its data beside it.
        shape: ``(depth, height, width)``, or with channels first.
        dtype: Number type in the file, byte order included.
        offset: Bytes before the first voxel, after unpacking.
        slope: Factor of the values in the file.
        intercept: What is added to them.
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` to RAS millimetres.
        kind: Name of the format, for messages.
        max_bytes: What its voxels may take in memory.
        packing: How the voxels are compressed.
        start: Bytes of the file before what is compressed.
        is_interleaved: Whether the channels of a voxel lie side by side in the file.
    """

    path: Path
    data: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: Affine
    kind: str
    max_bytes: int
    packing: Packing = ""
    start: int = 0
    is_interleaved: bool = False

    def __post_init__(self) -> None:
        """Check the number type, the scaling, and the size of the file."""
        kind, where = self.dtype, str(self.path)
        wanted, got = "a file of plain numbers", f"type {kind}"
        require(kind.kind in "iuf", where, wanted, got, error=DataError, file=self.path)
        scaling, wanted = f"slope {self.slope}, intercept {self.intercept}", "a file with finite scaling"
        good = math.isfinite(self.slope) and math.isfinite(self.intercept)
        require(good, where, wanted, scaling, error=DataError, file=self.path)
        needed = self.offset + math.prod(self.shape) * self.dtype.itemsize
        size = require_file("path", self.data, self.kind).stat().st_size
        most = (size - self.start) * _MOST_UNPACKED[self.packing]
        if self.offset < 0 or self.start < 0 or needed > most:
            reason = f"its header claims {needed} bytes, the file has {size - self.start}"
            raise broken(self.data, self.kind, reason)
        if self.packing == "":
            self._require_used(size - self.start - needed)

    def _require_used(self, left: int) -> None:
        """Raise where as much as a slice is left behind the voxels; less is padding, or what a program appends."""
        if left >= math.prod(self.shape[-2:]) * self.dtype.itemsize:
            needed = self.offset + math.prod(self.shape) * self.dtype.itemsize
            raise broken(self.data, self.kind, f"its header claims only {needed} of {needed + left} bytes")

    @property
    def _is_scaled(self) -> bool:
        return (self.slope, self.intercept) != (1.0, 0.0)

    def array(self, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """Read the voxels as `dtype`; where left out, whole numbers without scaling keep their type, else float32."""
        own = self.dtype.kind in "iu" and not self._is_scaled
        wanted = np.dtype(dtype or (self.dtype.newbyteorder("=") if own else np.float32))
        require_fits(self.path, math.prod(self.shape) * wanted.itemsize, self.max_bytes)
        out = np.empty(math.prod(self.shape), wanted)
        place = 0
        for piece in self._pieces():
            with np.errstate(over="ignore"):
                out[place : place + piece.size] = piece
            require_finite(out[place : place + piece.size], self.path)
            place += piece.size
        return self._in_shape(out)

    def labels(self) -> npt.NDArray[Any]:
        """Read the voxels as whole numbers of the smallest unsigned type, whatever type the file has."""
        where = f"values of {self.path}"
        # One byte a voxel; where a label needs two, the bytes read so far are there beside them.
        most = 1 if self.dtype.itemsize == 1 else _BYTES_OF_LABELS
        require_fits(self.path, math.prod(self.shape) * most, self.max_bytes)
        out: npt.NDArray[Any] = np.empty(math.prod(self.shape), np.uint8)
        place = 0
        for piece in self._pieces():
            labels = whole_labels(piece, where, file=self.path)
            out = out.astype(np.promote_types(out.dtype, labels.dtype), copy=False)
            out[place : place + labels.size] = labels
            place += labels.size
        return self._in_shape(out)

    def _in_shape(self, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if not self.is_interleaved:
            return voxels.reshape(self.shape)
        return np.moveaxis(voxels.reshape(*self.shape[1:], self.shape[0]), -1, 0)

    def _pieces(self) -> Iterator[npt.NDArray[Any]]:
        """Give the voxels in the file's order, x fastest, scaled; then read on to the end of the file."""
        left, size = math.prod(self.shape), self.dtype.itemsize
        with reading(self.data, self.kind), self._unpacked() as stream:
            for skipped in range(0, self.offset, _PIECE):
                stream.read(min(_PIECE, self.offset - skipped))
            while left:
                content = stream.read(min(left, _PIECE) * size)
                if len(content) < min(left, _PIECE) * size:
                    raise EOFError("it ends before its last voxel")
                piece = np.frombuffer(content, self.dtype)
                yield piece.astype(np.float64) * self.slope + self.intercept if self._is_scaled else piece
                left -= piece.size
            unpacked = 0
            while content := stream.read(_PIECE):  # the checksum stands at the end
                unpacked += len(content)
                require_fits(self.path, unpacked, self.max_bytes)
        self._require_used(unpacked)

    @contextmanager
    def _unpacked(self) -> Iterator["Stream"]:
        with self.data.open("rb") as file:
            file.seek(self.start)
            if self.packing == "gzip":
                with gzip.open(file) as stream:
                    yield stream
            elif self.packing == "bzip2":
                with bz2.open(file) as stream:
                    yield stream
            else:
                yield _Inflated(file) if self.packing == "zlib" else file


@runtime_checkable
class Stream(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Inflated:
    """A zlib stream, read in pieces to its checksum."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._inflate = stream, zlib.decompressobj()

    def read(self, size: int = _PIECE, /) -> bytes:
        content = bytearray()
        while len(content) < size and not self._inflate.eof:
            block = self._inflate.unconsumed_tail or self._stream.read(_PIECE)
            piece = self._inflate.decompress(block, size - len(content))
            if not block and not piece:
                raise EOFError("it ends before its last voxel")
            content += piece
        return bytes(content)


def array_shape(shape: tuple[int, ...], file: Path) -> tuple[int, ...]:
    """Return the shape of the array, channels first, for a file's x, y, z and what follows; 2-D files get one slice."""
    shape = (*shape, 1) if len(shape) == _AXES - 1 else shape
    good, wanted = len(shape) >= _AXES, "a file of two or three axes, or four with channels last"
    require(good, str(file), wanted, counted(len(shape), "axis", "axes"), error=DataError, file=file)
    channels = math.prod(shape[_AXES:])
    good = max(shape[_AXES:], default=1) == channels
    require(good, str(file), wanted, f"axes of {list(shape)} voxels", error=DataError, file=file)
    require(
        min(shape) > 0, str(file), "of at least one voxel", f"size {list(shape)}", error=DataError, file=file
    )
    z, y, x = reversed(shape[:_AXES])
    return (channels, z, y, x) if len(shape) > _AXES else (z, y, x)
