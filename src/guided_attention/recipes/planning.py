"""Planning: fills in a `Plan` from the scans and the machine, and says why."""

from functools import partial
from math import ceil, prod
from typing import get_args

import torch

from guided_attention._checks import (
    counted,
    cut_list,
    require,
    require_choice,
    require_positive,
    require_seed,
    require_type,
)
from guided_attention._sides import left_right_pairs, side_and_rest
from guided_attention.data import Patients
from guided_attention.errors import DataError
from guided_attention.inference import MirrorAxis, Precision
from guided_attention.inference.windows import starts
from guided_attention.inference.writing import PredictionWriter
from guided_attention.labels import LabelSpec
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.models import ModelSettings
from guided_attention.preparation import Preparation
from guided_attention.recipes import _machine as machine
from guided_attention.recipes._cases import Data, source_of
from guided_attention.recipes._plan_records import (
    AugmentationPlan,
    BudgetPlan,
    InferencePlan,
    SamplingPlan,
    TrainingPlan,
)
from guided_attention.recipes._shapes import STRIDE, Dimensions, Shapes, chosen_dimensions, fitted
from guided_attention.recipes._split import split_of
from guided_attention.recipes._survey import Survey
from guided_attention.recipes.plan import Plan

__all__ = ["plan_for"]

_MEASURED = (
    "the network of the highest mean Dice of five in equal minutes on left atrium volumes: "
    "benchmarks/results/left_atrium.md"
)
_ENCODER, _CHANNELS = "resnet18", 32
_BATCH = {2: 8, 3: 2}
"""Patches that a step sees, of slices and of volumes."""
_FOREGROUND = 1 / 3
_CURVES = 0.15
_LEAST_STEPS, _MOST_STEPS = 4, 250
"""Batches of an epoch."""
_VOLUMES = 3
_MINUTES = {"cpu": 20.0, "cuda": 60.0}
_SPACE = 2.0
"""Memory of a step beyond what the forward pass keeps, as a factor; 1.34 was measured on the CPU for the network of
the plan (15.9 MB more for each slice of 96 x 128 pixels, of which 11.9 MB are kept)."""
_IN_ONE_PIECE = 0.95
_VALIDATION, _BACKWARD = 0.07, 3.0
"""Largest share of the time that goes to validation, and cost of a slice in training over one in prediction."""


