"""Masks as closed contours through the middles between voxels, and contours filled back to masks."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._checks import needs_extra

__all__ = ["Contour", "fill", "outlines"]

Contour: TypeAlias = npt.NDArray[np.float64]
"""Points ``(points, 2)`` of a closed line as (x, y) in voxels, the first not repeated at the end."""


def outlines(mask: npt.NDArray[np.bool_]) -> list[Contour]:
    """Return the contours of a mask, one for each part; holes are joined to the contour around them by a seam.

    Each line runs through the middles between voxels inside and outside, so that filling it gives the mask back.
    """
    with needs_extra("rtstruct"):
        from contourpy import FillType, contour_generator  # noqa: PLC0415
    padded = np.pad(mask.astype(np.float64), 1)
    generator = contour_generator(z=padded, fill_type=FillType.OuterOffset)
    filled: Any = generator.filled(0.5, np.inf)
    points, offsets = filled
    found = []
    for part, ends in zip(points, offsets, strict=True):
        rings = [part[start : end - 1] - 1 for start, end in pairwise(ends)]
        found.append(_joined(rings[0], rings[1:]))
    return found


def _joined(outer: Contour, holes: Iterable[Contour]) -> Contour:
    """Join each hole to the line around it by the shortest seam, which is walked twice."""
    line = outer
    for hole in holes:
        apart = ((line[:, None] - hole[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(apart.argmin()), apart.shape)
        turned = np.roll(hole, -int(there), axis=0)
        line = np.concatenate([line[: here + 1], turned, turned[:1], line[here:]])
    return line


def fill(contours: Sequence[Contour], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the voxels whose middle lies inside an odd number of contours, ``(height, width)``."""
    height, width = size
    crossed = np.zeros((height, width + 1), np.uint8)  # counts modulo 256 are as odd as the counts
    for line in contours:
        ends = np.roll(line, -1, axis=0)
        for (x0, y0), (x1, y1) in zip(line.tolist(), ends.tolist(), strict=True):
            if y0 == y1:
                continue
            low, high = min(y0, y1), max(y0, y1)
            rows = np.arange(max(int(np.ceil(low)), 0), min(int(np.ceil(high)), height))
            at = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(crossed, (rows, np.clip(np.ceil(at), 0, width).astype(int)), 1)
    inside: npt.NDArray[np.bool_] = np.cumsum(crossed, axis=1, dtype=np.uint8)[:, :width] % 2 == 1
    return inside
