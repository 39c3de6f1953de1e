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


@pytest.mark.parametrize(("head_width", "channels"), [(3, 11), (11, 3), (5, 5), (1, 1)])
def test_equals_the_sum_written_out(head_width, channels):
    query, key, value = (
        drawn(2, 7, head_width),
        drawn(2, 13, head_width, seed=2),
        drawn(2, 13, channels, seed=3),
    )
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


def test_gradients():
    inputs = [
        drawn(2, n, c, seed=n, dtype=torch.float64).requires_grad_() for n, c in ((5, 3), (7, 3), (7, 2))
    ]
    assert torch.autograd.gradcheck(attend, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_linear_memory_kernel_runs(dtype):
    """Strided inputs of unlike widths, as projections give them: torch would quietly take the quadratic path."""
    query, key, value = (drawn(2, c, 257, seed=c, dtype=dtype).requires_grad_() for c in (8, 8, 64))
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        attend(query.mT, key.mT, value.mT).sum().backward()
    ran = {event.key for event in profiled.key_averages()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in ran
    assert "aten::_scaled_dot_product_flash_attention_for_cpu_backward" in ran
    assert "aten::_scaled_dot_product_attention_math" not in ran


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
