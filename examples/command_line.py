"""What the training examples share: common options, run folders that are never overwritten, and short endings.

The examples import this module first: from then on, Ctrl-C ends a command in one line, even while torch is imported.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C has ended."""
NOT_BEGUN = "Interrupted. Run the same command to start again: training had not begun."


def leave(_number: int, _frame: FrameType | None) -> None:
    """End the process at once: an exception in the middle of an import comes out as something else."""
    os.write(2, f"\n{NOT_BEGUN}\n".encode())
    os._exit(INTERRUPTED)


if "torch" not in sys.modules:
    signal.signal(signal.SIGINT, leave)

import torch  # noqa: E402

from guided_attention.errors import GuidedAttentionError, TrainingInterrupted  # noqa: E402

FILES = ("log.csv", "last.pt", "best.pt")


def run_parser(
    description: str | None, *, out: Path | None, minutes: float | None
) -> argparse.ArgumentParser:
    """Return a parser with the options that every training has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=out, help="new folder for this run")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    about = "stop after so many minutes at the latest, the validation included"
    parser.add_argument("--minutes", type=float, default=minutes, help=about)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def require_run_folder(out: Path, *, resume: bool) -> None:
    """End the command in one line if the folder holds a run, holds none to resume, or cannot be written to."""
    nearest = next(path for path in (out, *out.parents, Path.cwd()) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        reason = "cannot be written to" if nearest.is_dir() else "is a file"
        sys.exit(f"error: --out must be a folder for files, got {out}: {nearest} {reason}. Name another one.")
    held = [name for name in FILES if (out / name).exists()]
    if held and not resume:
        sys.exit(
            f"error: --out must be a folder without a run, got {out}, which holds {', '.join(held)}. "
            "Add --resume to continue that run, or name another folder."
        )
    if resume and "last.pt" not in held:
        sys.exit(f"error: --out must hold a run to resume, got {out}, which has no last.pt. Drop --resume.")


def run_command(
    main: Callable[[argparse.Namespace], None], args: argparse.Namespace, *, needs_resume: bool = True
) -> None:
    """Call `main`; end an error of the library or of the disk, and Ctrl-C, in one line each.

    Args:
        main: The work of the command.
        args: Its options; `out` is the folder that it writes.
        needs_resume: Whether an interrupted run continues with ``--resume`` only.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(args)
    except (GuidedAttentionError, OSError) as error:
        sys.exit(f"error: {error}")
    except TrainingInterrupted:  # a signal in training, whose state is stored
        print("Run the same command with --resume to continue.", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        how = "with --resume to continue" if needs_resume else "to continue"
        has_begun = not needs_resume or (args.out / "last.pt").is_file()
        said = f"Interrupted. Run the same command {how}." if has_begun else NOT_BEGUN
        print(f"\n{said}", file=sys.stderr)
        sys.exit(INTERRUPTED)
