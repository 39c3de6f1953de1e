import math
import tracemalloc
from itertools import product

import numpy as np
import pytest
from scipy import stats

from guided_attention.metrics import holm, mean_interval, paired_wilcoxon

NAN, INF = math.nan, math.inf


# The interval of a mean


def test_the_interval_of_two_values_worked_by_hand():
    # The mean of a draw is 0 in 1 of 4, 0.5 in 2 of 4, 1 in 1 of 4.
    assert mean_interval([0.0, 1.0], level=0.9) == (0.0, 1.0)
    assert mean_interval([0.0, 1.0], level=0.4) == (0.5, 0.5)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_the_interval_is_that_of_all_draws_written_out(level):
    values = [0.3, 0.35, 0.8, 0.9, 1.7]
    means = sorted(sum(draw) / 5 for draw in product(values, repeat=5))
    tail = (1 - level) / 2
    wanted = means[int(tail * len(means))], means[int((1 - tail) * len(means))]
    # 3125 draws lie close together: 200,000 random ones come within the next few of them.
    assert mean_interval(values, level=level, resamples=200_000) == pytest.approx(wanted, abs=0.02)


def test_the_interval_agrees_with_that_of_scipy():
    values = np.random.default_rng(5).normal(0.85, 0.05, 15)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    ours = mean_interval(values.tolist(), resamples=20_000)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=1e-3)
    assert ours[0] < values.mean() < ours[1]


def test_draws_in_pieces_are_those_of_one_call():
    values = np.random.default_rng(8).normal(size=401)
    draws = np.random.default_rng(4).integers(401, size=(9999, 401))
    wanted = np.quantile(values[draws].mean(axis=1), (0.025, 0.975), method="inverted_cdf")
    low, high = mean_interval(values, seed=4)
    assert (low, high) == pytest.approx(tuple(wanted), rel=1e-13)


def test_the_memory_of_an_interval_does_not_grow_with_the_draws():
    values = np.random.default_rng(8).normal(size=4001)
    tracemalloc.start()
    mean_interval(values, resamples=2003)  # 64 MB twice in one piece
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6


def test_one_seed_gives_one_interval():
    values = [0.3, 0.35, 0.8, 0.9, 1.7]
    assert mean_interval(values, resamples=59) == mean_interval(values, resamples=59, seed=0)
    assert mean_interval(values, resamples=59) != mean_interval(values, resamples=59, seed=1)


def test_the_default_level_is_95_per_cent():
    values = np.random.default_rng(3).normal(size=11).tolist()
    assert mean_interval(values) == mean_interval(values, level=0.95)
    assert mean_interval(values) != mean_interval(values, level=0.9)


def test_an_infinite_value_does_not_vanish():
    # Of 3 values one is infinite: 8 of 27 draws are without it, 19 are infinite.
    assert mean_interval([2.0, 2.0, INF]) == (2.0, INF)
    assert mean_interval([2.0, 2.0, INF], level=0.2) == (INF, INF)
    assert mean_interval([INF, INF, INF]) == (INF, INF)


@pytest.mark.parametrize("values", [[], [0.8], [INF]])
def test_fewer_than_two_values_have_no_interval(values):
    np.testing.assert_equal(mean_interval(values), (NAN, NAN))


def test_what_has_no_interval_is_refused():
    with pytest.raises(ValueError, match=r"`values` must be free of NaN, got \[0\.5, nan\]\. Leave out what"):
        mean_interval([0.5, NAN])
    with pytest.raises(ValueError, match=r"`values` must be of one infinity at most, got inf and -inf"):
        mean_interval([INF, 0.0, -INF])
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match=rf"`level` must be between 0 and 1, got {level}"):
            mean_interval([0.0, 1.0], level=level)
    with pytest.raises(ValueError, match="`resamples` must be at least 1, got 0"):
        mean_interval([0.0, 1.0], resamples=0)


# The signed-rank test


def slow_p_value(first, second):
    """Toss every coin: all signs of the differences, ranks by counting."""
    differences = [a - b for a, b in zip(first, second, strict=True) if a != b]
    sizes = [abs(d) for d in differences]
    ranks = [sum(s < t for s in sizes) + (sum(s == t for s in sizes) + 1) / 2 for t in sizes]
    found = sum(rank for rank, d in zip(ranks, differences, strict=True) if d > 0)
    sums = [
        sum(r for r, up in zip(ranks, ups, strict=True) if up) for ups in product((0, 1), repeat=len(ranks))
    ]
    low, high = (sum(s <= found for s in sums), sum(s >= found for s in sums))
    return min(1.0, 2 * min(low, high) / len(sums))


