"""Scores in files: CSV and JSON, written and read.

The columns of a CSV file, and the keys of a row in a JSON file, are the attributes of `CaseScore` and, in place of
`definition`, its four: ``surface``, ``combine``, ``tolerance_mm``, ``one_empty``.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from guided_attention._checks import require, require_known_keys, require_path
from guided_attention._files import PathLike, replacing
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError, MissingFileError
from guided_attention.evaluation.scores import CaseScore
from guided_attention.metrics import DistanceDefinition
from guided_attention.metrics._inputs import as_records

__all__ = ["checked_target", "read_scores", "write_scores_csv", "write_scores_json"]

_OF_ROW = [field.name for field in fields(CaseScore) if field.name != "definition"]
_OF_DEFINITION = [field.name for field in fields(DistanceDefinition)]
_COLUMNS = [*_OF_ROW, *_OF_DEFINITION]
_NEEDED = _OF_ROW[:8]
_NUMBERS = {field.name for field in fields(CaseScore) if field.type is float}
_TEXTS = ("case_id", "organ")
_FORMULA = tuple("=+-@\t\r'")
"""A spreadsheet takes a cell that begins so for a formula, unless an apostrophe stands before it."""


def write_scores_csv(path: PathLike, scores: Sequence[CaseScore]) -> Path:
    """Write the rows to a comma-separated file for a spreadsheet or a statistics program.

    Numbers keep all their digits; ``nan`` and ``inf`` stand where they stand in the rows, and the definition's cells
    are empty where distances were not measured. A name that a spreadsheet would take for a formula (``=1+1``) gets an
    apostrophe in front, which `read_scores` takes away. The file is written atomically.

    Args:
        path: The file to write, in a folder that exists; an older one is replaced.
        scores: The rows.

    Returns:
        The path.

    Raises:
        ArgumentError: `path` is a folder.
        ArgumentTypeError: An argument has the wrong type.
        DataError: A name cannot be written as UTF-8.
        MissingFileError: The folder does not exist.

    Example:
        >>> import tempfile
        >>> score = CaseScore("7", "liver", "scored", 0.9, 0.95, 1.25, 1480.0, 1510.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_scores_csv(Path(folder) / "scores.csv", [score])
        ...     print(path.read_text(encoding="utf-8").splitlines()[1])
        7,liver,scored,0.9,0.95,1.25,1480.0,1510.0,nan,nan,nan,nan,nan,nan,nan,nan,voxel,max,nan,inf
    """
    target, rows = checked_target(path), [_flat(score) for score in as_records("scores", scores, CaseScore)]
    for row in rows:
        row.update({name: _quoted(row[name]) for name in _TEXTS})
        row["tolerance_mm"] = math.nan if row["tolerance_mm"] is None else row["tolerance_mm"]
    # A carriage return in a name would end the row; Python quotes it by itself only from version 3.13 on.
    returns = any("\r" in row[name] for row in rows for name in _TEXTS)
    quoting: Literal[0, 1] = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    with replacing(target) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n", quoting=quoting)
        writer.writeheader()
        writer.writerows(rows)
    return target


def write_scores_json(path: PathLike, scores: Sequence[CaseScore]) -> Path:
    """Write the rows to a JSON file that every program can read.

    JSON has no NaN and no infinity: ``null`` stands for NaN, and the text ``"inf"`` for an infinite value. The file
    holds one object whose ``scores`` is the list of rows. Arguments, return value and errors: see `write_scores_csv`.

    Example:
        >>> import tempfile
        >>> score = CaseScore("7", "liver", "missed", 0.0, 0.0, float("inf"), 0.0, 1510.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     read_scores(write_scores_json(Path(folder) / "scores.json", [score])) == [score]
        True
    """
    target, flat = checked_target(path), [_flat(score) for score in as_records("scores", scores, CaseScore)]
    rows = [{name: _strict(value) for name, value in row.items()} for row in flat]
    with replacing(target) as unfinished:
        text = json.dumps({"scores": rows}, allow_nan=False, ensure_ascii=False, indent=1)
        unfinished.write_text(text + "\n", encoding="utf-8")
    return target


def read_scores(path: PathLike) -> list[CaseScore]:
    """Read the rows that `write_scores_csv` or `write_scores_json` wrote, with all their digits.

    Columns that a file of an earlier version lacks get the defaults of `CaseScore` and `DistanceDefinition`.

    Args:
        path: A file whose name ends in ``.csv`` or ``.json``.

    Returns:
        The rows, equal to those that were written.

    Raises:
        ArgumentError: The name ends in something else.
        ArgumentTypeError: `path` is no path.
        DataError: The file is damaged, or a row lacks a column or has one that `CaseScore` does not know.
        MissingFileError: There is no such file.

    Example:
        >>> import tempfile
        >>> score = CaseScore("7", "liver", "scored", 0.9, 0.95, 1.25, 1480.0, 1510.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     read_scores(write_scores_csv(Path(folder) / "scores.csv", [score])) == [score]
        True
    """
    source = _path(path)
    known = source.suffix in {".csv", ".json"}
    require(known, "path.suffix", "one of '.csv', '.json'", repr(source.suffix), file=source)
    if not source.is_file():
        message = f"`path` must be a file of scores, got {source}, which is no file. Check the name."
        raise MissingFileError(message, argument="path", file=source)
    try:
        rows = _json_rows(source) if source.suffix == ".json" else _csv_rows(source)
    except OSError as error:
        message = f"`path` must be a file that you may read, got {source}: {error.strerror}."
        raise DataError(f"{message} Change its permissions.", argument="path", file=source) from error
    return [_row(row, source) for row in rows]


def checked_target(path: PathLike) -> Path:
    """Return the path of a file to write."""
    target = _path(path)
    require(not target.is_dir(), "path", "the name of a file", f"the folder {target}", file=target)
    return target


def _path(path: object) -> Path:
    named = require_path("path", path)
    require("\0" not in str(named), "path", "a path without null characters", repr(str(named)))
    return named


def _flat(score: CaseScore) -> dict[str, Any]:
    """Return the cells of a row."""
    row = {name: getattr(score, name) for name in _OF_ROW}
    for name in _TEXTS:
        good = not any("\ud800" <= letter <= "\udfff" for letter in row[name])
        require(good, f"scores.{name}", "text that UTF-8 can hold", repr(row[name]), error=DataError)
    empty = dict.fromkeys(_OF_DEFINITION)
    if score.definition is None:
        return row | empty
    return row | {name: getattr(score.definition, name) for name in _OF_DEFINITION}


def _quoted(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _unquoted(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _strict(value: str | float | None) -> str | float | None:
    """Return what JSON has for a value."""
    if value is None or isinstance(value, str) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(float(value))


def _json_rows(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "JSON", str(error)) from error
    rows = content.get("scores") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _damaged(path, 'an object with a list "scores" of objects', "something else")
    return rows


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (ValueError, csv.Error) as error:
        raise _damaged(path, "comma-separated text", str(error)) from error
    for row in rows:
        if None in row or None in row.values():
            raise _damaged(path, "as many cells in each row as in the first", f"{list(row.values())}")
        row.update({name: _unquoted(row[name]) for name in _TEXTS if name in row})
    return list(rows)


def _damaged(path: Path, wanted: str, got: str) -> DataError:
    message = f"`path` must be a whole file of scores ({wanted}), got {path}: {got}. Write it again."
    return DataError(message, argument="path", file=path)


def _row(row: Mapping[str, Any], path: Path) -> CaseScore:
    """Return the record of what a file holds: texts from CSV; from JSON, null for NaN."""
    require_known_keys("path", row, _COLUMNS, file=path)
    missing = [name for name in _NEEDED if name not in row]
    wanted = "a file with the first 8 columns of `CaseScore`"
    require(not missing, "path", wanted, f"none for {missing}", error=DataError, file=path)
    try:
        values: dict[str, Any] = {name: row[name] for name in _OF_ROW if name in row}
        values |= {name: _number(value) for name, value in values.items() if name in _NUMBERS}
        return CaseScore(**values, definition=_definition(row))
    except (ArgumentError, ArgumentTypeError, ValueError, TypeError) as error:
        raise _damaged(path, "columns of `CaseScore`", f"{error} in {dict(row)}") from error


def _definition(row: Mapping[str, Any]) -> DistanceDefinition | None:
    values = {name: row[name] for name in _OF_DEFINITION if name in row}
    if values and values.get("surface", "voxel") in {"", None}:
        return None
    tolerance_mm = _number(values.pop("tolerance_mm", None))
    return DistanceDefinition(**values, tolerance_mm=None if math.isnan(tolerance_mm) else tolerance_mm)


def _number(value: object) -> float:
    return math.nan if value is None else float(value)  # type: ignore[arg-type]  # what it refuses is caught
