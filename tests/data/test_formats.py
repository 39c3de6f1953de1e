"""NRRD, MetaImage and NumPy files, judged by SimpleITK; damaged ones; segmentations of 3D Slicer."""

import bz2
import gzip
import zipfile

import numpy as np
import pytest

from guided_attention.data import (
    open_cohort,
    read_nifti,
    read_slicer_seg,
    read_volume,
    read_volume_case,
    write_nifti,
)
from guided_attention.errors import ArgumentError, DataError, GeometryWarning, MissingFileError
from guided_attention.labels import LabelSpec

sitk = pytest.importorskip("SimpleITK")

SHAPE = (3, 5, 7)
TURN = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
DIRECTIONS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "PSR": np.array([[0, 0, -1.0], [1, 0, 0], [0, 1, 0]]),
    "oblique": TURN,
}
ENDINGS = ["nrrd", "nhdr", "mha", "mhd"]


def _voxels(dtype=np.int16, shape=SHAPE):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def _image(array, direction="oblique", *, is_vector=False):
    image = sitk.GetImageFromArray(array, isVector=is_vector)
    image.SetSpacing((1.5, 2.0, 9.0))
    image.SetOrigin((3.0, -4.0, 5.0))
    image.SetDirection(DIRECTIONS[direction].ravel().tolist())
    return image


def _affine(image):
    """Return the affine of a SimpleITK image: it places voxels in LPS."""
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    origin, *steps = (np.array(image.TransformIndexToPhysicalPoint(index)) for index in corners)
    affine = np.eye(4)
    affine[:3] = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([*(step - origin for step in steps), origin])
    return affine


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("is_packed", [True, False])
def test_voxels_and_place_are_those_of_simpleitk(tmp_path, ending, direction, is_packed):
    image, path = _image(_voxels(), direction), tmp_path / f"a.{ending}"
    sitk.WriteImage(image, path, is_packed)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, _voxels())
    np.testing.assert_allclose(volume.affine, _affine(image), atol=1e-9)
    assert volume.array.dtype == np.int16


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4"])
def test_every_number_type_keeps_its_values(tmp_path, ending, dtype):
    sitk.WriteImage(_image(_voxels(dtype)), tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"a.{ending}").array, _voxels(dtype))


@pytest.mark.parametrize("ending", ENDINGS)
def test_vectors_are_channels_and_two_axes_one_slice(tmp_path, ending):
    array, path = _voxels(shape=(*SHAPE, 2)), tmp_path / f"a.{ending}"
    sitk.WriteImage(_image(array, is_vector=True), path, useCompression=True)
    np.testing.assert_array_equal(read_volume(path).array, np.moveaxis(array, -1, 0))
    flat = sitk.GetImageFromArray(_voxels(shape=(5, 7)))
    flat.SetSpacing((1.5, 2.0))
    flat.SetOrigin((3.0, 4.0))
    flat.SetDirection((0.0, 1.0, -1.0, 0.0))
    sitk.WriteImage(flat, path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, _voxels(shape=(1, 5, 7)))
    wanted = [[0, -2, 0, -3], [1.5, 0, 0, -4], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, wanted)


def _nrrd(path, *lines, data=None, **fields):
    """Write an NRRD file by hand; fields are those of a volume in LPS, unless given."""
    values = {
        "type": "int16",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "7 5 3",
        "space directions": "(1.5,0,0) (0,2,0) (0,0,9)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(3,-4,5)",
    } | {name.replace("_", " "): value for name, value in fields.items()}
    head = ["NRRD0005", *(f"{name}: {value}" for name, value in values.items() if value), *lines, "", ""]
    path.write_bytes("\n".join(head).encode() + (_voxels("<i2").tobytes() if data is None else data))
    return path


