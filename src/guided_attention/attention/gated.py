"""MultiScaleGatedAttention: attention as a gate on the fused map, refined on every scale."""

from collections.abc import Sequence

import torch
from torch import nn

from guided_attention._checks import require, require_count, require_same_shape, require_type
from guided_attention._layers import conv_norm_prelu
from guided_attention._maps import first_weight, require_maps, require_module
from guided_attention._typing import FeatureMap, SpatialDims
from guided_attention.attention.protocol import AttendedFeatures

__all__ = ["MultiScaleGatedAttention"]


class MultiScaleGatedAttention(nn.Module):
    """Gate the fused map by an attention of each scale, and refine the result together with the scale's own map.

    With ``F_s`` the map of scale ``s``, ``F`` the fused map and ``[a, b]`` concatenation along channels::

        A_s = gate_s( [F_s, F] ),   out_s = refine_s( [F_s, A_s · F] )

    ``refine`` is convolution 3 x 3, 3 x 3, 1 x 1, each with batch norm and PReLU: the layers that fit the published
    parameter counts. The paper's baseline DAF and its variants with PAM, CAM or DANet's attention differ only in their
    gates.

    Args:
        gates: A module for each scale, from ``2 · channels`` to `channels` channels, size kept.
        channels: Channels of every map ``(batch, channels, *space)``; all have one shape.
        spatial_dims: 2 for images, 3 for volumes.

    Example:
        >>> gates = [nn.Sequential(nn.Conv2d(8, 4, 1), nn.Sigmoid()) for _ in range(2)]
        >>> maps = [torch.randn(1, 4, 5, 7) for _ in range(2)]
        >>> features = MultiScaleGatedAttention(gates, channels=4)(maps, sum(maps))
        >>> [tuple(map_.shape) for map_ in features.attended[0]]
        [(1, 4, 5, 7), (1, 4, 5, 7)]

    References:
        Wang et al., "Deep attentional features for prostate segmentation in ultrasound", MICCAI 2018 (DAF).
    """

    num_steps = 1

    def __init__(self, gates: Sequence[nn.Module], channels: int, *, spatial_dims: SpatialDims = 2) -> None:
        super().__init__()
        require_type("gates", gates, (Sequence, nn.ModuleList), "a list of modules")
        require(len(gates) > 0, "gates", "one module a scale, at least one", list(gates))
        for number, gate in enumerate(gates):
            require_module(f"gates[{number}]", gate, "a module")
        require_count("channels", channels)
        self.channels = channels
        self.num_scales = len(gates)
        self.spatial_dims = spatial_dims
        self.gates = nn.ModuleList(gates)
        self.refine = nn.ModuleList(
            nn.Sequential(
                conv_norm_prelu(2 * channels, channels, 3, spatial_dims=spatial_dims),
                conv_norm_prelu(channels, channels, 3, spatial_dims=spatial_dims),
                conv_norm_prelu(channels, channels, 1, spatial_dims=spatial_dims),
            )
            for _ in gates
        )

    def forward(
        self, maps: Sequence[FeatureMap], fused: FeatureMap, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the refined map of each scale as one step; there are no codes with or without `attended_only`."""
        del attended_only
        require_maps(
            maps,
            fused,
            number=self.num_scales,
            channels=self.channels,
            spatial_dims=self.spatial_dims,
            like=first_weight(self.refine),
        )
        refined = []
        for number, (map_, gate, refine) in enumerate(zip(maps, self.gates, self.refine, strict=True)):
            attention = gate(torch.cat([map_, fused], dim=1))
            require_same_shape(f"gates[{number}](…)", attention.shape, "fused", fused.shape)
            refined.append(refine(torch.cat([map_, attention * fused], dim=1)))
        return AttendedFeatures(attended=(tuple(refined),))
