"""Folds: which cases each holds out, what is left of each, who works on which. Nothing is trained here."""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from guided_attention import _distributed
from guided_attention._checkpoints import save_checkpoint
from guided_attention._distributed import join
from guided_attention._files import write_json
from guided_attention._locks import locked_folder
from guided_attention.case import Case
from guided_attention.data import make_phantom, write_nifti
from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    DataError,
    ExistingFileError,
    MissingFileError,
)
from guided_attention.inference import LedgerEntry, PostProcessing, Predictor, Shard
from guided_attention.labels import LabelSpec
from guided_attention.models import msga_lite
from guided_attention.recipes import (
    Fold,
    Plan,
    _folds,
    evaluate,
    finalize,
    finalizing,
    info,
    predict,
    train,
    train_folds,
)
from guided_attention.recipes import folds as module
from guided_attention.recipes._cases import source_of
from guided_attention.recipes._folds import folds_of_run, plan_of_fold
from guided_attention.recipes._held_out import cases_of_folds, save_cases
from guided_attention.recipes._split import split_of
from guided_attention.recipes.finalizing import _corrections, _joined, _write_ensemble
from guided_attention.recipes.plan import differing_keys
from guided_attention.sampling.cache import digest_of

pytestmark = pytest.mark.usefixtures("narrow_resnets")


@pytest.fixture(scope="module")
def on_disk(plan: Plan) -> Plan:
    """A plan of three cases to train, one to validate and one to test, of a folder that nobody reads."""
    data = replace(
        plan.data, folder="/scans", layout="pairs", train=("1", "2", "3", "10"), val=("4",), test=("5",)
    )
    return replace(plan, data=data)


def of_cases(plan: Plan, train: int, val: int = 0, patients: tuple[tuple[str, ...], ...] = ()) -> Plan:
    names = [str(number) for number in range(train + val)]
    parts = {"train": tuple(names[:train]), "val": tuple(names[train:]), "test": ()}
    return replace(plan, data=replace(plan.data, **parts, patients=patients))


