"""Which cases each fold of a run holds out: made from the plan, and written to ``folds.json``."""

import json
from pathlib import Path

from guided_attention._checks import cut_list, require, require_count
from guided_attention._files import write_json
from guided_attention.data import k_fold
from guided_attention.errors import DataError
from guided_attention.inference.saved import FOLDS_FILE
from guided_attention.recipes.plan import Plan

__all__ = ["HeldOut", "cases_of_folds", "cases_of_run", "patients_of_plan", "save_cases"]

HeldOut = tuple[tuple[str, ...], ...]
"""The cases of each fold."""
_FEWEST = 2


def patients_of_plan(plan: Plan) -> dict[str, str]:
    """Return the patient of each case that is trained on or validated with, called after the first case."""
    names = dict.fromkeys((*plan.data.train, *plan.data.val))
    first = {name: group[0] for group in plan.data.patients for name in group}
    return {name: first.get(name, name) for name in names}


def cases_of_folds(plan: Plan, folds: int) -> HeldOut:
    """Return the cases that each fold holds out: all that the plan trains on or validates with, each once.

    Raises:
        ArgumentError: There are fewer than two folds, or fewer patients than folds.
    """
    require_count("folds", folds)
    require(folds >= _FEWEST, "folds", f"{_FEWEST} or more", folds)
    patients = patients_of_plan(plan)
    most = len(set(patients.values()))
    wanted = "one of two or more patients with labels outside the test"
    require(most >= _FEWEST, "plan", wanted, most, "Plan with more cases, or train without folds.")
    got, cure = f"{folds}", "Ask for fewer folds, or plan with more cases."
    require(folds <= most, "folds", f"at most {most}, the labelled patients outside the test", got, cure)
    splits = k_fold(list(patients), folds=folds, val=0, seed=plan.seed, patients=patients)
    return tuple(split.test for split in splits)


def save_cases(run: Path, plan: Plan, folds: int) -> None:
    """Write which cases the folds of a run hold out; a file that says otherwise is an error.

    Several processes may begin a run at once: all write the same.
    """
    file = run / FOLDS_FILE
    if not file.is_file():
        write_json(file, {"held_out": cases_of_folds(plan, folds)})
    known = len(cases_of_run(run, plan))
    cure = "Name the same number as before, or another run folder."
    require(known == folds, "folds", f"{known}, as in {file}", folds, cure, file=file)


def cases_of_run(run: Path, plan: Plan) -> HeldOut:
    """Return the cases that each fold of a run holds out.

    Raises:
        DataError: The file is damaged. Or the plan divides other cases, or divides them in another way, since it was
            edited: a case that the networks were trained on could then be taken for one of the test.
    """
    file = run / FOLDS_FILE
    held_out = _read(file)
    moved = sorted({name for names in held_out for name in names} ^ set(patients_of_plan(plan)))
    wanted = f"one that trains or validates with the cases of {file}"
    cure = "Put them back into their part of the plan, or train into another folder."
    got = f"one that differs in {cut_list(moved)}"
    require(not moved, "plan", wanted, got, cure, error=DataError, file=file)
    same = cases_of_folds(plan, len(held_out)) == held_out
    wanted, got = f"one that divides them as {file}", "one with another seed or other patients"
    cure = "Put these back, or train into another folder."
    require(same, "plan", wanted, got, cure, error=DataError, file=file)
    return held_out


def _read(file: Path) -> HeldOut:
    try:
        held_out = json.loads(file.read_text(encoding="utf-8"))["held_out"]
        return tuple(tuple(str(name) for name in names) for names in held_out)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        message = f"`run` must hold {FOLDS_FILE} as it was written, got {file} ({error!r})."
        raise DataError(f"{message} Delete it: the same plan makes the same folds.", file=file) from error
