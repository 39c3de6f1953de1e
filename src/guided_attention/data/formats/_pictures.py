"""PNG, JPEG and TIFF files as pixels: images with their channels, masks as label values."""

import json
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence

from guided_attention._checks import cut_list, require
from guided_attention.data._files import DAMAGE, reading
from guided_attention.data.formats._limits import require_fits
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec

__all__ = [
    "PICTURE_ENDINGS",
    "picture_kind",
    "read_image_pages",
    "read_label_pages",
    "read_mask_slice",
    "size_of",
]

PICTURE_ENDINGS: Mapping[str, str] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Name of the format by the ending of a file's name."""
_EXIF_ORIENTATION = 0x112
_DAMAGE = (*DAMAGE, SyntaxError, TypeError, KeyError)
"""What Pillow raises over a damaged file."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BYTES_OF_PIXEL = 4
"""What is unpacked of a pixel, and what is made of it."""
_GREYS = {"1", "L", "I", "F", "I;16", "I;16B", "I;16L"}
_COLOURS = {"RGB"}
_BIT_DEPTH, _COLOUR_TYPE = 24, 25
"""Places in a PNG file."""
_PNG_BYTE, _GREY_TYPE, _PALETTE_TYPE = 8, 0, 3
_LOSSY = (
    "JPEG stores what is near the values, so that labels come and go at every edge: "
    "export the masks again as PNG, TIFF or NIfTI."
)


def picture_kind(path: Path) -> str:
    """Return the format that the ending of a file's name stands for; an unknown one is an error."""
    kind = PICTURE_ENDINGS.get(path.suffix.lower(), "")
    wanted = f"a name that ends in {', '.join(PICTURE_ENDINGS)}"
    require(bool(kind), str(path), wanted, path.name, error=DataError, file=path)
    return kind


def read_image_pages(path: Path, max_bytes: int) -> npt.NDArray[np.generic]:
    """Return the pixels of each page, ``(pages, height, width)``, or with channels in front.

    Colours become three channels, grey levels below 8 bits are spread over 0 to 255. An alpha channel that is the same
    everywhere is dropped, any other is an error.
    """
    kind = picture_kind(path)
    with _opened(path, kind, max_bytes) as picture:
        require_fits(path, _bytes_of(picture), max_bytes)
        _check_upright(picture, path, kind)  # unpacks a PNG
        pages = [_image(page, path) for page in ImageSequence.Iterator(picture)]
    stack = _stacked(pages, path)
    return np.moveaxis(stack, -1, 0) if stack.ndim > 3 else stack  # noqa: PLR2004


def read_label_pages(path: Path, max_bytes: int, organs: LabelSpec | None = None) -> npt.NDArray[np.generic]:
    """Return the label values of each page, ``(pages, height, width)``.

    Grey levels and indices of palettes are values. Colours are looked up among those of `organs`; black is 0.
    """
    kind = picture_kind(path)
    wanted, got = "a mask without loss", "a JPEG file"
    require(kind != "JPEG", str(path), wanted, got, _LOSSY, error=DataError, file=path)
    with _opened(path, kind, max_bytes) as picture:
        require_fits(path, _bytes_of(picture), max_bytes)
        _check_upright(picture, path, kind)  # unpacks a PNG
        pages = [_labels(page, path, kind, organs) for page in ImageSequence.Iterator(picture)]
    return _stacked(pages, path)


def read_mask_slice(path: Path, max_bytes: int, *, size: tuple[int, ...], whose: str) -> npt.NDArray[Any]:
    """Return the label values of a file of one slice, whose size has to be `size`, that of `whose`."""
    _, *found = size_of(path, max_bytes)
    wanted = f"that of {whose}, {size}"
    require(tuple(found) == size, f"size of {path}", wanted, tuple(found), error=DataError, file=path)
    (mask,) = read_label_pages(path, max_bytes)
    return np.asarray(mask)


