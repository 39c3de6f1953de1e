"""PatchBatches by brute force: what each patch holds, how often each comes, and what processes and resumes see."""

from collections import Counter
from itertools import chain, cycle, islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from guided_attention.case import Case, affine_of
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import Preparation
from guided_attention.sampling import PatchBatches, PatchDataset
from guided_attention.training.batches import Batches, require_loader
from guided_attention.training.generators import generators_in, require_repeatable
from guided_attention.training.shares import require_shares

LABELS = LabelSpec({2: "one", 3: "two", 5: "absent", 7: "three"}, ignore_value=200)
AFFINE = affine_of((7.0, 1.25, 1.5)) * [[-1], [-1], [1], [1]]
PLAIN = Preparation(slice_axis="axial", intensity=None)
DEPTHS, ORGANS = (3, 5, 7, 11), ((2,), (2, 3), (), (3, 7))
"""Slices of four cases, and the values that each has."""


def _case(number):
    rng = np.random.default_rng(number)
    shape = (DEPTHS[number], 13, 17)
    labels = np.zeros(shape, np.uint8)
    labels[rng.random(shape) < 0.3] = 200
    for value in ORGANS[number]:  # few, so that a patch holds one only where it is meant to
        while not (labels == value).any():
            labels[tuple(rng.integers(shape))] = value
    return Case(str(number), rng.normal(size=(1, *shape)).astype(np.float32), labels, AFFINE)


CASES = [_case(number) for number in range(4)]
SIZES = [(5, 7), (3, 5, 7)]


def _patches(size=(5, 7), cases=CASES):
    return PatchDataset(cases, PLAIN, LABELS, size=size)


def _epoch(batches, epoch=0):
    batches.set_epoch(epoch)
    return list(batches)


@pytest.mark.parametrize("size", SIZES)
def test_every_forced_patch_holds_the_organ_whose_turn_it_is(size):
    patches = _patches(size)
    batches = PatchBatches(patches, 7, 11, foreground=1, seed=3)
    places = [place for epoch in range(2) for batch in _epoch(batches, epoch) for place in batch]
    cases = {1: [], 2: [], 4: []}  # by class; nothing has class 3
    for place, organ in zip(places, cycle((1, 2, 4)), strict=False):
        labels = patches[place][1]
        assert organ in labels.unique().tolist()
        cases[organ].append(place.case)
    assert cases[4] == [3] * 51  # of 2 x 7 x 11 patches
    for organ, both in ((1, {0, 1}), (2, {1, 3})):
        pairs = list(zip(cases[organ][::2], cases[organ][1::2], strict=False))
        assert all(set(pair) == both for pair in pairs)
        assert len(set(pairs)) == 2, "the order is shuffled"


@pytest.mark.parametrize(
    ("batch_size", "forced"),
    [(2, [[1]] * 4), (3, [[2]] * 4), (5, [[2, 4]] * 4), (8, [[2, 5, 7]] * 4), (1, [[0], [], [], [0]])],
)
def test_a_third_of_each_batch_is_forced_and_the_rest_is_every_slice_once(batch_size, forced):
    only = [_case(3)]  # a patch of 1 x 1 holds an organ where it is forced to
    organs = set(map(tuple, np.argwhere(np.isin(only[0].labels, (3, 7))).tolist()))
    patches = _patches((1, 1), only)
    for epoch in range(5):
        got = _epoch(PatchBatches(patches, batch_size, 4, seed=5), epoch)
        held = [[place.corner in organs for place in batch] for batch in got]
        assert [[i for i, has in enumerate(batch) if has] for batch in held] == forced
        walked = [
            place.corner[0]
            for batch, has in zip(got, held, strict=True)
            for place, one in zip(batch, has, strict=True)
            if not one
        ]
        times = Counter(walked)
        assert max(times.values()) - min(times[z] for z in range(11)) <= 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", [1, 2, 13, 26, 31])
