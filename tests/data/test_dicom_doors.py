"""DICOM as hospitals have it: segmentations beside, below and among the slices, nested folders, several series."""

import shutil
import sys
import warnings

import numpy as np
import pydicom
import pytest
from tests.data.dicom_maker import numbered, write_series
from tests.data.test_dicom_seg import ORGANS, identified_series, liver_in_body, overlapping_seg
from tests.data.test_rtstruct import overlapping_rtstruct

from guided_attention.data import (
    open_cohort,
    read_dicom_seg,
    read_dicom_series,
    read_rtstruct,
    write_dicom_seg,
    write_nifti,
    write_rtstruct,
)
from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    DataError,
    LeftOutWarning,
    MissingPackageError,
)
from guided_attention.labels import LabelSpec
from guided_attention.recipes.prediction import _readers as readers_of
from guided_attention.recipes.prediction import in_series

SHAPE = (3, 11, 7)


def _series(folder, series="1", **tags):
    return identified_series(folder, numbered(*SHAPE), series=series, **tags)


def _mask(path, series, organs=None, write=write_dicom_seg):
    organs = ORGANS if organs is None else organs
    labels = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(list(organs.values)[:2]):
        labels[1, 2 + 4 * place : 5 + 4 * place, 1:5] = value
    path.parent.mkdir(exist_ok=True, parents=True)
    write(path, labels, series, organs)
    return path


def _same(case, series, mask, read=read_dicom_seg):
    image, wanted = read_dicom_series(series), read(mask, series)
    np.testing.assert_array_equal(case.image[0], image.array)
    np.testing.assert_array_equal(case.labels, wanted.volume.array)
    np.testing.assert_array_equal(case.affine, image.affine)
    assert wanted.volume.array.any()


@pytest.mark.parametrize(
    ("name", "write", "read"),
    [
        ("pat01_seg.dcm", write_dicom_seg, read_dicom_seg),
        ("pat01_segmentation.dcm", write_dicom_seg, read_dicom_seg),
        ("pat01_rtstruct.dcm", write_rtstruct, read_rtstruct),
        ("pat01_rt.dcm", write_rtstruct, read_rtstruct),
        ("export-77.dcm", write_dicom_seg, read_dicom_seg),  # told by the series that it refers to
        ("export-77.dcm", write_rtstruct, read_rtstruct),
    ],
)
def test_masks_beside_the_folders_of_their_series(tmp_path, name, write, read):
    series, other = _series(tmp_path / "pat01_dicom"), _series(tmp_path / "pat02_dicom", "2")
    mask = _mask(tmp_path / name, series, write=write)
    second = _mask(tmp_path / "pat02_seg.dcm", other)
    cohort = open_cohort(tmp_path)
    assert cohort.layout == "dicom"
    assert cohort.case_ids == cohort.labelled == ("pat01", "pat02")
    assert dict(cohort.labels.names) == {1: "liver", 2: "left kidney"}
    assert dict(cohort.labels.colours) == {1: "#e6194b", 2: "#3cb44b"}
    _same(cohort[0], series, mask, read)
    _same(cohort[1], other, second)


@pytest.mark.parametrize(
    ("scan", "mask"),
    [
        ("scan", "SEG/seg.dcm"),
        ("scan", "seg.dcm"),
        ("CT", "SEG/1.2.3.dcm"),
        ("T1", "mask.dcm"),
        ("T1", "rt/x.dcm"),
    ],
)
def test_a_folder_for_each_subject(tmp_path, scan, mask):
    made = {}
    for name in ("pat01", "pat02"):
        series = _series(tmp_path / name / scan, name)
        made[name] = series, _mask(tmp_path / name / mask, series)
    cohort = open_cohort(tmp_path)
    assert cohort.labelled == ("pat01", "pat02")
    for case in cohort:
        _same(case, *made[case.case_id])
    alone = open_cohort(tmp_path / "pat01")
    assert len(alone) == len(alone.labelled) == 1
    _same(alone[0], *made["pat01"])


def test_images_and_masks_in_two_folders(tmp_path):
    series = _series(tmp_path / "images/pat01")
    mask = _mask(tmp_path / "labels/pat01.dcm", series)
    cohort = open_cohort(tmp_path)
    assert cohort.labelled == ("pat01",)
    _same(cohort[0], series, mask)


