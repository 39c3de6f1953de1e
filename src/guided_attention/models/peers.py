"""Rivals from other libraries, in one adapter: trained by the same `Trainer`, predicting images of any size."""

from collections.abc import Sequence
from typing import Any, Literal, cast

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from guided_attention._checks import needs_extra, require, require_positive
from guided_attention._typing import Image, Logits, SpatialDims

__all__ = ["PeerModel", "attention_unet", "pan", "unet"]

_UNET_SIDE = 32
"""At half of it the coarsest of five levels is one pixel, of which their norms can take no variance."""


class PeerModel(nn.Module):
    """Any network that takes images to logits of their size, made to take images of any size.

    Many networks halve their maps several times, want sides that divide by a power of two, and fail where little is
    left of a map. The image is padded at the far end of each axis, with its last row repeated, to the next multiple and
    to no less than a smallest side; the logits are cut back::

        model(x) = cut( network( pad(x) ) )

    Args:
        network: Takes ``(batch, in_channels, *space)`` to logits ``(batch, classes, *space)``.
        multiple_of: What the sides of its images have to divide by.
        at_least: The smallest side that it takes, one that `multiple_of` divides; None where that is `multiple_of`.
        in_channels: Channels of the image, where they are known: `predict_case` then checks them early.

    Shape:
        In ``(batch, in_channels, *space)``, any size from 1 up; logits ``(batch, classes, *space)``.

    Raises:
        ValueError: `multiple_of` is below 1, or does not divide `at_least`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from guided_attention.models import PeerModel
        >>> halving = nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.ConvTranspose2d(4, 3, 2, stride=2))
        >>> PeerModel(halving, multiple_of=2)(torch.randn(1, 1, 7, 11)).shape
        torch.Size([1, 3, 7, 11])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        multiple_of: int,
        at_least: int | None = None,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        require_positive("multiple_of", multiple_of)
        smallest = multiple_of if at_least is None else at_least
        divides = smallest > 0 and smallest % multiple_of == 0
        require(divides, "at_least", f"a multiple of {multiple_of}", at_least)
        self.network = network
        self.multiple_of = multiple_of
        self.at_least = smallest
        self.in_channels = in_channels

    def forward(self, x: Image) -> Logits:
        """Return logits at the input's size."""
        missing = [max(self.at_least - side, -side % self.multiple_of) for side in x.shape[2:]]
        far_ends = [amount for gap in reversed(missing) for amount in (0, gap)]
        logits: Tensor = self.network(F.pad(x, far_ends, mode="replicate") if any(missing) else x)
        for axis, side in enumerate(x.shape[2:], start=2):
            logits = logits.narrow(axis, 0, side)
        return logits


def unet(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    channels: Sequence[int] = (64, 128, 256, 512, 1024),
    spatial_dims: SpatialDims = 2,
) -> PeerModel:
    """Take MONAI's ``BasicUNet`` as the paper's rival "UNet".

    31,112,325 parameters with its defaults; the paper's has 31,030,853. Images are padded to multiples of 16, and to 32
    at least.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        channels: Channels of the five levels, fine to coarse.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `PeerModel` for images of any size.

    Raises:
        ModuleNotFoundError: MONAI is not installed.
        ValueError: There are not five levels.

    Example:
        >>> import torch
        >>> from guided_attention.models import unet
        >>> unet(num_classes=3, channels=(4, 4, 8, 8, 16))(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 3, 37, 53])

    References:
        Ronneberger et al., MICCAI 2015; Sinha & Dolz, JBHI 2020, Tables III and VIII.
    """
    _require_five(channels)
    with needs_extra("peers"):
        from monai.networks.nets import BasicUNet  # noqa: PLC0415
    features = (*channels, channels[0])
    network = BasicUNet(spatial_dims, in_channels, num_classes, features=features)
    return PeerModel(network, multiple_of=16, at_least=_UNET_SIDE, in_channels=in_channels)


def attention_unet(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    channels: Sequence[int] = (64, 128, 256, 512, 1024),
    spatial_dims: SpatialDims = 2,
) -> PeerModel:
    """Take MONAI's ``AttentionUnet`` as the paper's rival "UNet Attention".

    31,739,445 parameters with its defaults; the paper's has 34,877,681. Images are padded to multiples of 16, and to 32
    at least.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        channels: Channels of the five levels, fine to coarse.
        spatial_dims: 2 for images, 3 for volumes.

    Returns:
        A `PeerModel` for images of any size.

    Raises:
        ModuleNotFoundError: MONAI is not installed.
        ValueError: There are not five levels.

    Example:
        >>> import torch
        >>> from guided_attention.models import attention_unet
        >>> attention_unet(num_classes=3, channels=(4, 4, 8, 8, 16))(torch.randn(2, 1, 37, 53)).shape
        torch.Size([2, 3, 37, 53])

    References:
        Oktay et al., MIDL 2018; Sinha & Dolz, JBHI 2020, Tables III and VIII.
    """
    _require_five(channels)
    with needs_extra("peers"):
        from monai.networks.nets import AttentionUnet  # noqa: PLC0415
    network = AttentionUnet(spatial_dims, in_channels, num_classes, channels=channels, strides=(2,) * 4)
    return PeerModel(network, multiple_of=16, at_least=_UNET_SIDE, in_channels=in_channels)


def pan(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: str = "resnet34",
    encoder_weights: Literal["imagenet"] | None = None,
) -> PeerModel:
    """Take segmentation-models-pytorch's ``PAN`` as the paper's rival "PAN".

    21,470,700 parameters with its defaults, 43,246,828 with ``"resnet101"``; the paper's: 21,323,991 and 42,675,415.
    Images are padded to multiples of 32, and to 128 at least. A batch of one cannot be trained on: a batch norm meets
    one value a channel.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: The paper has ``"resnet34"`` and ``"resnet101"``.
        encoder_weights: None, or ``"imagenet"`` to download them.

    Returns:
        A `PeerModel` for images of any size.

    Raises:
        ModuleNotFoundError: segmentation-models-pytorch is not installed.
        ImportError: It is, and cannot be imported: its torchvision does not belong to the torch that is installed.

    References:
        Li et al., "Pyramid attention network for semantic segmentation", BMVC 2018; Sinha & Dolz, JBHI 2020, Tables III
        and VIII.
    """
    with needs_extra("peers"):
        try:
            import segmentation_models_pytorch as smp  # noqa: PLC0415
        except (
            RuntimeError
        ) as error:  # torchvision raises it where its operators do not fit the torch beside it
            message = (
                f"segmentation-models-pytorch cannot be imported: {error}. "
                "Install a torchvision that belongs to this torch."
            )
            raise ImportError(message) from error
    network = cast(
        "Any", smp.PAN(encoder, encoder_weights=encoder_weights, in_channels=in_channels, classes=num_classes)
    )
    # Its pyramid halves the last map, a sixteenth of the image, three times more.
    return PeerModel(network, multiple_of=32, at_least=128, in_channels=in_channels)


def _require_five(channels: Sequence[int]) -> None:
    require(len(channels) == 5, "channels", "those of five levels", list(channels))  # noqa: PLR2004
