"""Fusion: the maps of several scales joined into one."""

from guided_attention.fusion.multi_scale import FusedMaps, MultiScaleFusion

__all__ = ["FusedMaps", "MultiScaleFusion"]
