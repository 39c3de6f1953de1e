import pytest
import torch
from torch.testing import assert_close

from guided_attention.losses import (
    DiceCrossEntropyLoss,
    cross_entropy_loss,
    dice_cross_entropy_loss,
    dice_loss,
)


def inputs():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 7, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 3, (2, 5, 7), generator=generator)


@pytest.mark.parametrize(("dice_weight", "cross_entropy_weight"), [(1.0, 0.0), (0.0, 1.0), (0.25, 3.0)])
def test_the_terms_are_weighted_and_summed(dice_weight, cross_entropy_weight):
    logits, target = inputs()
    settings = {"dice_weight": dice_weight, "cross_entropy_weight": cross_entropy_weight}
    shared = {"class_weights": [0.5, 2.0, 3.0], "ignore_index": 2}
    wanted = dice_weight * dice_loss(logits, target, **shared) + cross_entropy_weight * cross_entropy_loss(
        logits, target, **shared
    )
    assert_close(dice_cross_entropy_loss(logits, target, **settings, **shared), wanted)
    assert_close(DiceCrossEntropyLoss(**settings, **shared)(logits, target), wanted)


def test_a_cross_entropy_of_weight_zero_counts_nothing_though_it_is_infinite():
    logits, target = inputs()
    logits[:, 0] = -torch.inf
    logits.requires_grad_()
    value = dice_cross_entropy_loss(logits, target, cross_entropy_weight=0.0)
    assert_close(value, dice_loss(logits, target))
    value.backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 1:] != 0).all()


@pytest.mark.parametrize("name", ["dice_weight", "cross_entropy_weight"])
def test_a_negative_weight_is_refused(name):
    with pytest.raises(ValueError, match=rf"`{name}` must be 0 or more, got -1\.0\."):
        DiceCrossEntropyLoss(**{name: -1.0})
    with pytest.raises(ValueError, match=rf"`{name}` must be 0 or more, got -1\.0\."):
        dice_cross_entropy_loss(*inputs(), **{name: -1.0})
