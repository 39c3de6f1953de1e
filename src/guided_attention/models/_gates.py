"""Gates of `MultiScaleGatedAttention` in the paper's variants: from twice the channels to the channels of a map."""

from torch import Tensor, nn

from guided_attention._layers import conv, conv_norm_prelu
from guided_attention._typing import SpatialDims
from guided_attention.attention import PAM, attention_branch

__all__ = ["DANetGate", "branch_gate", "softmax_gate"]


def branch_gate(attention: nn.Module, channels: int, dims: SpatialDims) -> nn.Sequential:
    """Return an attention between two convolutions."""
    return attention_branch(2 * channels, attention, channels, spatial_dims=dims)


def softmax_gate(channels: int, dims: SpatialDims) -> nn.Sequential:
    """Return DAF's attention: shares of the channels at every position."""
    return nn.Sequential(
        conv_norm_prelu(2 * channels, channels, 3, spatial_dims=dims),
        conv_norm_prelu(channels, channels, 3, spatial_dims=dims),
        conv(channels, channels, 1, spatial_dims=dims),
        nn.Softmax(dim=1),
    )


class DANetGate(nn.Module):
    """Position and channel attention, each followed by dropout and a convolution, joined by a third convolution."""

    def __init__(self, channels: int, channel_attention: nn.Module, dims: SpatialDims) -> None:
        super().__init__()
        drop = nn.Dropout2d if dims == 2 else nn.Dropout3d  # noqa: PLR2004
        self.position, self.channel = (
            nn.Sequential(
                branch_gate(attention, channels, dims),
                drop(0.1),
                conv(channels, channels, 1, spatial_dims=dims),
            )
            for attention in (PAM(channels, spatial_dims=dims), channel_attention)
        )
        self.project = conv(channels, channels, 1, spatial_dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gate of a scale."""
        joined: Tensor = self.project(self.position(x) + self.channel(x))
        return joined
