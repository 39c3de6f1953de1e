"""Checks that the metrics make of masks and of the spacing."""

import math
from collections.abc import Sequence

from guided_attention._checks import require, require_same_shape
from guided_attention._typing import MaskArray

__all__ = ["require_mask", "require_masks", "require_spacing"]


def require_mask(argument: str, mask: MaskArray) -> None:
    """Raise unless the array is boolean."""
    got = f"an array of {mask.dtype}"
    require(mask.dtype == bool, argument, "a boolean mask", got, cure="Pass `volume == label`.")


def require_masks(prediction: MaskArray, reference: MaskArray) -> None:
    """Raise unless both arrays are boolean and of one whole shape."""
    require_mask("prediction", prediction)
    require_mask("reference", reference)
    require_same_shape("prediction", prediction.shape, "reference", reference.shape)


def require_spacing(spacing_mm: Sequence[float], axes: int) -> None:
    """Raise unless there is one length above 0 for each axis of the masks."""
    values = tuple(float(value) for value in spacing_mm)
    wanted = f"{axes} lengths, one for each axis of the masks in array order"
    require(len(values) == axes, "spacing_mm", wanted, values)
    require(all(0 < value < math.inf for value in values), "spacing_mm", "above 0 and finite", values)