@pytest.mark.parametrize(
    ("fields", "diagonal", "origin"),
    [
        ({"space": "RAS"}, (1.5, 2, 9), (3, -4, 5)),
        ({"space": "las"}, (-1.5, 2, 9), (-3, -4, 5)),
        ({"space": "left-anterior-superior"}, (-1.5, 2, 9), (-3, -4, 5)),
        ({"space_units": '"um" "um" "um"'}, (-0.0015, -0.002, 0.009), (-0.003, 0.004, 0.005)),
        ({"space_directions": "(1.5,0,0) (0,2,0) (0,2,9)"}, None, (-3, 4, 5)),
    ],
)
def test_nrrd_frames_units_and_shear(tmp_path, fields, diagonal, origin):
    volume = read_volume(_nrrd(tmp_path / "a.nrrd", **fields))
    if diagonal is None:
        wanted = [[-1.5, 0, 0], [0, -2, -2], [0, 0, 9]]
        np.testing.assert_allclose(volume.affine[:3, :3], wanted)
    else:
        np.testing.assert_allclose(volume.affine[:3, :3], np.diag(diagonal))
    np.testing.assert_allclose(volume.affine[:3, 3], origin)
    np.testing.assert_array_equal(volume.array, _voxels())


def test_nrrd_big_endian_bytes_skipped_and_frames_that_are_not_told(tmp_path):
    data = b"ab\ncd" + _voxels(">i2").tobytes()
    path = _nrrd(tmp_path / "a.nrrd", data=data, endian="big", line_skip="1", byte_skip="2")
    np.testing.assert_array_equal(read_volume(path).array, _voxels())
    np.testing.assert_array_equal(
        read_volume(_nrrd(path, data=b"x" * 9 + _voxels("<i2").tobytes(), byte_skip="-1")).array, _voxels()
    )
    path = _nrrd(path, space="", space_directions="", space_origin="", spacings="1.5 2 9")
    with pytest.warns(GeometryWarning, match="does not say which way its axes run"):
        assert read_volume(path).spacing_mm == (9.0, 2.0, 1.5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "block"}, "type of .*a.nrrd. must be a number type, got 'block'"),
        ({"encoding": "txt"}, "encoding of .*must be raw, gzip or bzip2, got 'txt'. Save the file again"),
        ({"sizes": "7 5 30"}, "must be a whole NRRD file, .*claims 2100 bytes, the file has 210"),
        ({"sizes": "7 5"}, "must be a whole NRRD file, .*sizes do not fit dimension"),
        ({"sizes": "7 5 x"}, "must be a whole NRRD file"),
        ({"space": "left-posterior-superior-time"}, "must be of three axes.* Save one point in time"),
        ({"space_directions": "(1,0,0) (2,0,0) (0,0,1)"}, "affine of .* must be of three independent axes"),
        ({"space_directions": "(1,0) (0,1) (0,0,1)"}, "its vectors differ in length"),
        ({"space_units": '"inch" "inch" "inch"'}, "space units of .* got 'inch'"),
        ({"endian": ""}, "endian of .* must be 'little' or 'big', got None"),
        ({"data_file": "LIST"}, "data file of .* must be the name of one file, got 'LIST'. Join the files"),
        ({"data_file": "/dev/zero"}, "must be an existing data file, got /dev/zero"),
    ],
)
def test_nrrd_that_cannot_be_used(tmp_path, fields, message):
    path = _nrrd(tmp_path / "a.nrrd", **fields)
    with pytest.raises((DataError, MissingFileError), match=message):
        read_volume(path)