def test_nothing_comes_twice_before_all_have_come(size, steps):
    patches = _patches(size)
    whole = (
        [(case, z) for case, depth in enumerate(DEPTHS) for z in range(depth)] if len(size) == 2 else range(4)
    )
    orders = set()
    for epoch in range(7):
        batches = _epoch(PatchBatches(patches, 2, steps, foreground=0, seed=1), epoch)
        seen = [(p.case, p.corner[0]) if len(size) == 2 else p.case for batch in batches for p in batch]
        for start in range(0, len(seen), len(whole)):
            part = seen[start : start + len(whole)]
            assert len(set(part)) == len(part)
        assert set(seen) <= set(whole)
        orders.add(tuple(seen))
    assert len(orders) > 1


def test_short_epochs_share_one_order():
    """26 slices, 12 an epoch: two epochs together show 24 different ones."""
    batches = PatchBatches(_patches(), 4, 3, foreground=0)
    for first in (0, 2, 4):
        seen = [
            (p.case, p.corner[0]) for e in (first, first + 1) for batch in _epoch(batches, e) for p in batch
        ]
        assert len(set(seen)) == 24


def test_every_corner_and_every_voxel_comes_equally_often():
    """In 1000 chosen of n, each comes 1000/n times, within five standard deviations."""
    case = CASES[1]
    labels = np.zeros_like(case.labels)
    voxels = [(0, 0, 0), (1, 6, 8), (1, 7, 8), (4, 12, 16), (4, 2, 3)]
    labels[tuple(np.transpose(voxels))] = 2
    patches = _patches((5, 13, 13), [Case("1", case.image, labels, AFFINE)])
    walk = [p.corner for [p] in PatchBatches(patches, 1, 1000, foreground=0)]
    _assert_even(walk, [(0, 0, x) for x in range(5)])
    points = _patches((1, 1, 1), [Case("1", case.image, labels, AFFINE)])
    _assert_even([p.corner for [p] in PatchBatches(points, 1, 1000, foreground=1)], voxels)


def test_a_voxel_may_lie_anywhere_in_its_patch_and_patches_are_clipped():
    labels = np.zeros((11, 13, 17), np.uint8)
    labels[5, 6, 8] = 2
    patches = _patches((3, 1, 5), [Case("1", CASES[3].image, labels, AFFINE)])
    corners = [p.corner for [p] in PatchBatches(patches, 1, 1000, foreground=1)]
    _assert_even(corners, [(z, 6, x) for z in (3, 4, 5) for x in range(4, 9)])
    labels[:] = 0
    labels[10, 0, 15] = 2
    patches = _patches((3, 5, 5), [Case("1", CASES[3].image, labels, AFFINE)])
    corners = [p.corner for [p] in PatchBatches(patches, 1, 1000, foreground=1)]
    # Two places of three end at the last slice; one of five begins left of column 12, four are moved there.
    shares = Counter(corners)
    assert set(shares) == {(8, 0, 11), (8, 0, 12)}
    assert abs(shares[8, 0, 11] / 1000 - 1 / 5) < 0.06


def _assert_even(got, wanted):
    times, mean = Counter(got), len(got) / len(wanted)
    assert set(times) == set(wanted)
    assert max(abs(times[one] - mean) for one in wanted) < 5 * mean**0.5


