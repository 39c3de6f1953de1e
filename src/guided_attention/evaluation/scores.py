"""Rows of scores: one for each organ of a case, all from one pass over its two volumes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.ndimage import find_objects

from guided_attention._checks import require, require_choice, require_same_shape
from guided_attention._typing import LabelArray, MaskArray
from guided_attention.metrics._masks import require_spacing
from guided_attention.metrics.overlap import Counts
from guided_attention.metrics.surface import Combine, Surface, surface_distances

__all__ = ["CaseScore", "OrganStatus", "boxes_of_values", "evaluate_case", "require_labels"]

OrganStatus: TypeAlias = Literal["scored", "absent in both", "missed", "false alarm"]
"""Whether an organ is in both volumes, in neither, in the reference alone, or in the prediction alone."""

_Box: TypeAlias = tuple[slice, ...]

_MM3_PER_ML = 1000
_LONGEST_LIST = 4096  # SciPy lists the boxes of all values from 1 to the highest one
_NAMED_AT_MOST = 20


@dataclass(frozen=True, eq=False)
class CaseScore:
    """How well one organ of one case was outlined.

    One table says what an organ gives that is not in both volumes. The overlaps are `dice`, `volume_similarity`, `jaccard`,
    `sensitivity`, `precision` and `surface_dice`; the distances are `assd_mm`, `masd_mm`, `hausdorff95_mm` and
    `hausdorff_mm`:

    ==================  ==========  ===========  ========  =========  ============
    status              prediction  reference    overlaps  distances  ravd_percent
    ==================  ==========  ===========  ========  =========  ============
    ``scored``          something   something    0..1      0 mm..     0..
    ``absent in both``  empty       empty        NaN       NaN        NaN
    ``missed``          empty       something    0         inf        100
    ``false alarm``     something   empty        0         inf        inf
    ==================  ==========  ===========  ========  =========  ============

    With ``one_empty="diagonal"`` the image's diagonal in millimetres takes the place of the infinite distance.
    Distances that were not asked for are NaN in every row. Two rows are equal where all attributes are, and
    NaN counts as equal to NaN.

    Attributes:
        case_id: The case's name.
        organ: The organ's name.
        status: Whether the organ is in both volumes, in neither, or in one alone.
        dice: Dice coefficient, 0..1, see `dice`.
        volume_similarity: Volume similarity, 0..1, see `volume_similarity`.
        assd_mm: Mean surface distance in millimetres, see `SurfaceDistances.assd_mm`; NaN in every row where
            distances were not asked for.
        prediction_ml: Volume of the predicted organ in millilitres; of an image, its area in mm² divided by
            1000, as if it were 1 mm thick.
        reference_ml: Volume of the organ in the reference in millilitres.
        jaccard: Intersection over union, 0..1.
        sensitivity: Share of the reference that was found, 0..1.
        precision: Share of the prediction that is right, 0..1.
        ravd_percent: Relative absolute volume difference in per cent of the reference's volume.
        masd_mm: Mean of the two directions' mean distances, see `SurfaceDistances.masd_mm`.
        hausdorff95_mm: 95th percentile of the distances, see `SurfaceDistances.hausdorff_mm`.
        hausdorff_mm: Largest distance.
        surface_dice: Share of both surfaces that lies within `tolerance_mm` of the other, 0..1; NaN in every
            row where no tolerance was given.
        surface: What was taken as the surface of a mask, see `surface_distances`.
        combine: How the 95th percentiles of both directions became one, see `SurfaceDistances.hausdorff_mm`.
        tolerance_mm: Of `surface_dice`; NaN where none was given.
        one_empty: What stands for the distance of an organ that is in one volume alone.

    Example:
        >>> score = CaseScore("7", "liver", "scored", 0.9, 0.95, 1.2, 1480.0, 1510.0)
        >>> score.organ, score.dice, score.surface, score.combine
        ('liver', 0.9, 'voxel', 'max')
    """

    case_id: str
    organ: str
    status: OrganStatus
    dice: float
    volume_similarity: float
    assd_mm: float
    prediction_ml: float
    reference_ml: float
    jaccard: float = math.nan
    sensitivity: float = math.nan
    precision: float = math.nan
    ravd_percent: float = math.nan
    masd_mm: float = math.nan
    hausdorff95_mm: float = math.nan
    hausdorff_mm: float = math.nan
    surface_dice: float = math.nan
    surface: str = "voxel"
    combine: str = "max"
    tolerance_mm: float = math.nan
    one_empty: str = "inf"

    def __eq__(self, other: object) -> bool:
        """Compare all attributes, NaN equal to NaN."""
        if not isinstance(other, CaseScore):
            return NotImplemented
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return all(mine == theirs or (mine != mine and theirs != theirs) for mine, theirs in pairs)  # noqa: PLR0124

    def __hash__(self) -> int:
        """Hash the names, which equal rows share."""
        return hash((self.case_id, self.organ))


@dataclass(frozen=True)
class _Options:
    """How the distances of a case are measured."""

    spacing_mm: tuple[float, ...]
    distances: bool
    surface: Surface
    combine: Combine
    tolerance_mm: float | None
    one_empty: Literal["inf", "diagonal"]
    workers: int


def evaluate_case(  # noqa: PLR0913 - the definitions of the distances, each of which reports must name
    prediction: LabelArray,
    reference: LabelArray,
    *,
    labels: Mapping[int, str],
    spacing_mm: Sequence[float],
    case_id: str,
    distances: bool = True,
    surface: Surface = "voxel",
    combine: Combine = "max",
    tolerance_mm: float | None = None,
    one_empty: Literal["inf", "diagonal"] = "inf",
    workers: int = 1,
) -> list[CaseScore]:
    """Score the predicted labels of one case against the reference, organ by organ.

    Each organ is compared as a whole volume, never slice by slice. An organ that is nowhere still has its
    row, with a status that says so.

    The boxes of all organs come from one pass over each volume; masks are made inside the box of an organ
    alone, so that time and memory grow with the organs and not with their number times the image.

    Args:
        prediction: Predicted class of each voxel.
        reference: True class of each voxel.
        labels: Name of each organ by its value in the volumes; 0 is the background and is not scored.
        spacing_mm: Distance between voxel centres in millimetres, in array order, (z, y, x) for volumes and
            (y, x) for images.
        case_id: The case's name, for the rows.
        distances: Whether to measure the surface distances, the slow part; otherwise they are NaN.
        surface: What the surface of a mask is, see `surface_distances`.
        combine: How HD95 joins the two directions, see `SurfaceDistances.hausdorff_mm`.
        tolerance_mm: How far two surfaces may be apart and still count as the same in `surface_dice`, in
            millimetres; None leaves it out.
        one_empty: Distance of an organ that is missed or falsely found: ``"inf"``, or ``"diagonal"`` for the
            length of the image's diagonal in millimetres, which no distance in the image exceeds.
        workers: Threads that search for the nearest points; -1 for all cores.

    Shape:
        - both volumes: ``(depth, height, width)`` or ``(height, width)``, the same for both.

    Returns:
        One row for each organ, in the order of `labels`.

    Raises:
        ValueError: The volumes differ in shape, have neither 2 nor 3 axes or are not of integers, one holds
            values that `labels` does not name, `labels` names 0, nothing, or two values alike, there is not
            one spacing above 0 for each axis, a tolerance is below 0 or given without distances, or a choice
            is none of those above.

    Example:
        >>> import numpy as np
        >>> reference = np.zeros((3, 5, 7), dtype=np.uint8)
        >>> reference[1, 1:4, 1:5] = 1
        >>> organs = {1: "liver", 4: "spleen"}
        >>> rows = evaluate_case(reference, reference, labels=organs, spacing_mm=(9.0, 1.5, 1.5), case_id="7")
        >>> [(row.organ, row.status, row.dice) for row in rows]
        [('liver', 'scored', 1.0), ('spleen', 'absent in both', nan)]

    References:
        Sinha and Dolz, equations 12 to 16. They measure in voxels; here it is millimetres.
    """
    require_labels(labels)
    require_same_shape("prediction", prediction.shape, "reference", reference.shape)
    require(prediction.ndim in (2, 3), "prediction", "of 2 or 3 axes", f"{prediction.ndim} axes")
    require_choice("surface", surface, ("voxel", "surfel", "mesh"))
    require_choice("combine", combine, ("max", "pooled"))
    require_choice("one_empty", one_empty, ("inf", "diagonal"))
    _require_tolerance(tolerance_mm, distances)
    require_spacing(spacing_mm, prediction.ndim)
    lengths = tuple(float(length) for length in spacing_mm)
    options = _Options(lengths, distances, surface, combine, tolerance_mm, one_empty, workers)
    found = boxes_of_values(f"prediction of case {case_id!r}", prediction, labels)
    present = boxes_of_values(f"reference of case {case_id!r}", reference, labels)
    return [
        _score(case_id, organ, _cropped(label, (prediction, found), (reference, present)), options)
        if label in found or label in present
        else _absent(case_id, organ, options)
        for label, organ in labels.items()
    ]


def require_labels(labels: Mapping[int, str]) -> None:
    """Raise unless the map names something, not the background, and no two values alike."""
    require(bool(labels), "labels", "a map from value to organ with at least one entry", dict(labels))
    cure = "0 is the background and is not scored: leave it out."
    require(0 not in labels, "labels", "of values other than 0", dict(labels), cure=cure)
    cure = "Give each organ its own name."
    require(len(set(labels.values())) == len(labels), "labels", "of different names", dict(labels), cure=cure)


def boxes_of_values(argument: str, volume: LabelArray, labels: Mapping[int, str]) -> dict[int, _Box]:
    """Return the box of each organ that is in the volume; raise where it holds a value without a name."""
    integer = np.issubdtype(volume.dtype, np.integer)
    cure = "Pass `volume.astype(int)` if its values are whole."
    require(integer, argument, "a volume of integers", f"an array of {volume.dtype}", cure=cure)
    if not volume.size:
        return {}
    if volume.min() >= 0 and volume.max() <= _LONGEST_LIST:
        found: Sequence[_Box | None] = find_objects(volume)
        boxes = {value: box for value, box in enumerate(found, 1) if box is not None}
        _require_known_values(argument, boxes, labels)
        return boxes
    # A label of a billion would make a list as long, and negative ones have no place in it: count them through.
    values = np.unique(np.concatenate([np.unique(part) for part in volume]))
    _require_known_values(argument, (value for value in values.tolist() if value), labels)
    places = np.empty(volume.shape, np.min_scalar_type(len(values)))
    for part, into in zip(volume, places, strict=True):
        into[...] = np.searchsorted(values, part) + 1
    boxes = dict(zip(values.tolist(), find_objects(places), strict=True))
    boxes.pop(0, None)
    return boxes


def _require_known_values(argument: str, values: Iterable[int], labels: Mapping[int, str]) -> None:
    unknown = [value for value in values if value not in labels]
    wanted = f"made of 0 and the values of `labels`, {dict(labels)}"
    cure = "Name these values in `labels` or set them to 0."
    rest = f" and {len(unknown) - _NAMED_AT_MOST} more" if len(unknown) > _NAMED_AT_MOST else ""
    require(not unknown, argument, wanted, f"also {unknown[:_NAMED_AT_MOST]}{rest}", cure=cure)


def _require_tolerance(tolerance_mm: float | None, distances: bool) -> None:
    if tolerance_mm is None:
        return
    require(0 <= tolerance_mm < math.inf, "tolerance_mm", "0 or more and finite", tolerance_mm)
    cure = "The surface Dice is made of the surface distances."
    require(distances, "tolerance_mm", "None where `distances` is False", tolerance_mm, cure=cure)


@dataclass(frozen=True, eq=False)
class _Masks:
    """One organ in both volumes, cut out of them: the image's size is all that is left of the rest."""

    prediction: MaskArray
    reference: MaskArray
    image_shape: tuple[int, ...]


