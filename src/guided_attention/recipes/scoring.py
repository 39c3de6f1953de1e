"""Scores of a run on cases with a reference."""

from collections.abc import Callable, Sequence

from guided_attention._files import PathLike
from guided_attention.case import Case
from guided_attention.evaluation import CaseScore
from guided_attention.inference import LedgerEntry

__all__ = ["evaluate"]


def evaluate(
    run: PathLike,
    cases: PathLike | Sequence[Case] | None = None,
    *,
    predictions: PathLike | None = None,
    out: PathLike | None = None,
    device: str = "auto",
    on_case: Callable[[LedgerEntry], None] | None = None,
) -> list[CaseScore]:
    """Predict (or read) and score cases; writes ``scores.csv``, ``scores.json`` and ``scores.txt`` into `out`."""
    raise NotImplementedError
