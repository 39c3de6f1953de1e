"""Comparison of networks over the same subjects: how sure a mean is, and whether a difference may be chance."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require

__all__ = ["holm", "mean_interval", "paired_wilcoxon"]

_Values: TypeAlias = npt.NDArray[np.float64]

_LEAVE_OUT = "Leave out what cannot be scored, and say how many there were."


def mean_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float]:
    """Give the confidence interval of a mean, by the percentile bootstrap.

    Values are drawn with replacement, as many as there are, again and again; the interval holds the middle
    ``level`` of the means of these draws. Its ends are two of these means, never a number between them, so
    that an infinite distance (a missed organ) stays infinite: with one among the values the upper end is
    infinite as soon as enough draws hold it.

    Args:
        values: One number a subject; infinite ones count.
        level: Share of the draws inside the interval.
        resamples: How many draws.
        seed: Of the draws: same seed, same interval.

    Returns:
        Lower and upper end; two NaN for fewer than two values, whose spread nobody knows.

    Raises:
        ValueError: A value is NaN, both infinities are among them, the level is not between 0 and 1, or there
            is no draw.

    Example:
        >>> mean_interval([0.0, 1.0])
        (0.0, 1.0)
        >>> mean_interval([2.0, 2.0, float("inf")])
        (2.0, inf)
        >>> mean_interval([0.8])
        (nan, nan)

    References:
        Efron, "Bootstrap methods: another look at the jackknife", 1979. ``scipy.stats.bootstrap`` with
        ``method="percentile"`` takes a value between two means where an end falls between them.
    """
    sample = _numbers("values", values)
    require(0.0 < level < 1.0, "level", "between 0 and 1", level)
    require(resamples >= 1, "resamples", "at least 1", resamples)
    ends = {math.inf, -math.inf} <= set(sample.tolist())
    require(not ends, "values", "of one infinity at most", "inf and -inf, which have no mean")
    if len(sample) < 2:  # noqa: PLR2004
        return math.nan, math.nan
    draws = np.random.default_rng(seed).integers(len(sample), size=(resamples, len(sample)))
    tail = (1.0 - level) / 2
    low, high = np.quantile(sample[draws].mean(axis=1), (tail, 1.0 - tail), method="inverted_cdf").tolist()
    return low, high


def paired_wilcoxon(first: Sequence[float], second: Sequence[float]) -> float:
    """Give the two-sided p-value of Wilcoxon's signed-rank test: may the differences be chance?

    The test asks how often differences of these sizes, each with a sign tossed by a coin, would lie as far to
    one side as they do. Equal sizes share the mean of their ranks. The answer is exact for every number of
    pairs, ties included::

        W = Σ rank(|first - second|) over the pairs with first > second
        p = min(1, 2 · min(P(W or less), P(W or more)))

    Pairs without a difference are left out, as Wilcoxon does; where none is left, nothing speaks for a
    difference and p is 1. With n pairs left p is never below 2 / 2ⁿ: fewer than six cannot reach 0.05.

    Args:
        first: One number a subject, such as the Dice coefficients of one network.
        second: Those of another network over the same subjects in the same order. An infinite distance is
            farther than all others; two infinite ones are equal.

    Returns:
        The p-value, above 0 to 1.

    Raises:
        ValueError: The two differ in length, there is no pair, or a value is NaN.

    Example:
        >>> paired_wilcoxon([0.9, 0.8, 0.7, 0.9, 0.8, 0.6], [0.8, 0.6, 0.4, 0.5, 0.3, 0.0])
        0.03125
        >>> paired_wilcoxon([0.9, 0.8], [0.9, 0.8])
        1.0

    References:
        Wilcoxon, "Individual comparisons by ranking methods", 1945. ``scipy.stats.wilcoxon`` gives the same
        where there are no ties and it computes exactly.
    """
    ours, theirs = _numbers("first", first), _numbers("second", second)
    require(len(ours) == len(theirs), "first", f"of the length of `second`, {len(theirs)}", len(ours))
    require(len(ours) > 0, "first", "at least one number", "none")
    differ = ours != theirs
    differences = ours[differ] - theirs[differ]
    ranks = _doubled_ranks(np.abs(differences))
    chances = _chances_of_sums(ranks)
    found = int(ranks[differences > 0].sum())
    tail = min(chances[: found + 1].sum(), chances[found:].sum())
    return min(1.0, 2.0 * float(tail))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of tests, by Holm's step-down method.

    With each adjusted value held against the same limit, the chance of even one false finding among all tests
    stays below the limit, however the tests depend on each other. The smallest is multiplied by the number of
    tests, the next by one less, and so on; none is below one before it, or above 1::

        adjusted_(i) = max_{j <= i} min(1, (m - j + 1) · p_(j))        p_(1) <= … <= p_(m)

    Args:
        p_values: Of all the tests that are reported together.

    Returns:
        The adjusted values in the order that the tests came in.

    Raises:
        ValueError: A value is not from 0 to 1.

    Example:
        >>> holm([0.25, 0.125, 0.5])
        [0.5, 0.375, 0.5]

    References:
        Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    values = _numbers("p_values", p_values)
    odd = values[(values < 0.0) | (values > 1.0)].tolist()
    require(not odd, "p_values", "from 0 to 1", odd)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    result: list[float] = adjusted.tolist()
    return result


def _numbers(argument: str, values: Sequence[float]) -> _Values:
    numbers = np.asarray(values, dtype=np.float64)
    require(numbers.ndim == 1, argument, "one row of numbers", f"an array of shape {numbers.shape}")
    require(not np.isnan(numbers).any(), argument, "free of NaN", numbers.tolist(), cure=_LEAVE_OUT)
    return numbers


def _doubled_ranks(sizes: _Values) -> npt.NDArray[np.int64]:
    """Rank from the smallest, twice the rank so that the mean of tied ranks is whole."""
    _, place, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    doubled: npt.NDArray[Any] = 2 * np.cumsum(counts) - counts + 1
    return doubled[place].astype(np.int64)


def _chances_of_sums(ranks: npt.NDArray[np.int64]) -> _Values:
    """Return the chance of each sum of ranks, 0 first, where a coin decides on each rank."""
    chances = np.ones(1)
    for rank in ranks.tolist():
        without, with_rank = np.pad(chances, (0, rank)), np.pad(chances, (rank, 0))
        chances = (without + with_rank) / 2
    return chances
