"""DualAttention: position and channel attention side by side."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from guided_attention._checks import require_count
from guided_attention._layers import conv_norm_prelu
from guided_attention._maps import first_weight, require_factory, require_map, require_module
from guided_attention._typing import FeatureMap, OutFeatureMap, SpatialDims
from guided_attention.attention.channel import CAM
from guided_attention.attention.position import PAM

__all__ = ["DualAttention", "DualOutput", "attention_branch"]


class DualOutput(NamedTuple):
    """What dual attention makes of a map.

    Attributes:
        attended: The sum of the two branches, ``(batch, out_channels, *space)``.
        modules: Input and output of the PAM, and of the CAM, each ``(batch, out_channels, *space)``.
    """

    attended: Tensor
    modules: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


class DualAttention(nn.Module):
    """Position attention and channel attention side by side; their outputs are summed (figure 2 of the paper).

    Each branch is an `attention_branch`::

        out = after_p(PAM(before_p(x))) + after_c(CAM(before_c(x)))

    Args:
        in_channels: Channels of the map, ``(batch, in_channels, *space)``, any size from 1 up.
        out_channels: Channels inside the branches and of the result; `in_channels` if None.
        channel_attention: Builds the channel attention: `CAM`, or ``partial(CAM, energy="paper")``.
        spatial_dims: 2 for images, 3 for volumes.

    Example:
        >>> import torch
        >>> DualAttention(32, 16)(torch.randn(2, 32, 7, 11)).shape
        torch.Size([2, 16, 7, 11])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        channel_attention: Callable[[], nn.Module] = CAM,
        spatial_dims: SpatialDims = 2,
    ) -> None:
        super().__init__()
        width = in_channels if out_channels is None else out_channels
        require_count("in_channels", in_channels)
        require_count("out_channels", width)
        require_factory("channel_attention", channel_attention, 'partial(CAM, energy="paper")')
        self.in_channels = in_channels
        self.spatial_dims = spatial_dims
        self.position, self.channel = (
            attention_branch(in_channels, attention, width, spatial_dims=spatial_dims)
            for attention in (PAM(width, spatial_dims=spatial_dims), channel_attention())
        )

    def forward(self, x: FeatureMap) -> OutFeatureMap:
        """Return the sum of the two branches."""
        attended: OutFeatureMap = self.outputs(x).attended
        return attended

    def outputs(self, x: FeatureMap) -> DualOutput:
        """Return the same sum, with input and output of the two attentions."""
        like = first_weight(self)
        require_map("x", x, channels=self.in_channels, spatial_dims=self.spatial_dims, like=like)
        position, position_pair = _through(self.position, x)
        channel, channel_pair = _through(self.channel, x)
        return DualOutput(position + channel, (position_pair, channel_pair))


def attention_branch(
    in_channels: int, attention: nn.Module, channels: int, *, spatial_dims: SpatialDims = 2
) -> nn.Sequential:
    """Return an attention between two convolutions 3 x 3, each with batch norm and PReLU.

    The layers are the original code's; with 128 and 64 channels they have the 116,179 (PAM) and 110,979 (CAM)
    parameters that the paper's counts need.

    Args:
        in_channels: Channels of the map that comes in.
        attention: A module that keeps the shape of a map of `channels` channels, as `PAM` and `CAM` do.
        channels: Channels of the result.
        spatial_dims: 2 for images, 3 for volumes.

    Example:
        >>> import torch
        >>> attention_branch(5, CAM(), 3)(torch.randn(2, 5, 7, 11)).shape
        torch.Size([2, 3, 7, 11])
    """
    require_count("in_channels", in_channels)
    require_count("channels", channels)
    require_module("attention", attention, "a module that keeps the shape of a map, such as PAM or CAM")
    branch = _Branch(
        conv_norm_prelu(in_channels, channels, 3, spatial_dims=spatial_dims),
        attention,
        conv_norm_prelu(channels, channels, 3, spatial_dims=spatial_dims),
    )
    branch.in_channels, branch.spatial_dims = in_channels, spatial_dims
    return branch


class _Branch(nn.Sequential):
    """The three modules of `attention_branch`, which check what they get."""

    in_channels: int | None = None
    spatial_dims: SpatialDims | None = None

    def forward(self, x: Tensor) -> Tensor:
        like = first_weight(self)
        require_map("x", x, channels=self.in_channels, spatial_dims=self.spatial_dims, like=like)
        for module in self:
            x = module(x)
        return x


def _through(branch: nn.Sequential, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return what a branch gives, with input and output of its attention."""
    before, attention, after = branch
    seen = before(x)
    attended = attention(seen)
    return after(attended), (seen, attended)
