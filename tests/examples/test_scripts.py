"""The example scripts run as users run them, and leave what they promise."""

import csv
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.real_data import some_atria

from guided_attention.data import read_nifti_pairs
from guided_attention.inference import Predictor
from guided_attention.models import save_pretrained

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.example


def run(script, *arguments, cwd):
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    print(finished.stdout)
    return finished.stdout


def mean_dice(scores):
    """The mean over organs of a case, then over cases, straight from the file."""
    cases = {}
    with scores.open() as file:
        for row in csv.DictReader(file):
            cases.setdefault(row["case_id"], []).append(float(row["dice"]))
    return np.mean([np.mean(organs) for organs in cases.values()])


def test_the_chaos_example_without_arguments_segments_phantoms(tmp_path):
    nibabel, pydicom = pytest.importorskip("nibabel"), pytest.importorskip("pydicom")
    out = run("train_chaos.py", cwd=tmp_path)
    folder = tmp_path / "runs" / "chaos"
    assert mean_dice(folder / "test_scores.csv") >= 0.85
    assert all(organ in out for organ in ("liver", "right kidney", "left kidney", "spleen", "mean"))
    assert {"log.csv", "last.pt", "best.pt", "split.json", "test_subjects.png"} <= {
        p.name for p in folder.iterdir()
    }
    predictions = sorted((folder / "predictions").glob("*_prediction.nii.gz"))
    assert len(predictions) == 5
    for path in predictions:
        subject = path.name.removesuffix("_prediction.nii.gz")
        dicom = tmp_path / "phantom-cohort/Train_Sets/MR" / subject / "T1DUAL/DICOM_anon/InPhase"
        slices = [pydicom.dcmread(file) for file in sorted(dicom.glob("*.dcm"))]
        image = nibabel.load(path)
        assert image.shape == (slices[0].Columns, slices[0].Rows, len(slices))
        # The first voxel of the first and of the last slice lie where DICOM says, in LPS against NIfTI's RAS.
        for z, slice_ in ((0, slices[0]), (len(slices) - 1, slices[-1])):
            here = image.affine @ [0, 0, z, 1]
            np.testing.assert_allclose(here[:3] * [-1, -1, 1], slice_.ImagePositionPatient, atol=1e-3)
    # The command line reads the run: the slices of one subject give the same labels again.
    command = [sys.executable, "-m", "guided_attention", "predict", str(folder), str(dicom), "--out", "again"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    (again,) = (tmp_path / "again").glob("*_prediction.nii.gz")
    np.testing.assert_array_equal(np.asarray(nibabel.load(again).dataobj), np.asarray(image.dataobj))


def start(script, *arguments, cwd):
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fails(script, *arguments, cwd):
    """Return what a command that ends with an error writes there."""
    process = start(script, *arguments, cwd=cwd)
    out, errors = process.communicate()
    assert process.returncode == 1
    assert out == ""
    return errors


@pytest.mark.parametrize("script", ["compose_blocks.py", "train_chaos.py", "train_left_atrium.py"])
def test_a_run_is_never_overwritten_and_the_way_to_continue_is_named(script, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").touch()
    data = ("--data", tmp_path / "none") if script == "train_left_atrium.py" else ()
    said = fails(script, "--out", "run", *data, cwd=tmp_path)
    assert said == (
        "error: --out must be a folder without a run, got run, which holds last.pt. "
        "Add --resume to continue that run, or name another folder.\n"
    )
    said = fails(script, "--out", "other", "--resume", *data, cwd=tmp_path)
    assert said == "error: --out must hold a run to resume, got other, which has no last.pt. Drop --resume.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"], (
        "noticed before any data are made or read"
    )


@pytest.mark.parametrize("script", ["train_chaos.py", "train_left_atrium.py"])
def test_a_misspelt_encoder_is_noticed_before_data_are_read(script, tmp_path):
    data = ("--data", tmp_path / "none") if script == "train_left_atrium.py" else ()
    said = fails(script, "--encoder", "resnet81", *data, cwd=tmp_path)
    assert said.count("\n") == 1
    assert re.search(r"error: `encoder` must be one of 'resnet18'.*resnet81", said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", ["train_chaos.py", "train_left_atrium.py"])
def test_a_run_folder_that_cannot_be_one_is_noticed_before_data_are_read(script, tmp_path):
    (tmp_path / "file").touch()
    data = ("--data", tmp_path / "none") if script == "train_left_atrium.py" else ()
    for out in ("file", "file/run"):
        said = fails(script, "--out", out, *data, cwd=tmp_path)
        assert said == (
            f"error: --out must be a folder for files, got {out}: file is a file. Name another one.\n"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_data_that_are_not_there_end_in_one_line(tmp_path):
    said = fails("train_left_atrium.py", "--data", "none", cwd=tmp_path)
    assert said == "error: `folder` must be an existing folder or file, got none.\n"


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0, 1.5, 2.0])
def test_control_c_while_torch_is_imported_ends_in_one_line(seconds, tmp_path):
    process = start("train_chaos.py", cwd=tmp_path)
    since = time.monotonic()
    errors = interrupted(process, lambda: time.monotonic() > since + seconds)
    assert errors == "\nInterrupted. Run the same command to start again: training had not begun.\n"


def interrupted(process, is_time, code=130):
    """Press Ctrl-C once `is_time()` is true; return what the command writes as errors."""
    deadline = time.monotonic() + 300
    while not is_time():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in errors
    return errors


def test_control_c_ends_in_one_line_and_the_run_is_resumed(tmp_path):
    arguments = ("--block", "none", "--out", "run", "--epochs", 3)
    process = start("compose_blocks.py", *arguments, cwd=tmp_path)
    errors = interrupted(process, (tmp_path / "run" / "last.pt").is_file, code=75)
    assert errors.endswith("\nRun the same command with --resume to continue.\n")
    assert "--resume" in fails("compose_blocks.py", *arguments, cwd=tmp_path)
    assert "left kidney" in run("compose_blocks.py", *arguments, "--resume", cwd=tmp_path)
    with (tmp_path / "run" / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_control_c_before_the_training_says_so(tmp_path):
    process = start("train_chaos.py", cwd=tmp_path)
    errors = interrupted(process, (tmp_path / "phantom-cohort").exists)
    assert errors.endswith("\nInterrupted. Run the same command to start again: training had not begun.\n")


@pytest.mark.parametrize("block", ["none", "pam", "cam", "guided"])
def test_the_blocks_train_in_a_plain_network(block, tmp_path):
    out = run("compose_blocks.py", "--block", block, "--epochs", 1, cwd=tmp_path)
    assert "left kidney" in out
    assert (tmp_path / f"runs/compose-{block}/test_subjects.png").is_file()


ELSEWHERE = """
import sys
from pathlib import Path

from guided_attention.data import read_nifti_pairs
from guided_attention.inference import Predictor

data, network, out, *names = sys.argv[1:]
cases = read_nifti_pairs(data, case_ids=names)
entries = Predictor.load(network, device="cpu").predict_to(out, cases)
assert [entry.status for entry in entries] == ["done"] * len(names), entries
"""

BARE = """
import sys

import torch

from guided_attention.models import from_pretrained

network, seen, out = sys.argv[1:]
with torch.inference_mode():
    torch.save(from_pretrained(network)(torch.load(seen)), out)
"""


def in_another_process(code, *arguments, cwd):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def voxels(folder):
    nibabel = pytest.importorskip("nibabel")
    files = sorted(folder.glob("*_prediction.nii.gz"))
    volumes = {file.name: nibabel.load(file) for file in files}
    return {name: (np.asarray(file.dataobj), file.affine) for name, file in volumes.items()}


def assert_same_voxels(folder, wanted):
    found = voxels(folder)
    assert found.keys() == wanted.keys()
    for name, (labels, affine) in found.items():
        np.testing.assert_array_equal(labels, wanted[name][0])
        np.testing.assert_array_equal(affine, wanted[name][1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run of the left-atrium example on few scans: the score of the full one is in the README."""
    folder = tmp_path_factory.mktemp("left-atrium")
    data = some_atria(folder / "atria", {"train": range(1, 9), "val": (21,), "test": (25, 26)})
    short = ("--channels", 4, "--epochs", 2, "--steps", 20, "--minutes", 5, "--device", "cpu")
    return (
        run("train_left_atrium.py", "--data", data, *short, cwd=folder),
        folder / "runs" / "left-atrium",
        data,
    )


def test_the_left_atrium_example_runs_on_real_volumes(trained):
    out, folder, _ = trained
    assert "left atrium" in out
    predicted = voxels(folder / "evaluation" / "predictions")
    assert len(predicted) == 2
    assert any(labels.any() for labels, _ in predicted.values()), "an empty volume would tell nothing below"


def test_a_copy_of_the_run_folder_predicts_the_same_voxels_in_another_process(trained, tmp_path):
    _, folder, data = trained
    (tmp_path / "moved").mkdir()
    shutil.copy(folder / "best.pt", tmp_path / "moved")
    in_another_process(ELSEWHERE, data, "moved", "predictions", "case25", "case26", cwd=tmp_path)
    assert_same_voxels(tmp_path / "predictions", voxels(folder / "evaluation" / "predictions"))


def test_a_saved_predictor_predicts_the_same_voxels_in_another_process(trained, tmp_path):
    _, folder, data = trained
    Predictor.load(folder, device="cpu").save(tmp_path / "saved")
    in_another_process(ELSEWHERE, data, "saved", "predictions", "case25", cwd=tmp_path)
    wanted = voxels(folder / "evaluation" / "predictions")
    first = "case25_prediction.nii.gz"
    assert_same_voxels(tmp_path / "predictions", {first: wanted[first]})


def test_a_pretrained_network_gives_the_same_logits_in_another_process(trained, tmp_path):
    _, folder, data = trained
    predictor = Predictor.load(folder, device="cpu")
    (case,) = read_nifti_pairs(data, case_ids=["case25"])
    seen = predictor.preparation.apply(case).slices(40, 43)
    save_pretrained(predictor.model, tmp_path / "network")
    torch.save(seen, tmp_path / "seen.pt")
    in_another_process(BARE, "network", "seen.pt", "logits.pt", cwd=tmp_path)
    with torch.inference_mode():
        wanted = predictor.model.eval()(seen)
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), wanted, rtol=0, atol=0)
