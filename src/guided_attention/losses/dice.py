"""Soft Dice loss: overlap of the predicted probabilities with the labels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from guided_attention._checks import counted, require, require_positive
from guided_attention._distributed import pooled
from guided_attention._typing import LabelMap, Logits, Scalar
from guided_attention.losses._shared import (
    checked_inputs,
    checked_weights,
    counted_labels,
    full_precision,
    weights_buffer,
)

__all__ = ["DiceLoss", "dice_loss"]


def dice_loss(
    logits: Logits,
    target: LabelMap,
    *,
    include_background: bool = False,
    class_weights: Tensor | Sequence[float] | None = None,
    ignore_index: int | None = None,
    smooth: float = 1.0,
) -> Scalar:
    """Penalise each organ by how little its predicted and its reference region overlap; 0 is a perfect match.

    With ``p`` the softmax of the logits over the classes, ``t`` the target as 0 and 1 for each class, and all
    sums over the whole batch and space (without ignored positions)::

        dice[c] = (2 Σ p[c] t[c] + smooth) / (Σ p[c] + Σ t[c] + smooth)
        loss    = Σ_c w[c] · (1 − dice[c]) / Σ_c w[c]

    It has no unit and lies in 0..1. It is computed in float32 even if the logits are of half precision.

    * The sums run over the batch, not over each image, because an organ is absent from most slices of a body.
    * An organ absent from the whole batch still counts: its loss is ``s / (s + smooth)`` for ``s`` falsely
      predicted pixels. With a tiny `smooth` it would be 1 for the least probability and have almost no gradient.
    * The background, class 0, is omitted by default: it is most of the image and easy to predict.
    * Where no position counts, or every class has weight 0, the loss is 0.

    Args:
        logits: Score of each class at each position, before the softmax, ``(batch, classes, *space)``.
        target: Class of each position, integers ``(batch, *space)``.
        include_background: Whether class 0 counts as an organ.
        class_weights: One weight for each class, 0 or more; also for the background, used if it is included.
        ignore_index: Label of the positions that do not count; with None all count.
        smooth: Pixels added to both sides of the ratio, above 0.

    Example:
        Four pixels of an organ, each predicted with probability one half: 1 − (2·2 + 1) / (2 + 4 + 1).

        >>> dice_loss(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, dtype=torch.long))
        tensor(0.2857)

    References:
        Sinha and Dolz, equation 12, on probabilities; Milletari et al., V-Net, 2016, with squares in the denominator.
    """
    require_positive("smooth", smooth)
    logits, target = checked_inputs(logits, target, ignore_index)
    first = 0 if include_background else 1
    wanted, got = (counted(number, "class", "classes") for number in (first, logits.shape[1]))
    require(logits.shape[1] > first, "logits", f"of more than {wanted}", got)
    overlap = _overlap_by_class(logits, target, ignore_index, smooth)[first:]
    weights = checked_weights(full_precision(logits), class_weights)
    if weights is None:
        return (1 - overlap).mean()
    weights = weights[first:]
    total = weights.sum()
    return ((1 - overlap) * weights).sum() / total.where(total > 0, 1)


def _overlap_by_class(logits: Logits, target: LabelMap, ignore_index: int | None, smooth: float) -> Tensor:
    labels, counted = counted_labels(logits, target, ignore_index)
    probabilities = full_precision(logits).softmax(1)
    classes = torch.arange(logits.shape[1], device=logits.device).view(-1, *(1,) * (logits.ndim - 2))
    present = labels.unsqueeze(1) == classes
    if counted is not None:
        here = counted.unsqueeze(1)
        probabilities, present = probabilities.where(here, 0), present & here
    axes = (0, *range(2, logits.ndim))
    sums = probabilities.where(present, 0).sum(axes), probabilities.sum(axes), present.sum(axes)
    shared, predicted, expected = pooled(torch.stack([part.to(probabilities) for part in sums]))
    overlap: Tensor = (2 * shared + smooth) / (predicted + expected + smooth)
    return overlap


class DiceLoss(nn.Module):
    """`dice_loss` as a module, with its arguments; the class weights are kept in the state dict.

    Example:
        >>> DiceLoss()(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, dtype=torch.long))
        tensor(0.2857)
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        include_background: bool = False,
        class_weights: Sequence[float] | None = None,
        ignore_index: int | None = None,
        smooth: float = 1.0,
    ) -> None:
        super().__init__()
        require_positive("smooth", smooth)
        self.register_buffer("class_weights", weights_buffer(class_weights))
        self.include_background = include_background
        self.ignore_index = ignore_index
        self.smooth = smooth

    def forward(self, logits: Logits, target: LabelMap) -> Scalar:
        """Return the loss of `logits` against `target`."""
        return dice_loss(
            logits,
            target,
            include_background=self.include_background,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            smooth=self.smooth,
        )
