"""Changes that differ from place to place: rectangles, gradients of brightness, local gamma, the bias field of MR."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.random import Generator
from torch import Tensor

from guided_attention._checks import require_count
from guided_attention.sampling.augmentation._fields import bump, smooth_noise
from guided_attention.sampling.augmentation.change import (
    changed_channels,
    channel_numbers,
    happens,
    log_uniform,
    require_drawn,
    require_probability,
    require_range,
    seed,
)
from guided_attention.sampling.augmentation.intensity import deviation, in_unit_range

__all__ = ["BiasField", "BlankRectangles", "BrightnessGradient", "LocalGamma"]

_CENTRE = (-0.5, 1.5)
"""Where the middle of a local change may lie, in parts of an axis: also outside."""
_WIDTH = (1 / 6, 1.0)
"""How wide a local change is, likewise."""


@dataclass(frozen=True)
class BlankRectangles:
    """Set some rectangles (boxes in volumes) to the channel's mean.

    Drawn: first index and length along each axis, one rectangle after the other, channel by channel.

    Attributes:
        probability: How often a sample is changed.
        channel_probability: Then, how often each channel is.
        count: Smallest and largest number of rectangles.
        side: Smallest and largest side, in parts of the axis.
        alike: Whether all channels change alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> BlankRectangles().apply(image, labels, [0.0, 1.0, 1.0, 2.0])[0]
        tensor([[[0., 3., 3., 8.]]])
    """

    probability: float = 0.4
    channel_probability: float = 0.5
    count: tuple[int, int] = (1, 5)
    side: tuple[float, float] = (0.1, 1 / 3)
    alike: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_probability("channel_probability", self.channel_probability)
        require_range("count", self.count, least=1)
        require_range("side", self.side)
        for value in self.count:
            require_count("count", value)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw the rectangles; every channel gets as many, so that the numbers fall in equal shares."""
        count = int(random.integers(self.count[0], self.count[1] + 1))
        return channel_numbers(
            random,
            shape[0],
            lambda: [
                number
                for _ in range(count)
                for length in shape[1:]
                for number in self._extent(length, random)
            ],
            probability=self.probability,
            share=self.channel_probability,
            alike=self.alike,
        )

    def _extent(self, length: int, random: Generator) -> tuple[float, float]:
        side = min(length, max(1, round(length * random.uniform(*self.side))))
        return float(random.integers(length - side + 1)), float(side)

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Blank them."""
        one = 2 * (image.ndim - 1)
        count = max(1, len(numbers) // (one * len(image)))
        return changed_channels(image, numbers, _blanked, count * one), labels


def _blanked(channel: Tensor, *numbers: float) -> Tensor:
    result, mean = channel.clone(), channel.mean()
    extents = [
        slice(int(first), int(first + side)) for first, side in zip(numbers[::2], numbers[1::2], strict=True)
    ]
    for start in range(0, len(extents), channel.ndim):
        result[tuple(extents[start : start + channel.ndim])] = mean
    return result


@dataclass(frozen=True)
class BrightnessGradient:
    """Add a wide Gaussian whose middle lies in the image or beside it.

    Drawn, for each channel: height, in standard deviations of the channel, of either sign; middle and width along each
    axis, in parts of it.

    Attributes:
        probability: How often a sample is changed.
        channel_probability: Then, how often each channel is.
        strength: Smallest and largest height.
        alike: Whether all channels change alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> BrightnessGradient().apply(image, labels, [2.0, 0.5, 0.0, 1.0, 0.5])[0]
        tensor([[[5.9748, 5.6531, 5.8223, 9.3331]]])
    """

    probability: float = 0.3
    channel_probability: float = 0.5
    strength: tuple[float, float] = (1.0, 5.0)
    alike: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_probability("channel_probability", self.channel_probability)
        require_range("strength", self.strength)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw height, middle and width."""
        return channel_numbers(
            random,
            shape[0],
            lambda: [random.uniform(*self.strength) * random.choice((-1.0, 1.0)), *_place(shape, random)],
            probability=self.probability,
            share=self.channel_probability,
            alike=self.alike,
        )

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Add them."""
        return changed_channels(image, numbers, _brightened, 2 * image.ndim - 1), labels


def _brightened(channel: Tensor, strength: float, *place: float) -> Tensor:
    hill = bump(channel.shape, place[: channel.ndim], place[channel.ndim :], channel)
    return hill.mul_(deviation(channel) * strength).add_(channel)


@dataclass(frozen=True)
class LocalGamma:
    """Raise a channel, scaled to 0 to 1, to a power that acts about one place and fades away from it.

    Drawn, for each channel: exponent, middle and width along each axis, in parts of it.

    Attributes:
        probability: How often a sample is changed.
        channel_probability: Then, how often each channel is.
        darker: Smallest and largest exponent above 1, half of the draws.
        brighter: Smallest and largest exponent below 1, the other half.
        alike: Whether all channels change alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> LocalGamma().apply(image, labels, [2.0, 0.5, 0.0, 1.0, 0.5])[0]
        tensor([[[0.0000, 0.3395, 2.1416, 8.0000]]])
    """

    probability: float = 0.3
    channel_probability: float = 0.5
    darker: tuple[float, float] = (1.5, 4.0)
    brighter: tuple[float, float] = (0.01, 0.8)
    alike: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_probability("channel_probability", self.channel_probability)
        require_range("darker", self.darker)
        require_range("brighter", self.brighter)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw exponent, middle and width."""
        return channel_numbers(
            random,
            shape[0],
            lambda: [self._exponent(random), *_place(shape, random)],
            probability=self.probability,
            share=self.channel_probability,
            alike=self.alike,
        )

    def _exponent(self, random: Generator) -> float:
        return random.uniform(*(self.darker if happens(random, 0.5) else self.brighter))

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Raise to the power."""
        return changed_channels(image, numbers, _locally_raised, 2 * image.ndim - 1), labels


def _locally_raised(channel: Tensor, exponent: float, *place: float) -> Tensor:
    unit, low, extent = in_unit_range(channel)
    hill = bump(channel.shape, place[: channel.ndim], place[channel.ndim :], channel)
    return torch.lerp(unit, unit.pow(exponent), hill).mul_(extent).add_(low)


def _place(shape: Sequence[int], random: Generator) -> list[float]:
    centre = [random.uniform(*_CENTRE) for _ in shape[1:]]
    return [*centre, *(log_uniform(random, _WIDTH) for _ in shape[1:])]


@dataclass(frozen=True)
class BiasField:
    """Multiply what lies above the lowest value by a smooth field, as the coils of an MR scanner do.

    The field is ``exp(strength · noise)``, where the noise is standard normal at a few points an axis, and cubic
    between them. One field for all channels. Drawn: strength and seed.

    Attributes:
        probability: How often a sample is changed.
        strength: Smallest and largest.
        points: Along each axis.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> BiasField().apply(image, labels, [0.3, 5.0])[0].shape
        torch.Size([1, 1, 4])
    """

    probability: float = 0.3
    strength: tuple[float, float] = (0.0, 0.3)
    points: int = 4

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_range("strength", self.strength)
        require_count("points", self.points)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw how strong the field is."""
        del shape
        return [random.uniform(*self.strength), seed(random)] if happens(random, self.probability) else None

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Multiply."""
        require_drawn(numbers, 2)
        strength, start = numbers
        field = smooth_noise(image.shape[1:], self.points, 1, start, image)[0].mul_(strength).exp_()
        lowest = torch.stack([channel.min() for channel in image]).reshape(-1, *[1] * (image.ndim - 1))
        return (image - lowest).mul_(field).add_(lowest), labels
