"""Runs of folds from training to the ensemble, whole, killed and by two processes, on phantoms of 16 pixels."""

import json
import multiprocessing
import shutil
import time
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.deadly import killed_at_random, killed_until_done

from guided_attention.data import open_cohort, read_nifti, write_nifti
from guided_attention.errors import ArgumentError, DataError, ExistingFileError
from guided_attention.evaluation import evaluate_prediction, mean_dice, read_scores
from guided_attention.inference import PostProcessing, Predictor, choose_postprocessing
from guided_attention.recipes import Plan, evaluate, finalize, info, plan_for, predict, train, train_folds
from guided_attention.recipes import folds as module

_AFFINE = np.diag([1.5, 1.25, 5.0, 1.0])


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    for depth, name in zip((3, 5, 3, 3, 7, 3), "abcdef", strict=True):
        mask = np.zeros((depth, 17, 19), np.uint8)
        mask[1:, 5:11, 4:13] = 1
        image = rng.normal(100, 20, mask.shape) + 100 * mask
        write_nifti(folder / f"{name}_image.nii.gz", image.astype(np.int16), _AFFINE)
        write_nifti(folder / f"{name}_label.nii.gz", mask, _AFFINE)
    values = {
        "network.arguments.channels": "4",
        "network.arguments.steps": "1",
        "budget.epochs": "1",
        "sampling.steps": "3",
        "budget.minutes": "none",
        "training.precision": "fp32",
        "inference.precision": "fp32",
    }
    return plan_for(folder, device="cpu").with_values(values)


def finished(plan: Plan, run: Path) -> None:
    train_folds(plan, run, folds=2, device="cpu", quiet=True, resume=True)
    finalize(run)


