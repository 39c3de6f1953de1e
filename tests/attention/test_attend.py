"""attend: equal to the sum written out, exact symmetries, linear memory."""

import math
import subprocess
import sys

import pytest
import torch
from tests.modules import drawn
from tests.reference import attention as twin
from torch.profiler import ProfilerActivity, profile

from guided_attention.attention import attend

module = sys.modules["guided_attention.attention.attend"]  # the package holds the function by the same name


@pytest.mark.parametrize(("head_width", "channels"), [(3, 11), (11, 3), (5, 5), (1, 1)])
def test_equals_the_sum_written_out(head_width, channels):
    query, key, value = (
        drawn(2, 7, head_width),
        drawn(2, 13, head_width, seed=2),
        drawn(2, 13, channels, seed=3),
    )
    torch.testing.assert_close(attend(query, key, value), twin.attend(query, key, value))


@pytest.mark.parametrize("threads", [1, 2, 5, 64])
@pytest.mark.parametrize("side", [3, 8, 512])
def test_neither_threads_nor_tiles_change_the_result(threads, side, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(module, "_SIDE", side)
    query, key, value = drawn(1, 11, 3), drawn(1, 17, 3, seed=2), drawn(1, 17, 5, seed=3)
    torch.testing.assert_close(attend(query, key, value), twin.attend(query, key, value))


def test_two_keys_worked_out_by_hand():
    query = torch.tensor([[[1.0]]])
    key = torch.tensor([[[0.0], [1.0]]])
    value = torch.tensor([[[10.0], [20.0]]])
    share = math.e / (1 + math.e)
    torch.testing.assert_close(attend(query, key, value), torch.tensor([[[10.0 + 10.0 * share]]]))


def test_shuffling_the_keys_with_their_values_changes_nothing():
    query, key, value = drawn(2, 7, 3), drawn(2, 13, 3, seed=2), drawn(2, 13, 5, seed=3)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attend(query, key[:, order], value[:, order]), attend(query, key, value))


def test_shuffling_the_queries_shuffles_the_answers():
    query, key, value = drawn(2, 7, 3), drawn(2, 13, 3, seed=2), drawn(2, 13, 5, seed=3)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attend(query[:, order], key, value), attend(query, key, value)[:, order])


def test_scores_of_hundreds_do_not_overflow():
    query, key, value = 100 * drawn(1, 5, 3), 100 * drawn(1, 7, 3, seed=2), drawn(1, 7, 2, seed=3)
    torch.testing.assert_close(attend(query, key, value), twin.attend(query, key, value))


def inputs(queries, keys, *, batch=1, head_width=2, channels=3, dtype=torch.float64):
    shapes = ((queries, head_width), (keys, head_width), (keys, channels))
    return [drawn(batch, n, c, seed=i, dtype=dtype).requires_grad_() for i, (n, c) in enumerate(shapes)]


# From one position up, within a tile and across several, in two tiles of one sample and one of several samples. Threads
# share the queries of one sample only.
@pytest.mark.parametrize(
    ("queries", "keys", "batch", "threads"),
    [(1, 1, 1, 1), (1, 1, 1, 3), (7, 1, 1, 1), (7, 1, 1, 3), (3, 5, 1, 3), (1, 7, 2, 1), (3, 5, 2, 1)],
)
@pytest.mark.parametrize("side", [2, 3, 11])
def test_first_and_second_derivatives_across_tiles(queries, keys, batch, side, threads, monkeypatch):
    monkeypatch.setattr(module, "_SIDE", side)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.autograd.gradcheck(attend, inputs(queries, keys, batch=batch))
    assert torch.autograd.gradgradcheck(attend, inputs(min(queries, 3), min(keys, 5), batch=batch))


@pytest.mark.parametrize("moved", [(0, None, None), (None, 1, None), (None, None, 2), (0, 1, 2)])
def test_vmap_over_each_of_the_three_and_over_all(moved):
    parts = [
        rows.detach() if dim is None else torch.stack([rows.detach(), rows.detach() + 1], dim)
        for rows, dim in zip(inputs(5, 7, batch=3), moved, strict=True)
    ]
    expected = [
        twin.attend(
            *(rows if dim is None else rows.select(dim, i) for rows, dim in zip(parts, moved, strict=True))
        )
        for i in range(2)
    ]
    torch.testing.assert_close(torch.func.vmap(attend, moved)(*parts), torch.stack(expected))


def test_torch_func_takes_gradients_of_each_sample_and_jacobians():
    parts = [rows.detach() for rows in inputs(5, 7, batch=2)]

    def stored(query, key, value):
        return torch.softmax(query @ key.mT, dim=-1) @ value

    def of_each(function):
        def lost(*sample):
            return function(*(rows[None] for rows in sample)).square().sum()

        return torch.func.vmap(torch.func.grad(lost, (0, 1, 2)))(*parts)

    torch.testing.assert_close(of_each(attend), of_each(stored))
    jacobians = (torch.func.jacrev(function, (0, 1, 2))(*parts) for function in (attend, stored))
    torch.testing.assert_close(*jacobians)


