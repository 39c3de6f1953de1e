import tracemalloc

import numpy as np
import pydicom
import pytest
from tests.data.dicom_maker import numbered, write_series
from tests.real_data import real_data

from guided_attention.data import read_dicom_series
from guided_attention.errors import ArgumentTypeError, DataError


def _world(affine, x, y, z):
    return affine @ [x, y, z, 1.0]


def test_every_voxel_lies_where_its_slice_says(tmp_path):
    # Coronal slices, stepping towards the front: rows run to the feet.
    orientation, step, first = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0), (0.0, -4.0, 0.0), (11.0, 13.0, 17.0)
    write_series(tmp_path, numbered(), orientation=orientation, step=step, first=first, pixel_mm=(2.0, 3.0))
    volume = read_dicom_series(tmp_path)
    for z in range(3):
        for y in range(5):
            for x in range(7):
                value = int(volume.array[z, y, x])
                file, row, column = value // 35, value % 35 // 7, value % 7
                left, back, head = 11.0 + 3.0 * column, 13.0 - 4.0 * file, 17.0 - 2.0 * row
                np.testing.assert_allclose(_world(volume.affine, x, y, z), [-left, -back, head, 1], atol=1e-9)
    assert volume.spacing_mm == (4.0, 2.0, 3.0)


def test_slices_are_ordered_by_position_whatever_they_are_called(tmp_path):
    write_series(tmp_path, numbered(), names=["c", "a", "b"])
    volume = read_dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.array, numbered().astype(np.float32))
    assert volume.array.dtype == np.float32


def test_a_series_written_from_the_head_down_comes_out_from_the_feet_up(tmp_path):
    write_series(tmp_path, numbered(), step=(0.0, 0.0, -5.0))
    volume = read_dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.array, numbered()[::-1])
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 0, 5])
    np.testing.assert_allclose(_world(volume.affine, 0, 0, 0), [10, -20, 20, 1])


def test_an_oblique_series_keeps_its_step_as_a_vector(tmp_path):
    c, s = np.cos(0.3), np.sin(0.3)
    normal = np.array([0, -s, c])
    write_series(
        tmp_path, numbered(), orientation=(1, 0, 0, 0, round(c, 8), round(s, 8)), step=(normal * 5).round(6)
    )
    volume = read_dicom_series(tmp_path)
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 5 * s, 5 * c], atol=1e-5)
    np.testing.assert_allclose(volume.spacing_mm, (5.0, 1.5, 1.25), atol=1e-5)


def test_the_step_is_not_the_slice_thickness_and_rescaling_is_applied(tmp_path):
    write_series(tmp_path, numbered(), RescaleSlope=2, RescaleIntercept=-1000)
    volume = read_dicom_series(tmp_path)
    assert volume.spacing_mm[0] == 5.0
    np.testing.assert_array_equal(volume.array, 2.0 * numbered() - 1000)


def test_a_rescale_slope_of_zero_is_not_taken_for_a_missing_one(tmp_path):
    write_series(tmp_path, numbered(), RescaleSlope=0, RescaleIntercept=7)
    np.testing.assert_array_equal(read_dicom_series(tmp_path).array, np.full((3, 5, 7), 7.0))


def test_a_lone_slice_takes_its_step_from_the_header(tmp_path):
    write_series(tmp_path, numbered(depth=1))
    volume = read_dicom_series(tmp_path)
    assert volume.spacing_mm == (3.25, 1.5, 1.25)


def test_litter_of_desktops_is_passed_over(tmp_path):
    write_series(tmp_path, numbered())
    for name in (".DS_Store", "Thumbs.db", "DICOMDIR"):
        (tmp_path / name).write_bytes(b"x")
    assert read_dicom_series(tmp_path).array.shape == (3, 5, 7)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`folder` must be an existing folder, got .*nowhere"):
        read_dicom_series(tmp_path / "nowhere")


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="`folder` must be a folder with files in it, got none in"):
        read_dicom_series(tmp_path)


