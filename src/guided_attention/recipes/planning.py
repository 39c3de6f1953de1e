"""Planning: fills in a `Plan` from the scans and the machine, and says why."""

from collections.abc import Sequence

from guided_attention._files import PathLike
from guided_attention.case import Case
from guided_attention.labels import LabelSpec
from guided_attention.recipes.plan import Plan

__all__ = ["plan_for"]


def plan_for(
    data: PathLike | Sequence[Case],
    *,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    labels: LabelSpec | None = None,
) -> Plan:
    """Return a plan for the scans and this machine; ``plan.reasons`` says why each number is chosen."""
    raise NotImplementedError
