"""DICOM files opened safely: no more is unpacked than a limit allows, and a missing decoder is not called damage."""

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from guided_attention._checks import needs_extra, require
from guided_attention.data._files import DAMAGE, broken, reading
from guided_attention.data._limits import require_fits
from guided_attention.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

__all__ = ["NoScanError", "damage", "open_dicom", "require_size"]

_PIECE = 1 << 16
_HEAD = 4096
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""JPEG's marks of a header with the size of the picture; 0xF7 is that of JPEG-LS."""
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
        _require_inflated(path, stream, max_bytes)
        file = _Bounded(stream, size)
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


def _require_inflated(path: Path, stream: BinaryIO, max_bytes: int) -> None:
    """Inflate a deflated file piece by piece, and raise where it becomes more than the limit."""
    from pydicom.filereader import read_dataset, read_preamble  # noqa: PLC0415

    head = stream.read(_HEAD)
    stream.seek(0)
    if _DEFLATED not in head:
        return
    read_preamble(stream, force=True)
    read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_is_behind_meta)
    inflate, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while content := inflate.unconsumed_tail or stream.read(_PIECE):
        unpacked += len(inflate.decompress(content, _PIECE))
        require_fits(path, unpacked, max_bytes)
    stream.seek(0)


def _is_behind_meta(tag: "BaseTag", _vr: str | None, _length: int) -> bool:
    return tag.group != 2  # noqa: PLR2004


def require_size(path: Path, content: "Dataset", index: int | None, size: tuple[int, int]) -> None:
    """Raise unless the pixels of a frame can be decoded, and are those of a picture of that size.

    A decoder sets memory aside for what the compressed picture claims, before anybody compares it with the header.
    """
    from pydicom.encaps import get_frame  # noqa: PLC0415

    with reading(path, "DICOM", damage()):
        if not content.file_meta.TransferSyntaxUID.is_compressed or "PixelData" not in content:
            return
        _require_decoder(path, content)
        frames = int(content.get("NumberOfFrames") or 1)
        picture = get_frame(content.PixelData, index or 0, number_of_frames=frames)
        claimed = _size_of_picture(picture)
    if claimed not in {None, size}:
        raise broken(path, "DICOM", f"its header says {size} rows and columns, its pixels {claimed}")


def _size_of_picture(picture: bytes) -> tuple[int, int] | None:
    """Return rows and columns of a JPEG, JPEG-LS or JPEG 2000 picture, None where it is none."""
    if picture.startswith(_JPEG_2000):
        right, bottom, left, top = struct.unpack_from(">4I", picture, 8)
        return bottom - top, right - left
    if not picture.startswith(_JPEG):
        return None
    place = 2
    while place < len(picture):
        if picture[place] != 0xFF:  # noqa: PLR2004
            return None
        mark = picture[place + 1]
        if mark in _FRAME_HEADERS:
            rows, columns = struct.unpack_from(">2H", picture, place + 5)
            return rows, columns
        place += 1 if mark == 0xFF else 2 + int.from_bytes(picture[place + 2 : place + 4])  # noqa: PLR2004
    return None


def _require_decoder(path: Path, content: "Dataset") -> None:
    """Tell a decoder that is not installed from a file that is damaged."""
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415

    syntax = content.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    wanted = "a slice whose pixels an installed package decodes"
    cure = "Install decoders: pip install 'guided-attention[dicom-codecs]'."
    require(decoder.is_available, str(path), wanted, syntax.name, cure, error=DataError, file=path)
