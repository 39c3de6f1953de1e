"""What the layouts share: the records of what was found, and the small JSON files that stand beside scans."""

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from guided_attention._checks import cut_list, repeated, require
from guided_attention._sides import left_right_pairs
from guided_attention._typing import SpacingMm
from guided_attention.case import Case
from guided_attention.data._files import (
    DAMAGE,
    is_set_aside,
    is_setting_aside,
    natural_key,
    numbers_of,
    reading,
    refuse_dead_links,
)
from guided_attention.data.formats._limits import MAX_BYTES
from guided_attention.data.formats._table import files_of
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec

__all__ = [
    "PARTS",
    "Found",
    "Layout",
    "ReadCase",
    "Scan",
    "about_beside",
    "as_list",
    "channel_names_in",
    "dataset_fields",
    "entries_of",
    "is_there",
    "known_spacing",
    "labels_in",
    "merged",
    "part_folders",
    "read_json",
    "with_parts",
]

Layout: TypeAlias = Literal[
    "pairs",
    "dicom",
    "decathlon",
    "nnunet",
    "chaos",
    "chaos:t1_out",
    "chaos:t1_dual",
    "chaos:t2",
    "png",
    "structures",
    "csv",
]
"""How a folder of scans is laid out. ``"chaos"`` is T1 in phase or CT; the others of CHAOS name their scan."""

