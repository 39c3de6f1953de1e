"""Mistakes that `train`, `predict`, `evaluate` and `info` find before they read a scan."""

from dataclasses import replace
from pathlib import Path

import pytest

from guided_attention.case import Case
from guided_attention.errors import ArgumentError, DataError, ExistingFileError, MissingFileError
from guided_attention.recipes import Plan, evaluate, info, predict, train


@pytest.fixture
def lost(plan: Plan, tmp_path: Path) -> Plan:
    """A plan whose scans are gone: an error about anything else came before they were looked for."""
    return replace(plan, data=replace(plan.data, folder=str(tmp_path / "gone"), layout="pairs"))


@pytest.fixture
def begun(lost: Plan, tmp_path: Path) -> Path:
    """A folder that looks like a run."""
    folder = tmp_path / "begun"
    folder.mkdir()
    (folder / "last.pt").touch()
    lost.save(folder / "plan.json")
    return folder


def test_a_folder_with_a_run_is_refused(begun: Path, lost: Plan) -> None:
    for arguments in ((begun,), (begun / "plan.json",), (lost, begun)):
        with pytest.raises(ExistingFileError, match=r"holds last\.pt.*resume=True"):
            train(*arguments)


def test_without_a_run_there_is_nothing_to_resume(lost: Plan, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="has none"):
        train(lost, tmp_path / "new", resume=True)
    with pytest.raises(MissingFileError, match="plan"):
        train(tmp_path / "new")
    with pytest.raises(ArgumentError, match="run_dir"):
        train(lost)


def test_a_resumed_run_keeps_what_its_steps_depend_on(begun: Path, lost: Plan) -> None:
    other = lost.with_values({"optimizer.lr": 1.0, "seed": 7, "budget.epochs": 3, "sampling.workers": 2})
    with pytest.raises(ArgumentError, match=r"another optimizer\.lr, seed\. Train"):
        train(other, begun, resume=True)
    with pytest.raises(ArgumentError, match="init_from"):
        train(begun, resume=True, init_from=begun)
    with pytest.raises(MissingFileError, match="gone"):  # all that may change is let through
        train(lost.with_values({"budget.minutes": 3, "training.patience": 5}), begun, resume=True)


def test_scans_that_are_gone_leave_no_folder(lost: Plan, plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="gone"):
        train(lost, tmp_path / "new")
    with pytest.raises(ArgumentError, match="cases"):
        train(plan, tmp_path / "new")
    with pytest.raises(ArgumentError, match="device"):
        train(lost, tmp_path / "new", device="tpu")
    assert not (tmp_path / "new").exists()


def test_a_case_that_is_gone_is_named(plan: Plan, cases: list[Case], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="with the case"):
        train(plan, tmp_path / "new", cases=cases[:1])


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for call in (predict, evaluate):
        with pytest.raises(MissingFileError, match="none"):
            call(tmp_path / "none", None, out=tmp_path / "out")
        with pytest.raises(MissingFileError, match=r"best\.pt"):
            call(tmp_path, None, out=tmp_path / "out")
    with pytest.raises(MissingFileError):
        info(tmp_path / "none")
    with pytest.raises(DataError):
        info(tmp_path)
