"""The training scripts go on with the data, the split and the seed that their run was begun with, or refuse."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from guided_attention.data import split_subjects, write_phantom_cohort
from guided_attention.recipes import Plan

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ("--encoder", "resnet18", "--channels", 2, "--device", "cpu")
pytestmark = pytest.mark.example


@pytest.fixture(autouse=True)
def examples_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture(scope="module")
def chaos(tmp_path_factory):
    return write_phantom_cohort(tmp_path_factory.mktemp("chaos"), subjects=20, size=16)


@pytest.fixture
def script(monkeypatch):
    """Run a script in this process: it is its messages and files that are looked at."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        module = importlib.import_module(name)
        module.run_command(module.main, module.parse())

    return run


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_resumed_chaos_run_keeps_its_split_and_refuses_other_scans(script, chaos, tmp_path, capsys):
    out = tmp_path / "run"
    small = ("--data", chaos, "--out", out, *SMALL, "--size", 16, "--batch-size", 64)
    script("train_chaos", *small, "--epochs", 1)
    split = (out / "split.json").read_bytes()
    assert json.loads(split)["test"] == list(
        split_subjects([str(n) for n in range(1, 21)], train=13, val=2, test=5).test
    )

    held = files_of(out)
    with pytest.raises(
        SystemExit, match=r"`metadata` must be that of the run in .*, got another preparation\.finge"
    ):
        script("train_chaos", *small, "--epochs", 2, "--resume", "--source", "t2")
    assert files_of(out) == held

    capsys.readouterr()
    script("train_chaos", *small, "--epochs", 2, "--resume", "--seed", 1)
    assert (out / "split.json").read_bytes() == split
    tested = {line.split(",")[0] for line in (out / "test_scores.csv").read_text().splitlines()[1:]}
    assert tested == set(json.loads(split)["test"])
    assert "changed since the run was stored: seed: 0 → 1" in capsys.readouterr().err


def test_a_chaos_run_that_is_interrupted_has_its_split_by_then(script, chaos, tmp_path, monkeypatch):
    out = tmp_path / "run"
    small = ("--data", chaos, "--out", out, *SMALL, "--size", 16, "--batch-size", 64)
    module = importlib.import_module("train_chaos")

    def interrupted(_trainer, *, resume):
        assert not resume
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Trainer, "fit", interrupted)
    with pytest.raises(SystemExit):
        script("train_chaos", *small, "--seed", 3)
    wanted = split_subjects([str(n) for n in range(1, 21)], train=13, val=2, test=5, seed=3)
    assert json.loads((out / "split.json").read_text())["test"] == list(wanted.test)


def test_a_resumed_left_atrium_run_finds_data_that_have_moved_and_refuses_another_seed(script, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    data = write_phantom_cohort(tmp_path / "data", subjects=3, size=32, layout="pairs")
    for path in data.glob("*_label.nii.gz"):  # one organ
        file = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image((file.get_fdata() == 1).astype("uint8"), file.affine), path)
    parts = [{"case": number, "split": part} for number, part in enumerate(("train", "val", "test"), 1)]
    (data / "cases.json").write_text(json.dumps(parts))
    small = ("--out", tmp_path / "run", *SMALL, "--steps", 1)
    script("train_left_atrium", "--data", data, *small, "--epochs", 1, "--seed", 3)

    moved = data.rename(tmp_path / "moved")
    held = files_of(tmp_path / "run")
    with pytest.raises(
        SystemExit, match=r"`plan` must be that of the run in .*, got another seed\. Train with"
    ):
        script("train_left_atrium", "--data", moved, *small, "--epochs", 2, "--resume", "--seed", 1)
    assert files_of(tmp_path / "run") == held

    script("train_left_atrium", "--data", moved, *small, "--epochs", 2, "--resume")
    plan = Plan.load(tmp_path / "run")
    assert (plan.data.folder, plan.seed) == (str(moved), 3)
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 3
