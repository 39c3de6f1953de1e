"""The networks that the paper compares with its own: each one call. Numbers, no wiring."""

from functools import partial
from pathlib import Path

from torch import Tensor, nn

from guided_attention._layers import conv, conv_norm_prelu
from guided_attention._typing import SpatialDims
from guided_attention.attention import (
    CAM,
    PAM,
    ChannelEnergy,
    MultiScaleGatedAttention,
    MultiScaleGuidedAttention,
    attention_branch,
)
from guided_attention.encoders import Encoder, ResNetName
from guided_attention.models.msga import MSGA, assembled, chosen_encoder
from guided_attention.models.segmentation import SegmentationModel

__all__ = ["daf", "ms_cam", "ms_danet", "ms_dist", "ms_dual", "ms_dual_guided", "ms_pam"]


def daf(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: str | Path | None = None,
    channels: int = 64,
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build DAF, the baseline of the ablation: deep attentional features, attention of convolutions alone.

    On every scale three convolutions and a softmax over channels gate the fused map, see `MultiScaleGatedAttention`::

        A_s = softmax( convs([F_s, F]) ),   out_s = refine_s( [F_s, A_s · F] )

    43,482,179 parameters with its defaults, as published.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: Name of a ResNet or ResNeXt, or a module that meets the `Encoder` protocol.
        encoder_weights: See `resnet_encoder`.
        channels: Channels of every map after the encoder.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `SegmentationModel` for images ``(batch, in_channels, *space)`` of any size.

    Raises:
        ValueError: A number is out of range, or weights are asked for that do not exist or do not fit.

    Example:
        >>> import torch
        >>> from guided_attention.models import daf
        >>> daf(encoder="resnet18", channels=8).eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])

    References:
        Wang et al., MICCAI 2018; Sinha & Dolz, JBHI 2020, Table I, "Baseline DAF", and Table VIII.
    """
    built = chosen_encoder(encoder, in_channels, encoder_weights, spatial_dims)
    gates = [_softmax_gate(channels, spatial_dims) for _ in built.out_channels]
    attention = MultiScaleGatedAttention(gates, channels, spatial_dims=spatial_dims)
    return assembled(built, attention, num_classes, spatial_dims=spatial_dims)


def ms_pam(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: str | Path | None = None,
    channels: int = 64,
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build DAF with position attention for its gate: the row "Proposed (PAM)".

    ::

        A_s = PAM branch([F_s, F]),   out_s = refine_s( [F_s, A_s · F] )

    43,486,343 parameters with its defaults, as published.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: Name of a ResNet or ResNeXt, or a module that meets the `Encoder` protocol.
        encoder_weights: See `resnet_encoder`.
        channels: Channels of every map after the encoder.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `SegmentationModel` for images ``(batch, in_channels, *space)`` of any size.

    Raises:
        ValueError: A number is out of range, or weights are asked for that do not exist or do not fit.

    Example:
        >>> import torch
        >>> from guided_attention.models import ms_pam
        >>> ms_pam(encoder="resnet18", channels=8).eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])

    References:
        Sinha & Dolz, JBHI 2020, Tables I and VIII.
    """
    built = chosen_encoder(encoder, in_channels, encoder_weights, spatial_dims)
    gates = [
        attention_branch(
            2 * channels, PAM(channels, spatial_dims=spatial_dims), channels, spatial_dims=spatial_dims
        )
        for _ in built.out_channels
    ]
    attention = MultiScaleGatedAttention(gates, channels, spatial_dims=spatial_dims)
    return assembled(built, attention, num_classes, spatial_dims=spatial_dims)


