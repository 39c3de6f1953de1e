import io
import math
import random
import re
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.conftest import BATCHES, toy_data, toy_loss, toy_network, toy_score
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from guided_attention.errors import ArgumentError, CheckpointError, ExistingFileError, NonFiniteError
from guided_attention.models import MSGA
from guided_attention.outputs import LossTerms, SegmentationOutput, takes_outputs
from guided_attention.training import (
    ModelWithLoss,
    Trainer,
    TrainerConfig,
    load_checkpoint,
    load_weights,
    read_log,
    reduce_on_plateau,
    save_checkpoint,
    seed_everything,
)


def _equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def _scores(*values):
    """Give one validation score after the other, whatever the network does."""
    iterator = iter(values)
    return lambda _model: next(iterator)


# What training does


def test_training_learns_the_toy_task(make_trainer):
    result = make_trainer(max_epochs=40).fit()
    rows = read_log(result.run_dir / "log.csv")
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert result.best_score > 0.9


def test_one_epoch_equals_the_steps_written_out(make_trainer):
    trainer = make_trainer(max_epochs=1, seed=11)
    trainer.fit()

    seed_everything(11)
    twin = toy_network()
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    seed_everything(11)
    for images, labels in toy_data():
        optimizer.zero_grad()
        toy_loss(SegmentationOutput(twin(images)), labels).total.backward()
        optimizer.step()
    _equal(trainer.model.state_dict(), twin.state_dict())


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}, {"precision": "bf16"}, {"clip_grad_norm": 0.1}])
def test_two_runs_with_one_seed_give_the_same_weights_bit_for_bit(make_trainer, options):
    first, second = make_trainer("a", **options), make_trainer("b", **options)
    second.model.load_state_dict(first.model.state_dict())
    results = [first.fit(), second.fit()]
    _equal(first.model.state_dict(), second.model.state_dict())
    for name in ("last.pt", "best.pt"):
        held = [load_checkpoint(result.run_dir / name)["model"] for result in results]
        _equal(*held)


def test_another_seed_gives_other_weights(make_trainer):
    first, second = make_trainer("a", seed=1), make_trainer("b", seed=2)
    second.model.load_state_dict(first.model.state_dict())
    first.fit()
    second.fit()
    assert not torch.equal(first.model[0].weight, second.model[0].weight)


def test_fit_seeds_all_three_generators(make_trainer):
    drawn = []
    for name in "ab":
        random.seed()
        make_trainer(name, max_epochs=1, seed=5).fit()
        drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))  # noqa: NPY002, S311
    assert drawn[0] == drawn[1]


def test_the_gradient_is_shortened_to_the_limit(make_trainer):
    model = nn.Conv2d(1, 2, 1)
    trainer = make_trainer(model=model, max_epochs=1, clip_grad_norm=0.125)
    norms = []
    original = trainer._optimizer.step

    def step(closure=None):
        norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
        return original(closure)

    trainer._optimizer.step = step
    trainer.fit()
    assert_close(torch.stack(norms), torch.full((BATCHES,), 0.125), rtol=1e-4, atol=0)


def test_without_a_limit_the_gradient_is_left_as_it_is(make_trainer):
    first, second = make_trainer("a", max_epochs=1), make_trainer("b", max_epochs=1, clip_grad_norm=1e9)
    first.fit()
    second.fit()
    _equal(first.model.state_dict(), second.model.state_dict())


def test_bf16_runs_the_network_in_bfloat16_and_keeps_the_weights_in_float32(make_trainer):
    seen = []

    def loss(output, target):
        seen.append(output.logits.dtype)
        return toy_loss(output, target)

    trainer = make_trainer(loss=loss, max_epochs=1, precision="bf16")
    trainer.fit()
    assert seen == [torch.bfloat16] * BATCHES
    assert trainer.model[0].weight.dtype == torch.float32


def test_a_loss_that_is_a_module_moves_and_trains_with_the_network():
    @takes_outputs
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.tensor([1.0, 3.0]))

        def forward(self, output, target):
            return LossTerms(nn.functional.cross_entropy(output.logits, target, weight=self.weight))

    joint = ModelWithLoss(nn.Conv2d(1, 2, 1), Scaled()).double()
    terms = joint(torch.rand(2, 1, 3, 5, dtype=torch.float64), torch.zeros(2, 3, 5, dtype=torch.long))
    assert terms.total.dtype == torch.float64


