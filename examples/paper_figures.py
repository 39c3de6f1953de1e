"""What the scores of our runs come to: means, their intervals, tests, and the paper's figures for the same."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guided_attention.metrics import holm, mean_interval, paired_wilcoxon
from paper_networks import PROPOSED, TABLES

Row = Mapping[str, str]
"""A line of scores.csv: one organ of one test subject."""

MEASURES = {"DSC": ("dice", 100.0), "VS": ("volume_similarity", 100.0), "MSD": ("assd_voxels", 1.0)}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean over subjects: one cell of a table, and one line of tables.csv."""

    table: int
    network: str
    measure: str
    organ: str
    subjects: int
    failed: int  # organs missed or falsely found
    mean: float
    std: float
    low: float
    high: float
    mean_found: float
    p_holm: float
    paper: str


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file: its lines by column."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


_PRINTED = read_rows(Path(__file__).with_name("paper_numbers.csv"))
PAPER = {(row["network"], row["measure"]): row for row in _PRINTED}


def by_subject(rows: Iterable[Row], measure: str, organ: str) -> dict[str, float]:
    """Return the value of each subject: of one organ, or the ``mean`` over those that it has."""
    column, factor = MEASURES[measure]
    values: dict[str, list[float]] = {}
    for row in rows:
        if organ in ("mean", row["organ"]) and row["status"] != "absent in both":
            values.setdefault(row["case_id"], []).append(factor * float(row[column]))
    return {subject: float(np.mean(numbers)) for subject, numbers in values.items()}


def p_values(table: int, scores: Mapping[str, Sequence[Row]]) -> dict[tuple[str, str], float]:
    """Test every network of a table against the proposed one, and adjust for the number of tests."""
    found: dict[tuple[str, str], float] = {}
    for name in (name for name in TABLES[table] if name in scores and name != PROPOSED):
        for measure in MEASURES:
            ours, other = (by_subject(scores.get(key, ()), measure, "mean") for key in (PROPOSED, name))
            if both := sorted(ours.keys() & other.keys()):
                found[name, measure] = paired_wilcoxon([ours[s] for s in both], [other[s] for s in both])
    return dict(zip(found, holm(list(found.values())), strict=True))


def figures(
    table: int, scores: Mapping[str, Sequence[Row]], organs: Sequence[str], *, is_chaos: bool
) -> list[Figure]:
    """Sum up the networks of a table that were run; the paper's figures stand beside those of CHAOS alone."""
    p_holm = p_values(table, scores)
    columns = ["mean"] if table == 2 else [*organs, "mean"]  # noqa: PLR2004
    return [
        Figure(
            table=table,
            network=name,
            measure=measure,
            organ=organ,
            p_holm=p_holm.get((name, measure), math.nan) if organ == "mean" else math.nan,
            paper=PAPER[name, measure][organ] if is_chaos else "",
            **sums(scores[name], measure, organ),
        )
        for name in TABLES[table]
        if name in scores
        for measure in MEASURES
        for organ in columns
    ]


def sums(rows: Sequence[Row], measure: str, organ: str) -> dict[str, Any]:
    """Return mean, spread and interval over the subjects."""
    values = list(by_subject(rows, measure, organ).values())
    found = by_subject((row for row in rows if row["status"] == "scored"), measure, organ)
    failed = [
        row for row in rows if organ in ("mean", row["organ"]) and row["status"] in ("missed", "false alarm")
    ]
    low, high = mean_interval(values)
    spread = len(values) > 1 and math.isfinite(sum(values))
    return {
        "subjects": len(values),
        "failed": len(failed),
        "mean": mean(values),
        "std": float(np.std(values, ddof=1)) if spread else math.nan,
        "low": low,
        "high": high,
        "mean_found": mean(list(found.values())),
    }


def mean(values: Sequence[float]) -> float:
    """Return the mean, NaN of nothing."""
    return float(np.mean(values)) if values else math.nan
