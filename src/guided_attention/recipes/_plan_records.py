"""The parts of a plan, each a frozen record of plain values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guided_attention._checks import repeated, require
from guided_attention.data import Opening
from guided_attention.inference import MirrorAxis
from guided_attention.inference import Precision as InferencePrecision
from guided_attention.recipes._records import check_fields
from guided_attention.training.config import Precision as TrainingPrecision

__all__ = [
    "AugmentationPlan",
    "BudgetPlan",
    "DataPlan",
    "InferencePlan",
    "LossPlan",
    "OptimizerPlan",
    "SamplingPlan",
    "SchedulePlan",
    "TrainingPlan",
    "absolute",
]

_DIMS = (2, 3)
"""Numbers of sides of a patch."""


def absolute(folder: Path) -> str:
    """Return where the data lie. A CSV file that is a link stays one: its paths are relative to where the link is."""
    return str(folder.parent.resolve() / folder.name if folder.is_file() else folder.resolve())


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """Which scans train, validate and test.

    Attributes:
        folder: Absolute path of the data; None for cases in memory.
        layout: How the folder is laid out, see `guided_attention.data.open_cohort`; ``"memory"`` for cases in memory.
        train: Names of the cases that the weights are fitted to.
        val: Names of the cases that select the best epoch; those of `train` where there is a single case. Without any,
            the weights of the last epoch count.
        test: Names of the cases that are predicted at the end; may be empty.
        spacing_mm: Distance between the voxels of PNG slices, which hold none, (z, y, x); None for other layouts.
        channels: What the names of image files end in, one a channel; None finds out, see `open_cohort`.
        resample_channels: Whether channels are interpolated onto the grid of the first.
        max_bytes: What each volume may take in memory when it is read.
        series: Which series is read of DICOM folders that hold several: name, number or description.
        cache: Folder for the prepared volumes, which other runs may use too and which is kept; None for ``cache`` in
            the run folder, which is deleted when the run has ended.
        patients: The cases of each patient who has several; they are in one part, and in one fold.
    """

    folder: str | None
    layout: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    spacing_mm: tuple[float, float, float] | None = None
    channels: tuple[str, ...] | None = None
    resample_channels: bool = False
    max_bytes: int = Opening.max_bytes
    series: str | None = None
    cache: str | None = None
    patients: tuple[tuple[str, ...], ...] = ()

    @property
    def opening(self) -> Opening:
        """How the folder is opened."""
        return Opening(
            self.layout,
            self.spacing_mm,
            self.channels,
            self.resample_channels,
            self.max_bytes,
            self.series,
        )

    def __post_init__(self) -> None:
        """Check types, and that no case leaks from one part into another."""
        check_fields(self, "data")
        require(bool(self.train), "data.train", "at least one case", "none")
        for name, part, others in (
            ("data.train", self.train, self.test),
            ("data.val", self.val, self.test + (self.train if self.val != self.train else ())),
        ):
            twice = sorted(set(part) & set(others)) or repeated(part)
            require(not twice, name, "without cases of another part", twice)

    def require_patients_apart(self) -> None:
        """Raise where the cases of one patient are in several parts. What older runs have learned still predicts."""
        parts = {"train": self.train, "val": () if self.val == self.train else self.val, "test": self.test}
        for cases in self.patients:
            held = [f"data.{name}" for name, part in parts.items() if set(part) & set(cases)]
            cure = "Move all of them to one part."
            require(len(held) < 2, "data", f"one part for the cases of a patient, {cases}", held, cure)  # noqa: PLR2004


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """Which patches a step of training sees, see `guided_attention.sampling.PatchBatches`.

    Attributes:
        size: Sides of a patch in voxels of the preparation: ``(height, width)`` cuts slices, whose neighbours are
            those of the preparation, ``(depth, height, width)`` cuts volumes.
        batch_size: Patches in a batch, of all processes together.
        steps: Batches in an epoch.
        foreground: Share of a batch that is forced to hold an organ.
        workers: Processes that load batches; 0 loads them in the training process.
    """

    size: tuple[int, ...]
    batch_size: int = 8
    steps: int = 250
    foreground: float = 1 / 3
    workers: int = 0

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_fields(self, "sampling")
        wanted = "a height and a width, or a depth before them"
        require(len(self.size) in _DIMS, "sampling.size", wanted, self.size)
        require(min(self.size) > 0, "sampling.size", "above 0", self.size)
        _at_least("sampling", self, 1, ("batch_size", "steps"))
        _at_least("sampling", self, 0, ("workers",))
        require(0 <= self.foreground <= 1, "sampling.foreground", "from 0 to 1", self.foreground)


@dataclass(frozen=True, kw_only=True)
class AugmentationPlan:
    """How patches are changed at random, see `guided_attention.sampling.default_augmentation`.

    Attributes:
        strength: Which set of changes: ``"standard"`` or ``"strong"``. ``"none"`` only mirrors.
        mirror_axes: Axes along which patches are mirrored, with probability 1/2 each; no strength mirrors others.
        curve_probability: How often the intensities of a patch are mapped by an
            `guided_attention.sampling.IntensityCurve`, for scans of other contrasts than those trained on; never
            with the strength ``"none"``.
    """

    strength: Literal["none", "standard", "strong"] = "standard"
    mirror_axes: tuple[MirrorAxis, ...] = ()
    curve_probability: float = 0.0

    def __post_init__(self) -> None:
        """Check the types."""
        check_fields(self, "augmentation")
        twice = repeated(self.mirror_axes)
        require(not twice, "augmentation.mirror_axes", "different axes", twice)
        chance = self.curve_probability
        require(0 <= chance <= 1, "augmentation.curve_probability", "from 0 to 1", chance)


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
        accumulate: Batches whose gradients are averaged into one step.
        precision: Number format of the network in training.
        patience: Validations without improvement after which training stops; None never stops early.
        validate_every: Epochs from one validation to the next.
    """

    clip_grad_norm: float | None = 1.0
    ema_decay: float | None = 0.99
    accumulate: int = 1
    precision: TrainingPrecision = "fp32"
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
        batch_size: Slices or windows that go through the network at once.
        precision: Number format of the network in prediction.
        patch_size: Sides of the sliding windows; None predicts whole slices or volumes.
        overlap: Share of a window that the next one covers again.
        mirror_axes: Axes over whose mirrored copies the logits are averaged; validation uses none.
        keep_largest: Whether only the largest component of each organ is kept.
    """

    batch_size: int = 8
    precision: InferencePrecision = "fp32"
    patch_size: tuple[int, ...] | None = None
    overlap: float = 0.5
    mirror_axes: tuple[MirrorAxis, ...] = ()
    keep_largest: bool = False

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_fields(self, "inference")
        _at_least("inference", self, 1, ("batch_size",))
        sides, twice = self.patch_size, repeated(self.mirror_axes)
        require(sides is None or min(sides, default=0) > 0, "inference.patch_size", "above 0, or none", sides)
        require(0 <= self.overlap < 1, "inference.overlap", "at least 0 and below 1", self.overlap)
        require(not twice, "inference.mirror_axes", "different axes", twice)


def _at_least(where: str, record: object, least: int, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(record, name)
        require(value >= least, f"{where}.{name}", f"at least {least}", value)
