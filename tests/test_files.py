"""Files are written completely or not at all, and what the disk refuses is an error that says what to do."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch

from guided_attention._checkpoints import load_checkpoint, save_checkpoint
from guided_attention._files import DRAFT_PREFIX, replacing, whole_folder
from guided_attention.case import Case
from guided_attention.data import Split, read_nifti_case, read_png_slices, write_nifti, write_png_slices
from guided_attention.encoders import resnet_encoder
from guided_attention.errors import (
    DataError,
    ExistingFileError,
    GuidedAttentionError,
    MissingFileError,
    WriteError,
)
from guided_attention.evaluation import (
    CaseScore,
    read_scores,
    write_report,
    write_scores_csv,
    write_scores_json,
)
from guided_attention.figures import save_prediction_grid
from guided_attention.inference import Predictor, read_ledger, save_prediction
from guided_attention.labels import LabelSpec
from guided_attention.models import from_pretrained, msga_lite, save_pretrained
from guided_attention.outputs import Prediction
from guided_attention.preparation import Preparation

AFFINE = np.diag([2.0, 3.0, 7.0, 1.0])
NOISE = (
    np.random.default_rng(3).normal(size=(11, 53, 59)).astype(np.float32)
)  # packing does not make it small
ORGANS = LabelSpec({1: "liver"})
LABELS = (NOISE > 0).astype(np.uint8)
PREDICTION = Prediction("7", LABELS, NOISE, AFFINE)
CASE = Case("7", NOISE[None], LABELS, AFFINE)
SCORES = [CaseScore(f"case {number}", "liver", "scored", 0.9, 0.8, 1.25, 3.0, 5.0) for number in range(199)]


def _model():
    return msga_lite(in_channels=1, num_classes=2, encoder="resnet18", channels=2)


def _predictor():
    return Predictor(_model(), Preparation(slice_axis="axial", intensity=None), ORGANS)


Writer: TypeAlias = Callable[[Path], object]

# Every writer of the library: what it writes, the kind of thing, and the call. The trainer's are in tests/training.
WRITERS: dict[str, tuple[str, Writer]] = {
    "checkpoint": ("last.pt", lambda path: save_checkpoint(path, {"weight": torch.from_numpy(NOISE)})),
    "nifti": ("mask.nii.gz", lambda path: write_nifti(path, NOISE, AFFINE)),
    "nifti, not packed": ("mask.nii", lambda path: write_nifti(path, NOISE, AFFINE)),
    "prediction": (
        "7_prediction.nii.gz",
        lambda path: save_prediction(PREDICTION, path.parent, overwrite=True),
    ),
    "csv": ("scores.csv", lambda path: write_scores_csv(path, SCORES)),
    "json": ("scores.json", lambda path: write_scores_json(path, SCORES)),
    "report": ("report.md", lambda path: write_report(path, SCORES, worst=199)),
    "split": ("split.json", lambda path: Split(tuple(map(str, range(499))), (), ()).save(path)),
    "grid": ("grid.png", lambda path: save_prediction_grid(path, [CASE], [PREDICTION], ORGANS)),
}
FOLDERS: dict[str, Writer] = {
    "png slices": lambda path: write_png_slices([CASE], path),
    "pretrained": lambda path: save_pretrained(_model(), path),
    "predictor": lambda path: _predictor().save(path),
}


@contextmanager
def small_files():
    """Let no file grow beyond 2000 bytes, as on a disk that is full: the system refuses the next byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_does_not_fit_is_named_and_the_old_one_stays(tmp_path, writer):
    name, write = WRITERS[writer]
    (tmp_path / name).write_bytes(b"the old one")
    with (
        small_files(),
        pytest.raises(
            WriteError, match="must be a file that can be written, got .*: File too large"
        ) as caught,
    ):
        write(tmp_path / name)
    assert (caught.value.file, caught.value.errno) == (tmp_path / name, errno.EFBIG)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"the old one"}


