"""What the command line `guided-attention` takes: verbs, options, and an example of each."""

import argparse
from typing import TYPE_CHECKING, TypeAlias

from guided_attention import __version__

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

__all__ = ["make_parser"]

_OVERVIEW = """\
from scans to scores:
  guided-attention plan SCANS --out RUN
  guided-attention train RUN
  guided-attention predict RUN --out PREDICTIONS
  guided-attention evaluate RUN

in folds, each case predicted by a network that has not seen it:
  guided-attention train RUN --folds 5
  guided-attention finalize RUN

on several GPUs, or a part of the scans in each job of an array:
  torchrun --nproc-per-node 2 -m guided_attention train RUN
  guided-attention predict RUN SCANS --out PREDICTIONS --shard 2/5
  guided-attention merge PREDICTIONS

before that:
  guided-attention check SCANS

exit codes:
  0    done
  1    failed: the message says why
  2    wrong usage: nothing was done
  3    finished, but some cases failed or shards are missing: they are listed
  75   training was interrupted and its state is stored: continue with --resume
  130  interrupted by Ctrl-C
"""
_PATIENT = (
    "regular expression whose first group is the patient in the name of a case, such as '(.*)_scan'; "
    "all scans of a patient belong in one part of the split"
)
_DEVICE = "torch device, such as cpu or cuda:1 (default: a GPU if there is one)"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the chosen verb is its `verb`."""
    parser = argparse.ArgumentParser(
        prog="guided-attention",
        description="Train a segmentation network on your scans, predict other scans, score the predictions.",
        epilog=_OVERVIEW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"guided-attention {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for add in (_add_check, _add_convert, _add_plan, _add_train, _add_finalize, _add_predict, _add_merge):
        add(verbs)
    _add_evaluate(verbs)
    _add_info(verbs)
    return parser


def _verb(verbs: "_Verbs", name: str, summary: str, text: str, example: str) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=summary,
        description=text,
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_check(verbs: "_Verbs") -> None:
    text = (
        "Read every case in DATA once, and list what looks wrong, each with its case and file. Errors cannot be\n"
        "right; warnings should be looked at. The exit code is 1 where there are errors."
    )
    example = "  guided-attention check scans\n  guided-attention check scans --strict --workers 4 --json"
    parser = _verb(verbs, "check", "list what looks wrong in a folder of scans", text, example)
    parser.add_argument("data", metavar="DATA", help="folder of scans in a known layout")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 for warnings too")
    parser.add_argument("--patient", metavar="PATTERN", help=_PATIENT)
    _add_opening(parser)
    _add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _add_convert(verbs: "_Verbs") -> None:
    text = (
        "Write the cases in DATA in another layout, with a manifest of what came from where. The same command\n"
        "continues a conversion that was interrupted, and converts anew the cases that have changed."
    )
    example = (
        "  guided-attention convert scans --out Dataset001_Liver --to nnunet --organ 1=liver\n"
        "  guided-attention convert CHAOS --out slices --to png --workers 2"
    )
    parser = _verb(verbs, "convert", "write a folder of scans in another layout", text, example)
    parser.add_argument("data", metavar="DATA", help="folder of scans in a known layout")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder to write, new or empty")
    parser.add_argument(
        "--to", metavar="L", required=True, choices=("pairs", "nnunet", "png"), help="pairs, nnunet or png"
    )
    _add_opening(parser)
    _add_workers(parser)


def _add_opening(parser: argparse.ArgumentParser) -> None:
    """Add how a folder of scans is opened."""
    parser.add_argument(
        "--layout", metavar="L", default="auto", help="layout of DATA (default: found by itself)"
    )
    what = "spacing of PNG slices and other files without geometry, in millimetres: z y x"
    parser.add_argument("--spacing", metavar="MM", nargs=3, type=float, help=what)
    parser.add_argument(
        "--channel",
        metavar="NAME",
        action="append",
        help="what the names of image files end in, where a scan has one file a channel; repeat it in the order wanted "
        "(default: found by itself)",
    )
    parser.add_argument(
        "--resample-channels",
        action="store_true",
        help="interpolate channels onto the grid of the first where grids differ",
    )
    _add_series(parser)
    what = "memory that a volume may take, in bytes (default: 4 GiB)"
    parser.add_argument("--max-bytes", metavar="N", type=int, help=what)
    what = "name an organ by its value in the masks; values not named become background; can be repeated"
    parser.add_argument("--organ", metavar="VALUE=NAME", type=_organ, action="append", default=[], help=what)


def _add_series(parser: argparse.ArgumentParser) -> None:
    what = "series to read of DICOM folders that hold several: its name, number or description"
    parser.add_argument("--series", metavar="S", help=what)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", metavar="N", type=int, default=1, help="processes that read (default: 1)"
    )


def _add_plan(verbs: "_Verbs") -> None:
    text = (
        "Read the labelled training cases in DATA once, choose every setting from them and from this machine,\n"
        "write RUN/plan.json, and print the settings with the reasons. Nothing is trained."
    )
    example = (
        "  guided-attention plan scans --out runs/first --minutes 30\n"
        "  guided-attention plan scans --out runs/second --set optimizer.lr=1e-3 --set sampling.workers=2\n"
        "  guided-attention plan scans --out runs/third --organ 5=liver --organ 1=spleen\n"
        "  guided-attention plan cases.csv --out runs/fourth --dimensions 3d"
    )
    parser = _verb(verbs, "plan", "choose all settings from the scans", text, example)
    parser.add_argument(
        "data", metavar="DATA", help="folder of scans in a known layout, or a CSV file that lists them"
    )
    parser.add_argument("--out", metavar="RUN", required=True, help="run folder to make, new or empty")
    parser.add_argument("--minutes", metavar="M", type=float, help="time limit of the training")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="seed of the split and the run (default: 0)"
    )
    parser.add_argument("--patient", metavar="PATTERN", help=_PATIENT)
    what = "what the network sees: slices, slices with their neighbours as channels, or volumes (default: chosen)"
    parser.add_argument("--dimensions", metavar="D", choices=("2d", "2.5d", "3d"), help=what)
    _add_opening(parser)
    _add_set(parser)
    _add_device(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def _add_train(verbs: "_Verbs") -> None:
    text = (
        "Train what RUN/plan.json says. Progress goes to standard error. Ctrl-C finishes the step, stores the\n"
        "state and exits with code 75; --resume continues. Where the limit is in epochs, the weights are those of a\n"
        "run never stopped.\n"
        "With --folds, all labelled cases but those of the test are divided into folds. Each fold trains a network\n"
        "that then predicts the cases of the fold; the minutes of the plan are for each fold.\n"
        "Processes that torchrun starts train together and write one run; with --folds, each trains its own folds."
    )
    example = (
        "  guided-attention train runs/first\n"
        "  guided-attention train runs/first --resume\n"
        "  guided-attention train runs/second --init-from runs/first\n"
        "  torchrun --nproc-per-node 4 -m guided_attention train runs/first\n"
        "  guided-attention train runs/third --folds 5\n"
        "  guided-attention train runs/third --folds 5 --fold 2 --resume"
    )
    parser = _verb(verbs, "train", "train what a plan says", text, example)
    parser.add_argument("run", metavar="RUN", help="run folder with plan.json")
    parser.add_argument("--folds", metavar="N", type=int, help="train N folds in place of one network")
    what = "number of the fold to train, from 0 (default: all, one after another)"
    parser.add_argument("--fold", metavar="K", type=int, help=what)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    _add_set(parser)
    parser.add_argument("--init-from", metavar="RUN", help="start from the weights of another run")
    parser.add_argument(
        "--take-over", action="store_true", help="take the lock of a run whose process is dead"
    )
    _add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="report no progress")


def _add_finalize(verbs: "_Verbs") -> None:
    text = (
        "Join the folds of RUN: write the scores of every case, predicted by the network that has not seen it, into\n"
        "RUN/scores.csv; choose post-processing on these predictions; write the ensemble of all folds, with which\n"
        "`predict` and `evaluate` work from then on."
    )
    example = "  guided-attention finalize runs/third\n  guided-attention predict runs/third scans --out predictions"
    parser = _verb(verbs, "finalize", "score all folds and join them into one predictor", text, example)
    parser.add_argument("run", metavar="RUN", help="run folder whose folds are trained")
    parser.add_argument("--take-over", action="store_true", help="take the lock of a process that is dead")
    parser.add_argument("--json", action="store_true", help="print one JSON line a case")


def _add_predict(verbs: "_Verbs") -> None:
    text = (
        "Write one label volume a scan into FOLDER, on the grid of the scan, with a ledger. A scan that fails\n"
        "does not stop the others. A shard is a part of the scans for one of several processes, in a folder of its\n"
        "own within FOLDER until `merge` has joined all."
    )
    example = (
        "  guided-attention predict runs/first --out predictions\n"
        "  guided-attention predict runs/first new-scans --out predictions --also uncertainty\n"
        "  guided-attention predict runs/first scan.nii.gz dicom-folder --out predictions --json\n"
        "  guided-attention predict runs/first dicom-folder --out predictions --also dicom-seg --also rtstruct\n"
        "  guided-attention predict runs/first new-scans --out predictions --shard 2/5"
    )
    parser = _verb(verbs, "predict", "predict scans with a trained run", text, example)
    parser.add_argument("run", metavar="RUN", help="run folder")
    what = "files, folders of scans, DICOM folders (default: the test cases of the plan, or its validation cases)"
    parser.add_argument("scans", metavar="SCANS", nargs="*", help=what)
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder for the predictions")
    _add_series(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="skip the scans that FOLDER already has")
    group.add_argument("--overwrite", action="store_true", help="discard the predictions in FOLDER")
    what = "write an uncertainty map as well, or, of a DICOM series, dicom-seg or rtstruct; can be repeated"
    files = ("uncertainty", "dicom-seg", "rtstruct")
    parser.add_argument("--also", metavar="FILE", choices=files, action="append", default=[], help=what)
    what = (
        "predict part K of N of the scans, K from 1 (default: that of this process in torchrun or a SLURM array; "
        "elsewhere 1/1, all scans)"
    )
    parser.add_argument("--shard", metavar="K/N", type=_part, help=what)
    _add_device(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON line a case")


def _add_merge(verbs: "_Verbs") -> None:
    text = (
        "Join the predictions of all shards in FOLDER, as if one process had predicted all. Where shards are missing,\n"
        "list them and their cases, and change nothing."
    )
    example = "  guided-attention merge predictions"
    parser = _verb(verbs, "merge", "join the predictions of all shards", text, example)
    parser.add_argument("folder", metavar="FOLDER", help="folder that `predict --shard` wrote")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _add_evaluate(verbs: "_Verbs") -> None:
    text = (
        "Score predictions against the reference segmentations in DATA, and print a table. Without\n"
        "--predictions, the cases are predicted first."
    )
    example = (
        "  guided-attention evaluate runs/first\n"
        "  guided-attention evaluate runs/first --predictions predictions --out scores\n"
        "  guided-attention evaluate runs/first other-hospital --json"
    )
    parser = _verb(verbs, "evaluate", "score predictions", text, example)
    parser.add_argument("run", metavar="RUN", help="run folder")
    what = (
        "folder of scans with reference (default: the test cases of the plan, or its validation cases where no test "
        "case has a reference)"
    )
    parser.add_argument("data", metavar="DATA", nargs="?", help=what)
    parser.add_argument("--predictions", metavar="FOLDER", help="folder that `predict` wrote")
    what = (
        "folder for scores.csv, scores.json and scores.txt (default: RUN/evaluation, and RUN/evaluation-NAME for DATA "
        "called NAME)"
    )
    parser.add_argument("--out", metavar="FOLDER", help=what)
    _add_device(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON line a case")


def _add_info(verbs: "_Verbs") -> None:
    text = "Tell what a run folder, plan, checkpoint, saved predictor or folder of scans holds."
    example = "  guided-attention info runs/first\n  guided-attention info scans --json"
    parser = _verb(verbs, "info", "tell what a run or a folder of scans holds", text, example)
    parser.add_argument("path", metavar="PATH", help="file or folder")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _add_set(parser: argparse.ArgumentParser) -> None:
    what = "another value in the plan, such as optimizer.lr=1e-3; can be repeated"
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], type=_assignment, help=what
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="D", default="auto", help=_DEVICE)


def _part(text: str) -> tuple[int, int]:
    numbers = [int(part) if part.isascii() and part.isdecimal() else 0 for part in text.split("/")]
    if len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1]:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"must be K/N with K from 1 to N, such as 2/5, got {text!r}")
    return numbers[0], numbers[1]


def _organ(text: str) -> tuple[int, str]:
    value, _, name = (part.strip() for part in text.partition("="))
    if not (value.isascii() and value.isdigit() and name):
        raise argparse.ArgumentTypeError(f"must be VALUE=NAME, such as 5=liver, got {text!r}")
    return int(value), name


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, such as optimizer.lr=1e-3, got {text!r}")
    return key.strip(), value.strip()
