"""The checkpoints of the original code: read into a network of ours, and written for it."""

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guided_attention._checks import require
from guided_attention.attention import CAM
from guided_attention.models.msga import MSGA
from guided_attention.models.segmentation import SegmentationModel

__all__ = ["export_original", "load_original"]

_UNUSED = re.compile(r"(attention|conv6_|conv7_|refine)[1-4]\.")
_FIRST_FUSE = "fusion.fuse.0.0.weight"
_CLASSES, _STEM = "predict1.weight", "resnext.layer0.0.weight"
_NAMES_SHOWN = 5
_WEIGHT_AXES = 4


def load_original(source: str | Path | Mapping[str, Tensor]) -> SegmentationModel:
    """Read a checkpoint of the original code into a network that computes the same.

    The network is ``MSGA(in_channels, num_classes, encoder="resnext101_32x8d", shared_guide=False)``; the two numbers
    are read from the checkpoint. In evaluation mode it gives the original's logits, in training mode with
    `GuidedAttentionLoss` the original's loss. The original has layers that its forward pass never uses (``conv6_*``,
    ``conv7_*``, ``attention1`` to ``4``, ``refine1`` to ``4``; 955,412 parameters): they are left out, with a warning.

    Args:
        source: The path of a state dict as ``torch.save`` writes it, or the state dict; also one that stands under
            ``"state_dict"`` or ``"model"`` among other things. Names may begin with ``module.``, as those of a network
            in ``DataParallel`` do.

    Returns:
        The network in evaluation mode, with tensors of its own, in single precision on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or holds more than plain tensors, or entries are missing, unknown or of another
            shape: the message names them.

    Warns:
        UserWarning: Unused layers were left out; how many parameters, and which layers.

    Example:
        >>> import warnings
        >>> from guided_attention import MSGA
        >>> from guided_attention.models import export_original, load_original
        >>> original = export_original(MSGA(encoder="resnext101_32x8d", shared_guide=False))
        >>> load_original({f"module.{name}": value for name, value in original.items()}).num_classes
        5

    References:
        sinAshish/Multi-Scale-Attention, May 2020. It joins the scales from coarse to fine, we from fine to coarse: the
        input channels of one convolution change places on the way.
    """
    given = _state(source)
    dropped = {name: value for name, value in given.items() if _UNUSED.match(name)}
    used = {name: value for name, value in given.items() if name not in dropped}
    num_classes, in_channels = _length(used, _CLASSES, axis=0), _length(used, _STEM, axis=1)
    # On the meta device nothing is drawn at random only to be thrown away: the checkpoint's copies move in.
    with torch.device("meta"):
        model = MSGA(in_channels, num_classes, encoder="resnext101_32x8d", shared_guide=False)
    _require_same(export_original(model), used)
    state = {
        name: used[_original_name(name)].to("cpu", layout.dtype, copy=True)
        for name, layout in model.state_dict().items()
    }
    model.load_state_dict(state | {_FIRST_FUSE: _turned(state[_FIRST_FUSE])}, assign=True)
    if dropped:
        _warn_of(dropped)
    return model.eval()


def export_original(model: SegmentationModel) -> dict[str, Tensor]:
    """Return the weights of a network under the names of the original code.

    Args:
        model: A network of the original's layout, such as
            ``MSGA(encoder="resnext101_32x8d", shared_guide=False)``, with any number of classes and channels of the
            image.

    Returns:
        A state dict with copies of the tensors. Layers that the original never uses are not in it, so the original's
        class reads it with ``load_state_dict(state, strict=False)``.

    Raises:
        ValueError: The network has another layout.

    Example:
        >>> from guided_attention import MSGA
        >>> from guided_attention.models import export_original
        >>> state = export_original(MSGA(encoder="resnext101_32x8d", shared_guide=False))
        >>> state["conv_sem_2_4.weight"].shape
        torch.Size([64, 128, 3, 3])
    """
    state = model.state_dict()
    counts = (model.in_channels or 1, model.num_classes)
    with torch.device("meta"):
        layout = MSGA(*counts, encoder="resnext101_32x8d", shared_guide=False).state_dict()
    wanted = 'the layout of the original, MSGA(encoder="resnext101_32x8d", shared_guide=False)'
    odd = set(state) ^ set(layout) or {name for name in layout if state[name].shape != layout[name].shape}
    require(not odd, "model", wanted, f"a network that differs from it in {_some(sorted(odd))}")
    # No entry tells of it: the original would compute something else from the very same weights.
    energies = {module.energy for module in model.modules() if isinstance(module, CAM)}
    require(energies == {"danet"}, "model", wanted, f"one whose energy is {_some(sorted(energies))}")
    turned = state | {_FIRST_FUSE: _turned(state[_FIRST_FUSE])}
    return {_original_name(name): value.clone() for name, value in turned.items()}


