"""What is done in a step and around it: accumulation, half precision, early stopping, hooks, loggers, signals."""

import json
import math
import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.training.conftest import BATCHES, toy_data, toy_loss, toy_network
from torch import nn
from torch.utils.data import DataLoader, Dataset

from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    NonFiniteError,
    ProcessLostError,
    TrainingInterrupted,
)
from guided_attention.outputs import LossTerms, takes_outputs
from guided_attention.training import (
    Logger,
    TensorBoardLogger,
    Trainer,
    TrainerConfig,
    load_checkpoint,
    read_log,
    seed_everything,
)
from guided_attention.training.step import averaged_copy


def equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@takes_outputs
def small_loss(output, target):
    """Of gradients that fp16 holds."""
    return LossTerms(toy_loss(output, target).total / 1000)


# Accumulation


def _doubles(tmp_path, name, batches, **settings):
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Tanh(), nn.Conv2d(4, 3, 1))
    model = nn.Sequential(*layers).double()
    config = TrainerConfig(max_epochs=2, device="cpu", quiet=True, **settings)
    Trainer(
        model,
        lambda logits, target: (
            nn.functional.cross_entropy(logits, target, reduction="none").mean((1, 2)).mean()
        ),
        torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9),
        train_loader=batches,
        run_dir=tmp_path / name,
        config=config,
    ).fit()
    return model.state_dict(), read_log(tmp_path / name / "log.csv")


@pytest.mark.parametrize("clip", [None, 0.1])
def test_four_accumulated_batches_equal_one_of_four_times_the_size(tmp_path, clip):
    images = torch.rand(24, 1, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = torch.randint(3, (24, 5, 7), generator=torch.Generator().manual_seed(2))
    small = list(zip(images.split(2), target.split(2), strict=True))
    large = list(zip(images.split(8), target.split(8), strict=True))
    ours, log = _doubles(tmp_path, "small", small, accumulate=4, clip_grad_norm=clip)
    wanted, other = _doubles(tmp_path, "large", large, clip_grad_norm=clip)
    for name in wanted:
        torch.testing.assert_close(ours[name], wanted[name], rtol=1e-12, atol=1e-14)
    assert [row["loss"] for row in log] == pytest.approx([row["loss"] for row in other], rel=1e-12)
    assert [row["batches"] for row in log] == [12, 12]


def test_the_batches_that_remain_are_averaged_over_their_own_number(tmp_path):
    images = torch.rand(10, 1, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = torch.randint(3, (10, 5, 7), generator=torch.Generator().manual_seed(2))
    small = list(zip(images.split(2), target.split(2), strict=True))
    large = [(images[:6], target[:6]), (images[6:], target[6:])]
    ours, _ = _doubles(tmp_path, "small", small, accumulate=3)
    wanted, _ = _doubles(tmp_path, "large", large)
    for name in wanted:
        torch.testing.assert_close(ours[name], wanted[name], rtol=1e-12, atol=1e-14)


def test_the_averaged_weights_follow_steps_and_not_batches(make_trainer):
    steps = []
    trainer = make_trainer(
        max_epochs=2, accumulate=2, ema_decay=0.9, hooks=[lambda event, _: steps.append(event)]
    )
    folder = trainer.fit().run_dir
    assert steps.count("step") == 4  # of 2 and 1 batches, in each of two epochs
    assert load_checkpoint(folder / "last.pt")["averaged"]["n_averaged"] == 4


class Indexed(nn.Module):
    """A network with buffers of every kind: indices (stored and not), a choice, a phase, a running mean."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(1, 2, 1)
        self.register_buffer("stored", torch.arange(20))
        self.register_buffer("own", torch.arange(20, dtype=torch.int32), persistent=False)
        self.register_buffer("chosen", torch.tensor([True, False, True]))
        self.register_buffer("phase", torch.tensor([1 + 2j]))
        self.register_buffer("mean", torch.zeros(3))


def test_whole_number_buffers_are_copied_and_the_others_averaged():
    model = Indexed()
    averaged = averaged_copy(model, 0.999)
    weight, mean, phase = model.head.weight.detach().clone(), torch.zeros(3), torch.zeros(1)
    for update in range(60):
        model.chosen.logical_not_()
        model.mean.add_(1.0)
        model.phase.mul_(1j).add_(1 - 2j)
        with torch.no_grad():
            model.head.weight.add_(0.5)
        averaged.update_parameters(model)
        share = 0.0 if update == 0 else (1 + update) / (10 + update)
        mean = share * mean + (1 - share) * model.mean
        phase = share * phase + (1 - share) * model.phase
        weight = share * weight + (1 - share) * model.head.weight.detach()
    ours, theirs = dict(averaged.module.named_buffers()), dict(model.named_buffers())
    copied = ("stored", "own", "chosen")
    equal({name: ours[name] for name in copied}, {name: theirs[name] for name in copied})
    assert torch.equal(ours["stored"], torch.arange(20))
    torch.testing.assert_close(ours["mean"], mean)
    torch.testing.assert_close(ours["phase"], phase)
    torch.testing.assert_close(averaged.module.head.weight.detach(), weight)


def test_the_batches_that_a_norm_has_seen_are_counted_whole_in_the_average(make_trainer):
    folder = make_trainer(max_epochs=20, ema_decay=0.999).fit().run_dir
    assert load_checkpoint(folder / "best.pt")["model"]["1.num_batches_tracked"] % BATCHES == 0
    assert load_checkpoint(folder / "last.pt")["averaged"]["module.1.num_batches_tracked"] == 20 * BATCHES


# Parameters that the optimizer does not hold


_NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class Turns(nn.Module):
    """Two networks in turns, of which a batch reaches one."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1)])
        self.calls = 0

    def forward(self, image):
        self.calls += self.training
        return self.parts[self.calls % 2](image)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=_NEEDS_GPU)])
