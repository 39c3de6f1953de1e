"""What the training examples share: common options, run folders that are never overwritten, and short endings."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from guided_attention.errors import GuidedAttentionError

FILES = ("log.csv", "last.pt", "best.pt")
INTERRUPTED = 130
"""Exit code of a command that Ctrl-C has ended."""


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
    """End the command in one line if the folder holds a run, or holds none to resume."""
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
    """Call `main`; end an error of the library, and Ctrl-C, in one line each.

    Args:
        main: The work of the command.
        args: Its options; `out` is the folder that it writes.
        needs_resume: Whether an interrupted run continues with ``--resume`` only.
    """
    try:
        main(args)
    except GuidedAttentionError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        how = "to continue" if not needs_resume else "with --resume to continue"
        if needs_resume and not (args.out / "last.pt").is_file():
            how = "to start again: training had not begun"
        print(f"\nInterrupted. Run the same command {how}.", file=sys.stderr)
        sys.exit(INTERRUPTED)
