"""Dual, semantic and guided attention: written out, sharing, sizes."""

from functools import partial

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import attention as twin

from guided_attention import CAM, DualAttention, GuidedAttention, SemanticAutoencoder
from guided_attention.attention import MultiScaleGuidedAttention

GUIDANCE = {
    "autoencoder": {},
    "distance": {"autoencoder": None, "compare_modules": True},
    "none": {"autoencoder": None},
}


@pytest.mark.parametrize("energy", ["danet", "paper"])
def test_dual_attention_equals_the_sum_written_out(energy):
    dual = opened(DualAttention(7, 5, channel_attention=partial(CAM, energy=energy))).eval()
    x = drawn(2, 7, 5, 3)
    torch.testing.assert_close(dual(x), twin.dual(x, dual.state_dict(), energy))


def test_dual_attention_in_three_dimensions():
    dual = opened(DualAttention(3, 5, spatial_dims=3)).eval()
    x = drawn(2, 3, 2, 3, 5)
    torch.testing.assert_close(dual(x), twin.dual(x, dual.state_dict()))


@pytest.mark.parametrize("space", [(4, 8), (5, 7), (6, 11), (13, 10)])
def test_the_autoencoder_equals_the_sum_written_out(space):
    semantic = opened(SemanticAutoencoder(3, width=5)).eval()
    x = drawn(2, 3, *space)
    torch.testing.assert_close(tuple(semantic(x)), twin.autoencoder(x, semantic.state_dict()))


def test_the_autoencoder_has_the_parameters_that_the_paper_counts():
    assert sum(p.numel() for p in SemanticAutoencoder(128).parameters()) == 6_970_496


def test_a_code_has_a_quarter_of_the_side():
    code, reconstruction = SemanticAutoencoder(3, width=5, spatial_dims=3)(drawn(2, 3, 9, 4, 1))
    assert code.shape == (2, 10, 2, 1, 1)
    assert reconstruction.shape == (2, 3, 9, 4, 1)


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_guided_attention_equals_the_sum_written_out(guidance, steps):
    made = MultiScaleGuidedAttention(3, num_scales=2, steps=steps, **GUIDANCE[guidance])
    attention = opened(made).eval().double()
    *maps, fused = (drawn(2, 3, 5, 7, seed=seed, dtype=torch.float64) for seed in (1, 2, 3))
    features = attention(maps, fused)
    attended, codes, reconstructions = twin.guided(
        maps, fused, attention.state_dict(), steps=steps, guidance=guidance
    )
    torch.testing.assert_close([list(row) for row in features.attended], attended)
    torch.testing.assert_close(list(features.codes), codes)
    torch.testing.assert_close(list(features.reconstructions), reconstructions)


def test_a_single_map_is_its_own_context():
    block = opened(GuidedAttention(3, steps=2)).eval()
    x = drawn(2, 3, 5, 7)
    attended, codes, reconstructions = twin.guided(
        [x], x, block.attention.state_dict(), steps=2, guidance="autoencoder"
    )
    torch.testing.assert_close(block(x), attended[-1][0])
    torch.testing.assert_close(list(block.outputs(x).codes), codes)
    torch.testing.assert_close(list(block.outputs(x).reconstructions), reconstructions)


def test_the_scales_share_one_autoencoder_a_step():
    """One set of entries in the state dict, and the paper's number of parameters a step."""

    def count(num_scales: int, guidance: str) -> int:
        attention = MultiScaleGuidedAttention(64, num_scales=num_scales, steps=1, **GUIDANCE[guidance])
        return sum(value.numel() for value in dict(attention.named_parameters()).values())

    for num_scales in (1, 4):
        assert count(num_scales, guidance="autoencoder") - count(num_scales, guidance="none") == 7_044_288


@pytest.mark.usefixtures("without_shape_checks")
def test_maps_of_another_number_or_size_are_named():
    attention = MultiScaleGuidedAttention(3, num_scales=2, steps=1)
    map_ = drawn(2, 3, 5, 7)
    with pytest.raises(ValueError, match="`maps` must be a list of 2 maps, got 3"):
        attention([map_] * 3, map_)
    with pytest.raises(
        ValueError, match=r"`maps\[1\]` must be of the shape of `fused`, \(2, 3, 5, 7\), got \(2, 3, 5, 6\)"
    ):
        attention([map_, drawn(2, 3, 5, 6)], map_)


@pytest.mark.parametrize("name", ["channels", "num_scales", "steps"])
def test_numbers_below_one_are_named(name):
    with pytest.raises(ValueError, match=f"`{name}` must be above 0, got 0"):
        MultiScaleGuidedAttention(**({"channels": 3} | {name: 0}))