def ms_cam(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: str | Path | None = None,
    channels: int = 64,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build DAF with channel attention for its gate: the row "Proposed (CAM)".

    ::

        A_s = CAM branch([F_s, F]),   out_s = refine_s( [F_s, A_s · F] )

    43,465,543 parameters with its defaults. The paper prints 43,485,543: 20,000 more than its layers have, a slip.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: Name of a ResNet or ResNeXt, or a module that meets the `Encoder` protocol.
        encoder_weights: See `resnet_encoder`.
        channels: Channels of every map after the encoder.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `SegmentationModel` for images ``(batch, in_channels, *space)`` of any size.

    Raises:
        ValueError: A number is out of range, or weights are asked for that do not exist or do not fit.

    Example:
        >>> import torch
        >>> from guided_attention.models import ms_cam
        >>> ms_cam(encoder="resnet18", channels=8).eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])

    References:
        Sinha & Dolz, JBHI 2020, Tables I and VIII.
    """
    built = chosen_encoder(encoder, in_channels, encoder_weights, spatial_dims)
    gates = [
        attention_branch(2 * channels, CAM(energy=energy), channels, spatial_dims=spatial_dims)
        for _ in built.out_channels
    ]
    attention = MultiScaleGatedAttention(gates, channels, spatial_dims=spatial_dims)
    return assembled(built, attention, num_classes, spatial_dims=spatial_dims)


def ms_danet(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: str | Path | None = None,
    channels: int = 64,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build DAF with the attention of DANet for its gate: the row "Proposed (DANet)".

    Both branches pass a channel dropout of 0.1 and a convolution 1 x 1 each, and one more together::

        A_s = conv( conv_p(PAM branch([F_s, F])) + conv_c(CAM branch([F_s, F])) ),   out_s = refine_s( [F_s, A_s · F] )

    43,980,179 parameters with its defaults, as published. DANet itself is `danet`.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: Name of a ResNet or ResNeXt, or a module that meets the `Encoder` protocol.
        encoder_weights: See `resnet_encoder`.
        channels: Channels of every map after the encoder.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `SegmentationModel` for images ``(batch, in_channels, *space)`` of any size.

    Raises:
        ValueError: A number is out of range, or weights are asked for that do not exist or do not fit.

    Example:
        >>> import torch
        >>> from guided_attention.models import ms_danet
        >>> ms_danet(encoder="resnet18", channels=8).eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])

    References:
        Fu et al., CVPR 2019; Sinha & Dolz, JBHI 2020, Tables I and VIII.
    """
    built = chosen_encoder(encoder, in_channels, encoder_weights, spatial_dims)
    gates = [_DANetGate(channels, energy, spatial_dims) for _ in built.out_channels]
    attention = MultiScaleGatedAttention(gates, channels, spatial_dims=spatial_dims)
    return assembled(built, attention, num_classes, spatial_dims=spatial_dims)


def ms_dual(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: str | Path | None = None,
    channels: int = 64,
    steps: int = 2,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build the paper's network without guidance: the rows "MS-Dual".

    ::

        X_1 = [F_s, F],   A_i = project( PAM branch(X_i) + CAM branch(X_i) ),   X_{i+1} = [F_s, A_i · F]

    43,485,831 parameters with 1 step, 44,411,103 with 2, 45,337,675 with 3, 47,190,819 with 5, as published.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: Name of a ResNet or ResNeXt, or a module that meets the `Encoder` protocol.
        encoder_weights: See `resnet_encoder`.
        channels: Channels of every map after the encoder.
        steps: Steps of attention.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `SegmentationModel` for images ``(batch, in_channels, *space)`` of any size.

    Raises:
        ValueError: A number is out of range, or weights are asked for that do not exist or do not fit.

    Example:
        >>> import torch
        >>> from guided_attention.models import ms_dual
        >>> ms_dual(encoder="resnet18", channels=8).eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])

    References:
        Sinha & Dolz, JBHI 2020, Tables I, II and VIII.
    """
    return _unguided(
        chosen_encoder(encoder, in_channels, encoder_weights, spatial_dims),
        num_classes,
        (channels, steps),
        compare_modules=False,
        energy=energy,
        spatial_dims=spatial_dims,
    )


def ms_dual_guided(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: str | Path | None = None,
    channels: int = 64,
    steps: int = 2,
    deeply_supervised: bool = True,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build the paper's network by the name that its tables have for it: what `MSGA` builds.

    50,530,119 parameters with 1 step (the paper prints 1,280 more, which fit no layer), 58,499,679 with 2, 66,470,539
    with 3, 82,412,259 with 5, as published; without deep supervision 1,300, 1,300, 2,600 and 5,200 fewer.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: Name of a ResNet or ResNeXt, or a module that meets the `Encoder` protocol.
        encoder_weights: See `resnet_encoder`.
        channels: Channels of every map after the encoder.
        steps: Steps of attention.
        deeply_supervised: Whether the raw maps and the attended maps before the last step have heads too.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `SegmentationModel` for images ``(batch, in_channels, *space)`` of any size.

    Raises:
        ValueError: A number is out of range, or weights are asked for that do not exist or do not fit.

    Example:
        >>> import torch
        >>> from guided_attention.models import ms_dual_guided
        >>> ms_dual_guided(encoder="resnet18", channels=8).eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])

    References:
        Sinha & Dolz, JBHI 2020, Tables I, II, III and VIII. Without deep supervision the paper says that the first
        term of equation 10 is dropped; its counts say that the heads before the last step go as well.
    """
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


