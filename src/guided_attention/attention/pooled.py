"""PooledAttention: attention on a coarser grid, added to the fine map."""

from collections.abc import Sequence

import torch
from torch import nn

from guided_attention._checks import require, require_choice, require_same_shape
from guided_attention._layers import average_pool, batch_norm, resize
from guided_attention._typing import FeatureMap, SpatialDims
from guided_attention.attention.protocol import AttendedFeatures, MultiScaleAttention, for_prediction

__all__ = ["PooledAttention"]


class PooledAttention(nn.Module):
    """Attend on a coarser grid, and add what was found to the fine map.

    With ``F_s`` the map of scale ``s``, ``F`` the fused map, ``A`` the attention that is handed in and ``i`` its step::

        A_i,s = attention( norm_0(pool(F_0)), norm_1(pool(F_1)), …; norm(pool(F)) )
        out_i,s = F + w · resize( A_i,s )

    ``pool`` averages over `factor` positions along each axis, ``norm`` is batch norm, ``resize`` is linear, and ``w``
    is one weight a channel, 0 at birth: the network begins as one without attention. The attention costs about
    ``factor²`` times less (``factor³`` in volumes; the square of it where all positions are compared with all others),
    while edges stay as sharp as the fused map has them. Codes and reconstructions are those of the coarse grid. The
    norms keep the reconstruction loss, which grows with the maps, from outweighing the others.

    Args:
        attention: Any module that meets the `MultiScaleAttention` protocol.
        factor: By what the grid of the attention is coarser.
        spatial_dims: 2 for images, 3 for volumes.

    Shape:
        Every map ``(batch, channels, *space)``, all of one shape and any size from 1 up: where a side does not divide
        by `factor`, the last cell averages over the positions that are left. See `AttendedFeatures` for what goes out.

    Raises:
        ValueError: `factor` is below 1, or `spatial_dims` is neither 2 nor 3; on the way, another number of maps than
            the attention has scales, or maps that differ in shape.
        TypeError: `attention` is no `torch.nn.Module`.

    Example:
        >>> import torch
        >>> from guided_attention.attention import MultiScaleGuidedAttention, PooledAttention
        >>> attention = PooledAttention(MultiScaleGuidedAttention(4, num_scales=2), factor=4)
        >>> maps = [torch.randn(1, 4, 13, 18) for _ in range(2)]
        >>> features = attention(maps, sum(maps))
        >>> features.attended[0][0].shape, features.reconstructions[0][0].shape
        (torch.Size([1, 4, 13, 18]), torch.Size([1, 8, 4, 5]))

    References:
        Not in the paper, whose attention works at a quarter of the image's side. Wang et al., "Pyramid vision
        transformer", ICCV 2021, reduces keys and values alike; here the whole attention moves to the coarse grid.
    """

    def __init__(
        self, attention: MultiScaleAttention, *, factor: int = 4, spatial_dims: SpatialDims = 2
    ) -> None:
        super().__init__()
        if not isinstance(attention, nn.Module):
            got = type(attention).__name__
            raise TypeError(
                f"`attention` must be a torch.nn.Module that meets the MultiScaleAttention protocol, got {got}."
            )
        require(factor >= 1, "factor", "at least 1", factor)
        require_choice("spatial_dims", spatial_dims, (2, 3))
        self.attention = attention
        self.factor = factor
        self.channels = attention.channels
        self.num_scales = attention.num_scales
        self._for_prediction = for_prediction(attention)
        maps_and_fused = range(attention.num_scales + 1)
        self.norms = nn.ModuleList(
            batch_norm(attention.channels, spatial_dims=spatial_dims) for _ in maps_and_fused
        )
        self.weight = nn.Parameter(torch.zeros(attention.channels, *[1] * spatial_dims))

    @property
    def num_steps(self) -> int:
        """How many times the attention refines itself."""
        steps: int = self.attention.num_steps
        return steps

    def forward(
        self, maps: Sequence[FeatureMap], fused: FeatureMap, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the fused map with each step's attention added to it, a map for every scale."""
        require(len(maps) == self.num_scales, "maps", f"a list of {self.num_scales} maps", len(maps))
        for number, map_ in enumerate(maps):
            require_same_shape(f"maps[{number}]", map_.shape, "fused", fused.shape)
        *pooled, context = (
            norm(average_pool(map_, self.factor))
            for norm, map_ in zip(self.norms, [*maps, fused], strict=True)
        )
        coarse: AttendedFeatures = self.attention(
            pooled, context, **(self._for_prediction if attended_only else {})
        )
        size = tuple(fused.shape[2:])
        return AttendedFeatures(
            attended=tuple(
                tuple(fused + self.weight * resize(found, size) for found in step) for step in coarse.attended
            ),
            codes=coarse.codes,
            reconstructions=coarse.reconstructions,
        )
