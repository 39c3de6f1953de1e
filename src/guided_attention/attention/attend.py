"""attend: the weighted average over positions that attention is made of, without storing the weights."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812

from guided_attention._typing import Keys, QueriedValues, Queries, Values

__all__ = ["attend"]

_Three: TypeAlias = tuple[Tensor, Tensor, Tensor]

_SIDE = 512
"""Queries, and keys, of one tile: large enough for products at full speed, small enough for its scores, 1 MiB, to stay
in the cache from one product to the next."""

_LOG2_E = math.log2(math.e)


def attend(query: Queries, key: Keys, value: Values) -> QueriedValues:
    """Replace each query by the average of the values that its keys vote for.

    Row ``i`` of the weights is a probability distribution over the keys::

        weights[b, i, j] = softmax_j( query[b, i] · key[b, j] )
        out[b, i]        = Σ_j weights[b, i, j] · value[b, j]

    The scores are bare: they are not divided by ``sqrt(head_width)``, unlike the transformer's. The weights are never
    stored, in training neither: memory grows with the number of positions, not with its square. Scores, softmax and
    sums are in single precision at least, whatever goes in, so that unscaled scores of half precision do not overflow.

    One meaning, two ways to it. On CUDA, and where the call is compiled or exported, torch's
    ``scaled_dot_product_attention`` on rows widened with zeros to one width. Elsewhere, and in double precision on
    CUDA, tile by tile: torch's kernel for the CPU would spend most of its time on those zeros, since queries are
    narrow and values wide. A second derivative stores the weights; under ``torch.compile`` there is none.

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
        Sinha & Dolz, JBHI 2020, equations 2 and 3, without the gate and the residual. The softmax over tiles follows
        Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018, and Dao et al., "FlashAttention",
        NeurIPS 2022.
    """
    if torch.compiler.is_compiling() or (query.is_cuda and query.dtype != torch.float64):
        return _by_torch(query, key, value)
    by_tiles: Callable[[Tensor, Tensor, Tensor], Tensor] = _ByTiles.apply  # torch leaves it untyped
    return by_tiles(query, key, value)


def _by_torch(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    width = max(query.shape[-1], value.shape[-1])
    # torch's kernel for the CPU rounds the weights to half precision; those for CUDA are there for half precision.
    dtype = value.dtype if query.is_cuda else torch.promote_types(value.dtype, torch.float32)
    q, k, v = (_widen(rows.to(dtype), width).unsqueeze(1) for rows in (query, key, value))
    averaged = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return averaged.squeeze(1)[..., : value.shape[-1]].to(value.dtype)


def _widen(rows: Tensor, width: int) -> Tensor:
    """Fill rows with zeros up to `width`: zeros change no score and no average.

    torch's linear-memory kernels want query, key and value of one width and with unit last stride; anything else falls
    to the quadratic path without a word.
    """
    padded = F.pad(rows, (0, width - rows.shape[-1]))
    return padded.contiguous(memory_format=torch.contiguous_format)


class _ByTiles(Function):
    """The same average over tiles of queries and keys, with a backward pass that computes the weights once more."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # noqa: ANN401
        with torch.autocast(query.device.type, enabled=False):
            samples = [_average(*sample) for sample in _samples(query, key, value)]
            averaged, log_sums = (torch.cat(parts) for parts in zip(*samples, strict=True))
        ctx.save_for_backward(query, key, value, averaged, log_sums)
        return averaged.to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> _Three:  # noqa: ANN401
        (gradient,) = gradients
        saved = ctx.saved_tensors  # asked for once: checkpointing allows no more
        inputs = saved[:3]
        with torch.autocast(gradient.device.type, enabled=False):
            if torch.is_grad_enabled():  # somebody wants to differentiate what comes out of here
                found = torch.autograd.grad(_stored(*inputs), inputs, gradient, create_graph=True)
            else:
                samples = [_gradients(*sample) for sample in _samples(*saved, gradient)]
                found = tuple(torch.cat(parts) for parts in zip(*samples, strict=True))
        d_query, d_key, d_value = (grad.to(like.dtype) for grad, like in zip(found, inputs, strict=True))
        return d_query, d_key, d_value


