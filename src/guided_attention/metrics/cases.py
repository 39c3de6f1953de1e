"""Rows of scores, one for each case and organ, and the table that sums them up."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from guided_attention._checks import require, require_positive, require_same_shape
from guided_attention._files import replacing
from guided_attention._typing import LabelVolume, MaskArray, SpacingMm
from guided_attention.metrics.overlap import dice, volume_similarity
from guided_attention.metrics.surface import surface_distances

__all__ = [
    "CaseScore",
    "OrganStatus",
    "OrganSummary",
    "evaluate_case",
    "format_table",
    "mean_dsc",
    "summarize",
    "write_scores_csv",
]

OrganStatus: TypeAlias = Literal["scored", "absent in both", "missed", "false alarm"]
"""Whether an organ is in both volumes, in neither, in the reference alone, or in the prediction alone."""

_MM3_PER_ML = 1000


@dataclass(frozen=True)
class CaseScore:
    """How well one organ of one case was outlined.

    ==================  ==========  ===========  ====  ====  ======
    status              prediction  reference    dsc   vs    msd_mm
    ==================  ==========  ===========  ====  ====  ======
    ``scored``          something   something    0..1  0..1  0 mm..
    ``absent in both``  empty       empty        NaN   NaN   NaN
    ``missed``          empty       something    0     0     inf
    ``false alarm``     something   empty        0     0     inf
    ==================  ==========  ===========  ====  ====  ======

    Attributes:
        case_id: The case's name.
        organ: The organ's name.
        status: Whether the organ is in both volumes, in neither, or in one alone.
        dsc: Dice coefficient, 0..1, see `dice`.
        vs: Volume similarity, 0..1, see `volume_similarity`.
        msd_mm: Mean surface distance in millimetres, see `SurfaceDistances.assd_mm`; NaN in every row where
            distances were not asked for.
        prediction_ml: Volume of the predicted organ in millilitres.
        reference_ml: Volume of the organ in the reference in millilitres.

    Example:
        >>> score = CaseScore("7", "liver", "scored", 0.9, 0.95, 1.2, 1480.0, 1510.0)
        >>> score.organ, score.dsc
        ('liver', 0.9)
    """

    case_id: str
    organ: str
    status: OrganStatus
    dsc: float
    vs: float
    msd_mm: float
    prediction_ml: float
    reference_ml: float


@dataclass(frozen=True)
class OrganSummary:
    """What the scores of one organ come to over all cases, or the scores of all organs (the row ``mean``).

    Organs absent in both volumes are left out of every average and counted in `skipped`. A missed organ or a
    false alarm counts as Dice 0, volume similarity 0 and an infinite distance, so one of them makes the mean
    distance infinite; the mean distance of the other cases stands beside it.

    The standard deviation is that of a sample, divided by n − 1 (``ddof=1``): NaN for a single case, and NaN
    where a value is infinite. A mean of nothing is NaN.

    Attributes:
        organ: The organ's name; ``"mean"`` for the row over all organs, whose unit is the case (see
            `summarize`).
        dsc_mean: Mean Dice coefficient, 0..1.
        dsc_std: Its standard deviation over the cases.
        vs_mean: Mean volume similarity, 0..1.
        vs_std: Its standard deviation over the cases.
        msd_mm_mean: Mean of the mean surface distances in millimetres; infinite if one is.
        msd_mm_std: Their standard deviation.
        msd_mm_mean_scored: The same mean over the organs with the status ``scored`` alone: always read it
            together with `failed`.
        count: How many cases the averages of `dsc` and `vs` are taken over.
        skipped: How many cases have nothing to score: absent in both volumes.
        failed: How many cases have the organ missed or falsely found (in the row ``mean``: at least one
            organ).

    Example:
        >>> scores = [CaseScore("7", "liver", "scored", 0.9, 0.95, 1.2, 1480.0, 1510.0)]
        >>> summarize(scores)[0].dsc_mean
        0.9
    """

    organ: str
    dsc_mean: float
    dsc_std: float
    vs_mean: float
    vs_std: float
    msd_mm_mean: float
    msd_mm_std: float
    msd_mm_mean_scored: float
    count: int
    skipped: int
    failed: int


def evaluate_case(
    prediction: LabelVolume,
    reference: LabelVolume,
    *,
    labels: Mapping[int, str],
    spacing_mm: SpacingMm,
    case_id: str,
    distances: bool = True,
) -> list[CaseScore]:
    """Score the predicted labels of one case against the reference, organ by organ.

    Each organ is compared as a whole volume, never slice by slice. An organ that is nowhere still has its
    row, with a status that says so.

    Args:
        prediction: Predicted class of each voxel.
        reference: True class of each voxel.
        labels: Name of each organ by its value in the volumes; 0 is the background and is not scored.
        spacing_mm: Distance between voxel centres in millimetres, (z, y, x).
        case_id: The case's name, for the rows.
        distances: Whether to measure the surface distance, the slow part; otherwise `msd_mm` is NaN.

    Shape:
        - both volumes: ``(depth, height, width)``, the same for both.

    Returns:
        One row for each organ, in the order of `labels`.

    Raises:
        ValueError: The volumes differ in shape or are not of integers, one holds values that `labels` does
            not name, `labels` names 0, nothing, or two values alike, or a spacing is not above 0.

    Example:
        >>> import numpy as np
        >>> reference = np.zeros((3, 5, 7), dtype=np.uint8)
        >>> reference[1, 1:4, 1:5] = 1
        >>> organs = {1: "liver", 4: "spleen"}
        >>> rows = evaluate_case(reference, reference, labels=organs, spacing_mm=(9.0, 1.5, 1.5), case_id="7")
        >>> [(row.organ, row.status, row.dsc) for row in rows]
        [('liver', 'scored', 1.0), ('spleen', 'absent in both', nan)]

    References:
        Sinha and Dolz, equations 12 to 16. They measure in voxels; here it is millimetres.
    """
    _require_labels(labels)
    require_same_shape("prediction", prediction.shape, "reference", reference.shape)
    for argument, volume in (("prediction", prediction), ("reference", reference)):
        _require_known_values(f"{argument} of case {case_id!r}", volume, labels)
    require_positive("spacing_mm", min(spacing_mm))
    return [
        _score(case_id, organ, (prediction == label, reference == label), spacing_mm, distances)
        for label, organ in labels.items()
    ]


def summarize(scores: Sequence[CaseScore]) -> list[OrganSummary]:
    """Sum up the scores of many cases: one row for each organ, then one row ``mean`` over all organs.

    The row ``mean`` takes the mean over the organs of each case first, then the mean and the standard
    deviation over the cases, so that every case weighs the same however many of its organs can be scored. It
    is therefore not always the mean of the rows above it.

    Args:
        scores: The rows of `evaluate_case`, of all cases together.

    Returns:
        The organs in the order of their first appearance, then the row ``mean``, which is there even without
        scores.

    Raises:
        ValueError: A case has two rows for one organ.

    Example:
        >>> scores = [
        ...     CaseScore("7", "liver", "scored", 0.9, 1.0, 1.0, 1500.0, 1500.0),
        ...     CaseScore("8", "liver", "missed", 0.0, 0.0, float("inf"), 0.0, 1400.0),
        ... ]
        >>> liver, mean = summarize(scores)
        >>> liver.dsc_mean, liver.msd_mm_mean, liver.msd_mm_mean_scored, liver.failed
        (0.45, inf, 1.0, 1)
    """
    _require_single_rows(scores)
    organs = dict.fromkeys(score.organ for score in scores)
    by_organ = {organ: [[score] for score in scores if score.organ == organ] for organ in organs}
    cases = dict.fromkeys(score.case_id for score in scores)
    by_case = [[score for score in scores if score.case_id == case] for case in cases]
    return [*(_summary(organ, groups) for organ, groups in by_organ.items()), _summary("mean", by_case)]


def mean_dsc(scores: Sequence[CaseScore]) -> float:
    """Give one number for a whole evaluation: the Dice coefficient averaged over organs, then over cases.

    It lies in 0..1, and higher is better; missed organs and false alarms count as 0, organs absent in both
    volumes do not count, and NaN means that there was nothing to score.

    Args:
        scores: The rows of `evaluate_case`, of all cases together.

    Returns:
        The `dsc_mean` of the row ``mean`` of `summarize`.

    Raises:
        ValueError: A case has two rows for one organ.

    Example:
        >>> mean_dsc([CaseScore("7", "liver", "scored", 0.9, 1.0, 1.0, 1500.0, 1500.0)])
        0.9
        >>> mean_dsc([])
        nan
    """
    return summarize(scores)[-1].dsc_mean


def format_table(summaries: Sequence[OrganSummary]) -> str:
    """Lay the summaries out as a table to read, which is Markdown too.

    Averages are written with their standard deviation and three decimals, the overlaps as fractions of 1 (the
    paper prints per cent), the distance in millimetres. A dash stands where there is no number. Where organs
    failed, the mean distance is infinite, and that of the scored ones follows in brackets.

    Args:
        summaries: The rows of `summarize`.

    Returns:
        The table's lines, without a newline at the end.

    Example:
        >>> scores = [CaseScore("7", "liver", "scored", 0.9, 0.95, 1.25, 1480.0, 1510.0)]
        >>> print(format_table(summarize(scores)))
        | organ |       DSC |        VS |    MSD mm | n | skipped | failed |
        |-------|----------:|----------:|----------:|--:|--------:|-------:|
        | liver | 0.900 ± – | 0.950 ± – | 1.250 ± – | 1 |       0 |      0 |
        | mean  | 0.900 ± – | 0.950 ± – | 1.250 ± – | 1 |       0 |      0 |
    """
    header = ["organ", "DSC", "VS", "MSD mm", "n", "skipped", "failed"]
    rows = [header, *(_cells(summary) for summary in summaries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    ruler = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    lines = [_line(row, widths) for row in rows]
    return "\n".join([lines[0], "|" + "|".join(ruler) + "|", *lines[1:]])


def write_scores_csv(scores: Sequence[CaseScore], path: Path) -> None:
    """Write the rows to a comma-separated file for a spreadsheet or a statistics program.

    The columns are the attributes of `CaseScore`; numbers keep all their digits, and ``nan`` and ``inf``
    stand where they stand in the rows. An older file of that name stays whole until the new one is complete,
    then is replaced.

    Args:
        scores: The rows of `evaluate_case`.
        path: The file to write, in a folder that exists.

    Raises:
        FileNotFoundError: The folder does not exist.

    Example:
        >>> import tempfile
        >>> score = CaseScore("7", "liver", "scored", 0.9, 0.95, 1.25, 1480.0, 1510.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_scores_csv([score], Path(folder) / "scores.csv")
        ...     print((Path(folder) / "scores.csv").read_text(encoding="utf-8").splitlines()[1])
        7,liver,scored,0.9,0.95,1.25,1480.0,1510.0
    """
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(CaseScore)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(score) for score in scores)


def _require_labels(labels: Mapping[int, str]) -> None:
    require(bool(labels), "labels", "a map from value to organ with at least one entry", dict(labels))
    cure = "0 is the background and is not scored: leave it out."
    require(0 not in labels, "labels", "of values other than 0", dict(labels), cure=cure)
    cure = "Give each organ its own name."
    require(len(set(labels.values())) == len(labels), "labels", "of different names", dict(labels), cure=cure)


def _require_known_values(argument: str, volume: LabelVolume, labels: Mapping[int, str]) -> None:
    integer = np.issubdtype(volume.dtype, np.integer)
    cure = "Pass `volume.astype(int)` if its values are whole."
    require(integer, argument, "a volume of integers", f"an array of {volume.dtype}", cure=cure)
    known = np.isin(volume, [0, *labels])
    unknown = [] if known.all() else np.unique(volume[~known]).tolist()
    wanted = f"made of 0 and the values of `labels`, {dict(labels)}"
    cure = "Name these values in `labels` or set them to 0."
    require(not unknown, argument, wanted, f"also {unknown}", cure=cure)


def _require_single_rows(scores: Sequence[CaseScore]) -> None:
    seen: set[tuple[str, str]] = set()
    for score in scores:
        key = (score.case_id, score.organ)
        cure = "Give cases that were evaluated more than once different ids."
        require(key not in seen, "scores", "one row for each case and organ", f"two for {key}", cure=cure)
        seen.add(key)


def _score(
    case_id: str, organ: str, masks: tuple[MaskArray, MaskArray], spacing_mm: SpacingMm, distances: bool
) -> CaseScore:
    prediction, reference = masks
    voxel_ml = math.prod(float(length) for length in spacing_mm) / _MM3_PER_ML
    return CaseScore(
        case_id=case_id,
        organ=organ,
        status=_status(bool(prediction.any()), bool(reference.any())),
        dsc=dice(prediction, reference),
        vs=volume_similarity(prediction, reference),
        msd_mm=surface_distances(prediction, reference, spacing_mm).assd_mm() if distances else math.nan,
        prediction_ml=int(np.count_nonzero(prediction)) * voxel_ml,
        reference_ml=int(np.count_nonzero(reference)) * voxel_ml,
    )


def _status(found: bool, present: bool) -> OrganStatus:
    if found and present:
        return "scored"
    if found:
        return "false alarm"
    return "missed" if present else "absent in both"


def _summary(organ: str, groups: Sequence[Sequence[CaseScore]]) -> OrganSummary:
    """Average the rows of each group (a case), then the groups."""
    present = [[score for score in group if score.status != "absent in both"] for group in groups]
    counted = [group for group in present if group]
    scored = [[score.msd_mm for score in group if score.status == "scored"] for group in counted]
    dsc = [_mean([score.dsc for score in group]) for group in counted]
    vs = [_mean([score.vs for score in group]) for group in counted]
    msd_mm = [_mean([score.msd_mm for score in group]) for group in counted]
    return OrganSummary(
        organ=organ,
        dsc_mean=_mean(dsc),
        dsc_std=_std(dsc),
        vs_mean=_mean(vs),
        vs_std=_std(vs),
        msd_mm_mean=_mean(msd_mm),
        msd_mm_std=_std(msd_mm),
        msd_mm_mean_scored=_mean([_mean(distances) for distances in scored if distances]),
        count=len(counted),
        skipped=len(groups) - len(counted),
        failed=sum(any(score.status != "scored" for score in group) for group in counted),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _std(values: Sequence[float]) -> float:
    spread = len(values) > 1 and bool(np.isfinite(values).all())
    return float(np.std(values, ddof=1)) if spread else math.nan


def _cells(summary: OrganSummary) -> list[str]:
    distance = _plus_minus(summary.msd_mm_mean, summary.msd_mm_std)
    if summary.failed and math.isinf(summary.msd_mm_mean):
        distance = f"inf (scored {_number(summary.msd_mm_mean_scored)})"
    return [
        summary.organ,
        _plus_minus(summary.dsc_mean, summary.dsc_std),
        _plus_minus(summary.vs_mean, summary.vs_std),
        distance,
        str(summary.count),
        str(summary.skipped),
        str(summary.failed),
    ]


def _plus_minus(mean: float, std: float) -> str:
    return "–" if math.isnan(mean) else f"{_number(mean)} ± {_number(std)}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "| " + " | ".join([cells[0].ljust(widths[0]), *numbers]) + " |"
