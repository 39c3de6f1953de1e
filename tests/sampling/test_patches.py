"""PatchDataset against a slow reference: whole items, voxel by voxel, from memory and from a cache."""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.sampling.stripes import STRIPES_BYTES, cached_stripes

from guided_attention.case import Case, affine_of
from guided_attention.data import open_cohort, write_nifti
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import Preparation
from guided_attention.sampling import PatchDataset, PatchPlace, SliceDataset, VolumeCache

ODD = LabelSpec({7: "liver", 3: "spleen"}, ignore_value=200)
CANONICAL = affine_of((7.0, 1.25, 1.5)) * [[-1], [-1], [1], [1]]
PLAIN = Preparation(slice_axis="axial", intensity=None)


def _case(name="7", shape=(1, 3, 11, 7), *, values=(0, 3, 7, 200), seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, shape).astype(np.float32)
    return Case(name, image, rng.choice(np.array(values, np.uint8), shape[1:]), CANONICAL)


TWO = [_case("1", (2, 3, 11, 7)), _case("2", (2, 5, 13, 17), seed=1)]


def slow_item(case, preparation, place, size):
    """Write an item out; values of `ODD` only."""
    prepared, n = preparation.apply(case), preparation.neighbours
    channels, depth = prepared.image.shape[:2]
    image = torch.empty(channels * (2 * n + 1), *size)
    labels = torch.empty(size, dtype=torch.int64)
    for at in np.ndindex(*size):
        z, y, x = (corner + step for corner, step in zip(place.corner, (0, *at)[-3:], strict=True))
        labels[at] = {0: 0, 3: 1, 7: 2, 200: 200}[int(prepared.labels[z, y, x])]
        for turn, offset in enumerate(range(-n, n + 1)):
            for channel in range(channels):
                seen = prepared.image[channel, min(max(z + offset, 0), depth - 1), y, x]
                image[(turn * channels + channel, *at)] = float(seen)
    return image, labels


def all_corners(shape, box):
    return list(np.ndindex(*(there - side + 1 for there, side in zip(shape, box, strict=True))))


@pytest.mark.parametrize(
    ("preparation", "size"),
    [
        (PLAIN, (11, 5)),
        (Preparation(slice_axis="axial", neighbours=1), (7, 7)),
        (Preparation(slice_axis="coronal", neighbours=2, min_size=(5, 7)), (5, 7)),
        (PLAIN, (2, 11, 5)),
        (PLAIN, (1, 11, 7)),
        (Preparation(slice_axis="axial", min_size=(7, 13, 11)), (7, 11, 11)),
    ],
)
def test_items_equal_those_written_out(preparation, size):
    fitted = preparation.fit(TWO)
    patches = PatchDataset(TWO, fitted, ODD, size=size)
    rng = np.random.default_rng(0)
    for number, case in enumerate(TWO):
        shape = fitted.apply(case).image.shape[1:]
        corners = all_corners(shape, (1, *size)[-3:])
        for corner in {corners[0], corners[-1], *(corners[i] for i in rng.integers(len(corners), size=5))}:
            place = PatchPlace(number, corner)
            for got, wanted in zip(patches[place], slow_item(case, fitted, place, size), strict=True):
                torch.testing.assert_close(got, wanted, rtol=0, atol=0)
                assert got.is_contiguous()


@pytest.mark.parametrize("neighbours", [0, 2])
def test_whole_slices_equal_those_of_slice_dataset(neighbours):
    cases = [_case("1"), _case("2", (1, 5, 11, 7), seed=1)]
    fitted = Preparation(slice_axis="axial", neighbours=neighbours).fit(cases)
    slices, patches = SliceDataset(cases, fitted, ODD), PatchDataset(cases, fitted, ODD, size=(11, 7))
    places = [PatchPlace(case, (z, 0, 0)) for case, depth in ((0, 3), (1, 5)) for z in range(depth)]
    assert len(patches) == len(slices) == len(places)
    for number, place in enumerate(places):
        assert all(
            torch.equal(ours, theirs) for ours, theirs in zip(patches[place], slices[number], strict=True)
        )


@pytest.mark.parametrize("size", [(5, 7), (2, 5, 7)])
def test_cache_and_memory_give_equal_items(tmp_path, size):
    for number in range(3):
        case = _case(f"c{number}", (1, 3 + number, 11, 7), seed=number)
        write_nifti(tmp_path / f"c{number}_image.nii.gz", case.image[0], case.affine)
        write_nifti(tmp_path / f"c{number}_label.nii.gz", case.labels, case.affine)
    cohort = open_cohort(tmp_path)
    preparation = Preparation(slice_axis="axial").fit(cohort)
    memory = PatchDataset(cohort, preparation, ODD, size=size)
    disk = PatchDataset(
        VolumeCache(tmp_path / "cache", preparation).volumes(cohort), preparation, ODD, size=size
    )
    for case, shape in enumerate(memory.shapes):
        for corner in all_corners(shape, memory.box):
            place = PatchPlace(case, corner)
            assert all(
                torch.equal(ours, theirs) for ours, theirs in zip(disk[place], memory[place], strict=True)
            )
    for ours, theirs in zip(disk.counts, memory.counts, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_changing_an_item_changes_nothing_later():
    case = _case()
    image, labels = case.image.copy(), case.labels.copy()
    for size in ((11, 7), (3, 11, 7)):
        patches = PatchDataset([case], PLAIN, ODD, size=size)
        for part in patches[PatchPlace(0, (0, 0, 0))]:
            part.zero_()
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.labels, labels)


