"""Checks that every metric makes of its two masks."""

from guided_attention._checks import require, require_same_shape
from guided_attention._typing import MaskArray

__all__ = ["require_masks"]


def require_masks(prediction: MaskArray, reference: MaskArray) -> None:
    """Raise unless both arrays are boolean and of one whole shape."""
    for argument, mask in (("prediction", prediction), ("reference", reference)):
        got = f"an array of {mask.dtype}"
        require(mask.dtype == bool, argument, "a boolean mask", got, cure="Pass `volume == label`.")
    require_same_shape("prediction", prediction.shape, "reference", reference.shape)
