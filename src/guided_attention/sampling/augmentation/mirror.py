"""Mirrors, in which left and right organs change their names."""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import Generator
from torch import Tensor

from guided_attention._checks import require, require_integer, require_type
from guided_attention.sampling.augment import exchanged
from guided_attention.sampling.augmentation.change import happens, require_drawn, require_probability

__all__ = ["Mirror"]


@dataclass(frozen=True)
class Mirror:
    """Mirror axes, each by chance.

    One mirrored axis makes a mirrored body, in which a left kidney is a right one; two are half a turn; three are a
    mirrored body again. So the classes of a pair are exchanged where the number of mirrored axes is odd.

    Drawn: for each of `axes` 1 where it is mirrored, else 0.

    Attributes:
        axes: Axes of space that may be mirrored, 0 the first.
        probability: How often each of them is.
        pairs: Classes of left and right organs, `LabelSpec.class_pairs`. None for single sagittal slices: a mirrored
            one shows the same half of the body from its other side.

    Example:
        >>> import torch
        >>> mirror = Mirror(axes=(1,), pairs=((2, 3),))
        >>> mirror.apply(torch.tensor([[[5.0, 6.0, 7.0]]]), torch.tensor([[2, 0, 0]]), [1.0])
        (tensor([[[7., 6., 5.]]]), tensor([[0, 0, 3]]))
    """

    axes: tuple[int, ...] = (0, 1)
    probability: float = 0.5
    pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_probability("probability", self.probability)
        require_type("axes", self.axes, tuple, "a tuple of axes")
        for axis in self.axes:
            require_integer("axes", axis)
        different = len(set(self.axes)) == len(self.axes) and min(self.axes, default=0) >= 0
        require(different, "axes", "different axes from 0 on", self.axes)

    def _require_axes(self, count: int) -> None:
        good = max(self.axes, default=0) < count
        require(good, "axes", f"below {count}, the number of axes of space", self.axes)

    def draw(self, shape: Sequence[int], random: Generator) -> list[float] | None:
        """Draw which axes are mirrored."""
        self._require_axes(len(shape) - 1)
        numbers = [float(happens(random, self.probability)) for _ in self.axes]
        return numbers if any(numbers) else None

    def apply(self, image: Tensor, labels: Tensor, numbers: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Mirror image and labels, and exchange the classes of pairs."""
        self._require_axes(labels.ndim)
        require_drawn(numbers, len(self.axes))
        axes = [axis for axis, chosen in zip(self.axes, numbers, strict=True) if chosen]
        mirrored = labels.flip(axes)
        if len(axes) % 2:
            mirrored = exchanged(mirrored, self.pairs)
        return image.flip([axis + 1 for axis in axes]), mirrored
