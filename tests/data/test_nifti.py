import gzip
import struct
import tracemalloc
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from tests.real_data import real_data
from tests.reference import geometry as reference

from guided_attention._geometry import reorientation
from guided_attention.case import Case
from guided_attention.data import (
    make_phantom,
    read_dicom_series,
    read_nifti,
    read_nifti_case,
    read_nifti_pairs,
    write_nifti,
)
from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    DataError,
    GeometryWarning,
    GuidedAttentionError,
    MissingFileError,
)

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
    np.testing.assert_allclose(back.spacing_mm, reference.spacing(AFFINE), rtol=1e-6)


def test_other_readers_find_voxels_where_the_affine_says(tmp_path):
    volume = _random((3, 5, 7))
    image = nibabel.load(write_nifti(tmp_path / "a.nii.gz", volume, np.diag([-1.5, -1.25, 5.0, 1.0])))
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


def test_labels_of_any_number_type_become_small_integers(tmp_path):
    labels = np.arange(105).reshape(3, 5, 7) % 5
    image = write_nifti(tmp_path / "i.nii", _random((3, 5, 7)), AFFINE)
    mask = write_nifti(tmp_path / "m.nii", labels.astype(np.float32), AFFINE)
    case = read_nifti_case(image, mask, case_id="7")
    np.testing.assert_array_equal(case.labels, labels)
    assert (case.case_id, case.labels.dtype) == ("7", np.uint8)


@pytest.mark.parametrize(
    ("bad", "wanted"), [(-1.0, "0 or above, got -1"), (0.5, "whole numbers from 0, got 0.5")]
)
def test_masks_that_are_no_labels_are_told(tmp_path, bad, wanted):
    image = write_nifti(tmp_path / "i.nii", _random((3, 5, 7)), AFFINE)
    mask = write_nifti(tmp_path / "m.nii", np.full((3, 5, 7), bad, np.float32), AFFINE)
    with pytest.raises(DataError, match=rf"`values of .*m.nii` must be {wanted}") as caught:
        read_nifti_case(image, mask)
    assert caught.value.file == mask


def test_a_mask_of_another_size_names_both(tmp_path):
    image = write_nifti(tmp_path / "i.nii", _random((3, 5, 7)), AFFINE)
    mask = write_nifti(tmp_path / "m.nii", np.zeros((3, 7, 5), np.uint8), AFFINE)
    wanted = r"`labels of case 'i'` must be of the image's size \(3, 5, 7\), got \(3, 7, 5\). Read from .*i.nii and"
    with pytest.raises(DataError, match=wanted) as caught:
        read_nifti_case(image, mask)
    assert caught.value.file == mask


def test_a_mask_that_lies_elsewhere_names_both(tmp_path):
    moved = AFFINE.copy()
    moved[2, 3] += 0.2
    image = write_nifti(tmp_path / "i.nii", _random((3, 5, 7)), AFFINE)
    mask = write_nifti(tmp_path / "m.nii", np.zeros((3, 5, 7), np.uint8), moved)
    wanted = (
        r"`labels of case 'i'` must be within 0.125 mm of the image at every corner, got 0.2 mm apart. "
        r"Resample the mask onto the image's grid first. Read from .*i.nii and .*m.nii"
    )
    with pytest.raises(DataError, match=wanted) as caught:
        read_nifti_case(image, mask)
    assert caught.value.file == mask


def test_origins_that_differ_by_rounding_are_accepted(tmp_path):
    moved = AFFINE.copy()
    moved[:3, 3] += 0.002
    image = write_nifti(tmp_path / "i.nii", _random((3, 5, 7)), AFFINE)
    mask = write_nifti(tmp_path / "m.nii", np.ones((3, 5, 7), np.uint8), moved)
    np.testing.assert_array_equal(read_nifti_case(image, mask).affine, AFFINE.astype(np.float32))


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


def test_a_flat_image_is_one_slice(tmp_path):
    flat = _random((7, 5))
    nibabel.save(nibabel.Nifti1Image(flat, AFFINE), tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.array, flat.T[None])
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)


def test_an_axis_that_is_too_much_is_told(tmp_path):
    nibabel.save(nibabel.Nifti1Image(_random((7,)), AFFINE), tmp_path / "a.nii")
    with pytest.raises(
        ValueError, match="a file of two or three axes, or four with channels last, got 1 axis"
    ):
        read_nifti(tmp_path / "a.nii")


