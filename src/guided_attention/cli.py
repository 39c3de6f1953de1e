"""The command line `guided-attention`: reads arguments, calls one recipe, and returns an exit code.

Nothing heavy is imported before the arguments are read, so that ``--help`` answers at once and Ctrl-C always ends in
one line.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from guided_attention import _cli_scans as scans_verbs
from guided_attention._checks import counted, require
from guided_attention._cli_parser import make_parser
from guided_attention._cli_report import (
    CASES_FAILED,
    DONE,
    FAILED,
    INTERRUPTED,
    WRONG_USAGE,
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
    from guided_attention.evaluation import CaseScore
    from guided_attention.inference import LedgerEntry, Shard
    from guided_attention.recipes import Plan

__all__ = ["main"]

_USAGE = (ArgumentError, ArgumentTypeError, ExistingFileError, MissingFileError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        0 done, 1 failed, 2 wrong usage, 3 finished with failed cases or without shards, 75 training interrupted, 130
        interrupted.

    Example:
        >>> main(["train", "no-such-folder"])
        2
    """
    arguments: argparse.Namespace | None = None
    output_lost.clear()
    try:
        arguments = make_parser().parse_args(argv)
        with plain_warnings(arguments.verb):
            code = _VERBS[arguments.verb](arguments)
            return code or (FAILED if output_lost else DONE)
    except KeyboardInterrupt:
        if _speaks(arguments):
            tell(f"interrupted{_way_on(arguments)}")
        return INTERRUPTED
    except TrainingInterrupted as interrupted:
        if _speaks(arguments):
            tell(f"interrupted. Continue with: {_continuation(arguments, interrupted.run_dir)}")
        return int(interrupted.code or 0)
    except SystemExit as end:  # argparse has printed help or a message
        return int(end.code or 0)
    except (GuidedAttentionError, OSError) as error:
        if not (isinstance(error, GuidedAttentionError) and error.elsewhere):
            tell(f"error: {in_words_of_a_shell(error, '' if arguments is None else arguments.verb)}")
        return WRONG_USAGE if isinstance(error, _USAGE) else FAILED


def _speaks(arguments: argparse.Namespace | None) -> bool:
    """Return whether this process reports: of several that train one network together, the first does."""
    together = arguments is not None and arguments.verb == "train" and arguments.folds is None
    return not together or os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK") == "0"


def _quoted(path: "PathLike") -> str:
    """Return a path as a shell takes it in a command that is suggested."""
    return shlex.quote(os.fspath(path))


def _continuation(arguments: argparse.Namespace | None, run_dir: "PathLike") -> str:
    """Return the command that continues a training."""
    if arguments is None or arguments.folds is None:
        return f"guided-attention train {_quoted(run_dir)} --resume"
    fold = "" if arguments.fold is None else f" --fold {arguments.fold}"
    return f"guided-attention train {_quoted(arguments.run)} --folds {arguments.folds}{fold} --resume"


def _way_on(arguments: argparse.Namespace | None) -> str:
    if arguments is not None and arguments.verb == "train" and arguments.folds is not None:
        return f". Continue with: {_continuation(arguments, arguments.run)}"
    is_prediction = arguments is not None and arguments.verb == "predict"
    return ": the predictions written so far are whole. Continue with --resume" if is_prediction else ""


def _train(arguments: argparse.Namespace) -> int:
    from guided_attention._distributed import by_first, join  # noqa: PLC0415
    from guided_attention.recipes import train  # noqa: PLC0415

    if arguments.folds is not None:
        return _train_folds(arguments)
    join()
    by_first(lambda: _require_no_fold(arguments.fold))
    plan = by_first(lambda: _planned(arguments))
    result = train(
        plan,
        arguments.run,
        resume=arguments.resume,
        init_from=arguments.init_from,
        device=arguments.device,
        quiet=arguments.quiet,
        take_over=arguments.take_over,
    )
    if not _speaks(arguments):
        return DONE
    best = (
        f"best validation score {result.best_score:.4f} in epoch {result.best_epoch} of {result.epochs}"
        if plan.data.val
        else f"the weights of epoch {result.epochs}, as no case validates"
    )
    run = _quoted(arguments.run)
    say(f"Stopped by {result.stopped_by} after {result.minutes:.1f} minutes: {best}")
    more = f"budget.{result.stopped_by}=N" if result.stopped_by != "patience" else "training.patience=N"
    say(f"To train longer: guided-attention train {run} --resume --set {more}")
    say(f"Next: guided-attention predict {run} --out PREDICTIONS")
    return DONE


def _require_no_fold(fold: int | None) -> None:
    require(fold is None, "--fold", "used with --folds", fold, "Say how many folds there are.")


def _planned(arguments: argparse.Namespace) -> "Plan":
    """Return the plan of the run with the values that are set."""
    from guided_attention.recipes import Plan  # noqa: PLC0415

    plan = Plan.load(arguments.run)
    return plan.with_values(dict(arguments.set)) if arguments.set else plan


def _train_folds(arguments: argparse.Namespace) -> int:
    from guided_attention.recipes import train_folds  # noqa: PLC0415

    plan = _planned(arguments)
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
        say(shell_words(str(fold), arguments.verb))
    failed = [fold for fold in found if fold.missing and not fold.held_by]
    if failed:
        way = f"guided-attention train {_quoted(run)} --folds {folds} --resume"
        tell(f"error: cases have no scores. Mend them, then: {way}")
        return _code_of_failures()
    say(f"Next, when all {folds} folds are done: guided-attention finalize {_quoted(run)}")
    return DONE


