"""Sum of the soft Dice loss and the cross-entropy."""

from collections.abc import Sequence

from torch import Tensor, nn

from guided_attention._typing import LabelMap, Logits, Scalar
from guided_attention.losses._shared import require_weight, weights_buffer
from guided_attention.losses.cross_entropy import cross_entropy_loss
from guided_attention.losses.dice import dice_loss

__all__ = ["DiceCrossEntropyLoss", "dice_cross_entropy_loss"]


def dice_cross_entropy_loss(
    logits: Logits,
    target: LabelMap,
    *,
    dice_weight: float = 1.0,
    cross_entropy_weight: float = 1.0,
    class_weights: Tensor | Sequence[float] | None = None,
    ignore_index: int | None = None,
) -> Scalar:
    """Penalise poor overlap of the organs and low probability of single pixels; 0 is a perfect and certain match.

    The overlap keeps small organs from being outweighed by the background, the cross-entropy gives every pixel a
    gradient. The paper trains only on cross-entropy::

        loss = dice_weight · dice_loss + cross_entropy_weight · cross_entropy_loss

    Each term has its own defaults: the overlap omits the background, the cross-entropy includes it.

    Args:
        logits: Score of each class at each position, before the softmax, ``(batch, classes, *space)``.
        target: Class of each position, integers ``(batch, *space)``.
        dice_weight: Weight of the overlap, 0 or more.
        cross_entropy_weight: Weight of the cross-entropy, 0 or more.
        class_weights: One weight for each class, 0 or more, for both terms.
        ignore_index: Label of the positions that do not count, in both terms; with None all count.

    Example:
        >>> import torch
        >>> dice_cross_entropy_loss(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, dtype=torch.long))
        tensor(0.9789)
    """
    require_weight("dice_weight", dice_weight)
    require_weight("cross_entropy_weight", cross_entropy_weight)
    overlap = dice_loss(logits, target, class_weights=class_weights, ignore_index=ignore_index)
    if cross_entropy_weight == 0:  # 0 times the infinite surprise of a class without probability would be NaN
        return dice_weight * overlap
    surprise = cross_entropy_loss(logits, target, class_weights=class_weights, ignore_index=ignore_index)
    return dice_weight * overlap + cross_entropy_weight * surprise


class DiceCrossEntropyLoss(nn.Module):
    """`dice_cross_entropy_loss` as a module, with its arguments; the class weights are kept in the state dict.

    Example:
        >>> import torch
        >>> DiceCrossEntropyLoss()(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, dtype=torch.long))
        tensor(0.9789)
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
        class_weights: Sequence[float] | None = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        require_weight("dice_weight", dice_weight)
        require_weight("cross_entropy_weight", cross_entropy_weight)
        self.register_buffer("class_weights", weights_buffer(class_weights))
        self.dice_weight = dice_weight
        self.cross_entropy_weight = cross_entropy_weight
        self.ignore_index = ignore_index

    def forward(self, logits: Logits, target: LabelMap) -> Scalar:
        """Return the loss of `logits` against `target`."""
        return dice_cross_entropy_loss(
            logits,
            target,
            dice_weight=self.dice_weight,
            cross_entropy_weight=self.cross_entropy_weight,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
        )
