"""The files of one run: written atomically, and enough to resume it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from guided_attention._checkpoints import load_checkpoint, load_weights, save_checkpoint
from guided_attention.errors import ExistingFileError
from guided_attention.training.log import read_log, write_log
from guided_attention.training.seeding import random_state, restore_random_state

__all__ = ["Counters", "RunFolder"]

_LOG, _LAST, _BEST = "log.csv", "last.pt", "best.pt"


@dataclass
class Counters:
    """How far a run has come: plain numbers, stored in ``last.pt``.

    Attributes:
        epoch: The current or last epoch, from 1; 0 before the first.
        batches: Batches of it that are done.
        best_epoch: Epoch of the best validation score, 0 before the first.
        best_score: That score, NaN where there is none.
        minutes: Minutes that the run has taken.
        validation_minutes: How long the latest validation took.
        scores: Epoch and score of each validation.
    """

    epoch: int = 0
    batches: int = 0
    best_epoch: int = 0
    best_score: float = math.nan
    minutes: float = 0.0
    validation_minutes: float = 0.0
    scores: list[tuple[int, float]] = field(default_factory=list)


class RunFolder:
    """``log.csv``, ``last.pt`` and ``best.pt`` of one run.

    Args:
        path: The folder.
        model: The network that is trained.
        averaged: Its averaged copy, if one is kept.
        optimizer: Of the network.
        loader: Of the training data; its own generator, if it has one, is stored too.
        metadata: Plain values for both checkpoints.
    """

    def __init__(
        self,
        path: Path,
        *,
        model: nn.Module,
        averaged: AveragedModel | None,
        optimizer: Optimizer,
        loader: DataLoader[tuple[Tensor, Tensor]],
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        self.path = path
        self._model = model
        self._averaged = averaged
        self._optimizer = optimizer
        self._loader = loader
        self._metadata = {} if metadata is None else {"metadata": dict(metadata)}
        self._rows: list[dict[str, float]] = []

    def require_free(self) -> None:
        """Raise where the folder already holds a run."""
        held = [name for name in (_LOG, _LAST, _BEST) if (self.path / name).exists()]
        if held:
            raise ExistingFileError(
                f"`run_dir` must be a folder without a run, got {self.path}, which holds {', '.join(held)}. "
                "Name another folder, or resume that run: fit(resume=True).",
                argument="run_dir",
                file=self.path,
            )

    def save_last(self, counters: Counters) -> None:
        """Write ``last.pt``: all that resuming needs, in plain tensors and numbers."""
        self.path.mkdir(parents=True, exist_ok=True)
        generator = self._loader.generator
        contents = {
            "model": self._model.state_dict(),
            "averaged": None if self._averaged is None else self._averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "run": asdict(counters),
            "random": random_state(),
            "loader": None if generator is None else generator.get_state(),
            **self._metadata,
        }
        save_checkpoint(self.path / _LAST, contents)

    def save_best(self, model: nn.Module, counters: Counters) -> None:
        """Write ``best.pt``: weights, epoch, score and metadata."""
        best = {"model": model.state_dict(), "epoch": counters.best_epoch, "score": counters.best_score}
        best |= self._metadata
        save_checkpoint(self.path / _BEST, best)

    def save_epoch(self, row: dict[str, float], counters: Counters) -> None:
        """Add a row to the log, then write ``last.pt``."""
        self._rows.append(row)
        write_log(self.path / _LOG, self._rows)
        self.save_last(counters)

    def resume(self) -> Counters:
        """Load weights, optimizer and random numbers from ``last.pt``; return its counters."""
        held = load_checkpoint(self.path / _LAST)
        load_weights(self._model, self.path / _LAST)
        self._optimizer.load_state_dict(held["optimizer"])
        if self._averaged is not None and held["averaged"] is not None:
            self._averaged.load_state_dict(held["averaged"])
        counters = Counters(**held["run"])
        # A crash between the two writings leaves a row that last.pt does not count: that epoch is repeated.
        self._rows = read_log(self.path / _LOG)[: counters.epoch] if counters.epoch > 0 else []
        restore_random_state(held["random"])
        if self._loader.generator is not None and held["loader"] is not None:
            self._loader.generator.set_state(held["loader"])
        return counters