class Fake:
    """In place of `train` and `evaluate`: writes the files that they leave, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, str] = {}

    def train(self, plan: Plan, folder: Path, *, resume: bool, **_others: object) -> None:
        self.calls.append(f"{'resume' if resume else 'train'} {folder.name}")
        folder.mkdir(exist_ok=True)
        plan.save(folder / "plan.json")
        save_checkpoint(folder / "best.pt", {"fold": folder.name, "calls": len(self.calls)})

    def evaluate(self, folder: Path, *, on_case: Callable[[LedgerEntry], None], **_others: object) -> None:
        self.calls.append(f"score {folder.name}")
        predictions = folder / "evaluation/predictions"
        predictions.mkdir(parents=True, exist_ok=True)
        for name in Plan.load(folder).data.test:
            error = self.errors.get(name, "")
            on_case(LedgerEntry(name, "failed" if error else "done", error=error))
            (predictions / f"{name}_prediction.nii.gz").touch()
        (folder / "evaluation/scores.csv").write_text(f"{len(self.calls)}\n", encoding="utf-8")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setattr(module, "train", made.train)
    monkeypatch.setattr(module, "evaluate", made.evaluate)
    return made


@pytest.fixture(scope="module")
def network(plan: Plan) -> nn.Module:
    return msga_lite(plan.preparation.in_channels, plan.labels.num_classes, encoder="resnet18", channels=4)


def work(plan: Plan, run: Path, **options: object) -> list[Fold]:
    return train_folds(plan, run, folds=2, device="cpu", quiet=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "folds"), [(2, 2), (7, 2), (7, 3), (11, 5), (13, 5), (5, 5)])
def test_each_case_is_held_out_once_and_sizes_differ_by_one_at_most(
    plan: Plan, count: int, folds: int
) -> None:
    held_out = cases_of_folds(of_cases(plan, count - 1, 1), folds)
    assert sorted(name for fold in held_out for name in fold) == sorted(
        str(number) for number in range(count)
    )
    sizes = [len(fold) for fold in held_out]
    assert len(sizes) == folds
    assert max(sizes) - min(sizes) <= 1
    # Which of them validated in the plan changes nothing, its seed does.
    assert cases_of_folds(of_cases(plan, 1, count - 1), folds) == held_out
    others = {cases_of_folds(replace(of_cases(plan, count), seed=seed), folds) for seed in range(1, 5)}
    assert len({*others, held_out}) > 1


def test_cases_of_a_patient_stay_together_and_patients_are_counted(plan: Plan) -> None:
    patients = (("0", "4"), ("5", "6", "7"))
    held_out = cases_of_folds(of_cases(plan, 5, 3, patients), 5)
    assert sorted(map(sorted, held_out)) == [["0", "4"], ["1"], ["2"], ["3"], ["5", "6", "7"]]
    with pytest.raises(ArgumentError, match=r"`folds` must be at most 5, .*, got 6\. Ask for fewer folds"):
        cases_of_folds(of_cases(plan, 5, 3, patients), 6)


def test_a_plan_remembers_patients_with_several_cases(cases: list[Case]) -> None:
    of = {"1": "p", "2": "q", "3": "p", "4": "r", "5": "r"}
    data = split_of(source_of(cases), 0, of, {})
    kept = {name for group in data.patients for name in group}
    assert kept == {"1", "3", "4", "5"}
    assert all(len(group) == 2 and len({of[name] for name in group}) == 1 for group in data.patients)
    assert split_of(source_of(cases), 0, None, {}).patients == ()
    with pytest.raises(ArgumentError, match="`patients` must be what gives each case a name, got '' for 2"):
        split_of(source_of(cases), 0, {**of, "2": ""}, {})


def test_the_plan_of_a_fold_differs_from_that_of_the_run_in_its_cases_only(
    on_disk: Plan, tmp_path: Path
) -> None:
    fold = Fold(1, tmp_path / "fold-1", ("4", "2"), is_trained=False)
    made = plan_of_fold(on_disk, tmp_path, fold)
    assert (made.data.train, made.data.val, made.data.test) == (("1", "3", "10"), (), ("4", "2"))
    assert made.data.cache == str(tmp_path / "cache")
    assert made.preparation == on_disk.preparation
    changed = {key for key in differing_keys(made, on_disk) if not key.startswith("reasons.")}
    assert changed == {"data.train", "data.val", "data.test", "data.cache"} | (
        {"inference.keep_largest"} if on_disk.inference.keep_largest else set()
    )
    own = replace(on_disk, data=replace(on_disk.data, cache="/cache"))
    patient = replace(own, training=replace(own.training, patience=3))
    assert plan_of_fold(patient, tmp_path, fold).data.cache == "/cache"
    assert plan_of_fold(patient, tmp_path, fold).training.patience is None


def test_folds_are_trained_and_scored_one_after_another_and_finished_ones_are_skipped(
    on_disk: Plan, tmp_path: Path, fake: Fake
) -> None:
    found = work(on_disk, tmp_path / "run")
    assert [fold.missing for fold in found] == [{}, {}]
    assert sorted(name for fold in found for name in fold.case_ids) == ["1", "10", "2", "3", "4"]
    assert [str(fold) for fold in found] == [
        f"fold {fold.number}: trained, {len(fold.case_ids)} cases predicted and scored" for fold in found
    ]
    assert fake.calls == ["train fold-0", "score fold-0", "train fold-1", "score fold-1"]
    assert Plan.load(tmp_path / "run") == on_disk
    work(on_disk, tmp_path / "run", resume=True)
    assert len(fake.calls) == 4
    longer = on_disk.with_values({"budget.epochs": "2"})
    work(longer, tmp_path / "run", resume=True)
    assert fake.calls[4:] == ["resume fold-0", "score fold-0", "resume fold-1", "score fold-1"]


def test_what_a_fold_does_is_told(
    on_disk: Plan, tmp_path: Path, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    (fold,) = train_folds(on_disk, tmp_path, folds=2, fold=1, device="cpu")
    cases = len(fold.case_ids)
    assert capsys.readouterr().err.splitlines() == [
        f"fold 1: {cases} cases are held out",
        f"fold 1: its network predicts the {cases} cases that it has not seen",
    ]
    work(on_disk, tmp_path, resume=True)
    assert capsys.readouterr().err == ""
    assert fake.calls == ["train fold-1", "score fold-1", "train fold-0", "score fold-0"]


def test_one_fold_of_a_run_is_trained(on_disk: Plan, tmp_path: Path, fake: Fake) -> None:
    (found,) = work(on_disk, tmp_path, fold=1)
    assert (found.number, fake.calls) == (1, ["train fold-1", "score fold-1"])
    assert [fold.is_trained for fold in folds_of_run(tmp_path)] == [False, True]
    work(on_disk, tmp_path, fold=0)
    assert [fold.missing for fold in folds_of_run(tmp_path)] == [{}, {}]


def test_processes_of_torchrun_train_folds_of_their_own_and_join_nobody(
    on_disk: Plan, tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def joined(*_arguments: object, **_others: object) -> None:
        raise AssertionError

    monkeypatch.setattr(_distributed.distributed, "init_process_group", joined)
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "train", lambda *given, **others: (join(), fake.train(*given, **others)))
    taken = {}
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        found = train_folds(on_disk, tmp_path, folds=3, device="cpu", quiet=True)
        taken[rank] = [(fold.number, fold.missing) for fold in found]
    assert taken == {"1": [(1, {})], "0": [(0, {}), (2, {})]}
    assert [call for call in fake.calls if call.startswith("train")] == [
        "train fold-1",
        "train fold-0",
        "train fold-2",
    ]
    with pytest.raises(AssertionError):
        join()
    monkeypatch.delenv("RANK")
    with pytest.raises(
        ArgumentError, match="`RANK` must be from 0 to 1 with WORLD_SIZE=2, got ''.* unset WORLD_SIZE"
    ):
        train_folds(on_disk, tmp_path, folds=3, resume=True, device="cpu", quiet=True)
    with pytest.raises(ArgumentError, match="RANK"):
        Shard.from_environment()


def test_what_is_missing_of_a_fold_is_told_and_mended_by_a_resume(
    on_disk: Plan, tmp_path: Path, fake: Fake
) -> None:
    run = tmp_path / "run"
    fake.errors = {"4": "DataError: damaged"}
    found = work(on_disk, run)
    holder = next(fold for fold in found if "4" in fold.case_ids)
    assert [fold.missing for fold in found if fold is not holder] == [{}]
    assert str(holder) == f"fold {holder.number}: no score of 4: DataError: damaged"
    fake.calls.clear()
    fake.errors = {}
    work(on_disk, run, resume=True)
    assert fake.calls == [f"score fold-{holder.number}"]  # its weights are as they were
    (holder.predictions / "4_prediction.nii.gz").unlink()
    assert folds_of_run(run)[holder.number].missing == {
        "4": f"{holder.predictions / '4_prediction.nii.gz'} is gone"
    }
    holder.scores.write_text("other", encoding="utf-8")
    reasons = set(folds_of_run(run)[holder.number].missing.values())
    assert reasons == {"not predicted and scored yet"}
    save_checkpoint(holder.folder / "best.pt", {"other": 1})
    reasons = set(folds_of_run(run)[holder.number].missing.values())
    assert reasons == {"the weights have changed since its training ended"}
    (holder.folder / "fold.json").unlink()
    assert set(folds_of_run(run)[holder.number].missing.values()) == {"training has not ended"}
    (holder.folder / "best.pt").unlink()
    assert set(folds_of_run(run)[holder.number].missing.values()) == {"not trained yet"}
    on_disk.with_values({"budget.epochs": "2"}).save(run / "plan.json")
    other = folds_of_run(run)[1 - holder.number]
    assert set(other.missing.values()) == {"it was trained with another budget than that of the run"}


@pytest.mark.usefixtures("fake")
def test_a_prediction_that_is_not_the_one_of_the_ledger_is_missing(
    on_disk: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(on_disk, tmp_path)

    def ledger_of(folder: Path) -> list[LedgerEntry]:
        files = {name: folder / f"{name}_prediction.nii.gz" for name in ("1", "3")}
        empty = {name: {file.name: hashlib.sha256().hexdigest()} for name, file in files.items()}
        return [LedgerEntry(name, "done", hashes) for name, hashes in empty.items() if files[name].is_file()]

    monkeypatch.setattr(_folds, "read_ledger", ledger_of)
    assert [fold.missing for fold in folds_of_run(tmp_path)] == [{}, {}]
    (file,) = tmp_path.rglob("3_prediction.nii.gz")
    file.write_bytes(b"other")
    missing = {name: why for fold in folds_of_run(tmp_path) for name, why in fold.missing.items()}
    assert missing == {"3": f"{file} is not the one that was scored"}
    with pytest.raises(DataError, match="is not the one that was scored"):
        finalize(tmp_path)


def test_a_case_that_has_changed_since_its_prediction_was_scored_is_named(
    block: Callable[..., Case], tmp_path: Path
) -> None:
    case, labels = block("a"), LabelSpec({1: "organ"})
    assert case.labels is not None
    fold = Fold(1, tmp_path / "fold-1", ("a",), is_trained=True)
    fold.predictions.mkdir(parents=True)
    write_nifti(fold.predictions / "a_prediction.nii.gz", case.labels, case.affine)
    changed = replace(case, image=case.image + 1)
    _corrections([fold], source_of([changed]), labels)  # scored by a version that wrote no hashes
    write_json(fold.folder / "fold.json", {"cases": {"a": digest_of(case)}})
    _corrections([fold], source_of([case]), labels)
    for other in (changed, replace(case, labels=np.zeros_like(case.labels))):
        with pytest.raises(
            DataError, match=r"case 'a' .* when fold-1 was scored, got .*delete .*scores\.csv and continue"
        ):
            _corrections([fold], source_of([other]), labels)


def test_a_fold_of_another_process_is_skipped_unless_it_is_asked_for(
    on_disk: Plan, tmp_path: Path, fake: Fake
) -> None:
    work(on_disk, tmp_path, fold=1)
    fake.calls.clear()
    with locked_folder(tmp_path / ".locks/1"):
        with pytest.raises(ExistingFileError, match="is training"):
            work(on_disk, tmp_path, fold=1, resume=True)
        first, second = work(on_disk, tmp_path, resume=True)
    assert fake.calls == ["train fold-0", "score fold-0"]
    assert first.held_by == ""
    assert "is training" in str(second)


def test_wrong_uses_are_refused_before_anything_is_written(
    plan: Plan, on_disk: Plan, tmp_path: Path, fake: Fake
) -> None:
    run = tmp_path / "run"
    for wrong, folds, message in ((on_disk, 1, "2 or more"), (on_disk, 7, "at most 5"), (plan, 2, "on disk")):
        with pytest.raises(ArgumentError, match=message):
            train_folds(wrong, run, folds=folds)
    for number in (-1, 2):
        with pytest.raises(ArgumentError, match="`fold` must be from 0 to 1"):
            work(on_disk, run, fold=number)
    with pytest.raises(ArgumentTypeError, match="fold"):
        work(on_disk, run, fold=True)
    odd = replace(on_disk, data=replace(on_disk.data, train=("1", "site:3")))
    with pytest.raises(DataError, match="fit for a file name, .* got 'site:3'"):
        work(odd, run)
    assert not run.exists()
    assert fake.calls == []


def test_a_run_of_folds_is_begun_once_with_one_plan(on_disk: Plan, tmp_path: Path, fake: Fake) -> None:
    work(on_disk, tmp_path)
    fake.calls.clear()
    with pytest.raises(ExistingFileError, match="resume=True"):
        work(on_disk, tmp_path)
    with pytest.raises(ArgumentError, match=r"another optimizer\.lr"):
        work(on_disk.with_values({"optimizer.lr": "0.5"}), tmp_path, resume=True)
    with pytest.raises(ArgumentError, match=r"`folds` must be 2, as in .*folds\.json, got 3\. Name the"):
        train_folds(on_disk, tmp_path, folds=3, resume=True)
    with pytest.raises(ExistingFileError, match="without folds"):
        train(on_disk, tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one/last.pt").touch()
    with pytest.raises(ExistingFileError, match="holds last.pt"):
        work(on_disk, tmp_path / "one", resume=True)
    assert fake.calls == []
    assert Plan.load(tmp_path) == on_disk


def test_folds_of_different_plans_are_not_joined(on_disk: Plan, tmp_path: Path, fake: Fake) -> None:
    """``plan.json`` of the run is the plan that is passed: only the folds remember the one before."""
    work(on_disk, tmp_path, fold=0)
    edited = on_disk.with_values({"optimizer.lr": "0.5", "loss.guidance_weight": "0.5"})
    edited.save(tmp_path / "plan.json")
    with pytest.raises(ArgumentError, match=r"that of the run in .*fold-0, got another .*optimizer\.lr"):
        work(tmp_path, tmp_path, fold=1)
    assert fake.calls == ["train fold-0", "score fold-0"]
    on_disk.save(tmp_path / "plan.json")
    work(on_disk, tmp_path, fold=1)
    edited.save(tmp_path / "plan.json")
    why = r"it was trained with another loss\.guidance_weight, optimizer\.lr than plan\.json of the run has"
    with pytest.raises(DataError, match=rf"fold 0: .*{why}.*; fold 1: .*{why}"):
        finalize(tmp_path)


def test_networks_of_different_preparations_are_not_joined(
    plan: Plan, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = replace(plan.preparation, spacing_mm=(None, 7.0, 7.0))
    other = LabelSpec({1: "a", 2: "b", 3: "c", 4: "d"})
    made = [
        Predictor(network, preparation, labels, device="cpu")
        for preparation, labels in (
            (plan.preparation, plan.labels),
            (coarse, plan.labels),
            (plan.preparation, other),
        )
    ]
    monkeypatch.setattr(Predictor, "load", lambda path, **_others: made[int(path.name)])
    folds = [Fold(number, Path(f"{number}"), (), is_trained=True) for number in range(3)]
    for wrong in (1, 2):
        with pytest.raises(DataError, match=f"`{wrong}` must be prepared and labelled as 0, got another"):
            _joined([folds[0], folds[wrong]], PostProcessing())
    assert len(_joined([folds[0], folds[0]], PostProcessing()).members) == 2


@pytest.fixture(scope="module")
def finalized_once(
    plan: Plan, on_disk: Plan, network: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of two folds and their ensemble, untrained; the folds hold no networks."""
    run = tmp_path_factory.mktemp("finalized") / "run"
    predictor = Predictor(network, plan.preparation, plan.labels, device="cpu")
    folds = [Fold(number, run / f"fold-{number}", (), is_trained=True) for number in range(2)]
    for fold in folds:
        fold.folder.mkdir(parents=True)
        (fold.folder / "best.pt").write_bytes(b"weights")
    on_disk.save(run / "plan.json")
    save_cases(run, on_disk, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "load", lambda *_, **__: predictor)
        _write_ensemble(run, folds, PostProcessing())
    return run


