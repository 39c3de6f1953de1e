"""Plan: everything that a training run and its predictions depend on, as one frozen record."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch

from guided_attention._checks import require, require_known_keys, require_path, require_type
from guided_attention._files import PathLike, replacing
from guided_attention.errors import DataError, GuidedAttentionError, MissingFileError
from guided_attention.labels import LabelSpec
from guided_attention.models import ModelSettings, build
from guided_attention.preparation import Preparation
from guided_attention.recipes._records import check_fields, parsed, plain, record_from

__all__ = [
    "PLAN_FILE",
    "BudgetPlan",
    "DataPlan",
    "InferencePlan",
    "LossPlan",
    "OptimizerPlan",
    "Plan",
    "SamplingPlan",
    "SchedulePlan",
    "TrainingPlan",
    "differing_keys",
]

_VERSION = 1
PLAN_FILE = "plan.json"
"""Name of the plan in a run folder."""
_SET = "set by hand"
_NONE = object()


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """Which scans train, validate and test.

    Attributes:
        folder: Absolute path of the data; None for cases in memory.
        layout: How the folder is laid out, see `guided_attention.data.open_cohort`; ``"memory"`` for cases in memory.
        train: Names of the cases that the weights are fitted to.
        val: Names of the cases that select the best epoch; those of `train` where there is a single case.
        test: Names of the cases that are predicted at the end; may be empty.
    """

    folder: str | None
    layout: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check types, and that no case leaks from one part into another."""
        check_fields(self, "data")
        require(bool(self.train), "data.train", "at least one case", "none")
        require(bool(self.val), "data.val", "at least one case", "none")
        for name, part, others in (
            ("data.train", self.train, self.test),
            ("data.val", self.val, self.test + (self.train if self.val != self.train else ())),
        ):
            twice = sorted(set(part) & set(others)) or sorted({one for one in part if part.count(one) > 1})
            require(not twice, name, "without cases of another part", twice)


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """Which slices a step of training sees, and how they are changed.

    Attributes:
        size: Height and width that training slices are cropped to, in pixels of the preparation.
        slice_step: Every n-th slice of a volume is used.
        foreground_only: Whether slices without an organ are skipped.
        batch_size: Slices in a batch.
        workers: Processes that load batches; 0 loads them in the training process.
        flip: Probability of an upside-down flip.
        mirror: Probability of a left-right mirror.
        rotate: Probability of a rotation.
        degrees: Largest angle of a rotation.
        intensity: Probability of a change of contrast, brightness and gamma.
    """

    size: tuple[int, int]
    slice_step: int = 1
    foreground_only: bool = False
    batch_size: int = 8
    workers: int = 0
    flip: float = 0.0
    mirror: float = 0.0
    rotate: float = 0.5
    degrees: float = 15.0
    intensity: float = 0.5

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_fields(self, "sampling")
        require(min(self.size) > 0, "sampling.size", "above 0", self.size)
        _at_least("sampling", self, 1, ("slice_step", "batch_size"))
        _at_least("sampling", self, 0, ("workers", "degrees"))
        for name in ("flip", "mirror", "rotate", "intensity"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"sampling.{name}", "a probability from 0 to 1", value)


@dataclass(frozen=True, kw_only=True)
class LossPlan:
    """The loss, see `guided_attention.losses.GuidedAttentionLoss`.

    Attributes:
        segmentation: Loss of each prediction of the network.
        segmentation_weight: Its weight.
        guidance_weight: Weight of the guidance of the attention.
        reconstruction_weight: Weight of the reconstructions of the autoencoders.
    """

    segmentation: Literal["dice_cross_entropy", "cross_entropy", "dice"] = "dice_cross_entropy"
    segmentation_weight: float = 1.0
    guidance_weight: float = 0.25
    reconstruction_weight: float = 0.1

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_fields(self, "loss")
        _at_least("loss", self, 0, ("segmentation_weight", "guidance_weight", "reconstruction_weight"))


