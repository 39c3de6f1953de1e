"""Rows of scores: one for each organ of a case, all from one pass over its two volumes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

import numpy as np
from scipy.ndimage import find_objects

from guided_attention._checks import HIGHEST_LABEL, counted, require, require_same_shape, require_type
from guided_attention._typing import AnyLabels, LabelArray, MaskArray, Numbers
from guided_attention.labels import LabelSpec
from guided_attention.metrics import DistanceDefinition, surface_distances
from guided_attention.metrics._inputs import (
    as_choice,
    as_labels,
    as_lengths,
    as_number,
    as_workers,
)
from guided_attention.metrics.overlap import Counts

__all__ = [
    "CaseScore",
    "OrganStatus",
    "boxes_of_values",
    "evaluate_case",
    "require_definition",
    "require_label_spec",
]

OrganStatus: TypeAlias = Literal["scored", "absent in both", "missed", "false alarm"]
"""Whether an organ is in both volumes, in neither, only in the reference, or only in the prediction."""

_Box: TypeAlias = tuple[slice, ...]

_MM3_PER_ML = 1000


@dataclass(frozen=True, eq=False)
class CaseScore:
    """The scores of one organ of one case.

    One table says what an organ gives that is not in both volumes. The overlaps are `dice`, `volume_similarity`,
    `jaccard`, `sensitivity`, `precision` and `surface_dice`; the distances are `assd_mm`, `masd_mm`, `hausdorff95_mm`
    and `hausdorff_mm`:

    ==================  ==========  ===========  ========  =========  ============
    status              prediction  reference    overlaps  distances  ravd_percent
    ==================  ==========  ===========  ========  =========  ============
    ``scored``          something   something    0..1      0 mm..     0..
    ``absent in both``  empty       empty        NaN       NaN        NaN
    ``missed``          empty       something    0         inf        100
    ``false alarm``     something   empty        0         inf        inf
    ==================  ==========  ===========  ========  =========  ============

    With ``one_empty="diagonal"`` the diagonal of the image in millimetres takes the place of the infinite distance.
    Where distances were not measured, they and `surface_dice` are NaN in every row; so is `surface_dice` without a
    tolerance. Two rows are equal if all attributes are, and NaN counts as equal to NaN.

    Attributes:
        case_id: Name of the case.
        organ: Name of the organ.
        status: Whether the organ is in both volumes, in neither, or only in one.
        dice: Dice coefficient, 0..1, see `dice`.
        volume_similarity: See `volume_similarity`, 0..1.
        assd_mm: Mean surface distance in millimetres, see `SurfaceDistances.assd_mm`.
        prediction_ml: Volume of the predicted organ in millilitres; of an image, its area in mm² divided by 1000, as if
            it were 1 mm thick.
        reference_ml: Volume of the organ in the reference in millilitres.
        jaccard: Intersection over union, 0..1.
        sensitivity: Share of the reference that was found, 0..1.
        precision: Share of the prediction that is right, 0..1.
        ravd_percent: Relative absolute volume difference in per cent of the reference's volume.
        masd_mm: Mean of the mean distances of both directions, see `SurfaceDistances.masd_mm`.
        hausdorff95_mm: 95th percentile of the distances, see `SurfaceDistances.hausdorff_mm`.
        hausdorff_mm: Largest distance.
        surface_dice: Share of both surfaces within the tolerance of the other, 0..1.
        definition: How the distances were measured; None where they were not.

    Raises:
        ArgumentError: The status is unknown.
        ArgumentTypeError: An attribute has the wrong type.

    Example:
        >>> score = CaseScore("7", "liver", "scored", 0.9, 0.95, 1.2, 1480.0, 1510.0)
        >>> score.organ, score.dice, score.definition.surface
        ('liver', 0.9, 'voxel')
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
    definition: DistanceDefinition | None = DistanceDefinition()

    def __post_init__(self) -> None:
        """Check the types, and keep plain numbers: JSON takes none of NumPy's."""
        require_type("case_id", self.case_id, str, "a text")
        require_type("organ", self.organ, str, "a text")
        as_choice("status", self.status, get_args(OrganStatus))
        for field in fields(self):
            if field.type is float:
                object.__setattr__(self, field.name, as_number(field.name, getattr(self, field.name)))
        require_definition(self.definition)

    def __eq__(self, other: object) -> bool:
        """Compare all attributes, NaN equal to NaN."""
        if not isinstance(other, CaseScore):
            return NotImplemented
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return all(mine == theirs or (mine != mine and theirs != theirs) for mine, theirs in pairs)  # noqa: PLR0124

    def __hash__(self) -> int:
        """Hash the names, which equal rows share."""
        return hash((self.case_id, self.organ))


