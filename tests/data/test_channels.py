"""Scans with one file a channel: which files are joined, in which order, and on which grid."""

import json

import numpy as np
import pytest
from tests.data.test_cohort import AFFINE, _json, _values, _volume, _write

from guided_attention.case import Case, Volume
from guided_attention.data import open_cohort, read_nifti, read_nifti_case, write_nifti
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError, MissingFileError

BRATS = ("flair", "t1", "t1ce", "t2")


def _brats(folder, cases=(1, 2), *, flat=False):
    for number in cases:
        name = f"BraTS2021_{number:05d}"
        where = "" if flat else f"{name}__"
        values = {f"{where}{name}_{word}": 10 * number + place for place, word in enumerate(BRATS)}
        _write(folder, **values, **{f"{where}{name}_seg": number})
    return folder


def _path(folder, number, word):
    return folder / f"BraTS2021_{number:05d}" / f"BraTS2021_{number:05d}_{word}.nii.gz"


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("channels", [None, BRATS])
def test_brats_is_found_with_its_channels_named(tmp_path, flat, channels):
    cohort = open_cohort(_brats(tmp_path, flat=flat), channels=channels)
    assert cohort.case_ids == cohort.labelled == ("BraTS2021_00001", "BraTS2021_00002")
    assert cohort.channel_names == cohort[0].channel_names == BRATS
    expected = {f"BraTS2021_0000{n}": ([{10 * n + place} for place in range(4)], {n}) for n in (1, 2)}
    assert _values(cohort) == expected


def test_channels_are_chosen_and_ordered_by_the_argument(tmp_path):
    cohort = open_cohort(_brats(tmp_path), channels=("T2", "flair"))
    assert cohort.channel_names == ("T2", "flair")
    assert _values(cohort)["BraTS2021_00002"] == ([{23}, {20}], {2})
    folders = _write(tmp_path / "by_folder", s1__t1=1, s1__t2=2, s1__seg=1, s2__t1=3, s2__t2=4, s2__seg=1)
    expected = {"s1": ([{1}, {2}], {1}), "s2": ([{3}, {4}], {1})}
    assert _values(open_cohort(folders)) == _values(open_cohort(folders, channels=("t1", "t2"))) == expected
    assert _values(open_cohort(_write(tmp_path / "one", a_ct=5, a_seg=1), channels=("ct",))) == {
        "a": ([{5}], {1})
    }


def test_a_part_without_masks_has_the_channels_of_the_others(tmp_path):
    _write(tmp_path, train__a_t1=1, train__a_t2=2, train__a_seg=1, test__b_t1=3, test__b_t2=4)
    cohort = open_cohort(tmp_path)
    assert cohort.parts == {"train": ("a",), "test": ("b",)}
    assert _values(cohort) == {"a": ([{1}, {2}], {1}), "b": ([{3}, {4}], None)}


def test_files_numbered_as_nnunet_does_in_a_plain_folder(tmp_path):
    both = _write(tmp_path / "both", a_0000=1, a_0001=2, b_0000=3, b_0001=4, a_seg=1, b_seg=2)
    assert _values(open_cohort(both)) == {"a": ([{1}, {2}], {1}), "b": ([{3}, {4}], {2})}
    first = _write(tmp_path / "first", a_0000=1, b_0000=3)
    assert _values(open_cohort(first)) == {"a": ([{1}], None), "b": ([{3}], None)}
    own = _write(tmp_path / "own", s_0000=1, s_0001=2, s_0000_label=1, s_0001_label=2)
    assert _values(open_cohort(own)) == {"s_0000": ([{1}], {1}), "s_0001": ([{2}], {2})}
    several = _write(tmp_path / "several", s_0000=1, s_0001=2)
    assert open_cohort(several, channels=()).case_ids == ("s_0000", "s_0001")


def test_mixed_files_are_no_scans_of_one_channel(tmp_path):
    _write(tmp_path, a_0000=1, a_0001=2, other=3)
    with pytest.raises(
        DataError, match=r"other.nii.gz` must be an image whose name ends in a channel: 0000, 0001"
    ):
        open_cohort(tmp_path)