def test_a_step_without_a_gradient_changes_nothing_and_the_run_goes_on(make_trainer, precision, clip, device):
    model, seen = Turns(), []

    def keep(event, _status):
        if event == "step":
            seen.append(model.parts[0].weight.detach().cpu().clone())

    trainer = make_trainer(
        model=model,
        loss=small_loss,
        optimizer=lambda model: torch.optim.SGD(model.parts[0].parameters(), lr=0.5),
        precision=precision,
        clip_grad_norm=clip,
        hooks=[keep],
        device=device,
        validate=None,
    )
    result = trainer.fit()
    assert result.epochs == 3
    changed = [not torch.equal(now, before) for before, now in pairwise(seen)]
    assert changed == [(number % 2) == 0 for number in range(len(seen) - 1)]


def of_head(model):
    return torch.optim.SGD(model[-1].parameters(), lr=0.5)


def with_body(*, requires_grad):
    torch.manual_seed(0)
    model = toy_network()
    model[:-1].requires_grad_(requires_grad=requires_grad)
    return model


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_gradients_that_the_optimizer_does_not_hold_change_nothing(make_trainer, precision, clip):
    settings = {"loss": small_loss, "optimizer": of_head, "precision": precision, "clip_grad_norm": clip}
    wanted, ours = with_body(requires_grad=False), with_body(requires_grad=True)
    if precision == "fp16":
        ours[0].weight.register_hook(lambda gradient: gradient * math.inf)
    else:
        ours[0].weight.register_hook(lambda gradient: gradient * 1000)
    before = wanted[-1].weight.detach().clone()
    folders = [
        make_trainer(name, model=model, **settings).fit().run_dir
        for name, model in (("frozen", wanted), ("held", ours))
    ]
    equal(ours.state_dict(), wanted.state_dict())
    assert not torch.equal(ours[-1].weight, before)
    rows = [read_log(folder / "log.csv") for folder in folders]
    assert rows[0] == rows[1]


# Half precision


def test_fp16_scales_the_loss_and_stores_the_scale(make_trainer):
    seen = []

    def loss(output, target):
        seen.append(output.logits.dtype)
        return toy_loss(output, target)

    trainer = make_trainer(loss=loss, precision="fp16")
    folder = trainer.fit().run_dir
    assert set(seen) == {torch.float16}
    assert trainer.model[0].weight.dtype == torch.float32
    scaler = load_checkpoint(folder / "last.pt")["scaler"]
    assert scaler == trainer._scaler.state_dict()
    resumed = make_trainer(precision="fp16", max_epochs=4)
    resumed.fit(resume=True)
    assert resumed._scaler.state_dict() == {**scaler, "_growth_tracker": scaler["_growth_tracker"] + BATCHES}


def test_an_infinite_gradient_in_fp16_skips_the_step_and_halves_the_scale(make_trainer):
    model = nn.Conv2d(1, 2, 1)
    blown = []
    model.weight.register_hook(
        lambda gradient: gradient * math.inf if blown.append(1) or len(blown) == 2 else gradient
    )
    before = []
    hooks = [lambda event, _: before.append(model.weight.detach().clone()) if event == "step" else None]

    trainer = make_trainer(
        model=model, loss=small_loss, precision="fp16", max_epochs=1, ema_decay=0.9, hooks=hooks
    )
    trainer.fit()
    assert torch.equal(before[0], before[1])
    assert not torch.equal(before[1], before[2])
    assert trainer._scaler.get_scale() == 2.0**15
    assert trainer._averaged.n_averaged == 2


