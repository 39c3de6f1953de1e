"""PAM: written out, its symmetries, its map."""

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import attention as twin
from torch import nn

from guided_attention import PAM


@pytest.mark.parametrize("space", [(1, 1), (1, 7), (5, 7), (2, 3, 5)])
def test_equals_the_sum_written_out(space):
    pam = opened(PAM(17, reduction=3, spatial_dims=len(space)))
    x = drawn(2, 17, *space)
    torch.testing.assert_close(pam(x), twin.pam(x, pam.state_dict()))


def test_hands_its_input_back_at_birth():
    x = drawn(2, 5, 3, 7)
    assert torch.equal(PAM(5)(x), x)


def test_the_gate_learns_at_birth():
    pam = PAM(5)
    pam(drawn(2, 5, 3, 7)).square().sum().backward()
    assert pam.gate.grad.abs() > 0


def test_shuffling_the_positions_shuffles_the_result():
    pam, x = opened(PAM(5, reduction=2)), drawn(2, 5, 3, 7)
    order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    shuffled = x.flatten(2)[:, :, order].reshape(x.shape)
    expected = pam(x).flatten(2)[:, :, order].reshape(x.shape)
    torch.testing.assert_close(pam(shuffled), expected)


def test_the_attention_map_is_the_rows_of_the_whole_matrix():
    pam, x = opened(PAM(11, reduction=2)), drawn(2, 11, 3, 5)
    asked = [(0, 0), (2, 4), (1, 3)]
    rows = twin.pam_weights(x, pam.state_dict())[:, [0, 14, 8]].reshape(2, 3, 3, 5)
    torch.testing.assert_close(pam.attention_map(x, asked), rows)


def test_the_attention_map_in_three_dimensions():
    pam, x = opened(PAM(11, reduction=2, spatial_dims=3)), drawn(1, 11, 2, 3, 5)
    rows = twin.pam_weights(x, pam.state_dict())[:, [1 * 15 + 2 * 5 + 4]].reshape(1, 1, 2, 3, 5)
    torch.testing.assert_close(pam.attention_map(x, [(1, 2, 4)]), rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_attention_map_of_half_precision_neither_overflows_nor_is_rounded(dtype):
    """The scores are above 65,504, the largest number in float16."""
    pam = PAM(8, reduction=1).to(dtype)
    for projection in (pam.query, pam.key):
        nn.init.zeros_(projection.bias)
        projection.weight.data.copy_(torch.eye(8)[..., None, None])
    x = 300 * torch.eye(8, dtype=dtype).reshape(1, 8, 2, 4)
    expected = torch.zeros(1, 2, 2, 4)
    expected[0, 0, 0, 0] = expected[0, 1, 1, 3] = 1
    torch.testing.assert_close(pam.attention_map(x, [(0, 0), (1, 3)]), expected)
    even = torch.full((1, 1, 2, 5), 0.1)
    torch.testing.assert_close(pam.attention_map(torch.zeros(1, 8, 2, 5, dtype=dtype), [(0, 0)]), even)


def test_autocast_does_not_change_the_weights_of_the_same_scores():
    pam, x = opened(PAM(5, reduction=2)), drawn(1, 5, 3, 7).bfloat16().float()
    rounded = PAM(5, reduction=2)
    rounded.load_state_dict(pam.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = pam.attention_map(x, [(1, 1)])
    torch.testing.assert_close(actual, rounded.bfloat16().attention_map(x.bfloat16(), [(1, 1)]))


@pytest.mark.parametrize("position", [(3, 0), (0, 5), (-1, 0), (0,), (0, 0, 0)])
def test_a_position_outside_the_map_is_named(position):
    message = r"`positions` must be coordinates inside a map of size \(3, 5\), got \(" + str(position[0])
    with pytest.raises(ValueError, match=message):
        PAM(4).attention_map(drawn(1, 4, 3, 5), [position])


def test_fewer_channels_than_the_reduction_leave_one_channel_for_the_scores():
    assert PAM(3).query.weight.shape == (1, 3, 1, 1)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "`channels` must be above 0, got 0"),
        ({"channels": 4, "reduction": 0}, "`reduction` must be above 0, got 0"),
        ({"channels": 4, "spatial_dims": 4}, "`spatial_dims` must be one of 2, 3, got 4"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PAM(**arguments)
