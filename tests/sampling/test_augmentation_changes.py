"""Each random change against a slow reference implementation, whole tensors, in two and three dimensions."""

import json
import math

import numpy as np
import pytest
import torch
from tests.reference import augmentation as reference

from guided_attention.sampling import (
    Augmentation,
    BiasField,
    BlankRectangles,
    Brightness,
    BrightnessGradient,
    Contrast,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    IntensityCurve,
    LocalGamma,
    LowResolution,
    Mirror,
    Sharpening,
    Spatial,
)

SPACES = ((11, 7), (5, 11, 7))
spaces = pytest.mark.parametrize("space", SPACES, ids=["2d", "3d"])


def sample(space, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.standard_normal((channels, *space)) + 0.3)
    return image, torch.from_numpy(rng.integers(0, 5, space))


def always(kind, **values):
    """Return a change that happens to every sample and channel."""
    chances = {"probability": 1.0, "channel_probability": 1.0}
    return kind(**{name: p for name, p in chances.items() if name in kind.__dataclass_fields__} | values)


def drawn(change, space, channels=2, seed=3):
    """Return the numbers of one draw, by way of JSON."""
    record = Augmentation((change,)).draw((channels, *space), torch.tensor([seed]))
    return json.loads(json.dumps(record))[0][0]


def assert_channels(change, space, expected, numbers=None):
    """Compare with `expected(channel, numbers of the channel)`; labels stay as they are."""
    image, labels = sample(space)
    before = image.clone()
    numbers = drawn(change, space) if numbers is None else numbers
    got, got_labels = change.apply(image, labels, numbers)
    width = len(numbers) // len(image)
    want = [
        expected(channel.numpy(), numbers[i * width : (i + 1) * width]) for i, channel in enumerate(before)
    ]
    torch.testing.assert_close(got, torch.from_numpy(np.stack(want)), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(image, before, rtol=0, atol=0)
    assert got_labels is labels
    assert not torch.equal(got, before)


@spaces
def test_brightness(space):
    assert_channels(always(Brightness), space, lambda channel, numbers: channel * numbers[0])


@spaces
def test_contrast(space):
    assert_channels(always(Contrast), space, lambda channel, numbers: reference.contrasted(channel, *numbers))


@spaces
@pytest.mark.parametrize("inverted", [False, True])
def test_gamma(space, inverted):
    change = always(Gamma, inverted=inverted)
    assert_channels(change, space, lambda channel, n: reference.raised(channel, *n, inverted=inverted))


@spaces
@pytest.mark.parametrize("knots", [2, 5, 11])
def test_intensity_curve(space, knots):
    assert_channels(always(IntensityCurve, knots=knots), space, reference.curved)


def test_curves_by_hand():
    image, labels = torch.tensor([[[0.0, 1.0, 3.0, 4.0]]]), torch.zeros(1, 4, dtype=torch.long)
    same, _ = IntensityCurve(knots=3).apply(image, labels, [0.0, 0.5, 1.0])
    torch.testing.assert_close(same, image)
    # A roof over 0, 2 and 4: both ends as dark as each other, 1 and 3 as bright; the mean is 2, the deviation 1.58.
    roof, _ = IntensityCurve(knots=3).apply(image, labels, [0.2, 1.0, 0.2])
    torch.testing.assert_close(
        roof, torch.tensor([[[0.41886, 3.58114, 3.58114, 0.41886]]]), atol=1e-5, rtol=0
    )
    flat, _ = IntensityCurve(knots=2).apply(image, labels, [0.5, 0.5])
    torch.testing.assert_close(flat, torch.full_like(image, 2.0))


def test_curves_reach_from_as_it_was_to_upside_down():
    heights = np.array([drawn(always(IntensityCurve), (5, 7), 1, seed) for seed in range(300)])
    distance = np.abs(heights - np.linspace(0, 1, 5)).max(1)
    assert distance.min() < 0.02
    assert distance.max() > 0.8
    assert (heights[:, -1] < heights[:, 0]).mean() == pytest.approx(1.5 - 2 * math.log(2), abs=0.05)
    with pytest.raises(ValueError, match="`knots` must be at least 2, got 1"):
        IntensityCurve(knots=1)


@spaces
def test_noise(space):
    change = always(GaussianNoise)
    strength, seed = drawn(change, space)
    image, labels = sample(space)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(int(seed)), dtype=torch.float64)
    deviations = torch.tensor([channel.numpy().std() for channel in image]).reshape(-1, *[1] * len(space))
    got, got_labels = change.apply(image, labels, [strength, seed])
    torch.testing.assert_close(got, image + strength * deviations * noise)
    assert got_labels is labels


