"""Baselines from other libraries: any size, the padding, a training step."""

import sys

import pytest
import torch
from examples.baselines import Baseline, attention_unet, pan, unet
from tests.modules import drawn
from torch import nn

from guided_attention.case import Case, affine_of
from guided_attention.inference import Predictor
from guided_attention.labels import LabelSpec
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.preparation import Preparation
from guided_attention.training import ModelWithLoss

SMALL = (4, 4, 8, 8, 16)


class Recorder(nn.Module):
    """Returns its input, and remembers it."""

    def forward(self, x):
        self.seen = x
        return x


def test_images_are_padded_at_the_far_ends_with_their_last_row_and_cut_back():
    recorder = Recorder()
    x = drawn(2, 3, 5, 7)
    assert torch.equal(Baseline(recorder, multiple_of=4)(x), x)
    rows = torch.cat([x, x[:, :, -1:], x[:, :, -1:], x[:, :, -1:]], dim=2)
    assert torch.equal(recorder.seen, torch.cat([rows, rows[..., -1:]], dim=3))


def test_images_below_the_smallest_side_are_padded_to_it():
    recorder = Recorder()
    model = Baseline(recorder, multiple_of=4, at_least=12)
    x = drawn(1, 1, 2, 13)
    assert torch.equal(model(x), x)
    assert recorder.seen.shape == (1, 1, 12, 16)
    assert torch.equal(recorder.seen[:, :, 2:, :13], x[:, :, 1:].expand(1, 1, 10, 13))


@pytest.mark.parametrize("build", [unet, attention_unet])
@pytest.mark.parametrize("space", [(1, 1), (16, 16), (5, 33), (3, 2, 1)])
def test_baselines_train_on_one_tiny_image(build, space):
    logits = build(1, 2, channels=SMALL, spatial_dims=len(space))(drawn(1, 1, *space))
    assert logits.shape == (1, 2, *space)
    assert logits.isfinite().all()


@pytest.mark.parametrize("build", [unet, attention_unet])
def test_baselines_predict_a_case_of_any_slice_size(build):
    case = Case("7", drawn(1, 3, 37, 29).numpy(), None, affine_of((9.0, 1.5, 1.5)))
    labels = LabelSpec({1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"})
    predictor = Predictor(build(1, 5, channels=SMALL), Preparation(slice_axis="axial"), labels, batch_size=2)
    assert predictor.predict(case).labels.shape == (3, 37, 29)


def test_volumes_are_padded_too_and_images_that_fit_are_left_alone():
    recorder = Recorder()
    model = Baseline(recorder, multiple_of=2)
    volume = drawn(1, 2, 3, 4, 5)
    assert torch.equal(model(volume), volume)
    assert recorder.seen.shape == (1, 2, 4, 4, 6)
    fits = drawn(1, 1, 4, 6)
    model(fits)
    assert recorder.seen is fits


@pytest.mark.parametrize("build", [unet, attention_unet])
@pytest.mark.parametrize("in_channels", [1, 4])
def test_baselines_train_a_step_at_any_size(build, in_channels):
    model = build(in_channels, 9, channels=SMALL)
    assert model.in_channels == in_channels
    target = torch.randint(9, (2, 37, 29), generator=torch.Generator().manual_seed(0))
    terms = ModelWithLoss(model, GuidedAttentionLoss())(drawn(2, in_channels, 37, 29), target)
    terms.total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("build", [unet, attention_unet])
def test_baselines_take_volumes(build):
    model = build(1, 2, channels=SMALL, spatial_dims=3).eval()
    assert model(drawn(1, 1, 17, 5, 19)).shape == (1, 2, 17, 5, 19)


@pytest.mark.parametrize(("build", "parameters"), [(unet, 31_112_325), (attention_unet, 31_739_445)])
def test_baselines_have_the_parameters_that_their_page_names(build, parameters):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build().parameters()) == parameters


def test_a_baseline_whose_library_is_missing_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ModuleNotFoundError, match="pip install segmentation-models-pytorch"):
        pan()
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install monai"):
        unet()


def test_arguments_that_cannot_be_are_named():
    with pytest.raises(ValueError, match=r"`channels` must be those of five levels, got \[4, 8\]"):
        unet(channels=(4, 8))
    with pytest.raises(ValueError, match="`multiple_of` must be above 0, got 0"):
        Baseline(nn.Identity(), multiple_of=0)
    for smallest in (6, 0):
        with pytest.raises(ValueError, match=f"`at_least` must be a multiple of 4, got {smallest}"):
            Baseline(nn.Identity(), multiple_of=4, at_least=smallest)
