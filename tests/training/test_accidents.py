"""What users pass to a trainer: it does what it says, or says why not. One test for each accident that was reported."""

import functools
import json
import math
import re
import sys

import pytest
import torch
from tests.training.conftest import BATCHES, toy_network, toy_score
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    TensorDataset,
)

from guided_attention.case import Case
from guided_attention.data import make_phantom
from guided_attention.errors import ArgumentError, ArgumentTypeError, CheckpointError, WriteError
from guided_attention.inference import Predictor
from guided_attention.labels import LabelSpec
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.models import MSGA, danet
from guided_attention.outputs import LossTerms, SegmentationOutput, takes_outputs
from guided_attention.preparation import Preparation
from guided_attention.sampling import Augmentation, GaussianNoise, Mirror
from guided_attention.training import (
    ModelWithLoss,
    Trainer,
    TrainerConfig,
    arguments,
    load_checkpoint,
    load_weights,
    polynomial_decay,
    read_log,
    reduce_on_plateau,
    save_checkpoint,
    seed_everything,
)

IMAGES = torch.rand(7, 1, 5, 11, generator=torch.Generator().manual_seed(3))
LABELS = (IMAGES[:, 0] > 0.5).long()


def sgd(**settings):
    return lambda model: torch.optim.SGD(model.parameters(), **{"lr": 0.1, **settings})


def equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


# Losses


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), DiceCrossEntropyLoss(), nn.functional.cross_entropy])
def test_plain_losses_of_logits_and_labels_train_as_if_called_by_hand(tmp_path, loss):
    seed_everything(0)
    model, other = toy_network(), toy_network()
    other.load_state_dict(model.state_dict())
    config = TrainerConfig(max_epochs=1, quiet=True, device="cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(IMAGES[:3], LABELS[:3]), [IMAGES[3:], LABELS[3:]]]
    Trainer(model, loss, optimizer, train_loader=batches, run_dir=tmp_path / "run", config=config).fit()
    optimizer, values = torch.optim.SGD(other.parameters(), lr=0.1), []
    for image, target in batches:
        optimizer.zero_grad()
        value = loss(other(image), target)
        value.backward()
        optimizer.step()
        values.append(value.item())
    equal(model.state_dict(), other.state_dict())
    assert read_log(tmp_path / "run" / "log.csv")[0]["loss"] == pytest.approx(sum(values) / 2, rel=1e-6)


_WRONG_LOSSES = {
    "reads the output, but is not marked": (
        lambda output, target: nn.functional.cross_entropy(output.logits, target),
        r"`loss` must take logits, got one that reads their 'logits'\. Mark a loss .* with @takes_outputs",
    ),
    "returns terms, but is not marked": (
        lambda logits, _target: LossTerms(logits.sum()),
        r"`loss\(logits, target\)` must be a scalar tensor, got a LossTerms\. Mark a loss",
    ),
    "is marked, but returns a tensor": (
        takes_outputs(lambda output, _target: output.logits.sum()),
        r"`loss\(output, target\)` must be LossTerms, got a Tensor\. Wrap the value",
    ),
    "returns a value for each pixel": (
        nn.CrossEntropyLoss(reduction="none"),
        r"`loss\(logits, target\)` must be a scalar tensor, got one of shape \(2, 3, 5\)",
    ),
}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("how", _WRONG_LOSSES)
def test_a_loss_that_does_not_fit_is_told_how(how):
    loss, message = _WRONG_LOSSES[how]
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        ModelWithLoss(nn.Conv2d(1, 2, 1), loss)(torch.rand(2, 1, 3, 5), torch.ones(2, 3, 5, dtype=torch.long))


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss, 3])
def test_what_is_no_loss_is_refused(loss):
    with pytest.raises(ArgumentTypeError, match="`loss` must be a function of logits and labels, got"):
        ModelWithLoss(toy_network(), loss)


# Networks


class Returns(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.conv, self.wrap = nn.Conv2d(1, 2, 1), wrap

    def forward(self, x):
        return self.wrap(self.conv(x))


_OUTPUTS = {
    "a dictionary of torchvision": lambda logits: {"out": logits, "aux": logits * 2},
    "logits in a dictionary": lambda logits: {"features": logits * 3, "logits": logits},
    "a dictionary of one": lambda logits: {"segmentation": logits},
    "a list": lambda logits: [logits, logits[:, :, ::2] * 2],
    "a tuple": lambda logits: (logits,),
    "the record": SegmentationOutput,
}


@pytest.mark.parametrize("how", _OUTPUTS)
def test_networks_may_return_dictionaries_and_lists(how):
    model, target = Returns(_OUTPUTS[how]), torch.ones(2, 5, 3, dtype=torch.long)
    image = torch.rand(2, 1, 5, 3)
    logits = model.conv(image)
    wanted = nn.functional.cross_entropy(logits, target)
    assert ModelWithLoss(model, nn.CrossEntropyLoss())(image, target).total == wanted
    side = nn.functional.interpolate(logits[:, :, ::2] * 2, (5, 3), mode="bilinear")
    deep = wanted + nn.functional.cross_entropy(side, target) if how == "a list" else wanted
    torch.testing.assert_close(ModelWithLoss(model, GuidedAttentionLoss())(image, target).total, deep)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (
            lambda logits: {"a": logits, "b": logits},
            r"got a dictionary with the keys \['a', 'b'\]\. Rename the key",
        ),
        (
            lambda logits: (logits, logits.mean()),
            r"got a tuple of \['tensor \(2, 2, 5, 3\)', 'tensor \(\)'\]",
        ),
        (lambda _logits: [], r"got a list of \[\]"),
        (lambda _logits: 3, r"got a int"),
    ],
)
def test_networks_that_return_something_else_are_named(wrap, message):
    with pytest.raises(ArgumentTypeError, match=r"`model\(image\)` must be logits.*" + message):
        ModelWithLoss(Returns(wrap), nn.CrossEntropyLoss())(
            torch.rand(2, 1, 5, 3), torch.ones(2, 5, 3).long()
        )


