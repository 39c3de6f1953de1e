"""Voxels of a NIfTI file as a stream: read piece by piece to the end of the file, so that its checksum is tested."""

import gzip
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._checks import needs_extra, require
from guided_attention._files import PathLike
from guided_attention._geometry import checked_affine, is_same_place, is_sheared
from guided_attention._typing import Affine
from guided_attention.case import whole_labels
from guided_attention.data._files import DAMAGE, broken, reading, require_file
from guided_attention.data._limits import MAX_BYTES, require_fits
from guided_attention.errors import DataError, GeometryWarning

__all__ = ["Form", "NiftiFile"]

_ENDINGS = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
_PIECE = 1 << 15
"""Voxels read at a time: what a piece needs in memory is small beside the volume."""
_MOST_DEFLATED = 1032
"""What gzip can shrink at most: a header that claims more than this is wrong."""
_MILLIMETRES = {1: 1e3, 3: 1e-3}
"""Length of NIfTI's units by code, in millimetres: metre and micrometre."""
_AXES, _PLANE = 3, 2
_BYTES_OF_LABELS = 3
_SIZES = {348: 1, 540: 2}
"""Version of NIfTI by the size of its header, which every file begins with."""
_MAGIC = {1: (344, b"ni1\0", b"n+1\0"), 2: (4, b"ni2\0", b"n+2\0")}
"""Where each version has its mark, and the mark of pairs and of single files."""
_PAIR = re.compile(r"(?<=\.)(hdr|img)(?=(\.gz)?$)", re.IGNORECASE)
_LISTS = "Several files are read one by one: Case(case_id, numpy.stack([read_nifti(path).array, ...]), None, affine)."


Form: TypeAlias = tuple[Affine | None, int]
"""A place that a header gives, None for none, and its code."""


@dataclass(frozen=True, eq=False)
class NiftiFile:
    """Header of a NIfTI file: what is needed to read its voxels.

    Attributes:
        path: The file asked for.
        data: The file that holds the voxels, another one for a pair ``.hdr`` and ``.img``.
        shape: ``(depth, height, width)``, or with channels first.
        dtype: Number type in the file, byte order included.
        offset: Bytes before the first voxel.
        slope: Factor of the values in the file.
        intercept: What is added to them.
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` to RAS millimetres.
        forms: The sform and the qform in millimetres, None where its code is 0, each with its code.
        max_bytes: What its voxels may take in memory.
    """

    path: Path
    data: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: Affine
    forms: tuple[Form, Form]
    max_bytes: int

    @classmethod
    def open(cls, path: PathLike, argument: str, max_bytes: int = MAX_BYTES) -> "NiftiFile":
        """Read only the header, check it, and warn where it leaves the orientation open."""
        header = cls.open_header(path, argument, max_bytes)
        _warn_of_forms(header)
        return header

    @classmethod
    def open_header(cls, path: PathLike, argument: str, max_bytes: int = MAX_BYTES) -> "NiftiFile":
        """Read only the header, and check it."""
        with needs_extra("nifti"):
            from nibabel.spatialimages import HeaderDataError, HeaderTypeError  # noqa: PLC0415
        file = require_file(argument, path, "NIfTI", _LISTS)
        good, wanted = file.name.lower().endswith(_ENDINGS), "a name that ends in .nii or .nii.gz"
        require(good, argument, wanted, file.name, "Convert it to NIfTI.", error=DataError, file=file)
        with reading(file, "NIfTI", (*DAMAGE, HeaderDataError, HeaderTypeError)):
            header = _header(file)
            slope, intercept = header.get_slope_inter()
            numbers = header.get_data_offset(), slope or 1.0, intercept or 0.0
            unit, affine = int(header["xyzt_units"]) & 7, np.array(header.get_best_affine(), np.float64)
            sform, qform = header.get_sform(coded=True), header.get_qform(coded=True)
            shape = tuple(int(side) for side in header.get_data_shape())
            dtype = header.get_data_dtype()
        to_mm = np.diag([*[_MILLIMETRES.get(unit, 1.0)] * _AXES, 1.0])
        affine = checked_affine(to_mm @ affine, f"affine of {file}", file=file)
        forms, size = (_in_mm(to_mm, *sform), _in_mm(to_mm, *qform)), _array_shape(shape, file)
        opened = cls(file, _named(file, "img"), size, dtype, *numbers, affine, forms, max_bytes)
        opened._check()
        return opened

    def _check(self) -> None:
        kind, where = self.dtype, str(self.path)
        require(
            kind.kind in "iuf",
            where,
            "a file of plain numbers",
            f"type {kind}",
            error=DataError,
            file=self.path,
        )
        scaling = f"slope {self.slope}, intercept {self.intercept}"
        good, wanted = (
            math.isfinite(self.slope) and math.isfinite(self.intercept),
            "a file with finite scaling",
        )
        require(good, where, wanted, scaling, error=DataError, file=self.path)
        needed = self.offset + math.prod(self.shape) * self.dtype.itemsize
        size = require_file("path", self.data, "NIfTI").stat().st_size
        if self.offset < 0 or needed > (size * _MOST_DEFLATED if self._is_packed else size):
            reason = f"its header claims {needed} bytes, the file has {size}"
            raise broken(self.data, "NIfTI", reason)

    @property
    def _is_packed(self) -> bool:
        return self.data.name.lower().endswith(".gz")

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
            self._require_finite(out[place : place + piece.size])
            place += piece.size
        return out.reshape(self.shape)

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
        return out.reshape(self.shape)

    def _require_finite(self, piece: npt.NDArray[Any]) -> None:
        good = piece.dtype.kind != "f" or bool(np.isfinite(piece).all())
        wanted, cure = "finite everywhere", "Replace them first."
        got = "NaN or infinite values"
        require(good, f"values of {self.path}", wanted, got, cure, error=DataError, file=self.path)

    def _pieces(self) -> Iterator[npt.NDArray[Any]]:
        """Give the voxels in the file's order, x fastest, scaled; then read on to the end of the file."""
        left, size = math.prod(self.shape), self.dtype.itemsize
        with (
            reading(self.data, "NIfTI"),
            gzip.open(self.data) if self._is_packed else self.data.open("rb") as stream,
        ):
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
            while content := stream.read(_PIECE):  # gzip tests its checksum at the end
                unpacked += len(content)
                require_fits(self.path, unpacked, self.max_bytes)


