"""Cross-entropy between the predicted class probabilities and the labels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from guided_attention._distributed import pooled
from guided_attention._typing import LabelMap, Logits, Scalar
from guided_attention.losses._shared import (
    checked_inputs,
    checked_weights,
    counted_labels,
    full_precision,
    weights_buffer,
)

__all__ = ["CrossEntropyLoss", "cross_entropy_loss"]


def cross_entropy_loss(
    logits: Logits,
    target: LabelMap,
    *,
    class_weights: Tensor | Sequence[float] | None = None,
    ignore_index: int | None = None,
) -> Scalar:
    """Penalise each pixel by how little probability its class has; 0 if every class is certain and right.

    With ``p`` the softmax of the logits over the classes, ``t`` the target, ``w`` the class weights (1
    without them), summed over the positions ``i`` that are not ignored::

        loss = Σ_i w[t_i] · (−log p[i, t_i]) / Σ_i w[t_i]

    The unit is the nat. Where no position counts (all ignored, or of weight 0), the loss is exactly 0 with zero
    gradients, whatever the probabilities there. It is computed in float32 even if the logits are of half precision.

    Args:
        logits: Score of each class at each position, before the softmax, ``(batch, classes, *space)``.
        target: Class of each position, integers ``(batch, *space)``.
        class_weights: One weight for each class, 0 or more.
        ignore_index: Label of the positions that do not count; with None all count.

    Example:
        Two classes of equal probability: every pixel costs log 2.

        >>> cross_entropy_loss(torch.zeros(1, 2, 3, 3), torch.ones(1, 3, 3, dtype=torch.long))
        tensor(0.6931)
    """
    logits, target = checked_inputs(logits, target, ignore_index)
    labels, counted = counted_labels(logits, target, ignore_index)
    scores = full_precision(logits)
    weights = checked_weights(scores, class_weights)
    # "none", then a sum: the built-in reductions have no deterministic form on CUDA for maps.
    surprise = F.cross_entropy(scores, labels, weight=weights, reduction="none")
    weight = torch.ones_like(surprise) if weights is None else weights[labels]
    if weights is not None:
        # Of weight 0 and without probability, a class would cost 0 times an infinite surprise: NaN.
        counted = weight > 0 if counted is None else counted & (weight > 0)
    if counted is not None:
        surprise, weight = surprise.where(counted, 0), weight.where(counted, 0)
    sums = pooled(torch.stack([surprise.sum(), weight.sum()]))
    return sums[0] / sums[1].where(sums[1] > 0, 1)


class CrossEntropyLoss(nn.Module):
    """`cross_entropy_loss` as a module, with its arguments; the class weights are kept in the state dict.

    Example:
        >>> CrossEntropyLoss([1.0, 3.0])(torch.zeros(1, 2, 3, 3), torch.ones(1, 3, 3, dtype=torch.long))
        tensor(0.6931)
    """

    class_weights: Tensor | None

    def __init__(
        self, class_weights: Sequence[float] | None = None, *, ignore_index: int | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", weights_buffer(class_weights))
        self.ignore_index = ignore_index

    def forward(self, logits: Logits, target: LabelMap) -> Scalar:
        """Return the loss of `logits` against `target`."""
        return cross_entropy_loss(
            logits, target, class_weights=self.class_weights, ignore_index=self.ignore_index
        )
