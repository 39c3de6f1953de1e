"""Layout of one file a structure: a folder for each subject, with the image and a folder of binary masks."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from guided_attention._checks import counted, cut_list, require
from guided_attention._sides import left_right_pairs
from guided_attention.case import Case, Volume, on_grid_of
from guided_attention.data._files import case_from_files, natural_key
from guided_attention.data._segments import plain_name
from guided_attention.data.formats._case_files import Opener
from guided_attention.data.formats._limits import MAX_BYTES
from guided_attention.data.formats._table import has_geometry, image_of, is_volume_file, stem_of
from guided_attention.data.layouts._pairs import LABEL_WORDS, called_as, named_file
from guided_attention.data.layouts._records import (
    Found,
    Scan,
    about_beside,
    entries_of,
    known_spacing,
    merged,
    part_folders,
    with_parts,
)
from guided_attention.data.layouts._volumes import Reading
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec

__all__ = ["find_structures"]

_AXES = 3


@dataclass(frozen=True)
class _Subject:
    """A subject's images, of which there should be one, and its masks by the name of the structure.

    `is_pair` tells whether the masks are called as scans.
    """

    folder: Path
    images: Sequence[Path]
    masks: Mapping[str, Path]
    is_pair: bool

    @property
    def image(self) -> Path:
        """The image."""
        return self.images[0]


def find_structures(folder: Path, how: Reading) -> Found | None:
    """Find subjects with one mask file a structure, as TotalSegmentator writes them; None where there are none.

    Structures are chosen by the names of `how.labels`, or of ``cases.json``; otherwise all are taken in alphabetical
    order, from 1.
    """
    places = part_folders(folder) or {"": folder}
    subjects = _by_part(places)
    every = [subject for some in subjects.values() for subject in some]
    if not every:
        return None
    files = [path for subject in every for path in (subject.image, *subject.masks.values())]
    if not all(map(has_geometry, files)):
        how = replace(how, spacing_mm=known_spacing(how.spacing_mm, folder))
    names = {name for subject in every for name in subject.masks}
    organs, channels = about_beside(folder)
    wanted = organs if how.labels is None else how.labels
    labels = _all(names) if wanted is None else wanted
    known = _as_files(labels, names, folder)
    if set(known.values()) < names:  # the other structures are not read
        labels = replace(labels, others_are_background=True)
    _warn_of_absent(every, known)
    founds = {
        part: Found(
            "structures", tuple(_scan(subject, known, channels, how) for subject in some), labels, channels
        )
        for part, some in subjects.items()
    }
    return with_parts(merged(founds), folder)


def _by_part(places: Mapping[str, Path]) -> dict[str, list[_Subject]]:
    """Return the subjects of each part; none where the masks of all are called as scans and belong to pairs by name."""
    found = {part: _candidates(place) for part, place in places.items()}
    every = [subject for some in found.values() for subject in some]
    names = {name for subject in every for name in subject.masks if not subject.is_pair}

    def is_one(subject: _Subject) -> bool:
        # The name of a structure of others is one, whatever the subject is called.
        return not subject.is_pair or not names.isdisjoint(subject.masks)

    kept = [subject for subject in every if is_one(subject)]
    odd = [subject for subject in every if not is_one(subject)]
    for subject in kept:
        got = f"{' and '.join(map(str, subject.images[:2]))} with masks {cut_list(list(subject.masks), shown=3)}"
        wanted = "one image beside its folder of masks, or masks that are called as their images"
        cure, good = 'Keep one image, rename the masks, or pass layout="pairs".', len(subject.images) == 1
        file = subject.images[-1]
        require(good, str(subject.folder), wanted, got, cure, error=DataError, file=file)
    if kept and odd:
        pair, other = (next(iter(some[0].masks.values())) for some in (odd, kept))
        wanted = "all called as their scans, or all as structures"
        got, cure = f"{pair} and the structure {other}", "Rename one like the others."
        require(not odd, "masks of subjects", wanted, got, cure, error=DataError, file=pair)
    return {part: [subject for subject in some if is_one(subject)] for part, some in found.items()}


def _candidates(folder: Path) -> list[_Subject]:
    places = [folder, *(path for path in entries_of(folder) if path.is_dir())]
    found = [subject for path in places if (subject := _subject(path)) is not None]
    return found[:1] if found and found[0].folder == folder and not found[0].is_pair else found


def _subject(folder: Path) -> _Subject | None:
    """Return the subject of a folder: images, and a folder of masks."""
    entries = entries_of(folder)
    images = [path for path in entries if is_volume_file(path)]
    within = [path for path in entries if path.is_dir() and path.name.lower() in LABEL_WORDS]
    masks = [path for place in within for path in entries_of(place) if is_volume_file(path)]
    if len(within) != 1 or not masks or not images:
        return None
    is_pair, named = _are_pairs(folder, images, masks), dict[str, Path]()
    for path in masks:
        other = named.setdefault(plain_name(stem_of(path.name)), path)
        got, where, good = f"{other} and {path}", f"masks of {within[0]}", is_pair or other is path
        require(good, where, "one file a structure", got, "Keep one.", error=DataError, file=path)
    return _Subject(folder, images, named, is_pair)


def _are_pairs(folder: Path, images: Sequence[Path], masks: Sequence[Path]) -> bool:
    """Return whether masks are called as scans, or as their folder."""
    named, own = [named_file(path, "") for path in images], {"", folder.resolve().name.lower()}
    found = [named_file(path, "") for path in masks]
    is_own = {mask.name.lower() for mask in found} <= own
    return is_own or bool(called_as(named, found))


def _all(names: set[str]) -> LabelSpec:
    values = dict(enumerate(sorted(names, key=natural_key), start=1))
    return LabelSpec(values, pairs=left_right_pairs(values))


def _as_files(labels: LabelSpec, names: set[str], folder: Path) -> dict[int, str]:
    """Return the name of the file of each value: spaces and underscores, upper and lower case count as equal."""
    by_plain = {plain_name(name): name for name in names}
    odd = [name for name in labels.names.values() if plain_name(name) not in by_plain]
    wanted = f"names of structures of {folder}, such as {cut_list(sorted(names))}"
    cure = "Name them as their files are called, without the ending."
    require(not odd, "labels", wanted, cut_list(odd), cure, error=DataError, file=folder)
    return {value: by_plain[plain_name(name)] for value, name in labels.names.items()}


def _warn_of_absent(subjects: Sequence[_Subject], known: Mapping[int, str]) -> None:
    """Warn of subjects without a file for a structure: their voxels of it are read as background."""
    absent = {
        name: [subject.folder.name for subject in subjects if subject.masks and name not in subject.masks]
        for name in known.values()
    }
    listed = [f"{name} in {cut_list(folders, shown=3)}" for name, folders in absent.items() if folders]
    if listed:
        message = (
            f"No file of {cut_list(listed)}: these structures are read as absent there. "
            "If they were only not segmented, leave the subjects out."
        )
        warnings.warn(message, UserWarning, stacklevel=2)


def _scan(subject: _Subject, known: Mapping[int, str], channels: tuple[str, ...], how: Reading) -> Scan:
    masks = {value: subject.masks[name] for value, name in known.items() if name in subject.masks}
    name = subject.folder.resolve().name
    reader = partial(_read, name, subject.image, masks, channels, how)
    return Scan(name, subject.image, reader, is_labelled=bool(masks), beside=tuple(masks.values()))


def _read(
    case_id: str,
    image: Path,
    masks: Mapping[int, Path],
    channels: tuple[str, ...],
    how: Reading,
    *,
    max_bytes: int = MAX_BYTES,
    image_only: bool = False,
) -> Case:
    opener = partial(how.open, max_bytes=max_bytes)
    volume = image_of(opener(image, "image"))
    labels = _merged_masks(masks, volume, opener) if masks and not image_only else None
    return case_from_files(case_id, volume, labels, channels, [image])


def _merged_masks(masks: Mapping[int, Path], image: Volume, opener: Opener) -> Volume:
    """Join binary masks, one in memory at a time; where two overlap, the higher value wins, with a warning."""
    size = image.array.shape[-_AXES:]
    labels = np.zeros(size, np.min_scalar_type(max(masks)))
    for value, path in sorted(masks.items()):
        mask = _read_mask(path, image, opener)
        covered = labels[mask]
        for other in np.unique(covered[covered > 0]).tolist():
            count = int(np.count_nonzero(covered == other))
            message = f"{masks[other]} and {path} overlap in {counted(count, 'voxel')}, read as the latter."
            warnings.warn(message, UserWarning, stacklevel=2)
        labels[mask] = value
    return Volume(labels, image.affine)


def _read_mask(path: Path, image: Volume, opener: Opener) -> npt.NDArray[np.bool_]:
    file = opener(path, "label")
    found = file.labels()
    values = np.unique(found[found > 0]).tolist()
    good, wanted = len(values) <= 1, "a binary mask, of 0 and one other value"
    cure = "Split it into one file a structure, or give it a name that pairs it with its image."
    require(good, f"values of {path}", wanted, cut_list([0, *values]), cure, error=DataError, file=path)
    try:
        return on_grid_of(image, Volume(found > 0, file.affine), f"mask {path}")
    except DataError as error:
        raise DataError(str(error), argument=error.argument, file=path) from error
