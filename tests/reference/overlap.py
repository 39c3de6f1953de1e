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