def test_a_table_takes_masks_of_dicom_with_their_names(tmp_path):
    first, second = _series(tmp_path / "a"), _series(tmp_path / "b", "2")
    _mask(tmp_path / "x/1.dcm", first, LabelSpec({1: "liver", 2: "spleen"}))
    _mask(tmp_path / "x/2.dcm", second, LabelSpec({1: "spleen", 2: "aorta"}))
    table = tmp_path / "cases.csv"
    table.write_text("case_id,image,label\none,a,x/1.dcm\ntwo,b,x/2.dcm\n")
    cohort = open_cohort(table)
    assert dict(cohort.labels.names) == {1: "aorta", 2: "liver", 3: "spleen"}
    one, two = (case.labels for case in cohort)
    np.testing.assert_array_equal(
        one, np.array([0, 2, 3])[read_dicom_seg(tmp_path / "x/1.dcm", first).volume.array]
    )
    np.testing.assert_array_equal(
        two, np.array([0, 3, 1])[read_dicom_seg(tmp_path / "x/2.dcm", second).volume.array]
    )
    chosen = open_cohort(table, labels={2: "Aorta"})  # the number of another organ in the first
    np.testing.assert_array_equal(chosen[1].labels, np.where(two == 1, 2, 0))
    with pytest.warns(UserWarning, match=r"No segment of .*1\.dcm is Aorta, only liver, spleen"):
        assert not chosen[0].labels.any()


@pytest.mark.parametrize(
    ("write", "value"), [(overlapping_seg, 1), (overlapping_rtstruct, 1), (overlapping_rtstruct, 2)]
)
def test_an_organ_is_read_whole_though_another_covers_it(tmp_path, write, value):
    series, masks = identified_series(tmp_path / "pat01_dicom", numbered(5, 11, 7)), liver_in_body()
    write(tmp_path / "pat01_mask.dcm", series, masks)
    case = open_cohort(tmp_path, labels={value: "liver"})[0]
    np.testing.assert_array_equal(case.labels, value * masks["liver"])
    with pytest.warns(UserWarning, match=r"No segment of .*pat01_mask\.dcm is spleen"):
        assert not open_cohort(tmp_path, labels={value: "spleen"})[0].labels.any()


def test_a_mask_of_another_format_of_the_scan(tmp_path):
    series = _series(tmp_path / "series")
    image = read_dicom_series(series)
    mask = _mask(tmp_path / "seg.dcm", series)
    write_nifti(tmp_path / "scan.nii.gz", image.array, image.affine)
    (tmp_path / "cases.csv").write_text("case_id,image,label\none,scan.nii.gz,seg.dcm\n")
    case = open_cohort(tmp_path / "cases.csv")[0]
    np.testing.assert_array_equal(case.labels, read_dicom_seg(mask, series).volume.array)
    _mask(tmp_path / "seg.dcm", series, write=write_rtstruct)
    with pytest.raises(
        DataError, match=r"seg\.dcm` must be the mask of a DICOM series, got that of .*scan\.nii"
    ):
        open_cohort(tmp_path / "cases.csv")[0]


@pytest.mark.parametrize("name", ["seg.dcm", "i9999.dcm", "SG000001"])
@pytest.mark.parametrize("write", [write_dicom_seg, write_rtstruct])
def test_a_mask_among_the_slices(tmp_path, name, write):
    series = _series(tmp_path / "scans/pat01")
    shutil.copytree(series, tmp_path / "slices")
    mask = _mask(tmp_path / "outside.dcm", series, write=write)
    shutil.copy(mask, series / name)
    for folder in (series, series.parent):
        cohort = open_cohort(folder)
        assert cohort.labelled == ("pat01",)
        case = cohort[0]  # without a warning
        _same(case, tmp_path / "slices", mask, read_dicom_seg if write is write_dicom_seg else read_rtstruct)
    assert sorted(cohort.scans[0].files()) == sorted(series.iterdir())


def test_two_masks_among_the_slices_are_told(tmp_path):
    series = _series(tmp_path / "pat01")
    mask = _mask(tmp_path / "a.dcm", series)
    shutil.copy(mask, series / "a.dcm")
    shutil.move(mask, series / "b.dcm")
    with pytest.warns(
        LeftOutWarning, match=r"2 masks lie in .*pat01, so none is read: .*a\.dcm.*b\.dcm.* Keep one"
    ):
        cohort = open_cohort(series)
    assert cohort.labelled == ()


