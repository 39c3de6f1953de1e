"""The networks of a predictor: one, or several whose logits are averaged."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor, nn

from guided_attention._checks import require, require_type
from guided_attention._state_dicts import plain_network
from guided_attention.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "common_number",
    "dims_of_convolutions",
    "evaluating",
    "is_out_of_memory",
    "mean_logits",
    "members_of",
    "set_evaluation",
]

_CONVOLUTIONS = {2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, nn.ConvTranspose3d)}
_NO_MEMORY = "can't allocate memory"
"""What torch says of a CPU whose memory is full."""
_CURE = "Look at the weights: train again with a lower learning rate."
_CURE_BF16 = "Predict with precision='fp32', or train again with a lower learning rate."


def members_of(model: nn.Module | Sequence[nn.Module]) -> nn.ModuleList:
    """Return one or several networks as a list; raise for anything else."""
    given: list[object] = list(model) if isinstance(model, list | tuple | nn.ModuleList) else [model]
    require(bool(given), "model", "at least one network", "an empty list")
    for place, member in enumerate(given):
        require_type(_name(place, len(given)), member, nn.Module, "a torch.nn.Module")
    return nn.ModuleList(member for member in given if isinstance(member, nn.Module))


def _name(place: int, count: int) -> str:
    """Return what messages call one of several networks, or the only one."""
    return "model" if count == 1 else f"model[{place}]"


def common_number(members: nn.ModuleList, attribute: str) -> int | None:
    """Return a number that networks tell of themselves, such as ``num_classes``; None where none of them does.

    Raises:
        ArgumentError: Two of them differ.
    """
    told: dict[int, int] = {}
    for place, member in enumerate(members):
        value = getattr(plain_network(member), attribute, None)
        if isinstance(value, int):
            told[place] = value
    for place, value in told.items():
        first, wanted = next(iter(told.items()))
        where = f"{attribute} of model[{place}]"
        cure = "The networks of an ensemble are trained with the same preparation and labels."
        require(value == wanted, where, f"{wanted}, as of model[{first}]", value, cure)
    return next(iter(told.values()), None)


def dims_of_convolutions(members: nn.ModuleList) -> int | None:
    """Return 2 for networks that have convolutions of images only, 3 for those of volumes, and None for others."""
    found = {
        dims for part in members.modules() for dims, kinds in _CONVOLUTIONS.items() if isinstance(part, kinds)
    }
    return next(iter(found)) if len(found) == 1 else None


def mean_logits(members: nn.ModuleList, images: Tensor, classes: int) -> Tensor:
    """Return the mean of the logits ``(batch, classes, *space)`` of all networks, in single precision."""
    count = len(members)
    total = _logits(_name(0, count), members[0], images, classes)
    for place in range(1, count):
        total = total + _logits(_name(place, count), members[place], images, classes)
    return total / count if count > 1 else total


def _logits(name: str, model: nn.Module, images: Tensor, classes: int) -> Tensor:
    logits, called = _called(name, model, images), f"{name}(images)"
    wanted, got = (len(images), classes, *images.shape[2:]), tuple(logits.shape)
    require(got == wanted, called, f"logits of shape (batch, classes, *size), {wanted}", got)
    require(logits.is_floating_point(), called, "floating-point logits", logits.dtype)
    single = logits.float()
    cure = _CURE_BF16 if torch.is_autocast_enabled(images.device.type) else _CURE
    require(bool(single.isfinite().all()), called, "finite", "NaN or infinite logits", cure)
    return single


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory is full; torch has a class of its own for that of GPUs only."""
    told = isinstance(error, RuntimeError) and _NO_MEMORY in str(error)
    return told or isinstance(error, torch.OutOfMemoryError | MemoryError)


def _called(name: str, model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of a batch; an error of the network is raised as one that names the input shape."""
    try:
        logits: object = model(images)
    except Exception as error:  # whatever a network of the user's own raises: of this input only
        if is_out_of_memory(error):
            raise
        others = {p.dtype for p in model.parameters() if p.is_floating_point()} - {images.dtype}
        cure = "If it needs sides that are multiples of a number, set `multiple` in the Preparation, or `patch_size`."
        if others and not torch.is_autocast_enabled(images.device.type):
            cure = "Its weights are of another number type than images: call model.float() first."
        message = (
            f"`{name}` must take images of shape {tuple(images.shape)}, got {type(error).__name__} from it: "
            f"{error}. {cure}"
        )
        raise ArgumentError(message, argument="model") from error
    if not isinstance(logits, Tensor):
        kind = type(logits).__name__
        message = (
            f"`{name}(images)` must be a tensor of logits, got a {kind}. Wrap the network to return them."
        )
        raise ArgumentTypeError(message, argument="model")
    return logits


def set_evaluation(model: nn.Module) -> None:
    """Set evaluation mode; a program of `torch.export`, which has the one it was exported in, is left as it is."""
    for module in model.modules():
        if module.training:
            # Such a program raises it. One call for the whole network would end there.
            with suppress(NotImplementedError):
                module.eval()


@dataclass
class _Mode:
    """The mode that a module had before the first of its users, and how many there are."""

    training: bool
    users: int = 0


_modes: dict[nn.Module, _Mode] = {}
"""Of each module that predicts now, of all predictors together: two may have one network, and each its own thread."""
_lock = Lock()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode; the last thread to leave gives each module its own back: parts may be frozen."""
    modules = list(model.modules())
    with _lock:
        for module in modules:
            _modes.setdefault(module, _Mode(module.training)).users += 1
    try:
        with _lock:
            set_evaluation(model)
        yield
    finally:
        with _lock:
            for module in modules:
                _modes[module].users -= 1
                if not _modes[module].users:
                    module.training = _modes.pop(module).training