@pytest.mark.parametrize("channels", [None, BRATS])
def test_a_missing_channel_is_named_when_the_cohort_is_opened(tmp_path, channels):
    gone = _path(_brats(tmp_path, (1, 2, 3)), 2, "t1ce")
    gone.unlink()
    wanted = f"files of case 'BraTS2021_00002'` must be one for each channel, .*, got no {gone}. Add"
    with pytest.raises(DataError, match=wanted) as caught:
        open_cohort(tmp_path, channels=channels)
    assert caught.value.file == gone


def test_a_surplus_channel_is_named_when_the_cohort_is_opened(tmp_path):
    _brats(tmp_path, (1, 2, 3))
    write_nifti(_path(tmp_path, 3, "pd"), _volume(1), AFFINE)
    with pytest.raises(
        DataError, match=r"files of case 'BraTS2021_00003'` must be .*also .*_pd.nii.gz. Delete"
    ):
        open_cohort(tmp_path)
    assert open_cohort(tmp_path, channels=BRATS).channel_names == BRATS
    numbers = _write(tmp_path / "numbers", a_0000=1, b_0000=1, c_0000=1, c_0001=1)
    with pytest.raises(DataError, match=r"files of case 'c'` must be .*got also .*c_0001.nii.gz"):
        open_cohort(numbers)
    gap = _write(tmp_path / "gap", a_0000=1, a_0002=1, b_0000=1, b_0002=1)
    with pytest.raises(DataError, match=r"got no .*a_0001.nii.gz"):
        open_cohort(gap)


def test_nnunet_names_as_many_channels_as_there_are(tmp_path):
    _write(tmp_path, imagesTr__a_0000=1, imagesTr__a_0001=2, labelsTr__a=1)
    _json(tmp_path / "dataset.json", {"channel_names": {"0": "T2"}, "labels": {"background": 0, "x": 1}})
    with pytest.raises(DataError, match=r"channel_names of .* must be 2 names, one a channel, got \['T2'\]"):
        open_cohort(tmp_path)


def test_a_list_of_files_is_one_case(tmp_path):
    _brats(tmp_path, (1,))
    files = [_path(tmp_path, 1, word) for word in BRATS]
    case = read_nifti_case(files, _path(tmp_path, 1, "seg"), channel_names=BRATS)
    assert (case.case_id, case.channel_names, case.image[:, 0, 0, 0].tolist()) == (
        "BraTS2021_00001",
        BRATS,
        [10, 11, 12, 13],
    )
    numbered = _write(tmp_path / "n", c_0000=1, c_0001=2)
    assert read_nifti_case(sorted(numbered.iterdir())).case_id == "c"
    assert read_nifti_case(files[:1]).image.shape == (1, 3, 5, 7)
    with pytest.raises(MissingFileError, match="gone.nii.gz"):
        read_nifti_case([files[0], tmp_path / "gone.nii.gz"])
    with pytest.raises(ArgumentError, match="`image` must be at least one file, got an empty list"):
        read_nifti_case([])


@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_channels_are_told(tmp_path):
    _write(tmp_path, a=1)
    with pytest.raises(ArgumentTypeError, match=r"`channels` must be a list of texts.*Write \(\"t1\",\)"):
        open_cohort(tmp_path, channels="t1")
    for channels in (("t1", "T1"), ("",)):
        with pytest.raises(ArgumentError, match="`channels` must be different texts, none empty"):
            open_cohort(tmp_path, channels=channels)
    with pytest.raises(ArgumentTypeError, match="`image` must be a path, or a list of paths"):
        read_nifti_case(3)
    stack = write_nifti(tmp_path / "b.nii.gz", np.zeros((2, 3, 5, 7)), AFFINE)
    with pytest.raises(DataError, match=r"b.nii.gz` must be one channel"):
        read_nifti_case([tmp_path / "a.nii.gz", stack])


# Names


