"""Grids: where each voxel that a network sees lies in the scan, and the interpolation there and back.

One record, `Grid`, holds both directions, so that the voxels of training and of prediction are the same. Along an axis,
voxel ``i`` of the prepared volume lies at index ``start + i * step`` of the scan's axis.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guided_attention._checks import require
from guided_attention._geometry import Reorientation, grid_affine
from guided_attention._typing import Affine
from guided_attention.errors import DataError

__all__ = ["Axis", "Grid", "Taps", "resampled_axis"]

_SLAB_VALUES, _MIXED_VALUES = 2**16, 2**20
"""Values of a scan that are interpolated at once: few enough for the cache, whatever the size of the volume. Where new
slices lie between old ones they are more, because each slab needs a slice of its neighbour."""
_SAME = 1e-4
"""Share by which a spacing may differ from the wanted one and still count as equal: readers round lengths."""

_FARTHEST = 1000
"""Factor up to which scans are resampled: beyond it, lengths are in other units than millimetres."""


class Spare:
    """Memory for what an interpolation needs in between, kept from one slice to the next."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def like(self, name: str, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Return memory for a tensor of this shape, of the type and on the device of `x`."""
        key = (name, tuple(shape))
        if key not in self._kept:
            self._kept[key] = x.new_empty(tuple(shape))
        return self._kept[key]


@dataclass(frozen=True)
class Taps:
    """The voxels that each new voxel is a weighted mean of, along one axis.

    Attributes:
        index: ``(new, taps)``, int64, ascending along `new`.
        weight: ``(new, taps)``, float32; each row sums to 1.
    """

    index: Tensor
    weight: Tensor

    def part(self, start: int, stop: int) -> "Taps":
        """Return the taps of the new voxels ``start`` to ``stop``."""
        return Taps(self.index[start:stop], self.weight[start:stop])

    def is_identity(self, old: int) -> bool:
        """Whether each of `old` voxels becomes itself."""
        index = self.index[:, 0]
        return bool((self.weight[:, 0] == 1).all()) and torch.equal(index, torch.arange(old))

    def apply(self, x: Tensor, axis: int, first: int = 0, spare: Spare | None = None) -> Tensor:
        """Interpolate along `axis`, counted from the front, whose position 0 has the index `first`."""
        index = self.index - first
        if bool((self.weight[:, 0] == 1).all()):
            return _taken(x, axis, index[:, 0])
        shape = [1] * x.ndim
        shape[axis] = len(index)
        if index.shape[1] == 2:  # noqa: PLR2004
            low, places = x.index_select(axis, index[:, 0].to(x.device)), index[:, 1].to(x.device)
            high = (spare or Spare()).like("high", x, low.shape)
            torch.index_select(x, axis, places, out=high)
            return low.lerp_(high, self.weight[:, 1].reshape(shape).to(x.device))
        out = torch.zeros((*x.shape[:axis], len(index), *x.shape[axis + 1 :]), dtype=x.dtype, device=x.device)
        for tap in range(index.shape[1]):
            out.addcmul_(_taken(x, axis, index[:, tap]), self.weight[:, tap].reshape(shape).to(x.device))
        return out


