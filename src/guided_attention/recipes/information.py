"""Tell what a run folder, a plan, a checkpoint, a saved predictor or a folder of scans holds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guided_attention._checks import require_path
from guided_attention._files import PathLike, json_mapping
from guided_attention._locks import LOCK
from guided_attention.data import open_cohort
from guided_attention.errors import CheckpointError, MissingFileError
from guided_attention.inference import read_ledger
from guided_attention.inference.ledger import LEDGER
from guided_attention.inference.saved import ENSEMBLE, PREDICTOR_FILE, changed_folds
from guided_attention.recipes._folds import folds_of_run
from guided_attention.recipes.plan import PLAN_FILE, Plan
from guided_attention.recipes.prediction import has_folds, plan_of_run
from guided_attention.training import load_checkpoint, read_log
from guided_attention.training.provenance import PROVENANCE
from guided_attention.training.run_folder import LAST, LOG, files_of_run

__all__ = ["info"]

_SCORE = "validation_score"
_CHECKPOINTS = (".pt", ".pth", ".ckpt")
_NEARLY = 0.9
"""A run ends before its last minute, as time for the validation is kept."""


def info(path: PathLike) -> dict[str, Any]:
    """Return what lies at a path, as plain values for JSON. Nothing is changed, and no volume is read.

    The key ``"kind"`` says what it is:

    * ``"run"``: ``plan`` (None for a run by hand), ``epochs``, ``minutes``, ``best_epoch``, ``best_score``,
      ``is_finished``, ``is_resumable``, ``locked_by`` and ``provenance``.
    * ``"folds"``: ``plan``, ``folds`` (a line about each), ``is_finished`` and ``is_finalized``.
    * ``"plan"``: ``plan``.
    * ``"checkpoint"`` and ``"predictor"``: ``network``, ``labels``, ``preparation``; ``epoch`` and ``score`` of a
      checkpoint.
    * ``"predictions"``: ``cases`` with the status of each.
    * ``"cohort"``: ``layout``, ``labels``, ``channel_names``, ``cases``, ``labelled`` and ``parts``.

    Args:
        path: A folder or file.

    Raises:
        MissingFileError: There is nothing of this name.
        DataError, CheckpointError: The file is damaged, or the folder is none of these.

    Example:
        >>> import tempfile
        >>> from guided_attention.data import write_phantom_cohort
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = info(write_phantom_cohort(folder, subjects=2, size=16))
        >>> found["kind"], found["layout"], found["cases"]
        ('cohort', 'chaos', ['1', '2'])
    """
    root = require_path("path", path)
    if not root.exists():
        message = f"`path` must be an existing file or folder, got {root}."
        raise MissingFileError(message, argument="path", file=root)
    if root.is_dir():
        return _of_folder(root)
    if root.suffix in _CHECKPOINTS:
        return _of_checkpoint(root)
    if root.suffix == ".json":
        return {"kind": "plan", "path": str(root), "plan": Plan.load(root).to_dict()}
    return _of_cohort(root)


def _of_folder(root: Path) -> dict[str, Any]:
    if has_folds(root):
        return _of_folds(root)
    if files_of_run(root) or (root / PLAN_FILE).exists():
        return _of_run(root)
    if (root / PREDICTOR_FILE).is_file():
        return _of_predictor(root)
    if (root / LEDGER).is_file():
        cases = {entry.case_id: entry.error or entry.status for entry in read_ledger(root)}
        return {"kind": "predictions", "path": str(root), "cases": cases}
    return _of_cohort(root)


def _of_run(root: Path) -> dict[str, Any]:
    plan = plan_of_run(root)
    rows = read_log(root / LOG) if (root / LOG).is_file() else []
    best = _best(rows)
    last = rows[-1] if rows else {}
    provenance = json_mapping(root / PROVENANCE)
    return {
        "kind": "run",
        "path": str(root),
        "plan": None if plan is None else plan.to_dict(),
        "epochs": int(last.get("epoch", 0)),
        "minutes": last.get("minutes", 0.0),
        "best_epoch": None if best is None else int(best["epoch"]),
        "best_score": None if best is None else best[_SCORE],
        "is_finished": _is_finished(plan, provenance, last),
        "is_resumable": (root / LAST).is_file(),
        "locked_by": json_mapping(root / LOCK) or None,
        "provenance": provenance or None,
    }


def _of_folds(root: Path) -> dict[str, Any]:
    folds = folds_of_run(root)
    return {
        "kind": "folds",
        "path": str(root),
        "plan": Plan.load(root).to_dict(),
        "folds": [str(fold) for fold in folds],
        "is_finished": not any(fold.missing for fold in folds),
        "is_finalized": (root / ENSEMBLE / PREDICTOR_FILE).is_file() and not changed_folds(root),
    }


def _best(rows: Sequence[Mapping[str, float]]) -> Mapping[str, float] | None:
    """Return the row of the highest score, of equal ones the first."""
    scored = [row for row in rows if not math.isnan(row.get(_SCORE, math.nan))]
    return max(scored, key=lambda row: row[_SCORE], default=None)


def _is_finished(plan: Plan | None, provenance: Mapping[str, Any], last: Mapping[str, float]) -> bool:
    """Whether the epochs or the minutes are used up; a run that stopped early counts as unfinished.

    They are those of the plan, or of ``run.json`` for the run of a `Trainer`.
    """
    settings = provenance.get("settings", {})
    epochs = settings.get("max_epochs", math.inf) if plan is None else plan.budget.epochs
    minutes = settings.get("max_minutes") if plan is None else plan.budget.minutes
    spent = minutes is not None and last.get("minutes", 0.0) >= _NEARLY * minutes
    return last.get("epoch", 0.0) >= epochs or spent


def _of_checkpoint(path: Path) -> dict[str, Any]:
    held = load_checkpoint(path)
    known = held.get("metadata")
    about = {"kind": "checkpoint", "path": str(path), "epoch": held.get("epoch"), "score": held.get("score")}
    return about | _known(known if isinstance(known, Mapping) else {})


def _of_predictor(root: Path) -> dict[str, Any]:
    known = json_mapping(root / PREDICTOR_FILE)
    if not known:
        message = f"`path` must be a folder that `Predictor.save` wrote, got {root} with a damaged {PREDICTOR_FILE}."
        raise CheckpointError(f"{message} Copy the folder again.", argument="path", file=root)
    return {"kind": "predictor", "path": str(root)} | _known(known)


def _known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "network": metadata.get("model"),
        "labels": metadata.get("labels"),
        "preparation": metadata.get("preparation"),
    }


def _of_cohort(root: Path) -> dict[str, Any]:
    cohort = open_cohort(root)
    return {
        "kind": "cohort",
        "path": str(root),
        "layout": cohort.layout,
        "labels": None if cohort.labels is None else cohort.labels.to_dict(),
        "channel_names": list(cohort.channel_names),
        "cases": list(cohort.case_ids),
        "labelled": list(cohort.labelled),
        "parts": {part: list(names) for part, names in cohort.parts.items()},
    }