def _header(file: Path) -> Any:  # noqa: ANN401 - nibabel leaves it untyped
    """Return the header, without the extensions behind it, whose sizes cannot be trusted."""
    from nibabel import nifti1, nifti2  # noqa: PLC0415

    is_single = _named(file, "hdr") == _named(file, "img")
    head = require_file("path", _named(file, "hdr"), "NIfTI")
    with gzip.open(head) if head.name.lower().endswith(".gz") else head.open("rb") as stream:
        content = stream.read(max(_SIZES))
    sizes = {order: int.from_bytes(content[:4], order) for order in ("little", "big")}
    order, size = next(((order, size) for order, size in sizes.items() if size in _SIZES), ("", 0))
    if not order:
        raise ValueError("it does not begin as a NIfTI file does")
    place, *marks = _MAGIC[_SIZES[size]]
    if content[place : place + 4] not in marks:
        raise ValueError("it is of an older format without orientation")
    kinds = {
        (1, True): nifti1.Nifti1Header,
        (1, False): nifti1.Nifti1PairHeader,
        (2, True): nifti2.Nifti2Header,
        (2, False): nifti2.Nifti2PairHeader,
    }
    make: Callable[..., Any] = kinds[_SIZES[size], is_single]
    return make(content[:size], endianness=order)


def _named(file: Path, part: str) -> Path:
    """Return the file of a pair that ends in ``hdr`` or ``img``; a single file is its own."""
    return file.with_name(_PAIR.sub(part, file.name))


def _in_mm(to_mm: Affine, form: Affine | None, code: int) -> Form:
    return (None if form is None else to_mm @ form), int(code)


def _warn_of_forms(header: NiftiFile) -> None:
    """Warn where the two places that a header gives differ, and where it gives none."""
    file, ((sform, _), (qform, _)) = header.path, header.forms
    if sform is None and qform is None:
        message = (
            f"{file} does not say how it is oriented: the first axis is taken to run from right to left."
        )
        warnings.warn(message, GeometryWarning, stacklevel=4)
        return
    if sform is None or qform is None or is_sheared(sform):  # a qform cannot hold shear
        return
    if not is_same_place(qform, sform, header.shape[-_AXES:]):
        message = f"{file} gives two places (sform and qform) that differ: the sform is taken."
        warnings.warn(message, GeometryWarning, stacklevel=4)


def _array_shape(shape: Sequence[int], file: Path) -> tuple[int, ...]:
    """Return the shape of the array, channels first, for a file's x, y, z and what follows; 2-D files get one slice."""
    shape = (*shape, 1) if len(shape) == _PLANE else shape
    good, wanted = len(shape) >= _AXES, "a file of two or three axes, or four with channels last"
    require(good, str(file), wanted, f"{len(shape)} axes", error=DataError, file=file)
    channels = math.prod(shape[_AXES:])
    good = max(shape[_AXES:], default=1) == channels
    require(good, str(file), wanted, f"axes of {list(shape)} voxels", error=DataError, file=file)
    require(
        min(shape) > 0, str(file), "of at least one voxel", f"size {list(shape)}", error=DataError, file=file
    )
    z, y, x = reversed(shape[:_AXES])
    return (channels, z, y, x) if len(shape) > _AXES else (z, y, x)
