"""Sets of random changes: drawn by each sample's own seed, replayed, stored as plain values; the default sets."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec
from guided_attention.sampling import (
    Augmentation,
    BiasField,
    BlankRectangles,
    Brightness,
    Contrast,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    IntensityCurve,
    LowResolution,
    Mirror,
    Sharpening,
    Spatial,
    default_augmentation,
)

LIVER = LabelSpec({1: "liver", 2: "spleen"})
KIDNEYS = LabelSpec({1: "liver", 4: "right kidney", 5: "left kidney"}, pairs=((4, 5),), ignore_value=255)
SPACES = ((13, 11), (5, 13, 11))
spaces = pytest.mark.parametrize("space", SPACES, ids=["2d", "3d"])


def everything(space):
    """Return the strong set with a deformation, each change happening to half of the samples or more."""
    augment = default_augmentation(
        len(space), labels=LIVER, patch_size=space, spacing_mm=(3.0, 1.5, 1.0), strength="strong"
    )
    often = {"probability": 0.7, "rotation_probability": 0.5, "elastic_probability": 0.5}
    changes = [
        replace(each, **{name: p for name, p in often.items() if name in each.__dataclass_fields__})
        for each in augment.changes
    ]
    return Augmentation((*changes, IntensityCurve(0.7)))


def batch(space, count=5, channels=2):
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.standard_normal((count, channels, *space)).astype(np.float32))
    return images, torch.from_numpy(rng.integers(0, 3, (count, *space))), torch.arange(count) + 7


@spaces
def test_a_batch_equals_its_samples_one_by_one(space):
    augment, (images, labels, seeds) = everything(space), batch(space)
    together = augment(images, labels, seeds)
    alone = [augment(*(each[i : i + 1] for each in (images, labels, seeds))) for i in range(len(images))]
    apart = tuple(torch.cat(each) for each in zip(*alone, strict=True))
    torch.testing.assert_close(together, apart, rtol=0, atol=0)
    backwards = augment(images.flip(0), labels.flip(0), seeds.flip(0))
    torch.testing.assert_close(tuple(each.flip(0) for each in backwards), together, rtol=0, atol=0)


@spaces
def test_it_is_replayed_from_json(space):
    augment, (images, labels, seeds) = everything(space), batch(space)
    drawn = json.loads(json.dumps(augment.draw(images.shape[1:], seeds)))
    again = Augmentation.from_dict(json.loads(json.dumps(augment.to_dict())))
    assert again == augment
    torch.manual_seed(5)  # the global generator has no say
    got = again.apply(images, labels, drawn)
    torch.testing.assert_close(got, augment(images, labels, seeds), rtol=0, atol=0)


@pytest.mark.usefixtures("without_shape_checks")
def test_numbers_of_numpy_reach_json():
    noise = GaussianNoise(probability=np.float32(0.5), variance=(np.int64(0), np.float64(0.25)))
    values = json.loads(json.dumps(Augmentation((noise,)).to_dict()))
    assert values == {"changes": [{"kind": "GaussianNoise", "probability": 0.5, "variance": [0, 0.25]}]}
    assert Augmentation.from_dict(values) == Augmentation((noise,))


@spaces
def test_inputs_stay_and_results_are_copies(space):
    augment, (images, labels, seeds) = everything(space), batch(space)
    before = images.clone(), labels.clone()
    changed = augment(images, labels, seeds)
    assert not torch.equal(changed[0], images)
    plain = Augmentation(())(images, labels, seeds)
    torch.testing.assert_close(plain, before, rtol=0, atol=0)
    for each in (*changed, *plain):
        each.zero_()
    torch.testing.assert_close((images, labels), before, rtol=0, atol=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_images_that_are_not_finite_are_refused(bad, kind):
    """A NaN would be spread over its neighbours by each change that resamples or blurs."""
    images, labels, seeds = batch((5, 13, 11))
    images[1, 0, 2, 3, 4] = images[3, 1, 0, 0, 0] = bad
    message = (
        r"`images` must be finite everywhere, got NaN or infinite values in samples of index 1, 3\. "
        r"Replace them \(torch\.nan_to_num\), or leave these samples out\.$"
    )
    augment = default_augmentation(3, labels=LIVER, patch_size=(5, 13, 11), spacing_mm=(3.0, 1.5, 1.0))
    for chosen in (augment, Augmentation(())):
        with pytest.raises(ValueError, match=message):
            chosen(images.to(kind), labels, seeds)
    good = [0, 2, 4]
    assert bool(augment(images[good].to(kind), labels[good], seeds[good])[0].isfinite().all())


def test_only_samples_that_are_changed_are_computed():
    class Counted:
        calls = 0

        def draw(self, _shape, random):
            return [1.0] if random.random() < 0.5 else None

        def apply(self, image, labels, _numbers):
            self.calls += 1
            return image + 1, labels

    images, labels, seeds = batch((13, 11), count=23)
    change = Counted()
    changed, _ = Augmentation((change,))(images, labels, seeds)
    is_changed = (changed != images).flatten(1).any(1)
    assert change.calls == int(is_changed.sum())
    assert 3 < change.calls < 20


def test_probabilities_are_those_that_are_given():
    changes = (
        Brightness(probability=0.3),
        GaussianBlur(probability=0.8, channel_probability=0.5),
        Spatial((1.0, 1.0), rotation_probability=0.2, scaling_probability=0.1, elastic_probability=0.05),
        Mirror((0, 1), probability=0.4),
        Contrast(probability=0.0),
    )
    drawn = Augmentation(changes).draw((1, 13, 11), torch.arange(4000))
    shares = [np.mean([sample[place] is not None for sample in drawn]) for place in range(len(changes))]
    assert shares == pytest.approx([0.3, 0.4, 1 - 0.8 * 0.9 * 0.95, 1 - 0.6**2, 0.0], abs=0.03)


def test_numbers_stay_in_their_ranges_and_fill_them():
    kinds = (
        (Contrast(1.0, (0.5, 2.0)), (0.5, 2.0), 0.5),
        (Gamma(1.0, (0.7, 1.5)), (0.7, 1.5), 0.5),
        (LowResolution(1.0, 1.0, (0.25, 1.0)), (0.25, 1.0), 1.0),
        (Sharpening(1.0, 1.0), (0.1, 1.0), 1.0),
        (GaussianNoise(1.0, (0.0, 0.09)), (0.0, 0.3), 1.0),
    )
    for change, (low, high), below_one in kinds:
        numbers = np.array(
            [each[0][0] for each in Augmentation((change,)).draw((1, 7, 5), torch.arange(1000))]
        )
        assert low <= numbers.min() < low + 0.1 * (high - low)
        assert high >= numbers.max() > high - 0.1 * (high - low)
        assert np.mean(numbers < 1) == pytest.approx(below_one, abs=0.05)


@spaces
def test_channels_change_apart_or_alike(space):
    for alike in (False, True):
        for kind in (
            Brightness,
            Gamma,
            IntensityCurve,
            GaussianBlur,
            LowResolution,
            Sharpening,
            BlankRectangles,
        ):
            drawn = Augmentation((kind(probability=1.0, alike=alike),)).draw((3, *space), torch.arange(20))
            shares = [np.array(sample[0]).reshape(3, -1) for sample in drawn if sample[0] is not None]
            assert all((each[0] == each).all() for each in shares) is alike


def test_the_default_set_is_the_table():
    augment = default_augmentation(2, labels=LIVER, patch_size=(256, 256), spacing_mm=(5.0, 1.5, 1.5))
    assert augment.changes == (
        Spatial((1.5, 1.5), 180.0, 0.2, (0.7, 1.4), 0.2, elastic_probability=0.0),
        GaussianNoise(0.1, (0.0, 0.1)),
        GaussianBlur(0.2, 0.5, (0.5, 1.0)),
        Brightness(0.15, (0.75, 1.25)),
        Contrast(0.15, (0.75, 1.25)),
        LowResolution(0.25, 0.5, (0.5, 1.0)),
        Gamma(0.1, (0.7, 1.5), inverted=True),
        Gamma(0.3, (0.7, 1.5)),
        Mirror((0, 1), 0.5),
    )


@pytest.mark.parametrize(
    ("dims", "patch", "spacing", "degrees", "in_plane"),
    [
        (2, (256, 256), (9.0, 1.0, 1.0), 180.0, False),
        (2, (256, 160), (9.0, 1.0, 1.0), 15.0, False),
        (2, (256, 160), (9.0, 1.0, 1.6), 180.0, False),
        (3, (64, 128, 128), (2.0, 1.0, 1.0), 30.0, False),
        (3, (16, 128, 128), (4.0, 1.0, 1.0), 180.0, True),
        (3, (16, 128, 80), (4.0, 1.0, 1.0), 15.0, True),
    ],
)
def test_angles_follow_the_shape_of_the_patch(dims, patch, spacing, degrees, in_plane):
    changes = default_augmentation(dims, labels=LIVER, patch_size=patch, spacing_mm=spacing).changes
    assert (changes[0].degrees, changes[0].in_plane, changes[0].spacing_mm) == (
        degrees,
        in_plane,
        spacing[-dims:],
    )
    assert changes[5].in_plane is in_plane


def defaults(**options):
    return default_augmentation(
        **{"spatial_dims": 2, "labels": LIVER, "patch_size": (16, 16), "spacing_mm": (1.0, 1.0, 1.0)}
        | options
    )


def mirrors(dims=2, labels=KIDNEYS, **options):
    augment = default_augmentation(
        dims, labels=labels, patch_size=(16,) * dims, spacing_mm=(1.0, 1.0, 1.0), **options
    )
    return [each for each in augment.changes if isinstance(each, Mirror)]


def test_mirrors_exchange_pairs_except_in_single_sagittal_slices():
    assert mirrors() == [Mirror((0, 1), pairs=((2, 3),))]
    assert mirrors(3) == [Mirror((0, 1, 2), pairs=((2, 3),))]
    assert mirrors(3, slice_axis="sagittal") == [Mirror((0, 1, 2), pairs=((2, 3),))]
    assert mirrors(slice_axis="sagittal") == [Mirror((0, 1), pairs=())]
    assert mirrors(slice_axis="sagittal", neighbours=1) == [Mirror((0, 1), pairs=((2, 3),))]
    assert mirrors(mirror_axes=(1,)) == [Mirror((1,), pairs=((2, 3),))]
    assert mirrors(mirror_axes=()) == []


def test_without_the_pair_it_is_refused():
    one = LabelSpec({4: "right kidney", 5: "left kidney"})
    with pytest.raises(DataError, match=r"got right kidney and left kidney\. Pass LabelSpec"):
        mirrors(labels=one)
    assert mirrors(labels=one, mirror_axes=()) == []
    assert mirrors(labels=one, slice_axis="sagittal") == [Mirror((0, 1))]


def test_ignored_voxels_are_mirrored_and_rotated():
    labels = torch.full((1, 9, 7), 255)
    labels[:, :, 3] = 2
    augment = Augmentation((Mirror((1,), 1.0, ((2, 3),)), Spatial((1.0, 1.0), 0.0, scaling_probability=1.0)))
    _, got = augment(torch.zeros(1, 1, 9, 7), labels, torch.tensor([0]))
    assert set(got.unique().tolist()) <= {0, 3, 255}
    assert int(got[0, 4, 3]) == 3
    assert int(got[0, 4, 1]) == 255


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Brightness(probability=1.5), r"`probability` must be a probability from 0 to 1, got 1.5"),
        (lambda: Gamma(exponent=(1.5, 0.7)), r"`exponent` must be two ascending numbers from 0.* on"),
        (lambda: GaussianNoise(variance=(-1.0, 0.1)), r"`variance` must be two ascending numbers"),
        (lambda: Spatial((1.0, 0.0)), r"`spacing_mm` must be above 0"),
        (lambda: Spatial((1.0,)), r"`spacing_mm` must be two or three numbers"),
        (lambda: Mirror((0, 0)), r"`axes` must be different axes"),
        (lambda: mirrors(mirror_axes=(2,)), r"`mirror_axes` must be different axes from 0 to 1, got \(2,\)"),
        (lambda: mirrors(strength="weak"), r"`strength` must be one of 'standard', 'strong', got 'weak'"),
        (lambda: Augmentation.from_dict({"changes": [{"kind": "Gama"}]}), r"`kind` must be one of .*'Gama'"),
        (
            lambda: Augmentation.from_dict({"changes": [{"kind": "Gamma", "power": 2}]}),
            r"`Gamma` must be made of the keys .* got 'power'",
        ),
        (
            lambda: Augmentation.from_dict({"changes": [{"kind": "Spatial", "degrees": 5}]}),
            r"`Spatial` must be a mapping with spacing_mm, got \['degrees'\]",
        ),
        (
            lambda: Augmentation.from_dict({"changes": [{}]}),
            r"`changes` must be of mappings with the key 'kind'",
        ),
        (
            lambda: Augmentation.from_dict({"changes": None}),
            "`changes` must be a list of mappings, got a NoneType",
        ),
        (
            lambda: Augmentation.from_dict({"changes": ["Gamma"]}),
            "`changes` must be a list of mappings, got a str",
        ),
        (lambda: mirrors(mirror_axes=1), "`mirror_axes` must be a tuple of axes, or None for all, got a int"),
        (lambda: mirrors(slice_axis="sagital"), "`slice_axis` must be one of 'axial', .* got 'sagital'"),
        (lambda: mirrors(neighbours=None), "`neighbours` must be an integer, got None"),
        (lambda: defaults(spacing_mm=None), "`spacing_mm` must be a tuple of numbers, got a NoneType"),
        (lambda: defaults(spacing_mm=(1.0, 0.0, 1.0)), "`spacing_mm` must be above 0, got 0.0"),
        (lambda: defaults(patch_size=16), "`patch_size` must be a tuple of numbers, got a int"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_values_are_told(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_an_unknown_kind_is_an_error_of_the_data():
    with pytest.raises(DataError, match=r"`kind` must be one of .*, got 'Gama'"):
        Augmentation.from_dict({"changes": [{"kind": "Gama"}]})


def test_wrong_batches_are_told():
    augment, (images, labels, seeds) = Augmentation((Mirror(),)), batch((13, 11))
    with pytest.raises(ValueError, match=r"`labels` must be of shape \(5, 13, 11\), got \(4, 13, 11\)"):
        augment(images, labels[:4], seeds)
    with pytest.raises(ValueError, match=r"`drawn` must be for 5 samples, got 4"):
        augment(images, labels, seeds[:4])
    with pytest.raises(ValueError, match=r"`seeds` must be 0 or above"):
        augment(images, labels, seeds - 8)
    with pytest.raises(ValueError, match=r"`drawn` must be numbers or None for each of 1 change, got 2"):
        augment.apply(images, labels, [[None, None]] * 5)
    with pytest.raises(ValueError, match=r"`spacing_mm` must be for 2 axes"):
        Augmentation((Spatial((1.0, 1.0, 1.0)),))(images, labels, seeds)
    with pytest.raises(ValueError, match=r"`axes` must be below 2, the number of axes of space, got \(2,\)"):
        Augmentation((Mirror((2,)),))(images, labels, seeds)
    with pytest.raises(
        ValueError, match=r"`labels` must be 0 or above, got -100\. Mark voxels to ignore with"
    ):
        Augmentation((Spatial((1.0, 1.0), rotation_probability=1.0),))(images, labels - 100, seeds)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "images",
            torch.Tensor.int,
            "a tensor of floating point numbers, got a tensor of torch.int32",
        ),
        ("images", np.asarray, "a tensor of floating point numbers, got a ndarray"),
        ("labels", torch.Tensor.float, r"a tensor of whole numbers, got a tensor of torch.float32\. Convert"),
        ("labels", np.asarray, "a tensor of whole numbers, got a ndarray"),
        ("seeds", torch.Tensor.float, "a tensor of whole numbers, got a tensor of torch.float32"),
        ("seeds", torch.Tensor.tolist, "a tensor of whole numbers, got a list"),
        ("seeds", lambda seeds: int(seeds[0]), "a tensor of whole numbers, got a int"),
    ],
)
def test_batches_of_wrong_types_are_told(name, change, message):
    values = dict(zip(("images", "labels", "seeds"), batch((13, 11)), strict=True))
    with pytest.raises(TypeError, match=f"`{name}` must be {message}"):
        everything((13, 11))(**values | {name: change(values[name])})


@pytest.mark.parametrize("place", range(14))
def test_numbers_that_were_drawn_for_another_shape_are_told(place):
    """Those of volumes with two channels do not fit slices with one."""
    change = everything((5, 13, 11)).changes[place]
    flat = everything((13, 11)).changes[place]
    numbers = next(
        each for seed in range(99) if (each := change.draw((2, 5, 13, 11), np.random.default_rng(seed)))
    )
    images, labels, _ = batch((13, 11), channels=1)
    if isinstance(change, GaussianNoise | BiasField | BlankRectangles):  # theirs may fit both
        numbers = numbers[:-1]
    with pytest.raises(ValueError, match=r"`drawn` must be \d+ numbers? for this image, got \d+\. Pass what"):
        Augmentation((flat,)).apply(images[:1], labels[:1], [[numbers]])


@spaces
@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.uint32, torch.int32])
def test_labels_of_every_whole_type_are_changed_alike(space, kind):
    augment, (images, labels, seeds) = everything(space), batch(space)
    wanted = augment(images, labels, seeds)
    got = augment(images, labels.to(kind), seeds)
    torch.testing.assert_close(got, (wanted[0], wanted[1].to(kind)), rtol=0, atol=0)