def ms_dist(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: str | Path | None = None,
    channels: int = 64,
    steps: int = 2,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build the paper's network without its autoencoders: the rows "w/out encoder-decoder (dist)".

    The layers of `ms_dual`; what the reconstruction loss compares is input and output of every PAM and CAM.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: Name of a ResNet or ResNeXt, or a module that meets the `Encoder` protocol.
        encoder_weights: See `resnet_encoder`.
        channels: Channels of every map after the encoder.
        steps: Steps of attention.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `SegmentationModel` for images ``(batch, in_channels, *space)`` of any size.

    Raises:
        ValueError: A number is out of range, or weights are asked for that do not exist or do not fit.

    Example:
        >>> import torch
        >>> from guided_attention.models import ms_dist
        >>> ms_dist(encoder="resnet18", channels=8).eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])

    References:
        Sinha & Dolz, JBHI 2020, Tables II and VIII. The paper says "the input and output of each attention module" and
        no more: we take PAM and CAM, whose input and output have one shape.
    """
    return _unguided(
        chosen_encoder(encoder, in_channels, encoder_weights, spatial_dims),
        num_classes,
        (channels, steps),
        compare_modules=True,
        energy=energy,
        spatial_dims=spatial_dims,
    )


def _unguided(
    encoder: Encoder,
    num_classes: int,
    numbers: tuple[int, int],
    *,
    compare_modules: bool,
    energy: ChannelEnergy,
    spatial_dims: SpatialDims,
) -> SegmentationModel:
    """Return a network of dual attention whose channels and steps are `numbers`."""
    channels, steps = numbers
    attention = MultiScaleGuidedAttention(
        channels,
        num_scales=len(encoder.out_channels),
        steps=steps,
        autoencoder=None,
        compare_modules=compare_modules,
        channel_attention=partial(CAM, energy=energy),
        spatial_dims=spatial_dims,
    )
    return assembled(encoder, attention, num_classes, spatial_dims=spatial_dims)


def _softmax_gate(channels: int, dims: SpatialDims) -> nn.Sequential:
    """Return DAF's attention: shares of the channels at every position."""
    return nn.Sequential(
        conv_norm_prelu(2 * channels, channels, 3, spatial_dims=dims),
        conv_norm_prelu(channels, channels, 3, spatial_dims=dims),
        conv(channels, channels, 1, spatial_dims=dims),
        nn.Softmax(dim=1),
    )


class _DANetGate(nn.Module):
    """Position and channel attention, each with dropout and a convolution of its own, joined by a third."""

    def __init__(self, channels: int, energy: ChannelEnergy, dims: SpatialDims) -> None:
        super().__init__()
        drop = nn.Dropout2d if dims == 2 else nn.Dropout3d  # noqa: PLR2004
        attentions = (PAM(channels, spatial_dims=dims), CAM(energy=energy))
        self.position, self.channel = (
            nn.Sequential(
                attention_branch(2 * channels, attention, channels, spatial_dims=dims),
                drop(0.1),
                conv(channels, channels, 1, spatial_dims=dims),
            )
            for attention in attentions
        )
        self.project = conv(channels, channels, 1, spatial_dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.project(self.position(x) + self.channel(x))
        return joined
