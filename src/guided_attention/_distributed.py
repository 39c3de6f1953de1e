"""What several processes exchange, on torch.distributed; a single process exchanges nothing."""

import atexit
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from guided_attention._checks import require
from guided_attention.errors import GuidedAttentionError, ProcessLostError

__all__ = [
    "apart",
    "by_all",
    "by_first",
    "copy_from_first",
    "from_all",
    "from_first",
    "hurry",
    "is_pooling",
    "join",
    "leave",
    "numbers_of_all",
    "own_device",
    "pooled",
    "pooling",
    "rank",
    "rows_of_all",
    "share_of",
    "started",
    "to_one",
    "together",
    "total",
    "world_size",
]

_T = TypeVar("_T")

_TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others: the longest that their shares of a validation may differ by."""
_LOOK_UP, _GRACE_S = timedelta(seconds=1), 10.0
"""How often a waiting process looks for signals, and how long it waits after one: torchrun kills after 30 s."""
_CURE = "Start the processes with torchrun, or unset WORLD_SIZE for one."

_is_pooling = False
_is_alone = False
_deadline: float | None = None


def join() -> None:
    """Join the processes that ``torchrun`` has started, where there are several; once."""
    _, count = started()
    if _is_alone or _is_initialized() or count == 1:
        return
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    require(not missing, "WORLD_SIZE", "1 without torchrun", f"{count} and no {', '.join(missing)}", _CURE)
    # What is decided goes over gloo even where gradients go over nccl: a dead process is noticed before a step begins.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(own_device())
    distributed.init_process_group(backend, timeout=_TIMEOUT)
    atexit.register(leave)


def started() -> tuple[int, int]:
    """Return the number of this process and of all that ``torchrun`` has started, whether they have joined or not.

    One of several that does not know its number would do the work of another: it raises.
    """
    texts = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")]
    place, count = (int(text) if text.isascii() and text.isdecimal() else -1 for text in texts)
    if count <= 1:
        return 0, 1
    wanted = f"from 0 to {count - 1} with WORLD_SIZE={count}"
    require(0 <= place < count, "RANK", wanted, repr(texts[0]), _CURE)
    return place, count


@contextmanager
def apart() -> Iterator[None]:
    """Let this process work by itself, as if ``torchrun`` had started no other."""
    global _is_alone  # noqa: PLW0603 - there is one group of processes
    before, _is_alone = _is_alone, True
    try:
        yield
    finally:
        _is_alone = before


def leave() -> None:
    """Leave the group that `join` has made."""
    if _is_initialized():
        distributed.destroy_process_group()


def own_device() -> torch.device:
    """Return the GPU of this process: the current one, or one for each process on a machine, by ``LOCAL_RANK``."""
    place = os.environ.get("LOCAL_RANK", "")
    return (
        torch.device("cuda", int(place) % torch.cuda.device_count())
        if place.isdecimal()
        else torch.device("cuda")
    )


def _is_initialized() -> bool:
    return not _is_alone and distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Return the number of this process, 0 where there is only one."""
    return distributed.get_rank() if _is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if _is_initialized() else 1