def test_the_p_value_of_five_pairs_worked_by_hand():
    # Ranks 1 to 5, those of the rises 2, 3, 4, 5: W = 14 of 15; 14 or more in 2 of 32 tosses.
    assert paired_wilcoxon([0.0, 2.0, 3.0, 4.0, 5.0], [1.0, 0.0, 0.0, 0.0, 0.0]) == 2 * 2 / 32
    # All on one side: 1 of 32.
    assert paired_wilcoxon([1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5) == 2 / 32


@pytest.mark.parametrize("seed", range(7))
def test_the_p_value_equals_all_tosses_written_out_with_ties_and_zeros(seed):
    draw = np.random.default_rng(seed)
    first, second = draw.integers(0, 7, (2, 11)).astype(float).tolist()
    assert paired_wilcoxon(first, second) == pytest.approx(slow_p_value(first, second), rel=1e-12)


@pytest.mark.parametrize("pairs", [7, 15, 41, 500])
def test_the_p_value_equals_the_exact_one_of_scipy(pairs):
    draw = np.random.default_rng(pairs)
    first, second = draw.normal(0.3, 1.0, pairs), draw.normal(0.0, 1.0, pairs)
    theirs = stats.wilcoxon(first, second, method="exact").pvalue
    assert paired_wilcoxon(first.tolist(), second.tolist()) == pytest.approx(float(theirs), rel=1e-9)


@pytest.mark.parametrize("pairs", [601, 1500])
@pytest.mark.parametrize("decimals", [1, 15])  # with ties and zeros, and without
@pytest.mark.parametrize("shift", [0.0, 0.05, 2.0])
def test_the_p_value_of_many_pairs_equals_the_approximate_one_of_scipy(pairs, decimals, shift):
    draw = np.random.default_rng(pairs)
    # Of whole numbers, so that ties of scipy are ties of ours, which allows for rounding.
    first, second = (np.rint(draw.normal(mean, 1.0, pairs) * 10**decimals) for mean in (shift, 0.0))
    theirs = float(stats.wilcoxon(first, second, correction=True, method="approx").pvalue)
    assert paired_wilcoxon(first, second) == pytest.approx(theirs, rel=1e-9)
    assert paired_wilcoxon(second, first) == paired_wilcoxon(first, second) > 0.0


def test_a_p_value_too_small_for_a_number_is_not_zero():
    assert paired_wilcoxon(np.arange(1.0, 2501.0), np.zeros(2500)) == math.ulp(0.0)


@pytest.mark.parametrize("scale", [1.0, 0.7, 0.01, 1e-300, 1e300])
@pytest.mark.parametrize("shift", [0.0, 0.1, 3.0])
def test_rounding_decides_neither_ties_nor_differences(scale, shift):
    whole = (
        [86, 81, 81, 97, 95, 73, 73, 77, 76, 74, 97, 83],
        [88, 81, 80, 99, 95, 74, 72, 79, 80, 76, 101, 81],
    )
    first, second = ([(value + shift) * scale for value in values] for values in whole)
    wanted = pytest.approx(slow_p_value(*whole), rel=1e-12)
    assert paired_wilcoxon(first, second) == paired_wilcoxon(*whole) == wanted
    assert wanted.expected > 0.08


def test_differences_beyond_rounding_are_ranked_apart():
    # Ranks 1 to 3, of which 2 and 3 rise: W = 5; 5 or more in 2 of 8 tosses.
    assert paired_wilcoxon([1.0, 1.0, 1.0], [1 + 1e-12, 1 - 2e-12, 1 - 3e-12]) == 2 * 2 / 8


def test_the_test_has_no_side():
    first, second = np.random.default_rng(2).normal(size=(2, 13)).tolist()
    assert paired_wilcoxon(first, second) == paired_wilcoxon(second, first) < 1.0


def test_pairs_belong_together():
    first, second = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0, 1.5, 2.1, 3.3, 4.2, 5.8]
    assert paired_wilcoxon(first, second) == 2 / 64
    assert paired_wilcoxon(first, second[::-1]) > 0.5


def test_an_infinite_distance_is_the_farthest_and_two_are_equal():
    finite, missed = [1.0, 2.0, 3.0, 4.0], [1.5, 2.25, 3.125, 900.0]
    assert paired_wilcoxon(finite, [*missed[:3], INF]) == paired_wilcoxon(finite, missed)
    assert paired_wilcoxon([*finite, INF], [*missed, INF]) == paired_wilcoxon(finite, missed)
    # Two that are missed by one network alone share the two highest ranks, whatever the other's distance.
    both = paired_wilcoxon([1.0, 2.0, 3.0], [0.5, INF, INF])
    assert both == slow_p_value([1.0, 0.0, 0.0], [0.5, 9.0, 9.0])


@pytest.mark.parametrize("values", [[0.5], [0.5, INF, 0.0]])
def test_without_a_difference_the_p_value_is_one(values):
    assert paired_wilcoxon(values, values) == 1.0


def test_one_pair_says_nothing():
    assert paired_wilcoxon([1.0], [0.0]) == 1.0


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match=r"`first` must be of the length of `second`, 3, got 2"):
        paired_wilcoxon([0.1, 0.2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"`first` must be at least one number, got none"):
        paired_wilcoxon([], [])
    with pytest.raises(ValueError, match=r"`second` must be free of NaN, got \[nan\]"):
        paired_wilcoxon([0.1], [NAN])


# Holm


def test_four_tests_adjusted_by_hand():
    # In order 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04 -> never below one before.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_no_adjusted_value_is_above_one():
    assert holm([0.6, 0.7, 0.4]) == [1.0, 1.0, 1.0]


def test_one_test_is_left_as_it_is_and_none_gives_none():
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_the_rejections_are_those_of_the_steps_written_out():
    draw = np.random.default_rng(11)
    for _ in range(53):
        values = (draw.uniform(size=7) ** 3).tolist()
        adjusted = holm(values)
        for limit in (0.01, 0.05, 0.3):
            rejected = set()
            for step, index in enumerate(sorted(range(7), key=values.__getitem__)):
                if values[index] > limit / (7 - step):
                    break
                rejected.add(index)
            assert {index for index in range(7) if adjusted[index] <= limit} == rejected


@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(ValueError, match=rf"`p_values` must be from 0 to 1, got \[{bad}\]"):
        holm([0.5, bad])


def test_a_p_value_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="`p_values` must be free of NaN"):
        holm([0.5, NAN])
