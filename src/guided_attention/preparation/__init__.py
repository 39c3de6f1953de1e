"""Preparation: what is done to a scan before a network sees it."""

from guided_attention.preparation.intensity import normalize, window
from guided_attention.preparation.space import crop_or_pad, resample_in_plane

__all__ = [
    "crop_or_pad",
    "normalize",
    "resample_in_plane",
    "window",
]