def test_wrappers_that_would_lose_the_guidance_are_refused(make_trainer):
    with pytest.raises(
        ArgumentError, match="got a DataParallel. It calls forward.. only, so that deep supervision"
    ):
        make_trainer(model=nn.DataParallel(toy_network()))
    with pytest.raises(ArgumentError, match="got a DataParallel"):
        make_trainer(model=torch.compile(nn.DataParallel(toy_network()), backend="eager"))
    inside = MSGA(encoder="resnet18", channels=4)
    inside.compile(backend="eager")
    with pytest.raises(
        ArgumentError, match=r"got one that was compiled in place\. .*Pass torch\.compile\(model\)"
    ):
        make_trainer(model=inside)


def test_several_processes_that_cannot_find_each_other_are_refused(make_trainer, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(
        ArgumentError, match="must be 1 without torchrun, got 2 and no MASTER_ADDR, MASTER_PORT"
    ):
        make_trainer()
    for wrong in ("", "2", "-1"):
        monkeypatch.setenv("RANK", wrong)
        with pytest.raises(
            ArgumentError, match=rf"`RANK` must be from 0 to 1 .*, got '{wrong}'\. Start the proc"
        ):
            make_trainer()


def test_an_optimizer_of_another_network_is_refused(make_trainer):
    other = toy_network()
    message = (
        r"`optimizer` must be one of the parameters of `model` and `loss`, got one with 6 of 6 parameters"
    )
    with pytest.raises(ArgumentError, match=message):
        make_trainer(optimizer=lambda _model: torch.optim.SGD(other.parameters(), lr=0.1))


def test_an_unknown_device_is_refused_and_auto_is_one_of_this_machine(make_trainer):
    with pytest.raises(ArgumentError, match="`device` must be a device of this machine, got 'cuda:77'"):
        make_trainer(device="cuda:77")
    with pytest.raises(ArgumentError, match="`device` must be a device of this machine, got 'quick'"):
        make_trainer(device="quick")
    assert make_trainer(device="auto", max_epochs=1).fit().epochs == 1


# Loaders


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(IMAGES, LABELS, strict=True))


