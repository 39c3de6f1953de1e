"""Which reader opens a file, by the ending of its name: one table for every layout and reader."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from guided_attention._checks import cut_list, require_path
from guided_attention._files import PathLike
from guided_attention._geometry import radiological_affine
from guided_attention._typing import Affine, SpacingMm
from guided_attention.case import Source, Volume, whole_labels
from guided_attention.data._files import require_file, require_finite
from guided_attention.data.formats._arrays import read_array
from guided_attention.data.formats._limits import MAX_BYTES, require_fits
from guided_attention.data.formats._metaimage import metaimage_data, open_metaimage
from guided_attention.data.formats._nifti import NIFTI_ENDINGS, open_nifti
from guided_attention.data.formats._nrrd import nrrd_data, open_nrrd
from guided_attention.data.formats._pictures import PICTURE_ENDINGS, read_image_pages, read_label_pages
from guided_attention.data.formats._slicer import SLICER_ENDING, open_slicer
from guided_attention.errors import ArgumentError, DataError
from guided_attention.labels import LabelSpec

__all__ = [
    "ENDINGS",
    "PLAIN_ENDINGS",
    "OpenedFile",
    "case_id_of",
    "files_of",
    "has_geometry",
    "image_of",
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
_DATA: Mapping[str, Callable[[Path], Path]] = {
    ".nrrd": nrrd_data,
    ".nhdr": nrrd_data,
    ".mha": metaimage_data,
    ".mhd": metaimage_data,
}
"""What returns the file with the voxels, in formats whose header may name another one."""
PLAIN_ENDINGS = (".npy", ".npz", *PICTURE_ENDINGS)
"""Endings of the formats that hold no spacing."""
ENDINGS = (*_WITH_GEOMETRY, *PLAIN_ENDINGS)
"""Endings of every format, the longer one of two first."""
_IMAGE_MARKS = ("_image", "_label", "_0000")


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
        require_finite(array, self.path)
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
    ending = _ending_of(name, (*ENDINGS, *NIFTI_ENDINGS))
    return name[: len(name) - len(ending)]


def case_id_of(path: PathLike, suffix: str = "") -> str:
    """Return the name of a case from that of its file.

    Either `suffix` or the file's ending is taken off, then one of each ``_image``, ``_label`` and ``_0000``.

    >>> case_id_of("scans/case25_image.nii.gz"), case_id_of("heart_009.nii"), case_id_of("7_ct.nii.gz", "_ct.nii.gz")
    ('case25', 'heart_009', '7')
    """
    name = require_path("path", path).name
    is_given = bool(suffix) and name.lower().endswith(suffix.lower())
    name = name[: -len(suffix)] if is_given else stem_of(name)
    for mark in _IMAGE_MARKS:
        name = name.removesuffix(mark)
    return name


def _ending_of(name: str, endings: Sequence[str] = ENDINGS) -> str:
    return next((ending for ending in endings if name.lower().endswith(ending)), "")


def is_volume_file(path: Path) -> bool:
    """Return whether a file's name ends as that of a known format does."""
    return bool(_ending_of(path.name)) and path.is_file()


def files_of(path: Path) -> list[Path]:
    """Return a file, and the one with its voxels where its header names another."""
    data = _DATA.get(_ending_of(path.name))
    return [path] if data is None else list(dict.fromkeys([path, data(path)]))


def has_geometry(path: Path) -> bool:
    """Return whether the format of a file holds spacing and position."""
    return not path.name.lower().endswith(PLAIN_ENDINGS)


def image_of(file: OpenedFile) -> Volume:
    """Read an image, as float32."""
    return Volume(file.array(np.float32), file.affine, Source(file.path))


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
    ending = _ending_of(file.name)
    if not ending:
        require_file(argument, file, "image")
        cure = "Convert it to NIfTI; a folder of DICOM slices is read by `read_dicom_series`."
        wanted = f"a file that ends in {cut_list(ENDINGS, shown=len(ENDINGS))}"
        raise DataError(
            f"`{argument}` must be {wanted}, got {file.name}. {cure}", argument=argument, file=file
        )
    if file.name.lower().endswith(SLICER_ENDING):
        return open_slicer(file, argument, max_bytes, organs)
    opener = _WITH_GEOMETRY.get(ending)
    if opener is not None:
        return opener(file, argument, max_bytes)
    require_file(argument, file, ending[1:].upper())
    if spacing_mm is None:
        cure = "Pass `spacing_mm`, the distance between voxel centres (z, y, x): such files hold none."
        message = f"`spacing_mm` must be given for {file}, got None. {cure}"
        raise ArgumentError(message, argument="spacing_mm", file=file)
    return _PlainFile(file, radiological_affine(spacing_mm), organs, max_bytes)