@pytest.mark.parametrize(("skip", "text"), [(b"ab", "2"), (b"abc", "-1")])
def test_metaimage_bytes_before_the_voxels_are_skipped(tmp_path, skip, text):
    path, data = tmp_path / "a.mhd", tmp_path / "a.raw"
    sitk.WriteImage(_image(_voxels()), path)
    header = path.read_text(encoding="utf-8").replace("ElementType", f"HeaderSize = {text}\nElementType")
    path.write_text(header, encoding="utf-8")
    data.write_bytes(skip + data.read_bytes())
    np.testing.assert_array_equal(read_volume(path).array, _voxels())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"MET_SHORT", b"MET_OTHER"), "ElementType of .* must be a number type, got MET_OTHER"),
        ((b"DimSize = 7 5 3", b"DimSize = 7 5"), "DimSize does not fit NDims"),
        ((b"DimSize = 7 5 3", b"DimSize = 7 5 9"), "claims 630 bytes, the file has 210"),
        ((b"Offset = 3", b"Offset = nan"), "affine of .* must be a 4 x 4 matrix of finite numbers"),
        (
            (b"ElementSpacing = 1.5 2 9", b"ElementSpacing = 1.5 2"),
            "geometry of .* 9 numbers in TransformMatrix",
        ),
        ((b"BinaryData = True", b"BinaryData = False"), "BinaryData of .* must be True"),
        ((b"ElementDataFile = LOCAL", b"ElementDataFile = LIST"), "data file of .* got 'LIST'"),
        ((b"ElementDataFile = LOCAL", b""), "its header lacks ElementDataFile|does not end"),
        (
            (b"ElementType", b"ElementToIntensityFunctionSlope = 2\nElementType"),
            "ElementToIntensityFunction of .* must be slope 1 and offset 0",
        ),
    ],
)
def test_metaimage_that_cannot_be_used(tmp_path, change, message):
    path = tmp_path / "a.mha"
    sitk.WriteImage(_image(_voxels()), path)
    path.write_bytes(path.read_bytes().replace(*change))
    with pytest.raises(DataError, match=message) as caught:
        read_volume(path)
    assert caught.value.file == path


def _voxels_or_file_at_fault(path, voxels):
    try:
        return np.array_equal(read_volume(path).array, voxels)
    except DataError as error:
        return error.file == path


def _of_fewer_slices(path):
    """Let a file's header claim two of its three slices."""
    content = path.read_bytes()
    if path.name.endswith((".nii", ".nii.gz")):
        whole = bytearray(gzip.decompress(content) if path.suffix == ".gz" else content)
        whole[46] = 2  # the third side
        content = gzip.compress(whole) if path.suffix == ".gz" else bytes(whole)
    path.write_bytes(
        content.replace(b"sizes: 7 5 3", b"sizes: 7 5 2").replace(b"Size = 7 5 3", b"Size = 7 5 2")
    )


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("ending", ["nii", "nrrd", "mha"])
def test_a_header_that_claims_fewer_slices_than_the_file_holds_is_refused(tmp_path, ending, is_packed):
    path = tmp_path / f"a.{ending}{'.gz' * (is_packed and ending == 'nii')}"
    sitk.WriteImage(_image(_voxels()), path, useCompression=is_packed)
    _of_fewer_slices(path)
    start = 352 if ending == "nii" else 0
    wanted = f"its header claims only {start + 140} of {start + 210} bytes"
    with pytest.raises(DataError, match=wanted) as caught:
        read_volume(path)
    assert caught.value.file == path


@pytest.mark.parametrize("encoding", ["gzip", "bzip2", "raw"])
def test_less_than_a_slice_behind_the_voxels_is_padding(tmp_path, encoding):
    pack = {"gzip": gzip.compress, "bzip2": bz2.compress, "raw": bytes}[encoding]
    voxels = _voxels("<i2")
    for left, good in ((69, True), (70, False)):
        path = _nrrd(tmp_path / "a.nrrd", encoding=encoding, data=pack(voxels.tobytes() + bytes(left)))
        if good:
            np.testing.assert_array_equal(read_volume(path).array, voxels)
            continue
        with pytest.raises(DataError, match="its header claims only 210 of 280 bytes"):
            read_volume(path)


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_damage_in_packed_voxels_is_found_or_changes_nothing(tmp_path, ending):
    path, voxels = tmp_path / f"a.{ending}", np.random.default_rng(0).integers(0, 9, SHAPE)
    sitk.WriteImage(_image(voxels), path, useCompression=True)
    whole = path.read_bytes()
    first = whole.index(b"\n\n") + 12 if ending == "nrrd" else whole.index(b"LOCAL\n") + 6
    for place in range(first, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert _voxels_or_file_at_fault(path, voxels)
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="must be a whole .* file"):
        read_volume(path)


