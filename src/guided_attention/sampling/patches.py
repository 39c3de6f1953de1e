"""PatchDataset: patches of slices, of slices with their neighbours, or of volumes, read when they are asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from guided_attention._checks import require, require_type
from guided_attention.case import Case
from guided_attention.labels import LabelSpec
from guided_attention.preparation import Preparation, Prepared
from guided_attention.sampling._volumes import (
    checked_size,
    require_records,
    require_sizes,
    surveyed_of,
    volumes_of,
)

__all__ = ["PatchDataset", "PatchPlace"]


@dataclass(frozen=True, slots=True)
class PatchPlace:
    """Where a patch lies.

    Attributes:
        case: Place of its volume in the data set.
        corner: First slice, row and column.
    """

    case: int
    corner: tuple[int, int, int]


class PatchDataset(Dataset[tuple[Tensor, Tensor]]):
    """Patches of labelled cases, prepared as `Predictor` prepares them, read by place: see `PatchBatches`.

    Item ``dataset[PatchPlace(case, corner)]`` is ``(image, labels)``: image ``(in_channels, *size)`` float32, labels
    ``(*size)`` int64 with the classes of the `LabelSpec` and its `ignore_index`. It depends on the place only, so that
    worker processes give the items that one process gives. Of volumes in a cache, only the patch is read.

    Args:
        cases: Labelled cases, as their reader gives them, each prepared once; or prepared volumes. The volumes of a
            `VolumeCache` stay on disk.
        preparation: What is done to each case first; fitted. Of prepared volumes, what made them. Its `neighbours` are
            channels of slices (2.5-D).
        labels: Which value is which class.
        size: ``(height, width)`` cuts patches out of slices, ``(depth, height, width)`` out of volumes. Nothing is
            padded here: the preparation does it (`min_size`), so that prediction does it too.

    Attributes:
        size: As passed.
        spatial_dims: Number of its sides.
        shapes: Size of each prepared volume, ``(depth, height, width)``.
        counts: For each volume, how many voxels of each organ its slices hold, ``(depth, organs)``.

    Raises:
        ArgumentError: `size` is out of range, the preparation is not fitted, another one made the prepared volumes, or
            patches of volumes are to have neighbours.
        ArgumentTypeError: An argument has the wrong type.
        DataError: There is no case, a case has no labels or unknown ones, channels differ, or a prepared volume is
            smaller than `size`.

    Example:
        >>> from guided_attention.data import CHAOS_MR_LABELS, make_phantom
        >>> cases = [make_phantom(0, size=64)]
        >>> preparation = Preparation(slice_axis="axial", neighbours=1).fit(cases)
        >>> patches = PatchDataset(cases, preparation, CHAOS_MR_LABELS, size=(24, 32))
        >>> image, labels = patches[PatchPlace(0, (3, 8, 0))]
        >>> image.shape, labels.shape
        (torch.Size([3, 24, 32]), torch.Size([24, 32]))
    """

    def __init__(
        self,
        cases: Iterable[Case | Prepared],
        preparation: Preparation,
        labels: LabelSpec,
        *,
        size: tuple[int, ...],
    ) -> None:
        require_records(cases, preparation, labels)
        self.size = checked_size(size, "(height, width) or (depth, height, width)", axes=(2, 3))
        self.spatial_dims = len(self.size)
        neighbours, volumes = preparation.neighbours, self.spatial_dims == 3  # noqa: PLR2004
        cure = "Patches of volumes hold their neighbours: Preparation(neighbours=0)."
        good = not (volumes and neighbours)
        require(good, "preparation.neighbours", "0 with a `size` of three sides", neighbours, cure)
        self._reach = range(-neighbours, neighbours + 1)
        self._labels, self._volumes = labels, volumes_of(cases, preparation)
        surveyed = surveyed_of(self._volumes, labels)
        require_sizes(surveyed, self.size)
        self.shapes = [one.shape[1:] for one in surveyed]
        self.counts = [one.counts for one in surveyed]
        self._classes = _classes_of(labels)

    @property
    def box(self) -> tuple[int, int, int]:
        """Sides of a patch in the volume: slices, rows and columns."""
        depth, height, width = (1, *self.size)[-3:]
        return depth, height, width

    def __len__(self) -> int:
        """Return the number of slices, or of volumes where patches are cut out of volumes."""
        return sum(shape[0] if self.spatial_dims == 2 else 1 for shape in self.shapes)  # noqa: PLR2004

    def __getitem__(self, place: PatchPlace) -> tuple[Tensor, Tensor]:
        """Return the image and the labels of a patch."""
        self._require_inside(place)
        volume, (z, y, x), (depth, height, width) = self._volumes[place.case], place.corner, self.box
        window = (slice(y, y + height), slice(x, x + width))
        if self.spatial_dims == 2:  # noqa: PLR2004
            last = volume.image.shape[1] - 1
            image = np.concatenate([volume.image[:, min(max(z + i, 0), last), *window] for i in self._reach])
        else:
            image = volume.image[:, z : z + depth, *window].copy()
        classes = self._classes[_labels_of(volume)[z : z + depth, *window]]
        return torch.from_numpy(image), torch.from_numpy(classes.reshape(self.size))

    def voxel(self, case: int, organ: int, number: int) -> tuple[int, int, int]:
        """Return the place ``(z, y, x)`` of a voxel of an organ, counted slice by slice; organs count from 0."""
        counts = self.counts[case][:, organ].astype(np.int64)
        ends = counts.cumsum()
        z = int(np.searchsorted(ends, number, side="right"))
        values = _labels_of(self._volumes[case])[z]
        places = np.flatnonzero(values == self._labels.values[organ])
        y, x = divmod(int(places[number - ends[z] + counts[z]]), values.shape[1])
        return z, y, x

    def _require_inside(self, place: PatchPlace) -> None:
        cure = "Read the set by DataLoader(dataset, batch_sampler=PatchBatches(dataset, ...))."
        require_type("place", place, PatchPlace, "a PatchPlace", cure)
        cases = len(self.shapes)
        require(0 <= place.case < cases, "place.case", f"from 0 to {cases - 1}", place.case)
        highest = tuple(there - side for there, side in zip(self.shapes[place.case], self.box, strict=True))
        inside = all(0 <= at <= high for at, high in zip(place.corner, highest, strict=True))
        require(inside, "place.corner", f"from (0, 0, 0) to {highest}", place.corner)


def _labels_of(volume: Prepared) -> npt.NDArray[Any]:
    assert volume.labels is not None  # noqa: S101 - checked when the set was made
    return volume.labels


def _classes_of(labels: LabelSpec) -> npt.NDArray[np.int64]:
    """Return the class of each value, as a table; values that are none were refused before."""
    ignored = [] if labels.ignore_value is None else [labels.ignore_value]
    known = np.array([0, *labels.values, *ignored])
    table = np.zeros(known.max() + 1, np.int64)
    table[known] = labels.to_classes(known)
    return table
