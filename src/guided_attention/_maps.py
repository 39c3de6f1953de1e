"""Checks of what networks, blocks and losses take: images, maps, tensor subclasses, the device."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from guided_attention._checks import counted, require, require_same_shape, require_type
from guided_attention._distributed import own_device
from guided_attention.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "chosen_device",
    "first_weight",
    "is_autocast_enabled",
    "plain",
    "require_factory",
    "require_map",
    "require_maps",
    "require_module",
    "require_sequence",
    "require_tensor",
    "without_autocast",
]

_SPACE = {2: "height, width", 3: "depth, height, width", None: "*space"}
_CAST = (torch.float32, torch.float16, torch.bfloat16)
"""The types that autocast converts."""


def plain(x: Tensor) -> Tensor:
    """Return a tensor subclass, such as MONAI's ``MetaTensor``, as a plain tensor with the same memory and gradient.

    It stands where an operation works on memory, or where the result is a number. Everything else in the library passes
    subclasses on, as torch's own functions do. Subclasses that work below torch's functions (``DTensor``, fake tensors)
    are returned as they are: no plain tensor holds their values.
    """
    kind = type(x)
    if kind is Tensor or kind.__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return x
    return x.as_subclass(Tensor)


def first_weight(module: nn.Module) -> Tensor | None:
    """Return the first parameter of a module, None if it has none; quicker than ``next(module.parameters())``."""
    inside = vars(module)
    for parameter in inside["_parameters"].values():
        if parameter is not None:
            found: Tensor = parameter
            return found
    children = (first_weight(child) for child in inside["_modules"].values() if child is not None)
    return next((weight for weight in children if weight is not None), None)


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Return a context without autocast; where there is none already, one that costs nothing."""
    if torch.compiler.is_compiling() or is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def is_autocast_enabled(device_type: str) -> bool:
    """Return whether autocast is on; torch raises an error for devices that do not know it, such as ``"meta"``."""
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def chosen_device(model: nn.Module, wanted: torch.device | str | None) -> torch.device:
    """Return the device that is meant: ``"auto"`` is a GPU if there is one, None that of the network.

    Of several processes, each means its own by ``"auto"`` and ``"cuda"``.
    """
    here = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    require(here.type != "meta", "model", "a network with weights in memory", "one on the meta device")
    if wanted is None:
        return here
    require_type("device", wanted, (str, torch.device), 'a torch device, "auto" or None')
    if wanted == "auto":
        return own_device() if here.type == "cpu" and torch.cuda.is_available() else here
    try:
        device = torch.device(wanted)
        if device == torch.device("cuda") and torch.cuda.is_available():
            device = own_device()
        torch.empty(0, device=device).cpu()  # "meta" has no numbers
    # torch built without CUDA asserts, and copying from "meta" is not implemented.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        message = f"`device` must be a device of this machine, got {wanted!r} ({error})."
        raise ArgumentError(message, argument="device") from error
    return device


def require_map(
    argument: str,
    x: object,
    *,
    channels: int | None = None,
    spatial_dims: int | None = None,
    like: Tensor | None = None,
    any_float: bool = False,
) -> None:
    """Raise unless `x` is a map that a block can take. Compiled graphs are not checked.

    Args:
        argument: Name of the argument, for the message.
        x: What should be a tensor ``(batch, channels, *space)``.
        channels: Number of channels; None accepts any.
        spatial_dims: Number of spatial axes; None accepts one or more.
        like: A weight of the block, whose device and floating type `x` must have (autocast converts types itself).
        any_float: Whether the floating type may differ from that of `like`.
    """
    if torch.compiler.is_compiling():
        return
    fits = (
        isinstance(x, Tensor)
        and (x.ndim > 2 if spatial_dims is None else x.ndim == 2 + spatial_dims)  # noqa: PLR2004
        and (channels is None or x.shape[1] == channels)
        and x.is_floating_point()
        and x.numel() > 0
        and x.layout is torch.strided
        and (like is None or (x.device == like.device and (any_float or _types_agree(x, like))))
    )
    if not fits:
        _explain(argument, x, channels, spatial_dims, like)


def _types_agree(x: Tensor, like: Tensor) -> bool:
    if x.dtype == like.dtype:
        return True
    return is_autocast_enabled(x.device.type) and x.dtype in _CAST and like.dtype in _CAST


