"""CHAOS: abdominal MR and CT as the challenge publishes them, DICOM slices with PNG masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._checks import counted, cut_list, require, require_choice
from guided_attention._files import PathLike
from guided_attention._typing import LabelVolume, SpacingMm
from guided_attention.case import Case, Volume
from guided_attention.data._files import (
    case_from_files,
    files_in,
    keep_ids,
    natural_key,
    numbers_of,
    require_folder,
    require_pairs,
    to_labels,
)
from guided_attention.data.dicom import read_size_in_file_order, read_slices_in_file_order
from guided_attention.data.formats._limits import MAX_BYTES, require_fits
from guided_attention.data.formats._pictures import read_mask_slice
from guided_attention.errors import DataError, MissingFileError
from guided_attention.labels import LabelSpec

__all__ = [
    "CHAOS_CT_LABELS",
    "CHAOS_MR_LABELS",
    "ChaosSource",
    "MaskedScan",
    "channels_of",
    "find_drawn_masks",
    "find_masked_scans",
    "find_masks",
    "is_subject",
    "read_chaos",
    "read_chaos_case",
    "read_chaos_subject",
    "read_drawn_masks",
    "scan_folder",
]

ChaosSource: TypeAlias = Literal["t1_in", "t1_out", "t1_dual", "t2", "ct"]
"""Which scan of a subject: T1 in phase, T1 out of phase, both as two channels, fat-suppressed T2, or CT."""

CHAOS_MR_LABELS = LabelSpec({1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"}, pairs=((2, 3),))
"""The organs of the CHAOS MR masks; left and right kidney are a pair."""

CHAOS_CT_LABELS = LabelSpec({1: "liver"})
"""The organ of the CHAOS CT masks."""

_MR_RANGES = {1: (55, 70), 2: (110, 135), 3: (175, 200), 4: (240, 255)}
_MR_GREYS = {0: 0} | {
    grey: label for label, (low, high) in _MR_RANGES.items() for grey in range(low, high + 1)
}
_CT_GREYS = {0: 0, 1: 1, 255: 1}
_MR_MAP = "0 background, " + ", ".join(
    f"{low}-{high} {CHAOS_MR_LABELS.names[label]}" for label, (low, high) in _MR_RANGES.items()
)
_CT_MAP = "0 background, 1 or 255 liver"

_IMAGES = {
    "t1_in": ("T1DUAL/DICOM_anon/InPhase",),
    "t1_out": ("T1DUAL/DICOM_anon/OutPhase",),
    "t1_dual": ("T1DUAL/DICOM_anon/InPhase", "T1DUAL/DICOM_anon/OutPhase"),
    "t2": ("T2SPIR/DICOM_anon",),
    "ct": ("DICOM_anon",),
}
# Masks of T1 are shared by both phases and called after one of them.
_NAMESAKES = _IMAGES | {"t1_in": _IMAGES["t1_dual"], "t1_out": _IMAGES["t1_dual"]}
_MASKS = {
    "t1_in": "T1DUAL/Ground",
    "t1_out": "T1DUAL/Ground",
    "t1_dual": "T1DUAL/Ground",
    "t2": "T2SPIR/Ground",
}
_PHASE_TOLERANCE_MM = 0.1
_DOWNLOAD = "Download CHAOS from https://chaos.grand-challenge.org and unpack it."
_CHANNELS = {"t1_in": ("in",), "t1_out": ("out",), "t1_dual": ("in", "out"), "t2": ("t2",), "ct": ("ct",)}
"""Names of the channels of each source; those of phantoms are the same."""


def read_chaos(
    folder: PathLike,
    *,
    source: ChaosSource = "t1_in",
    case_ids: Sequence[str] | None = None,
    max_bytes: int = MAX_BYTES,
) -> list[Case]:
    """Read the subjects of a CHAOS release, one case each, ordered by number.

    Args:
        folder: The release, its ``Train_Sets`` or ``Test_Sets``, or the ``MR`` or ``CT`` folder in there.
            Where the release holds both sets, the training set is read.
        source: Which scan: ``"t1_in"``, ``"t1_out"``, ``"t1_dual"`` (two channels: in, out), ``"t2"`` or
            ``"ct"``.
        case_ids: Names of the subjects to read, in the order wanted; all where left out.
        max_bytes: What each scan may take in memory, see `read_dicom_series`.

    Returns:
        Cases with grey values as in the files (CT: Hounsfield units), see `read_chaos_case`.

    Raises:
        MissingFileError: No subjects found; the message lists where they were looked for.
        DataError: A subject is incomplete or damaged, see `read_chaos_case`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     cases = read_chaos(write_phantom_cohort(folder, subjects=2, size=16))
        >>> [case.case_id for case in cases], sorted({int(value) for value in cases[0].labels.flat})
        (['1', '2'], [0, 1, 2, 3, 4])

    References:
        Kavur et al., CHAOS challenge: combined (CT-MR) healthy abdominal organ segmentation, Medical Image
        Analysis 69, 2021. https://chaos.grand-challenge.org
    """
    require_choice("source", source, tuple(_IMAGES))
    subjects = _find_subjects(require_folder("folder", folder, cure=_DOWNLOAD), source)
    kept = keep_ids(list(subjects), case_ids, folder=folder)
    return [read_chaos_case(subjects[name], source=source, max_bytes=max_bytes) for name in kept]


def read_chaos_case(
    folder: PathLike,
    *,
    source: ChaosSource = "t1_in",
    case_id: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> Case:
    """Read one CHAOS subject: its slices, its masks if it has any, and its geometry in millimetres.

    Slices keep the order of their file names, as CHAOS pairs masks with images; the affine's third column says whether
    that order runs to the head or to the feet. MR masks are read by ranges of grey (55-70 liver, 110-135 right kidney,
    175-200 left kidney, 240-255 spleen), see `CHAOS_MR_LABELS`; CT masks are 0 and 1 or 255 (liver).

    Args:
        folder: The subject's folder, e.g. ``Train_Sets/MR/21``, or a CT folder that holds ``DICOM_anon``.
        source: Which scan, see `read_chaos`.
        case_id: Name of the case; that of the folder where left out.
        max_bytes: What each scan may take in memory, see `read_dicom_series`.

    Returns:
        The case, its channels named "in", "out", "t2" or "ct"; labels are None where there is no ``Ground`` folder.

    Raises:
        MissingFileError: A folder of slices is missing or empty.
        DataError: Images and masks do not pair up or differ in size, a mask has a grey value outside the map, or the
            series is damaged, mixed or incomplete.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     cohort = write_phantom_cohort(folder, subjects=1, size=16)
        ...     case = read_chaos_case(cohort / "Train_Sets/MR/1", source="t1_dual")
        >>> case.image.shape[0], case.labels.shape == case.image.shape[1:]
        (2, True)
    """
    require_choice("source", source, tuple(_IMAGES))
    subject = require_folder("folder", folder)
    name = subject.resolve().name if case_id is None else case_id
    return read_chaos_subject(subject, source, name, max_bytes=max_bytes)


def read_chaos_subject(
    subject: Path, source: ChaosSource, name: str, *, max_bytes: int = MAX_BYTES, image_only: bool = False
) -> Case:
    """Read one subject: see `read_chaos_case`."""
    folders = [require_folder("folder", subject / name) for name in _IMAGES[source]]
    masks = [] if image_only else find_masks(subject, source)
    whole = _read_phases(folders, max_bytes)
    labels = (
        _read_masks(masks, files_in(folders[0]), whole.array.shape[1:], source, max_bytes) if masks else None
    )
    mask = None if labels is None else Volume(labels, whole.affine)
    return case_from_files(name, whole, mask, _CHANNELS[source], [*folders, *masks[:1]])


@dataclass(frozen=True)
class MaskedScan:
    """One scan of a subject with masks: the mask files in the order of its slices, and its size."""

    case_id: str
    masks: tuple[Path, ...]
    shape: tuple[int, int, int]
    spacing_mm: SpacingMm


def find_masked_scans(
    folder: PathLike, *, source: ChaosSource, case_ids: Sequence[str] | None, argument: str
) -> list[MaskedScan]:
    """Find the scans with masks of a CHAOS release, or of one subject's folder, from headers and names only.

    `argument` is what messages call the folder.
    """
    require_choice("source", source, tuple(_IMAGES))
    path = require_folder(argument, folder)
    is_single = is_subject(path.resolve(), source)
    subjects = {path.resolve().name: path} if is_single else _find_subjects(path, source, argument)
    kept = keep_ids(list(subjects), case_ids, folder=folder)
    return [_masked_scan(name, subjects[name], source, argument) for name in kept]


def channels_of(source: ChaosSource) -> tuple[str, ...]:
    """Return the names of the channels of a scan."""
    return _CHANNELS[source]


def scan_folder(source: ChaosSource) -> str:
    """Return the folder between a subject's and that of the masks of a scan; none for CT."""
    return _MASKS.get(source, "Ground").rpartition("/")[0]


