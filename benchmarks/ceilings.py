"""What this machine can do at most, measured, and what attention and network have to do at least, counted."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import entries
from benchmarks.limits import attention_counts
from benchmarks.rows import Spec
from guided_attention import MSGA, PAM

__all__ = ["ceilings", "counts_of_attention", "counts_of_evaluation", "counts_of_training"]

_TRIES = 10
_IN_CACHE = 2**18
_ADAM_BYTES = 40
"""Of each weight, 4 bytes at a time: read in the forward and in the backward pass, its gradient written; Adam reads
weight, gradient and two averages, and writes weight and averages."""


def ceilings(spec: Spec) -> dict[str, float]:
    """Return the best of ten for products of square matrices, copies of memory and, on a CPU, exponentials."""
    cuda = spec.device.startswith("cuda")
    side, copied = (8192, 2**28) if cuda else (2048, 2**26)
    rates = {}
    for name, dtype in entries.DTYPES.items():
        a, b = (torch.randn(side, side, device=spec.device).to(dtype) for _ in range(2))
        rates[f"{name}_flops_a_second"] = 2 * side**3 / _best(lambda a=a, b=b: a @ b, cuda=cuda)
    source, target = (torch.zeros(copied, device=spec.device) for _ in range(2))
    rates["bytes_a_second"] = 2 * 4 * copied / _best(lambda: target.copy_(source), cuda=cuda)
    if not cuda:  # there torch's own exponential waits for memory, and is no ceiling
        x = torch.randn(_IN_CACHE)
        y = torch.empty_like(x)
        rates["exponentials_a_second"] = _IN_CACHE / _best(lambda: torch.exp(x, out=y), cuda=cuda, inner=20)
    return rates


def counts_of_attention(spec: Spec) -> dict[str, float]:
    """Count what PAM on a map has to do, by formula."""
    return attention_counts(spec.side**2, spec.batch, spec.part, item_bytes=_item_bytes(spec))


def counts_of_training(spec: Spec) -> dict[str, float]:
    """Count what a training step in the original's layout has to do.

    The backward pass has twice the products of the forward pass, for the gradients of inputs and of weights. (torch's
    own count of a backward pass takes the weights of a grouped convolution for those of a full one.) Bytes: the weights
    as in `_ADAM_BYTES`, and what every convolution reads, written in the forward pass and read again in the backward
    pass.
    """
    model = MSGA(encoder="resnext101_32x8d", shared_guide=False)
    flops, attentions, read = _forward(model, model.outputs, spec)
    weights = sum(parameter.numel() for parameter in model.parameters())
    found = {
        "flops": 3 * flops,
        "exponentials": 0.0,
        "bytes": _ADAM_BYTES * weights + 2 * _item_bytes(spec) * read,
    }
    return _with_attention(found, attentions, spec.batch, "both")


def counts_of_evaluation(spec: Spec) -> dict[str, float]:
    """Count what a forward pass in evaluation mode has to do. Bytes: the weights; maps can stay in the cache."""
    model = MSGA(encoder="resnext101_32x8d", shared_guide=False).eval()
    with torch.no_grad():
        flops, attentions, _ = _forward(model, model, spec)
    weights = sum(parameter.numel() for parameter in model.parameters())
    found = {"flops": flops, "exponentials": 0.0, "bytes": 4.0 * weights}
    return _with_attention(found, attentions, spec.batch, "forward")


def _forward(
    model: nn.Module, run: Callable[[Tensor], object], spec: Spec
) -> tuple[float, list["_Passed"], float]:
    """Return the products of a forward pass, the position attentions that it met, and what its convolutions read.

    torch counts the products of convolutions and channel attention on tensors without contents, so that nothing is
    computed. Position attention is counted by formula, whatever way it is computed, so it is taken out.
    """
    attentions = _without_attention(model)
    inputs = _inputs_of_convolutions(model)
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        run(torch.empty(spec.batch, 1, spec.side, spec.side))
    return float(counter.get_total_flops()), attentions, sum(x.numel() for x in inputs.values())


def _with_attention(
    counts: dict[str, float], attentions: Sequence["_Passed"], batch: int, part: str
) -> dict[str, float]:
    """Add to the counts what position attention has to do; its maps are counted among those of the convolutions."""
    for attention in attentions:
        for name, count in attention_counts(attention.positions, batch, part).items():
            counts[name] += 0 if name == "bytes" else count
    return counts


class _Passed(nn.Module):
    """Stands where a position attention stood, hands its input on and remembers how many positions it had."""

    positions = 0

    def forward(self, x: Tensor) -> Tensor:
        self.positions = x.shape[2:].numel()
        return x


def _without_attention(model: nn.Module) -> list[_Passed]:
    """Take the position attentions out of a network, and return what stands in their places."""
    places = [
        (branch, name)
        for branch in model.modules()
        for name, child in branch.named_children()
        if isinstance(child, PAM)
    ]
    for branch, name in places:
        setattr(branch, name, _Passed())
    return [getattr(branch, name) for branch, name in places]


def _inputs_of_convolutions(model: nn.Module) -> dict[int, Tensor]:
    """Return a dictionary that a forward pass fills with what convolutions read, each map once."""
    inputs: dict[int, Tensor] = {}

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs[id(given[0])] = given[0]  # held, so that no other map gets its number

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_pre_hook(note)
    return inputs


def _item_bytes(spec: Spec) -> int:
    return entries.DTYPES[spec.precision].itemsize


def _best(run: Callable[[], object], *, cuda: bool, inner: int = 1) -> float:
    """Return the seconds of the fastest of ten runs, after one that is not counted."""
    run()
    times = []
    for _ in range(_TRIES):
        _wait(cuda=cuda)
        started = time.perf_counter()
        for _ in range(inner):
            run()
        _wait(cuda=cuda)
        times.append((time.perf_counter() - started) / inner)
    return min(times)


def _wait(*, cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()
