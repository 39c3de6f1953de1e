"""attend: the weighted average over positions that attention is made of, without storing the weights."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812

from guided_attention._checks import require
from guided_attention._maps import plain, require_tensor, without_autocast
from guided_attention._typing import Keys, QueriedValues, Queries, Values

__all__ = ["attend"]

_Two: TypeAlias = tuple[Tensor, Tensor]
_Three: TypeAlias = tuple[Tensor, Tensor, Tensor]

_SIDE = 512
"""Queries and keys of one tile: large enough for products at full speed, small enough that its scores (1 MiB) stay in
the cache from one product to the next."""

_LOG2_E = math.log2(math.e)


def attend(query: Queries, key: Keys, value: Values) -> QueriedValues:
    """Replace each query by the average of the values, weighted by how well their keys match it.

    Row ``i`` of the weights is a probability distribution over the keys::

        weights[b, i, j] = softmax_j( query[b, i] · key[b, j] )
        out[b, i]        = Σ_j weights[b, i, j] · value[b, j]

    The scores are not divided by ``sqrt(head_width)``, unlike those of a transformer. The weights are never stored, not
    even during training: memory grows with the number of positions, not with its square. Scores, softmax and sums are
    at least in single precision, so that unscaled scores of half precision do not overflow.

    On CUDA, and in a compiled, exported or traced graph, this is torch's ``scaled_dot_product_attention`` on rows
    padded with zeros to one width. On the CPU, and in double precision on CUDA, it works tile by tile: torch's CPU
    kernel would spend most of its time on those zeros. A second derivative stores the weights, and so do the gradients
    of ``torch.func``; ``torch.compile`` has no second derivative.

    Args:
        query: What each output position looks for, ``(batch, queries, head_width)``.
        key: What each input position is matched by, ``(batch, keys, head_width)``.
        value: What each input position contributes, ``(batch, keys, channels)``.

    Returns:
        One averaged value for each query, ``(batch, queries, channels)``; a plain tensor for every tensor subclass.

    Example:
        >>> value = torch.tensor([[[1.0], [3.0]]])
        >>> attend(torch.ones(1, 1, 4), torch.ones(1, 2, 4), value)  # equal keys: the mean
        tensor([[[2.]]])

    References:
        Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", NeurIPS
        2022.
    """
    if not torch.compiler.is_compiling():
        _require_rows(query, key, value)
    return weighted_average(query, key, value)


def weighted_average(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return what `attend` does, without its checks: for modules that made the three themselves."""
    # torch leaves `is_tracing` untyped, and out of the names that it exports.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return _by_torch(query, key, value)
    # The autograd function works with the memory of its inputs, where a tensor subclass would interfere.
    query, key, value = plain(query), plain(key), plain(value)
    if query.is_cuda and query.dtype != torch.float64:
        return _by_torch(query, key, value)
    averaged, _ = _by_tiles(query, key, value)
    return averaged.to(value.dtype)


def stored_weights(query: Tensor, key: Tensor) -> Tensor:
    """Return the weights of `weighted_average`, ``(batch, queries, keys)``, in single precision at least."""
    with without_autocast(query.device.type):
        return torch.softmax(_wide(query) @ _wide(key).mT, dim=-1)


def _require_rows(query: Tensor, key: Tensor, value: Tensor) -> None:
    for name, rows in (("query", query), ("key", key), ("value", value)):
        require_tensor(name, rows, "a tensor (batch, positions, channels)")
        if rows.ndim != 3 or rows.numel() == 0 or not rows.is_floating_point():  # noqa: PLR2004
            wanted = "a floating tensor (batch, positions, channels), none of them 0"
            _refuse(name, wanted, f"{rows.dtype} of shape {tuple(rows.shape)}")
        if rows.device != query.device or rows.dtype != query.dtype:
            wanted = f"{query.dtype} on {query.device}, as `query` is"
            _refuse(name, wanted, f"{rows.dtype} on {rows.device}", f"Pass `{name}.to(query)`.")
    if key.shape[0] != query.shape[0] or key.shape[2] != query.shape[2]:
        wanted = f"of shape ({query.shape[0]}, keys, {query.shape[2]}), for `query` of {tuple(query.shape)}"
        _refuse("key", wanted, tuple(key.shape))
    if value.shape[:2] != key.shape[:2]:
        wanted = f"of shape ({key.shape[0]}, {key.shape[1]}, channels), one value for each key"
        _refuse("value", wanted, tuple(value.shape))


def _refuse(name: str, wanted: str, got: object, cure: str = "") -> None:
    require(condition=False, argument=name, wanted=wanted, got=got, cure=cure)