def test_a_header_without_orientation_is_told(tmp_path):
    image = nibabel.Nifti1Image(_random((7, 5, 3)), AFFINE)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.warns(
        GeometryWarning, match=r"a.nii does not say how it is oriented: the first axis is taken"
    ):
        volume = read_nifti(tmp_path / "a.nii")
    assert volume.affine[0, 0] < 0  # nibabel, and ITK's reader of these files, take them for LAS


@pytest.mark.parametrize("moved", [0.5, 0.02])
def test_two_places_that_differ_are_told(tmp_path, moved):
    image = nibabel.Nifti1Image(_random((7, 5, 3)), STRAIGHT)
    other = STRAIGHT.copy()
    other[1, 3] += moved
    image.set_sform(STRAIGHT, 1)
    image.set_qform(other, 1)
    nibabel.save(image, tmp_path / "a.nii")
    if moved < 0.1:
        read_nifti(tmp_path / "a.nii")
        return
    with pytest.warns(
        GeometryWarning, match=r"gives two places \(sform and qform\) that differ: the sform is taken"
    ):
        volume = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, STRAIGHT, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "volume", "wanted"),
    [
        (
            "a.mha",
            np.zeros((3, 5, 7), np.uint8),
            r"`path` must be a name that ends in .nii or .nii.gz, got a.mha",
        ),
        (
            "a.nii",
            np.zeros((3, 5, 7), complex),
            r"`volume` must be an array of real numbers, got type complex128",
        ),
        ("a.nii", np.full((3, 5, 7), 1e39), r"`volume` must be of numbers that float32 holds"),
        (
            "a.nii",
            np.zeros((3, 0, 7)),
            r"`volume` must be of at least one voxel and at most 32767 along an axis",
        ),
        ("a.nii", np.zeros((1, 1, 32768), bool), r"at most 32767 along an axis, got shape \(1, 1, 32768\)"),
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


NUMBER_TYPES = (
    "uint8",
    "int8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
)
STRAIGHT = np.diag([-1.5, -1.25, 5.0, 1.0])


def _write(path, volume, dtype, *, slope=None, kind=nibabel.Nifti1Image):
    """Write (x, y, z) values as they are, in any byte order, and set the scaling in the header."""
    image = kind(volume.astype(dtype), STRAIGHT, dtype=np.dtype(dtype).newbyteorder("="))
    image.header.set_data_dtype(dtype)
    if np.dtype(dtype).byteorder == ">":
        image = kind(image.dataobj, STRAIGHT, image.header.as_byteswapped(">"))
    image.to_filename(path)
    if slope is not None:
        header = path.with_suffix("").with_suffix(".hdr") if path.name.endswith(".img") else path
        opened = gzip.open if path.name.endswith(".gz") else Path.open
        with opened(header, "rb") as file:
            content = bytearray(file.read())
        order = ">" if np.dtype(dtype).byteorder == ">" else "<"
        place, form = (
            (112, "ff") if kind is nibabel.Nifti1Image or kind is nibabel.Nifti1Pair else (176, "dd")
        )
        content[place : place + struct.calcsize(form)] = struct.pack(order + form, *slope)
        with opened(header, "wb") as file:
            file.write(content)
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".img"])
@pytest.mark.parametrize(
    "slope", [None, (0.0, 7.0), (1.0, 0.0), (2.0, 0.0), (1.0, -3.0), (0.37, -1024.5), (np.nan, 1)]
)
def test_values_are_those_of_nibabel_for_every_number_type_byte_order_and_scaling(tmp_path, ending, slope):
    values = np.random.default_rng(0).integers(0, 120, (7, 5, 3))
    for dtype, order in product(NUMBER_TYPES, "<>"):
        kind = nibabel.Nifti1Pair if ending == ".img" else nibabel.Nifti1Image
        path = _write(
            tmp_path / f"a{ending}", values, np.dtype(dtype).newbyteorder(order), slope=slope, kind=kind
        )
        wanted = nibabel.load(path).get_fdata().astype(np.float32)
        is_scaled = slope is not None and slope not in {(1.0, 0.0), (0.0, 7.0)} and not np.isnan(slope[0])
        volume = read_nifti(path)
        np.testing.assert_array_equal(volume.array, wanted.T, err_msg=f"{dtype} {order}")
        assert volume.array.dtype == ("float32" if is_scaled or dtype.startswith("float") else dtype)
        assert volume.array.dtype.isnative
        np.testing.assert_array_equal(read_nifti_case(path).image[0], wanted.T)


