"""Layouts of whole volumes: pairs by name, DICOM series, Medical Segmentation Decathlon, nnU-Net."""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from guided_attention._checks import cut_list, repeated, require
from guided_attention._geometry import require_same_place
from guided_attention.case import Case, Source, Volume
from guided_attention.data._files import case_from_files, case_id_of, reading
from guided_attention.data._layouts import (
    Found,
    Layout,
    Scan,
    channel_names_in,
    entries_of,
    labels_in,
    merged,
    part_folders,
    read_json,
    with_parts,
)
from guided_attention.data._nifti_stream import open_nifti
from guided_attention.data.dicom import read_dicom_series
from guided_attention.data.nifti import read_nifti_case
from guided_attention.errors import DataError

__all__ = ["IMAGE_WORDS", "LABEL_WORDS", "find_task", "find_volumes"]

IMAGE_WORDS = ("image", "images", "img", "imgs", "scan", "scans", "volume", "volumes", "dicom")
LABEL_WORDS = ("label", "labels", "mask", "masks", "seg", "segmentation", "segmentations", "gt")
_ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_WORDS = re.compile(
    rf"(?:^|(?P<id>.*)[_\-. ])(?P<word>{'|'.join(IMAGE_WORDS + LABEL_WORDS)})$", re.IGNORECASE
)
_CHANNEL = re.compile(r"(?P<id>.+)_(?P<number>\d{4})$")
_DICOM_ENDINGS = (".dcm", ".ima")
_DICOM_MARK = 128
_TRIED = 8


@dataclass(frozen=True)
class _File:
    """A volume on disk: the group and name that pair it, and whether it is a mask."""

    path: Path
    group: str
    name: str
    is_label: bool


@dataclass(frozen=True)
class _Pair:
    """The images of one scan, one a channel, and its mask."""

    group: str
    name: str
    images: tuple[Path, ...]
    label: Path | None


def find_volumes(folder: Path) -> Found | None:
    """Find NIfTI files and DICOM series, with masks by name or without; None where there are none.

    A single file is one scan. Folders called train, val and test are parts; ``cases.json`` names parts as well.
    """
    if folder.is_file() and not _is_nifti(folder):
        return None
    if folder.is_file():
        return _found([_Pair("", case_id_of(folder), (folder,), None)], folder)
    parts = {part: _pairs(_files(path)) for part, path in part_folders(folder).items()}
    parts = {part: pairs for part, pairs in parts.items() if pairs}
    if parts:
        return merged({part: _found(pairs, folder) for part, pairs in parts.items()})
    pairs, listed = _pairs(_files(folder)), folder / "cases.json"
    if not pairs:
        return None
    found = _found(pairs, folder)
    if not listed.is_file():
        return found
    found = with_parts(found, listed)
    readers = _found(pairs, folder, found.channel_names).scans
    scans = zip(readers, found.scans, strict=True)
    return replace(found, scans=tuple(replace(scan, part=other.part) for scan, other in scans))


def find_task(folder: Path) -> Found | None:
    """Find a task of the Medical Segmentation Decathlon or a raw data set of nnU-Net; None where there is none."""
    if not (folder / "imagesTr").is_dir():
        return None
    files = {
        part: [*_plain(folder / f"images{end}"), *_plain(folder / f"labels{end}", is_label=True)]
        for part, end in (("train", "Tr"), ("test", "Ts"))
    }
    path = folder / "dataset.json"
    content = read_json(path) if path.is_file() else {}
    good, kind = isinstance(content, dict), type(content).__name__
    require(good, str(path), "a JSON file with a mapping", f"a {kind}", error=DataError, file=path)
    fields = dict(content) if isinstance(content, dict) else {}
    channels = channel_names_in(fields, path)
    is_nnunet = _has_channels([file for group in files.values() for file in group])
    _check_task(folder, fields, is_nnunet=is_nnunet)
    founds = {
        part: _found(_pairs(group, has_channels=is_nnunet), folder, channels)
        for part, group in files.items()
        if group
    }
    require(bool(founds), str(folder / "imagesTr"), "a folder of NIfTI files", "none", error=DataError)
    layout: Layout = "nnunet" if is_nnunet else "decathlon"
    return replace(merged(founds), layout=layout, labels=labels_in(fields, path), channel_names=channels)


