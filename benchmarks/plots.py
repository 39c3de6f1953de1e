"""Pictures of what was measured: time and memory against the side, both axes logarithmic."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.rows import NOT_RUN, TITLES

__all__ = ["draw", "lines_of", "picture_of", "read"]

_Points: TypeAlias = list[tuple[int, float]]

_NUMBERS = {"seconds": "seconds", "over_start_mb": "MB over the start"}
_TASKS = ("attention", "training", "evaluation")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results in a folder by the names of their files; other JSON files are left out."""
    files = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    }
    tables = {name: result for name, result in files.items() if "rows" in result and "sources" in result}
    # `benchmarks.preparation` has rows of its own form, which are on no page.
    return {name: result for name, result in tables.items() if all("task" in row for row in result["rows"])}


def picture_of(name: str) -> str:
    """Return the name of the picture of a file of results."""
    return f"benchmark-{name}.svg"


def draw(results: Path, images: Path) -> list[Path]:
    """Draw a picture for each file of results in which something was measured at two sides or more."""
    drawn = []
    for name, result in read(results).items():
        panels = {task: lines_of(result["rows"], task) for task in _TASKS}
        panels = {task: lines for task, lines in panels.items() if lines}
        if panels:
            images.mkdir(parents=True, exist_ok=True)
            _draw(panels, images / picture_of(name))
            drawn.append(images / picture_of(name))
    return drawn


def lines_of(rows: Iterable[Mapping[str, Any]], task: str) -> dict[str, dict[str, _Points]]:
    """Return, of each entry, its points for each number. Points of different batches or precisions are not joined."""
    lines: dict[str, dict[str, _Points]] = {}
    for row in sorted(rows, key=lambda row: row.get("side", 0)):
        if row["task"] != task or "ratios" not in row or "side" not in row:
            continue
        for entry, numbers in row["measured"].items():
            if NOT_RUN not in numbers:
                precision = f", {row['precision']}" if "precision" in row else ""
                title = f"{TITLES[entry]}, batch {row['batch']}{precision}"
                points = lines.setdefault(title, {number: [] for number in _NUMBERS})
                for number, values in points.items():
                    values.append((row["side"], numbers[number]))
    return {title: points for title, points in lines.items() if len(points["seconds"]) > 1}


def _draw(panels: Mapping[str, Mapping[str, Mapping[str, _Points]]], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - drawing alone needs it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    # The same numbers give the same file.
    with mpl.rc_context({"svg.hashsalt": "benchmarks", "font.size": 9}):
        size = (9, 3.6 * len(panels))
        figure, axes = plt.subplots(len(panels), len(_NUMBERS), figsize=size, squeeze=False)
        for row, (task, lines) in zip(axes, panels.items(), strict=True):
            for axis, (number, label) in zip(row, _NUMBERS.items(), strict=True):
                for title, points in lines.items():
                    axis.loglog(*zip(*points[number], strict=True), "o-", label=title)
                _label(
                    axis, task, label, sorted({side for line in lines.values() for side, _ in line[number]})
                )
            row[0].legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _label(axis: Any, task: str, label: str, sides: list[int]) -> None:  # noqa: ANN401 - matplotlib has no types
    axis.set(title=task, xlabel="side", ylabel=label)
    axis.set_xticks(sides, labels=[str(side) for side in sides])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