@pytest.fixture
def finalized(finalized_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finalized_once, tmp_path / "run", copy_function=os.link)  # weights are large


def test_an_ensemble_whose_folds_have_changed_is_refused_until_it_is_joined_anew(finalized: Path) -> None:
    assert len(Predictor.load(finalized, device="cpu").members) == 2
    assert info(finalized)["is_finalized"]
    file = finalized / "fold-1/best.pt"
    for change in (
        lambda: save_checkpoint(file, {"longer": 1}),
        file.unlink,
        lambda: shutil.rmtree(file.parent),
    ):
        change()
        for call in (
            lambda: Predictor.load(finalized),
            lambda: predict(finalized, None, finalized / "out", device="cpu"),
            lambda: evaluate(finalized, device="cpu"),
        ):
            with pytest.raises(CheckpointError, match=r"fold-1 .*`finalize\(run\)`, or name .*ensemble"):
                call()
        assert not info(finalized)["is_finalized"]
    assert len(Predictor.load(finalized / "ensemble", device="cpu").members) == 2
    (finalized / "ensemble/folds.sha256.json").unlink()  # of an earlier version
    assert len(Predictor.load(finalized, device="cpu").members) == 2


def test_cases_that_trained_a_network_are_no_test_of_it(
    on_disk: Plan, finalized: Path, cases: list[Case]
) -> None:
    data = replace(on_disk.data, train=("1", "2", "10"), test=("3", "5"))
    replace(on_disk, data=data).save(finalized / "plan.json")
    moved = r"`plan` must be one that trains or validates with the cases of .*folds\.json, got one that differs in 3"
    for call in (
        lambda: evaluate(finalized, device="cpu"),
        lambda: evaluate(finalized, cases, device="cpu"),
        lambda: finalize(finalized),
        lambda: info(finalized),
        lambda: work(finalized, finalized, resume=True),  # type: ignore[arg-type]
    ):
        with pytest.raises(DataError, match=moved):
            call()
    together = replace(on_disk.data, patients=(("1", "2", "3"),))
    seeded = (replace(on_disk, seed=seed) for seed in range(1, 9))
    seed = next(one for one in seeded if cases_of_folds(one, 2) != cases_of_folds(on_disk, 2))
    for other in (seed, replace(on_disk, data=together)):
        other.save(finalized / "plan.json")
        with pytest.raises(
            DataError, match=r"that divides them as .*folds\.json, got .* another seed or other"
        ):
            finalize(finalized)


