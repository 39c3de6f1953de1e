import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import (
    ConfusionMatrixMetric,
    DiceMetric,
    HausdorffDistanceMetric,
    compute_confusion_matrix_metric,
    compute_iou,
    get_confusion_matrix,
)
from tests.reference import overlap as written_out

from guided_attention.evaluation import evaluate_case, mean_dice, summarize
from guided_attention.labels import LabelSpec
from guided_attention.metrics import (
    dice,
    jaccard,
    overlap,
    precision,
    relative_volume_difference,
    sensitivity,
    volume_ml,
    volume_similarity,
)

SHARES = [dice, jaccard, sensitivity, precision, volume_similarity]
OF_TWO_MASKS = [*SHARES, relative_volume_difference]
SHAPES = [(11,), (5, 7), (3, 5, 7), (2, 3, 5, 7)]


def masks(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random(shape) < 0.4, rng.random(shape) < 0.6


@pytest.mark.parametrize("metric", OF_TWO_MASKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_all_equal_the_counts_written_out(metric, shape):
    prediction, reference = masks(shape)
    wanted = getattr(written_out, metric.__name__)(prediction, reference)
    assert metric(prediction, reference) == pytest.approx(wanted, rel=1e-15)


def pairs_of_masks():
    mask = arrays(bool, (2, 3, 5))
    return st.tuples(mask, mask)


@pytest.mark.parametrize("metric", OF_TWO_MASKS)
@given(pair=pairs_of_masks(), empty=st.sampled_from([(), (0,), (1,), (0, 1)]))
def test_all_equal_the_counts_written_out_for_any_masks_empty_ones_among_them(metric, pair, empty):
    for side in empty:
        pair[side][...] = False
    wanted = getattr(written_out, metric.__name__)(*pair)
    assert metric(*pair) == pytest.approx(wanted, rel=1e-15, nan_ok=True)


@given(pair=pairs_of_masks())
def test_what_the_metrics_are_to_one_another(pair):
    prediction, reference = pair
    d, found, right = dice(*pair), sensitivity(*pair), precision(*pair)
    assert jaccard(*pair) == pytest.approx(d / (2 - d), nan_ok=True)
    assert sensitivity(reference, prediction) == pytest.approx(right, nan_ok=True)
    if found > 0 and right > 0:
        assert d == pytest.approx(2 / (1 / found + 1 / right))
    if prediction.any() and reference.any():
        ratio = prediction.sum() / reference.sum()
        assert relative_volume_difference(*pair) == pytest.approx(100 * abs(ratio - 1), abs=1e-12)


@given(mask=arrays(bool, (2, 3, 5)), spacing_mm=st.tuples(*[st.floats(0.1, 10)] * 3))
def test_a_volume_equals_the_voxels_added_up_in_any_order_of_axes(mask, spacing_mm):
    volume = volume_ml(mask, spacing_mm)
    assert volume == pytest.approx(written_out.volume_ml(mask, spacing_mm), rel=1e-12)
    turned = volume_ml(mask.transpose(2, 0, 1), (spacing_mm[2], spacing_mm[0], spacing_mm[1]))
    assert turned == pytest.approx(volume, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_three_of_them_equal_monai(seed):
    prediction, reference = masks((7, 11, 13), seed)
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference)]
    assert jaccard(prediction, reference) == pytest.approx(compute_iou(*pair).item(), rel=1e-6)
    counts = get_confusion_matrix(*pair)
    for metric in (sensitivity, precision):
        theirs = compute_confusion_matrix_metric(metric.__name__, counts).item()
        assert metric(prediction, reference) == pytest.approx(theirs, rel=1e-6)


def test_a_case_by_hand():
    prediction = np.array([[True, True, True], [False, False, False]])
    reference = np.array([[False, True, True], [True, True, True]])
    assert dice(prediction, reference) == 2 * 2 / (3 + 5)
    assert volume_similarity(prediction, reference) == 1 - 2 / 8
    assert jaccard(prediction, reference) == 2 / 6
    assert sensitivity(prediction, reference) == 2 / 5
    assert precision(prediction, reference) == 2 / 3
    assert relative_volume_difference(prediction, reference) == 100 * 2 / 5
    assert relative_volume_difference(reference, prediction) == pytest.approx(100 * 2 / 3)


def test_a_volume_by_hand():
    mask = np.zeros((3, 5, 7), dtype=bool)
    assert volume_ml(mask, (9.0, 1.5, 2.0)) == 0.0
    mask[0, :2, :2] = True
    assert volume_ml(mask, (9.0, 1.5, 2.0)) == pytest.approx(4 * 27 / 1000, rel=1e-15)


@pytest.mark.parametrize("metric", [dice, jaccard, volume_similarity])
def test_the_masks_may_change_places(metric):
    prediction, reference = masks((3, 5, 7))
    assert metric(prediction, reference) == metric(reference, prediction)


@pytest.mark.parametrize("metric", SHARES)
def test_a_mask_matches_itself_whatever_the_order_of_axes(metric):
    mask, other = masks((3, 5, 7))
    assert metric(mask, mask) == 1.0
    assert metric(mask.transpose(2, 0, 1), other.transpose(2, 0, 1)) == metric(mask, other)


def test_masks_apart_share_nothing_but_their_size():
    left, right = np.eye(2, 7, dtype=bool)
    assert dice(left, right) == 0.0
    assert jaccard(left, right) == sensitivity(left, right) == precision(left, right) == 0.0
    assert volume_similarity(left, right) == 1.0
    assert relative_volume_difference(left, right) == 0.0


@pytest.mark.parametrize(
    ("metric", "missed", "false_alarm"),
    [*((share, 0.0, 0.0) for share in SHARES), (relative_volume_difference, 100.0, math.inf)],
)
def test_the_table_of_empties(metric, missed, false_alarm):
    empty, something = np.zeros((3, 5, 7), dtype=bool), np.ones((3, 5, 7), dtype=bool)
    assert math.isnan(metric(empty, empty))
    assert metric(empty, something) == missed
    assert metric(something, empty) == false_alarm
    table = [line.split() for line in overlap.__doc__.splitlines() if line.startswith(f"`{metric.__name__}`")]
    assert [row[-3:] for row in table] == [["NaN", f"{missed:g}", f"{false_alarm:g}"]]


def channels(*volumes):
    return torch.stack([torch.from_numpy(volume)[None].float() for volume in volumes])


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
@pytest.mark.filterwarnings("ignore:the (ground truth|prediction) of class:UserWarning")
def test_failures_that_vanish_from_the_means_of_monai_stay_in_ours():
    organ, nothing = np.zeros((2, 5, 7, 11), dtype=bool)
    organ[1:4, 2:5, 3:7] = True
    rest = {"labels": LabelSpec({1: "liver"}), "spacing_mm": (1.0, 1.0, 1.0)}

    def ours(*pairs):
        rows = [
            evaluate_case(*(mask.astype(np.uint8) for mask in pair), case_id=str(number), **rest)
            for number, pair in enumerate(pairs)
        ]
        return [row for case in rows for row in case]

    def theirs(metric, *pairs):
        metric(*(channels(*side) for side in zip(*pairs, strict=True)))
        value = metric.aggregate()
        return float(value[0] if isinstance(value, list) else value)

    perfect, false_alarm, missed, absent = (
        (organ, organ),
        (organ, nothing),
        (nothing, organ),
        (nothing, nothing),
    )
    # A false alarm counts for nothing there, and as 0 here.
    assert theirs(DiceMetric(), perfect, false_alarm) == 1.0
    assert mean_dice(ours(perfect, false_alarm)) == 0.5
    found = theirs(ConfusionMatrixMetric(metric_name="sensitivity"), perfect, false_alarm)
    assert found == 1.0
    assert np.mean([sensitivity(*perfect), sensitivity(*false_alarm)]) == 0.5
    right = theirs(ConfusionMatrixMetric(metric_name="precision"), perfect, missed)
    assert right == 1.0
    assert np.mean([precision(*perfect), precision(*missed)]) == 0.5
    # A missed organ has a perfect robust distance there, and an infinite one here.
    robust = HausdorffDistanceMetric(percentile=95, include_background=True)
    assert theirs(robust, perfect, missed) == 0.0
    liver, _ = summarize(ours(perfect, missed))
    assert (liver.assd_mm_mean, liver.failed) == (math.inf, 1)
    # Nothing to score is the worst Dice there, or a perfect distance; here it is not a number.
    assert theirs(DiceMetric(), absent) == 0.0
    assert theirs(robust.__class__(percentile=95, include_background=True), absent) == 0.0
    assert math.isnan(mean_dice(ours(absent)))
    assert math.isnan(summarize(ours(absent))[-1].assd_mm_mean)


@pytest.mark.parametrize("metric", OF_TWO_MASKS)
@pytest.mark.usefixtures("without_shape_checks")
def test_a_label_volume_is_refused_with_its_cure(metric):
    mask = np.ones((3, 5), dtype=bool)
    message = r"`reference` must be a boolean mask, got an array of uint8\. Pass `volume == label`\."
    with pytest.raises(ValueError, match=message):
        metric(mask, mask.astype(np.uint8))
    with pytest.raises(ValueError, match=r"`prediction` must be a boolean mask, got an array of float64\."):
        metric(mask.astype(float), mask)


@pytest.mark.parametrize("metric", OF_TWO_MASKS)
@pytest.mark.usefixtures("without_shape_checks")
def test_shapes_that_numpy_would_broadcast_are_refused(metric):
    message = r"`prediction` must be of the shape of `reference`, \(3, 5\), got \(1, 5\)\."
    with pytest.raises(ValueError, match=message):
        metric(np.ones((1, 5), dtype=bool), np.ones((3, 5), dtype=bool))


@pytest.mark.usefixtures("without_shape_checks")
def test_a_volume_wants_a_mask_of_three_axes_and_their_spacing():
    mask = np.ones((3, 5, 7), dtype=bool)
    with pytest.raises(ValueError, match=r"`mask` must be a boolean mask, got an array of int64\. Pass"):
        volume_ml(mask.astype(np.int64), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"`mask` must be of 3 axes, got 2 axes\. A slice has an area\."):
        volume_ml(mask[0], (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"`spacing_mm` must be 3 lengths, .* got \(1\.0, 1\.0\)\."):
        volume_ml(mask, (1.0, 1.0))
    with pytest.raises(
        ValueError, match=r"`spacing_mm` must be above 0 and finite, got \(1\.0, -1\.0, 1\.0\)\."
    ):
        volume_ml(mask, (1.0, -1.0, 1.0))