def test_the_outputs_of_a_network_that_has_them_reach_the_loss():
    class WithOutputs(nn.Conv2d):
        def outputs(self, x):
            return SegmentationOutput(logits=self(x), raw_logits=(self(x) * 2,))

    @takes_outputs
    def loss(output, target):  # noqa: ARG001
        return LossTerms((output.raw_logits[0] - 2 * output.logits).abs().sum() + len(output.raw_logits))

    joint = ModelWithLoss(WithOutputs(1, 2, 1), loss)
    assert joint(torch.rand(1, 1, 3, 5), torch.zeros(1, 3, 5, dtype=torch.long)).total == 1


def test_a_loss_that_returns_a_tensor_is_told_what_to_return():
    joint = ModelWithLoss(nn.Conv2d(1, 2, 1), takes_outputs(lambda output, _target: output.logits.sum()))
    with pytest.raises(
        TypeError, match=r"`loss\(output, target\)` must be LossTerms, got a Tensor\. Wrap the"
    ):
        joint(torch.rand(1, 1, 3, 5), torch.zeros(1, 3, 5, dtype=torch.long))


# The learning rate


def test_the_learning_rate_follows_the_share_of_the_epochs(make_trainer):
    shares = []

    def schedule(progress):
        shares.append(progress.share)
        return 1.0 - progress.share

    trainer = make_trainer(schedule=schedule, max_epochs=2)
    result = trainer.fit()
    assert shares == pytest.approx([step / 6 for step in range(6)])
    rates = [row["lr"] for row in read_log(result.run_dir / "log.csv")]
    assert rates == pytest.approx([0.01 * (1 - 2 / 6), 0.01 * (1 - 5 / 6)])


def test_the_learning_rate_follows_the_minutes_where_they_run_out_sooner(make_trainer, clock):
    shares = []

    def schedule(progress):
        shares.append(progress.share)
        clock.pass_minutes(1.0)
        return 1.0

    make_trainer(schedule=schedule, max_epochs=100, max_minutes=4.0).fit()
    assert shares == pytest.approx([0.0, 0.25, 0.5, 0.75])


