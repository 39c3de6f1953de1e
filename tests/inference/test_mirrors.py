"""Mirrored copies: averaged by hand, left and right brought back, the same as mirrors in training."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from tests.inference.conftest import AS_IT_IS, ORGANS, network, scan
from tests.reference.geometry import Storage
from torch import nn

from guided_attention.data import make_phantom
from guided_attention.errors import DataError
from guided_attention.inference import Predictor
from guided_attention.inference.mirrors import mirrors_of
from guided_attention.labels import LabelSpec
from guided_attention.sampling.augment import flip_rotate

AXES = ("depth", "height", "width")
KIDNEYS = LabelSpec({1: "liver", 2: "right kidney", 3: "left kidney"}, pairs=((2, 3),))


def mirrored_by_hand(image, predict, axes, exchange):
    """Return the mean logits of an array ``(channels, *space)`` over all sets of flipped axes."""
    total, count = 0.0, 0
    for number in range(len(axes) + 1):
        for flipped in combinations(axes, number):
            logits = np.flip(predict(np.flip(image, flipped).copy()), flipped)
            if exchange and number in {1, 3}:
                logits = logits[[0, 1, 3, 2]]
            total, count = total + logits, count + 1
    assert count == 2 ** len(axes)
    return total / count


def alone(model):
    def predict(image):
        with torch.no_grad():
            return model(torch.tensor(image)[None])[0].numpy()

    return predict


@pytest.mark.parametrize("labels", [KIDNEYS, replace(KIDNEYS, names={1: "a", 2: "b", 3: "c"}, pairs=())])
@pytest.mark.parametrize("axes", [("width",), ("depth", "height"), AXES])
def test_volumes_are_the_mean_over_all_mirrored_copies(axes, labels):
    case, model = scan(), network(3, classes=4).eval()
    predictor = Predictor(model, AS_IT_IS, labels, spatial_dims=3, mirror_axes=axes)
    turn = Storage(case.affine, "LPS")
    image = turn.apply(case.image)
    places = [AXES.index(axis) + 1 for axis in axes]
    wanted = mirrored_by_hand(image, alone(model), places, bool(labels.pairs))
    got = predictor.probabilities(case)
    np.testing.assert_allclose(got, turn.undo(torch.softmax(torch.tensor(wanted), 0).numpy()), atol=1e-6)


@pytest.mark.parametrize("slice_axis", ["axial", "sagittal"])
@pytest.mark.parametrize("axes", [["height"], ["width", "height"]])
def test_slices_are_the_mean_and_sagittal_ones_exchange_nothing(axes, slice_axis):
    case, model = scan(), network(classes=4).eval()
    preparation = replace(AS_IT_IS, slice_axis=slice_axis)
    predictor = Predictor(model, preparation, KIDNEYS, mirror_axes=axes, batch_size=3)
    prepared = preparation.apply(case)
    image = prepared.image
    places = [AXES[1:].index(axis) + 1 for axis in axes]
    slices = [
        mirrored_by_hand(image[:, z], alone(model), places, slice_axis == "axial")
        for z in range(image.shape[1])
    ]
    wanted = torch.softmax(torch.tensor(np.stack(slices, axis=1)), 0).numpy()
    got = prepared.grid.turn.apply(predictor.probabilities(case))
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_windows_are_mirrored_one_by_one():
    case, model = scan(), network(3, classes=4).eval()
    plain, mirrored = (
        Predictor(m, AS_IT_IS, KIDNEYS, spatial_dims=3, patch_size=(3, 5, 7), mirror_axes=axes)
        for m, axes in ((Averaged(model), ()), (model, AXES))
    )
    np.testing.assert_allclose(mirrored.probabilities(case), plain.probabilities(case), atol=1e-6)


class Averaged(nn.Module):
    """A network that mirrors by itself."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return torch.tensor(
            np.stack([mirrored_by_hand(one.numpy(), alone(self.model), (1, 2, 3), True) for one in x])
        )


