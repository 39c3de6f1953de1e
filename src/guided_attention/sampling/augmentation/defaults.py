"""The default set of changes, and a stronger one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from guided_attention._checks import require, require_choice, require_integer, require_positive, require_type
from guided_attention._sides import mirrors_sides
from guided_attention._typing import SliceAxis, SpacingMm, SpatialDims
from guided_attention.labels import LabelSpec
from guided_attention.sampling.augmentation.augmentation import Augmentation
from guided_attention.sampling.augmentation.change import Change
from guided_attention.sampling.augmentation.filters import GaussianBlur, LowResolution, Sharpening
from guided_attention.sampling.augmentation.intensity import Brightness, Contrast, Gamma, GaussianNoise
from guided_attention.sampling.augmentation.local import (
    BiasField,
    BlankRectangles,
    BrightnessGradient,
    LocalGamma,
)
from guided_attention.sampling.augmentation.mirror import Mirror
from guided_attention.sampling.augmentation.spatial import Spatial

__all__ = ["default_augmentation"]

_ELONGATED = 1.5
"""From this ratio of its sides on, a patch is turned by small angles only."""
_ANISOTROPIC = 3.0
"""From this ratio of spacings on, volumes change in the plane of their slices only."""


def default_augmentation(
    spatial_dims: SpatialDims,
    *,
    labels: LabelSpec,
    patch_size: Sequence[int],
    spacing_mm: SpacingMm,
    slice_axis: SliceAxis = "axial",
    neighbours: int = 0,
    mirror_axes: Sequence[int] | None = None,
    strength: Literal["standard", "strong"] = "standard",
) -> Augmentation:
    """Return the changes that nnU-Net's trainer makes, with its probabilities, or those of its stronger one ("DA5").

    "strong" rotates more often, widens contrast and low resolution, and adds the bias field, blank rectangles,
    gradients of brightness, local gamma and sharpening. Where slices lie more than three times as far apart as
    pixels, volumes are rotated, scaled and coarsened in the plane only. Neighbouring slices as channels change alike.

    Args:
        spatial_dims: 2 for slices, 3 for volumes.
        labels: The organs: pairs are exchanged in a mirrored body.
        patch_size: Voxels of a training sample along each axis of space.
        spacing_mm: ``(z, y, x)``; slices lie across z.
        slice_axis: Which way the slices lie.
        neighbours: Slices on either side of each that are channels beside it.
        mirror_axes: Axes of space that are mirrored, 0 the first; None for all, () for none.
        strength: Which set.

    Returns:
        The changes in the order in which they are applied.

    Raises:
        ArgumentError: Sizes and axes do not fit, or a name is unknown.
        DataError: Something is mirrored, and an organ named left or right has no mate in `LabelSpec.pairs`.

    Example:
        >>> kidneys = LabelSpec({2: "right kidney", 3: "left kidney"}, pairs=((2, 3),))
        >>> augment = default_augmentation(2, labels=kidneys, patch_size=(256, 256), spacing_mm=(5.0, 1.4, 1.4))
        >>> len(augment.changes), augment.changes[-1]
        (9, Mirror(axes=(0, 1), probability=0.5, pairs=((1, 2),)))
    """
    _check(spatial_dims, labels, patch_size, spacing_mm, strength)
    require_choice("slice_axis", slice_axis, get_args(SliceAxis))
    require_integer("neighbours", neighbours)
    spatial = _spatial(spatial_dims, patch_size, spacing_mm)
    alike = neighbours > 0
    has_sides = mirrors_sides(spatial_dims, slice_axis, neighbours)
    mirror = _mirror(spatial_dims, labels, mirror_axes, has_sides=has_sides)
    standard = (
        spatial,
        GaussianNoise(),
        GaussianBlur(alike=alike),
        Brightness(alike=alike),
        Contrast(alike=alike),
        LowResolution(alike=alike, in_plane=spatial.in_plane),
        Gamma(0.1, inverted=True, alike=alike),
        Gamma(0.3, alike=alike),
    )
    changes = standard if strength == "standard" else _stronger(spatial, alike=alike)
    return Augmentation((*changes, *mirror))


def _stronger(spatial: Spatial, *, alike: bool) -> tuple[Change, ...]:
    return (
        replace(spatial, rotation_probability=0.4),
        GaussianNoise(),
        GaussianBlur(alike=alike),
        BiasField(),
        BrightnessGradient(alike=alike),
        LocalGamma(alike=alike),
        Sharpening(alike=alike),
        Brightness(alike=alike),
        Contrast(factor=(0.5, 2.0), alike=alike),
        LowResolution(factor=(0.25, 1.0), alike=alike, in_plane=spatial.in_plane),
        Gamma(0.1, inverted=True, alike=alike),
        Gamma(0.3, alike=alike),
        BlankRectangles(alike=alike),
    )


def _spatial(spatial_dims: int, patch_size: Sequence[int], spacing_mm: SpacingMm) -> Spatial:
    spacing = tuple(spacing_mm[-spatial_dims:])
    in_plane = spatial_dims == 3 and spacing[0] > _ANISOTROPIC * min(spacing[1:])  # noqa: PLR2004
    height, width = (voxels * mm for voxels, mm in zip(patch_size[-2:], spacing[-2:], strict=True))
    in_a_plane = 15.0 if max(height, width) > _ELONGATED * min(height, width) else 180.0
    degrees = in_a_plane if in_plane or spatial_dims == 2 else 30.0  # noqa: PLR2004
    return Spatial(spacing, degrees=degrees, in_plane=in_plane)


def _mirror(
    spatial_dims: int, labels: LabelSpec, mirror_axes: Sequence[int] | None, *, has_sides: bool
) -> tuple[Mirror, ...]:
    require_type("mirror_axes", mirror_axes, (tuple, list, type(None)), "a tuple of axes, or None for all")
    axes = tuple(range(spatial_dims) if mirror_axes is None else mirror_axes)
    good = set(axes) <= set(range(spatial_dims)) and len(set(axes)) == len(axes)
    require(good, "mirror_axes", f"different axes from 0 to {spatial_dims - 1}", mirror_axes)
    if not axes:
        return ()
    if has_sides:
        labels.require_sides("labels")
    return (Mirror(axes, pairs=labels.class_pairs if has_sides else ()),)


def _check(
    spatial_dims: int, labels: LabelSpec, patch_size: Sequence[int], spacing_mm: SpacingMm, strength: str
) -> None:
    require_choice("spatial_dims", spatial_dims, (2, 3))
    require_type("labels", labels, LabelSpec, "a LabelSpec")
    for name, numbers in (("patch_size", patch_size), ("spacing_mm", spacing_mm)):
        require_type(name, numbers, (tuple, list), "a tuple of numbers")
        for number in numbers:
            require_positive(name, number)
    require(len(patch_size) == spatial_dims, "patch_size", f"{spatial_dims} numbers", tuple(patch_size))
    require(len(spacing_mm) == 3, "spacing_mm", "three numbers (z, y, x)", tuple(spacing_mm))  # noqa: PLR2004
    require_choice("strength", strength, ("standard", "strong"))
