"""Segmentations of 3D Slicer (``.seg.nrrd``): names, values, colours, layers, and masks of a part of the scan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import cut_list, require
from guided_attention._files import PathLike
from guided_attention._sides import left_right_pairs
from guided_attention._typing import Affine
from guided_attention.case import Volume, reordered
from guided_attention.data._segments import painted, values_of, warn_of_overlap
from guided_attention.data.formats._limits import MAX_BYTES, require_fits
from guided_attention.data.formats._nrrd import Segment, open_nrrd, read_segments
from guided_attention.data.formats._voxels import StoredVolume
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec

__all__ = [
    "SLICER_ENDING",
    "SlicerFile",
    "open_slicer",
    "padded",
    "spec_of",
]

SLICER_ENDING = ".seg.nrrd"
_SHARE_OF_VOXEL = 0.1
_AXES = 3


@dataclass(frozen=True, eq=False)
class SlicerFile:
    """An opened segmentation of 3D Slicer.

    Attributes:
        stored: The voxels.
        segments: The segments that the header names.
        organs: What values the segments get, by name; None keeps those of the file.
    """

    stored: StoredVolume
    segments: tuple[Segment, ...]
    organs: LabelSpec | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self.stored.path

    @property
    def affine(self) -> Affine:
        """Where its voxels lie."""
        return self.stored.affine

    def array(self, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """Read the layers as they stand in the file."""
        return self.stored.array(dtype)

    def labels(self) -> npt.NDArray[Any]:
        """Read the segments as one label volume; where layers overlap, the later segment wins, with a warning."""
        require_fits(self.path, 2 * math.prod(self.stored.shape), self.stored.max_bytes)
        stored = self.stored.labels()
        layers = stored if stored.ndim > _AXES else stored[None]
        numbers, wanted = {segment.layer for segment in self.segments}, f"below {len(layers)}"
        good = all(0 <= number < len(layers) for number in numbers)
        require(good, f"layers of {self.path}", wanted, sorted(numbers), error=DataError, file=self.path)
        values = self._values()
        labels = np.zeros(layers.shape[1:], np.min_scalar_type(max(values, default=0)))
        overlap = sum(self._merge(layers[:, place], into, values) for place, into in enumerate(labels))
        warn_of_overlap(self.path, overlap)
        return labels

    def _merge(self, layers: npt.NDArray[Any], into: npt.NDArray[Any], values: Sequence[int]) -> int:
        """Write the segments of one slice into its labels, and return how many voxels had one already."""
        for number, layer in enumerate(layers):
            named = [0, *(segment.value for segment in self.segments if segment.layer == number)]
            odd = sorted(set(np.unique(layer).tolist()) - set(named))
            where, wanted = f"values of {self.path}", "values of its segments"
            cure = "Save the segmentation again in 3D Slicer."
            require(not odd, where, wanted, cut_list(odd), cure, error=DataError, file=self.path)
        return sum(
            painted(into, layers[segment.layer] == segment.value, value)
            for segment, value in zip(self.segments, values, strict=True)
            if value
        )

    def _values(self) -> list[int]:
        own = spec_of(self.segments, self.path)
        by_name = {name: value for value, name in own.names.items()}
        mine = [by_name[segment.name] for segment in self.segments]
        return values_of([segment.name for segment in self.segments], mine, self.organs, self.path)


def open_slicer(
    path: PathLike, argument: str, max_bytes: int = MAX_BYTES, organs: LabelSpec | None = None
) -> SlicerFile:
    """Read only the header, and check it."""
    stored = open_nrrd(path, argument, max_bytes)
    segments = tuple(read_segments(stored.path))
    wanted = "a segmentation of 3D Slicer, with the names of its segments"
    got, cure = "an NRRD file without them", "Rename it to end in .nrrd."
    require(bool(segments), str(stored.path), wanted, got, cure, error=DataError, file=stored.path)
    return SlicerFile(stored, segments, organs)


def spec_of(segments: tuple[Segment, ...], path: Path) -> LabelSpec:
    """Return names and colours by value: the file's values where it has one layer, else 1, 2, ... in order."""
    is_one = len({segment.layer for segment in segments}) == 1
    values = [segment.value if is_one else place for place, segment in enumerate(segments, start=1)]
    good, wanted = len(set(values)) == len(values), "of different values in a layer"
    require(good, f"segments of {path}", wanted, values, error=DataError, file=path)
    names = dict(zip(values, (segment.name for segment in segments), strict=True))
    coloured = zip(values, segments, strict=True)
    colours = {value: segment.colour for value, segment in coloured if segment.colour}
    try:
        return LabelSpec(names, colours, left_right_pairs(names))
    except DataError as error:
        raise DataError(f"{error} Read from {path}.", argument=error.argument, file=path) from error


def padded(mask: Volume, image: Volume) -> Volume:
    """Return a mask that covers a part of the image's grid on all of it, 0 elsewhere.

    A mask on another grid is returned as it is: `Case.from_volumes` refuses it.
    """
    size = image.array.shape[-_AXES:]
    turned = reordered(mask, image)
    array, place = turned.array, np.linalg.solve(image.affine, turned.affine)
    first = np.rint(place[:_AXES, _AXES])
    goal = np.eye(4)
    goal[:_AXES, _AXES] = first
    corner = np.array([*reversed(array.shape), 1.0])
    if np.abs((place - goal) @ corner).max() > _SHARE_OF_VOXEL or array.shape == size:
        return mask
    whole = np.zeros(size, array.dtype)
    starts = [int(start) for start in reversed(first.tolist())]
    inside = [slice(max(start, 0), start + length) for start, length in zip(starts, array.shape, strict=True)]
    cut = tuple(slice(max(-start, 0), max(full - start, 0)) for start, full in zip(starts, size, strict=True))
    if np.count_nonzero(array[cut]) != np.count_nonzero(array):
        return mask
    whole[tuple(inside)] = array[cut]
    return Volume(whole, image.affine)