def find_drawn_masks(folder: Path) -> list[Path]:
    """Return the PNG files of a folder in the order of their names; none where there is no such folder."""
    return files_in(folder, suffix=".png") if any(folder.glob("*.png")) else []


def read_drawn_masks(masks: Sequence[Path], shape: Sequence[int], source: ChaosSource) -> LabelVolume:
    """Read masks that anybody drew as classes: MR by the challenge's ranges of grey, CT as anything above 0."""
    slices = []
    for mask in masks:
        grey = read_mask_slice(mask, MAX_BYTES, size=tuple(shape[1:]), whose="the scan")
        is_ct = source == "ct"
        slices.append(
            (grey > 0).astype(np.uint8) if is_ct else to_labels(grey, _MR_GREYS, mask, shown=_MR_MAP)
        )
    return np.stack(slices)


def _masked_scan(name: str, subject: Path, source: ChaosSource, argument: str) -> MaskedScan:
    shape, spacing_mm = read_size_in_file_order(require_folder(argument, subject / _IMAGES[source][0]))
    masks = find_masks(subject, source)
    where = subject / _MASKS.get(source, "Ground")
    cure = "Only cases whose masks are public can be scored."
    require(bool(masks), f"masks of case {name!r}", f"in {where}", "none", cure, error=DataError, file=where)
    return MaskedScan(name, tuple(masks), shape, spacing_mm)