def evaluate_case(
    prediction: AnyLabels,
    reference: AnyLabels,
    *,
    labels: LabelSpec,
    spacing_mm: Numbers,
    case_id: str,
    definition: DistanceDefinition | None = DistanceDefinition(),
    workers: int = 1,
) -> list[CaseScore]:
    """Score the predicted labels of one case against the reference, organ by organ.

    Each organ is compared as a whole volume, never slice by slice. An organ that is nowhere still has its row, with a
    status that says so. Voxels whose reference is ``labels.ignore_value`` count nowhere: they are background in both
    volumes, for overlaps, volumes and distances alike. In the prediction that value is background.

    The boxes of all organs come from one pass over each volume, and masks are made only inside the box of an organ, so
    that time and memory do not grow with the number of organs times the size of the image.

    Args:
        prediction: Predicted value of each voxel: an array or a tensor on any device, of any integer type,
            ``(depth, height, width)`` or ``(height, width)``.
        reference: Value of each voxel in the reference, same shape.
        labels: The organs and their values; 0 is the background and is not scored.
        spacing_mm: Distance between voxel centres in millimetres, in array order: (z, y, x), or (y, x) for images.
        case_id: Name of the case, for the rows.
        definition: How surface distances are measured; None leaves them out, which is most of the work.
        workers: Threads that search for the nearest points; -1 for all cores.

    Returns:
        One row for each organ, in the order of ``labels.values``.

    Raises:
        ArgumentError: The volumes differ in shape, have neither 2 nor 3 axes or are not of integers, or there is not
            one spacing above 0 for each axis.
        ArgumentTypeError: An argument has the wrong type.
        DataError: A volume holds a value that `labels` does not name.

    Example:
        >>> import numpy as np
        >>> reference = np.zeros((3, 5, 7), dtype=np.uint8)
        >>> reference[1, 1:4, 1:5] = 1
        >>> organs = LabelSpec({1: "liver", 4: "spleen"})
        >>> rows = evaluate_case(reference, reference, labels=organs, spacing_mm=(9.0, 1.5, 1.5), case_id="7")
        >>> [(row.organ, row.status, row.dice) for row in rows]
        [('liver', 'scored', 1.0), ('spleen', 'absent in both', nan)]

    References:
        Sinha and Dolz, equations 12 to 16. They measure in voxels; here it is millimetres.
    """
    require_label_spec(labels)
    require_definition(definition)
    require_type("case_id", case_id, str, "a text")
    where = [f"{name} of case {case_id!r}" for name in ("prediction", "reference")]
    found = as_labels(where[0], prediction, "Take the arg-max of logits, or `.astype(int)` of whole numbers.")
    expected = as_labels(where[1], reference, "Take `.astype(int)` of whole numbers.")
    require_same_shape("prediction", found.shape, "reference", expected.shape)
    require(found.ndim in (2, 3), "prediction", "of 2 or 3 axes", counted(found.ndim, "axis", "axes"))
    case = _Case(
        case_id,
        (found, expected),
        (boxes_of_values(where[0], found, labels), boxes_of_values(where[1], expected, labels)),
        labels.ignore_value,
        as_lengths(spacing_mm, found.ndim),
        definition,
        as_workers(workers),
    )
    return [case.score(value, organ) for value, organ in labels.names.items()]


def require_label_spec(labels: object) -> None:
    """Raise unless `labels` is a `LabelSpec`."""
    require_type("labels", labels, LabelSpec, "a LabelSpec", 'Write LabelSpec({1: "liver"}).')


def require_definition(definition: object) -> None:
    """Raise unless `definition` is a `DistanceDefinition` or None."""
    kinds = (DistanceDefinition, type(None))
    require_type("definition", definition, kinds, "a DistanceDefinition, or None for no distances")


