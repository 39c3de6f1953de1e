"""The training log: a table of numbers, one row an epoch."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from guided_attention._checks import require_path
from guided_attention._files import PathLike, replacing
from guided_attention.errors import MissingFileError

__all__ = ["read_log", "write_log"]


def write_log(path: PathLike, rows: Sequence[Mapping[str, float]]) -> None:
    """Write a table of numbers as CSV; a crash leaves the old table or the new one, never half a row.

    The columns are the names of all rows in the order in which they first come up; a row without one of them
    leaves its cell empty.

    Args:
        path: The file to write; its folder must exist. An existing file is replaced.
        rows: Numbers by name.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "log.csv"
        >>> write_log(path, [{"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, "loss": 0.25}])
        >>> path.read_text().split()
        ['epoch,loss', '1,0.5', '2,0.25']
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def read_log(path: PathLike) -> list[dict[str, float]]:
    """Read the rows that `write_log` wrote, empty cells left out.

    Args:
        path: ``log.csv`` of a run.

    Returns:
        One row an epoch: numbers by name of the column. `Trainer` writes ``epoch``, ``batches``, ``minutes``
        (since the start of the run), ``lr``, then the means over the epoch ``loss`` and ``loss_<name>`` of
        each part, and ``validation_score`` where there was a validation.

    Raises:
        MissingFileError: There is no such file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "log.csv"
        >>> write_log(path, [{"epoch": 1.0, "loss": 0.5}])
        >>> read_log(path)
        [{'epoch': 1.0, 'loss': 0.5}]
    """
    file = require_path("path", path)
    if not file.is_file():
        message = f"`path` must be the log of a run, got {path}, which is no file."
        raise MissingFileError(message, argument="path", file=file)
    with file.open(newline="", encoding="utf-8") as table:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(table)]


def _cell(value: float) -> str:
    """Write every digit that it takes to read the same number back, and whole numbers as such."""
    return repr(float(value)).removesuffix(".0")
