"""Two models side by side over the same cases, organ by organ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from guided_attention._checks import require, require_choice
from guided_attention.evaluation.scores import CaseScore
from guided_attention.evaluation.summary import (
    METRIC_NAMES,
    MetricName,
    require_one_definition,
    require_single_rows,
)
from guided_attention.metrics.statistics import holm, mean_interval, paired_wilcoxon

__all__ = ["PairedRow", "compare_models"]


@dataclass(frozen=True)
class PairedRow:
    """One organ as two models drew it, over the cases that both give a number for.

    Attributes:
        organ: The organ's name.
        metric: Which attribute of `CaseScore` was compared.
        count: How many pairs there are.
        left_out: How many cases have no number in one model or in both: absent in both volumes there.
        first_failed: In how many of all cases the first model missed the organ or drew it where there is none.
        second_failed: The same for the second model.
        first_mean: Mean of the first model over the pairs.
        second_mean: Mean of the second.
        first_median: Median of the first model over the pairs.
        second_median: Median of the second.
        difference: Mean of the differences, first minus second. Two infinite distances differ by 0; where each
            model has one that the other does not, there is no mean, and it is NaN.
        low: Lower end of the confidence interval of that mean, see `mean_interval`.
        high: Its upper end.
        p: Of Wilcoxon's signed-rank test, two-sided, see `paired_wilcoxon`; NaN without a pair.
        p_holm: The same, adjusted for the number of organs tested, see `holm`.

    Example:
        >>> first = [CaseScore("7", "liver", "scored", 0.75, 1.0, 1.0, 1500.0, 1500.0)]
        >>> second = [CaseScore("7", "liver", "scored", 0.5, 1.0, 1.0, 1500.0, 1500.0)]
        >>> compare_models(first, second)[0].difference
        0.25
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
    """Compare two models case by case: how large is the difference, and may it be chance?

    Rows are paired by case and organ. A pair in which one row holds no number (the organ is absent in both
    volumes) is left out and counted: where that is a false alarm of one model alone, it still stands among its
    failures.

    Args:
        first_scores: The rows of `evaluate_case` of one model, of all cases together.
        second_scores: Those of the other model, over the same cases and organs in any order.
        metric: Name of the attribute of `CaseScore`.
        level: Of the interval of the difference.
        seed: Of the interval's draws.

    Returns:
        One row for each organ, in the order of their first appearance among `first_scores`.

    Raises:
        ValueError: A case or organ is in one of the two alone or has two rows, there is no such metric, or
            distances were measured by more than one definition.

    Example:
        >>> def row(case, dice):
        ...     return CaseScore(case, "liver", "scored", dice, 1.0, 1.0, 1500.0, 1500.0)
        >>> cases = "abcdef"
        >>> liver = compare_models([row(c, 0.75) for c in cases], [row(c, 0.5) for c in cases])[0]
        >>> liver.count, liver.difference, (liver.low, liver.high), liver.p
        (6, 0.25, (0.25, 0.25), 0.03125)
    """
    require_choice("metric", metric, METRIC_NAMES)
    require_single_rows(first_scores, "first_scores")
    require_single_rows(second_scores, "second_scores")
    _require_same_cases(first_scores, second_scores)
    require_one_definition("first_scores and second_scores", [*first_scores, *second_scores], metric)
    others = {(score.case_id, score.organ): score for score in second_scores}
    organs = dict.fromkeys(score.organ for score in first_scores)
    rows = []
    for organ in organs:
        pairs = [(one, others[one.case_id, organ]) for one in first_scores if one.organ == organ]
        rows.append(_row(organ, metric, pairs, level, seed))
    adjusted = iter(holm([row.p for row in rows if row.count]))
    return [replace(row, p_holm=next(adjusted)) if row.count else row for row in rows]


def _require_same_cases(first: Sequence[CaseScore], second: Sequence[CaseScore]) -> None:
    ours = {(score.case_id, score.organ) for score in first}
    theirs = {(score.case_id, score.organ) for score in second}
    wanted = "of the cases and organs of `{}`"
    cure = "Score both models over the same cases with the same `labels`."
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