def test_gradients_that_stay_infinite_end_the_run(make_trainer):
    model = nn.Conv2d(1, 2, 1)
    model.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(
        NonFiniteError, match="got gradient = nan at epoch 14, batch 2|got gradient = inf at epoch 14"
    ):
        make_trainer(model=model, precision="fp16", max_epochs=100).fit()


def test_a_norm_that_overflows_though_no_gradient_does_changes_no_weights(make_trainer):
    model = nn.Conv2d(1, 2, 1)
    model.weight.register_hook(lambda gradient: torch.full_like(gradient, 1e25))  # 1.5e20 without the scale
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(NonFiniteError, match="got gradient = inf at epoch 1, batch 1. This step changed no"):
        make_trainer(model=model, loss=small_loss, precision="fp16").fit()
    equal(model.state_dict(), before)


# When it ends


def test_patience_ends_the_run_after_so_many_validations_without_a_best(make_trainer):
    scores = iter([0.5, 0.4, math.nan, 0.6, 0.6, 0.5, 0.1, 0.9])
    result = make_trainer(max_epochs=20, patience=3, validate=lambda _model: next(scores)).fit()
    assert (result.epochs, result.stopped_by, result.best_epoch) == (7, "patience", 4)
    with pytest.raises(ArgumentError, match="`patience` must be None without `validate`, got 3"):
        make_trainer(validate=None, patience=3)


def test_without_a_validation_the_latest_weights_are_kept(make_trainer, capsys):
    result = make_trainer(validate=None, max_epochs=2, quiet=False).fit()
    assert "validation" not in capsys.readouterr().err
    assert result.best_epoch == 2
    assert math.isnan(result.best_score)
    equal(*(load_checkpoint(result.run_dir / name)["model"] for name in ("best.pt", "last.pt")))
    assert "validation_score" not in read_log(result.run_dir / "log.csv")[0]


# Hooks and loggers


def test_hooks_are_told_of_steps_validations_and_epochs(make_trainer):
    seen = []
    make_trainer(max_epochs=2, validate_every=2, hooks=[lambda *told: seen.append(told)]).fit()
    assert [event for event, _ in seen] == [*["step"] * 3, "epoch", *["step"] * 3, "validation", "epoch"]
    assert [(status.epoch, status.batch) for _, status in seen] == [
        *[(1, 1), (1, 2), (1, 3), (1, 3)],
        *[(2, 1), (2, 2), (2, 3), (2, 3), (2, 3)],
    ]
    assert [status.score is not None for _, status in seen] == [False] * 7 + [True] * 2
    assert seen[-1][1].share == 1.0


class _Notes:
    def __init__(self):
        self.rows, self.closed = [], 0

    def log(self, row):
        self.rows.append(dict(row))

    def close(self):
        self.closed += 1


def test_loggers_are_told_each_row_and_closed_however_it_ends(make_trainer):
    notes = _Notes()
    assert isinstance(notes, Logger)
    folder = make_trainer("a", loggers=[notes]).fit().run_dir
    assert notes.rows == read_log(folder / "log.csv")
    assert notes.closed == 1

    def failing(_model):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_trainer("b", loggers=[notes], validate=failing).fit()
    assert notes.closed == 2


def test_tensorboard_gets_the_rows(make_trainer, tmp_path):
    pytest.importorskip("tensorboard")
    make_trainer(loggers=[TensorBoardLogger(tmp_path / "board")], max_epochs=2).fit()
    (events,) = (tmp_path / "board").iterdir()
    content = events.read_bytes()
    for name in (b"loss_segmentation", b"lr", b"validation_score"):
        assert content.count(name) == 2


