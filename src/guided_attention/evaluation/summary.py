"""Scores of many cases summed up: averages, their confidence intervals, and the worst rows."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from guided_attention._checks import require
from guided_attention.evaluation.scores import CaseScore
from guided_attention.metrics._inputs import as_choice, as_records, as_whole
from guided_attention.metrics.statistics import mean_interval

__all__ = [
    "METRIC_NAMES",
    "OF_SURFACES",
    "OVERLAPS",
    "MetricName",
    "MetricSummary",
    "OrganSummary",
    "definitions",
    "mean_dice",
    "mean_over_cases",
    "require_one_definition",
    "single_rows",
    "summarize",
    "summarize_metric",
    "worst_cases",
]

MetricName: TypeAlias = Literal[
    "dice",
    "volume_similarity",
    "jaccard",
    "sensitivity",
    "precision",
    "ravd_percent",
    "surface_dice",
    "assd_mm",
    "masd_mm",
    "hausdorff95_mm",
    "hausdorff_mm",
]
"""The attributes of `CaseScore` that can be averaged and compared."""

METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
OVERLAPS = {"dice", "volume_similarity", "jaccard", "sensitivity", "precision", "surface_dice"}
"""The metrics for which higher is better."""
OF_SURFACES = {"surface_dice", "assd_mm", "masd_mm", "hausdorff95_mm", "hausdorff_mm"}
"""The metrics that need surface distances."""


@dataclass(frozen=True)
class OrganSummary:
    """The averages of one organ over all cases, or of all organs (the row ``mean``).

    Organs absent in both volumes are left out of every average and counted in `skipped`. A missed organ or a false
    alarm counts as Dice 0, volume similarity 0 and an infinite distance, so that one of them makes the mean distance
    infinite; the mean distance of the other cases stands beside it.

    The standard deviation is that of a sample, divided by n − 1 (``ddof=1``): NaN for a single case, and NaN where a
    value is infinite. A mean of nothing is NaN.

    Attributes:
        organ: Name of the organ; ``"mean"`` for the row over all organs, whose unit is the case (see `summarize`).
        dice_mean: Mean Dice coefficient, 0..1.
        dice_std: Its standard deviation over the cases.
        volume_similarity_mean: Mean volume similarity, 0..1.
        volume_similarity_std: Its standard deviation over the cases.
        assd_mm_mean: Mean of the mean surface distances in millimetres; infinite if one is.
        assd_mm_std: Their standard deviation.
        assd_mm_mean_scored: The same mean over only the organs with the status ``scored``: read it with `failed`.
        count: Number of cases in the averages of `dice` and `volume_similarity`.
        skipped: Number of cases with nothing to score: absent in both volumes.
        failed: Number of cases with the organ missed or falsely found (in the row ``mean``: at least one organ).
    """

    organ: str
    dice_mean: float
    dice_std: float
    volume_similarity_mean: float
    volume_similarity_std: float
    assd_mm_mean: float
    assd_mm_std: float
    assd_mm_mean_scored: float
    count: int
    skipped: int
    failed: int


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one organ over all cases, or of all organs (the row ``mean``).

    What is left out and what counts is the same as in `OrganSummary`. All numbers are NaN where nothing was counted or
    where the metric was not measured.

    Attributes:
        organ: Name of the organ; ``"mean"`` for the row over all organs, whose unit is the case.
        metric: Name of the attribute of `CaseScore`.
        mean: Over the cases; infinite if a value is.
        std: Standard deviation of a sample (``ddof=1``); NaN for one case or with an infinite value.
        median: Over the cases; infinite only if half of them are.
        low: Lower end of the confidence interval of the mean, see `mean_interval`.
        high: Its upper end.
        count: Number of cases behind these numbers.
        skipped: Number of cases with nothing to score.
        failed: Number of cases with the organ missed or falsely found (in the row ``mean``: at least one).
    """

    organ: str
    metric: MetricName
    mean: float
    std: float
    median: float
    low: float
    high: float
    count: int
    skipped: int
    failed: int


