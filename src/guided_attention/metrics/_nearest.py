"""From each point of one surface to the nearest of another."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from guided_attention.metrics._outline import Grid, Mesh

__all__ = ["Lattice", "lattice_points", "margins", "to_lattice_mm", "to_mesh_mm"]

_PROBES = 64
"""How many places around a point are looked at before the tree is asked: most surfaces lie as close as that."""

_FIRST_CELLS = 4
_PAIRS_AT_ONCE = 100_000


class Lattice(NamedTuple):
    """Points on the lattice of a grid.

    Attributes:
        grid: True where a point is, with `margins` of empty space around.
        flat: The places of the points in the flattened grid.
    """

    grid: Grid
    flat: npt.NDArray[np.int64]


def lattice_points(grid: Grid) -> Lattice:
    """Return the points of a grid."""
    return Lattice(grid, np.flatnonzero(grid))


def margins(spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Return how far the places that are probed reach along each axis, at least 1."""
    reach = _reach_mm(spacing_mm)
    return tuple(max(1, int(reach / length)) for length in spacing_mm)


def to_lattice_mm(
    points: Lattice, others: Lattice, spacing_mm: Sequence[float], *, workers: int
) -> npt.NDArray[np.float64]:
    """Return the distance of each point to the nearest other one, infinite where there is none.

    Both stand on one grid. The places around every point are probed in the order of their distance: the first that
    holds a point of the other surface is the nearest. What is farther than all of them is left to a k-d tree.
    """
    found = np.full(len(points.flat), math.inf)
    if not others.flat.size:
        return found
    grid, waiting, places = others.grid.ravel(), np.arange(len(points.flat)), points.flat
    for step, distance in _steps(others.grid.shape, spacing_mm):
        hit = grid[places + step]
        found[waiting[hit]] = distance
        waiting, places = waiting[~hit], places[~hit]
        if not waiting.size:
            return found
    scale = np.asarray(spacing_mm, dtype=np.float64)
    shape = others.grid.shape
    # An unbalanced tree of large leaves is built several times faster, and the queries hardly notice.
    tree = cKDTree(_at_mm(others.flat, shape, scale), leafsize=64, balanced_tree=False, compact_nodes=False)
    found[waiting] = tree.query(_at_mm(places, shape, scale), workers=workers)[0]
    return found


def _steps(shape: tuple[int, ...], spacing_mm: Sequence[float]) -> list[tuple[int, float]]:
    """Return the places within reach as steps in the flattened grid, with their distances, nearest first."""
    reach, scale = _reach_mm(spacing_mm), np.asarray(spacing_mm, dtype=np.float64)
    sides = [np.arange(-int(reach / length), int(reach / length) + 1) for length in spacing_mm]
    steps = np.stack([axis.ravel() for axis in np.meshgrid(*sides, indexing="ij")], axis=1)
    distances = np.sqrt(((steps * scale) ** 2).sum(axis=1))
    strides = np.append(np.cumprod(shape[:0:-1])[::-1], 1)
    near = np.flatnonzero(distances <= reach)
    near = near[np.argsort(distances[near], kind="stable")]
    return list(zip((steps[near] @ strides).tolist(), distances[near].tolist(), strict=True))


def _reach_mm(spacing_mm: Sequence[float]) -> float:
    """Return the radius of the ball that holds about as many places as are probed."""
    cell = math.prod(float(length) for length in spacing_mm)
    if len(spacing_mm) == 2:  # noqa: PLR2004
        return math.sqrt(_PROBES * cell / math.pi)
    return math.cbrt(_PROBES * cell * 3 / (4 * math.pi))


