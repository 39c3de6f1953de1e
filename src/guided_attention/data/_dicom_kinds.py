"""What DICOM files are, told by their first bytes: slices, masks, or neither. pydicom is not needed for it."""

import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from guided_attention.data._dicom_frames import kind_of_other
from guided_attention.data._files import SLICE_ENDINGS, is_set_aside, reading
from guided_attention.data.layouts._records import entries_of

__all__ = [
    "is_dicom_mask",
    "is_dicom_report",
    "is_rtstruct",
    "is_series",
    "masks_among",
    "referred_series",
    "series_of",
]

_SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
_VALUE = rb"(?:UI..|..\x00\x00)([0-9.]+)"  # explicit and implicit form
_CLASS = re.compile(rb"(?:\x02\x00\x02\x00|\x08\x00\x16\x00)" + _VALUE, re.DOTALL)
_SERIES = re.compile(rb"\x20\x00\x0e\x00" + _VALUE, re.DOTALL)
_DIGITS = re.compile(r"\d+")
_MARK_AT, _MARK = 128, b"DICM"
_HEAD, _REFERENCES = 4096, 1 << 18
_TRIED, _ODD = 8, 4


def is_series(folder: Path) -> bool:
    """Tell a folder of DICOM slices; one that holds only masks, reports and the like is none."""
    if not folder.is_dir():
        return False
    files = (file for file in entries_of(folder) if file.is_file())
    tried = (
        file
        for place, file in enumerate(files)
        if place < _TRIED or file.name.lower().endswith(SLICE_ENDINGS)
    )
    return any(map(_is_slice, tried))


def is_dicom_mask(path: Path) -> bool:
    """Tell a DICOM SEG or RTSTRUCT."""
    return _may_be_dicom(path) and path.is_file() and _class_of(path) in {*_SEGMENTATION, _RTSTRUCT}


def is_dicom_report(path: Path) -> bool:
    """Tell a DICOM file that is neither a slice nor a mask, such as a report or a plan."""
    kind = _class_of(path) if path.is_file() else ""
    return bool(kind_of_other(kind)) and kind not in {*_SEGMENTATION, _RTSTRUCT}


def is_rtstruct(path: Path) -> bool:
    return _class_of(path) == _RTSTRUCT


def masks_among(folder: Path) -> list[Path]:
    """Return the masks among the slices of a folder.

    Only the files that are called otherwise than most, or are of another size, are looked at: not every slice is read.
    """
    with reading(folder, "folder"), os.scandir(folder) as entries:
        sizes = {entry.name: math.log(entry.stat().st_size + 1) for entry in entries if entry.is_file()}
    forms = {name: _DIGITS.sub("0", name) for name in sizes}
    often, usual = Counter(forms.values()), median(sizes.values()) if sizes else 0.0
    rare = sorted(sizes, key=lambda name: often[forms[name]])[:_ODD]
    odd = sorted(sizes, key=lambda name: -abs(sizes[name] - usual))[:_ODD]
    paths = [folder / name for name in sorted({*rare, *odd}) if not name.startswith(".")]
    return [path for path in paths if is_dicom_mask(path) and not is_set_aside(path)]


def series_of(folder: Path) -> str:
    """Return the SeriesInstanceUID of the first slice of a folder, "" where there is none."""
    first = next((file for file in entries_of(folder) if file.is_file() and _is_slice(file)), None)
    return "" if first is None else next(_series_in(first), "")


def referred_series(path: Path) -> set[str]:
    """Return the SeriesInstanceUIDs that a mask names: that of the series that it was made on, and its own."""
    return set(_series_in(path))


def _series_in(path: Path) -> Iterator[str]:
    return (found.decode() for found in _SERIES.findall(_head(path, _REFERENCES)))


def _is_slice(path: Path) -> bool:
    head = _head(path)
    is_dicom = path.name.lower().endswith(SLICE_ENDINGS) or head[_MARK_AT:].startswith(_MARK)
    return is_dicom and not kind_of_other(_class_in(head))


def _may_be_dicom(path: Path) -> bool:
    ending = path.suffix.lower()
    return ending in {"", *SLICE_ENDINGS} or ending[1:].isdecimal()


def _class_of(path: Path) -> str:
    return _class_in(_head(path))


def _class_in(head: bytes) -> str:
    found = _CLASS.search(head)
    return found[1].decode() if found else ""


def _head(path: Path, size: int = _HEAD) -> bytes:
    with reading(path, "file"), path.open("rb") as file:
        return file.read(size)