@spaces
def test_blur(space):
    change = always(GaussianBlur, sigma=(0.4, 1.7))
    assert_channels(change, space, reference.blurred)


@spaces
def test_sharpening(space):
    assert_channels(always(Sharpening), space, lambda channel, n: reference.sharpened(channel, *n))


@spaces
@pytest.mark.parametrize("factor", [0.13, 0.5, 0.81])
@pytest.mark.parametrize("in_plane", [False, True])
def test_low_resolution(space, factor, in_plane):
    axes = [1, 2] if in_plane and len(space) == 3 else range(len(space))
    change = always(LowResolution, in_plane=in_plane)
    numbers = [factor, factor]
    assert_channels(change, space, lambda channel, n: reference.coarse(channel, *n, axes), numbers)


def test_low_resolution_is_torchs_own_in_two_dimensions():
    image, labels = sample((11, 7), channels=1)
    small = torch.nn.functional.interpolate(image[None], size=(6, 4), mode="nearest-exact")
    want = torch.nn.functional.interpolate(small, size=(11, 7), mode="bicubic")[0]
    got, _ = LowResolution().apply(image, labels, [0.55])
    torch.testing.assert_close(got, want)


@spaces
def test_blank_rectangles(space):
    def expected(channel, numbers):
        return reference.blanked(channel, np.array(numbers).reshape(-1, len(space), 2).astype(int))

    assert_channels(always(BlankRectangles, side=(0.3, 0.6)), space, expected)


@spaces
def test_brightness_gradient(space):
    def expected(channel, numbers):
        strength, *place = numbers
        return reference.brightened(channel, strength, place[: len(space)], place[len(space) :])

    assert_channels(always(BrightnessGradient), space, expected)


@spaces
def test_local_gamma(space):
    def expected(channel, numbers):
        exponent, *place = numbers
        return reference.locally_raised(channel, exponent, place[: len(space)], place[len(space) :])

    assert_channels(always(LocalGamma), space, expected)


def control_points(count, points, dims, seed):
    generator = torch.Generator().manual_seed(int(seed))
    return torch.randn(count, *[points] * dims, generator=generator, dtype=torch.float64).numpy()


@spaces
def test_bias_field(space):
    change = always(BiasField, strength=(0.2, 0.4))
    strength, seed = drawn(change, space)
    field = reference.smooth(control_points(1, 4, len(space), seed)[0], space) * strength
    image, labels = sample(space)
    want = np.stack([reference.biased(channel.numpy(), field) for channel in image])
    torch.testing.assert_close(change.apply(image, labels, [strength, seed])[0], torch.from_numpy(want))


@spaces
@pytest.mark.parametrize("axes", [(), (0,), (1,), (0, 1)])
def test_mirror(space, axes):
    image, labels = sample(space)
    pairs = ((1, 2), (4, 3))
    change = Mirror(tuple(range(len(space))), pairs=pairs)
    numbers = [float(axis in axes) for axis in range(len(space))]
    got = change.apply(image, labels, numbers)
    want = reference.mirrored(image.numpy(), labels.numpy(), axes, pairs)
    torch.testing.assert_close(got, tuple(map(torch.from_numpy, want)), rtol=0, atol=0)
    torch.testing.assert_close(change.apply(*got, numbers), (image, labels), rtol=0, atol=0)


