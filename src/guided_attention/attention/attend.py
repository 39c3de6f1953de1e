"""attend: the weighted average over positions that attention is made of, without storing the weights."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from guided_attention._typing import Keys, QueriedValues, Queries, Values

__all__ = ["attend"]


def attend(query: Queries, key: Keys, value: Values) -> QueriedValues:
    """Replace each query by the average of the values that its keys vote for.

    Row ``i`` of the weights is a probability distribution over the keys::

        weights[b, i, j] = softmax_j( query[b, i] · key[b, j] )
        out[b, i]        = Σ_j weights[b, i, j] · value[b, j]

    The scores are bare: they are not divided by ``sqrt(head_width)``, unlike the transformer's. The weights are never
    stored: memory grows with the number of positions, not with its square.

    Args:
        query: What each output position asks for, ``(batch, queries, head_width)``.
        key: What each input position offers, ``(batch, keys, head_width)``.
        value: What each input position hands over once chosen, ``(batch, keys, channels)``.

    Returns:
        One averaged value for each query, ``(batch, queries, channels)``.

    Example:
        Equal keys leave nothing to choose between, so every query gets the mean.

        >>> import torch
        >>> value = torch.tensor([[[1.0], [3.0]]])
        >>> attend(torch.ones(1, 1, 4), torch.ones(1, 2, 4), value)
        tensor([[[2.]]])

    References:
        Sinha & Dolz, JBHI 2020, equations 2 and 3, without the gate and the residual.
    """
    width = max(query.shape[-1], value.shape[-1])
    q, k, v = (_widen(rows, width).unsqueeze(1) for rows in (query, key, value))
    averaged = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return averaged.squeeze(1)[..., : value.shape[-1]]


def _widen(rows: Tensor, width: int) -> Tensor:
    """Fill rows with zeros up to `width`: zeros change no score and no average.

    torch's linear-memory kernel for the CPU wants query, key and value of one width and with unit last stride; anything
    else falls to the quadratic path without a word.
    """
    padded = F.pad(rows, (0, width - rows.shape[-1]))
    return padded.contiguous(memory_format=torch.contiguous_format)
