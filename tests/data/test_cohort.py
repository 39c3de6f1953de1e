import json
import pickle
import shutil

import numpy as np
import pytest
from tests.data.dicom_maker import numbered, write_series
from tests.real_data import real_data

from guided_attention.data import (
    CHAOS_CT_LABELS,
    CHAOS_MR_LABELS,
    Opening,
    convert,
    make_phantom,
    open_cohort,
    read_chaos_case,
    read_dicom_series,
    read_nifti,
    read_png_slices,
    write_nifti,
    write_phantom_cohort,
    write_png_slices,
)
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError, MissingFileError
from guided_attention.labels import LabelSpec

AFFINE = np.diag([1.5, 1.25, 5.0, 1.0])


def _volume(value):
    return np.full((3, 5, 7), value, np.int16)


def _write(folder, **values):
    """Write one constant volume for each name, a path without its ending in which `__` separates folders."""
    for name, value in values.items():
        path = folder / f"{name.replace('__', '/')}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, _volume(value), AFFINE)
    return folder


def _json(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def _values(cohort):
    """Return the value of each image and of its mask, by name of the case."""
    found = {}
    for case in cohort:
        labels = None if case.labels is None else set(case.labels.flat)
        found[case.case_id] = [set(channel.flat) for channel in case.image], labels
    return found


# Pairs


def test_pairs_by_suffix(tmp_path):
    _write(tmp_path, case2_image=2, case2_label=1, case10_image=10, case10_label=5)
    cohort = open_cohort(tmp_path)
    assert (cohort.layout, cohort.labels, cohort.channel_names, cohort.parts) == ("pairs", None, (), {})
    assert cohort.case_ids == cohort.labelled == ("case2", "case10")
    assert _values(cohort) == {"case2": ([{2}], {1}), "case10": ([{10}], {5})}
    for case in (cohort[1], cohort.read("case10"), cohort.readers()[1](), cohort.select(["case10"])[0]):
        assert (case.case_id, case.image.flat[0]) == ("case10", 10)
    assert (len(cohort), len(cohort.select(["case10"]))) == (2, 1)
    assert [read.case_id for read in cohort.readers()] == ["case2", "case10"]  # known before they are read


@pytest.mark.parametrize(
    ("image", "label", "case_id"),
    [
        ("a", "a_seg", "a"),
        ("a_img", "a_mask", "a"),
        ("a-SCAN", "a-gt", "a"),
        ("images__a", "labels__a", "a"),
        ("Images__a_image", "Masks__a_mask", "a"),
        ("s1__ct", "s1__segmentation", "ct"),
        ("s1__image", "s1__label", "s1"),
        ("image", "label", "scans"),
    ],
)
def test_usual_names(tmp_path, image, label, case_id):
    cohort = open_cohort(_write(tmp_path / "scans", **{image: 7, label: 2}))
    assert _values(cohort) == {case_id: ([{7}], {2})}


def test_files_of_one_name_are_paired_by_folder(tmp_path):
    _write(tmp_path, s1__ct=1, s2__ct=2, s3__ct=3, s3__liver_seg=6, s1__liver_seg=4, s2__liver_seg=5)
    expected = {"s1": ([{1}], {4}), "s2": ([{2}], {5}), "s3": ([{3}], {6})}
    assert _values(open_cohort(tmp_path)) == expected


def test_parts_by_folder(tmp_path):
    _write(tmp_path, test__c_image=3, train__a_image=1, train__a_label=1, Training__b_image=9, val__b_image=2)
    shutil.rmtree(tmp_path / "Training")
    cohort = open_cohort(tmp_path)
    assert cohort.parts == {"train": ("a",), "val": ("b",), "test": ("c",)}
    assert cohort.labelled == ("a",)
    assert open_cohort(tmp_path / "train").parts == {}


def test_parts_by_cases_json(tmp_path):
    names = {f"case{number:02d}_{kind}": number for number in (1, 2, 11) for kind in ("image", "label")}
    _write(tmp_path, **names)
    records = [{"case": 1, "split": "train", "shape": [3]}, {"case": "case02", "split": "test"}]
    _json(tmp_path / "cases.json", records)
    cohort = open_cohort(tmp_path)
    assert cohort.parts == {"train": ("case01",), "test": ("case02",)}
    assert cohort.case_ids == ("case01", "case02", "case11")
    lists = {
        "train": [2, 11],
        "val": ["case01"],
        "labels": {"1": "left", "2": "ring"},
        "channel_names": ["T1"],
    }
    _json(tmp_path / "cases.json", lists | {"author": "unknown keys are left alone"})
    cohort = open_cohort(tmp_path)
    assert cohort.parts == {"train": ("case02", "case11"), "val": ("case01",)}
    assert cohort.labels == LabelSpec({1: "left", 2: "ring"})
    assert cohort.channel_names == cohort[0].channel_names == ("T1",)
    assert cohort.select(["case11", "case01"]).parts == {"train": ("case11",), "val": ("case01",)}


def test_cases_json_beside_folders_of_parts(tmp_path):
    _write(tmp_path, train__a_image=1, train__a_label=1, test__b_image=2, test__b_label=1)
    about = {"labels": {"1": "liver"}, "channel_names": ["T1"]}
    _json(tmp_path / "cases.json", about)
    expected = ({"train": ("a",), "test": ("b",)}, LabelSpec({1: "liver"}), ("T1",))
    cohort = open_cohort(tmp_path)
    assert (cohort.parts, cohort.labels, cohort.channel_names) == expected
    assert cohort[1].channel_names == ("T1",)
    _json(tmp_path / "cases.json", about | {"train": ["b"], "test": ["a"]})
    with pytest.warns(
        UserWarning, match=r"The lists of .*cases.json are not read: its folders are the parts"
    ):
        cohort = open_cohort(tmp_path)
    assert (cohort.parts, cohort.labels, cohort.channel_names) == expected


def test_cases_json_that_a_layout_does_not_read_is_told(tmp_path):
    _write(tmp_path, imagesTr__a=1, labelsTr__a=1)
    _json(tmp_path / "dataset.json", {"labels": {"0": "background", "1": "liver"}})
    _json(tmp_path / "cases.json", {"test": ["a"]})
    with pytest.warns(
        UserWarning, match=r"cases.json is not read: the layout 'decathlon' has parts and names"
    ):
        assert open_cohort(tmp_path).parts == {}


def test_image_without_mask_is_named_and_kept(tmp_path):
    _write(tmp_path, a_image=1, a_label=1, b_image=2)
    with pytest.warns(UserWarning, match=r"1 of 2 images has no mask: .*b_image.nii.gz"):
        cohort = open_cohort(tmp_path)
    assert (cohort.case_ids, cohort.labelled) == (("a", "b"), ("a",))


def test_scans_without_masks(tmp_path):
    _write(tmp_path, scan2=2, scan10=10)
    write_series(tmp_path / "series3", numbered(depth=3))
    cohort = open_cohort(tmp_path)
    assert (cohort.layout, cohort.case_ids, cohort.labelled) == ("pairs", ("scan2", "scan10", "series3"), ())
    assert open_cohort(tmp_path / "scan2.nii.gz")[0].case_id == "scan2"
    series = open_cohort(tmp_path / "series3")
    assert (series.layout, series.case_ids) == ("dicom", ("series3",))
    np.testing.assert_array_equal(series[0].image[0], read_dicom_series(tmp_path / "series3").array)


@pytest.mark.parametrize("names", [None, ["blank1", "blank2", "blank3"]])
def test_dicom_series_with_a_mask(tmp_path, names):
    write_series(tmp_path / "a_dicom", numbered(depth=3), names=names)
    volume = read_dicom_series(tmp_path / "a_dicom")
    mask = (volume.array > np.median(volume.array)).astype(np.uint8)
    write_nifti(tmp_path / "a_label.nii.gz", mask, volume.affine)
    case = open_cohort(tmp_path).read("a")
    np.testing.assert_array_equal(case.image[0], volume.array)
    np.testing.assert_array_equal(case.labels, mask)
    assert open_cohort(tmp_path).layout == "dicom"


# Decathlon and nnU-Net


def _decathlon(folder):
    _write(
        folder,
        imagesTr__la_003=3,
        labelsTr__la_003=1,
        imagesTr__la_004=4,
        labelsTr__la_004=0,
        imagesTs__la_009=9,
    )
    listed = [
        {"image": f"./imagesTr/la_00{n}.nii.gz", "label": f"./labelsTr/la_00{n}.nii.gz"} for n in (3, 4)
    ]
    content = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "left atrium"}}
    _json(
        folder / "dataset.json", content | {"training": listed, "test": ["./imagesTs/la_009.nii.gz"], "x": 1}
    )
    return folder


