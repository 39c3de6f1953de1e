"""Header of a NIfTI file: where its voxels stand, and where they lie."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guided_attention._checks import needs_extra, require
from guided_attention._files import PathLike
from guided_attention._geometry import checked_affine, is_same_place, is_sheared
from guided_attention._typing import Affine
from guided_attention.data._files import DAMAGE, broken, reading, require_file
from guided_attention.data._voxels import Packing, StoredVolume, array_shape
from guided_attention.errors import DataError, GeometryWarning

__all__ = ["open_nifti"]

_ENDINGS = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
_MILLIMETRES = {1: 1e3, 3: 1e-3}
"""Length of NIfTI's units by code, in millimetres: metre and micrometre."""
_AXES = 3
_LISTS = "Several files are read one by one: Case(case_id, numpy.stack([read_nifti(path).array, ...]), None, affine)."


def open_nifti(path: PathLike, argument: str) -> StoredVolume:
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
    packing: Packing = "gzip" if data.name.lower().endswith(".gz") else ""
    size = array_shape(shape, file)
    return StoredVolume(file, data, size, np.dtype(proxy.dtype), *numbers, affine, "NIfTI", packing)


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
