"""DICOM SEG: written on a series, read back by us and by the program that is the reference for the format."""

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from tests.data.dicom_maker import write_series
from tests.real_data import real_data

from guided_attention.case import Case, Volume
from guided_attention.data import read_chaos_case, read_dicom_seg, read_dicom_series, write_dicom_seg
from guided_attention.data.dicom_seg import _described
from guided_attention.errors import ArgumentTypeError, DataError, MissingFileError
from guided_attention.labels import LabelSpec

ORGANS = LabelSpec(
    {1: "liver", 4: "left kidney", 9: "lesion"}, colours={1: "#e6194b", 4: "#3cb44b", 9: "#4363d8"}
)
GEOMETRIES = {
    "axial, feet first": {"step": (0, 0, 5.0)},
    "axial, head first": {"step": (0, 0, -5.0)},
    "sagittal": {"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), "step": (3.5, 0.0, 0.0)},
    "coronal": {"orientation": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0), "step": (0.0, -4.0, 0.0)},
    "oblique": {"orientation": (1, 0, 0, 0, 0.8, 0.6), "step": (0, -2.4, 3.2)},
}


def identified_series(folder, volume, **geometry):
    tags = {
        "Modality": "MR",
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=["frame"]),
        **dict.fromkeys(("PatientID", "PatientName", "PatientBirthDate", "StudyID", "AccessionNumber"), ""),
        **dict.fromkeys(("StudyDate", "StudyTime", "ReferringPhysicianName", "PatientSex"), ""),
    }
    return write_series(folder, volume, **tags, **geometry)


def overlapping_seg(path, series, masks, kind="BINARY"):
    """Write masks by name as segments, which may overlap, by the program that is the reference for the format.

    In a label map, of two the later one stays.
    """
    described = [_described(n, LabelSpec({n: name}), n) for n, name in enumerate(masks, start=1)]
    slices = sorted(
        map(pydicom.dcmread, series.iterdir()), key=lambda slice_: -float(slice_.ImagePositionPatient[2])
    )
    pixels = np.stack(list(masks.values()), axis=-1)
    if kind == "LABELMAP":
        pixels = np.max(pixels * np.arange(1, len(masks) + 1), axis=-1)
    made = highdicom.seg.Segmentation(
        slices,
        pixels[::-1].astype(np.uint8),
        kind,
        described,
        series_instance_uid=highdicom.UID(),
        series_number=100,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="another program",
        manufacturer_model_name="another program",
        software_versions="1",
        device_serial_number="0",
    )
    made.save_as(path)
    return path


def liver_in_body(shape=(5, 11, 7)):
    """Return masks of a liver, the body around it, and a tumour that both have."""
    liver, body, tumour = (np.zeros(shape, bool) for _ in range(3))
    liver[1:3, 2:5, 1:4], body[1:4, 1:9, 1:6], tumour[2, 4:7, 2:5] = True, True, True
    return {"liver": liver, "body": body, "Tumour ": tumour}


def read_liver_and_tumour(read, path, series, masks):
    """Check what a reader of segments does with overlaps."""
    liver, body, tumour = masks.values()
    twice = int(liver.sum() + (body & tumour).sum() + (~body & liver & tumour).sum())
    with pytest.warns(
        UserWarning, match=rf"^{path} has {twice} voxels in two segments, read as the later one"
    ):
        found = read(path, series)
    np.testing.assert_array_equal(found.volume.array, np.where(tumour, 3, np.where(body, 2, 1 * liver)))
    assert list(map(str.strip, found.labels.names.values())) == ["liver", "body", "Tumour"]
    chosen = LabelSpec({7: "LIVER"}, others_are_background=True)
    found = read(path, series, labels=chosen)
    np.testing.assert_array_equal(found.volume.array, 7 * liver)
    assert found.labels == chosen
    chosen = LabelSpec({300: "tumour", 7: "liver"}, others_are_background=True)
    twice = int((liver & tumour).sum())
    with pytest.warns(UserWarning, match=rf"^{path} has {twice} voxels in two segments"):
        found = read(path, series, labels=chosen)
    np.testing.assert_array_equal(found.volume.array, np.where(tumour, 300, 7 * liver))
    with pytest.warns(UserWarning, match=rf"^No segment of {path} is spleen, only liver, body, Tumour"):
        found = read(path, series, labels=LabelSpec({1: "spleen"}, others_are_background=True))
    assert not found.volume.array.any()
    assert found.volume.array.shape[1:] == liver.shape[1:]
    with pytest.raises(DataError, match=f"segments of {path}` must be of liver, got body, Tumour"):
        read(path, series, labels=LabelSpec({1: "liver"}))


