"""Slices: the data set that a network is trained on."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from guided_attention._checks import cut_list, require, require_positive
from guided_attention._typing import ImageSlice, LabelSlice
from guided_attention.case import Case
from guided_attention.preparation.space import crop_or_pad_slice

__all__ = ["SliceDataset", "SliceTransform"]

SliceTransform: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes an image ``(channels, height, width)`` and labels ``(height, width)`` to another such pair."""


class SliceDataset(Dataset[tuple[Tensor, Tensor]]):
    """Labelled slices of cases, ready for a `torch.utils.data.DataLoader`.

    Item ``i`` is ``(image, labels)``: image ``(channels, height, width)`` float32, labels ``(height, width)``
    int64; slices count case by case. Nothing is normalised here: whole volumes are, before, by `normalize`.

    With ``size``, slices are cropped and padded about the centre; where ``augment`` is given, at a random
    place instead. Images are padded with their volume's least value, labels with background.

    Args:
        cases: Labelled subjects of equal channel count and, without ``size``, of equal height and width.
        num_classes: How many classes the network tells apart, background included.
        augment: Called on every item last; it draws from torch's generator, which a `DataLoader` seeds apart
            for each worker.
        size: Height and width of every item, so that subjects of 256 x 256 and 288 x 288 batch together.
        foreground_only: Leave out slices that are all background.
        slice_step: Take every n-th slice of a case.

    Raises:
        ValueError: There are no cases, a case has no labels or a label of ``num_classes`` or above, channels
            or sizes differ between cases, or no slice is left.

    Example:
        >>> from guided_attention.data import make_phantom
        >>> from guided_attention.preparation import normalize
        >>> slices = SliceDataset([normalize(make_phantom(0, size=32))], num_classes=5, size=(24, 24))
        >>> image, labels = slices[0]
        >>> image.shape, labels.dtype
        (torch.Size([1, 24, 24]), torch.int64)
    """

    def __init__(
        self,
        cases: Sequence[Case],
        *,
        num_classes: int,
        augment: SliceTransform | None = None,
        size: tuple[int, int] | None = None,
        foreground_only: bool = False,
        slice_step: int = 1,
    ) -> None:
        require_positive("slice_step", slice_step)
        _check_trainable(cases, num_classes, size)
        self.augment, self.size = augment, size
        self._images = [_as_tensor(case.image) for case in cases]
        self._lowest = [image.amin(dim=(1, 2, 3)) for image in self._images]
        self._labels = [_as_tensor(_labels_of(case)) for case in cases]
        places = [(i, z) for i, case in enumerate(cases) for z in range(0, case.image.shape[1], slice_step)]
        self._places = [(i, z) for i, z in places if not foreground_only or bool(self._labels[i][z].any())]
        require(
            bool(self._places),
            "cases",
            "with at least one labelled slice",
            "none",
            "Set foreground_only=False.",
        )

    def __len__(self) -> int:
        """Return the number of slices."""
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[ImageSlice, LabelSlice]:
        """Return one slice and its labels."""
        i, z = self._places[index]
        image, labels = self._images[i][:, z].clone(), self._labels[i][z].long()
        if self.size is not None:
            random = self.augment is not None
            image, labels = crop_or_pad_slice(image, labels, self.size, fill=self._lowest[i], random=random)
        return (image, labels) if self.augment is None else self.augment(image, labels)


def _check_trainable(cases: Sequence[Case], num_classes: int, size: tuple[int, int] | None) -> None:
    require(len(cases) > 0, "cases", "at least one case", "none")
    for case in cases:
        labels = _labels_of(case)
        odd = np.unique(labels[labels >= num_classes]).tolist() if int(labels.max()) >= num_classes else []
        cure = "Raise `num_classes` or relabel the case."
        require(
            not odd,
            f"labels of case {case.case_id!r}",
            f"below num_classes={num_classes}",
            cut_list(odd),
            cure,
        )
    _check_alike(
        cases, "channels", [case.image.shape[:1] for case in cases], "Read all from the same source."
    )
    if size is None:
        sizes = [case.image.shape[2:] for case in cases]
        _check_alike(
            cases, "size in plane", sizes, "Give `size=(height, width)` to crop and pad all to one size."
        )
    else:
        require(min(size) > 0, "size", "above 0", size)


def _check_alike(cases: Sequence[Case], what: str, values: Sequence[tuple[int, ...]], cure: str) -> None:
    different = [
        f"{case.case_id!r} {value}" for case, value in zip(cases, values, strict=True) if value != values[0]
    ]
    require(
        not different,
        f"{what} of cases",
        f"that of case {cases[0].case_id!r}, {values[0]}",
        cut_list(different),
        cure,
    )


def _labels_of(case: Case) -> npt.NDArray[np.integer]:
    if case.labels is None:
        raise ValueError(
            f"`labels` of case {case.case_id!r} must be given, got None. Leave it out: nobody drew its masks."
        )
    return case.labels


def _as_tensor(array: npt.NDArray[np.generic]) -> Tensor:
    """Return a tensor on the same memory where torch can write there, else on a copy."""
    narrow = array.astype(np.int32) if array.dtype.kind == "u" and array.dtype.itemsize > 1 else array
    return torch.from_numpy(np.require(narrow, requirements=["C", "W"]))
