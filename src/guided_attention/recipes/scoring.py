"""Scores of a run: predictions against references, as tables."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from guided_attention._checks import counted, cut_list, require, require_path
from guided_attention._files import PathLike, made_folder, replacing
from guided_attention.case import Case, whole_labels
from guided_attention.data import Cohort, read_nifti
from guided_attention.errors import (
    ArgumentError,
    DataError,
    ExistingFileError,
    GuidedAttentionError,
    MissingFileError,
)
from guided_attention.evaluation import (
    CaseScore,
    definitions,
    evaluate_prediction,
    format_table,
    read_scores,
    summarize,
    write_scores_csv,
    write_scores_json,
)
from guided_attention.inference import LedgerEntry, Predictor
from guided_attention.inference.ledger import LedgerStatus
from guided_attention.labels import LabelSpec
from guided_attention.outputs import Prediction
from guided_attention.recipes._cases import Reader, Source, cases_of_plan
from guided_attention.recipes.plan import Plan
from guided_attention.recipes.prediction import (
    has_folds,
    plan_of_run,
    predictor_of_run,
    require_apart,
    require_as_trained,
    source_for_run,
)
from guided_attention.sampling.cache import digest_of

__all__ = [
    "EVALUATION",
    "PREDICTIONS",
    "SCORES",
    "TABLE",
    "evaluate",
    "read_prediction",
    "scores_folder",
    "write_scores",
]

SCORES = "scores.txt"
"""The table, with what was scored and what was not."""
TABLE = "scores.csv"
"""The scores of each case and organ."""
EVALUATION, PREDICTIONS = "evaluation", "predictions"
"""Folder of the scores in a run folder, and of the predictions in that."""
_SEEN = ", of which "
_ENDINGS = ("_prediction.nii.gz", ".nii.gz", "_prediction.nii", ".nii")


def evaluate(
    run: PathLike,
    cases: PathLike | Cohort | Sequence[Case] | None = None,
    *,
    predictions: PathLike | None = None,
    out: PathLike | None = None,
    device: str = "auto",
    on_case: Callable[[LedgerEntry], None] | None = None,
) -> list[CaseScore]:
    """Score a run on cases with a reference: predict them, or read their predictions, and compare.

    Writes ``scores.csv``, ``scores.json`` and ``scores.txt``, a table that also says which cases were scored and which
    were not, whose predictions they are, and how distances were measured.

    Args:
        run: A run folder, a checkpoint with metadata, or a folder of `Predictor.save`.
        cases: A folder, a `Cohort` or cases; those without a reference are listed and not scored. None takes the test
            cases of the run's plan, or its validation cases where no test case has a reference.
        predictions: Folder that holds the predictions as ``<case_id>_prediction.nii.gz`` or ``<case_id>.nii.gz``; None
            predicts into ``<out>/predictions``, where complete predictions of this run are used again.
        out: Folder to write to; None is ``evaluation`` in the run folder, and ``evaluation-NAME`` for `cases` in a
            folder NAME.
        device: A torch device, or ``"auto"`` for a GPU if there is one.
        on_case: Called with an entry for each case when it is scored, with the hash of its scan and labels, or failed,
            with its error.

    Returns:
        The rows of all cases that could be scored, one a case and organ.

    Raises:
        MissingFileError: There is no run, its folds are not finalized, or there is no folder of this name.
        DataError: No case has a reference, or no case could be scored. The layout or the `Cohort` has other names for
            the values of the run's organs, or other values for their names. Or cases of the plan were moved since the
            training.
        ArgumentError: There is neither `cases` nor a plan, `out` is needed or among the scans, or `predictions` has
            none of the cases.
        ExistingFileError: `out` is None, and scores would be lost: those of another folder of the name of `cases`, or
            of cases that are not among these. Or see `predict`.
        CheckpointError: See `predict`.
    """
    predictor = predictor_of_run(run, device)
    source, names, about = _chosen(run, cases, predictor.labels)
    given = None if predictions is None else _existing(predictions)
    if given is not None and cases is None:
        held = any(_files_in(given, name) for name in names)
        wanted, got = f"a folder with predictions of {cut_list(names)}", f"{given}, which has none of them"
        cure = "These are the cases with a reference. Leave predictions out: then they are predicted too."
        require(held, "predictions", wanted, got, cure, file=given)
    if out is not None and given is None:
        require_apart(require_path("out", out) / PREDICTIONS, source.cohort)
    target = scores_folder(run, out, cases)
    if out is None and cases is not None:
        _require_none_lost(target, source, names)
    about += "" if given is None else f"; predictions in {given}, not made by this command"
    scoring = _Scoring(source, predictor.labels, about, on_case)
    folder = target / PREDICTIONS if given is None else given
    if given is None:
        entries = _predicted(predictor, source.readers(names), folder, is_ours=out is None)
        failed = {name: entry.error for name, entry in zip(names, entries, strict=True)}
        scoring.failures = {name: error for name, error in failed.items() if error}
    scoring.score(names, folder)
    scoring.write(target)
    return scoring.rows


def _chosen(run: PathLike, cases: object, labels: LabelSpec) -> tuple[Source, list[str], str]:
    """Return the cases to score, and a line about them."""
    plan = plan_of_run(run)
    if plan is not None:
        require_as_trained(run, plan)
    if cases is not None:
        source = source_for_run(plan, cases, labels)
        names, part = source.case_ids, f"{_share(source, cases)} of {_place(source)}{_seen(plan, source)}"
    elif plan is None:
        message = f"`cases` must be given for a run without a plan, got None for {run}. Name a folder."
        raise ArgumentError(message, argument="cases")
    else:
        source = cases_of_plan(plan, labels=labels)
        with_reference = set(source.labelled) & set(plan.data.test)
        names, part = (plan.data.test, "test") if with_reference else (plan.data.val, "validation, not test")
        is_new = bool(with_reference) or not has_folds(run)
        cure = f"Name other scans. {TABLE} in the run has scores of each case by the network that has not seen it."
        got = "a run whose other cases trained its folds"
        require(is_new, "cases", "given where no test case has a reference", got, cure)
        source.readers(names)  # raises where one is gone
    scored = [name for name in names if name in source.labelled]
    rest = [name for name in names if name not in source.labelled]
    require(bool(scored), "cases", "with a reference", f"{len(names)} without any", error=DataError)
    about = f"{counted(len(scored), 'case')} ({part})" + (
        f"; without a reference: {cut_list(rest)}" if rest else ""
    )
    return source, scored, about


def scores_folder(run: PathLike, out: PathLike | None, cases: object) -> Path:
    """Return the folder that `evaluate` writes to, which is made: other cases have one of their own."""
    if out is not None:
        return made_folder(out, "out")
    folder = require_path("run", run)
    wanted, cure = "given where the run is no folder", "Name a folder for the scores."
    require(folder.is_dir(), "out", wanted, None, cure)
    if cases is None:
        return made_folder(folder / EVALUATION, "out")
    place = cases.folder if isinstance(cases, Cohort) else cases
    name = Path(place).resolve().name if isinstance(place, (str, os.PathLike)) else "cases"
    return made_folder(folder / f"{EVALUATION}-{name}", "out")


def _share(source: Source, cases: object) -> str:
    """Return how many cases these are of those that lie in their place."""
    if not isinstance(cases, Cohort):
        return "all"
    chosen = len(source.case_ids)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were said when the cohort was opened
            total = len(cases.opening.open(cases.folder, cases.labels).case_ids)
    except (GuidedAttentionError, OSError):  # of files that are not scored
        return str(chosen)
    return "all" if chosen == total else f"{chosen} of {total}"


def _place(source: Source) -> str:
    return source.folder or "the list"


def _seen(plan: Plan | None, source: Source) -> str:
    """Return which cases trained the run. Their names tell: the scans may lie in another folder by now."""
    known = () if plan is None else (*plan.data.train, *plan.data.val)
    names = sorted(set(known) & set(source.case_ids))
    if plan is None or not names:
        return ""
    is_known = source.folder is not None and source.folder == plan.data.folder
    said = (
        ("was", "were")
        if is_known
        else ("has the name of a case that was", "have the names of cases that were")
    )
    return f"{_SEEN}{counted(len(names), *said)} trained or validated on: {cut_list(names)}"


def _require_none_lost(target: Path, source: Source, names: Sequence[str]) -> None:
    """Raise where scores would be replaced that are of a folder of the same name, or of cases that are left out now."""
    place = target / SCORES
    told = place.read_text(encoding="utf-8").partition("\n")[0] if place.is_file() else ""
    if not told:
        return
    table, cure = target / TABLE, "Name a folder for the scores, or delete that one."
    try:
        known = {row.case_id for row in read_scores(table)} if table.is_file() else set()
    except GuidedAttentionError as error:
        message = f"`out` must be given where {table} cannot be read, got None. {cure}"
        raise ExistingFileError(message, argument="out", file=target) from error
    same = any(f" of {_place(source)}{end}" in told for end in (")", _SEEN))
    lost = sorted(known - set(names)) if same else []
    what, whose = (
        (f"cases without {cut_list(lost)}", "them") if same else ("a second folder of this name", "another")
    )
    if lost or not same:
        message = f"`out` must be given for {what}, got None, and {target} has scores of {whose}."
        raise ExistingFileError(f"{message} {cure}", argument="out", file=target)


def _existing(predictions: PathLike) -> Path:
    folder = require_path("predictions", predictions)
    if not folder.is_dir():
        message = f"`predictions` must be an existing folder, got {folder}."
        raise MissingFileError(message, argument="predictions", file=folder)
    return folder


def _predicted(
    predictor: Predictor, readers: Sequence[Reader], folder: Path, *, is_ours: bool
) -> list[LedgerEntry]:
    """Predict what is not complete. A folder of ours is emptied where an earlier state filled it."""
    try:
        return predictor.predict_to(folder, readers, resume=True)
    except (DataError, ExistingFileError):  # such as a ledger that is damaged, or gone
        if not is_ours:
            raise
        return predictor.predict_to(folder, readers, overwrite=True)


@dataclass
class _Scoring:
    """Scores cases one after another, and lists those that cannot be."""

    source: Source
    labels: LabelSpec
    about: str
    on_case: Callable[[LedgerEntry], None] | None
    rows: list[CaseScore] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def score(self, names: Sequence[str], folder: Path) -> None:
        for name in names:
            digest = ""
            if name not in self.failures:
                try:
                    case = self.source.read(name)
                    self.rows += evaluate_prediction(read_prediction(name, folder), case, self.labels)
                    digest = digest_of(case)
                except (GuidedAttentionError, OSError) as error:
                    self.failures[name] = f"{type(error).__name__}: {error}"
            if self.on_case is not None:
                error_text = self.failures.get(name, "")
                status: LedgerStatus = "failed" if error_text else "done"
                self.on_case(LedgerEntry(name, status, error=error_text, scan=digest))
        wanted, got = "cases that can be scored", "; ".join(self._lines)
        require(bool(self.rows), "cases", wanted, f"none: {got}", error=DataError)

    @property
    def _lines(self) -> Iterator[str]:
        return (f"{name} failed: {error}" for name, error in self.failures.items())

    def write(self, target: Path) -> None:
        write_scores(target, self.rows, self.about, list(self._lines))


def write_scores(target: Path, rows: Sequence[CaseScore], about: str, notes: Sequence[str] = ()) -> None:
    """Write the rows as tables, and their summary between a line about them, and one about distances and notes."""
    write_scores_csv(target / TABLE, rows)
    write_scores_json(target / "scores.json", rows)
    measured = f"How distances were measured: {definitions(rows)}."
    text = "\n".join([about, "", format_table(summarize(rows)), "", measured, *notes])
    with replacing(target / SCORES) as draft:
        draft.write_text(text.rstrip() + "\n", encoding="utf-8")


def read_prediction(case_id: str, folder: Path) -> Prediction:
    """Return the prediction of a case from its file."""
    files = _files_in(folder, case_id)
    if not files:
        name = f"{case_id}{_ENDINGS[0]}"
        message = f"`predictions` must hold {name}, got {folder} without it. Predict this case first."
        raise MissingFileError(message, argument="predictions", file=folder)
    found = files[0]
    volume = read_nifti(found)
    values = whole_labels(volume.array, f"values of {found}", file=found)
    return Prediction(case_id, values, np.zeros(values.shape, np.float32), volume.affine)


def _files_in(folder: Path, case_id: str) -> list[Path]:
    """Return the files that may hold the prediction of a case, the likeliest first."""
    paths = (folder / f"{case_id}{ending}" for ending in _ENDINGS)
    return [path for path in paths if path.is_file()]