def _labels(shape=(5, 11, 7)):
    rng = np.random.default_rng(3)
    return rng.choice(np.array([0, 1, 4], np.uint8), size=shape)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_labels_come_back_on_the_scan(tmp_path, geometry):
    series = identified_series(tmp_path / "series", np.arange(5 * 11 * 7).reshape(5, 11, 7), **geometry)
    scan, labels = read_dicom_series(series), _labels()
    path = write_dicom_seg(tmp_path / "seg.dcm", labels, series, ORGANS)
    read = read_dicom_seg(path)
    assert dict(read.labels.names) == {1: "liver", 2: "left kidney"}  # the lesion has no voxel
    assert dict(read.labels.colours) == {1: "#e6194b", 2: "#3cb44b"}
    case = Case.from_volumes("1", Volume(scan.array, scan.affine), read.volume)
    np.testing.assert_array_equal(case.labels, np.where(labels == 4, 2, labels))


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_another_program_finds_each_mask_on_its_slice(tmp_path, geometry):
    series, labels = (
        identified_series(tmp_path / "series", np.zeros((5, 11, 7), int), **geometry),
        _labels(),
    )
    seg = highdicom.seg.segread(write_dicom_seg(tmp_path / "seg.dcm", labels, series, ORGANS))
    scan = read_dicom_series(series)
    files = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
    for file in files:
        masks = seg.get_pixels_by_source_instance(
            [file.SOPInstanceUID], assert_missing_frames_are_empty=True
        )[0]
        x, y, z = file.ImagePositionPatient
        place = round(float((np.linalg.inv(scan.affine) @ [-x, -y, z, 1])[2]))
        np.testing.assert_array_equal(masks[..., 0], labels[place] == 1)
        np.testing.assert_array_equal(masks[..., 1], labels[place] == 4)
    kinds = [
        (item.SegmentLabel, item.SegmentedPropertyTypeCodeSequence[0].CodeValue)
        for item in seg.SegmentSequence
    ]
    assert kinds == [("liver", "10200004"), ("left kidney", "18639004")]
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (
        files[0].StudyInstanceUID,
        files[0].FrameOfReferenceUID,
    )


@pytest.mark.peer
def test_the_liver_of_the_challenge_comes_back_voxel_for_voxel(tmp_path):
    folder = real_data("chaos-ct-case")
    case = read_chaos_case(folder, source="ct")
    scan = read_dicom_series(folder / "DICOM_anon")
    flipped = case.labels if np.allclose(scan.affine, case.affine) else case.labels[::-1]
    path = write_dicom_seg(tmp_path / "liver.dcm", flipped, folder / "DICOM_anon", LabelSpec({1: "liver"}))
    read = read_dicom_seg(path, folder / "DICOM_anon")
    np.testing.assert_array_equal(read.volume.array, flipped)
    back = Case.from_volumes("1", Volume(case.image, case.affine), read.volume)
    np.testing.assert_array_equal(back.labels, case.labels)


def test_a_part_of_the_scan_is_put_in_its_place(tmp_path):
    series, labels = (
        identified_series(tmp_path / "series", np.zeros((5, 11, 7), int), step=(0, 0, -5.0)),
        _labels(),
    )
    labels[[0, 3, 4]] = 0
    path = write_dicom_seg(tmp_path / "seg.dcm", labels, series, ORGANS)
    assert read_dicom_seg(path).volume.array.shape == (2, 11, 7)
    read = read_dicom_seg(path, series).volume
    np.testing.assert_array_equal(read.array, np.where(labels == 4, 2, labels))
    np.testing.assert_allclose(read.affine, read_dicom_series(series).affine, atol=1e-6)
    for change in ({"step": (0, 0, -4.0)}, {"first": (-9.0, 20.0, 30.0)}, {"pixel_mm": (1.5, 1.5)}):
        other = identified_series(
            tmp_path / str(change), np.zeros((5, 11, 7), int), **{"step": (0, 0, -5.0)} | change
        )
        with pytest.raises(DataError, match="segments of .* must be on the grid of .*, got another grid"):
            read_dicom_seg(path, other)


