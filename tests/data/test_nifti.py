import nibabel
import numpy as np
import pytest
from tests.real_data import real_data

from guided_attention.data import read_nifti, read_nifti_case, read_nifti_pairs, write_nifti

AFFINE = np.array([[-1.5, 0.1, 0, 10], [0, 1.25, 0.2, -20], [0, 0, 5, 30], [0, 0, 0, 1]], float)


def _random(shape, dtype="float32", seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 50).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 5, 7)])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_what_is_written_is_read_back_exactly(tmp_path, dtype, shape, ending):
    volume = _random(shape, "int16").astype(dtype) if dtype == "uint8" else _random(shape, dtype)
    back = read_nifti(write_nifti(tmp_path / f"a{ending}", volume, AFFINE))
    np.testing.assert_array_equal(back.array, volume)
    assert back.array.dtype == dtype
    np.testing.assert_allclose(back.affine, AFFINE.astype(np.float32), rtol=0, atol=0)
    lengths = np.linalg.norm(AFFINE[:3, :3], axis=0)[::-1]
    np.testing.assert_allclose(back.spacing_mm, lengths, rtol=1e-6)


def test_other_readers_find_voxels_where_the_affine_says(tmp_path):
    volume = _random((3, 5, 7))
    image = nibabel.load(write_nifti(tmp_path / "a.nii.gz", volume, AFFINE))
    assert image.shape == (7, 5, 3)
    assert image.get_fdata()[6, 4, 1] == volume[1, 4, 6]
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_channels_come_first(tmp_path):
    nibabel.save(nibabel.Nifti1Image(_random((7, 5, 3, 2)), AFFINE), tmp_path / "a.nii.gz")
    case = read_nifti_case(tmp_path / "a.nii.gz")
    stored = nibabel.load(tmp_path / "a.nii.gz").get_fdata()
    for c, z, y, x in ((0, 0, 0, 0), (1, 2, 4, 6), (0, 1, 3, 2)):
        assert case.image[c, z, y, x] == stored[x, y, z, c]
    assert (case.case_id, case.labels) == ("a", None)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    write_nifti(tmp_path / "a.nii", np.ones((3, 5, 7), np.uint8), AFFINE)

    def fail(_, name):
        name.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nibabel.Nifti1Image, "to_filename", fail)
    with pytest.raises(OSError, match="disk full"):
        write_nifti(tmp_path / "a.nii", np.zeros((3, 5, 7), np.uint8), AFFINE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").array, 1)


def test_labels_of_any_number_type_become_small_integers(tmp_path):
    labels = np.arange(105).reshape(3, 5, 7) % 5
    image = write_nifti(tmp_path / "i.nii", _random((3, 5, 7)), AFFINE)
    mask = write_nifti(tmp_path / "m.nii", labels.astype(np.float32), AFFINE)
    case = read_nifti_case(image, mask, case_id="7")
    np.testing.assert_array_equal(case.labels, labels)
    assert (case.case_id, case.labels.dtype) == ("7", np.uint8)


@pytest.mark.parametrize("bad", [-1.0, 0.5])
def test_masks_that_are_no_labels_are_told(tmp_path, bad):
    image = write_nifti(tmp_path / "i.nii", _random((3, 5, 7)), AFFINE)
    mask = write_nifti(tmp_path / "m.nii", np.full((3, 5, 7), bad, np.float32), AFFINE)
    with pytest.raises(ValueError, match=rf"`values of .*m.nii` must be whole numbers from 0, got {bad}"):
        read_nifti_case(image, mask)


def test_a_mask_of_another_size_names_both(tmp_path):
    image = write_nifti(tmp_path / "i.nii", _random((3, 5, 7)), AFFINE)
    mask = write_nifti(tmp_path / "m.nii", np.zeros((3, 7, 5), np.uint8), AFFINE)
    with pytest.raises(
        ValueError, match=r"`size of .*m.nii` must be that of its image .*i.nii, \(3, 5, 7\), got"
    ):
        read_nifti_case(image, mask)


def test_a_mask_that_lies_elsewhere_names_both(tmp_path):
    moved = AFFINE.copy()
    moved[2, 3] += 0.01
    image = write_nifti(tmp_path / "i.nii", _random((3, 5, 7)), AFFINE)
    mask = write_nifti(tmp_path / "m.nii", np.zeros((3, 5, 7), np.uint8), moved)
    with pytest.raises(
        ValueError, match=r"`affine of .*m.nii` must be that of its image .*i.nii, .*Resample the mask"
    ):
        read_nifti_case(image, mask)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_told_by_file(tmp_path, bad):
    volume = _random((3, 5, 7))
    volume[1, 2, 3] = bad
    path = write_nifti(tmp_path / "a.nii", volume, AFFINE)
    with pytest.raises(
        ValueError, match=r"`values of .*a.nii` must be finite everywhere, got NaN or infinite values"
    ):
        read_nifti(path)


def test_a_truncated_file_is_named(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", _random((3, 5, 7)), AFFINE)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(
        ValueError, match=r"`.*a.nii.gz` must be a whole NIfTI file, got one that cannot be read"
    ):
        read_nifti(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`path` must be an existing NIfTI file, got .*nowhere.nii"):
        read_nifti(tmp_path / "nowhere.nii")


def test_a_flat_image_is_told(tmp_path):
    nibabel.save(nibabel.Nifti1Image(_random((7, 5)), AFFINE), tmp_path / "a.nii")
    with pytest.raises(ValueError, match="a file of three axes, or four with channels last, got 2 axes"):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("name", "volume", "wanted"),
    [
        (
            "a.mha",
            np.zeros((3, 5, 7), np.uint8),
            r"`path` must be a name that ends in .nii or .nii.gz, got a.mha",
        ),
        ("a.nii", np.zeros((3, 5, 7), np.int64), r"of type uint8, int16, float32, got int64. Convert it"),
        ("a.nii", np.zeros((5, 7), np.uint8), r"`volume` must be of three axes"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path, name, volume, wanted):
    with pytest.raises(ValueError, match=wanted):
        write_nifti(tmp_path / name, volume, AFFINE)


def _cohort(folder, names=("case10", "case9")):
    for i, name in enumerate(names):
        write_nifti(folder / f"{name}_image.nii.gz", np.full((3, 5, 7), i, np.int16), AFFINE)
        write_nifti(folder / f"{name}_label.nii.gz", np.full((3, 5, 7), i, np.uint8), AFFINE)
    return folder


def test_pairs_are_ordered_by_number(tmp_path):
    cases = read_nifti_pairs(_cohort(tmp_path))
    assert [case.case_id for case in cases] == ["case9", "case10"]
    assert [int(case.image[0, 0, 0, 0]) for case in cases] == [1, 0]
    assert [int(case.labels[0, 0, 0]) for case in cases] == [1, 0]
    assert [case.case_id for case in read_nifti_pairs(tmp_path, case_ids=["case10"])] == ["case10"]


def test_pairs_may_be_lists_and_other_folders(tmp_path):
    _cohort(tmp_path)
    images, labels = sorted(tmp_path.glob("*_image*")), sorted(tmp_path.glob("*_label*"), reverse=True)
    assert [case.case_id for case in read_nifti_pairs(images, labels)] == ["case9", "case10"]
    with pytest.raises(ValueError, match=r"`labels` must be given where `images` is a list"):
        read_nifti_pairs(images)


def test_pairs_that_are_none_are_named(tmp_path):
    _cohort(tmp_path)
    (tmp_path / "case9_label.nii.gz").unlink()
    (tmp_path / "case10_image.nii.gz").unlink()
    wanted = r"got no mask for case9_image.nii.gz; no image for case10_label.nii.gz. Add the missing"
    with pytest.raises(ValueError, match=wanted):
        read_nifti_pairs(tmp_path)


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a folder with \*_image.nii.gz files in it, got none"):
        read_nifti_pairs(tmp_path)


def test_an_unknown_id_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"got case7. Found there: case9, case10."):
        read_nifti_pairs(_cohort(tmp_path), case_ids=["case7"])


def test_a_real_left_atrium_reads_with_its_size_and_spacing():
    (case,) = read_nifti_pairs(real_data("left-atrium-mr"), case_ids=["case01"])
    assert case.image.shape == (1, 88, 148, 200)
    assert case.spacing_mm == (0.625, 0.625, 0.625)
    assert int(case.labels.sum()) == 252364
    assert set(np.unique(case.labels)) == {0, 1}


def test_real_multi_organ_mr_keeps_its_orientation():
    folder = real_data("abdomen-mr-ct")
    case = read_nifti_case(folder / "mr_image.nii.gz", folder / "mr_label.nii.gz")
    assert case.image.shape == (1, 20, 91, 117)
    # Axes run to the left: the liver (5) lies to the right, at greater x in millimetres, than the spleen (1).
    centres = [np.array([*np.argwhere(case.labels == label).mean(0)[::-1], 1.0]) for label in (5, 1)]
    assert (case.affine @ centres[0])[0] > (case.affine @ centres[1])[0]