def test_a_loader_without_a_length_trains_and_says_so(make_trainer, capsys):
    result = make_trainer(loader=DataLoader(Stream(), 3), quiet=False, max_epochs=2).fit()
    assert [row["batches"] for row in read_log(result.run_dir / "log.csv")] == [3, 3]
    assert "epoch 2/2  batch 3  loss" in capsys.readouterr().err


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("batch", "keys", "message"),
    [
        (
            (IMAGES, LABELS, LABELS),
            None,
            r"must be pairs \(image, labels\), got 3 things a batch\. Leave out the",
        ),
        (
            {"image": IMAGES, "label": LABELS},
            None,
            r"got a dict\. Name two of its keys \['image', 'label'\]: Trainer",
        ),
        (
            {"image": IMAGES, "y": LABELS},
            ("image", "label"),
            r"keys 'image' and 'label', got one with \['image', 'y'\]",
        ),
        ((IMAGES, LABELS), ("image", "label"), r"got a tuple\. Set batch_keys=None"),
        ((IMAGES, ["a"] * 7), None, r"`train_loader\['labels'\]` must be a tensor, got a list"),
        ((LABELS, LABELS), None, r"images of a floating type, got torch\.int64\. Convert images to float32"),
        (IMAGES, None, r"must be pairs \(image, labels\), got a Tensor\. Collate"),
    ],
)
def test_a_batch_of_something_else_is_named(make_trainer, batch, keys, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        make_trainer(loader=[batch], batch_keys=keys).fit()


def test_batches_may_be_dictionaries(make_trainer):
    pairs = make_trainer("pairs", loader=[(IMAGES, LABELS)])
    named = make_trainer("named", loader=[{"x": IMAGES, "y": LABELS, "id": "7"}], batch_keys=("x", "y"))
    pairs.fit()
    named.fit()
    equal(pairs.model.state_dict(), named.model.state_dict())


def test_batches_of_monai_train_the_papers_network(tmp_path):
    monai_data = pytest.importorskip("monai.data")
    image = monai_data.MetaTensor(torch.rand(2, 1, 32, 32))
    batch = {"image": image, "label": (image[:, 0] > 0.5).long()}
    model = MSGA(in_channels=1, num_classes=2, encoder="resnet18", channels=4)
    config = TrainerConfig(max_epochs=1, device="cpu", quiet=True, batch_keys=("image", "label"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(
        model, GuidedAttentionLoss(), optimizer, train_loader=[batch], run_dir=tmp_path / "run", config=config
    )
    trainer.fit()
    row = read_log(tmp_path / "run" / "log.csv")[0]
    assert all(math.isfinite(row[name]) for name in ("loss", "loss_guidance"))


def test_loaders_that_are_empty_after_one_epoch_are_refused(make_trainer):
    with pytest.raises(
        ArgumentTypeError, match=r"got an iterator \(list_iterator\)\. It is empty after one epoch"
    ):
        make_trainer(loader=iter([(IMAGES, LABELS)]))
    with pytest.raises(ArgumentError, match="at least one batch long, got none"):
        make_trainer(loader=[])

    class Once:
        left = 1

        def __iter__(self):
            self.left -= 1
            return iter([(IMAGES, LABELS)] if self.left >= 0 else [])

    with pytest.raises(
        ArgumentError, match="`train_loader` must be at least one batch long, got none in epoch 2"
    ):
        make_trainer(loader=Once()).fit()


def test_loaders_that_a_resumed_run_cannot_repeat_are_refused_by_name(make_trainer):
    data = TensorDataset(IMAGES, LABELS)
    kept = DataLoader(data, 3, num_workers=1, persistent_workers=True)
    with pytest.raises(
        ArgumentError, match="got persistent_workers=True: .* Set persistent_workers=False, or allow"
    ):
        make_trainer(loader=kept)
    make_trainer(loader=kept, exact_resume=False)
    with pytest.raises(ArgumentError, match=r"got in_order=False\. Set in_order=True"):
        make_trainer(loader=DataLoader(data, 3, num_workers=1, in_order=False))
    secret = DataLoader(data, 3)
    secret.sampler.generator = __import__("random").SystemRandom()
    with pytest.raises(ArgumentError, match=r"got train_loader\.sampler\.generator, a random\.SystemRandom"):
        make_trainer(loader=secret)


def test_samplers_are_told_the_epoch(make_trainer):
    seen = []
    data = TensorDataset(IMAGES, LABELS)

    class Told(DistributedSampler):
        def __iter__(self):
            order = list(super().__iter__())
            seen.append(order)
            return iter(order)

    sampler = Told(data, num_replicas=1, rank=0, shuffle=True)
    make_trainer(loader=DataLoader(data, 3, sampler=sampler)).fit()
    wanted = []
    for epoch in (1, 2, 3):
        sampler.set_epoch(epoch)
        wanted.append(list(DistributedSampler.__iter__(sampler)))
    assert seen == wanted
    assert seen[0] != seen[1] != seen[2]


class OwnNoise(Dataset):
    def __init__(self, generator):
        self.generator = generator

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, number):
        noise = (
            self.generator.random()
            if hasattr(self.generator, "random")
            else torch.rand((), generator=self.generator)
        )
        return IMAGES[number] + float(noise), LABELS[number]


def own_sampler():
    sampler = RandomSampler(LABELS, generator=torch.Generator().manual_seed(11))
    return DataLoader(TensorDataset(IMAGES, LABELS), 2, sampler=sampler)


_LOADERS = {
    "a sampler's own generator": own_sampler,
    "a data set's own": lambda: DataLoader(OwnNoise(torch.Generator().manual_seed(5)), 2, shuffle=True),
    "NumPy's": lambda: DataLoader(OwnNoise(__import__("numpy").random.default_rng(5)), 2, shuffle=True),
    "Python's": lambda: DataLoader(OwnNoise(__import__("random").Random(5)), 2, shuffle=True),
    "in a subset": lambda: DataLoader(
        torch.utils.data.Subset(OwnNoise(torch.Generator().manual_seed(5)), range(7)), 2, shuffle=True
    ),
}


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("how", _LOADERS)
def test_generators_of_samplers_and_data_sets_go_on_inside_an_epoch_as_if_there_had_been_no_break(
    make_trainer, clock, how, accumulate
):
    whole = make_trainer("whole", loader=_LOADERS[how](), accumulate=accumulate)
    whole.fit()

    done = {1: 2, 3: 3}[accumulate]

    def hook(event, status):
        if event == "step" and status.epoch == 2:
            clock.pass_minutes(11.0)  # so that each step is stored
            if status.batch > done:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer("broken", loader=_LOADERS[how](), accumulate=accumulate, hooks=[hook]).fit()
    state = load_checkpoint(whole._folder.path.parent / "broken" / "last.pt")["run"]
    assert (state["epoch"], state["batches"]) == (2, done)
    resumed = make_trainer("broken", loader=_LOADERS[how](), accumulate=accumulate)
    seed_everything(77)
    resumed.fit(resume=True)
    equal(whole.model.state_dict(), resumed.model.state_dict())


# Learning rates and other settings


def test_a_scheduler_stepped_by_the_user_is_left_alone(make_trainer):
    made = []

    def optimizer(model):
        made.append(torch.optim.SGD(model.parameters(), lr=0.1))
        made.append(StepLR(made[0], 1, gamma=0.5))
        return made[0]

    def validate(model):
        made[1].step()
        return toy_score(model)

    result = make_trainer(optimizer=optimizer, validate=validate).fit()
    assert [row["lr"] for row in read_log(result.run_dir / "log.csv")] == [0.1, 0.05, 0.025]


def test_schedulers_of_torch_are_stepped_and_resumed_as_torch_has_them(tmp_path):
    scores = {1: 0.5, 2: 0.4, 3: 0.3, 4: 0.6, 5: 0.2, 6: 0.1}

    def run(name, make, epochs, *, resume=False):
        model = nn.Conv2d(1, 2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        config = TrainerConfig(max_epochs=epochs, device="cpu", quiet=True, schedule=make(optimizer))
        trainer = Trainer(
            model,
            nn.CrossEntropyLoss(),
            optimizer,
            train_loader=[(IMAGES, LABELS)],
            validate=lambda _model: scores[trainer._session.run.epoch],
            run_dir=tmp_path / name,
            config=config,
        )
        return [row["lr"] for row in read_log(trainer.fit(resume=resume).run_dir / "log.csv")]

    def plateau(optimizer):
        return ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0)

    # Worse at 2 and 3, better at 4, worse at 5: the rate is cut after each worse one.
    wanted = [0.1, 0.1, 0.05, 0.025, 0.025, 0.0125]
    assert run("whole", plateau, 6) == wanted
    run("broken", plateau, 3)
    assert run("broken", plateau, 6, resume=True) == wanted
    run("steps", lambda optimizer: StepLR(optimizer, 2, gamma=0.1), 3)
    got = run("steps", lambda optimizer: StepLR(optimizer, 2, gamma=0.1), 6, resume=True)
    assert got == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_a_second_run_with_an_optimizer_begins_at_the_rate_that_was_given(make_trainer, capsys):
    model = toy_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def rates(name, *, resume=False, **settings):
        trainer = make_trainer(
            name, model=model, optimizer=lambda _: optimizer, schedule=polynomial_decay(1.0), **settings
        )
        return [row["lr"] for row in read_log(trainer.fit(resume=resume).run_dir / "log.csv")]

    def stop(event, status):
        if (event, status.epoch) == ("step", 2):
            raise ZeroDivisionError

    wanted = rates("first")
    assert wanted == pytest.approx([0.1 * (1 - batches / 9) for batches in (2, 5, 8)])
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert rates("second") == wanted
    with pytest.raises(ZeroDivisionError):
        rates("broken", hooks=[stop])
    assert rates("broken", resume=True) == wanted
    assert "changed" not in capsys.readouterr().err
    optimizer.param_groups[0]["lr"] = 0.05  # by the user, for the next stage
    assert rates("third") == pytest.approx([rate / 2 for rate in wanted])


def test_a_scheduler_of_another_optimizer_is_refused(make_trainer):
    other = torch.optim.SGD(toy_network().parameters(), lr=0.1)
    with pytest.raises(
        ArgumentError, match="`schedule` must be a scheduler of `optimizer`, got one of another"
    ):
        make_trainer(schedule=StepLR(other, 1))


def test_settings_given_now_win_over_those_stored_and_are_said_and_logged(make_trainer, capsys):
    make_trainer(optimizer=sgd(momentum=0.5, weight_decay=0.1), max_epochs=2).fit()
    capsys.readouterr()
    resumed = make_trainer(
        optimizer=sgd(momentum=0.75, weight_decay=0.25, lr=0.2), max_epochs=3, clip_grad_norm=2.0
    )
    momenta = load_checkpoint(resumed._folder.path / "last.pt")["optimizer"]["state"][0]["momentum_buffer"]
    seen = []
    original = resumed._optimizer.step

    def step(*arguments):
        seen.append((resumed._optimizer.state_dict()["state"][0]["momentum_buffer"].clone(), dict(group)))
        return original(*arguments)

    group = resumed._optimizer.param_groups[0]
    resumed._optimizer.step = step
    resumed.fit(resume=True)
    assert torch.equal(seen[0][0], momenta)  # the state comes from the file
    assert (seen[0][1]["momentum"], seen[0][1]["weight_decay"], seen[0][1]["lr"]) == (0.75, 0.25, 0.2)
    said = capsys.readouterr().err
    changes = ["lr: 0.1 → 0.2", "momentum: 0.5 → 0.75", "weight_decay: 0.1 → 0.25", "max_epochs: 2 → 3"]
    record = (resumed._folder.path / "run.json").read_text(encoding="utf-8")
    for change in [*changes, "clip_grad_norm: None → 2.0"]:
        assert f"changed since the run was stored: {change}\n" in said
        assert f'"{change}"' in record


def warm(steps):
    return lambda progress: min(1.0, progress.epoch / steps)


_FUNCTIONS = {
    "another schedule": (
        {"schedule": polynomial_decay()},
        {"schedule": warm(3)},
        ["schedule: polynomial_decay.<lambda>(power=0.9) → warm.<lambda>(steps=3)"],
    ),
    "another number of a schedule": (
        {"schedule": polynomial_decay(0.9)},
        {"schedule": polynomial_decay(1.0)},
        ["schedule: polynomial_decay.<lambda>(power=0.9) → polynomial_decay.<lambda>(power=1.0)"],
    ),
    "the same": (
        {"schedule": reduce_on_plateau(2), "augment": Augmentation((Mirror((1,)),))},
        {"schedule": reduce_on_plateau(2), "augment": Augmentation((Mirror((1,)),))},
        [],
    ),
    "no augmentation": (
        {"augment": Augmentation((Mirror((1,)), GaussianNoise(probability=1.0)))},
        {},
        [
            (
                "augment: Augmentation(changes=[Mirror(axes=[1], probability=0.5), "
                "GaussianNoise(probability=1.0, variance=[0.0, 0.1])]) → None"
            )
        ],
    ),
    "a long augmentation": (
        {"augment": Augmentation((Mirror((1,)),) * 20)},
        {"augment": Augmentation((Mirror((1,)),) * 21)},
        ["augment: it has other values"],
    ),
    "a function with fixed arguments": (
        {
            "augment": functools.partial(
                lambda images, labels, _seeds, share: (images * share, labels), share=2
            )
        },
        {
            "augment": functools.partial(
                lambda images, labels, _seeds, share: (images * share, labels), share=1
            )
        },
        ["augment: partial(func=<lambda>, share=2) → partial(func=<lambda>, share=1)"],
    ),
}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("before", "now", "changes"), _FUNCTIONS.values(), ids=_FUNCTIONS)
def test_other_functions_are_said_and_noted_on_resume(make_trainer, capsys, before, now, changes):
    folder = make_trainer(max_epochs=1, **before).fit().run_dir
    make_trainer(max_epochs=1, **now).fit(resume=True)
    said = capsys.readouterr().err
    assert [line for line in said.splitlines() if "changed" in line] == [
        f"changed since the run was stored: {change}" for change in changes
    ]
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["sessions"][1]["changes"] == changes


def test_another_class_of_schedulers_and_other_keys_are_said(make_trainer, capsys):
    made = sgd()(model := toy_network())
    folder = make_trainer(model=model, optimizer=lambda _: made, schedule=StepLR(made, 2), max_epochs=1).fit()
    dictionaries = [{"image": IMAGES, "label": LABELS}] * BATCHES
    make_trainer(optimizer=sgd(), max_epochs=2, loader=dictionaries, batch_keys=("image", "label")).fit(
        resume=True
    )
    record = json.loads((folder.run_dir / "run.json").read_text(encoding="utf-8"))
    assert [change for change in record["sessions"][1]["changes"] if "lr" not in change] == [
        "max_epochs: 1 → 2",
        "batch_keys: None → ['image', 'label']",
        "schedule: StepLR → None",
    ]
    assert "changed since the run was stored: schedule: StepLR → None\n" in capsys.readouterr().err


class Scored:
    """Stands for a `Validation`, which names its metric."""

    def __init__(self, metric, score):
        self.metric, self.score = metric, score

    def __call__(self, _model):
        return self.score


@pytest.mark.parametrize(
    ("before", "now", "score"),
    [
        (lambda _model: 0.9, None, math.nan),
        (Scored("dice", 0.9), Scored("hd95_mm", -3.0), -3.0),
        (Scored("dice", 0.9), lambda _model: -3.0, -3.0),
    ],
    ids=["none any more", "another metric", "another function"],
)
@pytest.mark.parametrize("epochs", [2, 4])
def test_scores_of_another_validation_are_not_compared(make_trainer, capsys, before, now, score, epochs):
    folder = make_trainer(max_epochs=2, validate=before).fit().run_dir
    result = make_trainer(max_epochs=epochs, validate=now).fit(resume=True)
    best_epoch = epochs if now is None or epochs == 2 else 3
    best = load_checkpoint(folder / "best.pt")
    assert (best["epoch"], result.best_epoch) == (best_epoch, best_epoch)
    assert [best["score"], result.best_score] == pytest.approx([score, score], nan_ok=True)
    assert (
        "The next validation counts as the best; patience and schedule know no earlier score.\n"
        in capsys.readouterr().err
    )


def test_patience_and_schedulers_wait_for_scores_of_the_new_validation(make_trainer):
    def parts(optimizer):
        return {"schedule": ReduceLROnPlateau(optimizer, "max", patience=1, threshold=0.0), "patience": 3}

    def run(epochs, validate, **how):
        model = toy_network()
        made = sgd()(model)
        trainer = make_trainer(
            model=model, optimizer=lambda _: made, validate=validate, max_epochs=epochs, **parts(made)
        )
        return trainer.fit(**how), made.param_groups[0]["lr"]

    run(2, Scored("dice", 0.9))
    result, rate = run(5, Scored("hd95_mm", -3.0), resume=True)
    assert (result.best_epoch, result.epochs, result.stopped_by) == (3, 5, "epochs")
    assert rate == pytest.approx(0.01)  # after epochs 4 and 5 without a better one, and not after epoch 3
    result, _ = run(9, Scored("hd95_mm", -3.0), resume=True)
    assert (result.best_epoch, result.epochs, result.stopped_by) == (3, 6, "patience")


def test_what_cannot_change_on_resume_is_refused_by_name_and_nothing_is_touched(make_trainer):
    folder = make_trainer(optimizer=sgd(), max_epochs=1).fit().run_dir
    before = load_checkpoint(folder / "last.pt")
    with pytest.raises(
        CheckpointError, match=r"`optimizer` must be a SGD, as in .*last\.pt, got a Adam\. Pass the"
    ):
        make_trainer().fit(resume=True)

    def groups(model):
        return torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=0.1)

    with pytest.raises(
        CheckpointError, match=r"must be of groups of \[6\] parameters, as in .*, got \[1, 1, 1, 1, 1, 1\]"
    ):
        make_trainer(optimizer=groups).fit(resume=True)
    other = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 2, 1))
    weight = other[0].weight.clone()
    with pytest.raises(CheckpointError, match=r"of another shape: 0\.bias \(3,\) instead of \(5,\)"):
        make_trainer(model=other, optimizer=sgd()).fit(resume=True)
    assert torch.equal(other[0].weight, weight)
    equal(load_checkpoint(folder / "last.pt")["model"], before["model"])


