"""What folders from scanners and archives hold: other files, several scans, enhanced files, rounded positions."""

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom import Dataset, Sequence
from pydicom.uid import (
    BasicTextSRStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)
from tests.data.dicom_maker import numbered, write_series

from guided_attention.data import find_dicom_series, read_dicom_series
from guided_attention.errors import DataError, GeometryWarning, LeftOutWarning


def _files(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("compressed", [False, True])
def test_an_enhanced_file_gives_the_volume_of_its_series(tmp_path, compressed):
    orientation, step = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (-3.5, 0.0, 0.0)
    plain = write_series(
        tmp_path / "plain",
        numbered(5, 11, 7),
        orientation=orientation,
        step=step,
        RescaleSlope=2,
        RescaleIntercept=-3,
    )
    slices = _files(plain)
    for number, slice_ in enumerate(slices, start=1):
        slice_.InstanceNumber, slice_.SeriesNumber, slice_.Modality = number, 4, "MR"
        slice_.StudyInstanceUID = slice_.FrameOfReferenceUID = generate_uid(entropy_srcs=["study"])
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        for name in (
            "PatientID",
            "PatientName",
            "StudyID",
            "AccessionNumber",
            "StudyDate",
            "StudyTime",
            "Manufacturer",
        ):
            setattr(slice_, name, "")
        slice_.PatientBirthDate, slice_.PatientSex, slice_.ReferringPhysicianName = "", "O", ""
        slice_.AcquisitionDateTime, slice_.PixelData = "20200101000000", slice_.PixelData
        slice_.ResonantNucleus = slice_.ScanningSequence = slice_.SequenceVariant = ""
    one = highdicom.legacy.LegacyConvertedEnhancedMRImage(
        slices,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    )
    if compressed:
        one.compress(RLELossless)
    (tmp_path / "enhanced").mkdir()
    one.save_as(tmp_path / "enhanced" / "all.dcm")
    wanted, got = read_dicom_series(plain), read_dicom_series(tmp_path / "enhanced")
    np.testing.assert_array_equal(got.array, wanted.array)
    np.testing.assert_allclose(got.affine, wanted.affine, atol=1e-9)
    assert [series.slices for series in find_dicom_series(tmp_path / "enhanced")] == [5]


def write_enhanced(path, volume, *, step_mm, echoes):
    """Write an enhanced MR file by hand, frames of all echoes in one."""
    file = Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = file.SeriesInstanceUID = generate_uid()
    file.SeriesNumber, file.Modality = 3, "MR"
    file.Rows, file.Columns = volume.shape[2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    shared = Dataset()
    plane, measures = Dataset(), Dataset()
    plane.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [1.5, 1.25]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([plane]), Sequence([measures])
    file.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for echo in echoes:
        for place in range(volume.shape[1]):
            group, position, echoed = Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient, echoed.EffectiveEchoTime = [0, 0, step_mm * place], echo
            group.PlanePositionSequence, group.MREchoSequence = Sequence([position]), Sequence([echoed])
            groups.append(group)
    file.PerFrameFunctionalGroupsSequence = Sequence(groups)
    file.NumberOfFrames, file.PixelData = len(groups), volume.astype("<u2").tobytes()
    file.save_as(path, enforce_file_format=True)


def test_echoes_of_one_enhanced_file_are_offered_by_echo_time(tmp_path):
    volume = np.stack([numbered(), numbered() + 1000])
    write_enhanced(tmp_path / "two.dcm", volume, step_mm=4.0, echoes=(2.3, 4.6))
    names = [(series.name, series.slices) for series in find_dicom_series(tmp_path)]
    assert names == [("3 EffectiveEchoTime=2.3", 3), ("3 EffectiveEchoTime=4.6", 3)]
    for (name, _), wanted in zip(names, volume, strict=True):
        read = read_dicom_series(tmp_path, series=name)
        np.testing.assert_array_equal(read.array, wanted.astype(np.float32))
        assert read.spacing_mm == (4.0, 1.5, 1.25)
    with pytest.raises(DataError, match=r"got 2 of them: '3 EffectiveEchoTime=2.3' \(MR, 3 slices\)"):
        read_dicom_series(tmp_path)


def test_a_frame_without_position_is_told(tmp_path):
    write_enhanced(tmp_path / "two.dcm", numbered()[None], step_mm=4.0, echoes=(1.0,))
    file = pydicom.dcmread(tmp_path / "two.dcm")
    del file.PerFrameFunctionalGroupsSequence[1]
    file.save_as(tmp_path / "two.dcm")
    with pytest.raises(DataError, match="with the position of each frame, got 3 frames and 2 positions"):
        read_dicom_series(tmp_path)


def test_series_are_chosen_by_number_description_or_identifier(tmp_path):
    for number, words in ((5, "T2 axial"), (11, "T1 in phase")):
        names = [f"{number}-{i}.dcm" for i in range(3)]
        write_series(
            tmp_path,
            numbered() + number,
            series=words,
            names=names,
            SeriesNumber=number,
            SeriesDescription=words,
            Modality="MR",
        )
    first, second = find_dicom_series(tmp_path)
    assert (first.name, first.description, first.modality, first.slices) == ("5", "T2 axial", "MR", 3)
    for choice in (11, "11", "T1 in phase", second.uid):
        np.testing.assert_array_equal(
            read_dicom_series(tmp_path, series=choice).array, numbered().astype(np.float32) + 11
        )
    with pytest.raises(DataError, match=r"got 2 of them: '5' \(T2 axial, MR, 3 slices\), '11' \(T1 in phase"):
        read_dicom_series(tmp_path)
    with pytest.raises(
        DataError, match=r"`series` must be the name of one series of .*, got 7 where there are '5'"
    ):
        read_dicom_series(tmp_path, series=7)


@pytest.mark.parametrize(
    ("tag", "values", "names"),
    [
        ("EchoTime", (2.3, 4.6), ["EchoTime=2.3", "EchoTime=4.6"]),
        (
            "TemporalPositionIdentifier",
            (1, 2),
            ["TemporalPositionIdentifier=1", "TemporalPositionIdentifier=2"],
        ),
        ("AcquisitionNumber", (1, 2), ["AcquisitionNumber=1", "AcquisitionNumber=2"]),
        ("TriggerTime", (0, 40), ["TriggerTime=0.0", "TriggerTime=40.0"]),
    ],
)
def test_volumes_of_one_series_are_told_apart(tmp_path, tag, values, names):
    for value in values:
        files = [f"{value}-{i}.dcm" for i in range(3)]
        write_series(tmp_path, numbered() + int(10 * value), names=files, **{tag: value})
    assert [series.name for series in find_dicom_series(tmp_path)] == names
    for name, value in zip(names, values, strict=True):
        wanted = (numbered() + int(10 * value)).astype(np.float32)
        np.testing.assert_array_equal(read_dicom_series(tmp_path, series=name).array, wanted)


def test_volumes_that_two_entries_tell_apart(tmp_path):
    for echo in (1, 2):
        for time in (1, 2):
            files = [f"{echo}{time}-{i}.dcm" for i in range(3)]
            write_series(
                tmp_path,
                numbered() + 10 * echo + time,
                names=files,
                EchoNumbers=echo,
                TemporalPositionIdentifier=time,
            )
    name = "EchoNumbers=2 TemporalPositionIdentifier=1"
    np.testing.assert_array_equal(
        read_dicom_series(tmp_path, series=name).array, numbered().astype(np.float32) + 21
    )


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_files_without_preamble_are_read(tmp_path, syntax):
    write_series(tmp_path, numbered(), RescaleSlope=2, RescaleIntercept=-7)
    wanted = read_dicom_series(tmp_path)
    for path in tmp_path.iterdir():
        slice_ = pydicom.dcmread(path)
        del slice_.file_meta
        slice_.preamble = None
        slice_.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    got = read_dicom_series(tmp_path)
    np.testing.assert_array_equal(got.array, wanted.array)
    np.testing.assert_array_equal(got.affine, wanted.affine)


def test_companions_of_a_series_are_left_out_and_counted(tmp_path):
    write_series(tmp_path, numbered())
    for name in ("LICENSE", "metadata.csv", "dicomdir", "notes.txt", "preview.png"):
        (tmp_path / name).write_text("x" * 300)
    with pytest.warns(
        LeftOutWarning, match=r"In .*, 4 files are no slices and were left out: LICENSE \(no DICOM\), meta"
    ):
        volume = read_dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.array, numbered().astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "what"), [(SegmentationStorage, "a segmentation"), (BasicTextSRStorage, "a report")]
)
def test_other_objects_are_left_out_by_name(tmp_path, kind, what):
    write_series(tmp_path, numbered())
    write_series(tmp_path, numbered(1), names=["other.dcm"], series="2", SOPClassUID=kind)
    with pytest.warns(
        LeftOutWarning, match=rf"In .*, 1 file is no slice and was left out: other.dcm \({what}"
    ):
        assert read_dicom_series(tmp_path).array.shape == (3, 5, 7)
    for path in tmp_path.glob("i*.dcm"):
        path.unlink()
    with pytest.raises(
        DataError, match=rf"must be one with slices of a scan, got none, only other.dcm \({what}"
    ):
        read_dicom_series(tmp_path)


