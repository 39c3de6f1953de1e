"""Whether a network knows how sure it may be: calibration, Brier score, and what its uncertainty is worth."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require, require_same_shape
from guided_attention._typing import LabelArray, MaskArray, ProbabilityArray
from guided_attention.metrics._masks import require_mask

__all__ = ["UncertaintyCorrelation", "brier_score", "expected_calibration_error", "uncertainty_correlation"]

_Values: TypeAlias = npt.NDArray[np.float64]
_Indices: TypeAlias = npt.NDArray[np.intp]

# Voxels that are looked at together: some megabytes, whatever the size of the volume.
_CHUNK_VOXELS = 1 << 18
# Half precision rounds each probability by up to 0.0005.
_SUM_TOLERANCE = 2e-3
_ENOUGH_PAIRS = 2


@dataclass(frozen=True)
class UncertaintyCorrelation:
    """How well the uncertainty of cases tells which of them went wrong.

    Attributes:
        spearman: Rank correlation between uncertainty and Dice, -1..1: the nearer to -1 the better, 0 says
            that the uncertainty tells nothing. NaN where fewer than two cases are left, or where all their
            uncertainties or all their Dice coefficients are the same.
        count: Cases that it is taken over.
        skipped: Cases left out because one of their two values is NaN.

    Example:
        >>> UncertaintyCorrelation(spearman=-0.8, count=19, skipped=1).count
        19
    """

    spearman: float
    count: int
    skipped: int


def expected_calibration_error(
    probabilities: ProbabilityArray,
    reference: LabelArray,
    *,
    bins: int = 15,
    mask: MaskArray | None = None,
) -> float:
    """Say how far a network's confidence is from its share of right answers: 0 is perfect.

    The confidence of a voxel is its largest probability, and the answer is right where that is the
    probability of the true class. Voxels are put into bins of equal width by their confidence, bin ``b`` of
    ``B`` being ``((b − 1) / B, b / B]``. With ``N`` voxels, ``n_b`` of them in bin ``b``::

        ECE = Σ_b (n_b / N) · | share right in b − mean confidence in b |

    It has no unit, lies in 0..1, and lower is better. Of equal probabilities the lowest class is the answer.
    The value depends on the number of bins: name it in a report.

    **Most voxels of a scan are background that nobody doubts, and they hide the rest**: pass a `mask` such as
    the reference's organs, dilated.

    ==============================  ======
    voxels that count               result
    ==============================  ======
    none (an empty mask or image)   NaN
    ==============================  ======

    Args:
        probabilities: Of each class, such as the softmax of logits.
        reference: True class of each voxel.
        bins: How many.
        mask: True where a voxel counts; all count where left out.

    Shape:
        - ``probabilities``: ``(classes, *space)``, two classes or more.
        - ``reference`` and ``mask``: ``(*space)``.

    Raises:
        ValueError: Shapes do not fit, there is no bin, or, among the voxels that count, probabilities are not
            from 0 to 1 or do not sum to 1, or the reference holds a value that is no class.

    Example:
        Four voxels of confidence 0.75, three of them right: well calibrated. Then one of them right.

        >>> import numpy as np
        >>> probabilities = np.array([[0.75] * 4, [0.25] * 4])
        >>> expected_calibration_error(probabilities, np.array([0, 0, 0, 1]))
        0.0
        >>> expected_calibration_error(probabilities, np.array([1, 1, 0, 1]))
        0.5

    References:
        Guo et al., "On calibration of modern neural networks", ICML 2017, equations 2, 3 and 5.
    """
    require(bins >= 1, "bins", "at least 1", bins)
    _require_volumes(probabilities, reference, mask)
    upper = np.arange(1, bins + 1) / bins
    count, right, confidence = np.zeros((3, bins))
    for shares, truth in _chunks(probabilities, reference, mask):
        answer = shares.argmax(axis=0)
        largest = np.take_along_axis(shares, answer[None], axis=0)[0]
        # A sum of a hair above 1 may carry the confidence beyond the last bin.
        place = np.minimum(np.searchsorted(upper, largest, side="left"), bins - 1)
        count += np.bincount(place, minlength=bins)
        right += np.bincount(place, weights=answer == truth, minlength=bins)
        confidence += np.bincount(place, weights=largest, minlength=bins)
    total = float(count.sum())
    return float(np.abs(right - confidence).sum()) / total if total else math.nan


def brier_score(
    probabilities: ProbabilityArray, reference: LabelArray, *, mask: MaskArray | None = None
) -> float:
    """Say how far the probabilities are from the truth, in squares: 0 is perfect, 2 is surely wrong.

    With ``p`` the probabilities of the ``C`` classes, ``N`` voxels, and ``[·]`` 1 where that is so, else 0::

        Brier score = (1 / N) · Σ_voxel Σ_class (p(class) − [class is the true one])²

    It has no unit, lies in 0..2, and lower is better; equal probabilities for all classes score ``1 − 1 / C``.
    This is Brier's own sum over all classes: with two classes it is twice the form that looks at one of them.
    Unlike `expected_calibration_error` it has no bins, and sees both calibration and how well classes are told
    apart.

    **Most voxels of a scan are background that nobody doubts, and they hide the rest**: pass a `mask` such as
    the reference's organs, dilated.

    ==============================  ======
    voxels that count               result
    ==============================  ======
    none (an empty mask or image)   NaN
    ==============================  ======

    Args:
        probabilities: Of each class, such as the softmax of logits.
        reference: True class of each voxel.
        mask: True where a voxel counts; all count where left out.

    Shape:
        - ``probabilities``: ``(classes, *space)``, two classes or more.
        - ``reference`` and ``mask``: ``(*space)``.

    Raises:
        ValueError: Shapes do not fit, or, among the voxels that count, probabilities are not from 0 to 1 or do
            not sum to 1, or the reference holds a value that is no class.

    Example:
        >>> import numpy as np
        >>> brier_score(np.array([[1.0, 0.5], [0.0, 0.5]]), np.array([0, 1]))
        0.25

    References:
        Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950.
    """
    _require_volumes(probabilities, reference, mask)
    squares, total = 0.0, 0
    for shares, truth in _chunks(probabilities, reference, mask):
        shares[truth, np.arange(truth.size)] -= 1
        squares += float(np.square(shares, out=shares).sum())
        total += truth.size
    return squares / total if total else math.nan


def uncertainty_correlation(uncertainties: Sequence[float], dice: Sequence[float]) -> UncertaintyCorrelation:
    """Ask whether the cases that a network is unsure of are those that it gets wrong.

    Spearman's rank correlation: Pearson's correlation ``r`` of the ranks, equal values sharing the mean of
    their ranks::

        spearman = r(rank(uncertainty), rank(dice))

    Only the order of the cases matters, so that any measure of uncertainty will do, such as the mean of
    `Prediction.uncertainty` over a case. A network whose doubts can be trusted is near -1.

    Args:
        uncertainties: One number a case: higher is less sure.
        dice: Dice coefficient of the same cases in the same order; a missed organ counts with its 0.

    Returns:
        The correlation, with the number of cases behind it and of those left out as NaN.

    Raises:
        ValueError: The two differ in length, or a value is infinite.

    Example:
        >>> uncertainty_correlation([0.1, 0.2, 0.9, 0.3], [0.95, 0.9, 0.2, float("nan")])
        UncertaintyCorrelation(spearman=-1.0, count=3, skipped=1)

    References:
        Spearman, "The proof and measurement of association between two things", 1904.
    """
    # Loaded here, for it takes longer than all other metrics together.
    from scipy.stats import spearmanr  # noqa: PLC0415

    doubts, overlaps = _numbers("uncertainties", uncertainties), _numbers("dice", dice)
    require(
        len(doubts) == len(overlaps),
        "uncertainties",
        f"of the length of `dice`, {len(overlaps)}",
        len(doubts),
    )
    kept = ~(np.isnan(doubts) | np.isnan(overlaps))
    count, skipped = int(kept.sum()), int((~kept).sum())
    doubts, overlaps = doubts[kept], overlaps[kept]
    if count < _ENOUGH_PAIRS or np.ptp(doubts) == 0 or np.ptp(overlaps) == 0:
        return UncertaintyCorrelation(math.nan, count, skipped)
    # Rounding can carry a perfect correlation a hair beyond its limits.
    found = float(np.clip(spearmanr(doubts, overlaps).statistic, -1, 1))
    return UncertaintyCorrelation(found, count, skipped)


def _require_volumes(probabilities: ProbabilityArray, reference: LabelArray, mask: MaskArray | None) -> None:
    floating = np.issubdtype(probabilities.dtype, np.floating)
    got = f"an array of {probabilities.dtype} with {probabilities.ndim} axes"
    wanted = "of floating point with an axis of classes and one of space or more"
    require(floating and probabilities.ndim > 1, "probabilities", wanted, got)
    classes = probabilities.shape[0]
    cure = "For the probability p of one organ pass `np.stack([1 - p, p])`."
    require(classes > 1, "probabilities", "of 2 classes or more along the first axis", classes, cure=cure)
    got = f"an array of {reference.dtype}"
    require(np.issubdtype(reference.dtype, np.integer), "reference", "an array of integers", got)
    require_same_shape("reference", reference.shape, "probabilities[0]", probabilities.shape[1:])
    if mask is not None:
        require_mask("mask", mask)
        require_same_shape("mask", mask.shape, "reference", reference.shape)


def _chunks(
    probabilities: ProbabilityArray, reference: LabelArray, mask: MaskArray | None
) -> Iterator[tuple[_Values, _Indices]]:
    """Give the voxels that count, part by part and checked: probabilities ``(classes, n)`` and true classes.

    Each is a copy that may be written to.
    """
    classes = probabilities.shape[0]
    step = max(1, _CHUNK_VOXELS // max(1, math.prod(reference.shape[1:])))
    for start in range(0, len(reference), step):
        part = slice(start, start + step)
        flat, truth = probabilities[:, part].reshape(classes, -1), reference[part].ravel()
        if mask is not None:
            keep = mask[part].ravel()
            flat, truth = flat[:, keep], truth[keep]
        # Double precision is copied too: whoever gets a part may write to it.
        shares, truth = np.array(flat, dtype=np.float64), truth.astype(np.intp)
        if truth.size:
            _require_probabilities(shares)
            _require_classes(truth, classes)
            yield shares, truth


def _require_probabilities(shares: _Values) -> None:
    lowest, sums = float(shares.min()), shares.sum(axis=0)
    cure = "Pass the softmax of the logits over the classes."
    # A comparison with NaN is false, so that NaN is refused too.
    require(lowest >= 0, "probabilities", "from 0 to 1", lowest, cure=cure)
    furthest = float(sums[np.abs(sums - 1).argmax()])
    close = abs(furthest - 1) <= _SUM_TOLERANCE
    require(close, "probabilities", "of sum 1 over the classes", f"a voxel with {furthest}", cure=cure)


def _require_classes(truth: _Indices, classes: int) -> None:
    unknown = np.unique(truth[(truth < 0) | (truth >= classes)]).tolist()
    cure = "Leave voxels without a class out by `mask`."
    require(not unknown, "reference", f"of classes from 0 to {classes - 1}", f"also {unknown}", cure=cure)


def _numbers(argument: str, values: Sequence[float]) -> _Values:
    numbers = np.asarray(values, dtype=np.float64)
    require(numbers.ndim == 1, argument, "one row of numbers", f"an array of shape {numbers.shape}")
    require(not np.isinf(numbers).any(), argument, "without infinite values", numbers.tolist())
    return numbers
