"""DANet: dual attention on the coarsest map of a dilated encoder, a baseline of the paper."""

from math import lcm
from typing import TYPE_CHECKING

from torch import Tensor, nn

from guided_attention._checks import require_choice, require_count, require_type
from guided_attention._files import PathLike
from guided_attention._layers import conv, conv_norm_relu, cut, filled_up, resize
from guided_attention._maps import first_weight, require_map, require_module
from guided_attention._typing import Image, Logits, SpatialDims
from guided_attention.attention import CAM, PAM, ChannelEnergy
from guided_attention.encoders import Encoder, ResNetName
from guided_attention.models._blueprint import Blueprint
from guided_attention.models._built import BuiltModule
from guided_attention.models.segmentation import no_module, require_classes, require_dims
from guided_attention.outputs import SegmentationOutput

__all__ = ["DualAttentionNetwork", "danet"]


class DualAttentionNetwork(BuiltModule):
    """DANet: position and channel attention on an encoder's last map, with a head on each and on their sum.

    With ``X`` the last map and ``convs`` a convolution 3 x 3, batch norm and ReLU::

        P = convs( PAM( convs(X) ) ),   C = convs( CAM( convs(X) ) )
        model(x) = resize( head(P + C) )

    The input is filled up to multiples of the encoder's coarsest stride, as in `SegmentationModel`.

    For training, `outputs` adds the logits of ``P`` and of ``C``, which the same loss judges. Each head is a channel
    dropout of 0.1 and a convolution 1 x 1.

    Args:
        encoder: Any module that meets the `Encoder` protocol; its last map should not be much coarser than an eighth
            of the image.
        channels: Channels of ``P`` and ``C``.
        num_classes: Number of classes, with the background.
        channel_attention: The CAM; None for `CAM` with its defaults.
        spatial_dims: 2 for images, 3 for volumes.

    Attributes:
        settings: What `danet` made the network from; None for one built otherwise.

    Shape:
        In ``(batch, in_channels, *space)``; logits ``(batch, num_classes, *space)``, any size from 1 up.

    Raises:
        ArgumentError: A number is out of range; in `forward` and `outputs`, the input does not fit.
        ArgumentTypeError: The encoder is not a `torch.nn.Module` of the protocol.

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
        channel_attention: nn.Module | None = None,
        spatial_dims: SpatialDims = 2,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module):
            raise no_module("encoder", encoder, "Encoder")
        require_type("encoder", encoder, Encoder, "a module that meets the Encoder protocol")
        require_count("channels", channels)
        require_classes(num_classes)
        require_choice("spatial_dims", spatial_dims, (2, 3))
        dims = spatial_dims
        require_dims("encoder", encoder, dims, "as `spatial_dims`")
        channel = CAM() if channel_attention is None else channel_attention
        require_module("channel_attention", channel, "a torch.nn.Module, such as CAM()")
        self.encoder = encoder
        self.num_classes = num_classes
        self.spatial_dims: SpatialDims = spatial_dims
        self.position, self.channel = (
            nn.Sequential(
                conv_norm_relu(encoder.out_channels[-1], channels, spatial_dims=dims),
                attention,
                conv_norm_relu(channels, channels, spatial_dims=dims),
            )
            for attention in (PAM(channels, spatial_dims=dims), channel)
        )
        self.head, self.position_head, self.channel_head = (
            _head(channels, num_classes, dims) for _ in range(3)
        )

    if TYPE_CHECKING:

        def __call__(self, x: Tensor) -> Tensor:
            """Return logits; declared for type checkers, which take a module's call for anything."""
            ...

    def forward(self, x: Image) -> Logits:
        """Return logits ``(batch, num_classes, *space)`` at the input's size."""
        position, channel, size = self._branches(x)
        return cut(resize(self.head(position + channel), size), tuple(x.shape[2:]))

    def outputs(self, x: Image) -> SegmentationOutput:
        """Return the same logits, and as `attended_logits` those of sum, position and channel attention."""
        position, channel, size = self._branches(x)
        logits, *sides = (
            cut(resize(head(map_), size), tuple(x.shape[2:]))
            for head, map_ in (
                (self.head, position + channel),
                (self.position_head, position),
                (self.channel_head, channel),
            )
        )
        return SegmentationOutput(logits=logits, attended_logits=(logits, *sides))

    @property
    def in_channels(self) -> int | None:
        """Channels of the image that the encoder takes; None where the encoder does not tell."""
        return getattr(self.encoder, "in_channels", None)

    def _branches(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Return the attended maps, and the size of the input filled up to multiples of the encoder's stride."""
        like = first_weight(self.encoder)
        require_map("x", x, channels=self.in_channels, spatial_dims=self.spatial_dims, like=like)
        filled = filled_up(x, lcm(*self.encoder.strides))
        last = self.encoder(filled)[-1]
        return self.position(last), self.channel(last), tuple(filled.shape[2:])


def _head(channels: int, num_classes: int, dims: SpatialDims) -> nn.Sequential:
    drop = nn.Dropout2d if dims == 2 else nn.Dropout3d  # noqa: PLR2004
    return nn.Sequential(drop(0.1), conv(channels, num_classes, 1, spatial_dims=dims))


def danet(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: ResNetName | Encoder = "resnet101",
    encoder_weights: PathLike | None = None,
    energy: ChannelEnergy = "danet",
    spatial_dims: SpatialDims = 2,
) -> DualAttentionNetwork:
    """Build DANet: a ResNet dilated to an eighth of the image, and dual attention on a quarter of its channels.

    66,426,961 parameters with its defaults. The paper prints 2,049,000 more ("DANet-R101"): a classifier of 1,000
    classes on 2,048 channels that segmentation never uses. Arguments and errors are those of `MSGA`; an encoder of your
    own may be dilated or not.

    Example:
        >>> import torch
        >>> from guided_attention.models import danet
        >>> danet(encoder="resnet18").eval()(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 5, 37, 53])

    References:
        Fu et al., CVPR 2019. Dilation is torchvision's, 2 and 4 in the last two stages, without DANet's multi-grid; the
        stem is the plain one, as the count has it.
    """
    options = {"energy": energy}
    blueprint = Blueprint("danet", in_channels, num_classes, encoder, encoder_weights, spatial_dims, options)
    built = blueprint.built_encoder(output_stride=8)
    model = DualAttentionNetwork(
        built,
        max(1, built.out_channels[-1] // 4),
        num_classes=num_classes,
        channel_attention=CAM(energy=energy),
        spatial_dims=spatial_dims,
    )
    model.settings = blueprint.settings
    return model