def _nnunet(folder):
    volumes = {f"imagesTr__c_{n}_000{channel}": 10 * n + channel for n in (1, 2) for channel in (0, 1)}
    _write(folder, **volumes, labelsTr__c_1=1, labelsTr__c_2=2, imagesTs__c_3_0000=30, imagesTs__c_3_0001=31)
    labels = {"background": 0, "left kidney": 1, "right kidney": 2, "ignore": 3}
    names = {"0": "T2", "1": "ADC"}
    _json(folder / "dataset.json", {"channel_names": names, "labels": labels, "file_ending": ".nii.gz"})
    return folder


def test_decathlon(tmp_path):
    cohort = open_cohort(_decathlon(tmp_path))
    assert (cohort.layout, cohort.labels) == ("decathlon", LabelSpec({1: "left atrium"}))
    assert cohort.parts == {"train": ("la_003", "la_004"), "test": ("la_009",)}
    assert _values(cohort) == {"la_003": ([{3}], {1}), "la_004": ([{4}], {0}), "la_009": ([{9}], None)}
    assert cohort.channel_names == cohort[0].channel_names == ("MRI",)


def test_nnunet(tmp_path):
    cohort = open_cohort(_nnunet(tmp_path))
    assert (cohort.layout, cohort.channel_names, cohort.labelled) == ("nnunet", ("T2", "ADC"), ("c_1", "c_2"))
    assert cohort.parts == {"train": ("c_1", "c_2"), "test": ("c_3",)}
    expected = {"c_1": ([{10}, {11}], {1}), "c_2": ([{20}, {21}], {2}), "c_3": ([{30}, {31}], None)}
    assert _values(cohort) == expected
    organs = LabelSpec({1: "left kidney", 2: "right kidney"}, pairs=((2, 1),), ignore_value=3)
    assert cohort.labels == organs
    assert _values(open_cohort(tmp_path / "imagesTs")) == {"c_3": ([{30}, {31}], None)}


