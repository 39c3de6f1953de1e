"""JPEG lossless (process 14) decoded with NumPy: other decoders are under the GPL, or end the process over damage.

The length of a Huffman code is looked up for every bit of the stream at once; only the way from one code to the next is
walked, which is a list lookup a voxel.

References:
    ITU-T Recommendation T.81, annexes C, F and H.
"""

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner
    from pydicom.uid import UID

__all__ = ["DECODER_DEPENDENCIES", "decode", "decode_frame", "is_available"]

DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {
    "1.2.840.10008.1.2.4.57": ("numpy",),
    "1.2.840.10008.1.2.4.70": ("numpy",),
}
"""What pydicom asks of a module that decodes."""
_TABLE, _FRAME, _SCAN, _RESTART = 0xC4, 0xC3, 0xDA, 0xDD
_WINDOW = 16
_LAST_CATEGORY = 16
"""The category of the difference 32768, which has no further bits."""


def is_available(uid: "UID") -> bool:
    """Return whether a transfer syntax is one of JPEG lossless."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: "DecodeRunner") -> bytearray:
    """Decode a picture for pydicom."""
    return bytearray(decode(src).astype(f"<u{runner.bits_allocated // 8}").tobytes())


def decode(picture: bytes) -> npt.NDArray[np.unsignedinteger]:
    """Return the pixels ``(rows, columns)`` of a picture of one component.

    Raises:
        ValueError: The picture is damaged, or of another process.
    """
    parts = dict(_segments(picture))
    if not {_TABLE, _FRAME, _SCAN} <= parts.keys():
        raise ValueError("a part of the JPEG lossless picture is missing")
    precision, rows, columns, components = struct.unpack_from(">BHHB", parts[_FRAME])
    predictor, transform = parts[_SCAN][3], parts[_SCAN][5] & 15
    if components != 1 or not 1 <= predictor <= 7 or not 2 <= precision - transform <= precision <= 16:  # noqa: PLR2004
        raise ValueError("it is no JPEG lossless picture of one component")
    interval = struct.unpack_from(">H", parts[_RESTART])[0] if _RESTART in parts else 0
    lengths, categories = _lookup(parts[_TABLE])
    stream = parts[_SCAN][6:]
    rows_at_once = interval // columns if interval else rows
    if rows_at_once < 1 or (interval and interval % columns):
        raise ValueError("its restart interval is not of whole rows")
    pieces, found = _between_restarts(stream) if interval else [stream], []
    for start, piece in zip(range(0, rows, rows_at_once), pieces, strict=False):
        size = min(rows_at_once, rows - start), columns
        differences = _differences(piece, size[0] * columns, lengths, categories).reshape(size)
        found.append(_predicted(differences, predictor, 1 << (precision - transform - 1)))
    pixels = np.concatenate(found) << transform
    if pixels.shape != (rows, columns):
        raise ValueError("it ends before its last row")
    return pixels.astype(np.uint8 if precision <= 8 else np.uint16)  # noqa: PLR2004


def _segments(picture: bytes) -> Iterator[tuple[int, bytes]]:
    """Give each part of a picture by its marker; the scan is everything behind its header."""
    place = 2
    while place + 4 <= len(picture):
        if picture[place] != 0xFF:  # noqa: PLR2004
            raise ValueError("it has no marker where one is due")
        kind, length = picture[place + 1], int.from_bytes(picture[place + 2 : place + 4])
        if kind == 0xFF:  # noqa: PLR2004
            place += 1
            continue
        if kind == _SCAN:
            yield kind, picture[place + 4 :]
            return
        yield kind, picture[place + 4 : place + 2 + length]
        place += 2 + length


def _lookup(table: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the length of the code and its category for each window of 16 bits; length 0 where there is no code."""
    lengths, categories = np.zeros((2, 1 << _WINDOW), np.uint8)
    first, place = 0, 17
    for length, count in enumerate(table[1:17], start=1):
        for category in table[place : place + count]:
            last = first + (1 << (_WINDOW - length))
            lengths[first:last], categories[first:last] = length, category
            first = last
        place += count
    if first > 1 << _WINDOW or categories.max() > _LAST_CATEGORY:
        raise ValueError("its Huffman table is none")
    return lengths, categories


