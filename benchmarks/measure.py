"""One measurement, in a process of its own: `python -m benchmarks.measure SPEC` prints a result as JSON.

Seconds are those of one pass, after a first pass on a small input that loads kernels and makes the optimizer's state.
Memory is what the process held before the pass (weights, the optimizer's state, inputs), and the most it held in it.
"""

import ctypes
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from benchmarks import entries
from benchmarks.rows import NOT_RUN, Spec

__all__ = ["held_bytes", "measured", "one_pass", "peak_bytes", "prepared"]


def _surfaces(spec: Spec) -> entries.Work:
    from benchmarks import surfaces  # noqa: PLC0415

    return surfaces.scored(spec)


_PASSES: Mapping[str, tuple[Callable[[Spec], entries.Work], int]] = {
    "attention": (entries.attention, 8),
    "training": (entries.training, 64),
    "evaluation": (entries.evaluation, 64),
    "surfaces": (_surfaces, 1),
}
"""What builds the work of each task, and the side of the small input."""

_KIB_A_MB, _MB = 1024, 2**20
_STATUS = Path("/proc/self/status")
_NO_ROOM = (
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
    "alloc_failed",
    "could not create a memory",
)


def main() -> None:
    """Measure the spec on the command line."""
    print(json.dumps(measured(Spec(**json.loads(sys.argv[1])))))


def measured(spec: Spec) -> dict[str, float | str]:
    """Return the result of one measurement, or the reason why there is none."""
    torch.set_num_threads(spec.threads)
    if spec.device == "cpu":
        _stay_within(_available_bytes())
    try:
        return one_pass(spec) if spec.task in _PASSES else _counted(spec)
    except entries.Unavailable as reason:
        return {NOT_RUN: str(reason)}
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_ROOM):
            return {NOT_RUN: f"did not fit: {str(error).splitlines()[0]}"}
        raise


def one_pass(spec: Spec) -> dict[str, float]:
    """Time one pass and watch its memory."""
    work = prepared(spec)
    cuda = spec.device.startswith("cuda")
    held = held_bytes(cuda=cuda)
    started = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = peak_bytes(cuda=cuda)
    return {
        "seconds": seconds,
        "peak_mb": peak / _MB,
        "over_start_mb": (peak - held) / _MB,
    }


def prepared(spec: Spec) -> Callable[[], object]:
    """Build weights and inputs, make the passes that warm up, and return the one that counts."""
    build, small = _PASSES[spec.task]
    at = build(spec)
    at(small)()
    if spec.device.startswith("cuda"):  # its kernels are chosen for each shape, and loaded when first wanted
        at(spec.side)()
    return at(spec.side)


def _counted(spec: Spec) -> dict[str, float]:
    """Make what is no pass of a block or a network; these parts are read late, so that a pass does not hold them."""
    from benchmarks import ceilings, learning  # noqa: PLC0415

    makers = {
        "ceilings": ceilings.ceilings,
        "counts of attention": ceilings.counts_of_attention,
        "counts of training": ceilings.counts_of_training,
        "counts of evaluation": ceilings.counts_of_evaluation,
        "learning": learning.learned,
    }
    return makers[spec.task](spec)


def held_bytes(*, cuda: bool) -> int:
    """Return what is held now, and begin the count of the most that is held anew."""
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if not _STATUS.is_file():
        return peak_bytes(cuda=False)
    # Memory that was freed while the weights were built goes back to the system: it is not held.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def peak_bytes(*, cuda: bool) -> int:
    """Return the most that was held.

    On Linux this is the kernel's count for this program alone: the one of `getrusage` begins with what the process
    that started it held. Elsewhere `getrusage` has to do.
    """
    if cuda:
        return torch.cuda.max_memory_allocated()
    if _STATUS.is_file():
        return _status_bytes("VmHWM")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * _KIB_A_MB


def _status_bytes(field: str) -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) * _KIB_A_MB


def _stay_within(size: int | None) -> None:
    """Make an allocation beyond the machine's memory an error of this process, not the machine's end."""
    if size is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (size, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _available_bytes() -> int | None:
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * _KIB_A_MB


if __name__ == "__main__":
    main()