def _metadata(scale, **settings):
    """What a predictor knows whose training scans are so many times brighter."""
    scans = [make_phantom(0, subject=number, size=16) for number in (1, 2)]
    cases = [Case(scan.case_id, scale * scan.image, scan.labels, scan.affine) for scan in scans]
    labels = LabelSpec({1: settings.pop("organ", "liver")})
    return Predictor(toy_network(), Preparation().fit(cases), labels, device="cpu", **settings).metadata


@pytest.mark.parametrize(
    ("given", "odd"),
    [
        ({"scale": 2}, "preparation.fingerprint.intensities"),
        ({"scale": 1, "organ": "spleen"}, "labels.names.1"),
        (None, "preparation, labels"),
    ],
)
def test_another_preparation_or_other_labels_are_refused_on_resume_and_nothing_is_touched(
    make_trainer, given, odd
):
    folder = make_trainer(metadata=_metadata(1), max_epochs=1).fit().run_dir
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    resumed = make_trainer(metadata=None if given is None else _metadata(**given))
    weights = {name: value.clone() for name, value in resumed.model.state_dict().items()}
    message = (
        f"`metadata` must be that of the run in {folder / 'last.pt'}, got another {odd}. Pass the scans and "
    )
    with pytest.raises(CheckpointError, match="^" + re.escape(message)):
        resumed.fit(resume=True)
    equal(resumed.model.state_dict(), weights)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(("factor", "refused"), [(1 + 1e-9, False), (1 + 1e-4, True)])
