"""Batch norms folded into the convolutions before them: the same logits with less to compute."""

import copy
from itertools import pairwise
from typing import TypeGuard, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from guided_attention._checks import require
from guided_attention._layers import batch_norm

__all__ = ["fuse"]

_Network = TypeVar("_Network", bound=nn.Module)

# These types and no subclass: one may do more than its parent, standardise its weights or end in an activation.
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    type(batch_norm(1, spatial_dims=2)),
    type(batch_norm(1, spatial_dims=3)),
)


class _FoldedNorm(nn.Module):
    """Stands where a batch norm was."""

    def forward(self, x: Tensor) -> Tensor:
        """Hand the map on; refuse to train, which the norm that is gone was there for."""
        cure = "Train the network that `fuse` was given, and fuse it again."
        require(not self.training, "model", "in evaluation mode, as `fuse` made it", "training mode", cure)
        return x


def fuse(model: _Network) -> _Network:
    """Copy a network for prediction, with each batch norm folded into the convolution before it.

    In evaluation mode a batch norm is one multiplication and one addition a channel, which the convolution can do on
    its way::

        ((W * x + b) - mean) / sqrt(var + eps) · γ + β  =  W' * x + b'
        with  W' = W · γ / sqrt(var + eps),   b' = (b - mean) · γ / sqrt(var + eps) + β

    The logits are the same up to rounding. The copy is for evaluation alone: a pass through it in training mode is an
    error. Its state dict has other entries than that of the network it was made of: keep the weights of the latter.

    It goes by order: a norm is folded into the convolution that was registered right before it in the same module, if
    both are as wide. In an `nn.Sequential` this is the order of work, and so it is in every network of this library. Of
    a module of your own it assumes that the norm gets what that convolution gives, nothing done between, and that
    nothing else gets it. Nothing can check that from outside: compare the logits once, as in the example.

    A norm stays as it is where it stands elsewhere (in an `nn.ModuleList` too, whose order says nothing), where it has
    no running statistics, and where it or the convolution is of a class derived from torch's, as many of timm's are.

    Args:
        model: Any network, in any mode. It is left as it is.

    Returns:
        The copy, in evaluation mode, on the same device.

    Example:
        >>> import torch
        >>> from guided_attention import MSGA
        >>> from guided_attention.models import fuse
        >>> model = MSGA(encoder="resnet18", channels=4).eval()
        >>> x = torch.randn(1, 1, 37, 53)
        >>> torch.allclose(fuse(model)(x), model(x), rtol=1e-3, atol=1e-4)
        True

    References:
        Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
        CVPR 2018, section 3.2.
    """
    fused = copy.deepcopy(model).eval()
    for parent in list(fused.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(_children(parent)):
            if _takes_a_norm(conv) and _has_statistics(norm) and norm.num_features == conv.out_channels:
                is_transposed = isinstance(conv, _TRANSPOSED)
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm, transpose=is_transposed))
                setattr(parent, norm_name, _FoldedNorm().eval())
    return fused


def _children(parent: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return what was registered, in order; a module that stands there twice, twice: one can be between two others."""
    if isinstance(parent, nn.ModuleList | nn.ModuleDict):
        return []
    named = parent.named_modules(remove_duplicate=False)
    return [(name, module) for name, module in named if name and "." not in name]


def _takes_a_norm(module: nn.Module) -> TypeGuard[_ConvNd]:
    """Whether norms can be folded into it: not where its weight is made anew at every call, as weight norm does."""
    if type(module) in _TRANSPOSED and module.groups != 1:  # torch's fold knows no groups there
        return False
    return type(module) in (*_CONVS, *_TRANSPOSED) and isinstance(module.weight, nn.Parameter)


def _has_statistics(module: nn.Module) -> TypeGuard[_BatchNorm]:
    return type(module) in _NORMS and module.running_mean is not None
