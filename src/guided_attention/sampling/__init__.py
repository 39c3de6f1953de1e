"""Sampling: the slices and patches that a network is trained on, and their random changes."""

from guided_attention.sampling.augment import Chain, FlipRotate, RandomIntensity, SliceTransform, flip_rotate
from guided_attention.sampling.batches import PatchBatches
from guided_attention.sampling.cache import CachedVolumes, VolumeCache
from guided_attention.sampling.patch_size import fit_patch
from guided_attention.sampling.patches import PatchDataset, PatchPlace
from guided_attention.sampling.slices import SliceDataset

__all__ = [
    "CachedVolumes",
    "Chain",
    "FlipRotate",
    "PatchBatches",
    "PatchDataset",
    "PatchPlace",
    "RandomIntensity",
    "SliceDataset",
    "SliceTransform",
    "VolumeCache",
    "fit_patch",
    "flip_rotate",
]
