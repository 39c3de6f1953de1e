"""MultiScaleAttention: what an attention between fusion and heads must offer, and what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["AttendedFeatures", "MultiScaleAttention"]


@dataclass(frozen=True)
class AttendedFeatures:
    """What attention makes of the maps of all scales.

    Attributes:
        attended: For each step in order, the attended map of each scale, ``(batch, channels, *space)``.
        codes: Pairs of codes of successive steps on the same scale, which the guidance loss pulls together.
        reconstructions: Pairs of maps that the reconstruction loss compares: input and reconstruction of each
            autoencoder, or input and output of each attention module. Both are empty without guidance.
    """

    attended: tuple[tuple[Tensor, ...], ...]
    codes: tuple[tuple[Tensor, Tensor], ...] = ()
    reconstructions: tuple[tuple[Tensor, Tensor], ...] = ()


@runtime_checkable
class MultiScaleAttention(Protocol):
    """A module that attends to the maps of several scales and to the map fused from them.

    Attributes:
        channels: Channels of every map, in and out.
        num_scales: Number of maps that come in.
        num_steps: Number of refinement steps: the rows of `AttendedFeatures.attended`.

    Example:
        >>> from torch import nn
        >>> class Plain(nn.Module):
        ...     channels, num_scales, num_steps = 8, 2, 1
        ...
        ...     def forward(self, maps, fused, *, attended_only=False):
        ...         return AttendedFeatures(attended=(tuple(map_ + fused for map_ in maps),))
        >>> isinstance(Plain(), MultiScaleAttention)
        True
    """

    channels: int
    num_scales: int

    @property
    def num_steps(self) -> int:
        """Return the number of refinement steps."""
        ...

    def forward(
        self, maps: Sequence[Tensor], fused: Tensor, /, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the attended maps ``(batch, channels, *space)`` of every step and scale.

        With `attended_only`, as in prediction, codes and reconstructions are not needed and may be empty.
        """
        ...
