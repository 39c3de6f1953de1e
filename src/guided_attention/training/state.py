"""The state of a run: one record of plain numbers, and the parts whose own state is stored beside it."""

import math
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from guided_attention._checkpoints import network_in, require_same_settings
from guided_attention._checks import cut_list, require
from guided_attention._state_dicts import matching_entries, plain_name
from guided_attention.errors import ArgumentTypeError, CheckpointError
from guided_attention.training.generators import generator_states, generators_in, restore_generators
from guided_attention.training.schedule import with_given
from guided_attention.training.seeding import random_state, restore_random_state

__all__ = ["Parts", "RunState", "plainly_named", "require_entries"]

_ENTRIES = (
    "model",
    "averaged",
    "optimizer",
    "optimizer_class",
    "given",
    "scaler",
    "schedule",
    "run",
    "random",
    "epoch_start",
    "settings",
)
_WEIGHTS = ("model", "averaged", "loss")
_STATE_OF_GROUP = ("params", "initial_lr")


@dataclass
class RunState:
    """How far a run has come: plain numbers, stored in ``last.pt``.

    Attributes:
        epoch: The current or last epoch, from 1; 0 before the first. It is complete when it has a row in `rows`.
        batches: Batches of it that are done.
        trained: Whether its training is over, so that validation or its row come next.
        cut_short: Whether the limit in minutes ended it.
        skipped: Steps in a row that were skipped for an infinite gradient in fp16.
        pieces: Pieces that each batch is computed in, for want of memory.
        waited: Seconds of the epoch that went into waiting for data.
        seconds: Seconds of the epoch that went into its training.
        sums: Sum of each logged number over the batches.
        best_epoch: Epoch of the best validation score, 0 before the first.
        best_score: That score, NaN where there is none.
        minutes: Minutes that the run has taken.
        validation_minutes: How long the latest validation took.
        scores: Epoch and score of each validation.
        rows: Rows of the log.
    """

    epoch: int = 0
    batches: int = 0
    trained: bool = False
    cut_short: bool = False
    skipped: int = 0
    pieces: int = 1
    waited: float = 0.0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = math.nan
    minutes: float = 0.0
    validation_minutes: float = 0.0
    scores: list[tuple[int, float]] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether the current epoch is over, with its validation and its row."""
        return len(self.rows) == self.epoch

    def begin_epoch(self) -> None:
        """Count the next epoch."""
        self.epoch += 1
        self.batches, self.trained, self.cut_short, self.sums = 0, False, False, {}
        self.waited = self.seconds = 0.0

    @property
    def waiting(self) -> float:
        """The share of the training of the epoch that went into waiting for data."""
        return self.waited / self.seconds if self.seconds > 0 else 0.0

    def copy(self) -> "RunState":
        """Return a copy that later steps do not change."""
        return replace(self, sums=dict(self.sums), scores=list(self.scores), rows=list(self.rows))

    def add(self, values: Mapping[str, float]) -> None:
        """Count a batch with its loss and parts."""
        self.batches += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Return loss and parts, means over the batches of the epoch so far."""
        return {name: total / self.batches for name, total in self.sums.items()}

    def take_score(self, score: float) -> bool:
        """Count a validation; return whether its score is the best so far. NaN never wins over a number."""
        self.scores.append((self.epoch, score))
        best = math.isnan(self.best_score) or score > self.best_score
        if best:
            self.best_epoch, self.best_score = self.epoch, score
        return best

    def forget_scores(self) -> None:
        """Let the next validation count as the best: those so far are of another scale, or there is none any more."""
        self.best_epoch, self.best_score, self.scores = 0, math.nan, []

    def validations_without_improvement(self) -> int:
        """Return how many validations there were since the best one."""
        best, since = -math.inf, 0
        for _, score in self.scores:
            since = 0 if score > best else since + 1
            best = max(best, score) if not math.isnan(score) else best
        return since

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: Path) -> "RunState":
        """Return the record that was stored; a missing entry is an error."""
        require_entries(values, path, [entry.name for entry in fields(cls)], "run")
        return cls(**{entry.name: values[entry.name] for entry in fields(cls)})


