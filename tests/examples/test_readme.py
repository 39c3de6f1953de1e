"""The commands of the README, as they stand there, in an empty directory."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.real_data import some_atria

from guided_attention.data import open_cohort

pytestmark = pytest.mark.example

ROOT = Path(__file__).parents[2]


def _lines():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## From scans to scores")[2]
    return re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1].splitlines()


def test_four_commands_from_scans_to_scores(tmp_path):
    parts = {"train": range(1, 11), "val": (21,), "test": (25, 26)}
    cohort = open_cohort(some_atria(tmp_path / "left-atrium-mr", parts))
    lines = _lines()
    assert [line.split()[:2] for line in lines] == [
        ["guided-attention", verb] for verb in ("plan", "train", "predict", "evaluate")
    ]
    printed = ""
    for line in lines:
        # Some steps in place of 24 minutes, as many on every machine: the score is measured elsewhere.
        words = shlex.split(line.replace("--minutes 24", "--set budget.epochs=1 --set sampling.steps=80"))
        command = [sys.executable, "-m", "guided_attention", *words[1:]]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    assert re.search(r"\| mean +\| 0\.\d{3} ± ", printed)
    assert len(cohort.parts["test"]) == 2
    for name in cohort.parts["test"]:
        scan = cohort.read(name)
        prediction = open_cohort(tmp_path / f"predictions/{name}_prediction.nii.gz")[0]
        assert prediction.image.shape[1:] == scan.image.shape[1:]
        np.testing.assert_allclose(prediction.affine, scan.affine, atol=1e-5)
        found = prediction.image[0] == 1
        overlap = 2 * (found & (scan.labels == 1)).sum() / (found.sum() + (scan.labels == 1).sum())
        assert overlap > 0.3
