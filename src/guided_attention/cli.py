"""The command line `guided-attention`: reads arguments, calls one recipe, and returns an exit code.

Nothing heavy is imported before the arguments are read, so that ``--help`` answers at once and Ctrl-C always ends in
one line.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from guided_attention._checks import cut_list, repeated, require
from guided_attention._cli_parser import make_parser
from guided_attention._cli_report import (
    CaseReport,
    in_words_of_a_shell,
    output_lost,
    plain_warnings,
    print_json,
    print_nested,
    say,
    shell_words,
    tell,
)
from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    ExistingFileError,
    GuidedAttentionError,
    MissingFileError,
    TrainingInterrupted,
)

if TYPE_CHECKING:
    from guided_attention._files import PathLike
    from guided_attention.data import Opening
    from guided_attention.evaluation import CaseScore
    from guided_attention.inference import LedgerEntry
    from guided_attention.recipes import Plan

__all__ = ["main"]

_DONE, _FAILED, _WRONG_USAGE, _CASES_FAILED, _INTERRUPTED = 0, 1, 2, 3, 130
_USAGE = (ArgumentError, ArgumentTypeError, ExistingFileError, MissingFileError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        0 done, 1 failed, 2 wrong usage, 3 finished with failed cases, 75 training interrupted, 130 interrupted.

    Example:
        >>> main(["train", "no-such-folder"])
        2
    """
    arguments: argparse.Namespace | None = None
    output_lost.clear()
    try:
        arguments = make_parser().parse_args(argv)
        with plain_warnings():
            code = _VERBS[arguments.verb](arguments)
            return code or (_FAILED if output_lost else _DONE)
    except KeyboardInterrupt:
        tell(f"interrupted{_way_on(arguments)}")
        return _INTERRUPTED
    except TrainingInterrupted as interrupted:
        tell(f"interrupted. Continue with: {_continuation(arguments, interrupted.run_dir)}")
        return int(interrupted.code or 0)
    except SystemExit as end:  # argparse has printed help or a message
        return int(end.code or 0)
    except (GuidedAttentionError, OSError) as error:
        tell(f"error: {in_words_of_a_shell(error)}")
        return _WRONG_USAGE if isinstance(error, _USAGE) else _FAILED


def _continuation(arguments: argparse.Namespace | None, run_dir: "PathLike") -> str:
    """Return the command that continues a training."""
    if arguments is None or arguments.folds is None:
        return f"guided-attention train {run_dir} --resume"
    fold = "" if arguments.fold is None else f" --fold {arguments.fold}"
    return f"guided-attention train {arguments.run} --folds {arguments.folds}{fold} --resume"


def _way_on(arguments: argparse.Namespace | None) -> str:
    if arguments is not None and arguments.verb == "train" and arguments.folds is not None:
        return f". Continue with: {_continuation(arguments, arguments.run)}"
    is_prediction = arguments is not None and arguments.verb == "predict"
    return ": the predictions written so far are whole. Continue with --resume" if is_prediction else ""


def _check(arguments: argparse.Namespace) -> int:
    from guided_attention.data import check  # noqa: PLC0415

    patients = None if arguments.patient is None else _patient_by(arguments.patient)
    labels, opening = _organs(arguments.organ), _opening(arguments)
    report = check(
        arguments.data,
        labels=labels,
        opening=opening,
        patients=patients,
        workers=arguments.workers,
        on_case=tell,
    )
    if arguments.json:
        print_json(report.to_dict(), indent=2)
    else:
        say(shell_words(str(report)))
    return _FAILED if report.errors or (arguments.strict and report.warnings) else _DONE