def _plain(folder: Path, *, is_label: bool = False) -> list[_File]:
    paths = [path for path in entries_of(folder) if _is_nifti(path)] if folder.is_dir() else []
    return [_File(path, "", _ENDING.sub("", path.name), is_label) for path in paths]


def _check_task(folder: Path, fields: Mapping[str, object], *, is_nnunet: bool) -> None:
    """Raise where ``dataset.json`` names another file format, or files that are not there."""
    path, ending = folder / "dataset.json", fields.get("file_ending", ".nii.gz")
    good, cure = ending in {".nii", ".nii.gz"}, "Convert the files to NIfTI."
    require(good, f"file_ending of {path}", ".nii.gz or .nii", repr(ending), cure, error=DataError, file=path)
    if is_nnunet:  # lists of its first version leave out the channel
        return
    names: list[str] = []
    for key in ("training", "test"):
        listed = fields.get(key)
        for entry in listed if isinstance(listed, list) else ():
            names += [str(value) for value in (entry.values() if isinstance(entry, dict) else [entry])]
    missing = [name for name in names if not (folder / name).is_file()]
    cure = "Copy the missing files, or correct the list."
    wanted = "a list of files that are there"
    require(not missing, str(path), wanted, cut_list(missing), cure, error=DataError, file=path)


def _files(root: Path) -> list[_File]:
    """Return the volumes in a folder and in the folders below it."""
    if _is_series(root):
        return [replace(_named(root.resolve(), ""), path=root)]
    found = [_named(path, "") for path in entries_of(root) if _is_volume(path)]
    for folder in (path for path in entries_of(root) if path.is_dir() and not _is_series(path)):
        word = folder.name.lower()
        is_of_kind = word in IMAGE_WORDS or word in LABEL_WORDS  # images/ or labels/, not a subject's folder
        inside = [path for path in entries_of(folder) if _is_volume(path)]
        files = [_named(path, "" if is_of_kind else folder.name) for path in inside]
        found += [replace(file, is_label=word in LABEL_WORDS) if is_of_kind else file for file in files]
    return found


def _named(path: Path, group: str) -> _File:
    stem = _ENDING.sub("", path.name)
    match = _WORDS.fullmatch(stem)
    if match is None:
        return _File(path, group, stem, is_label=False)
    return _File(path, group, match["id"] or "", is_label=match["word"].lower() in LABEL_WORDS)


def _is_nifti(path: Path) -> bool:
    return _ENDING.search(path.name) is not None and path.is_file()


def _is_volume(path: Path) -> bool:
    return _is_nifti(path) or _is_series(path)


def _is_series(path: Path) -> bool:
    """Tell a folder of DICOM slices by the endings of its first files, or by the mark that such files begin with."""
    if not path.is_dir():
        return False
    files = [file for file in entries_of(path) if file.is_file()][:_TRIED]
    return any(file.name.lower().endswith(_DICOM_ENDINGS) or _has_mark(file) for file in files)


def _has_mark(path: Path) -> bool:
    with reading(path, "file"), path.open("rb") as file:
        return file.read(_DICOM_MARK + 4)[_DICOM_MARK:] == b"DICM"


def _has_channels(files: Iterable[_File]) -> bool:
    """Return whether images are called as nnU-Net does, ``_0000`` and on, the same number for every scan."""
    names = [(file.group, file.name, file.is_label) for file in files]
    matches = [(group, _CHANNEL.fullmatch(name)) for group, name, is_label in names if not is_label]
    channels: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for group, match in matches:
        if match is None:
            return False
        channels[group, match["id"]].append(int(match["number"]))
    labels = {(group, name) for group, name, is_label in names if is_label}
    whole = {tuple(sorted(numbers)) for numbers in channels.values()}
    fits = labels <= channels.keys()
    return fits and len(whole) == 1 and whole == {tuple(range(len(next(iter(whole)))))}


def _pairs(files: Sequence[_File], *, has_channels: bool | None = None) -> list[_Pair]:
    """Pair images and masks by group and name; what is left over is an error (masks) or a warning (images)."""
    stacked = _has_channels(files) if has_channels is None else has_channels
    images: defaultdict[tuple[str, str], list[_File]] = defaultdict(list)
    labels: dict[tuple[str, str], _File] = {}
    for file in files:
        match = _CHANNEL.fullmatch(file.name) if stacked and not file.is_label else None
        key = (file.group, match["id"] if match else file.name)
        if not file.is_label:
            images[key].append(file)
            _require_single(images[key][0], file, is_single=len(images[key]) == 1 or match is not None)
        _require_single(labels.get(key, file), file, is_single=not file.is_label or key not in labels)
        if file.is_label:
            labels[key] = file
    _join_single_pairs(images, labels)
    _check_left_over(images, labels)
    return [
        _Pair(*key, tuple(file.path for file in found), labels[key].path if key in labels else None)
        for key, found in images.items()
    ]


