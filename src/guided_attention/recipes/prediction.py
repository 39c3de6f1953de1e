"""Prediction with a trained run: a folder of label volumes, and a ledger of what is done."""

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from guided_attention._checks import cut_list, repeated, require, require_path
from guided_attention._files import PathLike
from guided_attention.case import Case
from guided_attention.data import Cohort, Opening
from guided_attention.data.layouts._records import PARTS, part_folders
from guided_attention.errors import ArgumentError, DataError, MissingFileError
from guided_attention.inference import ExtraFile, LedgerEntry, Predictor, Shard
from guided_attention.inference.saved import FOLDS_FILE
from guided_attention.labels import LabelSpec
from guided_attention.recipes._begun import changed_parts
from guided_attention.recipes._cases import Reader, Source, cases_of_plan, source_of
from guided_attention.recipes._held_out import cases_of_run
from guided_attention.recipes.plan import PLAN_FILE, Plan
from guided_attention.training.run_folder import BEST

__all__ = [
    "has_folds",
    "in_series",
    "plan_of_run",
    "predict",
    "predict_shard",
    "predictor_of_run",
    "require_apart",
    "require_as_trained",
    "source_for_run",
]

_LEARNED = ("labels", "preparation", "network", "inference")
"""Parts of a plan that a trained network keeps with its weights."""

_OF_ALL_FOLDERS = ("pairs", "dicom")
"""Layouts that take volumes in the folders right below theirs for scans."""

_DICOM_KINDS = frozenset({"dicom-seg", "rtstruct"})
"""Files of predictions that are found as masks in folders of any depth."""

Scans = PathLike | Sequence[PathLike | Cohort] | Cohort | Sequence[Case]
"""A file or folder, a cohort, a list of these, or cases in memory."""


def predict(
    run: PathLike,
    scans: Scans | None,
    out: PathLike,
    *,
    device: str = "auto",
    also: Sequence[ExtraFile] = (),
    resume: bool = False,
    overwrite: bool = False,
    on_case: Callable[[LedgerEntry], None] | None = None,
) -> list[LedgerEntry]:
    """Predict scans with a trained run, each on its own grid.

    The network is loaded once, and one scan is read while another is predicted. A scan that cannot be read or predicted
    is listed as failed, and the others are done.

    Args:
        run: A run folder, a checkpoint with metadata, or a folder of `Predictor.save`. A run of folds predicts with its
            ensemble, see `finalize`.
        scans: A file, a folder in one of the layouts of `guided_attention.data.open_cohort`, or the folder of a DICOM
            series; a `Cohort`; a list of these; or cases. None predicts the test cases of the run's plan, or the
            validation cases where it has no test cases; folds have none.
        out: Folder to write ``<case_id>_prediction.nii.gz`` and the ledger to; created where it is missing. It must be
            apart from the scans: predictions there would be scans when the folder is opened again.
        device: A torch device, or ``"auto"`` for a GPU if there is one.
        also: Other files to write, ``"uncertainty"``, ``"dicom-seg"`` or ``"rtstruct"``: see
            `guided_attention.inference.save_prediction`.
        resume: Continue in a folder of predictions: cases that are complete are skipped.
        overwrite: Discard the predictions that the ledger of the folder names, or that are of these cases.
        on_case: Called with the entry of each case when it is settled.

    Returns:
        One entry a case, in their order: done, skipped or failed, with files or error.

    Raises:
        MissingFileError: There is no run, or no scan of this name.
        DataError: A folder of scans has no known layout. Or `scans` is None, and cases of the plan were moved since the
            training.
        CheckpointError: The weights are damaged.
        ExistingFileError: `out` holds predictions, and neither `resume` nor `overwrite` is set; or files of such names
            that its ledger does not name.
        ArgumentError: There is neither `scans` nor a plan, two scans have one name, or `out` is a folder of the scans.

    Warns:
        SpacingWarning, IntensityWarning: A scan is unlike those that the network was trained on.
        UserWarning: ``plan.json`` has other values than the run was begun with.
    """
    predictor = predictor_of_run(run, device)
    readers = _readers(run, scans, predictor.labels, out, also)
    return predictor.predict_to(
        out,
        readers,
        also=also,
        resume=resume,
        overwrite=overwrite,
        on_case=on_case,
    )