def test_a_mask_of_one_format_fits_an_image_of_another(tmp_path):
    image, mask = _image(_voxels(np.float32)), _image(_voxels(np.uint8) % 3, "oblique")
    sitk.WriteImage(image, tmp_path / "7_image.nii.gz")
    sitk.WriteImage(mask[::-1, :, :], tmp_path / "7.mha")
    case = read_volume_case(tmp_path / "7_image.nii.gz", tmp_path / "7.mha")
    assert case.case_id == "7"
    np.testing.assert_array_equal(case.labels, _voxels(np.uint8) % 3)
    mask.SetOrigin((4.0, -4.0, 5.0))
    sitk.WriteImage(mask, tmp_path / "7.mha")
    with pytest.raises(DataError, match="must be within .* mm of the image") as caught:
        read_volume_case(tmp_path / "7_image.nii.gz", tmp_path / "7.mha")
    assert caught.value.file == tmp_path / "7.mha"


# Files without geometry


@pytest.mark.parametrize("shape", [(5, 7), SHAPE, (2, *SHAPE)])
def test_numpy_files_are_slices_as_shown(tmp_path, shape):
    np.save(tmp_path / "a.npy", _voxels(shape=shape))
    np.savez_compressed(tmp_path / "a.npz", volume=np.asfortranarray(_voxels(shape=shape)))
    for name in ("a.npy", "a.npz"):
        volume = read_volume(tmp_path / name, spacing_mm=(9.0, 2.0, 1.5))
        np.testing.assert_array_equal(volume.array, _voxels(shape=shape).reshape(volume.array.shape))
        np.testing.assert_array_equal(volume.affine, np.diag([-1.5, -2.0, 9.0, 1.0]))


