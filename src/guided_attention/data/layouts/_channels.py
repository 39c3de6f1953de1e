"""Channels of a scan from a file each, joined on the grid of the first."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from guided_attention._checks import require
from guided_attention._geometry import Reorientation, is_same_place, require_same_place
from guided_attention._typing import Affine
from guided_attention.case import Volume, reordered
from guided_attention.data.formats._limits import require_fits
from guided_attention.errors import DataError
from guided_attention.preparation.grid import Axis, Grid

__all__ = ["stacked"]

_AXES = 3
_KEPT = Reorientation((0, 1, 2), (False, False, False))
_ALIGNED = 1e-3
"""How far, in voxels, two grids may turn against each other along a whole axis and still count as parallel."""
_COVERED = 0.5
"""Share of the first channel's grid that another one has to cover: less is another part of the body."""
_PROBES = 9


def stacked(
    paths: Sequence[Path], read: Callable[[Path], Volume], *, resample: bool, max_bytes: int
) -> Volume:
    """Read a single file as it is; of several, one channel each, one after another, onto the grid of the first.

    A channel in another storage order is reordered. One on another grid is an error, or is interpolated linearly, with
    antialiasing along axes that become coarser, its edges repeated outside.

    Raises:
        DataError: A file has several channels; all together take more than `max_bytes`; or grids differ and `resample`
            is not set, or hardly overlap.
    """
    if len(paths) == 1:
        return read(paths[0])
    first = _one_channel(paths[0], read)
    shape = (len(paths), *first.array.shape)
    # The channels read so far, and the one that is being read.
    require_fits(paths[0], math.prod(shape) * np.dtype(np.float32).itemsize + first.array.nbytes, max_bytes)
    image = np.empty(shape, np.float32)
    image[0] = first.array
    for path, into in zip(paths[1:], image[1:], strict=True):
        _read_onto(into, Volume(image[0], first.affine), path, paths[0], read, resample=resample)
    return Volume(image, first.affine, first.source)


def _one_channel(path: Path, read: Callable[[Path], Volume]) -> Volume:
    volume = read(path)
    array = volume.array[0] if volume.array.ndim > _AXES and len(volume.array) == 1 else volume.array
    wanted, got = "one channel, as one of several files", f"shape {array.shape}"
    require(array.ndim == _AXES, f"size of {path}", wanted, got, error=DataError, file=path)
    return Volume(array, volume.affine, volume.source)


def _read_onto(
    into: npt.NDArray[np.float32],
    first: Volume,
    path: Path,
    first_path: Path,
    read: Callable[[Path], Volume],
    *,
    resample: bool,
) -> None:
    volume = reordered(_one_channel(path, read), first)
    array = volume.array
    if array.shape == first.array.shape and is_same_place(volume.affine, first.affine, array.shape):
        into[...] = array
        return
    if not resample:
        _refuse(path, volume, first_path, first)
    matrix: Affine = np.linalg.solve(volume.affine, first.affine).astype(np.float64)
    share = _covered(matrix, first.array.shape, array.shape)
    wanted = f"a volume that covers at least half of {first_path}"
    require(share >= _COVERED, str(path), wanted, f"{share:.0%} of it", error=DataError, file=path)
    _interpolate(into, array.astype(np.float32, copy=False), matrix)


def _refuse(path: Path, volume: Volume, first_path: Path, first: Volume) -> None:
    cure = "Pass resample_channels=True to interpolate it onto that grid."
    size, shape = first.array.shape, volume.array.shape
    wanted = f"on the grid of {first_path}, of size {size} and spacing {_shown(first)}"
    got = f"size {shape} and spacing {_shown(volume)}"
    require(shape == size, str(path), wanted, got, cure, error=DataError, file=path)
    require_same_place(str(path), volume.affine, first.affine, shape, str(first_path), cure)


def _interpolate(into: npt.NDArray[np.float32], array: npt.NDArray[np.float32], matrix: Affine) -> None:
    """Interpolate an array where `matrix` takes the indices (x, y, z) of another grid to its own."""
    linear, offset = matrix[2::-1, 2::-1], matrix[2::-1, 3]
    steps = np.diag(linear)
    turned = np.abs(linear - np.diag(steps)) * into.shape
    if turned.max() > _ALIGNED:
        ndimage.affine_transform(
            _smoothed(array, np.linalg.norm(linear, axis=1)),
            linear,
            offset,
            output=into,
            output_shape=into.shape,
            order=1,
            mode="nearest",
        )
        return
    depth, rows, columns = (
        Axis(old, float(start), float(step), size)
        for old, start, step, size in zip(array.shape, offset, steps, into.shape, strict=True)
    )
    Grid(_KEPT, (depth, rows, columns)).sample(array, lambda values: values, into)


def _smoothed(array: npt.NDArray[np.float32], widths: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Smooth along each axis on which another grid's steps are wider than 1, by the triangle of `Axis.forward`."""
    for axis, width in enumerate(widths):
        if width > 1:
            reach = math.ceil(width) - 1
            weight = 1 - np.abs(np.arange(-reach, reach + 1)) / width
            array = ndimage.correlate1d(array, weight / weight.sum(), axis, mode="nearest")
    return array


def _covered(matrix: Affine, shape: Sequence[int], other: Sequence[int]) -> float:
    """Return the share of a grid, probed evenly, that lies in another volume."""
    places = (np.linspace(0, size - 1, _PROBES) for size in reversed(shape))
    index = matrix @ np.array([[*place, 1.0] for place in product(*places)]).T
    high = np.array(other[::-1])[:, None] - 0.5
    return float(((index[:3] >= -0.5) & (index[:3] <= high)).all(axis=0).mean())  # noqa: PLR2004


def _shown(volume: Volume) -> tuple[float, ...]:
    return tuple(round(length, 3) for length in volume.spacing_mm)
