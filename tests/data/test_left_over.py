"""Scans of a folder that belong to no case are told, and so is what headers and lists say twice or not at all."""

import json
import os
import shutil

import nibabel
import numpy as np
import pytest
from PIL import Image

from guided_attention.case import affine_of
from guided_attention.data import open_cohort, read_volume, write_nifti
from guided_attention.errors import DataError, GeometryWarning, LeftOutWarning
from guided_attention.labels import LabelSpec

AFFINE = affine_of((5.0, 1.5, 1.25)) @ np.diag([-1, -1, 1, 1])
VOLUME = np.arange(3 * 7 * 5, dtype=np.uint8).reshape(3, 7, 5)
MASK = (VOLUME > 50).astype(np.uint8)


def _write(path, values=VOLUME):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, values, AFFINE)
    return path


def _pair(folder, name="a"):
    _write(folder / f"{name}_image.nii.gz")
    _write(folder / f"{name}_label.nii.gz", MASK)


def _subject(folder):
    _write(folder / "ct.nii.gz")
    _write(folder / "segmentations/liver.nii.gz", MASK)


def _slices(folder):
    for place, pixels in (("Img", VOLUME[0]), ("GT", MASK[0] * 63)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / place / "Subj_1slice_1.png")


def _told(folder, *names, **options):
    with pytest.warns(LeftOutWarning, match="to no case") as told:
        cohort = open_cohort(folder, **options)
    message = str(told[0].message)
    one = len(names) == 1
    said = "1 file looks like a scan and belongs" if one else f"{len(names)} files look like scans and belong"
    assert message.startswith(f"In {folder}, {said} to no case: ")
    assert all(str(folder / name) in message for name in names)
    return cohort.case_ids


def test_pairs_in_other_places(tmp_path):
    _pair(tmp_path / "train")
    _pair(tmp_path, "b")
    assert _told(tmp_path, "b_image.nii.gz", "b_label.nii.gz") == ("a",)
    _write(tmp_path / "x/images/a.nii.gz")
    _write(tmp_path / "x/images/more/b.nii.gz")
    assert _told(tmp_path / "x", "images/more/b.nii.gz") == ("a",)


def test_formats_that_are_not_read_and_what_is_no_file(tmp_path):
    _pair(tmp_path)
    nibabel.save(nibabel.Nifti1Pair(VOLUME, np.eye(4)), tmp_path / "b_image.img")
    os.mkfifo(tmp_path / "c_image.nii.gz")
    assert _told(tmp_path, "b_image.img", "c_image.nii.gz") == ("a",)


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda s2: shutil.rmtree(s2 / "segmentations"), ("s2/ct.nii.gz",)),
        (lambda s2: (s2 / "segmentations/liver.nii.gz").unlink(), ("s2/ct.nii.gz",)),
        (lambda s2: (s2 / "ct.nii.gz").unlink(), ("s2/segmentations/liver.nii.gz",)),
        (
            lambda s2: (s2 / "segmentations").rename(s2 / "segs"),
            ("s2/ct.nii.gz", "s2/segs/liver.nii.gz"),
        ),
    ],
)
def test_subjects_that_lack_something(tmp_path, change, left):
    _subject(tmp_path / "s1")
    _subject(tmp_path / "s2")
    change(tmp_path / "s2")
    assert _told(tmp_path, *left) == ("s1",)


def test_masks_that_were_not_asked_for_are_not_told(tmp_path):
    _subject(tmp_path / "s1")
    _write(tmp_path / "s1/segmentations/spleen.nii.gz", MASK)
    assert open_cohort(tmp_path, labels={1: "liver"}).case_ids == ("s1",)


def test_structures_are_one_however_they_are_spelt(tmp_path):
    _subject(tmp_path / "s1")
    _subject(tmp_path / "s2")
    _write(tmp_path / "s1/segmentations/Kidney Left.nii.gz", np.zeros_like(MASK))
    _write(tmp_path / "s2/segmentations/kidney_left.nii.gz", np.zeros_like(MASK))
    assert open_cohort(tmp_path).labels.names == {1: "kidney_left", 2: "liver"}


def test_slices_in_other_places(tmp_path):
    _slices(tmp_path / "train")
    _slices(tmp_path / "validate")
    names = ("validate/GT/Subj_1slice_1.png", "validate/Img/Subj_1slice_1.png")
    assert _told(tmp_path, *names, spacing_mm=(5.0, 1.0, 1.0)) == ("1",)


