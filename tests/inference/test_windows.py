"""Sliding windows: the same logits as the loop over windows and voxels, whatever the sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.inference.conftest import AS_IT_IS, ORGANS, scan
from tests.reference.geometry import Storage
from tests.reference.windows import sliding_windows
from torch import nn

from guided_attention.inference import Predictor
from guided_attention.inference.windows import Windows, starts

SHAPES_3D = [(3, 5, 7), (5, 5, 5), (7, 11, 13), (2, 20, 5), (20, 20, 20), (9, 3, 4), (1, 1, 1)]
SHAPES_2D = [(5, 7), (11, 13), (20, 5), (20, 20), (4, 4)]


class SeesItsWindow(nn.Module):
    """Logits that depend on the edges and on the mean of what is seen, so that windows differ."""

    def __init__(self, dims, channels=1, classes=3):
        super().__init__()
        torch.manual_seed(dims)
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.conv = conv(channels, classes, 3, padding=1)

    def forward(self, x):
        mean = x.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        return self.conv(x + 1) * (1 + mean)


def alone(model):
    """Return the network as a function of one image in NumPy."""

    def predict(image):
        with torch.no_grad():
            return model(torch.tensor(image.copy())[None])[0].numpy()

    return predict


def canonical(case):
    return Storage(case.affine, "LPS").apply(case.image), Storage(case.affine, "LPS").undo


def softmax(logits):
    return torch.softmax(torch.tensor(logits), 0).numpy()


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("size", SHAPES_3D)
def test_volumes_equal_the_loop_over_windows(size, overlap):
    case, model = scan(2), SeesItsWindow(3, channels=2)
    predictor = Predictor(
        model, AS_IT_IS, ORGANS, spatial_dims=3, patch_size=size, overlap=overlap, batch_size=3
    )
    image, undo = canonical(case)
    wanted = sliding_windows(image, alone(model), size, overlap)
    np.testing.assert_allclose(predictor.probabilities(case), undo(softmax(wanted)), atol=1e-5)


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("size", SHAPES_2D)
def test_slices_equal_the_loop_over_windows(size, overlap):
    case, model = scan(), SeesItsWindow(2)
    predictor = Predictor(model, AS_IT_IS, ORGANS, patch_size=size, overlap=overlap, batch_size=5)
    image, undo = canonical(case)
    slices = [sliding_windows(image[:, z], alone(model), size, overlap) for z in range(image.shape[1])]
    got = predictor.probabilities(case)
    np.testing.assert_allclose(got, undo(softmax(np.stack(slices, axis=1))), atol=1e-5)


def test_neighbouring_slices_are_in_the_windows_too():
    case, model = scan(), SeesItsWindow(2, channels=3)
    preparation = replace(AS_IT_IS, neighbours=1)
    image, undo = canonical(case)
    joined = np.concatenate([image[:, [0, *range(6)]], image, image[:, [*range(1, 7), 6]]])
    slices = [sliding_windows(joined[:, z], alone(model), (5, 7), 0.5) for z in range(7)]
    got = Predictor(model, preparation, ORGANS, patch_size=(5, 7)).probabilities(case)
    np.testing.assert_allclose(got, undo(softmax(np.stack(slices, axis=1))), atol=1e-5)


@pytest.mark.parametrize(("dims", "size"), [(2, (4, 6)), (3, (3, 4, 6))])
def test_the_number_of_windows_at_once_changes_nothing_and_is_kept_to(dims, size):
    case, model, seen = scan(), SeesItsWindow(dims), []
    model.register_forward_hook(lambda _module, arguments, _output: seen.append(len(arguments[0])))
    one, four = (
        Predictor(
            model, AS_IT_IS, ORGANS, spatial_dims=dims, patch_size=size, batch_size=at_once
        ).probabilities(case)
        for at_once in (1, 4)
    )
    np.testing.assert_allclose(one, four, atol=1e-6)
    assert set(seen) <= {1, 2, 3, 4}
    assert 4 in seen


def test_a_network_that_sees_single_voxels_predicts_the_same_with_windows_and_without():
    case, model = scan(), nn.Conv3d(1, 3, 1)
    whole, windows = (
        Predictor(model, AS_IT_IS, ORGANS, spatial_dims=3, patch_size=size).probabilities(case)
        for size in (None, (3, 5, 4))
    )
    np.testing.assert_allclose(windows, whole, atol=1e-6)


def test_slices_are_given_as_soon_as_no_later_window_changes_them():
    case, seen = scan(shape=(23, 5, 7)), []

    def predict(images):
        seen.append(len(images))
        return images.repeat(1, 2, 1, 1, 1)

    prepared = AS_IT_IS.apply(case)
    blocks = Windows((4, 5, 7), 0.5, 1).logits(prepared, predict, is_volume=True)
    predicted = [len(seen) for block in blocks if block.shape == (2, 1, 5, 7)]
    assert predicted == [n for n in range(1, 10) for _ in "12"] + [10] + [11] * 4


def test_starts_by_hand():
    assert starts(10, 4, 0.5) == [0, 2, 4, 6]
    assert starts(11, 4, 0.5) == [0, 2, 4, 6, 7]
    assert starts(11, 4, 0.0) == [0, 4, 7]
    assert starts(3, 2, 0.9) == [0, 1]
    assert starts(4, 4, 0.5) == [0]
    assert starts(4, 9, 0.5) == [-2]


def test_bf16_windows_are_summed_in_single_precision():
    case, model = scan(), SeesItsWindow(2)
    exact, rough = (
        Predictor(model, AS_IT_IS, ORGANS, patch_size=(5, 7), overlap=0.75, precision=name).probabilities(
            case
        )
        for name in ("fp32", "bf16")
    )
    assert 0 < np.abs(rough - exact).max() < 0.05


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"patch_size": (3, 5, 7)},
            r"`patch_size` must be \(height, width\) for a 2-D network, or None, got \(3",
        ),
        (
            {"patch_size": (3, 5), "spatial_dims": 3},
            r"`patch_size` must be \(depth, height, width\) for a 3-D",
        ),
        ({"patch_size": 64}, r"`patch_size` must be \(height, width\) for a 2-D network, or None, got a int"),
        ({"patch_size": (0, 5)}, "`patch_size` must be 1 or above, got 0"),
        ({"patch_size": (3.5, 5)}, "`patch_size` must be a whole number"),
        ({"overlap": 1.0}, "`overlap` must be at least 0 and below 1, got 1.0"),
        ({"overlap": -0.1}, "`overlap` must be at least 0 and below 1, got -0.1"),
        ({"overlap": "half"}, "`overlap` must be a number"),
    ],
)
def test_windows_that_cannot_be_are_refused_before_any_scan(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Predictor(nn.Identity(), AS_IT_IS, ORGANS, **changes)


@pytest.mark.peer
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("space", [(7, 11, 13), (17, 5, 19), (2, 3, 31)])
def test_windows_equal_monai(space, overlap):
    from monai.inferers import sliding_window_inference

    case = scan(2, shape=space)
    prepared = AS_IT_IS.apply(case)
    image = torch.from_numpy(prepared.image)
    for dims, sizes in ((3, [*SHAPES_3D, (7, 64, 11)]), (2, [*SHAPES_2D, (3, 64)])):
        model = SeesItsWindow(dims, channels=2)
        batch = image[None] if dims == 3 else image.transpose(0, 1)
        for size in sizes:
            with torch.no_grad():
                wanted = sliding_window_inference(
                    batch, size, 3, model, overlap, "gaussian", sigma_scale=0.125
                )
                windows = Windows((1, *size)[-3:], overlap, 3)
                got = torch.cat([*windows.logits(prepared, model, is_volume=dims == 3)], dim=1)
            reference = wanted[0] if dims == 3 else wanted.transpose(0, 1)
            torch.testing.assert_close(got, reference, atol=1e-5, rtol=1e-5)
