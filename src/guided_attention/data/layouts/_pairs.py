"""Volumes paired by the names of their files: the images of a scan, one a channel, and its mask."""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from guided_attention._checks import counted, cut_list, require
from guided_attention.data._files import natural_key
from guided_attention.data.formats._slicer import SLICER_ENDING
from guided_attention.data.formats._table import stem_of
from guided_attention.errors import DataError

__all__ = [
    "IMAGE_WORDS",
    "LABEL_WORDS",
    "Pair",
    "VolumeFile",
    "called_as",
    "channels_by_number",
    "chosen_by_name",
    "found_channels",
    "named_file",
    "names_of",
    "paired",
]

IMAGE_WORDS = ("image", "images", "img", "imgs", "scan", "scans", "volume", "volumes", "dicom")
LABEL_WORDS = ("label", "labels", "mask", "masks", "seg", "segmentation", "segmentations", "gt")
_WORDS = re.compile(
    rf"(?:^|(?P<id>.*)[_\-. ])(?P<word>{'|'.join(IMAGE_WORDS + LABEL_WORDS)})$", re.IGNORECASE
)
_NUMBERED = re.compile(r"(?P<id>.+)_(?P<channel>\d{4})$")
_FIRST = "0000"
_SEPARATORS = "_-. "
_Key: TypeAlias = tuple[str, str]
"""The group and the name of a scan."""


@dataclass(frozen=True)
class VolumeFile:
    """A volume on disk: the group and name that pair it, and whether it is a mask."""

    path: Path
    group: str
    name: str
    is_label: bool

    @property
    def key(self) -> _Key:
        """What it is paired by."""
        return self.group, self.name


def named_file(path: Path, group: str) -> VolumeFile:
    """Return a file as the image or the mask that the last word of its name says."""
    stem = stem_of(path.name)
    match = _WORDS.fullmatch(stem)
    if match is None:
        return VolumeFile(path, group, stem, is_label=False)
    name = match["id"] or ""
    twice = _WORDS.fullmatch(name) if path.name.lower().endswith(SLICER_ENDING) else None
    if twice is not None and twice["word"].lower() in LABEL_WORDS:  # x_label.seg.nrrd
        name = twice["id"] or ""
    return VolumeFile(path, group, name, is_label=match["word"].lower() in LABEL_WORDS)


def called_as(images: Sequence[VolumeFile], masks: Iterable[VolumeFile]) -> list[VolumeFile]:
    """Return the masks that are called as one of the images, as it without its number, or as several begin."""
    names = {image.name.lower() for image in images}
    exact = names | {match["id"] for name in names if (match := _NUMBERED.fullmatch(name))}
    # What follows the name of a mask in several images is a channel.
    starts = {name[:end] for name in names for end, sign in enumerate(name) if sign in _SEPARATORS and end}
    exact |= starts if len(images) > 1 else set()
    return [mask for mask in masks if mask.name.lower() in exact]


@dataclass(frozen=True)
class Pair:
    """The images of one scan, one a channel, and its mask."""

    group: str
    name: str
    images: tuple[Path, ...]
    label: Path | None


@dataclass
class _Group:
    """The files of some scans by scan and channel."""

    images: defaultdict[_Key, dict[str, Path]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, key: _Key, channel: str, path: Path) -> None:
        other = self.images[key].setdefault(channel, path)
        _require_single(key[1], other, path)


def found_channels(files: Sequence[VolumeFile]) -> tuple[str, ...]:
    """Return what the names of images end in where a scan has one file a channel; nothing where a file is a scan.

    Either nnU-Net's numbers, ``x_0000`` and on, or, for a mask ``x`` without an image ``x``, the words that follow in
    the names of its images, such as ``x_t1`` and ``x_t2``. A scan with more channels than most is an error.
    """
    return channels_by_number(files) or _channels_by_word(files)


def channels_by_number(files: Iterable[VolumeFile]) -> tuple[str, ...]:
    """Return the numbers of nnU-Net's channels; nothing where the numbers belong to the names of the scans."""
    files = list(files)
    labels = {file.key for file in files if file.is_label}
    found = _Group()
    for file in files:
        match = None if file.is_label else _NUMBERED.fullmatch(file.name)
        if match and file.key in labels:
            return ()
        if match:
            found.add((file.group, match["id"]), match["channel"], file.path)
    common = _common({key: own for key, own in found.images.items() if _FIRST in own})
    return tuple(f"{number:04d}" for number in range(int(max(common)) + 1)) if common else ()


