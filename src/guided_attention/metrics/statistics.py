"""Comparison of networks over the same subjects: confidence intervals of means, and tests of differences."""

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require
from guided_attention._typing import Numbers
from guided_attention.metrics._inputs import as_number, as_numbers, as_whole

__all__ = ["holm", "mean_interval", "paired_wilcoxon"]

_Values: TypeAlias = npt.NDArray[np.float64]

_MOST_RESAMPLES = 1_000_000
_DRAWN_AT_ONCE = 1_000_000
_MOST_EXACT_PAIRS = 500
"""Pairs up to which all sums of ranks are counted: 0.1 s there, and 1.5 s for twice as many."""
_LEAST_P = math.ulp(0.0)
_ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""What two differences of equal size may differ by, in parts of the largest value."""
_LEAVE_OUT = "Leave out what cannot be scored, and say how many there were."


def mean_interval(
    values: Numbers, *, level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float]:
    """Return the confidence interval of a mean, by the percentile bootstrap.

    Samples as large as the original are drawn with replacement; the interval holds the middle ``level`` of their means.
    Its ends are two of these means, never a number between them, so that an infinite distance (a missed organ) stays
    infinite: with one among the values the upper end is infinite as soon as enough samples hold it.

    Args:
        values: One number a subject; infinite ones count.
        level: Share of the means inside the interval.
        resamples: Number of samples.
        seed: The same seed gives the same interval.

    Returns:
        Lower and upper end; two NaN for fewer than two values.

    Raises:
        ArgumentError: A value is NaN, both infinities are among them, the level is not between 0 and 1, or there is no
            sample.
        ArgumentTypeError: An argument is not made of numbers.

    Example:
        >>> mean_interval([0.0, 1.0])
        (0.0, 1.0)
        >>> mean_interval([2.0, 2.0, float("inf")])
        (2.0, inf)

    References:
        Efron, "Bootstrap methods: another look at the jackknife", 1979. ``scipy.stats.bootstrap`` with
        ``method="percentile"`` takes a value between two means where an end falls between them.
    """
    sample = _without_nan("values", values)
    require(0.0 < as_number("level", level) < 1.0, "level", "between 0 and 1", level)
    count = as_whole("resamples", resamples, 1, _MOST_RESAMPLES)
    ends = {math.inf, -math.inf} <= set(sample.tolist())
    require(not ends, "values", "of one infinity at most", "inf and -inf, which have no mean")
    generator = np.random.default_rng(as_whole("seed", seed, 0))
    if len(sample) < 2:  # noqa: PLR2004
        return math.nan, math.nan
    # In pieces, which draw the same numbers: all at once, 10,000 subjects would take gigabytes.
    rows = max(1, _DRAWN_AT_ONCE // len(sample))
    means = np.empty(count)
    for start in range(0, count, rows):
        piece = means[start : start + rows]
        piece[:] = sample[generator.integers(len(sample), size=(len(piece), len(sample)))].mean(axis=1)
    tail = (1.0 - level) / 2
    low, high = np.quantile(means, (tail, 1.0 - tail), method="inverted_cdf").tolist()
    return low, high


def paired_wilcoxon(first: Numbers, second: Numbers) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test.

    The test asks how often differences of these sizes, each with a random sign, would lie as far to one side as they
    do. Equal sizes share the mean of their ranks::

        W = Σ rank(|first - second|) over the pairs with first > second
        p = min(1, 2 · min(P(W or less), P(W or more)))

    Differences that only rounding makes unequal are equal. Pairs without a difference are left out, as Wilcoxon does; p
    is 1 where none is left. With up to 500 pairs left the answer is exact, ties included, and with n pairs p is never
    below 2 / 2ⁿ: fewer than six cannot reach 0.05. With more, W is taken as normally distributed, corrected for ties
    and for continuity; a p-value too small for a number in double precision is the smallest that there is.

    Args:
        first: One number a subject, such as the Dice coefficients of one network.
        second: Those of another network over the same subjects in the same order. An infinite distance is larger than
            all others; two infinite ones are equal.

    Returns:
        The p-value, above 0 to 1.

    Raises:
        ArgumentError: The two differ in length, there is no pair, or a value is NaN.
        ArgumentTypeError: An argument is not made of numbers.

    Example:
        >>> paired_wilcoxon([0.9, 0.8, 0.7, 0.9, 0.8, 0.6], [0.8, 0.6, 0.4, 0.5, 0.3, 0.0])
        0.03125

    References:
        Wilcoxon, "Individual comparisons by ranking methods", 1945. ``scipy.stats.wilcoxon`` gives the same with
        ``method="exact"`` where there are no ties, and beyond 500 pairs with ``correction=True``.
    """
    ours, theirs = _without_nan("first", first), _without_nan("second", second)
    require(len(ours) == len(theirs), "first", f"of the length of `second`, {len(theirs)}", len(ours))
    require(len(ours) > 0, "first", "at least one number", "none")
    differ = ours != theirs  # two infinite ones have no difference that could be taken
    differences = ours[differ] - theirs[differ]
    finite = np.concatenate([ours[np.isfinite(ours)], theirs[np.isfinite(theirs)], np.zeros(1)])
    rounding = _ROUNDING * float(np.abs(finite).max())
    differences = differences[np.abs(differences) > rounding]
    ranks = _doubled_ranks(np.abs(differences), rounding)
    found = int(ranks[differences > 0].sum())
    nearer = min(found, int(ranks.sum()) - found)  # sums are distributed alike on both sides of their mean
    tail = _chance_up_to if len(ranks) <= _MOST_EXACT_PAIRS else _normal_chance_up_to
    return max(_LEAST_P, min(1.0, 2.0 * tail(ranks, nearer)))


