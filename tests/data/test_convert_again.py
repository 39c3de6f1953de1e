"""A conversion that is called again with something else: nothing stale, nothing outside, no foreign manifest."""

import json
import os
import re
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from guided_attention._cli_report import in_words_of_a_shell
from guided_attention._locks import LOCK
from guided_attention.case import affine_of
from guided_attention.data import check, convert, open_cohort, write_nifti
from guided_attention.errors import (
    ArgumentTypeError,
    DataError,
    ExistingFileError,
    MissingFileError,
    ProcessLostError,
)
from guided_attention.labels import LabelSpec

ORGANS = LabelSpec({2: "liver", 5: "spleen"})
AFFINE = affine_of((5.0, 1.5, 1.25)) @ np.diag([-1, -1, 1, 1])


def _write(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, np.asarray(values, np.uint8), affine)


def _pairs(folder, names=("a", "b"), *, affine=AFFINE):
    for number, name in enumerate(names):
        image = np.random.default_rng(number).integers(0, 256, (3, 7, 5))
        _write(folder / f"{name}_image.nii.gz", image, affine)
        _write(folder / f"{name}_label.nii.gz", np.where(image > 128, 5, 2), affine)
    return folder


@pytest.mark.parametrize(
    ("layout", "labels", "got"),
    [
        ("pairs", ORGANS, "another layout or other organs"),
        ("nnunet", LabelSpec({1: "fat", 2: "liver", 5: "spleen"}), "another layout or other organs"),
        ("nnunet", LabelSpec({2: "spleen", 5: "liver"}), "another layout or other organs"),
    ],
)
def test_a_folder_of_another_conversion_is_refused(tmp_path, layout, labels, got):
    source = open_cohort(_pairs(tmp_path / "a"))
    convert(source, tmp_path / "b", "nnunet", labels=ORGANS)
    before = {path: path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file()}
    with pytest.raises(ExistingFileError, match=got):
        convert(source, tmp_path / "b", layout, labels=labels)
    assert before == {path: path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file()}


def test_cases_of_an_earlier_conversion_are_named(tmp_path):
    source = open_cohort(_pairs(tmp_path / "a"))
    convert(source, tmp_path / "b", "nnunet", labels=ORGANS)
    with pytest.raises(ExistingFileError, match=r"b, which has b of an earlier conversion"):
        convert(source.select(["a"]), tmp_path / "b", "nnunet", labels=ORGANS)


def test_a_mask_that_was_taken_away_is_taken_from_the_copy(tmp_path):
    _pairs(tmp_path / "a", ("a", "b", "c"))
    convert(open_cohort(tmp_path / "a"), tmp_path / "b", "nnunet", labels=ORGANS)
    (tmp_path / "a/b_label.nii.gz").unlink()
    with pytest.warns(UserWarning, match="no mask"):
        source = open_cohort(tmp_path / "a")
    with pytest.warns(UserWarning, match="converted anew, .*: b"):
        convert(source, tmp_path / "b", "nnunet", labels=ORGANS)
    files = {path.relative_to(tmp_path / "b").as_posix() for path in (tmp_path / "b").rglob("*.nii.gz")}
    kept = {f"{place}/{name}" for name in "ac" for place in ("imagesTr", "labelsTr")}
    assert files == {*(f"{name}_0000.nii.gz" if "images" in name else f"{name}.nii.gz" for name in kept)} | {
        "imagesTs/b_0000.nii.gz"
    }


def test_an_image_and_a_mask_of_one_name_are_both_watched(tmp_path):
    for name in ("images", "labels"):
        _write(tmp_path / f"a/{name}/x.nii.gz", np.full((3, 7, 5), 2))
    convert(open_cohort(tmp_path / "a"), tmp_path / "b", "pairs", labels=ORGANS)
    source = json.loads((tmp_path / "b/manifest.json").read_text())["cases"][0]["source"]
    assert set(source) == {"x.nii.gz", "../labels/x.nii.gz"}
    _write(tmp_path / "a/images/x.nii.gz", np.full((3, 7, 5), 9))
    with pytest.warns(UserWarning, match="converted anew, .*: x"):
        got = open_cohort(convert(open_cohort(tmp_path / "a"), tmp_path / "b", "pairs", labels=ORGANS))
    assert got.read("x").image.min() == 9


_HEADERS = {
    "mhd": "ObjectType = Image\nNDims = 3\nDimSize = 5 7 3\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\n"
    "ElementDataFile = {}\n",
    "nhdr": "NRRD0004\ntype: uint8\ndimension: 3\nspace: RAS\nsizes: 5 7 3\nencoding: raw\n"
    "space directions: (1,0,0) (0,1,0) (0,0,1)\ndata file: {}\n\n",
}