@pytest.mark.parametrize("kind", [list, torch.tensor])
def test_numbers_that_another_machine_rounds_in_another_way_are_the_same(make_trainer, kind, factor, refused):
    def metadata(factor, labels=16_777_217):
        numbers = torch.tensor([0.1, -250.0], dtype=torch.float64) * factor
        values = {"intensities": [{"mean": kind(numbers.tolist())}], "low": -math.inf, "flat": 0.0}
        return {"preparation": values | {"mean": 1e-17 * factor}, "labels": [labels]}

    folder = make_trainer(metadata=metadata(1)).fit().run_dir
    with pytest.raises(CheckpointError, match=r"got another labels\. Pass"):
        make_trainer(metadata=metadata(1, 16_777_218)).fit(resume=True)
    resumed = make_trainer(metadata=metadata(factor), max_epochs=4)
    if refused:
        with pytest.raises(CheckpointError, match=r"got another preparation\.intensities\. Pass"):
            resumed.fit(resume=True)
        return
    resumed.fit(resume=True)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["sessions"][1]["changes"] == ["max_epochs: 3 → 4"]


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        ({"a": 1, "b": {"c": torch.tensor([2.0]), "d": math.nan}}, []),
        ({"a": 2, "b": {"c": torch.tensor([3.0]), "d": math.nan}, "e": ["Doe"]}, ["a", "b.c", "e"]),
        ({"preparation": {"spacing_mm": 1.0}, "labels": ["liver"]}, ["a", "b", "preparation", "labels"]),
    ],
)
def test_other_metadata_that_are_given_anew_are_taken_said_and_noted(make_trainer, given, changes, capsys):
    known = {"a": 1, "b": {"c": torch.tensor([2.0]), "d": math.nan}}
    folder = make_trainer(metadata=known).fit().run_dir
    make_trainer(metadata=given, max_epochs=4, quiet=False, validate=lambda _model: 2.0).fit(resume=True)
    wanted = [f"metadata.{name}: it has another value" for name in changes] + ["max_epochs: 3 → 4"]
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["sessions"][1]["changes"] == wanted
    said = [
        line.partition(": ")[2] for line in capsys.readouterr().err.splitlines() if "changed since" in line
    ]
    assert said == wanted
    for name in ("last.pt", "best.pt"):
        stored = load_checkpoint(folder / name)["metadata"]
        assert stored.keys() == given.keys()
        assert repr(stored) == repr(given)


