import numpy as np
import pytest
import torch
from tests.reference import slices as reference

from guided_attention.case import Case
from guided_attention.preparation import crop_or_pad, normalize, resample_in_plane, window
from guided_attention.sampling import Chain, FlipRotate, RandomIntensity, flip_rotate

AFFINE = np.array([[-1.5, 0.1, 0, 10], [0, 1.25, 0.2, -20], [0.1, 0, 5, 30], [0, 0, 0, 1]], float)


def _case(shape=(2, 3, 11, 7), *, labelled=True, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal(shape).astype(np.float32)
    labels = rng.integers(0, 5, shape[1:]).astype(np.uint8) if labelled else None
    return Case("7", image, labels, AFFINE)


def _slice(height=11, width=7, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.standard_normal((channels, height, width)))
    return image, torch.from_numpy(rng.integers(0, 5, (height, width)))


@pytest.mark.parametrize("degrees", [-88.1, -29.0, -7.3, 0.0, 12.5, 31.0, 171.0])
@pytest.mark.parametrize("size", [(11, 7), (8, 13)])
def test_a_rotation_equals_the_pixel_by_pixel_one(degrees, size):
    image, labels = _slice(*size)
    got_image, got_labels = flip_rotate(image, labels, flipped=False, mirrored=False, degrees=degrees)
    want_image, want_labels = reference.rotated(image.numpy(), labels.numpy(), degrees)
    torch.testing.assert_close(got_image, torch.from_numpy(want_image), atol=1e-9, rtol=0)
    torch.testing.assert_close(got_labels, torch.from_numpy(want_labels))


def test_a_quarter_turn_of_a_square_is_exact_and_counterclockwise():
    image, labels = _slice(7, 7)
    turned, turned_labels = flip_rotate(image, labels, flipped=False, mirrored=False, degrees=90.0)
    torch.testing.assert_close(turned, torch.rot90(image, 1, (1, 2)))
    torch.testing.assert_close(turned_labels, torch.rot90(labels, 1, (0, 1)))


@pytest.mark.parametrize(
    ("flipped", "mirrored", "axes"), [(True, False, [-2]), (False, True, [-1]), (True, True, [-2, -1])]
)
def test_flips_are_exact(flipped, mirrored, axes):
    image, labels = _slice()
    got = flip_rotate(image, labels, flipped=flipped, mirrored=mirrored, degrees=0.0)
    torch.testing.assert_close(got, (image.flip(axes), labels.flip(axes)), rtol=0, atol=0)


def test_image_and_labels_turn_together():
    labels = torch.zeros(41, 37, dtype=torch.long)
    labels[8:20, 10:30] = 3
    image, turned = flip_rotate(labels[None].float(), labels, flipped=True, mirrored=False, degrees=23.0)
    assert set(turned.unique().tolist()) == {0, 3}
    torch.testing.assert_close((image[0] > 1.5).long() * 3, turned)


def test_what_turns_in_from_outside_is_the_least_value_and_background():
    image, labels = torch.full((1, 11, 11), -3.0), torch.full((11, 11), 4)
    image[0, 5, 5] = 2.0
    turned, turned_labels = flip_rotate(image, labels, flipped=False, mirrored=False, degrees=45.0)
    assert float(turned[0, 0, 0]) == -3.0
    assert float(turned.min()) == -3.0
    assert int(turned_labels[0, 0]) == 0


def test_inputs_are_not_changed():
    image, labels = _slice()
    before = image.clone(), labels.clone()
    Chain((FlipRotate(1, 1, 1), RandomIntensity(1)))(image, labels)
    torch.testing.assert_close((image, labels), before, rtol=0, atol=0)


def test_the_same_seed_draws_the_same_changes():
    augment, (image, labels) = Chain((FlipRotate(), RandomIntensity())), _slice()
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append([augment(image, labels) for _ in range(5)])
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=0)


def test_probabilities_of_zero_change_nothing_and_of_one_always_flip():
    image, labels = _slice()
    torch.testing.assert_close(FlipRotate(0, 0, 0)(image, labels), (image, labels), rtol=0, atol=0)
    torch.testing.assert_close(FlipRotate(1, 0, 0)(image, labels), (image.flip(-2), labels.flip(-2)))
    torch.testing.assert_close(FlipRotate(0, 1, 0)(image, labels), (image.flip(-1), labels.flip(-1)))