def test_voxels_of_an_organ_are_counted_and_found_one_by_one():
    patches = PatchDataset(TWO, PLAIN.fit(TWO), ODD, size=(3, 5))
    for case, scan in enumerate(TWO):
        labels = PLAIN.apply(scan).labels
        for organ, value in enumerate((3, 7)):
            where = [tuple(place) for place in np.argwhere(labels == value).tolist()]
            counted = patches.counts[case][:, organ]
            assert counted.tolist() == [int((part == value).sum()) for part in labels]
            assert [patches.voxel(case, organ, number) for number in range(len(where))] == where


@pytest.mark.parametrize("size", [(32, 32), (8, 32, 32)])
def test_an_epoch_holds_no_volume_and_no_file(tmp_path, size):
    volumes, preparation = cached_stripes(tmp_path, 7)
    tracemalloc.start()
    patches = PatchDataset(volumes, preparation, LabelSpec({1: "one"}), size=size)
    for number in range(7):
        patches[PatchPlace(number, (number, 0, 3))]
        patches.voxel(number, 0, 4 * number)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < STRIPES_BYTES
    assert len(pickle.dumps(patches)) < STRIPES_BYTES / 30  # what a worker process gets
    held = [path.resolve() for path in Path("/proc/self/fd").glob("*")]
    assert not [path for path in held if tmp_path in path.parents]


# --- what is refused --------------------------------------------------------------------------------------


def test_cases_below_the_size_are_named_with_the_cure():
    wanted = (
        r"`size of the prepared volume of case '7'` must be at least \(5, 11, 7\), got \(3, 11, 7\)\. "
        r"Pad in the preparation, .* Preparation\(min_size=\(5, 11, 7\)\)"
    )
    with pytest.raises(DataError, match=wanted):
        PatchDataset([_case()], PLAIN, ODD, size=(5, 11, 7))
    with pytest.raises(DataError, match=r"slices of case '7'` must be at least \(11, 8\), got \(11, 7\)"):
        PatchDataset([_case()], PLAIN, ODD, size=(11, 8))


def test_neighbours_of_volumes_are_refused():
    preparation = Preparation(slice_axis="axial", neighbours=1)
    with pytest.raises(ArgumentError, match=r"neighbours` must be 0 with .* got 1\. Patches of volumes hold"):
        PatchDataset([_case()], preparation, ODD, size=(2, 11, 7))


@pytest.mark.parametrize("corner", [(3, 0, 0), (0, 7, 0), (0, 0, -1)])
def test_corners_outside_are_refused(corner):
    patches = PatchDataset([_case()], PLAIN, ODD, size=(5, 7))
    with pytest.raises(ArgumentError, match=r"`place.corner` must be from \(0, 0, 0\) to \(2, 6, 0\), got"):
        patches[PatchPlace(0, corner)]
    with pytest.raises(ArgumentError, match="`place.case` must be from 0 to 0, got 1"):
        patches[PatchPlace(1, (0, 0, 0))]


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((3, PLAIN, ODD), "cases"),
        (([np.zeros((1, 3, 5, 7))], PLAIN, ODD), "case"),
        (([_case()], None, ODD), "preparation"),
        (([_case()], PLAIN, {1: "liver"}), "labels"),
        (([_case()], PLAIN, ODD, 5), "size"),
        (([_case()], PLAIN, ODD, (5.0, 7)), "size"),
    ],
)
def test_arguments_of_the_wrong_type_are_named(arguments, named):
    *parts, size = arguments if len(arguments) == 4 else (*arguments, (5, 7))
    with pytest.raises(ArgumentTypeError, match=f"`{named}` must be"):
        PatchDataset(*parts, size=size)
    with pytest.raises(
        ArgumentTypeError, match=r"`place` must be a PatchPlace, got a int\. Read the set by Data"
    ):
        PatchDataset([_case()], PLAIN, ODD, size=(5, 7))[0]


@pytest.mark.parametrize("size", [(5,), (0, 7), (1, 2, 5, 7)])
def test_sizes_that_cannot_be_are_named(size):
    with pytest.raises(ArgumentError, match=r"`size` must be \(height, width\) or \(depth, height, width\)"):
        PatchDataset([_case()], PLAIN, ODD, size=size)


def test_cases_without_labels_are_named():
    bare = Case("9", np.zeros((1, 3, 11, 7), np.float32), None, CANONICAL)
    with pytest.raises(DataError, match="`labels of case '9'` must be given, got None"):
        PatchDataset([bare], PLAIN, ODD, size=(5, 7))
    with pytest.raises(DataError, match="`cases` must be at least one case, got none"):
        PatchDataset([], PLAIN, ODD, size=(5, 7))
