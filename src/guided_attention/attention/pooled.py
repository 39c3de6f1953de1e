"""PooledAttention: attention on a coarser grid, added to the fine map."""

from collections.abc import Sequence

import torch
from torch import nn

from guided_attention._checks import require, require_choice, require_integer
from guided_attention._layers import average_pool, batch_norm, cut, resize
from guided_attention._maps import require_maps, require_module
from guided_attention._typing import AnyFeatureMap, FeatureMap, SpatialDims
from guided_attention.attention.protocol import AttendedFeatures, MultiScaleAttention

__all__ = ["PooledAttention"]


class PooledAttention(nn.Module):
    """Attend on a coarser grid, and add the result to the fine map.

    With ``F_s`` the map of scale ``s``, ``F`` the fused map and ``i`` the step of the attention::

        A_i,s = attention( norm_0(pool(F_0)), norm_1(pool(F_1)), …; norm(pool(F)) )
        out_i,s = F + w · resize( A_i,s )

    ``pool`` averages over `factor` positions along each axis (the last cell over those that are left), ``norm`` is
    batch norm, ``resize`` enlarges linearly by `factor` and cuts what the last cells have too much, and ``w`` is one
    weight per channel that starts at 0: at initialization the network has no attention. The attention costs about
    ``factor²`` times less (``factor³`` in volumes; the square of it for the comparison of all positions), while edges
    stay as sharp as in the fused map. Codes and reconstructions are those of the coarse grid. The norms keep the
    reconstruction loss, which grows with the maps, from outweighing the others. It is not in the paper.

    Args:
        attention: Any module that meets the `MultiScaleAttention` protocol.
        factor: By what the grid of the attention is coarser.
        spatial_dims: 2 for images, 3 for volumes.

    Example:
        >>> from guided_attention.attention import MultiScaleGuidedAttention
        >>> attention = PooledAttention(MultiScaleGuidedAttention(4, num_scales=2), factor=4)
        >>> maps = [torch.randn(1, 4, 13, 18) for _ in range(2)]
        >>> features = attention(maps, sum(maps))
        >>> features.attended[0][0].shape, features.reconstructions[0][0].shape
        (torch.Size([1, 4, 13, 18]), torch.Size([1, 8, 4, 5]))
    """

    def __init__(
        self, attention: MultiScaleAttention, *, factor: int = 4, spatial_dims: SpatialDims = 2
    ) -> None:
        super().__init__()
        wanted = "a torch.nn.Module that meets the MultiScaleAttention protocol"
        self.attention = require_module("attention", attention, wanted, protocol=MultiScaleAttention)
        require_integer("factor", factor)
        require(factor >= 1, "factor", "at least 1", factor)
        require_choice("spatial_dims", spatial_dims, (2, 3))
        self.factor = factor
        self.channels = attention.channels
        self.num_scales = attention.num_scales
        self.num_steps = attention.num_steps
        self.spatial_dims = spatial_dims
        maps_and_fused = range(attention.num_scales + 1)
        self.norms = nn.ModuleList(
            batch_norm(attention.channels, spatial_dims=spatial_dims) for _ in maps_and_fused
        )
        self.weight = nn.Parameter(torch.zeros(attention.channels, *[1] * spatial_dims))

    def forward(
        self, maps: Sequence[FeatureMap], fused: FeatureMap, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the fused map with each step's attention added to it, a map for every scale."""
        require_maps(
            maps,
            fused,
            number=self.num_scales,
            channels=self.channels,
            spatial_dims=self.spatial_dims,
            like=self.weight,
        )
        *pooled, context = (
            norm(average_pool(map_, self.factor))
            for norm, map_ in zip(self.norms, [*maps, fused], strict=True)
        )
        coarse: AttendedFeatures = self.attention(pooled, context, attended_only=attended_only)
        size = tuple(fused.shape[2:])
        return AttendedFeatures(
            attended=tuple(
                tuple(fused + self.weight * self._fine(found, size) for found in step)
                for step in coarse.attended
            ),
            codes=coarse.codes,
            reconstructions=coarse.reconstructions,
        )

    def _fine(self, coarse: FeatureMap, size: tuple[int, ...]) -> AnyFeatureMap:
        # An axis shorter than a cell has one cell, which is as long as the axis.
        cells = [min(side, self.factor) for side in size]
        whole = tuple(cell * side for cell, side in zip(cells, coarse.shape[2:], strict=True))
        return cut(resize(coarse, whole), size)
