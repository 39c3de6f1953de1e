"""What planning learns from the training cases, which it reads one after another."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from guided_attention._checks import require
from guided_attention._typing import LabelVolume
from guided_attention.case import Case
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import CohortPercentiles, Preparation, ZScore

__all__ = ["Survey"]

_HOUNSFIELD = -200.0
"""A scan with values below this one is taken for CT, where air has -1000; MR has hardly any negative values."""


@dataclass
class Survey:
    """What the training cases have in common.

    Attributes:
        labels: What is known of the labels before the volumes are read.
        are_ct: For each case, whether it looks like CT.
        values: Values of the label volumes.
        in_one_piece: Smallest share of an organ that its largest component holds, over cases and organs.
    """

    labels: LabelSpec | None
    are_ct: list[bool] = field(default_factory=list)
    values: set[int] = field(default_factory=set)
    in_one_piece: float = 1.0

    def fitted(self, readers: Sequence[Callable[[], Case]]) -> Preparation:
        """Return a preparation with the intensities that suit the cases, fitted to them."""
        intensity = CohortPercentiles() if _looks_like_ct(readers[0]()) else ZScore()
        preparation = Preparation(intensity=intensity).fit(self._seen(readers), self.labels)
        # Only some are CT: each scan needs a scale of its own.
        if isinstance(intensity, CohortPercentiles) and not all(self.are_ct):
            return Preparation(intensity=ZScore()).fit((read() for read in readers), self.labels)
        return preparation

    def add_values(self, case: Case) -> None:
        """Take in the values of the labels of a case."""
        labels = _labels_of(case)
        if self.labels is not None:
            self.labels.require_known(labels, f"labels of case {case.case_id!r}")
        self.values |= set(np.unique(labels).tolist())

    @property
    def found_labels(self) -> LabelSpec:
        """The labels that were given, else one organ for each value found."""
        if self.labels is not None:
            return self.labels
        values = sorted(self.values - {0})
        require(bool(values), "data", "of cases with at least one organ", "none", error=DataError)
        return LabelSpec({value: f"label {value}" for value in values})

    def _seen(self, readers: Sequence[Callable[[], Case]]) -> Iterator[Case]:
        for read in readers:
            case = read()
            self.add_values(case)
            self.are_ct.append(_looks_like_ct(case))
            ignored = None if self.labels is None else self.labels.ignore_value
            shares = _largest_shares(_labels_of(case), ignored)
            self.in_one_piece = min([self.in_one_piece, *shares])
            yield case
            del case  # while the next one is read


def _looks_like_ct(case: Case) -> bool:
    return float(case.image.min()) < _HOUNSFIELD


def _labels_of(case: Case) -> LabelVolume:
    if case.labels is None:
        message = f"`data` must be of labelled cases to train on, got case {case.case_id!r} without labels."
        raise DataError(message, argument="data")
    return case.labels


def _largest_shares(labels: LabelVolume, ignored: int | None) -> list[float]:
    """Return for each organ of a volume the share of its voxels that its largest component holds."""
    shares = []
    boxes: Sequence[tuple[slice, ...] | None] = ndimage.find_objects(labels)
    for value, box in enumerate(boxes, start=1):
        if box is not None and value != ignored:
            pieces, _ = ndimage.label(labels[box] == value)
            sizes = np.bincount(pieces.ravel())[1:]
            shares.append(float(sizes.max() / sizes.sum()))
    return shares
