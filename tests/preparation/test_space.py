"""The plain functions: cropping, padding, resampling and intensities of a case in its own storage order."""

import numpy as np
import pytest
from tests.reference import preparation as preparations
from tests.reference import slices as reference

from guided_attention.case import Case
from guided_attention.preparation import Preparation, crop_or_pad, normalize, resample_in_plane, window

AFFINE = np.array([[-1.5, 0, 0, 10], [0, 1.0, 3.0, -20], [0, -0.75, 4.0, 30], [0, 0, 0, 1]], float)


def _case(shape=(2, 3, 11, 7), *, labelled=True, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal(shape).astype(np.float32)
    labels = rng.integers(0, 5, shape[1:]).astype(np.uint8) if labelled else None
    return Case("7", image, labels, AFFINE)


def test_normalisation_equals_the_written_out_one_each_channel_apart():
    case = _case()
    got = normalize(case, percentiles=(3.0, 90.0))
    for channel in range(2):
        want = reference.normalized(case.image[channel], 3.0, 90.0)
        np.testing.assert_allclose(got.image[channel], want, atol=1e-5)
    np.testing.assert_array_equal(got.labels, case.labels)


def test_normalisation_does_not_care_for_the_scanner_s_scale():
    case = _case()
    other = Case("8", case.image * 37 + 100, None, case.affine)
    np.testing.assert_allclose(normalize(other).image, normalize(case).image, atol=1e-4)


def test_a_constant_volume_names_the_case():
    blank = Case("7", np.full((1, 3, 5, 7), 2, np.float32), None, AFFINE)
    wanted = (
        "`image of case '7'` must be of more than one value, got 2.0 from percentile to percentile. Look at"
    )
    with pytest.raises(ValueError, match=wanted):
        normalize(blank)


def test_a_window_maps_its_ends_to_zero_and_one():
    image = np.array([-1000, -160, 40, 240, 3000], np.float32).reshape(1, 1, 1, 5)
    case = Case("7", image, None, AFFINE)
    np.testing.assert_allclose(window(case, -160, 240).image.ravel(), [0, 0, 0.5, 1, 1])
    with pytest.raises(ValueError, match="`low` must be below `high`, 3.0, got 5.0"):
        window(case, 5, 3)


@pytest.mark.parametrize("size", [(11, 7), (13, 9), (5, 3), (4, 12), (14, 2), (1, 1)])
def test_cropping_and_padding_leave_every_voxel_where_it_was(size):
    case = _case()
    changed = crop_or_pad(case, size)
    assert changed.image.shape == (2, 3, *size)
    _assert_same_world(case, changed)


def _assert_same_world(old, new):
    """Check that each new voxel shows what lay at its place before, or the fill where nothing did."""
    back = np.linalg.inv(old.affine) @ new.affine
    seen = 0
    for z, y, x in np.ndindex(new.image.shape[1:]):
        i, j, k = np.round(back @ [x, y, z, 1])[:3].astype(int)
        inside = 0 <= i < old.image.shape[3] and 0 <= j < old.image.shape[2]
        want = old.image[:, k, j, i] if inside else old.image.min(axis=(1, 2, 3))
        np.testing.assert_array_equal(new.image[:, z, y, x], want)
        assert new.labels[z, y, x] == (old.labels[k, j, i] if inside else 0)
        seen += inside
    assert seen == 3 * min(11, new.image.shape[2]) * min(7, new.image.shape[3])


def test_padding_and_cropping_back_changes_nothing():
    case = _case()
    back = crop_or_pad(crop_or_pad(case, (16, 20)), (11, 7))
    np.testing.assert_array_equal(back.image, case.image)
    np.testing.assert_array_equal(back.labels, case.labels)
    np.testing.assert_allclose(back.affine, case.affine, atol=1e-12)


@pytest.mark.parametrize("spacing", [(1.25, 1.5), (2.5, 3.0), (0.7, 1.1), (2.0, 0.9)])
def test_resampling_equals_interpolation_at_the_same_places_in_the_patient(spacing):
    case = _case(labelled=False)
    pixel = np.linalg.norm(case.affine[:3, 1]), np.linalg.norm(case.affine[:3, 0])
    changed = resample_in_plane(case, spacing)
    back = np.linalg.inv(case.affine) @ changed.affine
    height, width = changed.image.shape[2:]
    rows = [float((back @ [0, j, 0, 1])[1]) for j in range(height)]
    columns = [float((back @ [i, 0, 0, 1])[0]) for i in range(width)]
    lines = [
        preparations.Line(3, 1.0, [0.0, 1.0, 2.0]),
        preparations.Line(11, spacing[0] / pixel[0], rows),
        preparations.Line(7, spacing[1] / pixel[1], columns),
    ]
    for channel in range(2):
        want = preparations.resampled(case.image[channel].astype(float), lines)
        np.testing.assert_allclose(changed.image[channel], want, atol=1e-5)
    # The new grid is as far apart as asked, and has the old one's centre.
    np.testing.assert_allclose(np.diff(rows), spacing[0] / pixel[0])
    np.testing.assert_allclose(np.diff(columns), spacing[1] / pixel[1])
    np.testing.assert_allclose([rows[0] + rows[-1], columns[0] + columns[-1]], [10, 6], atol=1e-9)
    np.testing.assert_allclose(changed.spacing_mm, (case.spacing_mm[0], *spacing))


def test_resampling_to_the_same_spacing_changes_nothing():
    case = _case()
    same = resample_in_plane(case, (1.25, 1.5))
    np.testing.assert_allclose(same.image, case.image, atol=1e-6)
    np.testing.assert_array_equal(same.labels, case.labels)
    np.testing.assert_allclose(same.affine, case.affine, atol=1e-12)


@pytest.mark.parametrize("organ", [np.s_[:, 10:25], np.s_[:, :, 12:30]])
def test_resampled_labels_are_old_labels_and_sit_under_the_image(organ):
    labels = np.zeros((3, 40, 44), np.uint8)
    labels[organ] = 4
    case = Case("7", labels[None].astype(np.float32), labels, AFFINE)
    changed = resample_in_plane(case, 1.1)
    assert set(np.unique(changed.labels)) == {0, 4}
    np.testing.assert_array_equal(changed.labels, np.where(changed.image[0] > 2, 4, 0))
    assert changed.labels.dtype == np.uint8


def test_a_spacing_of_zero_is_told():
    with pytest.raises(ValueError, match="`spacing_mm` must be above 0, got 0"):
        resample_in_plane(_case(), 0.0)


@pytest.mark.parametrize("spacing", [(1.25, 1.5), (2.5, 3.0), (0.7, 1.1)])
def test_resampling_is_that_of_a_preparation(spacing):
    case = _case()
    case = Case("7", case.image, case.labels, np.diag([-1.5, -1.25, 5.0, 1.0]))
    preparation = Preparation(slice_axis="axial", spacing_mm=(None, *spacing), intensity=None)
    prepared, changed = preparation.apply(case), resample_in_plane(case, spacing)
    np.testing.assert_array_equal(changed.image, prepared.image)
    np.testing.assert_array_equal(changed.labels, prepared.labels)
    np.testing.assert_allclose(changed.affine, prepared.affine, atol=1e-12)