def test_the_schedule_is_told_the_epoch_and_the_scores_so_far(make_trainer):
    seen = []

    def schedule(progress):
        seen.append(progress)
        return 1.0

    make_trainer(schedule=schedule, max_epochs=4, validate_every=2, validate=_scores(0.5, 0.25)).fit()
    steps = range(4 * BATCHES)
    assert [progress.share for progress in seen] == pytest.approx([step / len(steps) for step in steps])
    assert [progress.epoch for progress in seen] == [step // BATCHES + 1 for step in steps]
    scores = [(), (), ((2, 0.5),), ((2, 0.5),)]
    assert [progress.scores for progress in seen] == [scores[step // BATCHES] for step in steps]


def test_the_rate_falls_on_a_plateau_of_the_validation(make_trainer):
    result = make_trainer(
        schedule=reduce_on_plateau(epochs=2),
        max_epochs=7,
        validate=_scores(0.5, 0.5, math.nan, 0.5, 0.4, 0.6, 0.1),
    ).fit()
    rates = [row["lr"] for row in read_log(result.run_dir / "log.csv")]
    # Epochs 2 and 3 are no better than 1, nor are 4 and 5: the rate falls from 4 on, and again from 6 on.
    assert rates == [0.01, 0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025]


def test_each_group_keeps_its_own_rate(make_trainer):
    model = toy_network()
    groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[3].parameters(), "lr": 0.2}]
    optimizer, seen = torch.optim.SGD(groups), []

    def note(_event, _status):
        seen.append([group["lr"] for group in optimizer.param_groups])

    settings = {"schedule": lambda _progress: 0.5, "max_epochs": 1, "hooks": [note]}
    make_trainer(model=model, optimizer=lambda _: optimizer, **settings).fit()
    assert seen == [[0.005, 0.1]] * (BATCHES + 2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.2]


# When it ends


def test_the_run_ends_with_its_epochs(make_trainer):
    result = make_trainer(max_epochs=2).fit()
    assert (result.epochs, result.stopped_by) == (2, "epochs")


def test_the_clock_stops_an_epoch_in_the_middle_and_validates_and_saves(make_trainer, clock):
    def loss(output, target):
        clock.pass_minutes(1.0)
        return toy_loss(output, target)

    result = make_trainer(loss=loss, max_epochs=100, max_minutes=5.0).fit()
    rows = read_log(result.run_dir / "log.csv")
    assert [row["batches"] for row in rows] == [3, 2]
    assert [math.isfinite(row["validation_score"]) for row in rows] == [True, True]
    assert (result.epochs, result.stopped_by, result.minutes) == (2, "minutes", 5.0)
    assert load_checkpoint(result.run_dir / "last.pt")["run"]["epoch"] == 2


def test_the_minutes_hold_with_the_last_validation_included(make_trainer, clock):
    def loss(output, target):
        clock.pass_minutes(1.0)
        return toy_loss(output, target)

    def validate(model):
        clock.pass_minutes(4.0)
        return toy_score(model)

    result = make_trainer(loss=loss, validate=validate, max_epochs=100, max_minutes=13.0).fit()
    rows = read_log(result.run_dir / "log.csv")
    # 3 batches, validation: 7 minutes; 2 batches leave 4 of the 13 for the last validation.
    assert [row["batches"] for row in rows] == [3, 2]
    assert result.minutes == 13.0


def test_a_validation_that_uses_up_the_time_is_the_last(make_trainer, clock):
    def validate(model):
        clock.pass_minutes(10.0)
        return toy_score(model)

    result = make_trainer(validate=validate, max_epochs=100, max_minutes=5.0).fit()
    assert (result.epochs, result.stopped_by, result.minutes) == (1, "minutes", 10.0)


def test_a_run_shorter_than_a_batch_still_leaves_last_and_best(make_trainer):
    result = make_trainer(max_epochs=100, max_minutes=1e-9, validate_every=50, clock=time.monotonic).fit()
    assert [row["batches"] for row in read_log(result.run_dir / "log.csv")] == [1]
    assert load_checkpoint(result.run_dir / "best.pt")["epoch"] == 1
    assert load_checkpoint(result.run_dir / "last.pt")["run"]["epoch"] == 1


def test_an_epoch_cut_short_at_the_very_last_says_so(make_trainer, clock):
    def loss(output, target):
        clock.pass_minutes(1.0)
        return toy_loss(output, target)

    result = make_trainer(loss=loss, max_epochs=1, max_minutes=2.0).fit()
    assert (result.epochs, result.stopped_by) == (1, "minutes")


def test_validation_comes_every_so_many_epochs_and_after_the_last(make_trainer):
    asked = count(1)
    result = make_trainer(max_epochs=5, validate_every=2, validate=lambda _model: float(next(asked))).fit()
    rows = read_log(result.run_dir / "log.csv")
    assert [row.get("validation_score") for row in rows] == [None, 1, None, 2, 3]


# What it leaves


def test_the_best_epoch_is_kept_and_the_first_of_equal_ones(make_trainer):
    result = make_trainer(max_epochs=5, validate=_scores(0.1, 0.7, 0.3, 0.7, 0.2)).fit()
    best = load_checkpoint(result.run_dir / "best.pt")
    assert (result.best_epoch, result.best_score) == (2, 0.7)
    assert (best["epoch"], best["score"]) == (2, 0.7)


def test_the_best_file_holds_the_weights_of_its_epoch_and_the_network_the_last(make_trainer):
    seen = []

    def validate(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return (0.1, 0.7, 0.3)[len(seen) - 1]

    trainer = make_trainer(validate=validate)
    result = trainer.fit()
    _equal(load_checkpoint(result.run_dir / "best.pt")["model"], seen[1])
    _equal(load_checkpoint(result.run_dir / "last.pt")["model"], seen[2])
    _equal(trainer.model.state_dict(), seen[2])
    load_weights(trainer.model, result.run_dir / "best.pt")
    _equal(trainer.model.state_dict(), seen[1])


@pytest.mark.parametrize(
    ("scores", "best_epoch", "best_score"),
    [((math.nan, 0.2, math.nan), 2, 0.2), ((math.nan, math.nan, math.nan), 3, math.nan)],
)
def test_scores_that_are_no_number_never_win_over_one_that_is(make_trainer, scores, best_epoch, best_score):
    result = make_trainer(validate=_scores(*scores)).fit()
    assert result.best_epoch == best_epoch
    np.testing.assert_equal(result.best_score, best_score)


def test_the_log_has_a_row_an_epoch_with_the_mean_of_each_part(make_trainer):
    values = []

    def loss(output, target):
        terms = toy_loss(output, target)
        values.append([value.item() for value in (terms.total, *terms.parts.values())])
        return terms

    result = make_trainer(loss=loss, max_epochs=2).fit()
    rows = read_log(result.run_dir / "log.csv")
    header = (result.run_dir / "log.csv").read_text().splitlines()[0]
    assert header == "epoch,batches,minutes,lr,waiting,loss,loss_segmentation,loss_size,validation_score"
    got = [[row["loss"], row["loss_segmentation"], row["loss_size"]] for row in rows]
    np.testing.assert_allclose(got, np.array(values).reshape(2, BATCHES, 3).mean(axis=1), rtol=1e-6)
    assert [row["epoch"] for row in rows] == [1, 2]


def test_the_averaged_weights_are_the_average_written_out_and_are_those_validated(make_trainer):
    validated, wanted, steps = [], None, 0
    trainer = make_trainer(model=nn.Conv2d(1, 2, 1), ema_decay=0.3, validate=lambda model: keep(model))  # noqa: PLW0108 - defined below

    def keep(model):
        validated.append(model.weight.detach().clone())
        # Later epochs forget how the average began, so each is compared.
        assert_close(validated[-1], wanted, rtol=1e-6, atol=1e-7)
        return float(len(validated))

    original = trainer._optimizer.step

    def step(closure=None):
        nonlocal wanted, steps
        original(closure)
        weight = trainer.model.weight.detach().clone()
        share = min(0.3, (1 + steps) / (10 + steps))
        wanted = weight if wanted is None else share * wanted + (1 - share) * weight
        steps += 1

    trainer._optimizer.step = step
    result = trainer.fit()
    assert not torch.equal(validated[-1], trainer.model.weight)
    assert_close(load_checkpoint(result.run_dir / "best.pt")["model"]["weight"], wanted)


def test_validation_sees_evaluation_mode_and_no_gradients_and_training_goes_on_in_training_mode(make_trainer):
    seen = []

    def validate(model):
        seen.append((model.training, torch.is_grad_enabled()))
        return 0.0

    def loss(output, target):
        seen.append(trainer.model.training)
        return toy_loss(output, target)

    trainer = make_trainer(loss=loss, validate=validate, max_epochs=2)
    trainer.fit()
    assert seen == [True, True, True, (False, False)] * 2


# Going on


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ema_decay": 0.9},
        {"schedule": lambda progress: 1.0 - progress.share},
        {"validate_every": 3},
    ],
)
@pytest.mark.parametrize("own_generator", [False, True])
def test_a_resumed_run_equals_one_without_a_break_bit_for_bit(make_trainer, options, own_generator):
    def loader():
        return toy_data(generator=torch.Generator().manual_seed(7) if own_generator else None)

    whole = make_trainer("whole", loader=loader(), max_epochs=4, **options)
    whole.fit()

    batches = count(1)

    def breaking_loss(output, target):
        if next(batches) == 2 * BATCHES + 2:
            raise KeyboardInterrupt
        return toy_loss(output, target)

    with pytest.raises(KeyboardInterrupt):
        make_trainer("broken", loader=loader(), loss=breaking_loss, max_epochs=4, **options).fit()
    resumed = make_trainer("broken", loader=loader(), max_epochs=4, **options)
    seed_everything(99)
    result = resumed.fit(resume=True)

    _equal(whole.model.state_dict(), resumed.model.state_dict())
    folder = result.run_dir.parent
    for name in ("last.pt", "best.pt"):
        _equal(*(load_checkpoint(folder / run / name)["model"] for run in ("whole", "broken")))
    averaged = [load_checkpoint(folder / run / "last.pt")["averaged"] or {} for run in ("whole", "broken")]
    _equal(*averaged)
    rows = [read_log(folder / run / "log.csv") for run in ("whole", "broken")]
    for row in (*rows[0], *rows[1]):
        del row["minutes"]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("validate_every", [1, 2])
