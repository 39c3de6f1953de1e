"""Layers that several rooms build from, in two and three dimensions."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from guided_attention._checks import require_choice
from guided_attention._typing import AnyFeatureMap, FeatureMap, SpatialDims

__all__ = [
    "average_pool",
    "batch_norm",
    "conv",
    "conv_norm_prelu",
    "conv_norm_relu",
    "halve",
    "recomputed",
    "resize",
    "transposed_conv",
]


_Out = TypeVar("_Out")
_RECOMPUTING: ContextVar[bool] = ContextVar("_RECOMPUTING", default=False)


class _BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that does not fail on a single value a channel (one sample, 1 x 1 map): see `_normalise`.

    Nor does it count a batch twice whose maps are computed anew for the backward pass: see `recomputed`.
    """

    def forward(self, x: Tensor) -> Tensor:
        if _has_no_variance(self, x):
            return _normalise(self, x)
        return _normalise_again(self, x) if _is_second_time(self) else super().forward(x)


class _BatchNorm3d(nn.BatchNorm3d):
    """The same for volumes."""

    def forward(self, x: Tensor) -> Tensor:
        if _has_no_variance(self, x):
            return _normalise(self, x)
        return _normalise_again(self, x) if _is_second_time(self) else super().forward(x)


def _is_second_time(norm: nn.Module) -> bool:
    return norm.training and not torch.compiler.is_compiling() and _RECOMPUTING.get()


def _normalise_again(norm: nn.BatchNorm2d | nn.BatchNorm3d, x: Tensor) -> Tensor:
    """Normalise by the batch as before, and let the running statistics be: copies of them take the update."""
    mean = None if norm.running_mean is None else norm.running_mean.clone()
    variance = None if norm.running_var is None else norm.running_var.clone()
    return F.batch_norm(x, mean, variance, norm.weight, norm.bias, training=True, eps=norm.eps)


def recomputed(function: Callable[..., _Out], *inputs: Tensor) -> _Out:
    """Call the function, keep its inputs and results alone, and compute what is between anew in the backward pass.

    Without gradients there is nothing to keep. A compiled graph decides for itself what it computes anew.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*inputs)
    out: _Out = checkpoint(function, *inputs, use_reentrant=False, context_fn=_first_and_second_time)
    return out


def _first_and_second_time() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _Recomputing()


class _Recomputing(AbstractContextManager[None]):
    """Says that maps are computed a second time; torch enters it once for every backward pass."""

    def __enter__(self) -> None:
        self._before = _RECOMPUTING.set(True)

    def __exit__(self, *_: object) -> None:
        _RECOMPUTING.reset(self._before)


def _has_no_variance(norm: nn.Module, x: Tensor) -> bool:
    return norm.training and x.numel() == x.shape[1]


def _normalise(norm: nn.BatchNorm2d | nn.BatchNorm3d, x: Tensor) -> Tensor:
    """Normalise by the running statistics: one value has no variance, and torch refuses to train on it."""
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    spatial_dims: SpatialDims,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    bias: bool = True,
) -> nn.Conv2d | nn.Conv3d:
    """Return a convolution that keeps the size of its map (divided by `stride`, rounded up)."""
    require_choice("spatial_dims", spatial_dims, (2, 3))
    make = nn.Conv2d if spatial_dims == 2 else nn.Conv3d  # noqa: PLR2004
    return make(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=dilation * (kernel_size // 2),
        groups=groups,
        dilation=dilation,
        bias=bias,
    )


def transposed_conv(channels: int, *, spatial_dims: SpatialDims) -> nn.Module:
    """Return a transposed convolution that doubles the size of its map."""
    make = nn.ConvTranspose2d if spatial_dims == 2 else nn.ConvTranspose3d  # noqa: PLR2004
    return make(channels, channels, kernel_size=2, stride=2)


def batch_norm(channels: int, *, spatial_dims: SpatialDims) -> nn.Module:
    """Return a batch norm that also trains on a single value a channel."""
    make = _BatchNorm2d if spatial_dims == 2 else _BatchNorm3d  # noqa: PLR2004
    return make(channels)


def conv_norm_prelu(
    in_channels: int, out_channels: int, kernel_size: int, *, spatial_dims: SpatialDims
) -> nn.Sequential:
    """Return convolution, batch norm and PReLU with one weight, the paper's standard group of layers."""
    return nn.Sequential(
        conv(in_channels, out_channels, kernel_size, spatial_dims=spatial_dims),
        batch_norm(out_channels, spatial_dims=spatial_dims),
        nn.PReLU(),
    )


def conv_norm_relu(in_channels: int, out_channels: int, *, spatial_dims: SpatialDims) -> nn.Sequential:
    """Return convolution 3 x 3 without bias, batch norm and ReLU, DANet's group of layers."""
    return nn.Sequential(
        conv(in_channels, out_channels, 3, spatial_dims=spatial_dims, bias=False),
        batch_norm(out_channels, spatial_dims=spatial_dims),
        nn.ReLU(inplace=True),
    )


def resize(x: FeatureMap, size: tuple[int, ...]) -> AnyFeatureMap:
    """Resize a map linearly to `size` (corners not aligned); a map of that size already is handed back as it is."""
    # A compiled or exported graph would turn the comparison into a condition on the sizes that it takes, so that it
    # fits the sizes of its example alone; there, it always interpolates, which changes nothing at equal sizes.
    if not torch.compiler.is_compiling() and tuple(x.shape[2:]) == tuple(size):
        return x
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.ndim]
    return F.interpolate(x, size=size, mode=mode, align_corners=False)


def halve(x: FeatureMap) -> AnyFeatureMap:
    """Max-pool by two; an axis of one position stays as it is, where torch would leave nothing."""
    window = [min(2, side) for side in x.shape[2:]]
    pool = F.max_pool2d if x.ndim == 4 else F.max_pool3d  # noqa: PLR2004
    pooled: Tensor = pool(x, window, window)
    return pooled


def average_pool(x: FeatureMap, factor: int) -> AnyFeatureMap:
    """Average over `factor` positions along each axis; the last cell of an axis over those that are left."""
    # torch leaves out what a window reaches beyond the map (count_include_pad has a say over its own padding alone).
    window = [min(side, factor) for side in x.shape[2:]]
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d  # noqa: PLR2004
    return pool(x, window, window, ceil_mode=True)