def _find_subjects(folder: Path, source: str, argument: str = "folder") -> dict[str, Path]:
    modality = "CT" if source == "ct" else "MR"
    require_folder(argument, folder, cure=_DOWNLOAD)
    within = (f"Train_Sets/{modality}", f"Test_Sets/{modality}", modality, ".")
    for candidate in (folder / name for name in within):
        subjects = (
            [path for path in candidate.iterdir() if is_subject(path, source)] if candidate.is_dir() else []
        )
        if subjects:
            return {path.name: path for path in sorted(subjects, key=lambda path: natural_key(path.name))}
    looked_for = ", ".join(str(folder / name / "<id>" / _IMAGES[source][0]) for name in within)
    message = (
        f"`{argument}` must be a CHAOS release for source {source!r}, got none: looked for {looked_for}."
    )
    raise MissingFileError(message, argument=argument, file=folder)


def is_subject(path: Path, source: str) -> bool:
    """Tell subjects from litter by what a subject of this modality holds, this very scan or its sibling."""
    inside = ("DICOM_anon",) if source == "ct" else ("T1DUAL", "T2SPIR")
    return not path.name.startswith((".", "_")) and any((path / name).is_dir() for name in inside)


def find_masks(subject: Path, source: str) -> list[Path]:
    """Return the masks in file order, checked to pair with the images; none where there are none."""
    folder = subject / _MASKS.get(source, "Ground")
    if not folder.is_dir():
        return []
    masks = files_in(folder, suffix=".png")
    namesakes = [files_in(subject / name) for name in _NAMESAKES[source] if (subject / name).is_dir()]
    _check_pairs(files_in(subject / _IMAGES[source][0]), masks, namesakes)
    return masks