def test_a_plateau_is_kept_over_a_break_bit_for_bit(make_trainer, validate_every):
    """Bests before the break decide on cuts after it: without the scores the rate would stay up."""
    scores = {1: 0.5, 2: 0.9, 3: 0.1, 4: 0.2, 5: math.nan, 6: 0.3, 7: 0.4, 8: 0.2}
    options = {
        "schedule": reduce_on_plateau(epochs=3, factor=0.1),
        "max_epochs": 8,
        "validate_every": validate_every,
    }

    def trainer(name, loss=toy_loss):
        made = make_trainer(
            name, loss=loss, validate=lambda _model: scores[made._session.run.epoch], **options
        )
        return made

    whole = trainer("whole")
    whole.fit()
    batches = count(1)

    def breaking_loss(output, target):
        if next(batches) == 3 * BATCHES + 2:
            raise KeyboardInterrupt
        return toy_loss(output, target)

    with pytest.raises(KeyboardInterrupt):
        trainer("broken", loss=breaking_loss).fit()
    resumed = trainer("broken")
    folder = resumed.fit(resume=True).run_dir.parent

    _equal(whole.model.state_dict(), resumed.model.state_dict())
    logs = [read_log(folder / run / "log.csv") for run in ("whole", "broken")]
    assert [row["lr"] for row in logs[0]] == [row["lr"] for row in logs[1]]
    assert logs[0][-1]["lr"] < 0.01
    held = [load_checkpoint(folder / run / "last.pt")["run"]["scores"] for run in ("whole", "broken")]
    np.testing.assert_equal(held, [[(n, s) for n, s in scores.items() if n % validate_every == 0]] * 2)