def test_numbers_that_are_no_channels(tmp_path):
    _write(tmp_path, imagesTr__la_0000=3, labelsTr__la_0000=1, imagesTr__la_0001=4, labelsTr__la_0001=2)
    expected = {"la_0000": ([{3}], {1}), "la_0001": ([{4}], {2})}
    cohort = open_cohort(tmp_path)
    assert (cohort.layout, _values(cohort)) == ("decathlon", expected)


# CHAOS and PNG


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_phantom_cohort(tmp_path_factory.mktemp("chaos") / "release", subjects=2, size=16)


@pytest.mark.parametrize(
    ("layout", "source"),
    [
        ("auto", "t1_in"),
        ("chaos", "t1_in"),
        ("chaos:t1_out", "t1_out"),
        ("chaos:t1_dual", "t1_dual"),
        ("chaos:t2", "t2"),
    ],
)
def test_chaos_release(release, layout, source):
    cohort = open_cohort(release, layout=layout)
    assert (cohort.layout, cohort.case_ids) == (layout.replace("auto", "chaos"), ("1", "2"))
    assert (cohort.labels, cohort.parts, cohort.labelled) == (CHAOS_MR_LABELS, {}, ("1", "2"))
    expected, case = read_chaos_case(release / "Train_Sets/MR/2", source=source), cohort[1]
    np.testing.assert_array_equal(case.image, expected.image)
    np.testing.assert_array_equal(case.labels, expected.labels)
    assert cohort.channel_names == case.channel_names == expected.channel_names


@pytest.mark.parametrize(
    ("folder", "case_ids"), [("Train_Sets", "12"), ("Train_Sets/MR", "12"), ("Train_Sets/MR/2", "2")]
)
def test_parts_of_a_chaos_release(release, folder, case_ids):
    assert open_cohort(release / folder).case_ids == tuple(case_ids)