def _nnunet(folder):
    _write(folder, imagesTr__a_0000=1, imagesTr__a_0001=2, labelsTr__a=1)
    names = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "x": 1}}
    _json(folder / "dataset.json", names)
    return folder


def _numbered(folder):
    _json(_write(folder, a_0000=1, a_0001=2, a_seg=1) / "cases.json", {"channel_names": ["T1", "T2"]})
    return folder


NAMED = {
    (): (("T1", "T2"), [{1}, {2}]),
    ("0001", "0000"): (("T2", "T1"), [{2}, {1}]),
    ("0001",): (("T2",), [{2}]),
    ("t2", "T1"): (("T2", "T1"), [{2}, {1}]),
}


@pytest.mark.parametrize("channels", NAMED)
@pytest.mark.parametrize("written", [_nnunet, _numbered])
def test_names_go_with_the_numbers_that_are_chosen(tmp_path, written, channels):
    cohort = open_cohort(written(tmp_path), channels=channels or None)
    names, values = NAMED[channels]
    assert (cohort.channel_names, _values(cohort)) == (names, {"a": (values, {1})})
    assert cohort.channel_names == cohort[0].channel_names
    again = cohort.opening.open(tmp_path)
    assert (again.channel_names, _values(again)) == (names, {"a": (values, {1})})


@pytest.mark.parametrize(
    ("said", "channels", "names"),
    [
        (["t1", "t2"], None, ("t1", "t2")),
        (["t1", "t2"], ("t2", "t1"), ("t2", "t1")),
        (["t1", "t2"], ("t2",), ("t2",)),
        (["T2", "T1"], None, ("T1", "T2")),
        (["T2", "T1"], ("T2", "t1"), ("T2", "T1")),
        (["before", "after"], None, ("before", "after")),
        (["before", "after"], ("t2", "t1"), ("after", "before")),
        (["before", "after"], ("t2",), ("after",)),
    ],
)
def test_names_of_a_list_go_with_the_endings_of_the_files(tmp_path, said, channels, names):
    folder = _write(tmp_path, a_t1=1, a_t2=2, a_seg=1)
    _json(folder / "cases.json", {"channel_names": said})
    cohort = open_cohort(folder, channels=channels)
    read = [{1 if ending.lower() == "t1" else 2} for ending in channels or ("t1", "t2")]
    assert (cohort.channel_names, _values(cohort)) == (names, {"a": (read, {1})})


@pytest.mark.parametrize(
    ("said", "channels"),
    [(["t2", "other"], None), (["x", "y", "z"], ("t2",)), (["x", "y", "z"], None)],
)
def test_names_of_a_list_that_contradict_the_endings_are_refused(tmp_path, said, channels):
    folder = _write(tmp_path, a_t1=1, a_t2=2, a_seg=1)
    _json(folder / "cases.json", {"channel_names": said})
    wanted = r"channel_names of .*cases.json` must be one name for each of (t1, )?t2, in this order, got \['.*Correct"
    with pytest.raises(DataError, match=wanted):
        open_cohort(folder, channels=channels)


# Grids


@pytest.mark.parametrize("degrees", [0.0, 0.5])
def test_a_finer_channel_is_smoothed_however_its_grid_is_turned(tmp_path, degrees):
    shape = (3, 80, 80)
    index = np.indices(shape)
    noise = np.random.default_rng(0).normal(size=shape)
    contents = {"noise": noise, "constant": np.full(shape, 3.0), "ramp": index[2] + 2.0 * index[1]}
    first, moving = np.diag([2.0, 2.0, 4.0, 1.0]), _turned(degrees, (0.5, 0.5, 4.0), (0.0, 0.0, 0.0))
    a = write_nifti(tmp_path / "a.nii.gz", np.zeros((3, 20, 20), np.float32), first)
    read = {}
    for name, values in contents.items():
        b = write_nifti(tmp_path / f"{name}.nii.gz", values.astype(np.float32), moving)
        read[name] = read_nifti_case([a, b], resample_channels=True).image[1][:, 3:-3, 3:-3]
    # In each of two axes the weights 1, 2, 3, 4, 3, 2, 1 of 16.
    assert read["noise"].std() == pytest.approx(44 / 256, rel=0.15)
    np.testing.assert_allclose(read["constant"], 3.0, atol=1e-5)
    z, y, x = (place[:, 3:-3, 3:-3] for place in np.indices((3, 20, 20)))
    inverse = np.linalg.inv(moving) @ first
    column, row = (inverse[axis, 0] * x + inverse[axis, 1] * y + inverse[axis, 2] * z for axis in (0, 1))
    np.testing.assert_allclose(read["ramp"], column + 2 * row, atol=1e-3)


