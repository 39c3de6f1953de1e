"""Training of a plan."""

from collections.abc import Sequence

from guided_attention._files import PathLike
from guided_attention.case import Case
from guided_attention.recipes.plan import Plan
from guided_attention.training import TrainingResult

__all__ = ["train"]


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
    """Train what a plan says into a run folder. ``plan`` may be the run folder that holds ``plan.json``."""
    raise NotImplementedError