# Signals


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_finishes_the_step_stores_the_state_and_ends_with_75(make_trainer, name, capsys):
    whole = make_trainer("whole", model=_dropping())
    whole.fit()
    losses = []

    def loss(output, target):
        losses.append(1)
        if len(losses) == BATCHES + 2:
            os.kill(os.getpid(), getattr(signal, name))
        return toy_loss(output, target)

    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with pytest.raises(TrainingInterrupted) as interrupted:
        make_trainer("broken", model=_dropping(), loss=loss).fit()
    assert (interrupted.value.code, interrupted.value.run_dir.name) == (75, "broken")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == handlers
    said = capsys.readouterr().err
    assert said.startswith(f"{name}: the state is stored in ")
    assert said.endswith("broken. Resume the run from there.\n")
    state = load_checkpoint(interrupted.value.run_dir / "last.pt")["run"]
    assert (state["epoch"], state["batches"]) == (2, 2)
    resumed = make_trainer("broken", model=_dropping())
    resumed.fit(resume=True)
    equal(whole.model.state_dict(), resumed.model.state_dict())
    logs = [read_log(trainer._folder.path / "log.csv") for trainer in (whole, resumed)]
    assert logs[0] == logs[1]


def _dropping():
    seed_everything(0)
    return nn.Sequential(toy_network(), nn.Dropout(0.3))


def test_a_signal_in_validation_ends_it_at_once(make_trainer):
    reached = []

    def validate(_model):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5.0)
        reached.append(1)
        return 0.5

    with pytest.raises(TrainingInterrupted):
        make_trainer(validate=validate).fit()
    assert not reached
    steps = []
    make_trainer(max_epochs=1, hooks=[lambda event, _: steps.append(event)]).fit(resume=True)
    assert steps == ["validation", "epoch"]


def test_a_second_ctrl_c_does_not_wait_for_the_step(make_trainer):
    def loss(output, target):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return toy_loss(output, target)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(loss=loss).fit()


def test_an_ignored_signal_stays_ignored(make_trainer):
    def hook(event, status):
        if (event, status.epoch) == ("step", 1):
            os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert make_trainer(hooks=[hook]).fit().epochs == 3
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_in_another_thread_trains_without_signals(make_trainer):
    results = []
    trainer = make_trainer()
    thread = threading.Thread(target=lambda: results.append(trainer.fit()))
    thread.start()
    thread.join()
    assert results[0].epochs == 3


def test_a_worker_that_ends_with_the_signal_is_an_interruption_and_any_other_is_an_error(make_trainer):
    def loss(_output, _target):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

    with pytest.raises(TrainingInterrupted):
        make_trainer("a", loss=loss).fit()

    def other(_output, _target):
        raise RuntimeError("DataLoader worker (pid 7) exited unexpectedly")

    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        make_trainer("b", loss=other).fit()


class _Deadly(Dataset):
    """Its workers are killed, as by a system whose memory is full."""

    def __len__(self):
        return 4

    def __getitem__(self, _index):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_that_is_killed_is_told_with_a_cure(make_trainer):
    trainer = make_trainer(loader=DataLoader(_Deadly(), num_workers=1))
    message = r"^A process that loads batches was killed, .* \(DataLoader worker .*\)\. Set fewer workers \(num_workers"
    with pytest.raises(ProcessLostError, match=message) as error:
        trainer.fit()
    assert error.value.argument == "train_loader"


@pytest.mark.parametrize("minutes", [4.0, 10.0])
def test_no_more_than_the_named_minutes_are_lost(make_trainer, clock, minutes):
    lost = []

    def hook(_event, _status):
        clock.pass_minutes(1.5)
        lost.append(trainer._session.minutes_since_stored())

    trainer = make_trainer(hooks=[hook], max_epochs=10, validate_every=10, store_minutes=minutes)
    trainer.fit()
    assert max(lost) < minutes + 1.5


def test_workers_are_repeated_inside_an_epoch(make_trainer, clock):
    whole = make_trainer("whole", loader=toy_data(workers=1), max_epochs=1)
    whole.fit()

    def hook(_event, status):
        clock.pass_minutes(11.0)
        if status.batch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer("broken", loader=toy_data(workers=1), max_epochs=1, hooks=[hook]).fit()
    resumed = make_trainer("broken", loader=toy_data(workers=1), max_epochs=1)
    resumed.fit(resume=True)
    equal(whole.model.state_dict(), resumed.model.state_dict())


# Provenance


