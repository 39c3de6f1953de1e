"""Calibration of a network's probabilities, Brier score, and whether its uncertainty predicts its errors.

With ``p`` the probabilities of the ``C`` classes in one of ``N`` voxels, ``[·]`` 1 where that holds and else 0, and
``n_b`` the voxels whose largest probability (their confidence) lies in bin ``b`` of ``B``, ``((b − 1) / B, b / B]``::

    ECE = Σ_b (n_b / N) · | share of right answers in b − mean confidence in b |
    Brier score = (1 / N) · Σ_voxel Σ_class (p(class) − [class is that of the reference])²

Both have no unit, and lower is better. Where no voxel counts (an empty mask or image) both are NaN. **Most voxels of a
scan are background that no network doubts, and they hide the rest**: pass a `mask` such as the reference's organs,
dilated. Both take the same arguments:

* ``probabilities``: of each class, such as the softmax of logits, ``(classes, *space)``, two classes or more.
* ``reference``: class of each voxel, ``(*space)``.
* ``mask``: True where a voxel counts, ``(*space)``; all count where it is None.

They raise an `ArgumentError` where shapes or types do not fit or, among the voxels that count, probabilities are not
from 0 to 1 or do not sum to 1, or the reference holds a value that is no class; an `ArgumentTypeError` for what is no
array.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from guided_attention._checks import counted, require, require_same_shape
from guided_attention._typing import AnyLabels, AnyMask, AnyProbabilities, LabelArray, MaskArray, Numbers
from guided_attention.metrics._inputs import as_array, as_mask, as_numbers, as_whole

__all__ = ["UncertaintyCorrelation", "brier_score", "expected_calibration_error", "uncertainty_correlation"]

_Values: TypeAlias = npt.NDArray[np.float64]
_Indices: TypeAlias = npt.NDArray[np.intp]
_Volumes: TypeAlias = tuple[npt.NDArray[np.floating], LabelArray, MaskArray | None, float]
"""Probabilities, reference, mask, and how far from 1 the probabilities of a voxel may add up."""

# Voxels that are looked at together: some megabytes, whatever the size of the volume.
_CHUNK_VOXELS = 1 << 18
# Half precision rounds each probability by up to 0.0005; bfloat16 by up to a part in 256 of it.
_SUM_TOLERANCE, _SUM_TOLERANCE_BF16 = 2e-3, 4e-3
_ENOUGH_PAIRS = 2
_MOST_BINS = 1_000_000


@dataclass(frozen=True)
class UncertaintyCorrelation:
    """How well the uncertainty of cases predicts which of them went wrong.

    Attributes:
        spearman: Rank correlation between uncertainty and Dice, -1..1: -1 is best, 0 means that the uncertainty says
            nothing. NaN where fewer than two cases are left, or where all their uncertainties or all their Dice
            coefficients are the same.
        count: Cases that it is taken over.
        skipped: Cases left out because one of their two values is NaN.
    """

    spearman: float
    count: int
    skipped: int


def expected_calibration_error(
    probabilities: AnyProbabilities,
    reference: AnyLabels,
    *,
    bins: int = 15,
    mask: AnyMask | None = None,
) -> float:
    """Return the expected calibration error: how far confidence is from the share of right answers, 0..1.

    Of equal probabilities the lowest class is the answer. The value depends on the number of bins: name it in a report.
    Formula, arguments and errors: see `guided_attention.metrics.calibration`.

    Example:
        Four voxels of confidence 0.75, three of them right: well calibrated. Then one of them right.

        >>> import numpy as np
        >>> probabilities = np.array([[0.75] * 4, [0.25] * 4])
        >>> expected_calibration_error(probabilities, np.array([0, 0, 0, 1]))
        0.0
        >>> expected_calibration_error(probabilities, np.array([1, 1, 0, 1]))
        0.5
    """
    number = as_whole("bins", bins, 1, _MOST_BINS)
    volumes = _checked(probabilities, reference, mask)
    upper = np.arange(1, number + 1) / number
    count, right, confidence = np.zeros((3, number))
    for shares, expected in _chunks(*volumes):
        answer = shares.argmax(axis=0)
        largest = np.take_along_axis(shares, answer[None], axis=0)[0]
        # A sum of a hair above 1 may carry the confidence beyond the last bin.
        place = np.minimum(np.searchsorted(upper, largest, side="left"), number - 1)
        count += np.bincount(place, minlength=number)
        right += np.bincount(place, weights=answer == expected, minlength=number)
        confidence += np.bincount(place, weights=largest, minlength=number)
    total = float(count.sum())
    return float(np.abs(right - confidence).sum()) / total if total else math.nan


def brier_score(
    probabilities: AnyProbabilities, reference: AnyLabels, *, mask: AnyMask | None = None
) -> float:
    """Return the Brier score: the mean squared error of the probabilities, 0..2.

    Equal probabilities for all classes score ``1 − 1 / C``. This is Brier's own sum over all classes: with two classes
    it is twice the form that looks at one of them. Unlike `expected_calibration_error` it has no bins, and depends on
    both calibration and how well classes are told apart. Formula, arguments and errors: see
    `guided_attention.metrics.calibration`.

    Example:
        >>> import numpy as np
        >>> brier_score(np.array([[1.0, 0.5], [0.0, 0.5]]), np.array([0, 1]))
        0.25
    """
    squares, total = 0.0, 0
    for shares, expected in _chunks(*_checked(probabilities, reference, mask)):
        shares[expected, np.arange(expected.size)] -= 1
        squares += float(np.square(shares, out=shares).sum())
        total += expected.size
    return squares / total if total else math.nan


def uncertainty_correlation(uncertainties: Numbers, dice: Numbers) -> UncertaintyCorrelation:
    """Return whether the cases that a network is uncertain of are those that it gets wrong.

    Spearman's rank correlation (1904): Pearson's correlation ``r`` of the ranks, equal values sharing the mean of their
    ranks::

        spearman = r(rank(uncertainty), rank(dice))

    Only the order of the cases matters, so that any measure of uncertainty will do, such as the mean of
    `Prediction.uncertainty` over a case.

    Args:
        uncertainties: One number a case: higher is less certain.
        dice: Dice coefficient of the same cases in the same order; a missed organ counts with its 0.

    Raises:
        ArgumentError: The two differ in length, or a value is infinite.
        ArgumentTypeError: An argument is not made of numbers.

    Example:
        >>> uncertainty_correlation([0.1, 0.2, 0.9, 0.3], [0.95, 0.9, 0.2, float("nan")])
        UncertaintyCorrelation(spearman=-1.0, count=3, skipped=1)
    """
    # Loaded here, for it takes longer than all other metrics together.
    from scipy.stats import spearmanr  # noqa: PLC0415

    doubts, overlaps = _without_infinite("uncertainties", uncertainties), _without_infinite("dice", dice)
    wanted = f"of the length of `dice`, {len(overlaps)}"
    require(len(doubts) == len(overlaps), "uncertainties", wanted, len(doubts))
    kept = ~(np.isnan(doubts) | np.isnan(overlaps))
    count, skipped = int(kept.sum()), int((~kept).sum())
    doubts, overlaps = doubts[kept], overlaps[kept]
    if count < _ENOUGH_PAIRS or np.ptp(doubts) == 0 or np.ptp(overlaps) == 0:
        return UncertaintyCorrelation(math.nan, count, skipped)
    # Rounding can carry a perfect correlation a hair beyond its limits.
    found = float(np.clip(spearmanr(doubts, overlaps).statistic, -1, 1))
    return UncertaintyCorrelation(found, count, skipped)


def _checked(probabilities: object, reference: object, mask: object) -> _Volumes:
    shares = as_array("probabilities", probabilities)
    is_bf16 = getattr(probabilities, "dtype", None) is torch.bfloat16
    tolerance = _SUM_TOLERANCE_BF16 if is_bf16 else _SUM_TOLERANCE
    got = f"an array of {shares.dtype} with {counted(shares.ndim, 'axis', 'axes')}"
    wanted = "of floating point with an axis of classes and one of space or more"
    require(shares.dtype.kind == "f" and shares.ndim > 1, "probabilities", wanted, got)
    cure = "For the probability p of one organ pass `np.stack([1 - p, p])`."
    classes = shares.shape[0]
    require(classes > 1, "probabilities", "of 2 classes or more along the first axis", classes, cure=cure)
    expected = as_array("reference", reference)
    got = f"an array of {expected.dtype}"
    require(expected.dtype.kind in "iu", "reference", "an array of integers", got)
    require_same_shape("reference", expected.shape, "probabilities[0]", shares.shape[1:])
    if mask is None:
        return shares, expected, None, tolerance
    kept = as_mask("mask", mask)
    require_same_shape("mask", kept.shape, "reference", expected.shape)
    return shares, expected, kept, tolerance


def _chunks(
    probabilities: npt.NDArray[np.floating],
    reference: LabelArray,
    mask: MaskArray | None,
    tolerance: float,
) -> Iterator[tuple[_Values, _Indices]]:
    """Give the voxels that count, part by part and checked: probabilities ``(classes, n)`` and expected classes.

    Each is a copy that may be written to.
    """
    classes = probabilities.shape[0]
    step = max(1, _CHUNK_VOXELS // max(1, math.prod(reference.shape[1:])))
    for start in range(0, len(reference), step):
        part = slice(start, start + step)
        flat, expected = probabilities[:, part].reshape(classes, -1), reference[part].ravel()
        if mask is not None:
            keep = mask[part].ravel()
            flat, expected = flat[:, keep], expected[keep]
        # Double precision is copied too: whoever gets a part may write to it.
        shares, expected = np.array(flat, dtype=np.float64), expected.astype(np.intp)
        if expected.size:
            _require_probabilities(shares, tolerance)
            _require_classes(expected, classes)
            yield shares, expected


def _require_probabilities(shares: _Values, tolerance: float) -> None:
    lowest, sums = float(shares.min()), shares.sum(axis=0)
    cure = "Pass the softmax of the logits over the classes."
    # A comparison with NaN is false, so that NaN is refused too.
    require(lowest >= 0, "probabilities", "from 0 to 1", lowest, cure=cure)
    furthest = float(sums[np.abs(sums - 1).argmax()])
    close = abs(furthest - 1) <= tolerance
    require(close, "probabilities", "of sum 1 over the classes", f"a voxel with {furthest}", cure=cure)


def _require_classes(expected: _Indices, classes: int) -> None:
    unknown = np.unique(expected[(expected < 0) | (expected >= classes)]).tolist()
    cure = "Leave voxels without a class out by `mask`."
    require(not unknown, "reference", f"of classes from 0 to {classes - 1}", f"also {unknown}", cure=cure)


def _without_infinite(argument: str, values: Numbers) -> _Values:
    numbers = as_numbers(argument, values)
    require(not np.isinf(numbers).any(), argument, "without infinite values", numbers.tolist())
    return numbers
