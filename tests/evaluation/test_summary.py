import math
from dataclasses import astuple, replace

import numpy as np
import pytest
from tests.scores import absent, missed, score

from guided_attention.evaluation import (
    definitions,
    evaluate_case,
    mean_dice,
    summarize,
    summarize_metric,
    worst_cases,
)
from guided_attention.labels import LabelSpec
from guided_attention.metrics import DistanceDefinition, mean_interval


def test_a_summary_by_hand():
    scores = [
        score("a", "liver", 0.9, volume_similarity=0.8, assd_mm=1.0),
        score("a", "spleen", 0.5, volume_similarity=0.6, assd_mm=3.0),
        score("b", "liver", 0.7, volume_similarity=1.0, assd_mm=2.0),
        score("b", "spleen", 0.9, volume_similarity=0.8, assd_mm=6.0),
    ]
    liver, spleen, mean = summarize(scores)
    root = math.sqrt(2)
    assert astuple(liver) == pytest.approx(
        ("liver", 0.8, 0.2 / root, 0.9, 0.2 / root, 1.5, 1 / root, 1.5, 2, 0, 0)
    )
    assert spleen.dice_mean == pytest.approx(0.7)
    assert astuple(mean) == pytest.approx(
        ("mean", 0.75, 0.1 / root, 0.8, 0.2 / root, 3.0, 2 / root, 3.0, 2, 0, 0)
    )
    assert mean_dice(scores) == pytest.approx(0.75)


def test_a_missed_organ_is_never_hidden():
    scores = [
        score("a", "liver", 0.8, assd_mm=1.0),
        missed("b", "liver"),
        score("b", "spleen", 0.6, assd_mm=3.0),
    ]
    liver, spleen, mean = summarize(scores)
    assert (liver.dice_mean, liver.count, liver.failed) == (pytest.approx(0.4), 2, 1)
    assert (liver.assd_mm_mean, liver.assd_mm_mean_scored) == (math.inf, 1.0)
    assert math.isnan(liver.assd_mm_std)
    assert (spleen.failed, spleen.assd_mm_mean) == (0, 3.0)
    assert (mean.dice_mean, mean.failed) == (pytest.approx((0.8 + 0.3) / 2), 1)
    assert (mean.assd_mm_mean, mean.assd_mm_mean_scored) == (math.inf, 2.0)


def test_an_organ_absent_in_both_is_left_out_and_counted():
    scores = [
        score("a", "liver", 0.8),
        absent("a", "spleen"),
        score("b", "liver", 0.6),
        score("b", "spleen", 0.4),
    ]
    liver, spleen, mean = summarize(scores)
    assert (liver.skipped, liver.count) == (0, 2)
    assert (spleen.dice_mean, spleen.count, spleen.skipped, spleen.failed) == (0.4, 1, 1, 0)
    assert math.isnan(spleen.dice_std)
    assert (mean.dice_mean, mean.count, mean.skipped) == (pytest.approx((0.8 + 0.5) / 2), 2, 0)


def test_the_mean_weighs_cases_alike_and_not_rows():
    scores = [
        score("a", "liver", 1.0),
        score("b", "liver", 0.0),
        score("b", "spleen", 0.0),
        absent("a", "spleen"),
    ]
    assert mean_dice(scores) == 0.5


@pytest.mark.parametrize("scores", [[], [absent("a", "liver")]])
def test_a_mean_of_nothing_is_not_a_number(scores):
    mean = summarize(scores)[-1]
    assert math.isnan(mean_dice(scores))
    assert math.isnan(mean.volume_similarity_mean)
    assert math.isnan(mean.assd_mm_mean)
    assert math.isnan(mean.assd_mm_mean_scored)
    assert (mean.count, mean.skipped, mean.failed) == (0, len(scores), 0)


def test_distances_that_were_not_measured_do_not_look_measured():
    rows = [score("a", "liver", 0.8, assd_mm=math.nan), score("b", "liver", 0.6, assd_mm=2.0)]
    assert math.isnan(summarize(rows)[0].assd_mm_mean)


def test_organs_keep_their_order_and_cases_theirs_does_not_matter():
    scores = [
        score("a", "spleen", 0.9),
        score("b", "spleen", 0.5),
        score("a", "liver", 0.3),
        missed("b", "liver"),
    ]
    assert [summary.organ for summary in summarize(scores)] == ["spleen", "liver", "mean"]
    assert mean_dice(scores[::-1]) == pytest.approx(mean_dice(scores))


def test_one_case_scored_twice_is_refused():
    message = r"`scores` must be one row for each case and organ, got two for \('a', 'liver'\)\. Give cases"
    with pytest.raises(ValueError, match=message):
        summarize([score("a", "liver", 0.5), score("a", "liver", 0.6)])