def test_a_network_of_another_energy_is_refused_on_load_and_resume_though_no_shape_differs(make_trainer):
    def trainer(energy, **settings):
        return make_trainer(model=danet(1, 2, encoder="resnet18", energy=energy), **settings)

    folder = trainer("paper", max_epochs=1).fit().run_dir
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = trainer("danet", max_epochs=2)
    weights = {name: value.clone() for name, value in other.model.state_dict().items()}
    for name in ("last.pt", "best.pt"):
        stored = load_checkpoint(folder / name)["network"]
        assert stored == danet(1, 2, encoder="resnet18", energy="paper").settings.to_dict()
        with pytest.raises(CheckpointError, match="with energy 'paper' instead of 'danet'"):
            load_weights(other.model, folder / name)
    with pytest.raises(CheckpointError, match="with energy 'paper' instead of 'danet'"):
        other.fit(resume=True)
    equal(other.model.state_dict(), weights)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert trainer("paper", max_epochs=2).fit(resume=True).epochs == 2


def test_a_network_that_was_changed_after_it_was_built_tells_no_settings(make_trainer):
    def changed():
        model = danet(1, 2, encoder="resnet18")
        model.channel[1].energy = "paper"
        return model

    folder = make_trainer(model=changed(), max_epochs=1).fit().run_dir
    fresh = danet(1, 2, encoder="resnet18", energy="paper")
    for name in ("last.pt", "best.pt"):
        held = load_checkpoint(folder / name)
        assert "network" not in held
        load_weights(fresh, folder / name)
        equal(fresh.state_dict(), held["model"])
    assert make_trainer(model=changed(), max_epochs=2).fit(resume=True).epochs == 2
    save_checkpoint(folder / "own.pt", {"model": held["model"], "network": fresh.settings.to_dict()})
    message = (
        r"energy 'paper' instead of 'danet'\. The network was changed after it was built\. Build the network"
    )
    with pytest.raises(CheckpointError, match=message):
        load_weights(changed(), folder / "own.pt")


