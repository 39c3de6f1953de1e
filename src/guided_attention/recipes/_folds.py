"""The folds of a run: which cases each of them holds out, and how far it has come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guided_attention._checks import counted, cut_list
from guided_attention._files import json_mapping, sha256_of_file, write_json
from guided_attention.errors import MissingFileError
from guided_attention.inference import LedgerEntry, read_ledger
from guided_attention.inference.saved import FOLDS_FILE
from guided_attention.inference.writing import PredictionWriter
from guided_attention.recipes._begun import keys_of_another_plan
from guided_attention.recipes._held_out import cases_of_run, patients_of_plan
from guided_attention.recipes._records import plain
from guided_attention.recipes._volumes import CACHE
from guided_attention.recipes.plan import PLAN_FILE, Plan
from guided_attention.recipes.scoring import EVALUATION, PREDICTIONS, TABLE
from guided_attention.training.run_folder import BEST, files_of_run

__all__ = [
    "Fold",
    "digests_of_fold",
    "fold_folder",
    "folds_of_run",
    "plan_of_fold",
    "state_of_fold",
    "store_state",
]

_STATE = "fold.json"
"""What is done of a fold: its budget, hashes of weights, scores and scored cases, errors of cases without scores."""


@dataclass(frozen=True)
class Fold:
    """One fold of a run: a network that is trained without the cases that it then predicts.

    Attributes:
        number: Its number, from 0.
        folder: Its run folder.
        case_ids: The cases that it holds out.
        is_trained: Whether its training has ended.
        missing: Why a case has no score yet, by its name; empty for a fold that is finished.
        held_by: Says which other process works on it; empty where none does.
    """

    number: int
    folder: Path
    case_ids: tuple[str, ...]
    is_trained: bool
    missing: Mapping[str, str] = field(default_factory=dict)
    held_by: str = ""

    @property
    def predictions(self) -> Path:
        """Where the predictions of its cases are."""
        return self.folder / EVALUATION / PREDICTIONS

    @property
    def scores(self) -> Path:
        """The file of the scores of its cases."""
        return self.folder / EVALUATION / TABLE

    def __str__(self) -> str:
        """Say in one line how far it has come."""
        if self.held_by or not self.missing:
            done = f"trained, {counted(len(self.case_ids), 'case')} predicted and scored"
            return f"fold {self.number}: {self.held_by or done}"
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.missing.items():
            by_reason.setdefault(reason, []).append(name)
        listed = [f"no score of {cut_list(names)}: {reason}" for reason, names in by_reason.items()]
        return f"fold {self.number}: {'; '.join(listed)}"


def folds_of_run(run: Path) -> list[Fold]:
    """Return the folds of a run, with what is done of each.

    Raises:
        MissingFileError: The folder has no folds.
        DataError: A file of the run is damaged, or the cases of the plan have changed.
    """
    file = run / FOLDS_FILE
    if not file.is_file():
        message = f"`run` must be a run of folds, got {run}, which has no {FOLDS_FILE}."
        raise MissingFileError(
            f"{message} Train them first: `train_folds(run, folds=N)`.", argument="run", file=run
        )
    plan = Plan.load(run)
    held_out = cases_of_run(run, plan)
    return [state_of_fold(plan, run, number, names) for number, names in enumerate(held_out)]


def fold_folder(run: Path, number: int) -> Path:
    """Return the run folder of a fold."""
    return run / f"fold-{number}"


def state_of_fold(plan: Plan, run: Path, number: int, case_ids: tuple[str, ...]) -> Fold:
    """Return a fold of a run with this plan, with what is done of it."""
    fold = Fold(number, fold_folder(run, number), case_ids, is_trained=True)
    record = json_mapping(fold.folder / _STATE)
    untrained = _why_untrained(plan_of_fold(plan, run, fold), fold.folder, record)
    missing = dict.fromkeys(case_ids, untrained) if untrained else _unscored(fold, record)
    return replace(fold, is_trained=not untrained, missing=missing)


def _why_untrained(plan: Plan, folder: Path, record: Mapping[str, Any]) -> str:
    """Return why a fold is not trained as its plan says; empty where it is."""
    weights = folder / BEST
    if not files_of_run(folder):
        return "not trained yet"
    if not record or not weights.is_file():
        return "training has not ended"
    if record.get("weights") != sha256_of_file(weights):
        return "the weights have changed since its training ended"
    if record.get("budget") != plain(plan.budget):
        return "it was trained with another budget than that of the run"
    keys = keys_of_another_plan(folder, plan)
    why = f"it was trained with another {cut_list(keys)} than {PLAN_FILE} of the run has: put it back"
    return f"{why}, or delete {folder} to train it anew" if keys else ""


def _unscored(fold: Fold, record: Mapping[str, Any]) -> dict[str, str]:
    known, scores = record.get("scores"), fold.scores
    if known is None or not scores.is_file() or sha256_of_file(scores) != known:
        return dict.fromkeys(fold.case_ids, "not predicted and scored yet")
    files = {name: PredictionWriter().paths(name, fold.predictions)["prediction"] for name in fold.case_ids}
    written = {entry.case_id: entry.files for entry in read_ledger(fold.predictions)}
    gone = {}
    for name, file in files.items():
        known = written.get(name, {}).get(file.name)
        if not file.is_file():
            gone[name] = f"{file} is gone"
        elif known is not None and known != sha256_of_file(file):
            gone[name] = f"{file} is not the one that was scored"
    errors: dict[str, str] = record.get("errors", {})
    return gone | errors


def store_state(plan: Plan, fold: Fold, entries: Sequence[LedgerEntry] | None = None) -> None:
    """Write down that the training of a fold has ended; with the `entries` of `evaluate`, that it was scored too."""
    given = entries or ()
    state = {
        "budget": plain(plan.budget),
        "weights": sha256_of_file(fold.folder / BEST),
        "scores": None if entries is None else sha256_of_file(fold.scores),
        "errors": {entry.case_id: entry.error for entry in given if entry.error},
        "cases": {entry.case_id: entry.scan for entry in given if entry.scan},
    }
    write_json(fold.folder / _STATE, state)


def digests_of_fold(fold: Fold) -> dict[str, str]:
    """Return the hash of each case, scan and labels, as it was scored; the first folds have none."""
    found: dict[str, str] = json_mapping(fold.folder / _STATE).get("cases", {})
    return found


def plan_of_fold(plan: Plan, run: Path, fold: Fold) -> Plan:
    """Return the plan of a fold: its test cases are those that it holds out, and nothing validates.

    A case must not choose the epoch that is scored on it. The preparation is that of the run, as an ensemble has one;
    its volumes are shared by the folds. Predictions are not corrected: corrections are chosen on them.
    """
    held_out = set(fold.case_ids)
    train = tuple(name for name in patients_of_plan(plan) if name not in held_out)
    cache = plan.data.cache or str((run / CACHE).absolute())
    why = f"fold {fold.number}"
    return replace(
        plan,
        data=replace(plan.data, train=train, val=(), test=fold.case_ids, cache=cache),
        training=replace(plan.training, patience=None),
        inference=replace(plan.inference, keep_largest=False),
        reasons={
            **plan.reasons,
            "data.train": f"{why}: the cases of all other folds",
            "data.val": f"{why}: a case must not choose the epoch that is scored on it",
            "data.test": f"{why}: the cases that it holds out",
            "inference.keep_largest": "chosen on the predictions of all folds",
        },
    )
