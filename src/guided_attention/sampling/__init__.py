"""Sampling: the slices that a network is trained on, and their random changes."""

from guided_attention.sampling.augment import Chain, FlipRotate, RandomIntensity, SliceTransform, flip_rotate
from guided_attention.sampling.cache import CachedVolumes, VolumeCache
from guided_attention.sampling.slices import SliceDataset

__all__ = [
    "CachedVolumes",
    "Chain",
    "FlipRotate",
    "RandomIntensity",
    "SliceDataset",
    "SliceTransform",
    "VolumeCache",
    "flip_rotate",
]
