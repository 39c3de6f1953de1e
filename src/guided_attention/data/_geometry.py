"""Spacing, affine and what cropping or resampling does to them."""

import numpy as np

from guided_attention._typing import Affine, SpacingMm

__all__ = ["affine_of", "moved", "spacing_of"]


def spacing_of(affine: Affine) -> SpacingMm:
    """Return the lengths of an affine's columns in array order (z, y, x), in millimetres."""
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return (z, y, x)


def affine_of(spacing_mm: SpacingMm) -> Affine:
    """Return an affine without rotation or origin, for files that know their spacing at most."""
    return np.diag([*reversed(spacing_mm), 1.0]).astype(np.float64)


def moved(affine: Affine, *, start: tuple[float, float, float], step: tuple[float, float, float]) -> Affine:
    """Return the affine of a volume whose voxel ``i`` was at index ``start + i · step``, all (z, y, x)."""
    inner = np.diag([*reversed(step), 1.0]).astype(np.float64)
    inner[:3, 3] = start[::-1]
    result: Affine = affine @ inner
    return result
