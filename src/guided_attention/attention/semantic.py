"""SemanticAutoencoder: compresses a feature map into a code and reconstructs it."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from torch import Tensor, nn

from guided_attention._checks import require_count
from guided_attention._layers import batch_norm, conv, halve, normed_then, resize, transposed_conv
from guided_attention._maps import first_weight, require_map
from guided_attention._typing import AnyFeatureMap, FeatureMap, SpatialDims

__all__ = ["SemanticAutoencoder", "SemanticOutput"]

_Layer: TypeAlias = Callable[[AnyFeatureMap], AnyFeatureMap]


class SemanticOutput(NamedTuple):
    """What the autoencoder makes of a map.

    Attributes:
        code: ``E(x)``, ``(batch, 2 · width, *space / 4)``, each side rounded down, at least 1.
        reconstruction: ``D(E(x))``, shape of the input.
    """

    code: Tensor
    reconstruction: Tensor


class SemanticAutoencoder(nn.Module):
    """Convolutional autoencoder whose code describes the content of a feature map (figure 3 of the paper).

    Two encoder blocks (twice convolution 3 x 3, batch norm, ReLU; then max-pool by 2) and two decoder blocks (the
    same, then a transposed convolution by 2)::

        code = E(x),   reconstruction = D(E(x))

    The guidance loss pulls the codes of successive attention steps together (equation 6); the reconstruction loss keeps
    the codes meaningful (equation 7). The layers are the original code's and give the paper's 6,970,496 parameters at
    128 channels. Where a side does not divide by 4, the decoder's maps are resized linearly to the sizes of the
    encoder's.

    Args:
        channels: Channels of the map, ``(batch, channels, *space)``, any size from 1 up.
        width: Channels after the first encoder block; the code has twice as many. ``2 · channels`` if None.
        spatial_dims: 2 for images, 3 for volumes.

    Example:
        >>> import torch
        >>> output = SemanticAutoencoder(6)(torch.randn(2, 6, 13, 8))
        >>> output.code.shape, output.reconstruction.shape
        (torch.Size([2, 24, 3, 2]), torch.Size([2, 6, 13, 8]))
    """

    def __init__(self, channels: int, *, width: int | None = None, spatial_dims: SpatialDims = 2) -> None:
        super().__init__()
        require_count("channels", channels)
        width = 2 * channels if width is None else width
        require_count("width", width)
        self.channels = channels
        self.spatial_dims = spatial_dims
        self.encoder1 = _two_convs(channels, width, spatial_dims)
        self.encoder2 = _two_convs(width, 2 * width, spatial_dims)
        self.decoder2 = nn.Sequential(
            _two_convs(2 * width, width, spatial_dims), transposed_conv(width, spatial_dims=spatial_dims)
        )
        self.decoder1 = nn.Sequential(
            _two_convs(width, channels, spatial_dims), transposed_conv(channels, spatial_dims=spatial_dims)
        )

    def forward(self, x: FeatureMap) -> SemanticOutput:
        """Return the code and the reconstruction of a map."""
        require_map("x", x, channels=self.channels, spatial_dims=self.spatial_dims, like=first_weight(self))
        half = self._then(halve, self.encoder1, x)
        code = self._then(halve, self.encoder2, half)
        decoded = _resized(self._then(self.decoder2[1], self.decoder2[0], code), half)
        reconstruction = _resized(self._then(self.decoder1[1], self.decoder1[0], decoded), x)
        return SemanticOutput(code, reconstruction)

    def _then(self, after: _Layer, convs: nn.Module, x: FeatureMap) -> AnyFeatureMap:
        """Run two convolutions, their norms and ReLUs, and the layer after them."""
        conv1, norm1, relu1, conv2, norm2, relu2 = convs.children()
        middle = normed_then(lambda map_: conv2(relu1(map_)), norm1, conv1(x))
        return normed_then(lambda map_: after(relu2(map_)), norm2, middle)


def _resized(x: AnyFeatureMap, like: AnyFeatureMap) -> AnyFeatureMap:
    return resize(x, tuple(like.shape[2:]))


def _two_convs(in_channels: int, out_channels: int, spatial_dims: SpatialDims) -> nn.Sequential:
    return nn.Sequential(
        conv(in_channels, out_channels, 3, spatial_dims=spatial_dims),
        batch_norm(out_channels, spatial_dims=spatial_dims),
        nn.ReLU(inplace=True),
        conv(out_channels, out_channels, 3, spatial_dims=spatial_dims),
        batch_norm(out_channels, spatial_dims=spatial_dims),
        nn.ReLU(inplace=True),
    )
