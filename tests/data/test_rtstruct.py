"""RTSTRUCT: contours written on a series, filled again by us and by another program."""

import numpy as np
import pydicom
import pytest
from rt_utils import RTStructBuilder
from tests.data.test_dicom_seg import (
    GEOMETRIES,
    ORGANS,
    _labels,
    identified_series,
    liver_in_body,
    read_liver_and_tumour,
)
from tests.real_data import real_data

from guided_attention.case import Case, Volume
from guided_attention.data import (
    read_chaos_case,
    read_dicom_series,
    read_rtstruct,
    write_dicom_seg,
    write_rtstruct,
)
from guided_attention.data._contours import fill, outlines
from guided_attention.errors import DataError, LeftOutWarning
from guided_attention.labels import LabelSpec


def _dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_a_square_with_a_hole_by_hand():
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    (line,) = outlines(mask)
    # The outer octagon has 12 points between voxels; the diamond round the hole has 4, one comes twice, and so does
    # the point of the outer line where the seam begins.
    assert len(line) == 12 + 4 + 1 + 1
    hole = {(0.5, 1.0), (1.5, 1.0), (1.0, 0.5), (1.0, 1.5)}
    assert hole <= set(map(tuple, line.tolist()))
    np.testing.assert_array_equal(fill([line], (3, 3)), mask)


def _filled_slowly(lines, size):
    """Even-odd rule by a ray to the left of each voxel's middle."""
    inside = np.zeros(size, bool)
    for y in range(size[0]):
        for x in range(size[1]):
            for line in lines:
                for (x0, y0), (x1, y1) in zip(line, np.roll(line, -1, axis=0), strict=True):
                    if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                        inside[y, x] ^= True
    return inside


@pytest.mark.parametrize("seed", range(5))
def test_filling_equals_the_even_odd_rule(seed):
    rng = np.random.default_rng(seed)
    lines = [rng.uniform(-3, 16, size=(points, 2)) for points in (3, 5, 7)]
    np.testing.assert_array_equal(fill(lines, (11, 13)), _filled_slowly(lines, (11, 13)))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 1.0])
def test_contours_give_any_mask_back(share):
    rng = np.random.default_rng(5)
    for _ in range(20):
        mask = rng.random((11, 13)) < share
        np.testing.assert_array_equal(fill(outlines(mask), (11, 13)), mask)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_labels_come_back_on_the_scan(tmp_path, geometry):
    series, labels = (
        identified_series(tmp_path / "series", np.zeros((5, 11, 7), int), **geometry),
        _labels(),
    )
    read = read_rtstruct(write_rtstruct(tmp_path / "rt.dcm", labels, series, ORGANS), series)
    assert dict(read.labels.names) == {1: "liver", 2: "left kidney"}
    assert dict(read.labels.colours) == {1: "#e6194b", 2: "#3cb44b"}
    np.testing.assert_array_equal(read.volume.array, np.where(labels == 4, 2, labels))
    np.testing.assert_array_equal(read.volume.affine, read_dicom_series(series).affine)


@pytest.mark.peer
def test_the_liver_of_the_challenge_comes_back_and_another_program_fills_it_alike(tmp_path):
    folder = real_data("chaos-ct-case")
    case = read_chaos_case(folder, source="ct")
    scan = read_dicom_series(folder / "DICOM_anon")
    liver = case.labels if np.allclose(scan.affine, case.affine) else case.labels[::-1]
    path = write_rtstruct(tmp_path / "rt.dcm", liver, folder / "DICOM_anon", LabelSpec({1: "liver"}))
    read = read_rtstruct(path, folder / "DICOM_anon")
    np.testing.assert_array_equal(read.volume.array, liver)
    back = Case.from_volumes("1", Volume(case.image, case.affine), read.volume)
    np.testing.assert_array_equal(back.labels, case.labels)
    other = RTStructBuilder.create_from(str(folder / "DICOM_anon"), str(path)).get_roi_mask_by_name("liver")
    other = np.moveaxis(other, -1, 0)  # (row, column, slice), slices by position
    assert _dice(other, liver == 1) >= 0.99


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"step": (0, 0, -4.0)}, "must be of contours on the slices of the series, got one at slice"),
        (
            {"first": (-10.0, 20.0, 500.0)},
            "must be of contours on the slices of the series, got one at slice -9",
        ),
    ],
)
def test_contours_of_another_series_are_told(tmp_path, change, wanted):
    series, labels = (
        identified_series(tmp_path / "series", np.zeros((5, 11, 7), int), step=(0, 0, 5.0)),
        _labels(),
    )
    path = write_rtstruct(tmp_path / "rt.dcm", labels, series, ORGANS)
    other = identified_series(tmp_path / "other", np.zeros((5, 11, 7), int), **{"step": (0, 0, 5.0)} | change)
    with pytest.raises(DataError, match=wanted):
        read_rtstruct(path, other)
    for file in other.iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.FrameOfReferenceUID = "1.2.3"
        slice_.save_as(file)
    with pytest.raises(DataError, match="must be on the frame of reference of .*other"):
        read_rtstruct(path, other)