def test_a_mask_with_a_name_goes_before_one_among_the_slices(tmp_path):
    series = _series(tmp_path / "pat01_dicom")
    mask = _mask(tmp_path / "pat01_seg.dcm", series, LabelSpec({1: "aorta"}))
    _mask(series / "seg.dcm", series)
    cohort = open_cohort(tmp_path)
    assert dict(cohort.labels.names) == {1: "aorta"}
    assert cohort.scans[0].beside == (mask,)
    with pytest.warns(LeftOutWarning, match=r"seg\.dcm \(a segmentation"):
        labels = cohort[0].labels
    with warnings.catch_warnings(action="ignore"):
        np.testing.assert_array_equal(labels, read_dicom_seg(mask, series).volume.array)


def test_several_series_in_a_folder_are_chosen_by_name(tmp_path):
    for name, series in (("plain", "1"), ("late", "2")):
        names = [f"{name}{place}.dcm" for place in range(SHAPE[0])]
        _series(tmp_path / "pat01", series, names=names, SeriesNumber=int(series), SeriesDescription=name)
    with pytest.raises(
        DataError, match=r"must be of one DICOM series, got 2 of them: '1' \(plain.*'2' \(late"
    ):
        open_cohort(tmp_path)[0]
    for series in ("late", "2", 2):
        cohort = open_cohort(tmp_path, series=series)
        case = cohort[0]
        assert (case.case_id, case.source.series, cohort.opening.series) == ("pat01", "2", series)
        np.testing.assert_array_equal(case.image[0], read_dicom_series(tmp_path / "pat01", series="2").array)
        assert cohort.opening.open(tmp_path).case_ids == ("pat01",)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_series_is_a_name_or_a_number(tmp_path):
    with pytest.raises(ArgumentTypeError, match="`series` must be the name or number of a series, or None"):
        open_cohort(tmp_path, series=["2"])


def test_scans_are_predicted_in_a_series(tmp_path):
    for name, series in (("plain", "1"), ("late", "2")):
        names = [f"{name}{place}.dcm" for place in range(SHAPE[0])]
        _series(tmp_path / "pat01", series, names=names, SeriesNumber=int(series), SeriesDescription=name)
    other = _series(tmp_path / "late/pat02", "3", SeriesNumber=3, SeriesDescription="late")
    run = tmp_path / "run"
    run.mkdir()
    cohorts = in_series(run, [tmp_path / "pat01", other], "late")
    read = [reader() for reader in readers_of(run, cohorts, LabelSpec({1: "liver"}), tmp_path / "out")]
    assert [(case.case_id, case.source.series) for case in read] == [("pat01", "2"), ("pat02", "3")]


def test_a_series_of_scans_that_have_none_is_refused(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    scan = tmp_path / "scans/a.nii.gz"
    scan.parent.mkdir()
    write_nifti(scan, np.ones(SHAPE, np.float32), np.eye(4))
    other = _series(tmp_path / "pat02", "3", SeriesNumber=3, SeriesDescription="late")
    for scans in (scan, scan.parent):
        with pytest.raises(ArgumentError, match="`--series` must be left out .*, got 'late'. Or check SCANS"):
            in_series(run, [scans], "late")
    assert [cohort.case_ids for cohort in in_series(run, [scan, other], "late")] == [("a",), ("pat02",)]


def test_a_mask_of_one_of_several_series(tmp_path):
    for name, series in (("plain", "1"), ("late", "2")):
        names = [f"{name}{place}.dcm" for place in range(SHAPE[0])]
        _series(tmp_path / "pat01", series, names=names, SeriesNumber=int(series))
    mask = tmp_path / "pat01/mask.dcm"
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2:5, 1:5] = 1
    write_dicom_seg(mask, labels, tmp_path / "pat01", ORGANS, series=2)
    case = open_cohort(tmp_path, series="2")[0]
    np.testing.assert_array_equal(case.labels, labels)