@pytest.mark.parametrize("size", SIZES)
def test_processes_share_the_batches_of_one(size):
    patches = _patches(size)
    whole = _epoch(PatchBatches(patches, 10, 7, seed=2, rank=0, world_size=1), 3)
    for processes in (2, 5, 10):
        shares = [
            _epoch(PatchBatches(patches, 10, 7, seed=2, rank=rank, world_size=processes), 3)
            for rank in range(processes)
        ]
        assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole
        assert {len(batch) for share in shares for batch in share} == {10 // processes}


def test_seeds_and_epochs_differ_and_repeat():
    patches = _patches()
    seen = [_epoch(PatchBatches(patches, 6, 5, seed=seed), epoch) for seed in range(3) for epoch in range(3)]
    again = [_epoch(PatchBatches(patches, 6, 5, seed=seed), epoch) for seed in range(3) for epoch in range(3)]
    assert seen == again
    assert len({str(one) for one in seen}) == 9


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_goes_on_where_it_was(workers):
    """Workers give what one process gives."""
    patches = _patches((3, 5, 7))
    batches = PatchBatches(patches, 3, 7, seed=4)
    batches.set_epoch(0)
    used = DataLoader(patches, batch_sampler=batches)
    next(iter(used))
    batches.set_epoch(1)
    whole = list(used)
    again = PatchBatches(patches, 3, 7, seed=4)
    again.set_epoch(1)
    rest = list(islice(DataLoader(patches, batch_sampler=again, num_workers=workers), 4, None))
    assert (len(whole), len(rest)) == (7, 3)
    for ours, theirs in zip(rest, whole[4:], strict=True):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_the_trainer_takes_the_loader_and_sets_the_epoch():
    patches = _patches((3, 5, 7))
    loader = DataLoader(patches, batch_sampler=PatchBatches(patches, 3, 7))
    require_loader(loader)
    require_repeatable({"train_loader": loader}, exact=True)
    assert [name for name in generators_in({"train_loader": loader}) if "beartype" not in name] == []
    assert len(list(Batches(loader).groups(5, 1, skip=4))) == 3
    assert list(loader.batch_sampler) == _epoch(PatchBatches(patches, 3, 7), 5)


# --- what is refused --------------------------------------------------------------------------------------


def test_a_batch_that_cannot_be_shared_is_refused():
    wanted = (
        r"`batch_size` must be a multiple of the 3 processes, which share a batch, got 8\. "
        r"Choose 6 or 9, or another number of processes\."
    )
    with pytest.raises(ArgumentError, match=wanted):
        PatchBatches(_patches(), 8, 5, rank=0, world_size=3)
    with pytest.raises(ArgumentError, match=r"got 2\. Choose 3, or another number"):
        PatchBatches(_patches(), 2, 5, rank=0, world_size=3)


def test_cases_without_an_organ_cannot_be_forced():
    bare = _patches(cases=[CASES[2]])
    with pytest.raises(DataError, match=r"at least one labelled voxel, got none\. Set foreground=0\."):
        PatchBatches(bare, 2, 5)
    assert (
        len(list(PatchBatches(bare, 2, 5, foreground=0))) == len(PatchBatches(bare, 2, 5, foreground=0)) == 5
    )


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"dataset": [1]}, ArgumentTypeError),
        ({"batch_size": 0}, ArgumentError),
        ({"batch_size": 2.0}, ArgumentTypeError),
        ({"steps": 0}, ArgumentError),
        ({"foreground": 1.5}, ArgumentError),
        ({"foreground": "all"}, ArgumentTypeError),
        ({"seed": -1}, ArgumentError),
        ({"rank": 2, "world_size": 2}, ArgumentError),
        ({"world_size": 0}, ArgumentError),
    ],
)
def test_arguments_that_cannot_be_are_named(change, error):
    options = {"dataset": _patches(), "batch_size": 2, "steps": 3} | change
    name = next(iter(change))
    with pytest.raises(error, match=f"`{name}` must be"):
        PatchBatches(**options)
    with pytest.raises(ArgumentError, match="`epoch` must be 0 or above, got -1"):
        PatchBatches(_patches(), 2, 3).set_epoch(-1)


def test_batches_that_processes_of_a_trainer_cannot_share_are_refused(monkeypatch):
    monkeypatch.setattr("guided_attention.training.shares.world_size", lambda: 3)
    patches = _patches()
    for batches in (PatchBatches(patches, 3, 5), PatchBatches(patches, 8, 5)):
        require_shares(DataLoader(patches, batch_sampler=batches))
    small = DataLoader(patches, batch_sampler=PatchBatches(patches, 2, 5))
    with pytest.raises(ArgumentError, match=r"batches of 3 images or more.*got one of 2\. Set a larger"):
        require_shares(small)
    part = DataLoader(patches, batch_sampler=PatchBatches(patches, 6, 5, rank=1, world_size=3))
    with pytest.raises(ArgumentError, match=r"whole batches, got one that is a share itself"):
        require_shares(part)
