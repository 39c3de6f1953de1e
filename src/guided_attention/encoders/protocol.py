"""Encoder: what a network must offer to be the first part of a segmentation model."""

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Encoder"]


@runtime_checkable
class Encoder(Protocol):
    """A module that turns an image into maps of several scales, fine to coarse.

    Attributes:
        out_channels: Channels of each map.
        strides: Factor by which each map is smaller than the image (sides are rounded up).

    Example:
        >>> from torch import nn
        >>> class OneScale(nn.Module):
        ...     out_channels, strides = (8,), (2,)
        ...
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conv = nn.Conv2d(1, 8, 3, padding=1, stride=2)
        ...
        ...     def forward(self, x):
        ...         return [self.conv(x).relu()]
        >>> isinstance(OneScale(), Encoder)
        True
    """

    out_channels: tuple[int, ...]
    strides: tuple[int, ...]

    def forward(self, x: Tensor, /) -> list[Tensor]:
        """Return the maps ``(batch, out_channels[s], *space / strides[s])``."""
        ...
