import numpy as np
import pytest
import torch
from tests.reference import slices as reference

from guided_attention.sampling import Chain, FlipRotate, RandomIntensity, flip_rotate


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
