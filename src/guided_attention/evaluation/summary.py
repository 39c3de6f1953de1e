"""What the scores of many cases come to: averages, how sure they are, and the worst."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from guided_attention._checks import require, require_choice
from guided_attention.evaluation.scores import CaseScore
from guided_attention.metrics.statistics import mean_interval

__all__ = [
    "METRIC_NAMES",
    "OF_SURFACES",
    "MetricName",
    "MetricSummary",
    "OrganSummary",
    "definitions",
    "mean_dice",
    "require_one_definition",
    "require_single_rows",
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
_OVERLAPS = {"dice", "volume_similarity", "jaccard", "sensitivity", "precision", "surface_dice"}
OF_SURFACES = {"surface_dice", "assd_mm", "masd_mm", "hausdorff95_mm", "hausdorff_mm"}


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
        dice_mean: Mean Dice coefficient, 0..1.
        dice_std: Its standard deviation over the cases.
        volume_similarity_mean: Mean volume similarity, 0..1.
        volume_similarity_std: Its standard deviation over the cases.
        assd_mm_mean: Mean of the mean surface distances in millimetres; infinite if one is.
        assd_mm_std: Their standard deviation.
        assd_mm_mean_scored: The same mean over the organs with the status ``scored`` alone: always read it
            together with `failed`.
        count: How many cases the averages of `dice` and `volume_similarity` are taken over.
        skipped: How many cases have nothing to score: absent in both volumes.
        failed: How many cases have the organ missed or falsely found (in the row ``mean``: at least one
            organ).

    Example:
        >>> scores = [CaseScore("7", "liver", "scored", 0.9, 0.95, 1.2, 1480.0, 1510.0)]
        >>> summarize(scores)[0].dice_mean
        0.9
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

    Rows of organs absent in both volumes are left out and counted in `skipped`. A missed organ or a false
    alarm counts with what its row holds, 0 or an infinite distance (or the diagonal), and is counted in
    `failed`. All numbers are NaN where nothing was counted or where the metric was not measured.

    Attributes:
        organ: The organ's name; ``"mean"`` for the row over all organs, whose unit is the case.
        metric: Which attribute of `CaseScore` it is.
        mean: Over the cases; infinite if a value is.
        std: Standard deviation of a sample (``ddof=1``); NaN for one case or with an infinite value.
        median: Over the cases; infinite only if half of them are.
        low: Lower end of the confidence interval of the mean, see `mean_interval`.
        high: Its upper end.
        count: How many cases the numbers are taken over.
        skipped: How many cases have nothing to score.
        failed: How many cases have the organ missed or falsely found (in the row ``mean``: at least one).

    Example:
        >>> MetricSummary("liver", "dice", 0.8, 0.1, 0.82, 0.75, 0.85, 7, 0, 1).failed
        1
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
        >>> liver.dice_mean, liver.assd_mm_mean, liver.assd_mm_mean_scored, liver.failed
        (0.45, inf, 1.0, 1)
    """
    require_single_rows(scores)
    by_organ, by_case = _groups(scores)
    return [*(_summary(organ, groups) for organ, groups in by_organ.items()), _summary("mean", by_case)]


def mean_dice(scores: Sequence[CaseScore]) -> float:
    """Give one number for a whole evaluation: the Dice coefficient averaged over organs, then over cases.

    It lies in 0..1, and higher is better; missed organs and false alarms count as 0, organs absent in both
    volumes do not count, and NaN means that there was nothing to score.

    Args:
        scores: The rows of `evaluate_case`, of all cases together.

    Returns:
        The `dice_mean` of the row ``mean`` of `summarize`.

    Raises:
        ValueError: A case has two rows for one organ.

    Example:
        >>> mean_dice([CaseScore("7", "liver", "scored", 0.9, 1.0, 1.0, 1500.0, 1500.0)])
        0.9
        >>> mean_dice([])
        nan
    """
    return summarize(scores)[-1].dice_mean