def _channels_by_word(files: Sequence[VolumeFile]) -> tuple[str, ...]:
    images = [file for file in files if not file.is_label]
    without_image = {file.key for file in files if file.is_label} - {file.key for file in images}
    found = _Group()
    for file in images:
        ends = [place for place, letter in enumerate(file.name) if letter in _SEPARATORS]
        ways = [(file.name[:end], file.name[end + 1 :]) for end in reversed(ends)] + [("", file.name)]
        known = [(name, word) for name, word in ways if (file.group, name) in without_image and word]
        if known:
            found.add((file.group, known[0][0]), known[0][1].lower(), file.path)
    several = any(len(own) > 1 for own in found.images.values())
    return _common(found.images) if several else ()


def _common(images: Mapping[_Key, Mapping[str, Path]]) -> tuple[str, ...]:
    """Return the channels that most scans have; one that others lack is an error."""
    counts = Counter(tuple(sorted(own, key=natural_key)) for own in images.values())
    common = max(counts, key=lambda channels: (counts[channels], len(channels)), default=())
    for (_, name), own in images.items():
        more = [path for channel, path in own.items() if channel not in common]
        wanted, got = f"the channels of the other scans, {cut_list(common)}", f"also {cut_list(more)}"
        cure = "Delete the file, or name the channels to read (`channels`)."
        file = more[0] if more else None
        require(not more, f"files of case {name!r}", wanted, got, cure, error=DataError, file=file)
    return common


def chosen_by_name(
    chosen: tuple[str, ...] | None, files: Sequence[VolumeFile], said: Sequence[str]
) -> tuple[str, ...] | None:
    """Return the endings of channels that are chosen by the names said of them; any other choice as it is."""
    wanted = [one.lower() for one in chosen or ()]
    is_ending = any(_split(file.name, wanted) for file in files if not file.is_label)
    if not wanted or is_ending or not set(wanted) <= set(map(str.lower, said)):
        return chosen
    endings = found_channels(files)
    by_name = dict(zip(map(str.lower, said), endings, strict=False))
    return tuple(by_name[one] for one in wanted) if len(endings) == len(said) else chosen


def names_of(
    channels: Sequence[str], files: Sequence[VolumeFile], said: Sequence[str], path: Path
) -> tuple[str, ...]:
    """Return the names of channels: as the JSON file at `path` says them, else what the names of their files end in.

    Names that are such endings belong to these files. Others are in the order of the numbers, or in the natural order
    of the endings, whatever order the channels are read in.
    """
    numbers = channels_by_number(files)
    if not said:
        return () if tuple(channels) == numbers else tuple(channels)
    if not channels:  # one file holds all channels, or each numbered file is a scan of its own
        return () if len(numbers) == len(said) > 1 else tuple(said)
    by_ending, endings = {name.lower(): name for name in said}, [channel.lower() for channel in channels]
    if set(endings) <= set(by_ending):
        return tuple(by_ending[ending] for ending in endings)
    default = list(numbers) if set(channels) <= set(numbers) else sorted(endings, key=natural_key)
    if default == [_FIRST]:  # this file may hold several channels
        return tuple(said)
    if len(default) < len(said):  # others are not read
        every = found_channels(files)
        default = list(every) if set(endings) <= set(every) else default
    named = dict(zip(default, said, strict=False))
    odd = [name for one, name in named.items() if name.lower() in default and name.lower() != one]
    wanted = f"one name for each of {cut_list(default)}, in this order"
    cure = "Correct it, write what the names of the files end in, or leave it out."
    good = len(said) == len(default) and not odd
    require(good, f"channel_names of {path}", wanted, list(said), cure, error=DataError, file=path)
    return tuple(named[ending] for ending in endings)