def _check_pairs(images: Sequence[Path], masks: Sequence[Path], namesakes: Sequence[Sequence[Path]]) -> None:
    """Pair by name where masks are called like a phase of the scan, else by order; name what is left."""
    cure = "Copy the missing files, or delete those left over."
    stems = {path.stem: path for path in masks}
    for files in namesakes:
        by_stem = {path.stem: path for path in files}
        if stems.keys() & by_stem.keys():
            require_pairs(by_stem, stems, cure=cure)
            _check_counts(images, masks)
            return
    if len(images) != len(masks) and _by_number(images).keys() & _by_number(masks).keys():
        require_pairs(_by_number(images), _by_number(masks), cure=cure)
    _check_counts(images, masks)
    _check_numbers(masks)


def _by_number(files: Sequence[Path]) -> dict[int, Path]:
    """Return files by the first number in their names; none where that tells them not apart."""
    numbered = {numbers[0]: path for path in files if (numbers := numbers_of(path.stem))}
    return numbered if len(numbered) == len(files) else {}


def _check_counts(images: Sequence[Path], masks: Sequence[Path]) -> None:
    where = f"images in {images[0].parent} and masks in {masks[0].parent}"
    got = f"{counted(len(images), 'image')} and {counted(len(masks), 'mask')}"
    require(len(images) == len(masks), where, "equal in number", got, error=DataError, file=masks[0].parent)


def _check_numbers(masks: Sequence[Path]) -> None:
    last = [numbers_of(path.stem)[-1:] for path in masks]
    steps = np.diff([number[0] for number in last if number])
    gaps = [
        f"{masks[i].name} and {masks[i + 1].name}"
        for i in np.flatnonzero(steps != steps.min(initial=1 << 30)).tolist()
    ]
    folder, got, cure = masks[0].parent, f"a gap between {cut_list(gaps)}", "Copy the missing masks."
    require(not gaps, f"masks in {folder}", "numbered without gaps", got, cure, error=DataError, file=folder)


def _read_phases(folders: Sequence[Path], max_bytes: int) -> Volume:
    """Read the phases of a scan as its channels."""
    volumes = [read_slices_in_file_order(path, max_bytes) for path in folders]
    _check_phases(volumes, folders)
    if len(volumes) == 1:
        return replace(volumes[0], array=volumes[0].array[None])
    require_fits(folders[0].parent, 2 * sum(volume.array.nbytes for volume in volumes), max_bytes)
    return replace(volumes[0], array=np.stack([volume.array for volume in volumes]))


def _check_phases(volumes: Sequence[Volume], folders: Sequence[Path]) -> None:
    first = volumes[0]
    for volume, folder in zip(volumes[1:], folders[1:], strict=True):
        wanted, got = first.array.shape, volume.array.shape
        size = f"of the size of {folders[0]}, {wanted}"
        require(wanted == got, f"slices of {folder}", size, got, error=DataError, file=folder)
        close = np.allclose(first.affine, volume.affine, rtol=0, atol=_PHASE_TOLERANCE_MM)
        what, place, cure = f"position of {folder}", f"that of {folders[0]}", "Read the phases one at a time."
        require(close, what, place, "another", cure, error=DataError, file=folder)


def _read_masks(
    masks: Sequence[Path], images: Sequence[Path], shape: Sequence[int], source: str, max_bytes: int
) -> npt.NDArray[np.uint8]:
    greys, shown = (_CT_GREYS, _CT_MAP) if source == "ct" else (_MR_GREYS, _MR_MAP)
    slices = []
    for mask, image in zip(masks, images, strict=True):
        grey = read_mask_slice(mask, max_bytes, size=tuple(shape[1:]), whose=f"its image {image.name}")
        slices.append(to_labels(grey, greys, mask, shown=shown))
    return np.stack(slices)