def holm(p_values: Numbers) -> list[float]:
    """Return p-values adjusted for the number of tests, by Holm's step-down method.

    With each adjusted value compared with the same limit, the probability of even one false finding among all tests
    stays below the limit, however the tests depend on each other::

        adjusted_(i) = max_{j <= i} min(1, (m - j + 1) · p_(j))        p_(1) <= … <= p_(m)

    Args:
        p_values: Those of all tests that are reported together.

    Returns:
        The adjusted values in the order of the tests.

    Raises:
        ArgumentError: A value is not from 0 to 1.
        ArgumentTypeError: `p_values` is not made of numbers.

    Example:
        >>> holm([0.25, 0.125, 0.5])
        [0.5, 0.375, 0.5]

    References:
        Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    values = _without_nan("p_values", p_values)
    odd = values[(values < 0.0) | (values > 1.0)].tolist()
    require(not odd, "p_values", "from 0 to 1", odd)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    result: list[float] = adjusted.tolist()
    return result


def _without_nan(argument: str, values: Numbers) -> _Values:
    numbers = as_numbers(argument, values)
    require(not np.isnan(numbers).any(), argument, "free of NaN", numbers.tolist(), cure=_LEAVE_OUT)
    return numbers


def _doubled_ranks(sizes: _Values, rounding: float) -> npt.NDArray[np.int64]:
    """Rank from the smallest, twice the rank so that the mean of tied ranks is whole."""
    order = np.argsort(sizes, kind="stable")
    ascending = sizes[order]
    larger = ascending[1:] - rounding > ascending[:-1]
    tied = np.concatenate([np.zeros(min(1, len(sizes)), np.intp), np.cumsum(larger)])
    counts = np.bincount(tied)
    doubled: npt.NDArray[Any] = 2 * np.cumsum(counts) - counts + 1
    ranks = np.empty(len(sizes), np.int64)
    ranks[order] = doubled[tied]
    return ranks


def _chance_up_to(ranks: npt.NDArray[np.int64], highest: int) -> float:
    """Return the probability of a sum of ranks up to this one, where each rank counts with probability 1/2."""
    chances = np.zeros(highest + 1)  # of each sum
    chances[0] = 1.0
    for rank in ranks.tolist():
        with_rank = chances[: max(0, len(chances) - rank)].copy()
        chances[rank:] += with_rank
        chances /= 2
    return float(chances.sum())


def _normal_chance_up_to(ranks: npt.NDArray[np.int64], highest: int) -> float:
    """Return the same of the normal distribution with the mean and variance of these sums.

    With tied ranks in place, Σ rank² / 4 is the variance that other texts write with a correction for ties. The
    correction for continuity is half a rank, which is 1 as ranks come doubled.
    """
    below = max(0.0, ranks.sum() / 2 - highest - 1.0)
    deviation = math.sqrt((ranks.astype(np.float64) ** 2).sum()) / 2
    return math.erfc(below / deviation / math.sqrt(2)) / 2
