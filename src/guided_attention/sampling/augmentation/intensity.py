"""Changes of every voxel's intensity by the same rule: noise, brightness, contrast, gamma, curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.random import Generator
from torch import Tensor

from guided_attention._checks import require, require_integer
from guided_attention.sampling.augmentation.change import (
    around_one,
    changed_channels,
    channel_numbers,
    happens,
    require_drawn,
    require_probability,
    require_range,
    seed,
)

__all__ = [
    "Brightness",
    "Contrast",
    "Gamma",
    "GaussianNoise",
    "IntensityCurve",
    "deviation",
    "in_unit_range",
]


@dataclass(frozen=True)
class GaussianNoise:
    """Independent noise in every voxel, in units of the channel's standard deviation.

    Drawn: standard deviation and seed.

    Attributes:
        probability: How often a sample is changed.
        variance: Smallest and largest, where the image has variance 1.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> GaussianNoise().apply(image, labels, [0.3, 5.0])[0].shape
        torch.Size([1, 1, 4])
    """

    probability: float = 0.1
    variance: tuple[float, float] = (0.0, 0.1)

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_range("variance", self.variance)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw how strong the noise is."""
        del shape
        if not happens(random, self.probability):
            return None
        return [float(random.uniform(*self.variance) ** 0.5), seed(random)]

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Add the noise."""
        require_drawn(numbers, 2)
        strength, start = numbers
        generator = torch.Generator(image.device).manual_seed(int(start))
        noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        scale = torch.stack([deviation(channel) for channel in image]) * strength
        return noise.mul_(scale.reshape(-1, *[1] * (image.ndim - 1))).add_(image), labels


def _factors(
    change: "Brightness | Contrast | Gamma",
    limits: tuple[float, float],
    shape: Sequence[int],
    random: Generator,
) -> list[float] | None:
    """Draw a number within limits around 1 for each channel."""
    return channel_numbers(
        random,
        shape[0],
        lambda: [around_one(random, limits)],
        probability=change.probability,
        alike=change.alike,
    )


@dataclass(frozen=True)
class Brightness:
    """Multiply a channel by a factor. Drawn: one factor a channel.

    Attributes:
        probability: How often a sample is changed.
        factor: Smallest and largest.
        alike: Whether all channels change alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> Brightness().apply(image, labels, [1.25])[0]
        tensor([[[ 0.0000,  1.2500,  3.7500, 10.0000]]])
    """

    probability: float = 0.15
    factor: tuple[float, float] = (0.75, 1.25)
    alike: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_range("factor", self.factor)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw a factor for each channel."""
        return _factors(self, self.factor, shape, random)

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Multiply."""
        return changed_channels(image, numbers, torch.mul), labels


@dataclass(frozen=True)
class Contrast:
    """Stretch a channel about its mean, and clip it to the range it had. Drawn: one factor a channel.

    Attributes:
        probability: How often a sample is changed.
        factor: Smallest and largest; as often below 1 as above.
        alike: Whether all channels change alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> Contrast().apply(image, labels, [0.5])[0]
        tensor([[[1.5000, 2.0000, 3.0000, 5.5000]]])
    """

    probability: float = 0.15
    factor: tuple[float, float] = (0.75, 1.25)
    alike: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_range("factor", self.factor)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw a factor for each channel."""
        return _factors(self, self.factor, shape, random)

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Stretch and clip."""
        return changed_channels(image, numbers, _stretched), labels


def _stretched(channel: Tensor, factor: float) -> Tensor:
    low, high = torch.aminmax(channel)
    return torch.lerp(channel.mean(), channel, factor).clamp_(low, high)


@dataclass(frozen=True)
class Gamma:
    """Raise a channel, scaled to 0 to 1, to a power; its mean and standard deviation are restored.

    Drawn: one exponent a channel.

    Attributes:
        probability: How often a sample is changed.
        exponent: Smallest and largest; as often below 1 as above.
        inverted: Whether the power is taken of the image upside down, ``1 - value``, and the result turned back.
        alike: Whether all channels change alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> Gamma().apply(image, labels, [1.5])[0].mean().item()
        3.0
    """

    probability: float = 0.3
    exponent: tuple[float, float] = (0.7, 1.5)
    inverted: bool = False
    alike: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_range("exponent", self.exponent)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw an exponent for each channel."""
        return _factors(self, self.exponent, shape, random)

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Raise to the power, then restore mean and standard deviation."""
        return changed_channels(image, numbers, self._raised), labels

    def _raised(self, channel: Tensor, exponent: float) -> Tensor:
        unit, _, _ = in_unit_range(channel)
        return _restored(1 - (1 - unit).pow_(exponent) if self.inverted else unit.pow_(exponent), channel)


@dataclass(frozen=True)
class IntensityCurve:
    """Map a channel, scaled to 0 to 1, by a random curve; its mean and standard deviation are restored.

    The curve is straight between heights at evenly spaced intensities, and may fall: tissue that is bright can become
    darker than its surroundings, as in a scan of another sequence or with another contrast agent. Networks then rely
    less on how bright an organ is. Not for CT, whose numbers mean the same in every scan.

    ::

        height_k = (1 - a) k / (n - 1) + a u_k,    k = 0 … n - 1,    a and u_k drawn evenly from 0 to 1

    Drawn: ``n`` heights a channel.

    Attributes:
        probability: How often a sample is changed.
        knots: Number of heights ``n``, at least 2.
        alike: Whether all channels change alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> IntensityCurve(knots=2).apply(image, labels, [1.0, 0.0])[0]  # turned upside down
        tensor([[[ 6.,  5.,  3., -2.]]])

    References:
        Zhou et al., Models Genesis, Medical Image Analysis 2021 (non-linear intensity transformation, with curves that
        rise or fall). Ouyang et al., Causality-inspired single-source domain generalization, IEEE TMI 2023 (random
        changes of intensity mixed with the image).
    """

    probability: float = 0.3
    knots: int = 5
    alike: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_integer("knots", self.knots)
        require(self.knots >= 2, "knots", "at least 2", self.knots)  # noqa: PLR2004

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw the heights of each channel."""

        def heights() -> list[float]:
            share, drawn = random.random(), random.random(self.knots)
            return [
                (1 - share) * number / (self.knots - 1) + share * float(height)
                for number, height in enumerate(drawn)
            ]

        return channel_numbers(random, shape[0], heights, probability=self.probability, alike=self.alike)

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Map the intensities, then restore mean and standard deviation."""
        return changed_channels(image, numbers, _mapped, self.knots), labels


def _mapped(channel: Tensor, *heights: float) -> Tensor:
    unit, _, _ = in_unit_range(channel)
    place = unit.mul_(len(heights) - 1)
    below = place.floor().clamp_(max=len(heights) - 2)
    curve = torch.tensor(heights, dtype=channel.dtype, device=channel.device)
    piece = below.long()
    return _restored(torch.addcmul(curve[piece], place - below, curve.diff()[piece]), channel)


def _restored(changed: Tensor, channel: Tensor) -> Tensor:
    """Return the changed channel, in place, with the mean and the standard deviation of the channel as it was."""
    scale = deviation(channel) / deviation(changed).clamp(min=torch.finfo(channel.dtype).eps)
    return changed.sub_(changed.mean()).mul_(scale).add_(channel.mean())


def in_unit_range(channel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a channel scaled to 0 to 1, its lowest value and its range; a constant channel becomes 0."""
    low, high = torch.aminmax(channel)
    extent = high - low
    unit = (channel - low).div_(extent.clamp(min=torch.finfo(channel.dtype).tiny))
    return unit, low, extent


def deviation(channel: Tensor) -> Tensor:
    """Return the standard deviation over all voxels; several times faster than torch's on the CPU."""
    return (channel - channel.mean()).square_().mean().sqrt_()
