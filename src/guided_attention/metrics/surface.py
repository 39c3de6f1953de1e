"""Distances between the surfaces of two masks, in millimetres."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require, require_choice, require_positive
from guided_attention._typing import MaskArray
from guided_attention.metrics._masks import require_masks, require_spacing
from guided_attention.metrics._nearest import lattice_points, margins, to_lattice_mm, to_mesh_mm
from guided_attention.metrics._outline import (
    Grid,
    border,
    codes,
    joint_box,
    mesh,
    padded,
    surfel_weights,
    surfels,
)

__all__ = ["Combine", "Surface", "SurfaceDistances", "surface_distances"]

Surface: TypeAlias = Literal["voxel", "surfel", "mesh"]
"""What counts as the surface of a mask: see `surface_distances`."""

Combine: TypeAlias = Literal["max", "pooled"]
"""How the percentiles of two directions become one number: see `SurfaceDistances.hausdorff_mm`."""

_Lengths: TypeAlias = npt.NDArray[np.float64]
_Found: TypeAlias = tuple[_Lengths, _Lengths, _Lengths | None, _Lengths | None]
"""Distances there and back, weights of the points of both surfaces."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """How far each point of two surfaces is from the other surface, and the usual summaries of that.

    All values are Euclidean distances in millimetres; lower is better, and 0 is a perfect match. Every
    summary gives the same for empty masks, and never the 0 of a perfect match:

    ==============  ==============  ===========  ================
    prediction      reference       distances    `surface_dice`
    ==============  ==============  ===========  ================
    empty           empty           NaN          NaN
    empty           something       inf          0
    something       empty           inf          0
    ==============  ==============  ===========  ================

    Where `missing_mm` is given, it stands in place of the infinite distance.

    Attributes:
        prediction_to_reference_mm: From each surface point of the prediction to the nearest one of the
            reference.
        reference_to_prediction_mm: From each surface point of the reference to the nearest one of the
            prediction.
        prediction_weights: How much surface each point of the prediction stands for, in millimetres
            (images) or square millimetres (volumes); None where each point counts as one.
        reference_weights: The same of the reference.
        surface: What was taken for the surface: see `surface_distances`.
        missing_mm: The distance where one mask is empty.

    Shape:
        - each array: ``(points,)``, as many as that surface has points; `missing_mm` where the other surface
          has none.

    Example:
        >>> import numpy as np
        >>> distances = SurfaceDistances(np.array([0.0, 3.0]), np.array([1.0]))
        >>> distances.masd_mm(), distances.hausdorff_mm()
        (1.25, 3.0)
    """

    prediction_to_reference_mm: _Lengths
    reference_to_prediction_mm: _Lengths
    prediction_weights: _Lengths | None = None
    reference_weights: _Lengths | None = None
    surface: Surface = "voxel"
    missing_mm: float = math.inf

    def assd_mm(self) -> float:
        """Average the distances of both surfaces' points together: the paper's mean surface distance (MSD).

        With ``a`` and ``b`` the surface points of the two masks, ``d`` the distance to the other surface and
        ``w`` the weight of a point, 1 for voxels::

            assd = (Σ_a w(a) d(a) + Σ_b w(b) d(b)) / (Σ_a w(a) + Σ_b w(b))

        A surface of more points, or of more area, weighs more; `masd_mm` gives both the same weight.

        Returns:
            Millimetres, 0 or more.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0])).assd_mm()
            1.0

        References:
            Sinha and Dolz, equations 14 and 15. Their equation 16 prints the squared distance in voxels; this
            is the Euclidean one, as their text says, in millimetres.
        """
        undefined = self._undefined(self.missing_mm)
        return _mean(*self._pooled()) if undefined is None else undefined

    def masd_mm(self) -> float:
        """Average the two directions' mean distances, each direction with the same weight.

        With ``d`` and ``w`` as in `assd_mm`::

            masd = (Σ_a w(a) d(a) / Σ_a w(a) + Σ_b w(b) d(b) / Σ_b w(b)) / 2

        Returns:
            Millimetres, 0 or more.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0])).masd_mm()
            0.75
        """
        undefined = self._undefined(self.missing_mm)
        if undefined is not None:
            return undefined
        return sum(_mean(*direction) for direction in self._directions()) / 2

    def hausdorff_mm(self, percentile: float = 100.0, *, combine: Combine = "max") -> float:
        """Give the distance that all surface points, or a given share of them, stay within.

        100 is the Hausdorff distance, 95 the robust one ("HD95") that a few stray voxels do not spoil. Where
        points count as one each (voxels), the percentile is interpolated linearly between two of them. Where
        they have weights, it is the smallest distance within which that share of the surface lies.

        Args:
            percentile: Share of the surface, in per cent, 0 to 100.
            combine: ``"max"`` takes the percentile of each direction, then the larger one; ``"pooled"`` takes
                one percentile of both directions' distances together. At 100 they agree; below, they may
                differ several times over, and programs disagree on which one "HD95" is, so name it in a
                report.

        Returns:
            Millimetres, 0 or more.

        Raises:
            ValueError: The percentile is outside 0..100, or `combine` is neither of the two.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 4.0]), np.array([1.0, 1.0])).hausdorff_mm(50.0)
            2.0
        """
        require(0 <= percentile <= 100, "percentile", "from 0 to 100", percentile)  # noqa: PLR2004
        require_choice("combine", combine, ("max", "pooled"))
        undefined = self._undefined(self.missing_mm)
        if undefined is not None:
            return undefined
        directions = [self._pooled()] if combine == "pooled" else self._directions()
        return max(_percentile(*direction, percentile) for direction in directions)

    def surface_dice(self, tolerance_mm: float) -> float:
        """Say how much of both surfaces lies within a tolerance of the other: 1 is all of it, 0 nothing.

        Also called normalised surface Dice or surface Dice at tolerance. With ``d`` and ``w`` as in `assd_mm`::

            surface dice = (Σ_{a: d(a) <= tolerance} w(a) + Σ_{b: d(b) <= tolerance} w(b)) / (Σ_a w(a) + Σ_b w(b))

        Args:
            tolerance_mm: How far off still counts as right, such as the spread between experts; 0 or more.

        Returns:
            A fraction, 0 to 1.

        Raises:
            ValueError: The tolerance is below 0 or NaN.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0, 1.0])).surface_dice(1.0)
            0.75

        References:
            Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck
            anatomy", 2018, who take surfels.
        """
        require(tolerance_mm >= 0, "tolerance_mm", "0 or more", tolerance_mm)
        undefined = self._undefined(0.0)
        if undefined is not None:
            return undefined
        distances, weights = self._pooled()
        return _share(distances <= tolerance_mm, weights)

    def surface_overlap(self, tolerance_mm: float) -> tuple[float, float]:
        """Say how much of each surface lies within a tolerance of the other: the prediction's share, the reference's.

        `surface_dice` is the mean of the two, weighted by the surfaces' sizes.

        Args:
            tolerance_mm: How far off still counts as right; 0 or more.

        Returns:
            Two fractions, 0 to 1.

        Raises:
            ValueError: The tolerance is below 0 or NaN.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0])).surface_overlap(1.0)
            (0.5, 1.0)
        """
        require(tolerance_mm >= 0, "tolerance_mm", "0 or more", tolerance_mm)
        undefined = self._undefined(0.0)
        if undefined is not None:
            return undefined, undefined
        (there, ours), (back, theirs) = self._directions()
        return _share(there <= tolerance_mm, ours), _share(back <= tolerance_mm, theirs)

    def _directions(self) -> list[tuple[_Lengths, _Lengths | None]]:
        return [
            (self.prediction_to_reference_mm, self.prediction_weights),
            (self.reference_to_prediction_mm, self.reference_weights),
        ]

    def _pooled(self) -> tuple[_Lengths, _Lengths | None]:
        distances = np.concatenate([self.prediction_to_reference_mm, self.reference_to_prediction_mm])
        if self.prediction_weights is None or self.reference_weights is None:
            return distances, None
        return distances, np.concatenate([self.prediction_weights, self.reference_weights])

    def _undefined(self, one_empty: float) -> float | None:
        """Return what a summary gives where a surface has no point, None where both have some."""
        points = self.prediction_to_reference_mm.size, self.reference_to_prediction_mm.size
        if min(points):
            return None
        return one_empty if max(points) else math.nan


def surface_distances(
    prediction: MaskArray,
    reference: MaskArray,
    spacing_mm: Sequence[float],
    *,
    surface: Surface = "voxel",
    missing_mm: float = math.inf,
    workers: int = 1,
) -> SurfaceDistances:
    """Measure how far two outlines of one organ are apart, point by point, in millimetres.

    From each point of the surface of one mask runs the distance to the nearest of the other::

        d(a) = min_b || a − b ||

    Three surfaces are on offer. Outside the image there is no organ: where its edge cuts one, there is surface.

    ``"voxel"``
        The centres of the border voxels: those with at least one face neighbour outside the mask. Each counts as
        one. Most published numbers are of this kind, those of MONAI and MedPy too. It is off by up to half a voxel
        on each side, and weighs faces across thick slices too much. (The script of the CHAOS challenge leaves out
        the edge of the image: see `chaos_score`.)
    ``"surfel"``
        The corners between voxels that have some of the mask and some of the outside around them, each weighed by
        the area of the surface that runs between its eight (four) voxels. DeepMind's surface-distance takes them.
    ``"mesh"``
        A closed surface of triangles (segments) that runs between voxels of the mask and others. The
        distance is that from the middle of each, weighed by its area (length), to the nearest place on the other
        mesh, faces included. Where the outlines of two slices differ, the cut between them follows the slope from
        the one to the other. It is nearest to the truth, above all where slices are thick, and takes longest.

    Costs time and memory in proportion to the surface, but for a few passes over the box that holds both masks.

    Args:
        prediction: True where the organ was found.
        reference: True where the organ is.
        spacing_mm: Distance between voxel centres along each axis of the masks, in array order, (z, y, x) for
            volumes and (y, x) for images.
        surface: ``"voxel"``, ``"surfel"`` or ``"mesh"``. Name it in a report: the numbers differ.
        missing_mm: The distance to give where one mask is empty, such as the diagonal of the image.
        workers: Threads for the points that are far from the other surface; -1 takes all cores.

    Shape:
        - both masks: ``(depth, height, width)`` or ``(height, width)``, the same for both.

    Returns:
        Both directed sets of distances, to be summarised by the record's methods.

    Raises:
        ValueError: A mask is not boolean, the shapes differ or have neither 2 nor 3 axes, `spacing_mm` has
            another number of values than the masks have axes, or one that is not above 0, `surface` is none of the
            three, or `missing_mm` is not above 0.

    Example:
        Two slabs, one slice of 5 mm apart.

        >>> import numpy as np
        >>> prediction, reference = np.zeros((2, 4, 7, 7), dtype=bool)
        >>> prediction[1], reference[2] = True, True
        >>> surface_distances(prediction, reference, (5.0, 1.0, 1.0)).assd_mm()
        5.0

    References:
        Sinha and Dolz, equations 14 to 16, with Euclidean millimetres where they print squared voxels. Surfels:
        Nikolov et al., 2018. The mesh cuts cells as Lorensen and Cline, "Marching cubes", 1987, but parts voxels of
        the mask that touch along an edge alone, so that it is closed; its cuts follow Raya and Udupa, "Shape-based
        interpolation of multidimensional objects", IEEE TMI 1990.
    """
    require_choice("surface", surface, ("voxel", "surfel", "mesh"))
    require_masks(prediction, reference)
    require(prediction.ndim in (2, 3), "prediction", "of 2 or 3 axes", f"{prediction.ndim} axes")
    require_spacing(spacing_mm, prediction.ndim)
    require_positive("missing_mm", missing_mm)
    spacing = tuple(float(value) for value in spacing_mm)
    box = joint_box(prediction, reference)
    measure = (
        _between_meshes if surface == "mesh" else _between_surfels if surface == "surfel" else _between_voxels
    )
    there, back, *weights = measure((prediction[box], reference[box]), spacing, workers)
    if not min(there.size, back.size):
        there, back = np.full_like(there, missing_mm), np.full_like(back, missing_mm)
    return SurfaceDistances(there, back, weights[0], weights[1], surface, missing_mm)


def _between_voxels(masks: tuple[Grid, Grid], spacing_mm: tuple[float, ...], workers: int) -> _Found:
    ours, theirs = (lattice_points(border(padded(mask, margins(spacing_mm)))) for mask in masks)
    return (
        to_lattice_mm(ours, theirs, spacing_mm, workers=workers),
        to_lattice_mm(theirs, ours, spacing_mm, workers=workers),
        None,
        None,
    )


def _between_surfels(masks: tuple[Grid, Grid], spacing_mm: tuple[float, ...], workers: int) -> _Found:
    points, weights = [], []
    for mask in masks:
        # One more before the mask than behind: a grid of cells is one shorter than that of voxels.
        cells = codes(padded(mask, [margin + 1 for margin in margins(spacing_mm)]))
        points.append(lattice_points(surfels(cells)))
        weights.append(surfel_weights(cells.ravel()[points[-1].flat], spacing_mm))
    ours, theirs = points
    return (
        to_lattice_mm(ours, theirs, spacing_mm, workers=workers),
        to_lattice_mm(theirs, ours, spacing_mm, workers=workers),
        weights[0],
        weights[1],
    )


def _between_meshes(masks: tuple[Grid, Grid], spacing_mm: tuple[float, ...], workers: int) -> _Found:
    ours, theirs = (mesh(padded(mask, [1] * mask.ndim), spacing_mm) for mask in masks)
    return (
        to_mesh_mm(ours.corners_mm.mean(axis=1), theirs, workers=workers),
        to_mesh_mm(theirs.corners_mm.mean(axis=1), ours, workers=workers),
        ours.sizes,
        theirs.sizes,
    )


def _mean(values: _Lengths, weights: _Lengths | None) -> float:
    return float(values.mean() if weights is None else values @ weights / weights.sum())


def _share(near: npt.NDArray[np.bool_], weights: _Lengths | None) -> float:
    return float(near.mean() if weights is None else weights[near].sum() / weights.sum())


def _percentile(distances: _Lengths, weights: _Lengths | None, percentile: float) -> float:
    if weights is None:
        return float(np.percentile(distances, percentile))
    # Equal distances in the order of their weights: the sums do not hang on the order of the axes.
    order = np.lexsort((weights, distances))
    shares = np.cumsum(weights[order]) / weights.sum()
    # The last share is 1 but for rounding: nothing lies beyond the last point.
    place = min(int(np.searchsorted(shares, percentile / 100)), len(order) - 1)
    return float(distances[order][place if percentile < 100 else -1])  # noqa: PLR2004