def test_a_mosaic_is_named(tmp_path):
    write_series(tmp_path, numbered(), ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    with pytest.raises(DataError, match="must be a slice, got a mosaic of many slices. Convert it to NIfTI"):
        read_dicom_series(tmp_path)


def test_positions_rounded_to_a_tenth_are_accepted(tmp_path):
    write_series(tmp_path, numbered(20), step=(0, 0, 0.625))
    for path in tmp_path.iterdir():
        slice_ = pydicom.dcmread(path)
        slice_.ImagePositionPatient = [f"{value:.1f}" for value in slice_.ImagePositionPatient]
        slice_.save_as(path)
    volume = read_dicom_series(tmp_path)
    np.testing.assert_allclose(volume.spacing_mm, (0.625, 1.5, 1.25), atol=0.1 / 19)


def test_a_missing_slice_is_told_though_positions_are_rounded(tmp_path):
    write_series(tmp_path, numbered(20), step=(0, 0, 0.625))
    for path in tmp_path.iterdir():
        slice_ = pydicom.dcmread(path)
        slice_.ImagePositionPatient = [f"{value:.1f}" for value in slice_.ImagePositionPatient]
        slice_.save_as(path)
    (tmp_path / "i0011.dcm").unlink()
    with pytest.raises(
        DataError, match=r"must be evenly spaced .*between i0010.dcm and i0012.dcm. A slice is missing"
    ):
        read_dicom_series(tmp_path)


def test_slices_that_moved_in_plane_are_told(tmp_path):
    write_series(tmp_path, numbered(6))
    for number in (3, 4, 5):
        path = tmp_path / f"i000{number}.dcm"
        slice_ = pydicom.dcmread(path)
        x, y, z = slice_.ImagePositionPatient
        slice_.ImagePositionPatient = [x + 40, y, z]
        slice_.save_as(path)
    wanted = r"must be on one line \(within 0.67 mm\), got 16.00 mm for i000[23].dcm. The patient or the table moved"
    with pytest.raises(DataError, match=wanted):
        read_dicom_series(tmp_path)


def test_a_tilted_gantry_keeps_volumes_right(tmp_path):
    # Slices lie in the axial plane, and the table moves at 20 degrees to their normal (steps of 5 mm along it).
    tilt = np.deg2rad(20)
    write_series(tmp_path, numbered(7), step=(0.0, round(5 * np.tan(tilt), 4), 5.0))
    volume = read_dicom_series(tmp_path)
    assert np.prod(volume.spacing_mm) == pytest.approx(5 * 1.5 * 1.25, rel=1e-4)
    np.testing.assert_allclose(volume.affine[:3, 2], [0, -5 * np.tan(tilt), 5], atol=1e-4)


def test_a_table_of_the_modality_is_applied(tmp_path):
    write_series(tmp_path, numbered() % 4)
    table = np.array([-1000, 0, 40, 900])
    for path in tmp_path.iterdir():
        slice_ = pydicom.dcmread(path)
        lut = Dataset()
        lut.LUTDescriptor, lut.ModalityLUTType = [4, 0, 16], "HU"
        lut["LUTDescriptor"].VR = "US"
        lut.add_new("LUTData", "US", [int(value) for value in table.astype("i2").view("u2")])
        slice_.ModalityLUTSequence = Sequence([lut])
        slice_.save_as(path)
    np.testing.assert_array_equal(
        read_dicom_series(tmp_path).array, (table.astype("i2").view("u2")[numbered() % 4]).astype(np.float32)
    )


@pytest.mark.parametrize("tag", ["PatientID", "RescaleSlope"])
def test_a_slice_of_another_patient_or_scaling_is_told(tmp_path, tag):
    write_series(tmp_path, np.zeros((3, 5, 7), int))
    files = sorted(tmp_path.glob("*.dcm"))
    content = pydicom.dcmread(files[1])
    setattr(content, tag, "7")
    content.save_as(files[1])
    with pytest.raises(DataError, match=f"{tag} of .*{files[1].name}.* must be as in") as error:
        read_dicom_series(tmp_path)
    assert error.value.file == files[1]
    assert "'7'" not in str(error.value)  # no identifier in messages


def test_a_series_without_number_is_offered_by_its_identifier(tmp_path):
    write_series(tmp_path, np.ones((3, 5, 7), int))
    for file in sorted(tmp_path.glob("*.dcm")):
        content = pydicom.dcmread(file)
        content.SeriesNumber = None
        content.save_as(file)
    (found,) = find_dicom_series(tmp_path)
    assert found.name == found.uid
    assert read_dicom_series(tmp_path, series=found.name).array.shape == (3, 5, 7)


def test_slices_in_folders_below_are_told(tmp_path):
    write_series(tmp_path, np.ones((3, 5, 7), int))
    (tmp_path / "more").mkdir()
    sorted(tmp_path.glob("*.dcm"))[2].rename(tmp_path / "more/c.dcm")
    with pytest.warns(LeftOutWarning, match=r"more/ \(a folder\)"):
        assert read_dicom_series(tmp_path).array.shape == (2, 5, 7)


def test_a_single_slice_that_does_not_say_how_thick_it_is(tmp_path):
    write_series(tmp_path, np.ones((1, 5, 7), int))
    content = pydicom.dcmread(min(tmp_path.glob("*.dcm")))
    for tag in ("SliceThickness", "SpacingBetweenSlices"):
        if tag in content:
            delattr(content, tag)
    content.save_as(min(tmp_path.glob("*.dcm")))
    with pytest.warns(GeometryWarning, match="1 mm is taken"):
        read_dicom_series(tmp_path)


def test_a_group_of_an_unknown_kind_is_damage_of_the_file(tmp_path):
    write_enhanced(tmp_path / "two.dcm", numbered()[None], step_mm=4.0, echoes=(1.0,))
    content = (tmp_path / "two.dcm").read_bytes()
    place = content.rindex(b"\x20\x00\x13\x91SQ") + 4  # PlanePositionSequence of the last frame
    (tmp_path / "two.dcm").write_bytes(content[:place] + b"Na" + content[place + 2 :])
    with pytest.raises(DataError, match="must be a whole DICOM file") as caught:
        read_dicom_series(tmp_path)
    assert caught.value.file == tmp_path / "two.dcm"