@pytest.mark.parametrize("ending", _HEADERS)
def test_voxels_beside_their_header_are_watched(tmp_path, ending):
    folder = tmp_path / "a"
    folder.mkdir()
    for name, value in (("x_image", 7), ("x_label", 2)):
        (folder / f"{name}.{ending}").write_text(_HEADERS[ending].format(f"{name}.raw"))
        (folder / f"{name}.raw").write_bytes(bytes([value]) * 105)
    files = [
        folder / name for name in (f"x_image.{ending}", "x_image.raw", f"x_label.{ending}", "x_label.raw")
    ]
    cohort = open_cohort(folder)
    assert cohort.scans[0].files() == files
    convert(cohort, tmp_path / "b", "pairs", labels=ORGANS)
    (folder / "x_image.raw").write_bytes(bytes([9]) * 105)
    (folder / "x_label.raw").write_bytes(bytes([5]) * 105)
    with pytest.warns(UserWarning, match="converted anew.*: x"):
        case = open_cohort(convert(cohort, tmp_path / "b", "pairs", labels=ORGANS))[0]
    assert (set(case.image.flat), set(case.labels.flat)) == ({9.0}, {5})
    (folder / "x_label.raw").unlink()
    with pytest.raises(MissingFileError, match=r"data file of .*x_label"):
        cohort.scans[0].files()


def _files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def _moved(folder):
    lists = {"train": ["b"], "test": ["a", "c"]}
    (folder / "cases.json").write_text(json.dumps({"labels": {"2": "liver", "5": "spleen"}, **lists}))
    return open_cohort(folder)


def _unnamed(folder, *, others_are_background):
    return open_cohort(folder, labels=LabelSpec({2: "liver"}, others_are_background=others_are_background))


def _in_parts(folder):
    _pairs(folder, ("a", "b", "c"))
    lists = {"train": ["a", "b"], "test": ["c"]}
    (folder / "cases.json").write_text(json.dumps({"labels": {"2": "liver", "5": "spleen"}, **lists}))
    return folder


def _of_channels(folder):
    for number, name in enumerate(("a_t1", "a_t2", "b_t1", "b_t2")):
        _write(folder / f"{name}.nii.gz", np.random.default_rng(number).integers(0, 256, (3, 7, 5)))
    for name in "ab":
        _write(folder / f"{name}_seg.nii.gz", np.full((3, 7, 5), 2))
    return folder


def _slices(folder):
    plain = np.diag([-1.0, -1.0, 1.0, 1.0])
    return convert(open_cohort(_pairs(folder.parent / "p", affine=plain)), folder, "png", labels=ORGANS)


def _said(folder):
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(about | {"spacing_mm": [9, 1.5, 1.5]}))
    return open_cohort(folder)


CORRECTIONS = [
    (
        _slices,
        partial(open_cohort, spacing_mm=(1, 1, 1)),
        partial(open_cohort, spacing_mm=(9, 1.5, 1.5)),
        "a, b",
    ),
    (_slices, open_cohort, _said, "a, b"),
    (
        _of_channels,
        partial(open_cohort, channels=("t1", "t2")),
        partial(open_cohort, channels=("t2", "t1")),
        "a, b",
    ),
    (_in_parts, open_cohort, _moved, "a"),
    (_pairs, open_cohort, lambda folder: open_cohort(folder).without_labels(), "a, b"),
]


@pytest.mark.parametrize("layout", ["pairs", "nnunet", "png"])
@pytest.mark.parametrize(("make", "first", "corrected", "anew"), CORRECTIONS)
def test_what_was_corrected_is_converted_anew(tmp_path, make, first, corrected, anew, layout):
    folder = make(tmp_path / "a")
    organs = ORGANS if first(folder).labels is None else None
    if layout == "png" and make is _of_channels:
        pytest.skip("slices have one channel")
    convert(first(folder), tmp_path / "b", layout, labels=organs)
    source, seen = corrected(folder), []
    are = "cases are" if "," in anew else "case is"
    said = rf"{anew.count(',') + 1} {are} converted anew, .* has changed, or .* wrote them: {anew}\."
    with pytest.warns(UserWarning, match=said):
        convert(source, tmp_path / "b", layout, labels=organs)
    convert(source, tmp_path / "fresh", layout, labels=organs)
    assert _files(tmp_path / "b") == _files(tmp_path / "fresh")
    convert(
        source, tmp_path / "b", layout, labels=organs, on_case=seen.append
    )  # and then nothing is left to do
    assert seen == list(source.case_ids)


def test_organs_that_were_to_be_background_are_read_anew(tmp_path):
    """What is given up must not stay in the files that another opening of the same organs has written."""
    _pairs(tmp_path / "a")
    convert(_unnamed(tmp_path / "a", others_are_background=True), tmp_path / "b", "pairs")
    with (
        pytest.warns(UserWarning, match="converted anew"),
        pytest.raises(DataError, match="got also 5"),
    ):
        convert(_unnamed(tmp_path / "a", others_are_background=False), tmp_path / "b", "pairs")


def test_the_lock_of_another_machine_is_taken_away_as_the_message_says(tmp_path):
    _pairs(tmp_path / "a")
    (tmp_path / "b").mkdir()
    lock = tmp_path / "b" / LOCK
    lock.write_text(json.dumps({"host": "elsewhere", "process": 7, "since": "2026-01-01"}))
    with pytest.raises(ExistingFileError, match=rf"process 7 on elsewhere .* delete {lock}\."):
        convert(open_cohort(tmp_path / "a"), tmp_path / "b", "pairs", labels=ORGANS)
    lock.unlink()
    convert(open_cohort(tmp_path / "a"), tmp_path / "b", "pairs", labels=ORGANS)


