"""Rotation, scaling and elastic deformation in one resampling."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import cos, radians, sin

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from guided_attention._checks import require, require_count, require_number, require_positive, require_type
from guided_attention.sampling.augment import full_precision
from guided_attention.sampling.augmentation._fields import smooth_noise
from guided_attention.sampling.augmentation.change import (
    around_one,
    happens,
    require_drawn,
    require_probability,
    require_range,
    seed,
)

__all__ = ["Spatial"]

_VOLUME = 3


@dataclass(frozen=True)
class Spatial:
    """Rotate about the middle, scale, and deform: image and labels alike, resampled once.

    Lengths are millimetres, so that voxels may have unequal sides. The image is interpolated linearly. So are the
    shares of the classes, of which the largest counts, which is closer to a rotated organ than the nearest voxel. What
    comes in from outside is the lowest value of each channel, which looks like air, and background.

    Drawn: angles in degrees, one in a plane, else one about each axis; the factor by which things grow; strength of the
    deformation in mm, and its seed.

    Attributes:
        spacing_mm: Of the axes of space, two or three numbers.
        degrees: Angles are drawn evenly from ``-degrees`` to ``degrees``.
        rotation_probability: How often a sample is rotated.
        scale: Smallest and largest factor; as often below 1 as above.
        scaling_probability: How often a sample is scaled.
        elastic_mm: Smallest and largest strength: standard deviation of the displacements at the control points.
        elastic_probability: How often a sample is deformed.
        elastic_points: Control points along each axis.
        in_plane: Whether volumes change in the plane of their slices only, axes 1 and 2, each slice alike.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[0.0, 1.0, 3.0, 8.0]]]), torch.zeros(1, 4, dtype=torch.long)
        >>> Spatial((1.0, 1.0)).apply(image, labels, [180.0, 1.0, 0.0, 0.0])[0]
        tensor([[[8., 3., 1., 0.]]])
    """

    spacing_mm: tuple[float, ...]
    degrees: float = 180.0
    rotation_probability: float = 0.2
    scale: tuple[float, float] = (0.7, 1.4)
    scaling_probability: float = 0.2
    elastic_mm: tuple[float, float] = (0.0, 5.0)
    elastic_probability: float = 0.0
    elastic_points: int = 5
    in_plane: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("rotation_probability", "scaling_probability", "elastic_probability"):
            require_probability(name, getattr(self, name))
        require_type("spacing_mm", self.spacing_mm, tuple, "a tuple of two or three numbers")
        require(len(self.spacing_mm) in {2, 3}, "spacing_mm", "two or three numbers", self.spacing_mm)
        for value in self.spacing_mm:
            require_positive("spacing_mm", value)
        require_number("degrees", self.degrees)
        require_range("scale", self.scale)
        require_positive("scale", self.scale[0])
        require_range("elastic_mm", self.elastic_mm)
        require_count("elastic_points", self.elastic_points)

    @property
    def _axes(self) -> int:
        """How many axes change, the last ones."""
        return 2 if self.in_plane else len(self.spacing_mm)

    @property
    def _turns(self) -> int:
        """How many angles there are: one in a plane, else one about each axis."""
        return 1 if self._axes == 2 else 3  # noqa: PLR2004

    def _require_axes(self, axes: int) -> None:
        require(axes == len(self.spacing_mm), "spacing_mm", f"for {axes} axes", self.spacing_mm)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw angles, factor and deformation."""
        self._require_axes(len(shape) - 1)
        angles, factor, strength = [0.0] * self._turns, 1.0, 0.0
        if happens(random, self.rotation_probability):
            angles = [random.uniform(-self.degrees, self.degrees) for _ in angles]
        if happens(random, self.scaling_probability):
            factor = around_one(random, self.scale)
        if happens(random, self.elastic_probability):
            strength = random.uniform(*self.elastic_mm)
        changed = any(angles) or factor != 1 or strength > 0
        return [*angles, factor, strength, seed(random)] if changed else None

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Resample image and labels."""
        self._require_axes(labels.ndim)
        require_drawn(numbers, self._turns + 3)
        *angles, factor, strength, start = numbers
        space = image.shape[-self._axes :]
        spacing = self.spacing_mm[-self._axes :]
        values = full_precision(image)
        grid = _grid(space, spacing, _rotation(angles) / factor, values)
        if strength > 0:
            grid = grid + self._deformation(space, strength, start, values)
        # In a plane, the slices of a volume are channels of one image.
        classes = _most(labels.reshape(1, -1, *space), grid).reshape(labels.shape)
        return _linear(values, grid).to(image.dtype), classes

    def _deformation(self, space: Sequence[int], strength: float, start: float, like: Tensor) -> Tensor:
        fields = smooth_noise(space, self.elastic_points, len(space), start, like)
        spacing = self.spacing_mm[-len(space) :]
        halves = [length * mm / 2 for length, mm in zip(space, spacing, strict=True)]
        moved = [field * (strength / half) for field, half in zip(fields, halves, strict=True)]
        return torch.stack(moved[::-1]).movedim(0, -1)


def _rotation(angles: Sequence[float]) -> NDArray[np.float64]:
    """Return the matrix from new places to old ones; one angle turns counterclockwise as displayed."""
    planes = ((0, 1),) if len(angles) == 1 else ((1, 2), (0, 2), (0, 1))
    result = np.eye(2 if len(angles) == 1 else _VOLUME)
    for angle, (one, other) in zip(angles, planes, strict=True):
        turn = np.eye(len(result))
        c, s = cos(radians(angle)), sin(radians(angle))
        turn[np.ix_((one, other), (one, other))] = (c, s), (-s, c)
        result = result @ turn
    return result


def _grid(
    space: Sequence[int], spacing: Sequence[float], matrix: NDArray[np.float64], like: Tensor
) -> Tensor:
    """Return where to sample, in grid_sample's units of half an axis and its order, the last axis first."""
    halves = np.array(space) * np.array(spacing) / 2
    scaled = matrix * halves / halves[:, None]
    places = [
        ((2 * torch.arange(length, device=like.device, dtype=like.dtype) + 1) / length - 1).reshape(
            -1, *[1] * (len(space) - axis - 1)
        )
        for axis, length in enumerate(space)
    ]
    moved = [
        reduce(torch.add, [place * factor for place, factor in zip(places, row, strict=True)])
        for row in scaled.tolist()
    ]
    return torch.stack(moved[::-1]).movedim(0, -1)