def test_rotations_are_drawn_from_both_sides_up_to_the_given_angle():
    torch.manual_seed(0)
    ramp = torch.arange(41.0).expand(1, 41, 41) - 20
    labels = torch.zeros(41, 41, dtype=torch.long)
    augment, angles = FlipRotate(0, 0, 1, degrees=20.0), []
    for _ in range(100):
        image, _ = augment(ramp, labels)
        down, right = (image[0, 25, 20] - image[0, 15, 20]) / 10, (image[0, 20, 25] - image[0, 20, 15]) / 10
        angles.append(float(torch.rad2deg(torch.atan2(-down, right))))
    assert -20.01 < min(angles) < -15
    assert 15 < max(angles) < 20.01


@pytest.mark.parametrize("name", ["flip", "mirror", "rotate"])
def test_probabilities_beyond_one_are_told(name):
    with pytest.raises(ValueError, match=rf"`{name}` must be a probability from 0 to 1, got 1.5"):
        FlipRotate(**{name: 1.5})


def test_intensity_follows_its_formula():
    image, labels = _slice()
    torch.manual_seed(5)
    changed, same = RandomIntensity(1.0, gamma=0.4, scale=0.2, shift=0.3)(image, labels)
    torch.manual_seed(5)
    torch.rand(())
    draws = [2 * float(torch.rand(())) - 1 for _ in range(3)]
    g, a, b = 1.4 ** draws[0], 1 + 0.2 * draws[1], 0.3 * draws[2]
    lowest, extent = image.min(), image.max() - image.min()
    torch.testing.assert_close(changed, ((image - lowest) / extent) ** g * extent * a + lowest + b * extent)
    assert same is labels


def test_intensity_of_a_blank_slice_stays_finite():
    changed, _ = RandomIntensity(1.0)(torch.ones(1, 5, 7), torch.zeros(5, 7, dtype=torch.long))
    torch.testing.assert_close(changed, torch.ones(1, 5, 7))


def test_a_negative_range_is_told():
    with pytest.raises(ValueError, match="`gamma` must be 0 or above, got -1"):
        RandomIntensity(gamma=-1)


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
        "`image of case '7'` must be more than one grey value, got 2.0 from percentile to percentile. Look at"
    )
    with pytest.raises(ValueError, match=wanted):
        normalize(blank)


def test_a_window_maps_its_ends_to_zero_and_one():
    image = np.array([-1000, -160, 40, 240, 3000], np.float32).reshape(1, 1, 1, 5)
    case = Case("7", image, None, AFFINE)
    np.testing.assert_allclose(window(case, -160, 240).image.ravel(), [0, 0, 0.5, 1, 1])
    with pytest.raises(ValueError, match="`low` must be below `high`, 3, got 5"):
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
    changed = resample_in_plane(case, spacing)
    back = np.linalg.inv(case.affine) @ changed.affine
    height, width = changed.image.shape[2:]
    rows = [float((back @ [0, j, 0, 1])[1]) for j in range(height)]
    columns = [float((back @ [i, 0, 0, 1])[0]) for i in range(width)]
    for channel, depth in np.ndindex(2, 3):
        want = reference.resampled(case.image[channel, depth], rows, columns)
        np.testing.assert_allclose(changed.image[channel, depth], want, atol=1e-5)
    # The new grid is as far apart as asked, and has the old one's centre.
    np.testing.assert_allclose(np.diff(rows), spacing[0] / 1.25)
    np.testing.assert_allclose(np.diff(columns), spacing[1] / 1.5)
    np.testing.assert_allclose([rows[0] + rows[-1], columns[0] + columns[-1]], [10, 6], atol=1e-9)
    assert changed.spacing_mm == (5.0, *spacing)


def test_resampling_to_the_same_spacing_changes_nothing():
    case = _case()
    same = resample_in_plane(case, (1.25, 1.5))
    np.testing.assert_allclose(same.image, case.image, atol=1e-6)
    np.testing.assert_array_equal(same.labels, case.labels)
    np.testing.assert_allclose(same.affine, case.affine, atol=1e-12)


def test_resampled_labels_are_old_labels_and_sit_under_the_image():
    labels = np.zeros((3, 40, 44), np.uint8)
    labels[:, 10:25, 12:30] = 4
    case = Case("7", labels[None].astype(np.float32), labels, AFFINE)
    changed = resample_in_plane(case, 1.1)
    assert set(np.unique(changed.labels)) == {0, 4}
    np.testing.assert_array_equal(changed.labels, np.where(changed.image[0] > 2, 4, 0))
    assert changed.labels.dtype == np.uint8


def test_a_spacing_of_zero_is_told():
    with pytest.raises(ValueError, match="`spacing_mm` must be above 0, got 0"):
        resample_in_plane(_case(), 0.0)
