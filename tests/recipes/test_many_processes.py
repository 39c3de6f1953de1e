"""Training under `torchrun` and prediction in shards, from the command line: the same as in one process."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.recipes.conftest import SMALL, make_block

from guided_attention.cli import main
from guided_attention.data import write_nifti
from guided_attention.inference import Shard
from guided_attention.recipes import Plan, plan_for, predict_shard
from guided_attention.training import read_log

pytestmark = pytest.mark.example

STEADY = {
    "network.arguments.channels": 4,
    "optimizer.name": "sgd",
    "optimizer.lr": 1e-4,  # larger ones let rounding grow beyond what is compared
    "sampling.batch_size": 5,
    "sampling.steps": 2,
    "sampling.workers": 0,
    "schedule.name": "constant",
}
OUTCOME = re.compile(r"Stopped by|Next: |To train longer")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for number in range(7):
        case = make_block(f"c{number}", number % 2 + 1, size=(5, 11 + number, 13))
        write_nifti(folder / f"c{number}_image.nii.gz", case.image[0], case.affine)
        write_nifti(folder / f"c{number}_label.nii.gz", case.labels, case.affine)
    return folder


@pytest.fixture(scope="module")
def plan(scans: Path) -> Plan:
    made = plan_for(scans, device="cpu").with_values({**SMALL, **STEADY})
    return replace(made, budget=replace(made.budget, minutes=None))


@pytest.fixture(scope="module")
def alone(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs of one process: of one epoch, and of two."""
    runs = tmp_path_factory.mktemp("runs")
    (runs / "one").mkdir()
    plan.save(runs / "one/plan.json")
    assert main(["train", str(runs / "one"), "--device", "cpu", "--quiet"]) == 0
    shutil.copytree(runs / "one", runs / "two")
    longer = ["--resume", "--set", "budget.epochs=2"]
    assert main(["train", str(runs / "two"), "--device", "cpu", "--quiet", *longer]) == 0
    return runs / "one", runs / "two"


def torchrun(processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in so many processes on the CPU."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", f"{processes}"]
    command = [sys.executable, *start, "-m", "guided_attention", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def assert_same_run(ours: Path, theirs: Path) -> None:
    for name in ("best.pt", "last.pt"):
        found, wanted = (torch.load(run / name, weights_only=True)["model"] for run in (ours, theirs))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    rows, others = read_log(ours / "log.csv"), read_log(theirs / "log.csv")
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        for name in ("epoch", "batches", "lr", "loss", "validation_score"):
            assert row[name] == pytest.approx(other[name], abs=1e-4)


def test_processes_train_as_one_and_another_number_of_them_resumes(
    plan: Plan, alone: tuple[Path, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    plan.save(run / "plan.json")
    first = torchrun(2, "train", str(run), "--device", "cpu")
    assert first.returncode == 0, first.stderr
    assert_same_run(run, alone[0])
    files = {path.name for path in run.iterdir()}
    assert files == {path.name for path in alone[0].iterdir()}
    assert (len(OUTCOME.findall(first.stdout)), first.stderr.count("epoch 1/1")) == (3, 1)
    assert "prepared 2 of 2 cases, the share of this process" in first.stderr

    again = torchrun(3, "train", str(run), "--device", "cpu", "--resume", "--set", "budget.epochs=2")
    assert again.returncode == 0, again.stderr
    assert_same_run(run, alone[1])
    assert Plan.load(run) == Plan.load(alone[1])


def test_an_error_of_the_first_process_is_said_once_and_nobody_waits(
    alone: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copy(alone[0] / "plan.json", tmp_path)
    found = torchrun(2, "train", str(tmp_path), "--device", "cpu", "--set", "sampling.batch_size=1")
    assert found.returncode != 0
    assert (
        found.stderr.count("`sampling.batch_size` must be at least 2, a patch for each process, got 1.") == 1
    )
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(alone: tuple[Path, Path], scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert main(["predict", str(alone[0]), str(scans), "--out", str(out), "--device", "cpu"]) == 0
    return out


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_give_the_files_of_one_process(
    alone: tuple[Path, Path], scans: Path, whole: Path, tmp_path: Path, count: int
) -> None:
    for number in range(count, 0, -1):
        command = ["predict", str(alone[0]), str(scans), "--out", str(tmp_path), "--device", "cpu"]
        assert main([*command, "--shard", f"{number}/{count}"]) == 0
    assert main(["merge", str(tmp_path)]) == 0
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "3", "RANK": "1"},
        {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MIN": "1"},
    ],
)
def test_the_shard_is_that_of_the_process_and_absent_ones_are_named(
    alone: tuple[Path, Path],
    scans: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["predict", str(alone[0]), str(scans), "--out", str(tmp_path), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    folder = tmp_path / "shard-2-of-3"
    assert said.out.splitlines() == [
        f"{name}  done  {folder / name}_prediction.nii.gz" for name in ("c1", "c4")
    ]
    assert said.err.splitlines() == [
        "Predicts shard 2/3 of the scans, the part of this process; --shard 1/1 predicts all.",
        f"Shard 2/3 is done. Next, when all are: guided-attention merge {tmp_path}",
    ]

    assert main(["merge", str(tmp_path)]) == 3
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "shard 1/3 never ran",
        "shard 3/3 never ran",
        f"error: {tmp_path} is not merged. Predict these shards with --shard K/N --resume, then merge again.",
    ]
    assert main(["merge", str(tmp_path), "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert [case["case_id"] for case in report.pop("cases")] == ["c1", "c4"]
    assert report == {"complete": False, "absent": ["1/3", "3/3"], "unfinished": [], "missing": []}

    for number in (1, 3):
        entries = predict_shard(alone[0], scans, tmp_path, Shard(number, 3), device="cpu")
        assert {entry.status for entry in entries} == {"done"}
    assert main(["merge", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["complete"]
    assert report["cases"][6]["files"] == [str(tmp_path / "c6_prediction.nii.gz")]
    assert contents(tmp_path) == contents(whole)