class Sided(nn.Module):
    """Finds organs by intensity and tells kidneys by the side of the body: a mirrored body has exchanged kidneys."""

    def __init__(self, spatial_dims):
        super().__init__()
        self.spatial_dims = spatial_dims

    def forward(self, x):
        side = torch.linspace(-1, 1, x.shape[-1]).expand_as(x)
        found = x.clamp(-2, 2)
        return torch.cat([0 * x, found * side.abs(), 2 * found * side, -2 * found * side, 0 * x - 1], dim=1)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_equivariant_network_predicts_a_phantom_as_it_does_without_mirrors(dims):
    case = make_phantom(0, size=32)
    names = {63: "liver", 126: "right kidney", 189: "left kidney", 252: "spleen"}
    labels = LabelSpec(names, pairs=((126, 189),))
    plain, mirrored = (
        Predictor(Sided(dims), AS_IT_IS, labels, mirror_axes=axes).predict(case) for axes in ((), ("width",))
    )
    np.testing.assert_array_equal(mirrored.labels, plain.labels)
    np.testing.assert_allclose(mirrored.uncertainty, plain.uncertainty, atol=1e-6)
    assert {126, 189} <= set(np.unique(plain.labels))


@pytest.mark.parametrize("flipped", [(-2,), (-1,), (-2, -1)])
def test_mirrors_mean_what_they_mean_in_training(flipped):
    """A network that gives the labels that training would show it for the mirrored image is right."""
    labels = torch.randint(4, (1, 5, 7), generator=torch.Generator().manual_seed(0))
    image = labels[:, None].float()
    mirrors = {mirror.axes: mirror for mirror in mirrors_of(("height", "width"), KIDNEYS.class_pairs, 4)}

    def perfect(seen):
        shown, reference = flip_rotate(
            image[0],
            labels[0],
            flipped=-2 in flipped,
            mirrored=-1 in flipped,
            degrees=0,
            pairs=KIDNEYS.class_pairs,
        )
        torch.testing.assert_close(seen[0], shown)
        return nn.functional.one_hot(reference, 4).permute(2, 0, 1)[None].float()

    got = mirrors[flipped].logits(perfect, image)
    torch.testing.assert_close(got.argmax(1), labels)


def test_organs_of_one_side_need_their_mates():
    alone_ = LabelSpec({1: "right kidney", 2: "liver"})
    unpaired = LabelSpec({1: "right kidney", 2: "left kidney"})
    for labels in (alone_, unpaired):
        with pytest.raises(DataError, match="`labels` must be of left and right organs in pairs"):
            Predictor(nn.Identity(), AS_IT_IS, labels, mirror_axes=("width",))
        sagittal = replace(AS_IT_IS, slice_axis="sagittal")
        Predictor(nn.Identity(), sagittal, labels, mirror_axes=("width",))
        Predictor(nn.Identity(), AS_IT_IS, labels)
        with pytest.raises(DataError, match="in pairs"):
            Predictor(nn.Identity(), sagittal, labels, mirror_axes=("width",), spatial_dims=3)
        # Neighbours tell the left half of the body from the right.
        with pytest.raises(DataError, match="in pairs"):
            Predictor(nn.Identity(), replace(sagittal, neighbours=1), labels, mirror_axes=("width",))


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (
            ("depth",),
            "`mirror_axes` must be a tuple of 'height', 'width' for a 2-D network, each once, got .'depth'",
        ),
        (("x",), "`mirror_axes` must be a tuple of 'height', 'width'"),
        (("width", "width"), "each once"),
        ("width", r"`mirror_axes` must be a tuple of .*, got a str\. Write \('width',\)"),
        (True, "`mirror_axes` must be a tuple"),
    ],
)
def test_axes_that_are_unknown_are_named(axes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Predictor(nn.Identity(), AS_IT_IS, ORGANS, mirror_axes=axes)