def _taken(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """Return ``x`` at `index` along `axis`; consecutive indices are a view."""
    first, count = int(index[0]), len(index)
    if int(index[-1]) - first == count - 1 and bool((index.diff() == 1).all()):
        return x.narrow(axis, first, count)
    return x.index_select(axis, index.to(x.device))


@dataclass(frozen=True)
class Axis:
    """One axis of a grid, in the canonical orientation.

    Attributes:
        old: Voxels of the scan.
        start: Index of the scan at which voxel 0 lies, before padding.
        step: Distance between two voxels, in voxels of the scan.
        size: Voxels, without padding.
        before: Voxels of padding in front.
        after: Voxels of padding behind.
        cut_low: Whether a crop removed voxels in front, so that the scan's voxels there are background.
        cut_high: The same behind.
    """

    old: int
    start: float
    step: float
    size: int
    before: int = 0
    after: int = 0
    cut_low: bool = False
    cut_high: bool = False

    @property
    def padded_size(self) -> int:
        """Voxels with padding."""
        return self.before + self.size + self.after

    def cropped(self, first: int, size: int) -> "Axis":
        """Return the axis from voxel `first` on, `size` voxels long."""
        return replace(
            self,
            start=self.start + first * self.step,
            size=size,
            cut_low=self.cut_low or first > 0,
            cut_high=self.cut_high or first + size < self.size,
        )

    def around(self, low: float, high: float) -> tuple[int, int]:
        """Return first voxel and number of voxels that cover the indices `low` to `high` of the scan."""
        first = max(0, floor((low - self.start) / self.step + 1e-6))
        last = min(self.size - 1, ceil((high - self.start) / self.step - 1e-6))
        return first, max(1, last - first + 1)

    def padded(self, least: int, multiple: int) -> "Axis":
        """Return the axis padded about its centre to at least `least` voxels and to a multiple of `multiple`."""
        wanted = -(-max(self.size, least) // multiple) * multiple
        before = (wanted - self.size) // 2
        return replace(self, before=before, after=wanted - self.size - before)

    def forward(self) -> Taps:
        """Return for each voxel the scan's voxels it is made of: linear, widened to `step` where it coarsens.

        Without the widening (antialiasing) detail finer than the new voxels would turn into false patterns. Beyond the
        edge of the scan its last voxel is repeated.
        """
        width = max(1.0, self.step)
        centre = self.start + np.arange(self.size) * self.step
        first = np.floor(centre - width).astype(np.int64) + 1
        index = first[:, None] + np.arange(2 * ceil(width))
        weight = np.maximum(0.0, 1.0 - np.abs(index - centre[:, None]) / width)
        return _taps(index.clip(0, self.old - 1), weight / weight.sum(axis=1, keepdims=True))

    def backward(self) -> Taps:
        """Return for each voxel of the scan the prepared voxels (without padding) it lies between; edges repeat."""
        place = ((np.arange(self.old) - self.start) / self.step).clip(0, self.size - 1)
        low = np.minimum(np.floor(place + 1e-9).astype(np.int64), self.size - 1)
        share = (place - low).clip(0, 1)
        share[share < 1e-9] = 0.0  # noqa: PLR2004
        index = np.stack([low, np.minimum(low + 1, self.size - 1)], axis=1)
        return _taps(index, np.stack([1 - share, share], axis=1))

    def nearest(self) -> npt.NDArray[np.int64]:
        """Return for each voxel the nearest voxel of the scan."""
        centre = self.start + np.arange(self.size) * self.step
        # Halves go down, always: rounding to even would alternate.
        nearest: npt.NDArray[np.int64] = np.ceil(centre - 0.5 - 1e-9).astype(np.int64).clip(0, self.old - 1)
        return nearest

    def outside(self) -> npt.NDArray[np.bool_]:
        """Return which voxels of the scan a crop has removed."""
        place = (np.arange(self.old) - self.start) / self.step
        low = -0.5 - 1e-9 if self.cut_low else -np.inf
        high = self.size - 0.5 + 1e-9 if self.cut_high else np.inf
        return np.asarray((place < low) | (place > high))


def _taps(index: npt.NDArray[np.int64], weight: npt.NDArray[np.float64]) -> Taps:
    used: npt.NDArray[np.bool_] = np.asarray((weight > 0).any(axis=0))
    used[0] = True
    return Taps(torch.from_numpy(index[:, used].copy()), torch.from_numpy(weight[:, used].astype(np.float32)))


def resampled_axis(old: int, spacing_mm: float, wanted_mm: float | None) -> Axis:
    """Return an axis with voxels `wanted_mm` apart about the same centre.

    The voxels are kept where `wanted_mm` is None or differs from their spacing by less than one part in 10,000.

    Raises:
        DataError: The spacings are more than a factor of 1000 apart.
    """
    if wanted_mm is None or abs(wanted_mm / spacing_mm - 1) < _SAME:
        return Axis(old, 0.0, 1.0, old)
    step = wanted_mm / spacing_mm
    wanted, got = f"within a factor of {_FARTHEST} of the wanted {wanted_mm:g} mm", f"{spacing_mm:g} mm"
    cure = "Check both numbers: lengths are in millimetres."
    require(1 / _FARTHEST <= step <= _FARTHEST, "spacing_mm", wanted, got, cure, error=DataError)
    size = max(1, round(old / step))
    return Axis(old, (old - 1) / 2 - (size - 1) / 2 * step, step, size)


@dataclass(frozen=True)
class Grid:
    """The grid of a prepared volume, and its place in the scan.

    Attributes:
        turn: From the scan's storage order to the canonical one.
        axes: Depth, height and width in the canonical orientation.
    """

    turn: Reorientation
    axes: tuple[Axis, Axis, Axis]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size of the prepared volume with its padding, (depth, height, width)."""
        depth, height, width = (axis.padded_size for axis in self.axes)
        return depth, height, width

    @property
    def scan_shape(self) -> tuple[int, int, int]:
        """Size of the scan in its own storage order."""
        old = [0, 0, 0]
        for axis, place in zip(self.axes, self.turn.order, strict=True):
            old[place] = axis.old
        return old[0], old[1], old[2]

    @property
    def inner(self) -> tuple[slice, slice, slice]:
        """Where the scan lies in the padded volume."""
        depth, height, width = (slice(axis.before, axis.before + axis.size) for axis in self.axes)
        return depth, height, width

    def affine(self, canonical: Affine) -> Affine:
        """Return the affine of the prepared volume, padding included, from that of the canonical scan."""
        starts = [axis.start - axis.before * axis.step for axis in self.axes]
        steps = [axis.step for axis in self.axes]
        return grid_affine(
            canonical, start=(starts[0], starts[1], starts[2]), step=(steps[0], steps[1], steps[2])
        )

    def sample(
        self,
        canonical: npt.NDArray[np.float32],
        scaled: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
        into: npt.NDArray[np.float32],
    ) -> None:
        """Interpolate one channel of the scan to this grid, a few slices at a time.

        Args:
            canonical: The channel in the canonical orientation.
            scaled: Called on its values before the interpolation.
            into: Where to write, of the size of the grid with its padding; the padding is left as it is.
        """
        depth, rows, columns = (axis.forward() for axis in self.axes)
        inner, spare = into[self.inner], Spare()
        values = _SLAB_VALUES if depth.is_identity(self.axes[0].old) else _MIXED_VALUES
        at_once = max(1, values // (self.axes[1].old * self.axes[2].old))
        for start in range(0, len(inner), at_once):
            part = depth.part(start, start + at_once)
            low, high = int(part.index.min()), int(part.index.max())
            slab = torch.from_numpy(scaled(np.ascontiguousarray(canonical[low : high + 1])))
            inner[start : start + at_once] = part.apply(_in_plane(slab, rows, columns, spare), 0, low).numpy()

    def labels(self, canonical: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return label values at the nearest voxels; padding is background."""
        padded = np.zeros(self.shape, canonical.dtype)
        rows = [axis.nearest() for axis in self.axes]
        padded[self.inner] = canonical[np.ix_(*rows)]
        return padded

    def restored(self, blocks: Iterable[Tensor]) -> Iterator[tuple[slice, Tensor]]:
        """Interpolate scores on this grid back to the voxels of the scan, in the canonical orientation.

        Args:
            blocks: Consecutive slices of the padded grid, ``(classes, slices, height, width)`` each, from the first to
                the last.

        Yields:
            Which slices of the scan, in canonical order, and their scores ``(classes, slices, height, width)``. Voxels
            that a crop removed have the score 0 for the background and minus infinity for all else.
        """
        depth, height, width = self.axes
        taps, rows, columns = depth.backward(), height.backward(), width.backward()
        outside = [torch.from_numpy(axis.outside()) for axis in self.axes]
        lowest, highest = (taps.index.aminmax(dim=1)[end] + depth.before for end in (0, 1))
        held, first, done, spare = torch.empty(0), 0, 0, Spare()
        for block in blocks:
            held = block if done == 0 and held.numel() == 0 else torch.cat([held, block], dim=1)
            inside = held[:, :, self.inner[1], self.inner[2]]
            # One slice at a time: sums of another shape could differ in their last bit, and so from block to block.
            while done < depth.old and int(highest[done]) < first + held.shape[1]:
                part = taps.part(done, done + 1).apply(inside, 1, first - depth.before)
                scores = _in_plane(part, rows, columns, spare)
                yield (
                    slice(done, done + 1),
                    _background_where([outside[0][done : done + 1], *outside[1:]], scores),
                )
                done += 1
            unneeded = int(lowest[done]) - first if done < depth.old else held.shape[1]
            unneeded = max(0, min(unneeded, held.shape[1]))
            held, first = (
                held[:, unneeded:].clone(),
                first + unneeded,
            )  # without the clone, all of it would stay


def _in_plane(x: Tensor, rows: Taps, columns: Taps, spare: Spare) -> Tensor:
    """Interpolate along the last two axes, first along the one that leaves fewer values."""
    across = x.ndim - 1
    if len(rows.index) * x.shape[across] <= len(columns.index) * x.shape[across - 1]:
        return _along_rows(rows.apply(x, across - 1, spare=spare), columns, spare)
    return rows.apply(_along_rows(x, columns, spare), across - 1, spare=spare)


def _along_rows(x: Tensor, columns: Taps, spare: Spare) -> Tensor:
    """Interpolate along the last axis, with its values laid out row by row: several times faster than in place."""
    if columns.is_identity(x.shape[-1]):
        return x
    turned = x.transpose(-1, -2)
    turned = spare.like("turned", x, turned.shape).copy_(turned)
    return columns.apply(turned, x.ndim - 2, spare=spare).transpose(-1, -2).contiguous()


def _background_where(outside: Sequence[Tensor], scores: Tensor) -> Tensor:
    """Set voxels outside along any axis to background."""
    if not any(bool(axis.any()) for axis in outside):
        return scores
    scores = scores.clone()
    for axis, removed in enumerate(outside, start=1):
        where = removed.nonzero()[:, 0].to(scores.device)
        scores.index_fill_(axis, where, -torch.inf)
        scores[0].index_fill_(axis - 1, where, 0.0)
    return scores
