"""The score of the CHAOS challenge: four quantities of one organ, the points they earn, and their mean.

With ``P`` the prediction, ``R`` the reference, and ``d`` the distance from a border voxel to the nearest border voxel
of the other mask, between voxel centres in millimetres::

    DICE = 2 |P ∩ R| / (|P| + |R|)               points = 100 · DICE                      where DICE > 0.8
    RAVD = 100 · | |P| − |R| | / |R|             points = 100 · (5 − RAVD) / 5            where RAVD < 5
    ASSD = mean of all d of both directions      points = 100 · (15 − ASSD) / 15          where ASSD < 15
    MSSD = largest of all d                      points = 100 · (60 − MSSD) / 60          where MSSD < 60

At its limit and beyond, a quantity earns no points. A border voxel is one with a face neighbour outside the mask. **The
edge of the image is no surface here**, unlike in `surface_distances`: what lies beyond counts as organ, so that an
organ cut by the edge scores a little differently.

==============  ==============  ======  ======  ======  ======  ========
prediction      reference       DICE    RAVD    ASSD    MSSD    points
==============  ==============  ======  ======  ======  ======  ========
empty           empty           NaN     NaN     NaN     NaN     NaN
empty           something       0       100     inf     inf     0
something       empty           0       inf     inf     inf     0
==============  ==============  ======  ======  ======  ======  ========

The challenge has no rule for the first and the third row, which none of its references needs: its script divides by 0
there, and in all three rows it finds no nearest point and stops. A mask that fills the image has no surface under its
rule: ASSD and MSSD are NaN where both do, and so are the points, and infinite where one does.

Kavur et al., CHAOS challenge: combined (CT-MR) healthy abdominal organ segmentation, Medical Image Analysis 69, 2021.
The quantities and the rule at the edge are those of the organisers' published script, and the figures that they publish
for one submission come out. The script ends with the quantities, so that the points could not be compared with a
program of theirs. That those of Dice begin at 80 and not at 0 is read off the paper's tables, where a mean Dice of 0.98
has 97.79 points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from guided_attention._checks import counted, require
from guided_attention._typing import AnyMask, MaskArray, Numbers
from guided_attention.metrics._inputs import as_lengths, as_masks, as_number, as_records, as_whole
from guided_attention.metrics._nearest import lattice_points, margins, to_lattice_mm
from guided_attention.metrics._outline import Grid, border, joint_box, padded
from guided_attention.metrics.overlap import Counts
from guided_attention.metrics.surface import SurfaceDistances

__all__ = ["ChaosScore", "chaos_points", "chaos_score"]

# The values that earn no points.
_DICE = 0.8
_RAVD_PERCENT = 5.0
_ASSD_MM = 15.0
_MSSD_MM = 60.0


@dataclass(frozen=True)
class ChaosScore:
    """The four quantities of one organ, and the points that they earn: see `guided_attention.metrics.challenge`.

    Attributes:
        dice: Dice coefficient (DICE), 0..1.
        ravd_percent: Absolute difference of the volumes in per cent of the reference (RAVD).
        assd_mm: Mean of the distances of the points of both surfaces together, in millimetres (ASSD).
        hausdorff_mm: Largest of these distances, in millimetres (MSSD).
        prediction_voxels: Voxels of the prediction.
        reference_voxels: Voxels of the reference.

    Example:
        >>> score = ChaosScore(0.9, 1.0, 3.0, 30.0, prediction_voxels=990, reference_voxels=1000)
        >>> score.ravd_points, score.assd_points, score.hausdorff_points
        (80.0, 80.0, 50.0)
        >>> round(score.points, 6)
        75.0
    """

    dice: float
    ravd_percent: float
    assd_mm: float
    hausdorff_mm: float
    prediction_voxels: int
    reference_voxels: int

    def __post_init__(self) -> None:
        """Check the types, and keep plain numbers: JSON takes none of NumPy's."""
        for name in ("dice", "ravd_percent", "assd_mm", "hausdorff_mm"):
            object.__setattr__(self, name, as_number(name, getattr(self, name)))
        for name in ("prediction_voxels", "reference_voxels"):
            object.__setattr__(self, name, as_whole(name, getattr(self, name), 0))

    @property
    def dice_points(self) -> float:
        """Points of `dice`, 0..100."""
        return 100 * self.dice if not self.dice <= _DICE else 0.0

    @property
    def ravd_points(self) -> float:
        """Points of `ravd_percent`, 0..100."""
        return _points(self.ravd_percent, _RAVD_PERCENT)

    @property
    def assd_points(self) -> float:
        """Points of `assd_mm`, 0..100."""
        return _points(self.assd_mm, _ASSD_MM)

    @property
    def hausdorff_points(self) -> float:
        """Points of `hausdorff_mm`, 0..100."""
        return _points(self.hausdorff_mm, _MSSD_MM)

    @property
    def points(self) -> float:
        """Mean of the four, 0..100; NaN where there is nothing to score."""
        return (self.dice_points + self.ravd_points + self.assd_points + self.hausdorff_points) / 4


