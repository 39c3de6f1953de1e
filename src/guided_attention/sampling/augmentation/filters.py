"""Changes by neighbouring voxels: blur, low resolution, sharpening."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from numpy.random import Generator
from torch import Tensor

from guided_attention.sampling.augmentation._fields import cubic
from guided_attention.sampling.augmentation.change import (
    changed_channels,
    channel_numbers,
    require_probability,
    require_range,
)

__all__ = ["GaussianBlur", "LowResolution", "Sharpening"]

_RADIUS = 4
"""Where a Gaussian is cut off, in standard deviations."""
_VOLUME = 3


@dataclass(frozen=True)
class GaussianBlur:
    """Blur by a Gaussian whose width is drawn for each axis; edge values are repeated.

    Drawn: the widths of all axes, channel by channel; 0 where a channel is not changed.

    Attributes:
        probability: How often a sample is changed.
        channel_probability: Then, how often each channel is.
        sigma: Smallest and largest width, in voxels.
        alike: Whether all channels change alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> GaussianBlur().apply(image, labels, [0.0, 1.0])[0]
        tensor([[[0.4405, 1.5933, 3.8430, 6.3757]]])
    """

    probability: float = 0.2
    channel_probability: float = 0.5
    sigma: tuple[float, float] = (0.5, 1.0)
    alike: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_probability("channel_probability", self.channel_probability)
        require_range("sigma", self.sigma)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw the widths."""
        return channel_numbers(
            random,
            shape[0],
            lambda: [random.uniform(*self.sigma) for _ in shape[1:]],
            probability=self.probability,
            share=self.channel_probability,
            alike=self.alike,
        )

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Blur the channels that were drawn."""
        return changed_channels(image, numbers, _blurred, image.ndim - 1), labels


def _blurred(channel: Tensor, *sigmas: float) -> Tensor:
    for axis, sigma in enumerate(sigmas):
        if sigma > 0:
            channel = _blurred_along(channel, axis, sigma)
    return channel


def _blurred_along(channel: Tensor, axis: int, sigma: float) -> Tensor:
    """Add up moved copies: for so few weights that is faster than a convolution."""
    radius, length = int(_RADIUS * sigma + 0.5), channel.shape[axis]
    weights = [exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    padded = _padded(channel, axis, radius)
    result = padded.narrow(axis, 0, length) * (weights[0] / sum(weights))
    for step, weight in enumerate(weights[1:], 1):
        result.add_(padded.narrow(axis, step, length), alpha=weight / sum(weights))
    return result


def _padded(channel: Tensor, axis: int, width: int) -> Tensor:
    """Repeat the edges of an axis."""
    places = torch.arange(-width, channel.shape[axis] + width, device=channel.device)
    return channel.index_select(axis, places.clamp_(0, channel.shape[axis] - 1))


@dataclass(frozen=True)
class LowResolution:
    """Keep fewer voxels, the nearest ones, and interpolate them back by cubic convolution.

    Drawn: for each channel the share of voxels kept along each axis; 0 where it is not changed.

    Attributes:
        probability: How often a sample is changed.
        channel_probability: Then, how often each channel is.
        factor: Smallest and largest share.
        in_plane: Whether the first axis of volumes, across the slices, keeps its voxels.
        alike: Whether all channels change alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> LowResolution().apply(image, labels, [0.5])[0]
        tensor([[[0.2617, 2.5859, 6.4141, 8.7383]]])
    """

    probability: float = 0.25
    channel_probability: float = 0.5
    factor: tuple[float, float] = (0.5, 1.0)
    in_plane: bool = False
    alike: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_probability("channel_probability", self.channel_probability)
        require_range("factor", self.factor)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw the share of voxels kept."""
        return channel_numbers(
            random,
            shape[0],
            lambda: [random.uniform(*self.factor)],
            probability=self.probability,
            share=self.channel_probability,
            alike=self.alike,
        )

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Shrink and enlarge the channels that were drawn."""
        return changed_channels(image, numbers, self._coarse), labels

    def _coarse(self, channel: Tensor, factor: float) -> Tensor:
        kept = [max(1, round(length * factor)) for length in channel.shape]
        if self.in_plane and channel.ndim == _VOLUME:
            kept[0] = len(channel)
        small = F.interpolate(channel[None, None], size=kept, mode="nearest-exact")[0, 0]
        return cubic(small, channel.shape)


@dataclass(frozen=True)
class Sharpening:
    """Add the difference of a voxel from its neighbours along the axes, and clip to the range the channel had.

    Drawn: one strength a channel; 0 where it is not changed.

    Attributes:
        probability: How often a sample is changed.
        channel_probability: Then, how often each channel is.
        strength: Smallest and largest factor of ``2 · axes · value - sum of neighbours``.
        alike: Whether all channels change alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> Sharpening().apply(image, labels, [0.5])[0]
        tensor([[[0.0000, 0.5000, 1.5000, 8.0000]]])
    """

    probability: float = 0.2
    channel_probability: float = 0.5
    strength: tuple[float, float] = (0.1, 1.0)
    alike: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_probability("channel_probability", self.channel_probability)
        require_range("strength", self.strength)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw a strength for each channel."""
        return channel_numbers(
            random,
            shape[0],
            lambda: [random.uniform(*self.strength)],
            probability=self.probability,
            share=self.channel_probability,
            alike=self.alike,
        )

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Sharpen the channels that were drawn."""
        return changed_channels(image, numbers, _sharpened), labels


def _sharpened(channel: Tensor, strength: float) -> Tensor:
    result = channel * (1 + 2 * channel.ndim * strength)
    for axis, length in enumerate(channel.shape):
        padded = _padded(channel, axis, 1)
        for start in (0, 2):
            result.sub_(padded.narrow(axis, start, length), alpha=strength)
    low, high = torch.aminmax(channel)
    return result.clamp_(low, high)
