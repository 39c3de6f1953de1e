"""The networks that the paper compares with its own, one call each: numbers, no wiring.

With ``F_s`` the map of scale ``s``, ``F`` the fused map of all scales and ``[a, b]`` concatenation along channels, the
gated networks compute ``out_s = refine_s( [F_s, A_s · F] )`` (see `MultiScaleGatedAttention`), and those in steps
``X_1 = [F_s, F],  X_{i+1} = [F_s, A_i · F]`` (see `MultiScaleGuidedAttention`):

================  =============================  ====================================================  ==========
builder           row of the paper's tables      attention of a scale                                  parameters
================  =============================  ====================================================  ==========
`daf`             Baseline DAF                   ``A_s = softmax( convs([F_s, F]) )`` over channels    43,482,179
`ms_pam`          Proposed (PAM)                 ``A_s = PAM branch([F_s, F])``                        43,486,343
`ms_cam`          Proposed (CAM)                 ``A_s = CAM branch([F_s, F])``                        43,465,543
`ms_danet`        Proposed (DANet)               ``A_s = conv( conv(PAM branch) + conv(CAM branch) )`` 43,980,179
`ms_dual`         MS-Dual                        ``A_i = project( PAM branch + CAM branch )``          44,411,103
`ms_dist`         w/out encoder-decoder (dist)   that of `ms_dual`, input and output compared          44,411,103
`ms_dual_guided`  MS-Dual-Guided                 that of `MSGA`                                        58,499,679
================  =============================  ====================================================  ==========

The counts are the published ones (with the defaults); `ms_cam` is printed with 20,000 more, a slip.

References:
    Sinha & Dolz, JBHI 2020, Tables I, II, III and VIII; DAF: Wang et al., MICCAI 2018; DANet: Fu et al., CVPR 2019.
    The paper does not say which modules "dist" compares: we take PAM and CAM.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from guided_attention._files import PathLike
from guided_attention._typing import SpatialDims
from guided_attention.attention import (
    CAM,
    PAM,
    ChannelEnergy,
    MultiScaleGatedAttention,
    MultiScaleGuidedAttention,
)
from guided_attention.encoders import Encoder, ResNetName
from guided_attention.models._blueprint import Blueprint
from guided_attention.models._gates import DANetGate, branch_gate, softmax_gate
from guided_attention.models.msga import MSGA
from guided_attention.models.segmentation import SegmentationModel

__all__ = ["daf", "ms_cam", "ms_danet", "ms_dist", "ms_dual", "ms_dual_guided", "ms_pam"]


def daf(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: PathLike | None = None,
    channels: int = 64,
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build DAF, the baseline of the ablation. Arguments: see `MSGA`."""
    options = {"channels": channels}
    blueprint = Blueprint("daf", in_channels, num_classes, encoder, encoder_weights, spatial_dims, options)
    return _gated(blueprint, channels, lambda: softmax_gate(channels, spatial_dims))


def ms_pam(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: PathLike | None = None,
    channels: int = 64,
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build DAF with position attention as its gate. Arguments: see `MSGA`."""
    options = {"channels": channels}
    blueprint = Blueprint("ms_pam", in_channels, num_classes, encoder, encoder_weights, spatial_dims, options)
    return _gated(
        blueprint,
        channels,
        lambda: branch_gate(PAM(channels, spatial_dims=spatial_dims), channels, spatial_dims),
    )


def ms_cam(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: PathLike | None = None,
    channels: int = 64,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build DAF with channel attention as its gate. Arguments: see `MSGA`."""
    options = {"channels": channels, "energy": energy}
    blueprint = Blueprint("ms_cam", in_channels, num_classes, encoder, encoder_weights, spatial_dims, options)
    return _gated(blueprint, channels, lambda: branch_gate(CAM(energy=energy), channels, spatial_dims))


def ms_danet(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: PathLike | None = None,
    channels: int = 64,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build DAF with DANet's attention as its gate. Arguments: see `MSGA`."""
    options = {"channels": channels, "energy": energy}
    blueprint = Blueprint(
        "ms_danet", in_channels, num_classes, encoder, encoder_weights, spatial_dims, options
    )
    return _gated(blueprint, channels, lambda: DANetGate(channels, CAM(energy=energy), spatial_dims))


def ms_dual(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: PathLike | None = None,
    channels: int = 64,
    steps: int = 2,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build the paper's network without guidance. Arguments: see `MSGA`."""
    options = {"channels": channels, "steps": steps, "energy": energy}
    blueprint = Blueprint(
        "ms_dual", in_channels, num_classes, encoder, encoder_weights, spatial_dims, options
    )
    return _unguided(blueprint, channels, steps, energy, compare_modules=False)


def ms_dist(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: PathLike | None = None,
    channels: int = 64,
    steps: int = 2,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build the paper's network with input and output of attention compared. Arguments: see `MSGA`."""
    options = {"channels": channels, "steps": steps, "energy": energy}
    blueprint = Blueprint(
        "ms_dist", in_channels, num_classes, encoder, encoder_weights, spatial_dims, options
    )
    return _unguided(blueprint, channels, steps, energy, compare_modules=True)


def ms_dual_guided(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: PathLike | None = None,
    channels: int = 64,
    steps: int = 2,
    deeply_supervised: bool = True,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build the network of `MSGA` by the name that the paper's tables have for it."""
    return MSGA(
        in_channels,
        num_classes,
        encoder=encoder,
        encoder_weights=encoder_weights,
        channels=channels,
        steps=steps,
        energy=energy,
        deeply_supervised=deeply_supervised,
        spatial_dims=spatial_dims,
    )


def _gated(blueprint: Blueprint, channels: int, gate: Callable[[], nn.Module]) -> SegmentationModel:
    """Return the network with a gate of its own for each scale."""
    dims = blueprint.spatial_dims
    return blueprint.network(
        lambda scales: MultiScaleGatedAttention([gate() for _ in range(scales)], channels, spatial_dims=dims)
    )


def _unguided(
    blueprint: Blueprint, channels: int, steps: int, energy: ChannelEnergy, *, compare_modules: bool
) -> SegmentationModel:
    """Return the network with dual attention in steps."""
    attention = partial(
        MultiScaleGuidedAttention,
        channels,
        steps=steps,
        autoencoder=None,
        compare_modules=compare_modules,
        channel_attention=partial(CAM, energy=energy),
        spatial_dims=blueprint.spatial_dims,
    )
    return blueprint.network(lambda scales: attention(num_scales=scales))
