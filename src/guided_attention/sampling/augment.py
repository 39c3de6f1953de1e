"""Random changes of training slices."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from guided_attention._checks import require
from guided_attention._typing import ImageSlice, LabelSlice

__all__ = ["Chain", "FlipRotate", "RandomIntensity", "flip_rotate"]


def flip_rotate(
    image: ImageSlice, labels: LabelSlice, *, flipped: bool, mirrored: bool, degrees: float
) -> tuple[ImageSlice, LabelSlice]:
    """Flip a slice upside down, mirror it left to right, then turn it about its centre; labels alike.

    Flips are exact. The turn (counterclockwise as displayed, rows downwards) interpolates the image linearly
    and takes the nearest label; what turns in from outside is the image's lowest value, channel by channel,
    and background. Pixels are taken as square.

    Args:
        image: ``(channels, height, width)``.
        labels: ``(height, width)``.
        flipped: Whether top and bottom change places.
        mirrored: Whether left and right change places.
        degrees: How far to turn.

    Returns:
        Image and labels of the same shapes.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[0, 1]])
        >>> flip_rotate(image, labels, flipped=False, mirrored=True, degrees=0.0)
        (tensor([[[2., 1.]]]), tensor([[1, 0]]))
    """
    axes = [axis for axis, wanted in ((-2, flipped), (-1, mirrored)) if wanted]
    image, labels = image.flip(axes), labels.flip(axes)
    return (image, labels) if degrees == 0 else _rotated(image, labels, degrees)


def _rotated(image: Tensor, labels: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    height, width = labels.shape
    grid = _rotation_grid(height, width, degrees, image.dtype).to(image.device)
    # Outside is zero to grid_sample: with the least value at zero, the outside is the least value.
    lowest = image.amin(dim=(1, 2), keepdim=True)
    turned = F.grid_sample((image - lowest)[None], grid, mode="bilinear", align_corners=False)[0] + lowest
    nearest = F.grid_sample(labels[None, None].to(image.dtype), grid, mode="nearest", align_corners=False)[
        0, 0
    ]
    return turned, nearest.to(labels.dtype)


def _rotation_grid(height: int, width: int, degrees: float, dtype: torch.dtype) -> Tensor:
    """Return where to sample: a turn in pixels, in grid_sample's units of half a height and width."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    matrix = torch.tensor([[[c, -s * height / width, 0.0], [s * width / height, c, 0.0]]], dtype=dtype)
    return F.affine_grid(matrix, [1, 1, height, width], align_corners=False)


@dataclass(frozen=True)
class FlipRotate:
    """Random flip, mirror and rotation of training slices: the three changes the paper names, each by chance.

    Draws come from torch's generator: seed it with `torch.manual_seed`, a `DataLoader` seeds its workers.
    `flip_rotate` describes the changes.

    Attributes:
        flip: Probability of an upside-down flip.
        mirror: Probability of a left-right mirror. It puts the liver on the left: organs are told from their
            sides by position, so a network for CHAOS may do better with 0.
        rotate: Probability of a rotation.
        degrees: Rotations are drawn evenly from ``-degrees`` to ``degrees``. The paper gives no angle.

    Raises:
        ArgumentError: A probability is not from 0 to 1.

    Example:
        >>> import torch
        >>> augment = FlipRotate(degrees=15.0)
        >>> image, labels = augment(torch.rand(1, 7, 5), torch.zeros(7, 5, dtype=torch.long))
        >>> image.shape, labels.dtype
        (torch.Size([1, 7, 5]), torch.int64)

    References:
        Sinha and Dolz, Multi-scale self-guided attention for medical image segmentation, section IV.
    """

    flip: float = 0.5
    mirror: float = 0.5
    rotate: float = 0.5
    degrees: float = 30.0

    def __post_init__(self) -> None:
        """Check the probabilities."""
        for name in ("flip", "mirror", "rotate"):
            _require_probability(name, getattr(self, name))

    def __call__(self, image: ImageSlice, labels: LabelSlice) -> tuple[ImageSlice, LabelSlice]:
        """Draw a change and apply it to both."""
        flipped, mirrored, rotated = _chance(self.flip), _chance(self.mirror), _chance(self.rotate)
        degrees = _between(-self.degrees, self.degrees) if rotated else 0.0
        return flip_rotate(image, labels, flipped=flipped, mirrored=mirrored, degrees=degrees)


@dataclass(frozen=True)
class RandomIntensity:
    """Random contrast, brightness and gamma of training slices, for scanners that show tissue otherwise.

    All channels change alike: with ``lowest`` and ``range`` of the slice,
    ``((value - lowest) / range) ** g · range · a + lowest + b · range``, where ``g`` is drawn evenly on a log
    scale from ``1 / (1 + gamma)`` to ``1 + gamma``, ``a`` from ``1 ± scale`` and ``b`` from ``± shift``. The
    paper does none.

    Attributes:
        probability: How often a slice is changed.
        gamma: How far the exponent goes; 0 leaves it at 1.
        scale: How far the contrast goes.
        shift: How far the brightness goes, in parts of the slice's range.

    Raises:
        ArgumentError: A probability is not from 0 to 1, or ``gamma``, ``scale`` or ``shift`` is negative.

    Example:
        >>> import torch
        >>> image, _ = RandomIntensity()(torch.rand(1, 7, 5), torch.zeros(7, 5, dtype=torch.long))
        >>> image.shape
        torch.Size([1, 7, 5])
    """

    probability: float = 0.5
    gamma: float = 0.3
    scale: float = 0.1
    shift: float = 0.1

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_probability("probability", self.probability)
        for name in ("gamma", "scale", "shift"):
            require(getattr(self, name) >= 0, name, "0 or above", getattr(self, name))

    def __call__(self, image: ImageSlice, labels: LabelSlice) -> tuple[ImageSlice, LabelSlice]:
        """Draw a change and apply it to the image; labels come back as they are."""
        if not _chance(self.probability):
            return image, labels
        widest = float(np.log1p(self.gamma))
        exponent = float(np.exp(_between(-widest, widest)))
        factor, offset = 1 + _between(-self.scale, self.scale), _between(-self.shift, self.shift)
        lowest, extent = image.min(), image.max() - image.min()
        unit = (image - lowest) / extent.clamp(min=torch.finfo(image.dtype).tiny)
        return unit**exponent * extent * factor + lowest + offset * extent, labels


@dataclass(frozen=True)
class Chain:
    """Several random changes, one after the other.

    Attributes:
        steps: Called in order on image and labels.

    Example:
        >>> import torch
        >>> augment = Chain((FlipRotate(), RandomIntensity()))
        >>> image, labels = augment(torch.rand(1, 7, 5), torch.zeros(7, 5, dtype=torch.long))
        >>> image.shape
        torch.Size([1, 7, 5])
    """

    steps: tuple[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], ...]

    def __call__(self, image: ImageSlice, labels: LabelSlice) -> tuple[ImageSlice, LabelSlice]:
        """Apply every step."""
        for step in self.steps:
            image, labels = step(image, labels)
        return image, labels


def _require_probability(name: str, value: float) -> None:
    require(0 <= value <= 1, name, "a probability from 0 to 1", value)


def _chance(probability: float) -> bool:
    return bool(torch.rand(()) < probability)


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
