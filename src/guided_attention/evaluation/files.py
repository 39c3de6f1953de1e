"""Scores in files: CSV and JSON, written and read."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from guided_attention._checks import require, require_choice
from guided_attention._files import replacing
from guided_attention.evaluation.scores import CaseScore

__all__ = ["read_scores", "write_scores_csv", "write_scores_json"]


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
        7,liver,scored,0.9,0.95,1.25,1480.0,1510.0,nan,nan,nan,nan,nan,nan,nan,nan,voxel,max,nan,inf
    """
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(CaseScore)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(score) for score in scores)


def write_scores_json(scores: Sequence[CaseScore], path: Path) -> None:
    """Write the rows to a JSON file that every program can read.

    JSON has no NaN and no infinity: ``null`` stands for NaN, and the text ``"inf"`` for an infinite value. The
    file holds one object whose ``scores`` is a list of rows, each with the attributes of `CaseScore`. An older
    file of that name stays whole until the new one is complete, then is replaced.

    Args:
        scores: The rows of `evaluate_case`.
        path: The file to write, in a folder that exists.

    Raises:
        FileNotFoundError: The folder does not exist.

    Example:
        >>> import tempfile
        >>> score = CaseScore("7", "liver", "missed", 0.0, 0.0, float("inf"), 0.0, 1510.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_scores_json([score], Path(folder) / "scores.json")
        ...     read_scores(Path(folder) / "scores.json") == [score]
        True
    """
    rows = [{name: _strict(value) for name, value in asdict(score).items()} for score in scores]
    with replacing(path) as unfinished:
        text = json.dumps({"scores": rows}, allow_nan=False, ensure_ascii=False, indent=1)
        unfinished.write_text(text + "\n", encoding="utf-8")


def read_scores(path: Path) -> list[CaseScore]:
    """Read the rows that `write_scores_csv` or `write_scores_json` wrote, with all their digits.

    A file of an earlier version, without the newer columns, gives rows that hold NaN there.

    Args:
        path: A file whose name ends in ``.csv`` or ``.json``.

    Returns:
        The rows, equal to those that were written.

    Raises:
        ValueError: The name ends in something else, or a row lacks a column or has one that `CaseScore` does
            not know.

    Example:
        >>> import tempfile
        >>> score = CaseScore("7", "liver", "scored", 0.9, 0.95, 1.25, 1480.0, 1510.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_scores_csv([score], Path(folder) / "scores.csv")
        ...     read_scores(Path(folder) / "scores.csv") == [score]
        True
    """
    require_choice("path.suffix", path.suffix, (".csv", ".json"))
    if path.suffix == ".json":
        return [_row(row) for row in json.loads(path.read_text(encoding="utf-8"))["scores"]]
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(row) for row in csv.DictReader(file)]


def _strict(value: str | float) -> str | float | None:
    """Return what JSON has for a value."""
    if isinstance(value, str) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _row(row: Mapping[str, Any]) -> CaseScore:
    """Make a row of what a file holds: texts from CSV; from JSON, null for NaN."""
    kinds = {field.name: field.type for field in fields(CaseScore)}
    unknown = [str(name) for name in row if name not in kinds]
    require(not unknown, "path", "a file of the columns of `CaseScore`", f"also {unknown}")
    missing = [name for name in list(kinds)[:8] if name not in row]
    require(not missing, "path", "a file with the first 8 columns of `CaseScore`", f"none for {missing}")
    values: dict[str, Any] = {
        name: (math.nan if value is None else float(value)) if kinds[name] is float else value
        for name, value in row.items()
    }
    return CaseScore(**values)
