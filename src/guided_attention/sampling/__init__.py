"""Sampling: the slices that a network is trained on, and their random changes."""

from guided_attention.sampling.augment import Chain, FlipRotate, RandomIntensity, SliceTransform, flip_rotate
from guided_attention.sampling.augmentation import (
    Augmentation,
    BiasField,
    BlankRectangles,
    Brightness,
    BrightnessGradient,
    Change,
    Contrast,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    LocalGamma,
    LowResolution,
    Mirror,
    Sharpening,
    Spatial,
    default_augmentation,
)
from guided_attention.sampling.cache import CachedVolumes, VolumeCache
from guided_attention.sampling.slices import SliceDataset

__all__ = [
    "Augmentation",
    "BiasField",
    "BlankRectangles",
    "Brightness",
    "BrightnessGradient",
    "CachedVolumes",
    "Chain",
    "Change",
    "Contrast",
    "FlipRotate",
    "Gamma",
    "GaussianBlur",
    "GaussianNoise",
    "LocalGamma",
    "LowResolution",
    "Mirror",
    "RandomIntensity",
    "Sharpening",
    "SliceDataset",
    "SliceTransform",
    "Spatial",
    "VolumeCache",
    "default_augmentation",
    "flip_rotate",
]
