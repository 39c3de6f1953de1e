"""Sampling: the slices and patches that a network is trained on, and their random changes."""

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
    IntensityCurve,
    LocalGamma,
    LowResolution,
    Mirror,
    Sharpening,
    Spatial,
    default_augmentation,
)
from guided_attention.sampling.batches import PatchBatches
from guided_attention.sampling.cache import CachedVolumes, VolumeCache
from guided_attention.sampling.patch_size import fit_patch
from guided_attention.sampling.patches import PatchDataset, PatchPlace
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
    "IntensityCurve",
    "LocalGamma",
    "LowResolution",
    "Mirror",
    "PatchBatches",
    "PatchDataset",
    "PatchPlace",
    "RandomIntensity",
    "Sharpening",
    "SliceDataset",
    "SliceTransform",
    "Spatial",
    "VolumeCache",
    "default_augmentation",
    "fit_patch",
    "flip_rotate",
]
