"""Layouts of whole volumes: pairs by name, DICOM series, Medical Segmentation Decathlon, nnU-Net."""

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from guided_attention._checks import counted, cut_list, repeated, require
from guided_attention._files import PathLike
from guided_attention._typing import SpacingMm
from guided_attention.case import Case, Volume
from guided_attention.data._dicom_kinds import (
    is_dicom_mask,
    is_series,
    masks_among,
    referred_series,
    series_of,
)
from guided_attention.data._dicom_masks import common_spec, open_dicom_mask
from guided_attention.data._files import setting_aside
from guided_attention.data.dicom import read_dicom_series
from guided_attention.data.formats._arrays import holds_mask
from guided_attention.data.formats._case_files import joined_case
from guided_attention.data.formats._limits import MAX_BYTES
from guided_attention.data.formats._slicer import SLICER_ENDING
from guided_attention.data.formats._table import (
    ENDINGS,
    OpenedFile,
    case_id_of,
    has_geometry,
    image_of,
    is_volume_file,
    open_volume,
    stem_of,
)
from guided_attention.data.layouts._pairs import (
    IMAGE_WORDS,
    LABEL_WORDS,
    Pair,
    VolumeFile,
    called_as,
    channels_by_number,
    chosen_by_name,
    found_channels,
    named_file,
    names_of,
    paired,
)
from guided_attention.data.layouts._records import (
    Found,
    Layout,
    Scan,
    about_beside,
    channel_names_in,
    dataset_fields,
    entries_of,
    known_spacing,
    labels_in,
    merged,
    part_folders,
    with_parts,
)
from guided_attention.errors import DataError, LeftOutWarning
from guided_attention.labels import LabelSpec

__all__ = ["Reading", "find_task", "find_volumes", "is_volume", "scans_of", "with_organs"]

_DICOM_MASK_WORDS = re.compile(
    rf"(?:^|(?P<id>.*)[_\-. ])(?:{'|'.join((*LABEL_WORDS, 'rtstruct', 'rtss', 'rt'))})$", re.IGNORECASE
)
_DEPTH = 6


@dataclass(frozen=True)
class Reading:
    """How the files of a scan are read.

    Attributes:
        channels: What names of images end in, where a scan has one file a channel; None finds out, and an empty one
            takes each image for a scan.
        resample: Whether a channel on another grid is interpolated onto that of the first.
        spacing_mm: Spacing of the files that hold none.
        labels: Colours of masks in colours, and values of segments by their names.
        series: Which series of a DICOM folder that holds several.
    """

    channels: tuple[str, ...] | None = None
    resample: bool = False
    spacing_mm: SpacingMm | None = None
    labels: LabelSpec | None = None
    series: str | int | None = None

    def image(self, path: Path, max_bytes: int) -> Volume:
        """Read an image of any format."""
        if path.is_dir():
            return read_dicom_series(path, series=self.series, max_bytes=max_bytes)
        return image_of(self.open(path, "image", max_bytes=max_bytes))

    def mask(self, path: Path, image: Path, max_bytes: int) -> OpenedFile:
        """Open the mask of an image."""
        if is_volume_file(path):
            return self.open(path, "label", max_bytes=max_bytes)
        return open_dicom_mask(path, image, self.series, self.labels, max_bytes)

    def open(self, path: PathLike, argument: str, *, max_bytes: int = MAX_BYTES) -> OpenedFile:
        """Open a file of any format but DICOM."""
        return open_volume(
            path, argument, spacing_mm=self.spacing_mm, organs=self.labels, max_bytes=max_bytes
        )


