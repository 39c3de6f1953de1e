"""PooledAttention: written out, its edges, what it leaves alone."""

from functools import partial

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import attention as twin
from torch import nn

from guided_attention.attention import (
    AttendedFeatures,
    MultiScaleGuidedAttention,
    PooledAttention,
    SemanticAutoencoder,
)


class Echo(nn.Module):
    """Hands on what it is shown, twice as large in the second step."""

    channels, num_scales, num_steps = 3, 2, 2

    def forward(self, maps, fused, *, attended_only=False):  # noqa: ARG002
        return AttendedFeatures((tuple(maps), tuple(2 * map_ for map_ in maps)), codes=((fused, fused),))


class NoModule:
    """Has what the protocol asks for, and cannot be trained."""

    channels, num_scales, num_steps = 3, 2, 1

    def forward(self, maps, fused):
        return AttendedFeatures(((*maps, fused),))


def pooled_by_hand(x, factor):
    """Average each cell over the positions that it has, one by one."""
    space = x.shape[2:]
    cells = [-(-side // factor) for side in space]
    out = torch.zeros(*x.shape[:2], *cells, dtype=x.dtype)
    for cell in torch.cartesian_prod(*(torch.arange(n) for n in cells)).reshape(-1, len(space)).tolist():
        window = tuple(slice(c * factor, (c + 1) * factor) for c in cell)
        out[(..., *cell)] = x[(..., *window)].flatten(2).mean(dim=2)
    return out


def normed_by_hand(x, norm):
    """Normalise each channel by the running statistics."""
    out = torch.empty_like(x)
    for channel in range(x.shape[1]):
        spread = (norm.running_var[channel] + norm.eps).sqrt()
        even = (x[:, channel] - norm.running_mean[channel]) / spread
        out[:, channel] = norm.weight[channel] * even + norm.bias[channel]
    return out.detach()


@pytest.mark.parametrize("space", [(1, 1), (8, 12), (7, 13), (5, 2, 7)])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_equals_the_formula_written_out(space, factor):
    *maps, fused = (drawn(2, 3, *space, seed=seed, dtype=torch.float64) for seed in (1, 2, 3))
    block = opened(PooledAttention(Echo(), factor=factor, spatial_dims=len(space))).eval().double()
    features = block(maps, fused)
    mode = "bilinear" if len(space) == 2 else "trilinear"
    weight = block.weight.reshape(1, 3, *[1] * len(space))
    for step, times in enumerate((1, 2)):
        for number, (map_, got) in enumerate(zip(maps, features.attended[step], strict=True)):
            coarse = times * normed_by_hand(pooled_by_hand(map_, factor), block.norms[number])
            whole = [min(side, factor) * cells for side, cells in zip(space, coarse.shape[2:], strict=True)]
            large = nn.functional.interpolate(coarse, whole, mode=mode)
            large = large[(..., *map(slice, space))]
            torch.testing.assert_close(got, fused + weight * large)
    torch.testing.assert_close(
        features.codes[0][0], normed_by_hand(pooled_by_hand(fused, factor), block.norms[2])
    )


def test_guided_attention_inside_is_the_twins_on_the_coarse_grid():
    inner = MultiScaleGuidedAttention(
        3, num_scales=2, steps=2, autoencoder=partial(SemanticAutoencoder, width=5)
    )
    *maps, fused = (drawn(1, 3, 11, 8, seed=seed, dtype=torch.float64) for seed in (1, 2, 3))
    block = opened(PooledAttention(inner, factor=2)).eval().double()
    features = block(maps, fused)
    *small, small_fused = (
        normed_by_hand(pooled_by_hand(map_, 2), norm)
        for map_, norm in zip([*maps, fused], block.norms, strict=True)
    )
    attended, codes, pairs = twin.guided(
        small, small_fused, inner.state_dict(), steps=2, guidance="autoencoder"
    )
    for row, expected in zip(features.attended, attended, strict=True):
        for got, coarse in zip(row, expected, strict=True):
            large = nn.functional.interpolate(coarse, (12, 8), mode="bilinear")[:, :, :11]
            torch.testing.assert_close(got, fused + block.weight * large)
    torch.testing.assert_close(list(features.codes), codes)
    torch.testing.assert_close(list(features.reconstructions), pairs)


def test_constants_stay_constant_at_the_ragged_edge():
    maps = [torch.full((1, 3, 7, 5), value) for value in (2.0, 3.0)]
    block = PooledAttention(Echo(), factor=4).eval()
    nn.init.ones_(block.weight)
    features = block(maps, torch.ones(1, 3, 7, 5))  # the norms of birth change nothing but for their eps
    expected = [torch.full((1, 3, 7, 5), value) for value in (3.0, 4.0)]
    torch.testing.assert_close(list(features.attended[0]), expected, rtol=1e-4, atol=0)


def test_at_birth_it_is_the_fused_map():
    *maps, fused = (drawn(2, 3, 7, 5, seed=seed) for seed in (1, 2, 3))
    features = PooledAttention(Echo(), factor=2)(maps, fused)
    assert all(torch.equal(map_, fused) for step in features.attended for map_ in step)


def test_gradients():
    inner = MultiScaleGuidedAttention(
        2, num_scales=1, steps=1, autoencoder=partial(SemanticAutoencoder, width=2)
    )
    block = opened(PooledAttention(inner, factor=2)).eval().double()
    inputs = [(0.5 * drawn(1, 2, 5, 3, seed=seed, dtype=torch.float64)).requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(lambda map_, fused: block([map_], fused).attended[0], inputs)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PooledAttention(Echo(), factor=0), ValueError, "`factor` must be at least 1, got 0"),
        (
            lambda: PooledAttention(Echo(), spatial_dims=1),
            ValueError,
            "`spatial_dims` must be one of 2, 3, got 1",
        ),
        (lambda: PooledAttention(NoModule()), TypeError, "`attention` must be a torch.nn.Module"),
        (
            lambda: PooledAttention(Echo())([torch.ones(1, 3, 2, 2)], torch.ones(1, 3, 2, 2)),
            ValueError,
            "`maps`",
        ),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