def predict_shard(
    run: PathLike,
    scans: Scans | None,
    out: PathLike,
    shard: Shard,
    *,
    device: str = "auto",
    also: Sequence[ExtraFile] = (),
    resume: bool = False,
    on_case: Callable[[LedgerEntry], None] | None = None,
) -> list[LedgerEntry]:
    """Predict one of several parts of the scans, into a folder within `out`; each process has one.

    Scans of other shards are not read. When all shards are done, `guided_attention.inference.merge_shards` leaves in
    `out` what `predict` would have.

    Args:
        run: See `predict`; so are `scans`, `device`, `also` and `on_case`.
        scans: The scans of all shards.
        out: The folder of all shards.
        shard: The part to predict, such as ``Shard.from_environment()`` under ``torchrun`` or in a SLURM array.
        device: A torch device, or ``"auto"`` for a GPU if there is one, another for each process of ``torchrun``.
        also: Other files to write.
        resume: Continue this shard: cases that are complete are skipped.
        on_case: Called with the entry of each case when it is settled.

    Returns:
        One entry a case of the shard.

    Raises:
        ExistingFileError: The shard was begun, and `resume` is not set.
        DataError: `out` holds shards of another number, or is merged already.
        MissingFileError, CheckpointError, ArgumentError: See `predict`.
    """
    predictor = predictor_of_run(run, device)
    readers = _readers(run, scans, predictor.labels, out, also)
    return predictor.predict_to(out, readers, also=also, resume=resume, shard=shard, on_case=on_case)


def _readers(
    run: PathLike, scans: Scans | None, labels: LabelSpec, out: PathLike, also: Sequence[ExtraFile] = ()
) -> list[Reader]:
    plan = plan_of_run(run)
    if scans is None:
        if plan is None:
            message = (
                f"`scans` must be given for a run without a plan, got None for {run}. Name a file or folder."
            )
            raise ArgumentError(message, argument="scans")
        require_as_trained(run, plan)
        names = plan.data.test or (() if has_folds(run) else plan.data.val)
        cure = "Name a file or folder."
        require(bool(names), "scans", "given for a run without test cases", None, cure)
        source = cases_of_plan(plan, labels=labels, image_only=True)
        require_apart(out, source.cohort, also)
        return source.readers(names)
    if plan is not None and _has_other_data(require_path("run", run), plan):
        warnings.warn(
            f"{PLAN_FILE} in {run} has other values of data than the run was begun with: scans are opened as it says "
            "now. Put back what was changed.",
            UserWarning,
            stacklevel=3,
        )
    sources = [source_for_run(plan, part, labels, image_only=True) for part in _in_parts(scans)]
    twice = repeated(name for source in sources for name in source.case_ids)
    cure = "Rename one: its prediction would replace the other."
    require(not twice, "scans", "of different names", f"{cut_list(twice)} more than once", cure)
    for source in sources:
        require_apart(out, source.cohort, also)
    return [reader for source in sources for reader in source.readers(source.case_ids)]


def require_apart(out: PathLike, cohort: Cohort | None, also: Sequence[ExtraFile] = ()) -> None:
    """Raise where predictions would become scans of the folder, when it is opened again."""
    if cohort is None or not cohort.folder.is_dir():  # a file or a table names its scans
        return
    target, root = require_path("out", out).resolve(), cohort.folder.resolve()
    paths = {path for scan in cohort.scans for path in (scan.path, *scan.beside)}
    places = {path.resolve() for path in paths | {path.parent for path in paths}}
    if cohort.layout in _OF_ALL_FOLDERS:
        is_among = target in places or _is_searched(target, cohort.folder, also)
    else:
        is_among = target == root or target in places
    wanted, cure = "a folder apart from the scans", "Predictions would become scans. Name another folder."
    require(not is_among, "out", wanted, f"{out}, and scans of {cohort.folder}", cure, file=out)


def _is_searched(target: Path, folder: Path, also: Sequence[ExtraFile]) -> bool:
    """Return whether files there are found: NIfTI in the folders right below, DICOM in those of any depth.

    Where there are folders of parts, such as ``train``, these are searched in place of the folder.
    """
    root = folder.resolve()
    names = target.relative_to(root).parts if target.is_relative_to(root) else (".",)
    if any(name.startswith((".", "__")) for name in names):
        return False
    is_in_part = bool(names) and names[0].lower() in PARTS
    if not is_in_part and part_folders(folder):
        return False
    return len(names) <= 1 + is_in_part or bool(_DICOM_KINDS.intersection(also))


def _in_parts(scans: Scans) -> list[object]:
    """Return paths one after another; a path, a cohort or a list of cases is one part."""
    if isinstance(scans, (list, tuple)) and any(
        isinstance(part, (str, os.PathLike, Cohort)) for part in scans
    ):
        return list(scans)
    return [scans]


def predictor_of_run(run: PathLike, device: str) -> Predictor:
    """Return what predicts scans: the trained network of a run, or the ensemble of its folds.

    A run that has a plan but no weights yet is an error that says so.
    """
    folder = require_path("run", run)
    is_plain = (folder / PLAN_FILE).is_file() and not has_folds(folder)
    if is_plain and not (folder / BEST).is_file():
        message = (
            f"`run` must be a trained run, got {folder}, which has a plan and no {BEST} yet. Train it first."
        )
        raise MissingFileError(message, argument="run", file=folder)
    if is_plain:
        _warn_of_changes(folder)
    return Predictor.load(run, device=device)