def find_volumes(folder: Path, how: Reading) -> Found | None:
    """Find NIfTI files and DICOM series, with masks by name or without; None where there are none.

    A single file is one scan. Folders called train, val and test are parts. ``cases.json`` names organs and channels,
    and the parts where no folders are.
    """
    if folder.is_file() and not is_volume_file(folder):
        return None
    if folder.is_file():
        how = _completed(how, [named_file(folder, "")], folder.parent)
        return _found({"": [Pair("", case_id_of(folder), (folder,), None)]}, folder, (), how)
    files = {part: _files(path) for part, path in part_folders(folder).items()}
    files = _without_plain({part: found for part, found in files.items() if found} or {"": _files(folder)})
    every = [file for group in files.values() for file in group]
    if not every:
        return None
    asked, how = how.labels, _completed(how, every, folder)
    organs, said = about_beside(folder)
    if organs is not None and how.labels is not asked:  # the masks name their organs
        how = replace(how, labels=organs)
    chosen = chosen_by_name(how.channels, every, said)
    channels = found_channels(every) if chosen is None else chosen
    pairs = {part: paired(group, channels, is_choice=chosen is not None) for part, group in files.items()}
    names = names_of(channels, every, said, folder / "cases.json")
    found = with_parts(_found(pairs, folder, names, how), folder)
    return replace(found, labels=organs or found.labels, channels=channels or how.channels)


def _without_plain(files: dict[str, list[VolumeFile]]) -> dict[str, list[VolumeFile]]:
    """Leave out pictures and arrays, which hold no geometry, beside volumes that do, with a warning."""
    plain = [file.path for group in files.values() for file in group if not has_geometry(file.path)]
    if not plain or len(plain) == sum(map(len, files.values())):
        return files
    said = counted(len(plain), "file without geometry is", "files without geometry are")
    message = f"Beside volumes, {said} left out: {cut_list(plain, shown=3)}."
    warnings.warn(message, LeftOutWarning, stacklevel=3)
    return {part: [file for file in group if has_geometry(file.path)] for part, group in files.items()}


def _completed(how: Reading, files: Sequence[VolumeFile], folder: Path) -> Reading:
    """Fill in the spacing of files without geometry, and the organs of segmentations that name them."""
    if any(not has_geometry(file.path) for file in files):
        how = replace(how, spacing_mm=known_spacing(how.spacing_mm, folder))
    return with_organs(how, [file.path for file in files if file.is_label])


def with_organs(how: Reading, masks: Sequence[Path]) -> Reading:
    """Fill in the organs of masks that name them."""
    naming = [path for path in masks if path.name.lower().endswith(SLICER_ENDING) or not is_volume_file(path)]
    return replace(how, labels=common_spec(naming)) if naming and how.labels is None else how


def find_task(folder: Path, how: Reading) -> Found | None:
    """Find a task of the Medical Segmentation Decathlon or a raw data set of nnU-Net; None where there is none."""
    if not (folder / "imagesTr").is_dir():
        return None
    path, fields = folder / "dataset.json", dataset_fields(folder)
    ending = str(fields.get("file_ending", "")).lower()
    files = {
        part: [
            *_plain(folder / f"images{end}", ending),
            *_plain(folder / f"labels{end}", ending, is_label=True),
        ]
        for part, end in (("train", "Tr"), ("test", "Ts"))
    }
    every = [file for group in files.values() for file in group]
    numbers = channels_by_number(every)
    _check_task(folder, fields, is_nnunet=bool(numbers))
    how = _completed(how, every, folder)
    said = channel_names_in(fields, path)
    good = not numbers or len(said) in {0, len(numbers)}
    wanted = f"{counted(len(numbers), 'name')}, one a channel"
    what, cure = f"channel_names of {path}", "Correct the names, or add the missing files."
    require(good, what, wanted, list(said), cure, error=DataError, file=path)
    chosen = chosen_by_name(how.channels, every, said)
    channels = numbers if chosen is None else chosen
    pairs = {
        part: paired(group, channels, is_choice=chosen is not None) for part, group in files.items() if group
    }
    require(
        bool(pairs),
        str(folder / "imagesTr"),
        f"a folder of {ending or 'volume'} files",
        "none",
        error=DataError,
        file=folder / "imagesTr",
    )
    layout: Layout = "nnunet" if numbers else "decathlon"
    names = names_of(channels, every, said, path)
    found = replace(_found(pairs, folder, names, how), channels=channels)
    return replace(found, layout=layout, labels=labels_in(fields, path) or how.labels)