def _patient_by(pattern: str) -> Callable[[str], str]:
    """Return the function from the name of a case to its patient that a regular expression describes."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        message = f"`--patient` must be a regular expression, got {pattern!r} ({error})."
        raise ArgumentError(message, argument="patient") from error
    if compiled.groups == 0:
        message = f"`--patient` must have a group in brackets, such as '(.*)_scan', got {pattern!r}."
        raise ArgumentError(message, argument="patient")

    def patient(case_id: str) -> str:
        found = compiled.search(case_id)
        return case_id if found is None else found[1]

    return patient


def _convert(arguments: argparse.Namespace) -> int:
    from guided_attention.data import convert  # noqa: PLC0415

    cohort = _opening(arguments).open(arguments.data, _organs(arguments.organ))
    folder = convert(cohort, arguments.out, arguments.to, workers=arguments.workers, on_case=tell)
    say(f"Wrote {len(cohort)} cases and manifest.json to {folder}")
    return _DONE


def _plan(arguments: argparse.Namespace) -> int:
    from guided_attention._files import made_folder, refuse_filled  # noqa: PLC0415
    from guided_attention.recipes import check_values, plan_for  # noqa: PLC0415
    from guided_attention.recipes.plan import PLAN_FILE  # noqa: PLC0415

    values = dict(arguments.set)
    check_values(values)
    run = Path(arguments.out)
    refuse_filled(run)
    cohort = _opening(arguments).open(arguments.data, _organs(arguments.organ))
    made_folder(run, "out")
    plan = plan_for(
        cohort,
        minutes=arguments.minutes,
        seed=arguments.seed,
        device=arguments.device,
        patients=None if arguments.patient is None else _patient_by(arguments.patient),
        dimensions=arguments.dimensions,
    )
    plan = plan.with_values(values)
    path = plan.save(run / PLAN_FILE)
    if arguments.json:
        print_json(plan.to_dict(), indent=2)
        return _DONE
    settings = plan.to_dict()
    for key, reason in plan.reasons.items():
        say(f"{key} = {_value_at(settings, key)}  ({reason})")
    say(f"Wrote {path}. Next: guided-attention train {run}")
    return _DONE


def _opening(arguments: argparse.Namespace) -> "Opening":
    """Return how the scans are opened."""
    from guided_attention.data import Opening  # noqa: PLC0415

    spacing, channels = arguments.spacing, arguments.channel
    return Opening(
        arguments.layout,
        None if spacing is None else (spacing[0], spacing[1], spacing[2]),
        None if channels is None else tuple(channels),
        arguments.resample_channels,
        Opening.max_bytes if arguments.max_bytes is None else arguments.max_bytes,
        arguments.series,
    )


def _organs(named: Sequence[tuple[int, str]]) -> dict[int, str] | None:
    """Return the organs of `--organ` by value; None without any."""
    twice = repeated(value for value, _ in named)
    require(not twice, "--organ", "of different values", f"{cut_list(twice)} more than once")
    return dict(named) or None


def _value_at(settings: Mapping[str, object], key: str) -> object:
    """Return the value of a dotted key, and the number of values in a list that is long."""
    value: object = settings
    for name in key.split("."):
        value = value.get(name, "") if isinstance(value, Mapping) else ""
    is_long = isinstance(value, (list, Mapping)) and len(str(value)) > 60  # noqa: PLR2004
    return f"{len(value)} values" if is_long and isinstance(value, (list, Mapping)) else value


def _train(arguments: argparse.Namespace) -> int:
    from guided_attention.recipes import Plan, train  # noqa: PLC0415

    plan = Plan.load(arguments.run)
    plan = plan.with_values(dict(arguments.set)) if arguments.set else plan
    if arguments.folds is not None:
        return _train_folds(arguments, plan)
    require(
        arguments.fold is None, "--fold", "used with --folds", arguments.fold, "Say how many folds there are."
    )
    result = train(
        plan,
        arguments.run,
        resume=arguments.resume,
        init_from=arguments.init_from,
        device=arguments.device,
        quiet=arguments.quiet,
        take_over=arguments.take_over,
    )
    best = (
        f"best validation score {result.best_score:.4f} in epoch {result.best_epoch} of {result.epochs}"
        if plan.data.val
        else f"the weights of epoch {result.epochs}, as no case validates"
    )
    say(f"Stopped by {result.stopped_by} after {result.minutes:.1f} minutes: {best}")
    more = f"budget.{result.stopped_by}=N" if result.stopped_by != "patience" else "training.patience=N"
    say(f"To train longer: guided-attention train {arguments.run} --resume --set {more}")
    say(f"Next: guided-attention predict {arguments.run} --out PREDICTIONS")
    return _DONE


def _train_folds(arguments: argparse.Namespace, plan: "Plan") -> int:
    from guided_attention.recipes import train_folds  # noqa: PLC0415

    run, folds = arguments.run, arguments.folds
    require(arguments.init_from is None, "--init-from", "left out with --folds", arguments.init_from)
    found = train_folds(
        plan,
        run,
        folds=folds,
        fold=arguments.fold,
        resume=arguments.resume,
        device=arguments.device,
        quiet=arguments.quiet,
        take_over=arguments.take_over,
    )
    for fold in found:
        say(str(fold))
    failed = [fold for fold in found if fold.missing and not fold.held_by]
    if failed:
        tell(
            f"error: cases have no scores. Mend them, then: guided-attention train {run} --folds {folds} --resume"
        )
        return _CASES_FAILED
    say(f"Next, when all {folds} folds are done: guided-attention finalize {run}")
    return _DONE


def _finalize(arguments: argparse.Namespace) -> int:
    from guided_attention.recipes import finalize  # noqa: PLC0415
    from guided_attention.recipes.scoring import SCORES  # noqa: PLC0415

    scores = finalize(arguments.run, take_over=arguments.take_over)
    if arguments.json:
        for row in _rows_of_cases(scores, []):
            print_json(row)
        return _DONE
    run = Path(arguments.run)
    say((run / SCORES).read_text(encoding="utf-8").rstrip())
    say(f"Wrote the scores of each case and the ensemble to {run}")
    say(f"Next: guided-attention predict {run} SCANS --out PREDICTIONS")
    return _DONE


def _predict(arguments: argparse.Namespace) -> int:
    from guided_attention.recipes import predict  # noqa: PLC0415
    from guided_attention.recipes.prediction import in_series  # noqa: PLC0415

    series = arguments.series
    require(series is None or bool(arguments.scans), "--series", "of SCANS", "no SCANS", "Name the folder.")
    scans = arguments.scans if series is None else in_series(arguments.run, arguments.scans, series)
    out = Path(arguments.out)

    def show(entry: "LedgerEntry") -> None:
        files = [str(out / name) for name, content in entry.files.items() if content]
        if arguments.json:
            fields = {"case_id": entry.case_id, "status": entry.status, "files": files, "error": entry.error}
            print_json(fields)
        else:
            rest = " ".join(entry.error.split()) or " ".join(files)
            say(f"{entry.case_id}  {entry.status}  {rest}".rstrip())

    entries = predict(
        arguments.run,
        scans or None,
        out,
        device=arguments.device,
        also=arguments.also,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        on_case=CaseReport(_expected(arguments.run, arguments.scans), show),
    )
    return _code_of(entries)


def _evaluate(arguments: argparse.Namespace) -> int:
    from guided_attention.recipes import evaluate  # noqa: PLC0415
    from guided_attention.recipes.scoring import SCORES, scores_folder  # noqa: PLC0415

    report = CaseReport(
        _expected(arguments.run, [arguments.data] if arguments.data else []),
        lambda entry: tell(f"{entry.case_id}  {entry.status}"),
    )
    scores = evaluate(
        arguments.run,
        arguments.data,
        predictions=arguments.predictions,
        out=arguments.out,
        device=arguments.device,
        on_case=report,
    )
    if arguments.json:
        for row in _rows_of_cases(scores, report.entries):
            print_json(row)
    elif scores:
        folder = scores_folder(arguments.run, arguments.out)
        say((folder / SCORES).read_text(encoding="utf-8").rstrip())
        say(f"Wrote the scores of each case to {folder}")
    return _code_of(report.entries)


def _rows_of_cases(
    scores: Sequence["CaseScore"], entries: Sequence["LedgerEntry"]
) -> list[dict[str, object]]:
    """Return one row a case: the scores of its organs, or why there are none."""
    rows: dict[str, list[object]] = {}
    for score in scores:
        fields = asdict(score)
        rows.setdefault(fields.pop("case_id"), []).append(fields)
    failed = [entry for entry in entries if entry.status == "failed"]
    done: list[dict[str, object]] = [
        {"case_id": name, "status": "done", "scores": organs, "error": ""} for name, organs in rows.items()
    ]
    return done + [
        {"case_id": entry.case_id, "status": "failed", "scores": [], "error": entry.error} for entry in failed
    ]


def _info(arguments: argparse.Namespace) -> int:
    from guided_attention.recipes import info  # noqa: PLC0415

    found = info(arguments.path)
    if arguments.json:
        print_json(found, indent=2)
    else:
        print_nested(found)
    return _DONE


def _expected(run: str, scans: Sequence[str]) -> int:
    """Return how many cases there will be, for the bar on a terminal; 0 where that is unknown."""
    from guided_attention.data import open_cohort  # noqa: PLC0415
    from guided_attention.recipes import Plan  # noqa: PLC0415

    if sys.stderr is None or not sys.stderr.isatty():
        return 0
    try:
        return sum(len(open_cohort(path)) for path in scans) if scans else len(Plan.load(run).data.test)
    except GuidedAttentionError:  # the recipe finds it as well, and says so
        return 0


def _code_of(entries: Sequence["LedgerEntry"]) -> int:
    failed = [entry for entry in entries if entry.status == "failed"]
    for entry in failed:
        tell(f"failed: {entry.case_id}: {entry.error}")
    if failed:
        tell(f"error: {len(failed)} of {len(entries)} cases failed")
    return _CASES_FAILED if failed else _DONE


_VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "check": _check,
    "convert": _convert,
    "plan": _plan,
    "train": _train,
    "finalize": _finalize,
    "predict": _predict,
    "evaluate": _evaluate,
    "info": _info,
}
