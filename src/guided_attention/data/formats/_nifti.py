"""Header of a NIfTI file: where its voxels stand, and where they lie."""

import gzip
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from guided_attention._checks import needs_extra, require
from guided_attention._files import PathLike
from guided_attention._geometry import checked_affine, is_same_place, is_sheared
from guided_attention._typing import Affine
from guided_attention.data._files import DAMAGE, reading, require_file
from guided_attention.data.formats._limits import MAX_BYTES
from guided_attention.data.formats._voxels import Packing, StoredVolume, array_shape
from guided_attention.errors import DataError, GeometryWarning

__all__ = ["NIFTI_ENDINGS", "Form", "open_nifti", "open_with_forms"]

NIFTI_ENDINGS = (".nii.gz", ".nii", ".hdr.gz", ".hdr", ".img.gz", ".img")
"""Endings of single files and of pairs, the longer one of two first."""
_MILLIMETRES = {1: 1e3, 3: 1e-3}
"""Length of NIfTI's units by code, in millimetres: metre and micrometre."""
_SIZES = {348: 1, 540: 2}
"""Version of NIfTI by the size of its header, which every file begins with."""
_MAGIC = {1: (344, b"ni1\0", b"n+1\0"), 2: (4, b"ni2\0", b"n+2\0")}
"""Where each version has its mark, and the mark of pairs and of single files."""
_PAIR = re.compile(r"(?<=\.)(hdr|img)(?=(\.gz)?$)", re.IGNORECASE)
_AXES = 3
_LISTS = "Several files, one a channel, are read by read_nifti_case([path, ...])."


Form: TypeAlias = tuple[Affine | None, int]
"""A place that a header gives in millimetres, None for none, and its code."""


def open_nifti(path: PathLike, argument: str, max_bytes: int = MAX_BYTES) -> StoredVolume:
    """Read only the header, check it, and warn where it leaves the orientation open."""
    opened, (sform, _), (qform, _) = open_with_forms(path, argument, max_bytes)
    _warn_of_forms(opened, sform, qform)
    return opened


def open_with_forms(
    path: PathLike, argument: str, max_bytes: int = MAX_BYTES
) -> tuple[StoredVolume, Form, Form]:
    """Read only the header, and check it; return also its sform and its qform."""
    with needs_extra("nifti"):
        from nibabel.spatialimages import HeaderDataError, HeaderTypeError  # noqa: PLC0415
    file = require_file(argument, path, "NIfTI", _LISTS)
    good, wanted = file.name.lower().endswith(NIFTI_ENDINGS), "a name that ends in .nii or .nii.gz"
    require(good, argument, wanted, file.name, "Convert it to NIfTI.", error=DataError, file=file)
    with reading(file, "NIfTI", (*DAMAGE, HeaderDataError, HeaderTypeError)):
        header = _header(file)
        slope, intercept = header.get_slope_inter()
        numbers = header.get_data_offset(), slope or 1.0, intercept or 0.0
        unit, affine = int(header["xyzt_units"]) & 7, np.array(header.get_best_affine(), np.float64)
        forms = header.get_sform(coded=True), header.get_qform(coded=True)
        shape = tuple(int(side) for side in header.get_data_shape())
        dtype = header.get_data_dtype()
    to_mm = np.diag([*[_MILLIMETRES.get(unit, 1.0)] * _AXES, 1.0])
    affine = checked_affine(to_mm @ affine, f"affine of {file}", file=file)
    data, size = _named(file, "img"), array_shape(shape, file)
    packing: Packing = "gzip" if data.name.lower().endswith(".gz") else ""
    opened = StoredVolume(file, data, size, dtype, *numbers, affine, "NIfTI", max_bytes, packing)
    sform, qform = ((None if form is None else to_mm @ form, int(code)) for form, code in forms)
    return opened, sform, qform


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


def _warn_of_forms(opened: StoredVolume, sform: Affine | None, qform: Affine | None) -> None:
    """Warn where the two places that a header gives differ, and where it gives none."""
    file = opened.path
    if sform is None and qform is None:
        message = (
            f"{file} does not say how it is oriented: the first axis is taken to run from right to left."
        )
        warnings.warn(message, GeometryWarning, stacklevel=4)
        return
    if sform is None or qform is None or is_sheared(sform):  # a qform cannot hold shear
        return
    if not is_same_place(qform, sform, opened.shape[-_AXES:]):
        message = f"{file} gives two places (sform and qform) that differ: the sform is taken."
        warnings.warn(message, GeometryWarning, stacklevel=4)