@pytest.mark.parametrize("name", ["Subj_1slice_01.png", "Subj_1slice_2.jpg"])
def test_slices_that_would_be_dropped(tmp_path, name):
    _slices(tmp_path)
    Image.fromarray(VOLUME[0]).save(tmp_path / "Img" / name)
    with pytest.raises(DataError, match=name):
        open_cohort(tmp_path, spacing_mm=(5.0, 1.0, 1.0))


def test_a_part_without_masks(tmp_path):
    for part in ("train", "val"):
        _slices(tmp_path / part)
    (tmp_path / "val/Img/Subj_1slice_1.png").rename(tmp_path / "val/Img/Subj_2slice_1.png")
    shutil.rmtree(tmp_path / "val/GT")
    with pytest.warns(UserWarning, match=r"no masks \(GT\) in .*val"):
        open_cohort(tmp_path, spacing_mm=(5.0, 1.0, 1.0))


@pytest.mark.parametrize("levels", [{"255": 300}, {"70000": 1}])
def test_grey_levels_beyond_a_byte(tmp_path, levels):
    _slices(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"spacing_mm": [5, 1, 1], "grey_levels": levels}))
    with pytest.raises(DataError, match="grey_levels of .*from 0 to 255"):
        open_cohort(tmp_path)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"labels": {"liver": 1, "spleen": 1}}', "of different values, got 1 twice"),
        ('{"labels": {"liver": 1, "liver": 2}}', "liver twice"),
    ],
)
def test_lists_that_say_something_twice(tmp_path, text, wanted):
    _write(tmp_path / "imagesTr/a_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=wanted):
        open_cohort(tmp_path)


def test_channels_are_named_by_their_numbers_and_a_byte_order_mark_is_read(tmp_path):
    for channel in range(2):
        _write(tmp_path / f"imagesTr/a_000{channel}.nii.gz")
    (tmp_path / "dataset.json").write_text('\ufeff{"channel_names": {"1": "b", "0": "a"}}', encoding="utf-8")
    assert open_cohort(tmp_path).channel_names == ("a", "b")


def test_a_file_in_two_columns(tmp_path):
    _pair(tmp_path)
    (tmp_path / "c.csv").write_text("case_id,image,label\na,a_label.nii.gz,a_label.nii.gz\n")
    with pytest.raises(DataError, match="row 2 of .*each file in one column"):
        open_cohort(tmp_path / "c.csv")


@pytest.mark.parametrize("colours", [{1: "#ff0000", 2: "#FF0000"}, {1: "#ff0000", 2: "#000000"}])
def test_colours_of_masks_have_to_tell_organs_apart(tmp_path, colours):
    for place, pixels in (("images", VOLUME[0]), ("labels", np.stack([MASK[1] * 255, *MASK[:2] * 0], -1))):
        (tmp_path / place).mkdir()
        Image.fromarray(pixels).save(tmp_path / place / "a.png")
    cohort = open_cohort(tmp_path, labels=LabelSpec({1: "a", 2: "b"}, colours), spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(DataError, match="different, and not black"):
        cohort.read("a")


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_pictures_that_viewers_turn(tmp_path, ending):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(VOLUME[0]).save(tmp_path / f"a.{ending}", exif=exif)
    with pytest.raises(DataError, match="EXIF orientation 6") as error:
        read_volume(tmp_path / f"a.{ending}", spacing_mm=(1.0, 1.0, 1.0))
    assert error.value.file == tmp_path / f"a.{ending}"


_MHD = "NDims = 3\nDimSize = 5 7 {depth}\nElementType = MET_UCHAR\n{more}ElementDataFile = a.raw\n"


@pytest.mark.parametrize(
    ("depth", "more", "wanted"),
    [(2, "", "claims only 70 of 105 bytes"), (3, "ElementSpacing = -1 1 1\n", "ElementSpacing of .*above 0")],
)
def test_headers_that_hide_voxels_or_mirror_them(tmp_path, depth, more, wanted):
    (tmp_path / "a.raw").write_bytes(VOLUME.tobytes())
    (tmp_path / "a.mhd").write_text(_MHD.format(depth=depth, more=more or "ElementSpacing = 1 1 1\n"))
    with pytest.raises(DataError, match=wanted):
        read_volume(tmp_path / "a.mhd")


def test_a_header_without_spacing(tmp_path):
    (tmp_path / "a.raw").write_bytes(VOLUME.tobytes())
    (tmp_path / "a.mhd").write_text(_MHD.format(depth=3, more=""))
    with pytest.warns(GeometryWarning, match="does not say its spacing"):
        np.testing.assert_array_equal(read_volume(tmp_path / "a.mhd").array, VOLUME)
