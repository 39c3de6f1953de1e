"""The paper's tables as text: ours, and what the paper prints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from paper_figures import MEASURES, PAPER, Figure
from paper_networks import NOTES, TABLES
from paper_setup import as_csv, write_whole

TITLES = {
    1: "Table I: kinds of attention",
    2: "Table II: steps and parts (2 steps where no number stands)",
    3: "Table III: other networks",
}
EXPLAINED = """\
"ours": mean ± standard deviation over the test subjects. DSC and VS in per cent; MSD in voxels, as the paper has it (in
millimetres it stands in the scores.csv of each run). An organ missed, or found where there is none, has DSC 0, VS 0 and
an infinite distance; "found" is then the mean without such organs. "interval": 95 % of the mean, by bootstrap over
subjects. "p": paired Wilcoxon test against MS-Dual-Guided over the test subjects, adjusted by Holm over all p-values of
a table. "paper, CHAOS": printed in the paper, for CHAOS and for folds that were never published; not shown beside NIfTI
data."""


def write_tables(
    out: Path,
    found: Sequence[Figure],
    not_run: Mapping[str, str],
    *,
    tables: Sequence[int],
    counts: Mapping[str, int | str],
    about: str,
) -> None:
    """Print the tables, and write them as tables.md and tables.csv."""
    head = ["# The paper's tables from our runs", about, EXPLAINED]
    texts = [format_table(table, [f for f in found if f.table == table], not_run) for table in tables]
    text = "\n\n".join([*head, *texts, format_parameters(counts)])
    print(text)
    write_whole(out / "tables.md", text + "\n")
    write_whole(out / "tables.csv", as_csv([{**asdict(figure), "about": about} for figure in found]))


def lines_of(figure: Figure) -> dict[str, str]:
    """Write what stands below one another for a network in one column; "" where there is nothing."""
    std = "" if math.isnan(figure.std) else f" ± {figure.std:.2f}"
    some_found = math.isinf(figure.mean) and not math.isnan(figure.mean_found)
    found = f" (found {figure.mean_found:.2f})" if some_found else ""
    return {
        "ours": f"{figure.mean:.2f}{std}{found}" if figure.subjects else "–",
        "interval": "" if math.isnan(figure.low) else f"{figure.low:.2f} to {figure.high:.2f}",
        "p": "" if math.isnan(figure.p_holm) else f"{figure.p_holm:.2g}",
        "paper, CHAOS": figure.paper,
    }


def format_table(table: int, found: Sequence[Figure], not_run: Mapping[str, str]) -> str:
    """Lay one table out as text, which is Markdown too."""
    parts = [f"## {TITLES[table]}"]
    organs = list(dict.fromkeys(figure.organ for figure in found))
    blocks = [[measure] for measure in MEASURES] if len(organs) > 1 else [list(MEASURES)]
    for measures in blocks if found else []:
        columns = [(measure, organ) for measure in measures for organ in organs]
        rows = [["network", "", *map(" ".join, columns)]]
        for name in dict.fromkeys(figure.network for figure in found):
            cells = {
                (figure.measure, figure.organ): lines_of(figure) for figure in found if figure.network == name
            }
            for kind in ("ours", "interval", "p", "paper, CHAOS"):
                texts = [cells[column][kind] for column in columns]
                rows += [[name if kind == "ours" else "", kind, *texts]] if any(texts) else []
        parts.append(aligned(rows))
    parts += [f"{name}: not run. {not_run[name]}" for name in TABLES[table] if name in not_run]
    return "\n\n".join(parts)


def format_parameters(counts: Mapping[str, int | str]) -> str:
    """Lay out the numbers of parameters, Table VIII, beside those that the paper prints."""
    rows = [["network", "here", "paper", ""]]
    for name, count in counts.items():
        here = f"{count:,}" if isinstance(count, int) else "not built"
        remark = NOTES.get(name, "") if isinstance(count, int) else count
        rows.append([name, here, f"{int(PAPER[name, 'parameters']['mean']):,}", remark])
    return "## Table VIII: parameters of the full-size networks, 1 channel and 5 classes\n\n" + aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns stand below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    ruler = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], ruler, *lines[1:]])