def test_folders_of_patient_study_and_series(tmp_path):
    first, second = _series(tmp_path / "P1/S1/CT", "1"), _series(tmp_path / "P1/S1/PET", "2")
    third = _series(tmp_path / "P2/S1/CT", "3")
    mask = _mask(tmp_path / "P1/S1/SEG/1.dcm", second)
    other = _mask(tmp_path / "P2/S2/RTSTRUCT/1.dcm", third, write=write_rtstruct)
    write_series(tmp_path / "P2/S1/SR", numbered(1, 2, 3), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    with pytest.warns(UserWarning, match=r"1 of 3 images has no mask: .*CT"):
        cohort = open_cohort(tmp_path)
    assert cohort.case_ids == ("P1_S1_CT", "P1_S1_PET", "P2_S1_CT")
    assert cohort.labelled == ("P1_S1_PET", "P2_S1_CT")
    np.testing.assert_array_equal(cohort[0].image[0], read_dicom_series(first).array)
    _same(cohort[1], second, mask)
    _same(cohort[2], third, other, read_rtstruct)


def test_copies_and_masks_without_references_belong_to_what_lies_beside_them(tmp_path):
    series = _series(tmp_path / "P1/S1/CT")
    mask = _mask(tmp_path / "P1/S1/SEG/1.dcm", series)
    shutil.copytree(tmp_path / "P1", tmp_path / "P2")  # of the same identifiers
    third = _series(tmp_path / "P3/S1/CT", "3")
    shutil.copytree(mask.parent, tmp_path / "P3/S1/SEG")  # refers to a series of another patient
    (tmp_path / "P4/S1").mkdir(parents=True)
    shutil.move(third, tmp_path / "P4/S1/CT")
    with pytest.raises(DataError, match=r"must be masks with an image .* none for .*P3.S1.SEG.1\.dcm"):
        open_cohort(tmp_path)
    shutil.rmtree(tmp_path / "P3")
    with pytest.warns(UserWarning, match="1 of 3 images has no mask"):
        cohort = open_cohort(tmp_path)
    assert [scan.beside for scan in cohort.scans[:2]] == [(mask,), (tmp_path / "P2/S1/SEG/1.dcm",)]
    blank = pydicom.dcmread(mask)
    del blank.ReferencedSeriesSequence
    (tmp_path / "P4/S1/SEG").mkdir()
    blank.save_as(tmp_path / "P4/S1/SEG/1.dcm")
    assert open_cohort(tmp_path).scans[2].beside == (tmp_path / "P4/S1/SEG/1.dcm",)


def test_a_folder_of_masks_only_holds_no_cases(tmp_path):
    series = _series(tmp_path / "series")
    _mask(tmp_path / "only/1.dcm", series)
    with pytest.raises(DataError, match="must be"):
        open_cohort(tmp_path / "only")
    _mask(tmp_path / "deep/P1/S1/SEG/1.dcm", series)
    with pytest.raises(DataError, match="must be masks with an image"):
        open_cohort(tmp_path / "deep")


def test_a_mask_of_another_series_is_refused(tmp_path):
    series = _series(tmp_path / "pat01_dicom", first=(0.0, 0.0, 0.0))
    other = _series(tmp_path / "elsewhere/other", "2", first=(0.0, 3.0, 0.0))
    _mask(tmp_path / "scans/pat01_seg.dcm", other)
    shutil.move(series, tmp_path / "scans/pat01_dicom")
    with pytest.raises(DataError, match=r"on the grid of .*pat01_dicom, got another grid"):
        open_cohort(tmp_path / "scans")[0]


def test_the_extra_is_named_where_its_package_is_missing(tmp_path, monkeypatch):
    _mask(tmp_path / "pat01_seg.dcm", _series(tmp_path / "pat01_dicom"))
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingPackageError, match=r"guided-attention\[dicom-seg\]"):
        open_cohort(tmp_path)
    with pytest.raises(MissingPackageError, match=r"guided-attention\[dicom-seg\]"):
        open_cohort(tmp_path, labels={1: "liver"})[0]


@pytest.mark.parametrize("keep", [400, 1500, 2500])
def test_a_mask_that_was_cut_off_is_named(tmp_path, keep):
    mask = _mask(tmp_path / "pat01_seg.dcm", _series(tmp_path / "pat01_dicom"))
    mask.write_bytes(mask.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"pat01_seg\.dcm` must be a whole DICOM SEG file") as caught:
        open_cohort(tmp_path)[0]
    assert caught.value.file == mask


def test_the_parts_of_a_split_hold_masks_of_dicom(tmp_path):
    for part in ("train", "test"):
        series = _series(tmp_path / part / f"{part}1_dicom", part)
        _mask(tmp_path / part / f"{part}1_seg.dcm", series)
    cohort = open_cohort(tmp_path)
    assert cohort.parts == {"train": ("train1",), "test": ("test1",)}
    assert cohort.labelled == ("train1", "test1")
