import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.reference import calibration as written_out

from guided_attention.metrics import (
    brier_score,
    calibration,
    expected_calibration_error,
    uncertainty_correlation,
)

SHAPES = [(11,), (5, 7), (3, 5, 7)]


def guesses(shape, classes=4, seed=0, dtype=np.float64, sharpness=1.0):
    """Probabilities of some network, and the truth."""
    rng = np.random.default_rng(seed)
    powers = np.exp(sharpness * rng.normal(size=(classes, *shape)))
    return (powers / powers.sum(axis=0)).astype(dtype), rng.integers(classes, size=shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_both_equal_the_sums_written_out(shape, dtype):
    probabilities, reference = guesses(shape, dtype=dtype, sharpness=2.0)
    mask = np.random.default_rng(1).random(shape) < 0.6
    for where in (None, mask):
        for bins in (1, 7, 15):
            wanted = written_out.expected_calibration_error(probabilities, reference, bins, where)
            found = expected_calibration_error(probabilities, reference, bins=bins, mask=where)
            assert found == pytest.approx(wanted, rel=1e-12)
        wanted = written_out.brier_score(probabilities, reference, where)
        assert brier_score(probabilities, reference, mask=where) == pytest.approx(wanted, rel=1e-12)


def test_probabilities_of_every_half_precision_pass_for_some():
    logits = torch.randn(5, 11, 13, 7, generator=torch.Generator().manual_seed(0))
    reference = logits.argmax(0).numpy()
    for dtype in (torch.float16, torch.bfloat16):
        probabilities = torch.softmax(logits, 0).to(dtype)
        wanted = written_out.brier_score(probabilities.double().numpy(), reference)
        assert brier_score(probabilities, reference) == pytest.approx(wanted, rel=1e-12)
    for odd in (torch.softmax(logits, 0) * 1.003, torch.softmax(logits, 0).bfloat16() * 1.02):
        with pytest.raises(ValueError, match="of sum 1 over the classes"):
            brier_score(odd, reference)


@given(tenths=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 1)), min_size=1, max_size=13))
def test_confidences_at_the_limits_of_bins_equal_the_sums_written_out(tenths):
    shares = np.array([number for number, _ in tenths]) / 10
    probabilities = np.stack([1 - shares, shares])
    reference = np.array([truth for _, truth in tenths])
    found = expected_calibration_error(probabilities, reference, bins=10)
    wanted = written_out.expected_calibration_error(probabilities, reference, 10)
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-15)
    assert 0 <= found <= 1
    assert 0 <= brier_score(probabilities, reference) <= 2


def test_two_bins_by_hand():
    # Confidence 0.6 and 0.7 (one of two right), then 0.9 and 1.0 (both right), of 5 bins.
    probabilities = np.array([[0.6, 0.3, 0.9, 0.0], [0.4, 0.7, 0.1, 1.0]])
    reference = np.array([0, 0, 0, 1])
    wanted = 1 / 4 * abs(1 - 0.6) + 1 / 4 * abs(0 - 0.7) + 2 / 4 * abs(1 - 0.95)
    assert expected_calibration_error(probabilities, reference, bins=5) == pytest.approx(wanted)
    wanted = 1 / 4 * abs(1 - 0.6) + 3 / 4 * abs(2 / 3 - 2.6 / 3)
    assert expected_calibration_error(probabilities, reference, bins=3) == pytest.approx(wanted)
    squares = 2 * (0.4**2 + 0.7**2 + 0.1**2 + 0.0**2)
    assert brier_score(probabilities, reference) == pytest.approx(squares / 4)


def test_the_ends_of_both_scales():
    sure = np.stack([np.zeros((3, 5)), np.ones((3, 5)), np.zeros((3, 5))])
    right, wrong = np.ones((3, 5), dtype=np.uint8), np.zeros((3, 5), dtype=np.uint8)
    assert expected_calibration_error(sure, right) == brier_score(sure, right) == 0.0
    assert expected_calibration_error(sure, wrong) == 1.0
    assert brier_score(sure, wrong) == 2.0
    even = np.full((4, 3, 5), 0.25)
    assert brier_score(even, right) == 1 - 1 / 4
    assert expected_calibration_error(even, wrong) == 0.75  # of equal ones the first class is the answer


