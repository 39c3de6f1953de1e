"""SegmentationModel and MSGA: written out, counted, at any size."""

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import networks as twin
from torch import nn

from guided_attention import MSGA, MultiScaleFusion, SegmentationModel
from guided_attention.attention import MultiScaleGuidedAttention
from guided_attention.models import danet, msga_lite

pytestmark = pytest.mark.usefixtures("narrow_resnets")


class TwoScales(nn.Module):
    """The least encoder there is."""

    out_channels = (3, 5)
    strides = (1, 3)

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(1, 3, 3, padding=1)
        self.coarse = nn.Conv2d(3, 5, 3, padding=1, stride=3)

    def forward(self, x):
        fine = self.fine(x).relu()
        return [fine, self.coarse(fine).relu()]


def small(**changes):
    return MSGA(**({"num_classes": 3, "encoder": "resnet18", "channels": 8} | changes))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_equals_the_network_written_out(steps):
    model = opened(small(steps=steps, channels=3)).eval().double()
    x = drawn(2, 1, 37, 61, dtype=torch.float64)
    logits, raw, attended = twin.msga(x, model.state_dict(), steps=steps)
    output = model.outputs(x)
    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(list(output.raw_logits), raw)
    torch.testing.assert_close(list(output.attended_logits), attended)
    torch.testing.assert_close(model(x), logits)


def test_every_parameter_of_the_papers_network_has_a_gradient_after_one_step():
    model = MSGA()
    output = model.outputs(drawn(2, 1, 32, 32))
    loss = sum(logits.square().mean() for logits in output.raw_logits + output.attended_logits)
    loss = loss + sum((a - b).square().mean() for a, b in output.codes + output.reconstructions)
    loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("build", "space", "multiple"),
    [
        (lambda: small(channels=3), (37, 61), 32),
        (lambda: msga_lite(1, 3, channels=4), (37, 61), 32),
        (lambda: danet(1, 3, encoder="resnet18"), (37, 61), 8),
        (lambda: small(channels=3, spatial_dims=3), (5, 13, 37), 32),
        (lambda: SegmentationModel(TwoScales(), *_two_parts(), num_classes=2), (7, 11), 3),
    ],
)
def test_maps_of_all_scales_lie_on_one_another_at_any_size(build, space, multiple):
    """An image that is filled up by hand has the same logits: no map is stretched over a side that it does not fit."""
    model = opened(build()).eval().double()
    x = filled = drawn(2, 1, *space, dtype=torch.float64)
    for axis, side in enumerate(space, 2):
        places = torch.arange(-(-side // multiple) * multiple).clamp(max=side - 1)
        filled = filled.index_select(axis, places)
    window = (..., *map(slice, space))
    torch.testing.assert_close(model(x), model(filled)[window])
    output, whole = model.outputs(x), model.outputs(filled)
    for name in ("raw_logits", "attended_logits"):
        torch.testing.assert_close(
            list(getattr(output, name)), [logits[window] for logits in getattr(whole, name)]
        )


def _two_parts():
    return MultiScaleFusion((3, 5), channels=4), MultiScaleGuidedAttention(4, num_scales=2, steps=1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("space", [(1, 1), (1, 2), (7, 64), (37, 53)])
def test_logits_have_the_inputs_size_at_any_size_and_with_one_sample(space, training):
    model = small().train(training)
    assert model(drawn(1, 1, *space)).shape == (1, 3, *space)


def test_volumes_work_too():
    model = small(spatial_dims=3, in_channels=2)
    assert model(drawn(1, 2, 3, 17, 13)).shape == (1, 3, 3, 17, 13)


def test_outputs_and_forward_give_the_same_logits():
    model, x = opened(small()).eval(), drawn(2, 1, 37, 53)
    torch.testing.assert_close(model.outputs(x).logits, model(x))


def test_the_prediction_is_the_mean_of_the_last_steps_logits():
    output = opened(small(steps=3)).eval().outputs(drawn(2, 1, 37, 53))
    assert len(output.raw_logits) == 4
    assert len(output.attended_logits) == 8
    torch.testing.assert_close(output.logits, sum(output.attended_logits[-4:]) / 4)


def test_any_module_with_the_three_members_is_an_encoder():
    model = MSGA(num_classes=2, encoder=TwoScales(), channels=4)
    output = model.outputs(drawn(2, 1, 11, 13))
    assert output.logits.shape == (2, 2, 11, 13)
    assert len(output.raw_logits) == 2
    assert "raw_heads.1.weight" in model.state_dict()


def test_without_deep_supervision_the_last_step_alone_has_heads():
    def build(deeply_supervised):
        encoder = TwoScales()
        return SegmentationModel(
            encoder,
            MultiScaleFusion(encoder.out_channels, channels=4),
            MultiScaleGuidedAttention(4, num_scales=2, steps=3),
            num_classes=2,
            deeply_supervised=deeply_supervised,
        )

    model = build(deeply_supervised=False)
    output = model.outputs(drawn(2, 1, 11, 13))
    assert output.raw_logits == ()
    assert len(output.attended_logits) == 2
    assert count(build(deeply_supervised=True)) - count(model) == 2 * 2 * (4 * 2 + 2)


def test_state_dict_round_trip_gives_the_same_logits(tmp_path):
    model, x = opened(small()).eval(), drawn(1, 1, 37, 53)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = small().eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(x), model(x))


def test_parts_that_do_not_fit_are_named():
    encoder = TwoScales()
    fits, attention = MultiScaleFusion((3, 5), channels=4), MultiScaleGuidedAttention(4, num_scales=2)
    with pytest.raises(ValueError, match="`fusion` must be made for the encoder's 2 maps, got 1"):
        SegmentationModel(encoder, MultiScaleFusion((3,), channels=4), attention, num_classes=2)
    with pytest.raises(ValueError, match="`attention` must be made for 2 scales, got 4"):
        SegmentationModel(encoder, fits, MultiScaleGuidedAttention(4), num_classes=2)
    with pytest.raises(ValueError, match="`attention` must be made for the fusion's 4 channels, got 5"):
        SegmentationModel(encoder, fits, MultiScaleGuidedAttention(5, num_scales=2), num_classes=2)
    with pytest.raises(ValueError, match="`num_classes` must be at least 2, background included, got 1"):
        SegmentationModel(encoder, fits, attention, num_classes=1)
