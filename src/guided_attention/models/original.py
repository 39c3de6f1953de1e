"""Checkpoints of the original code: read into our network, and written for the original."""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from guided_attention._checkpoints import read_contents
from guided_attention._checks import cut_list, require, require_type
from guided_attention._files import PathLike
from guided_attention._state_dicts import kind_of, plain_name, weights_in
from guided_attention.errors import ArgumentError, CheckpointError
from guided_attention.models._changes import changed_parts
from guided_attention.models.msga import MSGA
from guided_attention.models.segmentation import SegmentationModel

__all__ = ["export_original", "load_original"]

_UNUSED = re.compile(r"(attention|conv6_|conv7_|refine)[1-4]\.")
_FIRST_FUSE = "fusion.fuse.0.0.weight"
_CLASSES, _STEM = "predict1.weight", "resnext.layer0.0.weight"
_NAMES_SHOWN = 5
_WEIGHT_AXES = 4


def load_original(source: PathLike | Mapping[str, Tensor]) -> SegmentationModel:
    """Load a checkpoint of the original code into a network that computes the same.

    The network is ``MSGA(in_channels, num_classes, encoder="resnext101_32x8d", shared_guide=False)``, with both numbers
    read from the checkpoint. It has the original's logits in evaluation mode, and with `GuidedAttentionLoss` the
    original's loss in training mode. Layers that the original's forward pass never uses (``conv6_*``, ``conv7_*``,
    ``attention1`` to ``4``, ``refine1`` to ``4``; 955,412 parameters) are omitted with a warning.

    Args:
        source: The path of a state dict as ``torch.save`` writes it, or the state dict itself; it may stand under
            ``"state_dict"`` or ``"model"``, and its names may begin with ``module.`` (of ``DataParallel``).

    Returns:
        The network in evaluation mode, with its own tensors, in single precision on the CPU.

    Raises:
        MissingFileError: There is no such file.
        CheckpointError: The file is damaged or holds more than plain tensors, or entries are missing, unknown or of
            another shape: the message names them.

    Warns:
        UserWarning: Unused layers were omitted; how many parameters, and which layers.

    Example:
        >>> from guided_attention import MSGA
        >>> from guided_attention.models import export_original, load_original
        >>> original = export_original(MSGA(encoder="resnext101_32x8d", shared_guide=False))
        >>> load_original({f"module.{name}": value for name, value in original.items()}).num_classes
        5

    References:
        sinAshish/Multi-Scale-Attention, May 2020. It joins the scales from coarse to fine, we from fine to coarse: the
        input channels of one convolution are reordered.
    """
    given = _state(source)
    dropped = {name: value for name, value in given.items() if _UNUSED.match(name)}
    used = {name: value for name, value in given.items() if name not in dropped}
    num_classes, in_channels = _length(used, _CLASSES, axis=0), _length(used, _STEM, axis=1)
    # The meta device initializes nothing: copies of the checkpoint's tensors become the weights.
    with torch.device("meta"):
        model = MSGA(in_channels, num_classes, encoder="resnext101_32x8d", shared_guide=False)
    _require_same(export_original(model), used)
    state = {
        name: used[_original_name(name)].to("cpu", layout.dtype, copy=True)
        for name, layout in model.state_dict().items()
    }
    model.load_state_dict(state | {_FIRST_FUSE: _reversed_scales(state[_FIRST_FUSE])}, assign=True)
    if dropped:
        _warn_of(dropped)
    return model.eval()


def export_original(model: SegmentationModel) -> dict[str, Tensor]:
    """Return the weights of a network under the names of the original code.

    Args:
        model: A network of the original's layout, ``MSGA(encoder="resnext101_32x8d", shared_guide=False)``, with any
            number of classes and image channels.

    Returns:
        A state dict with copies of the tensors. It lacks the layers that the original never uses: the original's class
        reads it with ``load_state_dict(state, strict=False)``.

    Raises:
        ArgumentError: The network has another layout, or modules or settings of layers that the original has not.
        ArgumentTypeError: `model` is no `SegmentationModel`.

    Example:
        >>> from guided_attention import MSGA
        >>> from guided_attention.models import export_original
        >>> state = export_original(MSGA(encoder="resnext101_32x8d", shared_guide=False))
        >>> state["conv_sem_2_4.weight"].shape
        torch.Size([64, 128, 3, 3])
    """
    require_type("model", model, SegmentationModel, "a SegmentationModel")
    state = {plain_name(name): value for name, value in model.state_dict().items()}
    counts = (model.in_channels or 1, model.num_classes)
    with torch.device("meta"):
        layout = MSGA(*counts, encoder="resnext101_32x8d", shared_guide=False)
    wanted = 'the layout of the original, MSGA(encoder="resnext101_32x8d", shared_guide=False)'
    # The weights do not show everything, such as the energy: the original would compute something else from them.
    changed = changed_parts(model, layout)
    require(not changed, "model", wanted, f"a network that differs from it in {_some(changed)}")
    reordered = state | {_FIRST_FUSE: _reversed_scales(state[_FIRST_FUSE])}
    return {_original_name(name): value.clone() for name, value in reordered.items()}


