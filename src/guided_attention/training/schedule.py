"""Learning rate over the run: functions of the share of the run, in epochs or in minutes, that is done."""

import math
from collections.abc import Callable
from typing import TypeAlias

from guided_attention._checks import require, require_positive

__all__ = ["Schedule", "cosine_decay", "polynomial_decay"]

Schedule: TypeAlias = Callable[[float], float]
"""Takes the share of the run that is done, 0 to 1, to the factor on the learning rate."""


def polynomial_decay(power: float = 0.9) -> Schedule:
    """Let the learning rate fall to zero, almost in a straight line.

    ::

        factor(progress) = (1 - progress) ** power

    Args:
        power: 1 is a straight line; smaller values stay high for longer.

    Returns:
        A function from the share of the run that is done, 0 to 1, to the factor on the learning rate.

    Raises:
        ValueError: The power is not above 0.

    Example:
        >>> schedule = polynomial_decay(power=2.0)
        >>> [schedule(progress) for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.25, 0.0]
    """
    require_positive("power", power)
    return lambda progress: (1.0 - progress) ** power


def cosine_decay(warmup: float = 0.0) -> Schedule:
    """Let the learning rate fall to zero along half a cosine, after an optional straight rise.

    ::

        factor(progress) = progress / warmup                                             progress < warmup
                         = (1 + cos(pi · (progress - warmup) / (1 - warmup))) / 2        otherwise

    Args:
        warmup: Share of the run that the rise from 0 takes, from 0 (none) to below 1.

    Returns:
        A function from the share of the run that is done, 0 to 1, to the factor on the learning rate.

    Raises:
        ValueError: The share is below 0, or 1 and more.

    Example:
        >>> schedule = cosine_decay(warmup=0.2)
        >>> [round(schedule(progress), 6) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    require(0.0 <= warmup < 1.0, "warmup", "at least 0 and below 1, a share of the run", warmup)

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))

    return factor
