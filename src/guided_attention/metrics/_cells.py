"""How a surface runs through a cell between voxel centres: segments in a square, triangles in a cube.

The corners of a cell are the centres of 4 (image) or 8 (volume) voxels, each in the mask or not. The surface cuts
every edge whose ends differ in the middle. A cell is known by its code: the corners as binary digits, the corner at the
origin first, the last axis running fastest.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise, product
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Loops", "loops_of_codes", "piece_sizes", "sizes_of_codes"]

_Corner: TypeAlias = tuple[int, ...]
_Edge: TypeAlias = tuple[_Corner, _Corner]
_Loop: TypeAlias = list[_Edge]

_SQUARE: tuple[_Corner, ...] = ((0, 0), (0, 1), (1, 1), (1, 0))
"""The corners of a square, each beside the next."""


class Loops(NamedTuple):
    """The lines in which the surface leaves the cell of every code.

    Attributes:
        starts: Lower corner of each cut edge, ``(codes, loops, edges, axes)``.
        along: The axis that the edge runs along, ``(codes, loops, edges)``.
        counts: How many edges a loop has, ``(codes, loops)``, 0 where there is no such loop. What stands behind the
            last edge means nothing.
    """

    starts: npt.NDArray[np.int64]
    along: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


@cache
def loops_of_codes(axes: int) -> Loops:
    """Return the segments (2 axes) or closed loops (3 axes) of every code.

    Where a face of the cell has its two corners of the mask across from each other, the surface parts them: so it does
    on both sides of the face, and the surface is closed.
    """
    found = [_loops(inside, parted=True) for inside in _codes(axes)]
    counts = np.zeros((len(found), max(len(loops) for loops in found)), dtype=np.int64)
    most = max(len(loop) for loops in found for loop in loops)
    starts = np.zeros((*counts.shape, most, axes), dtype=np.int64)
    along = np.zeros((*counts.shape, most), dtype=np.int64)
    for code, loops in enumerate(found):
        for number, loop in enumerate(loops):
            counts[code, number] = len(loop)
            for place, (low, high) in enumerate(loop):
                starts[code, number, place] = low
                along[code, number, place] = np.argmax(np.subtract(high, low))
    return Loops(starts, along, counts)


def sizes_of_codes(spacing_mm: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return how much surface a cell of each code holds: millimetres in an image, square millimetres in a volume.

    Across a face with two corners of the mask, this surface parts whichever are fewer in the cell, mask or background:
    a mask and its complement then have one surface. So the tables of DeepMind's surface-distance have it.
    """
    scale = np.asarray(spacing_mm, dtype=np.float64)
    pieces = _split_codes(len(scale))
    return np.array([float(piece_sizes(corners * scale).sum()) for corners in pieces])


@cache
def _split_codes(axes: int) -> list[npt.NDArray[np.float64]]:
    """Return the segments or triangles of every code, ``(pieces, corners, axes)``."""
    found = []
    for inside in _codes(axes):
        parted = sum(inside.values()) <= len(inside) // 2
        pieces = [piece for loop in _loops(inside, parted=parted) for piece in _split(loop, axes)]
        found.append(_middles(pieces).reshape(len(pieces), axes, axes))
    return found


def _codes(axes: int) -> Iterator[dict[_Corner, bool]]:
    """Return for every code, in their order, which corners are of the mask."""
    corners = list(product((0, 1), repeat=axes))
    for bits in product((False, True), repeat=len(corners)):
        yield dict(zip(corners, bits, strict=True))


def _middles(pieces: Sequence[_Loop]) -> npt.NDArray[np.float64]:
    return np.array([[np.add(*edge) / 2 for edge in piece] for piece in pieces], dtype=np.float64)


def piece_sizes(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the lengths of segments, or the areas of triangles, from their corners ``(..., corners, axes)``."""
    sides = corners[..., 1:, :] - corners[..., :1, :]
    squared = np.linalg.det(sides @ np.swapaxes(sides, -1, -2))
    half = 1.0 if corners.shape[-2] == 2 else 0.5  # noqa: PLR2004
    sizes: npt.NDArray[np.float64] = half * np.sqrt(np.maximum(squared, 0.0))
    return sizes


def _loops(inside: dict[_Corner, bool], *, parted: bool) -> list[_Loop]:
    """Return the lines in which the surface leaves the cell: closed loops in a cube, segments in a square."""
    axes = len(next(iter(inside)))
    if axes == 2:  # noqa: PLR2004
        return [list(segment) for segment in _segments(_SQUARE, inside, parted=parted)]
    segments = [segment for face in _faces() for segment in _segments(face, inside, parted=parted)]
    loops = []
    while segments:
        loop = list(segments.pop())
        while loop[-1] != loop[0]:
            number = next(n for n, segment in enumerate(segments) if loop[-1] in segment)
            first, second = segments.pop(number)
            loop.append(second if first == loop[-1] else first)
        loops.append(loop[:-1])
    return loops


def _faces() -> Iterator[tuple[_Corner, ...]]:
    """Return the corners of each face of a cube, each beside the next."""
    for axis, side in product(range(3), (0, 1)):
        yield tuple((*corner[:axis], side, *corner[axis:]) for corner in _SQUARE)


def _segments(
    face: Sequence[_Corner], inside: dict[_Corner, bool], *, parted: bool
) -> list[tuple[_Edge, _Edge]]:
    """Return the segments in which the surface cuts a face."""
    edges = [_edge(corner, face[(n + 1) % 4]) for n, corner in enumerate(face)]
    cut = [edge for edge in edges if inside[edge[0]] != inside[edge[1]]]
    if len(cut) < 4:  # noqa: PLR2004
        return [(cut[0], cut[1])] if cut else []
    alone = [n for n, corner in enumerate(face) if inside[corner] == parted]
    return [(edges[n - 1], edges[n]) for n in alone]


def _edge(first: _Corner, second: _Corner) -> _Edge:
    return min(first, second), max(first, second)


def _split(loop: _Loop, axes: int) -> list[_Loop]:
    """Return the loop as triangles that share the corner which gives most area in a cube; a segment as it is.

    From which corner they spread matters where the loop is not flat. The one of most area is what surface-distance has.
    """
    if axes == 2:  # noqa: PLR2004
        return [loop]
    fans = [_fan(loop[start:] + loop[:start]) for start in range(len(loop))]
    areas = [round(float(piece_sizes(_middles(fan)).sum()), 9) for fan in fans]
    return fans[int(np.argmax(areas))]


def _fan(loop: _Loop) -> list[_Loop]:
    return [[loop[0], second, third] for second, third in pairwise(loop[1:])]
