"""SliceDataset: the prepared slices that a network is trained on."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from guided_attention._checks import require, require_integer, require_type
from guided_attention._typing import ImageSlice, LabelSlice
from guided_attention.case import Case
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import Preparation, Prepared
from guided_attention.preparation.preparation import known_slice_axis
from guided_attention.sampling._volumes import (
    Surveyed,
    checked_size,
    require_records,
    require_sizes,
    surveyed_of,
    volumes_of,
)
from guided_attention.sampling.augment import SliceTransform, require_transform, with_sides

__all__ = ["SliceDataset"]


class SliceDataset(Dataset[tuple[Tensor, Tensor]]):
    """Labelled slices of cases, prepared as `Predictor` prepares them, for a `torch.utils.data.DataLoader`.

    Item ``i`` is ``(image, labels)``: image ``(in_channels, height, width)`` float32, labels ``(height, width)`` int64
    with the classes of the `LabelSpec` and its `ignore_index`. Slices count case by case. Memory holds the prepared
    volumes of all cases, whatever the number of channels that neighbouring slices add; those of a cache stay on disk.

    Args:
        cases: Labelled cases, as their reader gives them, each prepared once; or prepared volumes. The volumes of a
            `VolumeCache` stay on disk, and each slice is read when it is asked for.
        preparation: What is done to each case first; fitted. Of prepared volumes, what made them.
        labels: Which value is which class.
        augment: Called on every item last, with random numbers of torch, which a `DataLoader` seeds for each worker.
            `FlipRotate`, also in a `Chain`, learns from `labels` which organs are left and right.
        size: Height and width that slices are cropped to, at a random place with `augment`, else about the centre. None
            keeps the prepared slices, which then have to be of one size. Slices are never padded here: the preparation
            does it (`min_size`), so that prediction does it too.
        foreground_only: Skip slices without an organ.
        slice_step: Take every n-th slice of a case.

    Raises:
        ArgumentError: `size` or `slice_step` is out of range, the preparation is not fitted, or another one made the
            prepared volumes.
        ArgumentTypeError: An argument has the wrong type.
        DataError: There is no case, a case has no labels or unknown ones, prepared slices are smaller than `size` or
            differ in size or channels, no slice is left, or `augment` mirrors and a left or right organ has no pair.

    Example:
        >>> from guided_attention.data import CHAOS_MR_LABELS, make_phantom
        >>> cases = [make_phantom(0, size=64)]
        >>> preparation = Preparation(slice_axis="axial").fit(cases)
        >>> slices = SliceDataset(cases, preparation, CHAOS_MR_LABELS, size=(24, 24))
        >>> image, labels = slices[0]
        >>> image.shape, labels.dtype
        (torch.Size([1, 24, 24]), torch.int64)
    """

    def __init__(
        self,
        cases: Iterable[Case | Prepared],
        preparation: Preparation,
        labels: LabelSpec,
        *,
        augment: SliceTransform | None = None,
        size: tuple[int, int] | None = None,
        foreground_only: bool = False,
        slice_step: int = 1,
    ) -> None:
        require_records(cases, preparation, labels)
        require_type("foreground_only", foreground_only, bool, "True or False")
        require_integer("slice_step", slice_step)
        require(slice_step >= 1, "slice_step", "1 or above", slice_step)
        if augment is not None:
            require_transform("augment", augment)
            augment = with_sides(augment, labels, known_slice_axis(preparation), preparation.neighbours)
        self.augment, self.size = augment, _checked_size(size)
        self._labels, self._volumes = labels, volumes_of(cases, preparation)
        surveyed = surveyed_of(self._volumes, labels)
        if self.size is None:
            _require_one_size(surveyed)
        else:
            require_sizes(surveyed, self.size)
        self._places = [
            (i, z)
            for i, volume in enumerate(surveyed)
            for z, row in enumerate(volume.counts)
            if z % slice_step == 0 and (row.any() or not foreground_only)
        ]
        cure = "Set foreground_only=False."
        require(
            bool(self._places), "cases", "with at least one labelled slice", "none", cure, error=DataError
        )

    def __len__(self) -> int:
        """Return the number of slices."""
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[ImageSlice, LabelSlice]:
        """Return one slice and its labels."""
        i, z = self._places[index]
        volume = self._volumes[i]
        image, labels = volume.slices(z, z + 1)[0], _classes_of(volume, z, self._labels)
        if self.size is not None:
            starts = [
                int(torch.randint(old - new + 1, ())) if self.augment is not None else (old - new) // 2
                for old, new in zip(labels.shape, self.size, strict=True)
            ]
            rows, columns = (slice(start, start + new) for start, new in zip(starts, self.size, strict=True))
            image, labels = image[:, rows, columns].clone(), labels[rows, columns].clone()
        return (image, labels) if self.augment is None else self.augment(image, labels)


def _checked_size(size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = checked_size(size, "(height, width)", axes=(2,))
    return height, width


def _classes_of(volume: Prepared, z: int, labels: LabelSpec) -> Tensor:
    assert volume.labels is not None  # noqa: S101 - checked when the set was made
    return torch.from_numpy(labels.to_classes(volume.labels[z]).astype(np.int64))


def _require_one_size(surveyed: Sequence[Surveyed]) -> None:
    first = surveyed[0]
    for one in surveyed:
        where = f"size of the prepared slices of case {one.case_id!r}"
        wanted = f"that of case {first.case_id!r}, {first.shape[2:]}"
        cure = "Pass `size=(height, width)` to crop all to one size."
        got = one.shape[2:]
        require(got == first.shape[2:], where, wanted, got, cure, error=DataError)