@dataclass(frozen=True, kw_only=True)
class OptimizerPlan:
    """The optimizer.

    Attributes:
        name: ``"adamw"``, or ``"sgd"`` with Nesterov momentum 0.99.
        lr: Learning rate at the start.
        weight_decay: Decay of the weights.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 2e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_fields(self, "optimizer")
        require(self.lr > 0, "optimizer.lr", "above 0", self.lr)
        _at_least("optimizer", self, 0, ("weight_decay",))


@dataclass(frozen=True, kw_only=True)
class SchedulePlan:
    """How the learning rate falls over the run.

    Attributes:
        name: ``"polynomial"``, ``"cosine"`` or ``"constant"``.
        power: Exponent of the polynomial.
        warmup: Share of the run in which the rate rises from 0, for the cosine.
    """

    name: Literal["polynomial", "cosine", "constant"] = "polynomial"
    power: float = 0.9
    warmup: float = 0.0

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_fields(self, "schedule")
        require(self.power > 0, "schedule.power", "above 0", self.power)
        require(0 <= self.warmup < 1, "schedule.warmup", "at least 0 and below 1", self.warmup)


@dataclass(frozen=True, kw_only=True)
class BudgetPlan:
    """When training stops.

    Attributes:
        epochs: After so many epochs at the latest.
        minutes: After so many minutes, the validation included; None sets no limit.
    """

    epochs: int = 1000
    minutes: float | None = None

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_fields(self, "budget")
        _at_least("budget", self, 1, ("epochs",))
        require(self.minutes is None or self.minutes > 0, "budget.minutes", "above 0", self.minutes)


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Numbers of the training loop, see `guided_attention.training.TrainerConfig`.

    Attributes:
        clip_grad_norm: Largest norm of the gradient; None clips nothing.
        ema_decay: Decay of the moving average of the weights; None keeps none.
        accumulate: Batches whose gradients are added before a step.
        precision: Number format of the network in training.
        patience: Validations without improvement after which training stops; None never stops early.
        validate_every: Epochs from one validation to the next.
    """

    clip_grad_norm: float | None = 1.0
    ema_decay: float | None = 0.99
    accumulate: int = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    patience: int | None = None
    validate_every: int = 1

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_fields(self, "training")
        _at_least("training", self, 1, ("accumulate", "validate_every"))
        for name in ("clip_grad_norm", "patience"):
            value = getattr(self, name)
            require(value is None or value > 0, f"training.{name}", "above 0, or none", value)
        good = self.ema_decay is None or 0 < self.ema_decay < 1
        require(good, "training.ema_decay", "between 0 and 1, or none", self.ema_decay)


