"""Preparation: what is done to a scan before a network sees it, and undone after."""

from guided_attention.preparation.crop import BodyCrop, CenterCrop, Crop
from guided_attention.preparation.fingerprint import Fingerprint, Quantiles
from guided_attention.preparation.grid import Grid
from guided_attention.preparation.intensity import (
    CohortPercentiles,
    Intensity,
    Window,
    ZScore,
    normalize,
    window,
)
from guided_attention.preparation.preparation import Preparation, Spacing
from guided_attention.preparation.prepared import Prepared
from guided_attention.preparation.space import crop_or_pad, resample_in_plane

__all__ = [
    "BodyCrop",
    "CenterCrop",
    "CohortPercentiles",
    "Crop",
    "Fingerprint",
    "Grid",
    "Intensity",
    "Preparation",
    "Prepared",
    "Quantiles",
    "Spacing",
    "Window",
    "ZScore",
    "crop_or_pad",
    "normalize",
    "resample_in_plane",
    "window",
]
