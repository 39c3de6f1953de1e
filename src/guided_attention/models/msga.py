"""MSGA: the paper's network. Numbers, no wiring."""

from functools import partial
from pathlib import Path

from guided_attention._typing import SpatialDims
from guided_attention.attention import CAM, ChannelEnergy, MultiScaleAttention, MultiScaleGuidedAttention
from guided_attention.encoders import Encoder, ResNetName, resnet_encoder
from guided_attention.fusion import MultiScaleFusion
from guided_attention.models.segmentation import SegmentationModel

__all__ = ["MSGA", "assembled", "chosen_encoder"]


def MSGA(  # noqa: N802, PLR0913 - the name the paper gives its network, and the numbers it is made of
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: str | Path | None = None,
    channels: int = 64,
    steps: int = 2,
    energy: ChannelEnergy = "danet",
    shared_guide: bool = True,
    deeply_supervised: bool = True,
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build the multi-scale self-guided attention network of the paper ("MS-Dual-Guided").

    With its defaults it is the published network to the digit: 58,499,679 parameters, ResNeXt-101 32x4d, four scales of
    64 channels at a quarter of the input's side, two steps of guided attention.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included; CHAOS MR has 5.
        encoder: The name of a ResNet or ResNeXt, or any module that meets the `Encoder` protocol (`in_channels` and
            `encoder_weights` are its own affair then).
        encoder_weights: None, ``"imagenet"`` or the path of a state dict: see `resnet_encoder`.
        channels: Channels of every map after the encoder.
        steps: Steps of attention; the paper found 2 best.
        energy: The form of the channel attention: see `CAM`.
        shared_guide: Whether the convolution between reconstruction and attention is one for all scales of a step, as
            the paper's counts have it, or one for each, as in the original's code.
        deeply_supervised: Whether the raw maps and the attended maps before the last step have heads too.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `SegmentationModel`: ``model(x)`` gives logits ``(batch, num_classes, *space)`` for any size of input,
        ``model.outputs(x)`` gives what the losses read.

    Raises:
        ValueError: A number is out of range, or weights are asked for that do not exist or do not fit.

    Example:
        >>> import torch
        >>> from guided_attention import MSGA
        >>> model = MSGA(in_channels=1, num_classes=5, encoder="resnet18", channels=8).eval()
        >>> model(torch.randn(1, 1, 61, 47)).shape
        torch.Size([1, 5, 61, 47])

    References:
        Sinha & Dolz, "Multi-scale self-guided attention for medical image segmentation", JBHI 2020, arXiv 1906.02849.
        The text says ResNet-101; the published parameter counts are those of ResNeXt-101 32x4d.
    """
    built = chosen_encoder(encoder, in_channels, encoder_weights, spatial_dims)
    attention = MultiScaleGuidedAttention(
        channels,
        num_scales=len(built.out_channels),
        steps=steps,
        shared_guide=shared_guide,
        channel_attention=partial(CAM, energy=energy),
        spatial_dims=spatial_dims,
    )
    return assembled(
        built, attention, num_classes, deeply_supervised=deeply_supervised, spatial_dims=spatial_dims
    )


def chosen_encoder(
    encoder: ResNetName | Encoder,
    in_channels: int,
    weights: str | Path | None,
    spatial_dims: SpatialDims,
) -> Encoder:
    """Return the encoder of that name, or the one handed in."""
    if isinstance(encoder, str):
        return resnet_encoder(
            encoder, in_channels=in_channels, encoder_weights=weights, spatial_dims=spatial_dims
        )
    return encoder


def assembled(
    encoder: Encoder,
    attention: MultiScaleAttention,
    num_classes: int,
    *,
    deeply_supervised: bool = True,
    spatial_dims: SpatialDims,
) -> SegmentationModel:
    """Return the network of an encoder and an attention, with the paper's fusion between them."""
    fusion = MultiScaleFusion(encoder.out_channels, channels=attention.channels, spatial_dims=spatial_dims)
    return SegmentationModel(
        encoder, fusion, attention, num_classes=num_classes, deeply_supervised=deeply_supervised
    )
