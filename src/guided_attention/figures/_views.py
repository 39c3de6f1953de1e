"""What a row of a picture grid shows: one slice of a case, turned to radiological convention, with its contours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require, require_type
from guided_attention._geometry import (
    CANONICAL,
    checked_affine,
    reorientation,
    require_same_place,
    spacing_of,
)
from guided_attention._typing import LabelArray, LabelVolume, MaskArray, SliceAxis
from guided_attention.case import Case
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec
from guided_attention.outputs import Prediction

__all__ = ["View", "outline", "sides_of", "view_of"]

_OPPOSITE = dict(zip("LPIRAS", "RASLPI", strict=True))


@dataclass(frozen=True, eq=False)
class View:
    """One slice as a radiologist looks at it.

    Attributes:
        title: Case and channel.
        place: Which slice it is.
        image: Intensities, ``(height, width)``.
        reference: Label values of the same size; None where the case has no labels.
        prediction: Label values of the same size.
        pixel_mm: Height and width of a pixel in the patient.
    """

    title: str
    place: str
    image: npt.NDArray[np.float32]
    reference: LabelArray | None
    prediction: LabelArray
    pixel_mm: tuple[float, float]

    @property
    def grey_range(self) -> tuple[float, float]:
        """The 1st and 99th percentile; lowest and highest intensity where those are equal."""
        low, high = np.percentile(self.image, (1, 99)).tolist()
        return (low, high) if low < high else (float(self.image.min()), float(self.image.max()))


def sides_of(slice_axis: SliceAxis) -> tuple[str, str, str, str]:
    """Return the letters at the left, right, top and bottom of a picture.

    >>> sides_of("axial"), sides_of("sagittal")
    (('R', 'L', 'A', 'P'), ('A', 'P', 'S', 'I'))
    """
    right, bottom = CANONICAL[slice_axis][0], CANONICAL[slice_axis][1]
    return _OPPOSITE[right], right, _OPPOSITE[bottom], bottom


def view_of(case: Case, prediction: Prediction, labels: LabelSpec, slice_axis: SliceAxis) -> View:
    """Return the slice with most organs in the reference (the prediction where the reference has none)."""
    _require_same_grid(case, prediction)
    labels.require_known(prediction.labels, f"labels of prediction {case.case_id!r}")
    if case.labels is not None:
        labels.require_known(case.labels, f"labels of case {case.case_id!r}")
    turn = reorientation(case.affine, CANONICAL[slice_axis])
    image, predicted = turn.apply(case.image[0]), turn.apply(prediction.labels)
    reference = None if case.labels is None else turn.apply(case.labels)
    index = _telling_slice([predicted] if reference is None else [reference, predicted], labels.values)
    channel = f" ({case.channel_names[0]})" if case.channel_names else ""
    spacing = spacing_of(turn.affine(case.affine, case.image.shape[1:]))
    return View(
        title=f"case {case.case_id}{channel}",
        place=f"{slice_axis} slice {index + 1} of {len(image)}",
        image=image[index],
        reference=None if reference is None else reference[index],
        prediction=predicted[index],
        pixel_mm=spacing[1:],
    )


def outline(mask: MaskArray) -> npt.NDArray[np.float64]:
    """Return the edges between pixels inside and outside a mask.

    Args:
        mask: ``(height, width)``. Outside the picture counts as outside the mask.

    Returns:
        One line a pixel edge, ``(lines, 2 ends, 2)``, ends as ``(x, y)``; the centre of pixel ``[y, x]`` is ``(x, y)``.
    """
    padded = np.pad(mask, 1)
    row, left = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    upper, column = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    upright = np.stack([np.stack([left, row], axis=-1), np.stack([left, row + 1], axis=-1)], axis=1)
    level = np.stack([np.stack([column, upper], axis=-1), np.stack([column + 1, upper], axis=-1)], axis=1)
    return np.concatenate([upright, level]) - 0.5


def _telling_slice(volumes: Sequence[LabelVolume], values: tuple[int, ...]) -> int:
    """Return the slice with most organs, of these the one that they fill most, in the first volume with any."""
    for volume in volumes:
        filled = [slab[np.isin(slab, values)] for slab in volume]
        if any(slab.size for slab in filled):
            return max(range(len(filled)), key=lambda z: (len(np.unique(filled[z])), filled[z].size))
    return len(volumes[0]) // 2


def _require_same_grid(case: Case, prediction: Prediction) -> None:
    where, size = f"labels of prediction {case.case_id!r}", case.image.shape[1:]
    require_type(where, prediction.labels, np.ndarray, "a NumPy array")
    cure = "Pass the prediction of this scan on its own grid."
    same = prediction.labels.shape == size
    require(same, where, f"of the case's size {size}", prediction.labels.shape, cure, error=DataError)
    where = f"affine of prediction {case.case_id!r}"
    affine = checked_affine(prediction.affine, where)
    require_same_place(where, affine, case.affine, size, "the case's", cure)
