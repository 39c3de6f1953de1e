"""Predictions are not written where they would be scans: a folder is opened again as it was; those of a run heal."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from guided_attention.case import Case
from guided_attention.data import CHAOS_MR_LABELS, open_cohort, write_nifti, write_phantom_cohort
from guided_attention.errors import ArgumentError, DataError, LeftOutWarning
from guided_attention.inference import Predictor, Shard
from guided_attention.models import msga_lite
from guided_attention.preparation import Preparation
from guided_attention.recipes import evaluate, predict, predict_shard
from guided_attention.recipes.prediction import require_apart

pytestmark = pytest.mark.usefixtures("narrow_resnets")

pytest.importorskip("nibabel")


@pytest.fixture(scope="module")
def saved(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned nothing."""
    folder = tmp_path_factory.mktemp("saved") / "predictor"
    preparation = Preparation(slice_axis="axial", min_size=(32, 32)).fit(cases)
    network = msga_lite(1, 5, encoder="resnet18", channels=4)
    Predictor(network, preparation, CHAOS_MR_LABELS, device="cpu").save(folder)
    return folder


@pytest.fixture
def scans(cases: list[Case], tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "scans"
    folder.mkdir(parents=True)
    for case in cases[:2]:
        write_nifti(folder / f"{case.case_id}.nii.gz", case.image[0], case.affine)
    return folder


def test_predictions_among_the_scans_are_refused(saved: Path, scans: Path) -> None:
    linked = scans.parent / "linked"
    linked.symlink_to(scans)
    before = sorted(scans.rglob("*"))
    for given, out in (
        (scans, scans),
        (scans, linked),
        (scans, scans / "predictions"),
        (open_cohort(scans), scans),
    ):
        message = rf"`out` must be a folder apart from the scans, got .*{out.name}, .* Name another folder\."
        with pytest.raises(ArgumentError, match=message):
            predict(saved, given, out, device="cpu", overwrite=True)
        with pytest.raises(ArgumentError, match=message):
            predict_shard(saved, given, out, Shard(1, 2), device="cpu")
    assert sorted(scans.rglob("*")) == before


def test_predictions_that_evaluate_makes_among_the_scans_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = write_phantom_cohort(tmp_path / "pairs", subjects=2, size=32, layout="pairs")
    before = sorted(folder.rglob("*"))
    with pytest.raises(ArgumentError, match=r"`out` must be a folder apart from the scans"):
        evaluate(saved, folder, out=folder, device="cpu")
    assert sorted(folder.rglob("*")) == before
    assert evaluate(saved, folder, out=tmp_path / "scores", device="cpu")
    assert sorted(folder.rglob("*")) == before


def _cut_power(ledger: Path) -> None:
    ledger.write_bytes(ledger.read_bytes() + b"\0" * 64 + b"\n")


@pytest.mark.parametrize("damage", [_cut_power, Path.unlink])
def test_evaluate_predicts_anew_in_its_own_folder_where_the_ledger_is_damaged_or_gone(
    saved: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    run = shutil.copytree(saved, tmp_path / "run")
    folder = write_phantom_cohort(tmp_path / "pairs", subjects=2, size=32, layout="pairs")
    rows, ledger = evaluate(run, folder, device="cpu"), run / "evaluation-pairs/predictions/ledger.jsonl"
    before = ledger.read_bytes()
    damage(ledger)
    assert evaluate(run, folder, device="cpu") == rows
    assert ledger.read_bytes() == before


def test_evaluate_leaves_a_damaged_ledger_in_a_folder_that_was_named(saved: Path, tmp_path: Path) -> None:
    folder = write_phantom_cohort(tmp_path / "pairs", subjects=1, size=32, layout="pairs")
    rows = evaluate(saved, folder, out=tmp_path / "scores", device="cpu")
    _cut_power(tmp_path / "scores/predictions/ledger.jsonl")
    with pytest.raises(DataError, match="Move it and the predictions beside it"):
        evaluate(saved, folder, out=tmp_path / "scores", device="cpu")
    (tmp_path / "scores/predictions").rename(tmp_path / "moved")
    assert evaluate(saved, folder, out=tmp_path / "scores", device="cpu") == rows


def test_predictions_apart_from_the_scans_change_no_cohort(saved: Path, scans: Path) -> None:
    before = open_cohort(scans).case_ids
    for out in (scans.parent, scans.parent / "predictions"):
        entries = predict(saved, scans, out, device="cpu")
        assert [entry.status for entry in entries] == ["done", "done"], entries
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_cohort(scans).case_ids == before


def test_predictions_of_a_task_may_lie_in_its_folder_and_not_among_its_images(
    saved: Path, cases: list[Case], tmp_path: Path
) -> None:
    for kind in ("imagesTr", "labelsTr"):
        (tmp_path / kind).mkdir()
    write_nifti(tmp_path / "imagesTr/1.nii.gz", cases[0].image[0], cases[0].affine)
    write_nifti(tmp_path / "labelsTr/1.nii.gz", cases[0].labels, cases[0].affine)
    for out in (tmp_path, tmp_path / "imagesTr", tmp_path / "labelsTr"):
        with pytest.raises(ArgumentError, match="`out` must be a folder apart from the scans"):
            predict(saved, tmp_path, out, device="cpu")
    assert predict(saved, tmp_path, tmp_path / "predictions", device="cpu")[0].status == "done"


@pytest.mark.parametrize("name", ["pairs", "parts", "patients", "file", "table"])
@pytest.mark.parametrize(
    "out",
    [
        ".",
        "predictions",
        ".predictions",
        "__predictions",
        "train/predictions",
        "runs/first/predictions",
        "scores/predictions",
        ".runs/predictions",
    ],
)
def test_an_out_is_refused_if_and_only_if_predictions_there_become_scans(
    cases: list[Case], tmp_path: Path, name: str, out: str
) -> None:
    folder, source = _written(name, cases, tmp_path / "data")
    cohort, place = open_cohort(source), folder / out
    before = cohort.case_ids
    try:
        require_apart(place, cohort)
        refused = False
    except ArgumentError:
        refused = True
    place.mkdir(parents=True, exist_ok=True)
    write_nifti(place / "9_prediction.nii.gz", cases[0].labels, cases[0].affine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOutWarning)
        try:
            after = open_cohort(source).case_ids
        except DataError:
            after = ()
    assert refused == (after != before), (before, after)


def _written(name: str, cases: list[Case], folder: Path) -> tuple[Path, Path]:
    """Write scans; return their folder, and what is opened."""
    where = {"parts": "train/{}.nii.gz", "patients": "{}/scan.nii.gz"}.get(name, "{}.nii.gz")
    for case in cases[:2]:
        path = folder / where.format(case.case_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, case.image[0], case.affine)
    first = folder / where.format(cases[0].case_id)
    table = folder / "scans.csv"
    if name == "table":
        table.write_text(f"case_id,image\n1,{first}\n")
    return folder, {"file": first, "table": table}.get(name, folder)
