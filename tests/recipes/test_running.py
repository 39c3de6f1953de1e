"""Train, resume, fine-tune, predict, evaluate and tell, on phantoms of 32 pixels."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from guided_attention.case import Case
from guided_attention.data import CHAOS_MR_LABELS, read_nifti, write_nifti
from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    DataError,
    ExistingFileError,
    FineTuningWarning,
    MissingFileError,
)
from guided_attention.evaluation import definitions, read_scores
from guided_attention.inference import LedgerEntry, Predictor, read_ledger
from guided_attention.labels import LabelSpec
from guided_attention.recipes import Plan, evaluate, info, plan_for, predict, train
from guided_attention.recipes._parts import augmentation_of
from guided_attention.recipes._shapes import Dimensions
from guided_attention.sampling import IntensityCurve, Mirror
from guided_attention.training import load_checkpoint, read_log

pytestmark = pytest.mark.example  # a minute in all


@pytest.fixture(scope="module")
def run(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of one epoch on the cases of a folder."""
    path = tmp_path_factory.mktemp("runs") / "run"
    result = train(plan, path, device="cpu", quiet=True)
    assert (result.epochs, result.stopped_by, result.run_dir) == (1, "epochs", path)
    return path


@pytest.fixture(scope="module")
def folder(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cases as pairs of NIfTI files."""
    path = tmp_path_factory.mktemp("pairs")
    for case in cases:
        write_nifti(path / f"{case.case_id}_image.nii.gz", case.image[0], case.affine)
        write_nifti(path / f"{case.case_id}_label.nii.gz", case.labels, case.affine)
    return path


@pytest.fixture(scope="module")
def plan(folder: Path) -> Plan:
    values = {
        "network.arguments.channels": 8,
        "budget.epochs": 1,
        "schedule.name": "constant",
        "sampling.steps": 3,
        "training.precision": "fp32",
    }
    values |= {"budget.minutes": None, "inference.precision": "fp32", "network.arguments.steps": 1}
    return plan_for(folder, labels=CHAOS_MR_LABELS, device="cpu").with_values(values)


def test_a_run_holds_its_plan_its_log_and_weights_that_a_predictor_reads(run: Path, plan: Plan) -> None:
    assert Plan.load(run) == plan
    assert {"plan.json", "log.csv", "last.pt", "best.pt", "run.json", "curves.png"} <= {
        path.name for path in run.iterdir()
    }
    predictor = Predictor.load(run, device="cpu")
    assert (predictor.labels, predictor.preparation) == (plan.labels, plan.preparation)
    assert bool(predictor.postprocess.keep_largest) == plan.inference.keep_largest


def test_a_run_is_resumed_from_its_folder_and_ends_as_one_in_one_go(
    run: Path, plan: Plan, tmp_path: Path
) -> None:
    longer = plan.with_values({"budget.epochs": 2})
    shutil.copytree(run, tmp_path / "two")
    train(longer, tmp_path / "two", resume=True, device="cpu", quiet=True)
    longer.save(tmp_path / "plan.json")
    train(tmp_path, device="cpu", quiet=True)  # a folder with a plan is enough, too
    assert Plan.load(tmp_path / "two") == longer
    assert len(read_log(tmp_path / "two" / "log.csv")) == 2
    two, one = (load_checkpoint(folder / "last.pt")["model"] for folder in (tmp_path / "two", tmp_path))
    assert all(torch.equal(two[name], one[name]) for name in one)
    # Nothing but the folder is needed; the run is done, so nothing changes.
    assert train(tmp_path / "two", resume=True, device="cpu", quiet=True).epochs == 2


@pytest.mark.parametrize(
    ("dimensions", "axes", "window"),
    [("2d", "width", "16,32"), ("2.5d", "width", "16,32"), ("3d", "depth,width", "16,16,32")],
)
def test_slices_neighbours_and_volumes_are_trained_and_predicted(
    dimensions: Dimensions, axes: str, window: str, block: Callable[..., Case], tmp_path: Path
) -> None:
    cases = [block(f"{value}", value, size=(5, 17, 19)) for value in (2, 3)]
    kidneys = LabelSpec({2: "right kidney", 3: "left kidney"}, pairs=((2, 3),))
    values = {
        "network.arguments.channels": 4,
        "network.arguments.steps": 1,
        "sampling.batch_size": 2,
        "sampling.steps": 2,
        "optimizer.name": "sgd",
        "budget.epochs": 1,
        "budget.minutes": None,
        "augmentation.strength": "strong",
        "augmentation.mirror_axes": axes,
        "inference.mirror_axes": axes,
        "inference.patch_size": window,
        "training.ema_decay": None,
        "training.precision": "fp32",
        "inference.precision": "fp32",
    }
    plan = plan_for(cases, labels=kidneys, device="cpu", dimensions=dimensions).with_values(values)
    assert plan.preparation.neighbours == (dimensions == "2.5d")
    assert train(plan, tmp_path / "run", cases=cases, device="cpu", quiet=True).epochs == 1
    predictor = Predictor.load(tmp_path / "run", device="cpu")
    assert predictor.patch_size == plan.inference.patch_size
    assert predictor.mirror_axes == plan.inference.mirror_axes
    assert predictor.spatial_dims == len(plan.sampling.size)
    entries = predict(tmp_path / "run", cases, tmp_path / "out", device="cpu")
    for case, entry in zip(cases, entries, strict=True):
        assert entry.status == "done"
        written = read_nifti(tmp_path / "out" / f"{case.case_id}_prediction.nii.gz")
        assert np.array_equal(written.array, predictor.predict(case).labels)
        assert np.allclose(written.affine, case.affine)


def test_the_changes_of_a_plan_are_those_that_it_names(plan: Plan) -> None:
    standard = augmentation_of(plan)
    assert standard is not None
    assert not any(isinstance(change, Mirror) for change in standard.changes)
    assert augmentation_of(plan.with_values({"augmentation.strength": "none"})) is None
    pairs = replace(plan, labels=LabelSpec(CHAOS_MR_LABELS.names, pairs=((2, 3),)))
    mirrored = pairs.with_values({"augmentation.strength": "none", "augmentation.mirror_axes": "width"})
    only = augmentation_of(mirrored)
    assert only is not None
    assert only.changes == (Mirror((1,), pairs=((2, 3),)),)
    for neighbours in (0, 1):
        values: dict[str, object] = {"augmentation.curve_probability": 0.2}
        curve = IntensityCurve(0.2, alike=neighbours > 0)
        arguments = {**plan.network.arguments, "in_channels": 2 * neighbours + 1}
        chosen = replace(
            plan,
            preparation=replace(plan.preparation, neighbours=neighbours),
            network=replace(plan.network, arguments=arguments),
        )
        plain = chosen.with_values({"augmentation.curve_probability": 0.0})
        standard, curved = augmentation_of(plain), augmentation_of(chosen.with_values(values))
        assert standard is not None
        assert curved is not None
        assert curved.changes == (*standard.changes, curve)
        assert augmentation_of(chosen.with_values(values | {"augmentation.strength": "none"})) is None


def test_cases_in_memory_are_handed_again(cases: list[Case], plan: Plan, tmp_path: Path) -> None:
    memory = replace(plan, data=replace(plan.data, folder=None, layout="memory"))
    with pytest.raises(ArgumentError, match="cases"):
        train(memory, tmp_path / "run")
    train(memory, tmp_path / "run", cases=cases, device="cpu", quiet=True)
    with pytest.raises(ArgumentError, match="cases"):
        predict(tmp_path / "run", None, tmp_path / "out", device="cpu")
    # The order of cases changes nothing, another voxel does.
    train(tmp_path / "run", cases=cases[::-1], resume=True, device="cpu", quiet=True)
    other = [replace(case, image=case.image + (case.case_id == plan.data.train[0])) for case in cases]
    with pytest.raises(DataError, match="have changed"):
        train(tmp_path / "run", cases=other, resume=True, device="cpu", quiet=True)


def test_fine_tuning_takes_all_weights_but_heads_of_other_classes(
    run: Path, plan: Plan, cases: list[Case], tmp_path: Path
) -> None:
    two = LabelSpec({1: "liver", 2: "rest"})
    fewer = [replace(case, labels=np.minimum(case.labels, 2)) for case in cases]
    other = replace(
        plan_for(fewer, labels=two, device="cpu"),
        network=replace(plan.network, arguments={**plan.network.arguments, "num_classes": 3}),
        budget=plan.budget,
        optimizer=replace(plan.optimizer, lr=1e-9, weight_decay=0.0),
        preparation=plan.preparation,
        training=replace(plan.training, ema_decay=None),
    )
    with pytest.warns(FineTuningWarning, match="layers start with random weights.*heads"):
        train(other, tmp_path / "run", cases=fewer, init_from=run, device="cpu", quiet=True)
    before = Predictor.load(run, device="cpu").model.state_dict()
    after = Predictor.load(tmp_path / "run", device="cpu").model.state_dict()
    names = [name for name, _ in Predictor.load(run, device="cpu").model.named_parameters()]
    differing = {name for name in names if before[name].shape != after[name].shape}
    assert differing
    assert all("head" in name for name in differing)
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in set(names) - differing)


def test_fine_tuning_of_another_network_is_refused_and_another_preparation_is_said(
    run: Path, plan: Plan, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match="network.arguments.channels=8"):
        train(plan.with_values({"network.arguments.channels": 16}), tmp_path / "run", init_from=run)
    common = {name: value for name, value in plan.network.arguments.items() if name != "steps"}
    daf = replace(plan, network=replace(plan.network, builder="daf", arguments=common))
    with pytest.raises(ArgumentError, match="network.builder=msga_lite"):
        train(daf, tmp_path / "run", init_from=run)
    coarser = plan.with_values({"preparation.spacing_mm": "none,9,9", "data.folder": str(tmp_path)})
    with pytest.warns(FineTuningWarning, match="prepared in another way"), pytest.raises(DataError):
        train(coarser, tmp_path / "run", init_from=run)
    assert not (tmp_path / "run").exists()


def test_test_cases_are_predicted_on_their_own_grid_and_seen_one_by_one(
    run: Path, plan: Plan, folder: Path, tmp_path: Path
) -> None:
    seen: list[LedgerEntry] = []
    entries = predict(run, None, tmp_path, device="cpu", on_case=seen.append)
    assert [entry.case_id for entry in entries] == list(plan.data.test)
    assert seen == entries == read_ledger(tmp_path)
    for entry in entries:
        scan = read_nifti(folder / f"{entry.case_id}_image.nii.gz")
        drawn = read_nifti(tmp_path / f"{entry.case_id}_prediction.nii.gz")
        assert drawn.array.shape == scan.array.shape
        assert np.allclose(drawn.affine, scan.affine)
    assert [entry.status for entry in predict(run, None, tmp_path, device="cpu", resume=True)] == ["skipped"]
    with pytest.raises(ExistingFileError):
        predict(run, None, tmp_path, device="cpu")


def test_scans_are_a_file_a_folder_a_list_or_cases(
    run: Path, folder: Path, cases: list[Case], tmp_path: Path
) -> None:
    file = folder / "2_image.nii.gz"
    for number, (scans, ids) in enumerate(
        [
            (file, ["2"]),
            ([file, str(folder / "3_image.nii.gz")], ["2", "3"]),
            (cases[:2], ["1", "2"]),
            (folder, list("12345")),
        ]
    ):
        entries = predict(run, scans, tmp_path / str(number), device="cpu")
        assert [(entry.status, entry.case_id.removesuffix("_image")) for entry in entries] == [
            ("done", one) for one in ids
        ]
    with pytest.raises(MissingFileError):
        predict(run, folder / "9_image.nii.gz", tmp_path / "no", device="cpu")
    with pytest.raises((DataError, ArgumentTypeError)):
        predict(run, [], tmp_path / "no", device="cpu")


def test_one_damaged_scan_is_listed_and_the_others_are_done(run: Path, folder: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("1", "2", "3"):
        (scans / f"{name}.nii.gz").write_bytes((folder / f"{name}_image.nii.gz").read_bytes())
    (scans / "2.nii.gz").write_bytes((folder / "2_image.nii.gz").read_bytes()[:500])
    entries = predict(run, scans, tmp_path / "out", device="cpu")
    assert [entry.status for entry in entries] == ["done", "failed", "done"]
    assert "2.nii.gz" in entries[1].error


def test_evaluation_of_the_test_cases_writes_its_tables_and_predicts_once(run: Path, plan: Plan) -> None:
    seen: list[LedgerEntry] = []
    rows = evaluate(run, device="cpu", on_case=seen.append)
    assert [entry.case_id for entry in seen] == list(plan.data.test)
    out = run / "evaluation"
    assert read_scores(out / "scores.csv") == read_scores(out / "scores.json") == rows
    assert {row.organ for row in rows} == set(plan.labels.names.values())
    text = (out / "scores.txt").read_text()
    assert text.startswith("1 case (test)\n")
    assert text.endswith(f"\n\nHow distances were measured: {definitions(rows)}.\n")
    written = (out / "predictions" / f"{plan.data.test[0]}_prediction.nii.gz").stat().st_mtime_ns
    assert evaluate(run, device="cpu") == rows
    assert (out / "predictions" / f"{plan.data.test[0]}_prediction.nii.gz").stat().st_mtime_ns == written


def test_a_plan_that_was_edited_after_the_training_is_refused_or_said(
    run: Path, plan: Plan, folder: Path, tmp_path: Path
) -> None:
    edited = tmp_path / "run"
    shutil.copytree(run, edited)
    longer = {"budget.epochs": 2, "training.patience": 9}
    other = {**longer, "loss.segmentation": "dice", "inference.overlap": 0.25}
    plan.with_values(other).save(edited / "plan.json")  # as by hand
    with pytest.raises(ArgumentError, match="begun with, got other values of loss, inference. Put back"):
        train(edited, resume=True, device="cpu", quiet=True)
    with pytest.warns(UserWarning, match="has other values of inference than the run was begun with"):
        predict(edited, folder, tmp_path / "out", device="cpu")
    first, *rest = plan.data.train
    moved = replace(plan.data, train=tuple(rest), test=(*plan.data.test, first))
    replace(plan, data=moved).save(edited / "plan.json")
    for scans in (None, folder):
        with pytest.raises(DataError, match="as it was trained, got .* with other values of data"):
            evaluate(edited, scans, device="cpu")
    plan.with_values({**longer, "data.max_bytes": 1 << 33}).save(edited / "plan.json")
    assert evaluate(edited, device="cpu") == evaluate(run, device="cpu")
    plan.with_values({"loss.segmentation": "dice"}).save(edited / "plan.json")
    train(plan, edited, resume=True, device="cpu", quiet=True)  # with the plan that it was begun with
    assert Plan.load(edited) == plan


def test_scores_of_other_scans_have_a_folder_of_their_own(run: Path, folder: Path, tmp_path: Path) -> None:
    evaluate(run, device="cpu")
    before = (run / "evaluation/scores.csv").read_bytes()
    others = tmp_path / "other-hospital"
    others.mkdir()
    for kind in ("image", "label"):
        shutil.copy(folder / f"1_{kind}.nii.gz", others)
    rows = evaluate(run, others, device="cpu")
    assert read_scores(run / "evaluation-other-hospital/scores.csv") == rows
    assert (run / "evaluation-other-hospital/predictions/1_prediction.nii.gz").is_file()
    assert (run / "evaluation/scores.csv").read_bytes() == before
    assert evaluate(run, others, device="cpu") == rows
    shutil.copytree(others, tmp_path / "second/other-hospital")
    with pytest.raises(ExistingFileError, match="`out` must be given for a second folder of this name"):
        evaluate(run, tmp_path / "second/other-hospital", device="cpu")


def test_predictions_in_a_folder_are_scored_and_what_is_missing_is_listed(
    run: Path, folder: Path, cases: list[Case], tmp_path: Path
) -> None:
    for case in cases[:2]:  # the reference itself
        write_nifti(tmp_path / f"{case.case_id}_prediction.nii.gz", case.labels, case.affine)
    (tmp_path / "2_prediction.nii.gz").rename(tmp_path / "2.nii.gz")
    seen: list[LedgerEntry] = []
    rows = evaluate(run, folder, predictions=tmp_path, out=tmp_path / "out", on_case=seen.append)
    assert all(row.dice == 1.0 for row in rows if row.status == "scored")
    assert {row.case_id for row in rows} == {"1", "2"}
    assert [entry.status for entry in seen] == ["done", "done", "failed", "failed", "failed"]
    text = (tmp_path / "out" / "scores.txt").read_text()
    assert "3 failed: MissingFileError" in text
    assert text.splitlines()[0].endswith(f"; predictions in {tmp_path}, not made by this command")
    with pytest.raises(MissingFileError, match="must be an existing folder"):
        evaluate(run, folder, predictions=tmp_path / "none", out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_predictions_of_other_cases_than_those_with_a_reference_say_what_to_do(
    run: Path, tmp_path: Path
) -> None:
    (tmp_path / "of_test_cases_without_masks_prediction.nii.gz").touch()
    with pytest.raises(ArgumentError, match=r"with predictions of 2, got .* Leave predictions out"):
        evaluate(run, predictions=tmp_path, out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_cases_without_a_reference_are_listed_and_not_scored(
    run: Path, cases: list[Case], tmp_path: Path
) -> None:
    bare = replace(cases[1], labels=None)
    rows = evaluate(run, [cases[0], bare], out=tmp_path, device="cpu")
    assert {row.case_id for row in rows} == {"1"}
    assert "without a reference: 2" in (tmp_path / "scores.txt").read_text()
    with pytest.raises(DataError, match="reference"):
        evaluate(run, [bare], out=tmp_path, device="cpu")


def test_without_test_cases_the_validation_cases_are_scored_and_it_is_said(
    run: Path, plan: Plan, tmp_path: Path
) -> None:
    for name in ("best.pt", "plan.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    replace(plan, data=replace(plan.data, test=())).save(tmp_path / "plan.json")
    rows = evaluate(tmp_path, device="cpu")
    assert {row.case_id for row in rows} == set(plan.data.val)
    assert "validation, not test" in (tmp_path / "evaluation" / "scores.txt").read_text()


def test_a_run_by_hand_has_no_plan_and_is_predicted_all_the_same(
    run: Path, cases: list[Case], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.pt").write_bytes((run / "best.pt").read_bytes())
    assert predict(tmp_path / "run", cases[:1], tmp_path / "out", device="cpu")[0].status == "done"
    for call in (
        lambda: predict(tmp_path / "run", None, tmp_path / "out"),
        lambda: evaluate(tmp_path / "run"),
    ):
        with pytest.raises(ArgumentError, match="without a plan"):
            call()
    with pytest.raises(ArgumentError, match="`out`"):
        evaluate(tmp_path / "run" / "best.pt", cases[:1])


def test_everything_can_be_told_of(run: Path, plan: Plan, folder: Path, tmp_path: Path) -> None:
    told = info(run)
    log = read_log(run / "log.csv")
    assert told["plan"] == plan.to_dict()
    assert (told["kind"], told["epochs"], told["best_epoch"]) == ("run", 1, 1)
    assert told["best_score"] == log[0]["validation_score"]
    assert (told["is_finished"], told["is_resumable"], told["locked_by"]) == (True, True, None)
    copied = shutil.copytree(run, tmp_path / "of-a-trainer")
    (copied / "plan.json").unlink()
    assert info(copied)["is_finished"]
    settings = json.loads((copied / "run.json").read_text())
    settings["settings"]["max_epochs"] = 2
    (copied / "run.json").write_text(json.dumps(settings))
    assert not info(copied)["is_finished"]
    assert info(run / "plan.json") == {"kind": "plan", "path": str(run / "plan.json"), "plan": plan.to_dict()}
    checkpoint = info(run / "best.pt")
    assert (checkpoint["kind"], checkpoint["epoch"]) == ("checkpoint", 1)
    assert checkpoint["labels"] == plan.labels.to_dict()
    Predictor.load(run, device="cpu").save(tmp_path / "saved")
    saved = info(tmp_path / "saved")
    assert saved["kind"] == "predictor"
    assert {key: saved[key] for key in ("network", "labels", "preparation")} == {
        key: checkpoint[key] for key in ("network", "labels", "preparation")
    }
    cohort = info(folder)
    assert (cohort["kind"], cohort["layout"], cohort["cases"]) == ("cohort", "pairs", list("12345"))
    for value in (told, checkpoint, saved, cohort):
        json.dumps(value)
    with pytest.raises(MissingFileError):
        info(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        info(tmp_path / "empty")
