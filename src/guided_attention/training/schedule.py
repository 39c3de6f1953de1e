"""Learning rate over the run: functions of how far the run has come and how well it validated; resumed schedulers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from guided_attention._checks import counted, require, require_positive

__all__ = [
    "Schedule",
    "TrainingProgress",
    "cosine_decay",
    "polynomial_decay",
    "reduce_on_plateau",
    "with_given",
]


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """How far a run has come: the input of a schedule.

    A schedule that depends only on this record, and has no state of its own, is the same in a resumed run.

    Attributes:
        share: Share of the run that is done, 0 to 1: of its epochs or its minutes, whichever is larger.
        epoch: The current epoch, from 1.
        scores: Epoch and score of each validation so far, in order; higher is better.

    Example:
        >>> progress = TrainingProgress(share=0.5, epoch=3, scores=((1, 0.25), (2, 0.75)))
        >>> max(score for _, score in progress.scores)
        0.75
    """

    share: float = 0.0
    epoch: int = 1
    scores: tuple[tuple[int, float], ...] = ()


Schedule: TypeAlias = Callable[[TrainingProgress], float]
"""Function from the progress of the run to the factor on the learning rate."""


def polynomial_decay(power: float = 0.9) -> Schedule:
    """Let the learning rate fall to zero, almost in a straight line.

    ::

        factor(progress) = (1 - progress.share) ** power

    Args:
        power: 1 is a straight line; smaller values stay high for longer.

    Returns:
        A function from the progress of the run to the factor on the learning rate.

    Raises:
        ArgumentError: The power is not above 0.

    Example:
        >>> schedule = polynomial_decay(power=2.0)
        >>> [schedule(TrainingProgress(share=share)) for share in (0.0, 0.5, 1.0)]
        [1.0, 0.25, 0.0]
    """
    require_positive("power", power)
    return lambda progress: (1.0 - progress.share) ** power


def cosine_decay(warmup: float = 0.0) -> Schedule:
    """Let the learning rate fall to zero along half a cosine, after an optional straight rise.

    ::

        factor(progress) = share / warmup                                             share < warmup
                         = (1 + cos(pi · (share - warmup) / (1 - warmup))) / 2        otherwise

    Args:
        warmup: Share of the run that the rise from 0 takes, from 0 (none) to below 1.

    Returns:
        A function from the progress of the run to the factor on the learning rate.

    Raises:
        ArgumentError: The share is below 0, or 1 and more.

    Example:
        >>> schedule = cosine_decay(warmup=0.2)
        >>> [round(schedule(TrainingProgress(share=share)), 6) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    require(0.0 <= warmup < 1.0, "warmup", "at least 0 and below 1, a share of the run", warmup)

    def factor(progress: TrainingProgress) -> float:
        if progress.share < warmup:
            return progress.share / warmup
        return 0.5 * (1.0 + math.cos(math.pi * (progress.share - warmup) / (1.0 - warmup)))

    return factor


def reduce_on_plateau(epochs: int = 50, factor: float = 0.5) -> Schedule:
    """Cut the learning rate each time that the validation has not improved for so many epochs.

    A score above all earlier ones is an improvement. At the first score that comes ``epochs`` epochs or more after the
    last improvement, the rate is cut, and the count restarts at its epoch. Without any improvement it starts at 0.

    ::

        factor(progress) = factor ** (number of cuts)

    The rate is only cut after a validation: with `validate_every` above 1, up to that many epochs later. An equal score
    or NaN is no improvement.

    Args:
        epochs: Epochs without improvement before each cut.
        factor: On the learning rate at each cut, between 0 and 1.

    Returns:
        A function from the progress of the run to the factor on the learning rate.

    Raises:
        ArgumentError: The epochs are below 1, or the factor is not between 0 and 1.

    Example:
        >>> schedule = reduce_on_plateau(epochs=2)
        >>> scores = ((1, 0.6), (2, 0.5), (3, 0.6), (4, 0.7))
        >>> [schedule(TrainingProgress(scores=scores[:done])) for done in range(5)]
        [1.0, 1.0, 1.0, 0.5, 0.5]

    References:
        Sinha and Dolz train like this: the rate is halved after 50 epochs without improvement on the
        validation set. ``torch.optim.lr_scheduler.ReduceLROnPlateau`` cuts at the same epochs with
        ``mode="max"``, ``threshold=0`` and a ``patience`` one smaller than ``epochs``.
    """
    require(epochs >= 1, "epochs", "at least 1", epochs)
    require(0.0 < factor < 1.0, "factor", "between 0 and 1", factor)

    def cut(progress: TrainingProgress) -> float:
        best, counted_from, cuts = -math.inf, 0, 0
        for epoch, score in progress.scores:
            if score > best:
                best, counted_from = score, epoch
            elif epoch - counted_from >= epochs:
                cuts, counted_from = cuts + 1, epoch
        return factor**cuts

    return cut


def with_given(held: Any, before: Any, now: Any, where: str, changes: list[str]) -> Any:  # noqa: ANN401 - plain values
    """Return the stored state of a scheduler with the settings that are given differently now, which are noted.

    Schedulers inside it, as those of ``SequentialLR``, are lists of such states: each keeps what it has counted.
    """
    if before == now:
        return held
    if isinstance(held, dict) and isinstance(now, dict) and all(type(name) is str for name in (*held, *now)):
        merged = dict(held)
        for name, value in now.items():
            old = before.get(name)
            merged[name] = with_given(held.get(name), old, value, f"{where}.{name}", changes)
        return merged
    if isinstance(held, list) and isinstance(now, list) and all(type(x) is dict for x in (*held, *now)):
        if len(before) != len(now):
            changes.append(f"{where}: {len(before)} → {counted(len(now), 'entry', 'entries')}")
        parts = enumerate(zip(held, before, now, strict=False))
        kept = [with_given(*part, f"{where}[{number}]", changes) for number, part in parts]
        return kept + now[len(kept) :]
    if not where.endswith("._last_lr"):  # it follows the learning rate
        changes.append(f"{where}: {before} → {now}")
    return now
