"""The surface of a mask, as points that stand on a lattice or as a mesh."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from guided_attention.metrics._cells import loops_of_codes, piece_sizes, sizes_of_codes

__all__ = [
    "ROUNDING",
    "Grid",
    "Mesh",
    "border",
    "codes",
    "joint_box",
    "mesh",
    "padded",
    "surfel_weights",
    "surfels",
]

Grid: TypeAlias = npt.NDArray[np.bool_]
"""A mask, or where on a lattice there are points: unlike a `MaskArray` of no certain shape."""


class Mesh(NamedTuple):
    """A closed surface of segments (images) or triangles (volumes).

    Attributes:
        corners_mm: Of each segment or triangle, ``(pieces, corners of a piece, axes)``.
        sizes: Lengths of the segments, or areas of the triangles, ``(pieces,)``.
        starts: The first piece of each cell that the surface runs through, ``(cells,)``: those of a cell follow one
            another.
    """

    corners_mm: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int64]


ROUNDING = 2.0**-22
"""Share by which a distance may miss a limit because of rounding: two units in the last place of single precision, in
which headers store spacings. Three voxels of 1.1 mm are within 3.3 mm, whatever their product is in the computer."""

_PASSES = 4
_WIDEST_TERRACE = 8.0


def joint_box(prediction: Grid, reference: Grid) -> tuple[slice, ...]:
    """Return the smallest box that holds both masks; an empty one where both are empty."""
    spans = [_span(prediction), _span(reference)]
    full = [span for span in spans if span is not None]
    if not full:
        return (slice(0, 0),) * prediction.ndim
    return tuple(
        slice(min(low for low, _ in axis), max(high for _, high in axis)) for axis in zip(*full, strict=True)
    )


def _span(mask: Grid) -> list[tuple[int, int]] | None:
    """Return first index and last, one beyond, of each axis; None of an empty mask."""
    found, left = [], mask
    for _ in range(mask.ndim):
        there = np.flatnonzero(left.any(axis=tuple(range(1, left.ndim))))
        if not there.size:
            return None
        low, high = int(there[0]), int(there[-1]) + 1
        found.append((low, high))
        left = np.asarray(left[low:high].any(axis=0))  # the axes that follow, in what this one has left
    return found


def padded(mask: Grid, margin: Sequence[int]) -> Grid:
    """Return the mask with empty space around."""
    wide = np.zeros([side + 2 * width for side, width in zip(mask.shape, margin, strict=True)], dtype=bool)
    wide[tuple(slice(width, width + side) for side, width in zip(mask.shape, margin, strict=True))] = mask
    return wide


def border(mask: Grid) -> Grid:
    """Return the voxels of a mask that have a face neighbour outside it; the mask must not touch the array's faces."""
    inner = (slice(1, -1),) * mask.ndim
    interior = mask[inner].copy()
    for axis in range(mask.ndim):
        for shift in (slice(None, -2), slice(2, None)):
            np.logical_and(interior, mask[(*inner[:axis], shift, *inner[axis + 1 :])], out=interior)
    found = mask.copy()
    found[inner] &= ~interior
    return found


