"""A cohort listed in a CSV file: one row a case, paths relative to the file."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from guided_attention._checks import counted, cut_list, repeated, require
from guided_attention.data._dicom_kinds import is_dicom_mask
from guided_attention.data._files import DAMAGE, reading
from guided_attention.data.formats._arrays import holds_mask
from guided_attention.data.formats._table import has_geometry, is_volume_file
from guided_attention.data.layouts._pairs import Pair
from guided_attention.data.layouts._records import PARTS, Found, known_spacing
from guided_attention.data.layouts._volumes import Reading, is_volume, scans_of, with_organs
from guided_attention.errors import DataError, MissingFileError

__all__ = ["find_table"]

_IMAGE, _CHANNEL = "image", "image:"
_COLUMNS = ("case_id", _IMAGE, "label", "part", "patient")
_SEPARATORS = ",;\t"
_REMARK = "#"


def find_table(path: Path, how: Reading) -> Found | None:
    """Read the rows of a CSV file; None for anything else.

    Columns are ``case_id``, ``image`` or one ``image:<channel>`` for each channel, and, where they are known,
    ``label``, ``part`` and ``patient``. Columns that begin with ``#`` are remarks.
    """
    if not path.is_file() or path.suffix.lower() != ".csv":
        return None
    rows = list(_rows(path))
    require(bool(rows), str(path), "a table with at least one case", "none", error=DataError, file=path)
    images = [name for name in rows[0][1] if name == _IMAGE or name.startswith(_CHANNEL)]
    pairs, seen = [], dict[str, int]()
    for number, row in rows:
        pairs.append(_pair(path, number, row, images))
        name = pairs[-1].name
        first = seen.setdefault(name, number)
        cure = "Give each case a name of its own."
        _require(first == number, path, number, "a new case_id", f"{name!r}, as in row {first}", cure)
    how = with_organs(how, [pair.label for pair in pairs if pair.label is not None])
    names = tuple(name.removeprefix(_CHANNEL) for name in images if name != _IMAGE)
    files = [file for pair in pairs for file in (*pair.images, *([pair.label] if pair.label else []))]
    if not all(file.is_dir() or has_geometry(file) for file in files):
        how = replace(how, spacing_mm=known_spacing(how.spacing_mm, path.parent))
    scans = (
        replace(scan, part=_part(path, number, row), patient=row.get("patient", "") or scan.case_id)
        for scan, (number, row) in zip(scans_of(pairs, path, names, how), rows, strict=True)
    )
    return Found("csv", tuple(scans), how.labels, names)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Give the number of each row, counted in lines as editors do, and its cells by column."""
    with reading(path, "CSV", DAMAGE):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = (
            f"`{path}` must be a CSV file in UTF-8, got another encoding ({error.reason}). Save it as UTF-8."
        )
        raise DataError(message, file=path) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    table = csv.reader(io.StringIO(text, ""), delimiter=max(_SEPARATORS, key=first.count), strict=True)
    columns: list[str] = []
    try:
        for cells in table:
            row = [cell.strip() for cell in cells]
            if any(row) and columns:
                yield table.line_num, _named(path, table.line_num, columns, row)
            elif any(row):
                columns = _checked_columns(path, row)
    except csv.Error as error:
        message = f"`{path}` must be a CSV file, got a mistake in row {table.line_num} ({error}). Correct it."
        raise DataError(message, file=path) from error


def _checked_columns(path: Path, row: list[str]) -> list[str]:
    columns = [name if name.lower().startswith(_CHANNEL) else name.lower() for name in row]
    columns = [
        _CHANNEL + name[len(_CHANNEL) :].strip() if name.lower().startswith(_CHANNEL) else name
        for name in columns
    ]
    while columns and not columns[-1]:
        columns.pop()
    wanted, number = f"the columns {', '.join(_COLUMNS)}, or {_CHANNEL}<channel> for each channel", 1
    channels = [name for name in columns if name.startswith(_CHANNEL)]
    odd = [name for name in columns if not name.startswith((_REMARK, _CHANNEL)) and name not in _COLUMNS]
    cure = "Rename it. The names of columns that are not to be read begin with #."
    _require(not odd and _CHANNEL not in channels, path, number, wanted, repr((odd or [_CHANNEL])[0]), cure)
    twice = repeated(name for name in columns if not name.startswith(_REMARK))
    _require(not twice, path, number, "each column once", f"{twice} twice")
    _require("case_id" in columns, path, number, wanted, f"no case_id in {', '.join(columns)}")
    one = bool(channels) != (_IMAGE in columns)
    _require(one, path, number, f"either {_IMAGE} or {_CHANNEL}<channel>", ", ".join(columns))
    return columns


def _named(path: Path, number: int, columns: list[str], row: list[str]) -> dict[str, str]:
    surplus = [cell for cell in row[len(columns) :] if cell]
    cure = "Put text with a separator in it in quotes."
    _require(not surplus, path, number, counted(len(columns), "cell"), f"{len(row)} in {row}", cure)
    return dict(zip(columns, row + [""] * len(columns), strict=False))


def _pair(path: Path, number: int, row: Mapping[str, str], images: list[str]) -> Pair:
    _require(bool(row["case_id"]), path, number, "a case_id", "an empty cell")
    found = []
    for column in images:
        _require(bool(row[column]), path, number, f"a file in column {column}", "an empty cell")
        found.append(_existing(path, number, row[column]))
        cure = "Give a file such as NIfTI or NRRD, or the folder of one DICOM series."
        _require(is_volume(found[-1]), path, number, f"a scan in column {column}", found[-1], cure)
    label = _existing(path, number, row["label"]) if row.get("label") else None
    good = label is None or is_volume_file(label) or is_dicom_mask(label)
    _require(good, path, number, "a file of a known format in column label", label, "Convert it to NIfTI.")
    twice = repeated(str(file) for file in (*found, *([label] if label and not holds_mask(label) else [])))
    _require(
        not twice, path, number, "each file in one column", f"{cut_list(twice)} in two", "Correct a column."
    )
    return Pair("", row["case_id"], tuple(found), label)


def _existing(path: Path, number: int, cell: str) -> Path:
    file = path.parent / cell
    if not file.exists():
        link = "a link that leads nowhere" if file.is_symlink() else "no such file"
        message = f"`row {number} of {path}` must name files that are there, got {link}: {file}."
        raise MissingFileError(f"{message} Paths are relative to the CSV file.", file=file)
    return file


def _part(path: Path, number: int, row: Mapping[str, str]) -> str:
    part = row.get("part", "").lower()
    _require(not part or part in PARTS, path, number, "train, val or test in column part", repr(part))
    return PARTS.get(part, "")


def _require(good: bool, path: Path, number: int, wanted: str, got: object, cure: str = "") -> None:
    require(good, f"row {number} of {path}", wanted, got, cure, error=DataError, file=path)