def test_blank_identifiers_are_told(tmp_path):
    series = real_data("abdomen-mr-ct") / "ct_b_dicom"
    labels = np.zeros((20, 512, 512), np.uint8)
    labels[3:5, 7:11, 13:17] = 1
    with pytest.raises(
        DataError, match="with the identifiers that segmentations refer to, got blank .*Write NIfTI"
    ):
        write_dicom_seg(tmp_path / "seg.dcm", labels, series, LabelSpec({1: "liver"}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (np.zeros((5, 11, 7), np.uint8), "`volume` must be of at least one organ, got background only"),
        (np.full((5, 11, 7), 3, np.uint8), "`volume` must be made of 0 and the values of .*, got also 3"),
        (
            np.ones((5, 7, 11), np.uint8),
            r"`volume` must be of the size of the series, \(5, 11, 7\), got \(5, 7, 11\)",
        ),
    ],
)
def test_unfit_volumes_are_told(tmp_path, labels, wanted):
    series = identified_series(tmp_path / "series", np.zeros((5, 11, 7), int))
    with pytest.raises(DataError, match=wanted):
        write_dicom_seg(tmp_path / "seg.dcm", labels, series, ORGANS)


def test_what_is_no_segmentation_is_told(tmp_path):
    series = identified_series(tmp_path / "series", np.zeros((2, 11, 7), int))
    with pytest.raises(MissingFileError, match="must be an existing DICOM SEG file"):
        read_dicom_seg(tmp_path / "none.dcm")
    for path in (series / "i0000.dcm", series / "text.dcm"):
        (series / "text.dcm").write_text("hello")
        with pytest.raises(DataError, match=f"`{path}` must be a whole DICOM SEG file"):
            read_dicom_seg(path)


@pytest.mark.parametrize(
    ("name", "category", "code"),
    [
        ("kidney_left", "123037004", "18639004"),
        ("Right Kidney", "123037004", "9846003"),
        ("liver tumour", "49755003", "52988006"),
        ("GTV", "49755003", "52988006"),
        ("rib left 3", "123037004", "113343008"),
    ],
)
def test_organs_are_coded_by_the_words_of_their_names(tmp_path, name, category, code):
    series = identified_series(tmp_path / "series", np.zeros((2, 11, 7), int))
    path = write_dicom_seg(tmp_path / "seg.dcm", np.ones((2, 11, 7), np.uint8), series, LabelSpec({1: name}))
    (segment,) = pydicom.dcmread(path).SegmentSequence
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == category
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == code


def test_of_segments_that_overlap_the_later_is_read_or_the_one_wanted(tmp_path):
    series, masks = identified_series(tmp_path / "series", np.zeros((5, 11, 7), int)), liver_in_body()
    path = overlapping_seg(tmp_path / "seg.dcm", series, masks)
    read_liver_and_tumour(read_dicom_seg, path, series, masks)


def test_a_label_map_is_read_though_it_describes_its_background(tmp_path):
    series, masks = identified_series(tmp_path / "series", np.zeros((5, 11, 7), int)), liver_in_body()
    path = overlapping_seg(tmp_path / "seg.dcm", series, masks, "LABELMAP")
    assert [item.SegmentNumber for item in pydicom.dcmread(path).SegmentSequence] == [0, 1, 2, 3]
    liver, body, tumour = masks.values()
    read = read_dicom_seg(path, series)
    np.testing.assert_array_equal(read.volume.array, np.where(tumour, 3, np.where(body, 2, 1 * liver)))
    assert list(read.labels.names) == [1, 2, 3]
    chosen = LabelSpec({5: "Body"}, others_are_background=True)
    np.testing.assert_array_equal(
        read_dicom_seg(path, series, labels=chosen).volume.array, 5 * (body & ~tumour)
    )


@pytest.mark.usefixtures("without_shape_checks")
def test_the_organs_wanted_are_a_label_spec(tmp_path):
    series, masks = identified_series(tmp_path / "series", np.zeros((5, 11, 7), int)), liver_in_body()
    path = overlapping_seg(tmp_path / "seg.dcm", series, masks, "LABELMAP")
    with pytest.raises(ArgumentTypeError, match="`labels` must be a LabelSpec or None, got a dict"):
        read_dicom_seg(path, series, labels={1: "liver"})