def _at_mm(
    flat: npt.NDArray[np.int64], shape: tuple[int, ...], scale: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    placed: npt.NDArray[np.float64] = np.stack(np.unravel_index(flat, shape), axis=1) * scale
    return placed


def to_mesh_mm(points_mm: npt.NDArray[np.float64], surface: Mesh, *, workers: int) -> npt.NDArray[np.float64]:
    """Return the distance of each point to the nearest place on a mesh, corners, edges and faces alike.

    The cells of the mesh whose centres are nearest give a first answer. No cell can be nearer than the distance to its
    centre less its radius, so that only those with a centre within the answer and the largest radius are left to look
    at, and of these only those whose box is nearer than the answer.
    """
    found = np.full(len(points_mm), math.inf)
    if not len(surface.starts):
        return found
    low = np.minimum.reduceat(surface.corners_mm.min(axis=1), surface.starts)
    high = np.maximum.reduceat(surface.corners_mm.max(axis=1), surface.starts)
    boxes = _Boxes((low + high) / 2, (high - low) / 2)
    radii = np.sqrt(_dot(boxes.halves, boxes.halves))
    tree = cKDTree(boxes.centres, leafsize=32, balanced_tree=False, compact_nodes=False)
    first = min(_FIRST_CELLS, len(boxes.centres))
    for part in _parts(np.full(len(points_mm), first)):
        _, which = tree.query(points_mm[part], k=np.arange(1, first + 1), workers=workers)
        _shorten(found, (np.repeat(part, first), np.ravel(which)), points_mm, surface, boxes)
    reach = found + radii.max()
    counts = np.asarray(tree.query_ball_point(points_mm, reach, return_length=True, workers=workers))
    for part in _parts(counts):
        lists = tree.query_ball_point(points_mm[part], reach[part], return_sorted=False, workers=workers)
        which = np.fromiter(chain.from_iterable(lists), dtype=np.int64)
        _shorten(found, (np.repeat(part, counts[part]), which), points_mm, surface, boxes)
    return found


class _Boxes(NamedTuple):
    """The boxes around the pieces of each cell of a mesh, ``(cells, axes)``."""

    centres: npt.NDArray[np.float64]
    halves: npt.NDArray[np.float64]


def _parts(counts: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Split the points so that no part has many more pairs of point and cell than fit at once."""
    at = np.cumsum(counts) // _PAIRS_AT_ONCE
    yield from np.split(np.arange(len(counts)), np.flatnonzero(np.diff(at)) + 1)


def _shorten(
    found: npt.NDArray[np.float64],
    pairs: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    points_mm: npt.NDArray[np.float64],
    surface: Mesh,
    boxes: _Boxes,
) -> None:
    """Shorten the distances found where in a pair of point and cell a piece of the cell is nearer."""
    point, cell = pairs
    beside = np.maximum(np.abs(points_mm[point] - boxes.centres[cell]) - boxes.halves[cell], 0.0)
    near = _dot(beside, beside) < found[point] ** 2
    point, cell = point[near], cell[near]
    counts = np.diff(surface.starts, append=len(surface.sizes))[cell]
    first = np.cumsum(counts) - counts
    piece = np.repeat(surface.starts[cell] - first, counts) + np.arange(counts.sum())
    point = np.repeat(point, counts)
    squared = _squared_to_pieces(points_mm[point], surface.corners_mm[piece])
    np.minimum.at(found, point, np.sqrt(squared))


def _squared_to_pieces(
    points: npt.NDArray[np.float64], pieces: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return squared distances of points ``(pairs, axes)`` to pieces ``(pairs, corners, axes)``, one each."""
    first, *others = np.moveaxis(pieces, 1, 0)
    ends = [(first, others[0])] if len(others) == 1 else [*pairwise([first, *others]), (others[1], first)]
    lines = np.minimum.reduce([_squared_to_segments(points, *end) for end in ends])
    return lines if len(others) == 1 else np.minimum(lines, _squared_to_faces(points, first, *others))


def _squared_to_segments(
    points: npt.NDArray[np.float64], first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    along, away = second - first, points - first
    share = np.clip(_dot(along, away) / _dot(along, along), 0.0, 1.0)
    apart = away - share[:, None] * along
    return _dot(apart, apart)


def _squared_to_faces(
    points: npt.NDArray[np.float64],
    origin: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    third: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return squared distances to the planes of triangles; infinite where the foot of the point is not inside."""
    u, v, away = second - origin, third - origin, points - origin
    uu, uv, vv, up, vp = _dot(u, u), _dot(u, v), _dot(v, v), _dot(u, away), _dot(v, away)
    scale = uu * vv - uv * uv
    along_u, along_v = vv * up - uv * vp, uu * vp - uv * up
    inside = (along_u >= 0) & (along_v >= 0) & (along_u + along_v <= scale)
    apart = away - (along_u[:, None] * u + along_v[:, None] * v) / scale[:, None]
    return np.where(inside, _dot(apart, apart), math.inf)


def _dot(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    product: npt.NDArray[np.float64] = np.einsum("ij,ij->i", a, b)
    return product
