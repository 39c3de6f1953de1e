"""Which reader opens a file, by the ending of its name: one table for every layout and reader."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from guided_attention._checks import cut_list, require, require_path
from guided_attention._files import PathLike
from guided_attention._typing import Affine, SpacingMm
from guided_attention.case import affine_of, whole_labels
from guided_attention.data._arrays import read_array
from guided_attention.data._files import require_file
from guided_attention.data._limits import MAX_BYTES, require_fits
from guided_attention.data._metaimage import open_metaimage
from guided_attention.data._nifti_stream import open_nifti
from guided_attention.data._nrrd import open_nrrd
from guided_attention.data._pictures import PICTURE_ENDINGS, read_image_pages, read_label_pages
from guided_attention.data._slicer import SLICER_ENDING, open_slicer
from guided_attention.errors import ArgumentError, DataError
from guided_attention.labels import LabelSpec

__all__ = [
    "ENDINGS",
    "PLAIN_ENDINGS",
    "OpenedFile",
    "has_geometry",
    "is_volume_file",
    "open_volume",
    "stem_of",
]

_Opener: TypeAlias = Callable[[PathLike, str, int], "OpenedFile"]

_WITH_GEOMETRY: Mapping[str, _Opener] = {
    ".nii.gz": open_nifti,
    ".nii": open_nifti,
    ".nrrd": open_nrrd,
    ".nhdr": open_nrrd,
    ".mha": open_metaimage,
    ".mhd": open_metaimage,
}
PLAIN_ENDINGS = (".npy", ".npz", *PICTURE_ENDINGS)
"""Endings of the formats that hold no spacing."""
ENDINGS = (*_WITH_GEOMETRY, *PLAIN_ENDINGS)
"""Endings of every format, the longer one of two first."""
_ENDING = re.compile("|".join(f"{re.escape(ending)}$" for ending in ENDINGS), re.IGNORECASE)


@runtime_checkable
class OpenedFile(Protocol):
    """An opened file: what its header says, and ways to read its voxels."""

    @property
    def path(self) -> Path: ...
    @property
    def affine(self) -> Affine: ...
    def array(self, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]: ...
    def labels(self) -> npt.NDArray[Any]: ...


@dataclass(frozen=True, eq=False)
class _PlainFile:
    """A file without geometry: slices as a radiologist looks at them, in a spacing that was passed."""

    path: Path
    affine: Affine
    organs: LabelSpec | None
    max_bytes: int

    def array(self, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        is_picture = self.path.suffix.lower() in PICTURE_ENDINGS
        array = (
            read_image_pages(self.path, self.max_bytes)
            if is_picture
            else read_array(self.path, self.max_bytes, is_label=False)
        )
        finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
        wanted, got, cure = "finite everywhere", "NaN or infinite values", "Replace them first."
        require(finite, f"values of {self.path}", wanted, got, cure, error=DataError, file=self.path)
        if dtype is None or array.dtype == dtype:
            return array
        needed = array.nbytes + array.size * np.dtype(dtype).itemsize
        require_fits(self.path, needed, self.max_bytes)
        with np.errstate(over="ignore"):  # `Case` refuses what is not finite
            return array.astype(dtype)

    def labels(self) -> npt.NDArray[Any]:
        is_picture = self.path.suffix.lower() in PICTURE_ENDINGS
        array = (
            read_label_pages(self.path, self.max_bytes, self.organs)
            if is_picture
            else read_array(self.path, self.max_bytes, is_label=True)
        )
        return whole_labels(array, f"values of {self.path}", file=self.path)


def stem_of(name: str) -> str:
    """Return the name of a file without the ending of its format, in upper or lower case."""
    return _ENDING.sub("", name)


def is_volume_file(path: Path) -> bool:
    """Return whether a file's name ends as that of a known format does."""
    return _ENDING.search(path.name) is not None and path.is_file()


def has_geometry(path: Path) -> bool:
    """Return whether the format of a file holds spacing and position."""
    return not path.name.lower().endswith(PLAIN_ENDINGS)


def open_volume(
    path: PathLike,
    argument: str,
    *,
    spacing_mm: SpacingMm | None = None,
    organs: LabelSpec | None = None,
    max_bytes: int = MAX_BYTES,
) -> OpenedFile:
    """Open a file by the reader of its ending; only the header is read, where there is one.

    Args:
        path: The file.
        argument: Name of the argument, for errors.
        spacing_mm: Distance between voxel centres (z, y, x) of a format that holds none.
        organs: Colours of masks in colours, and values of segments by their names.
        max_bytes: What a volume may take in memory.
    """
    file = require_path(argument, path)
    found = _ENDING.search(file.name)
    if found is None:
        require_file(argument, file, "image")
        cure = "Convert it to NIfTI; a folder of DICOM slices is read by `read_dicom_series`."
        wanted = f"a file that ends in {cut_list(ENDINGS, shown=len(ENDINGS))}"
        raise DataError(
            f"`{argument}` must be {wanted}, got {file.name}. {cure}", argument=argument, file=file
        )
    if file.name.lower().endswith(SLICER_ENDING):
        return open_slicer(file, argument, max_bytes, organs)
    opener = _WITH_GEOMETRY.get(found[0].lower())
    if opener is not None:
        return opener(file, argument, max_bytes)
    require_file(argument, file, found[0][1:].upper())
    if spacing_mm is None:
        cure = "Pass `spacing_mm`, the distance between voxel centres (z, y, x): such files hold none."
        message = f"`spacing_mm` must be given for {file}, got None. {cure}"
        raise ArgumentError(message, argument="spacing_mm", file=file)
    return _PlainFile(file, affine_of(spacing_mm) @ np.diag([-1.0, -1.0, 1.0, 1.0]), organs, max_bytes)
