"""PatchBatches: which patches make the batches of an epoch, some of them forced to hold an organ."""

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np

from guided_attention._checks import (
    require,
    require_count,
    require_integer,
    require_number,
    require_seed,
    require_type,
)
from guided_attention.errors import DataError
from guided_attention.sampling.patches import PatchDataset, PatchPlace

__all__ = ["PatchBatches"]

_WALK, _CASES, _PLACE = 0, 1, 2
"""Uses of random numbers; each has a stream of its own."""


class _Shuffled:
    """One shuffled order of so many things after another, as one endless list."""

    def __init__(self, things: int, *key: int) -> None:
        self._things, self._key, self._round = things, key, -1
        self._order = np.zeros(0, np.int64)

    def __getitem__(self, number: int) -> int:
        turn, place = divmod(number, self._things)
        if turn != self._round:
            self._round, self._order = (
                turn,
                np.random.default_rng([*self._key, turn]).permutation(self._things),
            )
        return int(self._order[place])


class PatchBatches:
    """The batches of each epoch for ``DataLoader(dataset, batch_sampler=PatchBatches(...))``, as lists of `PatchPlace`.

    A share of each batch is forced to hold an organ: organs take turns, then the cases that have the organ, in a
    shuffled order, then one of its voxels is chosen, anywhere in the patch. All other patches go through a shuffled
    order of all slices (or volumes), cut at random: within an epoch none comes again before all have come, and epochs
    that take at most half of them share one order.

    A batch depends on the seed, the epoch and its number only. There is no generator to store: a resumed run sees the
    batches that it would have seen. `Trainer` calls `set_epoch` before each epoch, and splits each batch among the
    processes of torch.distributed. A loop of your own calls it, too, or has the same batches in every epoch; and it
    passes `rank` and `world_size`.

    Args:
        dataset: The patches.
        batch_size: Patches of a batch, of all processes together.
        steps: Batches of an epoch.
        foreground: Share of a batch that is forced to hold an organ, rounded up. A batch of one patch is forced in that
            share of the steps.
        seed: Seed of all choices.
        rank: Number of this process.
        world_size: Number of processes, each of which gets its part of the batch that one process would get. Leave both
            out for `Trainer`.

    Raises:
        ArgumentError: A number is out of range, or `batch_size` cannot be divided by the number of processes.
        ArgumentTypeError: An argument has the wrong type.
        DataError: No case has an organ.

    Example:
        >>> from guided_attention.data import CHAOS_MR_LABELS, make_phantom
        >>> from guided_attention.preparation import Preparation
        >>> from torch.utils.data import DataLoader
        >>> cases = [make_phantom(0, subject=number, size=64) for number in (1, 2)]
        >>> preparation = Preparation(slice_axis="axial").fit(cases)
        >>> patches = PatchDataset(cases, preparation, CHAOS_MR_LABELS, size=(8, 32, 32))
        >>> loader = DataLoader(patches, batch_sampler=PatchBatches(patches, 2, 5))
        >>> len(loader), next(iter(loader))[0].shape
        (5, torch.Size([2, 1, 8, 32, 32]))
    """

    def __init__(
        self,
        dataset: PatchDataset,
        batch_size: int,
        steps: int,
        *,
        foreground: float = 1 / 3,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        require_type("dataset", dataset, PatchDataset, "a PatchDataset")
        require_count("batch_size", batch_size)
        require_count("steps", steps)
        require_number("foreground", foreground)
        require(0 <= foreground <= 1, "foreground", "from 0 to 1", foreground)
        require_seed(seed)
        self.batch_size, self.steps, self.foreground, self.seed = batch_size, steps, foreground, seed
        self._share, self.world_size = _share(batch_size, rank, world_size), world_size
        self._dataset, self._epoch = dataset, 0
        self._starts = _starts(dataset)
        voxels = np.array([counts.sum(axis=0, dtype=np.int64) for counts in dataset.counts])
        self._voxels, self._organs = voxels, np.flatnonzero(voxels.any(axis=0))
        good, cure = foreground == 0 or len(self._organs) > 0, "Set foreground=0."
        require(good, "cases", "with at least one labelled voxel", "none", cure, error=DataError)
        self._having = [np.flatnonzero(voxels[:, organ]) for organ in self._organs]
        self._walk = _Shuffled(len(self._starts), seed, _WALK, 0)
        self._turns = [_Shuffled(len(having), seed, _CASES, k) for k, having in enumerate(self._having)]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are iterated over next."""
        require_integer("epoch", epoch)
        require(epoch >= 0, "epoch", "0 or above", epoch)
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return self.steps

    def __iter__(self) -> Iterator[list[PatchPlace]]:
        """Yield the batches of the epoch, of each the share of this process."""
        epoch = self._epoch
        return ([self._place(epoch, step, index) for index in self._share] for step in range(self.steps))

    def _forced_before(self, step: int) -> int:
        """Return how many patches of an epoch are forced before a step."""
        if self.batch_size == 1:
            return ceil(round(step * self.foreground, 9))
        return step * ceil(round(self.batch_size * self.foreground, 9))

    def _place(self, epoch: int, step: int, index: int) -> PatchPlace:
        before = self._forced_before(step)
        forced = self._forced_before(step + 1) - before
        # Spread evenly over a batch, and so over the processes.
        mine, after = (number * forced // self.batch_size for number in (index, index + 1))
        number = step * self.batch_size + index
        rng = np.random.default_rng([self.seed, _PLACE, epoch, number])
        if after > mine:
            return self._with_organ(epoch * self._forced_before(self.steps) + before + mine, rng)
        return self._next(epoch, number - before - mine, rng)

    def _with_organ(self, number: int, rng: np.random.Generator) -> PatchPlace:
        """Return the place of a patch that holds an organ, by its number among all forced ones of the run."""
        turn, k = divmod(number, len(self._organs))
        case, organ = int(self._having[k][self._turns[k][turn]]), int(self._organs[k])
        voxel = self._dataset.voxel(case, organ, int(rng.integers(self._voxels[case, organ])))
        corner = [
            min(max(at - int(rng.integers(side)), 0), high)
            for at, side, high in zip(voxel, self._dataset.box, self._highest(case), strict=True)
        ]
        return _place_of(case, corner)

    def _next(self, epoch: int, number: int, rng: np.random.Generator) -> PatchPlace:
        """Return the place of the next patch of the walk through all slices or volumes."""
        an_epoch = self.steps * self.batch_size - self._forced_before(self.steps)
        places = len(self._starts)
        together = max(1, places // an_epoch)  # epochs that share one shuffled order
        order, part = divmod(epoch, together)
        rounds = ceil(together * an_epoch / places)
        case, z = self._starts[self._walk[order * rounds * places + part * an_epoch + number]]
        corner = [int(rng.integers(high + 1)) for high in self._highest(case)]
        return _place_of(case, [z, *corner[1:]] if z is not None else corner)

    def _highest(self, case: int) -> list[int]:
        """Return the last corner of a patch in a volume."""
        return [
            there - side for there, side in zip(self._dataset.shapes[case], self._dataset.box, strict=True)
        ]


def _place_of(case: int, corner: Sequence[int]) -> PatchPlace:
    z, y, x = corner
    return PatchPlace(case, (z, y, x))


def _starts(dataset: PatchDataset) -> list[tuple[int, int | None]]:
    """Return what is walked through: each slice, or each volume, whose first slice is then chosen at random."""
    if dataset.spatial_dims == 3:  # noqa: PLR2004
        return [(case, None) for case in range(len(dataset.shapes))]
    return [(case, z) for case, shape in enumerate(dataset.shapes) for z in range(shape[0])]


def _share(batch_size: int, rank: int, world_size: int) -> range:
    """Return the part of a batch that this process reads."""
    require_count("world_size", world_size)
    require_integer("rank", rank)
    require(0 <= rank < world_size, "rank", f"from 0 to {world_size - 1}", rank)
    each, left = divmod(batch_size, world_size)
    near = [str(world_size * times) for times in (each, each + 1) if times]
    wanted = f"a multiple of the {world_size} processes, which share a batch"
    cure = f"Choose {' or '.join(near)}, or another number of processes."
    require(left == 0, "batch_size", wanted, batch_size, cure)
    return range(rank * each, (rank + 1) * each)
