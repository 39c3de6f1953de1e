"""Checks of what the trainer is passed, before any work starts."""

from collections.abc import Iterable, Mapping
from types import NoneType

import torch
from torch import Tensor, float16, nn
from torch.nn.parameter import is_lazy
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from guided_attention._checkpoints import differing_settings
from guided_attention._checks import counted, cut_list, require, require_type
from guided_attention._distributed import own_device, world_size
from guided_attention.errors import ArgumentTypeError
from guided_attention.training.config import TrainerConfig

__all__ = [
    "require_config",
    "require_metadata",
    "require_optimizer",
    "require_own_device",
    "require_precision",
    "unwrapped",
]


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside ``torch.compile``; raise for wrappers that would train less than they say."""
    require_type("model", model, nn.Module, "a torch.nn.Module")
    inner = getattr(model, "_orig_mod", model)
    wanted = "a network that is not wrapped"
    reason = "It calls forward() only, so that deep supervision and guidance would be lost. Pass its .module."
    require(not isinstance(inner, nn.DataParallel), "model", wanted, "a DataParallel", reason)
    reason = "Pass its .module: the Trainer adds up the gradients of all processes by itself."
    several = isinstance(inner, nn.parallel.DistributedDataParallel)
    require(not several, "model", wanted, "a DistributedDataParallel", reason)
    half = getattr(inner, "_compiled_call_impl", None) is not None and hasattr(inner, "outputs")
    reason = (
        "model.compile() compiles forward() only. Pass torch.compile(model): network and loss are compiled."
    )
    require(not half, "model", wanted, "one that was compiled in place", reason)
    require_type("model", inner, nn.Module, "a torch.nn.Module")
    lazy = [name for name, part in inner.named_parameters() if is_lazy(part)]
    reason = "Pass one batch through it, then make the optimizer of its parameters."
    require(not lazy, "model", "a network whose sizes are known", f"one with lazy {cut_list(lazy)}", reason)
    return inner


def require_optimizer(optimizer: Optimizer, module: nn.Module) -> None:
    """Raise unless the optimizer changes parameters of network and loss, and nothing else."""
    require_type("optimizer", optimizer, Optimizer, "a torch.optim.Optimizer")
    ours = {id(parameter) for parameter in module.parameters()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    strange = sum(id(parameter) not in ours for parameter in held)
    wanted = "one of the parameters of `model` and `loss`"
    got = f"one with {strange} of {counted(len(held), 'parameter')} not among theirs"
    cure = "Make it of model.parameters(), after the last layer was replaced."
    require(strange == 0, "optimizer", wanted, got, cure)
    trained = any(parameter.requires_grad for parameter in held)
    cure = "Set requires_grad_(True) on what is to be trained."
    require(
        trained,
        "optimizer",
        "one of parameters that are trained",
        "one whose parameters are all frozen",
        cure,
    )
    needs_closure = isinstance(optimizer, LBFGS)
    cure = "It computes the loss several times a step. Use another one, such as AdamW."
    require(not needs_closure, "optimizer", "one whose step() needs no closure", "LBFGS", cure)


def require_config(config: TrainerConfig, optimizer: Optimizer, validate: object) -> None:
    """Raise where settings do not fit the optimizer, or need a validation that there is not."""
    require_type("config", config, TrainerConfig, "a TrainerConfig")
    validated, got = validate is not None, f"a {type(validate).__name__}"
    good = not validated or callable(validate)
    require(good, "validate", "a function of the network", got, error=ArgumentTypeError)
    schedule = config.schedule
    if isinstance(schedule, LRScheduler):
        same = schedule.optimizer is optimizer
        require(
            same, "schedule", "a scheduler of `optimizer`", "one of another", "Make it of this optimizer."
        )
        _require_fit(schedule, config, validated=validated)
    halves = any(part.dtype == float16 for group in optimizer.param_groups for part in group["params"])
    cure = 'Call model.float(): under precision="fp16" the weights stay in float32.'
    require(not halves or config.precision != "fp16", "model", "one of float32 weights", "float16", cure)
    cure = "Pass `validate`, or leave it None."
    require(
        validated or config.patience is None, "patience", "None without `validate`", config.patience, cure
    )


def _require_fit(schedule: LRScheduler, config: TrainerConfig, *, validated: bool) -> None:
    """Raise for a scheduler of torch that would do something else here than its user expects."""
    if isinstance(schedule, ReduceLROnPlateau):
        cure = "Pass `validate`, or use another scheduler."
        require(
            validated, "schedule", "one that needs no score without `validate`", "ReduceLROnPlateau", cure
        )
        cure = "Validation scores are higher where they are better: ReduceLROnPlateau(optimizer, mode='max')."
        require(schedule.mode == "max", "schedule", "of mode 'max'", repr(schedule.mode), cure)
    if isinstance(schedule, OneCycleLR):
        wanted, cure = f"of total_steps={config.max_epochs}, as max_epochs", "It is stepped once an epoch."
        fits = schedule.total_steps == config.max_epochs
        require(fits, "schedule", wanted, f"total_steps={schedule.total_steps}", cure)


def require_own_device(device: torch.device) -> None:
    """Raise where several processes of a machine would share a GPU."""
    if world_size() == 1 or device.type != "cuda" or device.index is None:
        return
    own = own_device()
    cure = 'Each process has a GPU of its own by "auto" or "cuda".'
    require(device == own, "device", f"{own} in this process of several", device, cure)


def require_precision(model: nn.Module, config: TrainerConfig, device: torch.device) -> None:
    """Raise where torch would compute wrong gradients.

    In bfloat16 on a CPU, those of 3-D convolutions are wrong on maps with a side of 2, or the process ends (torch 2.13,
    with AVX512-BF16). See https://github.com/pytorch/pytorch/issues/169688 for a sister of this fault.
    """
    has_volumes = any(isinstance(part, nn.Conv3d) for part in model.modules())
    good = config.precision != "bf16" or device.type != "cpu" or not has_volumes
    cure = "There torch computes wrong gradients of small maps in bfloat16."
    require(good, "precision", "fp32 for 3-D convolutions on a CPU", "bf16", cure)


def require_metadata(metadata: object, model: nn.Module) -> None:
    """Raise where metadata could be written but not read again, or tell of another network."""
    _require_plain("metadata", metadata, Mapping)
    assert isinstance(metadata, Mapping)  # noqa: S101 - for the type checker
    differing = differing_settings(model, metadata.get("model"))
    cure = "Make the Predictor of the network that is trained."
    require(not differing, "metadata", "that of this network", differing, cure)


def _require_plain(where: str, value: object, kind: type = object) -> None:
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