@pytest.mark.parametrize("kept", [60, 400, 700])
def test_a_truncated_file_is_named(tmp_path, kept):
    write_series(tmp_path, numbered(height=13, width=17))
    file = tmp_path / "i0001.dcm"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(
        ValueError, match=r"`.*i0001.dcm` must be a (whole DICOM file|DICOM slice with its geometry)"
    ):
        read_dicom_series(tmp_path)


def test_a_file_without_ending_that_is_no_dicom_is_named(tmp_path):
    write_series(tmp_path, numbered())
    (tmp_path / "i0003").write_text("hello")
    with pytest.raises(
        ValueError, match=r"`.*i0003` must be a whole DICOM file, got one that cannot be read"
    ):
        read_dicom_series(tmp_path)


def test_two_series_in_one_folder_are_told(tmp_path):
    write_series(tmp_path, numbered())
    write_series(tmp_path, numbered(), series="2", names=["x", "y", "z"])
    with pytest.raises(
        ValueError, match=r"must be of one DICOM series, got 2 of them: .*or each series a folder of"
    ):
        read_dicom_series(tmp_path)


def test_two_echoes_with_one_identifier_are_told_by_their_positions(tmp_path):
    write_series(tmp_path, numbered())
    write_series(tmp_path, numbered(), names=["x", "y", "z"])
    with pytest.raises(
        ValueError, match=r"must be at different positions, got the same for i0000.dcm and x,"
    ):
        read_dicom_series(tmp_path)


def test_a_slice_missing_in_the_middle_is_told(tmp_path):
    write_series(tmp_path, numbered(depth=7))
    (tmp_path / "i0003.dcm").unlink()
    wanted = (
        r"must be evenly spaced \(5.00 mm apart\), got 10.00 mm between i0002.dcm and i0004.dcm. A slice is"
    )
    with pytest.raises(ValueError, match=wanted):
        read_dicom_series(tmp_path)


@pytest.mark.parametrize(
    ("name", "changed"),
    [("Rows", {"volume": numbered(height=11)}), ("PixelSpacing", {"pixel_mm": (1.5, 1.0)})],
)
def test_slices_of_different_grids_are_told(tmp_path, name, changed):
    write_series(tmp_path, numbered())
    other = {"volume": numbered()} | changed
    volume = other.pop("volume")
    write_series(tmp_path, volume[:1], names=["z.dcm"], first=(-10.0, 20.0, 45.0), **other)
    with pytest.raises(ValueError, match=rf"`{name} of .*z.dcm` must be that of i0000.dcm"):
        read_dicom_series(tmp_path)


def test_a_file_without_position_is_named(tmp_path):
    write_series(tmp_path, numbered(), ImagePositionPatient=None)
    with pytest.raises(ValueError, match=r"got one without ImagePositionPatient. .*Leave out localisers"):
        read_dicom_series(tmp_path)


def test_real_ct_with_blank_identifiers_lies_under_its_own_mask():
    nibabel = pytest.importorskip("nibabel")
    folder = real_data("abdomen-mr-ct")
    volume, mask = read_dicom_series(folder / "ct_b_dicom"), nibabel.load(folder / "ct_b_label.nii.gz")
    assert volume.array.shape == (20, 512, 512)
    np.testing.assert_allclose(volume.spacing_mm, (2.0, 0.9765625, 0.9765625))
    # Same grid, other axis order: each voxel's position is a voxel of the mask, and corners meet corners.
    to_mask = np.linalg.inv(mask.affine) @ volume.affine
    np.testing.assert_allclose(np.abs(to_mask[:3, :3]), np.eye(3), atol=1e-4)
    corners = to_mask @ np.array([[0, 0, 0, 1], [511, 511, 19, 1]]).T
    assert sorted(np.round(corners[1], 3)) == [0, 511]
    assert sorted(np.round(corners[2], 3)) == [0, 19]
    labels = np.asarray(mask.dataobj).T
    flips = tuple(slice(None, None, int(np.sign(to_mask[i, i]))) for i in (2, 1, 0))
    liver = volume.array[labels[flips] == 5]
    # Liver in portal phase has about 100 HU; a mask laid on wrongly meets air and fat.
    assert 60 < np.median(liver) < 160
    assert np.percentile(liver, 5) > 0


