"""DICOM files opened safely: no more is unpacked than a limit allows, and a missing decoder is not called damage."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from guided_attention._checks import needs_extra, require
from guided_attention.data import _jpeg_lossless
from guided_attention.data._files import DAMAGE, broken, reading
from guided_attention.data.formats._limits import require_fits
from guided_attention.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

__all__ = ["NoScanError", "damage", "decoder_of", "open_beginning", "open_dicom"]

_PIECE = 1 << 16
_HEAD = 4096
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_MARK, _FRAME_HEADER = 0xFF, 9
_BITS_OF_PILLOW = 8
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""JPEG's marks of a header with the size of the picture; 0xF7 is that of JPEG-LS."""
_OWN = "guided-attention"
_DECODERS: Mapping[str, Sequence[str]] = {
    "JPEGBaseline8Bit": ("pillow",),
    "JPEGExtended12Bit": ("pillow",),
    "JPEGLossless": (_OWN,),
    "JPEGLosslessSV1": (_OWN,),
    "JPEGLSLossless": ("pyjpegls",),
    "JPEGLSNearLossless": ("pyjpegls",),
    "JPEG2000Lossless": ("pylibjpeg", "pillow"),
    "JPEG2000": ("pylibjpeg", "pillow"),
    "HTJ2KLossless": ("pylibjpeg",),
    "HTJ2KLosslessRPCL": ("pylibjpeg",),
    "HTJ2K": ("pylibjpeg",),
    "RLELossless": ("pydicom",),
}
"""The packages that decode each transfer syntax, as pydicom calls them, the preferred one first.

GDCM and pylibjpeg's run lengths are not among them: they end the process over damaged files.
"""
# What pydicom raises over damaged files, beside what any reader does and an error of its own.
_DICOM_DAMAGE = (*DAMAGE, AttributeError, KeyError, IndexError, RuntimeError, TypeError, struct.error)


class NoScanError(Exception):
    """A file that is no slice of a scan, and what it is."""


class _Bounded:
    """A file of which no more is asked for than it has: Python sets memory aside for all that is asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(min(size, self._size))


def damage() -> tuple[type[Exception], ...]:
    """Return what pydicom raises over damaged files."""
    with needs_extra("dicom"):
        from pydicom.errors import BytesLengthException, InvalidDicomError  # noqa: PLC0415

    return (*_DICOM_DAMAGE, BytesLengthException, InvalidDicomError)


def open_beginning(path: Path, kind: str, last: int) -> "Dataset":
    """Read the entries of a file up to a tag, whatever comes after it."""
    with needs_extra("dicom"):
        from pydicom.filereader import read_partial  # noqa: PLC0415
    with reading(path, kind, damage()), path.open("rb") as stream:
        file = cast("BinaryIO", _Bounded(stream, path.stat().st_size))
        return read_partial(file, stop_when=lambda tag, _vr, _length: tag > last, force=True)


def open_dicom(path: Path, max_bytes: int, *, kind: str = "DICOM", headers: bool = False) -> "Dataset":
    """Read a file, with `headers` all of it before the pixels; with or without the preamble that the format asks for.

    Raises:
        NoScanError: The file is no DICOM.
        DataError: It is damaged, or takes more memory than `max_bytes`.
    """
    with needs_extra("dicom"):
        from pydicom import dcmread  # noqa: PLC0415
        from pydicom.errors import InvalidDicomError  # noqa: PLC0415
        from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian  # noqa: PLC0415
    with reading(path, kind, damage()), path.open("rb") as stream:
        size = path.stat().st_size
        if not headers:
            require_fits(path, size, max_bytes)
        file = _Bounded(stream, size)
        _require_inflated(path, file, max_bytes)
        try:
            return dcmread(file, stop_before_pixels=headers)
        except InvalidDicomError as error:
            marker = error
        stream.seek(0)
        try:
            content = dcmread(file, stop_before_pixels=headers, force=True)
            is_object = all(name in content for name in ("SOPClassUID", "Rows", "Columns"))
        except damage():
            is_object = False
        if not is_object:
            raise NoScanError("no DICOM") from marker
        if "TransferSyntaxUID" not in content.file_meta:
            implicit, little = content.original_encoding
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            content.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        return content


def _require_inflated(path: Path, stream: _Bounded, max_bytes: int) -> None:
    """Inflate a deflated file piece by piece, and raise where it becomes more than the limit."""
    from pydicom.filereader import read_dataset, read_preamble  # noqa: PLC0415

    head = stream.read(_HEAD)
    stream.seek(0)
    if _DEFLATED not in head:
        return
    file = cast("BinaryIO", stream)
    read_preamble(file, force=True)
    read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_is_behind_meta)
    inflate, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while content := inflate.unconsumed_tail or stream.read(_PIECE):
        unpacked += len(inflate.decompress(content, _PIECE))
        require_fits(path, unpacked, max_bytes)
    stream.seek(0)


def _is_behind_meta(tag: "BaseTag", _vr: str | None, _length: int) -> bool:
    return tag.group != 2  # noqa: PLR2004


def decoder_of(path: Path, content: "Dataset", index: int | None, size: tuple[int, int]) -> str:
    """Return what pydicom calls the package that decodes the pixels of a frame, "" for those that are not compressed.

    The picture has to be of that size: a decoder sets memory aside for what the picture claims.
    """
    from pydicom.encaps import get_frame  # noqa: PLC0415
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415

    with reading(path, "DICOM", damage()):
        syntax = content.file_meta.TransferSyntaxUID
        if not syntax.is_encapsulated:
            return ""
        decoder = get_decoder(syntax)
        if _jpeg_lossless.is_available(syntax) and _OWN not in decoder.available_plugins:
            decoder.add_plugin(_OWN, (_jpeg_lossless.__name__, "decode_frame"))
        installed = decoder.available_plugins
        frames = int(content.get("NumberOfFrames") or 1)
        picture = get_frame(content.PixelData, index or 0, number_of_frames=frames)
        is_deep = syntax.keyword == "JPEGExtended12Bit" and int(content.BitsStored) > _BITS_OF_PILLOW
        claimed = size if syntax.keyword == "RLELossless" else _size_of_picture(picture)
    fitting = [name for name in _DECODERS.get(syntax.keyword, ()) if name in installed]
    wanted = "a slice whose pixels an installed package decodes"
    cure = (
        "Write the series again uncompressed (gdcmconv --raw)."
        if is_deep
        else "Install decoders: pip install 'guided-attention[dicom-codecs]'."
    )
    require(bool(fitting) and not is_deep, str(path), wanted, syntax.name, cure, error=DataError, file=path)
    if claimed != size:
        raise broken(path, "DICOM", f"its header says {size} rows and columns, its pixels {claimed}")
    return fitting[0]


def _size_of_picture(picture: bytes) -> tuple[int, int] | None:
    """Return rows and columns of a JPEG, JPEG-LS or JPEG 2000 picture, None where it is none."""
    start = picture.find(_JPEG_2000)  # behind the boxes of a JP2 file, if need be
    if start >= 0 and not picture.startswith(_JPEG):
        right, bottom, left, top = struct.unpack_from(">4I", picture, start + 8)
        return bottom - top, right - left
    place = len(_JPEG) if picture.startswith(_JPEG) else len(picture)
    while place + _FRAME_HEADER <= len(picture) and picture[place] == _MARK:
        kind = picture[place + 1]
        if kind in _FRAME_HEADERS:
            rows, columns = struct.unpack_from(">2H", picture, place + 5)
            return rows, columns
        place += 1 if kind == _MARK else 2 + int.from_bytes(picture[place + 2 : place + 4])
    return None
