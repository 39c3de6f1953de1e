"""Surface distances written out: every border voxel against every other."""

import math
from itertools import product

import numpy as np


def border_points(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Return the voxels of the mask that touch, by a face, something that is not in it."""
    points = []
    for index in product(*(range(side) for side in mask.shape)):
        if not mask[index]:
            continue
        for axis, step in product(range(mask.ndim), (-1, 1)):
            other = list(index)
            other[axis] += step
            if not 0 <= other[axis] < mask.shape[axis] or not mask[tuple(other)]:
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
