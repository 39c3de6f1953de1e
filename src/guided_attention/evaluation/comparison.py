"""Two networks compared over the same cases, organ by organ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from guided_attention._checks import require
from guided_attention.evaluation.scores import CaseScore
from guided_attention.evaluation.summary import (
    METRIC_NAMES,
    MetricName,
    require_one_definition,
    single_rows,
)
from guided_attention.metrics._inputs import as_choice
from guided_attention.metrics.statistics import holm, mean_interval, paired_wilcoxon

__all__ = ["PairedRow", "compare_models"]


@dataclass(frozen=True)
class PairedRow:
    """One organ in the predictions of two networks, over the cases for which both have a number.

    Attributes:
        organ: Name of the organ.
        metric: Name of the attribute of `CaseScore` that was compared.
        count: Number of pairs.
        left_out: Number of cases without a number for one network or for both: absent in both volumes there.
        first_failed: In how many of all cases the first network missed the organ or found it where there is none.
        second_failed: The same for the second network.
        first_mean: Mean of the first network over the pairs.
        second_mean: Mean of the second.
        first_median: Median of the first network over the pairs.
        second_median: Median of the second.
        difference: Mean of the differences, first minus second. Two infinite distances differ by 0; where each network
            has one that the other does not, there is no mean, and it is NaN.
        low: Lower end of the confidence interval of that mean, see `mean_interval`.
        high: Its upper end.
        p: p-value of Wilcoxon's signed-rank test, two-sided, see `paired_wilcoxon`; NaN without a pair.
        p_holm: The same, adjusted for the number of organs tested, see `holm`.
    """

    organ: str
    metric: MetricName
    count: int
    left_out: int
    first_failed: int
    second_failed: int
    first_mean: float
    second_mean: float
    first_median: float
    second_median: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def compare_models(
    first_scores: Sequence[CaseScore],
    second_scores: Sequence[CaseScore],
    metric: MetricName = "dice",
    *,
    level: float = 0.95,
    seed: int = 0,
) -> list[PairedRow]:
    """Compare two networks case by case: the mean difference, its interval, and the p-value of no difference.

    Rows are paired by case and organ. A pair in which one row has no number (the organ is absent in both volumes) is
    left out and counted; a false alarm of only one network still counts among its failures.

    Args:
        first_scores: The rows of one network, of all cases together.
        second_scores: Those of the other network, over the same cases and organs in any order.
        metric: Name of an attribute of `CaseScore`.
        level: That of the interval of the difference.
        seed: The same seed gives the same interval.

    Returns:
        One row for each organ, in the order of their first appearance among `first_scores`.

    Raises:
        ArgumentError: Only one of the two has a case or organ, a case has two rows for one organ, there is no such
            metric, or distances were measured by more than one definition.
        ArgumentTypeError: An argument has the wrong type.

    Example:
        >>> def row(case, dice):
        ...     return CaseScore(case, "liver", "scored", dice, 1.0, 1.0, 1500.0, 1500.0)
        >>> cases = "abcdef"
        >>> liver = compare_models([row(c, 0.75) for c in cases], [row(c, 0.5) for c in cases])[0]
        >>> liver.count, liver.difference, (liver.low, liver.high), liver.p
        (6, 0.25, (0.25, 0.25), 0.03125)
    """
    as_choice("metric", metric, METRIC_NAMES)
    mean_interval([], level=level, seed=seed)  # raises for settings that make no sense, without scores too
    first, second = single_rows(first_scores, "first_scores"), single_rows(second_scores, "second_scores")
    _require_same_cases(first, second)
    require_one_definition("first_scores and second_scores", [*first, *second], metric)
    others = {(score.case_id, score.organ): score for score in second}
    organs = dict.fromkeys(score.organ for score in first)
    rows = []
    for organ in organs:
        pairs = [(one, others[one.case_id, organ]) for one in first if one.organ == organ]
        rows.append(_row(organ, metric, pairs, level, seed))
    adjusted = iter(holm([row.p for row in rows if row.count]))
    return [replace(row, p_holm=next(adjusted)) if row.count else row for row in rows]


def _require_same_cases(first: Sequence[CaseScore], second: Sequence[CaseScore]) -> None:
    ours = {(score.case_id, score.organ) for score in first}
    theirs = {(score.case_id, score.organ) for score in second}
    wanted = "of the cases and organs of `{}`"
    cure = "Score both networks over the same cases with the same `labels`."
    for argument, other, odd in (
        ("first_scores", "second_scores", sorted(ours - theirs)),
        ("second_scores", "first_scores", sorted(theirs - ours)),
    ):
        require(not odd, argument, wanted.format(other), f"also {odd}", cure=cure)


def _row(
    organ: str, metric: MetricName, pairs: Sequence[tuple[CaseScore, CaseScore]], level: float, seed: int
) -> PairedRow:
    values = np.array([[getattr(score, metric) for score in pair] for pair in pairs], dtype=np.float64)
    values = values[~np.isnan(values).any(axis=1)]
    first, second = values[:, 0].tolist(), values[:, 1].tolist()
    # Two infinite distances are equal, as in the test: their difference would be NaN.
    differences = [one - other if one != other else 0.0 for one, other in zip(first, second, strict=True)]
    has_mean = not {math.inf, -math.inf} <= set(differences)
    low, high = mean_interval(differences, level=level, seed=seed) if has_mean else (math.nan, math.nan)
    return PairedRow(
        organ=organ,
        metric=metric,
        count=len(first),
        left_out=len(pairs) - len(first),
        first_failed=sum(one.status in {"missed", "false alarm"} for one, _ in pairs),
        second_failed=sum(other.status in {"missed", "false alarm"} for _, other in pairs),
        first_mean=float(np.mean(first)) if first else math.nan,
        second_mean=float(np.mean(second)) if first else math.nan,
        first_median=float(np.median(first)) if first else math.nan,
        second_median=float(np.median(second)) if first else math.nan,
        difference=float(np.mean(differences)) if first and has_mean else math.nan,
        low=low,
        high=high,
        p=paired_wilcoxon(first, second) if first else math.nan,
        p_holm=math.nan,
    )
