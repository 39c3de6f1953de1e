"""Scores as tables to read, and as a report."""

import math
from collections.abc import Sequence
from pathlib import Path

from guided_attention._checks import require_type
from guided_attention._files import PathLike, replacing
from guided_attention.evaluation.files import checked_target
from guided_attention.evaluation.scores import CaseScore
from guided_attention.evaluation.summary import (
    METRIC_NAMES,
    MetricSummary,
    OrganSummary,
    definitions,
    single_rows,
    summarize,
    summarize_metric,
    worst_cases,
)
from guided_attention.metrics import mean_interval
from guided_attention.metrics._inputs import as_records

__all__ = ["format_table", "write_report"]

_TITLES = {
    "dice": "Dice coefficient",
    "volume_similarity": "Volume similarity",
    "jaccard": "Jaccard index",
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "ravd_percent": "Relative absolute volume difference in per cent",
    "surface_dice": "Surface Dice",
    "assd_mm": "Mean surface distance in mm",
    "masd_mm": "Mean of the directed mean surface distances in mm",
    "hausdorff95_mm": "95th percentile of the surface distances in mm",
    "hausdorff_mm": "Largest surface distance in mm",
}


def format_table(summaries: Sequence[OrganSummary]) -> str:
    """Lay the summaries out as a table to read, which is Markdown too.

    Averages stand with their standard deviation and three decimals, the overlaps as fractions of 1 (the paper prints
    per cent), the distance in millimetres. A dash stands where there is no number. Where organs failed, the mean
    distance is infinite, and that of the scored ones follows in brackets.

    Args:
        summaries: The rows of `summarize`.

    Returns:
        The lines of the table, without a newline at the end.

    Raises:
        ArgumentTypeError: `summaries` is not a list of `OrganSummary`.

    Example:
        >>> scores = [CaseScore("7", "liver", "scored", 0.9, 0.95, 1.25, 1480.0, 1510.0)]
        >>> print(format_table(summarize(scores)))
        | organ |       DSC |        VS |    MSD mm | n | skipped | failed |
        |-------|----------:|----------:|----------:|--:|--------:|-------:|
        | liver | 0.900 ± – | 0.950 ± – | 1.250 ± – | 1 |       0 |      0 |
        | mean  | 0.900 ± – | 0.950 ± – | 1.250 ± – | 1 |       0 |      0 |
    """
    header = ["organ", "DSC", "VS", "MSD mm", "n", "skipped", "failed"]
    rows = as_records("summaries", summaries, OrganSummary)
    return _table(header, [_cells(summary) for summary in rows])


def write_report(
    path: PathLike,
    scores: Sequence[CaseScore],
    *,
    title: str = "Scores",
    worst: int = 5,
    level: float = 0.95,
) -> Path:
    """Write everything that a reader of the scores must know to one Markdown file, atomically.

    It says how the distances were measured, then has the table of `format_table`, one table for each metric that was
    measured, with medians and intervals, and the worst rows.

    Args:
        path: The file to write, in a folder that exists; an older one is replaced.
        scores: The rows of all cases together.
        title: First line of the report.
        worst: Number of the worst rows, by Dice, to list.
        level: That of the confidence intervals.

    Returns:
        The path.

    Raises:
        ArgumentError: A case has two rows for one organ, distances were measured by more than one definition, or `path`
            is a folder.
        ArgumentTypeError: An argument has the wrong type.
        MissingFileError: The folder does not exist.

    Example:
        >>> import tempfile
        >>> score = CaseScore("7", "liver", "scored", 0.9, 0.95, 1.25, 1480.0, 1510.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_report(Path(folder) / "report.md", [score])
        ...     print(path.read_text(encoding="utf-8").splitlines()[2])
        How distances were measured: surface: voxel; HD95 of both directions: max; organ in only one volume: inf.
    """
    target = checked_target(path)
    require_type("title", title, str, "a text")
    rows = single_rows(scores)
    measured = [
        metric for metric in METRIC_NAMES if any(not math.isnan(getattr(row, metric)) for row in rows)
    ]
    how = definitions(rows) or "there are no scores"
    parts = [f"# {title}", f"How distances were measured: {how}.", format_table(summarize(rows))]
    mean_interval([], level=level)  # raises for a level that makes no sense, without scores too
    for metric in measured:
        summaries = summarize_metric(rows, metric, level=level)
        parts += [f"## {_TITLES[metric]}", _metric_table(summaries, level)]
    parts += ["## Worst rows by Dice", _worst_table(worst_cases(rows, worst))]
    with replacing(target) as unfinished:
        unfinished.write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="backslashreplace")
    return target


def _metric_table(summaries: Sequence[MetricSummary], level: float) -> str:
    header = ["organ", "mean", "median", f"{100 * level:g} % interval", "n", "skipped", "failed"]
    rows = [
        [
            summary.organ,
            _plus_minus(summary.mean, summary.std),
            _number(summary.median),
            "–" if math.isnan(summary.low) else f"{_number(summary.low)} to {_number(summary.high)}",
            str(summary.count),
            str(summary.skipped),
            str(summary.failed),
        ]
        for summary in summaries
    ]
    return _table(header, rows)


def _worst_table(scores: Sequence[CaseScore]) -> str:
    header = ["organ", "case", "status", "DSC", "MSD mm", "HD95 mm"]
    rows = [
        [
            score.organ,
            score.case_id,
            score.status,
            *map(_number, (score.dice, score.assd_mm, score.hausdorff95_mm)),
        ]
        for score in scores
    ]
    return _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out as Markdown, the first column to the left and the others to the right."""
    whole = [header, *([_plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in whole) for column in range(len(header))]
    ruler = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    lines = [_line(row, widths) for row in whole]
    return "\n".join([lines[0], "|" + "|".join(ruler) + "|", *lines[1:]])


def _plain(cell: str) -> str:
    """Return a cell that does not break the table: names may hold anything."""
    return " ".join(cell.splitlines()).replace("|", "\\|")


def _cells(summary: OrganSummary) -> list[str]:
    distance = _plus_minus(summary.assd_mm_mean, summary.assd_mm_std)
    if summary.failed and math.isinf(summary.assd_mm_mean):
        distance = f"inf (scored {_number(summary.assd_mm_mean_scored)})"
    return [
        summary.organ,
        _plus_minus(summary.dice_mean, summary.dice_std),
        _plus_minus(summary.volume_similarity_mean, summary.volume_similarity_std),
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
