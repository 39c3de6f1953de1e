"""Scans at random places in the patient, and one scan in several storage orders."""

from itertools import permutations, product

import numpy as np
from tests.reference.geometry import Storage

from guided_attention.case import Case

__all__ = ["case_of", "random_affine", "rotation", "stored_as"]


def rotation(degrees, axis):
    """Turn about an axis."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def random_affine(rng, spacing, *, degrees=0.0, shear=0.0):
    """Return an affine of any of the 48 storage orders, turned by some degrees, with rows that lean."""
    order = list(permutations(range(3)))[rng.integers(6)]
    signs = list(product((1, -1), repeat=3))[rng.integers(8)]
    directions = np.zeros((3, 3))
    for column in range(3):
        directions[order[column], column] = signs[column]
    directions = rotation(degrees, rng.normal(size=3)) @ directions
    leaning = np.eye(3)
    leaning[0, 2] = shear
    affine = np.eye(4)
    affine[:3, :3] = directions @ leaning * np.asarray(spacing[::-1])
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


def case_of(rng, shape, affine, *, channels=1, classes=4, names=(), case_id="7"):
    """Return a case with noise and random blocks of labels."""
    image = rng.normal(100, 40, (channels, *shape)).astype(np.float32)
    image += rng.gamma(1.0, 20, image.shape).astype(np.float32)
    labels = np.zeros(shape, np.uint8)
    for value in range(1, classes):
        low = [rng.integers(0, size) for size in shape]
        high = [int(rng.integers(start, size)) + 1 for start, size in zip(low, shape, strict=True)]
        labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = value
    return Case(case_id, image, labels, affine, names)


def stored_as(case, orientation, *, turn=None):
    """Return the same patient in another storage order; `turn` is a rotation that the whole patient makes."""
    way = Storage(case.affine, orientation)
    affine = way.affine(case.affine, case.image.shape[1:])
    if turn is not None:
        whole = np.eye(4)
        whole[:3, :3] = turn
        affine = whole @ affine
    labels = None if case.labels is None else np.ascontiguousarray(way.apply(case.labels))
    return Case(case.case_id, np.ascontiguousarray(way.apply(case.image)), labels, affine, case.channel_names)