def _between_restarts(stream: bytes) -> list[bytes]:
    """Cut a scan at its restart markers."""
    content = np.frombuffer(stream, np.uint8)
    marks = np.flatnonzero((content[:-1] == 0xFF) & (content[1:] >= 0xD0) & (content[1:] <= 0xD7))  # noqa: PLR2004
    edges = [0, *(marks + 2).tolist(), len(stream) + 2]
    return [stream[start : end - 2] for start, end in pairwise(edges)]


def _differences(
    piece: bytes, count: int, lengths: npt.NDArray[np.uint8], categories: npt.NDArray[np.uint8]
) -> npt.NDArray[np.int64]:
    """Return so many differences from the bits of a scan."""
    content = np.frombuffer(piece.replace(b"\xff\x00", b"\xff") + bytes(6), np.uint8).astype(np.uint32)
    # Four bytes from each byte on hold the windows of 16 bits from each of its bits on.
    wide = content[:-3] << 24 | content[1:-2] << 16 | content[2:-1] << 8 | content[3:]
    window = (wide[:, None] >> np.arange(16, 8, -1, dtype=np.uint32)).astype(np.uint16).ravel()
    more = np.where(categories == _LAST_CATEGORY, 0, categories)
    steps, end = (lengths + more)[window].tobytes(), 8 * (content.size - 6)
    places, place = [0] * count, 0
    for number in range(count):
        if place >= end:
            break
        places[number] = place
        place += steps[place]
    at = np.array(places)
    if place > end or not lengths[window[at]].all() or (count > 1 and places[-1] == 0):
        raise ValueError("its bits end before its last voxel, or make no code")
    category, bits = categories[window[at]], more[window[at]].astype(np.int64)
    value = window[at + lengths[window[at]]].astype(np.int64) >> (_WINDOW - bits)
    # A value whose first bit is 0 is negative.
    signed = np.where(value >> np.maximum(bits - 1, 0) & 1, value, value - (1 << bits) + 1)
    return np.where(category == _LAST_CATEGORY, 1 << 15, np.where(bits == 0, 0, signed))


def _predicted(differences: npt.NDArray[np.int64], predictor: int, first: int) -> npt.NDArray[np.int64]:
    """Add the differences to what the voxels left (a), above (b) and above left (c) predict, modulo 2 ** 16."""
    pixels = np.zeros_like(differences)
    pixels[0] = first + np.cumsum(differences[0])
    for row in range(1, len(pixels)):
        above, given = pixels[row - 1] & 0xFFFF, differences[row]
        before = np.concatenate([[0], above[:-1]])
        if predictor in {1, 4, 5}:  # what is added to the voxel on the left is known beforehand
            change = {1: 0 * above, 4: above - before, 5: (above - before) >> 1}[predictor] + given
            change[0] = above[0] + given[0]
            pixels[row] = np.cumsum(change)
        elif predictor in {2, 3}:
            pixels[row] = (above if predictor == 2 else before) + given  # noqa: PLR2004
            pixels[row, 0] = above[0] + given[0]
        else:
            pixels[row] = _one_by_one(above.tolist(), given.tolist(), predictor)
    return pixels & 0xFFFF


def _one_by_one(above: list[int], given: list[int], predictor: int) -> list[int]:
    """Return a row of the predictors 6 and 7, which round with the voxel on the left."""
    row = [above[0] + given[0] & 0xFFFF]
    for column in range(1, len(given)):
        left, over, corner = row[-1], above[column], above[column - 1]
        guess = over + (left - corner >> 1) if predictor == 6 else left + over >> 1  # noqa: PLR2004
        row.append(guess + given[column] & 0xFFFF)
    return row