PARTS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The part of a split by the names that folders and JSON files have for it."""

_LIST = "cases.json"
_ABOUT = ("labels", "channel_names", "modality")
_CASE_KEYS = ("case", "case_id", "id", "name")
_PART_KEYS = ("split", "part", "set")
_UNKNOWN_MM: SpacingMm = (1.0, 1.0, 1.0)


@runtime_checkable
class ReadCase(Protocol):
    """Reads one case, or only its image; `max_bytes` is what each of its volumes may take in memory."""

    def __call__(self, *, max_bytes: int = MAX_BYTES, image_only: bool = False) -> Case:
        """Read it."""
        ...


@dataclass(frozen=True)
class Scan:
    """One scan that was found.

    Attributes:
        case_id: Its name.
        path: The image: a file or a folder.
        read: Reads it.
        is_labelled: Whether it has a reference segmentation.
        part: The part that the layout puts it in.
        beside: Other files and folders that it is read from, the mask last.
        patient: The patient it is of; empty where that is not known.
        slices: Its files, where `path` is a folder that it shares with other scans.
    """

    case_id: str
    path: Path
    read: ReadCase
    is_labelled: bool
    part: str = ""
    beside: tuple[Path, ...] = ()
    patient: str = ""
    slices: tuple[Path, ...] = ()

    def __call__(self) -> Case:
        """Read it: a scan is a reader that has a name."""
        return self.read()

    def files(self) -> list[Path]:
        """Return every file that the scan is read from.

        Raises:
            DataError: A header that names the file with its voxels cannot be read.
            MissingFileError: There is no such file.
        """
        found: list[Path] = []
        for path in self.slices or (self.path, *self.beside):
            is_folder = path.is_dir()
            found += sorted(one for one in path.rglob("*") if one.is_file()) if is_folder else files_of(path)
        return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Found:
    """What a folder holds: its scans, and what the layout says of organs and channels."""

    layout: Layout
    scans: tuple[Scan, ...]
    labels: LabelSpec | None = None
    channel_names: tuple[str, ...] = ()
    channels: tuple[str, ...] | None = None


def dataset_fields(folder: Path) -> dict[str, object]:
    """Return what ``dataset.json`` in a folder says; nothing where there is none."""
    path = folder / "dataset.json"
    content = read_json(path) if is_there(path) else {}
    good, kind = isinstance(content, dict), type(content).__name__
    require(good, str(path), "a JSON file with a mapping", f"a {kind}", error=DataError, file=path)
    return dict(content) if isinstance(content, dict) else {}


def known_spacing(given: SpacingMm | None, folder: Path) -> SpacingMm:
    """Return the spacing of files that hold none: as given, or as ``dataset.json`` says; 1 mm with a warning."""
    if given is not None:
        return given
    said = dataset_fields(folder).get("spacing_mm")
    if said is None:
        warnings.warn(
            f"PNG files and others without geometry hold no spacing: 1 mm is assumed for {folder}, so distances in mm "
            'count pixels. Write {"spacing_mm": [z, y, x]} into dataset.json there, or pass `spacing_mm`.',
            UserWarning,
            stacklevel=2,
        )
        return _UNKNOWN_MM
    numbers = [
        float(value)
        for value in as_list(said)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    good = len(numbers) == len(_UNKNOWN_MM) and all(0 < number < math.inf for number in numbers)
    what, path = "spacing_mm of dataset.json", folder / "dataset.json"
    require(good, what, "three numbers above 0, [z, y, x]", said, error=DataError, file=path)
    return (numbers[0], numbers[1], numbers[2])


def entries_of(folder: Path) -> list[Path]:
    """Return what is in a folder in natural order, hidden entries skipped; a link that leads nowhere is an error."""
    with reading(folder, "folder"), os.scandir(folder) as entries:
        linked = {
            entry.name: entry.is_symlink() for entry in entries if not entry.name.startswith((".", "__"))
        }
    found = [folder / name for name in sorted(linked, key=natural_key)]
    if is_setting_aside():
        found = [path for path in found if not is_set_aside(path)]
    refuse_dead_links(path for path in found if linked[path.name])
    return found


def part_folders(folder: Path) -> dict[str, Path]:
    """Return the folders called train, val or test (or their longer names), by part."""
    folders = [path for path in entries_of(folder) if path.is_dir() and path.name.lower() in PARTS]
    order = list(dict.fromkeys(PARTS.values()))
    return {
        PARTS[path.name.lower()]: path
        for path in sorted(folders, key=lambda path: order.index(PARTS[path.name.lower()]))
    }


def merged(founds: Mapping[str, Found]) -> Found:
    """Join what was found in the folders of several parts."""
    first = next(iter(founds.values()))
    scans = [replace(scan, part=part) for part, found in founds.items() for scan in found.scans]
    return replace(first, scans=tuple(scans))


def is_there(path: Path) -> bool:
    """Return whether a file stands beside the scans; a folder of its name, or a link to nowhere, is an error."""
    is_odd = path.is_dir() or (path.is_symlink() and not path.exists())
    got = "a folder" if path.is_dir() else "a link that leads nowhere"
    require(
        not is_odd, str(path), "a file", got, "Delete it, or put the file there.", error=DataError, file=path
    )
    return path.is_file()


def read_json(path: Path) -> object:
    """Read a JSON file; one that is no JSON is an error with its name and line.

    Of a file that is set aside, what it says of organs and channels is left, and nothing of cases.
    """
    with reading(path, "JSON", DAMAGE):
        stored = path.read_bytes()
    try:
        content: object = json.loads(stored.decode("utf-8-sig"), object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as error:
        if is_set_aside(path):
            return {}
        message = f"`{path}` must be a JSON file, got a mistake in it ({error}). Correct it."
        raise DataError(message, file=path) from error
    if not is_set_aside(path):
        return content
    return {key: content[key] for key in _ABOUT if key in content} if isinstance(content, dict) else {}


def _each_key_once(entries: list[tuple[str, object]]) -> dict[str, object]:
    twice = repeated(key for key, _ in entries)
    if twice:
        raise ValueError(f"{cut_list(twice)} twice")
    return dict(entries)


def labels_in(content: Mapping[str, object], path: Path) -> LabelSpec | None:
    """Return the organs of ``"labels"``: value to name (Decathlon) or name to value (nnU-Net); None without them.

    Names that differ only in "left" and "right" become pairs.
    """
    entries = content.get("labels")
    if entries is None:
        return None
    wanted, values = "a mapping of label values and names", {}
    _require(isinstance(entries, dict), path, wanted, f"a {type(entries).__name__}", "labels")
    for key, value in entries.items() if isinstance(entries, dict) else ():
        number, name = (key, value) if key.isdecimal() else (value, key)
        good = str(number).isdecimal() and isinstance(name, str)
        cure = "Regions of several labels are not supported." if isinstance(value, list) else ""
        _require(good, path, wanted, f"{key!r}: {value!r}", "labels", cure)
        _require(int(str(number)) not in values, path, "of different values", f"{number} twice", "labels")
        values[int(str(number))] = str(name)
    ignored = [value for value, name in values.items() if name.lower() == "ignore"]
    names = {value: name for value, name in values.items() if value != 0 and value not in ignored}
    try:
        return LabelSpec(names, pairs=left_right_pairs(names), ignore_value=ignored[0] if ignored else None)
    except DataError as error:
        raise DataError(f"{error} Read from {path}.", argument=error.argument, file=path) from error


def channel_names_in(content: Mapping[str, object], path: Path) -> tuple[str, ...]:
    """Return the names of ``"channel_names"`` (nnU-Net) or ``"modality"`` (Decathlon); none where two are equal."""
    key = "channel_names" if "channel_names" in content else "modality"
    entries = content.get(key, {})
    _require(isinstance(entries, (dict, list)), path, "a mapping or a list", repr(entries), key)
    if isinstance(entries, dict) and all(number.isdecimal() for number in entries):
        entries = [entries[number] for number in sorted(entries, key=int)]
    names = tuple(map(str, entries.values() if isinstance(entries, dict) else as_list(entries)))
    return names if len(set(names)) == len(names) else ()


def about_beside(folder: Path) -> tuple[LabelSpec | None, tuple[str, ...]]:
    """Return the organs and the names of channels that ``cases.json`` in a folder says; nothing without it."""
    path = folder / _LIST
    content = read_json(path) if is_there(path) else None
    about = content if isinstance(content, dict) else {}
    return labels_in(about, path), channel_names_in(about, path)


def with_parts(found: Found, folder: Path) -> Found:
    """Put cases into the parts that ``cases.json`` lists: a list of records, or lists by part.

    The second form may have ``"labels"`` and ``"channel_names"`` as well (`about_beside`). Other keys are ignored.
    Where folders are the parts already, its lists are not read, with a warning.
    """
    path = folder / _LIST
    if not is_there(path):
        return found
    content = read_json(path)
    wanted = 'a list of {"case": ..., "split": "train"}, or {"train": [...], "val": [...], "test": [...]}'
    _require(isinstance(content, (list, dict)), path, wanted, f"a {type(content).__name__}")
    listed = _listed_parts(content, path, wanted)
    if any(scan.part for scan in found.scans):
        if listed:
            message = (
                f"The lists of {path} are not read: its folders are the parts already. Delete the lists."
            )
            warnings.warn(message, UserWarning, stacklevel=2)
        return found
    named: dict[str, str] = {}
    for name, part in listed:
        case_id = _match(name, [scan.case_id for scan in found.scans], path)
        good = named.setdefault(case_id, part) == part
        _require(good, path, "a file that names each case once", f"{case_id!r} in two parts")
    scans = tuple(replace(scan, part=named.get(scan.case_id, "")) for scan in found.scans)
    return replace(found, scans=scans)


def _listed_parts(content: object, path: Path, wanted: str) -> list[tuple[str, str]]:
    if isinstance(content, dict):
        lists = {key: as_list(value) for key, value in content.items() if key in PARTS}
        return [(_name(name, path), PARTS[key]) for key, names in lists.items() for name in names]
    listed = []
    for record in as_list(content):
        _require(isinstance(record, dict), path, wanted, repr(record))
        fields = dict(record) if isinstance(record, dict) else {}
        names = [fields[key] for key in _CASE_KEYS if key in fields]
        parts = [fields[key] for key in _PART_KEYS if key in fields]
        known = bool(names) and bool(parts) and parts[0] in PARTS
        _require(known, path, wanted, json.dumps(record)[:100])
        listed.append((_name(names[0], path), PARTS[str(parts[0])]))
    return listed


def _name(value: object, path: Path) -> str:
    _require(isinstance(value, (str, int)), path, "a file that names cases by text or number", repr(value))
    return str(value)


def _match(name: str, case_ids: Sequence[str], path: Path) -> str:
    """Return the case that a name stands for; the number 1 also stands for ``case01``."""
    alike = [case_id for case_id in case_ids if case_id == name]
    if not alike and name.isdecimal():
        alike = [case_id for case_id in case_ids if numbers_of(case_id)[-1:] == [int(name)]]
    wanted, got = f"a file of the cases {cut_list(case_ids)}", f"{name!r}"
    _require(len(alike) == 1, path, wanted, got, cure="Correct the name, or add the scan.")
    return alike[0]


def as_list(value: object) -> list[object]:
    """Return a list as it is, and anything else as a list of one."""
    return list(value) if isinstance(value, list) else [value]


def _require(good: bool, path: Path, wanted: str, got: str, key: str = "", cure: str = "") -> None:
    what = f"{key} of {path}" if key else str(path)
    require(good, what, wanted, got, cure, error=DataError, file=path)