def _plain(folder: Path, ending: str, *, is_label: bool = False) -> list[VolumeFile]:
    entries = entries_of(folder) if folder.is_dir() else []
    paths = [path for path in entries if is_volume_file(path) and path.name.lower().endswith(ending)]
    return [VolumeFile(path, "", stem_of(path.name), is_label) for path in paths]


def _check_task(folder: Path, fields: Mapping[str, object], *, is_nnunet: bool) -> None:
    """Raise where ``dataset.json`` names another file format, or files that are not there."""
    path, ending = folder / "dataset.json", fields.get("file_ending", ".nii.gz")
    good, cure, wanted = (
        str(ending).lower() in ENDINGS,
        "Convert the files to NIfTI.",
        f"one of {', '.join(ENDINGS)}",
    )
    require(good, f"file_ending of {path}", wanted, repr(ending), cure, error=DataError, file=path)
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


def _files(root: Path) -> list[VolumeFile]:
    """Return the volumes in a folder and in the folders below it."""
    if is_series(root):
        return _with_masks_among([replace(named_file(root.resolve(), ""), path=root)])
    found = []
    for path in entries_of(root):
        if is_volume(path) or is_dicom_mask(path):
            found += _all_named(path, "")
        elif path.is_dir():
            found += _files_below(path)
    return _with_masks_among(_by_reference(_as_subject(found, root), root))


def _as_subject(files: list[VolumeFile], root: Path) -> list[VolumeFile]:
    """Call the one image and the one mask of a subject's folder as the folder, where the mask is called so."""
    masks, own = [file for file in files if file.is_label], root.resolve().name
    is_one = len(masks) == 1 and len(files) == 2 and not any(file.group for file in files)  # noqa: PLR2004
    is_one = is_one and is_volume_file(masks[0].path) and masks[0].name.lower() in {"", own.lower()}
    return [replace(file, name=own) for file in files] if is_one else files


def _files_below(folder: Path) -> list[VolumeFile]:
    word = folder.name.lower()
    is_of_kind = word in IMAGE_WORDS or word in LABEL_WORDS  # images/ or labels/, not a subject's folder
    group, entries = "" if is_of_kind else folder.name, entries_of(folder)
    inside = [path for path in entries if is_volume(path)]
    if not inside and word not in LABEL_WORDS:
        return _nested(folder, group)
    folders = [path for path in entries if path.is_dir() and path not in inside]
    masks = [path for place in (folder, *folders) for path in entries_of(place) if is_dicom_mask(path)]
    files = [file for path in (*inside, *masks) for file in _all_named(path, group)]
    if is_of_kind:
        return [replace(file, is_label=word in LABEL_WORDS) for file in files]
    if any(file.is_label for file in files):
        return files
    below = [path for place in folders if place.name.lower() in LABEL_WORDS for path in entries_of(place)]
    drawn = [replace(named_file(path, group), is_label=True) for path in below if is_volume_file(path)]
    called = called_as(files, drawn)
    own = [replace(mask, name="") for mask in drawn if mask.name.lower() in {"", group.lower()}]
    return files + (called or own)  # others may be of anything, such as the brain


def _nested(folder: Path, name: str, depth: int = _DEPTH) -> list[VolumeFile]:
    """Return DICOM series and masks any number of folders deep, called as the folders on the way to them."""
    found = []
    for path in entries_of(folder):
        called = f"{name}_{path.name}" if name else path.name
        if is_dicom_mask(path):
            found.append(VolumeFile(path, "", called, is_label=True))
        elif is_series(path):
            found.append(VolumeFile(path, "", called, is_label=False))
        elif path.is_dir() and depth:
            found += _nested(path, called, depth - 1)
    return found