def share_of(count: int) -> slice:
    """Return the part of `count` things in a row that is this process's: sizes differ by one at most.

    >>> share_of(7)
    slice(0, 7, None)
    """
    return slice(count * rank() // world_size(), count * (rank() + 1) // world_size())


def from_all(mine: _T) -> list[_T]:
    """Return what each process passes, in the order of their ranks: on every process, so that all must call it."""
    if not _is_initialized():
        return [mine]
    everyone = [mine] * world_size()
    with _watching():
        distributed.all_gather_object(everyone, mine)
    return everyone


def by_all(work: Callable[[], _T]) -> list[_T]:
    """Let each process work, and return all results; or raise the first error on each, for none to wait in vain."""
    results: list[_T] = []
    error: GuidedAttentionError | None = None
    try:
        results = [work()]
    except GuidedAttentionError as refused:
        error = refused
    answers = from_all((results, error))
    for place, (_, refusal) in enumerate(answers):
        if refusal is not None:
            refusal.elsewhere = place != rank()
            raise refusal
    return [result for part, _ in answers for result in part]


def together(work: Callable[[], _T]) -> _T:
    """Let each process work, and return its own result; or raise the first error on each."""
    results: list[_T] = []
    by_all(lambda: results.append(work()))
    return results[0]


def to_one(mine: _T, receiver: int) -> list[_T]:
    """Return what each process passes on the receiver, and nothing on the others; all must call it."""
    if not _is_initialized():
        return [mine]
    everyone = [mine] * world_size() if rank() == receiver else None
    with _watching():
        distributed.gather_object(mine, everyone, dst=receiver)
    return everyone or []


def from_first(mine: _T) -> _T:
    """Return what the first process passes."""
    return by_first(lambda: mine)


def by_first(work: Callable[[], _T]) -> _T:
    """Let the first process work, and return its result or raise its error on each."""
    if world_size() == 1:
        return work()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = work()
        except Exception as error:  # noqa: BLE001 - raised below, by all
            outcome[1] = error
    with _watching():
        distributed.broadcast_object_list(outcome, src=0)
    if isinstance(outcome[1], GuidedAttentionError):
        outcome[1].elsewhere = rank() > 0
    if outcome[1] is not None:
        raise outcome[1]
    result: _T = outcome[0]
    return result


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of the first process."""
    if _is_initialized():
        with _watching():
            for tensor in tensors:
                distributed.broadcast(tensor.detach(), src=0)


def numbers_of_all(mine: Sequence[float]) -> list[list[float]]:
    """Return as many numbers from each process: quicker than `from_all`."""
    if not _is_initialized():
        return [list(mine)]
    rows = torch.zeros(world_size(), len(mine), dtype=torch.float64)
    rows[rank()] = torch.tensor(mine, dtype=torch.float64)
    found: list[list[float]] = total(rows).tolist()
    return found


def total(x: Tensor) -> Tensor:
    """Return the sum over all processes, without gradient; the same bits on each."""
    if not _is_initialized():
        return x
    summed = x.detach().clone(memory_format=torch.contiguous_format)
    with _watching():
        work = distributed.all_reduce(summed, async_op=True)
        # One that blocked here would not see a signal until the end of its time.
        while not x.is_cuda and not work.is_completed():
            _require_time()
            with suppress(RuntimeError):
                work.wait(_LOOK_UP)
        work.wait()
    return summed


class _Total(torch.autograd.Function):
    """The sum over all processes; so is the gradient, of the sum of what all compute from it."""

    @staticmethod
    def forward(_context: object, x: Tensor) -> Tensor:
        return total(x)

    @staticmethod
    def backward(_context: object, *gradients: Tensor) -> Tensor:
        return total(gradients[0])


@contextmanager
def pooling() -> Iterator[None]:
    """Let batch norms and losses of the library see the batches of all processes as one; all must compute the same."""
    global _is_pooling  # noqa: PLW0603 - the threads of the backward pass must see it
    before, _is_pooling = _is_pooling, world_size() > 1
    if _is_pooling:
        _leave_out_of_graphs()
    try:
        yield
    finally:
        _is_pooling = before


def is_pooling() -> bool:
    """Return whether sums are over the batches of all processes."""
    return _is_pooling


def pooled(x: Tensor) -> Tensor:
    """Return the sum of what each process passes where these are parts of one batch, with a gradient; else `x`."""
    return _total_with_gradient(x) if _is_pooling else x


def _sum_with_gradient(x: Tensor) -> Tensor:
    summed: Tensor = _Total.apply(x)  # type: ignore[no-untyped-call]  # torch leaves it open
    return summed


_total_with_gradient = _sum_with_gradient


def _leave_out_of_graphs() -> None:
    """Hide the sum from torch.compile: only here, as this imports the compiler, which takes seconds."""
    global _total_with_gradient  # noqa: PLW0603 - once a process
    if _total_with_gradient is _sum_with_gradient:
        _total_with_gradient = torch.compiler.disable(_sum_with_gradient)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def rows_of_all(x: Tensor) -> Tensor:
    """Return one row a process, ``(processes, *x.shape)``, with a gradient."""
    mine = torch.arange(world_size(), device=x.device) == rank()
    return pooled(torch.where(mine.view(-1, *(1,) * x.ndim), x, 0))


def hurry(*, now: bool = True) -> None:
    """Wait no longer for the others than a moment: there was a signal, and who has not come by then is dead.

    Without `now`, wait as usual again.
    """
    global _deadline  # noqa: PLW0603 - signals come at any time
    _deadline = time.monotonic() + _GRACE_S if now else None


def _require_time() -> None:
    if _deadline is not None and time.monotonic() > _deadline:
        raise RuntimeError("Another process did not answer after a signal.")


@contextmanager
def _watching() -> Iterator[None]:
    """Note that this process is the only one from now on where another cannot be reached."""
    global _is_alone  # noqa: PLW0603 - there is one group of processes
    try:
        yield
    except RuntimeError as error:
        _is_alone = True
        message = f"Another process has ended, or cannot be reached ({error}). Its own messages say why."
        raise ProcessLostError(message) from error
