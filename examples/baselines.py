"""Networks of MONAI and segmentation-models-pytorch as baselines: one adapter for images of any size.

They are not part of the package. ``pip install monai segmentation-models-pytorch`` brings what they need.

==============================  ==========================  =====================  ==========
builder                         network                     parameters (defaults)  the paper
==============================  ==========================  =====================  ==========
`unet`                          MONAI's ``BasicUNet``       31,112,325             31,030,853
`attention_unet`                MONAI's ``AttentionUnet``   31,739,445             34,877,681
`pan`                           smp's ``PAN``, ResNet-34    21,470,700             21,323,991
``pan(encoder="resnet101")``    smp's ``PAN``, ResNet-101   43,246,828             42,675,415
==============================  ==========================  =====================  ==========

References:
    Ronneberger et al., MICCAI 2015 (UNet); Oktay et al., MIDL 2018 (attention UNet); Li et al., BMVC 2018 (PAN);
    Sinha & Dolz, JBHI 2020, Tables III and VIII.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from guided_attention.errors import ArgumentError, MissingPackageError

__all__ = ["Baseline", "attention_unet", "pan", "unet"]

_LEVELS = 5
_UNET_SIDE = 32
"""At half of it the coarsest of five levels is one pixel, of which their norms can take no variance."""


class Baseline(nn.Module):
    """Any network that takes images to logits of their size, for images of any size.

    The image is padded at the far end of each axis with its last row to a size that the network takes; the logits are
    cut back::

        model(x) = cut( network( pad(x) ) )

    Args:
        network: Takes ``(batch, in_channels, *space)`` to logits ``(batch, classes, *space)``.
        multiple_of: What the sides of its images have to divide by.
        at_least: The smallest side that it takes, a multiple of `multiple_of`; None where that is `multiple_of`.
        in_channels: Channels of the image, None where they are unknown.

    Raises:
        ArgumentError: `multiple_of` is below 1, or does not divide `at_least`.

    Example:
        >>> import torch
        >>> halving = nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.ConvTranspose2d(4, 3, 2, stride=2))
        >>> Baseline(halving, multiple_of=2)(torch.randn(1, 1, 7, 11)).shape
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
        if multiple_of <= 0:
            raise ArgumentError(f"`multiple_of` must be above 0, got {multiple_of}.", argument="multiple_of")
        smallest = multiple_of if at_least is None else at_least
        if smallest <= 0 or smallest % multiple_of:
            message = f"`at_least` must be a multiple of {multiple_of}, got {at_least}."
            raise ArgumentError(message, argument="at_least")
        self.network = network
        self.multiple_of = multiple_of
        self.at_least = smallest
        self.in_channels = in_channels

    def forward(self, x: Tensor) -> Tensor:
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
    spatial_dims: Literal[2, 3] = 2,
) -> Baseline:
    """Build the paper's "UNet": `channels` are those of its five levels, fine to coarse."""
    _require_five(channels)
    with _needs("monai"):
        from monai.networks.nets import BasicUNet  # noqa: PLC0415
    features = (*channels, channels[0])
    network = BasicUNet(spatial_dims, in_channels, num_classes, features=features)
    return Baseline(network, multiple_of=16, at_least=_UNET_SIDE, in_channels=in_channels)


def attention_unet(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    channels: Sequence[int] = (64, 128, 256, 512, 1024),
    spatial_dims: Literal[2, 3] = 2,
) -> Baseline:
    """Build the paper's "UNet Attention": `channels` are those of its five levels, fine to coarse."""
    _require_five(channels)
    with _needs("monai"):
        from monai.networks.nets import AttentionUnet  # noqa: PLC0415
    network = AttentionUnet(spatial_dims, in_channels, num_classes, channels=channels, strides=(2,) * 4)
    return Baseline(network, multiple_of=16, at_least=_UNET_SIDE, in_channels=in_channels)


def pan(
    in_channels: int = 1,
    num_classes: int = 5,
    *,
    encoder: str = "resnet34",
    encoder_weights: Literal["imagenet"] | None = None,
) -> Baseline:
    """Build the paper's "PAN", with ``"imagenet"`` weights downloaded; it cannot be trained on a batch of one."""
    with _needs("segmentation-models-pytorch"):
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
    network = smp.PAN(encoder, encoder_weights=encoder_weights, in_channels=in_channels, classes=num_classes)
    # Its pyramid halves the last map, a sixteenth of the image, three times more.
    return Baseline(network, multiple_of=32, at_least=128, in_channels=in_channels)


def _require_five(channels: Sequence[int]) -> None:
    if len(channels) != _LEVELS:
        message = f"`channels` must be those of five levels, got {list(channels)}."
        raise ArgumentError(message, argument="channels")


@contextmanager
def _needs(package: str) -> Iterator[None]:
    """Name the package to install where an import fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"This baseline needs the package {error.name!r}. Install it with: pip install {package}"
        raise MissingPackageError(message, name=error.name) from error
