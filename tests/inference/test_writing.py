"""Written predictions: they lie on their scan for nibabel, SimpleITK and highdicom, whatever the scan is."""

import gzip
from dataclasses import replace
from functools import partial

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from matplotlib.path import Path as MplPath
from tests.data.dicom_maker import write_series
from tests.data.test_dicom_seg import GEOMETRIES, identified_series
from tests.inference.conftest import AS_IT_IS, Threshold
from tests.real_data import real_data

from guided_attention.case import Case, Source, Volume
from guided_attention.data import (
    CHAOS_MR_LABELS,
    open_cohort,
    read_chaos_case,
    read_dicom_seg,
    read_dicom_series,
    read_nifti_case,
    read_rtstruct,
    write_phantom_cohort,
)
from guided_attention.errors import ArgumentError, DataError
from guided_attention.inference import Predictor, save_prediction
from guided_attention.labels import LabelSpec
from guided_attention.outputs import Prediction

ORGAN = LabelSpec({1: "liver"}, colours={1: "#e6194b"})
SHAPE = (5, 7, 11)  # x, y, z in the file
COS, SIN = np.cos(0.3), np.sin(0.3)
PLACES = {
    "LPS": np.diag([-1.5, -1.25, 3.0, 1.0]),
    "RAS": np.diag([1.5, 1.25, 3.0, 1.0]),
    "LAS": np.diag([-1.5, 1.25, 3.0, 1.0]),
    "PSR": np.array([[0, 0, 3.0, 4], [-1.5, 0, 0, 5], [0, 1.25, 0, 6], [0, 0, 0, 1]]),
    "oblique": np.array([[COS, -SIN, 0, 10], [SIN, COS, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1]])
    @ np.diag([1.5, 1.25, 3.0, 1.0]),
}


def _scan_file(path, affine, *, shape=SHAPE, sform=1, qform=1, unit="mm"):
    """Write a scan by nibabel; a code of None leaves that form out."""
    array = np.random.default_rng(3).integers(-50, 50, size=shape).astype(np.int16)
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(None if sform is None else affine, sform or 0)
    image.set_qform(None if qform is None else affine, qform or 0)
    image.header.set_xyzt_units(unit)
    image.to_filename(path)
    return path


def _predicted(path, folder):
    case = read_nifti_case(path)
    predictor = Predictor(Threshold(), AS_IT_IS, ORGAN)
    (entry,) = predictor.predict_to(folder, [case], also=["uncertainty"])
    assert entry.status == "done", entry.error
    return case, [folder / name for name in entry.files]


def _same_header(first, second):
    """Whether both programs place two files alike, by every form and code that a header has."""
    one, other = nibabel.load(first), nibabel.load(second)
    for get in ("get_sform", "get_qform"):
        (matrix, code), (same, same_code) = getattr(one, get)(coded=True), getattr(other, get)(coded=True)
        assert code == same_code
        assert (matrix is None) == (same is None)
        if matrix is not None:
            np.testing.assert_allclose(same, matrix, atol=1e-5)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)
    one, other = SimpleITK.ReadImage(str(first)), SimpleITK.ReadImage(str(second))
    assert one.GetSize()[: other.GetDimension()] == other.GetSize()[: one.GetDimension()]
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(one, get)(), getattr(other, get)(), atol=1e-5)


@pytest.mark.parametrize("codes", [(1, 1), (4, 1), (2, None), (None, 1), (3, 3)])
@pytest.mark.parametrize("place", PLACES)
def test_a_prediction_has_the_forms_and_codes_of_its_scan(tmp_path, place, codes):
    path = _scan_file(tmp_path / "a.nii.gz", PLACES[place], sform=codes[0], qform=codes[1])
    case, files = _predicted(path, tmp_path / "out")
    for file in files:
        _same_header(path, file)
    # By another program: each voxel of the label volume is the sign of the voxel of the scan at the same index.
    scan = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(files[0])))
    np.testing.assert_array_equal(labels, scan > 0)
    assert case.source == Source(path)


def test_a_compressed_pair_of_header_and_voxels_is_a_model_too(tmp_path):
    image = nibabel.Nifti1Pair(np.zeros(SHAPE, np.int16) - 1, next(iter(PLACES.values())))
    image.set_sform(image.affine, 4)
    image.set_qform(image.affine, 3)
    image.to_filename(tmp_path / "a.img")
    for part in ("hdr", "img"):
        (tmp_path / f"a.{part}.gz").write_bytes(gzip.compress((tmp_path / f"a.{part}").read_bytes()))
    _, files = _predicted(tmp_path / "a.hdr.gz", tmp_path / "out")
    for file in files:
        header = nibabel.load(file).header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 3)


