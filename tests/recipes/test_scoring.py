"""What `evaluate` says of the cases that it scores, and which scores it keeps; with a network that is not trained."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from guided_attention.case import Case
from guided_attention.data import open_cohort, read_nifti, write_nifti
from guided_attention.errors import DataError, ExistingFileError
from guided_attention.labels import LabelSpec
from guided_attention.models import build
from guided_attention.recipes import Plan, evaluate, predict
from guided_attention.recipes._begun import hashes_of_parts
from guided_attention.recipes._parts import predictor_of
from guided_attention.recipes.scoring import read_prediction
from guided_attention.training import save_checkpoint

pytestmark = pytest.mark.usefixtures("narrow_resnets")


@pytest.fixture(scope="module")
def folder(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cases as pairs of NIfTI files."""
    path = tmp_path_factory.mktemp("pairs").resolve()
    for case in cases:
        write_nifti(path / f"{case.case_id}_image.nii.gz", case.image[0], case.affine)
        write_nifti(path / f"{case.case_id}_label.nii.gz", case.labels, case.affine)
    return path


@pytest.fixture(scope="module")
def drawn(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of all cases: their references."""
    path = tmp_path_factory.mktemp("drawn")
    for case in cases:
        write_nifti(path / f"{case.case_id}.nii.gz", case.labels, case.affine)
    return path


@pytest.fixture
def run(plan: Plan, folder: Path, tmp_path: Path) -> Path:
    """A run folder that looks trained."""
    path = tmp_path / "run"
    path.mkdir()
    replace(plan, data=replace(plan.data, folder=str(folder), layout="pairs")).save(path / "plan.json")
    model = build(plan.network)
    contents = {"model": model.state_dict(), "metadata": predictor_of(plan, model).metadata}
    save_checkpoint(path / "best.pt", contents)
    return path


def first_line(run: Path, name: str) -> str:
    text = (run / f"evaluation-{name}" / "scores.txt").read_text(encoding="utf-8")
    return text.partition("\n")[0].partition("; predictions in ")[0]


def seen(plan: Plan, *names: str) -> str:
    """The training cases among some, as the first line lists them."""
    known = sorted({*plan.data.train, *plan.data.val} & set(names))
    return f"{len(known)} %s trained or validated on: {', '.join(known)}"


def test_a_part_of_a_cohort_is_told_as_one_and_replaces_no_other_scores(
    run: Path, plan: Plan, folder: Path, drawn: Path
) -> None:
    cohort = open_cohort(folder)
    for names in (["1", "2"], ["3", "1", "2"]):  # more cases may replace fewer
        evaluate(run, cohort.select(names), predictions=drawn, device="cpu")
        known = seen(plan, *names)
        verb = "was" if known.startswith("1 ") else "were"
        told = f"{len(names)} cases ({len(names)} of 5 of {folder}, of which {known % verb})"
        assert first_line(run, folder.name) == told
    before = (run / f"evaluation-{folder.name}" / "scores.csv").read_bytes()
    with pytest.raises(ExistingFileError, match=r"given for cases without 1, 2, got .* or delete that one\."):
        evaluate(run, cohort.select(["3", "4"]), predictions=drawn, device="cpu")
    assert (run / f"evaluation-{folder.name}" / "scores.csv").read_bytes() == before
    evaluate(run, folder, predictions=drawn, device="cpu")
    assert first_line(run, folder.name).startswith(f"5 cases (all of {folder}, of which 4 were")
    evaluate(run, cohort, predictions=drawn, device="cpu")
    assert first_line(run, folder.name).startswith(f"5 cases (all of {folder}, of which 4 were")


def test_organs_that_were_renamed_in_a_plan_after_the_training_change_no_score(
    run: Path, drawn: Path
) -> None:
    plan = Plan.load(run)
    wanted = [(organ, 1.0) for organ in plan.labels.names.values()]
    names = dict(zip(plan.labels.values, reversed(plan.labels.names.values()), strict=True))
    moved = {value + 5: name for value, name in names.items()}
    for labels in (LabelSpec(names), LabelSpec(moved, others_are_background=True)):
        replace(plan, labels=labels).save(run / "plan.json")
        rows = evaluate(run, predictions=drawn, device="cpu")
        assert [(row.organ, row.dice) for row in rows] == wanted


def test_cases_of_a_plan_that_was_edited_after_the_training_are_not_predicted(
    run: Path, folder: Path, tmp_path: Path
) -> None:
    plan = Plan.load(run)
    (run / "run.json").write_text(json.dumps({"provenance": hashes_of_parts(plan)}))
    first, *rest = plan.data.train
    moved = replace(plan.data, train=tuple(rest), test=(*plan.data.test, first))
    for data in (moved, replace(plan.data, spacing_mm=(5.0, 1.0, 1.0))):
        replace(plan, data=data).save(run / "plan.json")
        with pytest.raises(DataError, match="as it was trained, got .* with other values of data"):
            predict(run, None, tmp_path / "out", device="cpu")
        assert not (tmp_path / "out").exists()
    with pytest.warns(
        UserWarning, match="other values of data than the run was begun with: scans are opened"
    ):
        predict(run, folder / "1_image.nii.gz", tmp_path / "out", device="cpu")


def test_files_that_are_not_scored_do_not_stop_an_evaluation(
    run: Path, plan: Plan, folder: Path, drawn: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path.resolve() / "copy")
    part = open_cohort(copy, labels=plan.labels).select(["1", "2"])
    damaged = copy / "3_label.seg.nrrd"
    (copy / "3_label.nii.gz").unlink()
    damaged.write_bytes(b"NRRD0004\ntype: uint8\n")
    assert len(evaluate(run, part, predictions=drawn, device="cpu")) == 2 * len(plan.labels.values)
    assert first_line(run, "copy").startswith("2 cases (2 of ")


def test_scores_that_cannot_be_read_are_not_replaced(run: Path, folder: Path, drawn: Path) -> None:
    evaluate(run, folder, predictions=drawn, device="cpu")
    table = run / f"evaluation-{folder.name}" / "scores.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    before = table.read_bytes()
    with pytest.raises(ExistingFileError, match=r"scores\.csv cannot be read, .* or delete that one\."):
        evaluate(run, folder, predictions=drawn, device="cpu")
    assert table.read_bytes() == before


def test_training_cases_that_have_moved_or_come_as_a_list_are_named(
    run: Path, plan: Plan, folder: Path, drawn: Path, cases: list[Case], tmp_path: Path
) -> None:
    same = seen(plan, "1", "2", "3", "4", "5") % "have the names of cases that were"
    copy = shutil.copytree(folder, tmp_path.resolve() / "copy")
    evaluate(run, copy, predictions=drawn, device="cpu")
    assert first_line(run, "copy") == f"5 cases (all of {copy}, of which {same})"
    evaluate(run, cases, predictions=drawn, device="cpu")
    assert first_line(run, "cases") == f"5 cases (all of the list, of which {same})"
    with pytest.raises(ExistingFileError, match="given for cases without 1, 3, 4, 5, got None"):
        evaluate(run, cases[1:2], predictions=drawn, device="cpu")


def test_a_folder_whose_path_begins_that_of_another_of_its_name_is_another(
    run: Path, folder: Path, drawn: Path, tmp_path: Path
) -> None:
    inner = shutil.copytree(folder, tmp_path / "test" / "test")
    evaluate(run, inner, predictions=drawn, device="cpu")
    for path in inner.iterdir():
        path.rename(tmp_path / "test" / path.name)
    inner.rmdir()
    with pytest.raises(ExistingFileError, match="a second folder of this name, got None, and .* of another"):
        evaluate(run, tmp_path / "test", predictions=drawn, device="cpu")


def test_predictions_are_read_as_references_are(cases: list[Case], tmp_path: Path) -> None:
    case, path = cases[0], tmp_path / "1_prediction.nii.gz"
    assert case.labels is not None
    image = nibabel.Nifti1Image(case.labels.T.astype(np.int16), case.affine)
    image.header.set_slope_inter(0.9999847, 0.0)
    nibabel.save(image, path)
    assert not np.array_equal(read_nifti(path).array, case.labels)  # 3.99994 in place of 4
    read = read_prediction("1", tmp_path)
    assert (read.labels.dtype, read.case_id) == (np.uint8, "1")
    assert np.array_equal(read.labels, case.labels)
    assert np.allclose(read.affine, case.affine)
    for value, told in (
        (-1, "0 or above, got -1. Set voxels without a label to 0."),
        (70000, "at most 65535, got 70000. Pass the mask"),
        (0.5, "whole numbers from 0, got 0.5. Pass the mask"),
    ):
        labels = case.labels.astype(np.int32 if isinstance(value, int) else np.float32)
        labels[0, 0, 0] = value
        write_nifti(path, labels, case.affine)
        with pytest.raises(DataError, match=re.escape(f"`values of {path}` must be {told}")) as caught:
            read_prediction("1", tmp_path)
        assert caught.value.file == path
