"""DualAttention: position and channel attention side by side."""

from torch import nn

from guided_attention._checks import require_positive
from guided_attention._layers import conv_norm_prelu
from guided_attention._typing import FeatureMap, OutFeatureMap, SpatialDims
from guided_attention.attention.channel import CAM, ChannelEnergy
from guided_attention.attention.position import PAM

__all__ = ["DualAttention"]


class DualAttention(nn.Module):
    """Position attention and channel attention side by side, their outputs summed.

    Each branch is convolution 3 x 3, batch norm, PReLU, the attention, convolution 3 x 3, batch norm, PReLU::

        out = after_p(PAM(before_p(x))) + after_c(CAM(before_c(x)))

    Args:
        in_channels: Channels of the map that comes in.
        out_channels: Channels inside the branches and of the map that goes out; `in_channels` where None.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Shape:
        In ``(batch, in_channels, *space)``, out ``(batch, out_channels, *space)``, any size from 1 up.

    Raises:
        ValueError: A number of channels is below 1, `energy` or `spatial_dims` is not one of those named.

    Example:
        >>> import torch
        >>> from guided_attention import DualAttention
        >>> DualAttention(32, 16)(torch.randn(2, 32, 7, 11)).shape
        torch.Size([2, 16, 7, 11])

    References:
        Sinha & Dolz, JBHI 2020, figure 2 and section II.C. The layers of the branches are not in the text; they are the
        original code's, and give the paper's parameter counts.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        energy: ChannelEnergy = "danet",
        spatial_dims: SpatialDims = 2,
    ) -> None:
        super().__init__()
        width = in_channels if out_channels is None else out_channels
        require_positive("in_channels", in_channels)
        require_positive("out_channels", width)
        self.position = _branch(in_channels, width, PAM(width, spatial_dims=spatial_dims), spatial_dims)
        self.channel = _branch(in_channels, width, CAM(energy=energy), spatial_dims)

    def forward(self, x: FeatureMap) -> OutFeatureMap:
        """Return the sum of the two branches."""
        attended: OutFeatureMap = self.position(x) + self.channel(x)
        return attended


def _branch(
    in_channels: int, out_channels: int, attention: nn.Module, spatial_dims: SpatialDims
) -> nn.Sequential:
    return nn.Sequential(
        conv_norm_prelu(in_channels, out_channels, 3, spatial_dims=spatial_dims),
        attention,
        conv_norm_prelu(out_channels, out_channels, 3, spatial_dims=spatial_dims),
    )
