"""Augmentation on the device, batches that are too large for the memory, time spent on waiting for data."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from guided_attention import Trainer
from guided_attention.errors import ArgumentError, ArgumentTypeError
from guided_attention.sampling import Chain, FlipRotate, RandomIntensity
from guided_attention.training import TrainerConfig, load_checkpoint, read_log, seed_everything
from guided_attention.training.seeding import seeds_of

IMAGES = 11


def pairs():
    images = torch.rand(IMAGES, 1, 5, 7, generator=torch.Generator().manual_seed(3))
    return images, (images[:, 0] > 0.5).long()


class Limited(nn.Module):
    """Two convolutions without batch norm, for which more than so many images do not fit."""

    def __init__(self, most):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1))
        self.most, self.seen = most, []

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.seen.append(len(x))
        return self.body(x)


def trained(folder, kind=Limited, *, most=IMAGES, batch=IMAGES, loader=None, **settings):
    seed_everything(0)
    model = kind(most)
    trainer = Trainer(
        model,
        nn.CrossEntropyLoss(),
        torch.optim.SGD(model.parameters(), lr=0.5),
        train_loader=DataLoader(TensorDataset(*pairs()), batch) if loader is None else loader,
        run_dir=folder,
        config=TrainerConfig(**{"max_epochs": 2, "device": "cpu", "quiet": True, **settings}),
    )
    return trainer, model


def test_the_seed_of_an_image_depends_on_run_epoch_batch_and_place():
    seeds = [
        seeds_of(seed, epoch, batch, range(7)) for seed in (0, 5) for epoch in (1, 2) for batch in (0, 1)
    ]
    together = torch.cat(seeds)
    assert together.dtype == torch.int64
    assert int(together.min()) >= 0
    assert len(together.unique()) == len(together)
    expected = np.random.SeedSequence([5, 2, 1]).generate_state(7, np.uint64) // 2
    assert seeds[-1].tolist() == expected.tolist()
    assert seeds_of(5, 2, 1, range(3, 5)).tolist() == expected[3:5].tolist()


def test_each_batch_is_augmented_before_the_network_sees_it(tmp_path):
    given, seen = [], []

    def augment(images, labels, seeds):
        assert not torch.is_grad_enabled()
        given.append((images, labels, seeds))
        return 1 - images, 1 - labels

    def loss(logits, target):
        seen.append(target)
        return nn.functional.cross_entropy(logits, target)

    model = nn.Conv2d(1, 2, 1)
    inputs = []
    model.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    trainer = Trainer(
        model,
        loss,
        torch.optim.SGD(model.parameters(), lr=0.5),
        train_loader=DataLoader(TensorDataset(*pairs()), 4),
        run_dir=tmp_path / "run",
        config=TrainerConfig(max_epochs=2, device="cpu", quiet=True, seed=5, augment=augment),
    )
    trainer.fit()
    images, labels = pairs()
    expected = [(epoch, batch) for epoch in (1, 2) for batch in range(3)]
    assert len(given) == len(expected)
    for (got, marks, seeds), (epoch, batch), x, target in zip(given, expected, inputs, seen, strict=True):
        part = slice(4 * batch, 4 * batch + 4)
        assert torch.equal(got, images[part])
        assert torch.equal(marks, labels[part])
        assert torch.equal(seeds, seeds_of(5, epoch, batch, range(len(got))))
        assert torch.equal(x, 1 - images[part])
        assert torch.equal(target, 1 - labels[part])


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("augment", "got"),
    [("flip", "a str"), (torch.nn.Identity, "a type"), (lambda images, _labels, _seeds: images, "a Tensor")],
)
def test_what_does_not_augment_is_an_error(tmp_path, augment, got):
    with pytest.raises(TypeError, match=rf"`augment.* got {got}"):
        trained(tmp_path / "run", augment=augment)[0].fit()


@pytest.mark.parametrize(
    "augment", [FlipRotate(), RandomIntensity(), Chain((FlipRotate(),)), lambda image: image]
)
def test_an_augmentation_of_single_slices_is_told_where_it_goes(augment):
    message = (
        rf"`augment` must be a function of images, labels and seeds, got a {type(augment).__name__} that cannot be "
        r"called with 3 arguments \(too many positional arguments\)\. One of an image and its labels goes to "
        r"SliceDataset\(augment=…\)\."
    )
    with pytest.raises(ArgumentTypeError, match=message):
        TrainerConfig(augment=augment)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_that_does_not_fit_is_computed_in_pieces(tmp_path, capsys, accumulate):
    settings = {"accumulate": accumulate, "batch": 7}
    whole, expected = trained(tmp_path / "whole", **settings)
    whole.fit()
    cut, model = trained(tmp_path / "cut", most=3, **settings)
    cut.fit()
    # 11 images in batches of 7 and 4, in 4 pieces each.
    assert model.seen[-8:] == [2, 2, 2, 1, 1, 1, 1, 1]
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-5, atol=1e-6)
    rows = [read_log(tmp_path / name / "log.csv") for name in ("whole", "cut")]
    assert [row["loss"] for row in rows[1]] == pytest.approx([row["loss"] for row in rows[0]], rel=1e-5)
    said = capsys.readouterr().err
    assert said.count("does not fit into memory") == 2  # once for 2 pieces, once for 4
    assert "is computed in 4 pieces from now on, whose gradients are averaged" in said
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["sessions"][-1]["pieces"] == 4
    assert load_checkpoint(tmp_path / "cut" / "last.pt")["run"]["pieces"] == 4


def test_a_resumed_run_keeps_its_pieces(tmp_path):
    trained(tmp_path / "run", most=3, max_epochs=1)[0].fit()
    trainer, model = trained(tmp_path / "run", most=3)
    trainer.fit(resume=True)
    assert model.seen == [3, 3, 3, 2]
    sessions = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"]
    assert [session["pieces"] for session in sessions] == [4, 4]


def test_one_image_that_does_not_fit_is_an_error(tmp_path):
    with pytest.raises(ArgumentError, match=r"`train_loader` must be of images that fit .* out of memory"):
        trained(tmp_path / "run", most=0)[0].fit()


def test_the_share_of_waiting_for_data_is_logged_and_said_once(tmp_path, capsys):
    now = [100.0]

    class Slow:
        """Takes 3 seconds a batch, and 5 to notice its end."""

        def __len__(self):
            return 2

        def __iter__(self):
            images, labels = pairs()
            for _ in range(2):
                now[0] += 3.0
                yield images, labels
            now[0] += 5.0

    class Busy(Limited):
        def forward(self, x):
            now[0] += 7.0
            return super().forward(x)

    for quiet in (False, True):
        name = f"quiet {quiet}"
        trained(tmp_path / name, Busy, loader=Slow(), clock=lambda: now[0], quiet=quiet)[0].fit()
        assert [row["waiting"] for row in read_log(tmp_path / name / "log.csv")] == [6 / 20, 6 / 20]
        said = capsys.readouterr().err
        assert said.count("30 % of epoch 1 went into waiting for data. Raise num_workers") == (not quiet)
        assert said.count("waiting for data") == (not quiet)
