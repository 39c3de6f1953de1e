"""Geometry of voxel grids voxel by voxel and by hand: distances between planes, the best of six assignments."""

import math
from itertools import permutations, product

import numpy as np


def place(affine, x, y, z):
    """Millimetres of one voxel index."""
    return np.array(
        [sum(affine[row, k] * value for k, value in enumerate((x, y, z, 1.0))) for row in range(3)]
    )


def _letters(affine, axes):
    return "".join(("RAS" if affine[axis, column] > 0 else "LPI")[axis] for column, axis in enumerate(axes))


def assignments(affine):
    """Every assignment of columns to anatomical axes with its sum of cosines, the best first."""
    columns = [affine[:3, column] / math.dist(affine[:3, column], (0, 0, 0)) for column in range(3)]
    sums = [
        (sum(abs(columns[column][axis]) for column, axis in enumerate(axes)), axes)
        for axes in permutations(range(3))
    ]
    return sorted(sums, reverse=True)


def orientation(affine):
    """Letters of the assignment with the largest sum of cosines."""
    return _letters(affine, assignments(affine)[0][1])


def spacing(affine):
    """Lengths where axes are at right angles; else along an axis, between lines, between planes, in order R, A, S."""
    columns = [affine[:3, column] for column in range(3)]
    lengths = [math.sqrt(float(column @ column)) for column in columns]
    angles = [abs(columns[a] @ columns[b]) / lengths[a] / lengths[b] for a, b in ((0, 1), (0, 2), (1, 2))]
    if max(angles) > 1e-3:
        axes = assignments(affine)[0][1]
        first, second, third = (axes.index(axis) for axis in range(3))
        area = np.cross(columns[first], columns[second])
        lengths[second] = math.sqrt(float(area @ area)) / lengths[first]
        lengths[third] = abs(float(area @ columns[third])) / math.sqrt(float(area @ area))
    return (lengths[2], lengths[1], lengths[0])


def moved(array, affine, target):
    """Array and affine in another storage order, each voxel copied by where it lies (grid axes at right angles)."""
    source = orientation(affine)
    pairs = ("LR", "PA", "IS")
    column = [next(c for c, have in enumerate(source) if letter in _pair(have, pairs)) for letter in target]
    flip = [source[c] != letter for c, letter in zip(column, target, strict=True)]
    size = array.shape[::-1]  # x, y, z
    out = np.empty([size[c] for c in column][::-1], array.dtype)
    for index in product(*(range(size[c]) for c in column)):
        old = [0, 0, 0]
        for axis, value in enumerate(index):
            old[column[axis]] = size[column[axis]] - 1 - value if flip[axis] else value
        out[index[::-1]] = array[tuple(old[::-1])]
    return out


def _pair(letter, pairs):
    return next(pair for pair in pairs if letter in pair)


class Storage:
    """Another storage order of a scan, found from `orientation` and written with NumPy's own transposes and flips."""

    def __init__(self, affine, target):
        source, pairs = orientation(affine), ("LR", "PA", "IS")
        self.columns = [
            next(c for c, have in enumerate(source) if new in _pair(have, pairs)) for new in target
        ]
        self.flipped = [axis for axis, c in enumerate(self.columns) if source[c] != target[axis]]

    def apply(self, array):
        lead = array.ndim - 3
        xyz = array.transpose(*range(lead), lead + 2, lead + 1, lead)
        turned = xyz.transpose(*range(lead), *(lead + c for c in self.columns))
        turned = np.flip(turned, [lead + axis for axis in self.flipped])
        return turned.transpose(*range(lead), lead + 2, lead + 1, lead)

    def undo(self, array):
        lead = array.ndim - 3
        xyz = np.flip(
            array.transpose(*range(lead), lead + 2, lead + 1, lead), [lead + a for a in self.flipped]
        )
        back = xyz.transpose(*range(lead), *(lead + self.columns.index(axis) for axis in range(3)))
        return back.transpose(*range(lead), lead + 2, lead + 1, lead)

    def affine(self, affine, shape):
        size, corner, new = shape[::-1], [0, 0, 0], np.eye(4)
        for axis, c in enumerate(self.columns):
            new[:3, axis] = -affine[:3, c] if axis in self.flipped else affine[:3, c]
            corner[c] = size[c] - 1 if axis in self.flipped else 0
        new[:3, 3] = place(affine, *corner)
        return new


def random_affine(rng, kind):
    """An affine: straight, oblique (up to 30 degrees), turned (any rotation), tilted (a gantry) or sheared."""
    order, signs = rng.permutation(3), rng.choice([-1.0, 1.0], 3)
    straight = np.zeros((3, 3))
    straight[order, range(3)] = signs
    linear = straight * rng.uniform(0.4, 6.0, 3)
    if kind in {"oblique", "turned"}:
        linear = rotation(rng, np.pi if kind == "turned" else np.pi / 6) @ linear
    if kind == "tilted":  # the slice axis leans along a row axis
        linear[:, 2] += np.tan(np.radians(rng.uniform(5, 30))) * linear[:, 1] * rng.choice([-1, 1])
    if kind == "sheared":
        linear = linear @ (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, rng.uniform(-200, 200, 3)
    return affine


def rotation(rng, largest):
    """A rotation about a random axis by up to `largest` radians, by Rodrigues' formula."""
    axis = rng.standard_normal(3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = rng.uniform(-largest, largest)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
