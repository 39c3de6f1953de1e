"""Random changes of whole batches, on the training device: each sample's depend on its own seed only."""

from guided_attention.sampling.augmentation.augmentation import Augmentation
from guided_attention.sampling.augmentation.change import Change
from guided_attention.sampling.augmentation.defaults import default_augmentation
from guided_attention.sampling.augmentation.filters import GaussianBlur, LowResolution, Sharpening
from guided_attention.sampling.augmentation.intensity import (
    Brightness,
    Contrast,
    Gamma,
    GaussianNoise,
    IntensityCurve,
)
from guided_attention.sampling.augmentation.local import (
    BiasField,
    BlankRectangles,
    BrightnessGradient,
    LocalGamma,
)
from guided_attention.sampling.augmentation.mirror import Mirror
from guided_attention.sampling.augmentation.spatial import Spatial

__all__ = [
    "Augmentation",
    "BiasField",
    "BlankRectangles",
    "Brightness",
    "BrightnessGradient",
    "Change",
    "Contrast",
    "Gamma",
    "GaussianBlur",
    "GaussianNoise",
    "IntensityCurve",
    "LocalGamma",
    "LowResolution",
    "Mirror",
    "Sharpening",
    "Spatial",
    "default_augmentation",
]
