import math
from dataclasses import replace

import numpy as np
import pytest
from tests.scores import absent, missed, score

from guided_attention.evaluation import compare_models
from guided_attention.metrics import DistanceDefinition, holm, mean_interval, paired_wilcoxon

FIRST = [0.91, 0.85, 0.79, 0.93, 0.66, 0.81, 0.87]
SECOND = [0.89, 0.86, 0.70, 0.88, 0.55, 0.74, 0.85]


def rows(organ, values):
    return [score(str(case), organ, value) for case, value in enumerate(values)]


def test_a_row_is_what_the_single_functions_say_of_the_pairs():
    first = rows("liver", FIRST) + rows("spleen", SECOND)
    turned = SECOND[2:] + SECOND[:2]
    second = rows("liver", SECOND) + rows("spleen", turned)
    liver, spleen = compare_models(first, second[::-1], seed=3)  # pairs go by name, not by order
    differences = [one - other for one, other in zip(FIRST, SECOND, strict=True)]
    assert (liver.organ, liver.metric, liver.count, liver.left_out) == ("liver", "dice", 7, 0)
    assert liver.first_mean == pytest.approx(np.mean(FIRST))
    assert liver.second_median == np.median(SECOND)
    assert liver.difference == pytest.approx(np.mean(differences))
    assert (liver.low, liver.high) == mean_interval(differences, seed=3)
    ps = [paired_wilcoxon(FIRST, SECOND), paired_wilcoxon(SECOND, turned)]
    assert [liver.p, spleen.p] == ps
    assert [liver.p_holm, spleen.p_holm] == holm(ps)


def test_pairs_without_a_number_are_left_out_and_failures_counted():
    first = [score("a", "liver", 0.9), absent("b", "liver"), missed("c", "liver")]
    false_alarm = replace(missed("b", "liver"), status="false alarm")
    second = [score("a", "liver", 0.8), false_alarm, score("c", "liver", 0.5)]
    (liver,) = compare_models(first, second)
    assert (liver.count, liver.left_out, liver.first_failed, liver.second_failed) == (2, 1, 1, 1)
    assert liver.difference == pytest.approx((0.1 - 0.5) / 2)


def test_an_organ_without_a_pair_takes_no_part_in_the_adjustment():
    first = [absent("0", "spleen"), *rows("liver", FIRST)]
    second = [absent("0", "spleen"), *rows("liver", SECOND)]
    spleen, liver = compare_models(first, second)
    assert (spleen.count, spleen.left_out) == (0, 1)
    assert all(math.isnan(value) for value in (spleen.p, spleen.p_holm, spleen.difference, spleen.first_mean))
    assert liver.p_holm == liver.p


def test_two_infinite_distances_are_equal_and_one_is_farther_than_all():
    far, near = missed("a", "liver"), score("b", "liver", 0.9, assd_mm=2.0)
    (same,) = compare_models([far, near], [far, near], "assd_mm")
    assert (same.difference, same.p, same.first_mean) == (0.0, 1.0, math.inf)
    (worse,) = compare_models([far, near], [score("a", "liver", 0.5), near], "assd_mm")
    assert (worse.difference, worse.first_mean, worse.second_mean) == (math.inf, math.inf, 1.5)
    (both,) = compare_models(
        [far, near], [score("a", "liver", 0.5), replace(near, assd_mm=math.inf)], "assd_mm"
    )
    assert math.isnan(both.difference)
    assert math.isnan(both.low)


def test_models_over_different_cases_are_refused():
    message = (
        r"`first_scores` must be of the cases and organs of `second_scores`, got also \[\('6', 'liver'\)\]"
    )
    with pytest.raises(ValueError, match=message):
        compare_models(rows("liver", FIRST), rows("liver", SECOND[:-1]))
    with pytest.raises(
        ValueError, match=r"`second_scores` must be of the cases and organs of `first_scores`"
    ):
        compare_models(rows("liver", FIRST[:-1]), rows("liver", SECOND))
    with pytest.raises(ValueError, match=r"`second_scores` must be one row for each case and organ"):
        compare_models(rows("liver", FIRST), rows("liver", SECOND) * 2)


def test_distances_measured_in_two_ways_are_not_compared():
    first, second = rows("liver", FIRST), rows("liver", SECOND)
    second = [replace(row, definition=DistanceDefinition(combine="pooled")) for row in second]
    with pytest.raises(
        ValueError, match=r"`first_scores and second_scores` must be of one DistanceDefinition, got .*pooled"
    ):
        compare_models(first, second, "hausdorff95_mm")
    assert compare_models(first, second)[0].count == 7
