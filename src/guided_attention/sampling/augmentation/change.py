"""What a random change is, and how its numbers are drawn."""

from collections.abc import Callable, Sequence
from math import exp, log
from typing import Protocol, runtime_checkable

import torch
from numpy.random import Generator
from torch import Tensor

from guided_attention._checks import counted, require, require_number, require_type

__all__ = [
    "Change",
    "around_one",
    "changed_channels",
    "channel_numbers",
    "happens",
    "log_uniform",
    "require_drawn",
    "require_probability",
    "require_range",
    "seed",
]


@runtime_checkable
class Change(Protocol):
    """A random change of one sample: numbers are drawn, then applied.

    `draw` takes the shape of an image ``(channels, *space)`` and returns the numbers that describe the change, or None
    where the sample stays as it is. `apply` carries them out: image ``(channels, *space)``, labels ``(*space)``. It
    returns tensors of the same shapes and leaves its arguments as they are. From an `Augmentation`, images of half
    precision come in single precision.
    """

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Return numbers, or None."""

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Return the changed image and labels."""


def happens(random: Generator, probability: float) -> bool:
    """Return True with this probability."""
    return random.random() < probability


def around_one(random: Generator, between: tuple[float, float]) -> float:
    """Return a factor: as often below 1 as above, where the range has both."""
    low, high = between
    if low < 1 < high:
        low, high = (low, 1.0) if happens(random, 0.5) else (1.0, high)
    return random.uniform(low, high)


def log_uniform(random: Generator, between: tuple[float, float]) -> float:
    """Return a number of a range, evenly on a log scale."""
    return exp(random.uniform(log(between[0]), log(between[1])))


def seed(random: Generator) -> float:
    """Return a seed for the noise of one sample, as a number among others."""
    return float(random.integers(2**32))


def channel_numbers(
    random: Generator,
    channels: int,
    draw: Callable[[], Sequence[float]],
    *,
    probability: float,
    share: float = 1.0,
    alike: bool = False,
) -> list[float] | None:
    """Return the numbers of all channels in a row, zeros for channels that stay as they are; None where all do.

    Args:
        random: Gives the chances.
        channels: Number of channels.
        draw: Returns the numbers of a channel, never all 0.
        probability: How often the sample is changed.
        share: Then, how often each channel is.
        alike: Whether all channels get the same numbers.
    """
    if not happens(random, probability):
        return None
    drawn = [draw() if happens(random, share) else () for _ in range(1 if alike else channels)]
    width = max(map(len, drawn))
    filled = [each or (0.0,) * width for each in drawn] * (channels if alike else 1)
    return [number for each in filled for number in each] or None


def changed_channels(
    image: Tensor, numbers: Sequence[float], change: Callable[..., Tensor], width: int = 1
) -> Tensor:
    """Return the image with each channel changed by its share, so many numbers; zeros leave it as it is."""
    require_drawn(numbers, width * len(image))
    shares = [numbers[start : start + width] for start in range(0, len(numbers), width)]
    pairs = zip(image, shares, strict=True)
    changed = [change(channel, *share) if any(share) else channel for channel, share in pairs]
    return changed[0][None] if len(changed) == 1 else torch.stack(changed)


def require_drawn(numbers: Sequence[float], count: int) -> None:
    """Raise unless there are as many numbers as a change of this image takes."""
    wanted, cure = f"{counted(count, 'number')} for this image", "Pass what `draw` returned for its shape."
    require(len(numbers) == count, "drawn", wanted, len(numbers), cure)


def require_probability(name: str, value: float) -> None:
    """Raise unless a value is a probability."""
    require_number(name, value)
    require(0 <= value <= 1, name, "a probability from 0 to 1", value)


def require_range(name: str, between: tuple[float, float], least: float = 0.0) -> None:
    """Raise unless two numbers are a range that begins at `least` or above."""
    require_type(name, between, tuple, "a tuple of two numbers, smallest and largest")
    require(len(between) == 2, name, "two numbers, smallest and largest", between)  # noqa: PLR2004
    for value in between:
        require_number(name, value)
    require(least <= between[0] <= between[1], name, f"two ascending numbers from {least} on", between)