def _original_name(name: str) -> str:
    """Return the original's name of an entry. It counts scales from 1, in some places from the coarsest."""
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
            raise ArgumentError(
                f"`model` must be of the original's layout, got the entry {name}.", argument="model"
            )
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
            raise ArgumentError(
                f"`model` must be of the original's layout, got the entry {parts}.", argument="model"
            )


def _semantic_name(block: str, parts: list[str]) -> list[str]:
    if block.startswith("encoder"):
        return [block.replace("encoder", "enc"), "encode", *parts]
    # Our decoder block has convolutions (0) and a transposed one (1), which is number 6 in the original.
    place, *tail = parts
    return [block.replace("decoder", "dec"), "decode", *(tail if place == "0" else ["6", *tail])]


def _branch_name(place: str, parts: list[str]) -> list[str]:
    """Layers 0 to 2 come before the attention, 3 is the attention, 4 to 6 follow it."""
    if place == "1":
        name, *tail = parts
        return ["3", "gamma" if name == "gate" else f"{name}_conv", *tail]
    layer, *tail = parts
    return [str(int(layer) + 2 * int(place)), *tail]


def _reversed_scales(weight: Tensor) -> Tensor:
    """Reverse the order of the four scales among the input channels."""
    return torch.cat(weight.chunk(4, dim=1)[::-1], dim=1)


def _length(state: Mapping[str, Tensor], name: str, *, axis: int) -> int:
    """Return a number that users changed, read from the weight of a convolution."""
    _require(name in state, f"a state dict of the original with an entry {name}", _some(state))
    shape = state[name].shape
    _require(len(shape) == _WEIGHT_AXES, f"a state dict with four axes in {name}", str(tuple(shape)))
    return shape[axis]


def _state(source: PathLike | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries under their names without the prefixes of wrappers."""
    wanted = "a state dict of plain tensors"
    held = source if isinstance(source, Mapping) else read_contents(source, argument="source", wanted=wanted)
    wanted = "a state dict: names and tensors"
    where = "" if isinstance(source, Mapping) else f"{source} with "  # to print all weights takes seconds
    _require(isinstance(held, Mapping), wanted, f"{where}a {type(held).__name__}")
    entries: Mapping[Any, Any] = weights_in(held) if isinstance(held, Mapping) else {}
    kept = {name: value for name, value in entries.items() if isinstance(name, str)}
    odd = [str(name) for name in entries if name not in kept or not isinstance(kept[name], Tensor)]
    _require(not odd, wanted, f"something else in {_some(odd)}")
    counts = Counter(plain_name(name) for name in kept)
    twice = [name for name, count in counts.items() if count > 1]
    _require(not twice, "a state dict with every entry once", f"with and without module. {_some(twice)}")
    return {plain_name(name): value for name, value in kept.items()}


def _require_same(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    shared = [name for name in wanted if name in got]
    shapes = [
        f"{name} {tuple(got[name].shape)} for {tuple(wanted[name].shape)}"
        for name in shared
        if got[name].shape != wanted[name].shape
    ]
    kinds = [f"{name} {kind_of(got[name])}" for name in shared if kind_of(got[name]) != kind_of(wanted[name])]
    problems = [
        ("missing", [name for name in wanted if name not in got]),
        ("unknown", [name for name in got if name not in wanted]),
        ("of another shape", shapes),
        ("of another kind", kinds),
    ]
    named = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in problems if names)
    _require(not named, "a state dict of the original", f"one with entries {named}")


def _require(condition: bool, wanted: str, got: str) -> None:
    require(condition, "source", wanted, got, error=CheckpointError)


def _warn_of(dropped: Mapping[str, Tensor]) -> None:
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    count = sum(value.numel() for name, value in dropped.items() if not name.endswith(buffers))
    layers = sorted({name.split(".")[0] for name in dropped})
    message = (
        f"{count:,} parameters of layers that the original never uses were omitted: {', '.join(layers)}."
    )
    warnings.warn(message, stacklevel=3)


def _some(names: Iterable[str]) -> str:
    return cut_list(list(names), shown=_NAMES_SHOWN)