def _killed(**_options):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("work", ["convert", "check"])
def test_a_process_that_is_killed_is_told_with_case_and_cure(tmp_path, work):
    _pairs(tmp_path / "a", ("a", "b", "c"))
    source = open_cohort(tmp_path / "a")
    scans = [replace(scan, read=_killed) if scan.case_id == "b" else scan for scan in source.scans]
    cohort = replace(source, scans=tuple(scans))
    message = r"`workers` must be so few .* got 2, .* before case '[ab]' was done.* Set workers=1\."
    run = check if work == "check" else partial(convert, folder=tmp_path / "b", layout="pairs", labels=ORGANS)
    with pytest.raises(ProcessLostError, match=message) as error:
        run(cohort, workers=2)
    assert error.value.file in {tmp_path / "a/a_image.nii.gz", tmp_path / "a/b_image.nii.gz"}
    said = in_words_of_a_shell(error.value, work)
    assert said.endswith("most likely for lack of memory. Pass --workers 1.")
    if work == "convert":  # the next call continues
        convert(source, tmp_path / "b", "pairs", labels=ORGANS)
        assert open_cohort(tmp_path / "b").case_ids == ("a", "b", "c")


def test_a_limit_of_memory_changes_no_case(tmp_path):
    _pairs(tmp_path / "a")
    convert(open_cohort(tmp_path / "a"), tmp_path / "b", "pairs", labels=ORGANS)
    convert(open_cohort(tmp_path / "a", max_bytes=10**6), tmp_path / "b", "pairs", labels=ORGANS)


@pytest.mark.parametrize("text", ["{no json", "[]", '{"cases": 5}', '{"cases": [{"case_id": "a"}, [], 5]}'])
def test_a_manifest_of_something_else_is_left_alone(tmp_path, text):
    source = open_cohort(_pairs(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/manifest.json").write_text(text)
    with pytest.raises(ExistingFileError, match=r"with manifest\.json"):
        convert(source, tmp_path / "b", "nnunet", labels=ORGANS)
    assert (tmp_path / "b/manifest.json").read_text() == text


@pytest.mark.parametrize("name", ["../../out", "a\\b", ".hidden", "__x", "n" * 201, "x_0000"])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    _pairs(tmp_path / "a", ("a",))
    (tmp_path / "a.csv").write_text(f"case_id,image\n{name},a/a_image.nii.gz\n")
    with pytest.raises(DataError, match=re.escape(f"got {name!r}"[:80])) as error:
        convert(open_cohort(tmp_path / "a.csv"), tmp_path / "b/c", "nnunet", labels=ORGANS)
    assert error.value.file == tmp_path / "a/a_image.nii.gz"
    assert not (tmp_path / "b").exists()


def test_the_spacing_of_png_slices_is_that_of_the_slices(tmp_path):
    sagittal = np.array([[0, 0, -1.25, 0], [-1.5, 0, 0, 0], [0, 5.0, 0, 0], [0, 0, 0, 1]])
    source = open_cohort(_pairs(tmp_path / "a", affine=sagittal))
    got = open_cohort(convert(source, tmp_path / "b", "png", labels=ORGANS))
    assert source.read("a").spacing_mm != (5.0, 1.5, 1.25)
    assert got.read("a").spacing_mm == (5.0, 1.5, 1.25)


def test_png_slices_say_that_spacings_are_lost(tmp_path):
    _pairs(tmp_path / "a", ("a",))
    _pairs(tmp_path / "a", ("b",), affine=AFFINE @ np.diag([2, 2, 1, 1]))
    with pytest.warns(UserWarning, match="spacing differs between cases"):
        convert(open_cohort(tmp_path / "a"), tmp_path / "b", "png", labels=ORGANS)


def test_png_slices_need_all_masks_or_none(tmp_path):
    (_pairs(tmp_path / "a") / "b_label.nii.gz").unlink()
    with pytest.warns(UserWarning, match="no mask"):
        source = open_cohort(tmp_path / "a")
    with pytest.raises(DataError, match="got none for b"):
        convert(source, tmp_path / "b", "png", labels=ORGANS)
    assert not (tmp_path / "b").exists()


def test_an_unknown_label_is_told_with_its_file(tmp_path):
    source = open_cohort(_pairs(tmp_path / "a"))
    with pytest.raises(DataError, match=r"got also 5.* Read from .*a_label\.nii\.gz") as error:
        convert(source, tmp_path / "b", "nnunet", labels=LabelSpec({2: "liver"}))
    assert error.value.file == tmp_path / "a/a_label.nii.gz"


@pytest.mark.usefixtures("without_shape_checks")
def test_labels_have_to_be_a_label_spec(tmp_path):
    source = open_cohort(_pairs(tmp_path / "a"))
    with pytest.raises(ArgumentTypeError, match="a LabelSpec or None, got a dict"):
        convert(source, tmp_path / "b", "nnunet", labels={2: "liver"})