@dataclass
class Parts:
    """The parts of a run that have a state of their own.

    Attributes:
        model: The network.
        averaged: Its averaged copy, if one is kept.
        optimizer: Of the network.
        scaler: Of the loss, switched off unless training runs in fp16.
        schedule: A scheduler of torch, if there is one.
        sources: What may hold generators of random numbers, by the name of the argument; their states are stored.
        loss: Of the run, if it is a module: its weights may be trained, and its buffers may change.
    """

    model: nn.Module
    averaged: AveragedModel | None
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    schedule: LRScheduler | None
    sources: Mapping[str, object]
    loss: nn.Module | None = None

    def __post_init__(self) -> None:
        """Note the settings as they are given, before training changes them."""
        self.given = [_options(group) for group in self.optimizer.param_groups]
        self._schedule_given = {} if self.schedule is None else deepcopy(self.schedule.state_dict())
        self._loss_given = {} if self.loss is None else deepcopy(self.loss.state_dict())
        self.epoch_start: dict[str, Any] = {}

    def tensors(self) -> list[Tensor]:
        """Return weights and buffers of all networks."""
        modules = (self.model, self.averaged, self.loss)
        return [tensor for module in modules if module is not None for tensor in module.state_dict().values()]

    def buffers(self) -> dict[str, Tensor]:
        """Return what a forward pass may change."""
        loss = {} if self.loss is None else dict(self.loss.named_buffers(prefix="loss"))
        return {**dict(self.model.named_buffers(prefix="model")), **loss}

    def snapshot(self, run: RunState, settings: Mapping[str, object]) -> dict[str, Any]:
        """Return all that resuming needs, as plain values."""
        state = {
            "model": plainly_named(self.model.state_dict()),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_class": type(self.optimizer).__name__,
            "parameters": self._parameter_names(),
            "loss": None
            if self.loss is None
            else {"state": self.loss.state_dict(), "given": self._loss_given},
            "given": self.given,
            "scaler": self.scaler.state_dict(),
            "schedule": self._schedule_state(),
            "run": asdict(run),
            "random": self.random_states(),
            "epoch_start": self.epoch_start,
            "settings": dict(settings),
        }
        return {name: part if name in _WEIGHTS else _without_numpy(part) for name, part in state.items()}

    def require_readable(self, settings: Mapping[str, object]) -> None:
        """Raise where a state would be written that could not be read again, before a run depends on it."""
        for name, part in self.snapshot(RunState(), settings).items():
            owner = name if name in {"schedule", "loss"} else "model" if name in _WEIGHTS else "optimizer"
            stream = BytesIO()
            try:
                torch.save(_without_tensors(part), stream)
                torch.load(BytesIO(stream.getvalue()), weights_only=True)
            except (AttributeError, TypeError, RuntimeError, pickle.PickleError) as error:
                wanted = "one whose state is made of tensors, numbers, texts, lists and dictionaries"
                cure = "It could be stored and not be read again. Leave the rest out of its state_dict()."
                got = f"one with something else in {name!r}"
                message = f"`{owner}` must be {wanted}, got {got}. {cure}"
                raise ArgumentTypeError(message, argument=owner) from error

    def random_states(self) -> dict[str, Any]:
        """Return the states of all generators: the global ones, and those of loader, network and the like."""
        # The name of the entry is from when those of the loader were the only ones.
        return {"global": random_state(), "loader": generator_states(generators_in(self.sources))}

    def restore_random_states(self, states: Mapping[str, Any]) -> None:
        """Set all generators to what `random_states` returned."""
        restore_random_state(states["global"])
        restore_generators(generators_in(self.sources), states["loader"])

    def forget_scores(self) -> None:
        """Let a scheduler of torch that waits for a better score count from the next one."""
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.best, self.schedule.num_bad_epochs = self.schedule.mode_worse, 0

    def restore(self, held: Mapping[str, Any], path: Path) -> list[str]:
        """Take over the state that was stored, and return which settings are no longer what they were.

        A setting that is given differently now than when the run was stored is taken as it is given now.

        Raises:
            CheckpointError: The state is not one of this network and this optimizer; nothing is changed then.
        """
        self._require_same_optimizer(held, path)
        require_same_settings(self.model, network_in(held, path), path)
        entries = matching_entries(self.model.state_dict(), held["model"], path)
        average = self._average_of(held, entries, path)
        self.model.load_state_dict(entries)
        self.optimizer.load_state_dict(held["optimizer"])
        changes = self._apply_given(held["given"]) + self._restore_loss(held.get("loss"))
        if self.averaged is not None:
            self.averaged.load_state_dict(average)
        if held["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(held["scaler"])
        self.epoch_start = held["epoch_start"]
        self.restore_random_states(held["random"])
        return changes + self._restore_schedule(held["schedule"])

    def _average_of(
        self, held: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path
    ) -> dict[str, Tensor]:
        """Return the state of the averaged copy; where none is stored, it starts with the weights that are."""
        if self.averaged is None:
            return {}
        ours = self.averaged.state_dict()
        if held["averaged"] is not None:
            return matching_entries(ours, held["averaged"], path)
        return ours | {f"module.{name}": value for name, value in weights.items()}

    def _require_same_optimizer(self, held: Mapping[str, Any], path: Path) -> None:
        ours = type(self.optimizer).__name__
        cure = "Pass the optimizer of the run, or begin another run."
        stored = held["optimizer_class"]
        require(
            ours == stored, "optimizer", f"a {stored}, as in {path}", f"a {ours}", cure, error=CheckpointError
        )
        sizes = [len(group["params"]) for group in self.optimizer.param_groups]
        before = [len(group["params"]) for group in held["optimizer"]["param_groups"]]
        wanted = f"of groups of {before} parameters, as in {path}"
        require(sizes == before, "optimizer", wanted, sizes, cure, error=CheckpointError)
        names, stored = self._parameter_names(), held.get("parameters")  # older states lack them
        other = [f"{a} for {b}" for a, b in zip(names, stored or names, strict=True) if a != b]
        wanted, cure = f"of the same parameters in the same order as in {path}", "Make it as before."
        require(not other, "optimizer", wanted, cut_list(other), cure, error=CheckpointError)

    def _parameter_names(self) -> list[str]:
        parts = {"": self.model} if self.loss is None else {"": self.model, "loss.": self.loss}
        names = {
            id(parameter): plain_name(prefix + name)
            for prefix, part in parts.items()
            for name, parameter in part.named_parameters()
        }
        return [names.get(id(part), "") for group in self.optimizer.param_groups for part in group["params"]]

    def _apply_given(self, before: Sequence[Mapping[str, Any]]) -> list[str]:
        changes = []
        groups = zip(self.optimizer.param_groups, self.given, before, strict=True)
        for number, (group, given, stored) in enumerate(groups):
            for name, value in given.items():
                if name in stored and stored[name] == value:
                    continue  # as it was: keep what a scheduler has made of it since
                if name == "lr" and name in stored and group[name] != stored[name]:
                    group[name] *= value / stored[name]
                else:
                    group[name] = value
                where = f" of group {number}" if len(self.given) > 1 else ""
                changes.append(f"{name}{where}: {stored.get(name)} → {value}")
        return changes

    def _restore_loss(self, held: Mapping[str, Any] | None) -> list[str]:
        """Load what training has changed in the loss; what is given differently now, such as class weights, stays."""
        if self.loss is None or held is None:
            return []
        before, state = plainly_named(held["given"]), plainly_named(held["state"])
        plain = dict(zip(self._loss_given, plainly_named(self._loss_given), strict=True))
        same = {name for name, value in self._loss_given.items() if _equal(value, before.get(plain[name]))}
        entries = {
            name: state[plain[name]] if name in same else value for name, value in self._loss_given.items()
        }
        self.loss.load_state_dict(entries)
        return [f"loss.{name}: it has other values" for name in self._loss_given if name not in same]

    def _schedule_state(self) -> dict[str, Any] | None:
        if self.schedule is None:
            return None
        name, state = type(self.schedule).__name__, dict(self.schedule.state_dict())
        return {"class": name, "state": state, "given": self._schedule_given}

    def _restore_schedule(self, held: Mapping[str, Any] | None) -> list[str]:
        before = None if held is None else held["class"]
        ours = None if self.schedule is None else type(self.schedule).__name__
        if held is None or self.schedule is None or before != ours:
            return []  # the settings tell it
        changes: list[str] = []
        state = with_given(held["state"], held["given"], self._schedule_given, "schedule", changes)
        self.schedule.load_state_dict(state)
        return changes


def plainly_named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the prefixes that ``torch.compile`` gives to parts of a network."""
    return {plain_name(name) if "_orig_mod" in name else name: value for name, value in state.items()}


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a group of parameters as plain values."""
    plain = {name: value for name, value in group.items() if name not in _STATE_OF_GROUP}
    return {name: value.item() if isinstance(value, Tensor) else value for name, value in plain.items()}


def require_entries(
    held: Mapping[str, Any], path: Path, wanted: Sequence[str] = _ENTRIES, where: str = ""
) -> None:
    """Raise where a stored state lacks entries."""
    missing = [name for name in wanted if name not in held]
    got = f"{path}, which lacks {', '.join(missing)}" + (f" in {where!r}" if where else "")
    cure = "It is of an older version or of something else: begin another run."
    require(not missing, "run_dir", "a run that can be resumed", got, cure, error=CheckpointError, file=path)


def _equal(value: object, other: object) -> bool:
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        return torch.equal(value.cpu(), other.cpu())
    return type(value) is type(other) and bool(value == other)


def _without_numpy(value: Any) -> Any:  # noqa: ANN401 - any plain value
    """Return nested plain values with NumPy's numbers as Python's: those could be written, and not read again."""
    if isinstance(value, dict):
        parts = {name: _without_numpy(part) for name, part in value.items()}
        return Counter(parts) if isinstance(value, Counter) else parts  # the milestones of MultiStepLR
    if type(value) in {list, tuple}:
        return type(value)(_without_numpy(part) for part in value)
    return value.item() if isinstance(value, np.generic) else value


def _without_tensors(value: Any) -> Any:  # noqa: ANN401 - any plain value
    """Return nested values without the tensors, which can be read in any case."""
    if isinstance(value, dict):
        return {name: _without_tensors(part) for name, part in value.items()}
    if type(value) in {list, tuple}:
        return [_without_tensors(part) for part in value]
    return None if isinstance(value, Tensor) else value
