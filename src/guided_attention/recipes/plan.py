"""Plan: everything that a training run and its predictions depend on, as one frozen record."""

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import torch

from guided_attention._checkpoints import Plain
from guided_attention._checks import require, require_known_keys, require_path, require_seed, require_type
from guided_attention._files import PathLike, write_json
from guided_attention._geometry import CANONICAL
from guided_attention._sides import mirrors_sides
from guided_attention.errors import DataError, GuidedAttentionError, MissingFileError
from guided_attention.inference import Precision as InferencePrecision
from guided_attention.labels import LabelSpec
from guided_attention.models import ModelSettings, build
from guided_attention.models.pretrained import arguments_of
from guided_attention.preparation import Preparation
from guided_attention.recipes._plan_records import (
    AugmentationPlan,
    BudgetPlan,
    DataPlan,
    InferencePlan,
    LossPlan,
    OptimizerPlan,
    SamplingPlan,
    SchedulePlan,
    TrainingPlan,
    absolute,
)
from guided_attention.recipes._records import example, plain, record_from, require_keys, value_of

__all__ = [
    "ARGUMENTS",
    "PARTS",
    "PLAN_FILE",
    "Plan",
    "differing_keys",
    "flat_values",
    "require_buildable",
]

_VERSION = 3
PLAN_FILE = "plan.json"
"""Name of the plan in a run folder."""
_VOLUMES = 3
_SET = "set by hand"
_NONE = object()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a training run and its predictions depend on, as one frozen record of plain values.

    `plan_for` fills it in; ``plan.json`` in a run folder holds it.

    Attributes:
        data: Which scans train, validate and test.
        labels: Which value of a label volume is which organ.
        preparation: What is done to a scan before the network sees it, fitted to the training cases.
        sampling: Which patches a step of training sees.
        augmentation: How they are changed at random.
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
        DataError: Patches are mirrored, and an organ named left or right has no mate in ``labels.pairs``.

    Example:
        >>> from guided_attention.data import make_phantom
        >>> from guided_attention.recipes import plan_for
        >>> plan = plan_for([make_phantom(0, subject=number, size=32) for number in range(1, 6)], minutes=1)
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
    augmentation: AugmentationPlan = field(default_factory=AugmentationPlan)
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
        for name, kind in PARTS.items():
            require_type(name, getattr(self, name), kind, f"a {kind.__name__}")
        require_seed(self.seed)
        require_type("reasons", self.reasons, Mapping, "a mapping from a dotted name to a text")
        object.__setattr__(self, "reasons", {str(key): str(text) for key, text in self.reasons.items()})
        arguments, wanted = self.network.arguments, self.labels.num_classes
        got = arguments.get("num_classes")
        require(got == wanted, "network.arguments.num_classes", f"that of the labels, {wanted}", got)
        cure = "Call `Preparation.fit` with the training cases."
        require(self.preparation.fingerprint is not None, "preparation", "fitted", "one that is not", cure)
        axis, spacing = self.preparation.slice_axis, self.preparation.spacing_mm
        known, found = axis is not None and spacing != "median", f"{axis} and {spacing}"
        cure = "Set slice_axis to axial, coronal or sagittal, and spacing_mm to numbers, or plan anew."
        require(known, "preparation", "of a known axis and spacing", found, cure)
        channels, got = self.preparation.in_channels, arguments.get("in_channels")
        require(got == channels, "network.arguments.in_channels", f"that of the scans, {channels}", got)
        require_buildable(self.network)
        self._check_patches()

    def _check_patches(self) -> None:
        """Check that patches fit the preparation, the network and the mirrors."""
        padded, size = self.preparation.min_size, self.sampling.size
        dims, joined = self.network.arguments.get("spatial_dims", 2), self.preparation.neighbours
        cure = f"Set sampling.size to {dims} sides, or plan with other dimensions."
        require(len(size) == dims, "sampling.size", f"of {dims} sides, as the network", size, cure)
        cure = "Volumes hold their neighbours: plan with other dimensions."
        require(dims != _VOLUMES or joined == 0, "preparation.neighbours", "0 for volumes", joined, cure)
        good = len(padded) >= len(size) and all(
            low >= side for low, side in zip(padded[-len(size) :], size, strict=True)
        )
        sides = ",".join(str(side) for side in size)
        cure = f"Set preparation.min_size to {sides} too: smaller scans are padded to it."
        require(good, "sampling.size", f"at most preparation.min_size, {padded}", size, cure)
        window = self.inference.patch_size
        require(
            window is None or len(window) == dims, "inference.patch_size", f"of {dims} sides or none", window
        )
        for where, axes in (
            ("augmentation", self.augmentation.mirror_axes),
            ("inference", self.inference.mirror_axes),
        ):
            good = dims == _VOLUMES or "depth" not in axes
            require(good, f"{where}.mirror_axes", "of height and width for slices", axes)
        mirrored = self.augmentation.mirror_axes or self.inference.mirror_axes
        if mirrored and mirrors_sides(len(size), self.preparation.slice_axis, joined):
            self.labels.require_sides("labels")

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
        cure = "Update guided-attention." if isinstance(version, int) and version > _VERSION else _OLD
        require(version == _VERSION, "plan.version", str(_VERSION), version, cure, error=DataError)
        missing = [name for name in known if name not in values]
        require(not missing, "plan", f"a mapping with {', '.join(known)}", f"no {missing}", error=DataError)
        require_seed(values["seed"])
        parts = {name: _part(name, kind, values[name]) for name, kind in PARTS.items()}
        return cls(**parts, seed=values["seed"], reasons=values["reasons"])

    def save(self, path: PathLike) -> Path:
        """Write the plan as JSON, atomically, and return the path; an existing file is replaced."""
        return write_json(require_path("path", path), self.to_dict())

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
                `to_dict`, and every argument of the network's builder as ``network.arguments.<name>``. Another
                ``network.builder`` keeps the arguments that it takes. Another ``preparation.slice_axis`` turns the
                fingerprint; spacing and sizes, (depth, height, width), stay as planned for the old axis. Mirrors,
                windows and precision of the inference that were planned as in training follow it, unless they are, or
                were, set by hand.

        Raises:
            ArgumentError: A key is unknown (the nearest known one is named), or see `Plan`.
            ArgumentTypeError: A value has the wrong type.

        Warns:
            UserWarning: The inference mirrors along an axis along which training does not.
        """
        require_type("values", values, Mapping, "a mapping from a dotted key to a value")
        contents = {name: part for name, part in self.to_dict().items() if name not in _FIXED}
        axis = next((one for one in CANONICAL if one == values.get("preparation.slice_axis")), None)
        if axis is not None:
            contents["preparation"] = replace(self.preparation, slice_axis=axis).to_dict()
        known = tuple(key for key, _ in flat_values(contents))
        require_keys([key for key in values if not _is_argument(key)], known)
        if values.get("network.builder", self.network.builder) != self.network.builder:
            takes = arguments_of(str(values["network.builder"]))
            planned = contents["network"]["arguments"].items()
            contents["network"]["arguments"] = {name: value for name, value in planned if name in takes}
        for key, value in values.items():
            *way, last = key.split(".")
            inner = contents
            for name in way:
                inner = inner[name]
            inner[last] = value_of(value, example(PARTS.get(way[0] if way else ""), last, inner.get(last)))
        reasons = {**self.reasons, **dict.fromkeys(values, _SET)}
        _follow(values, contents, reasons)
        if "data.folder" in values and contents["data"]["folder"] is not None:
            contents["data"]["folder"] = absolute(require_path("data.folder", contents["data"]["folder"]))
        changed = Plan.from_dict({"version": _VERSION, **contents, "reasons": reasons})
        changed.data.require_patients_apart()
        _say_unseen_mirrors(changed, values)
        return changed


PARTS: Mapping[str, type] = {
    "data": DataPlan,
    "labels": LabelSpec,
    "preparation": Preparation,
    "sampling": SamplingPlan,
    "augmentation": AugmentationPlan,
    "network": ModelSettings,
    "loss": LossPlan,
    "optimizer": OptimizerPlan,
    "schedule": SchedulePlan,
    "budget": BudgetPlan,
    "training": TrainingPlan,
    "inference": InferencePlan,
}
"""The records that a plan is made of."""
_FIXED = ("version", "reasons")
_AS_IN_TRAINING = {
    "mirror_axes": ("augmentation", "mirror_axes"),
    "patch_size": ("sampling", "size"),
    "precision": ("training", "precision"),
}
"""Values of a prediction that are planned as those of the training."""
_OLD = "Plan and train anew; what an older run has learned still predicts: name its best.pt."
ARGUMENTS = "network.arguments."
"""What the keys of the arguments of a network's builder begin with."""


