"""torch.compile takes blocks and network whole, once for all sizes, and changes no number."""

import pytest
import torch
from tests.export.conftest import BLOCKS, images, needs_recent_torch, network

pytestmark = [pytest.mark.graph, needs_recent_torch]


def _compiled(module, backend):
    torch.compiler.reset()
    return torch.compile(module, fullgraph=True, dynamic=True, backend=backend)


def _output_and_gradients(call, module, x):
    x = x.clone().requires_grad_()
    out = call(x)
    return out, *torch.autograd.grad(out.square().sum(), [x, *module.parameters()])


@pytest.mark.parametrize("name", BLOCKS)
def test_a_compiled_block_gives_the_same_numbers_and_gradients_at_other_sizes(name):
    block, (example, others) = network(name).double(), images(name, torch.float64)
    compiled = _compiled(block, "aot_eager")
    _output_and_gradients(compiled, block, example)
    with torch.compiler.set_stance("fail_on_recompile"):
        for x in others:
            actual = _output_and_gradients(compiled, block, x)
            torch.testing.assert_close(actual, _output_and_gradients(block, block, x))


def test_a_compiled_network_gives_the_same_numbers_at_other_sizes():
    """The graph runs as it was traced: to take it apart into torch's basic operators too costs half a minute."""
    model, (example, others) = network("MSGA").double(), images("MSGA", torch.float64)
    compiled = _compiled(model, "eager")
    with torch.no_grad():
        compiled(example)
        with torch.compiler.set_stance("fail_on_recompile"):
            for x in others:
                torch.testing.assert_close(compiled(x), model(x))