def boxes_of_values(where: str, volume: LabelArray, labels: LabelSpec) -> dict[int, _Box]:
    """Return the box of each value in the volume; raise where it holds one that `labels` does not know."""
    if not volume.size:
        return {}
    if volume.min() >= 0 and volume.max() <= HIGHEST_LABEL:
        found: Sequence[_Box | None] = find_objects(volume)
        boxes = {value: box for value, box in enumerate(found, 1) if box is not None}
        if boxes.keys() <= {*labels.values, labels.ignore_value}:
            return boxes
    labels.require_known(volume, where)
    return {}


@dataclass(frozen=True, eq=False)
class _Case:
    """Two label volumes, prediction first, with the boxes of their values and how they are compared."""

    case_id: str
    volumes: tuple[LabelArray, LabelArray]
    boxes: tuple[Mapping[int, _Box], Mapping[int, _Box]]
    ignore_value: int | None
    spacing_mm: tuple[float, ...]
    definition: DistanceDefinition | None
    workers: int

    def score(self, value: int, organ: str) -> CaseScore:
        """Return the row of one organ."""
        nan = math.nan
        held = [boxes[value] for boxes in self.boxes if value in boxes]
        masks = self._masks(value, held) if held else None
        counts = Counts(0, 0, 0) if masks is None else Counts.of(*masks)
        status = _status(counts)
        if masks is None or status == "absent in both":
            return CaseScore(self.case_id, organ, status, nan, nan, nan, 0.0, 0.0, definition=self.definition)
        voxel_ml = math.prod(self.spacing_mm) / _MM3_PER_ML
        distances = self._distances(masks) if status == "scored" else self._missing()
        return CaseScore(
            self.case_id,
            organ,
            status,
            dice=counts.dice(),
            volume_similarity=counts.volume_similarity(),
            prediction_ml=counts.predicted * voxel_ml,
            reference_ml=counts.expected * voxel_ml,
            jaccard=counts.jaccard(),
            sensitivity=counts.sensitivity(),
            precision=counts.precision(),
            ravd_percent=counts.relative_volume_difference(),
            definition=self.definition,
            **distances,
        )

    def _masks(self, value: int, held: Sequence[_Box]) -> tuple[MaskArray, MaskArray]:
        """Return the organ in both volumes, cut to the box around it."""
        box = tuple(
            slice(min(side.start for side in sides), max(side.stop for side in sides))
            for sides in zip(*held, strict=True)
        )
        # A volume without the organ may be of a type that has no such value: it is not asked.
        found, expected = (
            volume[box] == value if value in boxes else np.zeros(volume[box].shape, dtype=bool)
            for volume, boxes in zip(self.volumes, self.boxes, strict=True)
        )
        if self.ignore_value in self.boxes[1]:
            found &= self.volumes[1][box] != self.ignore_value
        return found, expected

    def _distances(self, masks: tuple[MaskArray, MaskArray]) -> dict[str, float]:
        """Return the distances of an organ that is in both volumes."""
        if self.definition is None:
            return {"assd_mm": math.nan}
        measured = surface_distances(*masks, self.spacing_mm, self.definition, workers=self.workers)
        no_tolerance = self.definition.tolerance_mm is None
        return {
            "assd_mm": measured.assd_mm(),
            "masd_mm": measured.masd_mm(),
            "hausdorff95_mm": measured.hausdorff_mm(95.0),
            "hausdorff_mm": measured.hausdorff_mm(),
            "surface_dice": math.nan if no_tolerance else measured.surface_dice(),
        }

    def _missing(self) -> dict[str, float]:
        """Return the distances of an organ that is only in one volume."""
        if self.definition is None:
            return {"assd_mm": math.nan}
        missing_mm = self.definition.missing_mm(self.volumes[0].shape, self.spacing_mm)
        names = ("assd_mm", "masd_mm", "hausdorff95_mm", "hausdorff_mm")
        surface_dice = math.nan if self.definition.tolerance_mm is None else 0.0
        return {**dict.fromkeys(names, missing_mm), "surface_dice": surface_dice}


def _status(counts: Counts) -> OrganStatus:
    if counts.predicted and counts.expected:
        return "scored"
    if counts.predicted or counts.expected:
        return "false alarm" if counts.predicted else "missed"
    return "absent in both"
