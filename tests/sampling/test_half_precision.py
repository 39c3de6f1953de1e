"""Images of half precision change as those of single precision, rounded at the end."""

import pytest
import torch
from tests.sampling.test_augmentation import batch, everything, spaces

from guided_attention.sampling import (
    Augmentation,
    FlipRotate,
    Gamma,
    GaussianNoise,
    RandomIntensity,
    Spatial,
    flip_rotate,
)

halves = pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])


def wide_slice(dtype):
    """Return CT numbers of a slice of 512 x 512, and 20 x 20 pixels of an organ far from the middle."""
    rows, columns = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    image = (-500 + rows + columns - 37.0 * ((rows * columns) % 11)).clamp(-500, 500)
    labels = torch.zeros(512, 512, dtype=torch.long)
    labels[60:80, 400:420] = 3
    return image[None].to(dtype), labels


@spaces
@halves
def test_every_change_is_that_of_single_precision(space, half):
    images, labels, seeds = batch(space)
    images = images.mul(500).to(half)
    wanted, classes = everything(space)(images.float(), labels, seeds)
    changed, got = everything(space)(images, labels, seeds)
    torch.testing.assert_close(changed, wanted.to(half), rtol=0, atol=0)
    torch.testing.assert_close(got, classes, rtol=0, atol=0)


@halves
def test_a_turned_organ_keeps_its_place_and_size(half):
    image, labels = wide_slice(half)
    for turned in (
        lambda image: Spatial((1.0, 1.0)).apply(image, labels, [15.0, 1.0, 0.0, 0.0]),
        lambda image: flip_rotate(image, labels, flipped=False, mirrored=True, degrees=15.0),
    ):
        (changed, got), (wanted, classes) = turned(image), turned(image.float())
        torch.testing.assert_close(changed, wanted.to(half), rtol=0, atol=0)
        torch.testing.assert_close(got, classes, rtol=0, atol=0)
        assert 395 <= int((got == 3).sum()) == int((got != 0).sum()) <= 405


@halves
@pytest.mark.parametrize(
    ("change", "numbers"), [(GaussianNoise(), [0.3, 5.0]), (Gamma(), [1.4])], ids=["noise", "gamma"]
)
def test_ct_numbers_stay_finite(half, change, numbers):
    image, labels = wide_slice(half)
    images, classes = Augmentation((change,)).apply(image[None], labels[None], [[numbers]])
    assert images.dtype == half
    assert bool(images.isfinite().all())
    torch.testing.assert_close(classes[0], labels, rtol=0, atol=0)


@halves
@pytest.mark.parametrize("change", [RandomIntensity(1.0), FlipRotate(rotate=1)], ids=["intensity", "turn"])
def test_random_changes_of_slices_are_those_of_single_precision(half, change):
    image, labels = wide_slice(half)
    torch.manual_seed(3)
    wanted, classes = change(image.float(), labels)
    torch.manual_seed(3)
    changed, got = change(image, labels)
    torch.testing.assert_close(changed, wanted.to(half), rtol=0, atol=0)
    torch.testing.assert_close(got, classes, rtol=0, atol=0)


@spaces
def test_double_precision_stays(space):
    images, labels, seeds = batch(space)
    changed, _ = everything(space)(images.double(), labels, seeds)
    assert changed.dtype == torch.float64
    single, _ = everything(space)(images, labels, seeds)
    assert not torch.equal(changed, single.double())  # it has more digits
