"""Training of a plan, into a run folder that needs nothing else to be resumed."""

from collections.abc import Sequence
from pathlib import Path

import torch

from guided_attention._checks import cut_list, require, require_path
from guided_attention._distributed import by_first, join, rank, together, world_size
from guided_attention._files import PathLike, json_mapping, made_folder, sha256_of_json
from guided_attention._locks import locked_folder
from guided_attention.case import Case
from guided_attention.errors import ArgumentError, DataError, ExistingFileError, MissingFileError
from guided_attention.evaluation import Validation
from guided_attention.inference import Predictor
from guided_attention.inference.saved import FOLDS_FILE
from guided_attention.models import build
from guided_attention.recipes._begun import changed_parts, hashes_of_parts, keys_of_another_plan
from guided_attention.recipes._cases import Source, cases_of_plan
from guided_attention.recipes._curves import Curves
from guided_attention.recipes._initial import initial_weights, load_initial
from guided_attention.recipes._machine import device_of
from guided_attention.recipes._parts import (
    augmentation_of,
    loader_of,
    loss_of,
    optimizer_of,
    predictor_of,
    schedule_of,
)
from guided_attention.recipes._volumes import RunData, sweep
from guided_attention.recipes.plan import PLAN_FILE, Plan
from guided_attention.training import Trainer, TrainerConfig, TrainingResult, seed_everything
from guided_attention.training.progress import Progress
from guided_attention.training.provenance import PROVENANCE
from guided_attention.training.run_folder import files_of_run, require_no_run

__all__ = ["require_same_plan", "run_folder", "train"]


def train(
    plan: Plan | PathLike,
    run_dir: PathLike | None = None,
    *,
    cases: Sequence[Case] | None = None,
    resume: bool = False,
    init_from: PathLike | None = None,
    device: str = "auto",
    quiet: bool = False,
    take_over: bool = False,
) -> TrainingResult:
    """Train what a plan says, into a run folder.

    The folder holds ``plan.json``, the files of a `Trainer`, and ``curves.png`` if matplotlib is installed. A run is
    resumed with ``train(run_dir, resume=True)``: the plan and the scans are found again by themselves.

    Processes that ``torchrun`` has started train together, with the plan of the first, which writes the folder. Each
    computes its part of every batch. A run can be resumed with another number of them.

    Args:
        plan: A plan, or a folder that holds ``plan.json``.
        run_dir: Folder of the run, created if it is missing; None is the folder given as `plan`.
        cases: The cases, for a plan that was made for cases in memory.
        resume: Continue the run in the folder. A plan that is passed may then differ in its budget, patience, interval
            of validation, workers and place of the data; all else is that of the run.
        init_from: A run folder, a checkpoint or a saved predictor whose weights training starts from. With other
            organs, or an order of values that is another, the layers that depend on the classes are new.
        device: A torch device, or ``"auto"`` for a GPU if there is one.
        quiet: Whether to report no progress.
        take_over: Whether to take the lock of a run whose process is dead, see `Trainer.fit`.

    Returns:
        The result of `Trainer.fit`.

    Raises:
        ExistingFileError: The folder holds a run and `resume` is not set.
        MissingFileError: There is no plan, nothing to resume, or the scans are gone.
        ArgumentError: A resumed run is given another plan, `init_from` has another network or order of
            channels, or see `Plan`.
        DataError: A scan cannot be used; the message names it. Or scans have changed since the run was begun.
        ProcessLostError: Another process ended before the first step.

    Warns:
        FineTuningWarning: With `init_from`: layers are new, or scans are prepared in another way.
    """
    join()
    folder, chosen = by_first(lambda: _begun(plan, run_dir, init_from, resume=resume))
    place = together(lambda: device_of(device))
    # The first reads the weights: all others get its own before the first step.
    mine = init_from if rank() == 0 else None
    start = together(lambda: None if mine is None else initial_weights(mine, chosen))
    # A folder is looked through once; volumes in memory are not sent.
    find = by_first if cases is None else together
    source = find(lambda: cases_of_plan(chosen, cases))
    by_first(lambda: made_folder(folder, "run_dir"))
    trainer = _trainer(chosen, source, folder, place, start, quiet=quiet)
    by_first(lambda: _store_plan(chosen, folder, trainer.config, resume=resume, take_over=take_over))
    result = trainer.fit(resume=resume, take_over=take_over)
    sweep(chosen, folder)
    return result


def _begun(
    plan: Plan | PathLike, run_dir: PathLike | None, init_from: PathLike | None, *, resume: bool
) -> tuple[Path, Plan]:
    """Return the run folder and the plan; raise where no run can begin or be resumed."""
    folder = run_folder(plan, run_dir)
    chosen = plan if isinstance(plan, Plan) else Plan.load(plan)
    _require_no_folds(folder)
    if resume:
        _require_resumable(folder, chosen, init_from)
    else:
        require_no_run(folder)
        chosen.data.require_patients_apart()
    wanted, got = f"at least {world_size()}, a patch for each process", chosen.sampling.batch_size
    cure = "Set a larger one in a new plan, or start fewer processes."
    require(got >= world_size(), "sampling.batch_size", wanted, got, cure)
    return folder, chosen


