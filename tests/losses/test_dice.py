import math

import pytest
import torch
from monai.losses import DiceLoss as MonaiDiceLoss
from tests.reference import losses as written_out
from torch.testing import assert_close

from guided_attention.losses import DiceLoss, dice_loss


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, 4, 5, 7, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 4, (3, 5, 7), generator=generator)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("smooth", [1e-5, 1.0, 3.0])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.25, 3.0]])
def test_every_setting_equals_the_sum_written_out(background, smooth, weights):
    logits, target = inputs()
    value = dice_loss(logits, target, include_background=background, smooth=smooth, class_weights=weights)
    wanted = written_out.dice(logits, target, weights, background=background, smooth=smooth)
    assert_close(value, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("ignored", [255, 0, 2])
def test_the_background_too_is_counted_only_where_positions_count(ignored):
    logits, target = inputs()
    target[:, 1:3] = ignored
    value = dice_loss(logits, target, include_background=True, ignore_index=ignored)
    wanted = written_out.dice(logits, target, None, ignored, background=True)
    assert_close(value, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_value_and_gradient_equal_those_of_monai(background, smooth):
    logits, target = inputs()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    monai = MonaiDiceLoss(
        include_background=background,
        to_onehot_y=True,
        softmax=True,
        batch=True,
        smooth_nr=smooth,
        smooth_dr=smooth,
    )
    value, wanted = (
        dice_loss(ours, target, include_background=background, smooth=smooth),
        monai(theirs, target[:, None]),
    )
    assert_close(value, wanted)
    value.backward()
    wanted.backward()
    assert_close(ours.grad, theirs.grad)


def test_three_pixels_by_hand():
    logits = torch.tensor([[[0.0, 0.0, 0.0], [math.log(3.0), 0.0, -math.log(3.0)]]])  # p: 3/4, 1/2, 1/4
    target = torch.tensor([[1, 1, 0]])
    assert_close(dice_loss(logits, target), torch.tensor(1 - (2.5 + 1) / (1.5 + 2 + 1)))
    both = dice_loss(logits, target, include_background=True)
    assert_close(both, torch.tensor(1 - ((2.5 + 1) / 4.5 + (1.5 + 1) / (1.5 + 1 + 1)) / 2))


def test_the_batch_is_one_region_and_not_a_mean_of_images():
    logits, target = inputs()
    merged = dice_loss(logits.movedim(1, 0).flatten(1, 2)[None], target.flatten(0, 1)[None])
    assert_close(merged, dice_loss(logits, target))


def test_false_alarms_of_an_absent_organ_cost_and_have_a_gradient():
    logits = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    value = dice_loss(logits, torch.zeros(1, 3, dtype=torch.long))
    value.backward()
    assert_close(value.detach(), torch.tensor(1.5 / 2.5, dtype=torch.float64))
    # d/dp of s / (s + 1) at s = 3/2, times p (1 − p)
    assert_close(logits.grad[0, 1], torch.full((3,), 0.25 / 2.5**2, dtype=torch.float64))


@pytest.mark.parametrize("smooth", [0.0, -1.0])
def test_a_ratio_that_could_be_nothing_by_nothing_is_refused(smooth):
    with pytest.raises(ValueError, match=r"`smooth` must be above 0, got"):
        DiceLoss(smooth=smooth)
    with pytest.raises(ValueError, match=r"`smooth` must be above 0, got"):
        dice_loss(*inputs(), smooth=smooth)


def test_a_background_alone_is_refused():
    with pytest.raises(ValueError, match=r"`logits` must be of more than 1 class, got 1 class\."):
        dice_loss(torch.zeros(2, 1, 3), torch.zeros(2, 3, dtype=torch.long))
