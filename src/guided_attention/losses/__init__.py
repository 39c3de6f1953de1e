"""Losses: each a function, and the same as a module.

They raise an `ArgumentError` or `ArgumentTypeError` for tensors that do not fit together, labels that are neither a
class nor ignored (not looked for in a compiled graph) and settings out of range. The result is a plain scalar tensor.
Where a `Trainer` trains in several processes, their batches are parts of one: sums are over all of them.
"""

from guided_attention.losses.combined import DiceCrossEntropyLoss, dice_cross_entropy_loss
from guided_attention.losses.cross_entropy import CrossEntropyLoss, cross_entropy_loss
from guided_attention.losses.dice import DiceLoss, dice_loss
from guided_attention.losses.guided import (
    GuidedAttentionLoss,
    Reduction,
    guidance_loss,
    reconstruction_loss,
)

__all__ = [
    "CrossEntropyLoss",
    "DiceCrossEntropyLoss",
    "DiceLoss",
    "GuidedAttentionLoss",
    "Reduction",
    "cross_entropy_loss",
    "dice_cross_entropy_loss",
    "dice_loss",
    "guidance_loss",
    "reconstruction_loss",
]