def _warn_of_changes(folder: Path) -> None:
    changed = [part for part in changed_parts(folder, Plan.load(folder)) or () if part in _LEARNED]
    if changed:
        warnings.warn(
            f"{PLAN_FILE} in {folder} has other values of {cut_list(changed)} than the run was begun with. This "
            "changes nothing: scans are predicted as the network was trained. `Predictor` in Python takes others.",
            UserWarning,
            stacklevel=4,
        )


def require_as_trained(run: PathLike, plan: Plan) -> None:
    """Raise where the cases of the plan in a run, or how they are read, are others than in the training."""
    folder = require_path("run", run)
    wanted = f"a run whose {PLAN_FILE} is as it was trained"
    cure = "Put back what was changed: a case that was trained on could be taken for one of the test."
    same, got = not _has_other_data(folder, plan), f"{folder}, with other values of data"
    require(same, "run", wanted, got, cure, error=DataError, file=folder)
    if has_folds(folder):
        cases_of_run(folder, plan)  # raises where they are no longer those of the plan


def _has_other_data(folder: Path, plan: Plan) -> bool:
    return "data" in (changed_parts(folder, plan) or ())


def has_folds(run: PathLike) -> bool:
    """Return whether a run is one of folds, which have seen all its cases but those of the test."""
    return (require_path("run", run) / FOLDS_FILE).is_file()


def plan_of_run(run: PathLike) -> Plan | None:
    """Return the plan in a run folder; None where there is none, as in the runs of a `Trainer` by hand."""
    folder = require_path("run", run)
    return Plan.load(folder) if (folder / PLAN_FILE).is_file() else None


def in_series(run: PathLike, scans: Sequence[PathLike], series: str) -> list[Cohort]:
    """Open scans as for a run, with this series of DICOM folders that hold several; at least one must be of DICOM."""
    plan = plan_of_run(run)
    known, labels = (Opening(), None) if plan is None else (plan.data.opening, plan.labels)
    openings = [
        replace(known, layout="auto", channels=known.channels if Path(path).is_dir() else None, series=series)
        for path in scans
    ]
    cohorts = [opening.open(path, labels) for opening, path in zip(openings, scans, strict=True)]
    files = (path for cohort in cohorts for scan in cohort.scans for path in (scan.path, *scan.beside))
    wanted = "left out where no scan is a folder of DICOM"
    require(any(path.is_dir() for path in files), "--series", wanted, repr(series), "Or check SCANS.")
    return cohorts


def source_for_run(
    plan: Plan | None, scans: object, labels: LabelSpec, *, image_only: bool = False
) -> Source:
    """Return scans in the layout that a run was trained on, where the folder has it: CHAOS has four kinds of MR.

    Files of channels are found by the endings of training, or by the names of the channels there, and called as there.
    """
    if plan is None or not isinstance(scans, (str, os.PathLike)):
        return source_of(scans, labels, image_only=image_only)
    layout, known = plan.data.layout, plan.data.opening
    names = () if plan.preparation.fingerprint is None else plan.preparation.fingerprint.channel_names
    channels = known.channels if Path(scans).is_dir() else None
    opening = replace(known, layout="auto", channels=channels)
    if ":" in layout:  # a scan of CHAOS that may be there where the usual one is missing
        with suppress(DataError):
            return source_of(scans, labels, opening=replace(opening, layout=layout), image_only=image_only)
    found = _found_by_channels(scans, labels, opening, names, image_only=image_only)
    if layout.partition(":")[0] == found.layout.partition(":")[0] and layout != found.layout:
        opening = replace(opening, layout=layout)
        return source_of(scans, labels, opening=opening, image_only=image_only)
    if not names or found.cohort is None or found.cohort.opening.channels is None:
        return found
    own, ends = found.cohort.channel_names, found.cohort.opening.channels
    is_unnamed = not own or own == ends == known.channels
    return replace(found, read=partial(_named, found.read, names)) if is_unnamed else found


def _found_by_channels(
    scans: PathLike, labels: LabelSpec, opening: Opening, names: tuple[str, ...], *, image_only: bool
) -> Source:
    """Return scans whose channels are found by the endings of training, else by the names that they had there."""
    try:
        return source_of(scans, labels, opening=opening, image_only=image_only)
    except DataError:
        if not opening.channels or not names:
            raise
        with suppress(DataError):
            by_name = replace(opening, channels=names)
            return source_of(scans, labels, opening=by_name, image_only=image_only)
        raise


def _named(read: Callable[[str], Case], names: tuple[str, ...], case_id: str) -> Case:
    return replace(read(case_id), channel_names=names)
