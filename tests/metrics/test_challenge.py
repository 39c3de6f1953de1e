import json
import math
from dataclasses import asdict, astuple

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter, generate_binary_structure
from scipy.spatial import KDTree
from tests.real_data import real_data
from tests.reference import challenge as written_out

from guided_attention.metrics import ChaosScore, chaos_points, chaos_score, surface_distances

SHAPE = (7, 11, 13)
SPACING_MM = (7.7, 1.5, 1.3)
LIMITS = {"dice": (0.8, 1.0), "ravd": (5.0, 0.0), "assd": (15.0, 0.0), "mssd": (60.0, 0.0)}


def blobs(seed, shape=SHAPE):
    """Two random, overlapping masks of several pieces, both cut by the edge of the image."""
    rng = np.random.default_rng(seed)
    common = gaussian_filter(rng.normal(size=shape), 1.5)
    first, second = (common + 0.6 * gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(2))
    return first > 0.05, second > 0.1


def touches_edge(mask):
    return any(mask.take(index, axis).any() for axis in range(mask.ndim) for index in (0, -1))


def box(*corners, shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(start, stop) for start, stop in corners)] = True
    return mask


def quantities(score):
    return score.dice, score.ravd_percent, score.assd_mm, score.hausdorff_mm


def all_points(score):
    return score.dice_points, score.ravd_points, score.assd_points, score.hausdorff_points


@pytest.mark.parametrize("seed", range(3))
def test_the_quantities_equal_every_point_against_every_other(seed):
    prediction, reference = blobs(seed)
    assert touches_edge(prediction)
    assert touches_edge(reference)
    wanted = written_out.quantities(prediction, reference, SPACING_MM)
    score = chaos_score(prediction, reference, SPACING_MM)
    assert quantities(score) == pytest.approx(wanted, rel=1e-12)
    points = [
        written_out.points(value, *limits) for value, limits in zip(wanted, LIMITS.values(), strict=True)
    ]
    assert all_points(score) == pytest.approx(points, rel=1e-12)
    assert score.points == pytest.approx(sum(points) / 4, rel=1e-12)
    assert (score.prediction_voxels, score.reference_voxels) == (prediction.sum(), reference.sum())