def _by_torch(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    width = max(query.shape[-1], value.shape[-1])
    # torch's CPU kernel rounds the weights to half precision; the kernels of CUDA are made for half precision.
    dtype = value.dtype if query.is_cuda else torch.promote_types(value.dtype, torch.float32)
    q, k, v = (_padded(rows.to(dtype), width).unsqueeze(1) for rows in (query, key, value))
    averaged = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return averaged.squeeze(1)[..., : value.shape[-1]].to(value.dtype)


def _padded(rows: Tensor, width: int) -> Tensor:
    """Pad rows with zeros to `width`: zeros change no score and no average.

    torch's kernels of linear memory need query, key and value of one width and with unit last stride; for anything else
    it takes the quadratic path without a warning.
    """
    padded = F.pad(rows, (0, width - rows.shape[-1]))
    return padded.contiguous(memory_format=torch.contiguous_format)


class _ByTiles(Function):
    """The average over tiles of queries and keys, with a backward pass that computes the weights once more.

    It returns the averages in single precision at least, and what `_average` returns beside them.
    """

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor) -> _Two:
        with without_autocast(query.device.type):
            samples = [_average(*sample) for sample in _samples(query, key, value)]
            averaged, log_sums = (torch.cat(parts) for parts in zip(*samples, strict=True))
        return averaged, log_sums

    @staticmethod
    def setup_context(ctx: Any, inputs: _Three, output: _Two) -> None:  # noqa: ANN401
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> _Three:  # noqa: ANN401
        gradient = plain(gradients[0])
        saved = ctx.saved_tensors  # read once: checkpointing allows no more
        query, key, value = saved[:3]
        with without_autocast(gradient.device.type):
            if torch.is_grad_enabled():  # the gradients themselves will be differentiated
                d_query, d_key, d_value = _stored_gradients(query, key, value, gradient)
            else:
                samples = [_gradients(*sample) for sample in _samples(*saved, gradient)]
                d_query, d_key, d_value = (torch.cat(parts) for parts in zip(*samples, strict=True))
        return d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *rows: Tensor) -> tuple[_Two, tuple[int, int]]:  # noqa: ANN401
        """Let ``torch.func.vmap`` put its axis into the batch."""
        mapped = info.batch_size
        flat = (
            one.expand(mapped, *one.shape) if dim is None else one.movedim(dim, 0)
            for one, dim in zip(rows, in_dims, strict=True)
        )
        averaged, log_sums = (
            found.reshape(mapped, -1, *found.shape[1:])
            for found in _by_tiles(*(one.flatten(0, 1) for one in flat))
        )
        return (averaged, log_sums), (0, 0)


_by_tiles: Callable[..., _Two] = _ByTiles.apply  # torch leaves it untyped


def _average(query: Tensor, key: Tensor, value: Tensor) -> _Two:
    """Return the averages, and the logarithm (base 2) of the sum that each row of weights was divided by."""
    query, key, value = (_wide(rows) for rows in (query, key, value))
    groups = _num_groups(query)
    # Powers of 2, not of e: the factor costs nothing here, and torch's exp takes 20 times as long on some processors.
    grouped = _grouped(_LOG2_E * query, groups)
    buffer, averages, log_sums = _buffer(grouped, key), [], []
    columns = torch.split(_repeated(key.mT.contiguous(), groups), _SIDE, dim=2)
    values_of = torch.split(_repeated(value, groups), _SIDE, dim=1)
    for rows in torch.split(grouped, _SIDE, dim=1):
        highest = rows.new_full((*rows.shape[:2], 1), -math.inf)
        total, summed = torch.zeros_like(highest), rows.new_zeros(*rows.shape[:2], value.shape[2])
        for keys, values in zip(columns, values_of, strict=True):
            scores = torch.bmm(rows, keys, out=_tile(buffer, rows, keys))
            higher = torch.maximum(highest, scores.amax(dim=2, keepdim=True))
            shrink, highest = torch.exp2(highest - higher), higher
            weights = torch.exp2(scores.sub_(highest), out=scores)
            total = total.mul_(shrink).add_(weights.sum(dim=2, keepdim=True))
            summed = summed.mul_(shrink).baddbmm_(weights, values)
        averages.append(summed.div_(total))
        log_sums.append(highest + total.log2())
    return _ungrouped(averages, query.shape), _ungrouped(log_sums, query.shape)