def test_a_number_of_folds_that_no_cases_allow_is_told(plan: Plan) -> None:
    with pytest.raises(
        ArgumentError, match=r"`plan` must be .*two or more patients .*, got 1\. Plan with more"
    ):
        cases_of_folds(of_cases(plan, 3, 0, (("0", "1", "2"),)), 2)


def test_files_of_others_beside_the_ensemble_are_named_before_scores_are_written(
    finalized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finalized / "ensemble/notes.txt").touch()
    folds = [Fold(number, finalized / f"fold-{number}", (), is_trained=True) for number in range(2)]
    nothing = source_of([make_phantom(0, subject=int(name), size=16) for name in ("1", "2", "3", "4", "10")])
    for name, value in {
        "folds_of_run": lambda _run: folds,
        "cases_of_plan": lambda _plan: nothing,
        "_corrections": lambda *_: PostProcessing(),
        "read_scores": lambda _path: [],
        "_joined": lambda *_: None,
    }.items():
        monkeypatch.setattr(finalizing, name, value)
    with pytest.raises(ExistingFileError, match=r"with notes\.txt\. Move notes\.txt to another folder"):
        finalize(finalized)
    assert not list(finalized.glob("scores.*"))


@pytest.mark.parametrize("content", ["", "{}", '{"held_out": 3}', "[]"])
def test_a_damaged_list_of_folds_is_named(on_disk: Plan, tmp_path: Path, content: str) -> None:
    (tmp_path / "folds.json").write_text(content, encoding="utf-8")
    on_disk.save(tmp_path / "plan.json")
    for call in (lambda: finalize(tmp_path), lambda: info(tmp_path)):
        with pytest.raises(DataError, match=r"folds\.json"):
            call()


