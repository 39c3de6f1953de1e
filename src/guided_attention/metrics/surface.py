"""Distances between the surfaces of two masks, in millimetres."""

import math
from dataclasses import dataclass, field
from typing import TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from guided_attention._checks import counted, require, require_same_shape, require_type
from guided_attention._typing import AnyMask, Numbers
from guided_attention.metrics._inputs import (
    as_choice,
    as_lengths,
    as_masks,
    as_number,
    as_numbers,
    as_workers,
)
from guided_attention.metrics._nearest import lattice_points, margins, to_lattice_mm, to_mesh_mm
from guided_attention.metrics._outline import (
    ROUNDING,
    Grid,
    border,
    codes,
    joint_box,
    mesh,
    padded,
    surfel_weights,
    surfels,
)
from guided_attention.metrics.definition import Combine, DistanceDefinition

__all__ = ["SurfaceDistances", "surface_distances"]

_Lengths: TypeAlias = npt.NDArray[np.float64]
_Found: TypeAlias = tuple[_Lengths, _Lengths, _Lengths | None, _Lengths | None]
"""Distances in both directions, weights of the points of both surfaces."""

_NOTHING = 1e-9
"""Share of a voxel below which the distance to a mesh is rounding, and 0."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The distance of each point of two surfaces to the other surface, and summaries.

    With ``a`` and ``b`` the points of the two surfaces, ``d`` the distance of a point to the other surface in
    millimetres and ``w`` its weight, which is 1 for voxels::

        assd = (Σ_a w d + Σ_b w d) / (Σ_a w + Σ_b w)
        masd = (Σ_a w d / Σ_a w + Σ_b w d / Σ_b w) / 2
        hausdorff(q) = max(q-th percentile of d over a, q-th percentile of d over b)       combine="max"
        hausdorff(q) = q-th percentile of d over a and b together                           combine="pooled"
        surface dice(t) = (Σ_{a: d <= t} w + Σ_{b: d <= t} w) / (Σ_a w + Σ_b w)

    Lower distances are better, and 0 is a perfect match. Empty masks never have the 0 of a perfect match:

    ==============  ==============  ============  ============
    prediction      reference       distances     surface dice
    ==============  ==============  ============  ============
    empty           empty           NaN           NaN
    empty           something       `missing_mm`  0
    something       empty           `missing_mm`  0
    ==============  ==============  ============  ============

    Rounding does not decide whether a distance is within a tolerance: one that exceeds it by less than a 4-millionth of
    it, which is the precision of spacings in headers, is within.

    Attributes:
        prediction_to_reference_mm: Distance of each surface point of the prediction, ``(points,)``.
        reference_to_prediction_mm: Distance of each surface point of the reference, ``(points,)``.
        prediction_weights: How much surface each point of the prediction stands for, in millimetres (images) or square
            millimetres (volumes); None where each point counts as one.
        reference_weights: The same of the reference.
        definition: How the distances were measured, and the defaults of the summaries.
        missing_mm: The distance where one mask is empty.

    Raises:
        ArgumentError: Distances and weights differ in number, or one is NaN or negative.
        ArgumentTypeError: They are not rows of numbers.

    Example:
        >>> import numpy as np
        >>> distances = SurfaceDistances(np.array([0.0, 3.0]), np.array([1.0]))
        >>> distances.masd_mm(), distances.hausdorff_mm()
        (1.25, 3.0)

    References:
        Sinha and Dolz, equations 14 and 15, for the mean surface distance. Their equation 16 prints the squared
        distance in voxels; this is the Euclidean one, as their text says, in millimetres. Nikolov et al., "Deep
        learning to achieve clinically applicable segmentation of head and neck anatomy", 2018, for the surface Dice.
    """

    prediction_to_reference_mm: _Lengths
    reference_to_prediction_mm: _Lengths
    prediction_weights: _Lengths | None = None
    reference_weights: _Lengths | None = None
    definition: DistanceDefinition = field(default_factory=DistanceDefinition)
    missing_mm: float = math.inf

    def __post_init__(self) -> None:
        """Convert and check the arrays."""
        require_type("definition", self.definition, DistanceDefinition, "a DistanceDefinition")
        object.__setattr__(self, "missing_mm", as_number("missing_mm", self.missing_mm))
        require(self.missing_mm > 0, "missing_mm", "above 0", self.missing_mm)
        for side in ("prediction", "reference"):
            other = "reference" if side == "prediction" else "prediction"
            name, of_weights = f"{side}_to_{other}_mm", f"{side}_weights"
            distances = _row(name, getattr(self, name))
            object.__setattr__(self, name, distances)
            if getattr(self, of_weights) is not None:
                weights = _row(of_weights, getattr(self, of_weights))
                require_same_shape(of_weights, weights.shape, name, distances.shape)
                object.__setattr__(self, of_weights, weights)
        both = (self.prediction_weights is None) == (self.reference_weights is None)
        require(both, "reference_weights", "given for both surfaces or for none", "those of one")

    def assd_mm(self) -> float:
        """Return the average symmetric surface distance, the paper's mean surface distance (MSD), in millimetres.

        A surface with more points, or more area, weighs more; `masd_mm` gives both the same weight.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0])).assd_mm()
            1.0
        """
        undefined = self._undefined(self.missing_mm)
        return _mean(*self._pooled()) if undefined is None else undefined

    def masd_mm(self) -> float:
        """Return the mean of the mean distances of both directions, in millimetres.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0])).masd_mm()
            0.75
        """
        undefined = self._undefined(self.missing_mm)
        if undefined is not None:
            return undefined
        return sum(_mean(*direction) for direction in self._directions()) / 2

    def hausdorff_mm(self, percentile: float = 100.0, *, combine: Combine | None = None) -> float:
        """Return the distance that a share of the surface points stays within, in millimetres.

        100 is the Hausdorff distance, 95 the robust one ("HD95"), which a few stray voxels do not spoil. Where points
        count as one each (voxels), the percentile is interpolated linearly between two of them. Where they have
        weights, it is the smallest distance within which that share of the surface lies.

        Args:
            percentile: Share of the surface in per cent, 0 to 100.
            combine: ``"max"`` or ``"pooled"``, see above; None for that of the definition. At 100 they agree; below,
                they may differ several times over, and programs disagree on which one "HD95" is.

        Raises:
            ArgumentError: The percentile is outside 0..100, or `combine` is unknown.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 4.0]), np.array([1.0, 1.0])).hausdorff_mm(50.0)
            2.0
        """
        share = as_number("percentile", percentile)
        require(0 <= share <= 100, "percentile", "from 0 to 100", percentile)  # noqa: PLR2004
        chosen = self.definition.combine if combine is None else combine
        as_choice("combine", chosen, get_args(Combine))
        undefined = self._undefined(self.missing_mm)
        if undefined is not None:
            return undefined
        directions = [self._pooled()] if chosen == "pooled" else self._directions()
        return max(_percentile(*direction, share) for direction in directions)

    def surface_dice(self, tolerance_mm: float | None = None) -> float:
        """Return the share of both surfaces that lies within a tolerance of the other, 0 to 1.

        Also called normalised surface Dice.

        Args:
            tolerance_mm: Surface points within this distance count as matching, for example the spread between experts;
                None for that of the definition.

        Raises:
            ArgumentError: The tolerance is negative or NaN, or there is none.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0, 1.0])).surface_dice(1.0)
            0.75
        """
        limit_mm = self._limit_mm(tolerance_mm)
        undefined = self._undefined(0.0)
        if undefined is not None:
            return undefined
        distances, weights = self._pooled()
        return _share(distances <= limit_mm, weights)

    def surface_overlap(self, tolerance_mm: float | None = None) -> tuple[float, float]:
        """Return the share of each surface within a tolerance of the other: the prediction's, then the reference's.

        `surface_dice` is the mean of the two, weighted by the sizes of the surfaces; it has the arguments and errors.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0])).surface_overlap(1.0)
            (0.5, 1.0)
        """
        limit_mm = self._limit_mm(tolerance_mm)
        undefined = self._undefined(0.0)
        if undefined is not None:
            return undefined, undefined
        (there, ours), (back, theirs) = self._directions()
        return _share(there <= limit_mm, ours), _share(back <= limit_mm, theirs)

    def _limit_mm(self, tolerance_mm: float | None) -> float:
        """Return the largest distance that counts as within the tolerance."""
        given = self.definition.tolerance_mm if tolerance_mm is None else tolerance_mm
        cure = "Pass one, or measure with DistanceDefinition(tolerance_mm=...)."
        require(given is not None, "tolerance_mm", "given here or in the definition", None, cure=cure)
        limit = as_number("tolerance_mm", given)
        require(limit >= 0, "tolerance_mm", "0 or more", limit)
        return limit * (1 + ROUNDING)

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
    prediction: AnyMask,
    reference: AnyMask,
    spacing_mm: Numbers,
    definition: DistanceDefinition = DistanceDefinition(),
    *,
    workers: int = 1,
) -> SurfaceDistances:
    """Measure the distance of each point of two surfaces to the nearest point of the other, in millimetres.

    There are three surfaces. Outside the image there is no organ: where the edge of the image cuts an organ, there is
    surface.

    ``"voxel"``
        The centres of the border voxels: those with at least one face neighbour outside the mask. Each counts as one.
        Most published numbers are of this kind, those of MONAI and MedPy too. It is off by up to half a voxel on each
        side, and weighs faces across thick slices too much. (The script of the CHAOS challenge leaves out the edge of
        the image: see `chaos_score`.)
    ``"surfel"``
        The corners between voxels that have some of the mask and some of the background around them, each weighed by
        the area of the surface that runs between its eight (four) voxels: the points of DeepMind's surface-distance.
    ``"mesh"``
        A closed surface of triangles (segments) that runs between voxels of the mask and others. The distance is that
        from the middle of each, weighed by its area (length), to the nearest place on the other mesh, faces included.
        Where the outlines of two slices differ, the surface between them follows the slope from one to the other. It is
        nearest to the real surface, above all where slices are thick, and takes longest.

    Time and memory grow with the surface, apart from a few passes over the box that holds both masks.

    Args:
        prediction: True where the organ was found, ``(depth, height, width)`` or ``(height, width)``.
        reference: True where the organ is, of the same shape.
        spacing_mm: Distance between voxel centres along each axis of the masks, in array order: (z, y, x) or (y, x).
        definition: Which surface, and the distance where one mask is empty.
        workers: Threads that search for points far from the other surface; -1 for all cores.

    Returns:
        The distances of both directions; its methods summarise them.

    Raises:
        ArgumentError: A mask is not boolean, the shapes differ or have neither 2 nor 3 axes, or there is not one
            spacing above 0 for each axis.
        ArgumentTypeError: An argument has the wrong type.

    Example:
        Two slabs, one slice of 5 mm apart.

        >>> import numpy as np
        >>> prediction, reference = np.zeros((2, 4, 7, 7), dtype=bool)
        >>> prediction[1], reference[2] = True, True
        >>> surface_distances(prediction, reference, (5.0, 1.0, 1.0)).assd_mm()
        5.0

    References:
        Sinha and Dolz, equations 14 to 16. Surfels: Nikolov et al., 2018. The mesh cuts cells as Lorensen and Cline,
        "Marching cubes", 1987, but parts voxels of the mask that touch only along an edge, so that it is closed; its
        cuts follow Raya and Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 1990.
    """
    require_type("definition", definition, DistanceDefinition, "a DistanceDefinition")
    found, expected = as_masks(prediction, reference)
    require(found.ndim in (2, 3), "prediction", "of 2 or 3 axes", counted(found.ndim, "axis", "axes"))
    spacing = as_lengths(spacing_mm, found.ndim)
    threads = as_workers(workers)
    box = joint_box(found, expected)
    measure = {"voxel": _between_voxels, "surfel": _between_surfels, "mesh": _between_meshes}
    there, back, *weights = measure[definition.surface]((found[box], expected[box]), spacing, threads)
    missing_mm = definition.missing_mm(found.shape, spacing)
    if not min(there.size, back.size):
        there, back = np.full_like(there, missing_mm), np.full_like(back, missing_mm)
    return SurfaceDistances(there, back, weights[0], weights[1], definition, missing_mm)


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
    there = to_mesh_mm(ours.corners_mm.mean(axis=1), theirs, workers=workers)
    back = to_mesh_mm(theirs.corners_mm.mean(axis=1), ours, workers=workers)
    for distances in (there, back):
        distances[distances < _NOTHING * min(spacing_mm)] = 0.0
    return there, back, ours.sizes, theirs.sizes


def _row(argument: str, values: object) -> _Lengths:
    """Return a row of numbers from 0 up."""
    row = as_numbers(argument, values)
    require(not row.size or bool(row.min() >= 0), argument, "0 or more", "negative or NaN values")
    return row


def _mean(values: _Lengths, weights: _Lengths | None) -> float:
    return float(values.mean() if weights is None else values @ weights / weights.sum())


def _share(near: npt.NDArray[np.bool_], weights: _Lengths | None) -> float:
    return float(near.mean() if weights is None else weights[near].sum() / weights.sum())


def _percentile(distances: _Lengths, weights: _Lengths | None, percentile: float) -> float:
    if weights is None:
        return float(np.percentile(distances, percentile))
    # Equal distances in the order of their weights: the sums do not depend on the order of the axes.
    order = np.lexsort((weights, distances))
    shares = np.cumsum(weights[order]) / weights.sum()
    # A share that rounding leaves just short of the percentile has reached it. Nothing lies beyond the last point.
    wanted = percentile / 100 - len(order) * np.finfo(np.float64).eps
    place = min(int(np.searchsorted(shares, wanted)), len(order) - 1)
    return float(distances[order][place if percentile < 100 else -1])  # noqa: PLR2004