def test_one_metric_by_hand():
    scores = [
        score("a", "liver", 0.9),
        score("b", "liver", 0.7),
        missed("c", "liver"),
        absent("a", "spleen"),
        score("b", "spleen", 0.5),
        absent("c", "spleen"),
    ]
    liver, spleen, mean = summarize_metric(scores, "dice")
    low, high = mean_interval([0.9, 0.7, 0.0])
    std = float(np.std([0.9, 0.7, 0.0], ddof=1))
    assert astuple(liver) == pytest.approx(("liver", "dice", 1.6 / 3, std, 0.7, low, high, 3, 0, 1))
    assert astuple(spleen)[:3] == ("spleen", "dice", 0.5)
    assert (spleen.median, spleen.count, spleen.skipped, spleen.failed) == (0.5, 1, 2, 0)
    assert math.isnan(spleen.low)
    assert mean.mean == pytest.approx((0.9 + 0.6 + 0.0) / 3)
    assert (mean.median, mean.count, mean.skipped, mean.failed) == (pytest.approx(0.6), 3, 0, 1)


def test_the_interval_is_that_of_the_mean_with_its_level_and_seed():
    values = np.random.default_rng(0).random(17).tolist()
    rows = [score(str(case), "liver", value) for case, value in enumerate(values)]
    liver, _ = summarize_metric(rows, level=0.8, seed=3)
    assert (liver.low, liver.high) == mean_interval(values, level=0.8, seed=3)
    assert (liver.low, liver.high) != mean_interval(values, level=0.8)


def test_a_missed_organ_makes_the_mean_infinite_and_leaves_the_median():
    rows = [
        score("a", "liver", 0.9, assd_mm=1.0),
        score("b", "liver", 0.8, assd_mm=2.0),
        missed("c", "liver"),
    ]
    liver, _ = summarize_metric(rows, "assd_mm")
    assert (liver.mean, liver.median, liver.high, liver.failed) == (math.inf, 2.0, math.inf, 1)
    assert math.isnan(liver.std)


@pytest.mark.parametrize("scores", [[], [absent("a", "liver"), absent("b", "liver")]])
def test_one_metric_of_nothing_is_not_a_number(scores):
    mean = summarize_metric(scores, "hausdorff95_mm")[-1]
    assert all(math.isnan(value) for value in (mean.mean, mean.std, mean.median, mean.low, mean.high))
    assert (mean.count, mean.skipped, mean.failed) == (0, len(scores), 0)


def test_a_mean_over_distances_measured_in_two_ways_is_refused():
    rows = [
        score("a", "liver", 0.9),
        replace(score("b", "liver", 0.8), definition=DistanceDefinition(surface="surfel")),
    ]
    message = r"`scores` must be of one DistanceDefinition, got .*surfel.*voxel"
    with pytest.raises(ValueError, match=message):
        summarize_metric(rows, "hausdorff95_mm")
    with pytest.raises(ValueError, match=message):
        summarize(rows)
    assert summarize_metric(rows, "dice")[0].count == 2
    assert definitions(rows) == (
        "surface: voxel; HD95 of both directions: max; organ in only one volume: inf and "
        "surface: surfel; HD95 of both directions: max; organ in only one volume: inf"
    )


def test_the_worst_rows_come_first_by_the_direction_of_the_metric():
    rows = [
        score("a", "liver", 0.9, assd_mm=4.0),
        absent("b", "liver"),
        score("c", "liver", 0.5, assd_mm=1.0),
        missed("d", "liver"),
    ]
    assert [row.case_id for row in worst_cases(rows, 7)] == ["d", "c", "a"]
    assert [row.case_id for row in worst_cases(rows, 2, metric="assd_mm")] == ["d", "a"]
    assert worst_cases(rows, 0) == []
    with pytest.raises(ValueError, match=r"`count` must be 0 or more, got -1"):
        worst_cases(rows, -1)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils:FutureWarning")
def test_a_missed_organ_stays_in_our_mean_where_monai_drops_it():
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    seen, nothing = np.zeros((2, 13, 17), dtype=np.uint8)
    seen[3:7, 3:11] = 1
    predictions, references = (seen, nothing), (np.roll(seen, 1, axis=1), seen)
    rows = []
    for case, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        rows += evaluate_case(
            prediction, reference, labels=LabelSpec({1: "liver"}), spacing_mm=(1.0, 1.0), case_id=str(case)
        )
    liver, _ = summarize_metric(rows, "hausdorff95_mm")
    assert (liver.mean, liver.median, liver.failed) == (math.inf, math.inf, 1)

    theirs = monai.HausdorffDistanceMetric(percentile=95)
    batches = (torch.from_numpy(np.stack(masks))[:, None].float() for masks in (predictions, references))
    with pytest.warns(UserWarning, match="all 0"):  # of the empty prediction
        theirs(*batches)
    assert theirs.aggregate().item() == rows[0].hausdorff95_mm == 1.0  # the missed case has left the mean


def test_the_mean_of_nothing_is_not_a_number_where_monai_says_0():
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    nothing = np.zeros((13, 17), dtype=np.uint8)
    rows = evaluate_case(nothing, nothing, labels=LabelSpec({1: "liver"}), spacing_mm=(1.0, 1.0), case_id="7")
    assert math.isnan(mean_dice(rows))
    theirs = monai.DiceMetric()
    theirs(torch.zeros(1, 1, 13, 17), torch.zeros(1, 1, 13, 17))
    assert theirs.aggregate().item() == 0.0
