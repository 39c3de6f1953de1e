"""Several processes train as one with the same batches; a lost one ends the run with a state that can be resumed."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.several import Run, finished, left_by

from guided_attention.training import load_checkpoint, read_log

pytestmark = [pytest.mark.crash, pytest.mark.skipif(os.name != "posix", reason="processes of POSIX")]

SETTINGS = {"clip_grad_norm": 0.5, "ema_decay": 0.9, "accumulate": 2}


def assert_same_steps(ours, theirs, tolerance):
    assert len(ours["steps"]) == len(theirs["steps"]) > 0
    for step, other in zip(ours["steps"], theirs["steps"], strict=True):
        assert step["loss"] == pytest.approx(other["loss"], rel=tolerance, abs=tolerance)
        torch.testing.assert_close(step["weights"], other["weights"], rtol=tolerance, atol=tolerance)
    if theirs["average"] is not None:
        torch.testing.assert_close(ours["average"], theirs["average"], rtol=tolerance, atol=tolerance)


def assert_equal_on_all(run, processes):
    first, *others = (left_by(run, rank) for rank in range(processes))
    for other in others:
        torch.testing.assert_close(other["last"], first["last"], rtol=0, atol=0)
        torch.testing.assert_close(other["average"], first["average"], rtol=0, atol=0)


@pytest.mark.parametrize("network", ["toy", "msga_lite"])
def test_processes_train_as_one_in_float64(tmp_path, network):
    runs = {count: Run(tmp_path / f"{count}", network=network, settings=SETTINGS) for count in (1, 2, 4)}
    for count, run in runs.items():
        assert finished(run, count) == [0] * count
    for count in (2, 4):
        assert_same_steps(left_by(runs[count]), left_by(runs[1]), 1e-10)
        assert_equal_on_all(runs[count], count)


def test_processes_train_as_one_in_float32(tmp_path):
    about = {"kind": torch.float32, "optimizer": "AdamW", "lr": 1e-3, "images": 8, "batch": 4}
    settings = {"max_epochs": 10, "clip_grad_norm": 0.5}
    runs = {count: Run(tmp_path / f"{count}", settings=settings, **about) for count in (1, 2, 4)}
    for count, run in runs.items():
        assert finished(run, count) == [0] * count
        assert len(left_by(run)["steps"]) == 20
    for count in (2, 4):
        assert_same_steps(left_by(runs[count]), left_by(runs[1]), 1e-4)


def test_a_divided_validation_gives_the_score_of_one_process(tmp_path):
    runs = {count: Run(tmp_path / f"{count}", images=14, lr=0.3, validated=True) for count in (1, 2, 7)}
    for count, run in runs.items():
        assert finished(run, count) == [0] * count
    rows = [read_log(run.folder / "log.csv") for run in runs.values()]
    scores = [[row["validation_score"] for row in log] for log in rows]
    assert scores[1:] == scores[:1] * 2
    assert 0 < scores[0][-1] < 1


def test_the_score_of_the_first_process_counts_in_all(tmp_path):
    run = Run(tmp_path / "run", images=14, lr=0.3, contradicted=True, settings={"max_epochs": 4})
    assert finished(run, 2) == [0, 0]
    assert_equal_on_all(run, 2)
    assert [row["lr"] for row in read_log(run.folder / "log.csv")] == [0.3] * 4


def test_the_preparation_of_the_first_process_counts_in_all_on_a_resume(tmp_path):
    run = Run(tmp_path / "run", means=(1.0, 1.0), settings={"max_epochs": 1})
    assert finished(run, 2) == [0, 0]
    assert finished(replace(run, means=(2.0, 1.0), resume=True), 2) == [1, 1]
    for rank in (0, 1):
        assert "got another preparation.mean" in Path(f"{run.folder}-{rank}.txt").read_text()
    longer = replace(run, means=(1.0, 2.0), resume=True, settings={"max_epochs": 2})
    assert finished(longer, 2) == [0, 0]
    assert_equal_on_all(longer, 2)
    assert load_checkpoint(run.folder / "last.pt")["metadata"] == {"preparation": {"mean": 1.0}}


# Of 16 images the last batch has 2, too few for 3 processes, of which the loader with its own iterator makes 4.
@pytest.mark.parametrize("how", [{"listed": True}, {"tripled": True, "images": 16}], ids=["list", "subclass"])
def test_batches_that_cannot_be_read_in_parts_are_cut(tmp_path, how):
    runs = {count: Run(tmp_path / f"{count}", **how) for count in (1, 3)}
    for count, run in runs.items():
        assert finished(run, count) == [0] * count
    assert_same_steps(left_by(runs[3]), left_by(runs[1]), 1e-10)


def test_only_the_first_process_writes_and_reports(tmp_path):
    run = Run(tmp_path / "run", settings={"quiet": False})
    assert finished(run, 2) == [0, 0]
    assert [row["epoch"] for row in read_log(run.folder / "log.csv")] == [1, 2]
    assert "epoch 2/2" in Path(f"{run.folder}-0.txt").read_text()
    assert Path(f"{run.folder}-1.txt").read_text() == ""


def test_a_batch_that_is_too_small_to_be_shared_is_an_error(tmp_path):
    run = Run(tmp_path / "run", images=15)
    assert 0 not in finished(run, 2)
    for rank in (0, 1):
        assert "batches of 2 images or more" in Path(f"{run.folder}-{rank}.txt").read_text()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize(("lost", "step"), [(1, 5), (0, 5), (1, 3)])
def test_after_a_lost_process_three_end_as_three_from_that_step(tmp_path, lost, step, dropout):
    settings = {"max_epochs": 3, "ema_decay": 0.9, "store_minutes": 1e-9 if lost == 0 else 60.0}
    run = Run(tmp_path / "run", dropout=dropout, killed=(lost, step), settings=settings)
    codes = finished(run, 2)
    assert codes[lost] == -9
    assert codes[1 - lost] == 75  # says: resume
    state = load_checkpoint(run.folder / "last.pt")["run"]
    assert (state["epoch"] - 1) * 3 + state["batches"] == step - 1
    again = replace(run, folder=shutil.copytree(run.folder, tmp_path / "again"), killed=None, resume=True)
    rest = replace(run, killed=None, resume=True)
    assert finished(rest, 3) == [0, 0, 0]
    assert_equal_on_all(rest, 3)
    if dropout > 0.0:  # as many processes, and so the same numbers
        assert finished(again, 3) == [0, 0, 0]
        assert_same_steps(left_by(again), left_by(rest), 0)
    else:
        whole = Run(tmp_path / "whole", settings=settings)
        assert finished(whole, 3) == [0, 0, 0]
        steps = left_by(whole)
        steps["steps"] = steps["steps"][step - 1 :]
        assert_same_steps(left_by(rest), steps, 1e-10)
