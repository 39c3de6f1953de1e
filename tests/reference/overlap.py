"""Overlap metrics written out voxel by voxel."""

import math
from itertools import product

import numpy as np


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    found = true = shared = 0
    for index in product(*(range(side) for side in prediction.shape)):
        if prediction[index]:
            found += 1
        if reference[index]:
            true += 1
        if prediction[index] and reference[index]:
            shared += 1
    return math.nan if found + true == 0 else 2.0 * shared / (found + true)


def volume_similarity(prediction: np.ndarray, reference: np.ndarray) -> float:
    difference = total = 0
    for index in product(*(range(side) for side in prediction.shape)):
        difference += int(prediction[index]) - int(reference[index])
        total += int(prediction[index]) + int(reference[index])
    return math.nan if total == 0 else 1.0 - abs(difference) / total


def jaccard(prediction: np.ndarray, reference: np.ndarray) -> float:
    shared = covered = 0
    for index in product(*(range(side) for side in prediction.shape)):
        shared += bool(prediction[index]) and bool(reference[index])
        covered += bool(prediction[index]) or bool(reference[index])
    return math.nan if covered == 0 else shared / covered


def sensitivity(prediction: np.ndarray, reference: np.ndarray) -> float:
    hits = misses = false_alarms = 0
    for index in product(*(range(side) for side in prediction.shape)):
        hits += bool(prediction[index]) and bool(reference[index])
        misses += not prediction[index] and bool(reference[index])
        false_alarms += bool(prediction[index]) and not reference[index]
    if hits + misses == 0:
        return math.nan if false_alarms == 0 else 0.0
    return hits / (hits + misses)


def precision(prediction: np.ndarray, reference: np.ndarray) -> float:
    hits = misses = false_alarms = 0
    for index in product(*(range(side) for side in prediction.shape)):
        hits += bool(prediction[index]) and bool(reference[index])
        misses += not prediction[index] and bool(reference[index])
        false_alarms += bool(prediction[index]) and not reference[index]
    if hits + false_alarms == 0:
        return math.nan if misses == 0 else 0.0
    return hits / (hits + false_alarms)


def relative_volume_difference(prediction: np.ndarray, reference: np.ndarray) -> float:
    found = true = 0
    for index in product(*(range(side) for side in prediction.shape)):
        found += bool(prediction[index])
        true += bool(reference[index])
    if true == 0:
        return math.nan if found == 0 else math.inf
    return 100.0 * abs(found - true) / true


def volume_ml(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    voxel_mm3 = spacing_mm[0] * spacing_mm[1] * spacing_mm[2]
    total = 0.0
    for index in product(*(range(side) for side in mask.shape)):
        if mask[index]:
            total += voxel_mm3
    return total / 1000.0