def test_a_state_with_missing_entries_is_refused_by_name(make_trainer):
    folder = make_trainer().fit().run_dir
    held = load_checkpoint(folder / "last.pt")
    del held["run"]["scores"], held["run"]["batches"]
    save_checkpoint(folder / "last.pt", held)
    with pytest.raises(
        CheckpointError, match=r"got .*last\.pt, which lacks batches, scores in 'run'\. It is of"
    ):
        make_trainer(max_epochs=4).fit(resume=True)
    del held["given"], held["random"]
    save_checkpoint(folder / "last.pt", held)
    with pytest.raises(CheckpointError, match=r"which lacks given, random\. It is of an older"):
        make_trainer(max_epochs=4).fit(resume=True)


def test_a_row_that_the_crash_came_after_is_written_anew(make_trainer, monkeypatch):
    make_trainer(max_epochs=2).fit()

    def fail(*_arguments):
        raise OSError("disk full")

    trainer = make_trainer(max_epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr("guided_attention.training.run_folder.RunFolder.save_last", fail)
        with pytest.raises(OSError, match="disk full"):
            trainer.fit(resume=True)
    result = make_trainer(max_epochs=3).fit(resume=True)
    assert [row["epoch"] for row in read_log(result.run_dir / "log.csv")] == [1, 2, 3]


def test_minutes_add_up_over_a_resume(make_trainer, clock):
    def loss(output, target):
        clock.pass_minutes(1.0)
        return toy_loss(output, target)

    make_trainer(loss=loss, max_epochs=1).fit()
    clock.pass_minutes(500.0)
    result = make_trainer(loss=loss, max_epochs=100, max_minutes=5.0).fit(resume=True)
    assert (result.minutes, result.epochs, result.stopped_by) == (5.0, 2, "minutes")


def test_a_finished_run_resumes_to_its_own_result(make_trainer):
    first = make_trainer().fit()
    again = make_trainer().fit(resume=True)
    assert (again.best_epoch, again.best_score, again.epochs) == (first.best_epoch, first.best_score, 3)
    assert again.stopped_by == "epochs"


def test_nothing_to_resume_is_said(make_trainer):
    with pytest.raises(
        FileNotFoundError, match=r"`path` must be a checkpoint, got .*last\.pt, which is no file"
    ):
        make_trainer().fit(resume=True)


# Errors


@pytest.mark.parametrize("name", ["log.csv", "last.pt", "best.pt"])
def test_a_folder_that_holds_a_run_is_refused_and_left_as_it_is(make_trainer, name):
    trainer = make_trainer()
    folder = trainer._folder.path
    folder.mkdir()
    (folder / name).write_text("earlier")
    with pytest.raises(
        ExistingFileError, match=rf"`run_dir` must be a folder without a run, got .*run, which holds {name}\."
    ):
        trainer.fit()
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(name, "earlier")]


