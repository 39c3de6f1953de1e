"""Compressed transfer syntaxes: the same voxels as without compression, whichever package decodes them."""

import io
import time

import gdcm
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from tests.data.compressed import compress, htj2k_pixels
from tests.data.dicom_maker import write_series
from tests.data.doors import volume_of

from guided_attention.data import read_dicom_series
from guided_attention.data._jpeg_lossless import decode
from guided_attention.errors import DataError

LOSSLESS = (JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword)
def test_voxels_are_those_of_the_series_before_it_was_compressed(tmp_path, syntax, signed):
    volume = volume_of((3, 37, 41)) - (500 if signed else 0)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "PixelRepresentation": int(signed)}
    write_series(tmp_path, volume, **tags)
    for path in tmp_path.iterdir():
        compress(path, syntax)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_dicom_series(tmp_path).array, 2.0 * volume - 1000)


def test_high_throughput_jpeg_2000_is_read(tmp_path):
    write_series(tmp_path, volume_of((3, 11, 13)))
    compress(tmp_path / "i0001.dcm", HTJ2KLossless)
    np.testing.assert_array_equal(read_dicom_series(tmp_path).array[1], htj2k_pixels())


def test_lossy_jpeg_is_read_as_pillow_reads_it(tmp_path):
    volume = volume_of((1, 37, 41)) // 4
    write_series(tmp_path, volume, BitsAllocated=8, BitsStored=8, HighBit=7)
    compress(tmp_path / "i0000.dcm", JPEGBaseline8Bit)
    picture = get_frame(pydicom.dcmread(tmp_path / "i0000.dcm").PixelData, 0, number_of_frames=1)
    wanted = np.asarray(Image.open(io.BytesIO(picture)))
    np.testing.assert_array_equal(read_dicom_series(tmp_path).array[0], wanted)


def _say(tmp_path, syntax):
    write_series(tmp_path, volume_of((3, 11, 13)))
    for path in tmp_path.iterdir():
        slice_ = pydicom.dcmread(path)
        slice_.file_meta.TransferSyntaxUID = syntax
        slice_.PixelData = encapsulate([b"\xff\xd8\xff\xc3\x00\x0b\x10\x00\x0b\x00\x0d\x01\x01\x11\x00"])
        slice_["PixelData"].VR = "OB"
        slice_.save_as(path)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, HTJ2KLossless], ids=lambda uid: uid.keyword)
def test_a_missing_decoder_is_not_called_damage(tmp_path, monkeypatch, syntax):
    _say(tmp_path, syntax)
    monkeypatch.setattr(Decoder, "available_plugins", ())
    wanted = (
        r"i0000.dcm` must be a slice whose pixels an installed package decodes, got .*J.*"
        r"Install decoders: pip install 'guided-attention\[dicom-codecs\]'\."
    )
    with pytest.raises(DataError, match=wanted) as caught:
        read_dicom_series(tmp_path)
    assert caught.value.file == tmp_path / "i0000.dcm"


def test_lossy_jpeg_of_twelve_bits_has_a_cure_of_its_own(tmp_path):
    _say(tmp_path, JPEGExtended12Bit)
    with pytest.raises(DataError, match=r"Write the series again uncompressed \(gdcmconv --raw\)"):
        read_dicom_series(tmp_path)


def test_decoders_that_end_the_process_are_not_used(tmp_path, monkeypatch):
    used = []
    whole = Decoder.as_array

    def as_array(self, source, **options):
        used.append(options.get("decoding_plugin"))
        return whole(self, source, **options)

    monkeypatch.setattr(Decoder, "as_array", as_array)
    for number, syntax in enumerate(LOSSLESS):
        write_series(tmp_path / str(number), volume_of((1, 37, 41)))
        compress(tmp_path / str(number) / "i0000.dcm", syntax)
        read_dicom_series(tmp_path / str(number))
    assert used == ["guided-attention", "guided-attention", "pyjpegls", "pylibjpeg", "pydicom"]


def _guess(pixels, y, x, first, predictor):
    """What T.81, annex H, expects of a voxel from its neighbours."""
    a, b = pixels[y][x - 1] if x else 0, pixels[y - 1][x] if y else 0
    c = pixels[y - 1][x - 1] if x and y else 0
    if x == y == 0:
        return first
    if x == 0 or y == 0:
        return a if y == 0 else b
    return (a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)[predictor - 1]


def _slowly(rows, first, predictor):
    """The rules of T.81, annex H, voxel by voxel."""
    out = [[0] * len(rows[0]) for _ in rows]
    for y, row in enumerate(rows):
        for x, difference in enumerate(row):
            out[y][x] = (_guess(out, y, x, first, predictor) + difference) % 65536
    return out


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("interval", [0, 13, 26])
@pytest.mark.parametrize("precision", [8, 16])
def test_every_predictor_equals_the_rules_voxel_by_voxel(predictor, interval, precision):
    rng = np.random.default_rng(predictor)
    pixels = rng.integers(0, 2**precision, (7, 13))
    differences, rows_at_once = np.zeros_like(pixels), interval // 13 or 7
    for start in range(0, 7, rows_at_once):
        part = pixels[start : start + rows_at_once]
        guess = _guesses(part.tolist(), 1 << (precision - 1), predictor)
        differences[start : start + rows_at_once] = (part - guess + 32768) % 65536 - 32768
        again = _slowly(differences[start : start + rows_at_once].tolist(), 1 << (precision - 1), predictor)
        np.testing.assert_array_equal(again, part)  # the two slow functions agree
    np.testing.assert_array_equal(decode(_encoded(differences, predictor, interval, precision)), pixels)


def _guesses(part, first, predictor):
    places = (range(len(part)), range(len(part[0])))
    return np.array([[_guess(part, y, x, first, predictor) for x in places[1]] for y in places[0]])


def _encoded(differences, predictor, interval, precision):
    """Encode differences with codes of five bits, each category its own number."""
    rows, columns = differences.shape
    content = b"\xff\xd8\xff\xc3\x00\x0b" + bytes([precision, 0, rows, 0, columns, 1, 1, 0x11, 0])
    content += b"\xff\xc4" + (19 + 17).to_bytes(2) + bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    content += b"\xff\xdd\x00\x04" + interval.to_bytes(2) if interval else b""
    content += b"\xff\xda\x00\x08\x01\x01\x00" + bytes([predictor, 0, 0])
    flat = differences.ravel().tolist()
    for number, start in enumerate(range(0, len(flat), interval or len(flat))):
        bits = "".join(_code(value) for value in flat[start : start + (interval or len(flat))])
        bits += "1" * (-len(bits) % 8)
        scan = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\x00")
        content += (bytes([0xFF, 0xD0 + (number - 1) % 8]) if number else b"") + scan
    return content + b"\xff\xd9"


def _code(value):
    if value == -32768:
        return f"{16:05b}"
    category = abs(value).bit_length()
    more = value if value >= 0 else value + (1 << category) - 1
    return f"{category:05b}" + (f"{more:0{category}b}" if category else "")


def test_a_slice_of_usual_size_is_decoded_in_a_blink(tmp_path):
    write_series(tmp_path, volume_of((1, 512, 512)))
    compress(tmp_path / "i0000.dcm", JPEGLosslessSV1)
    start = time.process_time()
    read_dicom_series(tmp_path)
    assert time.process_time() - start < 2
    assert gdcm.Version.GetVersion()
    assert get_decoder(JPEGLosslessSV1).is_available
