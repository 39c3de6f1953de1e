"""What is unpacked stays under a limit, whatever a file claims or hides."""

import gzip
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLosslessSV1
from tests.data.compressed import compress
from tests.data.dicom_maker import numbered, write_series
from tests.data.doors import DOORS, quiet

from guided_attention.data import (
    open_cohort,
    read_chaos_case,
    read_dicom_seg,
    read_dicom_series,
    read_nifti,
    read_nifti_case,
    read_nifti_pairs,
    read_png_slices,
    write_nifti,
)
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError

MEGABYTE = 1_000_000
LARGE = (7, 257, 263)
"""1.9 MB as float32, of few slices: what Python keeps of each header is no part of this."""
SHAPES = {"png": (36, 96, 96), "dicom, JPEG lossless": (3, 257, 263)}
READERS = [
    name
    for name in DOORS
    if name not in {"splits", "dicom, HTJ2K", "chaos case"}
    and not (name.startswith("cohort") and "pairs" not in name)
]


def _peak(read, folder, limit):
    tracemalloc.start()
    try:
        quiet(read, folder, limit)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _refusal(read, folder, limit):
    with pytest.raises(DataError, match="bytes of memory, got one that takes") as caught:
        quiet(read, folder, limit)
    return caught.value, int(re.search(r"pass `max_bytes=(\d+)`", str(caught.value))[1])


def _peak_of_refusal(read, place):
    return _peak(lambda file, most: _refusal(lambda f, m: read(f, max_bytes=m), file, most), place, MEGABYTE)


def _whole_cohort(path, max_bytes):
    return list(open_cohort(path, max_bytes=max_bytes))


def _as_mask(path, max_bytes):
    image = write_nifti(path.with_name("b.nii"), np.zeros((3, 5, 7), np.uint8), np.eye(4))
    return read_nifti_case(image, path, max_bytes=max_bytes)


@pytest.mark.parametrize("name", READERS)
def test_reading_takes_little_more_than_the_error_asks_for(tmp_path, name):
    door = DOORS[name]
    door.write(tmp_path, SHAPES.get(name, LARGE))
    arrays = quiet(door.read, tmp_path, 2**30)  # what is imported at the first call is no part of a volume
    limit, error, needed = 0, None, 1
    while needed > limit:  # each file asks for itself
        limit = needed
        try:
            peak = _peak(door.read, tmp_path, limit)
        except DataError:
            error, needed = _refusal(door.read, tmp_path, limit)
    others = sum(array.nbytes for array in arrays) - max(array.nbytes for array in arrays)
    assert peak < 1.25 * limit + others + 0.8 * MEGABYTE
    assert (str(error.file) in str(error), limit > 1) == (True, True)
    _refusal(door.read, tmp_path, limit - 1)


def test_a_file_of_zeros_is_refused_before_it_is_unpacked(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((16, 1009, 1013), np.uint8), np.eye(4))
    assert path.stat().st_size < 80_000
    for read in (read_nifti, read_nifti_case, _whole_cohort, _as_mask):
        assert _peak_of_refusal(read, path) < MEGABYTE
    assert read_nifti(path, max_bytes=16 * 1009 * 1013).array.shape == (16, 1009, 1013)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_claims_too_much_is_damage_and_no_matter_of_the_limit(tmp_path, ending):
    content = bytearray(nibabel_bytes(tmp_path))
    content[42:48] = struct.pack("<3h", 1250, 1250, 1250)  # 3.9 GB of int16
    path = tmp_path / f"b{ending}"
    path.write_bytes(gzip.compress(bytes(content)) if ending == ".nii.gz" else bytes(content))
    with pytest.raises(
        DataError, match=r"must be a whole NIfTI file.*its header claims 39062\d+ bytes, the file has"
    ):
        read_nifti(path, max_bytes=MEGABYTE)


def nibabel_bytes(folder):
    return write_nifti(folder / "a.nii", np.zeros((3, 5, 7), np.int16) - 1, np.eye(4)).read_bytes()


def test_extensions_of_a_header_are_not_unpacked(tmp_path):
    content = bytearray(nibabel_bytes(tmp_path))
    content[348:352], content[108:112] = b"\1\0\0\0", struct.pack("<f", 352 + 16)
    extension = struct.pack("<2i", 2**31 - 16, 6) + bytes(8)
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(bytes(content[:352]) + extension + bytes(content[352:])))
    assert _peak(lambda file, limit: read_nifti(file, max_bytes=limit), path, MEGABYTE) < MEGABYTE
    np.testing.assert_array_equal(read_nifti(path).array, np.full((3, 5, 7), -1))


def test_members_of_gzip_behind_the_volume_are_refused_and_counted(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((3, 5, 7), np.uint8), np.eye(4))
    whole, more = path.read_bytes(), gzip.compress(bytes(300_000))
    path.write_bytes(whole + 3 * more)
    with pytest.raises(DataError, match="its header claims only 457 of 900457 bytes"):
        read_nifti(path, max_bytes=MEGABYTE)
    path.write_bytes(whole + 5 * more)
    error, _ = _refusal(lambda file, limit: read_nifti(file, max_bytes=limit), path, MEGABYTE)
    assert error.file == path