def test_a_confidence_that_rounding_carries_above_1_is_in_the_last_bin():
    rounded = np.array([[1.0005, 0.95], [0.0, 0.05]])
    found = expected_calibration_error(rounded, np.array([0, 0]))
    assert found == pytest.approx((2 - 1.9505) / 2)


def test_confidences_drawn_from_their_own_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    share = rng.random(200_000)
    truth = (rng.random(share.size) < share).astype(np.int64)
    assert expected_calibration_error(np.stack([1 - share, share]), truth) < 0.01
    assert (
        expected_calibration_error(np.stack([1 - share, share]) ** 2 / (share**2 + (1 - share) ** 2), truth)
        > 0.05
    )


def test_a_background_that_nobody_doubts_hides_the_rest_unless_a_mask_leaves_it_out():
    probabilities = np.zeros((2, 11, 13))
    probabilities[0], reference = 1.0, np.zeros((11, 13), dtype=np.uint8)
    organ = np.zeros((11, 13), dtype=bool)
    organ[2:4, 2:4] = True
    probabilities[:, organ], reference[organ] = [[0.1], [0.9]], 0
    assert expected_calibration_error(probabilities, reference, mask=organ) == pytest.approx(0.9)
    assert expected_calibration_error(probabilities, reference) == pytest.approx(0.9 * 4 / 143)
    assert brier_score(probabilities, reference, mask=organ) == pytest.approx(2 * 0.81)
    assert brier_score(probabilities, reference) == pytest.approx(2 * 0.81 * 4 / 143)


def test_classes_and_axes_may_change_places():
    probabilities, reference = guesses((3, 5, 7))
    turned = probabilities[::-1].transpose(0, 2, 3, 1), (3 - reference).transpose(1, 2, 0)
    for metric in (expected_calibration_error, brier_score):
        assert metric(*turned) == pytest.approx(metric(probabilities, reference), rel=1e-12)


def test_nothing_that_counts_is_not_a_number():
    probabilities, reference = guesses((3, 5))
    nowhere = np.zeros((3, 5), dtype=bool)
    for metric in (expected_calibration_error, brier_score):
        assert math.isnan(metric(probabilities, reference, mask=nowhere))
        assert math.isnan(metric(probabilities[:, :0], reference[:0]))


def test_parts_change_nothing(monkeypatch):
    probabilities, reference = guesses((7, 5, 3))
    mask = np.random.default_rng(2).random((7, 5, 3)) < 0.5
    mask[:2] = False
    whole = [
        metric(probabilities, reference, mask=mask) for metric in (expected_calibration_error, brier_score)
    ]
    monkeypatch.setattr(calibration, "_CHUNK_VOXELS", 30)
    parts = [
        metric(probabilities, reference, mask=mask) for metric in (expected_calibration_error, brier_score)
    ]
    assert parts == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("metric", [expected_calibration_error, brier_score])
def test_the_volumes_are_left_as_they_came(metric):
    probabilities, reference = guesses((3, 5, 7))
    copies = probabilities.copy(), reference.copy()
    metric(probabilities, reference)
    np.testing.assert_array_equal(probabilities, copies[0])
    np.testing.assert_array_equal(reference, copies[1])


@pytest.mark.parametrize("metric", [expected_calibration_error, brier_score])
def test_memory_beyond_the_volumes_is_that_of_one_part(metric):
    probabilities, reference = guesses((64, 128, 128), classes=3, dtype=np.float32)
    metric(probabilities[:, :1], reference[:1])
    tracemalloc.start()
    metric(probabilities, reference)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 3 * 6 * calibration._CHUNK_VOXELS < probabilities.size * 8 * 2