def chaos_score(prediction: AnyMask, reference: AnyMask, spacing_mm: Numbers) -> ChaosScore:
    """Score the prediction of one organ in one case as the CHAOS challenge does.

    Formulas, special cases and source: see `guided_attention.metrics.challenge`. Time and memory are those of
    `surface_distances`.

    Args:
        prediction: True where the organ was found, ``(depth, height, width)``.
        reference: True where the organ is, of the same shape.
        spacing_mm: Distance between voxel centres in millimetres, (z, y, x).

    Raises:
        ArgumentError: A mask is not boolean, the shapes differ or have not three axes, or a spacing is not above 0.
        ArgumentTypeError: An argument has the wrong type.

    Example:
        >>> import numpy as np
        >>> prediction, reference = np.zeros((2, 6, 20, 20), dtype=bool)
        >>> reference[1:4, 5:15, 5:15], prediction[1:4, 5:15, 6:16] = True, True
        >>> score = chaos_score(prediction, reference, (9.0, 1.5, 1.5))
        >>> score.dice, score.ravd_percent, score.hausdorff_mm, score.hausdorff_points
        (0.9, 0.0, 1.5, 97.5)
    """
    found, expected = as_masks(prediction, reference)
    require(found.ndim == 3, "prediction", "of 3 axes", counted(found.ndim, "axis", "axes"))  # noqa: PLR2004
    distances = _distances(found, expected, as_lengths(spacing_mm, found.ndim))
    counts = Counts.of(found, expected)
    return ChaosScore(
        dice=counts.dice(),
        ravd_percent=counts.relative_volume_difference(),
        assd_mm=distances.assd_mm(),
        hausdorff_mm=distances.hausdorff_mm(),
        prediction_voxels=counts.predicted,
        reference_voxels=counts.expected,
    )


def chaos_points(scores: Sequence[ChaosScore]) -> float:
    """Return one number for a whole submission: the mean of the points of all cases and organs, 0..100.

    A missed organ and a false alarm count as 0. An organ absent in both volumes has NaN points and does not count. The
    mean of nothing is NaN.

    Args:
        scores: Those of every case and organ of the submission, failures included.

    Raises:
        ArgumentTypeError: `scores` is not a list of `ChaosScore`.

    Example:
        >>> perfect = ChaosScore(1.0, 0.0, 0.0, 0.0, prediction_voxels=7, reference_voxels=7)
        >>> missed = ChaosScore(0.0, 100.0, math.inf, math.inf, prediction_voxels=0, reference_voxels=7)
        >>> chaos_points([perfect, missed])
        50.0
        >>> chaos_points([])
        nan
    """
    all_points = [score.points for score in as_records("scores", scores, ChaosScore)]
    points = [value for value in all_points if not math.isnan(value)]
    return sum(points) / len(points) if points else math.nan


def _points(value: float, limit: float) -> float:
    return math.nan if math.isnan(value) else 100 * max((limit - value) / limit, 0.0)


def _distances(prediction: MaskArray, reference: MaskArray, spacing_mm: Sequence[float]) -> SurfaceDistances:
    # A voxel wider than the masks on each side that the image goes on: there the border is told by true neighbours.
    box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in joint_box(prediction, reference))
    width = margins(spacing_mm)
    ours, theirs = (lattice_points(padded(_border(mask[box]), width)) for mask in (prediction, reference))
    return SurfaceDistances(
        to_lattice_mm(ours, theirs, spacing_mm, workers=1), to_lattice_mm(theirs, ours, spacing_mm, workers=1)
    )


def _border(mask: Grid) -> Grid:
    """Return the voxels of a mask that have a face neighbour outside it, where beyond the array all is mask."""
    return border(np.pad(mask, 1, constant_values=True))[(slice(1, -1),) * mask.ndim]
