"""The command line as users run it: wrong uses, interrupts, and a whole run."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tests.examples import wrong_uses

from guided_attention import cli
from guided_attention.data import (
    make_phantom,
    open_cohort,
    read_nifti,
    write_nifti,
)

# Wrong types get the messages that users see.
pytestmark = [pytest.mark.example, pytest.mark.usefixtures("without_shape_checks")]


@pytest.fixture(scope="module")
def world():
    with wrong_uses.make_world() as root:
        yield root


def _rows():
    """Return the rows of the page: exit code and message, by what is wrong and the command."""
    table = wrong_uses.section(wrong_uses.PAGE.read_text(encoding="utf-8"), "table")[1]
    return table.splitlines()[2:]


def test_at_least_thirty_wrong_uses():
    assert len(_rows()) == len(wrong_uses.USES) >= 30


@pytest.mark.parametrize(
    "place", range(len(wrong_uses.USES)), ids=lambda place: wrong_uses.USES[place].command
)
def test_wrong_uses(world, monkeypatch, place):
    monkeypatch.setenv("COLUMNS", "80")
    use = wrong_uses.USES[place]
    code, text = wrong_uses.outcome(world, use)
    assert code == use.code, text
    assert "Traceback" not in text
    row = wrong_uses.table([(use, code, text)]).splitlines()[2]
    if not _depends_on_the_machine(use):
        assert row == _rows()[place], "python -m tests.examples.wrong_uses writes the page anew"


def _depends_on_the_machine(use):
    """Messages of argparse, of torch on devices and of the system differ between versions and machines."""
    return use.code == 2 and ("cuda" in use.command or "trian" in use.command)


# Ctrl-C


def _start(*arguments, cwd):
    command = [sys.executable, "-m", "guided_attention", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, **pipes)


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.9, 1.4, 2.0])
def test_control_c_while_torch_is_loaded(world, seconds):
    process = _start("info", "scans", cwd=world)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    # Before Python has begun, and while it ends, a signal is answered by the system, without a word.
    assert process.returncode in {130, 0, -signal.SIGINT}
    assert err in {"interrupted\n", ""}


_AT = """
import signal, sys
from guided_attention import cli
import {module} as module
original = module.{name}
def interrupted(*arguments, **keywords):
    signal.raise_signal(signal.SIGINT)
    return original(*arguments, **keywords)
module.{name} = interrupted
sys.exit(cli.main(sys.argv[1:]))
"""
READ = ("guided_attention.data.layouts._volumes", "joined_case")


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("plan scans --out runs/interrupted", READ),
        ("train runs/planned", READ),
        ("predict runs/trained unlabelled --out predictions/interrupted", READ),
        ("evaluate runs/trained scans --out predictions/scores", READ),
        (
            "evaluate runs/trained scans --out predictions/scores2",
            ("guided_attention.recipes.scoring", "read_prediction"),
        ),
    ],
)
def test_control_c_at_each_stage(world, command, place):
    code = _AT.format(module=place[0], name=place[1])
    finished = subprocess.run(
        [sys.executable, "-c", code, *command.split()], cwd=world, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 130, finished.stderr
    assert finished.stderr.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in finished.stderr


def test_control_c_in_training(world):
    make = "plan scans --out runs/long --minutes 5 --set sampling.workers=0 --device cpu"
    assert wrong_uses.outcome(world, wrong_uses.Use("", make, 0))[0] == 0
    process = _start("train", "runs/long", cwd=world)
    first = process.stderr.readline()
    while not first.startswith("epoch"):
        first = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 75, err
    last = err.splitlines()[-1]
    assert last.endswith("Continue with: guided-attention train runs/long --resume")
    assert "Traceback" not in err
    more = ["train", "runs/long", "--resume", "--set", "budget.minutes=0.01", "--quiet"]
    resumed = _start(*more, cwd=world)
    resumed.communicate(timeout=300)
    assert resumed.returncode == 0


def test_a_reader_that_is_gone(world):
    command = f"{sys.executable} -m guided_attention info runs/trained | head -1"
    finished = subprocess.run(command, shell=True, cwd=world, capture_output=True, text=True, check=True)  # noqa: S602
    assert (finished.stdout, finished.stderr) == ("kind: run\n", "")


# From scans to scores (test_recipes.py takes the other layouts)


def _nnunet(folder):
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for subject in range(1, 6):
        case = make_phantom(0, subject=subject, size=32, source="t1_dual")
        for channel, volume in enumerate(case.image):
            write_nifti(folder / f"imagesTr/p_{subject:03d}_{channel:04d}.nii.gz", volume, case.affine)
        write_nifti(folder / f"labelsTr/p_{subject:03d}.nii.gz", case.labels, case.affine)
    labels = {"background": 0, "liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4}
    content = {"channel_names": {"0": "in", "1": "out"}, "labels": labels, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def test_from_scans_to_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _nnunet(tmp_path / "scans")
    settings = "--set budget.epochs=2 --set training.precision=fp32 --set inference.precision=fp32"
    settings += " --set sampling.steps=4 --set network.arguments.channels=8"
    assert cli.main(f"plan scans --out run --device cpu {settings}".split()) == 0
    assert "Next: guided-attention train run" in capsys.readouterr().out
    assert cli.main(["train", "run", "--device", "cpu", "--quiet"]) == 0
    assert cli.main(["predict", "run", "--out", "predictions", "--device", "cpu", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines] == ["done"]
    case = open_cohort("scans").read(lines[0]["case_id"])
    prediction = read_nifti(lines[0]["files"][0])
    assert prediction.array.shape == case.labels.shape
    np.testing.assert_allclose(prediction.affine, case.affine, atol=1e-4)
    assert cli.main(["evaluate", "run", "--predictions", "predictions", "--device", "cpu"]) == 0
    assert re.search(r"\| mean +\|", capsys.readouterr().out)
