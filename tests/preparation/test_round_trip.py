"""From the scan to what a network sees and back: nothing moves, whatever the geometry."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.preparation.geometries import case_of, random_affine

from guided_attention.case import Case, spacing_of
from guided_attention.metrics import dice
from guided_attention.preparation import BodyCrop, CenterCrop, Preparation

AXES = ("axial", "coronal", "sagittal")
GEOMETRIES = 200


def one_hot(labels, classes):
    return (
        torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), classes).movedim(-1, 0).float()
    )


def geometry(rng):
    """Return a random size and place: one slice or pixel is a size, rows may lean, any storage order."""
    shape = [int(rng.choice([1, 2, 3, 5, 8, 13, 17])) for _ in range(3)]
    spacing = tuple(float(length) for length in rng.uniform(0.4, 6, 3))
    degrees, shear = rng.choice([0, 3, 20]), rng.choice([0, 0, 0.3])
    return shape, random_affine(rng, spacing, degrees=degrees, shear=shear)


def assert_same_place(case, prepared):
    """Check that the matrix of the prepared volume says what its grid says, to a millionth of a voxel."""
    grid = prepared.grid
    shape = prepared.image.shape[1:]
    corners = np.array(
        [(z, y, x) for z in (0, shape[0] - 1) for y in (0, shape[1] - 1) for x in (0, shape[2] - 1)]
    )
    steps, starts = ([getattr(axis, name) for axis in grid.axes] for name in ("step", "start"))
    before = [axis.before for axis in grid.axes]
    canonical = (corners - before) * steps + starts
    stored = np.zeros_like(canonical)
    for axis, (old, flip) in enumerate(zip(grid.turn.order, grid.turn.flips, strict=True)):
        stored[:, old] = case.image.shape[1 + old] - 1 - canonical[:, axis] if flip else canonical[:, axis]
    there = case.affine @ np.column_stack([stored[:, ::-1], np.ones(8)]).T
    here = prepared.affine @ np.column_stack([corners[:, ::-1], np.ones(8)]).T
    apart = np.linalg.inv(case.affine) @ (there - here)
    assert np.abs(apart).max() < 1e-6


def steps_of(rng, shape):
    """Return a preparation that resamples nothing and keeps all of the scan, step by step or all of them."""
    chosen = rng.integers(4)
    sizes = tuple(int(size) for size in rng.integers(1, 24, 3))
    multiple = tuple(int(size) for size in rng.choice([1, 2, 4, 7], 3))
    pads = chosen in {1, 3}
    return Preparation(
        slice_axis=AXES[rng.integers(3)],
        intensity=None,
        crop=CenterCrop((None, max(shape), max(shape))) if chosen >= 2 else None,
        min_size=sizes if pads else (),
        multiple=multiple if pads else (),
    )


@pytest.mark.parametrize("part", range(4))
def test_labels_come_back_unchanged_where_nothing_was_resampled(part):
    for seed in range(part, GEOMETRIES, 4):
        rng = np.random.default_rng(seed)
        shape, affine = geometry(rng)
        case = case_of(rng, shape, affine)
        prepared = steps_of(rng, shape).apply(case)
        assert_same_place(case, prepared)
        back = prepared.restore(one_hot(prepared.labels, 4))
        np.testing.assert_array_equal(back, case.labels, err_msg=str(seed))
        assert back.dtype == np.uint8
        # The image went along: no voxel was left behind.
        plain = prepared.grid.turn.undo(prepared.image[0][prepared.grid.inner])
        np.testing.assert_array_equal(plain, case.image[0], err_msg=str(seed))


@pytest.mark.parametrize("part", range(4))
def test_labels_come_back_unchanged_from_a_crop_that_holds_them(part):
    for seed in range(part, GEOMETRIES, 4):
        rng = np.random.default_rng([1, seed])
        shape, affine = geometry(rng)
        shape = [size + 6 for size in shape]
        case = case_of(rng, shape, affine)
        inner = tuple(slice(3, size - 3) for size in shape)
        labels, image = np.zeros_like(case.labels), np.zeros_like(case.image)
        labels[inner], image[0][inner] = case.labels[inner], 200
        crop = CenterCrop(tuple(max(shape) - 6 for _ in range(3))) if seed % 2 else BodyCrop(0.5, 0.0)
        preparation = Preparation(slice_axis=AXES[seed % 3], intensity=None, crop=crop, multiple=(5, 4))
        prepared = preparation.apply(Case("7", image, labels, affine))
        assert_same_place(case, prepared)
        back = prepared.restore(one_hot(prepared.labels, 4))
        np.testing.assert_array_equal(back, labels, err_msg=str(seed))
        if isinstance(crop, BodyCrop):
            assert tuple(axis.size for axis in prepared.grid.axes) == tuple(
                shape[old] - 6 for old in prepared.grid.turn.order
            )


@pytest.mark.parametrize("part", range(4))
def test_every_grid_lies_where_its_matrix_says(part):
    for seed in range(part, GEOMETRIES, 4):
        rng = np.random.default_rng([2, seed])
        shape, affine = geometry(rng)
        case = case_of(rng, shape, affine)
        wanted = tuple(rng.choice([None, 0.5, 1.3, 4.0], 3).tolist())
        size = tuple(int(length) for length in rng.integers(1, 12, 3))
        preparation = Preparation(
            slice_axis=AXES[seed % 3],
            spacing_mm=wanted,
            intensity=None,
            crop=[None, CenterCrop(size), BodyCrop(0.5, 1.0)][seed % 3],
            min_size=size,
            multiple=(2, 3, 4),
        )
        prepared = preparation.apply(case)
        assert_same_place(case, prepared)
        for length, goal in zip(spacing_of(prepared.affine), wanted, strict=True):
            assert goal is None or length == pytest.approx(goal, rel=2e-4)
        # Training and prediction: the same scan gives the same grid, with labels and without.
        again = preparation.apply(Case("8", case.image, None, case.affine))
        assert again.grid == prepared.grid
        np.testing.assert_array_equal(again.affine, prepared.affine)


def ellipsoid(rng, shape, least):
    """Return an ellipsoid with radii from `least` voxels, anywhere inside."""
    radii = rng.uniform(least, least * 1.6, 3)
    centre = [rng.uniform(r, max(r, size - 1 - r)) for r, size in zip(radii, shape, strict=True)]
    grid = np.ogrid[tuple(slice(size) for size in shape)]
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)) <= 1


@pytest.mark.parametrize("part", range(4))
def test_ellipsoids_come_back_from_a_finer_grid(part):
    for seed in range(part, 40, 4):
        rng = np.random.default_rng([3, seed])
        shape = [int(rng.integers(19, 31)) for _ in range(3)]
        spacing = tuple(float(length) for length in rng.uniform(0.6, 4, 3))
        affine = random_affine(rng, spacing, degrees=rng.choice([0, 15]), shear=rng.choice([0, 0.2]))
        labels = ellipsoid(rng, shape, 8).astype(np.uint8)
        case = Case("7", rng.normal(size=(1, *shape)), labels, affine)
        axis = AXES[seed % 3]
        own = spacing_of(Preparation(slice_axis=axis, intensity=None).apply(case).affine)
        finer = tuple(length / rng.uniform(1, 1.8) for length in own)
        wanted = finer if seed % 2 else (None, *finer[1:])
        prepared = Preparation(slice_axis=axis, spacing_mm=wanted, intensity=None, multiple=(4, 4)).apply(
            case
        )
        back = prepared.restore(one_hot(prepared.labels, 2))
        assert dice(back == 1, labels == 1) >= 0.97, seed


@pytest.mark.parametrize("wanted", [(None, None, None), (None, 1.0, 1.7), (2.9, 2.0, 0.8), (1.1, None, 4.0)])
@pytest.mark.parametrize("crop", [None, CenterCrop((5, 6, 7)), CenterCrop((3, None, 99))])
def test_blocks_of_slices_give_what_the_whole_gives_bit_for_bit(wanted, crop):
    rng = np.random.default_rng(1)
    case = case_of(rng, (13, 17, 11), random_affine(rng, (2.0, 1.3, 1.1), degrees=4))
    preparation = Preparation(
        slice_axis="axial", spacing_mm=wanted, intensity=None, crop=crop, min_size=(9, 1, 1), multiple=(4, 4)
    )
    prepared = preparation.apply(case)
    depth = prepared.image.shape[1]
    scores = torch.from_numpy(rng.normal(size=(5, *prepared.image.shape[1:])).astype(np.float32))
    whole = collected(prepared, [scores])
    for partition in range(12):
        cuts = sorted(rng.choice(depth - 1, size=min(partition, depth - 1), replace=False) + 1)
        blocks = [scores[:, a:b] for a, b in pairwise([0, *cuts, depth])]
        assert torch.equal(collected(prepared, blocks), whole)
    np.testing.assert_array_equal(
        prepared.grid.turn.undo(whole.argmax(dim=0).numpy()), prepared.restore(scores)
    )


def collected(prepared, blocks):
    """Put the scores of all slices together, and check that each comes once and in order."""
    parts, expected = [], 0
    for (part,), scores in prepared.restored(iter(blocks)):
        assert part.start == expected
        assert scores.shape[1] == part.stop - part.start
        expected = part.stop
        parts.append(scores)
    assert expected == prepared.grid.axes[0].old
    return torch.cat(parts, dim=1)


def test_what_a_crop_removed_is_background():
    rng = np.random.default_rng(2)
    case = case_of(rng, (5, 11, 13), np.diag([-1.0, -1.0, 1.0, 1.0]))
    prepared = Preparation(slice_axis="axial", intensity=None, crop=CenterCrop((3, 5, 7))).apply(case)
    scores = torch.zeros(2, 3, 5, 7)
    scores[1] = 1
    wanted = np.zeros((5, 11, 13))
    wanted[1:4, 3:8, 3:10] = 1
    np.testing.assert_array_equal(prepared.restore(scores), wanted)
    whole = collected(prepared, [scores])
    assert (whole[0, 0] == 0).all()
    assert (whole[1, 0] == -torch.inf).all()


@pytest.mark.peer
def test_ellipsoids_of_many_sizes_come_back_from_a_finer_grid():
    for seed in range(200):
        rng = np.random.default_rng([4, seed])
        shape = [int(rng.integers(40, 61)) for _ in range(3)]
        spacing = tuple(float(length) for length in rng.uniform(0.6, 4, 3))
        labels = ellipsoid(rng, shape, rng.uniform(8, 12)).astype(np.uint8)
        affine = random_affine(rng, spacing, degrees=rng.choice([0, 15, 40]), shear=rng.choice([0, 0.2]))
        case = Case("7", np.zeros((1, *shape)), labels, affine)
        axis = AXES[seed % 3]
        own = spacing_of(Preparation(slice_axis=axis, intensity=None).apply(case).affine)
        finer = tuple(length / rng.uniform(1, 3) for length in own)
        prepared = Preparation(slice_axis=axis, spacing_mm=finer, intensity=None, multiple=(16, 16)).apply(
            case
        )
        assert dice(prepared.restore(one_hot(prepared.labels, 2)) == 1, labels == 1) >= 0.97, seed