def _require_single(first: _File, second: _File, *, is_single: bool) -> None:
    got, cure = f"{first.path} and {second.path}", "Give each a name of its own."
    where, wanted = f"name {second.name!r}", "the name of one volume"
    require(is_single, where, wanted, got, cure, error=DataError, file=second.path)


def _join_single_pairs(
    images: Mapping[tuple[str, str], Sequence[_File]], labels: dict[tuple[str, str], _File]
) -> None:
    """Pair the one image and the one mask of a folder, whatever their names are."""
    for group in {group for group, _ in labels if group}:
        inside = [key for key in images if key[0] == group]
        masks = [key for key in labels if key[0] == group]
        if len(inside) == len(masks) == 1:
            labels[inside[0]] = labels.pop(masks[0])


def _check_left_over(
    images: Mapping[tuple[str, str], Sequence[_File]], labels: Mapping[tuple[str, str], _File]
) -> None:
    odd = [str(file.path) for key, file in labels.items() if key not in images]
    wanted = f"masks with an image of the same name, or of that name and _{IMAGE_WORDS[0]}"
    cure = "Add the images, or delete the masks that are left over."
    file = odd[0] if odd else None
    require(not odd, "labels", wanted, f"none for {cut_list(odd)}", cure, error=DataError, file=file)
    bare = [str(files[0].path) for key, files in images.items() if key not in labels]
    if labels and bare:
        message = (
            f"{len(bare)} of {len(images)} images have no mask: {cut_list(bare)}. They are only predicted."
        )
        warnings.warn(message, UserWarning, stacklevel=2)


def _found(pairs: Sequence[_Pair], root: Path, channel_names: tuple[str, ...] = ()) -> Found:
    by_folder = bool(repeated(pair.name for pair in pairs)) or any(not pair.name for pair in pairs)
    in_group = Counter(pair.group for pair in pairs)

    def case_id(pair: _Pair) -> str:
        if not by_folder or not pair.group:
            return pair.name or root.resolve().name
        return pair.group if in_group[pair.group] == 1 else f"{pair.group}_{pair.name}"

    scans = [
        Scan(
            name,
            pair.images[0],
            partial(_read, name, pair, channel_names),
            pair.label is not None,
            beside=(*pair.images[1:], *([pair.label] if pair.label is not None else [])),
        )
        for pair in pairs
        for name in [case_id(pair)]
    ]
    is_dicom = all(path.is_dir() for pair in pairs for path in pair.images)
    return Found("dicom" if is_dicom else "pairs", tuple(scans), None, channel_names)


def _read(case_id: str, pair: _Pair, channel_names: tuple[str, ...]) -> Case:
    first = pair.images[0]
    if len(pair.images) == 1 and first.is_file():
        return read_nifti_case(first, pair.label, case_id=case_id, channel_names=channel_names)
    image = _stacked(pair.images) if len(pair.images) > 1 else read_dicom_series(first)
    label = None if pair.label is None else open_nifti(pair.label, "label")
    mask = None if label is None else Volume(label.labels(), label.affine)
    files = [*pair.images, *([pair.label] if pair.label else [])]
    return case_from_files(case_id, image, mask, channel_names, files)


def _stacked(paths: Sequence[Path]) -> Volume:
    """Read the channels of one scan from a file each; all have to lie on the grid of the first."""
    files = [open_nifti(path, "image") for path in paths]
    first = files[0]
    for file in files:
        wanted = f"of the size of {first.path.name}, {first.shape}, one channel"
        good = file.shape == first.shape and len(file.shape) == 3  # noqa: PLR2004
        require(good, f"size of {file.path}", wanted, file.shape, error=DataError, file=file.path)
        cure = "Resample the channels onto one grid first."
        require_same_place(str(file.path), file.affine, first.affine, first.shape, first.path.name, cure)
    return Volume(np.stack([file.array(np.float32) for file in files]), first.affine, Source(first.path))
