"""Readers and writers judged by nibabel and SimpleITK: each voxel where they have it, in every orientation."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from tests.data.dicom_maker import AXIAL, write_series

from guided_attention.data import read_dicom_series, read_nifti, write_nifti
from guided_attention.errors import DataError

pytestmark = pytest.mark.peer

SHAPE = (5, 7, 11)  # z, y, x
COS, SIN = np.cos(0.4), np.sin(0.4)
TURN = np.array([[COS, -SIN, 0.0], [SIN, COS, 0.0], [0.0, 0.0, 1.0]]) @ np.array(
    [[1.0, 0.0, 0.0], [0.0, COS, -SIN], [0.0, SIN, COS]]
)
ROTATIONS = {
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "RAS": np.eye(3),
    "LAS": np.diag([-1.0, 1.0, 1.0]),
    "PSR": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "oblique": TURN,
    "tilted": np.array([[1.0, 0.0, 0.0], [0.0, 1.0, np.sin(0.35)], [0.0, 0.0, np.cos(0.35)]]),
}


def _affine(name):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = ROTATIONS[name] @ np.diag([1.5, 1.25, 3.0]), (17.0, -23.0, 31.0)
    return affine


def _array(shape=SHAPE):
    return np.random.default_rng(5).integers(0, 200, size=shape).astype(np.uint8)


def _canonical(array, affine):
    """Return a volume with axes towards R, A and S, turned by nibabel, as (x, y, z)."""
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.ascontiguousarray(array.T), affine))
    return np.asarray(image.dataobj), image.affine


def _of_simpleitk(image):
    """Return array (z, y, x) and RAS affine of a SimpleITK image of three axes."""
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


def _require_same(volume, array, affine, atol=1e-4):
    got, wanted = _canonical(volume.array, volume.affine), _canonical(array, affine)
    np.testing.assert_array_equal(got[0], wanted[0])
    np.testing.assert_allclose(got[1], wanted[1], atol=atol)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [SHAPE, (1, 7, 11)], ids=["volume", "single slice"])
@pytest.mark.parametrize("name", ROTATIONS)
def test_nifti_files_of_nibabel_are_read_where_it_has_them(tmp_path, name, shape, ending):
    path, array = tmp_path / f"a{ending}", _array(shape)
    nibabel.Nifti1Image(np.ascontiguousarray(array.T), _affine(name)).to_filename(path)
    theirs = nibabel.load(path)
    _require_same(read_nifti(path), np.asarray(theirs.dataobj).T, theirs.affine)
    if name != "tilted":  # SimpleITK refuses sheared files
        _require_same(read_nifti(path), *_of_simpleitk(SimpleITK.ReadImage(str(path))))


@pytest.mark.parametrize("name", [name for name in ROTATIONS if name != "tilted"])
def test_nifti_files_of_simpleitk_are_read_where_it_has_them(tmp_path, name):
    path, affine = tmp_path / "a.nii.gz", np.diag([-1.0, -1.0, 1.0, 1.0]) @ _affine(name)
    image = SimpleITK.GetImageFromArray(_array())
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(steps.tolist())
    image.SetDirection((affine[:3, :3] / steps).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path))
    volume = read_nifti(path)
    _require_same(volume, _array(), _affine(name))
    np.testing.assert_allclose(volume.spacing_mm, (3.0, 1.25, 1.5), rtol=1e-6)


@pytest.mark.parametrize(
    "shape", [SHAPE, (1, 7, 11), (2, *SHAPE)], ids=["volume", "single slice", "channels"]
)
@pytest.mark.parametrize("name", ROTATIONS)
def test_our_nifti_files_are_read_by_both_where_we_have_them(tmp_path, name, shape):
    path, array = write_nifti(tmp_path / "a.nii.gz", _array(shape), _affine(name)), _array(shape)
    theirs = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(theirs.dataobj).T, array)
    np.testing.assert_allclose(theirs.affine, _affine(name), atol=1e-5)
    if name == "tilted":
        with pytest.raises(RuntimeError, match="orthonormal"):
            SimpleITK.ReadImage(str(path))
    elif len(shape) == 3:
        got, affine = _of_simpleitk(SimpleITK.ReadImage(str(path)))
        np.testing.assert_array_equal(got, array)
        np.testing.assert_allclose(affine, _affine(name), atol=1e-5)


def test_flat_nifti_files_are_one_slice_for_both(tmp_path):
    path, array = tmp_path / "a.nii.gz", _array((7, 11))
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1.5, 1.25))
    image.SetOrigin((17.0, -23.0))
    SimpleITK.WriteImage(image, str(path))
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.array, array[None])
    assert volume.spacing_mm[1:] == (1.25, 1.5)
    np.testing.assert_allclose(volume.affine[:, :2], nibabel.load(path).affine[:, :2], atol=1e-6)
    np.testing.assert_allclose(volume.affine[:2, 3], (-17.0, 23.0), atol=1e-5)


ORIENTATIONS = {
    "LPS": (AXIAL, (0.0, 0.0, 3.0)),
    "head first": (AXIAL, (0.0, 0.0, -3.0)),
    "RAS": ((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0), (0.0, 0.0, 3.0)),
    "LAS": ((1.0, 0.0, 0.0, 0.0, -1.0, 0.0), (0.0, 0.0, 3.0)),
    "PSR": ((0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (-3.0, 0.0, 0.0)),
    "oblique": (tuple(TURN[:, 0]) + tuple(TURN[:, 1]), tuple(3 * TURN[:, 2])),
}


def _read_by_simpleitk(folder: Path):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return _of_simpleitk(reader.Execute())


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_dicom_series_are_read_where_simpleitk_has_them(tmp_path, name):
    orientation, step = ORIENTATIONS[name]
    write_series(tmp_path, _array(), orientation=orientation, step=step, FrameOfReferenceUID="1.2.3")
    _require_same(read_dicom_series(tmp_path), *_read_by_simpleitk(tmp_path), atol=1e-3)


def test_a_single_dicom_slice_is_read_where_simpleitk_has_it(tmp_path):
    write_series(tmp_path, _array((1, 7, 11)), SpacingBetweenSlices=3.0)
    volume = read_dicom_series(tmp_path)
    array, affine = _of_simpleitk(SimpleITK.ReadImage(str(tmp_path / "i0000.dcm")))
    _require_same(volume, array, affine)
    assert volume.spacing_mm[0] == 3.0


def test_a_tilted_dicom_series_lies_where_each_of_its_slices_says(tmp_path):
    """SimpleITK takes a tilt for none: it puts the last slice 4 mm beside its own header."""
    write_series(tmp_path, _array(), step=(0.0, 1.0, 3.0))
    volume, (array, affine) = read_dicom_series(tmp_path), _read_by_simpleitk(tmp_path)
    np.testing.assert_array_equal(volume.array, array)
    for number in range(5):
        (x, y, z, _) = volume.affine @ [0, 0, number, 1]
        np.testing.assert_allclose((-x, -y, z), (-10.0, 20.0 + number, 30.0 + 3 * number), atol=1e-6)
    assert np.linalg.norm((volume.affine - affine) @ [0, 0, 4, 1]) > 1.0


def test_a_sheared_file_that_only_one_program_can_place_is_told_to_both(tmp_path):
    """The sform is sheared and the qform cannot be: nibabel reads the one, others would read the other."""
    path = write_nifti(tmp_path / "a.nii.gz", _array(), _affine("tilted"))
    assert nibabel.load(path).get_qform(coded=True)[1] == 0
    with pytest.raises(DataError, match="`affine` must be"):
        write_nifti(tmp_path / "b.nii.gz", _array(), np.zeros((4, 4)))