@pytest.mark.parametrize("slope", [None, (0.5, 1.0)])
def test_the_second_version_of_the_format_is_read(tmp_path, slope):
    values = np.random.default_rng(0).integers(0, 120, (7, 5, 3))
    path = _write(tmp_path / "a.nii.gz", values, "<i2", slope=slope, kind=nibabel.Nifti2Image)
    np.testing.assert_array_equal(read_nifti(path).array, nibabel.load(path).get_fdata().T)


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_either_file_of_a_pair_may_be_named(tmp_path, name):
    values = np.random.default_rng(0).integers(0, 120, (7, 5, 3))
    _write(tmp_path / "a.img", values, "int16", kind=nibabel.Nifti1Pair)
    np.testing.assert_array_equal(read_nifti(tmp_path / name).array, values.T)
    (tmp_path / "a.img").unlink()
    with pytest.raises(GuidedAttentionError):
        read_nifti(tmp_path / "a.hdr")


def test_volumes_of_more_than_one_piece_are_whole(tmp_path):
    values = np.random.default_rng(0).integers(-30000, 30000, (127, 67, 101)).astype(np.int16)
    affine = np.eye(4)
    for ending in (".nii", ".nii.gz"):
        path = write_nifti(tmp_path / f"a{ending}", values, affine)
        np.testing.assert_array_equal(read_nifti(path).array, values)
        labels = (values % 300).astype(np.float64)
        mask = tmp_path / f"m{ending}"
        nibabel.save(nibabel.Nifti1Image(labels.T, affine), mask)
        case = read_nifti_case(path, mask)
        np.testing.assert_array_equal(case.labels, labels)
        assert case.labels.dtype == np.uint16


@pytest.mark.parametrize("shape", [(7, 5, 3, 1, 1), (7, 5, 3, 1, 2), (7, 5, 3, 2), (7, 5, 3, 1)])
def test_axes_of_one_voxel_behind_the_third_are_no_channels_of_their_own(tmp_path, shape):
    values = _random(shape, "int16")
    nibabel.save(nibabel.Nifti1Image(values, STRAIGHT), tmp_path / "a.nii")
    array = read_nifti(tmp_path / "a.nii").array
    np.testing.assert_array_equal(array, values.reshape(7, 5, 3, -1).T)


def test_two_axes_of_channels_are_told(tmp_path):
    nibabel.save(nibabel.Nifti1Image(_random((7, 5, 3, 2, 2)), STRAIGHT), tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"four with channels last, got axes of \[7, 5, 3, 2, 2\] voxels"):
        read_nifti(tmp_path / "a.nii")