@pytest.fixture(scope="module")
def run(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    finished(plan, path)
    return path


def results(run: Path) -> dict[str, bytes]:
    """The bytes of all that a finalized run is for, without times."""
    kept = ("scores.csv", "scores.json", "scores.txt", "folds.json", "fold.json", "best.pt")
    files = [path for path in sorted(run.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in files
        if path.name in kept or path.parent.name == "predictions" or "ensemble" in path.parts
    }


@pytest.mark.example
def test_every_case_is_scored_once_by_the_network_that_has_not_seen_it(run: Path, plan: Plan) -> None:
    names = sorted((*plan.data.train, *plan.data.val))
    cohort = open_cohort(plan.data.folder, labels=plan.labels)
    raw, cases = {}, {name: cohort.select([name])[0] for name in names}
    for number in (0, 1):
        own = Plan.load(run / f"fold-{number}")
        assert sorted((*own.data.train, *own.data.test)) == names
        assert own.data.val == ()
        predictor = Predictor.load(run / f"fold-{number}", device="cpu")
        assert predictor.preparation == plan.preparation
        raw |= {name: predictor.predict(cases[name]) for name in own.data.test}
    assert sorted(raw) == names
    chosen = choose_postprocessing(
        [raw[name].labels for name in names], [cases[name].labels for name in names], plan.labels
    )
    wanted = {
        name: evaluate_prediction(
            replace(raw[name], labels=chosen.apply(raw[name].labels)), cases[name], plan.labels
        )
        for name in names
    }
    rows = read_scores(run / "scores.csv")
    assert [row.case_id for row in rows] == sorted(
        (row.case_id for row in rows), key=list(cohort.case_ids).index
    )
    assert sorted({row.case_id for row in rows}) == names
    for name in names:
        assert repr([row for row in rows if row.case_id == name]) == repr(wanted[name])
    text = (run / "scores.txt").read_text(encoding="utf-8")
    assert f"{len(names)} cases, each predicted by the network of 2 that has not seen it" in text
    before = [row for number in (0, 1) for row in read_scores(run / f"fold-{number}/evaluation/scores.csv")]
    if chosen != PostProcessing():
        assert f"mean Dice {mean_dice(before):.4f} without, {mean_dice(rows):.4f} with" in text
    assert not (run / "cache").exists()


@pytest.mark.example
def test_the_ensemble_of_all_folds_predicts_scans(run: Path, plan: Plan, tmp_path: Path) -> None:
    together = Predictor.load(run, device="cpu")
    each = [Predictor.load(run / f"fold-{number}", device="cpu") for number in (0, 1)]
    assert together.preparation == plan.preparation
    image = torch.rand(1, 1, 37, 41)
    with torch.no_grad():
        for member, one in zip(together.members, each, strict=True):
            assert torch.equal(member.eval()(image), one.members[0].eval()(image))
    (name,) = plan.data.test
    entries = predict(run, None, tmp_path / "out", device="cpu")
    assert [(entry.case_id, entry.status) for entry in entries] == [(name, "done")]
    case = open_cohort(plan.data.folder).select([name])[0]
    assert np.array_equal(
        read_nifti(tmp_path / f"out/{name}_prediction.nii.gz").array, together.predict(case).labels
    )
    assert {row.case_id for row in evaluate(run, out=tmp_path / "scores", device="cpu")} == {name}
    (fold, *_) = (run / "fold-0").glob("plan.json")
    held_out = Plan.load(fold).data.test
    assert {row.case_id for row in evaluate(run / "fold-0", device="cpu")} == set(held_out)
    told = info(run)
    assert (told["is_finished"], told["is_finalized"], len(told["folds"])) == (True, True, 2)
    assert info(run / "fold-0")["is_finished"]


@pytest.mark.example
def test_cases_that_trained_the_folds_are_no_test(run: Path, plan: Plan, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    data = replace(plan.data, test=())
    replace(plan, data=data).save(tmp_path / "run/plan.json")
    with pytest.raises(ArgumentError, match=r"`cases` must be given .* scores\.csv in the run"):
        evaluate(tmp_path / "run", device="cpu")
    with pytest.raises(ArgumentError, match="`scans` must be given for a run without test cases"):
        predict(tmp_path / "run", None, tmp_path / "out", device="cpu")


def without_ledger(run: Path) -> dict[str, bytes]:
    """The results without the ledger, which a case that is predicted again has a line more in."""
    return {name: content for name, content in results(run).items() if not name.endswith("ledger.jsonl")}


@pytest.mark.example
def test_changed_predictions_and_labels_are_scored_anew(run: Path, plan: Plan, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    scans, fold = tmp_path / "scans", tmp_path / "run/fold-1"
    shutil.copytree(str(plan.data.folder), scans)
    for file in (tmp_path / "run").rglob("plan.json"):
        one = Plan.load(file)
        replace(one, data=replace(one.data, folder=str(scans))).save(file)
    name = Plan.load(fold).data.test[0]
    file = fold / f"evaluation/predictions/{name}_prediction.nii.gz"
    known = file.read_bytes()
    shutil.copyfile(next(path for path in fold.rglob("*_prediction.nii.gz") if path != file), file)
    with pytest.raises(DataError, match=rf"no score of {name}: .* is not the one that was scored"):
        finalize(tmp_path / "run")
    train_folds(tmp_path / "run", folds=2, device="cpu", quiet=True, resume=True)
    assert file.read_bytes() == known
    finalize(tmp_path / "run")
    assert without_ledger(tmp_path / "run") == without_ledger(run)
    labels = scans / f"{name}_label.nii.gz"
    mask = read_nifti(labels).array
    write_nifti(labels, np.roll(mask, 1, axis=-1).astype(np.uint8), _AFFINE)
    with pytest.raises(DataError, match=rf"case '{name}' .* when fold-1 was scored"):
        finalize(tmp_path / "run")
    assert without_ledger(tmp_path / "run") == without_ledger(run)
    (fold / "evaluation/scores.csv").unlink()
    train_folds(tmp_path / "run", folds=2, device="cpu", quiet=True, resume=True)
    rows, before = finalize(tmp_path / "run"), read_scores(run / "scores.csv")
    changed = {new.case_id for new, old in zip(rows, before, strict=True) if repr(new) != repr(old)}
    assert changed == {name}


@pytest.mark.example
def test_a_second_finalize_changes_no_byte_and_two_at_once_are_refused(run: Path) -> None:
    before = results(run)
    rows = finalize(run)
    assert results(run) == before
    assert repr(rows) == repr(read_scores(run / "scores.csv"))
    assert not list(run.glob(".unfinished*"))
    (run / ".lock.json").write_text(json.dumps({"host": "another", "process": 3}), encoding="utf-8")
    with pytest.raises(ExistingFileError, match="take_over"):
        finalize(run)
    finalize(run, take_over=True)
    assert results(run) == before


@pytest.mark.example
def test_a_plan_without_validation_keeps_the_weights_of_the_last_epoch(run: Path, tmp_path: Path) -> None:
    fold = Plan.load(run / "fold-0")
    two = fold.with_values({"budget.epochs": "2", "data.cache": "none", "training.ema_decay": "none"})
    result = train(two, tmp_path / "run", device="cpu", quiet=True)
    assert (result.best_epoch, result.epochs) == (2, 2)
    best = torch.load(tmp_path / "run/best.pt", weights_only=True)["model"]
    last = torch.load(tmp_path / "run/last.pt", weights_only=True)["model"]
    assert all(torch.equal(best[name], last[name]) for name in last)


@pytest.mark.crash
def test_folds_killed_at_random_moments_and_begun_again_end_the_same(plan: Plan, tmp_path: Path) -> None:
    for name in ("matplotlib.figure", "nibabel", "scipy.ndimage", "torch._dynamo"):
        import_module(name)  # importing would take the children most of their time
    targets = [tmp_path / f"run-{number}" for number in range(3)]
    killed_at_random(partial(finished, plan), targets, seed=0)
    wanted = results(targets[0])
    assert len(wanted) > 20
    for target in targets[1:]:
        assert results(target) == wanted


@pytest.mark.crash
def test_finalize_killed_in_a_writing_and_begun_again_ends_the_same(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in ("scores.csv", "scores.json", "scores.txt"):
        (tmp_path / "run" / name).unlink()
    shutil.rmtree(tmp_path / "run/ensemble")
    assert killed_until_done(partial(finalize, tmp_path / "run"), step=9) >= 2
    assert results(tmp_path / "run") == results(run)


def noting(path: Path, plan: Plan, folder: Path, **_others: object) -> None:
    """In place of `train`: write down which process trained which fold."""
    folder.mkdir(exist_ok=True)
    plan.save(folder / "plan.json")
    (folder / "best.pt").write_bytes(b"weights")
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{folder.name} {multiprocessing.current_process().pid}\n")
    time.sleep(0.2)


def scoring(folder: Path, **_others: object) -> None:
    (folder / "evaluation/predictions").mkdir(parents=True)
    (folder / "evaluation/scores.csv").touch()
    for name in Plan.load(folder).data.test:
        (folder / f"evaluation/predictions/{name}_prediction.nii.gz").touch()


@pytest.mark.crash
def test_two_processes_at_once_share_the_folds_of_a_run(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "train", partial(noting, tmp_path / "said"))
    monkeypatch.setattr(module, "evaluate", scoring)
    work = partial(train_folds, plan, tmp_path / "run", folds=5, resume=True, device="cpu", quiet=True)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    lines = [line.split() for line in (tmp_path / "said").read_text(encoding="utf-8").splitlines()]
    assert sorted(fold for fold, _ in lines) == [f"fold-{number}" for number in range(5)]
    assert len({process for _, process in lines}) == 2
