import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from tests.reference import surface as written_out

from guided_attention.metrics import DistanceDefinition, SurfaceDistances, surface_distances

CASES = [((13, 17), (0.7, 1.9)), ((7, 11, 13), (7.7, 1.5, 1.3))]


def blobs(shape, seed):
    """Two random, overlapping masks of several pieces, some of them at the border of the image."""
    rng = np.random.default_rng(seed)
    common = gaussian_filter(rng.normal(size=shape), 1.5)
    first, second = (common + 0.6 * gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(2))
    return first > 0.05, second > 0.1


@pytest.mark.parametrize(("shape", "spacing_mm"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_distances_equal_every_point_against_every_other(shape, spacing_mm, seed):
    prediction, reference = blobs(shape, seed)
    distances = surface_distances(prediction, reference, spacing_mm)
    there = written_out.directed(prediction, reference, spacing_mm)
    back = written_out.directed(reference, prediction, spacing_mm)
    assert_allclose(distances.prediction_to_reference_mm, there, rtol=1e-12, atol=1e-12)
    assert_allclose(distances.reference_to_prediction_mm, back, rtol=1e-12, atol=1e-12)
    assert distances.assd_mm() == pytest.approx(sum(there + back) / len(there + back), rel=1e-12)
    means = sum(there) / len(there) + sum(back) / len(back)
    assert distances.masd_mm() == pytest.approx(means / 2, rel=1e-12)
    for share in (0.0, 50.0, 95.0, 100.0):
        each = max(written_out.percentile(there, share), written_out.percentile(back, share))
        assert distances.hausdorff_mm(share) == pytest.approx(each, rel=1e-12, abs=1e-12)
        pooled = written_out.percentile(there + back, share)
        assert distances.hausdorff_mm(share, combine="pooled") == pytest.approx(pooled, rel=1e-12, abs=1e-12)


def box(shape, *corners):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(start, stop) for start, stop in corners)] = True
    return mask


def test_a_single_voxel_is_as_far_as_the_diagonal_says():
    prediction, reference = box((7, 11, 13), (1, 2), (2, 3), (3, 4)), box((7, 11, 13), (2, 3), (4, 5), (6, 7))
    distances = surface_distances(prediction, reference, (2.0, 3.0, 0.5))
    wanted = math.sqrt(2.0**2 + 6.0**2 + 1.5**2)
    assert distances.assd_mm() == pytest.approx(wanted, rel=1e-15)
    assert distances.hausdorff_mm() == pytest.approx(wanted, rel=1e-15)


def test_a_line_against_its_first_half_by_hand():
    line, half = box((3, 11), (1, 2), (1, 9)), box((3, 11), (1, 2), (1, 5))
    distances = surface_distances(line, half, (1.0, 2.0))
    assert_allclose(distances.prediction_to_reference_mm, [0, 0, 0, 0, 2, 4, 6, 8])
    assert_allclose(distances.reference_to_prediction_mm, [0, 0, 0, 0])
    assert distances.assd_mm() == pytest.approx(20 / 12)
    assert distances.masd_mm() == pytest.approx(20 / 8 / 2)
    assert distances.hausdorff_mm(50.0) == pytest.approx(1.0)
    assert distances.hausdorff_mm(50.0, combine="pooled") == 0.0


def test_a_full_image_has_its_faces_for_a_surface():
    full = np.ones((5, 7, 11), dtype=bool)
    distances = surface_distances(full, full, (1.0, 1.0, 1.0))
    assert distances.prediction_to_reference_mm.shape == (5 * 7 * 11 - 3 * 5 * 9,)


def test_the_inside_of_an_organ_is_no_surface():
    solid = box((9, 9, 9), (2, 7), (2, 7), (2, 7))
    hollow = solid & ~box((9, 9, 9), (4, 5), (4, 5), (4, 5))
    distances = surface_distances(solid, hollow, (1.0, 1.0, 1.0))
    assert distances.prediction_to_reference_mm.size == 5**3 - 3**3
    assert distances.reference_to_prediction_mm.size == 5**3 - 3**3 + 6
    assert distances.prediction_to_reference_mm.max() == 0.0


@pytest.mark.parametrize("axis", range(3))
def test_a_shift_by_voxels_is_a_shift_by_their_spacing(axis):
    spacing_mm = (7.7, 1.5, 1.3)
    plane = [(3, 9), (3, 9), (3, 9)]
    plane[axis] = (4, 5)
    mask = box((13, 13, 13), *plane)
    distances = surface_distances(mask, np.roll(mask, 3, axis), spacing_mm)
    assert_allclose(distances.prediction_to_reference_mm, 3 * spacing_mm[axis])
    assert distances.assd_mm() == pytest.approx(3 * spacing_mm[axis])


