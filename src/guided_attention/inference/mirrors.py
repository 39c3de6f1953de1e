"""Mirrors at prediction: the mean of the logits of an image and of its mirrored copies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

from torch import Tensor

__all__ = ["MIRROR_AXES", "MirrorAxis", "MirroredCopy", "mean_over_mirrors", "mirrors_of"]

MirrorAxis: TypeAlias = Literal["depth", "height", "width"]
"""An axis of a prepared volume; slices have a height and a width."""

MIRROR_AXES: dict[MirrorAxis, int] = {"depth": -3, "height": -2, "width": -1}
"""Where each axis stands in a batch."""


@dataclass(frozen=True)
class MirroredCopy:
    """One mirrored copy.

    Attributes:
        axes: What is flipped.
        classes: For each class of the image, the class of the copy that it becomes; empty where classes stay.
    """

    axes: tuple[int, ...]
    classes: tuple[int, ...] = ()

    def logits(self, predict: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Predict the mirrored images, and bring the logits back to the images as they were."""
        logits = predict(images.flip(self.axes)).flip(self.axes)
        return logits[:, list(self.classes)] if self.classes else logits


def mirrors_of(
    axes: Sequence[MirrorAxis], pairs: Sequence[tuple[int, int]], classes: int
) -> tuple[MirroredCopy, ...]:
    """Return all mirrored copies but the image itself.

    An odd number of flips makes a mirrored body, in which the classes of a pair change places; an even number turns it.
    """
    exchanged = list(range(classes))
    for one, other in pairs:
        exchanged[one], exchanged[other] = other, one
    places = [MIRROR_AXES[axis] for axis in axes]
    flips = [flip for count in range(1, len(axes) + 1) for flip in combinations(places, count)]
    return tuple(MirroredCopy(flip, tuple(exchanged) if pairs and len(flip) % 2 else ()) for flip in flips)


def mean_over_mirrors(
    predict: Callable[[Tensor], Tensor], mirrors: Sequence[MirroredCopy], images: Tensor
) -> Tensor:
    """Return the mean of the logits of the images and of each mirrored copy."""
    total = predict(images)
    for mirror in mirrors:
        total = total + mirror.logits(predict, images)
    return total / (1 + len(mirrors)) if mirrors else total