def _finalize(arguments: argparse.Namespace) -> int:
    from guided_attention.recipes import finalize  # noqa: PLC0415
    from guided_attention.recipes.scoring import SCORES  # noqa: PLC0415

    scores = finalize(arguments.run, take_over=arguments.take_over)
    if arguments.json:
        for row in _rows_of_cases(scores, []):
            print_json(row)
        return DONE
    run = Path(arguments.run)
    say((run / SCORES).read_text(encoding="utf-8").rstrip())
    say(f"Wrote the scores of each case and the ensemble to {run}")
    say(f"Next: guided-attention predict {_quoted(run)} SCANS --out PREDICTIONS")
    return DONE


def _predict(arguments: argparse.Namespace) -> int:
    from guided_attention.recipes import predict, predict_shard  # noqa: PLC0415
    from guided_attention.recipes.prediction import in_series  # noqa: PLC0415

    run, series, out, shard = arguments.run, arguments.series, Path(arguments.out), _shard(arguments)
    require(series is None or bool(arguments.scans), "--series", "of SCANS", "no SCANS", "Name the folder.")
    scans = arguments.scans if series is None else in_series(run, arguments.scans, series)
    root = out if shard is None else shard.folder(out)

    def show(entry: "LedgerEntry") -> None:
        if arguments.json:
            print_json(_row_of(entry, root))
        else:
            rest = shell_words(" ".join(entry.error.split()), "predict") or " ".join(_files_of(entry, root))
            say(f"{entry.case_id}  {entry.status}  {rest}".rstrip())

    expected = _expected(run, arguments.scans)
    device, also, resume = arguments.device, arguments.also, arguments.resume
    if shard is None:
        report = CaseReport(expected, show)
        overwrite = arguments.overwrite
        return _code_of(
            predict(
                run,
                scans or None,
                out,
                device=device,
                also=also,
                resume=resume,
                overwrite=overwrite,
                on_case=report,
            ),
            arguments.verb,
        )
    report = CaseReport(shard.size(range(expected)) or 0, show)
    found = predict_shard(
        run, scans or None, out, shard, device=device, also=also, resume=resume, on_case=report
    )
    tell(f"Shard {shard} is done. Next, when all are: guided-attention merge {_quoted(out)}")
    return _code_of(found, arguments.verb)


def _shard(arguments: argparse.Namespace) -> "Shard | None":
    """Return the shard that is named, or that of this process; None for all scans."""
    from guided_attention.inference import Shard  # noqa: PLC0415

    shard = Shard.from_environment() if arguments.shard is None else Shard(*arguments.shard)
    if shard is None or shard.count == 1:
        return None
    cure = f"Delete {arguments.out} first, or pass --shard 1/1 for all scans in one process."
    require(not arguments.overwrite, "--overwrite", "left out with shards", f"shard {shard}", cure)
    if arguments.shard is None:
        tell(f"Predicts shard {shard} of the scans, the part of this process; --shard 1/1 predicts all.")
    return shard


def _files_of(entry: "LedgerEntry", folder: Path) -> list[str]:
    return [str(folder / name) for name, content in entry.files.items() if content]


def _row_of(entry: "LedgerEntry", folder: Path) -> dict[str, object]:
    files = _files_of(entry, folder)
    return {"case_id": entry.case_id, "status": entry.status, "files": files, "error": entry.error}


def _merge(arguments: argparse.Namespace) -> int:
    from guided_attention.inference import merge_shards  # noqa: PLC0415

    folder = Path(arguments.folder)
    merged = merge_shards(folder)
    if arguments.json:
        print_json(
            {
                "complete": merged.is_complete,
                "cases": [_row_of(entry, folder) for entry in merged.entries],
                "absent": [str(shard) for shard in merged.absent],
                "unfinished": [str(shard) for shard in merged.unfinished],
                "missing": merged.missing,
            },
            indent=2,
        )
    if merged.is_complete:
        if not arguments.json:
            say(f"{counted(len(merged.entries), 'case is', 'cases are')} in {folder}, with one ledger")
        return _code_of(merged.entries, arguments.verb)
    for what, shards in (("never ran", merged.absent), ("did not finish", merged.unfinished)):
        for shard in shards:
            tell(f"shard {shard} {what}")
    for case in merged.missing:
        tell(f"not predicted yet: {case}")
    tell(f"error: {folder} is not merged. Predict these shards with --shard K/N --resume, then merge again.")
    return CASES_FAILED


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
        folder = scores_folder(arguments.run, arguments.out, arguments.data)
        say((folder / SCORES).read_text(encoding="utf-8").rstrip())
        say(f"Wrote the scores of each case to {folder}")
    return _code_of(report.entries, arguments.verb)


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
    return DONE


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


def _code_of(entries: Sequence["LedgerEntry"], verb: str) -> int:
    failed = [entry for entry in entries if entry.status == "failed"]
    for entry in failed:
        tell(f"failed: {entry.case_id}: {shell_words(entry.error, verb)}")
    if failed:
        tell(f"error: {len(failed)} of {counted(len(entries), 'case')} failed")
    return _code_of_failures() if failed else DONE


def _code_of_failures() -> int:
    """Return 3, or 0 under `torchrun`, which would stop the other processes: `finalize` and `merge` list the cases."""
    from guided_attention._distributed import started  # noqa: PLC0415

    return CASES_FAILED if started()[1] == 1 else DONE


_VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "check": scans_verbs.check,
    "convert": scans_verbs.convert,
    "plan": scans_verbs.plan,
    "train": _train,
    "finalize": _finalize,
    "predict": _predict,
    "merge": _merge,
    "evaluate": _evaluate,
    "info": _info,
}