def test_what_is_no_nifti_is_told(tmp_path):
    nibabel.save(nibabel.Spm2AnalyzeImage(_random((7, 5, 3), "int16"), np.eye(4)), tmp_path / "old.img")
    with pytest.raises(DataError, match="it is of an older format without orientation"):
        read_nifti(tmp_path / "old.img")
    (tmp_path / "a.mha").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"`path` must be a name that ends in .nii or .nii.gz, got a.mha. Convert it"
    ):
        read_nifti(tmp_path / "a.mha")
    nibabel.save(nibabel.Nifti1Image(np.ones((7, 5, 3), np.complex64), np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(DataError, match="must be a file of plain numbers, got type complex64"):
        read_nifti(tmp_path / "c.nii")


def test_an_affine_that_is_none_is_told(tmp_path):
    image = nibabel.Nifti1Image(_random((7, 5, 3)), STRAIGHT)
    image.header["srow_x"][0] = np.nan
    image.to_filename(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[280:284] = struct.pack("<f", np.nan)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(
        DataError, match=r"`affine of .*a.nii` must be a 4 x 4 matrix of finite numbers"
    ) as caught:
        read_nifti(tmp_path / "a.nii")
    assert caught.value.file == tmp_path / "a.nii"


@pytest.mark.parametrize(
    ("unit", "factor"), [("micron", 1e-3), ("mm", 1.0), ("meter", 1e3), ("unknown", 1.0)]
)
def test_lengths_are_millimetres_whatever_the_unit_of_the_file(tmp_path, unit, factor):
    image = nibabel.Nifti1Image(_random((7, 5, 3)), STRAIGHT)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.spacing_mm, np.array([5.0, 1.25, 1.5]) * factor, rtol=1e-6)


def test_a_flipped_bit_of_each_byte_of_a_gzip_file_is_refused_or_changes_nothing(tmp_path):
    volume = np.random.default_rng(0).integers(0, 5, (3, 5, 7)).astype(np.uint8)
    path = write_nifti(tmp_path / "a.nii.gz", volume, STRAIGHT)
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            read = read_nifti(path)
        except GuidedAttentionError as error:
            assert error.file == path  # noqa: PT017 - most inputs raise, some do not
            refused += 1
        else:
            np.testing.assert_array_equal(read.array, volume)
            np.testing.assert_array_equal(read.affine, STRAIGHT)
    assert refused > 0.9 * (len(whole) - 10)  # bits of gzip's own header change nothing


@pytest.mark.parametrize("place", [-1, -4, -5, -8, -100_000])  # length and checksum at the end, and voxels
def test_the_checksum_of_a_long_file_is_tested_too(tmp_path, place):
    volume = np.random.default_rng(0).integers(0, 256, (61, 67, 71)).astype(np.uint8)
    path = write_nifti(tmp_path / "a.nii.gz", volume, STRAIGHT)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    for read in (read_nifti, read_nifti_case):
        with pytest.raises(DataError, match="must be a whole NIfTI file"):
            read(path)
    image = write_nifti(tmp_path / "b.nii.gz", volume, STRAIGHT)
    with pytest.raises(DataError, match="must be a whole NIfTI file"):
        read_nifti_case(image, path)


def test_a_header_that_claims_more_than_the_file_can_hold_is_refused_at_once(tmp_path):
    for ending in (".nii", ".nii.gz"):
        path = write_nifti(tmp_path / f"a{ending}", np.zeros((3, 5, 7), np.uint8), STRAIGHT)
        content = bytearray(gzip.decompress(path.read_bytes()) if ending == ".nii.gz" else path.read_bytes())
        content[42:48] = struct.pack("<3h", 32767, 32767, 32767)
        path.write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
        with pytest.raises(DataError, match="its header claims 35181150961663 bytes|its header claims 3518"):
            read_nifti(path)


def test_reading_needs_less_than_eight_bytes_a_voxel(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "guided_attention.data.formats._voxels._PIECE", 1 << 13
    )  # as small beside this volume as usual
    values = np.random.default_rng(0).integers(0, 5, (128, 128, 64))
    image = _write(tmp_path / "i.nii.gz", values, "<i2", slope=(0.5, -3.0))
    wide = _write(tmp_path / "w.nii.gz", values, "<f8")
    read_nifti_case(image)  # what is imported at the first call is no part of the volume
    for one, other, most in ((image, None, 5.0), (image, wide, 7.0), (wide, wide, 7.0)):
        tracemalloc.start()
        case = read_nifti_case(one, other)
        peak = tracemalloc.get_traced_memory()[1] / values.size
        tracemalloc.stop()
        assert case.image.shape == (1, 64, 128, 128)
        assert peak < most


@pytest.mark.parametrize(
    ("highest", "lowest", "dtype"),
    [
        (4, 0, "uint8"),
        (255, 0, "uint8"),
        (256, 0, "int16"),
        (1180, 0, "int16"),
        (40000, 0, "uint16"),
        (65536, 0, "int32"),
        (5, -1, "int16"),
        (40000, -1, "int32"),
        (2**31, 0, "uint32"),
        (2**32, 0, "int64"),
    ],
)
@pytest.mark.parametrize("given", ["int64", ">i8", "smallest"])
def test_whole_numbers_are_written_as_the_smallest_type_that_holds_them(
    tmp_path, highest, lowest, dtype, given
):
    volume = np.random.default_rng(0).integers(lowest, 5, (3, 5, 7))
    volume[2, 4, 6], volume[0, 0, 0] = highest, lowest
    back = read_nifti(
        write_nifti(tmp_path / "a.nii", volume.astype(dtype if given == "smallest" else given), STRAIGHT)
    )
    np.testing.assert_array_equal(back.array, volume)
    assert back.array.dtype == dtype


@pytest.mark.parametrize("given", ["float64", "float16", ">f4", "float32"])
def test_other_numbers_are_written_as_float32(tmp_path, given):
    volume = _random((3, 5, 7)).astype(given)
    volume[0, 0, 0] = np.inf if given == "float64" else 0
    path = write_nifti(tmp_path / "a.nii", volume, STRAIGHT)
    np.testing.assert_array_equal(nibabel.load(path).get_fdata().T, volume.astype(np.float32))
    assert nibabel.load(path).get_data_dtype() == np.float32


def test_masks_and_tensors_are_written(tmp_path):
    mask = np.arange(105).reshape(3, 5, 7) % 2 == 1
    for volume in (
        mask,
        torch.from_numpy(mask),
        torch.from_numpy(mask.astype(np.int64)),
        mask[:, ::-1][:, ::-1],
    ):
        back = read_nifti(write_nifti(tmp_path / "a.nii", volume, STRAIGHT))
        np.testing.assert_array_equal(back.array, mask)
        assert back.array.dtype == np.uint8


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("arguments", "error", "wanted"),
    [
        ((5, np.zeros((3, 5, 7)), STRAIGHT), ArgumentTypeError, "`path` must be a path, got a int"),
        (
            ("a.nii", [[[1]]], STRAIGHT),
            ArgumentTypeError,
            "`volume` must be a NumPy array or a tensor, got a list",
        ),
        (("a.nii", np.zeros((3, 5, 7)), np.eye(3)), DataError, "`affine` must be a 4 x 4 matrix"),
        (("a.nii", np.zeros((3, 5, 7)), None), DataError, "`affine` must be a 4 x 4 matrix"),
        (("nowhere/a.nii", np.zeros((3, 5, 7)), STRAIGHT), MissingFileError, "in an existing folder"),
    ],
)
def test_wrong_arguments_of_the_writer_are_told(tmp_path, monkeypatch, arguments, error, wanted):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=wanted):
        write_nifti(*arguments)
    assert list(tmp_path.iterdir()) == []


