"""A logger that draws the learning curves of a run while it trains."""

import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from guided_attention.figures import save_training_curves
from guided_attention.training import read_log
from guided_attention.training.run_folder import LOG

__all__ = ["Curves"]

_FILE = "curves.png"
_REST = 20.0
"""Drawing waits for so many times the time that it took, so that it costs at most 5 % of short epochs."""


class Curves:
    """Draws ``curves.png`` in a run folder after epochs and at the end; without matplotlib it does nothing.

    Where epochs are short, some are skipped: see `_REST`.

    Args:
        run_dir: The folder; rows of a run that is resumed are read from its log.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / _FILE
        log = run_dir / LOG
        self._rows = {row["epoch"]: row for row in (read_log(log) if log.is_file() else [])}
        self._is_possible = find_spec("matplotlib") is not None
        self.about = _FILE if self._is_possible else "none: matplotlib is not installed"
        self._is_new, self._next = False, 0.0

    def log(self, row: Mapping[str, float]) -> None:
        """Take a row, and draw the curves with it."""
        epoch = row["epoch"]
        self._rows = {one: old for one, old in self._rows.items() if one < epoch} | {epoch: dict(row)}
        self._is_new = True
        if time.monotonic() >= self._next:
            self._draw()

    def close(self) -> None:
        """Draw the rows since the last picture."""
        if self._is_new:
            self._draw()

    def _draw(self) -> None:
        started = time.monotonic()
        if self._is_possible:
            save_training_curves(self._path, list(self._rows.values()))
        self._is_new, ended = False, time.monotonic()
        self._next = ended + _REST * (ended - started)