def test_numpy_files_that_cannot_be_used(tmp_path):
    def fails(message, name="a.npy", error=DataError, spacing_mm=(1.0, 1.0, 1.0)):
        with pytest.raises(error, match=message) as caught:
            read_volume(tmp_path / name, spacing_mm=spacing_mm)
        assert caught.value.file in {tmp_path / name, None}

    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    fails("must be a file of plain numbers, got pickled objects.* Save plain numbers: numpy.save")
    np.save(tmp_path / "a.npy", np.zeros(3))
    fails(r"array of .* must be \(height, width\), .*got shape \(3,\)")
    np.save(tmp_path / "a.npy", np.full((3, 5), np.nan))
    fails("must be finite everywhere")
    np.save(tmp_path / "a.npy", _voxels())
    fails("`spacing_mm` must be given for .*a.npy, got None. Pass", error=ArgumentError, spacing_mm=None)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    fails("must be a whole NumPy file.*ends before its last voxel")
    np.savez(tmp_path / "a.npz", one=_voxels(), two=_voxels())
    fails("arrays of .* must be of one array, or of one called image", "a.npz")
    np.savez(tmp_path / "a.npz", one=_voxels())
    whole = bytearray((tmp_path / "a.npz").read_bytes())
    whole[len(whole) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(whole)
    fails("must be a whole NumPy file", "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("other.txt", "a")
    fails("arrays of .* got none", "a.npz")


def test_spacing_of_a_file_that_has_its_own_is_refused(tmp_path):
    path = write_nifti(tmp_path / "a.nii", _voxels(), np.eye(4))
    with pytest.raises(ArgumentError, match="`spacing_mm` must be None for .*a.nii, which has its own"):
        read_volume(path, spacing_mm=(1.0, 1.0, 1.0))
    np.save(tmp_path / "b.npy", _voxels() % 2)
    with pytest.raises(DataError, match="`label` must be of a format that holds geometry, got .*b.npy"):
        read_volume_case(path, tmp_path / "b.npy", spacing_mm=(1.0, 1.0, 1.0))
    (tmp_path / "a.txt").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="`path` must be a file that ends in .nii.gz, .* got a.txt"):
        read_volume(tmp_path / "a.txt")
    path.rename(tmp_path / "A.NII")
    np.testing.assert_array_equal(read_volume(tmp_path / "A.NII").array, read_nifti(tmp_path / "A.NII").array)


# Segmentations of 3D Slicer


def _segments(*segments):
    lines = []
    for number, (name, value, layer, colour) in enumerate(segments):
        fields = {"Name": name, "LabelValue": value, "Layer": layer, "Color": colour, "ID": f"S_{number}"}
        lines += [f"Segment{number}_{key}:={text}" for key, text in fields.items()]
    return lines


def test_slicer_segments_have_names_values_and_colours(tmp_path):
    array = (_voxels("u1") % 3) * 5
    lines = _segments(("liver", 5, 0, "1 0.5 0"), ("spleen", 10, 0, "0 0 1"))
    packed = {"type": "uchar", "encoding": "gzip", "data": gzip.compress(array.tobytes())}
    path = _nrrd(tmp_path / "a.seg.nrrd", *lines, **packed)
    segments = read_slicer_seg(path)
    np.testing.assert_array_equal(segments.volume.array, array)
    assert dict(segments.labels.names) == {5: "liver", 10: "spleen"}
    assert dict(segments.labels.colours) == {5: "#ff8000", 10: "#0000ff"}
    _nrrd(path, *_segments(("liver", 5, 0, "1 0 0")), **packed)
    with pytest.raises(DataError, match="values of .* must be values of its segments, got 10"):
        read_slicer_seg(path)
    with pytest.raises(DataError, match="must be a segmentation of 3D Slicer"):
        read_slicer_seg(_nrrd(path))


def test_slicer_layers_are_merged_with_a_word_on_overlaps(tmp_path):
    layers = np.zeros((*SHAPE, 2), np.uint8)
    layers[0, ..., 0], layers[0, 0, :, 1], layers[2, ..., 1] = 1, 1, 2
    lines = _segments(("liver", 1, 0, ""), ("tumour", 1, 1, ""), ("spleen", 2, 1, ""))
    kinds = {"kinds": "list domain domain domain", "space_directions": "none (1.5,0,0) (0,2,0) (0,0,9)"}
    path = _nrrd(
        tmp_path / "a.seg.nrrd",
        *lines,
        data=layers.tobytes(),
        type="uint8",
        dimension="4",
        sizes="2 7 5 3",
        **kinds,
    )
    with pytest.warns(UserWarning, match="has 7 voxels in two segments, read as the later one"):
        segments = read_slicer_seg(path)
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[0], wanted[0, 0], wanted[2] = 1, 2, 3
    np.testing.assert_array_equal(segments.volume.array, wanted)
    assert dict(segments.labels.names) == {1: "liver", 2: "tumour", 3: "spleen"}


def test_a_slicer_mask_of_a_part_of_the_scan_is_padded(tmp_path):
    sitk.WriteImage(_image(_voxels(shape=(5, 7, 11)), "LPS"), tmp_path / "a.nrrd")
    origin = f"({3 + 2 * 1.5},{-4 + 1 * 2.0},{5 + 2 * 9.0})"
    data = np.ones(SHAPE, np.uint8)
    path = tmp_path / "a.seg.nrrd"
    given = {"type": "uint8", "data": data.tobytes(), "space_origin": origin}
    _nrrd(path, *_segments(("liver", 1, 0, "1 0 0")), **given)
    wanted = np.zeros((5, 7, 11), np.uint8)
    wanted[2:5, 1:6, 2:9] = 1
    np.testing.assert_array_equal(read_volume_case(tmp_path / "a.nrrd", path).labels, wanted)
    named = LabelSpec({7: "liver"})
    case = read_volume_case(tmp_path / "a.nrrd", path, labels=named)
    np.testing.assert_array_equal(case.labels, wanted * 7)
    given["space_origin"] = "(3.5,-4,5)"
    _nrrd(path, *_segments(("liver", 1, 0, "1 0 0")), **given)
    with pytest.raises(DataError, match="must be of the image's size"):
        read_volume_case(tmp_path / "a.nrrd", path)


@pytest.mark.parametrize("kind", ["pairs", "csv"])
def test_the_spacing_of_arrays_stands_in_the_list_beside_them(tmp_path, kind):
    for name in ("a_image", "a_label"):
        np.save(tmp_path / f"{name}.npy", np.ones((2, 3, 5), np.uint8))
    (tmp_path / "dataset.json").write_text('{"spacing_mm": [3, 1.5, 1.25]}')
    (tmp_path / "cases.csv").write_text("case_id,image,label\na,a_image.npy,a_label.npy\n")
    cohort = open_cohort(tmp_path / "cases.csv" if kind == "csv" else tmp_path)
    assert cohort[0].spacing_mm == (3.0, 1.5, 1.25)