def _place_by_simpleitk(path, x, y, z):
    simpleitk = pytest.importorskip("SimpleITK")
    image = simpleitk.ReadImage(str(path))
    assert simpleitk.GetArrayFromImage(image)[z, y, x] == read_nifti(path).array[z, y, x]
    return np.array(image.TransformIndexToPhysicalPoint((x, y, z))) * [-1, -1, 1]


@pytest.mark.parametrize("kind", ["straight", "oblique", "turned"])
def test_simpleitk_and_nibabel_put_every_corner_where_the_affine_does(tmp_path, kind):
    volume = np.random.default_rng(0).integers(0, 200, (13, 17, 19))
    for seed in range(25):
        affine = reference.random_affine(np.random.default_rng(seed), kind)
        path = write_nifti(tmp_path / "a.nii", volume, affine)
        image = nibabel.load(path)
        for x, y, z in product((0, 18), (0, 16), (0, 12)):
            wanted = reference.place(affine, x, y, z)
            np.testing.assert_allclose(reference.place(image.affine, x, y, z), wanted, rtol=0, atol=1e-3)
            np.testing.assert_allclose(_place_by_simpleitk(path, x, y, z), wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("degrees", [5, 20])
def test_a_tilted_gantry_is_written_without_a_quaternion_that_lies(tmp_path, degrees):
    simpleitk = pytest.importorskip("SimpleITK")
    affine = np.diag([-0.7, -0.7, 8.0, 1.0])
    affine[1, 2] = 8.0 * np.tan(np.radians(degrees))
    path = write_nifti(tmp_path / "a.nii", np.zeros((13, 17, 19), np.uint8), affine)
    image = nibabel.load(path)
    np.testing.assert_allclose(image.affine, affine, rtol=1e-6)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(read_nifti(path).spacing_mm, reference.spacing(affine), rtol=1e-6)
    with pytest.raises(RuntimeError, match="orthonormal"):  # better than voxels in another place
        simpleitk.ReadImage(str(path))


ORIENTATIONS = ("LPS", "RAS", "LIA", "PSR", "LAS")


@pytest.mark.parametrize("stored", ORIENTATIONS)
def test_a_mask_in_another_storage_order_is_brought_to_that_of_its_image(tmp_path, stored):
    rng = np.random.default_rng(0)
    affine = reference.random_affine(rng, "oblique")
    mask = rng.integers(0, 5, (3, 5, 7))
    turn = reorientation(affine, stored)
    image = write_nifti(tmp_path / "i.nii.gz", rng.integers(0, 99, (3, 5, 7)), affine)
    other = write_nifti(tmp_path / "m.nii.gz", turn.apply(mask), turn.affine(affine, mask.shape))
    case = read_nifti_case(image, other)
    np.testing.assert_array_equal(case.labels, mask)
    np.testing.assert_array_equal(case.image[0], read_nifti(image).array)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("case25_image.nii.gz", "case25"),
        ("case25_image.nii", "case25"),
        ("case25_0000.nii.gz", "case25"),
        ("case25.nii.gz", "case25"),
        ("case25.v2.nii", "case25.v2"),
        ("case_image_2.NII.GZ", "case_image_2"),
    ],
)
def test_a_case_is_called_after_its_file(tmp_path, name, wanted):
    write_nifti(tmp_path / "a.nii", np.zeros((3, 5, 7)), STRAIGHT)
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    assert read_nifti_case(tmp_path / name).case_id == wanted
    assert read_nifti_case(str(tmp_path / name), case_id="x").case_id == "x"


