"""Wrong uses of the command line, and the page that lists them with their messages and exit codes.

    python -m tests.examples.wrong_uses

writes the table and the help texts of docs/how-to/command-line.md anew.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from guided_attention import cli
from guided_attention.data import write_nifti
from guided_attention.recipes import plan_for, train

PAGE = Path(__file__).parents[2] / "docs/how-to/command-line.md"
VERBS = ("plan", "train", "predict", "evaluate", "info")
AFFINE = np.diag([1.5, 1.25, 5.0, 1.0])


@dataclass(frozen=True)
class Use:
    """What is wrong, the command without `guided-attention`, and the exit code that the user has to get."""

    what: str
    command: str
    code: int


USES = (
    Use("no verb", "", 2),
    Use("misspelt verb", "trian runs/planned", 2),
    Use("unknown option", "train runs/planned --epochs 3", 2),
    Use("argument missing", "plan scans", 2),
    # plan
    Use("folder of scans missing", "plan nothing --out runs/new", 2),
    Use("empty folder", "plan empty --out runs/new", 1),
    Use("no scans in the folder", "plan documents --out runs/new", 1),
    Use("unknown layout", "plan scans --out runs/new --layout nifti", 2),
    Use("another layout", "plan scans --out runs/new --layout nnunet", 1),
    Use("no case has a mask", "plan unlabelled --out runs/new", 1),
    Use("mask without image", "plan orphan --out runs/new", 1),
    Use("link that leads nowhere", "plan links --out runs/new", 2),
    Use("damaged scan", "plan damaged --out runs/new", 1),
    Use("wrong JSON beside the scans", "plan json --out runs/new", 1),
    Use("output exists", "plan scans --out runs/planned", 2),
    Use("output is a file", "plan scans --out documents/notes.txt", 2),
    Use("misspelt key", "plan scans --out runs/new --set optimiser.lr=0.1", 2),
    Use("misspelt key, second word", "plan scans --out runs/new --set optimizer.learning_rate=0.1", 2),
    Use("value of the wrong type", "plan scans --out runs/new --set optimizer.lr=fast", 2),
    Use("value out of range", "plan scans --out runs/new --set budget.epochs=0", 2),
    Use("value missing", "plan scans --out runs/new --set optimizer.lr", 2),
    Use("no number", "plan scans --out runs/new --minutes soon", 2),
    Use("number out of range", "plan scans --out runs/new --minutes 0", 2),
    Use("unknown device", "plan scans --out runs/new --device tpu9", 2),
    Use("device that does not exist", "plan scans --out runs/new --device cuda:7", 2),
    # train
    Use("run folder missing", "train nothing", 2),
    Use("not a run", "train scans", 2),
    Use("run trained already", "train runs/trained", 2),
    Use("nothing to resume", "train runs/planned --resume", 2),
    Use("misspelt key", "train runs/planned --set budget.epoch=3", 2),
    Use("resumed with another setting", "train runs/trained --resume --set optimizer.lr=0.5", 2),
    Use("plan.json damaged", "train runs/damaged-plan", 1),
    Use("plan.json with an unknown key", "train runs/unknown-key", 1),
    Use("plan of a newer version", "train runs/newer", 1),
    Use("scans moved", "train runs/moved", 2),
    Use("run to start from missing", "train runs/planned --init-from nothing", 2),
    Use("unknown device", "train runs/planned --device tpu9", 2),
    # predict
    Use("not a run", "predict scans --out predictions", 2),
    Use("run not trained yet", "predict runs/planned --out predictions", 2),
    Use("best.pt damaged", "predict runs/damaged-weights --out predictions", 1),
    Use("scans missing", "predict runs/trained nothing --out predictions", 2),
    Use("empty folder", "predict runs/trained empty --out predictions", 1),
    Use("scans of another number of channels", "predict runs/trained channels --out predictions/channels", 3),
    Use("one scan of several damaged", "predict runs/trained damaged --out predictions/damaged", 3),
    Use(
        "two scans of one name",
        "predict runs/trained scans/a_image.nii.gz copy/a.nii.gz --out predictions",
        2,
    ),
    Use("output exists", "predict runs/trained unlabelled --out predictions/done", 2),
    Use("output is a file", "predict runs/trained unlabelled --out documents/notes.txt", 2),
    Use("output of another run", "predict runs/other unlabelled --out predictions/done --resume", 1),
    Use("both ways on", "predict runs/trained --out predictions/done --resume --overwrite", 2),
    # evaluate
    Use("run not trained yet", "evaluate runs/planned", 2),
    Use("cases without reference", "evaluate runs/trained unlabelled", 1),
    Use("folder of predictions missing", "evaluate runs/trained scans --predictions nothing", 2),
    Use("predictions of other scans", "evaluate runs/trained scans --predictions predictions/done", 3),
    Use("output is a file", "evaluate runs/trained scans --out documents/notes.txt", 2),
    # info
    Use("nothing there", "info nothing", 2),
    Use("a file of another kind", "info documents/notes.txt", 1),
)


def make_world(root: Path) -> None:
    """Write the folders that the commands name: scans, and runs in several states."""
    for name in ("empty", "links", "runs", "predictions", "copy"):
        (root / name).mkdir(parents=True)
    for number, name in enumerate("abcde"):
        _scan(root / "scans" / f"{name}_image.nii.gz", number)
        _mask(root / "scans" / f"{name}_label.nii.gz")
    for name in ("x", "y"):
        _scan(root / "unlabelled" / f"{name}.nii.gz", 9)
    shutil.copytree(root / "scans", root / "orphan")
    (root / "orphan/c_image.nii.gz").unlink()
    shutil.copytree(root / "scans", root / "json")
    (root / "json/cases.json").write_text('{"train": ["a", "b"', encoding="utf-8")
    shutil.copytree(root / "scans", root / "damaged")
    for name in "abcde":
        (root / f"damaged/{name}_image.nii.gz").write_bytes(
            (root / "scans/a_image.nii.gz").read_bytes()[:-900]
        )
    _scan(root / "damaged/d_image.nii.gz", 3)
    (root / "links/a_image.nii.gz").symlink_to("nowhere.nii.gz")
    shutil.copy(root / "scans/b_image.nii.gz", root / "copy/a.nii.gz")
    _scan(root / "channels/a.nii.gz", 3, channels=2)
    (root / "documents").mkdir()
    (root / "documents/notes.txt").write_text("notes", encoding="utf-8")
    _runs(root)


def _scan(path: Path, seed: int, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(100, 20, (channels, 3, 17, 19))
    noise[:, 1:, 5:11, 4:13] += 100
    write_nifti(path, (noise if channels > 1 else noise[0]).astype(np.int16), AFFINE)


def _mask(path: Path) -> None:
    mask = np.zeros((3, 17, 19), np.uint8)
    mask[1:, 5:11, 4:13] = 1
    write_nifti(path, mask, AFFINE)


def _runs(root: Path) -> None:
    plan = plan_for(root / "scans", device="cpu").with_values(
        {"budget.epochs": 1, "training.precision": "fp32"}
    )
    for name in ("planned", "damaged-plan", "unknown-key", "newer", "moved", "trained"):
        (root / "runs" / name).mkdir()
        plan.save(root / "runs" / name / "plan.json")
    train(root / "runs/trained", device="cpu", quiet=True)
    (root / "runs/damaged-plan/plan.json").write_bytes((root / "runs/planned/plan.json").read_bytes()[:-500])
    content = plan.to_dict()
    _json(root / "runs/unknown-key/plan.json", content | {"optimiser": {"lr": 1}})
    _json(root / "runs/newer/plan.json", content | {"version": 99})
    moved = content | {"data": content["data"] | {"folder": "/moved/scans"}}
    _json(root / "runs/moved/plan.json", moved)
    for name in ("damaged-weights", "other"):
        shutil.copytree(root / "runs/trained", root / "runs" / name)
    weights = (root / "runs/trained/best.pt").read_bytes()
    (root / "runs/damaged-weights/best.pt").write_bytes(weights[: len(weights) // 2])


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def finish_world(root: Path) -> None:
    """Make what takes a command: predictions, and a run with other weights."""
    assert outcome(root, "predict runs/trained unlabelled --out predictions/done")[0] == 0
    other = torch.load(root / "runs/other/best.pt", weights_only=True)
    del other


def outcome(root: Path, command: str) -> tuple[int, str]:
    """Run a command in the folder `root`; return its exit code and what it said on standard error."""
    output, errors, before = io.StringIO(), io.StringIO(), Path.cwd()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    os.chdir(root)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = cli.main(shlex.split(command))
    finally:
        os.chdir(before)
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    text = errors.getvalue().replace(str(root.resolve()), "/home/me").replace(str(root), "/home/me")
    return code, text


def message(text: str) -> str:
    """Return what a row of the table says: the last lines, without the usage that argparse prints."""
    lines = [line for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if re.match(r"(error|failed): |guided-attention.*error: ", line)]
    return "<br>".join(kept).replace("|", "\\|")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder)
        make_world(world)
        finish_world(world)
        for use in USES:
            code, text = outcome(world, use.command)
            flag = "" if code == use.code else f"   <<<<<<<< {use.code}"
            print(f"{code} {use.command}{flag}\n      {message(text) or text}")