def test_other_files_and_blank_identifiers_are_told(tmp_path):
    series = identified_series(tmp_path / "series", np.zeros((2, 11, 7), int))
    with pytest.raises(DataError, match="i0000.dcm` must be an RTSTRUCT, got MR Image Storage"):
        read_rtstruct(series / "i0000.dcm", series)
    labels = np.ones((20, 512, 512), np.uint8)
    with pytest.raises(DataError, match="with the identifiers that segmentations refer to, got blank"):
        write_rtstruct(
            tmp_path / "a.dcm", labels, real_data("abdomen-mr-ct") / "ct_b_dicom", LabelSpec({1: "liver"})
        )


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda line: setattr(line, "ContourData", [1e400] * 9), "points that are not finite"),
        (
            lambda line: setattr(
                line, "ContourData", [x + 900 * (i % 3 == 0) for i, x in enumerate(line.ContourData)]
            ),
            "of contours on the slices of the series, got one beside them",
        ),
    ],
)
def test_contours_that_lie_nowhere_are_told(tmp_path, change, wanted):
    series = identified_series(tmp_path / "series", np.zeros((5, 11, 7), int))
    path = write_rtstruct(tmp_path / "rt.dcm", _labels(), series, ORGANS)
    content = pydicom.dcmread(path)
    change(content.ROIContourSequence[0].ContourSequence[0])
    content.save_as(path)
    with pytest.raises(DataError, match=wanted) as error:
        read_rtstruct(path, series)
    assert error.value.file == path


def test_open_contours_and_odd_colours_are_left_out(tmp_path):
    series, labels = identified_series(tmp_path / "series", np.zeros((5, 11, 7), int)), _labels()
    path = write_rtstruct(tmp_path / "rt.dcm", labels, series, ORGANS)
    content = pydicom.dcmread(path)
    content.ROIContourSequence[0].ROIDisplayColor = [300, -1, 0]
    lines = content.ROIContourSequence[0].ContourSequence
    for line in lines:
        line.ContourGeometricType = "OPEN_PLANAR"
    content.save_as(path)
    with pytest.warns(LeftOutWarning, match=f"^{len(lines)} contours of .*rt.dcm are not closed"):
        read = read_rtstruct(path, series)
    np.testing.assert_array_equal(read.volume.array, 2 * (labels == 4))
    assert set(read.labels.colours.values()) == {"#e6194b", "#3cb44b"}


@pytest.mark.parametrize("name", ["n" * 65, "a\\b"])
def test_names_that_dicom_cannot_hold(tmp_path, name):
    series = identified_series(tmp_path / "series", np.zeros((5, 11, 7), int))
    for write in (write_rtstruct, write_dicom_seg):
        with pytest.raises(DataError, match="at most 64 characters"):
            write(tmp_path / "a.dcm", np.ones((5, 11, 7), np.uint8), series, LabelSpec({1: name}))
    assert not (tmp_path / "a.dcm").exists()


def overlapping_rtstruct(path, series, masks):
    """Write masks by name as organs, which may overlap."""
    content = None
    for number, (name, mask) in enumerate(masks.items(), start=1):
        one = pydicom.dcmread(write_rtstruct(path, mask.astype(np.uint8), series, LabelSpec({1: name})))
        one.StructureSetROISequence[0].ROINumber = number
        one.ROIContourSequence[0].ReferencedROINumber = number
        content = content or one
        if content is not one:
            content.StructureSetROISequence += one.StructureSetROISequence
            content.ROIContourSequence += one.ROIContourSequence
    content.save_as(path)
    return path


def test_of_organs_that_overlap_the_later_is_read_or_the_one_wanted(tmp_path):
    series, masks = identified_series(tmp_path / "series", np.zeros((5, 11, 7), int)), liver_in_body()
    path = overlapping_rtstruct(tmp_path / "rt.dcm", series, masks)
    read_liver_and_tumour(read_rtstruct, path, series, masks)