def test_both_readers_call_a_case_the_same(tmp_path):
    _cohort(tmp_path)
    for case in read_nifti_pairs(tmp_path):
        assert read_nifti_case(tmp_path / f"{case.case_id}_image.nii.gz").case_id == case.case_id
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    write_nifti(tmp_path / "imagesTr/heart_009_0000.nii.gz", np.zeros((3, 5, 7)), STRAIGHT)
    write_nifti(tmp_path / "labelsTr/heart_009.nii.gz", np.zeros((3, 5, 7), int), STRAIGHT)
    folders = tmp_path / "imagesTr", tmp_path / "labelsTr"
    (case,) = read_nifti_pairs(*folders, image_suffix=".nii.gz", label_suffix=".nii.gz")
    assert case.case_id == read_nifti_case(tmp_path / "imagesTr/heart_009_0000.nii.gz").case_id == "heart_009"


def test_channels_have_names_where_they_are_given(tmp_path):
    path = write_nifti(tmp_path / "a.nii", np.zeros((2, 3, 5, 7)), STRAIGHT)
    assert read_nifti_case(path).channel_names == ()
    assert read_nifti_case(path, channel_names=["T1", "T2"]).channel_names == ("T1", "T2")
    with pytest.raises(
        DataError, match=r"2 different names, one a channel, or none, got \['T1'\]. Read from .*a.nii"
    ):
        read_nifti_case(path, channel_names=["T1"])
    cases = read_nifti_pairs(_cohort(tmp_path), channel_names=("MR",))
    assert [case.channel_names for case in cases] == [("MR",), ("MR",)]


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("reader", "bad"),
    [
        (read_nifti, 5),
        (read_nifti, None),
        (read_nifti, b"a.nii"),
        (read_nifti, ["a_0000.nii", "a_0001.nii"]),
        (read_nifti, ("a.nii",)),
        (read_nifti_case, 5),
        (read_nifti_case, None),
        (read_nifti_case, b"a.nii"),
        (read_nifti_case, [5]),
    ],
)
def test_what_is_no_path_is_told(reader, bad):
    wanted = (
        "must be a path, (got a .*read by read_nifti_case|or a list of paths, one a channel, got|got a bytes)"
    )
    with pytest.raises(ArgumentTypeError, match=wanted):
        reader(bad)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("changes", "error", "wanted"),
    [
        ({"images": 5}, ArgumentTypeError, "`images` must be a path, got a int"),
        ({"images": ["a_image.nii.gz"]}, ArgumentError, "`labels` must be given where `images` is a list"),
        ({"images": [], "labels": []}, ArgumentError, "`images` must be at least one file, got none"),
        ({"images": [5], "labels": ["a"]}, ArgumentTypeError, "`images` must be a path, got a int"),
        ({"labels": 5}, ArgumentTypeError, "`labels` must be a path, got a int"),
        ({"image_suffix": None}, ArgumentTypeError, "`image_suffix` must be a text, got a NoneType"),
        ({"label_suffix": 5}, ArgumentTypeError, "`label_suffix` must be a text, got a int"),
        ({"case_ids": "case9"}, ArgumentTypeError, r"`case_ids` must be a list of names, got a str. Write"),
        ({"images": "nowhere"}, MissingFileError, "`images` must be an existing folder, got nowhere"),
        (
            {"channel_names": "T1"},
            ArgumentTypeError,
            "`channel_names of case 'case9'` must be a list of texts",
        ),
    ],
)
def test_wrong_arguments_of_pairs_are_told(tmp_path, monkeypatch, changes, error, wanted):
    monkeypatch.chdir(_cohort(tmp_path))
    with pytest.raises(error, match=wanted):
        read_nifti_pairs(**({"images": "."} | changes))


