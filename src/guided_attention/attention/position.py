"""PAM: every position of a feature map looks at every other one."""

from collections.abc import Sequence

import torch
from torch import nn

from guided_attention._checks import require, require_positive
from guided_attention._layers import conv
from guided_attention._typing import AnyFeatureMap, FeatureMap, Keys, SpatialDims
from guided_attention.attention.attend import attend

__all__ = ["PAM"]


class PAM(nn.Module):
    """Position attention module: adds to each position what similar positions hold, near or far.

    With ``N`` positions, pointwise projections ``q, k`` to ``channels // reduction`` channels and ``v`` to `channels`::

        weights[i, j] = softmax_j( q[i] · k[j] )                 equation 2
        out[i]        = gate · Σ_j weights[i, j] · v[j]  +  x[i]  equation 3

    The gate is learnt and starts at 0, so that at birth the module hands its input back unchanged. The scores are not
    divided by the square root of the width. The ``N x N`` weights are never stored, in training neither: memory grows
    with ``N``. Any size works, from one position up.

    Args:
        channels: Channels of the map, in and out.
        reduction: Queries and keys have ``channels // reduction`` channels, at least one.
        spatial_dims: 2 for images, 3 for volumes.

    Shape:
        ``(batch, channels, *space)`` in and out.

    Raises:
        ValueError: `channels` or `reduction` is below 1, or `spatial_dims` is neither 2 nor 3.

    Example:
        >>> import torch
        >>> from guided_attention import PAM
        >>> x = torch.randn(1, 16, 7, 11)
        >>> torch.equal(PAM(16)(x), x)  # the gate is shut at birth
        True

    References:
        Sinha & Dolz, "Multi-scale self-guided attention for medical image segmentation", JBHI 2020, equations 2 and 3,
        after Fu et al., "Dual attention network for scene segmentation", CVPR 2019. Equation 3 prints ``F_j`` under
        the sum; ``F_i`` is meant, and that is what is computed.
    """

    def __init__(self, channels: int, *, reduction: int = 8, spatial_dims: SpatialDims = 2) -> None:
        super().__init__()
        require_positive("channels", channels)
        require_positive("reduction", reduction)
        head_width = max(1, channels // reduction)
        self.query = conv(channels, head_width, 1, spatial_dims=spatial_dims)
        self.key = conv(channels, head_width, 1, spatial_dims=spatial_dims)
        self.value = conv(channels, channels, 1, spatial_dims=spatial_dims)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: FeatureMap) -> FeatureMap:
        """Return the map with what each position gathered from all others added to it."""
        gathered = attend(_rows(self.query(x)), _rows(self.key(x)), _rows(self.value(x)))
        return self.gate * gathered.mT.reshape(x.shape) + x

    def attention_map(self, x: FeatureMap, positions: Sequence[Sequence[int]]) -> AnyFeatureMap:
        """Return where chosen positions look, without building the whole matrix.

        Args:
            x: The map, ``(batch, channels, *space)``.
            positions: Coordinates of the asking positions in array order: ``(row, column)`` in 2-D,
                ``(slice, row, column)`` in 3-D, counted on the map that comes in.

        Returns:
            ``(batch, len(positions), *space)``: for each asking position its weights over all positions; they sum to 1.

        Raises:
            ValueError: A position lies outside the map or has another number of coordinates.

        Example:
            >>> import torch
            >>> from guided_attention import PAM
            >>> weights = PAM(16).attention_map(torch.randn(1, 16, 5, 7), [(0, 0), (4, 6)])
            >>> weights.shape
            torch.Size([1, 2, 5, 7])
        """
        space = x.shape[2:]
        asking = _rows(self.query(x))[:, _flat_index(positions, space)]
        weights = torch.softmax(asking @ _rows(self.key(x)).mT, dim=-1)
        return weights.reshape(x.shape[0], len(positions), *space)


def _rows(x: FeatureMap) -> Keys:
    """Return the positions of a map as rows, ``(batch, positions, channels)``."""
    return x.flatten(2).mT


def _flat_index(positions: Sequence[Sequence[int]], space: Sequence[int]) -> list[int]:
    """Return the place of each coordinate in the flattened map."""
    index = []
    for position in positions:
        inside = len(position) == len(space) and all(0 <= p < s for p, s in zip(position, space, strict=True))
        require(inside, "positions", f"coordinates inside a map of size {tuple(space)}", tuple(position))
        flat = 0
        for coordinate, side in zip(position, space, strict=True):
            flat = flat * side + coordinate
        index.append(flat)
    return index
