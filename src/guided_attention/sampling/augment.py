"""Random changes of training slices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import cos, radians, sin
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from guided_attention._checks import require, require_choice, require_takes, require_type
from guided_attention._geometry import CANONICAL
from guided_attention._sides import mirrors_sides
from guided_attention._typing import ImageSlice, LabelSlice, SliceAxis
from guided_attention.labels import LabelSpec

__all__ = [
    "Chain",
    "FlipRotate",
    "RandomIntensity",
    "SliceTransform",
    "exchanged",
    "flip_rotate",
    "full_precision",
    "require_transform",
    "with_sides",
]

SliceTransform: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes an image ``(channels, height, width)`` and labels ``(height, width)`` to another such pair."""


def flip_rotate(
    image: ImageSlice,
    labels: LabelSlice,
    *,
    flipped: bool,
    mirrored: bool,
    degrees: float,
    pairs: Sequence[tuple[int, int]] = (),
) -> tuple[ImageSlice, LabelSlice]:
    """Flip a slice upside down, mirror it left to right, then turn it about its centre; labels alike.

    One flip or one mirror makes a mirrored body, in which left and right organs change their names: classes of a pair
    are exchanged. Both together are half a turn, which changes no organ's name.

    Flips are exact. The turn (counterclockwise as displayed, rows downwards) interpolates the image linearly
    and takes the nearest label; what turns in from outside is the image's lowest value, channel by channel,
    and background. Pixels are taken as square.

    Args:
        image: ``(channels, height, width)``.
        labels: ``(height, width)``.
        flipped: Whether top and bottom change places.
        mirrored: Whether left and right change places.
        degrees: How far to turn.
        pairs: Classes of left and right organs.

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
    if flipped != mirrored:
        labels = exchanged(labels, pairs)
    return (image, labels) if degrees == 0 else _rotated(image, labels, degrees)


def exchanged(labels: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Return label maps, of any shape, in which the classes of each pair have changed places."""
    exchanged = labels.clone()
    for one, other in pairs:
        exchanged[labels == one] = other
        exchanged[labels == other] = one
    return exchanged


def full_precision(image: Tensor) -> Tensor:
    """Return an image of half precision in single precision, any other as it is.

    float16 keeps 11 bits of a number and bfloat16 8, too few for a place in an image; squares of CT numbers exceed the
    range of float16.
    """
    return image.float() if image.dtype in {torch.float16, torch.bfloat16} else image


