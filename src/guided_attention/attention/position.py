"""PAM: every position of a feature map attends to every other one."""

from collections.abc import Sequence

import torch
from torch import nn

from guided_attention._checks import require, require_count, require_integer, require_type
from guided_attention._layers import conv
from guided_attention._maps import require_map
from guided_attention._typing import AnyFeatureMap, FeatureMap, Keys, SpatialDims
from guided_attention.attention.attend import stored_weights, weighted_average

__all__ = ["PAM"]


class PAM(nn.Module):
    """Position attention module: adds to each position what similar positions hold, near or far.

    With ``N`` positions, pointwise projections ``q, k`` to ``channels // reduction`` channels and ``v`` to `channels`::

        weights[i, j] = softmax_j( q[i] · k[j] )                 equation 2
        out[i]        = gate · Σ_j weights[i, j] · v[j]  +  x[i]  equation 3

    The gate is learnt and starts at 0: at initialization the input is returned unchanged. The ``N x N`` weights are
    never stored (see `attend`). Maps ``(batch, channels, *space)`` go in and out, from one position up.

    Args:
        channels: Channels of the map.
        reduction: Queries and keys have ``channels // reduction`` channels, at least one.
        spatial_dims: 2 for images, 3 for volumes.

    Example:
        >>> x = torch.randn(1, 16, 7, 11)
        >>> torch.equal(PAM(16)(x), x)  # the gate is 0
        True

    References:
        Sinha & Dolz, "Multi-scale self-guided attention for medical image segmentation", JBHI 2020, after Fu et al.,
        "Dual attention network for scene segmentation", CVPR 2019. Equation 3 prints ``F_j`` under the sum; ``F_i`` is
        meant.
    """

    def __init__(self, channels: int, *, reduction: int = 8, spatial_dims: SpatialDims = 2) -> None:
        super().__init__()
        require_count("channels", channels)
        require_count("reduction", reduction)
        head_width = max(1, channels // reduction)
        self.channels = channels
        self.spatial_dims = spatial_dims
        self.query = conv(channels, head_width, 1, spatial_dims=spatial_dims)
        self.key = conv(channels, head_width, 1, spatial_dims=spatial_dims)
        self.value = conv(channels, channels, 1, spatial_dims=spatial_dims)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: FeatureMap) -> FeatureMap:
        """Return the map with what each position gathered from all others added to it."""
        gate = self.gate
        require_map("x", x, channels=self.channels, spatial_dims=self.spatial_dims, like=gate)
        gathered = weighted_average(_rows(self.query(x)), _rows(self.key(x)), _rows(self.value(x)))
        return gate * gathered.mT.reshape(x.shape) + x

    def attention_map(self, x: FeatureMap, positions: Sequence[Sequence[int]]) -> AnyFeatureMap:
        """Return the weights of chosen positions, without building the whole matrix.

        Args:
            x: The map, ``(batch, channels, *space)``.
            positions: Coordinates in array order: ``(row, column)`` in 2-D, ``(slice, row, column)`` in 3-D.

        Returns:
            ``(batch, len(positions), *space)``: the weights of each position over all positions, in single precision at
            least; they sum to 1.

        Example:
            >>> PAM(16).attention_map(torch.randn(1, 16, 5, 7), [(0, 0), (4, 6)]).shape
            torch.Size([1, 2, 5, 7])
        """
        require_map("x", x, channels=self.channels, spatial_dims=self.spatial_dims, like=self.gate)
        space = x.shape[2:]
        queries = _rows(self.query(x))[:, _flat_index(positions, space)]
        weights = stored_weights(queries, _rows(self.key(x)))
        return weights.reshape(x.shape[0], len(positions), *space)


def _rows(x: FeatureMap) -> Keys:
    """Return the positions of a map as rows, ``(batch, positions, channels)``."""
    return x.flatten(2).mT


def _flat_index(positions: Sequence[Sequence[int]], space: Sequence[int]) -> list[int]:
    """Return the index of each position in the flattened map."""
    require_type("positions", positions, Sequence, "a list of coordinates")
    return [_flat(position, space) for position in positions]


def _flat(position: Sequence[int], space: Sequence[int]) -> int:
    require_type("positions", position, Sequence, "a list of coordinates, each a list of integers")
    for coordinate in position:
        require_integer("positions", coordinate)
    inside = len(position) == len(space) and all(0 <= p < s for p, s in zip(position, space, strict=True))
    require(inside, "positions", f"coordinates inside a map of size {tuple(space)}", tuple(position))
    flat = 0
    for coordinate, side in zip(position, space, strict=True):
        flat = flat * side + coordinate
    return flat