def summarize(scores: Sequence[CaseScore]) -> list[OrganSummary]:
    """Average the scores of many cases: one row for each organ, then one row ``mean`` over all organs.

    The row ``mean`` takes the mean over the organs of each case first, then the mean and the standard deviation over
    the cases, so that every case weighs the same however many of its organs can be scored. It is therefore not always
    the mean of the rows above it.

    Args:
        scores: The rows of all cases together.

    Returns:
        The organs in the order of their first appearance, then the row ``mean``, which is there even without scores.

    Raises:
        ArgumentError: A case has two rows for one organ, or distances were measured by more than one definition.
        ArgumentTypeError: `scores` is not a list of `CaseScore`.

    Example:
        >>> scores = [
        ...     CaseScore("7", "liver", "scored", 0.9, 1.0, 1.0, 1500.0, 1500.0),
        ...     CaseScore("8", "liver", "missed", 0.0, 0.0, float("inf"), 0.0, 1400.0),
        ... ]
        >>> liver, mean = summarize(scores)
        >>> liver.dice_mean, liver.assd_mm_mean, liver.assd_mm_mean_scored, liver.failed
        (0.45, inf, 1.0, 1)
    """
    rows = single_rows(scores)
    require_one_definition("scores", rows, "assd_mm")
    by_organ, by_case = _groups(rows)
    return [*(_summary(organ, groups) for organ, groups in by_organ.items()), _summary("mean", by_case)]


def mean_dice(scores: Sequence[CaseScore]) -> float:
    """Return the Dice coefficient averaged over the organs of each case, then over the cases: one number, 0..1.

    Missed organs and false alarms count as 0, organs absent in both volumes do not count. It is the `dice_mean` of the
    row ``mean`` of `summarize`, whose argument and errors it has; NaN means that there was nothing to score.

    Example:
        >>> mean_dice([CaseScore("7", "liver", "scored", 0.9, 1.0, 1.0, 1500.0, 1500.0)])
        0.9
    """
    return mean_over_cases(scores, "dice")


def mean_over_cases(scores: Sequence[CaseScore], metric: MetricName) -> float:
    """Return the mean of the row ``mean`` of `summarize_metric`."""
    rows = single_rows(scores)
    require_one_definition("scores", rows, metric)
    return _mean([_mean([getattr(row, metric) for row in group]) for group in _counted(_groups(rows)[1])])


def summarize_metric(
    scores: Sequence[CaseScore], metric: MetricName = "dice", *, level: float = 0.95, seed: int = 0
) -> list[MetricSummary]:
    """Average one metric over many cases, with the confidence interval of its mean.

    The rows are those of `summarize`: one for each organ, then ``mean``, which averages over the organs of each case
    first.

    Args:
        scores: The rows of all cases together.
        metric: Name of an attribute of `CaseScore`.
        level: That of the interval, see `mean_interval`.
        seed: The same seed gives the same interval.

    Raises:
        ArgumentError: A case has two rows for one organ, there is no such metric, or distances were measured by more
            than one definition.
        ArgumentTypeError: An argument has the wrong type.

    Example:
        >>> scores = [
        ...     CaseScore("7", "liver", "scored", 0.75, 1.0, 1.0, 1500.0, 1500.0),
        ...     CaseScore("8", "liver", "missed", 0.0, 0.0, float("inf"), 0.0, 1400.0),
        ...     CaseScore("9", "liver", "scored", 0.75, 1.0, 2.0, 1500.0, 1500.0),
        ... ]
        >>> liver = summarize_metric(scores, "assd_mm")[0]
        >>> liver.mean, liver.median, liver.low, liver.high, liver.failed
        (inf, 2.0, 1.0, inf, 1)
    """
    as_choice("metric", metric, METRIC_NAMES)
    rows = single_rows(scores)
    require_one_definition("scores", rows, metric)
    mean_interval([], level=level, seed=seed)  # raises for settings that make no sense, without scores too
    by_organ, by_case = _groups(rows)
    summaries = [_metric_summary(organ, groups, metric, level, seed) for organ, groups in by_organ.items()]
    return [*summaries, _metric_summary("mean", by_case, metric, level, seed)]


def worst_cases(scores: Sequence[CaseScore], count: int, *, metric: MetricName = "dice") -> list[CaseScore]:
    """Return the rows that a person should look at first, worst first.

    Among equals the order is that of `scores`. Rows without a number (organs absent in both volumes, distances not
    measured) are never among them.

    Args:
        scores: The rows of all cases together.
        count: Largest number of rows to return.
        metric: What rows are judged by: the lowest overlaps come first, or the highest distances.

    Raises:
        ArgumentError: The count is below 0, there is no such metric, or distances were measured by more than one
            definition.
        ArgumentTypeError: An argument has the wrong type.

    Example:
        >>> scores = [
        ...     CaseScore("7", "liver", "scored", 0.9, 1.0, 1.0, 1500.0, 1500.0),
        ...     CaseScore("8", "liver", "missed", 0.0, 0.0, float("inf"), 0.0, 1400.0),
        ... ]
        >>> [score.case_id for score in worst_cases(scores, 1)]
        ['8']
    """
    as_choice("metric", metric, METRIC_NAMES)
    rows = as_records("scores", scores, CaseScore)
    require_one_definition("scores", rows, metric)
    sign = 1 if metric in OVERLAPS else -1
    numbered = [score for score in rows if not math.isnan(getattr(score, metric))]
    return sorted(numbered, key=lambda score: sign * getattr(score, metric))[: as_whole("count", count, 0)]


