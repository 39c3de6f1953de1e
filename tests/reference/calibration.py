"""Calibration written out voxel by voxel and bin by bin."""

import math
from itertools import product

import numpy as np


def _counting(reference: np.ndarray, mask: np.ndarray | None) -> list[tuple[int, ...]]:
    everywhere = product(*(range(side) for side in reference.shape))
    return [index for index in everywhere if mask is None or mask[index]]


def expected_calibration_error(
    probabilities: np.ndarray, reference: np.ndarray, bins: int, mask: np.ndarray | None = None
) -> float:
    voxels = _counting(reference, mask)
    error = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = right = 0
        confidence = 0.0
        for index in voxels:
            answer, largest = 0, float(probabilities[(0, *index)])
            for k in range(1, len(probabilities)):
                if float(probabilities[(k, *index)]) > largest:
                    answer, largest = k, float(probabilities[(k, *index)])
            if low < largest <= high:
                inside += 1
                right += answer == reference[index]
                confidence += largest
        if inside:
            error += inside / len(voxels) * abs(right / inside - confidence / inside)
    return error if voxels else math.nan


def brier_score(probabilities: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    voxels = _counting(reference, mask)
    total = 0.0
    for index in voxels:
        for k in range(len(probabilities)):
            truth = 1.0 if reference[index] == k else 0.0
            total += (float(probabilities[(k, *index)]) - truth) ** 2
    return total / len(voxels) if voxels else math.nan


def ranks(values: list[float]) -> list[float]:
    """Return the rank of each value, counting from 1; equal values share the mean of theirs."""
    result = []
    for value in values:
        below = sum(other < value for other in values)
        equal = sum(other == value for other in values)
        result.append(below + (equal + 1) / 2)
    return result


def spearman(first: list[float], second: list[float]) -> float:
    a, b = ranks(first), ranks(second)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    shared = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return shared / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