# Interruptions and damage


def test_an_epoch_is_kept_where_validation_fails(make_trainer):
    whole = make_trainer("whole")
    whole.fit()
    calls = []

    def failing(model):
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError
        return toy_score(model)

    with pytest.raises(ZeroDivisionError):
        make_trainer("broken", validate=failing).fit()
    steps = []
    resumed = make_trainer("broken", hooks=[lambda event, _status: steps.append(event)])
    resumed.fit(resume=True)
    assert steps == ["validation", "epoch", *["step"] * BATCHES, "validation", "epoch"]
    equal(whole.model.state_dict(), resumed.model.state_dict())


def test_a_damaged_state_is_named_and_the_one_before_it_used(make_trainer, capsys):
    whole = make_trainer("whole")
    whole.fit()
    folder = make_trainer("broken", max_epochs=2).fit().run_dir
    raw = bytearray((folder / "last.pt").read_bytes())
    raw[len(raw) // 2] ^= 4
    (folder / "last.pt").write_bytes(raw)
    resumed = make_trainer("broken")
    resumed.fit(resume=True)
    assert "last.pt, which torch cannot read" in (said := capsys.readouterr().err)
    assert "last-1.pt, the state before it, is used." in said
    assert (folder / "last.pt.damaged").read_bytes() == raw
    for name in ("last.pt", "last-1.pt"):
        load_checkpoint(folder / name)
    equal(whole.model.state_dict(), resumed.model.state_dict())
    for name in ("last.pt", "last-1.pt"):
        (folder / name).write_bytes(b"PK\3\4")
    with pytest.raises(CheckpointError, match=r"last-1\.pt, which torch cannot read"):
        make_trainer("broken").fit(resume=True)


def test_a_whole_state_is_not_pushed_out_by_a_damaged_one(make_trainer, monkeypatch):
    folder = make_trainer(max_epochs=2).fit().run_dir
    (folder / "last.pt").write_bytes(b"PK\3\4")

    def fail(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("guided_attention.training.run_folder.RunFolder._rotate", fail)
        with pytest.raises(KeyboardInterrupt):
            make_trainer().fit(resume=True)
    assert make_trainer().fit(resume=True).epochs == 3


def test_a_log_that_is_gone_comes_back(make_trainer):
    folder = make_trainer(max_epochs=2).fit().run_dir
    before = (folder / "log.csv").read_text()
    (folder / "log.csv").write_text("epoch,lo")
    make_trainer(max_epochs=2).fit(resume=True)
    assert (folder / "log.csv").read_text() == before
    (folder / "log.csv").unlink()
    make_trainer(max_epochs=3).fit(resume=True)
    assert (folder / "log.csv").read_text().startswith(before)


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_best_file_that_is_gone_is_said_and_the_next_validation_counts(make_trainer, capsys, epochs):
    folder = make_trainer(max_epochs=2, validate=lambda _model: 0.9).fit().run_dir
    (folder / "best.pt").unlink()
    result = make_trainer(max_epochs=epochs, validate=lambda _model: 0.25).fit(resume=True)
    assert (result.best_epoch, result.best_score) == (epochs, 0.25)
    best = load_checkpoint(folder / "best.pt")
    assert (best["epoch"], best["score"]) == (epochs, 0.25)
    assert "best.pt is missing or damaged: the next validation counts as the best" in capsys.readouterr().err


@pytest.mark.usefixtures("without_shape_checks")
def test_a_validation_that_gives_no_number_is_named(make_trainer):
    with pytest.raises(ArgumentTypeError, match=r"`validate\(model\)` must be a number, got a dict"):
        make_trainer(validate=lambda _model: {"dice": 0.5}).fit()
    assert make_trainer("tensor", validate=lambda _model: torch.tensor(0.5)).fit().best_score == 0.5


def test_two_runs_in_one_folder_are_refused(make_trainer, tmp_path):
    def hook(_event, _status):
        for resume in (True, False):
            with pytest.raises(
                FileExistsError, match=r"`run_dir` must not be in use, got .*, which process \d+ on"
            ):
                make_trainer().fit(resume=resume)

    make_trainer(hooks=[hook], max_epochs=1).fit()
    assert not list((tmp_path / "run").glob(".*"))


def test_space_and_permission_are_checked_at_the_start(make_trainer, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _folder: type("usage", (), {"free": 700}))
        message = r"`run_dir` must be on a disk with \d+ bytes free, got .*run with 700\. Make space"
        with pytest.raises(WriteError, match=message):
            make_trainer().fit()
    assert not (tmp_path / "run" / "last.pt").exists()
    (tmp_path / "file").touch()
    with pytest.raises(
        FileExistsError, match="`run_dir` must be a folder that files can be written to, got .*file"
    ):
        make_trainer("file").fit()


def test_drafts_of_killed_processes_are_swept(make_trainer):
    folder = make_trainer(max_epochs=1).fit().run_dir
    (folder / ".unfinished-7.last.pt").touch()
    make_trainer().fit(resume=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.pt",
        "last-1.pt",
        "last.pt",
        "log.csv",
        "run.json",
    ]


class _Broken:
    def write(self, _text):
        raise BrokenPipeError

    def flush(self):
        pass

    def isatty(self):
        return False


class _Unable:
    def write(self, text):
        return len(text)

    def flush(self):
        pass


def _closed():
    stream = __import__("io").StringIO()
    stream.close()
    return stream


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("stream", [None, _Broken(), _closed(), _Unable()])
def test_a_closed_or_missing_stderr_harms_nothing(make_trainer, monkeypatch, stream):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        assert make_trainer(quiet=False).fit().epochs == 3


def test_the_last_few_states_are_kept(make_trainer):
    folder = make_trainer(max_epochs=5, keep=4, validate_every=9).fit().run_dir
    names = ["last.pt", "last-1.pt", "last-2.pt", "last-3.pt"]
    states = [load_checkpoint(folder / name)["run"] for name in names]
    # The last epoch is stored before its validation, too.
    assert [(state["epoch"], len(state["rows"])) for state in states] == [(5, 5), (5, 4), (4, 4), (3, 3)]
    assert sorted(path.name for path in folder.glob("*.pt")) == sorted([*names, "best.pt"])
    make_trainer("one", keep=1).fit()
    assert sorted(path.name for path in (folder.parent / "one").glob("*.pt")) == ["best.pt", "last.pt"]
    save_checkpoint(folder / "last.pt", {})


def test_several_processes_of_a_machine_do_not_share_a_gpu(monkeypatch):
    monkeypatch.setattr(arguments, "world_size", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ArgumentError, match='`device` must be cuda:1 .*, got cuda:0. .* by "auto" or "cuda"'):
        arguments.require_own_device(torch.device("cuda:0"))
    for device in ("cuda:1", "cuda", "cpu"):
        arguments.require_own_device(torch.device(device))
    monkeypatch.setattr(arguments, "world_size", lambda: 1)
    arguments.require_own_device(torch.device("cuda:0"))
