"""What the segmentation losses share: precision, class weights, the check of the labels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from guided_attention._checks import require
from guided_attention._typing import LabelMap, Logits

__all__ = ["checked_target", "checked_weights", "full_precision", "weights_buffer"]


def full_precision(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 where it is: sums over many pixels overflow or drown in half."""
    return x if x.dtype == torch.float64 else x.float()


def weights_buffer(class_weights: Sequence[float] | None) -> Tensor | None:
    """Return the weights as a tensor for a module to register, checked but for their number."""
    if class_weights is None:
        return None
    wanted = "finite numbers, none below 0, not all 0"
    weights = torch.tensor(class_weights, dtype=torch.float32)
    valid = bool(torch.isfinite(weights).all()) and bool((weights >= 0).all()) and bool((weights > 0).any())
    require(valid, "class_weights", wanted, list(class_weights))
    return weights


def checked_weights(logits: Logits, class_weights: Tensor | Sequence[float] | None) -> Tensor | None:
    """Return one weight a class, of the device and dtype of `logits`, or None."""
    weights = class_weights if isinstance(class_weights, Tensor) else weights_buffer(class_weights)
    if weights is None:
        return None
    wanted = f"one weight for each of the {logits.shape[1]} classes of `logits`"
    require(tuple(weights.shape) == (logits.shape[1],), "class_weights", wanted, f"{weights.numel()} weights")
    return weights.to(logits)


def checked_target(
    logits: Logits, target: LabelMap, ignore_index: int | None
) -> tuple[Tensor, Tensor | None]:
    """Return the labels as int64, 0 where ignored, and the mask of the positions that count (None: all).

    Raises:
        ValueError: The whole shapes do not fit, or a label is neither a class nor ignored.
    """
    integer = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
    require(integer, "target", "of an integer type", target.dtype, cure="Pass `target.long()`.")
    shape = (logits.shape[0], *logits.shape[2:])
    wanted = f"of the shape of `logits` without the class axis, {shape}"
    channel = target.shape == (shape[0], 1, *shape[1:])
    cure = "Take off the channel axis: `target[:, 0]`." if channel else ""
    require(target.shape == shape, "target", wanted, tuple(target.shape), cure=cure)
    labels = target.long()
    counted = None if ignore_index is None else labels != ignore_index
    labels = labels if counted is None else labels.where(counted, 0)
    _require_classes(labels, logits.shape[1])
    return labels, counted


def _require_classes(labels: Tensor, num_classes: int) -> None:
    # A compiled graph cannot stop to look at values, and an empty map has none.
    if torch.compiler.is_compiling() or not labels.numel():
        return
    lowest, highest = torch.stack(labels.aminmax()).tolist()
    if lowest >= 0 and highest < num_classes:
        return
    outside = np.unique(labels[(labels < 0) | (labels >= num_classes)].cpu().numpy()).tolist()
    cure = "Map the labels to classes, or name the value to leave out as `ignore_index`."
    wanted = f"made of the classes 0 to {num_classes - 1}, `num_classes` being {num_classes}"
    raise ValueError(f"`target` must be {wanted}, got also {outside}. {cure}")
