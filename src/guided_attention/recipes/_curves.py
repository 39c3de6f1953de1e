"""A logger that draws the learning curves anew after each epoch."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from guided_attention.figures import save_training_curves
from guided_attention.training import read_log

__all__ = ["Curves"]

_LOG, _FILE = "log.csv", "curves.png"


class Curves:
    """Draws ``curves.png`` in a run folder; without matplotlib it does nothing.

    Args:
        run_dir: The folder; rows of a run that is resumed are read from its log.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / _FILE
        log = run_dir / _LOG
        self._rows = {row["epoch"]: row for row in (read_log(log) if log.is_file() else [])}
        self._is_possible = find_spec("matplotlib") is not None
        self.about = _FILE if self._is_possible else "none: matplotlib is not installed"

    def log(self, row: Mapping[str, float]) -> None:
        """Draw the curves with this row."""
        epoch = row["epoch"]
        self._rows = {one: old for one, old in self._rows.items() if one < epoch} | {epoch: dict(row)}
        if self._is_possible:
            save_training_curves(self._path, list(self._rows.values()))

    def close(self) -> None:
        """Nothing is open."""
