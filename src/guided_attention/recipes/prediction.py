"""Prediction with a trained run."""

from collections.abc import Callable, Sequence

from guided_attention._files import PathLike
from guided_attention.case import Case
from guided_attention.inference import LedgerEntry

__all__ = ["predict"]


def predict(
    run: PathLike,
    scans: PathLike | Sequence[PathLike] | Sequence[Case] | None,
    out: PathLike,
    *,
    device: str = "auto",
    include_uncertainty: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    on_case: Callable[[LedgerEntry], None] | None = None,
) -> list[LedgerEntry]:
    """Predict scans with a run into the folder `out`; None predicts the test cases of its plan."""
    raise NotImplementedError