@pytest.mark.parametrize("writer", FOLDERS)
def test_a_folder_that_does_not_fit_is_named_and_nothing_is_left(tmp_path, writer):
    with small_files(), pytest.raises(WriteError, match="File too large") as caught:
        FOLDERS[writer](tmp_path / "new")
    assert (tmp_path / "new") in {caught.value.file, *caught.value.file.parents}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer", [name for name in WRITERS if name != "prediction"])
def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path, writer):
    name, write = WRITERS[writer]
    (tmp_path / name).mkdir()
    with pytest.raises((ExistingFileError, ValueError), match=f"`path` must be .*{name}"):
        write(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == [name]


@pytest.mark.parametrize("writer", [name for name in WRITERS if name not in {"prediction", "grid"}])
def test_a_missing_folder_is_named(tmp_path, writer):
    name, write = WRITERS[writer]
    with pytest.raises(MissingFileError, match=r"Create the folder first\."):
        write(tmp_path / "missing" / name)


def test_a_file_in_the_place_of_the_folder_of_a_picture_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExistingFileError, match="`path` must be a folder .*, where a file is"):
        save_prediction_grid(tmp_path / "file" / "grid.png", [CASE], [PREDICTION], ORGANS)


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, r"\(more than 5 bytes are needed, \d+ are free\)\. Make space, or"),
        (errno.EACCES, "Permission denied. Change the permissions, or"),
        (errno.EROFS, "Read-only file system. Change the permissions, or"),
        (errno.EIO, "Input/output error. Check the disk, or"),
    ],
)
def test_the_advice_is_right_for_what_happened(tmp_path, number, cure):
    path = tmp_path / "a.txt"

    def write():
        with replacing(path) as draft:
            draft.write_bytes(b"12345")
            raise OSError(number, os.strerror(number))

    with pytest.raises(WriteError, match=f"got {path}: .*{cure}") as caught:
        write()
    assert (caught.value.errno, caught.value.file) == (number, path)
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_none_of_the_disk_passes_through(tmp_path):
    def fail(error):
        with replacing(tmp_path / "a.txt") as draft:
            draft.write_bytes(b"12345")
            raise error

    for error in (DataError("mine"), MissingFileError("mine"), RuntimeError("mine"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            fail(error)
        assert caught.value is error
        assert list(tmp_path.iterdir()) == []


def test_drafts_of_killed_processes_are_deleted_a_day_later_and_no_others(tmp_path):
    names = ("a[1].txt", "b.txt")
    drafts = [tmp_path / f"{DRAFT_PREFIX}{age}.{name}" for age in ("young", "old") for name in names]
    for draft in drafts:
        draft.write_bytes(b"")
        if "old" in draft.name:
            os.utime(draft, (0, time.time() - 90_000))
    with replacing(tmp_path / "a[1].txt") as draft:
        draft.write_bytes(b"new")
    old = f"{DRAFT_PREFIX}old.a[1].txt"
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in drafts} - {old} | {"a[1].txt"}


def test_a_stale_draft_of_a_folder_is_deleted(tmp_path):
    stale = tmp_path / f"{DRAFT_PREFIX}old.new"
    stale.mkdir()
    (stale / "inside").touch()
    os.utime(stale, (0, time.time() - 90_000))
    whole_folder(tmp_path / "new", lambda draft: (draft / "a").touch())
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("refused", ["second", "second and third"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_the_old_folder_is_kept_until_the_new_one_is_in_its_place(tmp_path, monkeypatch, error, refused):
    folder, renames, rename = tmp_path / "a", [], Path.rename
    folder.mkdir()
    (folder / "x").write_text("old")

    def failing(self, target):
        renames.append(self.name)
        if len(renames) in {"second": {2}, "second and third": {2, 3}}[refused]:
            raise error if len(renames) == 2 else OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((WriteError, KeyboardInterrupt)):
        whole_folder(folder, lambda draft: (draft / "x").write_text("new"), replaceable=("x",))
    held = list(tmp_path.iterdir())
    assert [(one / "x").read_text() for one in held] == ["old"]
    assert held[0] == folder if refused == "second" else held[0].name.startswith(DRAFT_PREFIX)
    whole_folder(folder, lambda draft: (draft / "x").write_text("newer"), replaceable=("x",))
    assert (folder / "x").read_text() == "newer"


def _held(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_the_folder_that_it_leads_to_is_filled(tmp_path, is_there):
    model, link = _model(), tmp_path / "link"
    link.symlink_to("disk")
    if is_there:
        (tmp_path / "disk").mkdir()
    plain = _held(save_pretrained(model, tmp_path / "plain"))
    for overwrite in (False, True):
        assert save_pretrained(model, link, overwrite=overwrite) == link
        assert (link.readlink(), _held(tmp_path / "disk")) == (Path("disk"), plain)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link", "plain"]


def test_the_working_directory_is_filled_and_stays(tmp_path, monkeypatch):
    model, here = _model(), tmp_path / "here"
    here.mkdir()
    plain = _held(save_pretrained(model, tmp_path / "plain"))
    monkeypatch.chdir(here)
    for overwrite in (False, True):
        assert save_pretrained(model, ".", overwrite=overwrite) == here
        assert (Path.cwd(), _held(here)) == (here, plain)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "plain"]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_mount_point_gets_all_its_files_or_keeps_the_old_ones(tmp_path, monkeypatch, error, number):
    folder, renames, rename = tmp_path / "a", [], Path.rename
    folder.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self == folder)

    def write(text):
        def fill(draft):
            for name in ("x", "y"):
                (draft / name).write_text(text)

        whole_folder(folder, fill, replaceable=("x", "y"))

    def failing(self, target):
        renames.append(self.name)
        if len(renames) == number:
            raise error
        return rename(self, target)

    write("old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises((WriteError, KeyboardInterrupt)):
            write("new")
    assert _held(tmp_path) == {"a/x": b"old", "a/y": b"old"}
    write("newer")
    assert _held(tmp_path) == {"a/x": b"newer", "a/y": b"newer"}


# Every reader, and the file in its folder that is opened.
READERS = {
    "scores, json": ("scores.json", read_scores),
    "scores, csv": ("scores.csv", read_scores),
    "split": ("split.json", Split.load),
    "checkpoint": ("last.pt", load_checkpoint),
    "pretrained": ("config.json", lambda path: from_pretrained(path.parent)),
    "predictor": ("predictor.json", lambda path: Predictor.load(path.parent)),
    "best weights": ("best.pt", lambda path: Predictor.load(path.parent)),
    "ledger": ("ledger.jsonl", lambda path: read_ledger(path.parent)),
    "nifti": ("a.nii.gz", read_nifti_case),
    "png slices": (
        "Img/Subj_1slice_1.png",
        lambda path: read_png_slices(path.parents[1], spacing_mm=(1, 1, 1)),
    ),
    "encoder": ("encoder.pth", lambda path: resnet_encoder("resnet18", encoder_weights=path)),
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits_at_a_pipe_or_reads_a_device_without_end(tmp_path, reader, kind):
    name, read = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")

    def ring(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(10)
    try:
        with pytest.raises(GuidedAttentionError, match=re.escape(str(tmp_path))):
            read(path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.crash
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
def test_a_full_and_a_read_only_disk(tmp_path):
    """In a process with mounts of its own, on a disk of 64 kB and then on the same one read-only."""
    command = [
        "unshare",
        "--mount",
        "--map-root-user",
        sys.executable,
        "-m",
        "tests.small_disk",
        str(tmp_path),
    ]
    if subprocess.run([*command[:3], "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    # As a module of this folder: other packages install tests of their own under that name.
    root = Path(__file__).parents[1]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