def test_a_chaos_release_is_read_as_t2_only_where_no_subject_has_t1(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "r")
    bare = folder / "Train_Sets/MR/2"
    shutil.rmtree(bare / "T1DUAL")
    for layout in ("auto", "chaos"):
        with pytest.raises(
            DataError, match=rf"that all have T1DUAL, got none in {bare}\. .*layout=\"chaos:t2\"\.$"
        ):
            open_cohort(folder, layout=layout)
    assert open_cohort(folder, layout="chaos:t2").labelled == ("1", "2")
    shutil.rmtree(folder / "Train_Sets/MR/1/T1DUAL")
    assert (open_cohort(folder).layout, open_cohort(folder).labelled) == ("chaos:t2", ("1", "2"))


def test_chaos_sets_are_parts(release, tmp_path):
    shutil.copytree(release, tmp_path / "r")
    subject = tmp_path / "r/Test_Sets/MR/7"
    shutil.copytree(release / "Train_Sets/MR/1", subject)
    for ground in subject.rglob("Ground"):
        shutil.rmtree(ground)
    cohort = open_cohort(tmp_path / "r")
    assert (cohort.parts, cohort.labelled) == ({"train": ("1", "2"), "test": ("7",)}, ("1", "2"))
    assert cohort.read("7").labels is None
    shutil.copytree(subject / "T2SPIR", tmp_path / "r/Train_Sets/CT/8")
    with pytest.raises(DataError, match="must be of one modality, got MR and CT"):
        open_cohort(tmp_path / "r")


def test_png_slices(tmp_path):
    for number, part in enumerate(("train", "val", "test"), start=1):
        write_png_slices([make_phantom(0, subject=number, size=16)], tmp_path / part)
    with pytest.warns(UserWarning, match="1 mm is assumed"):
        assert open_cohort(tmp_path)[0].spacing_mm == (1.0, 1.0, 1.0)
    cohort = open_cohort(tmp_path, spacing_mm=(9.0, 1.5, 1.25))
    assert (cohort.layout, cohort.labels) == ("png", CHAOS_MR_LABELS)
    assert cohort.parts == {"train": ("1",), "val": ("2",), "test": ("3",)}
    (expected,), case = read_png_slices(tmp_path / "val", spacing_mm=(9.0, 1.5, 1.25)), cohort.read("2")
    np.testing.assert_array_equal(case.image, expected.image)
    np.testing.assert_array_equal(case.labels, expected.labels)
    np.testing.assert_array_equal(case.affine, expected.affine)


def test_the_files_of_a_subject_in_png_slices_are_its_own(tmp_path):
    cases = [make_phantom(0, subject=number, size=16) for number in (1, 2)]
    write_png_slices(cases, tmp_path / "train")
    for scan in open_cohort(tmp_path, spacing_mm=(9.0, 1.5, 1.25)).scans:
        names = {f"Subj_{scan.case_id}slice_{place + 1}.png" for place in range(scan.read().image.shape[1])}
        assert {path.name for path in scan.files()} == names
        assert {path.parent for path in scan.files()} == {tmp_path / "train/Img", tmp_path / "train/GT"}
        assert len(scan.files()) == 2 * len(names)


def test_png_slices_with_numbers_of_their_own(tmp_path):
    levels = {0: 0, 63: 1, 126: 2, 189: 0, 252: 0}
    write_png_slices([make_phantom(0, size=16)], tmp_path)
    content = {"spacing_mm": [9, 1.5, 1.25], "grey_levels": levels, "labels": {"1": "liver", "2": "kidney"}}
    _json(tmp_path / "dataset.json", content)
    cohort = open_cohort(tmp_path)
    case = cohort[0]
    assert (case.spacing_mm, cohort.labels) == ((9.0, 1.5, 1.25), LabelSpec({1: "liver", 2: "kidney"}))
    assert set(case.labels.flat) == {0, 1, 2}
    _json(tmp_path / "dataset.json", content | {"spacing_mm": [9, 0, 1]})
    with pytest.raises(DataError, match="`spacing_mm of dataset.json` must be three numbers above 0"):
        open_cohort(tmp_path)
    _json(tmp_path / "dataset.json", content | {"grey_levels": [0, 255]})
    with pytest.raises(DataError, match=r"`grey_levels of .*dataset.json` must be a mapping"):
        open_cohort(tmp_path)


# Real scans