def _linear(image: Tensor, grid: Tensor) -> Tensor:
    # Outside is zero to grid_sample: with the lowest value at zero, the outside is the lowest value.
    lowest = torch.stack([channel.min() for channel in image]).reshape(-1, *[1] * (image.ndim - 1))
    values = (image - lowest).reshape(1, -1, *grid.shape[:-1])
    taken = F.grid_sample(values, grid[None], mode="bilinear", align_corners=False)
    return taken.reshape(image.shape).add_(lowest)


def _most(labels: Tensor, grid: Tensor) -> Tensor:
    """Return the class with the largest share of the voxels about each place, one class after the other."""
    lowest, cure = int(labels.min()), "Mark voxels to ignore with a value above the classes, such as 255."
    require(lowest >= 0, "labels", "0 or above", lowest, cure)
    result = torch.zeros_like(labels)
    background = torch.ones(labels.shape, device=grid.device, dtype=grid.dtype)
    largest = torch.zeros_like(background)
    for organ in torch.bincount(labels.flatten())[1:].nonzero()[:, 0] + 1:
        share = F.grid_sample((labels == organ).to(grid.dtype), grid[None], align_corners=False)
        result = torch.where(share > largest, organ, result)
        largest = torch.maximum(largest, share)
        background -= share
    return result.masked_fill_(background >= largest, 0)
