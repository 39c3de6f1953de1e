"""Cohorts in other layouts: the same cases come back, whatever happened on the way."""

import json
import multiprocessing
from functools import partial

import numpy as np
import pytest
from tests.deadly import killed_at_random, killed_until_done

from guided_attention.case import affine_of
from guided_attention.data import convert, open_cohort, write_nifti, write_phantom_cohort
from guided_attention.errors import DataError, ExistingFileError
from guided_attention.labels import LabelSpec

pytestmark = pytest.mark.filterwarnings("ignore:nnU-Net has no validation part")

ORGANS = LabelSpec({2: "liver", 5: "left kidney"})


def _pairs(folder, *, channels=1):
    """Seven cases in three parts, one of them without a mask."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(7):
        size, affine = (3 + number % 3, 11, 7), affine_of((5.0, 1.5, 1.25)) @ np.diag([-1, 1, 1, 1])
        shape = size if channels == 1 else (channels, *size)
        write_nifti(folder / f"c{number}_image.nii.gz", rng.integers(0, 256, shape).astype(np.uint8), affine)
        if number != 6:
            write_nifti(
                folder / f"c{number}_label.nii.gz", rng.choice([0, 2, 5], size).astype(np.uint8), affine
            )
    parts = {"train": ["c0", "c1", "c2"], "val": ["c3", "c4"], "test": ["c5", "c6"]}
    (folder / "cases.json").write_text(json.dumps({"labels": {"2": "liver", "5": "left kidney"}, **parts}))
    return folder


def _open(folder):
    with pytest.warns(UserWarning, match="no mask"):
        return open_cohort(folder)


def _bytes(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.filterwarnings("ignore:.*ha(s|ve) no mask")
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("layout", ["pairs", "nnunet"])
def test_cases_come_back(tmp_path, layout, channels):
    source = _open(_pairs(tmp_path / "a", channels=channels))
    seen = []
    got = open_cohort(convert(source, tmp_path / "b", layout, on_case=seen.append))
    assert seen == list(source.case_ids)
    assert sorted(got.case_ids) == sorted(source.case_ids)
    assert got.labels.names == (
        {2: "liver", 5: "left kidney"} if layout == "pairs" else {1: "liver", 2: "left kidney"}
    )
    for name in source.case_ids:
        wanted, case = source.read(name), got.read(name)
        np.testing.assert_array_equal(case.image, wanted.image)
        np.testing.assert_allclose(case.affine, wanted.affine, atol=1e-6)
        if wanted.labels is None:
            assert case.labels is None
        else:
            expected = wanted.labels if layout == "pairs" else ORGANS.to_classes(wanted.labels)
            np.testing.assert_array_equal(case.labels, expected)
    if layout == "pairs":
        assert got.parts == source.parts
    else:
        assert sorted(got.parts["train"]) == ["c0", "c1", "c2", "c3", "c4"]
        assert json.loads((tmp_path / "b/dataset.json").read_text())["numTraining"] == 5


def test_slices_come_back_with_their_spacing(tmp_path):
    folder = _pairs(tmp_path / "a")
    for path in folder.glob("c6*"):
        path.unlink()
    (folder / "cases.json").write_text(
        json.dumps(
            {
                "labels": {"2": "liver", "5": "left kidney"},
                "train": ["c0", "c1"],
                "test": ["c2", "c3", "c4", "c5"],
            }
        )
    )
    source = open_cohort(folder)
    got = open_cohort(convert(source, tmp_path / "b", "png"))
    assert got.layout == "png"
    assert {part: set(names) for part, names in got.parts.items()} == {
        "train": {"c0", "c1"},
        "test": {"c2", "c3", "c4", "c5"},
    }
    for name in source.case_ids:
        wanted, case = source.read(name), got.read(name)
        # The files are LAS, slices in LPS: rows are turned round.
        np.testing.assert_array_equal(case.image, wanted.image[:, :, ::-1])
        np.testing.assert_array_equal(case.labels, ORGANS.to_classes(wanted.labels)[:, ::-1])
        assert case.spacing_mm == wanted.spacing_mm


def test_the_manifest_names_every_file(tmp_path):
    source = _open(_pairs(tmp_path / "a"))
    convert(source, tmp_path / "b", "nnunet")
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    first = manifest["cases"][0]
    assert (first["case_id"], first["spacing_mm"], first["orientation"]) == ("c0", [5.0, 1.5, 1.25], "LAS")
    assert set(first["source"]) == {"c0_image.nii.gz", "c0_label.nii.gz"}
    assert set(first["files"]) == {"imagesTr/c0_0000.nii.gz", "labelsTr/c0.nii.gz"}
    assert first["labels"] == [0, 2, 5]
    listed = {name for case in manifest["cases"] for name in case["files"]} | {
        "dataset.json",
        "manifest.json",
    }
    assert listed == {
        path.relative_to(tmp_path / "b").as_posix() for path in (tmp_path / "b").rglob("*") if path.is_file()
    }


def test_a_second_call_writes_only_what_is_not_whole(tmp_path):
    source = _open(_pairs(tmp_path / "a"))
    convert(source, tmp_path / "b", "nnunet")
    before, times = (
        _bytes(tmp_path / "b"),
        {p: p.stat().st_mtime_ns for p in (tmp_path / "b").rglob("*.nii.gz")},
    )
    harmed = tmp_path / "b/imagesTr/c2_0000.nii.gz"
    harmed.write_bytes(harmed.read_bytes()[:-9])
    convert(source, tmp_path / "b", "nnunet")
    assert _bytes(tmp_path / "b") == before
    rewritten = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert rewritten == {"c2_0000.nii.gz", "c2.nii.gz"}


def test_a_source_that_has_changed_is_converted_again(tmp_path):
    folder = _pairs(tmp_path / "a")
    convert(_open(folder), tmp_path / "b", "nnunet")
    label = folder / "c1_label.nii.gz"
    write_nifti(label, np.full((4, 11, 7), 5, np.uint8), affine_of((5.0, 1.5, 1.25)) @ np.diag([-1, 1, 1, 1]))
    source = _open(folder)
    with pytest.warns(
        UserWarning, match=r"In .*b, 1 case is converted anew, as .* has changed, or .* wrote them: c1\."
    ):
        convert(source, tmp_path / "b", "nnunet")
    assert np.unique(_open(tmp_path / "b").read("c1").labels).tolist() == [2]


def test_chaos_becomes_nnunet(tmp_path):
    source = open_cohort(write_phantom_cohort(tmp_path / "chaos", subjects=2, size=16))
    got = open_cohort(convert(source, tmp_path / "raw", "nnunet"))
    for name in source.case_ids:
        np.testing.assert_array_equal(got.read(name).image, source.read(name).image)
        np.testing.assert_array_equal(got.read(name).labels, source.read(name).labels)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.filterwarnings("ignore:.*ha(s|ve) no mask")
def test_unfit_targets_are_told(tmp_path):
    source = open_cohort(_pairs(tmp_path / "a"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(
        ExistingFileError, match="`folder` must be new or empty, or begun by `convert`, got .*notes"
    ):
        convert(source, tmp_path / "full", "pairs")
    with pytest.raises(ValueError, match="`layout` must be one of 'pairs', 'nnunet', 'png', got 'chaos'"):
        convert(source, tmp_path / "b", "chaos")
    (tmp_path / "a/cases.json").unlink()
    with pytest.raises(DataError, match="`labels` must be known, got a cohort that does not name its organs"):
        convert(open_cohort(tmp_path / "a"), tmp_path / "b", "pairs")
    with pytest.raises(
        DataError, match="labels of case 'c0'` must be made of 0 and the values of .*, got also 5"
    ):
        convert(open_cohort(tmp_path / "a"), tmp_path / "c", "pairs", labels=LabelSpec({2: "liver"}))


def test_cases_without_a_part_are_not_put_among_those_that_train(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("c0", "c1", "c2", "c3"):
        write_nifti(tmp_path / f"a/{name}_image.nii.gz", np.full((2, 5, 7), 9, np.uint8), np.eye(4))
        write_nifti(tmp_path / f"a/{name}_label.nii.gz", np.ones((2, 5, 7), np.uint8), np.eye(4))
    parts = {"train": ["c0"], "val": ["c1"], "test": ["c2"]}
    (tmp_path / "a/cases.json").write_text(json.dumps({"labels": {"1": "liver"}, **parts}))
    cohort, wanted = open_cohort(tmp_path / "a"), {part: tuple(names) for part, names in parts.items()}
    assert cohort.parts == open_cohort(convert(cohort, tmp_path / "pairs", "pairs")).parts == wanted
    for layout in ("nnunet", "png"):
        with pytest.raises(
            DataError, match=rf"`cases` must be all in a part, .* {layout} .* got no part for c3\."
        ):
            convert(cohort, tmp_path / layout, layout)
        assert not (tmp_path / layout).exists()
    part = cohort.select(["c0", "c1", "c2"])
    assert open_cohort(convert(part, tmp_path / "png", "png"), spacing_mm=(1.0, 1.0, 1.0)).parts == wanted
    with pytest.warns(
        UserWarning, match=r"^nnU-Net has no validation part: c1 will be among the cases that train"
    ):
        convert(part, tmp_path / "nnunet", "nnunet")
    assert open_cohort(tmp_path / "nnunet").parts == {"train": ("c0", "c1"), "test": ("c2",)}
    none = cohort.select(["c3"])  # no case is in a part: all of them train
    assert open_cohort(convert(none, tmp_path / "one", "nnunet")).case_ids == ("c3",)


def test_time_points_are_not_written_as_channels(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("p_0000", "p_0001", "q_0000"):
        write_nifti(tmp_path / f"a/{name}.nii.gz", np.full((2, 5, 7), 9, np.uint8), np.eye(4))
    cohort = open_cohort(tmp_path / "a", channels=(), labels=ORGANS)
    for layout in ("pairs", "nnunet"):
        got = "got 'p_0000', 'p_0001', 'q_0000'. Rename the cases"
        with pytest.raises(DataError, match=f"not ending in a channel such as _0000, {got}"):
            convert(cohort, tmp_path / layout, layout)
    later = cohort.select(["p_0001"])  # without a channel 0000, numbers are those of scans
    assert open_cohort(convert(later, tmp_path / "later", "pairs")).case_ids == ("p_0001",)
    for name in cohort.case_ids:
        write_nifti(tmp_path / f"a/{name}_label.nii.gz", np.full((2, 5, 7), 5, np.uint8), np.eye(4))
    labelled = open_cohort(tmp_path / "a", labels=ORGANS)  # as are those of masks
    assert (
        open_cohort(convert(labelled, tmp_path / "c", "pairs")).case_ids
        == labelled.case_ids
        == cohort.case_ids
    )


def test_organs_that_the_cohort_numbers_otherwise_are_refused(tmp_path):
    cohort = open_cohort(write_phantom_cohort(tmp_path / "chaos", subjects=1, size=16))
    with pytest.raises(
        DataError, match=r"called and numbered as asked for, \{1: 'spleen'\}, got \{1: 'liver', 2: "
    ):
        convert(cohort, tmp_path / "b", "pairs", labels=LabelSpec({1: "spleen"}))


def _convert(scans, layout, target):
    cohort = open_cohort(scans)
    convert(cohort, target, layout)


@pytest.mark.crash
@pytest.mark.filterwarnings("ignore:.*ha(s|ve) no mask")
def test_a_killed_conversion_ends_with_the_same_bytes(tmp_path):
    source = _open(_pairs(tmp_path / "a"))
    convert(source, tmp_path / "whole", "nnunet")
    assert killed_until_done(partial(_convert, tmp_path / "a", "nnunet", tmp_path / "b"), step=3) >= 5
    convert(source, tmp_path / "b", "nnunet")
    wanted, got = _bytes(tmp_path / "whole"), _bytes(tmp_path / "b")
    assert got == wanted


@pytest.mark.crash
@pytest.mark.parametrize("layout", ["pairs", "nnunet", "png"])
@pytest.mark.filterwarnings("ignore:.*ha(s|ve) no mask", "ignore:.*no spacing")
def test_a_conversion_killed_at_any_moment_ends_with_the_same_bytes(tmp_path, layout):
    scans = _pairs(tmp_path / "a")
    for path in scans.glob("c6*"):
        path.unlink()
    content = json.loads((scans / "cases.json").read_text())
    (scans / "cases.json").write_text(json.dumps(content | {"test": ["c5"]}))
    targets = [tmp_path / f"to {number}" for number in range(21)]
    killed_at_random(partial(_convert, scans, layout), targets, seed=0)
    for target in targets[1:]:
        assert _bytes(target) == _bytes(targets[0])


@pytest.mark.crash
@pytest.mark.filterwarnings("ignore:.*ha(s|ve) no mask")
def test_two_conversions_into_one_folder_do_no_harm(tmp_path):
    """The second is refused while the first is at work; whoever comes after it finds all done."""
    scans, context = _pairs(tmp_path / "a"), multiprocessing.get_context("fork")
    _convert(scans, "nnunet", tmp_path / "whole")
    for number in range(5):
        target = tmp_path / f"b{number}"
        both = [context.Process(target=_convert, args=(scans, "nnunet", target)) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join(60)
        assert 0 in {process.exitcode for process in both}
        assert _bytes(target) == _bytes(tmp_path / "whole")