@pytest.mark.filterwarnings("ignore::guided_attention.errors.GeometryWarning")
@pytest.mark.parametrize("kind", ["two places", "no place", "one slice", "four axes"])
def test_odd_headers_are_kept(tmp_path, kind):
    affine, path = PLACES["oblique"], tmp_path / "a.nii"
    shape = {"one slice": (5, 7, 1), "four axes": (5, 7, 11, 1)}.get(kind, SHAPE)
    codes = {"sform": None, "qform": None} if kind == "no place" else {}
    _scan_file(path, affine, shape=shape, **codes)
    if kind == "two places":
        image = nibabel.load(path)
        image.set_sform(np.diag([1.5, 1.25, 3.0, 1.0]), 4)  # the qform stays oblique
        image.to_filename(path := tmp_path / "b.nii")
    _, files = _predicted(path, tmp_path / "out")
    image, labels = nibabel.load(path), nibabel.load(files[0])
    for get in ("get_sform", "get_qform"):
        (matrix, code), (same, same_code) = getattr(image, get)(coded=True), getattr(labels, get)(coded=True)
        assert code == same_code
        np.testing.assert_allclose(
            np.zeros(()) if same is None else same, np.zeros(()) if matrix is None else matrix, atol=1e-5
        )
    np.testing.assert_allclose(labels.affine, image.affine, atol=1e-5)
    np.testing.assert_array_equal(
        np.asarray(labels.dataobj), np.asarray(image.dataobj).reshape(labels.shape) > 0
    )


def test_micrometres_become_millimetres_and_flat_files_one_slice(tmp_path):
    affine = np.diag([1500.0, 1250.0, 3000.0, 1.0])
    path = _scan_file(tmp_path / "a.nii.gz", affine, unit="micron")
    _, files = _predicted(path, tmp_path / "out")
    labels = nibabel.load(files[0])
    np.testing.assert_allclose(labels.affine, np.diag([1.5, 1.25, 3.0, 1.0]), atol=1e-6)
    assert labels.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(labels.header.get_zooms(), (1.5, 1.25, 3.0), rtol=1e-6)
    flat = _scan_file(tmp_path / "flat.nii.gz", PLACES["LAS"], shape=(5, 7))
    _, files = _predicted(flat, tmp_path / "flat")
    labels = nibabel.load(files[0])
    assert labels.shape == (5, 7, 1)
    np.testing.assert_allclose(labels.affine, nibabel.load(flat).affine, atol=1e-6)


def test_another_grid_is_no_model_for_a_header(tmp_path):
    path = _scan_file(tmp_path / "a.nii.gz", PLACES["LPS"])
    labels = np.ones(SHAPE[::-1], np.uint8)
    elsewhere = PLACES["LPS"] + np.array([[0, 0, 0, 5.0]] + [[0.0] * 4] * 3)
    prediction = Prediction("1", labels, np.zeros(labels.shape, np.float32), elsewhere, Source(path))
    with pytest.raises(
        DataError, match=r"`like` must be on the grid of the volume, got .*a.nii.gz on another"
    ):
        save_prediction(prediction, tmp_path / "out")


# DICOM


def _signs(seed=3, shape=(5, 11, 7)):
    """Return a volume whose voxels above 0 are the organ."""
    return np.random.default_rng(seed).integers(0, 2, size=shape)


