"""Layouts of slices: a release of CHAOS or one of its cases, and the PNG folders of the paper."""

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from guided_attention._checks import HIGHEST_LABEL, cut_list, require
from guided_attention.data.chaos import (
    CHAOS_CT_LABELS,
    CHAOS_MR_LABELS,
    ChaosSource,
    channels_of,
    find_masks,
    is_subject,
    read_chaos_subject,
)
from guided_attention.data.layouts._records import (
    Found,
    Layout,
    Scan,
    dataset_fields,
    entries_of,
    known_spacing,
    labels_in,
    merged,
    part_folders,
)
from guided_attention.data.layouts._volumes import Reading
from guided_attention.data.png import PNG_GREY_LEVELS, find_png_slices, read_png_subject
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec

__all__ = ["find_chaos", "find_png"]

_LAYOUTS: Mapping[ChaosSource, Layout] = {
    "t1_in": "chaos",
    "ct": "chaos",
    "t1_out": "chaos:t1_out",
    "t1_dual": "chaos:t1_dual",
    "t2": "chaos:t2",
}
_WHITE = 255
_SETS = {"train": "Train_Sets", "test": "Test_Sets"}


def find_chaos(folder: Path, layout: str) -> Found | None:
    """Find the subjects of a CHAOS release, of one of its folders, or one subject; None where there are none.

    Where `layout` names no scan, MR subjects are read as T1 in phase (T2 where none has T1), others as CT.
    """
    sets = {part: folder / name for part, name in _SETS.items() if (folder / name).is_dir()} or {"": folder}
    subjects = {part: _subjects(path) for part, path in sets.items()}
    flat = [path for paths in subjects.values() for path in paths]
    if not flat:
        return None
    source = _source_of(folder, flat, layout)
    founds = {
        part: Found(
            _LAYOUTS[source],
            tuple(_chaos_scan(path, source) for path in paths if is_subject(path, source)),
            CHAOS_CT_LABELS if source == "ct" else CHAOS_MR_LABELS,
            channels_of(source),
        )
        for part, paths in subjects.items()
    }
    return merged(founds)


def _subjects(folder: Path) -> list[Path]:
    """Return the folders of subjects in a set, or the folder itself where it is one."""
    within = [folder] if _modalities(folder) else [folder / "MR", folder / "CT", folder]
    candidates = [folder] if within == [folder] else [p for w in within if w.is_dir() for p in entries_of(w)]
    return [path for path in candidates if path.is_dir() and _modalities(path)]


def _modalities(path: Path) -> set[str]:
    return {name for name, source in (("CT", "ct"), ("MR", "t1_in")) if is_subject(path.resolve(), source)}


def _source_of(folder: Path, subjects: list[Path], layout: str) -> ChaosSource:
    named = [source for source in _LAYOUTS if layout == f"chaos:{source}"]
    if named:
        return named[0]
    kinds = {kind for path in subjects for kind in _modalities(path)}
    cure = "Name one of its folders, Train_Sets/MR or Train_Sets/CT."
    require(len(kinds) == 1, str(folder), "of one modality", "MR and CT", cure, error=DataError, file=folder)
    if kinds == {"CT"}:
        return "ct"
    bare = [str(path) for path in subjects if not (path / "T1DUAL").is_dir()]
    wanted, got = "of subjects that all have T1DUAL", f"none in {cut_list(bare)}"
    cure = 'Copy the missing folders, or read T2 of all subjects with layout="chaos:t2".'
    good, file = len(bare) in {0, len(subjects)}, bare[0] if bare else folder
    require(good, str(folder), wanted, got, cure, error=DataError, file=file)
    return "t2" if bare else "t1_in"


def _chaos_scan(path: Path, source: ChaosSource) -> Scan:
    name = path.resolve().name
    reader = partial(read_chaos_subject, path, source, name)
    return Scan(name, path, reader, is_labelled=bool(find_masks(path, source)))


def find_png(folder: Path, how: Reading) -> Found | None:
    """Find the subjects in the PNG folders of the paper's code, ``Img`` and ``GT``, in parts or not; None without them.

    ``dataset.json`` beside the parts may hold ``"spacing_mm"`` ([z, y, x]), ``"grey_levels"`` and ``"labels"``.
    """
    parts = {part: path for part, path in part_folders(folder).items() if (path / "Img").is_dir()}
    parts = parts or ({"": folder} if (folder / "Img").is_dir() else {})
    if not parts:
        return None
    path = folder / "dataset.json"
    fields = dataset_fields(folder)
    levels, spacing = _grey_levels(fields, path, how.labels), known_spacing(how.spacing_mm, folder)
    labels = labels_in(fields, path) or (CHAOS_MR_LABELS if levels == dict(PNG_GREY_LEVELS) else None)
    founds = {}
    for part, place in parts.items():
        scans = tuple(
            Scan(
                name,
                place,
                partial(read_png_subject, name, images, masks, spacing, levels),
                bool(masks),
                slices=(*images, *masks),
            )
            for name, (images, masks) in find_png_slices(place).items()
        )
        founds[part] = Found("png", scans, labels)
    bare = [
        str(parts[part])
        for part, found in founds.items()
        if not any(scan.is_labelled for scan in found.scans)
    ]
    if 0 < len(bare) < len(parts) and bare != [str(parts.get("test"))]:
        message = f"There are no masks (GT) in {cut_list(bare)}: its scans are only predicted."
        warnings.warn(message, UserWarning, stacklevel=2)
    return merged(founds)


def _grey_levels(fields: Mapping[str, object], path: Path, organs: LabelSpec | None) -> dict[int, int]:
    """Return the class of each grey level; where organs are named by others than the classes, levels are values."""
    if organs is not None and "grey_levels" not in fields:
        others = set(organs.names) - set(PNG_GREY_LEVELS.values())
        if others:
            return {level: level for level in range(_WHITE + 1)}
    given = fields.get("grey_levels", {str(grey): label for grey, label in PNG_GREY_LEVELS.items()})
    pairs = list(given.items()) if isinstance(given, dict) else [("", given)]
    good = all(str(number).isdecimal() for pair in pairs for number in pair)
    good = good and all(int(grey) <= HIGHEST_LABEL and int(str(label)) <= _WHITE for grey, label in pairs)
    wanted = 'a mapping from grey level to label, from 0 to 255, such as {"0": 0, "255": 1}'
    require(good, f"grey_levels of {path}", wanted, given, error=DataError, file=path)
    return {int(grey): int(str(label)) for grey, label in pairs}
