import math

import numpy as np
import pytest
from tests.reference import overlap as written_out

from guided_attention.metrics import dice, volume_similarity

SHAPES = [(11,), (5, 7), (3, 5, 7), (2, 3, 5, 7)]


def masks(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random(shape) < 0.4, rng.random(shape) < 0.6


@pytest.mark.parametrize("shape", SHAPES)
def test_both_equal_the_counts_written_out(shape):
    prediction, reference = masks(shape)
    assert dice(prediction, reference) == pytest.approx(written_out.dice(prediction, reference), rel=1e-15)
    wanted = written_out.volume_similarity(prediction, reference)
    assert volume_similarity(prediction, reference) == pytest.approx(wanted, rel=1e-15)


def test_a_case_by_hand():
    prediction = np.array([[True, True, True], [False, False, False]])
    reference = np.array([[False, True, True], [True, True, True]])
    assert dice(prediction, reference) == 2 * 2 / (3 + 5)
    assert volume_similarity(prediction, reference) == 1 - 2 / 8


@pytest.mark.parametrize("metric", [dice, volume_similarity])
def test_the_masks_may_change_places(metric):
    prediction, reference = masks((3, 5, 7))
    assert metric(prediction, reference) == metric(reference, prediction)


@pytest.mark.parametrize("metric", [dice, volume_similarity])
def test_a_mask_matches_itself_whatever_the_order_of_axes(metric):
    mask, other = masks((3, 5, 7))
    assert metric(mask, mask) == 1.0
    assert metric(mask.transpose(2, 0, 1), other.transpose(2, 0, 1)) == metric(mask, other)


def test_masks_apart_share_nothing_but_their_size():
    left, right = np.eye(2, 7, dtype=bool)
    assert dice(left, right) == 0.0
    assert volume_similarity(left, right) == 1.0


@pytest.mark.parametrize("metric", [dice, volume_similarity])
def test_the_table_of_empties(metric):
    empty, something = np.zeros((3, 5, 7), dtype=bool), np.ones((3, 5, 7), dtype=bool)
    assert math.isnan(metric(empty, empty))
    assert metric(empty, something) == 0.0
    assert metric(something, empty) == 0.0


@pytest.mark.parametrize("metric", [dice, volume_similarity])
@pytest.mark.usefixtures("without_shape_checks")
def test_a_label_volume_is_refused_with_its_cure(metric):
    mask = np.ones((3, 5), dtype=bool)
    message = r"`reference` must be a boolean mask, got an array of uint8\. Pass `volume == label`\."
    with pytest.raises(ValueError, match=message):
        metric(mask, mask.astype(np.uint8))
    with pytest.raises(ValueError, match=r"`prediction` must be a boolean mask, got an array of float64\."):
        metric(mask.astype(float), mask)


@pytest.mark.parametrize("metric", [dice, volume_similarity])
@pytest.mark.usefixtures("without_shape_checks")
def test_shapes_that_numpy_would_broadcast_are_refused(metric):
    message = r"`prediction` must be of the shape of `reference`, \(3, 5\), got \(1, 5\)\."
    with pytest.raises(ValueError, match=message):
        metric(np.ones((1, 5), dtype=bool), np.ones((3, 5), dtype=bool))