def plan_for(
    data: Data,
    *,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    labels: LabelSpec | None = None,
    patients: Patients | None = None,
    dimensions: Dimensions | None = None,
) -> Plan:
    """Return a plan for these scans and this machine; ``plan.reasons`` says why each value was chosen.

    The labelled training cases are read once, one after another; all labelled ones where nothing names the organs.
    Nothing is trained.

    Args:
        data: A folder in one of the layouts of `guided_attention.data.open_cohort`, a `Cohort`, or cases in memory.
        minutes: Limit of the training in minutes; None plans 20 for a CPU and 60 for a GPU.
        seed: Seed of the run, and of the split where the layout has none.
        device: Where the plan will be trained: a torch device, or ``"auto"`` for a GPU if there is one.
        labels: The organs; None takes those of the layout, or names the values found. To train some organs of many,
            pass ``open_cohort(folder, labels={5: "liver"})`` as `data`.
        patients: The patient of each case, by its name: a mapping or a function. All cases of a patient go into one
            part. None takes those that a CSV file names, or else each case for a patient of its own.
        dimensions: What the network sees: ``"2d"`` slices, ``"2.5d"`` slices with their neighbours as channels, or
            ``"3d"`` volumes. None chooses by the spacing, the number of slices and the device.

    Raises:
        MissingFileError: There is no such folder.
        DataError: The layout is unknown, it puts cases of one patient into two parts, no case is labelled, a scan
            cannot be used (the message names the file), left and right organs are not pairs in `labels`,
            or the layout or the `Cohort` names the values of `labels` otherwise.
        ArgumentError: A number is out of range, or the device does not exist.
        ArgumentTypeError: An argument has the wrong type.

    Example:
        >>> from guided_attention.data import CHAOS_MR_LABELS, make_phantom
        >>> cases = [make_phantom(0, subject=number, size=32) for number in range(1, 6)]
        >>> plan = plan_for(cases, minutes=1, labels=CHAOS_MR_LABELS)
        >>> len(plan.data.train), plan.sampling.size, plan.reasons["budget.minutes"]
        (3, (32, 64), 'as asked')
    """
    if minutes is not None:
        require_positive("minutes", minutes)
    require_seed(seed)
    require_type("labels", labels, (LabelSpec, type(None)), "a LabelSpec or None")
    if dimensions is not None:
        require_choice("dimensions", dimensions, get_args(Dimensions))
    place = machine.device_of(device)
    source = source_of(data, labels)
    why: dict[str, str] = {}
    parts = split_of(source, seed, patients, why)
    for name in (*parts.val, *parts.test):  # those that will be predicted
        PredictionWriter().paths(name, "")
    survey = Survey(source.labels)
    preparation = survey.fitted(source.readers(parts.train))
    if source.labels is None:
        others = {*parts.val, *parts.test} & set(source.labelled) - set(parts.train)
        for read in source.readers(sorted(others)):
            survey.add_values(read())
    assert preparation.fingerprint is not None  # noqa: S101 - it is fitted
    chosen = chosen_dimensions(preparation.fingerprint, dimensions, place, why)
    organs = _labels(survey, source.layout, why)
    is_ct, held = all(survey.are_ct), partial(_voxels_held, preparation, organs, place)
    preparation, size = fitted(preparation, chosen, is_ct=is_ct, device=place, held=held, why=why)
    network = _network(preparation.in_channels, len(size), organs, why)
    shapes = Shapes.of(preparation)
    size_of_volumes = machine.megabytes(shapes.bytes_of_volumes)
    if source.cohort is None:
        why["data.train"] += f"; prepared, they take {size_of_volumes} of memory"
    else:
        why["data.cache"] = (
            f"prepared, the training cases take {size_of_volumes} of disk, in the run folder until the run has ended; "
            "name a folder to keep them for other runs"
        )
    sampling, accumulate = _sampling(size, shapes, network, place, why)
    augmentation = _augmentation(organs, len(size), is_ct=is_ct, why=why)
    return Plan(
        data=parts,
        labels=organs,
        preparation=preparation,
        sampling=sampling,
        network=network,
        augmentation=augmentation,
        budget=_budget(minutes, place, why),
        training=_training(accumulate, sampling, shapes, len(parts.val), place, why),
        inference=_inference(survey, size, augmentation.mirror_axes, place, why),
        seed=seed,
        reasons=why,
    )


def _labels(survey: Survey, layout: str, why: dict[str, str]) -> LabelSpec:
    given = survey.labels is not None
    why["labels.names"] = (
        f"as said by the layout ({layout}) or by hand"
        if given
        else "values found in the label volumes of all labelled cases; nothing names them"
    )
    if survey.labels is not None and survey.labels.others_are_background:
        why["labels.names"] += "; other values are background"
        missing = [value for value in survey.labels.values if value not in survey.values]
        wanted, cure = "organs that a training case has", "Correct the value, or leave the organ out."
        require(not missing, "labels", wanted, f"also {cut_list(missing)}", cure, error=DataError)
    return survey.found_labels


def _network(in_channels: int, dims: int, labels: LabelSpec, why: dict[str, str]) -> ModelSettings:
    network = _settings(in_channels, dims, labels)
    on_disk = machine.megabytes(machine.bytes_of_checkpoints(network))
    why["network.builder"] = (
        f"MSGA lite is {_MEASURED}; the checkpoints of a run ask for {on_disk} of free disk in its folder"
    )
    why["network.arguments.in_channels"] = "channels of the scans, of each slice and its neighbours"
    why["network.arguments.num_classes"] = f"the background and {len(labels.values)} more"
    why["network.arguments.spatial_dims"] = "as the patches"
    for name in ("encoder", "channels"):
        why[f"network.arguments.{name}"] = f"as measured there with {_ENCODER} and {_CHANNELS} channels"
    for name in ("optimizer.lr", "optimizer.weight_decay", "schedule.name", "training.ema_decay"):
        why[name] = "as in that measurement"
    why["training.clip_grad_norm"] = (
        "as in that measurement: a bad batch moves the weights no further than a usual one"
    )
    return network


