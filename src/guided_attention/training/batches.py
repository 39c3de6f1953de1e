"""The training data as the loop reads it: groups of pairs."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor
from torch.utils.data import DataLoader

from guided_attention._checks import counted, require, require_type
from guided_attention._distributed import numbers_of_all, rank, share_of
from guided_attention._maps import plain
from guided_attention.errors import ArgumentTypeError, CheckpointError
from guided_attention.training.shares import require_shares, shared
from guided_attention.training.signals import held_back

__all__ = ["Batch", "Batches", "Pair", "require_loader"]

Pair: TypeAlias = tuple[Tensor, Tensor]
"""Images and labels of one batch."""


@runtime_checkable
class _KnowsEpoch(Protocol):
    """A sampler such as torch's ``DistributedSampler``, whose order depends on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the epoch."""
        ...


@dataclass(frozen=True)
class Batch:
    """The part of a batch that this process computes.

    Attributes:
        image: Its images.
        target: Their labels.
        first: Place of its first image in the whole batch.
        size: Images of the whole batch.
    """

    image: Tensor
    target: Tensor
    first: int
    size: int


@dataclass(frozen=True)
class Batches:
    """A loader, and how its batches are read.

    Attributes:
        loader: Any iterable that can be iterated over once an epoch.
        keys: Keys of image and labels where batches are dictionaries.
    """

    loader: Iterable[object]
    keys: tuple[str, str] | None = None

    @property
    def size(self) -> int | None:
        """Batches of an epoch, None where the loader does not know."""
        try:
            return len(self.loader) if isinstance(self.loader, Sized) else None
        except (TypeError, NotImplementedError):  # a DataLoader has `__len__` over an iterable data set, too
            return None

    def groups(self, epoch: int, count: int, *, skip: int = 0) -> Iterator[list[Batch]]:
        """Yield the batches of an epoch in groups of `count`, after the first `skip` batches.

        The iterator is made, and the skipped batches are read, before the first group is asked for. Of several
        processes, each reads its part of a batch, or the batch where the loader cannot read parts.
        """
        parts = [getattr(self.loader, part, None) for part in ("sampler", "batch_sampler", "dataset")]
        for target in (self.loader, *parts, getattr(parts[1], "sampler", None)):
            if isinstance(target, _KnowsEpoch):
                target.set_epoch(epoch)
        loader = shared(self.loader)
        with held_back():
            batches = iter(self.loader if loader is None else loader)
        skipped = sum(1 for _ in itertools.islice(batches, skip))
        wanted = f"as long as when the run was stored, inside epoch {epoch} after {counted(skip, 'batch', 'batches')}"
        require(
            skipped == skip,
            "train_loader",
            wanted,
            counted(skipped, "batch", "batches"),
            error=CheckpointError,
        )
        return self._grouped(batches, count, cut=loader is None)

    def _grouped(self, batches: Iterator[object], count: int, *, cut: bool) -> Iterator[list[Batch]]:
        while True:
            pairs = [_pair(batch, self.keys) for batch in itertools.islice(batches, count)]
            if cut:
                pairs = [_cut(pair) for pair in pairs]
            group = _counted(pairs, count)
            if not group:
                return
            yield group


def _cut(pair: Pair) -> Pair:
    """Return the part of a batch that is this process's."""
    image, target = pair
    part = share_of(len(image))
    return image[part], target[part]


def _counted(pairs: Sequence[Pair], count: int) -> list[Batch]:
    """Return the parts with their places; raise where a process has none of a batch."""
    sizes = [len(image) for image, _ in pairs]
    table = numbers_of_all([*sizes, *(0 for _ in range(count - len(sizes)))])
    batches = [[int(number) for number in column] for column in zip(*table, strict=True)]
    for images in batches:
        wanted, got = "batches with an image for each process", f"one with {images}"
        cure = "Set a larger batch_size, or drop_last=True where only the last batch is too small."
        require(min(images) > 0 or max(images) == 0, "train_loader", wanted, got, cure)
    return [
        Batch(image, target, sum(images[: rank()]), sum(images))
        for (image, target), images in zip(
            pairs, batches, strict=False
        )  # none are left at the end of an epoch
    ]


def require_loader(loader: object) -> None:
    """Raise for what cannot be iterated over once an epoch."""
    wanted = "an iterable of batches, such as a DataLoader"
    require_type("train_loader", loader, Iterable, wanted)
    again = "It is empty after one epoch: pass what it was made from."
    got = f"an iterator ({type(loader).__name__})"
    require(not isinstance(loader, Iterator), "train_loader", wanted, got, again, error=ArgumentTypeError)
    size = Batches(loader).size  # type: ignore[arg-type]  # checked
    if size == 0 and isinstance(loader, DataLoader):
        got = f"none, with batch_size={loader.batch_size} and drop_last={loader.drop_last}"
        cure = "Give it more images or a smaller batch_size, or set drop_last=False."
        require(False, "train_loader", "at least one batch long", got, cure)  # noqa: FBT003
    require(size != 0, "train_loader", "at least one batch long", "none", "Give it more images.")
    if isinstance(loader, DataLoader):
        require_shares(loader)


def _pair(batch: object, keys: tuple[str, str] | None) -> Pair:
    """Return image and labels of a batch as plain tensors."""
    wanted = (
        "pairs (image, labels)" if keys is None else f"dictionaries with the keys {keys[0]!r} and {keys[1]!r}"
    )
    if keys is not None:
        require_type("train_loader", batch, Mapping, wanted, "Set batch_keys=None for pairs.")
        missing = [key for key in keys if key not in batch]  # type: ignore[operator]  # checked
        got = f"one with {list(batch)}"  # type: ignore[call-overload]  # checked
        require(not missing, "train_loader", wanted, got, "Set batch_keys to two of these.")
        parts: Sequence[object] = [batch[key] for key in keys]  # type: ignore[index]  # checked
    else:
        if isinstance(batch, Mapping):
            cure = f'Name two of its keys {list(batch)}: TrainerConfig(batch_keys=("image", "label")).'
            require_type("train_loader", batch, tuple, wanted, cure)
        require_type("train_loader", batch, (tuple, list), wanted, "Collate a batch into two tensors.")
        parts = batch  # type: ignore[assignment]  # checked
        cure = "Leave out the others in the data set, or return dictionaries and set TrainerConfig(batch_keys=…)."
        require(len(parts) == 2, "train_loader", wanted, f"{counted(len(parts), 'thing')} a batch", cure)  # noqa: PLR2004
    for name, part in zip(keys or ("image", "labels"), parts, strict=True):
        require_type(f"train_loader[{name!r}]", part, Tensor, "a tensor")
    image, target = (plain(part) for part in parts if isinstance(part, Tensor))
    cure = "Convert images to float32."
    require(image.is_floating_point(), "train_loader", "images of a floating type", image.dtype, cure)
    cure = "Leave out empty batches in the loader."
    require(image.shape[:1] != (0,), "train_loader", "batches of at least one image", "one of none", cure)
    return image, target