def _by_reference(files: list[VolumeFile], root: Path) -> list[VolumeFile]:
    """Call DICOM masks that have no series of their name as the series that they refer to, else as that beside them."""
    images = [file for file in files if not file.is_label and file.path.is_dir()]
    keys = {file.key for file in images}
    odd = {file for file in files if file.is_label and file.key not in keys and is_dicom_mask(file.path)}
    uids = {image: series_of(image.path) for image in images} if odd else {}
    by_uid, by_folder = defaultdict[str, list[VolumeFile]](list), defaultdict[str, list[VolumeFile]](list)
    for image, uid in uids.items():
        by_uid[uid].append(image)
        by_folder[image.path.relative_to(root).parts[0]].append(image)

    def called(file: VolumeFile) -> VolumeFile:
        if file not in odd:
            return file
        beside = by_folder.get(file.path.relative_to(root).parts[0], [])
        named = referred_series(file.path) - {""}
        meant = [image for image in beside if uids[image] in named]
        known = meant or [image for uid in named for image in by_uid.get(uid, ())] or beside
        nearness = [len(os.path.commonpath([file.path, image.path])) for image in known]
        nearest = max(nearness, default=0)
        best = [image for image, near in zip(known, nearness, strict=True) if near == nearest]
        return replace(file, group=best[0].group, name=best[0].name) if len(best) == 1 else file

    return [called(file) for file in files]


def _with_masks_among(files: list[VolumeFile]) -> list[VolumeFile]:
    """Add the masks that lie among the slices of series without another mask."""
    labelled = {file.key for file in files if file.is_label}
    found = list(files)
    for file in files:
        masks = masks_among(file.path) if file.path.is_dir() and file.key not in labelled else []
        if len(masks) == 1:
            found.append(replace(file, path=masks[0], is_label=True))
        elif masks:
            message = f"{len(masks)} masks lie in {file.path}, so none is read: {cut_list(masks, shown=3)}. Keep one."
            warnings.warn(message, LeftOutWarning, stacklevel=2)
    return found


def _all_named(path: Path, group: str) -> list[VolumeFile]:
    """Return a file as image or mask, and as both where it holds both."""
    if path.is_file() and not is_volume_file(path):  # a DICOM mask
        match = _DICOM_MASK_WORDS.fullmatch(path.stem)
        return [VolumeFile(path, group, (match["id"] or "") if match else path.stem, is_label=True)]
    file = named_file(path, group)
    return [file, replace(file, is_label=True)] if not file.is_label and holds_mask(path) else [file]


def is_volume(path: Path) -> bool:
    return is_volume_file(path) or is_series(path)


def _found(pairs: Mapping[str, Sequence[Pair]], root: Path, names: tuple[str, ...], how: Reading) -> Found:
    """Return the scans of each part."""
    every = [pair for part in pairs.values() for pair in part]
    is_dicom = all(path.is_dir() for pair in every for path in pair.images)
    layout: Layout = "dicom" if is_dicom else "pairs"
    founds = {
        part: Found(layout, scans_of(some, root, names, how), how.labels, names)
        for part, some in pairs.items()
    }
    return merged(founds)


def scans_of(pairs: Sequence[Pair], root: Path, names: tuple[str, ...], how: Reading) -> tuple[Scan, ...]:
    """Return a scan for each pair, called as its files are, or as its folder where names repeat."""
    by_folder = bool(repeated(pair.name for pair in pairs)) or any(not pair.name for pair in pairs)
    in_group = Counter(pair.group for pair in pairs)

    def case_id(pair: Pair) -> str:
        if not by_folder or not pair.group:
            return pair.name or root.resolve().name
        return pair.group if in_group[pair.group] == 1 else f"{pair.group}_{pair.name}"

    return tuple(
        Scan(
            name,
            pair.images[0],
            partial(_read, name, pair, names, how),
            pair.label is not None,
            beside=(*pair.images[1:], *([pair.label] if pair.label is not None else [])),
        )
        for pair in pairs
        for name in [case_id(pair)]
    )


def _read(
    case_id: str,
    pair: Pair,
    names: tuple[str, ...],
    how: Reading,
    *,
    max_bytes: int = MAX_BYTES,
    image_only: bool = False,
) -> Case:
    mask = None if image_only else pair.label
    with setting_aside([] if pair.label is None else [pair.label]):  # it may lie among the slices
        return joined_case(
            case_id,
            pair.images,
            None if mask is None else how.mask(mask, pair.images[0], max_bytes),
            partial(how.image, max_bytes=max_bytes),
            channel_names=names,
            resample_channels=how.resample,
            max_bytes=max_bytes,
        )