def size_of(path: Path, max_bytes: int) -> tuple[int, int, int]:
    """Return channels, rows and columns of a picture, without unpacking it."""
    with _opened(path, picture_kind(path), max_bytes) as picture:
        columns, rows = picture.size
        return 3 if picture.mode in {"P", "RGB", "RGBA"} else 1, rows, columns


@contextmanager
def _opened(path: Path, kind: str, max_bytes: int) -> Iterator[Image.Image]:
    with reading(path, kind, _DAMAGE), warnings.catch_warnings():
        # We have a limit of our own.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        require_fits(path, path.stat().st_size, max_bytes)
        if kind == "PNG":
            _check_png(path)
        try:
            with Image.open(path, formats=[kind]) as picture:
                _check_pages(picture, path, kind)
                yield picture
        except Image.DecompressionBombError as error:
            cure = "Cut it into smaller pictures, or set PIL.Image.MAX_IMAGE_PIXELS = None."
            message = f"`{path}` must be a {kind} that Pillow opens, got: {error} {cure}"
            raise DataError(message, file=path) from error


def _check_upright(picture: Image.Image, path: Path, kind: str) -> None:
    """Raise where EXIF says that viewers turn or mirror a picture: a mask may be of either form."""
    said = 1 if kind == "TIFF" else picture.getexif().get(_EXIF_ORIENTATION, 1)
    wanted, cure = (
        "an upright picture",
        "Turn the pixels (PIL.ImageOps.exif_transpose), and the mask as well if need be.",
    )
    got = f"one that viewers turn or mirror (EXIF orientation {said})"
    require(said in {0, 1}, str(path), wanted, got, cure, error=DataError, file=path)


def _check_png(path: Path) -> None:
    """Test the checksum of every chunk: Pillow does not test those of the pixels."""
    content = path.read_bytes()
    good = content.startswith(_PNG_SIGNATURE)
    require(good, str(path), "a PNG file", "another format", error=DataError, file=path)
    place, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        end = place + 8 + length
        checksum = int.from_bytes(content[end : end + 4])
        if end + 4 > len(content) or zlib.crc32(content[place + 4 : end]) != checksum:
            raise ValueError(f"checksum of its part {kind!r} is wrong")
        place = end + 4
    deep = content[_BIT_DEPTH] > _PNG_BYTE and content[_COLOUR_TYPE] != _GREY_TYPE
    wanted, cure = "a PNG of 8 bits a colour", "Save grey levels without colour or transparency, or as TIFF."
    require(not deep, str(path), wanted, "16 bits", cure, error=DataError, file=path)


def _check_pages(picture: Image.Image, path: Path, kind: str) -> None:
    pages = int(getattr(picture, "n_frames", 1))
    good, wanted = kind == "TIFF" or pages == 1, "of one picture"
    cure = "Save each picture as a file of its own."
    require(good, str(path), wanted, f"an animation of {pages}", cure, error=DataError, file=path)
    if kind != "TIFF":
        return
    said = _imagej_counts(picture)
    several = {name: count for name, count in said.items() if name in {"channels", "frames"} and count > 1}
    cure = "Save each channel or frame as a stack of its own."
    require(not several, str(path), "of one stack of slices", several, cure, error=DataError, file=path)
    good, wanted = said.get("images", pages) == pages, f"of {said.get('images')} pages, as it says itself"
    cure = "Save it as a plain stack, one page a slice."
    require(good, str(path), wanted, f"{pages}", cure, error=DataError, file=path)


def _bytes_of(picture: Image.Image) -> int:
    width, height = picture.size
    return width * height * len(picture.getbands()) * _BYTES_OF_PIXEL * int(getattr(picture, "n_frames", 1))


def _imagej_counts(picture: Image.Image) -> dict[str, int]:
    """Return the counts that ImageJ writes into the description of a stack; none in other files."""
    description = str(getattr(picture, "tag_v2", {}).get(270, ""))
    if not description.startswith("ImageJ="):
        return {}
    return {name: int(count) for name, count in re.findall(r"^(\w+)=(\d+)\s*$", description, re.MULTILINE)}


