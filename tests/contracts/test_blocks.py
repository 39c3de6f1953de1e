"""Rules that every block obeys: any size, batches as their samples, true gradients, no tampering with inputs."""

import pytest
import torch
from tests.modules import drawn, opened

from guided_attention import CAM, MSGA, PAM, DualAttention, GuidedAttention, SemanticAutoencoder

pytestmark = pytest.mark.usefixtures("narrow_resnets")


def _reconstruct(dims):
    semantic = SemanticAutoencoder(3, width=2, spatial_dims=dims)
    return torch.nn.Sequential(semantic, _Second())


class _Second(torch.nn.Module):
    def forward(self, pair):
        return pair[1]


BLOCKS = {
    "PAM": lambda dims: PAM(3, reduction=2, spatial_dims=dims),
    "CAM": lambda _: CAM(),
    "DualAttention": lambda dims: DualAttention(3, spatial_dims=dims),
    "SemanticAutoencoder": _reconstruct,
    "GuidedAttention": lambda dims: GuidedAttention(3, steps=2, spatial_dims=dims),
    "unguided": lambda dims: GuidedAttention(3, steps=3, autoencoder=None, spatial_dims=dims),
}
SPACES = [(1, 1), (1, 5), (2, 3), (7, 11), (1, 1, 1), (3, 5, 2)]

blocks = pytest.mark.parametrize("name", BLOCKS)


@blocks
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("training", [True, False])
def test_any_size_from_one_up_keeps_its_shape(name, space, training):
    block = opened(BLOCKS[name](len(space))).train(training)
    out = block(drawn(1, 3, *space))
    assert out.shape == (1, 3, *space)
    assert torch.isfinite(out).all()


@blocks
@pytest.mark.parametrize("space", [(5, 7), (2, 3, 5)])
def test_a_batch_is_its_samples_one_by_one(name, space):
    # In double precision: a batch of one takes other kernels of torch, which sum in another order.
    block = opened(BLOCKS[name](len(space))).double().eval()
    x = drawn(3, 3, *space, dtype=torch.float64)
    torch.testing.assert_close(block(x), torch.cat([block(sample[None]) for sample in x]))


@blocks
def test_the_gradients_are_those_of_the_formula(name):
    block = opened(BLOCKS[name](2)).double().eval()
    x = (0.5 * drawn(1, 3, 4, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(block, (x,))


@blocks
def test_every_parameter_learns_once_the_gates_are_open(name):
    block = opened(BLOCKS[name](2)).eval()
    block(drawn(5, 3, 13, 11)).square().sum().backward()
    # A bias before a batch norm has no effect: its gradient is zero up to rounding, but it is there.
    assert all(parameter.grad is not None for parameter in block.parameters())
    weights = [p for p in block.parameters() if p.ndim > 1]
    assert all(weight.grad.abs().max() > 1e-6 for weight in weights)


@blocks
def test_the_input_is_left_as_it_was(name):
    x = drawn(2, 3, 5, 7)
    before = x.clone()
    opened(BLOCKS[name](2))(x)
    assert torch.equal(x, before)


@blocks
def test_channels_last_gives_the_same_numbers(name):
    block, x = opened(BLOCKS[name](2)).eval(), drawn(2, 3, 5, 7)
    expected = block(x)
    actual = block.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected)


@blocks
def test_bfloat16_autocast_stays_near(name):
    block, x = opened(BLOCKS[name](2)).eval(), drawn(1, 3, 5, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = block(x)
    torch.testing.assert_close(half.float(), block(x), atol=0.1, rtol=0.1)


def test_one_value_a_channel_trains_by_the_running_statistics():
    """torch refuses to train on a single value; ours falls back instead of failing."""
    model = MSGA(num_classes=2, encoder="resnet18", channels=4).train()
    model(drawn(1, 1, 1, 1)).sum().backward()
