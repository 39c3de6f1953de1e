"""Space: cropping, padding and resampling of a case in its own storage order."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require, require_type
from guided_attention._geometry import Reorientation, grid_affine
from guided_attention.case import Case
from guided_attention.preparation._values import number, whole
from guided_attention.preparation.grid import Axis, Grid, resampled_axis

__all__ = ["crop_or_pad", "resample_in_plane"]

_AS_STORED = Reorientation((0, 1, 2), (False, False, False))


def crop_or_pad(case: Case, size: tuple[int, int]) -> Case:
    """Crop and pad every slice about its centre to one size; voxels keep their place in the patient.

    Where the difference is odd, the larger part goes to the end of the axis. Images are padded with the lowest value of
    their channel, labels with background.

    Args:
        case: A scan.
        size: Height and width in pixels.

    Returns:
        The case with new image, labels and affine.

    Raises:
        ArgumentError: A size is below 1.

    Example:
        >>> import numpy as np
        >>> from guided_attention.case import affine_of
        >>> case = Case("7", np.zeros((1, 2, 3, 5), np.float32), None, affine_of((9.0, 1.5, 1.5)))
        >>> changed = crop_or_pad(case, (7, 3))
        >>> changed.image.shape, changed.affine[:3, 3].tolist()
        ((1, 2, 7, 3), [1.5, -3.0, 0.0])
    """
    require_type("case", case, Case, "a Case")
    pair: Sequence[int] = size
    require_type("size", pair, (tuple, list), "(height, width)")
    require(len(pair) == 2, "size", "a height and a width", size)  # noqa: PLR2004
    height, width = (whole("size", length, least=1) for length in pair)
    size, old = (height, width), case.image.shape[2:]
    starts = [_centred(*axis) for axis in zip(old, size, strict=True)]
    image = np.stack([_boxed(channel, starts, size, float(channel.min())) for channel in case.image])
    labels = None if case.labels is None else _boxed(case.labels, starts, size, 0)
    affine = grid_affine(case.affine, start=(0.0, float(starts[0]), float(starts[1])), step=(1.0, 1.0, 1.0))
    return replace(case, image=image, labels=labels, affine=affine, source=None)


def _centred(old: int, new: int) -> int:
    """Return the old index at which the new axis starts, negative where it is padded."""
    return (old - new) // 2 if old >= new else -((new - old) // 2)


def _boxed(
    array: npt.NDArray[Any], starts: list[int], size: tuple[int, int], fill: float
) -> npt.NDArray[Any]:
    boxed = np.full((*array.shape[:-2], *size), fill, dtype=array.dtype)
    there, here = [], []
    for old, start, new in zip(array.shape[-2:], starts, size, strict=True):
        first, last = max(start, 0), min(start + new, old)
        there.append(slice(first, last))
        here.append(slice(first - start, last - start))
    boxed[..., here[0], here[1]] = array[..., there[0], there[1]]
    return boxed


def resample_in_plane(case: Case, spacing_mm: float | tuple[float, float]) -> Case:
    """Resample every slice to another pixel size; slices and their distance stay.

    The grid is that of `Preparation`: the old centre, and ``max(1, round(pixels * old / new))`` pixels exactly
    `spacing_mm` apart. Images are interpolated linearly, with antialiasing where pixels grow, labels take the nearest
    pixel; beyond the edge, the edge is repeated.

    Args:
        case: A scan.
        spacing_mm: Distance between pixels in millimetres: one for both directions, or ``(y, x)``.

    Returns:
        The case with new image, labels and affine.

    Raises:
        ArgumentError: A spacing is not above 0.

    Example:
        >>> import numpy as np
        >>> affine = np.diag([1.5, 1.5, 9.0, 1.0])
        >>> changed = resample_in_plane(Case("7", np.zeros((1, 2, 8, 6), np.float32), None, affine), 3.0)
        >>> changed.image.shape, changed.affine[:3, 3].tolist()
        ((1, 2, 4, 3), [0.75, 0.75, 0.0])
    """
    require_type("case", case, Case, "a Case")
    pair: Sequence[float] = spacing_mm if isinstance(spacing_mm, tuple | list) else (spacing_mm, spacing_mm)
    wanted = [number("spacing_mm", length) for length in pair]
    good = len(wanted) == 2 and min(wanted) > 0  # noqa: PLR2004
    require(good, "spacing_mm", "above 0", spacing_mm)
    depth, height, width = case.image.shape[1:]
    _, y, x = case.spacing_mm
    grid = Grid(
        _AS_STORED,
        (
            Axis(depth, 0.0, 1.0, depth),
            resampled_axis(height, y, wanted[0]),
            resampled_axis(width, x, wanted[1]),
        ),
    )
    image = np.empty((len(case.image), *grid.shape), np.float32)
    for channel, into in zip(case.image, image, strict=True):
        grid.sample(channel, lambda values: values, into)
    labels = None if case.labels is None else grid.labels(case.labels)
    return replace(case, image=image, labels=labels, affine=grid.affine(case.affine), source=None)