def definitions(scores: Sequence[CaseScore]) -> str:
    """Return how the surface distances were measured as one line, which every report needs.

    Where rows differ, all their definitions are named; nothing is where there are no rows.

    Example:
        >>> print(definitions([CaseScore("7", "liver", "scored", 0.9, 0.95, 1.2, 1480.0, 1510.0)]))
        surface: voxel; HD95 of both directions: max; organ in only one volume: inf
    """
    rows = as_records("scores", scores, CaseScore)
    named = dict.fromkeys(str(score.definition or "not measured") for score in rows)
    return " and ".join(named)


def require_one_definition(argument: str, scores: Sequence[CaseScore], metric: str) -> None:
    """Raise where rows measured in different ways would become one number."""
    if metric not in OF_SURFACES:
        return
    ways = sorted({str(score.definition) for score in scores if score.definition is not None})
    cure = "Score all cases with the same `definition`."
    require(len(ways) <= 1, argument, "of one DistanceDefinition", " and ".join(ways), cure=cure)


def single_rows(scores: object, argument: str = "scores") -> Sequence[CaseScore]:
    """Return the rows; raise where a case has two for one organ."""
    rows = as_records(argument, scores, CaseScore)
    seen: set[tuple[str, str]] = set()
    for score in rows:
        key = (score.case_id, score.organ)
        cure = "Give cases that were evaluated more than once different ids."
        require(key not in seen, argument, "one row for each case and organ", f"two for {key}", cure=cure)
        seen.add(key)
    return rows


def _groups(scores: Sequence[CaseScore]) -> tuple[dict[str, list[list[CaseScore]]], list[list[CaseScore]]]:
    """Return the rows of each organ, each a group of its own, and the rows of each case as a group."""
    by_organ: dict[str, list[list[CaseScore]]] = defaultdict(list)
    by_case: dict[str, list[CaseScore]] = defaultdict(list)
    for score in scores:
        by_organ[score.organ].append([score])
        by_case[score.case_id].append(score)
    return by_organ, list(by_case.values())


def _counted(groups: Sequence[Sequence[CaseScore]]) -> list[list[CaseScore]]:
    """Leave out the organs absent in both volumes, and the groups that have no others."""
    present = [[score for score in group if score.status != "absent in both"] for group in groups]
    return [group for group in present if group]


def _summary(organ: str, groups: Sequence[Sequence[CaseScore]]) -> OrganSummary:
    """Average the rows of each group (a case), then the groups."""
    counted = _counted(groups)
    scored = [[score.assd_mm for score in group if score.status == "scored"] for group in counted]
    dice = [_mean([score.dice for score in group]) for group in counted]
    volume_similarity = [_mean([score.volume_similarity for score in group]) for group in counted]
    assd_mm = [_mean([score.assd_mm for score in group]) for group in counted]
    return OrganSummary(
        organ=organ,
        dice_mean=_mean(dice),
        dice_std=_std(dice),
        volume_similarity_mean=_mean(volume_similarity),
        volume_similarity_std=_std(volume_similarity),
        assd_mm_mean=_mean(assd_mm),
        assd_mm_std=_std(assd_mm),
        assd_mm_mean_scored=_mean([_mean(distances) for distances in scored if distances]),
        count=len(counted),
        skipped=len(groups) - len(counted),
        failed=_failed(counted),
    )


def _metric_summary(
    organ: str, groups: Sequence[Sequence[CaseScore]], metric: MetricName, level: float, seed: int
) -> MetricSummary:
    counted = _counted(groups)
    values = [_mean([getattr(score, metric) for score in group]) for group in counted]
    measured = not any(math.isnan(value) for value in values)
    low, high = mean_interval(values, level=level, seed=seed) if measured else (math.nan, math.nan)
    return MetricSummary(
        organ=organ,
        metric=metric,
        mean=_mean(values),
        std=_std(values),
        median=_median(values),
        low=low,
        high=high,
        count=len(counted),
        skipped=len(groups) - len(counted),
        failed=_failed(counted),
    )


def _failed(groups: Sequence[Sequence[CaseScore]]) -> int:
    return sum(any(score.status != "scored" for score in group) for group in groups)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan


def _std(values: Sequence[float]) -> float:
    spread = len(values) > 1 and bool(np.isfinite(values).all())
    return float(np.std(values, ddof=1)) if spread else math.nan
