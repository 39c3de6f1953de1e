"""PAN of segmentation-models-pytorch in our adapter: counts, any size, a training step."""

import pytest
import torch
from examples.baselines import pan
from tests.modules import drawn

from guided_attention.losses import GuidedAttentionLoss
from guided_attention.training import ModelWithLoss


@pytest.mark.parametrize("encoder", ["resnet34", "resnet101"])
def test_pan_trains_a_step_at_an_odd_size(encoder):
    model = pan(1, 5, encoder=encoder)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    target = torch.randint(5, (2, 97, 71), generator=torch.Generator().manual_seed(0))
    terms = ModelWithLoss(model, GuidedAttentionLoss())(drawn(2, 1, 97, 71), target)
    terms.total.backward()
    optimizer.step()
    assert terms.total.isfinite()
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert model.eval()(drawn(1, 1, 33, 65)).shape == (1, 5, 33, 65)


@pytest.mark.parametrize("side", [1, 37, 128, 131])
def test_pan_predicts_images_of_any_size(side):
    assert pan(3, 2).eval()(drawn(1, 3, side, 29)).shape == (1, 2, side, 29)


@pytest.mark.parametrize(("encoder", "parameters"), [("resnet34", 21_470_700), ("resnet101", 43_246_828)])
def test_pan_has_the_parameters_that_its_page_names(encoder, parameters):
    assert sum(parameter.numel() for parameter in pan(encoder=encoder).parameters()) == parameters


def test_pan_cannot_train_on_a_batch_of_one():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        pan()(drawn(1, 1, 128, 128))
