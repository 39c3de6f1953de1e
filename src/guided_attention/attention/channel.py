"""CAM: every channel of a feature map attends to every other one."""

from typing import Literal, TypeAlias

import torch
from torch import nn

from guided_attention._checks import require_choice
from guided_attention._maps import require_map, without_autocast
from guided_attention._typing import FeatureMap

__all__ = ["CAM", "ChannelEnergy"]

ChannelEnergy: TypeAlias = Literal["danet", "paper"]
"""How the similarity of two channels becomes a weight: see `CAM`."""


class CAM(nn.Module):
    """Channel attention module: adds to each channel a mixture of all channels.

    With the map as a matrix ``X`` of one row per channel, and ``E = X Xᵀ`` the similarity of channels::

        weights[i, j] = softmax_j( max_j E[i, j] − E[i, j] )     energy="danet"
        weights[i, j] = softmax_j( E[i, j] )                     energy="paper", equation 4
        out[i]        = gate · Σ_j weights[i, j] · X[j]  +  X[i]  equation 5

    The two forms are opposites. DANet's code, the original code of this paper and every later copy use the first: a
    channel gathers what it lacks. With the printed formula, the second, a channel mostly attends to itself. The gate is
    learnt and starts at 0. Maps ``(batch, channels, *space)`` have any number of channels and axes; energies are in
    single precision, also under autocast.

    Args:
        energy: ``"danet"`` or ``"paper"``.

    Example:
        >>> x = torch.randn(1, 5, 7, 11)
        >>> torch.equal(CAM()(x), x)  # the gate is 0
        True
    """

    def __init__(self, *, energy: ChannelEnergy = "danet") -> None:
        super().__init__()
        require_choice("energy", energy, ("danet", "paper"))
        self.energy = energy
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: FeatureMap) -> FeatureMap:
        """Return the map with a mixture of its channels added to each."""
        gate = self.gate
        require_map("x", x, like=gate, any_float=True)
        # A sum over thousands of positions does not fit half precision: no autocast for these two products.
        with without_autocast(x.device.type):
            rows = x.flatten(2).to(torch.promote_types(x.dtype, torch.float32))
            energy = rows @ rows.mT
            # softmax(max − E) = softmax(−E): the row's maximum is a constant that the softmax drops.
            weights = torch.softmax(-energy if self.energy == "danet" else energy, dim=-1)
            mixed = (weights @ rows).reshape(x.shape).to(x.dtype)
        return gate * mixed + x
