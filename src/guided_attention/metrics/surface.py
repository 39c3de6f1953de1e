"""Distances between the surfaces of two masks, in millimetres."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree

from guided_attention._checks import require, require_choice
from guided_attention._typing import MaskArray
from guided_attention.metrics._masks import require_masks

__all__ = ["SurfaceDistances", "surface_distances"]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """How far each point of two surfaces is from the other surface, and the usual summaries of that.

    All values are Euclidean distances in millimetres; lower is better, and 0 is a perfect match. Every
    summary gives the same for empty masks, and never the 0 of a perfect match:

    ==============  ==============  ======
    prediction      reference       result
    ==============  ==============  ======
    empty           empty           NaN
    empty           something       inf
    something       empty           inf
    ==============  ==============  ======

    Attributes:
        prediction_to_reference_mm: From each surface point of the prediction to the nearest one of the
            reference.
        reference_to_prediction_mm: From each surface point of the reference to the nearest one of the
            prediction.

    Shape:
        - each array: ``(points,)``, as many as that surface has points; infinite where the other surface has
          none.

    Example:
        >>> import numpy as np
        >>> distances = SurfaceDistances(np.array([0.0, 3.0]), np.array([1.0]))
        >>> distances.masd_mm(), distances.hausdorff_mm()
        (1.25, 3.0)
    """

    prediction_to_reference_mm: npt.NDArray[np.float64]
    reference_to_prediction_mm: npt.NDArray[np.float64]

    def assd_mm(self) -> float:
        """Average the distances of both surfaces' points together: the paper's mean surface distance (MSD).

        With ``a`` and ``b`` the surface points of the two masks and ``d`` the distance to the other surface::

            assd = (Σ_a d(a) + Σ_b d(b)) / (number of a + number of b)

        A surface with more points weighs more; `masd_mm` gives both the same weight.

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
        return _mean_mm(self._pooled_mm())

    def masd_mm(self) -> float:
        """Average the two directions' mean distances, each direction with the same weight.

        With ``d(a)`` and ``d(b)`` as in `assd_mm`::

            masd = (mean_a d(a) + mean_b d(b)) / 2

        Returns:
            Millimetres, 0 or more.

        Example:
            >>> import numpy as np
            >>> SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0])).masd_mm()
            0.75
        """
        undefined = self._undefined_mm()
        if undefined is not None:
            return undefined
        return (_mean_mm(self.prediction_to_reference_mm) + _mean_mm(self.reference_to_prediction_mm)) / 2

    def hausdorff_mm(self, percentile: float = 100.0, *, combine: Literal["max", "pooled"] = "max") -> float:
        """Give the distance that all surface points, or a given share of them, stay within.

        100 is the Hausdorff distance, 95 the robust one ("HD95") that a few stray voxels do not spoil.
        Between two points the percentile is interpolated linearly.

        Args:
            percentile: Share of the surface points, in per cent, 0 to 100.
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
        undefined = self._undefined_mm()
        if undefined is not None:
            return undefined
        if combine == "pooled":
            return float(np.percentile(self._pooled_mm(), percentile))
        both = (self.prediction_to_reference_mm, self.reference_to_prediction_mm)
        return max(float(np.percentile(distances, percentile)) for distances in both)

    def _pooled_mm(self) -> npt.NDArray[np.float64]:
        return np.concatenate([self.prediction_to_reference_mm, self.reference_to_prediction_mm])

    def _undefined_mm(self) -> float | None:
        """Return what every summary gives where a surface has no point, None where both have some."""
        points = self.prediction_to_reference_mm.size, self.reference_to_prediction_mm.size
        if min(points):
            return None
        return math.inf if max(points) else math.nan


def surface_distances(
    prediction: MaskArray,
    reference: MaskArray,
    spacing_mm: Sequence[float],
    *,
    surface: Literal["voxel"] = "voxel",
) -> SurfaceDistances:
    """Measure how far two outlines of one organ are apart, point by point, in millimetres.

    The surface of a mask is the set of its border voxels: those with at least one face neighbour outside the
    mask. A voxel at the edge of the image is a border voxel, for outside the image there is no organ. From
    each border voxel the distance runs between voxel centres to the nearest border voxel of the other mask::

        d(a) = min_b || (a − b) · spacing_mm ||

    MONAI and MedPy take the same surface. The script of the CHAOS challenge leaves the edge of the image out:
    where that edge cuts an organ in both masks, its mean distance is a little higher.

    Costs time and memory in proportion to the surface, not to the image: the masks are cropped to the box
    that holds both, and the nearest points are found with a k-d tree.

    Args:
        prediction: True where the organ was found.
        reference: True where the organ is.
        spacing_mm: Distance between voxel centres along each axis of the masks, in array order, (z, y, x) for
            volumes and (y, x) for images.
        surface: ``"voxel"``: the centres of the border voxels, as most published numbers have it.

    Shape:
        - both masks: ``(depth, height, width)`` or ``(height, width)``, the same for both.

    Returns:
        Both directed sets of distances, to be summarised by the record's methods.

    Raises:
        ValueError: A mask is not boolean, the shapes differ or have neither 2 nor 3 axes, or `spacing_mm` has
            another number of values than the masks have axes, or one that is not above 0.

    Example:
        Two slabs, one slice of 5 mm apart.

        >>> import numpy as np
        >>> prediction, reference = np.zeros((2, 4, 7, 7), dtype=bool)
        >>> prediction[1], reference[2] = True, True
        >>> surface_distances(prediction, reference, (5.0, 1.0, 1.0)).assd_mm()
        5.0

    References:
        Sinha and Dolz, equations 14 to 16, with Euclidean millimetres where they print squared voxels.
    """
    require_choice("surface", surface, ("voxel",))
    require_masks(prediction, reference)
    require(prediction.ndim in (2, 3), "prediction", "of 2 or 3 axes", f"{prediction.ndim} axes")
    _require_spacing(spacing_mm, prediction.ndim)
    box = _joint_box(prediction, reference)
    scale = np.asarray(spacing_mm, dtype=np.float64)
    found, true = (np.argwhere(_border(mask[box])) * scale for mask in (prediction, reference))
    return SurfaceDistances(_nearest_mm(found, true), _nearest_mm(true, found))


def _require_spacing(spacing_mm: Sequence[float], axes: int) -> None:
    values = tuple(float(value) for value in spacing_mm)
    wanted = f"{axes} lengths, one for each axis of the masks in array order"
    require(len(values) == axes, "spacing_mm", wanted, values)
    require(all(0 < value < math.inf for value in values), "spacing_mm", "above 0 and finite", values)


def _joint_box(prediction: MaskArray, reference: MaskArray) -> tuple[slice, ...]:
    """Return the smallest box that holds both masks; the whole image where both are empty."""
    boxes = find_objects((prediction | reference).view(np.uint8))
    return boxes[0] if boxes else (slice(None),) * prediction.ndim


def _border(mask: MaskArray) -> MaskArray:
    """Return the voxels of `mask` that have a face neighbour outside it, beyond the array included."""
    interior = mask.copy()
    for axis in range(mask.ndim):
        inner, whole = np.moveaxis(interior, axis, 0), np.moveaxis(mask, axis, 0)
        inner[1:] &= whole[:-1]
        inner[:-1] &= whole[1:]
        inner[[0, -1]] = False
    return mask & ~interior


def _nearest_mm(points: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the distance of each of `points` to the nearest of `others`."""
    if not len(others):
        return np.full(len(points), math.inf)
    # An unbalanced tree of large leaves is built several times faster, and the queries hardly notice.
    tree = cKDTree(others, leafsize=32, balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(points)[0], dtype=np.float64)


def _mean_mm(distances: npt.NDArray[np.float64]) -> float:
    return float(distances.mean()) if distances.size else math.nan
