"""DANet: dual attention on the coarsest map of a dilated encoder, the rival that lent the paper its two attentions."""

from pathlib import Path

from torch import Tensor, nn

from guided_attention._checks import require, require_positive
from guided_attention._layers import conv, conv_norm_relu, resize
from guided_attention._typing import Image, Logits, SpatialDims
from guided_attention.attention import CAM, PAM, ChannelEnergy
from guided_attention.encoders import Encoder, ResNetName, resnet_encoder
from guided_attention.outputs import SegmentationOutput

__all__ = ["DualAttentionNetwork", "danet"]


class DualAttentionNetwork(nn.Module):
    """DANet: position and channel attention side by side on an encoder's last map, a head on each and on their sum.

    With ``X`` the last map and ``convs`` a convolution 3 x 3, batch norm and ReLU::

        P = convs( PAM( convs(X) ) ),   C = convs( CAM( convs(X) ) )
        model(x) = resize( head(P + C) )

    For training, `outputs` adds the logits of ``P`` and of ``C``, which the same loss judges. Each head is a channel
    dropout of 0.1 and a convolution 1 x 1.

    Args:
        encoder: Any module that meets the `Encoder` protocol; its last map should not be much coarser than an eighth
            of the image.
        channels: Channels of ``P`` and ``C``.
        num_classes: Classes, background included.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Shape:
        In ``(batch, in_channels, *space)``; logits ``(batch, num_classes, *space)``, any size from 1 up.

    Raises:
        ValueError: `num_classes` is below 2 or `channels` below 1.
        TypeError: The encoder is no `torch.nn.Module`.

    Example:
        >>> import torch
        >>> from guided_attention.encoders import resnet_encoder
        >>> from guided_attention.models import DualAttentionNetwork
        >>> model = DualAttentionNetwork(resnet_encoder("resnet18", output_stride=8), channels=8, num_classes=3)
        >>> model(torch.randn(2, 1, 37, 53)).shape
        torch.Size([2, 3, 37, 53])

    References:
        Fu et al., "Dual attention network for scene segmentation", CVPR 2019.
    """

    def __init__(
        self,
        encoder: Encoder,
        channels: int,
        *,
        num_classes: int,
        energy: ChannelEnergy = "danet",
        spatial_dims: SpatialDims = 2,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module):
            got = type(encoder).__name__
            raise TypeError(
                f"`encoder` must be a torch.nn.Module that meets the Encoder protocol, got {got}."
            )
        require_positive("channels", channels)
        require(num_classes >= 2, "num_classes", "at least 2, background included", num_classes)  # noqa: PLR2004
        dims = spatial_dims
        self.encoder = encoder
        self.num_classes = num_classes
        self.position, self.channel = (
            nn.Sequential(
                conv_norm_relu(encoder.out_channels[-1], channels, spatial_dims=dims),
                attention,
                conv_norm_relu(channels, channels, spatial_dims=dims),
            )
            for attention in (PAM(channels, spatial_dims=dims), CAM(energy=energy))
        )
        self.head, self.position_head, self.channel_head = (
            _head(channels, num_classes, dims) for _ in range(3)
        )

    def forward(self, x: Image) -> Logits:
        """Return logits ``(batch, num_classes, *space)`` at the input's size."""
        position, channel = self._branches(x)
        return resize(self.head(position + channel), tuple(x.shape[2:]))

    def outputs(self, x: Image) -> SegmentationOutput:
        """Return the same logits, and as `attended_logits` those of sum, position and channel attention."""
        position, channel = self._branches(x)
        size = tuple(x.shape[2:])
        logits = resize(self.head(position + channel), size)
        sides = (
            resize(self.position_head(position), size),
            resize(self.channel_head(channel), size),
        )
        return SegmentationOutput(logits=logits, attended_logits=(logits, *sides))

    @property
    def in_channels(self) -> int | None:
        """Channels of the image that the encoder wants; None where the encoder does not tell."""
        return getattr(self.encoder, "in_channels", None)

    def _branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        last = self.encoder(x)[-1]
        return self.position(last), self.channel(last)


def _head(channels: int, num_classes: int, dims: SpatialDims) -> nn.Sequential:
    drop = nn.Dropout2d if dims == 2 else nn.Dropout3d  # noqa: PLR2004
    return nn.Sequential(drop(0.1), conv(channels, num_classes, 1, spatial_dims=dims))


def danet(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnet101",
    encoder_weights: str | Path | None = None,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> DualAttentionNetwork:
    """Build DANet: a ResNet dilated to an eighth of the image, and dual attention on a quarter of its channels.

    66,426,961 parameters with its defaults. The paper prints 68,475,961 ("DANet-R101"): exactly 2,049,000 more, a
    classifier of 1,000 classes on 2,048 channels that segmentation never uses.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: Name of a ResNet or ResNeXt, or a module that meets the `Encoder` protocol, dilated or not.
        encoder_weights: See `resnet_encoder`.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `DualAttentionNetwork` for images ``(batch, in_channels, *space)`` of any size.

    Raises:
        ValueError: A number is out of range, or weights are asked for that do not exist or do not fit.

    Example:
        >>> import torch
        >>> from guided_attention.models import danet
        >>> danet(encoder="resnet18").eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])

    References:
        Fu et al., CVPR 2019, with ResNet-101, output stride 8, dropout 0.1 before each head. Dilation is torchvision's,
        2 and 4 in the last two stages, without DANet's multi-grid; the stem is the plain one, as the count has it.
    """
    built = (
        resnet_encoder(
            encoder,
            in_channels=in_channels,
            encoder_weights=encoder_weights,
            spatial_dims=spatial_dims,
            output_stride=8,
        )
        if isinstance(encoder, str)
        else encoder
    )
    return DualAttentionNetwork(
        built, built.out_channels[-1] // 4, num_classes=num_classes, energy=energy, spatial_dims=spatial_dims
    )