def _rotated(image: Tensor, labels: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    height, width = labels.shape
    values = full_precision(image)
    grid = _rotation_grid(height, width, degrees, values.dtype).to(image.device)
    # Outside is zero to grid_sample: with the least value at zero, the outside is the least value.
    lowest = values.amin(dim=(1, 2), keepdim=True)
    turned = F.grid_sample((values - lowest)[None], grid, mode="bilinear", align_corners=False)[0] + lowest
    classes = labels[None, None].to(values.dtype)
    nearest = F.grid_sample(classes, grid, mode="nearest", align_corners=False)[0, 0]
    return turned.to(image.dtype), nearest.to(labels.dtype)


def _rotation_grid(height: int, width: int, degrees: float, dtype: torch.dtype) -> Tensor:
    """Return where to sample: a turn in pixels, in grid_sample's units of half a height and width."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    matrix = torch.tensor([[[c, -s * height / width, 0.0], [s * width / height, c, 0.0]]], dtype=dtype)
    return F.affine_grid(matrix, [1, 1, height, width], align_corners=False)


@dataclass(frozen=True)
class FlipRotate:
    """Random flip, mirror and rotation of training slices: the three changes the paper names, each by chance.

    Random numbers are torch's: seed them with `torch.manual_seed`, a `DataLoader` seeds its workers. `flip_rotate`
    describes the changes.

    In a mirrored body a left kidney looks like a right one. `SliceDataset` passes its labels and slice axis, so that
    the classes of `LabelSpec.pairs` are exchanged where a slice is mirrored or flipped, but not both. Organs of one
    side without a mate, such as the liver, keep their names: networks may tell them by their side, and do better
    with ``mirror=0, flip=0``. A mirrored sagittal slice shows the same half of the body from its other side, so
    nothing is exchanged, unless its neighbours are channels.

    Attributes:
        flip: Probability of an upside-down flip.
        mirror: Probability of a left-right mirror.
        rotate: Probability of a rotation.
        degrees: Rotations are drawn evenly from ``-degrees`` to ``degrees``. The paper gives no angle.
        labels: The organs, whose classes the label slices have; None exchanges nothing.
        slice_axis: Which way the slices lie.
        neighbours: Slices on each side that are channels of the image: with them, a mirrored sagittal slice shows a
            mirrored body.

    Raises:
        ArgumentError: A probability is not from 0 to 1, or the slice axis is unknown.
        ArgumentTypeError: `labels` is no LabelSpec.
        DataError: Slices are mirrored or flipped, and an organ named left or right has no mate in `LabelSpec.pairs`.

    Example:
        >>> import torch
        >>> kidneys = LabelSpec({2: "right kidney", 3: "left kidney"}, pairs=((2, 3),))
        >>> augment = FlipRotate(flip=0, mirror=1, rotate=0, labels=kidneys)
        >>> augment(torch.tensor([[[5.0, 6.0, 7.0]]]), torch.tensor([[1, 0, 0]]))
        (tensor([[[7., 6., 5.]]]), tensor([[0, 0, 2]]))

    References:
        Sinha and Dolz, Multi-scale self-guided attention for medical image segmentation, section IV.
    """

    flip: float = 0.5
    mirror: float = 0.5
    rotate: float = 0.5
    degrees: float = 30.0
    labels: LabelSpec | None = None
    slice_axis: SliceAxis = "axial"
    neighbours: int = 0

    def __post_init__(self) -> None:
        """Check the probabilities, and that sides have their pairs."""
        for name in ("flip", "mirror", "rotate"):
            _require_probability(name, getattr(self, name))
        require_type("labels", self.labels, (LabelSpec, type(None)), "a LabelSpec or None")
        require_choice("slice_axis", self.slice_axis, tuple(CANONICAL))
        if self.labels is not None and self._has_sides and self.flip + self.mirror > 0:
            self.labels.require_sides("labels")

    def __call__(self, image: ImageSlice, labels: LabelSlice) -> tuple[ImageSlice, LabelSlice]:
        """Choose a change at random and apply it to both."""
        flipped, mirrored, rotated = _chance(self.flip), _chance(self.mirror), _chance(self.rotate)
        degrees = _between(-self.degrees, self.degrees) if rotated else 0.0
        pairs = () if self.labels is None or not self._has_sides else self.labels.class_pairs
        return flip_rotate(image, labels, flipped=flipped, mirrored=mirrored, degrees=degrees, pairs=pairs)

    def with_sides(self, labels: LabelSpec, slice_axis: SliceAxis, neighbours: int) -> "FlipRotate":
        """Return the same changes for these organs and slices; raise a `DataError` where a pair is missing."""
        return replace(self, labels=labels, slice_axis=slice_axis, neighbours=neighbours)

    @property
    def _has_sides(self) -> bool:
        return mirrors_sides(2, self.slice_axis, self.neighbours)


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
        """Choose a change at random and apply it to the image; labels come back as they are."""
        if not _chance(self.probability):
            return image, labels
        widest = float(np.log1p(self.gamma))
        exponent = float(np.exp(_between(-widest, widest)))
        factor, offset = 1 + _between(-self.scale, self.scale), _between(-self.shift, self.shift)
        values = full_precision(image)
        lowest, extent = values.min(), values.max() - values.min()
        unit = (values - lowest) / extent.clamp(min=torch.finfo(values.dtype).tiny)
        changed = unit**exponent * extent * factor + lowest + offset * extent
        return changed.to(image.dtype), labels


@dataclass(frozen=True)
class Chain:
    """Several random changes, one after the other.

    Attributes:
        steps: Called in order on image and labels.

    Raises:
        ArgumentTypeError: A step is no function of an image and its labels.

    Example:
        >>> import torch
        >>> augment = Chain((FlipRotate(), RandomIntensity()))
        >>> image, labels = augment(torch.rand(1, 7, 5), torch.zeros(7, 5, dtype=torch.long))
        >>> image.shape
        torch.Size([1, 7, 5])
    """

    steps: tuple[SliceTransform, ...]

    def __post_init__(self) -> None:
        """Check that each step can be called."""
        require_type("steps", self.steps, (tuple, list), "a tuple of functions", "Write (step,) for one.")
        for number, step in enumerate(self.steps):
            require_transform(f"steps[{number}]", step)

    def __call__(self, image: ImageSlice, labels: LabelSlice) -> tuple[ImageSlice, LabelSlice]:
        """Apply every step."""
        for step in self.steps:
            image, labels = step(image, labels)
        return image, labels

    def with_sides(self, labels: LabelSpec, slice_axis: SliceAxis, neighbours: int) -> "Chain":
        """Return the same steps for these organs and slices; raise a `DataError` where a pair is missing."""
        return Chain(tuple(with_sides(step, labels, slice_axis, neighbours) for step in self.steps))


@runtime_checkable
class _KnowsSides(Protocol):
    def with_sides(self, labels: LabelSpec, slice_axis: SliceAxis, neighbours: int) -> SliceTransform: ...


def require_transform(argument: str, step: object) -> None:
    """Raise for what cannot be called with an image and its labels, such as an `Augmentation`."""
    cure = "One of batches and seeds, such as an Augmentation, goes to TrainerConfig(augment=…)."
    require_takes(argument, step, 2, "a function of an image and its labels", cure)


def with_sides(
    augment: SliceTransform, labels: LabelSpec, slice_axis: SliceAxis, neighbours: int
) -> SliceTransform:
    """Tell a random change which organs are left and right; one that has no `with_sides` stays as it is."""
    known: object = augment
    return known.with_sides(labels, slice_axis, neighbours) if isinstance(known, _KnowsSides) else augment


def _require_probability(name: str, value: float) -> None:
    require(0 <= value <= 1, name, "a probability from 0 to 1", value)


def _chance(probability: float) -> bool:
    return bool(torch.rand(()) < probability)


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