def _follow(values: Mapping[str, object], contents: Mapping[str, Any], reasons: dict[str, str]) -> None:
    """Let what was planned as in training stay so, unless it is, or was, set by hand."""
    for name, (part, key) in _AS_IN_TRAINING.items():
        where = f"inference.{name}"
        if f"{part}.{key}" not in values or reasons.get(where, _SET) == _SET:
            continue
        value = contents[part][key]
        if name == "precision" and value not in get_args(InferencePrecision):
            del reasons[where]  # fp16 is one of training only
        else:
            contents["inference"][name] = value


def _say_unseen_mirrors(plan: Plan, values: Mapping[str, object]) -> None:
    """Warn where a value that is set by hand makes a prediction average over mirrors that training lacks."""
    seen, asked = plan.augmentation.mirror_axes, plan.inference.mirror_axes
    unseen = [axis for axis in asked if axis not in seen]
    if unseen and {"inference.mirror_axes", "augmentation.mirror_axes"} & values.keys():
        axes = ",".join(axis for axis in asked if axis in seen) or "none"
        said = f"`inference.mirror_axes` has {', '.join(unseen)}, along which training mirrors no patch: the network"
        cure = f"has never seen such a copy. Set inference.mirror_axes={axes}, or mirror in training too."
        warnings.warn(f"{said} {cure}", UserWarning, stacklevel=3)


def differing_keys(plan: Plan, other: Plan) -> list[str]:
    """Return the dotted keys in which two plans differ."""
    first, second = (dict(flat_values(one.to_dict())) for one in (plan, other))
    return [key for key in {**first, **second} if first.get(key, _NONE) != second.get(key, _NONE)]


def require_buildable(network: ModelSettings) -> None:
    """Raise for an unknown builder or argument."""
    _built_without_memory(network.builder, tuple(network.arguments.items()))


@lru_cache(maxsize=8)
def _built_without_memory(builder: str, arguments: tuple[tuple[str, Plain], ...]) -> None:
    with torch.device("meta"):
        build(ModelSettings(builder, dict(arguments)))


def _is_argument(key: str) -> bool:
    """Return whether a key names an argument of the network's builder, known or not."""
    name = key.removeprefix(ARGUMENTS)
    return name not in {"", key} and "." not in name


def flat_values(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Return the values of nested mappings by their dotted keys."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat_values(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _part(name: str, kind: type, values: object) -> Any:  # noqa: ANN401 - an instance of `kind`
    own = getattr(kind, "from_dict", None)
    return record_from(kind, values, name) if own is None else own(values)
