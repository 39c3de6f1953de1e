"""msga_lite: its parts, any size, every parameter learns, a fraction of the operations."""

import pytest
import torch
from tests.modules import drawn, opened
from torch.utils.flop_counter import FlopCounterMode

from guided_attention import MSGA
from guided_attention.attention import PAM, MultiScaleGuidedAttention, PooledAttention
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.models import msga_lite


def small(**changes):
    return msga_lite(**({"encoder": "resnet18", "channels": 4} | changes))


def test_it_is_guided_attention_in_steps_on_a_coarser_grid():
    pooled = small(steps=3, factor=2).attention
    assert isinstance(pooled, PooledAttention)
    assert (pooled.factor, pooled.num_steps, pooled.num_scales) == (2, 3, 4)
    assert isinstance(pooled.attention, MultiScaleGuidedAttention)
    assert sum(isinstance(module, PAM) for module in pooled.modules()) == 12
    assert pooled.attention.steps[0].semantic.encoder1[0].out_channels == 4


def test_the_attention_sees_a_sixteenth_of_the_side():
    seen, model = [], small().eval()
    for module in model.modules():
        if isinstance(module, PAM):
            module.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[2:]))
    model(torch.zeros(1, 1, 64, 96))
    assert seen == [(4, 6)] * 8


@pytest.mark.usefixtures("narrow_resnets")
@pytest.mark.parametrize("space", [(1, 1), (37, 53), (23, 5), (5, 37, 23)])
@pytest.mark.parametrize(("in_channels", "num_classes"), [(1, 2), (4, 9)])
def test_every_parameter_learns_at_any_size(space, in_channels, num_classes):
    model = opened(small(in_channels=in_channels, num_classes=num_classes, spatial_dims=len(space))).train()
    output = model.outputs(drawn(2, in_channels, *space))
    assert output.logits.shape == (2, num_classes, *space)
    target = torch.zeros(2, *space, dtype=torch.long)
    GuidedAttentionLoss()(output, target).total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_quarter_of_the_operations_of_the_papers_network_at_most():
    """Beside the encoder, which is the same: both have it."""
    counts = []
    for build in (msga_lite, MSGA):
        model = build(encoder="resnet18").eval()
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(torch.zeros(1, 1, 96, 96))
        counts.append(counter.get_total_flops())
    assert counts[0] <= counts[1] / 4