def _settings(in_channels: int, dims: int, labels: LabelSpec) -> ModelSettings:
    arguments = {"in_channels": in_channels, "num_classes": labels.num_classes, "spatial_dims": dims}
    return ModelSettings("msga_lite", {**arguments, "encoder": _ENCODER, "channels": _CHANNELS})


def _voxels_held(preparation: Preparation, labels: LabelSpec, device: torch.device) -> int:
    """Return how many voxels of volumes a step can train on in half of the free memory."""
    network = _settings(preparation.in_channels, _VOLUMES, labels)
    size = (STRIDE,) * _VOLUMES
    fixed, of_patch = _step(network, size)
    left = machine.free_bytes(device) - fixed
    return int(max(left, 0) * prod(size) / _of_batch(of_patch))


def _step(network: ModelSettings, size: tuple[int, ...]) -> tuple[int, int]:
    """Return the memory of the weights, and of each patch, in a step of training."""
    loss = GuidedAttentionLoss(DiceCrossEntropyLoss())
    channels = int(str(network.arguments["in_channels"]))
    return machine.bytes_of_step(network, loss, channels=channels, size=size)


def _of_batch(of_patch: int) -> float:
    """Return the free memory that a patch asks for: twice what it takes, as other work needs some."""
    return 2 * _SPACE * max(of_patch, 1)