def _cropped(
    label: int,
    prediction: tuple[LabelArray, Mapping[int, _Box]],
    reference: tuple[LabelArray, Mapping[int, _Box]],
) -> _Masks:
    """Cut the box that holds an organ of both volumes; each comes with the boxes of its values."""
    held = [boxes[label] for _, boxes in (prediction, reference) if label in boxes]
    box = tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*held, strict=True)
    )
    # A volume without the organ may be of a type that has no such value: it is not asked.
    masks = [
        volume[box] == label if label in boxes else np.zeros(volume[box].shape, dtype=bool)
        for volume, boxes in (prediction, reference)
    ]
    return _Masks(masks[0], masks[1], prediction[0].shape)


def _score(case_id: str, organ: str, masks: _Masks, options: _Options) -> CaseScore:
    counts = Counts.of(masks.prediction, masks.reference)
    found, true = counts.found, counts.true
    voxel_ml = math.prod(options.spacing_mm) / _MM3_PER_ML
    return CaseScore(
        case_id,
        organ,
        _status(found, true),
        prediction_ml=found * voxel_ml,
        reference_ml=true * voxel_ml,
        **_overlaps(counts),
        **_distances(masks, options, both=bool(found and true)),
        **_definitions(options),
    )


def _absent(case_id: str, organ: str, options: _Options) -> CaseScore:
    nan = math.nan
    return CaseScore(case_id, organ, "absent in both", nan, nan, nan, 0.0, 0.0, **_definitions(options))