def _explain(
    argument: str, x: object, channels: int | None, spatial_dims: int | None, like: Tensor | None
) -> None:
    """Raise the error for the first property that does not fit."""
    wanted = f"a tensor of shape (batch, {channels or 'channels'}, {_SPACE[spatial_dims]})"
    tensor, axes = require_tensor(argument, x, wanted), 2 + (spatial_dims or 1)
    got = f"one of shape {tuple(tensor.shape)}"
    if tensor.ndim < axes or (spatial_dims and tensor.ndim != axes):
        cure = "The argument `spatial_dims` of blocks and networks says whether they take images or volumes."
        if tensor.ndim == axes - 1:
            cure = f"Add the missing axis: `{argument}[None]` is a batch of one, `{argument}[:, None]` has one channel."
        raise _error(argument, wanted, got, cure)
    if channels not in (None, tensor.shape[1]):
        last = channels == tensor.shape[-1]
        cure = f"Move the channels to the second axis: `{argument}.movedim(-1, 1)`." if last else ""
        raise _error(argument, wanted, got, cure or "The number of channels is set where the block is built.")
    if not tensor.is_floating_point():
        raise _error(argument, "of a floating type", tensor.dtype, f"Pass `{argument}.float()`.")
    if tensor.numel() == 0:
        raise _error(argument, "a tensor with at least one sample and one position", got)
    if like is not None and tensor.device != like.device:
        cure = f"Pass `{argument}.to({str(like.device)!r})`, or move the module."
        raise _error(argument, f"on the device of the weights, {like.device}", tensor.device, cure)
    if like is not None:
        cure = f"Pass `{argument}.to({like.dtype})`, convert the module to {tensor.dtype}, or use torch.autocast."
        raise _error(argument, f"of the type of the weights, {like.dtype}", tensor.dtype, cure)


def _error(argument: str, wanted: str, got: object, cure: str = "") -> ArgumentError:
    message = f"`{argument}` must be {wanted}, got {got}." + (f" {cure}" if cure else "")
    return ArgumentError(message, argument=argument)


def require_maps(
    maps: object, fused: object, *, number: int, channels: int, spatial_dims: int, like: Tensor | None
) -> None:
    """Raise unless `maps` and `fused` are what an attention on several scales takes: see `require_map`."""
    if torch.compiler.is_compiling():
        return
    require_map("fused", fused, channels=channels, spatial_dims=spatial_dims, like=like)
    shape = require_tensor("fused", fused, "a tensor").shape
    for index, map_ in enumerate(require_sequence("maps", maps, number)):
        if not isinstance(map_, Tensor) or map_.shape != shape:
            tensor = require_tensor(
                f"maps[{index}]", map_, f"a tensor of the shape of `fused`, {tuple(shape)}"
            )
            require_same_shape(f"maps[{index}]", tensor.shape, "fused", shape)
        require_map(f"maps[{index}]", map_, channels=channels, spatial_dims=spatial_dims, like=like)


def require_sequence(argument: str, value: object, number: int) -> Sequence[object]:
    """Return a list or tuple of `number` maps, or raise."""
    wanted = f"a list of {counted(number, 'map')}"
    if not isinstance(value, Sequence):
        raise ArgumentTypeError(
            f"`{argument}` must be {wanted}, got a {type(value).__name__}.", argument=argument
        )
    require(len(value) == number, argument, wanted, len(value))
    return value


def require_tensor(argument: str, x: object, wanted: str) -> Tensor:
    """Return a dense tensor, or raise an `ArgumentTypeError` for no tensor, an `ArgumentError` for a sparse one."""
    if isinstance(x, Tensor):
        if x.layout is not torch.strided:
            raise _error(argument, "a dense tensor", x.layout, f"Pass `{argument}.to_dense()`.")
        return x
    kind, cure = type(x).__name__, ""
    if kind == "ndarray":
        cure = f"Pass `torch.from_numpy({argument})`."
    elif isinstance(getattr(x, "logits", None), Tensor):
        cure = f"Pass `{argument}.logits`; `GuidedAttentionLoss` takes the whole record."
    message = f"`{argument}` must be {wanted}, got a {kind}." + (f" {cure}" if cure else "")
    raise ArgumentTypeError(message, argument=argument)


def require_module(argument: str, value: object, wanted: str, *, protocol: type = object) -> nn.Module:
    """Return a module that has what a protocol asks for, or raise an `ArgumentTypeError`."""
    require_type(argument, value, protocol, wanted)
    if not isinstance(value, nn.Module):
        raise ArgumentTypeError(
            f"`{argument}` must be {wanted}, got a {type(value).__name__}.", argument=argument
        )
    return value


def require_factory(argument: str, value: object, example: str) -> None:
    """Raise an `ArgumentTypeError` unless `value` builds modules when it is called."""
    builds = callable(value) and not isinstance(value, nn.Module)
    got = f"a {type(value).__name__}" if not isinstance(value, str) else repr(value)
    cure = f"Pass a class or functools.partial of it, such as `{example}`: every branch gets a module of its own."
    require(builds, argument, "a function that builds a module", got, cure, error=ArgumentTypeError)
