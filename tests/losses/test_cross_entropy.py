import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from guided_attention.losses import cross_entropy_loss


def test_two_pixels_by_hand():
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0]]])  # p of class 0: 1/2 and 3/4
    target = torch.tensor([[1, 0]])
    assert_close(cross_entropy_loss(logits, target), torch.tensor((math.log(2) + math.log(4 / 3)) / 2))
    weighted = cross_entropy_loss(logits, target, class_weights=[1.0, 3.0])
    assert_close(weighted, torch.tensor((3 * math.log(2) + math.log(4 / 3)) / 4))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 3.0])])
def test_value_and_gradient_equal_those_of_torch(weights):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 7, generator=generator)
    target = torch.randint(0, 3, (2, 5, 7), generator=generator)
    target[:, 0] = 255
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = cross_entropy_loss(ours, target, class_weights=weights, ignore_index=255)
    wanted = F.cross_entropy(theirs, target, weight=weights, ignore_index=255)
    assert_close(value, wanted)
    value.backward()
    wanted.backward()
    assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("ignored", [None, 2])
def test_a_class_of_weight_zero_costs_nothing_without_probability_too(ignored):
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 0] = -math.inf
    logits.requires_grad_()
    value = cross_entropy_loss(
        logits, torch.tensor([[[0, 1], [0, 1]]]), class_weights=[0.0, 1.0, 1.0], ignore_index=ignored
    )
    value.backward()
    assert_close(value.detach(), torch.tensor(math.log(2)))
    of_pixels = torch.tensor([[0.0, 0.0, 0.0], [0.0, -0.25, 0.25]])  # of classes 0 and 1, half a pixel's each
    assert_close(logits.grad, of_pixels.T.reshape(1, 3, 1, 2).expand(1, 3, 2, 2))


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[[1e4], [-1e4]]], requires_grad=True)
    value = cross_entropy_loss(logits, torch.tensor([[1]]))
    value.backward()
    assert_close(value.detach(), torch.tensor(2e4))
    assert_close(logits.grad, torch.tensor([[[1.0], [-1.0]]]))