def test_left_atria():
    cohort = open_cohort(real_data("left-atrium-mr"))
    assert [len(cohort.parts[part]) for part in ("train", "val", "test")] == [20, 4, 6]
    assert (cohort.layout, len(cohort.labelled), cohort.case_ids[0]) == ("pairs", 30, "case01")
    assert cohort.parts["test"][0] == "case25"


def test_abdomen():
    cohort = open_cohort(real_data("abdomen-mr-ct"))
    assert (cohort.layout, cohort.labelled) == ("pairs", ("ct_a", "ct_b", "mr"))
    case, volume = cohort.read("ct_b"), read_dicom_series(cohort.folder / "ct_b_dicom")
    np.testing.assert_array_equal(case.image[0], volume.array)
    assert case.labels.shape == volume.array.shape
    assert int((case.labels > 0).sum()) == int(
        (read_nifti(cohort.folder / "ct_b_label.nii.gz").array > 0).sum()
    )


def test_a_case_of_chaos():
    cohort = open_cohort(real_data("chaos-ct-case"))
    assert (cohort.layout, cohort.labelled) == ("chaos", ("chaos-ct-case",))
    assert (cohort.labels, cohort.channel_names) == (CHAOS_CT_LABELS, ("ct",))


def test_a_slice_of_chaos():
    cohort = open_cohort(real_data("chaos-mr-slice"), spacing_mm=(9.0, 1.5, 1.5))
    assert (cohort.layout, cohort.case_ids, cohort.labelled) == ("png", ("21",), ("21",))
    assert set(cohort[0].labels.flat) == {0, 1, 2, 3}


# Mistakes, found before a volume is read


@pytest.fixture
def no_reading(monkeypatch):
    def fail(*_arguments, **_keywords):
        raise AssertionError("a volume was read")

    for name in ("joined_case", "read_dicom_series", "open_volume"):
        monkeypatch.setattr(f"guided_attention.data.layouts._volumes.{name}", fail)


def _wrong_json(key, value):
    def change(folder):
        content = json.loads((_decathlon(folder) / "dataset.json").read_text(encoding="utf-8"))
        _json(folder / "dataset.json", content | {key: value})

    return change


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: _write(d, a_image=1, a_label=1, b_label=2), DataError, r"none for .*b_label.nii.gz"),
        (
            lambda d: (d / "a_image.nii.gz").symlink_to("nowhere"),
            MissingFileError,
            "a link that leads nowhere",
        ),
        (
            lambda d: _write(d, a_image=1, a=2),
            DataError,
            "must be the name of one volume, got .*a.nii.gz and",
        ),
        (lambda d: _write(d, a_label=1, a_seg=2), DataError, "must be the name of one volume, got .*a_label"),
        (
            lambda d: _write(d, train__a=1, test__a=2),
            DataError,
            "of different names, got 'a' for .*train.* and",
        ),
        (lambda _: None, DataError, "which holds nothing. Looked for: volumes"),
        (lambda d: (d / "notes.txt").touch(), DataError, "which holds notes.txt. Looked for"),
        (
            lambda d: (d / "imagesTr").mkdir(),
            DataError,
            "imagesTr` must be a folder of .*files, got none",
        ),
        (
            lambda d: _json(_decathlon(d) / "dataset.json", "{"),
            DataError,
            "dataset.json` must be a JSON file",
        ),
        (
            lambda d: _json(_decathlon(d) / "dataset.json", "[]"),
            DataError,
            "a JSON file with a mapping, got a list",
        ),
        (
            _wrong_json("training", [{"image": "a.nii.gz"}]),
            DataError,
            "a list of files that are there, got a.nii.gz",
        ),
        (
            _wrong_json("file_ending", ".czi"),
            DataError,
            "file_ending of .* must be one of .nii.gz, .nii, .*, got '.czi'",
        ),
        (_wrong_json("labels", {"liver": [1, 2]}), DataError, "labels of .*Regions of several labels"),
        (
            _wrong_json("labels", ["liver"]),
            DataError,
            "labels of .* must be a mapping of label values and names",
        ),
        (
            _wrong_json("labels", {"1": "a", "2": "a"}),
            DataError,
            "of different names, got .* Read from .*dataset",
        ),
        (_wrong_json("modality", 3), DataError, "modality of .* must be a mapping or a list, got 3"),
        (
            lambda d: _json(_write(d, a=1) / "cases.json", "[1]"),
            DataError,
            r"cases.json` must be a list of .*, got 1",
        ),
        (
            lambda d: _json(_write(d, a=1) / "cases.json", "3"),
            DataError,
            "cases.json` must be a list of .* a int",
        ),
        (
            lambda d: _json(_write(d, a=1) / "cases.json", [{"case": "b", "split": "train"}]),
            DataError,
            "must be a file of the cases a, got 'b'. Correct the name",
        ),
        (
            lambda d: _json(_write(d, a1=1, b1=1) / "cases.json", {"train": [1]}),
            DataError,
            "must be a file of the cases a1, b1, got '1'",
        ),
        (
            lambda d: _json(_write(d, a=1) / "cases.json", {"train": ["a"], "test": ["a"]}),
            DataError,
            "each case once, got 'a' in two parts",
        ),
        (
            lambda d: _json(_write(d, a=1) / "cases.json", [{"case": "a", "split": "exam"}]),
            DataError,
            'got {"case": "a", "split": "exam"}',
        ),
    ],
)
def test_mistakes(tmp_path, make, error, message):
    make(tmp_path)
    with pytest.raises(error, match=message):
        open_cohort(tmp_path)