def _gradients(
    query: Tensor, key: Tensor, value: Tensor, averaged: Tensor, log_sums: Tensor, gradient: Tensor
) -> _Three:
    """Return the gradients with respect to query, key and value.

    With the weights ``W`` and the gradient ``G`` of the output ``O``, row by row::

        dV = Wᵀ G,   dS = W · (G Vᵀ − Σ G · O),   dQ = dS K,   dK = dSᵀ Q

    Both differences, that in dS and that in the exponent of W, are computed by products that add to them.
    """
    query, key, value, gradient = (_wide(rows) for rows in (query, key, value, gradient))
    groups = _num_groups(query)
    minus_dots = -(gradient * averaged).sum(dim=2, keepdim=True)
    parts = (query, _LOG2_E * query, -log_sums, gradient, minus_dots)
    grouped = [_grouped(part, groups) for part in parts]
    d_query = torch.zeros_like(grouped[0].mT, memory_format=torch.contiguous_format)
    rows = [torch.split(part, _SIDE, dim=1) for part in grouped]
    columns = [torch.split(part.mT, _SIDE, dim=2) for part in (key, value)]
    buffer, other_buffer, d_keys, d_values = _buffer(grouped[0], key), _buffer(grouped[0], key), [], []
    for pair in zip(*columns, strict=True):
        keys, values = (_repeated(part.contiguous(), groups) for part in pair)
        d_key, d_value = torch.zeros_like(keys), torch.zeros_like(values)
        for q, scaled, minus_log_sum, g, minus_dot, d_q in zip(
            *rows, torch.split(d_query, _SIDE, dim=2), strict=True
        ):
            scores = torch.baddbmm(minus_log_sum, scaled, keys, out=_tile(buffer, q, keys))
            weights = torch.exp2(scores, out=scores)
            d_value.baddbmm_(g.mT, weights)
            d_scores = torch.baddbmm(minus_dot, g, values, out=_tile(other_buffer, q, keys)).mul_(weights)
            d_q.baddbmm_(keys, d_scores.mT)
            d_key.baddbmm_(q.mT, d_scores)
        d_keys.append(_summed(d_key, groups))
        d_values.append(_summed(d_value, groups))
    return _ungrouped([d_query.mT], query.shape), torch.cat(d_keys, dim=2).mT, torch.cat(d_values, dim=2).mT


def _num_groups(query: Tensor) -> int:
    """Return into how many groups to split the queries: one thread on its own tile is faster than two on one tile."""
    single = len(query) == 1 and query.device.type == "cpu"
    return min(torch.get_num_threads(), query.shape[1]) if single else 1


def _grouped(rows: Tensor, groups: int) -> Tensor:
    """Return the rows of one sample as a batch of `groups`; rows of zeros, which change nothing, fill the last one."""
    if groups == 1:
        return rows
    return F.pad(rows, (0, 0, 0, -rows.shape[1] % groups)).reshape(groups, -1, rows.shape[2])


def _repeated(columns: Tensor, groups: int) -> Tensor:
    """Give every group the same keys or values."""
    return columns if groups == 1 else columns.expand(groups, -1, -1)


def _ungrouped(parts: Sequence[Tensor], shape: torch.Size) -> Tensor:
    """Return the rows of all groups in their original order, without those that filled the last group."""
    rows = torch.cat(list(parts), dim=1).flatten(0, 1)
    return rows[: shape[0] * shape[1]].reshape(shape[0], shape[1], -1)


def _summed(columns: Tensor, groups: int) -> Tensor:
    """Add up what the groups have for the same keys or values."""
    return columns if groups == 1 else columns.sum(dim=0, keepdim=True)


def _buffer(rows: Tensor, key: Tensor) -> Tensor:
    """Return memory for one tile: to get fresh memory from the system takes as long as a product that fills it."""
    return rows.new_empty(len(rows) * min(_SIDE, rows.shape[1]) * min(_SIDE, key.shape[1]))


def _tile(buffer: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the part of the buffer for the scores of these rows and columns."""
    shape = (len(rows), rows.shape[1], columns.shape[2])
    return buffer[: math.prod(shape)].view(shape)


def _stored_gradients(query: Tensor, key: Tensor, value: Tensor, gradient: Tensor) -> _Three:
    """Return what `_gradients` does by stored weights, which torch can differentiate any number of times."""
    query, key, value, gradient = (_wide(rows) for rows in (query, key, value, gradient))
    weights, d_weights = stored_weights(query, key), gradient @ value.mT
    d_scores = weights * (d_weights - (weights * d_weights).sum(dim=2, keepdim=True))
    return d_scores @ key, d_scores.mT @ query, weights.mT @ gradient


def _wide(rows: Tensor) -> Tensor:
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def _samples(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the batch in parts: as many samples as fit into a tile, so that small maps take one step for all."""
    queries, keys = tensors[0].shape[1], tensors[1].shape[1]
    at_once = max(1, _SIDE**2 // max(1, queries * keys))
    return zip(*(torch.split(tensor, at_once) for tensor in tensors), strict=True)