def _original_name(name: str) -> str:
    """Return what the original calls an entry of ours. It counts scales from 1, in some places from the coarsest."""
    match name.split("."):
        case ["encoder", "conv1", *tail]:
            parts = ["resnext", "layer0", "0", *tail]
        case ["encoder", "bn1", *tail]:
            parts = ["resnext", "layer0", "1", *tail]
        case ["encoder", "layer1", *tail]:
            parts = ["resnext", "layer1", "1", *tail]
        case ["encoder", *tail]:
            parts = ["resnext", *tail]
        case ["fusion", "project", scale, *tail]:
            parts = [f"down{int(scale) + 1}", *tail]
        case ["fusion", "fuse", group, layer, *tail]:
            parts = ["fuse1", "fuse_attn", str(3 * int(group) + int(layer)), *tail]
        case ["raw_heads", scale, *tail]:
            parts = [f"predict{int(scale) + 1}", *tail]
        case ["attended_heads", "0", scale, *tail]:
            parts = [f"predict{int(scale) + 1}_2", *tail]
        case ["attention", "steps", step, *tail]:
            parts = _step_name(int(step), tail)
        case _:
            raise ValueError(f"`model` must be of the original's layout, got one with the entry {name}.")
    return ".".join(parts)


def _step_name(step: int, parts: list[str]) -> list[str]:
    """Return the original's name of an entry of a step, both as lists of their parts."""
    match parts:
        case ["project", scale, *tail]:
            return [f"conv8_{10 * step + 4 - int(scale)}", *tail]
        case ["guide", scale, *tail]:
            return [f"conv_sem_{step + 1}_{4 - int(scale)}", *tail]
        case ["semantic", block, *tail]:
            return [f"semanticModule_{step + 1}_1", *_semantic_name(block, tail)]
        case ["dual", scale, branch, place, *tail]:
            module = "pam" if branch == "position" else "cam"
            return [f"{module}_attention_{step + 1}_{int(scale) + 1}", "attn", *_branch_name(place, tail)]
        case _:
            raise ValueError(f"`model` must be of the original's layout, got one with the entry {parts}.")


def _semantic_name(block: str, parts: list[str]) -> list[str]:
    if block.startswith("encoder"):
        return [block.replace("encoder", "enc"), "encode", *parts]
    # A decoder block of ours is its convolutions (0) and the transposed one (1), which the original counts on as 6.
    place, *tail = parts
    return [block.replace("decoder", "dec"), "decode", *(tail if place == "0" else ["6", *tail])]


def _branch_name(place: str, parts: list[str]) -> list[str]:
    """Layers 0 to 2 stand before the attention, 3 is the attention, 4 to 6 stand after it."""
    if place == "1":
        name, *tail = parts
        return ["3", "gamma" if name == "gate" else f"{name}_conv", *tail]
    layer, *tail = parts
    return [str(int(layer) + 2 * int(place)), *tail]


def _turned(weight: Tensor) -> Tensor:
    """Change the order of the four scales among the input channels, fine to coarse or back."""
    return torch.cat(weight.chunk(4, dim=1)[::-1], dim=1)


def _length(state: Mapping[str, Tensor], name: str, *, axis: int) -> int:
    """Return a number that users changed, read from the weight of a convolution."""
    require(name in state, "source", f"a state dict of the original with an entry {name}", _some(state))
    shape = state[name].shape
    require(len(shape) == _WEIGHT_AXES, "source", f"a state dict with four axes in {name}", tuple(shape))
    return shape[axis]


def _state(source: str | Path | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries under their names without ``module.``, out of whatever they are wrapped in."""
    held: Mapping[Any, Any] = source if isinstance(source, Mapping) else _read(source)
    wrapped = [held[key] for key in ("state_dict", "model") if isinstance(held.get(key), Mapping)]
    held = wrapped[0] if wrapped else held
    odd = [
        str(name)
        for name, value in held.items()
        if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    require(not odd, "source", "a state dict: names and tensors", f"something else in {_some(odd)}")
    state = {name.removeprefix("module."): value for name, value in held.items()}
    twice = [name for name in state if name in held and f"module.{name}" in held]
    require(
        not twice, "source", "a state dict with every entry once", f"with and without module. {_some(twice)}"
    )
    return state


def _read(source: str | Path) -> Mapping[Any, Any]:
    if not Path(source).is_file():
        raise FileNotFoundError(
            f"`source` must be a checkpoint, got {source}, which is no file. Check its name."
        )
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        message = (
            f"`source` must be a state dict of plain tensors, got {source}, which torch cannot read with "
            "weights_only=True. The file is damaged or holds a whole network: save its state_dict() alone."
        )
        raise ValueError(message) from error
    kind = type(state).__name__
    require(
        isinstance(state, Mapping), "source", "a state dict: names and tensors", f"{source} with a {kind}"
    )
    contents: Mapping[Any, Any] = state
    return contents


def _require_same(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    shapes = {
        name: f"{name} {tuple(got[name].shape)} for {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in got and got[name].shape != value.shape
    }
    problems = [
        ("missing", [name for name in wanted if name not in got]),
        ("unknown", [name for name in got if name not in wanted]),
        ("of another shape", list(shapes.values())),
    ]
    named = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in problems if names)
    require(not named, "source", "a state dict of the original", f"one with entries {named}")


def _warn_of(dropped: Mapping[str, Tensor]) -> None:
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    count = sum(value.numel() for name, value in dropped.items() if not name.endswith(buffers))
    layers = sorted({name.split(".")[0] for name in dropped})
    message = (
        f"{count:,} parameters of layers that the original never uses were left out: {', '.join(layers)}."
    )
    warnings.warn(message, stacklevel=3)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - _NAMES_SHOWN
    return ", ".join(listed[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
