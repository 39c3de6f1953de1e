"""MSGA, the paper's network, and MSGA lite: numbers, no wiring."""

from functools import partial

from guided_attention._files import PathLike
from guided_attention._typing import SpatialDims
from guided_attention.attention import (
    CAM,
    ChannelEnergy,
    MultiScaleGuidedAttention,
    PooledAttention,
    SemanticAutoencoder,
)
from guided_attention.encoders import Encoder, ResNetName
from guided_attention.models._blueprint import Blueprint
from guided_attention.models.segmentation import SegmentationModel

__all__ = ["MSGA", "msga_lite"]


def MSGA(  # noqa: N802, PLR0913 - the paper's name of its network, and the numbers it is made of
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: PathLike | None = None,
    channels: int = 64,
    steps: int = 2,
    energy: ChannelEnergy = "danet",
    shared_guide: bool = True,
    deeply_supervised: bool = True,
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build the multi-scale self-guided attention network of the paper ("MS-Dual-Guided").

    With its defaults it is the published network: 58,499,679 parameters, ResNeXt-101 32x4d, four scales of 64 channels
    at a quarter of the input's side, two steps of guided attention. The other builders have these arguments too.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of classes, with the background; CHAOS MR has 5.
        encoder: The name of a ResNet or ResNeXt, or a module that meets the `Encoder` protocol. Only a network built
            from a name knows its `SegmentationModel.settings`.
        encoder_weights: None, ``"imagenet"`` or the path of a state dict: see `resnet_encoder`. Only with a name.
        channels: Channels of every map after the encoder.
        steps: Steps of attention; the paper found 2 best.
        energy: The form of the channel attention: see `CAM`.
        shared_guide: Whether all scales of a step share the convolution between reconstruction and attention, as in the
            paper's counts, or each has its own, as in the original code.
        deeply_supervised: Whether the raw maps and the attended maps before the last step have heads too.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `SegmentationModel`: ``model(x)`` gives logits ``(batch, num_classes, *space)`` for any size of input,
        ``model.outputs(x)`` gives what the losses read.

    Raises:
        ArgumentError: An argument is out of range, or arguments do not fit together.
        ArgumentTypeError: An argument has the wrong type.
        CheckpointError: The encoder weights cannot be read or do not fit.
        MissingFileError: There is no file of encoder weights.

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
    options = {
        "channels": channels,
        "steps": steps,
        "energy": energy,
        "shared_guide": shared_guide,
        "deeply_supervised": deeply_supervised,
    }
    blueprint = Blueprint("msga", in_channels, num_classes, encoder, encoder_weights, spatial_dims, options)
    return blueprint.network(
        lambda scales: MultiScaleGuidedAttention(
            channels,
            num_scales=scales,
            steps=steps,
            shared_guide=shared_guide,
            channel_attention=partial(CAM, energy=energy),
            spatial_dims=spatial_dims,
        ),
        deeply_supervised=deeply_supervised,
    )


def msga_lite(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnext101_32x4d",
    encoder_weights: PathLike | None = None,
    channels: int = 64,
    steps: int = 2,
    factor: int = 4,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> SegmentationModel:
    """Build a network with the attention of `MSGA` on a coarser grid, for a fraction of its cost.

    The attention works on a grid coarser by `factor`, on normalised maps, with autoencoders a quarter as wide; its
    result is weighted and added to the fused map, which keeps the edges: see `PooledAttention`. With `factor` 4 its
    positions are those of a sixteenth of the image's side. This network is not in the paper. Arguments and errors are
    those of `MSGA`.

    Example:
        >>> import torch
        >>> from guided_attention.models import msga_lite
        >>> msga_lite(encoder="resnet18", channels=8).eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])
    """
    options = {"channels": channels, "steps": steps, "factor": factor, "energy": energy}
    blueprint = Blueprint(
        "msga_lite", in_channels, num_classes, encoder, encoder_weights, spatial_dims, options
    )

    def attention(scales: int) -> PooledAttention:
        coarse = MultiScaleGuidedAttention(
            channels,
            num_scales=scales,
            steps=steps,
            autoencoder=partial(SemanticAutoencoder, width=channels),
            channel_attention=partial(CAM, energy=energy),
            spatial_dims=spatial_dims,
        )
        return PooledAttention(coarse, factor=factor, spatial_dims=spatial_dims)

    return blueprint.network(attention)
