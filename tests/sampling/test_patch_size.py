"""The size of a patch: worked by hand, and what holds for any volume and budget."""

from math import prod

import numpy as np
import pytest

from guided_attention.errors import ArgumentError, ArgumentTypeError
from guided_attention.sampling import fit_patch


def _bytes(size):
    return 100 * prod(size)


def _fit(shape, spacing_mm, budget, *, multiple=16, voxels=10**12):
    return fit_patch(shape, spacing_mm, budget, _bytes, voxels=voxels, multiple=(multiple,) * len(shape))


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "budget", "size", "batch"),
    [
        # Whole volumes, at the nearest multiples of 16; the budget holds three and a half.
        ((90, 190, 140), (1.0, 1.0, 1.0), 3.5 * 100 * 96 * 192 * 144, (96, 192, 144), 3),
        # 12 and 23 slices are too far from 16, a third and three tenths, to be rounded.
        ((12, 96, 96), (5.0, 1.0, 1.0), 1e12, (12, 96, 96), 1e12 // (100 * 12 * 96 * 96)),
        ((23, 96, 96), (5.0, 1.0, 1.0), 1e12, (23, 96, 96), 1e12 // (100 * 23 * 96 * 96)),
        # A cube of 256 cubed voxels in millimetres: 256 x the cube root of 8 = 512 mm, a quarter as many slices.
        ((900, 900, 900), (8.0, 1.0, 1.0), 1e12, (64, 512, 512), 1e12 // (100 * 64 * 512 * 512)),
        # 64 x 64 x 64 do not fit twice, 48 x 64 x 64 do: the first of equal sides is shrunk.
        ((64, 64, 64), (1.0, 1.0, 1.0), 2.5e2 * 48 * 64 * 64, (48, 64, 64), 2),
        # 12 slices of 112 x 96 take 12.9 MB; of equal sides the first is shrunk, then the second covers more.
        ((128, 96), (1.0, 1.0), 12_950_000.0, (112, 96), 12),
        ((128, 96), (1.0, 1.0), 11_000_000.0, (112, 80), 12),
        # The smallest patch need not fit twelve times, but twice.
        ((128, 96), (1.0, 1.0), 5.0 * 100 * 16 * 16, (16, 16), 5),
    ],
)
def test_sizes_worked_by_hand(shape, spacing_mm, budget, size, batch):
    assert _fit(shape, spacing_mm, budget) == (size, batch)


def test_a_batch_is_a_twentieth_of_the_data_and_two_at_the_least():
    voxels = 20 * 7 * 32 * 32 + 1
    assert _fit((32, 32), (1.0, 1.0), 1e9, voxels=voxels) == ((32, 32), 7)
    assert _fit((32, 32), (1.0, 1.0), 1e9, voxels=20 * 32 * 32) == ((32, 32), 2)


def test_what_holds_for_any_volume_and_budget():
    rng = np.random.default_rng(0)
    for _ in range(200):
        dims = int(rng.integers(2, 4))
        shape = [int(side) for side in rng.integers(5, 400, dims)]
        spacing = [float(step) for step in rng.uniform(0.3, 6.0, dims)]
        least = 2 * 100 * 32**dims
        budgets = sorted(float(least * 10**power) for power in rng.uniform(0, 4, 2))
        (small, few), (large, many) = (_fit(shape, spacing, budget, multiple=32) for budget in budgets)
        assert all(one <= other for one, other in zip(small, large, strict=True))
        for size, batch, budget in ((small, few, budgets[0]), (large, many, budgets[1])):
            assert 2 * _bytes(size) <= batch * _bytes(size) <= budget
            assert all(side % 32 == 0 or side <= there for side, there in zip(size, shape, strict=True))
            assert all(side <= there * 9 / 8 for side, there in zip(size, shape, strict=True))


def test_a_budget_for_no_patch_is_refused():
    with pytest.raises(
        ArgumentError, match=r"`budget` must be at least 51200 bytes, for 2 patches of \(16, 16\)"
    ):
        _fit((64, 64), (1.0, 1.0), 51_199.0)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"shape": (64,)}, ArgumentError),
        ({"shape": 64}, ArgumentTypeError),
        ({"spacing_mm": (1.0, 1.0, 1.0)}, ArgumentError),
        ({"spacing_mm": (1.0, 0.0)}, ArgumentError),
        ({"multiple": (16, -16)}, ArgumentError),
        ({"budget": 0}, ArgumentError),
        ({"budget": float("inf")}, ArgumentError),
        ({"voxels": 0}, ArgumentError),
    ],
)
def test_arguments_that_cannot_be_are_named(change, error):
    options = {
        "shape": (64, 64),
        "spacing_mm": (1.0, 1.0),
        "budget": 1e9,
        "voxels": 10**6,
        "multiple": (16, 16),
    }
    (name,) = change
    with pytest.raises(error, match=f"`{name}` must be"):
        fit_patch(bytes_of=_bytes, **(options | change))


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("taken", [0, -1.0])
def test_a_patch_that_takes_no_memory_is_refused(taken):
    with pytest.raises(ArgumentError, match=r"`bytes_of\(size\)` must be"):
        fit_patch((64, 64), (1.0, 1.0), 1e9, lambda _size: taken, voxels=10**6, multiple=(16, 16))
