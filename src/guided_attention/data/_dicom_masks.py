"""Masks of a cohort whose files name their organs: DICOM SEG, RTSTRUCT, and segmentations of 3D Slicer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require
from guided_attention._typing import Affine
from guided_attention.case import Volume
from guided_attention.data._dicom_kinds import is_rtstruct
from guided_attention.data._segments import merged_specs
from guided_attention.data.dicom_seg import read_dicom_seg, read_seg_names
from guided_attention.data.formats._nrrd import read_segments
from guided_attention.data.formats._slicer import SLICER_ENDING, spec_of
from guided_attention.data.rtstruct import read_rtstruct, read_rtstruct_names
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec

__all__ = ["DicomMask", "common_spec", "open_dicom_mask"]


@dataclass(frozen=True, eq=False)
class DicomMask:
    """A DICOM SEG or RTSTRUCT that was read.

    Attributes:
        path: The file.
        volume: Its labels.
    """

    path: Path
    volume: Volume

    @property
    def affine(self) -> Affine:
        """Where its voxels lie."""
        return self.volume.affine

    def array(self, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """Return the labels as `dtype`."""
        return np.asarray(self.volume.array, dtype)

    def labels(self) -> npt.NDArray[Any]:
        """Return the labels."""
        return self.array()


def open_dicom_mask(
    path: Path, image: Path, series: str | int | None, organs: LabelSpec | None, max_bytes: int
) -> DicomMask:
    """Read a mask on the grid of its series; a DICOM SEG may belong to a file of another format as well.

    Segments get the values of the organs of their names; without organs they keep their numbers.
    """
    folder = image if image.is_dir() else None
    if not is_rtstruct(path):
        segments = read_dicom_seg(path, folder, series=series, labels=organs, max_bytes=max_bytes)
        return DicomMask(path, segments.volume)
    cure = "Name the folder of the series that it was made on as the image."
    wanted = "the mask of a DICOM series"
    require(folder is not None, str(path), wanted, f"that of {image}", cure, error=DataError, file=path)
    segments = read_rtstruct(path, folder or image, series=series, labels=organs, max_bytes=max_bytes)
    return DicomMask(path, segments.volume)


def common_spec(paths: Sequence[Path]) -> LabelSpec:
    """Return names, values and colours over several files, from their headers."""
    specs: list[LabelSpec] = []
    known: set[str] = set()
    for path in paths:
        if path.name.lower().endswith(SLICER_ENDING):
            specs.append(spec_of(tuple(read_segments(path)), path))
        elif is_rtstruct(path):
            specs.append(read_rtstruct_names(path, known))
        else:
            specs.append(read_seg_names(path))
        known |= set(specs[-1].names.values())
    return merged_specs(specs)