def test_a_loader_without_a_batch_is_refused_before_any_work(make_trainer, tmp_path):
    data = TensorDataset(torch.zeros(2, 1, 3, 5), torch.zeros(2, 3, 5, dtype=torch.long))
    message = (
        r"`train_loader` must be at least one batch long, got none, with batch_size=3 and drop_last=True\. "
        r"Give it more images or a smaller batch_size, or set drop_last=False\."
    )
    with pytest.raises(ValueError, match=message):
        make_trainer(loader=DataLoader(data, batch_size=3, drop_last=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_part(make_trainer, bad):
    batches = count(1)

    def loss(output, target):
        terms = toy_loss(output, target)
        if next(batches) < BATCHES + 2:
            return terms
        return LossTerms(
            terms.total * bad, parts={"segmentation": terms.total, "guidance": terms.total * bad}
        )

    trainer = make_trainer(loss=loss)
    message = (
        rf"`loss` must be finite, got loss = {bad}, loss_guidance = {bad}, "
        r"gradient = (nan|inf) at epoch 2, batch 2\. "
        r".*last\.pt holds those stored before it\. Try a lower learning rate"
    )
    with pytest.raises(NonFiniteError, match=message):
        trainer.fit()
    last = load_checkpoint(trainer._folder.path / "last.pt")
    assert last["run"]["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in last["model"].values())
    assert torch.isfinite(trainer.model[3].weight).all()


def test_a_gradient_that_is_not_finite_is_caught_before_the_step(make_trainer):
    def loss(output, target):  # noqa: ARG001
        return LossTerms(torch.sqrt(output.logits.square() * 0).sum())

    trainer = make_trainer(loss=loss)
    with pytest.raises(NonFiniteError, match=r"got gradient = nan at epoch 1, batch 1"):
        trainer.fit()
    assert load_checkpoint(trainer._folder.path / "last.pt")["run"]["epoch"] == 0
    assert torch.isfinite(trainer.model[3].weight).all()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"max_epochs": 0}, "`max_epochs` must be at least 1, got 0"),
        ({"validate_every": 0}, "`validate_every` must be at least 1, got 0"),
        ({"max_minutes": 0.0}, r"`max_minutes` must be above 0, got 0\.0"),
        ({"clip_grad_norm": -1.0}, r"`clip_grad_norm` must be above 0, got -1\.0"),
        ({"ema_decay": 1.0}, r"`ema_decay` must be between 0 and 1, got 1\.0"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        TrainerConfig(**numbers)


def test_an_unknown_precision_is_refused():
    # Where shapes and types are checked at run time, as in these tests, their check comes first.
    with pytest.raises((ValueError, TypeError), match="fp8"):
        TrainerConfig(precision="fp8")


def test_the_reports_go_to_standard_error_unless_quiet(make_trainer, monkeypatch):
    for quiet, lines in ((False, 3), (True, 0)):
        stream = io.StringIO()
        monkeypatch.setattr("sys.stderr", stream)
        make_trainer(f"quiet-{quiet}", quiet=quiet).fit()
        assert len(stream.getvalue().splitlines()) == lines


def _trainer_with(metadata, tmp_path, model=None):
    model = toy_network() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Trainer(
        model,
        toy_loss,
        optimizer,
        train_loader=toy_data(),
        validate=toy_score,
        run_dir=tmp_path / "run",
        metadata=metadata,
    )


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (3, "`metadata` must be a mapping, got a int"),
        ([("a", 1)], "`metadata` must be a mapping, got a list"),
        ({"score": np.float64(0.5)}, r"`metadata\['score'\]` must be made of .* got a float64"),
        ({"a": [{"b": Path("x")}]}, r"`metadata\['a'\]\[0\]\['b'\]` must be made of"),
        ({"a": {1}}, "got a set"),
    ],
)
def test_metadata_that_a_checkpoint_could_not_be_read_with_is_refused_before_training(
    tmp_path, metadata, message
):
    with pytest.raises(TypeError, match=message):
        _trainer_with(metadata, tmp_path)


def test_metadata_of_another_network_is_refused_before_training(tmp_path):
    trained, other = (MSGA(encoder="resnet18", channels=4, energy=energy) for energy in ("danet", "paper"))
    with pytest.raises(
        ValueError, match="`metadata` must be that of this network, got energy 'paper' instead of"
    ):
        _trainer_with({"model": other.settings.to_dict()}, tmp_path, trained)
    _trainer_with({"model": trained.settings.to_dict()}, tmp_path, trained)
    _trainer_with({"model": {"my": "own"}, "lists": [1, (2.5, None, True)]}, tmp_path)


@pytest.mark.parametrize("name", ["model", "config"])
def test_network_and_settings_cannot_be_set_later(name, make_trainer):
    trainer = make_trainer()
    before, other = getattr(trainer, name), getattr(make_trainer(name="other"), name)
    message = f"`{name}` must be what the trainer was made with, got another {name}. Make another Trainer."
    with pytest.raises(ArgumentError, match=re.escape(message)):
        setattr(trainer, name, other)
    assert getattr(trainer, name) is before
