"""The settings of a training run: one frozen record, checked where it is made."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from guided_attention._checks import (
    require,
    require_choice,
    require_count,
    require_integer,
    require_number,
    require_positive,
    require_seed,
    require_takes,
    require_type,
)
from guided_attention.errors import ArgumentTypeError
from guided_attention.training.descriptions import described
from guided_attention.training.log import Logger
from guided_attention.training.progress import Hook
from guided_attention.training.schedule import Schedule

__all__ = ["Precision", "TrainerConfig"]

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
"""Floating type that network and loss run in; the weights stay in float32."""

_SETTINGS = (
    "max_epochs",
    "max_minutes",
    "precision",
    "clip_grad_norm",
    "ema_decay",
    "validate_every",
    "seed",
    "accumulate",
    "patience",
    "store_minutes",
    "keep",
)


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """The settings of a training run.

    Attributes:
        max_epochs: Maximum number of epochs.
        max_minutes: Maximum number of minutes, the last validation included (see `Trainer`); None sets no limit.
        precision: ``"fp32"``; ``"bf16"`` or ``"fp16"`` run network and loss under autocast, which is an error for 3-D
            convolutions on a CPU. With ``"fp16"`` the loss is scaled by a `torch.amp.GradScaler`, which skips a step
            whose gradient is infinite.
        clip_grad_norm: Maximum norm of the gradient; None does not clip.
        ema_decay: Keep a moving average of the weights with this decay, for example 0.999; it is what is
            validated and stored as best. None keeps none.
        validate_every: Validate after so many epochs, and always after the last.
        seed: Of all random numbers of the run.
        device: A `torch.device` string, or ``"auto"`` for a GPU if there is one.
        quiet: Whether to report no progress on standard error. What a user must know is said in any case.
        schedule: A function from a `TrainingProgress` to a factor on the learning rates, such as `polynomial_decay()`
            or `reduce_on_plateau()`; or a scheduler of torch, stepped once an epoch (``ReduceLROnPlateau`` with the
            score, once a validation). With None the trainer never touches the learning rates.
        accumulate: Batches whose gradients are averaged into one step. The batches that remain at the end of an epoch
            are one more step, averaged over their own number.
        patience: Stop after so many validations without a new best; None never does.
        store_minutes: Store the state inside an epoch after so many minutes.
        keep: Number of states to keep: ``last.pt``, ``last-1.pt`` and so on.
        batch_keys: Keys of image and labels where the loader returns dictionaries; None where it returns pairs.
        augment: A function of a batch on the device, images ``(n, c, *space)``, labels ``(n, *space)`` and ``n`` seeds,
            int64 on the CPU, that returns images and labels, such as an `Augmentation`. The seed of an image depends
            on `seed`, epoch, batch and its place in the batch only. None changes nothing.
        loggers: Told each row of the log, besides ``log.csv``.
        hooks: Called after each step, validation and epoch, see `Hook`.
        clock: Returns seconds.
        exact_resume: Whether to refuse loaders, and generators of random numbers in any other part, that a resumed run
            could not repeat to the bit.
        provenance: Texts and numbers to write into ``run.json``, such as a hash of the data.

    Raises:
        ArgumentError: A number is out of its range, or a choice is unknown.
        ArgumentTypeError: A setting has the wrong type.

    Example:
        >>> TrainerConfig(max_epochs=3).precision
        'fp32'
    """

    max_epochs: int = 100
    max_minutes: float | None = None
    precision: Precision = "fp32"
    clip_grad_norm: float | None = None
    ema_decay: float | None = None
    validate_every: int = 1
    seed: int = 0
    device: str = "auto"
    quiet: bool = False
    schedule: Schedule | LRScheduler | None = None
    accumulate: int = 1
    patience: int | None = None
    store_minutes: float = 10.0
    keep: int = 2
    batch_keys: tuple[str, str] | None = None
    augment: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    loggers: Sequence[Logger] = ()
    hooks: Sequence[Hook] = ()
    clock: Callable[[], float] = time.monotonic
    exact_resume: bool = True
    provenance: Mapping[str, str | int | float | bool | None] | None = None

    def __post_init__(self) -> None:
        """Check types and ranges."""
        self._check_numbers()
        require_choice("precision", self.precision, get_args(Precision))
        require_type("device", self.device, str, 'a text such as "auto", "cpu" or "cuda:0"')
        for name in ("quiet", "exact_resume"):
            require_type(name, getattr(self, name), bool, "True or False")
        good = self.schedule is None or isinstance(self.schedule, LRScheduler) or callable(self.schedule)
        good = good and not isinstance(self.schedule, type)  # a class has not been made a scheduler
        wanted = "a function of the progress, a scheduler of torch or None"
        got = f"a {type(self.schedule).__name__}"
        require(good, "schedule", wanted, got, error=ArgumentTypeError)
        wanted = "a function that returns seconds"
        require(callable(self.clock), "clock", wanted, self.clock, error=ArgumentTypeError)
        if self.augment is not None:
            cure = "One of an image and its labels goes to SliceDataset(augment=…)."
            require_takes("augment", self.augment, 3, "a function of images, labels and seeds", cure)
        self._check_parts()

    def settings(self) -> dict[str, object]:
        """Return the settings that a resumed run compares with those it was begun with, as plain values."""
        plain = {name: getattr(self, name) for name in _SETTINGS}
        keys = None if self.batch_keys is None else list(self.batch_keys)
        functions = {name: described(getattr(self, name)) for name in ("schedule", "augment")}
        return {**plain, "batch_keys": keys, **functions}

    def _check_numbers(self) -> None:
        for name in ("max_epochs", "validate_every", "accumulate", "keep"):
            require_integer(name, getattr(self, name))
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        if self.patience is not None:
            require_count("patience", self.patience)
        for name in ("max_minutes", "clip_grad_norm", "store_minutes"):
            if getattr(self, name) is not None:
                require_positive(name, getattr(self, name))
        require_number("store_minutes", self.store_minutes)
        if self.ema_decay is not None:
            require_number("ema_decay", self.ema_decay)
            require(0 < self.ema_decay < 1, "ema_decay", "between 0 and 1", self.ema_decay)
        require_seed(self.seed)

    def _check_parts(self) -> None:
        if self.batch_keys is not None:
            wanted = 'two texts such as ("image", "label")'
            require_type("batch_keys", self.batch_keys, (tuple, list), wanted)
            kinds = [type(key) for key in self.batch_keys]
            require(kinds == [str, str], "batch_keys", wanted, self.batch_keys, error=ArgumentTypeError)
        for name, wanted in (("loggers", "a list of loggers"), ("hooks", "a list of functions")):
            require_type(name, getattr(self, name), (tuple, list), wanted)
        for number, logger in enumerate(self.loggers):
            require_type(f"loggers[{number}]", logger, Logger, "a Logger, with log and close")
        for number, hook in enumerate(self.hooks):
            got = f"a {type(hook).__name__}"
            require(callable(hook), f"hooks[{number}]", "a function", got, error=ArgumentTypeError)
        if self.provenance is not None:
            require_type("provenance", self.provenance, Mapping, "a mapping of texts and numbers")