def test_files_of_one_name_are_paired_by_folder(tmp_path):
    for name in ("s1", "s2", "s10"):
        (tmp_path / name).mkdir()
        number = int(name[1:])
        write_nifti(tmp_path / name / "ct.nii.gz", np.full((3, 5, 7), 100.0 + number), STRAIGHT)
        write_nifti(tmp_path / name / "liver.nii.gz", np.full((3, 5, 7), number, np.uint8), STRAIGHT)
    images = [tmp_path / name / "ct.nii.gz" for name in ("s1", "s2", "s10")]
    masks = [tmp_path / name / "liver.nii.gz" for name in ("s10", "s1", "s2")]
    for suffixes in (("ct.nii.gz", "liver.nii.gz"), (".nii.gz", ".nii.gz")):
        cases = read_nifti_pairs(images, masks, image_suffix=suffixes[0], label_suffix=suffixes[1])
        seen = [(case.case_id, float(case.image.max()) - 100, int(case.labels.max())) for case in cases]
        assert seen == [("s1", 1, 1), ("s2", 2, 2), ("s10", 10, 10)]


def test_files_of_one_name_in_folders_of_one_name_are_not_mixed(tmp_path):
    files = []
    for name in ("a/s1", "b/s1"):
        (tmp_path / name).mkdir(parents=True)
        files.append(write_nifti(tmp_path / name / "ct.nii.gz", np.zeros((3, 5, 7)), STRAIGHT))
    wanted = (
        r"must be files with a name, or in a folder, of their own, got .*b/s1/ct.nii.gz and .*a/s1/ct.nii.gz"
    )
    with pytest.raises(DataError, match=wanted):
        read_nifti_pairs(files, files, image_suffix=".nii.gz", label_suffix=".nii.gz")


def test_a_link_that_leads_nowhere_is_told(tmp_path):
    _cohort(tmp_path)
    (tmp_path / "case11_image.nii.gz").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        MissingFileError, match=r"case11_image.nii.gz` must be a file, got a link that leads nowhere"
    ):
        read_nifti_pairs(tmp_path)
    with pytest.raises(
        MissingFileError, match="must be an existing NIfTI file, got a link that leads nowhere: "
    ):
        read_nifti_case(tmp_path / "case11_image.nii.gz")
    with pytest.raises(MissingFileError, match="`path` must be an existing NIfTI file, got a folder: "):
        read_nifti(tmp_path)


@pytest.mark.parametrize("broken", ["pathlib.Path.is_file", "gzip.open"])
def test_a_file_without_permission_is_not_called_damaged(tmp_path, monkeypatch, broken):
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((3, 5, 7)), STRAIGHT)

    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(broken, refuse)
    wanted = r"`.*a.nii.gz` must be a NIfTI that you may read, got: permission denied. Change its permissions"
    with pytest.raises(DataError, match=wanted) as caught:
        read_nifti(path)
    assert caught.value.file == path


def test_the_image_of_a_dicom_series_keeps_the_place_of_a_nifti_mask():
    folder = real_data("abdomen-mr-ct")
    volume, mask = read_dicom_series(folder / "ct_b_dicom"), read_nifti(folder / "ct_b_label.nii.gz")
    case = Case.from_volumes("ct_b", volume, mask)
    liver = case.image[0][case.labels == 5]
    assert 60 < np.median(liver) < 160  # portal phase, in Hounsfield units; -75 where the mask is not turned
    np.testing.assert_array_equal(case.affine, volume.affine)


def test_a_phantom_stored_in_any_order_is_the_same_anatomy(tmp_path):
    phantom = make_phantom(0, size=16)
    for stored in ORIENTATIONS:
        turn = reorientation(phantom.affine, stored)
        place = turn.affine(phantom.affine, phantom.labels.shape)
        write_nifti(tmp_path / "p_image.nii.gz", turn.apply(phantom.image[0]), place)
        write_nifti(tmp_path / "p_label.nii.gz", phantom.labels, phantom.affine)
        (case,) = read_nifti_pairs(tmp_path)
        assert case.orientation == stored
        np.testing.assert_array_equal(turn.undo(case.labels), phantom.labels)
        np.testing.assert_array_equal(turn.undo(case.image[0]), phantom.image[0])