def _average(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return the averages, and of each row of weights the logarithm (to base 2) of the sum that it was divided by."""
    query, key, value = (_wide(rows) for rows in (query, key, value))
    hands = _hands(query)
    # Powers of 2, not of e: the factor costs nothing here, and torch's exp takes 20 times as long on some processors.
    asked = _dealt(_LOG2_E * query, hands)
    memory, averages, log_sums = _memory(asked, key), [], []
    columns = torch.split(_shared(key.mT.contiguous(), hands), _SIDE, dim=2)
    values_of = torch.split(_shared(value, hands), _SIDE, dim=1)
    for rows in torch.split(asked, _SIDE, dim=1):
        highest = rows.new_full((*rows.shape[:2], 1), -math.inf)
        total, summed = torch.zeros_like(highest), rows.new_zeros(*rows.shape[:2], value.shape[2])
        for keys, values in zip(columns, values_of, strict=True):
            scores = torch.bmm(rows, keys, out=_tile(memory, rows, keys))
            higher = torch.maximum(highest, scores.amax(dim=2, keepdim=True))
            shrink, highest = torch.exp2(highest - higher), higher
            votes = torch.exp2(scores.sub_(highest), out=scores)
            total = total.mul_(shrink).add_(votes.sum(dim=2, keepdim=True))
            summed = summed.mul_(shrink).baddbmm_(votes, values)
        averages.append(summed.div_(total))
        log_sums.append(highest + total.log2())
    return _gathered(averages, query.shape), _gathered(log_sums, query.shape)


def _gradients(
    query: Tensor, key: Tensor, value: Tensor, averaged: Tensor, log_sums: Tensor, gradient: Tensor
) -> _Three:
    """Return the gradients with respect to query, key and value.

    With the weights ``W`` and the gradient ``G`` of the output ``O``, row by row::

        dV = Wᵀ G,   dS = W · (G Vᵀ − Σ G · O),   dQ = dS K,   dK = dSᵀ Q

    Each difference, that in dS and that in the exponent of W, is what a product is added to.
    """
    query, key, value, gradient = (_wide(rows) for rows in (query, key, value, gradient))
    hands = _hands(query)
    minus_dots = -(gradient * averaged).sum(dim=2, keepdim=True)
    dealt = [_dealt(part, hands) for part in (query, _LOG2_E * query, -log_sums, gradient, minus_dots)]
    d_query = torch.zeros_like(dealt[0].mT, memory_format=torch.contiguous_format)
    rows = [torch.split(part, _SIDE, dim=1) for part in dealt]
    columns = [torch.split(part.mT, _SIDE, dim=2) for part in (key, value)]
    memory, other_memory, d_keys, d_values = _memory(dealt[0], key), _memory(dealt[0], key), [], []
    for pair in zip(*columns, strict=True):
        keys, values = (_shared(part.contiguous(), hands) for part in pair)
        d_key, d_value = torch.zeros_like(keys), torch.zeros_like(values)
        for q, asked, minus_log_sum, g, minus_dot, d_q in zip(
            *rows, torch.split(d_query, _SIDE, dim=2), strict=True
        ):
            scores = torch.baddbmm(minus_log_sum, asked, keys, out=_tile(memory, q, keys))
            weights = torch.exp2(scores, out=scores)
            d_value.baddbmm_(g.mT, weights)
            d_scores = torch.baddbmm(minus_dot, g, values, out=_tile(other_memory, q, keys)).mul_(weights)
            d_q.baddbmm_(keys, d_scores.mT)
            d_key.baddbmm_(q.mT, d_scores)
        d_keys.append(_summed(d_key, hands))
        d_values.append(_summed(d_value, hands))
    return _gathered([d_query.mT], query.shape), torch.cat(d_keys, dim=2).mT, torch.cat(d_values, dim=2).mT


def _hands(query: Tensor) -> int:
    """Return in how many hands the queries are dealt: a thread on a tile of its own is quicker than two on one."""
    alone = len(query) == 1 and query.device.type == "cpu"
    return min(torch.get_num_threads(), query.shape[1]) if alone else 1


def _dealt(rows: Tensor, hands: int) -> Tensor:
    """Return the rows of one sample as a batch of `hands`; rows of zeros, which change nothing, fill up the last."""
    if hands == 1:
        return rows
    return F.pad(rows, (0, 0, 0, -rows.shape[1] % hands)).reshape(hands, -1, rows.shape[2])


def _shared(columns: Tensor, hands: int) -> Tensor:
    """Show the same keys or values to all hands."""
    return columns if hands == 1 else columns.expand(hands, -1, -1)


def _gathered(parts: Sequence[Tensor], shape: torch.Size) -> Tensor:
    """Return the rows of all hands in the order they were dealt from, without those that filled up the last hand."""
    rows = torch.cat(list(parts), dim=1).flatten(0, 1)
    return rows[: shape[0] * shape[1]].reshape(shape[0], shape[1], -1)


def _summed(columns: Tensor, hands: int) -> Tensor:
    """Add up what each hand has for the same keys or values."""
    return columns if hands == 1 else columns.sum(dim=0, keepdim=True)


def _memory(rows: Tensor, key: Tensor) -> Tensor:
    """Return room for one tile: the system takes as long to hand out fresh memory as a product does to fill it."""
    return rows.new_empty(len(rows) * min(_SIDE, rows.shape[1]) * min(_SIDE, key.shape[1]))


def _tile(memory: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the part of it that the scores of these rows and columns fill."""
    shape = (len(rows), rows.shape[1], columns.shape[2])
    return memory[: math.prod(shape)].view(shape)


def _stored(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return the average with the weights stored, of which torch knows derivatives of any order."""
    weights = torch.softmax(_wide(query) @ _wide(key).mT, dim=-1)
    return (weights @ _wide(value)).to(value.dtype)


def _wide(rows: Tensor) -> Tensor:
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def _samples(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Give the batch in parts: as many samples at once as fit into a tile, so that small maps take one step for all."""
    queries, keys = tensors[0].shape[1], tensors[1].shape[1]
    at_once = max(1, _SIDE**2 // max(1, queries * keys))
    return zip(*(torch.split(tensor, at_once) for tensor in tensors), strict=True)
