"""Layers in two and three dimensions that several subpackages build from."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.batchnorm import _BatchNorm as _AnyBatchNorm
from torch.utils.checkpoint import checkpoint

from guided_attention._checks import require, require_choice
from guided_attention._distributed import is_pooling, rows_of_all
from guided_attention._typing import AnyFeatureMap, FeatureMap, SpatialDims

__all__ = [
    "BATCH_NORMS",
    "average_pool",
    "batch_norm",
    "conv",
    "conv_norm_prelu",
    "conv_norm_relu",
    "halve",
    "normed_then",
    "recomputed",
    "resize",
    "transposed_conv",
    "with_pooled_norms",
]


_Out = TypeVar("_Out")
_LARGE = 2**18
"""Values of a map from which recomputing it pays; below, the bookkeeping takes longer than the map."""

_FIRST, _SECOND = 1, 2
_TURN: ContextVar[int] = ContextVar("_TURN", default=0)


class _BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that also trains on a single value a channel (one sample, 1 x 1 map): see `_normalise`.

    It counts a batch once even if its maps are recomputed for the backward pass: see `recomputed`. Where several
    processes train together, it normalises by the batches of all: see `_moments_of_all`.
    """

    def forward(self, x: Tensor) -> Tensor:
        return _normalised(self, x, super().forward)


class _BatchNorm3d(nn.BatchNorm3d):
    """The same for volumes."""

    def forward(self, x: Tensor) -> Tensor:
        return _normalised(self, x, super().forward)


_Norm: TypeAlias = _BatchNorm2d | _BatchNorm3d
_OURS: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: _BatchNorm2d, nn.BatchNorm3d: _BatchNorm3d}
BATCH_NORMS = (nn.BatchNorm1d, nn.SyncBatchNorm, *_OURS, *_OURS.values())
"""Batch norms that compute nothing else; no subclasses, which may apply an activation too."""


def with_pooled_norms(network: nn.Module) -> None:
    """Let the batch norms of torch in a network count the batches of all processes too, as the library's own do."""
    for name, module in network.named_modules():
        ours = _OURS.get(type(module))
        if ours is not None:
            module.__class__ = ours
        known = not isinstance(module, _AnyBatchNorm) or isinstance(
            module, (*_OURS.values(), nn.SyncBatchNorm)
        )
        cure = "Use BatchNorm2d or BatchNorm3d, or a norm that needs no batch."
        got = f"{name}, a {type(module).__name__}, which would see the share of one process only"
        require(known, "model", "of batch norms for several processes", got, cure)


def _normalised(norm: _Norm, x: Tensor, usual: Callable[[Tensor], Tensor]) -> Tensor:
    if norm.training and is_pooling():
        return _normalise_by(norm, x, *_moments_of_all(norm, x))
    if _has_no_variance(norm, x):
        return _normalise(norm, x)
    return _normalise_again(norm, x) if _is_second_time(norm) else usual(x)