@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_arguments(tmp_path):
    with pytest.raises(MissingFileError, match=r"`folder` must be an existing folder or file, got .*nothing"):
        open_cohort(tmp_path / "nothing")
    with pytest.raises(ArgumentError, match="`layout` must be one of 'auto', 'pairs'"):
        open_cohort(tmp_path, layout="nifti")
    with pytest.raises(ArgumentTypeError, match="`labels` must be a LabelSpec"):
        open_cohort(tmp_path, labels=["liver"])
    with pytest.raises(ArgumentError, match="spacing"):
        open_cohort(tmp_path, spacing_mm=(1.0, 0.0, 1.0))
    _write(tmp_path, a=1)
    with pytest.raises(DataError, match="in the layout 'nnunet', got"):
        open_cohort(tmp_path, layout="nnunet")
    with pytest.raises(ArgumentError, match="got b. Found there: a"):
        open_cohort(tmp_path).select(["b"])
    with pytest.raises(ArgumentError, match="each named once, got a more than once"):
        open_cohort(tmp_path).select(["a", "a"])
    with pytest.raises(IndexError):
        open_cohort(tmp_path)[1]
    with pytest.raises(
        ArgumentTypeError, match=r"^`index` must be the place of one case, got slice\(0, 2, None\)\."
    ):
        open_cohort(tmp_path)[0:2]
    with pytest.raises(
        ArgumentTypeError, match="^`labels` must be a LabelSpec, or a mapping .*, got a NoneType"
    ):
        open_cohort(tmp_path).with_labels(None)


def test_channels_have_to_lie_on_one_grid(tmp_path):
    _nnunet(tmp_path)
    moved = AFFINE.copy()
    moved[0, 3] = 3.0
    write_nifti(tmp_path / "imagesTr/c_1_0001.nii.gz", _volume(1), moved)
    write_nifti(tmp_path / "imagesTr/c_2_0001.nii.gz", np.zeros((3, 5, 11), np.int16), AFFINE)
    with pytest.raises(
        DataError,
        match=r"c_1_0001.nii.gz` must be within .* mm of .*c_1_0000.nii.gz .*resample_channels=True",
    ):
        open_cohort(tmp_path).read("c_1")
    with pytest.raises(DataError, match=r"c_2_0001.nii.gz` must be on the grid of .*c_2_0000.nii.gz, of"):
        open_cohort(tmp_path).read("c_2")


def test_a_cohort_goes_to_worker_processes(tmp_path):
    cohort = pickle.loads(pickle.dumps(open_cohort(_nnunet(tmp_path))))  # noqa: S301 - our own
    assert (cohort.read("c_2").image[1] == 21).all()