def test_unfinished_folds_are_listed_with_their_cases(on_disk: Plan, tmp_path: Path, fake: Fake) -> None:
    with pytest.raises(MissingFileError, match=r"has no folds\.json\. Train them first"):
        finalize(tmp_path)
    fake.errors = {"4": "DataError: damaged"}
    work(on_disk, tmp_path, fold=0)
    first, second = folds_of_run(tmp_path)
    with pytest.raises(DataError) as caught:
        finalize(tmp_path)
    assert str(second) in str(caught.value)
    assert all(name in str(second) for name in second.case_ids)
    assert (str(first) in str(caught.value)) == ("4" in first.case_ids)
    told = info(tmp_path)
    assert told["kind"] == "folds"
    assert told["folds"] == [str(first), str(second)]
    assert (told["is_finished"], told["is_finalized"]) == (False, False)


def test_before_it_is_finalized_a_run_of_folds_says_what_to_do(on_disk: Plan, tmp_path: Path) -> None:
    on_disk.save(tmp_path / "plan.json")
    write_json(tmp_path / "folds.json", {"held_out": [["1"], ["2"]]})
    for call in (
        lambda: Predictor.load(tmp_path),
        lambda: predict(tmp_path, None, tmp_path / "out"),
        lambda: evaluate(tmp_path),
    ):
        with pytest.raises(MissingFileError, match=r"Call `finalize\(run\)`, or name one .*fold-0"):
            call()
