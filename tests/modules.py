"""Helpers for tests of modules: opened gates, random inputs, narrow ResNets."""

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from guided_attention.encoders import resnet

_Module = TypeVar("_Module", bound=nn.Module)
_NARROW = 5
"""Channels of the first stage of a narrow ResNet, in place of 64; the others have 10, 20 and 40."""


def narrow_layouts() -> dict[str, resnet._Layout]:
    """Return the layouts of ResNet 18 and 50 with a 13th of the channels: all layers, one in 160 of the weights."""
    return {name: replace(resnet._LAYOUTS[name], width=_NARROW) for name in ("resnet18", "resnet50")}


def opened(module: _Module, *, seed: int = 0) -> _Module:
    """Draw every parameter, running statistic and class weight at random, gates too: a shut gate hides what follows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
        for name, buffer in module.named_buffers():
            if buffer.dtype.is_floating_point:
                drawn = torch.rand(buffer.shape, generator=generator)
                positive = name.endswith(("var", "class_weights"))
                buffer.copy_(drawn + 0.5 if positive else drawn - 0.5)
    return module


def same_state(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two networks have the same weights, statistics and counters under the same names."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[key]) for key, value in ours.items()
    )


def drawn(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a random tensor that is the same on every run."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
