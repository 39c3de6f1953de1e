"""torch.export takes blocks and network once for all sizes, and ONNX Runtime finds the same numbers."""

import onnxruntime
import pytest
import torch
from tests.export.conftest import NETWORKS, images, needs_recent_torch, network
from torch.export import Dim

pytestmark = [
    pytest.mark.graph,
    needs_recent_torch,
    # torch 2.13 copies an exported program by way of a class that it deprecates itself.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]

DYNAMIC = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)


def _session(exported):
    """Return a function that runs an exported network in ONNX Runtime."""
    session = onnxruntime.InferenceSession(
        exported.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    return lambda x: torch.from_numpy(session.run(None, {given.name: x.numpy()})[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_program_and_onnx_give_the_same_numbers_at_other_sizes(name):
    module, (example, others) = network(name), images(name)
    expected = [module(x) for x in others]
    program = torch.export.export(module, (example,), dynamic_shapes=DYNAMIC)
    run = program.module()
    # The energies of CAM are sums over hundreds of positions, and their rounding stands in an exponent.
    atol = 2e-5 if name == "PAM" else 1e-4
    torch.testing.assert_close([run(x) for x in others], expected, rtol=0, atol=atol)
    run = _session(torch.onnx.export(program, dynamo=True, verbose=False))
    torch.testing.assert_close([run(x) for x in others], expected, rtol=0, atol=atol)


def test_onnx_takes_a_block_without_a_program_and_names_its_axes():
    block, (example, others) = network("PAM"), images("PAM")
    exported = torch.onnx.export(
        block,
        (example,),
        dynamo=True,
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        verbose=False,
    )
    assert [str(side) for side in exported.model.graph.inputs[0].shape] == ["batch", "3", "height", "width"]
    run = _session(exported)
    torch.testing.assert_close([run(x) for x in others], [block(x) for x in others], rtol=0, atol=2e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # the trace is for one size
@pytest.mark.parametrize("name", NETWORKS)
def test_a_trace_is_stored_and_gives_the_same_numbers(name, tmp_path):
    module, (example, _) = network(name), images(name)
    torch.jit.trace(module, example).save(tmp_path / "traced.pt")
    traced = torch.jit.load(tmp_path / "traced.pt")
    torch.testing.assert_close(traced(example), module(example), rtol=0, atol=1e-4)
