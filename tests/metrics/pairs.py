"""Pairs of masks that surfaces are compared on: random, real, and the awkward ones."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

Pair = tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[float, ...]]

VOLUMES = ((5, 11, 13), (7, 13, 11), (11, 7, 17))
IMAGES = ((13, 17), (19, 11))


def random_pairs(count: int) -> Iterator[Pair]:
    """Return pairs of random masks, blobs and noise, touching the borders of the image or not, most with holes."""
    rng = np.random.default_rng(0)
    made = 0
    while made < count:
        shape = (VOLUMES + IMAGES)[rng.integers(5)]
        spacing_mm = tuple(float(length) for length in rng.uniform(0.4, 8.0, len(shape)).round(2))
        kind = made % 4
        if kind == 0:
            masks = rng.random((2, *shape)) < rng.uniform(0.05, 0.9)
        else:
            common = gaussian_filter(rng.normal(size=shape), 1.3)
            noise = [gaussian_filter(rng.normal(size=shape), 1.0) for _ in range(2)]
            masks = np.stack([common + 0.5 * extra > rng.uniform(-0.1, 0.15) for extra in noise])
        if kind == 2:  # nothing at the border of the image
            inner = np.zeros(shape, dtype=bool)
            inner[(slice(1, -1),) * len(shape)] = True
            masks = masks & inner
        if masks[0].any() and masks[1].any():
            made += 1
            yield masks[0], masks[1], spacing_mm


def awkward_pairs() -> Iterator[Pair]:
    """Return thin plates, single voxels, whole images, a hole, pieces far away, masks that are one."""
    shape, spacing_mm = (7, 13, 11), (7.7, 1.5, 1.3)
    empty = np.zeros(shape, dtype=bool)

    def box(*corners: tuple[int, int]) -> NDArray[np.bool_]:
        mask = empty.copy()
        mask[tuple(slice(*corner) for corner in corners)] = True
        return mask

    voxel, other = box((0, 1), (0, 1), (0, 1)), box((6, 7), (12, 13), (10, 11))
    for axis in range(3):
        plane = [(0, side) for side in shape]
        plane[axis] = (2, 3)
        yield box(*plane), np.roll(box(*plane), 2, axis), spacing_mm
    organ = box((2, 5), (3, 9), (2, 8))
    hollow = organ & ~box((3, 4), (5, 7), (4, 6))
    yield from ((voxel, other, spacing_mm), (organ, hollow, spacing_mm), (organ, organ, spacing_mm))
    yield from ((~empty, organ, spacing_mm), (~empty, ~empty, spacing_mm), (organ | other, organ, spacing_mm))
    corner = box((2, 3), (3, 4), (4, 5)) | box(
        (3, 4), (4, 5), (5, 6)
    )  # two voxels that touch at a corner alone
    edge = box((2, 3), (3, 4), (4, 5)) | box((2, 3), (4, 5), (5, 6))  # along an edge
    yield from ((corner, edge, spacing_mm), (edge, voxel, spacing_mm))


def changed_pairs(organ: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> Iterator[Pair]:
    """Return a real organ against versions of itself: shrunk, grown, shifted, with a far voxel."""
    far = organ.copy()
    far[0, 0, 0] = True
    versions = (binary_erosion(organ), binary_dilation(organ, iterations=2), np.roll(organ, 2, axis=1), far)
    yield from ((version, organ, spacing_mm) for version in versions if version.any())
