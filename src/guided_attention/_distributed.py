"""What several processes exchange, on torch.distributed; a single process exchanges nothing."""

from typing import TypeVar

from torch import distributed

__all__ = ["from_all", "rank", "to_one", "world_size"]

_T = TypeVar("_T")


def _is_initialized() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Return the number of this process, 0 where there is only one."""
    return distributed.get_rank() if _is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if _is_initialized() else 1


def from_all(mine: _T) -> list[_T]:
    """Return what each process passes, in the order of their ranks: on every process, so that all must call it."""
    if not _is_initialized():
        return [mine]
    everyone = [mine] * world_size()
    distributed.all_gather_object(everyone, mine)
    return everyone


def to_one(mine: _T, receiver: int) -> list[_T]:
    """Return what each process passes on the receiver, and nothing on the others; all must call it."""
    if not _is_initialized():
        return [mine]
    everyone = [mine] * world_size() if rank() == receiver else None
    distributed.gather_object(mine, everyone, dst=receiver)
    return everyone or []