def exact(query, key, value, gradient):
    """Value and gradients by stored weights in double precision."""
    wide = [rows.detach().double().requires_grad_() for rows in (query, key, value)]
    out = torch.softmax(wide[0] @ wide[1].mT, dim=-1) @ wide[2]
    return [out.detach(), *torch.autograd.grad(out, wide, gradient.double())]


def found(function, query, key, value, gradient):
    leaves = [rows.detach().requires_grad_() for rows in (query, key, value)]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]


def as_they_are(rows):
    return rows


def from_a_map(rows):
    return rows.mT.contiguous().mT


def every_other(rows):
    return rows.repeat_interleave(2, dim=1)[:, ::2]


KINDS = {
    "random": lambda rows, _: rows,
    "constant": lambda rows, _: torch.ones_like(rows),
    "one of many": lambda rows, part: (
        rows if part == 2 else 12 * torch.eye(rows.shape[2]).repeat(51, 1)[None, : rows.shape[1]]
    ),
    "tiny": lambda rows, _: rows,
}


@pytest.mark.parametrize("path", [attend, module._by_torch])
@pytest.mark.parametrize(
    ("dtype", "limit", "tiny"),
    # Of products of smaller numbers float16 has no gradient left.
    [(torch.float32, 1e-5, 1e-6), (torch.bfloat16, 2.5e-3, 1e-6), (torch.float16, 2.5e-3, 1e-2)],
)
@pytest.mark.parametrize("layout", [as_they_are, from_a_map, every_other])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positions", [1, 401])
def test_every_path_is_exact(path, dtype, limit, tiny, layout, kind, positions):
    """Relative to the exact value; of a gradient that is zero by cancellation, to what cancels."""
    scale = tiny if kind == "tiny" else 1.0
    parts = [scale * drawn(2, positions, c, seed=i) for i, c in enumerate((8, 8, 61))]
    query, key, value = (
        layout(KINDS[kind](rows, i).expand_as(rows).to(dtype)) for i, rows in enumerate(parts)
    )
    gradient = drawn(2, positions, 61, seed=9).to(dtype)
    wanted, got = exact(query, key, value, gradient), found(path, query, key, value, gradient)
    cancels = (
        value.double().norm()
        * gradient.double().norm()
        * max(query.double().abs().max(), key.double().abs().max())
        / positions**0.5
    )
    for i, (ours, true) in enumerate(zip(got, wanted, strict=True)):
        assert ours.dtype == dtype
        size = max(true.norm(), cancels if 0 < i < 3 else 0)
        assert (ours.double() - true).norm() <= limit * size, ("out", "query", "key", "value")[i]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_beyond_half_precision_do_not_overflow(dtype):
    """300 · 300 · 8 is above 65,504, the largest number in float16."""
    query, key = (300 * torch.eye(8, dtype=dtype)[None] for _ in range(2))
    value = drawn(1, 8, 5, dtype=dtype)
    torch.testing.assert_close(attend(query, key, value), value)


def test_autocast_changes_nothing():
    parts = inputs(13, 17, dtype=torch.float32)
    expected = found(attend, *parts, drawn(1, 13, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = found(attend, *parts, drawn(1, 13, 3))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def ran(function, dtype):
    """Return what torch ran for strided inputs of unlike widths, as projections give them."""
    query, key, value = (drawn(2, c, 1013, seed=c, dtype=dtype).requires_grad_() for c in (8, 8, 64))
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        function(query.mT, key.mT, value.mT).sum().backward()
    return profiled.key_averages(group_by_input_shape=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_torch_takes_its_linear_memory_kernel(dtype):
    """Of inputs as they come it would quietly take the quadratic path."""
    names = {event.key for event in ran(module._by_torch, dtype)}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in names
    assert "aten::_scaled_dot_product_flash_attention_for_cpu_backward" in names
    assert "aten::_scaled_dot_product_attention_math" not in names


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tiles_never_hold_all_weights(dtype):
    events = ran(attend, dtype)
    assert not {event.key for event in events if "attention" in event.key}
    largest = max(math.prod(shape) for event in events for shape in event.input_shapes if shape)
    assert largest <= 1014 * module._SIDE


_PEAK = """
import resource, torch
from guided_attention import PAM
torch.set_num_threads(1)
pam = PAM(64)
torch.nn.init.ones_(pam.gate)
x = torch.randn(1, 64, {side}, {side}, requires_grad=True)
pam(torch.randn(1, 64, 8, 8, requires_grad=True)).sum().backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pam(x).sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_position_attention_on_128_by_128_takes_less_than_150_mb():
    """A stored softmax takes 3 GB: 16,384 x 16,384 weights of four bytes, three times over."""
    out = subprocess.run(
        [sys.executable, "-c", _PEAK.format(side=128)], capture_output=True, text=True, check=True
    )
    assert float(out.stdout) <= 150
