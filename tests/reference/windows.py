"""Sliding windows, spelled out: the whole image is padded, and each window and voxel is visited by a loop."""

import math
from itertools import product

import numpy as np


def starts(length, window, overlap):
    interval = length if window == length else max(1, int(window * (1 - overlap)))
    found = []
    for number in range(length):
        begin = min(number * interval, length - window)
        found.append(begin)
        if begin + window >= length:
            return found
    return found


def weights(window):
    values = np.zeros(window)
    for place in product(*map(range, window)):
        exponent = sum(
            ((p - (size - 1) / 2) / (0.125 * size)) ** 2 for p, size in zip(place, window, strict=True)
        )
        values[place] = math.exp(-exponent / 2)
    return np.maximum(values, max(values.min(), 1e-3))


def sliding_windows(image, predict, window, overlap):
    """Return the logits ``(classes, *space)`` of an image ``(channels, *space)``; `predict` takes one window."""
    space = image.shape[1:]
    missing = [max(0, size - have) for size, have in zip(window, space, strict=True)]
    before = [number // 2 for number in missing]
    pads = [(0, 0)] + [(b, m - b) for b, m in zip(before, missing, strict=True)]
    padded = np.pad(image, pads)
    weight = weights(window)
    total, count = 0.0, np.zeros(padded.shape[1:])
    for place in product(*(starts(n, w, overlap) for n, w in zip(padded.shape[1:], window, strict=True))):
        part = tuple(slice(p, p + w) for p, w in zip(place, window, strict=True))
        logits = predict(padded[(slice(None), *part)])
        if np.ndim(total) == 0:
            total = np.zeros((len(logits), *padded.shape[1:]))
        total[(slice(None), *part)] += logits * weight
        count[part] += weight
    inside = tuple(slice(b, b + have) for b, have in zip(before, space, strict=True))
    return (total / count)[(slice(None), *inside)]
