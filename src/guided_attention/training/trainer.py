"""The training loop: takes network, loss, optimizer and data, and writes a folder with log and checkpoints."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from guided_attention._checkpoints import network_of
from guided_attention._checks import counted, require, require_number, require_path, require_type
from guided_attention._distributed import by_first, from_first, join, world_size
from guided_attention._files import PathLike
from guided_attention._layers import with_pooled_norms
from guided_attention._maps import chosen_device
from guided_attention.outputs import LossTerms
from guided_attention.training.arguments import (
    require_config,
    require_metadata,
    require_optimizer,
    require_own_device,
    require_precision,
    unwrapped,
)
from guided_attention.training.batches import Batch, Batches, require_loader
from guided_attention.training.config import TrainerConfig
from guided_attention.training.generators import require_repeatable
from guided_attention.training.gradients import Gradients
from guided_attention.training.run_folder import RunFolder
from guided_attention.training.schedule import TrainingProgress
from guided_attention.training.session import Session
from guided_attention.training.state import Parts, plainly_named
from guided_attention.training.step import Loss, ModelWithLoss, averaged_copy, finite_values

__all__ = ["Trainer", "TrainingResult"]

_StopReason: TypeAlias = Literal["epochs", "minutes", "patience"]

_MOST_SKIPPED = 40
"""Steps in a row that may have an infinite gradient in fp16: the scale of the loss falls from 2**16 to 2**-24."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Result of a training run.

    Attributes:
        best_epoch: Epoch of the weights in ``best.pt``.
        best_score: Their validation score; NaN where no validation gave a number.
        epochs: Epochs begun; the last one may have been cut short by the clock.
        minutes: Minutes that it took, those before a resume included.
        stopped_by: Which limit ended it.
        run_dir: The folder with ``log.csv``, ``last.pt`` and ``best.pt``.
    """

    best_epoch: int
    best_score: float
    epochs: int
    minutes: float
    stopped_by: _StopReason
    run_dir: Path


_DEFAULTS = TrainerConfig()


class Trainer:
    """Trains a network and keeps the weights that did best on the validation subjects.

    For each step: learning rate from the schedule, forward, backward, optional clipping, step. After each epoch:
    validation, ``best.pt`` if the score is the highest so far, a row in ``log.csv``, ``last.pt``. The limit in minutes
    includes the last validation: the time that the previous one took is reserved for it, so that only a run that ends
    before its first validation takes longer. With a limit in minutes, the number of steps depends on the machine.

    Two runs with the same seed, software and machine give the same weights, bit for bit on the CPU, if the network is
    built after ``seed_everything(seed)``; `fit` seeds again. A loader takes its order from torch's global generator, or
    from its own if it has one. Samplers with `set_epoch` are told the epoch.

    The state is stored at the start, after each epoch and before its validation, inside long epochs, and on SIGTERM,
    SIGINT and SIGHUP: the step is finished first, then `TrainingInterrupted` is raised, which ends the process with the
    code 75. A run that was interrupted or killed is resumed to the bit.

    After `fit` the network holds its *last* weights. ``load_weights(model, run_dir / "best.pt")`` loads the best; with
    ``ema_decay`` these are the averaged ones. The optimizer has the learning rates that it was given, unless a
    scheduler of torch has changed them.

    Args:
        model: A network, see `ModelWithLoss`. With ``torch.compile(model)``, network and loss are compiled together.
        loss: A loss marked with `takes_outputs`, such as `GuidedAttentionLoss`, or any function of logits and labels
            to a scalar, such as ``torch.nn.CrossEntropyLoss()``.
        optimizer: Optimizer of the parameters of network and loss that are to be trained. Gradients of others are
            discarded: they count neither for clipping nor for the scale of the loss in fp16.
        train_loader: Any iterable of pairs: images ``(batch, in_channels, *space)`` and labels as the loss takes them,
            or of dictionaries whose keys ``config.batch_keys`` names.
        validate: Function from the network, in evaluation mode, to a score, higher is better, such as
            `guided_attention.evaluation.Validation`. With None, ``best.pt`` holds the latest weights.
        run_dir: Folder to write to, created if it is missing.
        config: The settings.
        metadata: Plain values to write into every checkpoint, such as `Predictor.metadata`, with which
            `Predictor.load` needs nothing but the checkpoint; None writes none.

    Raises:
        ArgumentError: The loader has no batch or cannot be repeated, the optimizer is of another network, the metadata
            tells of another network, or the network is wrapped for several devices.
        ArgumentTypeError: An argument is of the wrong type, or the metadata holds what a checkpoint could not be read
            with, such as a NumPy number.

    Example:
        >>> import tempfile
        >>> from torch.utils.data import DataLoader
        >>> from guided_attention.training import load_weights, polynomial_decay, seed_everything
        >>> seed_everything(0)
        >>> model = nn.Conv2d(1, 2, kernel_size=1)
        >>> image, labels = torch.rand(1, 5, 7), torch.ones(5, 7, dtype=torch.long)
        >>> def validate(model):
        ...     return float((model(image[None]).argmax(1) == labels).float().mean())
        >>> trainer = Trainer(
        ...     model,
        ...     nn.CrossEntropyLoss(),
        ...     torch.optim.SGD(model.parameters(), lr=0.5),
        ...     train_loader=DataLoader([(image, labels)]),
        ...     validate=validate,
        ...     run_dir=Path(tempfile.mkdtemp()) / "run",
        ...     config=TrainerConfig(max_epochs=20, quiet=True, device="cpu", schedule=polynomial_decay()),
        ... )
        >>> result = trainer.fit()
        >>> result.best_score, result.stopped_by
        (1.0, 'epochs')
        >>> load_weights(model, result.run_dir / "best.pt")
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: Optimizer,
        *,
        train_loader: Iterable[object],
        run_dir: PathLike,
        validate: Callable[[nn.Module], float] | None = None,
        config: TrainerConfig = _DEFAULTS,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        join()
        self.model = unwrapped(model)
        joint = ModelWithLoss(self.model, loss)
        require_optimizer(optimizer, joint)
        require_config(config, optimizer, validate)
        require_loader(train_loader)
        given = {"train_loader": train_loader, "augment": config.augment, "validate": validate}
        sources = {**given, "model": self.model, "loss": loss}
        require_repeatable(sources, exact=config.exact_resume)
        if metadata is not None:
            require_metadata(metadata, self.model)
        self.config = config
        self._device = chosen_device(self.model, config.device)
        require_own_device(self._device)
        require_precision(self.model, config, self._device)
        self._joint = joint.to(self._device)
        if world_size() > 1:
            with_pooled_norms(self._joint)
        # What compiled the network compiles the whole of network and loss, with the same settings.
        compiled = getattr(model, "dynamo_ctx", None)
        forward: Callable[[Tensor, Tensor], LossTerms] = joint if compiled is None else compiled(joint)
        # Others may have gradients too; in fp16 theirs stay scaled, and an infinite one is not noticed.
        self._parameters = [part for group in optimizer.param_groups for part in group["params"]]
        self._averaged = averaged_copy(self.model, config.ema_decay) if config.ema_decay is not None else None
        self._optimizer = optimizer
        self._base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=config.precision == "fp16")
        self._gradients = Gradients(forward, self._scaler, self._device, config, self._parameters)
        self._batches = Batches(train_loader, config.batch_keys)
        self._validate = validate
        self._metadata = network_of(self.model) | ({} if metadata is None else {"metadata": dict(metadata)})
        self._folder = RunFolder(require_path("run_dir", run_dir), keep=config.keep)
        schedule = config.schedule if isinstance(config.schedule, LRScheduler) else None
        own_loss = loss if isinstance(loss, nn.Module) else None
        parts = Parts(self.model, self._averaged, optimizer, self._scaler, schedule, sources, own_loss)
        self._session = Session(
            self._folder, parts, config, batches=self._batches.size, metadata=self._metadata
        )

    def __setattr__(self, name: str, value: object) -> None:
        """Set a value, but for those of which all else was made."""
        is_new = name not in {"model", "config"} or name not in vars(self)
        require(is_new, name, "what the trainer was made with", f"another {name}", "Make another Trainer.")
        super().__setattr__(name, value)

    def fit(self, *, resume: bool = False, take_over: bool = False) -> TrainingResult:
        """Train until the limit in epochs or minutes, or until `patience` is over.

        Args:
            resume: Resume from ``last.pt`` of the run folder, after a crash or with larger limits. With the same
                settings, the run ends with the weights that it would have had without the interruption. Settings that
                are given differently now are taken as they are now; this is said, and noted in ``run.json``. What the
                metadata tell of preparation and labels stays.
            take_over: Resume though a process on another machine has not released the folder.

        Raises:
            ExistingFileError: The folder already holds a run, and `resume` is not set; or another process has it.
            MissingFileError: `resume` is set and there is no ``last.pt``.
            CheckpointError: `resume` is set, and the state is damaged, or one of another network, optimizer,
                preparation or labels.
            WriteError: The disk is full, or there is no permission.
            NonFiniteError: The loss, one of its parts or a gradient is NaN or infinite.
            TrainingInterrupted: There was a signal.
            ProcessLostError: A process that loads batches was killed.
        """
        with self._given_rates(), self._session.opened(resume=resume, take_over=take_over):
            run = self._session.run
            # A fresh run takes one step however short its time, so that it always leaves a best.pt.
            stopped_by = self._reason_to_stop() if run.epoch > 0 and run.is_complete else None
            while stopped_by is None:
                self._train_epoch()
                row, score = self._row(), None
                stopped_by = self._reason_to_stop()
                if stopped_by is not None or run.epoch % self.config.validate_every == 0:
                    score = self._score()
                    stopped_by = stopped_by or self._reason_to_stop()
                self._end_epoch(row, score)
                # A validated epoch was stored before its validation, which a resume repeats with the same result.
                if score is None or stopped_by is not None:
                    self._session.store()
                self._session.check()
            if run.best_epoch == 0:  # best.pt was gone, and no epoch followed
                self._score()
                self._session.store()
        return TrainingResult(
            best_epoch=run.best_epoch,
            best_score=run.best_score,
            epochs=run.epoch,
            minutes=run.minutes,
            stopped_by=stopped_by,
            run_dir=self._folder.path,
        )

    def _train_epoch(self) -> None:
        """Train one epoch, what remains of it after a resume, or until the time is over."""
        run = self._session.run
        if run.is_complete:
            self._session.begin_epoch()
        if run.trained:
            return
        self._joint.train()
        for group in self._session.timed(self._groups):
            self._step(group)
            self._session.tell("step")
            if self._session.is_time_over():
                run.cut_short = run.batches != self._batches.size
                break
            self._session.store_if_due()
        require(run.batches > 0, "train_loader", "at least one batch long", f"none in epoch {run.epoch}")
        run.trained = True
        self._session.advise()

    def _groups(self) -> Iterator[list[Batch]]:
        """Return the groups of batches of this epoch, each for one step.

        A resumed epoch is read with the random numbers of its start, so that the batches that are done can be skipped,
        and continues with those that were stored.
        """
        run, parts = self._session.run, self._session.parts
        now = parts.random_states()
        if run.batches > 0:
            parts.restore_random_states(parts.epoch_start)
        groups = self._batches.groups(run.epoch, self.config.accumulate, skip=run.batches)
        if run.batches > 0:
            parts.restore_random_states(now)
        return groups

    def _step(self, group: list[Batch]) -> None:
        """Average the gradients of the batches of a group into one step of the optimizer."""
        run, config = self._session.run, self.config
        self._set_learning_rates()
        terms = self._gradients_of(group)
        has_gradient = any(part.grad is not None for part in self._parameters)
        if has_gradient:  # the scaler refuses an optimizer without one
            self._scaler.unscale_(self._optimizer)
        gradients = [part.grad for part in self._parameters if part.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        where = f"epoch {run.epoch}, batch {run.batches + 1}"
        skippable = self._scaler.is_enabled() and run.skipped < _MOST_SKIPPED
        values, gradient = finite_values(terms, norm, where, skippable=gradients if skippable else ())
        if config.clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, config.clip_grad_norm, norm)
        if has_gradient:
            self._scaler.step(self._optimizer)  # skips an infinite gradient in fp16
            self._scaler.update()
        run.skipped = 0 if math.isfinite(gradient) else run.skipped + 1
        if self._averaged is not None and run.skipped == 0:
            self._averaged.update_parameters(self.model)
        for numbers in values:
            run.add(numbers)
        self._session.note_step()

    def _gradients_of(self, group: list[Batch]) -> list[LossTerms]:
        """Compute the gradient, in smaller pieces from the first batch on that does not fit into memory."""
        while True:
            self._joint.zero_grad(set_to_none=True)  # those that the optimizer does not hold, too
            try:
                return self._gradients.add(group, self._session.run)
            except torch.OutOfMemoryError as error:
                self._session.split(max(len(batch.image) for batch in group), error)

    def _score(self) -> float:
        """Store the state, validate, and store the weights if they are the best yet."""
        run, started = self._session.run, self._session.minutes()
        self._session.store()
        candidate = self.model if self._averaged is None else self._averaged.module
        candidate.eval()
        with torch.no_grad(), self._session.interruption.at_once():
            value: object = math.nan if self._validate is None else self._validate(candidate)
        require_type("validate(model)", value, (Real, Tensor), "a number")
        size = value.numel() if isinstance(value, Tensor) else 1
        require(size == 1, "validate(model)", "a number", f"a tensor of {size} numbers", "Return their mean.")
        score = from_first(float(value))  # type: ignore[arg-type]  # checked
        if run.take_score(score):
            best = {
                "model": plainly_named(candidate.state_dict()),
                "epoch": run.best_epoch,
                "score": run.best_score,
            }
            by_first(lambda: self._folder.save_best(best | self._metadata))
        run.validation_minutes = self._session.minutes() - started
        self._session.tell("validation", score)
        return score

    def _end_epoch(self, row: dict[str, float], score: float | None) -> None:
        """Step a scheduler of torch, and write the row of the epoch."""
        run, schedule = self._session.run, self.config.schedule
        self._session.forget_step()
        if score is not None and self._validate is not None:
            row["validation_score"] = score
        if isinstance(schedule, ReduceLROnPlateau):
            if score is not None:
                schedule.step(score)
        elif isinstance(schedule, LRScheduler):
            schedule.step()
        run.rows.append(row)
        by_first(lambda: self._log(row))
        self._session.tell("epoch", row.get("validation_score"))

    def _log(self, row: dict[str, float]) -> None:
        self._folder.save_log(self._session.run.rows)
        for logger in self.config.loggers:
            logger.log(row)

    def _row(self) -> dict[str, float]:
        run = self._session.run
        counts = {
            "epoch": float(run.epoch),
            "batches": float(run.batches),
            "minutes": self._session.minutes(),
        }
        return {
            **counts,
            "lr": float(self._optimizer.param_groups[0]["lr"]),
            "waiting": run.waiting,
            **run.means(),
        }

    @contextmanager
    def _given_rates(self) -> Iterator[None]:
        """Put back what the schedule multiplies: a second run with this optimizer would multiply the product."""
        try:
            yield
        finally:
            if not (self.config.schedule is None or isinstance(self.config.schedule, LRScheduler)):
                for group, rate in zip(self._optimizer.param_groups, self._base_rates, strict=False):
                    group["lr"] = rate

    def _set_learning_rates(self) -> None:
        schedule, groups = self.config.schedule, len(self._optimizer.param_groups)
        wanted = f"of {counted(len(self._base_rates), 'group')} throughout"
        cure = "Add them before the Trainer is made."
        require(groups == len(self._base_rates), "optimizer", wanted, counted(groups, "group"), cure)
        if schedule is None or isinstance(schedule, LRScheduler):
            return
        run = self._session.run
        factor = schedule(
            TrainingProgress(share=self._session.share(), epoch=run.epoch, scores=tuple(run.scores))
        )
        require_number("schedule(progress)", factor)
        require(0 <= factor < math.inf, "schedule(progress)", "at least 0 and finite", factor)
        for group, rate in zip(self._optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor

    def _reason_to_stop(self) -> _StopReason | None:
        run, config = self._session.run, self.config
        if config.patience is not None and run.validations_without_improvement() >= config.patience:
            return "patience"
        if run.epoch >= config.max_epochs:
            return "minutes" if run.cut_short else "epochs"
        return "minutes" if self._session.is_time_over() else None
