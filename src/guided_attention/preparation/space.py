"""Space: cropping, padding and resampling of whole volumes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from guided_attention._checks import require
from guided_attention._geometry import grid_affine
from guided_attention._typing import ImageSlice, LabelSlice
from guided_attention.case import Case

__all__ = ["crop_or_pad", "resample_in_plane"]


def crop_or_pad(case: Case, size: tuple[int, int]) -> Case:
    """Bring every slice to one size about its centre; voxels keep their place in the patient.

    Where a number of pixels is odd, the one more goes to the end of the axis. Images are padded with the
    volume's least value (each channel apart), labels with background; the affine moves with the first voxel.

    Args:
        case: A scan.
        size: Height and width wanted, in pixels.

    Returns:
        The case with new image, labels and affine.

    Raises:
        ValueError: A size is not above 0.

    Example:
        >>> import numpy as np
        >>> from guided_attention.case import affine_of
        >>> case = Case("7", np.zeros((1, 2, 3, 5), np.float32), None, affine_of((9.0, 1.5, 1.5)))
        >>> changed = crop_or_pad(case, (7, 3))
        >>> changed.image.shape, changed.affine[:3, 3].tolist()
        ((1, 2, 7, 3), [1.0, -2.0, 0.0])
    """
    require(min(size) > 0, "size", "above 0", size)
    old = (case.image.shape[2], case.image.shape[3])
    start = (_centred(old[0], size[0]), _centred(old[1], size[1]))
    image = np.stack([_boxed(channel, start, size, float(channel.min())) for channel in case.image])
    labels = None if case.labels is None else _boxed(case.labels, start, size, 0)
    affine = grid_affine(case.affine, start=(0.0, float(start[0]), float(start[1])), step=(1.0, 1.0, 1.0))
    return replace(case, image=image, labels=labels, affine=affine)


def _centred(old: int, new: int) -> int:
    """Return the old index at which the new axis starts, negative where it is padded."""
    return (old - new) // 2 if old >= new else -((new - old) // 2)


def _boxed(
    array: npt.NDArray[Any], start: tuple[int, int], size: tuple[int, int], fill: float
) -> npt.NDArray[Any]:
    boxed = np.full((*array.shape[:-2], *size), fill, dtype=array.dtype)
    rows, columns = (_overlap(*axis) for axis in zip(array.shape[-2:], start, size, strict=True))
    boxed[..., rows[1], columns[1]] = array[..., rows[0], columns[0]]
    return boxed


def _overlap(old: int, start: int, new: int) -> tuple[slice, slice]:
    """Return where the new axis and the old one meet: as indices of the old and of the new."""
    first, last = max(start, 0), min(start + new, old)
    return slice(first, last), slice(first - start, last - start)


def crop_or_pad_slice(
    image: ImageSlice, labels: LabelSlice, size: tuple[int, int], *, fill: Tensor, random: bool
) -> tuple[Tensor, Tensor]:
    """Bring one slice to a size, about its centre or at random; padded with `fill`, one value a channel."""
    old = image.shape[1:]
    rows, columns = (_start(*axis, random=random) for axis in zip(old, size, strict=True))
    tall, wide = _overlap(old[0], rows, size[0]), _overlap(old[1], columns, size[1])
    new_image, new_labels = fill[:, None, None].repeat(1, *size), labels.new_zeros(size)
    new_image[:, tall[1], wide[1]] = image[:, tall[0], wide[0]]
    new_labels[tall[1], wide[1]] = labels[tall[0], wide[0]]
    return new_image, new_labels


def _start(old: int, new: int, *, random: bool) -> int:
    if not random:
        return _centred(old, new)
    drawn = int(torch.randint(abs(old - new) + 1, ()))
    return drawn if old >= new else -drawn


def resample_in_plane(case: Case, spacing_mm: float | tuple[float, float]) -> Case:
    """Bring the pixels of every slice to another size in millimetres; slices and their distance stay.

    The new grid has the old one's centre and ``round(pixels · old / new)`` pixels along an axis, exactly
    ``spacing_mm`` apart; the affine is updated so that every position in the patient stays where it was.
    Images are interpolated linearly (without smoothing before, so halving a size averages pairs and more
    loses detail unevenly), labels take their nearest voxel; beyond the edge, the edge goes on.

    Args:
        case: A scan.
        spacing_mm: Distance between pixels in millimetres: one for both directions, or ``(y, x)``.

    Returns:
        The case with new image, labels, spacing and affine.

    Raises:
        ValueError: A spacing is not above 0.

    Example:
        >>> import numpy as np
        >>> affine = np.diag([1.5, 1.5, 9.0, 1.0])
        >>> from guided_attention.case import affine_of
        >>> case = Case("7", np.zeros((1, 2, 8, 6), np.float32), None, affine)
        >>> changed = resample_in_plane(case, 3.0)
        >>> changed.image.shape, changed.affine[:3, 3].tolist()
        ((1, 2, 4, 3), [0.75, 0.75, 0.0])
    """
    wanted = spacing_mm if isinstance(spacing_mm, tuple) else (spacing_mm, spacing_mm)
    require(min(wanted) > 0, "spacing_mm", "above 0", spacing_mm)
    old = np.array(case.image.shape[2:])
    step = np.array(wanted) / np.array(case.spacing_mm[1:])
    new = np.maximum(np.round(old / step), 1).astype(int)
    start = (old - 1) / 2 - (new - 1) / 2 * step
    resample = _resampler(start, step, new)
    labels = None if case.labels is None else resample(case.labels, 0)
    affine = grid_affine(
        case.affine, start=(0.0, float(start[0]), float(start[1])), step=(1.0, float(step[0]), float(step[1]))
    )
    image = np.stack([resample(channel, 1) for channel in case.image])
    return replace(case, image=image, labels=labels, affine=affine)


def _resampler(
    start: npt.NDArray[np.float64], step: npt.NDArray[np.float64], new: npt.NDArray[np.int_]
) -> Callable[[npt.NDArray[Any], Literal[0, 1]], npt.NDArray[Any]]:
    matrix, offset = np.array([1.0, *step]), np.array([0.0, *start])

    def resample(volume: npt.NDArray[Any], order: Literal[0, 1]) -> npt.NDArray[Any]:
        shape = (volume.shape[0], int(new[0]), int(new[1]))
        return ndimage.affine_transform(
            volume, matrix, offset, output_shape=shape, order=order, mode="nearest"
        )

    return resample