def summarize_metric(
    scores: Sequence[CaseScore], metric: MetricName = "dice", *, level: float = 0.95, seed: int = 0
) -> list[MetricSummary]:
    """Sum up one metric of many cases, and say how sure its mean is.

    The rows are those of `summarize`: one for each organ, then ``mean``, which averages over the organs of
    each case first.

    Args:
        scores: The rows of `evaluate_case`, of all cases together.
        metric: Name of the attribute of `CaseScore`.
        level: Of the interval, see `mean_interval`.
        seed: Of the interval's draws.

    Returns:
        The organs in the order of their first appearance, then the row ``mean``.

    Raises:
        ValueError: A case has two rows for one organ, there is no such metric, or distances were measured by
            more than one definition.

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
    require_choice("metric", metric, METRIC_NAMES)
    require_single_rows(scores)
    require_one_definition("scores", scores, metric)
    by_organ, by_case = _groups(scores)
    rows = [_metric_summary(organ, groups, metric, level, seed) for organ, groups in by_organ.items()]
    return [*rows, _metric_summary("mean", by_case, metric, level, seed)]


def worst_cases(scores: Sequence[CaseScore], count: int, *, metric: MetricName = "dice") -> list[CaseScore]:
    """Pick the rows that a person should look at first.

    Args:
        scores: The rows of `evaluate_case`, of all cases together.
        count: How many at most.
        metric: What they are judged by: the lowest overlaps come first, or the highest distances.

    Returns:
        The worst rows, worst first; among equals, in the order they came in. Rows without a number (organs
        absent in both volumes, distances not measured) are never among them.

    Raises:
        ValueError: The count is below 0, there is no such metric, or distances were measured by more than one
            definition.

    Example:
        >>> scores = [
        ...     CaseScore("7", "liver", "scored", 0.9, 1.0, 1.0, 1500.0, 1500.0),
        ...     CaseScore("8", "liver", "missed", 0.0, 0.0, float("inf"), 0.0, 1400.0),
        ... ]
        >>> [score.case_id for score in worst_cases(scores, 1)]
        ['8']
    """
    require(count >= 0, "count", "0 or more", count)
    require_choice("metric", metric, METRIC_NAMES)
    require_one_definition("scores", scores, metric)
    sign = 1 if metric in _OVERLAPS else -1
    numbered = [score for score in scores if not math.isnan(getattr(score, metric))]
    return sorted(numbered, key=lambda score: sign * getattr(score, metric))[:count]


def definitions(scores: Sequence[CaseScore]) -> str:
    """Say in one line how the surface distances were measured: every report needs it.

    Args:
        scores: The rows of `evaluate_case`.

    Returns:
        The sentence; where rows differ, all that they name.

    Example:
        >>> print(definitions([CaseScore("7", "liver", "scored", 0.9, 0.95, 1.2, 1480.0, 1510.0)]))
        surface: voxel; HD95 of both directions: max; organ in one volume alone: inf
    """
    named = {
        "surface": _named(score.surface for score in scores),
        "HD95 of both directions": _named(score.combine for score in scores),
        "organ in one volume alone": _named(score.one_empty for score in scores),
        "tolerance in mm": _named(
            f"{score.tolerance_mm:g}" for score in scores if not math.isnan(score.tolerance_mm)
        ),
    }
    return "; ".join(f"{what}: {value}" for what, value in named.items() if value)


def require_one_definition(argument: str, scores: Sequence[CaseScore], metric: str) -> None:
    """Raise where rows measured in different ways would become one number."""
    if metric not in OF_SURFACES:
        return
    ways = sorted(
        {(score.surface, score.combine, score.one_empty, str(score.tolerance_mm)) for score in scores}
    )
    cure = "Score all cases with the same settings of `evaluate_case`."
    wanted = "of one surface, combine, one_empty and tolerance_mm"
    require(len(ways) <= 1, argument, wanted, ways, cure=cure)


def require_single_rows(scores: Sequence[CaseScore], argument: str = "scores") -> None:
    """Raise where a case has two rows for one organ."""
    seen: set[tuple[str, str]] = set()
    for score in scores:
        key = (score.case_id, score.organ)
        cure = "Give cases that were evaluated more than once different ids."
        require(key not in seen, argument, "one row for each case and organ", f"two for {key}", cure=cure)
        seen.add(key)


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


def _named(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(values))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan


def _std(values: Sequence[float]) -> float:
    spread = len(values) > 1 and bool(np.isfinite(values).all())
    return float(np.std(values, ddof=1)) if spread else math.nan