def test_permuted_axes_with_permuted_spacing_change_nothing():
    prediction, reference = blobs((7, 11, 13), 6)
    order, spacing_mm = (2, 0, 1), (7.7, 1.5, 1.3)
    turned = surface_distances(
        prediction.transpose(order), reference.transpose(order), tuple(spacing_mm[axis] for axis in order)
    )
    straight = surface_distances(prediction, reference, spacing_mm)
    assert_allclose(
        np.sort(turned.prediction_to_reference_mm), np.sort(straight.prediction_to_reference_mm), rtol=1e-12
    )


def test_scaled_spacing_scales_every_distance():
    prediction, reference = blobs((7, 11, 13), 7)
    one = surface_distances(prediction, reference, (7.7, 1.5, 1.3))
    ten = surface_distances(prediction, reference, (77.0, 15.0, 13.0))
    assert_allclose(ten.prediction_to_reference_mm, 10 * one.prediction_to_reference_mm, rtol=1e-12)


def test_masks_that_change_places_change_the_directions():
    prediction, reference = blobs((7, 11, 13), 8)
    one = surface_distances(prediction, reference, (7.7, 1.5, 1.3))
    other = surface_distances(reference, prediction, (7.7, 1.5, 1.3))
    assert_allclose(one.prediction_to_reference_mm, other.reference_to_prediction_mm)
    assert one.assd_mm() == pytest.approx(other.assd_mm(), rel=1e-12)


def test_empty_space_around_the_masks_does_not_matter():
    prediction, reference = blobs((7, 11, 13), 9)
    wide = [np.pad(mask, ((2, 3), (5, 0), (1, 7))) for mask in (prediction, reference)]
    close = surface_distances(prediction, reference, (7.7, 1.5, 1.3))
    far = surface_distances(*wide, (7.7, 1.5, 1.3))
    assert_allclose(far.prediction_to_reference_mm, close.prediction_to_reference_mm, rtol=1e-12)


def test_the_masks_are_left_as_they_came():
    prediction, reference = blobs((7, 11, 13), 10)
    copies = prediction.copy(), reference.copy()
    surface_distances(prediction, reference, (7.7, 1.5, 1.3))
    np.testing.assert_array_equal(prediction, copies[0])
    np.testing.assert_array_equal(reference, copies[1])


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_the_table_of_empties(shape):
    empty, something = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    summaries = [
        SurfaceDistances.assd_mm,
        SurfaceDistances.masd_mm,
        SurfaceDistances.hausdorff_mm,
        lambda distances: distances.hausdorff_mm(95.0),
        lambda distances: distances.hausdorff_mm(0.0, combine="pooled"),
    ]
    spacing_mm = (1.5,) * len(shape)
    for summary in summaries:
        assert math.isnan(summary(surface_distances(empty, empty, spacing_mm)))
        assert summary(surface_distances(empty, something, spacing_mm)) == math.inf
        assert summary(surface_distances(something, empty, spacing_mm)) == math.inf


@pytest.mark.parametrize("side", [1, 2])
def test_the_smallest_images_have_a_surface(side):
    mask = np.ones((side, side, side), dtype=bool)
    assert (
        surface_distances(mask, mask, (1.0, 1.0, 1.0)).prediction_to_reference_mm.tolist() == [0.0] * side**3
    )


@pytest.mark.parametrize(
    ("spacing_mm", "message"),
    [
        ((1.0, 1.0), r"`spacing_mm` must be 3 lengths, one for each axis .*, got \(1\.0, 1\.0\)\."),
        ((1.0, 0.0, 1.0), r"`spacing_mm` must be above 0 and finite, got \(1\.0, 0\.0, 1\.0\)\."),
        ((1.0, math.nan, 1.0), r"`spacing_mm` must be above 0 and finite"),
        ((1.0, math.inf, 1.0), r"`spacing_mm` must be above 0 and finite"),
    ],
)
def test_a_spacing_that_does_not_fit_is_refused(spacing_mm, message):
    mask = np.ones((3, 5, 7), dtype=bool)
    with pytest.raises(ValueError, match=message):
        surface_distances(mask, mask, spacing_mm)


@pytest.mark.usefixtures("without_shape_checks")
def test_masks_and_choices_that_do_not_fit_are_refused():
    mask, flat = np.ones((3, 5, 7), dtype=bool), np.ones(7, dtype=bool)
    with pytest.raises(ValueError, match=r"`prediction` must be of 2 or 3 axes, got 1 axis\."):
        surface_distances(flat, flat, (1.0,))
    with pytest.raises(ValueError, match=r"Pass `volume == label`\."):
        surface_distances(mask.astype(int), mask, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"`prediction` must be of the shape of `reference`"):
        surface_distances(mask[:1], mask, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"`surface` must be one of 'voxel', 'surfel', 'mesh', got 'edge'\."):
        surface_distances(mask, mask, (1.0, 1.0, 1.0), DistanceDefinition(surface="edge"))
    distances = surface_distances(mask, mask, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"`percentile` must be from 0 to 100, got 101\."):
        distances.hausdorff_mm(101)
    with pytest.raises(ValueError, match=r"`combine` must be one of 'max', 'pooled', got 'min'\."):
        distances.hausdorff_mm(95, combine="min")