def _change(path, old, new):
    content = path.read_bytes()
    assert content.count(old) == 1
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
def test_a_decimal_comma_is_told(tmp_path):
    write_series(tmp_path, numbered(), pixel_mm=(1.25, 1.75))
    _change(tmp_path / "i0001.dcm", b"1.25\\1.75", b"1,25\\1,75")
    wanted = r"(PixelSpacing of .*)?i0001.dcm` must be .*(could not convert string to float: '1,25').*"
    with pytest.raises(DataError, match=wanted) as caught:
        read_dicom_series(tmp_path)
    assert caught.value.file == tmp_path / "i0001.dcm"


@pytest.mark.parametrize(
    ("tag", "value", "wanted"),
    [
        (
            "ImageOrientationPatient",
            [1, 0, 0],
            r"`ImageOrientationPatient of .*i0000.dcm` must be 6 finite numbers",
        ),
        (
            "ImageOrientationPatient",
            [1, 0, 0, 0, 2, 0],
            "must be two directions of length 1 at right angles, got",
        ),
        (
            "ImageOrientationPatient",
            [1, 0, 0, 0.6, 0.8, 0],
            "must be two directions of length 1 at right angles, got",
        ),
        ("PixelSpacing", [1.5], "`PixelSpacing of .*i0000.dcm` must be 2 finite numbers"),
        ("PixelSpacing", [1.5, 0], r"`PixelSpacing of .*i0000.dcm` must be above 0, got \[1.5, 0.0\]"),
        ("PixelSpacing", [-1.5, 1], "`PixelSpacing of .*i0000.dcm` must be above 0"),
        ("ImagePositionPatient", [1, 2], "`ImagePositionPatient of .*i0000.dcm` must be 3 finite numbers"),
        (
            "RescaleSlope",
            [1, 2],
            "`RescaleSlope of .*i0000.dcm` must be 1 finite number, written with a point, got",
        ),
    ],
)
def test_a_header_with_other_numbers_is_told(tmp_path, tag, value, wanted):
    write_series(tmp_path, numbered(), **{tag: value})
    with pytest.raises(DataError, match=wanted) as caught:
        read_dicom_series(tmp_path)
    assert caught.value.file == tmp_path / "i0000.dcm"


def test_many_frames_in_one_file_have_a_cure_of_their_own(tmp_path):
    write_series(tmp_path, numbered(depth=1), NumberOfFrames=7, ImagePositionPatient=None)
    wanted = "got 7 frames without the position of each. .* convert it to NIfTI, for example with dcm2niix"
    with pytest.raises(DataError, match=wanted):
        read_dicom_series(tmp_path)


def test_a_file_without_permission_is_not_called_damaged(tmp_path, monkeypatch):
    write_series(tmp_path, numbered())

    def refuse(path, **_options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pydicom, "dcmread", refuse)
    with pytest.raises(
        DataError, match="i0000.dcm` must be a DICOM that you may read, got: permission denied"
    ):
        read_dicom_series(tmp_path)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("bad", [5, None, ["a"]])
def test_what_is_no_path_is_told(bad):
    with pytest.raises(ArgumentTypeError, match="`folder` must be a path, got a"):
        read_dicom_series(bad)


def test_reading_needs_less_than_eight_bytes_a_voxel(tmp_path):
    write_series(tmp_path, np.zeros((31, 256, 256), int))
    read_dicom_series(tmp_path)  # what is imported at the first call is no part of the volume
    tracemalloc.start()
    volume = read_dicom_series(tmp_path)
    peak = tracemalloc.get_traced_memory()[1] / volume.array.size
    tracemalloc.stop()
    assert peak < 8
