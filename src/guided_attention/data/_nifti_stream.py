"""Voxels of a NIfTI file as a stream: read piece by piece to the end of the file, so that its checksum is tested."""

import gzip
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import needs_extra, require
from guided_attention._files import PathLike
from guided_attention._geometry import checked_affine, is_same_place, is_sheared
from guided_attention._typing import Affine
from guided_attention.case import whole_labels
from guided_attention.data._files import DAMAGE, broken, reading, require_file
from guided_attention.errors import DataError, GeometryWarning

__all__ = ["NiftiFile"]

_ENDINGS = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
_PIECE = 1 << 18
"""Voxels read at a time: what a piece needs in memory is small beside the volume."""
_MOST_DEFLATED = 1032
"""What gzip can shrink at most: a header that claims more than this is wrong."""
_MILLIMETRES = {1: 1e3, 3: 1e-3}
"""Length of NIfTI's units by code, in millimetres: metre and micrometre."""
_AXES, _PLANE = 3, 2
_LISTS = "Several files, one a channel, are read by read_nifti_case([path, ...])."


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
    """

    path: Path
    data: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: Affine

    @classmethod
    def open(cls, path: PathLike, argument: str) -> "NiftiFile":
        """Read only the header, and check it."""
        with needs_extra("nifti"):
            import nibabel  # noqa: PLC0415
            from nibabel.filebasedimages import ImageFileError  # noqa: PLC0415
            from nibabel.nifti1 import Nifti1Pair  # noqa: PLC0415
            from nibabel.spatialimages import HeaderDataError, HeaderTypeError  # noqa: PLC0415
        file = require_file(argument, path, "NIfTI", _LISTS)
        good, wanted = file.name.lower().endswith(_ENDINGS), "a name that ends in .nii or .nii.gz"
        require(good, argument, wanted, file.name, "Convert it to NIfTI.", error=DataError, file=file)
        with reading(file, "NIfTI", (*DAMAGE, ImageFileError, HeaderDataError, HeaderTypeError)):
            image = nibabel.load(file)
            if not isinstance(image, Nifti1Pair):
                raise broken(file, "NIfTI", "it is of an older format without orientation")
            proxy: Any = image.dataobj  # the header has lost the scaling by now
            unit, data = int(image.header["xyzt_units"]) & 7, Path(str(image.file_map["image"].filename))
            affine = np.array(image.affine, dtype=np.float64)
            untyped: Any = image
            forms = untyped.get_sform(coded=True), untyped.get_qform(coded=True)
            numbers = int(proxy.offset), float(proxy.slope), float(proxy.inter)
            shape = tuple(int(side) for side in proxy.shape)
        affine[:_AXES] *= _MILLIMETRES.get(unit, 1.0)
        affine = checked_affine(affine, f"affine of {file}", file=file)
        _warn_of_forms(file, forms, shape)
        header = cls(file, data, _array_shape(shape, file), np.dtype(proxy.dtype), *numbers, affine)
        header._check()
        return header

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
        pieces = [whole_labels(piece, where, file=self.path) for piece in self._pieces()]
        return np.concatenate(pieces).reshape(self.shape)

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
            while stream.read(_PIECE):  # gzip tests its checksum at the end
                pass


def _warn_of_forms(file: Path, forms: Sequence[tuple[Affine | None, int]], shape: Sequence[int]) -> None:
    """Warn where the two places that a header gives differ, and where it gives none."""
    (sform, _), (qform, _) = forms
    if sform is None and qform is None:
        message = (
            f"{file} does not say how it is oriented: the first axis is taken to run from right to left."
        )
        warnings.warn(message, GeometryWarning, stacklevel=4)
        return
    if sform is None or qform is None or is_sheared(sform):  # a qform cannot hold shear
        return
    if not is_same_place(qform, sform, tuple(reversed((*shape, 1)[:_AXES]))):
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