def test_three_mirrored_axes_are_one_mirror_and_a_half_turn():
    image, labels = sample((5, 11, 7))
    change = Mirror((0, 1, 2), pairs=((1, 2),))
    once = Mirror((0,), pairs=((1, 2),)).apply(image, labels, [1.0])
    half_turn = change.apply(*once, [0.0, 1.0, 1.0])
    torch.testing.assert_close(change.apply(image, labels, [1.0, 1.0, 1.0]), half_turn, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("spacing", "numbers"),
    [
        ((1.0, 1.0), [31.0, 1.0, 0.0, 0.0]),
        ((1.3, 0.7), [-77.0, 0.83, 0.0, 0.0]),
        ((1.3, 0.7), [0.0, 1.37, 1.1, 5.0]),
        ((3.1, 1.3, 0.7), [12.0, -21.0, 17.0, 1.2, 0.0, 0.0]),
        ((3.1, 1.3, 0.7), [12.0, -21.0, 17.0, 0.8, 1.3, 7.0]),
    ],
)
def test_spatial(spacing, numbers):
    space = (11, 7) if len(spacing) == 2 else (5, 11, 7)
    image, labels = sample(space)
    *angles, factor, strength, seed = numbers
    points = control_points(len(space), 5, len(space), seed)
    moved = np.stack([reference.smooth(each, space) for each in points]) * strength
    want = reference.resampled(
        image.numpy(), labels.numpy(), reference.rotation(angles) / factor, spacing, moved
    )
    got_image, got_labels = Spatial(spacing).apply(image, labels, numbers)
    torch.testing.assert_close(got_image, torch.from_numpy(want[0]), atol=1e-9, rtol=0)
    torch.testing.assert_close(got_labels, torch.from_numpy(want[1]), rtol=0, atol=0)


def test_in_a_plane_each_slice_of_a_volume_is_changed_as_a_slice():
    image, labels = sample((5, 11, 7))
    image[:, :, 3, 2] = -9.0  # the lowest of all is the lowest of each slice
    numbers = [31.0, 1.2, 0.9, 4.0]
    got = Spatial((5.0, 1.3, 0.7), in_plane=True).apply(image, labels, numbers)
    slices = [Spatial((1.3, 0.7)).apply(image[:, place], labels[place], numbers) for place in range(5)]
    want = torch.stack([each for each, _ in slices], 1), torch.stack([each for _, each in slices])
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_a_quarter_turn_is_exact_and_counterclockwise():
    image, labels = sample((7, 7))
    got = Spatial((1.0, 1.0)).apply(image, labels, [90.0, 1.0, 0.0, 0.0])
    torch.testing.assert_close(got, (torch.rot90(image, 1, (1, 2)), torch.rot90(labels, 1)))


@spaces
def test_labels_follow_the_image(space):
    """A ball beside the middle: where the image is bright, the label is, and a larger factor makes it larger."""
    space = tuple(3 * length + 10 for length in space)
    places = np.stack(np.meshgrid(*map(np.arange, space), indexing="ij"), -1)
    ball = ((places - np.array(space) / 2 - 3) ** 2).sum(-1) < 6**2
    image, labels = torch.from_numpy(ball.astype(np.float32))[None], torch.from_numpy(ball * 4)
    change = Spatial(
        (1.0,) * len(space), rotation_probability=1.0, scaling_probability=1.0, elastic_probability=1.0
    )
    for seed in range(3):
        got, got_labels = change.apply(image, labels, drawn(change, space, 1, seed))
        torch.testing.assert_close(got_labels, (got[0] > 0.5).long() * 4, rtol=0, atol=0)
    larger = change.apply(image, labels, [0.0] * (1 if len(space) == 2 else 3) + [1.3, 0.0, 0.0])[1]
    assert int((larger > 0).sum()) == pytest.approx(ball.sum() * 1.3 ** len(space), rel=0.06)


def test_what_comes_in_from_outside_is_the_lowest_value_and_background():
    image, labels = torch.full((2, 11, 11), -3.0), torch.full((11, 11), 4)
    image[0, 5, 5], image[1] = 2.0, 1.0
    got, got_labels = Spatial((1.0, 1.0)).apply(image, labels, [45.0, 1.0, 0.0, 0.0])
    assert got[:, 0, 0].tolist() == [-3.0, 1.0]
    assert float(got.min()) == -3.0
    assert int(got_labels[0, 0]) == 0


@pytest.mark.parametrize(
    "change",
    [Contrast(), Gamma(), Gamma(inverted=True), LowResolution(), Sharpening()],
    ids=lambda change: type(change).__name__,
)
def test_constant_channels_stay(change):
    image = torch.full((1, 5, 7), 2.5)
    torch.testing.assert_close(change.apply(image, torch.zeros(5, 7).long(), [0.7])[0], image)


def test_a_constant_channel_stays_whatever_the_curve():
    image = torch.full((1, 5, 7), 2.5)
    curve = IntensityCurve(knots=3)
    torch.testing.assert_close(curve.apply(image, torch.zeros(5, 7).long(), [0.7, 0.1, 0.4])[0], image)