def _image(page: Image.Image, path: Path) -> npt.NDArray[np.generic]:
    plain = page.convert("RGBA" if "transparency" in page.info else "RGB") if page.mode == "P" else page
    if plain.mode in {"LA", "RGBA"}:
        alpha = np.asarray(plain.getchannel("A"))
        good, wanted = bool((alpha == alpha.flat[0]).all()), "opaque, or of one transparency"
        cure = "Save it without its alpha channel: what lies under transparent pixels is unknown."
        require(good, str(path), wanted, "an alpha channel that varies", cure, error=DataError, file=path)
        plain = plain.convert(plain.mode[:-1])
    _require_mode(plain, path, _GREYS | _COLOURS, "Convert it to grey levels (mode L) or RGB.")
    return np.array(plain.convert("L") if plain.mode == "1" else plain)


def _require_mode(page: Image.Image, path: Path, modes: set[str], cure: str) -> None:
    got = f"mode {page.mode}"
    require(
        page.mode in modes,
        str(path),
        "a picture of grey levels or RGB",
        got,
        cure,
        error=DataError,
        file=path,
    )


def _grey(page: Image.Image, path: Path, kind: str) -> npt.NDArray[np.generic]:
    """Return grey levels of a mask as they stand in the file: 0 and 1 of one bit, 0 to 3 of two."""
    pixels = np.array(page)
    if page.mode == "1":
        return pixels.astype(np.uint8)
    if kind == "PNG" and page.mode == "L":
        with path.open("rb") as file:
            bits = file.read(_BIT_DEPTH + 1)[_BIT_DEPTH]
        return pixels // (255 // (2**bits - 1)) if bits < _PNG_BYTE else pixels
    return pixels


def _labels(page: Image.Image, path: Path, kind: str, organs: LabelSpec | None) -> npt.NDArray[np.generic]:
    if page.mode == "P":
        return np.array(page)
    if page.mode in _GREYS:
        return _grey(page, path, kind)
    cure = "Save the mask as grey levels (mode L), each the value of an organ."
    _require_mode(page, path, {"RGB", "RGBA", "LA"}, cure)
    if page.mode == "LA":
        return np.array(page.getchannel("L"))
    colours = np.array(page.convert("RGB"))
    red = colours[..., 0]
    is_grey = bool((red == colours[..., 1]).all() and (red == colours[..., 2]).all())
    return red if is_grey else _of_colours(colours, path, organs)


def _of_colours(
    colours: npt.NDArray[np.uint8], path: Path, organs: LabelSpec | None
) -> npt.NDArray[np.generic]:
    """Return the value of each colour; one that no organ has is an error that lists those found."""
    red, green, blue = (colours[..., channel].astype(np.uint32) for channel in range(3))
    codes = red << 16 | green << 8 | blue
    known = {0: 0}
    for value, text in ({} if organs is None else organs.colours).items():
        other, wanted = (
            known.setdefault(int(text[1:], 16), value),
            "different, and not black, which is background",
        )
        require(
            other == value,
            "labels.colours",
            wanted,
            f"{text} for {value} and {other}",
            error=DataError,
            file=path,
        )
    found = np.unique(codes).tolist()
    odd = [f"#{code:06x}" for code in found if code not in known]
    wanted = "of black and the colours of `labels`" if organs is not None else "of grey levels"
    example = json.dumps(odd[0]) if odd else ""
    cure = f'Name them: LabelSpec({{1: "liver"}}, colours={{1: {example}}}), and pass it as `labels`.'
    require(not odd, f"colours of {path}", wanted, cut_list(odd), cure, error=DataError, file=path)
    values = np.zeros(codes.shape, np.uint16)
    for code in found:
        values[codes == code] = known[code]
    return values


def _stacked(pages: list[npt.NDArray[np.generic]], path: Path) -> npt.NDArray[np.generic]:
    for number, page in enumerate(pages, start=1):
        good, wanted = page.shape == pages[0].shape, f"that of its first page, {pages[0].shape}"
        require(good, f"size of page {number} of {path}", wanted, page.shape, error=DataError, file=path)
    return np.stack(pages)