def _picture(path, rows, columns):
    """Write the PNG of a white picture that breaks off after a few bytes, checksums right."""
    parts = [
        (b"IHDR", struct.pack(">2I5B", columns, rows, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(99))),
    ]
    path.parent.mkdir(parents=True)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in [*parts, (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


def test_large_pictures_are_judged_by_their_header_and_pillow_stays_silent(tmp_path):
    _picture(tmp_path / "Img/Subj_1slice_1.png", 13_000, 13_000)
    read = lambda folder, limit: read_png_slices(folder, spacing_mm=(9.0, 1.5, 1.5), max_bytes=limit)  # noqa: E731
    error, needed = _refusal(read, tmp_path, 100 * MEGABYTE)
    assert (error.file, needed) == (tmp_path / "Img", 8 * 13_000**2)
    with pytest.raises(DataError, match="must be a whole PNG file"):  # and no DecompressionBombWarning
        read_png_slices(tmp_path, spacing_mm=(9.0, 1.5, 1.5))


def test_pictures_above_the_limit_of_pillow_have_a_cure_of_their_own(tmp_path):
    _picture(tmp_path / "Img/Subj_1slice_1.png", 20_000, 20_000)
    wanted = r"must be a PNG that Pillow opens, got: Image size \(400000000 pixels\).* set PIL.Image.MAX_IMAGE_PIXELS"
    with pytest.raises(DataError, match=wanted):
        read_png_slices(tmp_path, spacing_mm=(9.0, 1.5, 1.5))


def _deflate(path):
    content = pydicom.dcmread(path)
    content.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content.save_as(path)


def test_a_deflated_slice_is_inflated_no_further_than_the_limit(tmp_path):
    write_series(tmp_path, np.zeros((1, 4001, 4003), int))
    _deflate(tmp_path / "i0000.dcm")
    assert (tmp_path / "i0000.dcm").stat().st_size < 40_000
    for read, place in ((read_dicom_series, tmp_path), (read_dicom_seg, tmp_path / "i0000.dcm")):
        assert _peak_of_refusal(read, place) < MEGABYTE


def test_slices_are_counted_together(tmp_path):
    write_series(tmp_path, numbered(depth=31, height=37, width=41))
    needed = 31 * 37 * 41 * 4 + 37 * 41 * 20 + max(path.stat().st_size for path in tmp_path.iterdir())
    assert _refusal(lambda f, m: read_dicom_series(f, max_bytes=m), tmp_path, needed - 1)[1] == needed
    assert read_dicom_series(tmp_path, max_bytes=needed).array.shape == (31, 37, 41)


@pytest.mark.parametrize("tags", [{"Rows": 60_000, "Columns": 60_000}, {"Rows": 6}, {"BitsAllocated": 32}])
def test_a_slice_that_claims_more_than_its_file_holds_is_damaged(tmp_path, tags):
    write_series(tmp_path, numbered(), **tags)
    with pytest.raises(
        DataError, match="i0000.dcm` must be a whole DICOM file, got.*(its header claims|less than expected)"
    ):
        read_dicom_series(tmp_path, max_bytes=MEGABYTE)


def test_a_compressed_picture_that_claims_another_size_is_not_unpacked(tmp_path):
    write_series(tmp_path, numbered(depth=1, height=17, width=19))
    path = tmp_path / "i0000.dcm"
    compress(path, JPEGLosslessSV1)
    content = path.read_bytes()
    place = content.index(b"\xff\xc3") + 5
    path.write_bytes(content[:place] + struct.pack(">2H", 60_000, 60_001) + content[place + 4 :])
    with pytest.raises(DataError, match=r"says \(17, 19\) rows and columns, its pixels \(60000, 60001\)"):
        read_dicom_series(tmp_path)


def test_an_element_that_claims_four_gigabytes_sets_no_memory_aside(tmp_path):
    write_series(tmp_path, numbered(depth=1))
    path = tmp_path / "i0000.dcm"
    content = path.read_bytes()
    place = content.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
    path.write_bytes(content[:place] + struct.pack("<I", 0xFFFFFFF0) + content[place + 4 :])

    def read(folder, limit):
        np.testing.assert_array_equal(read_dicom_series(folder, max_bytes=limit).array, numbered(depth=1))

    assert _peak(read, tmp_path, MEGABYTE) < MEGABYTE


def test_two_phases_are_counted_together(tmp_path):
    DOORS["chaos case"].write(tmp_path, (3, 16, 16))
    subject = tmp_path / "chaos/Train_Sets/MR/1"
    slices = len(list((subject / "T1DUAL/Ground").iterdir()))
    both = 2 * 2 * slices * 16 * 16 * 4  # and once more while they are stacked
    assert read_chaos_case(subject, source="t1_dual", max_bytes=both).image.shape == (2, slices, 16, 16)
    _refusal(lambda f, m: read_chaos_case(f, source="t1_dual", max_bytes=m), subject, both - 1)


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ArgumentError), (-1, ArgumentError), (1e9, ArgumentTypeError)]
)
@pytest.mark.usefixtures("without_shape_checks")
def test_what_is_no_limit_is_told(tmp_path, limit, error):
    DOORS["cohort of pairs"].write(tmp_path, (3, 11, 13))
    DOORS["dicom"].write(tmp_path / "dicom", (3, 11, 13))
    for read in (open_cohort, read_nifti_pairs, lambda f, **m: read_dicom_series(f / "dicom", **m)):
        with pytest.raises(error, match="`max_bytes` must be"):
            read(tmp_path, max_bytes=limit)