def _moments_of_all(norm: _Norm, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel over the batches of all processes, and count them in the statistics.

    With ``n`` values of mean ``m`` and variance ``v`` on each process, and ``N``, ``M`` those of all::

        M = Σ n m / N,   V = Σ n (v + (m - M)²) / N
    """
    exact = x if x.dtype == torch.float64 else x.float()
    variances, means = torch.var_mean(exact, [0, *range(2, x.ndim)], correction=0)
    count = exact.new_tensor([x.numel() // x.shape[1]])
    rows = rows_of_all(torch.cat([count, means, variances]))
    counts, means, variances = rows[:, :1], *rows[:, 1:].chunk(2, dim=1)
    values = counts.sum()
    mean = (counts * means).sum(0) / values
    variance = (counts * (variances + (means - mean).square())).sum(0) / values
    if not _is_second_time(norm):
        _count_batch(norm, mean, variance * values / (values - 1))
    return mean, variance


@torch.no_grad()
def _count_batch(norm: _Norm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics towards those of a batch, as torch does."""
    batches, means, variances = norm.num_batches_tracked, norm.running_mean, norm.running_var
    if batches is None or means is None or variances is None:
        return
    batches.add_(1)
    share = 1.0 / float(batches) if norm.momentum is None else norm.momentum
    means.lerp_(mean.to(means), share)
    variances.lerp_(variance.to(variances), share)


def _normalise_by(norm: _Norm, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    scale = torch.rsqrt(variance + norm.eps)
    scale = scale * norm.weight if norm.affine else scale
    # Not `bias - mean · scale`: of one value a channel, the gradient of the bias would be the tensor of the map's own,
    # shared with another norm whose output is added, and a second batch would be accumulated into both.
    shift = -(mean * scale - norm.bias) if norm.affine else -mean * scale
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return (x * scale.view(shape) + shift.view(shape)).to(x.dtype)


def _is_second_time(norm: nn.Module) -> bool:
    return norm.training and not torch.compiler.is_compiling() and _TURN.get() == _SECOND


def _normalise_again(norm: _Norm, x: Tensor) -> Tensor:
    """Normalise by the batch as before, and leave the running statistics: copies of them take the update."""
    mean = None if norm.running_mean is None else norm.running_mean.clone()
    variance = None if norm.running_var is None else norm.running_var.clone()
    return F.batch_norm(x, mean, variance, norm.weight, norm.bias, training=True, eps=norm.eps)


def recomputed(function: Callable[..., _Out], *inputs: Tensor) -> _Out:
    """Call the function and keep only its inputs and results; the backward pass recomputes what is between.

    Without gradients there is nothing to keep. A compiled graph decides for itself what it recomputes. Inside a
    recomputed function nothing is recomputed a third time.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or _TURN.get():
        return function(*inputs)
    out: _Out = checkpoint(function, *inputs, use_reentrant=False, context_fn=_both_turns)
    return out


def normed_then(after: Callable[[Tensor], _Out], norm: nn.Module, x: AnyFeatureMap) -> _Out:
    """Return ``after(norm(x))``; for large maps, training keeps only `x` for the backward pass.

    The output of a norm is as large as its input and quickly recomputed; without it these layers need about half of the
    memory in training. A convolution at the end of `after` is not computed twice: torch stops as soon as it has what
    the backward pass needs.
    """
    # Any other norm, such as torch's for several processes, would count the batch twice; a compiled graph would be
    # bound to one side of the threshold.
    if (
        not norm.training
        or not isinstance(norm, _BatchNorm2d | _BatchNorm3d)
        or torch.compiler.is_compiling()
        or x.numel() < _LARGE
    ):
        return after(norm(x))
    if is_pooling():  # moments are exchanged once: one process may recompute a map and another not
        moments = _moments_of_all(norm, x)
        return recomputed(lambda map_, *known: after(_normalise_by(norm, map_, *known)), x, *moments)
    return recomputed(lambda map_: after(norm(map_)), x)


def _both_turns() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return _Turn(_FIRST), _Turn(_SECOND)


class _Turn(AbstractContextManager[None]):
    """Records whether maps are computed for the first or the second time."""

    def __init__(self, turn: int) -> None:
        self._turn = turn

    def __enter__(self) -> None:
        self._before = _TURN.set(self._turn)

    def __exit__(self, *_: object) -> None:
        _TURN.reset(self._before)


def _has_no_variance(norm: nn.Module, x: Tensor) -> bool:
    return norm.training and x.numel() == x.shape[1]


def _normalise(norm: _Norm, x: Tensor) -> Tensor:
    """Normalise by the running statistics: one value has no variance, and torch raises an error for it."""
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
    """Return convolution, batch norm and PReLU with one weight: the paper's standard group of layers."""
    return _ConvNormPReLU(
        conv(in_channels, out_channels, kernel_size, spatial_dims=spatial_dims),
        batch_norm(out_channels, spatial_dims=spatial_dims),
        nn.PReLU(),
    )


class _ConvNormPReLU(nn.Sequential):
    """The three layers in a row, with less memory in training: see `normed_then`."""

    def forward(self, x: Tensor) -> Tensor:
        convolution, norm, prelu = self
        activated: Tensor = normed_then(prelu, norm, convolution(x))
        return activated


def conv_norm_relu(in_channels: int, out_channels: int, *, spatial_dims: SpatialDims) -> nn.Sequential:
    """Return convolution 3 x 3 without bias, batch norm and ReLU, DANet's group of layers."""
    return nn.Sequential(
        conv(in_channels, out_channels, 3, spatial_dims=spatial_dims, bias=False),
        batch_norm(out_channels, spatial_dims=spatial_dims),
        nn.ReLU(inplace=True),
    )


def resize(x: FeatureMap, size: tuple[int, ...]) -> AnyFeatureMap:
    """Resize a map linearly to `size` (corners not aligned); a map that has this size is returned as it is."""
    # A compiled or exported graph would turn the comparison into a condition on its inputs, and accept only the sizes
    # of its example. It therefore always interpolates, which changes nothing at equal sizes.
    if not torch.compiler.is_compiling() and tuple(x.shape[2:]) == tuple(size):
        return x
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.ndim]
    return F.interpolate(x, size=size, mode=mode, align_corners=False)


def filled_up(x: FeatureMap, multiple: int) -> AnyFeatureMap:
    """Repeat the last position of each axis until its length is a multiple.

    Maps of a stride round their sides up. Where the stride does not divide a side, the map covers more than the image,
    and a resize to the size of a finer map would stretch it: positions would drift apart, by up to a stride.
    """
    whole = tuple((side + multiple - 1) // multiple * multiple for side in x.shape[2:])
    if not torch.compiler.is_compiling() and whole == tuple(x.shape[2:]):
        return x
    # By the most that any size needs: a graph that is filled up by what its example needs takes no other sizes.
    return cut(F.pad(x, [0, multiple - 1] * len(whole), mode="replicate"), whole)


def cut(x: FeatureMap, size: tuple[int, ...]) -> AnyFeatureMap:
    """Keep the first positions of each axis; a map of this size is returned as it is."""
    if not torch.compiler.is_compiling():
        return x if tuple(x.shape[2:]) == tuple(size) else x[:, :, *(slice(0, side) for side in size)]
    # A graph with slices takes only sizes that are cut where its example is.
    for axis, side in enumerate(size, 2):
        x = x.index_select(axis, torch.arange(side, device=x.device))
    return x


def halve(x: FeatureMap) -> AnyFeatureMap:
    """Max-pool by two; an axis of one position stays as it is, where torch would leave nothing."""
    window = [min(2, side) for side in x.shape[2:]]
    pool = F.max_pool2d if x.ndim == 4 else F.max_pool3d  # noqa: PLR2004
    pooled: Tensor = pool(x, window, window)
    return pooled


def average_pool(x: FeatureMap, factor: int) -> AnyFeatureMap:
    """Average over `factor` positions along each axis; the last cell of an axis averages those that are left."""
    # torch omits the positions of a window beyond the map (count_include_pad only affects its own padding).
    window = [min(side, factor) for side in x.shape[2:]]
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d  # noqa: PLR2004
    return pool(x, window, window, ceil_mode=True)