def _store_plan(plan: Plan, folder: Path, config: TrainerConfig, *, resume: bool, take_over: bool) -> None:
    """Write the plan, but not into a folder that another run has."""
    if resume:
        _require_same_scans(folder, config)
    else:
        require_no_run(folder)  # reading takes minutes, in which another process may have begun one
    with locked_folder(folder, argument="run_dir", doing="training in", take_over=take_over):
        plan.save(folder / PLAN_FILE)


def run_folder(plan: Plan | PathLike, run_dir: PathLike | None) -> Path:
    """Return the folder of a run: `run_dir`, or the folder that holds the plan."""
    if run_dir is not None:
        return require_path("run_dir", run_dir)
    if isinstance(plan, Plan):
        message = "`run_dir` must be given with a plan, got None. Name a new folder."
        raise ArgumentError(message, argument="run_dir")
    path = require_path("plan", plan)
    return path.parent if path.name == PLAN_FILE else path


def _require_resumable(folder: Path, plan: Plan, init_from: PathLike | None) -> None:
    """Raise where there is no run, or it is one of another plan."""
    if not files_of_run(folder):
        message = f"`run_dir` must hold a run to resume, got {folder}, which has none. Set resume=False."
        raise MissingFileError(message, argument="run_dir", file=folder)
    require(init_from is None, "init_from", "None with resume", init_from, "The run has weights already.")
    require_same_plan(folder, plan)


def require_same_plan(folder: Path, plan: Plan) -> None:
    """Raise where a plan differs from that of the run in a folder in what a step of training depends on."""
    parts = changed_parts(folder, plan)
    if parts == []:  # whatever stands in plan.json, which is written anew
        return
    keys = keys_of_another_plan(folder, plan)
    cure = "Train with these values into another folder."
    require(not keys, "plan", f"that of the run in {folder}", f"another {cut_list(keys)}", cure)
    wanted, got = (
        f"the one that the run in {folder} was begun with",
        f"other values of {cut_list(parts or ())}",
    )
    cure = f"Put back what was changed in {PLAN_FILE}, or train into another folder."
    require(not parts, "plan", wanted, got, cure)


def _require_no_folds(folder: Path) -> None:
    if (folder / FOLDS_FILE).is_file():
        message = f"`run_dir` must be a folder without folds, got {folder}, which has {FOLDS_FILE}. "
        cure = "Continue them: `train_folds(run, folds=N, resume=True)`, or name another folder."
        raise ExistingFileError(message + cure, argument="run_dir", file=folder)


def _require_same_scans(folder: Path, config: TrainerConfig) -> None:
    """Raise where the scans are not those that the run has seen; a damaged ``run.json`` cannot tell."""
    about = json_mapping(folder / PROVENANCE).get("provenance")
    known = about.get("data") if isinstance(about, dict) else None
    if known is None:
        return
    same, got = known == (config.provenance or {}).get("data"), "scans or labels that have changed"
    cure = "Put them back, or train into another folder; init_from starts from these weights."
    require(same, "data", f"that of the run in {folder}", got, cure, error=DataError, file=folder)


def _trainer(
    plan: Plan, source: Source, folder: Path, device: torch.device, start: Predictor | None, *, quiet: bool
) -> Trainer:
    # Before the first is read: a name that is missing is an error at once.
    together(lambda: source.require((*plan.data.train, *plan.data.val)))
    seed_everything(plan.seed)
    model = build(plan.network)
    if start is not None:
        load_initial(model, start, plan)
    model.to(device)
    tell = _ignored if quiet else Progress(epochs=1, batches=None).say
    data, curves = RunData(plan, source, folder, tell), Curves(folder)
    volumes = data.training()
    loader = together(lambda: loader_of(plan, volumes, device))
    predictor = predictor_of(plan, model)
    validated = data.validation() if plan.data.val else None
    quick = predictor_of(plan, model, mirrored=False)
    validation = None if validated is None else Validation(quick.with_model, validated, plan.labels)
    hashes = {"plan": sha256_of_json(plan.to_dict()), **hashes_of_parts(plan), "data": data.digest()}
    about = {**hashes, "curves": curves.about}
    return Trainer(
        model,
        loss_of(plan),
        optimizer_of(plan.optimizer, model),
        train_loader=loader,
        validate=validation,
        run_dir=folder,
        config=_config(plan, device, curves, about, quiet=quiet),
        metadata=predictor.metadata,
    )


def _ignored(_line: str) -> None:
    """Take a report that nobody wants."""


def _config(
    plan: Plan, device: torch.device, curves: Curves, about: dict[str, str], *, quiet: bool
) -> TrainerConfig:
    chosen = plan.training
    return TrainerConfig(
        max_epochs=plan.budget.epochs,
        max_minutes=plan.budget.minutes,
        precision=chosen.precision,
        clip_grad_norm=chosen.clip_grad_norm,
        ema_decay=chosen.ema_decay,
        validate_every=chosen.validate_every,
        seed=plan.seed,
        device=str(device),
        quiet=quiet,
        schedule=schedule_of(plan),
        accumulate=chosen.accumulate,
        patience=chosen.patience,
        loggers=(curves,),
        provenance=about,
        augment=augmentation_of(plan),
    )