def test_the_run_tells_what_it_was_made_with_and_no_paths(make_trainer, monkeypatch, tmp_path):
    command = ["/home/doe/train.py", "run", "--data=/scans/DOE^JOHN", str(tmp_path), "--lr", "1e-3"]
    monkeypatch.setattr("sys.argv", command)
    provenance = {"data_sha256": "ab12", "cases": 7}
    folder = make_trainer(max_epochs=1, provenance=provenance, ema_decay=0.5).fit().run_dir
    make_trainer(max_epochs=2, provenance=provenance, ema_decay=0.5).fit(resume=True)
    text = (folder / "run.json").read_text(encoding="utf-8")
    record = json.loads(text)
    first, second = record["sessions"]
    assert record["provenance"] == provenance
    assert (record["optimizer"], record["settings"]["ema_decay"]) == ("Adam", 0.5)
    assert first["command"] == ["train.py", "run", "--data=<path>", "<path>", "--lr", "1e-3"]
    assert first["versions"]["torch"] == torch.__version__
    assert first["machine"]["threads"] == torch.get_num_threads()
    assert (first["changes"], second["changes"]) == ([], ["max_epochs: 1 → 2"])
    assert (first["epochs_before"], second["epochs_before"]) == (0, 1)
    assert "DOE" not in text
    assert str(Path.home()) not in text
    (folder / "run.json").write_text("{")
    make_trainer(max_epochs=2).fit(resume=True)
    assert len(json.loads((folder / "run.json").read_text(encoding="utf-8"))["sessions"]) == 1


# Settings


_WRONG = [
    ({"max_epochs": 2.5}, "`max_epochs` must be an integer, got 2.5"),
    ({"max_minutes": "5"}, "`max_minutes` must be a number, got a str"),
    ({"quiet": 1}, "`quiet` must be True or False, got a int"),
    (
        {"schedule": "polynomial"},
        "`schedule` must be a function of the progress, a scheduler of torch or None, got a str",
    ),
    ({"accumulate": 0}, "`accumulate` must be at least 1, got 0"),
    ({"patience": 0}, "`patience` must be above 0, got 0"),
    ({"store_minutes": None}, "`store_minutes` must be a number, got a NoneType"),
    ({"keep": 0}, "`keep` must be at least 1, got 0"),
    ({"batch_keys": "image"}, r"`batch_keys` must be two texts such as \(\"image\", \"label\"\), got a str"),
    ({"batch_keys": ("image",)}, r"`batch_keys` must be two texts .* got \('image',\)"),
    ({"loggers": [print]}, r"`loggers\[0\]` must be a Logger, with log and close, got a builtin"),
    ({"hooks": [3]}, r"`hooks\[0\]` must be a function, got a int"),
    ({"hooks": print}, "`hooks` must be a list of functions, got a builtin"),
    ({"clock": 3.0}, "`clock` must be a function that returns seconds, got 3.0"),
    ({"seed": -1}, r"`seed` must be from 0 to 2\*\*32 - 1, got -1"),
    ({"device": 0}, "`device` must be a text such as"),
    ({"provenance": [1]}, "`provenance` must be a mapping of texts and numbers, got a list"),
    ({"precision": "fp8"}, "`precision` must be one of 'fp32', 'bf16', 'fp16', got 'fp8'"),
]


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("settings", "message"), _WRONG, ids=[next(iter(settings)) for settings, _ in _WRONG]
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        TrainerConfig(**settings)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 3}, r"`model` must be a torch\.nn\.Module, got a int"),
        ({"optimizer": "adam"}, r"`optimizer` must be a torch\.optim\.Optimizer, got a str"),
        (
            {"train_loader": 3},
            "`train_loader` must be an iterable of batches, such as a DataLoader, got a int",
        ),
        ({"run_dir": None}, "`run_dir` must be a path, got a NoneType"),
        ({"validate": 0.5}, "`validate` must be a function of the network, got a float"),
        ({"config": {"max_epochs": 3}}, "`config` must be a TrainerConfig, got a dict"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    model = toy_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = {
        "model": model,
        "loss": takes_outputs(toy_loss),
        "optimizer": optimizer,
        "train_loader": toy_data(),
    }
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        Trainer(**{**given, "run_dir": tmp_path / "run", **arguments})


def test_convolutions_of_volumes_do_not_train_in_bfloat16_on_a_cpu(tmp_path):
    # torch 2.13: on maps with a side of 2 their gradient is wrong by as much as it is large, or infinite.
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1))
    data = [(torch.rand(1, 1, 2, 3, 5), torch.zeros(1, 2, 3, 5, dtype=torch.long))]
    settings = TrainerConfig(precision="bf16", device="cpu", quiet=True)
    arguments = (model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    message = "`precision` must be fp32 for 3-D convolutions on a CPU, got bf16. There torch computes wrong"
    with pytest.raises(ArgumentError, match=message):
        Trainer(*arguments, train_loader=data, run_dir=tmp_path / "run", config=settings)
    assert not (tmp_path / "run").exists()