def _status(found: int, true: int) -> OrganStatus:
    if found and true:
        return "scored"
    return "false alarm" if found else "missed"


def _overlaps(counts: Counts) -> dict[str, Any]:
    """Return all that the numbers of voxels tell."""
    return {
        "dice": counts.dice(),
        "volume_similarity": counts.volume_similarity(),
        "jaccard": counts.jaccard(),
        "sensitivity": counts.sensitivity(),
        "precision": counts.precision(),
        "ravd_percent": counts.relative_volume_difference(),
    }


def _distances(masks: _Masks, options: _Options, *, both: bool) -> dict[str, Any]:
    """Return the distances of an organ, measured where it is in both volumes."""
    if not options.distances:
        return {"assd_mm": math.nan}
    dice_asked = options.tolerance_mm is not None
    if not both:
        far = (
            _diagonal_mm(masks.image_shape, options.spacing_mm)
            if options.one_empty == "diagonal"
            else math.inf
        )
        surface_dice = 0.0 if dice_asked else math.nan
        return {
            **dict.fromkeys(("assd_mm", "masd_mm", "hausdorff95_mm", "hausdorff_mm"), far),
            "surface_dice": surface_dice,
        }
    measured = surface_distances(
        masks.prediction,
        masks.reference,
        options.spacing_mm,
        surface=options.surface,
        workers=options.workers,
    )
    return {
        "assd_mm": measured.assd_mm(),
        "masd_mm": measured.masd_mm(),
        "hausdorff95_mm": measured.hausdorff_mm(95.0, combine=options.combine),
        "hausdorff_mm": measured.hausdorff_mm(),
        "surface_dice": math.nan
        if options.tolerance_mm is None
        else measured.surface_dice(options.tolerance_mm),
    }


def _diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    return math.hypot(*(size * length for size, length in zip(shape, spacing_mm, strict=True)))


def _definitions(options: _Options) -> dict[str, Any]:
    tolerance_mm = math.nan if options.tolerance_mm is None else options.tolerance_mm
    return {
        "surface": options.surface,
        "combine": options.combine,
        "tolerance_mm": tolerance_mm,
        "one_empty": options.one_empty,
    }
