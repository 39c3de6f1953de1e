"""SliceDataset: the prepared slices that a network is trained on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from guided_attention._checks import require, require_integer, require_type
from guided_attention._typing import ImageSlice, LabelSlice
from guided_attention.case import Case
from guided_attention.errors import ArgumentTypeError, DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import Preparation, Prepared
from guided_attention.preparation.preparation import require_channel_order
from guided_attention.sampling.augment import SliceTransform, with_sides
from guided_attention.sampling.cache import CachedVolumes

__all__ = ["SliceDataset"]


class SliceDataset(Dataset[tuple[Tensor, Tensor]]):
    """Labelled slices of cases, prepared as `Predictor` prepares them, for a `torch.utils.data.DataLoader`.

    Item ``i`` is ``(image, labels)``: image ``(in_channels, height, width)`` float32, labels ``(height, width)`` int64
    with the classes of the `LabelSpec` and its `ignore_index`. Slices count case by case. Memory holds the prepared
    volumes of all cases, whatever the number of channels that neighbouring slices add; those of a cache stay on disk.

    Args:
        cases: Labelled cases, as their reader gives them, each prepared once; or prepared volumes. The volumes of a
            `VolumeCache` stay on disk, and each slice is read when it is asked for.
        preparation: What is done to each case first; fitted.
        labels: Which value is which class.
        augment: Called on every item last, with random numbers of torch, which a `DataLoader` seeds for each worker.
            `FlipRotate`, also in a `Chain`, learns from `labels` which organs are left and right.
        size: Height and width that slices are cropped to, at a random place with `augment`, else about the centre. None
            keeps the prepared slices, which then have to be of one size. Slices are never padded here: the preparation
            does it (`min_size`), so that prediction does it too.
        foreground_only: Skip slices without an organ.
        slice_step: Take every n-th slice of a case.

    Raises:
        ArgumentError: `size` or `slice_step` is out of range, or the preparation is not fitted.
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
        require_type("cases", cases, Iterable, "an iterable of cases")
        require_type("preparation", preparation, Preparation, "a Preparation")
        require_type("labels", labels, LabelSpec, "a LabelSpec")
        require_type("foreground_only", foreground_only, bool, "True or False")
        require_integer("slice_step", slice_step)
        require(slice_step >= 1, "slice_step", "1 or above", slice_step)
        works, got = augment is None or callable(augment), f"a {type(augment).__name__}"
        require(works, "augment", "a function or None", got, error=ArgumentTypeError)
        if augment is not None and preparation.slice_axis is not None:
            augment = with_sides(augment, labels, preparation.slice_axis)
        self.augment, self.size = augment, _checked_size(size)
        self._labels, self._volumes = labels, _volumes_of(cases, preparation)
        surveyed = [_Surveyed.of(volume, labels) for volume in self._volumes]
        require(bool(surveyed), "cases", "at least one case", "none", error=DataError)
        _require_same_channels(surveyed)
        _check_sizes(surveyed, self.size)
        self._places = [
            (i, z)
            for i, volume in enumerate(surveyed)
            for z in range(0, len(volume.has_organ), slice_step)
            if not foreground_only or volume.has_organ[z]
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
    sides: Sequence[object] = size
    require_type("size", sides, (tuple, list), "(height, width)")
    for side in sides:
        require_integer("size", side)
    good = len(sides) == 2 and min(size) >= 1  # noqa: PLR2004
    require(good, "size", "a height and a width above 0", size)
    return int(size[0]), int(size[1])


def _volumes_of(
    cases: Iterable[Case | Prepared], preparation: Preparation
) -> Sequence[Prepared] | CachedVolumes:
    if isinstance(cases, CachedVolumes):
        return cases
    volumes = []
    for case in cases:
        volumes.append(case if isinstance(case, Prepared) else preparation.apply(case))
        if isinstance(case, Case):
            require_channel_order(preparation, case)
        del case  # while the next one is read
    return volumes


@dataclass(frozen=True)
class _Surveyed:
    """What is known of a volume without its voxels."""

    case_id: str
    shape: tuple[int, ...]
    has_organ: tuple[bool, ...]

    @classmethod
    def of(cls, volume: Prepared, labels: LabelSpec) -> "_Surveyed":
        where = f"labels of case {volume.case_id!r}"
        if volume.labels is None:
            cure = "Only cases with a reference segmentation can be trained on."
            require(False, where, "given", None, cure, error=DataError)  # noqa: FBT003
        values = np.zeros((0, 0, 0), np.uint8) if volume.labels is None else volume.labels
        labels.require_known(values, where)
        organs = np.array(labels.values)
        has_organ = tuple(bool(np.isin(part, organs).any()) for part in values)
        return cls(volume.case_id, volume.image.shape, has_organ)


def _classes_of(volume: Prepared, z: int, labels: LabelSpec) -> Tensor:
    assert volume.labels is not None  # noqa: S101 - checked when the set was made
    return torch.from_numpy(labels.to_classes(volume.labels[z]).astype(np.int64))


def _require_same_channels(surveyed: Sequence[_Surveyed]) -> None:
    first = surveyed[0]
    for one in surveyed:
        wanted = f"as many as of case {first.case_id!r}, {first.shape[0]}"
        cure = "Read the same channels for all cases."
        where, got = f"channels of case {one.case_id!r}", one.shape[0]
        require(got == first.shape[0], where, wanted, got, cure, error=DataError)


def _check_sizes(surveyed: Sequence[_Surveyed], size: tuple[int, int] | None) -> None:
    first = surveyed[0]
    for one in surveyed:
        got = one.shape[2:]
        where = f"size of the prepared slices of case {one.case_id!r}"
        if size is None:
            wanted = f"that of case {first.case_id!r}, {first.shape[2:]}"
            cure = "Pass `size=(height, width)` to crop all to one size."
            require(got == first.shape[2:], where, wanted, got, cure, error=DataError)
        else:
            cure = f"Pad in the preparation, so that prediction pads too: Preparation(min_size={size})."
            fits = got[0] >= size[0] and got[1] >= size[1]
            require(fits, where, f"at least {size}", got, cure, error=DataError)
