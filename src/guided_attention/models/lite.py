"""The economical network: the paper's idea on a coarser grid. Numbers, no wiring."""

from functools import partial
from pathlib import Path

from guided_attention._typing import SpatialDims
from guided_attention.attention import (
    CAM,
    ChannelEnergy,
    MultiScaleGuidedAttention,
    PooledAttention,
    SemanticAutoencoder,
)
from guided_attention.encoders import Encoder, ResNetName
from guided_attention.models.msga import assembled, chosen_encoder
from guided_attention.models.segmentation import SegmentationModel

__all__ = ["msga_lite"]


def msga_lite(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: str | Path | None = None,
    channels: int = 64,
    steps: int = 2,
    factor: int = 4,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build a network with what the paper's has, multi-scale guided attention in steps, for a fraction of its price.

    The attention of `MSGA` works on a grid `factor` times coarser, on normed maps, with autoencoders a quarter as wide,
    and what it finds is weighed and added to the fused map, which keeps the edges; see `PooledAttention`. With `factor`
    4 the positions are those of a sixteenth of the image's side. It is not a network of the paper; `MSGA` is.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: Name of a ResNet or ResNeXt, or a module that meets the `Encoder` protocol.
        encoder_weights: See `resnet_encoder`.
        channels: Channels of every map after the encoder, and of the autoencoders' first block.
        steps: Steps of attention.
        factor: By what the grid of the attention is coarser than a quarter of the image's side.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `SegmentationModel` for images ``(batch, in_channels, *space)`` of any size.

    Raises:
        ValueError: A number is out of range, or weights are asked for that do not exist or do not fit.

    Example:
        >>> import torch
        >>> from guided_attention.models import msga_lite
        >>> msga_lite(encoder="resnet18", channels=8).eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])

    References:
        After Sinha & Dolz, JBHI 2020. The coarse grid, the norms, the narrow autoencoders and the weighed sum with the
        fused map are ours.
    """
    built = chosen_encoder(encoder, in_channels, encoder_weights, spatial_dims)
    attention = MultiScaleGuidedAttention(
        channels,
        num_scales=len(built.out_channels),
        steps=steps,
        autoencoder=partial(SemanticAutoencoder, width=channels),
        channel_attention=partial(CAM, energy=energy),
        spatial_dims=spatial_dims,
    )
    pooled = PooledAttention(attention, factor=factor, spatial_dims=spatial_dims)
    return assembled(built, pooled, num_classes, spatial_dims=spatial_dims)
