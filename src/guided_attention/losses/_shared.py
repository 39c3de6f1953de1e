"""What the segmentation losses share: precision, class weights, the checks of logits and labels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from guided_attention._checks import counted, require, require_integer, require_number, require_type
from guided_attention._maps import plain, require_tensor
from guided_attention._typing import LabelMap, Logits
from guided_attention.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "checked_inputs",
    "checked_weights",
    "counted_labels",
    "full_precision",
    "require_weight",
    "weights_buffer",
]

_WEIGHTS = "finite numbers, none below 0, not all 0"


def full_precision(x: Tensor) -> Tensor:
    """Return `x` in float32, or float64 if it is that: sums over many pixels overflow in half precision."""
    return x if x.dtype == torch.float64 else x.float()


def require_weight(argument: str, value: float) -> None:
    """Raise unless `value` is a number that is 0 or more."""
    require_number(argument, value)
    require(value >= 0, argument, "0 or more", value)


def weights_buffer(class_weights: Sequence[float] | None) -> Tensor | None:
    """Return the weights as a tensor for a module to register, checked except for their number."""
    if class_weights is None:
        return None
    require_type("class_weights", class_weights, (Sequence, np.ndarray, Tensor), f"a list of {_WEIGHTS}")
    try:
        weights = torch.as_tensor(class_weights, dtype=torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        message = f"`class_weights` must be {_WEIGHTS}, got {class_weights!r}."
        raise ArgumentTypeError(message, argument="class_weights") from error
    _require_valid(weights)
    return weights


def _require_valid(weights: Tensor) -> None:
    # A compiled graph cannot look at values, and a tensor without memory has none.
    if torch.compiler.is_compiling() or weights.is_meta:
        return
    valid = torch.isfinite(weights).all() & (weights >= 0).all() & (weights > 0).any()
    if not valid:
        require(False, "class_weights", _WEIGHTS, weights.tolist())  # noqa: FBT003


def checked_weights(logits: Logits, class_weights: Tensor | Sequence[float] | None) -> Tensor | None:
    """Return one weight a class, of the device and type of `logits`, or None."""
    weights = class_weights if isinstance(class_weights, Tensor) else weights_buffer(class_weights)
    if weights is None:
        return None
    if weights is class_weights:
        _require_valid(weights)
    wanted = f"one weight for each of the {counted(logits.shape[1], 'class', 'classes')} of `logits`"
    got = counted(weights.numel(), "weight")
    require(tuple(weights.shape) == (logits.shape[1],), "class_weights", wanted, got)
    return weights.to(logits)


def checked_inputs(logits: Logits, target: LabelMap, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Return logits and labels as plain tensors that fit together, or raise."""
    scores = plain(require_tensor("logits", logits, "a tensor of shape (batch, classes, *space)"))
    labels = plain(require_tensor("target", target, "a tensor of shape (batch, *space)"))
    if ignore_index is not None:
        require_integer("ignore_index", ignore_index)
    require(
        scores.is_floating_point(), "logits", "of a floating type", scores.dtype, "Pass `logits.float()`."
    )
    fits = scores.ndim > 1 and scores.shape[1] > 0
    require(fits, "logits", "of shape (batch, classes, *space)", tuple(scores.shape))
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    require(whole, "target", "of an integer type", labels.dtype, cure="Pass `target.long()`.")
    shape = (scores.shape[0], *scores.shape[2:])
    wanted = f"of the shape of `logits` without the class axis, {shape}"
    channel = labels.shape == (shape[0], 1, *shape[1:])
    cure = "Take off the channel axis: `target[:, 0]`." if channel else ""
    require(labels.shape == shape, "target", wanted, tuple(labels.shape), cure=cure)
    cure = "Pass `target.to(logits.device)`."
    require(labels.device == scores.device, "target", "on the device of `logits`", labels.device, cure)
    return scores, labels


def counted_labels(logits: Tensor, target: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor | None]:
    """Return the labels as int64, 0 where ignored, and the mask of the positions that count (None: all).

    Raises:
        ArgumentError: A label is neither a class nor ignored.
    """
    labels = target.long()
    counted = None if ignore_index is None else labels != ignore_index
    labels = labels if counted is None else labels.where(counted, 0)
    _require_classes(labels, logits.shape[1])
    return labels, counted


def _require_classes(labels: Tensor, num_classes: int) -> None:
    # A compiled graph cannot look at values; an empty map and a tensor without memory have none.
    if torch.compiler.is_compiling() or not labels.numel() or labels.is_meta:
        return
    lowest, highest = torch.stack(labels.aminmax()).tolist()
    if lowest >= 0 and highest < num_classes:
        return
    outside = np.unique(labels[(labels < 0) | (labels >= num_classes)].cpu().numpy()).tolist()
    cure = "Map the labels to classes, or name the value to leave out as `ignore_index`."
    wanted = f"made of the classes 0 to {num_classes - 1}, `num_classes` being {num_classes}"
    raise ArgumentError(f"`target` must be {wanted}, got also {outside}. {cure}", argument="target")