def test_organs_that_are_named_by_value_are_kept_and_all_others_are_background(tmp_path):
    mask = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5) % 7
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}_image.nii.gz", mask.astype(np.float32), np.eye(4))
        write_nifti(tmp_path / f"{name}_label.nii.gz", mask, np.eye(4))
    cohort = open_cohort(tmp_path, labels={5: "left kidney", 2: "right kidney"})
    names = {2: "right kidney", 5: "left kidney"}
    assert cohort.labels == LabelSpec(names, pairs=((2, 5),), others_are_background=True)
    expected = np.where((mask == 2) | (mask == 5), mask, 0)
    part = cohort.select(["b"])
    for case in (cohort[0], cohort.read("b"), *cohort, *[read() for read in part.readers()]):
        np.testing.assert_array_equal(case.labels, expected)
        assert case.labels.dtype == np.uint8
    converted = convert(
        cohort, tmp_path.with_name(f"{tmp_path.name}_nnunet"), "nnunet"
    )  # which numbers the organs without gaps
    converted = open_cohort(converted).read("b").labels
    np.testing.assert_array_equal(converted, (mask == 2) + 2 * (mask == 5))
    by_hand = open_cohort(tmp_path).with_labels({5: "left kidney", 2: "right kidney"})
    assert by_hand.labels == cohort.labels
    np.testing.assert_array_equal(by_hand[0].labels, expected)
    # A LabelSpec says itself whether other values are errors, and then they stay to be found.
    np.testing.assert_array_equal(open_cohort(tmp_path, labels=LabelSpec(names))[0].labels, mask)


def test_a_cohort_tells_how_to_open_it_again(tmp_path):
    for word in ("t1", "t2", "seg"):
        write_nifti(tmp_path / f"a_{word}.nii.gz", np.ones((2, 3, 5), np.uint8), np.eye(4))
    for opening in (Opening(), Opening(channels=("t2", "t1")), Opening(channels=("t1",), max_bytes=4096)):
        cohort = opening.open(tmp_path, {1: "liver"})
        assert cohort.opening.open(tmp_path, {1: "liver"}).opening == cohort.opening
        assert cohort.opening.max_bytes == opening.max_bytes
        assert cohort.opening.channels == (opening.channels or ("t1", "t2"))
        assert cohort[0].image.shape[0] == len(cohort.opening.channels)
    for labels in (None, {1: "liver"}):
        with pytest.raises(DataError, match="takes at most 100 bytes"):
            Opening(max_bytes=100).open(tmp_path, labels)[0].image  # noqa: B018


@pytest.mark.parametrize("inside", ["Dataset001_LA/imagesTr/a_0000.nii.gz", "cases.csv"])
def test_a_folder_above_the_right_one_is_told_which_to_open(tmp_path, inside):
    path = tmp_path / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    wanted = tmp_path / inside.split("/")[0]
    with pytest.raises(DataError, match=f"must be a folder of scans, got .*\\. Open {wanted}\\.$"):
        open_cohort(tmp_path)


def _structures(folder):
    write_nifti(_made(folder / "s1") / "ct.nii.gz", _volume(3), AFFINE)
    write_nifti(_made(folder / "s1/segmentations") / "liver.nii.gz", _volume(1), AFFINE)
    return folder


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _pairs(folder):
    write_nifti(_made(folder) / "a_image.nii.gz", _volume(3), AFFINE)
    write_nifti(folder / "a_label.nii.gz", _volume(1), AFFINE)
    return folder


@pytest.mark.parametrize("organs", [None, {1: "liver"}])
@pytest.mark.parametrize("layout", ["pairs", "structures", "nnunet", "png", "chaos"])
def test_scans_are_read_without_their_masks(tmp_path, layout, organs):
    """A mask that cannot be used hinders no prediction."""
    if layout in {"pairs", "structures"}:
        folder = _pairs(tmp_path / "a") if layout == "pairs" else _structures(tmp_path / "a")
    else:
        folder = write_phantom_cohort(tmp_path / "a", subjects=1, size=16, layout=layout)
    cohort = open_cohort(folder, layout=layout, labels=organs if layout in {"pairs", "structures"} else None)
    whole = cohort[0]
    assert whole.labels is not None
    masks = [
        path
        for path in folder.rglob("*")
        if path.is_file() and {"labelsTr", "GT", "Ground", "segmentations"} & set(path.parts)
    ]
    for path in masks or [folder / "a_label.nii.gz"]:
        path.write_bytes(b"damaged")
    with pytest.raises(DataError):
        cohort[0]
    images = cohort.without_labels()
    assert images.labelled == ()
    np.testing.assert_array_equal(images[0].image, whole.image)
    assert images[0].labels is None