def codes(mask: Grid) -> npt.NDArray[np.uint8]:
    """Return the code of the cell that begins at each voxel: see `_cells`; one cell fewer than voxels on every axis."""
    found = mask.view(np.uint8)
    for axis in reversed(range(mask.ndim)):
        low = (slice(None),) * axis + (slice(None, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        found = (found[low] << np.uint8(1 << (mask.ndim - 1 - axis))) | found[high]
    return found


def surfels(cells: npt.NDArray[np.uint8]) -> Grid:
    """Return the cells that the surface runs through: those neither outside nor inside with all corners."""
    full = 2 ** (2**cells.ndim) - 1
    cut: Grid = (cells != 0) & (cells != full)
    return cut


def surfel_weights(cells: npt.NDArray[np.uint8], spacing_mm: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the length or area of surface in each of these cells."""
    return sizes_of_codes(spacing_mm)[cells]


def mesh(mask: Grid, spacing_mm: Sequence[float]) -> Mesh:
    """Return the surface that cuts every edge between a voxel of the mask and one outside.

    The mask must not touch the array's faces. A loop is seldom flat: its triangles meet in the mean of its corners, so
    that the surface does not hang on the order of the axes.
    """
    axes, cells = mask.ndim, codes(mask)
    where = np.argwhere(surfels(cells))
    code, table = cells[tuple(where.T)], loops_of_codes(axes)
    cell, loop = np.nonzero(table.counts[code])
    code, counts = code[cell], table.counts[code[cell], loop]
    there = np.arange(table.starts.shape[2]) < counts[:, None]
    # Each cut edge, known by its lower corner and its axis, is a corner of the mesh that several cells share.
    lows = where[cell][:, None, :] + table.starts[code, loop]
    edges = np.ravel_multi_index(tuple(np.moveaxis(lows, -1, 0)), mask.shape) * axes + table.along[code, loop]
    known, number = np.unique(edges[there], return_inverse=True)
    places, along = np.divmod(known, axes)
    corners = np.zeros(lows.shape)
    corners[there] = _cuts_mm(np.stack(np.unravel_index(places, mask.shape), axis=1), along, spacing_mm)[
        number
    ]
    if axes == 2:  # noqa: PLR2004
        pieces, starts = corners, np.arange(len(corners))
    else:
        starts = np.cumsum(counts) - counts
        centres = corners.sum(axis=1) / counts[:, None]
        following = np.roll(corners, -1, axis=1)
        following[np.arange(len(counts)), counts - 1] = corners[:, 0]
        spread = np.broadcast_to(centres[:, None], corners.shape)
        pieces = np.stack([spread, corners, following], axis=2)[there]
    return Mesh(pieces, piece_sizes(pieces), starts)


def _cuts_mm(
    lows: npt.NDArray[np.int64], along: npt.NDArray[np.int64], spacing_mm: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Return where the surface cuts the edges: half-way, or where the outlines of the slices at both ends say.

    An edge runs from a voxel of the mask in one slice to a voxel outside in the next. Each lies some way from the
    outline of its own slice, and the edge is cut in the ratio of the two (shape-based interpolation: Raya and Udupa,
    "Shape-based interpolation of multidimensional objects", IEEE TMI 1990). So slopes have no steps. Where a slice has
    no outline, or it is far off, as over the flat end of an organ, the cut stays half-way. The outlines are themselves
    made of cuts: a second pass knows them better.
    """
    scale, unit = np.asarray(spacing_mm, dtype=np.float64), np.eye(len(spacing_mm))
    shares = np.full(len(lows), 0.5)
    for _ in range(_PASSES):
        corners, found = lows + unit[along] * shares[:, None], np.full(len(lows), 0.5)
        for axis, gap in enumerate(scale):
            mine = along == axis
            # Slices are drawn so far apart that the nearest point of an outline is one of the own slice.
            apart = np.where(unit[axis] > 0, 4 * _WIDEST_TERRACE * gap, scale)
            tree = cKDTree(corners[~mine] * apart, leafsize=32, balanced_tree=False, compact_nodes=False)
            # An outline at exactly this distance is too far, whatever rounding says.
            farthest = _WIDEST_TERRACE * gap * (1 - ROUNDING)
            ends = [(lows[mine] + step) * apart for step in (0 * unit[axis], unit[axis])]
            low, high = (np.asarray(tree.query(end, distance_upper_bound=farthest)[0]) for end in ends)
            near = np.isfinite(low) & np.isfinite(high)
            ratio = low[near] / (low[near] + high[near])
            found[np.flatnonzero(mine)[near]] = np.clip(ratio, 0.02, 0.98)  # no piece may vanish
        shares = found
    placed: npt.NDArray[np.float64] = (lows + unit[along] * shares[:, None]) * scale
    return placed
