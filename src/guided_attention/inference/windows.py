"""Sliding windows: where they lie, how they are weighed, and the logits of a volume from those of its windows.

Positions and weights are those of MONAI's `sliding_window_inference` with ``mode="gaussian"``::

    interval    = max(1, floor(window · (1 - overlap)))
    start_i     = min(i · interval, length - window)
    weight(p)   = max(Π_axis exp(-(p - centre)² / (2 · (window / 8)²)), 0.001)
    logits(v)   = Σ_windows weight(v) · logits(v) / Σ_windows weight(v)

An image shorter than the window lies in its middle, between zeros.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from guided_attention.preparation import Prepared

__all__ = ["Place", "Windows", "gaussian", "padded_part", "starts"]

Place: TypeAlias = tuple[int, int, int]
"""Where a window begins, (depth, height, width); below 0 where the window is larger than the image."""

_SIGMA = 0.125
_LEAST = 1e-3
"""Least weight: MONAI's."""


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where the windows begin along one axis.

    >>> starts(11, 4, 0.5), starts(5, 8, 0.5)
    ([0, 2, 4, 6, 7], [-1])
    """
    if window >= length:
        return [-((window - length) // 2)]
    interval = max(1, int(window * (1 - overlap)))
    last = length - window
    return [*range(0, last, interval), last]


def gaussian(window: Sequence[int]) -> Tensor:
    """Return the weight of each voxel of a window, float32."""
    weight = torch.ones(())
    for size in window:
        place = torch.arange(size) - (size - 1) / 2
        weight = weight[..., None] * torch.exp(-(place**2) / (2 * (_SIGMA * size) ** 2))
    return weight.clamp(min=max(float(weight.min()), _LEAST))


def padded_part(x: Tensor, place: Sequence[int], window: Sequence[int]) -> Tensor:
    """Return the part of `x` in a window over its last axes, with zeros where the window reaches beyond it."""
    sizes = x.shape[-len(window) :]
    inside = tuple(_inside(*axis)[0] for axis in zip(place, window, sizes, strict=True))
    before = [max(0, -start) for start in place]
    after = [max(0, start + size - have) for start, size, have in zip(place, window, sizes, strict=True)]
    pads = [number for axis in reversed(range(len(window))) for number in (before[axis], after[axis])]
    part = x[(slice(None),) * (x.ndim - len(window)) + inside]
    return F.pad(part, pads) if any(pads) else part


def _inside(start: int, window: int, length: int) -> tuple[slice, slice]:
    """Return what of an axis lies in a window, as a part of the axis and as a part of the window."""
    low, high = max(0, start), min(length, start + window)
    return slice(low, high), slice(low - start, high - start)


@dataclass(frozen=True)
class Windows:
    """The windows over a volume ``(depth, height, width)``; those of a network of slices are one slice deep.

    Attributes:
        size: Size of a window.
        overlap: Share of a window that the next one covers again.
        batch_size: Windows that are predicted at once.
    """

    size: tuple[int, int, int]
    overlap: float
    batch_size: int

    def logits(
        self, prepared: Prepared, predict: Callable[[Tensor], Tensor], *, is_volume: bool
    ) -> Iterator[Tensor]:
        """Give the logits ``(classes, slices, height, width)`` of consecutive slices of a scan.

        Memory holds the slices that later windows still change, whatever the depth of the scan.

        Args:
            prepared: The scan.
            predict: Takes a batch of windows to their logits.
            is_volume: Whether windows are volumes; if not, they are slices, with their neighbours as channels.
        """
        _, depth, height, width = prepared.image.shape
        slab = _Slab((depth, height, width), self.size)
        for layer, following in self._layers((depth, height, width)):
            for first in range(0, len(layer), self.batch_size):
                places = layer[first : first + self.batch_size]
                logits = predict(torch.stack([self._read(prepared, place, is_volume) for place in places]))
                for place, one in zip(places, logits, strict=True):
                    slab.add(place, one if is_volume else one[:, None])
            yield from slab.finished(following)

    def _read(self, prepared: Prepared, place: Place, is_volume: bool) -> Tensor:
        if is_volume:
            return padded_part(torch.from_numpy(prepared.image), place, self.size)
        return padded_part(prepared.slices(place[0], place[0] + 1)[0], place[1:], self.size[1:])

    def _layers(self, shape: tuple[int, int, int]) -> Iterator[tuple[list[Place], int]]:
        """Give the windows of one depth, or of as many slices as fill a batch, and where the next ones begin."""
        axes = zip(shape, self.size, strict=True)
        depths, rows, columns = (starts(length, window, self.overlap) for length, window in axes)
        at_once = max(1, self.batch_size // (len(rows) * len(columns))) if self.size[0] == 1 else 1
        for first in range(0, len(depths), at_once):
            following = depths[first + at_once] if first + at_once < len(depths) else shape[0]
            yield list(product(depths[first : first + at_once], rows, columns)), following


class _Slab:
    """Weighted sums over the slices that are not finished; one tensor a slice, to free each when it is finished."""

    def __init__(self, shape: tuple[int, int, int], window: tuple[int, int, int]) -> None:
        self._shape, self._window = shape, window
        self._weight = gaussian(window)
        self._first = 0
        self._sums: list[Tensor] = []

    def add(self, place: Place, logits: Tensor) -> None:
        """Add the logits ``(classes, *window)`` of a window."""
        self._weight = self._weight.to(logits.device)
        axes = [_inside(*axis) for axis in zip(place, self._window, self._shape, strict=True)]
        (outer, *there), (inner, *here) = zip(*axes, strict=True)
        added, weight = logits[(slice(None), inner, *here)], self._weight[(inner, *here)]
        while self._first + len(self._sums) < outer.stop:
            self._sums.append(logits.new_zeros(len(logits) + 1, *self._shape[1:]))
        for number, total in enumerate(self._sums[outer.start - self._first : outer.stop - self._first]):
            part = total[(slice(None), *there)]
            part[:-1].addcmul_(added[:, number], weight[number])
            part[-1].add_(weight[number])  # the sum of the weights, to divide by

    def finished(self, following: int) -> Iterator[Tensor]:
        """Give the logits of each slice before `following`, and free it."""
        for _ in range(following - self._first):
            total = self._sums.pop(0)
            yield (total[:-1] / total[-1])[:, None]
        self._first = following