@pytest.mark.parametrize("metric", [expected_calibration_error, brier_score])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p * 3,
            r"`probabilities` must be of sum 1 over the classes, got a voxel with 3\.0.*softmax",
        ),
        (lambda p: p - 0.5, r"`probabilities` must be from 0 to 1, got -0\.\d+\. Pass the softmax"),
        (lambda p: p * np.nan, r"`probabilities` must be from 0 to 1, got nan\."),
        (lambda p: p[:1] * 0 + 1, r"`probabilities` must be of 2 classes or more .*, got 1\. .*np\.stack"),
        (lambda p: p[:, 0, 0], r"`reference` must be of the shape of `probabilities\[0\]`, \(7,\), got"),
        (lambda p: p[:, :, :, :1], r"`reference` must be of the shape of `probabilities\[0\]`"),
        (
            lambda p: (p > 0.5).astype(int),
            r"`probabilities` must be of floating point .* got an array of int64",
        ),
        (lambda p: p[0, 0, 0], r"`probabilities` must be .* got an array of float64 with 1 axis"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_probabilities_that_are_none_are_refused(metric, change, message):
    probabilities, reference = guesses((3, 5, 7))
    with pytest.raises(ValueError, match=message):
        metric(change(probabilities), reference)


@pytest.mark.parametrize("metric", [expected_calibration_error, brier_score])
@pytest.mark.usefixtures("without_shape_checks")
def test_references_and_masks_that_do_not_fit_are_refused(metric):
    probabilities, reference = guesses((3, 5, 7))
    stranger = reference.copy()
    stranger[0, 0, :2] = 4, -1
    message = r"`reference` must be of classes from 0 to 3, got also \[-1, 4\]\. Leave voxels"
    with pytest.raises(ValueError, match=message):
        metric(probabilities, stranger)
    assert metric(probabilities, stranger, mask=(stranger >= 0) & (stranger < 4)) >= 0
    with pytest.raises(
        ValueError, match=r"`reference` must be an array of integers, got an array of float64"
    ):
        metric(probabilities, reference.astype(float))
    with pytest.raises(ValueError, match=r"`mask` must be a boolean mask, got an array of int64"):
        metric(probabilities, reference, mask=reference)
    with pytest.raises(
        ValueError, match=r"`mask` must be of the shape of `reference`, \(3, 5, 7\), got \(1, 5, 7\)"
    ):
        metric(probabilities, reference, mask=reference[:1] > 0)


def test_no_bins_are_refused():
    with pytest.raises(ValueError, match=r"`bins` must be at least 1, got 0\."):
        expected_calibration_error(*guesses((3, 5)), bins=0)


@given(pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=11))
def test_the_correlation_equals_that_of_the_ranks_written_out(pairs):
    doubts, overlaps = ([pair[side] / 5 for pair in pairs] for side in (0, 1))
    found = uncertainty_correlation(doubts, overlaps)
    if len(set(doubts)) > 1 and len(set(overlaps)) > 1:
        assert found.spearman == pytest.approx(written_out.spearman(doubts, overlaps), abs=1e-12)
    else:
        assert math.isnan(found.spearman)
    assert (found.count, found.skipped) == (len(pairs), 0)


def test_a_correlation_by_hand():
    # Ranks 1 2 3 4 against 4 2 3 1: 1 − 6 · Σ d² / (n (n² − 1)) with d = -3, 0, 0, 3.
    found = uncertainty_correlation([0.1, 0.2, 0.3, 0.4], [0.9, 0.5, 0.6, 0.0])
    assert found.spearman == pytest.approx(1 - 6 * 18 / (4 * 15))
    assert uncertainty_correlation([1, 2, 3], [0.1, 0.5, 0.6]).spearman == pytest.approx(1)


def test_cases_without_a_number_are_left_out_and_counted():
    nan = math.nan
    found = uncertainty_correlation([0.1, nan, 0.3, 0.4, nan], [0.9, 0.5, nan, 0.2, nan])
    assert found.spearman == pytest.approx(-1)
    assert (found.count, found.skipped) == (2, 3)


@pytest.mark.parametrize("cases", [0, 1])
def test_too_few_cases_have_no_correlation(cases):
    found = uncertainty_correlation([0.5] * cases + [math.nan], [0.5] * (cases + 1))
    assert math.isnan(found.spearman)
    assert (found.count, found.skipped) == (cases, 1)


def test_values_that_do_not_pair_up_or_end_are_refused():
    with pytest.raises(ValueError, match=r"`uncertainties` must be of the length of `dice`, 1, got 2\."):
        uncertainty_correlation([0.1, 0.2], [0.5])
    with pytest.raises(ValueError, match=r"`dice` must be without infinite values, got \[0\.5, inf\]\."):
        uncertainty_correlation([0.1, 0.2], [0.5, math.inf])