@pytest.mark.parametrize("deep", [(0, 4), (4, 7), (2, 5), (0, 7)])
@pytest.mark.parametrize("high", [(0, 5), (6, 11), (3, 8)])
def test_boxes_at_each_edge_and_away_from_it_equal_every_point_against_every_other(deep, high):
    prediction = box(deep, high, (2, 9))
    reference = box((1, 6), (2, 9), (3, 10))
    wanted = written_out.quantities(prediction, reference, SPACING_MM)
    assert quantities(chaos_score(prediction, reference, SPACING_MM)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_distances_equal_erosion_and_tree_on_the_whole_image(seed):
    masks = blobs(seed, (11, 29, 31))
    cross = generate_binary_structure(3, 1)
    points = [np.argwhere(mask & ~binary_erosion(mask, cross, border_value=1)) * SPACING_MM for mask in masks]
    both = np.concatenate([KDTree(points[1 - side]).query(points[side])[0] for side in (0, 1)])
    score = chaos_score(*masks, SPACING_MM)
    assert score.assd_mm == pytest.approx(both.mean(), rel=1e-12)
    assert score.hausdorff_mm == pytest.approx(both.max(), rel=1e-12)


def test_a_slab_cut_by_the_edge_of_the_image_by_hand():
    # Both reach the first slice, whose outer face is no surface: one layer of border each, 3 slices apart.
    prediction, reference = box((0, 2), (0, 11), (0, 13)), box((0, 5), (0, 11), (0, 13))
    score = chaos_score(prediction, reference, SPACING_MM)
    assert score.assd_mm == pytest.approx(3 * 7.7)
    assert score.hausdorff_mm == pytest.approx(3 * 7.7)
    assert surface_distances(prediction, reference, SPACING_MM).assd_mm() < score.assd_mm


def test_away_from_the_edge_the_distances_are_those_of_the_other_function():
    prediction, reference = (np.pad(mask, 1) for mask in blobs(3))
    score = chaos_score(prediction, reference, SPACING_MM)
    distances = surface_distances(prediction, reference, SPACING_MM)
    assert score.assd_mm == pytest.approx(distances.assd_mm(), rel=1e-12)
    assert score.hausdorff_mm == pytest.approx(distances.hausdorff_mm(), rel=1e-12)


def test_empty_space_around_the_masks_does_not_matter():
    prediction, reference = (np.pad(mask, 1) for mask in blobs(4))
    wide = [np.pad(mask, ((2, 3), (5, 0), (1, 7))) for mask in (prediction, reference)]
    assert astuple(chaos_score(*wide, SPACING_MM)) == pytest.approx(
        astuple(chaos_score(prediction, reference, SPACING_MM)), rel=1e-12
    )


def test_a_mask_against_itself_has_all_the_points():
    mask, _ = blobs(5)
    score = chaos_score(mask, mask, SPACING_MM)
    assert (*quantities(score), *all_points(score), score.points) == (1, 0, 0, 0, 100, 100, 100, 100, 100)


def test_points_are_those_of_the_published_table():
    """Its first row for livers in CT prints mean quantities and mean points; these two of the four are linear there."""
    score = ChaosScore(0.9779, 1.32, 0.891, 60.0, prediction_voxels=99, reference_voxels=100)
    assert [round(points, 2) for points in all_points(score)] == [97.79, 73.6, 94.06, 0.0]


def test_points_by_hand():
    score = ChaosScore(0.9, 1.0, 3.0, 15.0, prediction_voxels=99, reference_voxels=100)
    assert all_points(score) == pytest.approx((90.0, 80.0, 80.0, 75.0))
    assert score.points == pytest.approx(81.25)


@pytest.mark.parametrize("field", range(4))
def test_at_the_limit_and_beyond_it_there_are_no_points(field):
    perfect = [1.0, 0.0, 0.0, 0.0]
    limit, worse = [0.8, 5.0, 15.0, 60.0], [0.1, 400.0, math.inf, 61.0]
    for value in (limit[field], worse[field]):
        values = [*perfect[:field], value, *perfect[field + 1 :]]
        score = ChaosScore(*values, prediction_voxels=1, reference_voxels=1)
        assert all_points(score)[field] == 0.0
        assert score.points == 75.0


def test_the_table_of_empties_and_that_the_challenge_has_none():
    empty, something = np.zeros(SHAPE, dtype=bool), box((2, 5), (3, 8), (2, 9))
    absent = chaos_score(empty, empty, SPACING_MM)
    assert all(math.isnan(value) for value in (*quantities(absent), *all_points(absent), absent.points))
    missed = chaos_score(empty, something, SPACING_MM)
    assert quantities(missed) == (0.0, 100.0, math.inf, math.inf)
    assert (all_points(missed), missed.points) == ((0, 0, 0, 0), 0)
    false_alarm = chaos_score(something, empty, SPACING_MM)
    assert quantities(false_alarm) == (0.0, math.inf, math.inf, math.inf)
    assert (all_points(false_alarm), false_alarm.points) == ((0, 0, 0, 0), 0)
    for pair in ((empty, empty), (something, empty)):
        with pytest.raises(ZeroDivisionError):
            written_out.quantities(*pair, SPACING_MM)
    with pytest.raises(ValueError, match="empty"):
        written_out.quantities(empty, something, SPACING_MM)


def test_a_mask_that_fills_the_image_has_no_surface():
    full, part = np.ones(SHAPE, dtype=bool), box((2, 5), (3, 8), (2, 9))
    both = chaos_score(full, full, SPACING_MM)
    assert (both.dice, both.ravd_percent) == (1.0, 0.0)
    assert all(math.isnan(value) for value in (both.assd_mm, both.hausdorff_mm, both.points))
    one = chaos_score(full, part, SPACING_MM)
    assert (one.assd_mm, one.hausdorff_mm, one.assd_points) == (math.inf, math.inf, 0.0)


def test_the_points_of_a_submission_count_failures_and_leave_out_what_is_nowhere():
    perfect = ChaosScore(1.0, 0.0, 0.0, 0.0, prediction_voxels=1, reference_voxels=1)
    missed = ChaosScore(0.0, 100.0, math.inf, math.inf, prediction_voxels=0, reference_voxels=1)
    absent = ChaosScore(math.nan, math.nan, math.nan, math.nan, prediction_voxels=0, reference_voxels=0)
    assert chaos_points([perfect, missed, perfect, perfect]) == 75.0
    assert chaos_points([perfect, absent]) == 100.0
    assert math.isnan(chaos_points([absent]))
    assert math.isnan(chaos_points([]))


def test_the_masks_are_left_as_they_came():
    prediction, reference = blobs(10)
    copies = prediction.copy(), reference.copy()
    chaos_score(prediction, reference, SPACING_MM)
    np.testing.assert_array_equal(prediction, copies[0])
    np.testing.assert_array_equal(reference, copies[1])


@pytest.mark.usefixtures("without_shape_checks")
def test_masks_and_spacings_that_do_not_fit_are_refused():
    mask = np.ones(SHAPE, dtype=bool)
    with pytest.raises(ValueError, match=r"`prediction` must be of 3 axes, got 2 axes\."):
        chaos_score(mask[0], mask[0], (1.0, 1.0, 1.0))
    with pytest.raises(
        ValueError, match=r"`reference` must be a boolean mask, got .* Pass `volume == label`\."
    ):
        chaos_score(mask, mask.astype(int), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"`prediction` must be of the shape of `reference`"):
        chaos_score(mask[:1], mask, (1.0, 1.0, 1.0))
    with pytest.raises(
        ValueError, match=r"`spacing_mm` must be above 0 and finite, got \(0\.0, 1\.0, 1\.0\)\."
    ):
        chaos_score(mask, mask, (0.0, 1.0, 1.0))


def test_the_real_submission_has_the_figures_that_the_organisers_publish():
    case = real_data("chaos-ct-case")
    prediction, reference = (
        np.stack([np.asarray(Image.open(file)) for file in sorted((case / name).glob("*.png"))]) > 0
        for name in ("Segmentation", "Ground")
    )
    score = chaos_score(prediction, reference, (2.0, 0.7265625, 0.7265625))
    assert (score.prediction_voxels, score.reference_voxels) == (1_333_673, 1_342_595)
    assert quantities(score) == pytest.approx((0.9784341, 0.6645340, 0.7341310, 14.0), abs=5e-8)
    wanted = [
        written_out.points(value, *limits)
        for value, limits in zip(quantities(score), LIMITS.values(), strict=True)
    ]
    assert all_points(score) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.usefixtures("without_shape_checks")
def test_numbers_of_numpy_become_plain_ones():
    numbers = np.array([0.75, 1.0, 3.0, 30.0], np.float32)
    score = ChaosScore(*numbers, prediction_voxels=np.int64(990), reference_voxels=np.uint16(1000))
    assert score == ChaosScore(0.75, 1.0, 3.0, 30.0, prediction_voxels=990, reference_voxels=1000)
    assert [type(value) for value in astuple(score)] == [float] * 4 + [int] * 2
    assert json.loads(json.dumps(asdict(score))) == asdict(score)
    assert repr(score).startswith("ChaosScore(dice=0.75, ravd_percent=1.0, ")
