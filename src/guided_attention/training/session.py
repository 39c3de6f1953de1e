"""What surrounds the loop: folder, lock, signals and reports; how a run begins, is stored and is resumed."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import torch
from torch import Tensor

from guided_attention._checks import require
from guided_attention._distributed import (
    by_first,
    copy_from_first,
    from_first,
    numbers_of_all,
    rank,
    world_size,
)
from guided_attention._files import made_folder
from guided_attention._locks import locked_folder
from guided_attention.errors import ArgumentError, ProcessLostError, TrainingInterrupted
from guided_attention.training.batches import Batch
from guided_attention.training.config import TrainerConfig
from guided_attention.training.descriptions import changed_settings
from guided_attention.training.progress import Event, Progress, Status
from guided_attention.training.provenance import amend_session, changed_metadata, record_session
from guided_attention.training.run_folder import BEST, RunFolder, require_no_run, size_of
from guided_attention.training.seeding import seed_everything
from guided_attention.training.signals import Interruption
from guided_attention.training.state import Parts, RunState, require_entries

__all__ = ["Session"]

_MUCH, _LONG = 0.03, 2.0
"""Share of an epoch, and seconds, of waiting for data that are worth a word."""
_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*(killed by signal|exited unexpectedly)")
"""What torch says of a process that is gone, and of no error within one."""


class Session:
    """One run between the call of `Trainer.fit` and its end.

    Args:
        folder: The files of the run.
        parts: What has a state that is stored.
        config: The settings.
        batches: Batches of an epoch, None where that is not known.
        metadata: What is written into each checkpoint.
    """

    def __init__(
        self,
        folder: RunFolder,
        parts: Parts,
        config: TrainerConfig,
        *,
        batches: int | None,
        metadata: Mapping[str, object],
    ) -> None:
        self.run = RunState()
        self.parts = parts
        self.interruption = Interruption(folder.path)
        self._folder = folder
        self._config = config
        self._batches = batches
        self._metadata = metadata
        self._settings = config.settings() | {
            "batches": batches,
            "validate": _scale(parts.sources["validate"]),
        }
        self._started = self._stored = config.clock()
        self._reporter = Progress(epochs=config.max_epochs, batches=batches, quiet=True)
        self._advised = False
        self._noted: tuple[dict[str, Tensor], dict[str, Any], RunState] | None = None

    @contextmanager
    def opened(self, *, resume: bool, take_over: bool) -> Iterator[None]:
        """Lock the folder, catch signals and report for the block, which begins or resumes the run."""
        folder, config = self._folder, self._config
        self.parts.require_readable(self._settings)
        if resume:
            by_first(folder.require_state)
        with ExitStack() as stack:
            for logger in config.loggers if rank() == 0 else ():
                stack.callback(logger.close)
            dead = by_first(lambda: self._locked(stack, take_over=take_over))
            reporter = Progress(
                epochs=config.max_epochs, batches=self._batches, quiet=config.quiet, clock=config.clock
            )
            self._reporter = stack.enter_context(closing(reporter))
            if dead:
                reporter.say(dead)
            self.interruption = stack.enter_context(Interruption(folder.path))
            try:
                if resume:
                    self._resume()
                else:
                    self._begin()
                yield
            except ProcessLostError as error:
                self._store_noted()
                reporter.say(f"{error} The state is stored in {folder.path}. Resume from there.")
                raise TrainingInterrupted(folder.path) from error
            except TrainingInterrupted:
                reporter.say(
                    f"{self.interruption.name}: the state is stored in {folder.path}. Resume the run from there."
                )
                raise
            except RuntimeError as error:
                # The signal went to the workers too, and one of them has ended before the step.
                if self.interruption.name is not None and "DataLoader worker" in str(error):
                    raise TrainingInterrupted(folder.path) from error
                _require_workers(error)
                raise

    def _locked(self, stack: ExitStack, *, take_over: bool) -> str:
        made_folder(self._folder.path, "run_dir")
        doing = "training in"
        lock = locked_folder(self._folder.path, argument="run_dir", doing=doing, take_over=take_over)
        return stack.enter_context(lock)

    def store(self) -> None:
        """Write the state to ``last.pt``."""
        self.run.minutes = self.minutes()
        by_first(self._save)
        self._stored = self._now()

    def store_if_due(self) -> None:
        """Store the state after a signal, which ends the run, and after a while."""
        # One that comes after this counts at the next step: all processes must store together.
        stops = self.interruption.share()
        if stops or self.minutes_since_stored() >= self._config.store_minutes:
            self.store()
            self.interruption.check()

    def check(self) -> None:
        """Raise if there was a signal to one of the processes."""
        self.interruption.share()
        self.interruption.check()

    def begin_epoch(self) -> None:
        """Count the next epoch, with the same random numbers on all processes: its order depends on them."""
        self.run.begin_epoch()
        if world_size() > 1:
            self.parts.restore_random_states(from_first(self.parts.random_states()))
        self.parts.epoch_start = self.parts.random_states()
        self.note_step()

    def note_step(self) -> None:
        """Note what the next step changes before it is complete: the first process stores it if another is lost."""
        if world_size() > 1 and rank() == 0:
            buffers = {name: buffer.clone() for name, buffer in self.parts.buffers().items()}
            self._noted = buffers, self.parts.random_states(), self.run.copy()

    def forget_step(self) -> None:
        """Note nothing: what follows is repeated by a resume from the state that is stored."""
        self._noted = None

    def _store_noted(self) -> None:
        if self._noted is None:
            return
        buffers, random, self.run = self._noted
        for name, buffer in self.parts.buffers().items():
            buffer.copy_(buffers[name])
        self.parts.restore_random_states(random)
        self.store()

    def _save(self) -> None:
        self._folder.save_last(self.parts.snapshot(self.run, self._settings) | dict(self._metadata))

    def _now(self) -> float:
        """Return the seconds of the first process: what depends on the time is decided by all alike."""
        return numbers_of_all([self._config.clock()])[0][0]

    def tell(self, event: Event, score: float | None = None) -> None:
        """Report, and call the hooks."""
        run, rate = self.run, float(self.parts.optimizer.param_groups[0]["lr"])
        status = Status(
            epoch=run.epoch,
            batch=run.batches,
            share=self.share(),
            learning_rate=rate,
            losses=run.means(),
            score=score,
            best_score=run.best_score,
        )
        if event == "step":
            self._reporter.batch(status)
        elif event == "epoch":
            self._reporter.epoch(status)
        for hook in self._config.hooks if rank() == 0 else ():
            hook(event, status)

    def timed(self, groups: Callable[[], Iterator[list[Batch]]]) -> Iterator[list[Batch]]:
        """Yield the groups, and measure how long each was waited for and how long its step took."""
        run, clock, began = self.run, self._config.clock, self._config.clock()
        for group in groups():
            run.waited += clock() - began
            try:
                yield group
            finally:
                now = clock()
                run.seconds += now - began
                began = now

    def advise(self) -> None:
        """Say once what could be faster."""
        run = self.run
        if self._advised or self._config.quiet or run.waiting < _MUCH or run.waited < _LONG:
            return
        self._advised = True
        share = f"{100 * run.waiting:.0f} % of epoch {run.epoch} went into waiting for data."
        self._reporter.say(f"{share} Raise num_workers of the loader, or cache what it reads.")

    def split(self, images: int, error: torch.OutOfMemoryError) -> None:
        """Compute each batch in twice as many pieces from now on; raise where one image is too large."""
        pieces = 2 * self.run.pieces
        cure = "Set a smaller batch_size: they cannot agree on smaller pieces in the middle of a step."
        one, got = world_size() == 1, f"larger ones ({error})"
        require(one, "train_loader", "of batches that fit into the memory of each process", got, cure)
        if self.run.pieces >= images:
            message = f"`train_loader` must be of images that fit into memory one by one, got larger ones ({error})."
            cure = "Make the images or the network smaller, or use precision='bf16'."
            raise ArgumentError(f"{message} {cure}", argument="train_loader") from error
        self.run.pieces = pieces
        amend_session(self._folder.path, {"pieces": pieces})
        said = f"A batch of {images} does not fit into memory: it is computed in {pieces} pieces from now on,"
        self._reporter.say(f"{said} whose gradients are averaged. A smaller batch_size avoids it.")

    def minutes(self) -> float:
        """Return the minutes that the run has taken, those before a resume included."""
        return (self._now() - self._started) / 60

    def minutes_since_stored(self) -> float:
        """Return how many minutes would be lost now."""
        return (self._now() - self._stored) / 60

    def share(self) -> float:
        """Return the share of the run that is done: of its epochs or its minutes, whichever is larger."""
        run, config, size = self.run, self._config, self._batches
        epochs = max(run.epoch - 1, 0) + (run.batches / size if size else float(run.trained))
        minutes = self.minutes() / config.max_minutes if config.max_minutes is not None else 0.0
        return min(1.0, max(epochs / config.max_epochs, minutes))

    def is_time_over(self) -> bool:
        """Return whether only the time for a validation is left."""
        limit = self._config.max_minutes
        return limit is not None and self.minutes() + self.run.validation_minutes >= limit

    def _begin(self) -> None:
        """Seed, and write the first weights, so that ``last.pt`` is there whatever happens."""
        by_first(lambda: require_no_run(self._folder.path))
        self.run, self._started = RunState(), self._now()
        by_first(lambda: self._prepare([]))
        copy_from_first(self.parts.tensors())
        seed_everything(self._config.seed)
        self.store()

    def _resume(self) -> None:
        say, folder = self._reporter.say, self._folder
        held, path = by_first(lambda: folder.load_last(say))
        require_entries(held, path)
        self.run = RunState.from_dict(held["run"], path)
        now, before = self._settings, held["settings"]
        # Those of the first process count, as in what is stored: one that refused its own would keep others waiting.
        changes = by_first(
            lambda: changed_metadata(held.get("metadata"), self._metadata.get("metadata"), path)
        )
        changes += self.parts.restore(held, path)
        changes += changed_settings(before, now)
        for change in changes:
            say(f"changed since the run was stored: {change}")
        if before.get("validate", now["validate"]) != now["validate"]:
            say("The next validation counts as the best; patience and schedule know no earlier score.")
            self.run.forget_scores()
            self.parts.forget_scores()
        if self.run.best_epoch > 0 and not by_first(folder.has_best):
            say(f"{folder.path / BEST} is missing or damaged: the next validation counts as the best.")
            self.run.best_epoch, self.run.best_score = 0, math.nan
        self._stored = self._now()
        self._started = self._stored - 60 * self.run.minutes
        by_first(lambda: self._prepare(changes))
        by_first(lambda: folder.save_log(self.run.rows))
        self.note_step()
        self._reporter.count_from(self.share())

    def _prepare(self, changes: list[str]) -> None:
        """Check the folder, and note in it what the run is made with."""
        parts, config = self.parts, self._config
        weights, momenta = size_of(parts.model.state_dict()), size_of(parts.optimizer.state_dict())
        trained = [parameter for group in parts.optimizer.param_groups for parameter in group["params"]]
        copies = 1 if parts.averaged is None else 2
        # Before its first step an optimizer holds nothing: Adam will hold two numbers a weight.
        self._folder.prepare(copies * weights + max(momenta, 2 * size_of(trained)), weights)
        about = {"settings": self._settings, "provenance": dict(config.provenance or {})}
        record_session(
            self._folder.path,
            about | {"optimizer": type(parts.optimizer).__name__, "groups": parts.given},
            device=trained[0].device,
            epoch=len(self.run.rows),
            changes=changes,
            metadata=self._metadata.get("metadata"),
        )
        if self.run.pieces > 1:
            amend_session(self._folder.path, {"pieces": self.run.pieces})


def _scale(validate: object) -> str | None:
    """Return what tells whether two scores can be compared: the metric, where a validation names it."""
    return None if validate is None else str(getattr(validate, "metric", "given"))


def _require_workers(error: RuntimeError) -> None:
    """Raise where an error tells that a process that loads batches is gone."""
    if _LOST_WORKER.search(str(error)):
        cause = "A process that loads batches was killed, most likely for lack of memory"
        cure = "Set fewer workers (num_workers of the loader, sampling.workers of a plan), and resume."
        raise ProcessLostError(f"{cause} ({error}). {cure}", argument="train_loader") from error
