"""Cross-validation of a plan: every case is predicted by a network that has not seen it."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from guided_attention._checks import counted, require, require_integer
from guided_attention._distributed import apart, started
from guided_attention._files import PathLike, made_folder
from guided_attention._locks import locked_folder
from guided_attention.errors import ExistingFileError
from guided_attention.inference import LedgerEntry
from guided_attention.inference.saved import FOLDS_FILE
from guided_attention.inference.writing import PredictionWriter
from guided_attention.recipes._folds import (
    Fold,
    fold_folder,
    plan_of_fold,
    state_of_fold,
    store_state,
)
from guided_attention.recipes._held_out import HeldOut, cases_of_folds, save_cases
from guided_attention.recipes._machine import device_of
from guided_attention.recipes.plan import PLAN_FILE, Plan
from guided_attention.recipes.scoring import evaluate
from guided_attention.recipes.training import require_same_plan, run_folder, train
from guided_attention.training.progress import Progress
from guided_attention.training.run_folder import files_of_run, require_no_run

__all__ = ["train_folds"]

_LOCKS = ".locks"
"""Holds a folder for each fold, which the process that works on the fold keeps locked."""


def train_folds(
    plan: Plan | PathLike,
    run_dir: PathLike | None = None,
    *,
    folds: int,
    fold: int | None = None,
    resume: bool = False,
    device: str = "auto",
    quiet: bool = False,
    take_over: bool = False,
) -> list[Fold]:
    """Train a plan once for each fold of its cases, and let each network predict the cases that it has not seen.

    The training and validation cases of the plan are divided into folds by chance, with its seed, all cases of a
    patient in one. Fold k trains in ``fold-k`` of the run folder, without validation, on the cases of the others; the
    weights of the last epoch then predict its own cases into ``fold-k/evaluation``, with their scores. The budget of
    the plan is that of each fold. Several processes may work on one run: each takes folds that no other has. Of those
    that ``torchrun`` has started, each trains folds of its own: the second of two has the folds 1, 3 and so on.

    Args:
        plan: A plan for scans on disk, or a folder that holds ``plan.json``.
        run_dir: Folder of the run, created if it is missing; None is the folder given as `plan`.
        folds: How many folds, at least 2.
        fold: Number of a fold, from 0, to train only this one; None trains all, one after another.
        resume: Continue what is unfinished; finished folds are skipped. The plan may differ as in `train`.
        device: A torch device, or ``"auto"`` for a GPU if there is one.
        quiet: Whether to report no progress.
        take_over: Whether to take the locks of processes that are dead, see `Trainer.fit`.

    Returns:
        The folds of this process, and what is missing of each: a case that could not be predicted, or the work of
        another process.

    Raises:
        ExistingFileError: A fold was begun already and `resume` is not set, the folder holds another run, or another
            process works on `fold`.
        ArgumentError: There are fewer patients than folds, the run was begun with another plan or other folds, or the
            plan is for cases in memory.
        MissingFileError, DataError: See `train`.

    Example:
        >>> import tempfile
        >>> from guided_attention.data import make_phantom
        >>> from guided_attention.recipes import plan_for
        >>> plan = plan_for([make_phantom(0, subject=number, size=16) for number in range(1, 4)])
        >>> train_folds(plan, tempfile.mkdtemp(), folds=2)
        Traceback (most recent call last):
        guided_attention.errors.ArgumentError: `plan` must be for scans on disk, got one for cases in memory.
    """
    folder = run_folder(plan, run_dir)
    chosen = plan if isinstance(plan, Plan) else Plan.load(plan)
    device_of(device)
    require(chosen.data.folder is not None, "plan", "for scans on disk", "one for cases in memory")
    held_out = cases_of_folds(chosen, folds)
    if not resume:
        chosen.data.require_patients_apart()
    for name in chain(*held_out):  # each will be predicted, after hours of training
        PredictionWriter().paths(name, "")
    if fold is not None:
        require_integer("fold", fold)
        require(0 <= fold < folds, "fold", f"from 0 to {folds - 1}", fold)
    place, processes = started()
    numbers = (range(folds) if fold is None else range(fold, fold + 1))[place::processes]
    for number in () if resume else numbers:
        require_no_run(fold_folder(folder, number))
    _begin(folder, chosen, held_out)
    work = _Work(plan=chosen, run=folder, held_out=held_out, device=device, quiet=quiet, take_over=take_over)
    with apart():  # the trainings of folds have nothing to exchange
        return [work.done(number, is_only=fold is not None) for number in numbers]


def _begin(folder: Path, plan: Plan, held_out: HeldOut) -> None:
    """Write the plan and the folds, or raise where the folder has others."""
    held = files_of_run(folder)
    if held:
        message = f"`run_dir` must be a folder without a run, got {folder}, which holds {', '.join(held)}."
        raise ExistingFileError(f"{message} Name another folder for folds.", argument="run_dir", file=folder)
    if (folder / FOLDS_FILE).is_file():
        require_same_plan(folder, plan)
        save_cases(folder, plan, len(held_out))  # raises before the plan is replaced
        for number, names in enumerate(held_out):
            fold = Fold(number, fold_folder(folder, number), names, is_trained=False)
            if files_of_run(fold.folder):
                require_same_plan(fold.folder, plan_of_fold(plan, folder, fold))
    plan.save(made_folder(folder, "run_dir") / PLAN_FILE)
    save_cases(folder, plan, len(held_out))


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Trains folds of one run, each while no other process does."""

    plan: Plan
    run: Path
    held_out: HeldOut
    device: str
    quiet: bool
    take_over: bool

    def done(self, number: int, *, is_only: bool) -> Fold:
        """Train a fold and score its cases; one that another process has is an error only if it is asked for."""
        with ExitStack() as stack:
            place = made_folder(self.run / _LOCKS / str(number))
            lock = locked_folder(place, argument="fold", doing="training", take_over=self.take_over)
            try:
                stack.enter_context(lock)
            except ExistingFileError as error:
                if is_only:
                    raise
                return replace(self._state(number), held_by=str(error))
            fold = self._state(number)
            if fold.missing:
                self._say(f"fold {number}: {counted(len(fold.case_ids), 'case is', 'cases are')} held out")
                self._train(fold)
                self._score(fold)
            return self._state(number)

    def _state(self, number: int) -> Fold:
        return state_of_fold(self.plan, self.run, number, self.held_out[number])

    def _train(self, fold: Fold) -> None:
        if fold.is_trained:
            return
        train(
            plan_of_fold(self.plan, self.run, fold),
            fold.folder,
            resume=bool(files_of_run(fold.folder)),
            device=self.device,
            quiet=self.quiet,
            take_over=self.take_over,
        )
        store_state(self.plan, fold)

    def _score(self, fold: Fold) -> None:
        entries: list[LedgerEntry] = []
        self._say(
            f"fold {fold.number}: its network predicts the {counted(len(fold.case_ids), 'case')} that it has not seen"
        )
        evaluate(fold.folder, device=self.device, on_case=entries.append)
        store_state(self.plan, fold, entries)

    def _say(self, text: str) -> None:
        if not self.quiet:
            Progress(epochs=1, batches=None).say(text)