def _dicom_case(folder, case_id="1"):
    return Case.from_volumes(case_id, read_dicom_series(folder))


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_dicom_comes_back_on_the_series(tmp_path, geometry):
    folder = identified_series(tmp_path / "series", _signs(), **geometry)
    predictor = Predictor(Threshold(), AS_IT_IS, ORGAN)
    (entry,) = predictor.predict_to(tmp_path / "out", [_dicom_case(folder)], also=["dicom-seg", "rtstruct"])
    assert list(entry.files) == ["1_prediction.nii.gz", "1_segmentation.dcm", "1_rtstruct.dcm"]
    wanted = read_dicom_series(folder).array > 0
    seg, contours = (tmp_path / "out" / name for name in list(entry.files)[1:])
    for read in (read_dicom_seg(seg, folder), read_rtstruct(contours, folder)):
        np.testing.assert_array_equal(read.volume.array, wanted)
        assert dict(read.labels.names) == {1: "liver"}
        assert dict(read.labels.colours) == {1: "#e6194b"}
    theirs = highdicom.seg.segread(seg)
    for file in folder.iterdir():
        header = pydicom.dcmread(file)
        masks = theirs.get_pixels_by_source_instance(
            [header.SOPInstanceUID], assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(masks[0, ..., 0], header.pixel_array > 0)


def test_a_series_among_others_is_found_again(tmp_path):
    folder = identified_series(
        tmp_path / "scan", _signs(3), series="4", names=[f"a{i}.dcm" for i in range(5)], SeriesNumber=4
    )
    identified_series(
        tmp_path / "scan", _signs(4), series="5", names=[f"b{i}.dcm" for i in range(5)], SeriesNumber=5
    )
    case = Case.from_volumes("1", read_dicom_series(folder, series=5))
    assert case.source == Source(folder, "5")
    (entry,) = Predictor(Threshold(), AS_IT_IS, ORGAN).predict_to(
        tmp_path / "out", [case], also=["dicom-seg"]
    )
    read = read_dicom_seg(tmp_path / "out" / "1_segmentation.dcm", folder, series=5)
    np.testing.assert_array_equal(read.volume.array, read_dicom_series(folder, series=5).array > 0)
    assert entry.status == "done"


def test_no_organs_of_an_earlier_prediction_stay_beside_one_without(tmp_path):
    folder, kinds = tmp_path / "scan", ("dicom-seg", "rtstruct")
    identified_series(folder, _signs())
    case = Case.from_volumes("1", read_dicom_series(folder))
    full = Predictor(Threshold(), AS_IT_IS, ORGAN).predict(case)
    empty = replace(full, labels=np.zeros_like(full.labels))
    for prediction, files in ((full, 3), (empty, 1), (full, 3)):
        save_prediction(prediction, tmp_path / "out", also=kinds, labels=ORGAN, overwrite=True)
        assert len(list((tmp_path / "out").iterdir())) == files


def test_slices_of_a_challenge_that_run_to_the_feet_are_turned(tmp_path):
    """CHAOS keeps the order of file names, which runs against the series here."""
    folder = tmp_path / "7" / "DICOM_anon"
    identified_series(folder, _signs(), step=(0, 0, -5.0))
    case = read_chaos_case(folder.parent, source="ct")
    assert not np.allclose(case.affine, read_dicom_series(folder).affine)
    predictor = Predictor(Threshold(), AS_IT_IS, ORGAN)
    predictor.predict_to(tmp_path / "out", [case], also=["dicom-seg", "rtstruct"])
    wanted = read_dicom_series(folder).array > 0
    for read in (
        read_dicom_seg(tmp_path / "out" / "7_segmentation.dcm", folder),
        read_rtstruct(tmp_path / "out" / "7_rtstruct.dcm", folder),
    ):
        np.testing.assert_array_equal(read.volume.array, wanted)


def test_a_scan_without_an_organ_is_complete_without_dicom(tmp_path):
    folder = identified_series(tmp_path / "series", np.zeros((3, 5, 7), int))
    predict = partial(
        Predictor(Threshold(), AS_IT_IS, ORGAN).predict_to, tmp_path / "out", also=["dicom-seg", "rtstruct"]
    )
    (entry,) = predict([_dicom_case(folder)])
    assert entry.files["1_segmentation.dcm"] == entry.files["1_rtstruct.dcm"] == ""
    assert sorted(path.name for path in (tmp_path / "out").glob("1*")) == ["1_prediction.nii.gz"]
    assert [done.status for done in predict([_dicom_case(folder)], resume=True)] == ["skipped"]


def test_scans_that_dicom_cannot_refer_to_fail_before_they_are_predicted(tmp_path):
    nifti = read_nifti_case(_scan_file(tmp_path / "a.nii.gz", PLACES["LPS"]))
    memory = Case("m", np.ones((1, 2, 3, 5)), None, np.eye(4))
    blank = _dicom_case(write_series(tmp_path / "blank", _signs()), "b")

    class Never(Threshold):
        def forward(self, image):
            raise AssertionError(f"a batch of {len(image)} was predicted")

    predictor = Predictor(Never(), AS_IT_IS, ORGAN)
    entries = predictor.predict_to(tmp_path / "out", [nifti, memory, blank], also=["dicom-seg"])
    assert [entry.status for entry in entries] == ["failed"] * 3
    assert "must be left out unless a scan is read from a DICOM series, got " in entries[0].error
    assert "a.nii.gz" in entries[0].error
    assert "got one in memory" in entries[1].error
    assert "with the identifiers that segmentations refer to, got blank StudyInstanceUID" in entries[2].error


@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_formats_are_told_before_anything_is_written(tmp_path):
    prediction = Prediction("1", np.ones((2, 3, 5), np.uint8), np.zeros((2, 3, 5), np.float32), np.eye(4))
    with pytest.raises(ArgumentError, match="`also` must be one of .*uncertainty.*got 'png'"):
        save_prediction(prediction, tmp_path / "out", also=["png"])
    with pytest.raises(ArgumentError, match="`labels` must be a LabelSpec where DICOM is written, got None"):
        save_prediction(prediction, tmp_path / "out", also=["rtstruct"])
    assert not (tmp_path / "out").exists()


@pytest.mark.peer
def test_the_blank_series_says_so(tmp_path):
    cohort = open_cohort(real_data("abdomen-mr-ct"))
    case = next(case for case in cohort if case.source.path.name == "ct_b_dicom")
    labels = np.ones(case.image.shape[1:], np.uint8)
    prediction = Prediction("b", labels, np.zeros(labels.shape, np.float32), case.affine, case.source)
    with pytest.raises(DataError, match="ct_b_dicom.*blank .*Write NIfTI"):
        save_prediction(prediction, tmp_path, also=["dicom-seg"], labels=ORGAN)


@pytest.mark.peer
@pytest.mark.parametrize("scan", ["T2SPIR", "T1DUAL/DICOM_anon/InPhase"])
def test_other_programs_read_the_organs_of_a_phantom_on_its_series(tmp_path, scan):
    cohort = write_phantom_cohort(tmp_path / "release", subjects=1, size=64)
    source = "t2" if scan == "T2SPIR" else "t1_in"
    case = read_chaos_case(cohort / "Train_Sets/MR/1", source=source)
    prediction = Prediction(
        "1", case.labels, np.zeros(case.labels.shape, np.float32), case.affine, case.source
    )
    save_prediction(prediction, tmp_path, also=["dicom-seg", "rtstruct"], labels=CHAOS_MR_LABELS)
    folder = case.source.path
    wanted = Case.from_volumes("1", read_dicom_series(folder), Volume(case.labels, case.affine)).labels
    theirs = highdicom.seg.segread(tmp_path / "1_segmentation.dcm")
    contours = pydicom.dcmread(tmp_path / "1_rtstruct.dcm")
    files = {pydicom.dcmread(path).ImagePositionPatient[2]: path for path in folder.glob("*.dcm")}
    slices = [files[place] for place in sorted(files)]
    for number, value in enumerate(CHAOS_MR_LABELS.values, start=1):
        name = CHAOS_MR_LABELS.names[value]
        identifiers = [pydicom.dcmread(path).SOPInstanceUID for path in slices]
        masks = theirs.get_pixels_by_source_instance(
            identifiers, segment_numbers=[number], assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(masks[..., 0], wanted == value)
        assert theirs.get_segment_description(number).segment_label == name
        organ = contours.ROIContourSequence[number - 1]
        assert contours.StructureSetROISequence[number - 1].ROIName == name
        filled, mask = _filled_by_matplotlib(organ, slices), wanted == value
        # matplotlib is not sure of voxels whose middle is level with a corner.
        assert 2 * (filled & mask).sum() / (filled.sum() + mask.sum()) >= 0.999


def _filled_by_matplotlib(organ, slices):
    """Fill the contours of an organ on slices that are not turned, as their own headers have them."""
    masks = []
    for path in slices:
        header = pydicom.dcmread(path)
        x, y, _ = header.ImagePositionPatient
        rows, columns = header.PixelSpacing
        where = np.stack(np.meshgrid(np.arange(header.Columns), np.arange(header.Rows)), axis=-1)
        points = (where * [columns, rows] + [x, y]).reshape(-1, 2)
        mask = np.zeros(len(points), bool)
        for line in organ.ContourSequence:
            if line.ContourImageSequence[0].ReferencedSOPInstanceUID == header.SOPInstanceUID:
                corners = np.reshape(line.ContourData, (-1, 3))[:, :2]
                mask ^= MplPath(corners.astype(float), closed=False).contains_points(points)
        masks.append(mask.reshape(header.Rows, header.Columns))
    return np.stack(masks)


def test_a_series_without_the_entries_of_a_patient_is_written_too(tmp_path):
    """Anonymizers remove what highdicom copies."""
    folder = identified_series(tmp_path / "series", _signs())
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"):
            delattr(header, name)
        for name in ("StudyTime", "AccessionNumber", "ReferringPhysicianName"):
            delattr(header, name)
        header.save_as(path)
    (entry,) = Predictor(Threshold(), AS_IT_IS, ORGAN).predict_to(
        tmp_path / "out", [_dicom_case(folder)], also=["dicom-seg", "rtstruct"]
    )
    assert entry.status == "done", entry.error
    read = read_dicom_seg(tmp_path / "out" / "1_segmentation.dcm", folder)
    np.testing.assert_array_equal(read.volume.array, read_dicom_series(folder).array > 0)
