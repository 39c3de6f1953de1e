"""The end of a run of folds: scores of all cases, corrections chosen on them, and one folder with all networks."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guided_attention._checks import require, require_path
from guided_attention._files import DRAFT_PREFIX, PathLike, sha256_of_file, whole_folder, write_json
from guided_attention._locks import locked_folder
from guided_attention.case import Case
from guided_attention.errors import DataError
from guided_attention.evaluation import CaseScore, evaluate_prediction, mean_dice, read_scores
from guided_attention.inference import PostProcessing, Predictor, choose_postprocessing
from guided_attention.inference.saved import ENSEMBLE, MEMBER, PREDICTOR_FILE, SOURCES
from guided_attention.labels import LabelSpec
from guided_attention.recipes._cases import Source, cases_of_plan
from guided_attention.recipes._folds import Fold, digests_of_fold, folds_of_run
from guided_attention.recipes._held_out import patients_of_plan
from guided_attention.recipes._volumes import CACHE
from guided_attention.recipes.plan import Plan
from guided_attention.recipes.scoring import read_prediction, write_scores
from guided_attention.sampling.cache import digest_of
from guided_attention.training.run_folder import BEST

__all__ = ["finalize"]


def finalize(run: PathLike, *, take_over: bool = False) -> list[CaseScore]:
    """Score every case by the network that has not seen it, and join the networks of all folds into one predictor.

    Post-processing is chosen on these predictions, see `guided_attention.inference.choose_postprocessing`. Into the
    run folder go ``scores.csv``, ``scores.json`` and ``scores.txt``, with that post-processing, and ``ensemble``, which
    `predict` and `Predictor.load` use from then on. A second call gives the same files.

    Args:
        run: A run of `train_folds`.
        take_over: Whether to take the lock of a process that is dead, see `Trainer.fit`.

    Returns:
        The scores, one row a case and organ.

    Raises:
        MissingFileError: The folder has no folds.
        DataError: Folds are unfinished; the message names each, and the cases without scores. Or a file is damaged, or
            a scan or its labels have changed since its prediction was scored.
        ExistingFileError: Another process finalizes the run.

    Example:
        >>> import tempfile
        >>> finalize(tempfile.mkdtemp())
        Traceback (most recent call last):
        guided_attention.errors.MissingFileError: `run` must be a run of folds, got /..., which has no folds.json...
    """
    folder = require_path("run", run)
    folds = folds_of_run(folder)
    _require_finished(folder, folds)
    plan = Plan.load(folder)
    source = cases_of_plan(plan)
    source.require(list(patients_of_plan(plan)))
    with locked_folder(folder, argument="run", doing="finalizing", take_over=take_over):
        chosen = _corrections(folds, source, plan.labels)
        before = [row for fold in folds for row in read_scores(fold.scores)]
        rows = before if chosen == PostProcessing() else _scores(folds, source, plan.labels, chosen)
        place = {name: number for number, name in enumerate(source.case_ids)}
        rows.sort(key=lambda row: place[row.case_id])
        _write_ensemble(folder, folds, chosen)  # first: it raises where the folder holds files of others
        write_scores(folder, rows, _about(folds, plan.labels, chosen, mean_dice(before), mean_dice(rows)))
        shutil.rmtree(folder / CACHE, ignore_errors=True)
    return rows


def _require_finished(folder: Path, folds: Sequence[Fold]) -> None:
    unfinished = [str(fold) for fold in folds if fold.missing]
    got = f"{folder} with {'; '.join(unfinished)}"
    cure = "Finish them: `train_folds(run, folds=N, resume=True)`."
    require(not unfinished, "run", "a run of finished folds", got, cure, error=DataError, file=folder)


def _corrections(folds: Sequence[Fold], source: Source, labels: LabelSpec) -> PostProcessing:
    """Choose post-processing; memory holds one case."""
    names = [(fold, name) for fold in folds for name in fold.case_ids]
    predictions = (read_prediction(name, fold.predictions).labels for fold, name in names)
    cases = (_unchanged(source.read(name), fold, source) for fold, name in names)
    references = (case.labels for case in cases if case.labels is not None)
    return choose_postprocessing(predictions, references, labels)


def _unchanged(case: Case, fold: Fold, source: Source) -> Case:
    """Return a case; raise where its scan or labels are others than when its prediction was scored."""
    known = digests_of_fold(fold).get(case.case_id)
    where, wanted = (
        f"case {case.case_id!r} of {source.folder}",
        f"as it was when {fold.folder.name} was scored",
    )
    cure = f"Put it back; or delete {fold.scores} and continue: `train_folds(run, folds=N, resume=True)`."
    good, got = known is None or known == digest_of(case), "another scan or other labels"
    require(good, where, wanted, got, cure, error=DataError, file=source.folder)
    return case


def _scores(
    folds: Sequence[Fold], source: Source, labels: LabelSpec, chosen: PostProcessing
) -> list[CaseScore]:
    rows: list[CaseScore] = []
    for fold in folds:
        for name in fold.case_ids:
            raw = read_prediction(name, fold.predictions)
            corrected = replace(raw, labels=chosen.apply(raw.labels))
            rows += evaluate_prediction(corrected, source.read(name), labels)
    return rows


def _about(
    folds: Sequence[Fold], labels: LabelSpec, chosen: PostProcessing, before: float, after: float
) -> str:
    cases = sum(len(fold.case_ids) for fold in folds)
    kept = [labels.names[value] for value in chosen.keep_largest]
    parts = [*(["all organs as one"] if chosen.foreground_as_one else []), *kept]
    said = (
        f"Post-processing chosen on them: only the largest component of {', then '.join(parts)}; "
        f"mean Dice {before:.4f} without, {after:.4f} with"
        if parts
        else "No post-processing raises their mean Dice"
    )
    return f"{cases} cases, each predicted by the network of {len(folds)} that has not seen it\n{said}"


def _write_ensemble(folder: Path, folds: Sequence[Fold], chosen: PostProcessing) -> None:
    for draft in folder.glob(f"{DRAFT_PREFIX}*.{ENSEMBLE}"):  # of a process that was killed here
        shutil.rmtree(draft)
    weights = {fold.folder.name: sha256_of_file(fold.folder / BEST) for fold in folds}
    ensemble = _joined(folds, chosen)

    def fill(draft: Path) -> None:
        ensemble.save(draft)
        write_json(draft / SOURCES, weights)

    held = (PREDICTOR_FILE, SOURCES, *(MEMBER.format(fold.number) for fold in folds))
    whole_folder(folder / ENSEMBLE, fill, replaceable=held)


def _joined(folds: Sequence[Fold], chosen: PostProcessing) -> Predictor:
    """Return the networks of all folds as one predictor; raise where one needs another preparation."""
    first, *others = (Predictor.load(fold.folder, device="cpu") for fold in folds)
    for fold, other in zip(folds[1:], others, strict=True):
        good = (other.preparation, other.labels) == (first.preparation, first.labels)
        wanted, got = f"prepared and labelled as {folds[0].folder}", "another preparation or other labels"
        cure = "Train the folds of one plan into a new folder."
        require(good, f"{fold.folder}", wanted, got, cure, error=DataError, file=fold.folder)
    networks = [network for one in (first, *others) for network in one.members]
    return replace(first, model=networks, postprocess=chosen, device=None)