@dataclass(frozen=True, kw_only=True)
class InferencePlan:
    """How scans are predicted, see `guided_attention.inference.Predictor`.

    Attributes:
        batch_size: Slices that go through the network at once.
        precision: Number format of the network in prediction.
        keep_largest: Whether only the largest component of each organ is kept.
    """

    batch_size: int = 8
    precision: Literal["fp32", "bf16"] = "fp32"
    keep_largest: bool = False

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_fields(self, "inference")
        _at_least("inference", self, 1, ("batch_size",))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a training run and its predictions depend on, as one frozen record of plain values.

    `plan_for` fills it in; ``plan.json`` in a run folder holds it.

    Attributes:
        data: Which scans train, validate and test.
        labels: Which value of a label volume is which organ.
        preparation: What is done to a scan before the network sees it, fitted to the training cases.
        sampling: Which slices a step of training sees.
        network: Builder and arguments, see `guided_attention.models.build`; missing arguments have their defaults.
        loss: The loss.
        optimizer: The optimizer.
        schedule: How the learning rate falls.
        budget: When training stops.
        training: Numbers of the training loop.
        inference: How scans are predicted.
        seed: Of all random numbers of the run.
        reasons: Why a value is what it is, by its dotted name, such as ``"sampling.batch_size"``.

    Raises:
        ArgumentError: A number is out of range, or parts do not fit together.
        ArgumentTypeError: A value has the wrong type.

    Example:
        >>> from guided_attention.data import make_phantom
        >>> from guided_attention.recipes import plan_for
        >>> plan = plan_for([make_phantom(0, subject=number, size=32) for number in range(5)], minutes=1)
        >>> plan.with_values({"optimizer.lr": "1e-3"}).optimizer.lr
        0.001
        >>> Plan.from_dict(plan.to_dict()) == plan
        True
    """

    data: DataPlan
    labels: LabelSpec
    preparation: Preparation
    sampling: SamplingPlan
    network: ModelSettings
    loss: LossPlan = field(default_factory=LossPlan)
    optimizer: OptimizerPlan = field(default_factory=OptimizerPlan)
    schedule: SchedulePlan = field(default_factory=SchedulePlan)
    budget: BudgetPlan = field(default_factory=BudgetPlan)
    training: TrainingPlan = field(default_factory=TrainingPlan)
    inference: InferencePlan = field(default_factory=InferencePlan)
    seed: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        for name, kind in _PARTS.items():
            require_type(name, getattr(self, name), kind, f"a {kind.__name__}")
        require_type("seed", self.seed, int, "a whole number")
        require_type("reasons", self.reasons, Mapping, "a mapping from a dotted name to a text")
        object.__setattr__(self, "reasons", {str(key): str(text) for key, text in self.reasons.items()})
        arguments, wanted = self.network.arguments, self.labels.num_classes
        got = arguments.get("num_classes")
        require(got == wanted, "network.arguments.num_classes", f"that of the labels, {wanted}", got)
        require(self.preparation.fingerprint is not None, "preparation", "fitted", "one that is not", _FIT)
        channels, got = self.preparation.in_channels, arguments.get("in_channels")
        require(got == channels, "network.arguments.in_channels", f"that of the scans, {channels}", got)
        with torch.device("meta"):  # which costs nothing, and refuses an unknown builder or argument
            build(self.network)
        padded, size = self.preparation.min_size[-2:], self.sampling.size
        good = bool(padded) and all(low >= side for low, side in zip(padded, size, strict=True))
        cure = f"Set preparation.min_size to {size[0]},{size[1]} too: smaller slices are padded to it."
        require(good, "sampling.size", f"at most preparation.min_size, {padded}", size, cure)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, for JSON."""
        return {"version": _VERSION} | {one.name: plain(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Plan":
        """Return the plan that `to_dict` wrote.

        Raises:
            DataError: A key is unknown (the nearest known one is named) or missing, or the plan is of a newer version.
            ArgumentError, ArgumentTypeError: See `Plan`.
        """
        require_type("plan", values, Mapping, "a mapping")
        known = ("version", *(one.name for one in fields(cls)))
        require_known_keys("plan", values, known)
        version = values.get("version")
        cure = "Update guided-attention." if isinstance(version, int) and version > _VERSION else ""
        require(version == _VERSION, "plan.version", str(_VERSION), version, cure, error=DataError)
        missing = [name for name in known if name not in values]
        require(not missing, "plan", f"a mapping with {', '.join(known)}", f"no {missing}", error=DataError)
        parts = {name: _part(name, kind, values[name]) for name, kind in _PARTS.items()}
        return cls(**parts, seed=values["seed"], reasons=values["reasons"])

    def save(self, path: PathLike) -> Path:
        """Write the plan as JSON, atomically, and return the path; an existing file is replaced."""
        file = require_path("path", path)
        with replacing(file) as draft:
            draft.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return file

    @classmethod
    def load(cls, path: PathLike) -> "Plan":
        """Read a plan from its file, or from the run folder that holds ``plan.json``.

        Raises:
            MissingFileError: There is no such file.
            DataError: The file is no plan; the message names the key.
        """
        file = require_path("path", path)
        file = file / PLAN_FILE if file.is_dir() else file
        if not file.is_file():
            message = f"`path` must be a run folder with {PLAN_FILE}, or that file, got {path}."
            raise MissingFileError(f"{message} Make one with `plan_for(data).save(path)`.", file=file)
        try:
            return cls.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (GuidedAttentionError, OSError, ValueError, RecursionError) as error:
            message = f"`path` must be a plan, got {file}: {error}"
            raise DataError(message, argument="path", file=file) from error

    def with_values(self, values: Mapping[str, object]) -> "Plan":
        """Return a plan with other values, named by their dotted keys, such as ``{"optimizer.lr": "1e-3"}``.

        Args:
            values: Values by key; texts are read as the type of the value that they replace. Keys are those of
                `to_dict`, and every argument of the network's builder as ``network.arguments.<name>``.

        Raises:
            ArgumentError: A key is unknown (the nearest known one is named), or see `Plan`.
            ArgumentTypeError: A value has the wrong type.
        """
        require_type("values", values, Mapping, "a mapping from a dotted key to a value")
        contents = {name: part for name, part in self.to_dict().items() if name not in _FIXED}
        known = tuple(key for key, _ in _flat(contents))
        unknown = [key for key in values if not key.startswith(_ARGUMENTS) or key == _ARGUMENTS]
        _require_keys(unknown, known)
        for key, value in values.items():
            *way, last = key.split(".")
            inner = contents
            for name in way:
                inner = inner[name]
            inner[last] = parsed(value, inner.get(last)) if isinstance(value, str) else plain(value)
        reasons = {**self.reasons, **dict.fromkeys(values, _SET)}
        return Plan.from_dict({"version": _VERSION, **contents, "reasons": reasons})


_PARTS: Mapping[str, type] = {
    "data": DataPlan,
    "labels": LabelSpec,
    "preparation": Preparation,
    "sampling": SamplingPlan,
    "network": ModelSettings,
    "loss": LossPlan,
    "optimizer": OptimizerPlan,
    "schedule": SchedulePlan,
    "budget": BudgetPlan,
    "training": TrainingPlan,
    "inference": InferencePlan,
}
_FIXED = ("version", "reasons")
_ARGUMENTS = "network.arguments."
_FIT = "Call `Preparation.fit` with the training cases."


def differing_keys(plan: Plan, other: Plan) -> list[str]:
    """Return the dotted keys in which two plans differ."""
    first, second = (dict(_flat(one.to_dict())) for one in (plan, other))
    return [key for key in {**first, **second} if first.get(key, _NONE) != second.get(key, _NONE)]


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Return the values of nested mappings by their dotted keys."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _part(name: str, kind: type, values: object) -> Any:  # noqa: ANN401 - an instance of `kind`
    own = getattr(kind, "from_dict", None)
    return record_from(kind, values, name) if own is None else own(values)


def _at_least(where: str, record: object, least: int, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(record, name)
        require(value >= least, f"{where}.{name}", f"at least {least}", value)


def _require_keys(keys: list[str], known: tuple[str, ...]) -> None:
    """Raise for an unknown key; the message names the nearest only: there are some eighty."""
    for key in keys:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
        require(key in known, "values", "named by keys of the plan", repr(key), f"Did you mean {near!r}?")