def paired(files: Sequence[VolumeFile], channels: Sequence[str], *, is_choice: bool = False) -> list[Pair]:
    """Join the channels of each scan and its mask by group and name.

    A mask or a channel that is left over or missing is an error, an image without a mask a warning.

    Args:
        files: Images and masks.
        channels: What names of images end in, in the order wanted; empty where each image is a scan.
        is_choice: Whether a scan may have other channels, which are not read.
    """
    found, labels, odd = _Group(), dict[_Key, VolumeFile](), list[VolumeFile]()
    for file in files:
        split = _split(file.name, channels)
        if file.is_label:
            _require_single(file.name, labels.setdefault(file.key, file).path, file.path)
        elif split is not None:
            found.add((file.group, split[0]), split[1], file.path)
        elif tuple(channels) in {(), (_FIRST,)}:
            found.add(file.key, "".join(channels), file.path)
        else:
            odd.append(file)
    for file in odd:
        _require_channel(file, found.images, channels, is_choice=is_choice)
    for (_, name), own in found.images.items():
        _require_all_channels(name, own, channels)
    _join_single_pairs(found.images, labels)
    _check_left_over(found.images, labels)
    order = channels or ("",)
    return [
        Pair(*key, tuple(own[one] for one in order), labels[key].path if key in labels else None)
        for key, own in found.images.items()
    ]


def _split(name: str, channels: Sequence[str]) -> tuple[str, str] | None:
    """Return the name of the scan and the channel; None where the name ends in none."""
    low = name.lower()
    for channel in sorted(channels, key=len, reverse=True):
        if low == channel.lower():
            return "", channel
        if low.endswith(tuple(sign + channel.lower() for sign in _SEPARATORS)):
            return name[: -len(channel) - 1], channel
    return None


def _require_channel(
    file: VolumeFile, images: Mapping[_Key, object], channels: Sequence[str], *, is_choice: bool
) -> None:
    starts = tuple(
        name + sign for group, name in images for sign in _SEPARATORS if group == file.group and name
    )
    known = is_choice and (file.name.startswith(starts) or (file.group, "") in images)
    wanted, cure = f"an image whose name ends in a channel: {cut_list(channels)}", "Rename or delete it."
    cure += " Where each file is a scan of its own, pass channels=()."
    require(known, str(file.path), wanted, file.path.name, cure, error=DataError, file=file.path)


def _require_all_channels(name: str, own: Mapping[str, Path], channels: Sequence[str]) -> None:
    for channel in (one for one in channels if one not in own):
        there, path = next(iter(own.items()))
        place = path.name.lower().rindex(there.lower())
        file = path.with_name(path.name[:place] + channel + path.name[place + len(there) :])
        wanted, got = f"one for each channel, {cut_list(list(channels))}", f"no {file}"
        cure = "Add the file, or leave the case out. Where each file is a scan of its own, pass channels=()."
        require(False, f"files of case {name!r}", wanted, got, cure, error=DataError, file=file)  # noqa: FBT003


def _require_single(name: str, first: Path, second: Path) -> None:
    got, cure = f"{first} and {second}", "Give each a name of its own."
    where, wanted = f"name {name!r}", "the name of one volume"
    require(first == second, where, wanted, got, cure, error=DataError, file=second)


def _join_single_pairs(images: Mapping[_Key, object], labels: dict[_Key, VolumeFile]) -> None:
    """Pair the one image and the one mask of a folder, whatever their names are."""
    in_group: defaultdict[str, list[_Key]] = defaultdict(list)
    for key in images:
        in_group[key[0]].append(key)
    masks = Counter(group for group, _ in labels)
    for key in [key for key in labels if key[0] and masks[key[0]] == len(in_group[key[0]]) == 1]:
        labels[in_group[key[0]][0]] = labels.pop(key)


def _check_left_over(images: Mapping[_Key, Mapping[str, Path]], labels: Mapping[_Key, VolumeFile]) -> None:
    odd = [str(file.path) for key, file in labels.items() if key not in images]
    wanted = f"masks with an image of the same name, or of that name and _{IMAGE_WORDS[0]}"
    cure = "Add the images, rename the masks as theirs, or move the masks away."
    file = odd[0] if odd else None
    require(not odd, "labels", wanted, f"none for {cut_list(odd)}", cure, error=DataError, file=file)
    bare = [str(next(iter(own.values()))) for key, own in images.items() if key not in labels]
    if labels and bare:
        message = (
            f"{counted(len(bare), f'of {len(images)} images has', f'of {len(images)} images have')} no mask: "
            f"{cut_list(bare)}. A scan without one is only predicted."
        )
        warnings.warn(message, UserWarning, stacklevel=2)
