"""The score of CHAOS written out: voxel by voxel, every border voxel against every other."""

import math
from itertools import product

import numpy as np

from tests.reference.surface import border_points


def distances(prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]) -> list[float]:
    """Return the distances of both directions; of nothing to nothing there is no least one, which raises."""
    found, true = (border_points(mask, beyond=True) for mask in (prediction, reference))
    result = []
    for points, targets in ((found, true), (true, found)):
        for point in points:
            far = []
            for target in targets:
                square = 0.0
                for a, b, length in zip(point, target, spacing_mm, strict=True):
                    square += ((a - b) * length) ** 2
                far.append(math.sqrt(square))
            result.append(min(far))
    return result


def quantities(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]
) -> tuple[float, float, float, float]:
    """Return Dice, difference of volumes in per cent, mean and largest distance, by the challenge's rule."""
    found = true = shared = 0
    for index in product(*(range(side) for side in prediction.shape)):
        found += int(prediction[index])
        true += int(reference[index])
        shared += int(prediction[index] and reference[index])
    dice = 2 * shared / (found + true)
    ravd = 100 * abs(found - true) / true
    both = distances(prediction, reference, spacing_mm)
    return dice, ravd, sum(both) / len(both), max(both)


def points(value: float, limit: float, perfect: float) -> float:
    if perfect > limit:  # Dice: per cent of it, above the limit
        return 100 * value if value > limit else 0.0
    return 100 * (limit - value) / limit if value <= limit else 0.0