def _smooth(shape, affine):
    """Return a smooth function of the place in the patient, sampled on a grid."""
    index = np.stack([*np.indices(shape)[::-1], np.ones(shape)])
    x, y, z = np.tensordot(affine[:3], index, axes=1)
    return (np.sin(x / 7) + np.cos(y / 9) + np.sin(z / 11 + 1)).astype(np.float32)


def _turned(degrees, spacing, origin):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    affine = turn @ np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


GRIDS = {
    "finer": ((11, 13, 17), _turned(0, (1.5, 1.4, 2.0), (1.0, -2.0, 0.5))),
    "oblique": ((13, 17, 19), _turned(12, (1.3, 1.4, 1.9), (2.0, -3.0, 0.7))),
}


@pytest.mark.peer
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("order", ["as it is", "flipped"])
def test_resampling_equals_that_of_itk(tmp_path, grid, order):

    import SimpleITK

    first, moving = _turned(3, (1.1, 1.2, 1.7), (3.0, 1.0, 2.0)), GRIDS[grid]
    if grid == "finer":
        moving = moving[0], _turned(3, (1.5, 1.4, 2.0), (1.0, -2.0, 0.5))
    shape, affine = moving
    values = _smooth(shape, affine)
    a = write_nifti(tmp_path / "a.nii.gz", _smooth((7, 11, 13), first), first)
    b = write_nifti(tmp_path / "b.nii.gz", values, affine)
    judged = SimpleITK.Resample(
        SimpleITK.ReadImage(str(b)),
        SimpleITK.ReadImage(str(a)),
        SimpleITK.Transform(),
        SimpleITK.sitkLinear,
        -99.0,
    )
    wanted = SimpleITK.GetArrayFromImage(judged)
    if order == "flipped":
        flipped = affine @ np.array([[-1, 0, 0, shape[2] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        write_nifti(b, values[:, :, ::-1], flipped)
    case = read_nifti_case([a, b], resample_channels=True)
    inside = wanted > -90
    assert inside.mean() > 0.5
    np.testing.assert_allclose(case.image[1][inside], wanted[inside], atol=1e-4)
    np.testing.assert_array_equal(case.image[0], read_nifti(a).array)
    np.testing.assert_allclose(case.affine, first, atol=1e-5)


def test_a_channel_in_another_storage_order_is_reordered(tmp_path):
    values = np.arange(3 * 5 * 7, dtype=np.float32).reshape(3, 5, 7)
    a = write_nifti(tmp_path / "a.nii.gz", values, AFFINE)
    flipped = AFFINE @ np.array([[1, 0, 0, 0], [0, -1, 0, 4], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    b = write_nifti(tmp_path / "b.nii.gz", values[:, ::-1] + 1, flipped)
    turned = AFFINE[:, [2, 0, 1, 3]]
    c = write_nifti(tmp_path / "c.nii.gz", values.transpose(1, 2, 0) + 2, turned)
    np.testing.assert_array_equal(
        read_nifti_case([a, b, c]).image, np.stack([values, values + 1, values + 2])
    )


def test_a_coarser_channel_is_interpolated_by_hand(tmp_path):
    a = write_nifti(tmp_path / "a.nii.gz", np.zeros((1, 1, 5), np.float32), np.eye(4))
    b = write_nifti(tmp_path / "b.nii.gz", np.float32([[[0, 2, 4]]]), np.diag([2.0, 1, 1, 1]))
    image = read_nifti_case([a, b], resample_channels=True).image
    np.testing.assert_allclose(image[1, 0, 0], [0, 1, 2, 3, 4])
    names = open_cohort(tmp_path, channels=("a", "b"), resample_channels=True)
    np.testing.assert_array_equal(names[0].image, image)
    with pytest.raises(
        DataError, match=r"b.nii.gz` must be on the grid of .*a.nii.gz, .*resample_channels=True"
    ):
        read_nifti_case([a, b])


def test_a_channel_of_another_part_of_the_body_is_refused(tmp_path):
    a = write_nifti(tmp_path / "a.nii.gz", _volume(1), AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] = 8.0
    b = write_nifti(tmp_path / "b.nii.gz", _volume(1), moved)
    with pytest.raises(
        DataError, match=r"b.nii.gz` must be a volume that covers at least half of .*a.nii.gz, got 22%"
    ):
        read_nifti_case([a, b], resample_channels=True)


def test_a_mask_lies_on_the_first_channel(tmp_path):
    a = write_nifti(tmp_path / "x_a.nii.gz", np.zeros((1, 1, 5), np.float32), np.eye(4))
    b = write_nifti(tmp_path / "x_b.nii.gz", np.zeros((1, 1, 3), np.float32), np.diag([2.0, 1, 1, 1]))
    label = np.uint8([[[0, 1, 2, 0, 1]]])
    write_nifti(tmp_path / "x_seg.nii.gz", label, np.eye(4))
    case = open_cohort(tmp_path, resample_channels=True)[0]
    assert isinstance(case, Case)
    np.testing.assert_array_equal(case.labels, label)
    assert Volume(case.image, case.affine).spacing_mm == (1.0, 1.0, 1.0)
    assert a.exists()
    assert b.exists()


def test_channels_of_nnunet_are_chosen_by_the_names_that_its_list_has(tmp_path):
    """As a run on files called by words needs it, to predict the same scans converted."""
    (tmp_path / "imagesTr").mkdir()
    for number in range(3):
        volume = np.full((2, 3, 5), number, np.uint8)
        write_nifti(tmp_path / f"imagesTr/a_000{number}.nii.gz", volume, np.eye(4))
    names = {"channel_names": {"0": "flair", "1": "t1", "2": "t2"}, "labels": {"background": 0, "tumour": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(names))
    cohort = open_cohort(tmp_path, channels=("t2", "flair"))
    assert cohort[0].image[:, 0, 0, 0].tolist() == [2, 0]
    assert (cohort.channel_names, cohort.opening.channels) == (("t2", "flair"), ("0002", "0000"))
    assert cohort.opening.open(tmp_path)[0].image[:, 0, 0, 0].tolist() == [2, 0]
    assert open_cohort(tmp_path).channel_names == ("flair", "t1", "t2")


@pytest.mark.parametrize("choice", [("after",), ("After",), ("t2",), ("t2", "t1"), ("after", "before"), None])
def test_channels_of_words_are_chosen_by_the_names_that_their_list_has(tmp_path, choice):
    for name, value in (("a_t1", 1), ("a_t2", 2), ("a_seg", 0), ("b_t1", 1), ("b_t2", 2), ("b_seg", 0)):
        write_nifti(tmp_path / f"{name}.nii.gz", np.full((2, 3, 5), value, np.uint8), np.eye(4))
    (tmp_path / "cases.json").write_text(json.dumps({"channel_names": ["before", "after"]}))
    wanted = {2: ("after", "t2"), 1: ("before", "t1")}
    values = [2] if choice in {("after",), ("After",), ("t2",)} else [2, 1] if choice else [1, 2]
    cohort = open_cohort(tmp_path, channels=choice)
    again = cohort.opening.open(tmp_path)
    for one in (cohort, again):
        assert one[0].image[:, 0, 0, 0].tolist() == values
        assert one.channel_names == one[0].channel_names == tuple(wanted[value][0] for value in values)
        assert one.opening.channels == tuple(wanted[value][1] for value in values)
