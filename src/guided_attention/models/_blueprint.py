"""Blueprint: the arguments that all builders share, checked once, and the network made of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from guided_attention._checkpoints import ModelSettings
from guided_attention._checks import require, require_choice, require_count, require_type
from guided_attention._files import PathLike
from guided_attention._maps import require_module
from guided_attention._typing import SpatialDims
from guided_attention.attention import MultiScaleAttention
from guided_attention.encoders import Encoder, OutputStride, ResNetName, resnet_encoder
from guided_attention.fusion import MultiScaleFusion
from guided_attention.models.segmentation import SegmentationModel

__all__ = ["Blueprint"]

_MODULE = "the name of a ResNet, or a torch.nn.Module that meets the Encoder protocol"


@dataclass(frozen=True)
class Blueprint:
    """What a builder was called with.

    Attributes:
        builder: Name of the builder in lower case.
        in_channels: Channels of the image.
        num_classes: Number of classes, with the background.
        encoder: Name of a ResNet or ResNeXt, or a module.
        encoder_weights: See `resnet_encoder`; only with a name.
        spatial_dims: 2 for images, 3 for volumes.
        options: The other arguments: numbers, switches and ``energy``.
    """

    builder: str
    in_channels: int
    num_classes: int
    encoder: ResNetName | Encoder
    encoder_weights: PathLike | None
    spatial_dims: SpatialDims
    options: Mapping[str, str | int]

    def __post_init__(self) -> None:
        """Check every argument."""
        require_count("in_channels", self.in_channels)
        require_count("num_classes", self.num_classes)
        require_choice("spatial_dims", self.spatial_dims, (2, 3))
        for name, value in self.options.items():
            _require_option(name, value)
        if isinstance(self.encoder, str):
            require_choice("encoder", self.encoder, get_args(ResNetName))
        else:
            require_module("encoder", self.encoder, _MODULE, protocol=Encoder)
            cure = "Load the weights of your own encoder before you pass it."
            weights = self.encoder_weights
            require(
                weights is None, "encoder_weights", "None where `encoder` is a module", repr(weights), cure
            )
            for name, wanted in (("in_channels", self.in_channels), ("spatial_dims", self.spatial_dims)):
                got, cure = (
                    getattr(self.encoder, name, None),
                    f"Pass the encoder's own number as `{name}` too.",
                )
                require(got in (None, wanted), f"encoder.{name}", f"{wanted}, as `{name}`", got, cure)

    @property
    def settings(self) -> ModelSettings | None:
        """All arguments as plain values, without the weights; None where the encoder is a module."""
        if not isinstance(self.encoder, str):
            return None
        options = {
            name: value if isinstance(value, str | bool) else int(value)
            for name, value in self.options.items()
        }
        arguments = {
            "in_channels": int(self.in_channels),
            "num_classes": int(self.num_classes),
            "encoder": self.encoder,
            "encoder_weights": None,
            **options,
            "spatial_dims": int(self.spatial_dims),
        }
        return ModelSettings(self.builder, arguments)

    def built_encoder(self, *, output_stride: OutputStride = 32) -> Encoder:
        """Return the encoder of that name, or the module that was passed."""
        if not isinstance(self.encoder, str):
            return self.encoder
        return resnet_encoder(
            self.encoder,
            in_channels=self.in_channels,
            encoder_weights=self.encoder_weights,
            spatial_dims=self.spatial_dims,
            output_stride=output_stride,
        )

    def network(
        self, attention: Callable[[int], MultiScaleAttention], *, deeply_supervised: bool = True
    ) -> SegmentationModel:
        """Return the network with the paper's fusion and the attention that is built for the number of scales."""
        encoder = self.built_encoder()
        between = attention(len(encoder.out_channels))
        fusion = MultiScaleFusion(
            encoder.out_channels, channels=between.channels, spatial_dims=self.spatial_dims
        )
        model = SegmentationModel(
            encoder, fusion, between, num_classes=self.num_classes, deeply_supervised=deeply_supervised
        )
        model.settings = self.settings
        return model


def _require_option(name: str, value: str | int) -> None:
    if name == "energy":
        require_type(name, value, str, "'danet' or 'paper'")
        require_choice(name, value, ("danet", "paper"))
    elif name in ("shared_guide", "deeply_supervised"):
        require_type(name, value, bool, "True or False")
    elif isinstance(value, str):
        require_type(name, value, int, "an integer")
    else:
        require_count(name, value)
