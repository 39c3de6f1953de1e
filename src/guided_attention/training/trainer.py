"""The training loop: takes network, loss, optimizer and data, and writes a folder with log and checkpoints."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import NoneType
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from guided_attention._checkpoints import differing_settings
from guided_attention._checks import require, require_type
from guided_attention.errors import ArgumentTypeError
from guided_attention.training.config import TrainerConfig
from guided_attention.training.progress import Progress, Status
from guided_attention.training.run_folder import Counters, RunFolder
from guided_attention.training.schedule import TrainingProgress
from guided_attention.training.seeding import seed_everything
from guided_attention.training.step import Loss, Means, ModelWithLoss, averaged_copy, finite_values

__all__ = ["Trainer", "TrainingResult"]

_StopReason: TypeAlias = Literal["epochs", "minutes", "patience"]


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

    For each batch: learning rate from the schedule, forward, backward, optional clipping, step. After each epoch:
    validation, ``best.pt`` if the score is the highest so far, a row in ``log.csv``, ``last.pt``. The limit in minutes
    includes the last validation: the time that the previous one took is reserved for it, so that only a run that ends
    before its first validation takes longer. With a limit in minutes, the number of steps depends on the machine.

    Two runs with the same seed, software and machine give the same weights, bit for bit on the CPU, if the network is
    built after ``seed_everything(seed)``; `fit` seeds again. A loader takes its order from torch's global generator, or
    from its own if it has one.

    After `fit` the network holds its *last* weights. ``load_weights(model, run_dir / "best.pt")`` loads the best; with
    ``ema_decay`` these are the averaged ones.

    Args:
        model: A network: ``model.outputs(image)`` is used if it exists, otherwise ``model(image)`` as the logits.
        loss: Function from `SegmentationOutput` and labels to `LossTerms`.
        optimizer: Optimizer of the network's parameters. The schedule scales its learning rates.
        train_loader: Returns pairs: images ``(batch, in_channels, *space)`` and labels ``(batch, *space)``.
        validate: Function from the network, in evaluation mode, to a score, higher is better, such as
            `guided_attention.evaluation.Validation`.
        run_dir: Folder to write to, created if it is missing.
        config: The numbers.
        metadata: Plain values to write into every checkpoint, such as `Predictor.metadata`, with which
            `Predictor.load` needs nothing but the checkpoint; None writes none.

    Raises:
        ArgumentError: The loader has no batch, or the metadata tells of another network.
        ArgumentTypeError: The metadata holds what a checkpoint could not be read with, such as a NumPy number.

    Example:
        >>> import tempfile
        >>> from guided_attention.outputs import LossTerms
        >>> from guided_attention.training import load_weights, polynomial_decay, seed_everything
        >>> seed_everything(0)
        >>> model = nn.Conv2d(1, 2, kernel_size=1)
        >>> image, labels = torch.rand(1, 5, 7), torch.ones(5, 7, dtype=torch.long)
        >>> def loss(output, target):
        ...     value = nn.functional.cross_entropy(output.logits, target)
        ...     return LossTerms(total=value, parts={"segmentation": value})
        >>> def validate(model):
        ...     return float((model(image[None]).argmax(1) == labels).float().mean())
        >>> trainer = Trainer(
        ...     model,
        ...     loss,
        ...     torch.optim.SGD(model.parameters(), lr=0.5),
        ...     train_loader=DataLoader([(image, labels)]),
        ...     validate=validate,
        ...     run_dir=Path(tempfile.mkdtemp()) / "run",
        ...     config=TrainerConfig(max_epochs=20, quiet=True, schedule=polynomial_decay()),
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
        train_loader: DataLoader[tuple[Tensor, Tensor]],
        validate: Callable[[nn.Module], float] | None = None,
        run_dir: Path | str,
        config: TrainerConfig = _DEFAULTS,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        _require_batches(train_loader)
        if metadata is not None:
            _require_plain("metadata", metadata, Mapping)
            differing, cure = (
                differing_settings(model, metadata),
                "Make the Predictor of the network that is trained.",
            )
            require(not differing, "metadata", "that of this network", differing, cure)
        self.config = config
        self.model = model
        self._joint = ModelWithLoss(model, loss).to(config.device)
        self._averaged = averaged_copy(model, config.ema_decay) if config.ema_decay is not None else None
        self._optimizer = optimizer
        self._base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._loader = train_loader
        self._validate = validate
        self._folder = RunFolder(
            Path(run_dir),
            model=model,
            averaged=self._averaged,
            optimizer=optimizer,
            loader=train_loader,
            metadata=metadata,
        )
        self._run = Counters()
        self._started = monotonic()

    def fit(self, *, resume: bool = False, take_over: bool = False) -> TrainingResult:
        """Train until the limit in epochs or minutes.

        Args:
            resume: Resume from ``last.pt`` of the run folder, after a crash or with larger limits. With the same
                settings, the run ends with the weights that it would have had without the interruption. An interrupted
                epoch is repeated; one that the limit in minutes ended counts as done.

        Raises:
            ExistingFileError: The folder already holds a run, and `resume` is not set.
            MissingFileError: `resume` is set and there is no ``last.pt``.
            NonFiniteError: The loss, one of its parts or a gradient is NaN or infinite.
        """
        run = self._resume() if resume else self._begin()
        # A fresh run takes one batch however short its time, so that it always leaves a best.pt.
        stopped_by = self._reason_to_stop() if run.epoch > 0 else None
        with closing(self._reporter()) as reporter:
            while stopped_by is None:
                run.epoch += 1
                row, score = self._train_epoch(reporter), None
                stopped_by = self._reason_to_stop()
                if stopped_by is not None or run.epoch % self.config.validate_every == 0:
                    row["validation_score"] = score = self._score()
                    stopped_by = stopped_by or self._reason_to_stop()
                run.minutes = self._minutes()
                self._folder.save_epoch(row, run)
                reporter.epoch(self._status(row, score))
        return TrainingResult(
            best_epoch=run.best_epoch,
            best_score=run.best_score,
            epochs=run.epoch,
            minutes=run.minutes,
            stopped_by=stopped_by,
            run_dir=self._folder.path,
        )

    def _train_epoch(self, reporter: Progress) -> dict[str, float]:
        """Train one epoch, or until the time is over; return the row of the log."""
        run, means = self._run, Means()
        run.batches = 0
        self._joint.train()
        for image, target in self._loader:
            self._set_learning_rates()
            means.add(self._step(image, target))
            run.batches += 1
            reporter.batch(self._status(self._row(means)))
            if self._is_time_over():
                break
        return self._row(means)

    def _step(self, image: Tensor, target: Tensor) -> dict[str, float]:
        device, config, run = torch.device(self.config.device), self.config, self._run
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            terms = self._joint(image.to(device, non_blocking=True), target.to(device, non_blocking=True))
        terms.total.backward()
        # An infinite limit clips nothing, and returns the norm that is checked.
        norm = nn.utils.clip_grad_norm_(self._joint.parameters(), config.clip_grad_norm or math.inf)
        values = finite_values(terms, norm, epoch=run.epoch, batch=run.batches + 1)
        self._optimizer.step()
        if self._averaged is not None:
            self._averaged.update_parameters(self.model)
        return values

    def _score(self) -> float:
        """Validate, and store the weights if they are the best yet."""
        run, started = self._run, monotonic()
        candidate = self.model if self._averaged is None else self._averaged.module
        candidate.eval()
        with torch.no_grad():
            score = float(self._validate(candidate))
        run.scores.append((run.epoch, score))
        if math.isnan(run.best_score) or score > run.best_score:
            run.best_epoch, run.best_score = run.epoch, score
            self._folder.save_best(candidate, run)
        run.validation_minutes = (monotonic() - started) / 60
        return score

    def _begin(self) -> Counters:
        """Seed, and write the first weights, so that ``last.pt`` is there whatever happens."""
        self._folder.require_free()
        seed_everything(self.config.seed)
        self._run, self._started = Counters(), monotonic()
        self._folder.save_last(self._run)
        return self._run

    def _resume(self) -> Counters:
        self._run = self._folder.resume()
        self._started = monotonic() - 60 * self._run.minutes
        return self._run

    def _row(self, means: Means) -> dict[str, float]:
        return {
            "epoch": float(self._run.epoch),
            "batches": float(means.count),
            "minutes": self._minutes(),
            "lr": float(self._optimizer.param_groups[0]["lr"]),
            **means.values(),
        }

    def _status(self, row: dict[str, float], score: float | None = None) -> Status:
        return Status(
            epoch=self._run.epoch,
            batch=self._run.batches,
            share=self._share(),
            learning_rate=row["lr"],
            losses={name: value for name, value in row.items() if name.startswith("loss")},
            score=score,
            best_score=self._run.best_score,
        )

    def _set_learning_rates(self) -> None:
        schedule = self.config.schedule
        factor = 1.0 if schedule is None else schedule(self._progress())
        for group, rate in zip(self._optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor

    def _progress(self) -> TrainingProgress:
        run = self._run
        return TrainingProgress(share=self._share(), epoch=run.epoch, scores=tuple(run.scores))

    def _share(self) -> float:
        """Return the share of the run that is done: of its epochs or its minutes, whichever is larger."""
        run, config = self._run, self.config
        epochs = max(run.epoch - 1, 0) + run.batches / len(self._loader)
        minutes = self._minutes() / config.max_minutes if config.max_minutes is not None else 0.0
        return min(1.0, max(epochs / config.max_epochs, minutes))

    def _reporter(self) -> Progress:
        config = self.config
        return Progress(
            epochs=config.max_epochs, batches=len(self._loader), quiet=config.quiet, share=self._share()
        )

    def _minutes(self) -> float:
        return (monotonic() - self._started) / 60

    def _is_time_over(self) -> bool:
        limit = self.config.max_minutes
        return limit is not None and self._minutes() + self._run.validation_minutes >= limit

    def _reason_to_stop(self) -> _StopReason | None:
        if self._run.epoch >= self.config.max_epochs:
            return "epochs" if self._run.batches == len(self._loader) else "minutes"
        return "minutes" if self._is_time_over() else None


def _require_plain(where: str, value: object, kind: type = object) -> None:
    """Raise where a checkpoint with this value could be written, but not read again."""
    require_type(where, value, kind, "a mapping", "Pass `Predictor.metadata`.")
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    else:
        plain = type(value) in {str, int, float, bool, NoneType, Tensor}
        cure = "Use .item() or .tolist() of NumPy values, str() of paths."
        wanted = "made of texts, numbers, tensors, lists and mappings"
        require(plain, where, wanted, f"a {type(value).__name__}", cure, error=ArgumentTypeError)
    for name, part in parts:
        _require_plain(f"{where}[{name!r}]", part)


def _require_batches(loader: DataLoader[tuple[Tensor, Tensor]]) -> None:
    require(
        len(loader) > 0,
        "train_loader",
        "at least one batch long",
        f"none, with batch_size={loader.batch_size} and drop_last={loader.drop_last}",
        cure="Give it more images or a smaller batch_size, or set drop_last=False.",
    )
