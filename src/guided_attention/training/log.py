"""The training log: a table of numbers, one row an epoch, and where else its rows go."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from guided_attention._checks import needs_extra, require_path
from guided_attention._files import PathLike, made_folder, replacing
from guided_attention.errors import MissingFileError

__all__ = ["Logger", "TensorBoardLogger", "read_log", "write_log"]


@runtime_checkable
class Logger(Protocol):
    """Something that is told each row of the log.

    Example:
        >>> class Printer:
        ...     def log(self, row):
        ...         print(f"epoch {row['epoch']:.0f}: loss {row['loss']:.2f}")
        ...
        ...     def close(self):
        ...         pass
        >>> isinstance(Printer(), Logger)
        True
        >>> Printer().log({"epoch": 1.0, "loss": 0.5})
        epoch 1: loss 0.50
    """

    def log(self, row: Mapping[str, float]) -> None:
        """Take a row of the log: numbers by name, see `read_log`. Called once an epoch."""
        ...

    def close(self) -> None:
        """Finish writing. Called when `Trainer.fit` ends, however it ends."""
        ...


class TensorBoardLogger:
    """Writes each number of the log as a curve for TensorBoard, over the epochs.

    Args:
        folder: Folder to write to, created if it is missing.

    Raises:
        MissingPackageError: TensorBoard is not installed.

    Example:
        >>> import tempfile
        >>> logger = TensorBoardLogger(tempfile.mkdtemp())
        >>> logger.log({"epoch": 1.0, "loss": 0.5})
        >>> logger.close()
    """

    def __init__(self, folder: PathLike) -> None:
        with needs_extra("tensorboard"):
            from torch.utils.tensorboard.writer import SummaryWriter  # noqa: PLC0415
        self._writer = SummaryWriter(made_folder(folder))

    def log(self, row: Mapping[str, float]) -> None:
        """Write the numbers of one epoch."""
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))

    def close(self) -> None:
        """Write what is not written yet."""
        self._writer.close()


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
        (since the start of the run), ``lr``, ``waiting`` (share of the training of the epoch that went into waiting
        for data), then the means over the epoch ``loss`` and ``loss_<name>`` of
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