def _sampling(
    size: tuple[int, ...], shapes: Shapes, network: ModelSettings, device: torch.device, why: dict[str, str]
) -> tuple[SamplingPlan, int]:
    """Return the sampling, and how many batches are averaged into a step so that it sees a whole batch."""
    wanted = _BATCH[len(size)]
    batch = _batch_size(size, wanted, network, device, shapes, why)
    unforced = batch - ceil(batch * _FOREGROUND)
    depths = shapes.sides[0] if len(size) < _VOLUMES else prod(shapes.sides) / prod(size)
    once = ceil(shapes.cases * depths / max(1, unforced))
    steps = min(_MOST_STEPS, max(_LEAST_STEPS, once))
    why["sampling.steps"] = (
        f"an epoch that sees all training scans once takes {counted(once, 'batch', 'batches')}; "
        f"at least {_LEAST_STEPS} and at most {_MOST_STEPS}"
    )
    why["sampling.foreground"] = "as nnU-Net: organs are small, and most patches would hold none"
    workers = 0 if device.type == "cpu" else max(0, min(4, machine.cores() - 1))
    why["sampling.workers"] = (
        "the network needs the cores itself"
        if device.type == "cpu"
        else "they prepare batches while the GPU works"
    )
    record = SamplingPlan(size=size, batch_size=batch, steps=steps, foreground=_FOREGROUND, workers=workers)
    return record, max(1, wanted // batch)


def _augmentation(labels: LabelSpec, dims: int, *, is_ct: bool, why: dict[str, str]) -> AugmentationPlan:
    why["augmentation.strength"] = "the changes of nnU-Net's trainer"
    why["augmentation.curve_probability"] = (
        "values of CT mean the same in every scan"
        if is_ct
        else "scans of other contrasts score higher, those of the same contrast about the same: "
        "benchmarks/results/contrasts.json"
    )
    return AugmentationPlan(
        mirror_axes=_mirrored(labels, dims, why), curve_probability=0.0 if is_ct else _CURVES
    )


def _mirrored(labels: LabelSpec, dims: int, why: dict[str, str]) -> tuple[MirrorAxis, ...]:
    """Return along which axes patches are mirrored, in training and prediction, and say why."""
    names = list(labels.names.values())
    mates = {value for pair in (*labels.pairs, *left_right_pairs(labels.names)) for value in pair}
    all_axes: tuple[MirrorAxis, ...] = ("depth", "height", "width")
    axes = all_axes[-dims:]
    if mates == set(labels.values):
        reason = "left and right organs, which change names where a patch is mirrored"
    elif len(names) > 1:
        # A mirrored liver teaches a network to look for it on the left.
        axes, reason = (), "several organs, which are told apart by their sides"
    elif side_and_rest(names[0])[0]:  # also by a single letter: not to mirror is the safe side
        axes, reason = (), f"{names[0]}, which looks like the organ of the other side when mirrored"
    else:
        reason = "one organ, which looks alike mirrored"
    why["augmentation.mirror_axes"] = reason
    why["inference.mirror_axes"] = "as in training; each axis doubles the time of a prediction"
    return axes


def _batch_size(
    size: tuple[int, ...],
    wanted: int,
    network: ModelSettings,
    device: torch.device,
    shapes: Shapes,
    why: dict[str, str],
) -> int:
    free = machine.free_bytes(device)
    fixed, of_patch = _step(network, size)
    # The prepared volumes are held in memory only where the cases are; on a GPU they are elsewhere.
    held = shapes.bytes_of_volumes if "data.cache" not in why and device.type == "cpu" else 0
    left = free - fixed - held
    fitting = int(max(left, 0) / _of_batch(of_patch))
    batch = max(1, min(wanted, fitting))
    why["sampling.batch_size"] = (
        f"{wanted}, at most half of the free memory: {machine.megabytes(free)} are free, weights take "
        f"{machine.megabytes(fixed)}, each patch {machine.megabytes(_SPACE * of_patch)}"
    )
    return batch


def _budget(minutes: float | None, device: torch.device, why: dict[str, str]) -> BudgetPlan:
    chosen = _MINUTES.get(device.type, _MINUTES["cuda"]) if minutes is None else float(minutes)
    why["budget.minutes"] = (
        "as asked"
        if minutes is not None
        else (
            "about as long as in the measurement on the left atrium; more minutes score higher"
            if device.type == "cpu"
            else "an hour; more minutes score higher"
        )
    )
    why["budget.epochs"] = "the minutes end the run"
    return BudgetPlan(minutes=chosen)


def _training(
    accumulate: int,
    sampling: SamplingPlan,
    shapes: Shapes,
    validated: int,
    device: torch.device,
    why: dict[str, str],
) -> TrainingPlan:
    precision = _precision(len(sampling.size), device, why)
    why["training.accumulate"] = (
        f"so that a step sees {accumulate * sampling.batch_size} patches where memory allows fewer at once"
        if accumulate > 1
        else "memory allows a whole batch at once"
    )
    trained = sampling.steps * sampling.batch_size * prod(sampling.size)
    cost = validated * _predicted(shapes.sides, sampling.size) / (_BACKWARD * trained)
    every = max(1, ceil(cost / _VALIDATION))
    why["training.validate_every"] = (
        f"a validation takes about {cost:.0%} of the time of an epoch, and should take {_VALIDATION:.0%} at most"
    )
    return TrainingPlan(accumulate=accumulate, precision=precision, validate_every=every)


def _precision(dims: int, device: torch.device, why: dict[str, str]) -> Precision:
    fast = machine.has_fast_bf16(device)
    if fast and dims == _VOLUMES and device.type == "cpu":
        why["training.precision"] = "on a CPU, torch's convolutions of volumes are wrong in bfloat16"
        return "fp32"
    why["training.precision"] = f"the {device.type} " + (
        "computes bfloat16 in hardware" if fast else "has no hardware for bfloat16"
    )
    return "bf16" if fast else "fp32"


def _predicted(sides: tuple[int, int, int], size: tuple[int, ...]) -> int:
    """Return the voxels that go through the network for a scan: windows overlap."""
    windows = (1,) * (_VOLUMES - len(size)) + size
    along = (starts(side, window, InferencePlan.overlap) for side, window in zip(sides, windows, strict=True))
    return prod(len(each) for each in along) * prod(size)


def _inference(
    survey: Survey,
    size: tuple[int, ...],
    mirrored: tuple[MirrorAxis, ...],
    device: torch.device,
    why: dict[str, str],
) -> InferencePlan:
    whole = survey.in_one_piece >= _IN_ONE_PIECE
    why["inference.keep_largest"] = (
        f"the largest component of an organ holds {survey.in_one_piece:.1%} of it or more in every training case"
        + ("" if whole else f", and {_IN_ONE_PIECE:.0%} are wanted")
    )
    why["inference.patch_size"] = "windows of the size that training sees"
    why["inference.precision"] = "as in training"
    return InferencePlan(
        batch_size=_BATCH[len(size)],
        precision=_precision(len(size), device, why),
        patch_size=size,
        mirror_axes=mirrored,
        keep_largest=whole,
    )
