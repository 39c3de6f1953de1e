"""Gated attention: written out, its branches, its errors."""

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import attention as twin
from torch import nn

from guided_attention import CAM, DualAttention
from guided_attention.attention import MultiScaleGatedAttention, attention_branch


def gates(number, channels=3):
    return [nn.Sequential(nn.Conv2d(2 * channels, channels, 1), nn.Tanh()) for _ in range(number)]


def test_equals_the_sum_written_out():
    attention = opened(MultiScaleGatedAttention(gates(2), channels=3)).eval()
    *maps, fused = (drawn(2, 3, 5, 7, seed=seed) for seed in (1, 2, 3))
    features = attention(maps, fused)
    assert len(features.attended) == attention.num_steps == 1
    torch.testing.assert_close(list(features.attended[0]), twin.gated(maps, fused, attention))
    assert features.codes == features.reconstructions == ()


def test_a_shut_gate_leaves_the_scales_own_map():
    shut = [nn.Sequential(nn.Conv2d(6, 3, 1), nn.Threshold(1e9, 0.0))]
    attention = opened(MultiScaleGatedAttention(shut, channels=3)).eval()
    map_, fused = drawn(1, 3, 5, 7, seed=1), drawn(1, 3, 5, 7, seed=2)
    with_fused, with_other = attention([map_], fused), attention([map_], 2 * fused)
    assert torch.equal(with_fused.attended[0][0], with_other.attended[0][0])


def test_the_branches_of_dual_attention_are_attention_branches():
    branch = opened(attention_branch(7, CAM(), 5)).eval()
    x, state = drawn(2, 7, 5, 3), branch.state_dict()
    seen = twin.conv_norm_prelu(x, state, "0")
    torch.testing.assert_close(
        branch(x), twin.conv_norm_prelu(twin.cam(seen, state["1.gate"], "danet"), state, "2")
    )


def test_dual_attention_tells_what_its_modules_were_given_and_gave():
    dual = opened(DualAttention(7, 5)).eval()
    x = drawn(2, 7, 5, 3)
    output = dual.outputs(x)
    torch.testing.assert_close(list(output.modules), twin.dual_modules(x, dual.state_dict()))
    torch.testing.assert_close(output.attended, dual(x))


@pytest.mark.usefixtures("without_shape_checks")
def test_maps_that_do_not_fit_are_named():
    attention, map_ = MultiScaleGatedAttention(gates(2), channels=3), drawn(2, 3, 5, 7)
    with pytest.raises(ValueError, match="`maps` must be a list of 2 maps, got 1"):
        attention([map_], map_)
    with pytest.raises(ValueError, match=r"`maps\[1\]` must be of the shape of `fused`"):
        attention([map_, drawn(2, 3, 5, 6)], map_)


def test_numbers_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="`gates` must be one module a scale, at least one"):
        MultiScaleGatedAttention([], channels=3)
    with pytest.raises(ValueError, match="`channels` must be above 0, got 0"):
        MultiScaleGatedAttention(gates(1), channels=0)
