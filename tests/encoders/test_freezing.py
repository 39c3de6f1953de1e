"""Frozen stages and learning rates of the encoder, as docs/how-to/encoders.md has them, under the trainer."""

import pytest
import torch
from tests.modules import drawn
from torch.utils.data import DataLoader, TensorDataset

from guided_attention import MSGA
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.training import Trainer, TrainerConfig, polynomial_decay

pytestmark = pytest.mark.usefixtures("narrow_resnets")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MSGA(num_classes=3, encoder="resnet18", channels=4, steps=1)


def train(model, optimizer, folder, schedule=None):
    images, labels = (
        drawn(2, 1, 37, 41),
        torch.randint(3, (2, 37, 41), generator=torch.Generator().manual_seed(0)),
    )
    rates = []
    Trainer(
        model,
        GuidedAttentionLoss(),
        optimizer,
        train_loader=DataLoader(TensorDataset(images, labels), batch_size=2),
        validate=lambda _: 0.0,
        run_dir=folder / "run",
        config=TrainerConfig(
            max_epochs=2,
            quiet=True,
            schedule=schedule,
            hooks=[
                lambda event, _: event == "step" and rates.append([g["lr"] for g in optimizer.param_groups])
            ],
        ),
    ).fit()
    return rates


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module, before):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_a_frozen_stage_keeps_its_weights_and_its_batch_norms_go_on_counting(model, tmp_path):
    model.encoder.layer1.requires_grad_(False)
    frozen, free = copied(model.encoder.layer1), copied(model.encoder.layer2)
    train(model, torch.optim.AdamW(model.parameters(), lr=1e-3), tmp_path)
    statistics = {name for name in frozen if "running" in name or name.endswith("num_batches_tracked")}
    assert changed(model.encoder.layer1, frozen) == statistics
    assert changed(model.encoder.layer2, free) == set(free)


def test_no_momentum_keeps_the_running_statistics_of_a_frozen_stage(model, tmp_path):
    model.encoder.layer1.requires_grad_(False)
    for module in model.encoder.layer1.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    frozen = copied(model.encoder.layer1)
    train(model, torch.optim.AdamW(model.parameters(), lr=1e-3), tmp_path)
    counters = {name for name in frozen if name.endswith("num_batches_tracked")}
    assert changed(model.encoder.layer1, frozen) == counters


def test_a_schedule_scales_each_groups_own_rate(model, tmp_path):
    encoder = set(model.encoder.parameters())
    others = [parameter for parameter in model.parameters() if parameter not in encoder]
    groups = [{"params": others}, {"params": model.encoder.parameters(), "lr": 1e-5}]
    optimizer = torch.optim.SGD(groups, lr=1e-3)
    rates = train(model, optimizer, tmp_path, schedule=polynomial_decay(power=1.0))
    assert rates == [pytest.approx([1e-3, 1e-5]), pytest.approx([5e-4, 5e-6])]
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-5]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
