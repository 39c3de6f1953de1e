"""The example scripts run as users run them, and leave what they promise."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.real_data import real_data

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


def test_a_run_is_never_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.pt").touch()
    command = [sys.executable, str(EXAMPLES / "compose_blocks.py"), "--out", "run"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode != 0
    assert "FileExistsError" in finished.stderr


@pytest.mark.parametrize("block", ["none", "pam", "cam", "guided"])
def test_the_blocks_train_in_a_plain_network(block, tmp_path):
    out = run("compose_blocks.py", "--block", block, "--epochs", 1, cwd=tmp_path)
    assert "left kidney" in out
    assert (tmp_path / f"runs/compose-{block}/test_subjects.png").is_file()


def test_the_left_atrium_example_runs_on_real_volumes(tmp_path):
    """A short run: the score of the full one stands in the README."""
    folder = real_data("left-atrium-mr")
    short = ("--channels", 4, "--epochs", 1, "--slice-step", 40, "--minutes", 5)
    out = run("train_left_atrium.py", "--data", folder, *short, cwd=tmp_path)
    assert "left atrium" in out
    assert len(list((tmp_path / "runs/left-atrium/predictions").glob("*.nii.gz"))) == 6
