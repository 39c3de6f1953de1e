"""Whether a mask lies on its image: how mixed the image's values are within organs, beside those within a moved mask.

Organs are of one tissue each. A mask that is turned or shifted against its image covers several tissues; the one that
is turned or shifted back is less mixed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from guided_attention._typing import LabelVolume
from guided_attention.data.checks._exchanged import Thumbnail, thumbnail_of

__all__ = ["TURNS", "Alignment", "alignment_of"]

_Turn = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

TURNS: Mapping[str, _Turn] = {
    "head to foot": lambda labels: labels[::-1],
    "back to front": lambda labels: labels[:, ::-1],
    "left to right": lambda labels: labels[:, :, ::-1],
    "head to foot and left to right": lambda labels: labels[::-1, :, ::-1],
    "back to front and left to right": lambda labels: labels[:, ::-1, ::-1],
    "with rows for columns": lambda labels: labels.swapaxes(1, 2),
    "by a quarter": lambda labels: np.rot90(labels, 1, (1, 2)),
    "by three quarters": lambda labels: np.rot90(labels, 3, (1, 2)),
}
"""Ways in which a mask may be turned against its image, in the orientation LPS; the last three need square slices."""

_SIDE = 96
"""Voxels along an axis from which on tissues are judged on every n-th voxel only."""
_LARGEST = 8
"""Organs by which shifts are judged, the largest ones."""
_FARTHEST = 4
"""A shift is at most the n-th part of an axis."""
_DARKER = 0.5
"""How much darker the image may be within a shifted mask, in standard deviations of the image."""
_LEAST = 0.02
"""Spread, as a share of that of the image, below which a mixture says nothing."""


@dataclass(frozen=True)
class Alignment:
    """How well a mask lies on its image.

    Attributes:
        turned: Spread of the image's values within organs, over that within each turned mask.
        shifted: The same over that within the shifted mask that is least mixed.
        shift: By how many voxels that one is shifted, ``(z, y, x)`` in the orientation LPS.
        thumbnail: What masks of other cases are tried on; None where the image has no contrast.
    """

    turned: Mapping[str, float] = field(default_factory=dict)
    shifted: float = 1.0
    shift: tuple[int, int, int] = (0, 0, 0)
    thumbnail: Thumbnail | None = field(default=None, compare=False)


def alignment_of(image: npt.NDArray[np.float32], labels: LabelVolume) -> Alignment:
    """Return how well a mask with an organ lies on its image, both in the orientation LPS."""
    steps = tuple(max(1, side // _SIDE) for side in image.shape)
    every = tuple(slice(None, None, step) for step in steps)
    small, few = image[every].astype(np.float32), labels[every]
    low, high = np.percentile(small, (1, 99))
    smooth = np.clip(ndimage.gaussian_filter(small, 0.7), np.float32(low), np.float32(high))
    if not few.any() or smooth.std() == 0:
        return Alignment()
    smooth = (smooth - smooth.mean()) / smooth.std()
    ratio, shift = _best_shift(smooth, few)
    z, y, x = (voxels * step for voxels, step in zip(shift, steps, strict=True))
    return Alignment(_turned(smooth, few), ratio, (z, y, x), thumbnail_of(smooth, few))


def _turned(image: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> dict[str, float]:
    own = _spread_within(image, labels)
    turned = {name: turn(labels) for name, turn in TURNS.items()}
    spreads = {
        name: _spread_within(image, mask) for name, mask in turned.items() if mask.shape == image.shape
    }
    return {name: own / max(spread, _LEAST) for name, spread in spreads.items()}


def _spread_within(image: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> float:
    """Return the standard deviation within labels, pooled over them."""
    values, organs = image[labels > 0], labels[labels > 0]
    parts = (values[organs == one] for one in np.unique(organs))
    return float(np.sqrt(sum(((part - part.mean()) ** 2).sum() for part in parts) / max(1, len(values))))


def _best_shift(image: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> tuple[float, tuple[int, ...]]:
    """Return how much more mixed the mask is than the shifted one that is least mixed, and that shift."""
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    largest = values[np.argsort(-counts)[:_LARGEST]]
    inside = np.isin(labels, largest)
    means, spreads = _moments(image, labels, largest)
    # What is shifted into the dark beside the body is not mixed either.
    spreads[means < means[0, 0, 0] - _DARKER] = np.inf
    axes = [_shifts(inside, axis) for axis in range(3)]
    reached = spreads[np.ix_(*axes)]
    best = np.unravel_index(reached.argmin(), reached.shape)
    ratio = max(float(spreads[0, 0, 0]), _LEAST) / max(float(reached[best]), _LEAST)
    return ratio, tuple(int(shifts[place]) for shifts, place in zip(axes, best, strict=True))


def _moments(
    image: npt.NDArray[np.float32], labels: npt.NDArray[Any], values: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return mean and spread within the mask shifted by each number of voxels, negative ones at the end of an axis."""
    size = [fft.next_fast_len(side, real=True) for side in image.shape]
    masks = [labels == value for value in values]
    spectra = [np.conj(fft.rfftn(mask.astype(np.float32), size)) for mask in masks]
    count, plain = sum(int(mask.sum()) for mask in masks), fft.rfftn(image, size)
    sums, total = np.zeros(size, np.float32), fft.irfftn(fft.rfftn(image**2, size) * sum(spectra), size)
    for mask, spectrum in zip(masks, spectra, strict=True):
        sum_ = fft.irfftn(plain * spectrum, size)
        sums += sum_
        total -= sum_**2 / int(mask.sum())
    return (sums / count).astype(np.float32), np.sqrt(np.maximum(total, 0) / count).astype(np.float32)


def _shifts(inside: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[np.int64]:
    """Return the shifts along an axis that keep every organ in the volume."""
    used = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
    side = inside.shape[axis]
    return np.arange(
        -min(int(used[0]), side // _FARTHEST), min(side - 1 - int(used[-1]), side // _FARTHEST) + 1
    )
