"""Interpolation along axes, and smooth fields: what filters, local changes and deformations share."""

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

__all__ = ["bump", "cubic", "smooth_noise"]

_A = -0.75
"""The free number of cubic convolution, as torch's bicubic interpolation has it."""


def cubic(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize an array by cubic convolution, as torch does in two dimensions; edge values are repeated.

    Args:
        x: ``(*space)``.
        size: The new lengths.

    Returns:
        An array of shape `size`.
    """
    if x.ndim == 2:  # noqa: PLR2004
        return F.interpolate(x[None, None], size=tuple(size), mode="bicubic")[0, 0]
    for axis, length in enumerate(size):
        if length != x.shape[axis]:
            x = _along(x, axis, _cubic_weights(x.shape[axis], length).to(x.device, x.dtype))
    return x


def _along(x: Tensor, axis: int, weights: Tensor) -> Tensor:
    """Multiply an axis by a matrix ``(new, old)``, without a copy of the array."""
    if axis == x.ndim - 1:
        return x @ weights.T
    shape = (*x.shape[:axis], len(weights), *x.shape[axis + 1 :])
    return (weights @ x.reshape(prod(x.shape[:axis]), x.shape[axis], -1)).reshape(shape)


@lru_cache(maxsize=8)
def _cubic_weights(old: int, new: int) -> Tensor:
    """Return the matrix ``(new, old)`` of cubic convolution."""
    places = (torch.arange(new, dtype=torch.float64)[:, None] + 0.5) * (old / new) - 0.5
    near = places.floor() + torch.arange(-1, 3)
    weights = _cubic_kernel((places - near).abs())
    return torch.zeros(new, old, dtype=torch.float64).scatter_add_(1, near.clamp(0, old - 1).long(), weights)


def _cubic_kernel(distance: Tensor) -> Tensor:
    inner = ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
    outer = _A * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance <= 1, inner, outer)


def smooth_noise(size: Sequence[int], points: int, count: int, seed: float, like: Tensor) -> Tensor:
    """Return random fields ``(count, *size)``: standard normal numbers at `points` an axis, cubic between them.

    The numbers come from the CPU, so that they are the same for every device.
    """
    generator = torch.Generator().manual_seed(int(seed))
    coarse = torch.randn(count, *[points] * len(size), generator=generator, dtype=torch.float64)
    coarse = coarse.to(like.device, like.dtype)
    return torch.stack([cubic(each, size) for each in coarse])


def bump(size: Sequence[int], centre: Sequence[float], width: Sequence[float], like: Tensor) -> Tensor:
    """Return a Gaussian ``(*size)``, 1 at its centre; centre and width are parts of the axes' lengths."""
    result = torch.ones((), device=like.device, dtype=like.dtype)
    for length, middle, deviation in zip(size, centre, width, strict=True):
        places = (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) / length
        result = result[..., None] * torch.exp(-0.5 * ((places - middle) / deviation) ** 2)
    return result
