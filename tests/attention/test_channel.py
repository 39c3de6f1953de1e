"""CAM: both energies written out, symmetries, half precision."""

import math

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import attention as twin

from guided_attention import CAM


@pytest.mark.parametrize("energy", ["danet", "paper"])
@pytest.mark.parametrize("space", [(1,), (1, 1), (5, 7), (2, 3, 5)])
def test_equals_the_sum_written_out(energy, space):
    cam, x = opened(CAM(energy=energy)), 0.3 * drawn(2, 11, *space)
    torch.testing.assert_close(cam(x), twin.cam(x, cam.gate.detach(), energy))


def test_two_channels_worked_out_by_hand():
    """Rows (1, 0) and (0, 1): energies are the identity matrix."""
    x = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    own = math.e / (1 + math.e)
    for energy, share in (("paper", own), ("danet", 1 - own)):
        cam = CAM(energy=energy)
        torch.nn.init.ones_(cam.gate)
        expected = torch.tensor([[[1 + share, 1 - share], [1 - share, 1 + share]]])
        torch.testing.assert_close(cam(x), expected)


def test_hands_its_input_back_at_birth():
    x = drawn(2, 5, 3, 7)
    assert torch.equal(CAM()(x), x)


def test_shuffling_channels_or_positions_shuffles_the_result():
    cam, x = opened(CAM()), 0.3 * drawn(2, 11, 13)
    channels = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    positions = torch.randperm(13, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(cam(x[:, channels]), cam(x)[:, channels])
    torch.testing.assert_close(cam(x[:, :, positions]), cam(x)[:, :, positions])


def test_autocast_keeps_the_energies_in_single_precision():
    cam, x = opened(CAM()), drawn(1, 5, 31, 31)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = cam(x)
    torch.testing.assert_close(half, cam(x))


def test_half_precision_input_does_not_overflow():
    x = (40 * drawn(1, 5, 31, 31)).to(torch.float16)
    assert torch.isfinite(opened(CAM())(x)).all()


@pytest.mark.parametrize("energy", ["danet", "paper"])
def test_gradients(energy):
    cam = opened(CAM(energy=energy)).double()
    x = (0.3 * drawn(2, 3, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(cam, (x,))


@pytest.mark.usefixtures("without_shape_checks")
def test_an_unknown_energy_is_named():
    with pytest.raises(ValueError, match="`energy` must be one of 'danet', 'paper', got 'cosine'"):
        CAM(energy="cosine")
