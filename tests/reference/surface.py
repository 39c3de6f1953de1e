"""Surface distances written out: every border voxel against every other."""

import math
from itertools import product

import numpy as np


def border_points(mask: np.ndarray, *, beyond: bool = False) -> list[tuple[int, ...]]:
    """Return the voxels of the mask that touch, by a face, something not in it; `beyond` says what is off the image."""
    points = []
    for index in product(*(range(side) for side in mask.shape)):
        if not mask[index]:
            continue
        for axis, step in product(range(mask.ndim), (-1, 1)):
            other = list(index)
            other[axis] += step
            inside = mask[tuple(other)] if 0 <= other[axis] < mask.shape[axis] else beyond
            if not inside:
                points.append(index)
                break
    return points


def directed(mask: np.ndarray, other: np.ndarray, spacing_mm: tuple[float, ...]) -> list[float]:
    """Return the distance of each border voxel of `mask`, in array order, to the border of `other`."""
    targets = border_points(other)
    result = []
    for point in border_points(mask):
        nearest = math.inf
        for target in targets:
            square = 0.0
            for a, b, length in zip(point, target, spacing_mm, strict=True):
                square += ((a - b) * length) ** 2
            nearest = min(nearest, math.sqrt(square))
        result.append(nearest)
    return result


def percentile(values: list[float], share: float) -> float:
    """Return the linearly interpolated percentile."""
    ordered = sorted(values)
    position = share / 100 * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def to_segment(point: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Return the distance of a point to a segment."""
    length = float(np.dot(second - first, second - first))
    share = min(1.0, max(0.0, float(np.dot(point - first, second - first)) / length))
    return float(np.linalg.norm(point - (first + share * (second - first))))


def to_triangle(point: np.ndarray, corners: np.ndarray) -> float:
    """Return the distance of a point to a triangle: to its plane where the foot lies within, else to its sides."""
    first, second, third = corners
    normal = np.cross(second - first, third - first)
    normal = normal / np.linalg.norm(normal)
    height = float(np.dot(point - first, normal))
    foot = point - height * normal
    turns = [
        np.dot(np.cross(b - a, foot - a), normal)
        for a, b in ((first, second), (second, third), (third, first))
    ]
    if min(turns) >= 0:
        return abs(height)
    return min(
        to_segment(point, first, second), to_segment(point, second, third), to_segment(point, third, first)
    )


def to_pieces(points: np.ndarray, pieces: np.ndarray) -> list[float]:
    """Return the distance of each point to the nearest of all segments or triangles."""
    return [
        min(to_segment(point, *piece) if len(piece) == 2 else to_triangle(point, piece) for piece in pieces)
        for point in points
    ]


def weighted_percentile(values: list[float], weights: list[float], share: float) -> float:
    """Return the smallest value within which that share of the weight lies."""
    total, sum_so_far = sum(weights), 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):
        sum_so_far += weight
        if sum_so_far >= share / 100 * total:
            return value
    return max(values)


def cuts(mask: np.ndarray, spacing_mm: tuple[float, ...], passes: int, widest: float) -> dict[tuple, float]:
    """Return where the surface cuts each edge between a voxel of the mask and one outside, as a share of the edge.

    Keys are the edge's lower voxel and its axis. The share is that of the two voxels' distances from the outlines of
    their own slices, where both have one within `widest` steps; a half elsewhere.
    """
    shares = {}
    for low in product(*(range(side) for side in mask.shape)):
        for axis in range(mask.ndim):
            high = list(low)
            high[axis] += 1
            if high[axis] < mask.shape[axis] and mask[low] != mask[tuple(high)]:
                shares[low, axis] = 0.5

    def to_outline(voxel: tuple[int, ...], axis: int, known: dict[tuple, float]) -> float:
        nearest = math.inf
        for (low, along), share in known.items():
            if along != axis and low[axis] == voxel[axis]:
                square = 0.0
                for n, length in enumerate(spacing_mm):
                    square += ((low[n] + (share if n == along else 0.0) - voxel[n]) * length) ** 2
                nearest = min(nearest, math.sqrt(square))
        return nearest

    for _ in range(passes):
        new = {}
        for low, axis in shares:
            high = tuple(value + (n == axis) for n, value in enumerate(low))
            first, second = to_outline(low, axis, shares), to_outline(high, axis, shares)
            near = max(first, second) < widest * spacing_mm[axis]
            new[low, axis] = min(0.98, max(0.02, first / (first + second))) if near else 0.5
        shares = new
    return shares
