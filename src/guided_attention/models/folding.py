"""Batch norms folded into the convolutions before them: the same logits with fewer operations."""

import copy
from itertools import pairwise
from typing import TypeGuard, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from guided_attention._checks import require, require_type
from guided_attention._layers import BATCH_NORMS
from guided_attention.models._passes import Passes, is_ours

__all__ = ["fuse"]

_Network = TypeVar("_Network", bound=nn.Module)

# No subclasses: they may do more than their parent, such as standardise weights or apply an activation.
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# Of timm, which need not be installed. They do what their parent does, and then two modules of theirs.
_ACTIVATED, _BEHIND = ("BatchNormAct2d", "SyncBatchNormAct"), ("drop", "act")


class _FoldedNorm(nn.Module):
    """Takes the place of a batch norm; `behind` is what the norm did after it, such as an activation."""

    def __init__(self, *behind: nn.Module) -> None:
        super().__init__()
        self.behind = nn.Sequential(*behind)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map; without the norm the network cannot be trained."""
        cure = "Train the network that `fuse` was given, and fuse it again."
        require(not self.training, "model", "in evaluation mode, as `fuse` made it", "training mode", cure)
        out: Tensor = self.behind(x)
        return out


def fuse(model: _Network) -> _Network:
    """Copy a network for inference, with each batch norm folded into the convolution before it.

    In evaluation mode a batch norm is a multiplication and an addition per channel, which the convolution can do::

        ((W * x + b) - mean) / sqrt(var + eps) · γ + β  =  W' * x + b'
        with  W' = W · γ / sqrt(var + eps),   b' = (b - mean) · γ / sqrt(var + eps) + β

    The logits are equal up to rounding. The copy supports inference only, and its state dict has other entries: keep
    the weights of the original network.

    A norm is folded into the convolution registered directly before it in the same module, if both have the same number
    of channels. In `nn.Sequential` and in every network of this library this is the order of computation. In other
    modules, such as timm's and your own, `torch.fx` traces whether the norm takes the convolution's output, and nothing
    else does. A norm stays where that is not so, where the module cannot be traced, where it stands elsewhere (also in
    `nn.ModuleList`), where it has no running statistics, and where it or the convolution is of a subclass of torch's.
    The one exception are timm's ``BatchNormAct2d`` and its counterpart for several processes, whose activation stays.
    It also stays where it or the convolution has hooks, and where a module reads their weights or calls one without the
    other. For tracing, each module around a norm gets symbols in place of tensors. A module that cannot be traced
    must not call parts of the modules in it, nor read their weights: this is not seen.

    Args:
        model: Any network, in any mode; it is not changed.

    Returns:
        The copy, in evaluation mode, on the same device.

    Raises:
        ArgumentTypeError: `model` is no `torch.nn.Module`.

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
    require_type("model", model, nn.Module, "a torch.nn.Module")
    fused = copy.deepcopy(model).eval()
    passes = Passes(fused)
    for parent in list(fused.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(_children(parent)):
            if (
                _takes_a_norm(conv)
                and _has_statistics(norm)
                and norm.num_features == conv.out_channels
                and passes.feed(parent, conv, norm)
            ):
                is_transposed = isinstance(conv, _TRANSPOSED)
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm, transpose=is_transposed))
                setattr(parent, norm_name, _FoldedNorm(*_behind(norm)).eval())
    return fused


def _children(parent: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the registered modules in order, one that is registered twice twice."""
    named = parent.named_modules(remove_duplicate=False)
    return [(name, module) for name, module in named if name and "." not in name]


def _takes_a_norm(module: nn.Module) -> TypeGuard[_ConvNd]:
    """Whether norms can be folded into it: not if its weight is recomputed at every call, as weight norm does."""
    if type(module) in _TRANSPOSED and module.groups != 1:  # torch's fold knows no groups there
        return False
    return (
        type(module) in (*_CONVS, *_TRANSPOSED)
        and isinstance(module.weight, nn.Parameter)
        and _is_plain(module)
    )


def _has_statistics(module: nn.Module) -> TypeGuard[_BatchNorm]:
    if not isinstance(module, _BatchNorm) or module.running_mean is None:
        return False
    return (type(module) in BATCH_NORMS or _is_activated(module)) and _is_plain(module)


def _is_activated(module: nn.Module) -> bool:
    kind = type(module)
    return kind.__name__ in _ACTIVATED and kind.__module__.partition(".")[0] == "timm"


def _behind(norm: nn.Module) -> list[nn.Module]:
    """Return what a norm does after normalizing; torch's do nothing."""
    return [getattr(norm, name) for name in _BEHIND if hasattr(norm, name)] if _is_activated(norm) else []


def _is_plain(module: nn.Module) -> bool:
    """Whether nothing was put into its pass; the hooks of this library change nothing in evaluation mode."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())  # noqa: SLF001
    return "forward" not in vars(module) and all(map(is_ours, hooks))
