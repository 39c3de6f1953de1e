"""MultiScaleFusion: the maps of all scales brought to one size and joined."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from guided_attention._checks import require, require_count, require_type
from guided_attention._layers import conv_norm_prelu, resize
from guided_attention._maps import first_weight, require_map, require_sequence
from guided_attention._typing import AnyFeatureMap, SpatialDims

__all__ = ["FusedMaps", "MultiScaleFusion"]


class FusedMaps(NamedTuple):
    """The maps of all scales at the finest scale's size.

    Attributes:
        maps: ``F_s`` of each scale, fine to coarse, each ``(batch, channels, *space)``.
        fused: ``F``, made of all of them, same shape.
    """

    maps: list[Tensor]
    fused: Tensor


class MultiScaleFusion(nn.Module):
    """Bring the maps of an encoder to one width and one size, and join them into one map.

    The maps are taken to cover the same area: give the encoder an image whose sides its coarsest stride divides, as
    `SegmentationModel` does.

    Each map goes through convolution 1 x 1, batch norm, PReLU and a linear resize to the size of the finest one; the
    fused map is made of their concatenation by convolutions 3 x 3, 3 x 3, 1 x 1, each with batch norm and PReLU::

        F_s = resize( conv_s(map_s) ),   F = convs([F_0, F_1, …])

    Args:
        in_channels: Channels of each map ``(batch, in_channels[s], *space_s)``, fine to coarse: the encoder's
            ``out_channels``.
        channels: Channels of every resulting map.
        spatial_dims: 2 for images, 3 for volumes.

    Raises:
        ArgumentError: `in_channels` is empty or a number is out of range; in `forward`, the maps do not fit.

    Example:
        >>> maps, fused = MultiScaleFusion((3, 5), channels=4)([torch.randn(1, 3, 13, 11), torch.randn(1, 5, 7, 6)])
        >>> fused.shape, len(maps)
        (torch.Size([1, 4, 13, 11]), 2)

    References:
        Sinha & Dolz, JBHI 2020, section II.A; the layers are the original code's. It concatenates coarse to fine, we
        and the paper fine to coarse: the same up to the order of a kernel's input channels.
    """

    def __init__(
        self, in_channels: Sequence[int], *, channels: int = 64, spatial_dims: SpatialDims = 2
    ) -> None:
        super().__init__()
        require_type("in_channels", in_channels, Sequence, "a list of numbers, one for each map")
        require(len(in_channels) > 0, "in_channels", "the channels of at least one map", list(in_channels))
        for width in in_channels:
            require_count("in_channels", width)
        require_count("channels", channels)
        self.in_channels = tuple(in_channels)
        self.channels = channels
        self.spatial_dims: SpatialDims = spatial_dims
        self.project = nn.ModuleList(
            conv_norm_prelu(width, channels, 1, spatial_dims=spatial_dims) for width in in_channels
        )
        self.fuse = nn.Sequential(
            conv_norm_prelu(len(in_channels) * channels, channels, 3, spatial_dims=spatial_dims),
            conv_norm_prelu(channels, channels, 3, spatial_dims=spatial_dims),
            conv_norm_prelu(channels, channels, 1, spatial_dims=spatial_dims),
        )

    def forward(self, features: Sequence[AnyFeatureMap]) -> FusedMaps:
        """Return the maps of all scales at the finest one's size, and the map fused from them."""
        self._require_fit(features)
        size = tuple(features[0].shape[2:])
        maps = [resize(project(map_), size) for project, map_ in zip(self.project, features, strict=True)]
        return FusedMaps(maps, self.fuse(torch.cat(maps, dim=1)))

    def _require_fit(self, features: Sequence[Tensor]) -> None:
        if torch.compiler.is_compiling():
            return
        like = first_weight(self)
        require_sequence("features", features, len(self.in_channels))
        for number, (map_, channels) in enumerate(zip(features, self.in_channels, strict=True)):
            name = f"features[{number}]"
            require_map(name, map_, channels=channels, spatial_dims=self.spatial_dims, like=like)
            if map_.shape[0] != features[0].shape[0]:
                wanted = f"of as many samples as `features[0]`, {features[0].shape[0]}"
                require(condition=False, argument=name, wanted=wanted, got=map_.shape[0])
