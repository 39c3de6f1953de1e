"""MultiScaleAttention: what an attention must offer to stand between fusion and heads, and what it hands on."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["AttendedFeatures", "MultiScaleAttention", "for_prediction"]


@dataclass(frozen=True)
class AttendedFeatures:
    """What attention makes of the maps of all scales.

    Attributes:
        attended: For each step in order, the attended map of each scale, ``(batch, channels, *space)``.
        codes: Pairs of codes of successive steps on the same scale: what the guidance loss pulls together.
        reconstructions: Pairs of maps that the reconstruction loss compares: input and reconstruction of each
            autoencoder, or input and output of each attention module ("dist"). Both are empty without guidance.
    """

    attended: tuple[tuple[Tensor, ...], ...]
    codes: tuple[tuple[Tensor, Tensor], ...] = ()
    reconstructions: tuple[tuple[Tensor, Tensor], ...] = ()


@runtime_checkable
class MultiScaleAttention(Protocol):
    """A module that attends to the maps of several scales beside the map fused of them.

    Attributes:
        channels: Channels of every map, in and out.
        num_scales: How many maps come in.
        num_steps: How many times it refines itself: the rows of `AttendedFeatures.attended`.

    A ``forward`` that also takes the keyword ``attended_only`` is told by it that neither codes nor reconstructions are
    wanted, so that a prediction need not hold them.

    Example:
        Any `torch.nn.Module` with these four members will do; this one attends to nothing:

        >>> import torch
        >>> from torch import nn
        >>> from guided_attention.attention import AttendedFeatures, MultiScaleAttention
        >>> class Plain(nn.Module):
        ...     channels, num_scales, num_steps = 8, 2, 1
        ...
        ...     def forward(self, maps, fused):
        ...         return AttendedFeatures(attended=(tuple(map_ + fused for map_ in maps),))
        >>> isinstance(Plain(), MultiScaleAttention)
        True
    """

    channels: int
    num_scales: int

    @property
    def num_steps(self) -> int:
        """Return how many times the attention refines itself."""
        ...

    def forward(self, maps: Sequence[Tensor], fused: Tensor, /) -> AttendedFeatures:
        """Return the attended maps ``(batch, channels, *space)`` of every step and scale."""
        ...


def for_prediction(attention: MultiScaleAttention) -> Mapping[str, bool]:
    """Return the keywords that tell an attention that its attended maps alone are wanted; none where it takes none."""
    takes_it = "attended_only" in inspect.signature(attention.forward).parameters
    return {"attended_only": True} if takes_it else {}
