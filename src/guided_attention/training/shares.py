"""Any loader, read by several processes: each gets its part of the batches that one process would get."""

from collections.abc import Iterable, Iterator, Sequence, Sized

from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset

from guided_attention._checks import require
from guided_attention._distributed import share_of, world_size

__all__ = ["require_shares", "shared"]


class _Share:
    """The part of each batch of a batch sampler that this process reads."""

    def __init__(self, batches: Iterable[Sequence[object]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[object]]:
        for batch in self._batches:
            whole = list(batch)
            require_size(len(whole))
            yield whole[share_of(len(whole))]

    def __len__(self) -> int:
        return len(self._batches) if isinstance(self._batches, Sized) else 0


def shared(loader: object) -> Iterable[object] | None:
    """Return the loader of this process's part of each batch, or None where only whole batches can be read."""
    if world_size() == 1:
        return loader if isinstance(loader, Iterable) else None
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    if loader.batch_sampler is None or _has_own_iterator(loader):
        return None
    return DataLoader(
        loader.dataset,
        batch_sampler=_Share(loader.batch_sampler),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        in_order=loader.in_order,
    )


def _has_own_iterator(loader: DataLoader[object]) -> bool:
    """Whether batches come by code of a subclass, which a plain loader in its place would leave out."""
    names = ("__iter__", "_get_iterator")
    return any(getattr(type(loader), name) is not getattr(DataLoader, name) for name in names)


def require_shares(loader: DataLoader[object]) -> None:
    """Raise where several processes cannot have an image of each batch, or each would read what others read."""
    if world_size() == 1:
        return
    sampler = loader.sampler
    got, cure = (
        "a DistributedSampler, which repeats images",
        "Leave it out: each process reads its part anyway.",
    )
    require(
        not isinstance(sampler, DistributedSampler), "train_loader", "without a sampler of shares", got, cure
    )
    batches = loader.batch_sampler
    got, cure = "one that is a share itself", "Make it without rank and world_size."
    good = getattr(batches, "world_size", 1) == 1
    require(good, "train_loader", "of a batch sampler that gives whole batches", got, cure)
    if _has_own_iterator(loader):
        return  # its batches are counted when they are read
    if type(batches) is BatchSampler and isinstance(sampler, Sized):
        size, last = batches.batch_size, len(sampler) % batches.batch_size
        require_size(size if loader.drop_last or last == 0 else min(size, last))
    elif isinstance(fixed := getattr(batches, "batch_size", None), int):  # such as of PatchBatches
        require_size(fixed)


def require_size(images: int) -> None:
    """Raise where a batch has too few images for the processes."""
    wanted, got = f"batches of {world_size()} images or more, one for each process", f"one of {images}"
    cure = "Set a larger batch_size, or drop_last=True where only the last batch is too small."
    require(images >= world_size(), "train_loader", wanted, got, cure)
