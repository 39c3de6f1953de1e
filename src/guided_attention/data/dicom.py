"""DICOM: a folder of slices becomes a volume whose affine says where every voxel lies."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from guided_attention._checks import counted, cut_list, require, require_type
from guided_attention._files import PathLike
from guided_attention._geometry import LPS_RAS, checked_affine
from guided_attention._typing import Affine, SpacingMm
from guided_attention.case import Source, Volume, spacing_of
from guided_attention.data._dicom_files import NoScanError, open_dicom
from guided_attention.data._dicom_frames import Frame, read_frames
from guided_attention.data._files import SLICE_ENDINGS, files_in, reading, require_folder
from guided_attention.data.formats._limits import MAX_BYTES, require_fits
from guided_attention.errors import DataError, GeometryWarning, LeftOutWarning

__all__ = [
    "DicomSeries",
    "find_dicom_series",
    "read_dicom_series",
    "read_headers",
    "read_size_in_file_order",
    "read_slices_in_file_order",
    "series_affine",
]

_SAME_PLACE_MM = 1e-3
_STEP_TOLERANCE = 0.1
_BYTES, _BYTES_OF_SLICE = 4, {False: 20, True: 100}
"""What a voxel takes as float32, and while its slice is unpacked and rescaled, by whether it is compressed."""
_MARKS = (
    "EchoNumbers",
    "EffectiveEchoTime",
    "EchoTime",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "AcquisitionNumber",
    "FrameType",
    "ImageType",
    "TriggerTime",
    "DiffusionBValue",
    "ContrastBolusAgent",
    "AcquisitionTime",
)
"""Entries that tell volumes of one series apart: echoes, times, phases, directions."""
_MOST_MARKS = 2
_COMPANIONS = {"license", "licence", "readme", "notice", "changelog", "version", "lockfile", "md5sums"}
"""Files without an ending that lie beside series and are no slices."""


@dataclass(frozen=True)
class DicomSeries:
    """One scan of a folder: what `find_dicom_series` returns.

    Attributes:
        name: What ``read_dicom_series(series=)`` takes: the number of the series, and what tells it from others of that
            number, such as ``"5 EchoTime=2.3"``.
        description: SeriesDescription, empty where there is none.
        modality: Such as ``"CT"`` or ``"MR"``.
        uid: SeriesInstanceUID, empty where there is none.
        slices: How many.
    """

    name: str
    description: str
    modality: str
    uid: str
    slices: int


def read_dicom_series(
    folder: PathLike, *, series: str | int | None = None, max_bytes: int = MAX_BYTES
) -> Volume:
    """Read one DICOM series, the slices of one scan in a folder, as a volume in millimetres.

    Slices are ordered by their position along the slice normal; file names do not matter, and identifiers may be blank.
    The step between slices is ``|last - first| / (slices - 1)`` of ImagePositionPatient, never SliceThickness, which is
    another length; only a single slice takes SpacingBetweenSlices or else SliceThickness. RescaleSlope and
    RescaleIntercept, or the table of the modality, are applied (CT: Hounsfield units). Enhanced files of many frames,
    and files without the 128-byte preamble, are read too. Volumes of one series that lie on each other, such as
    echoes, are told apart by what differs in their headers.

    Args:
        folder: A folder that holds the files. Files that are no DICOM, and DICOM files that are no slices (reports,
            segmentations), are left out with a warning.
        series: Which scan, where the folder holds more than one: name, number, description or identifier, see
            `find_dicom_series`.
        max_bytes: What the volume may take in memory, with the largest file, judged before pixels are unpacked.

    Returns:
        The volume: array ``(depth, height, width)`` float32, affine to RAS millimetres.

    Raises:
        MissingFileError: The folder is missing or empty.
        DataError: A file is damaged, its pixels need a decoder that is not installed, the volume takes more than
            `max_bytes`, there is more than one scan and
            `series` does not choose, sizes or orientations differ, or the slices are not evenly spaced along a line.
        MissingPackageError: pydicom is not installed.

    Warns:
        LeftOutWarning: Files of the folder are no slices.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     cohort = write_phantom_cohort(folder, subjects=1, size=16)
        ...     volume = read_dicom_series(cohort / "Train_Sets/MR/1/T2SPIR/DICOM_anon")
        >>> volume.array.shape[1:]
        (16, 16)
    """
    path = require_folder("folder", folder)
    name, frames = _chosen(_scans(path, max_bytes), series, path)
    return replace(_assemble(_in_order_of_position(frames), max_bytes), source=Source(path, name))


def find_dicom_series(folder: PathLike) -> list[DicomSeries]:
    """Return which scans a folder of DICOM files holds, from their headers.

    Args:
        folder: The folder.

    Returns:
        One record a scan, in the order of their numbers.

    Raises:
        MissingFileError, DataError, MissingPackageError: As `read_dicom_series`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     cohort = write_phantom_cohort(folder, subjects=1, size=16)
        ...     [series.modality for series in find_dicom_series(cohort / "Train_Sets/MR/1/T2SPIR/DICOM_anon")]
        ['MR']
    """
    return [_record(name, frames) for name, frames in _scans(require_folder("folder", folder))]


def read_headers(folder: PathLike, series: str | int | None = None) -> list[Frame]:
    """Return the frames of a scan in the order of its volume, without their pixels."""
    path = require_folder("folder", folder)
    frames = _in_order_of_position(_chosen(_scans(path), series, path)[1])
    _check_steps(frames)
    return frames


def read_slices_in_file_order(folder: Path, max_bytes: int = MAX_BYTES) -> Volume:
    """Read a series whose masks are paired by file name: order kept, and checked to be the order in space.

    The order may run along the normal or against it: the third column of the affine carries the sign.
    """
    return replace(_assemble(_in_file_order(folder, max_bytes), max_bytes), source=Source(folder))


def read_size_in_file_order(folder: Path) -> tuple[tuple[int, int, int], SpacingMm]:
    """Return how many voxels such a series has and how far they are apart, (z, y, x), from its headers only."""
    frames = _in_file_order(folder)
    _check_steps(frames)
    rows, columns = frames[0].size
    return (len(frames), rows, columns), spacing_of(series_affine(frames))


def _in_file_order(folder: Path, max_bytes: int = MAX_BYTES) -> list[Frame]:
    _, frames = _chosen(_scans(folder, max_bytes), None, folder)
    steps = np.diff(_along_normal(frames))
    wrong = np.flatnonzero(np.sign(steps) != np.sign(steps.sum())).tolist()
    names = cut_list([frames[i + 1].name for i in wrong])
    cure = "Masks are paired with images by file name, so names must count along the body: rename the files."
    what, wanted = f"slices of {folder}", "in the same order by name as by position"
    require(not wrong, what, wanted, names, cure, error=DataError, file=folder)
    return frames


def _scans(folder: Path, max_bytes: int = MAX_BYTES) -> list[tuple[str, list[Frame]]]:
    """Return the scans of a folder by name, each with its frames in the order of file names."""
    frames: list[Frame] = []
    left_out: list[str] = []
    for path in files_in(folder):
        try:
            frames += read_frames(path, max_bytes)
        except NoScanError as error:
            what = str(error)
            if what == "no DICOM":
                _require_companion(path)
            left_out.append(f"{path.name} ({what})")
    with reading(folder, "folder"):
        within = sorted(
            {path.parent.name for path in folder.glob("*/*") if path.suffix.lower() in SLICE_ENDINGS}
        )
    left_out += [f"{name}/ (a folder)" for name in within]
    got, cure = f"none, only {cut_list(left_out)}", "Name the folder that holds the slices."
    require(
        bool(frames), f"folder {folder}", "one with slices of a scan", got, cure, error=DataError, file=folder
    )
    if left_out:
        said = counted(len(left_out), "file is no slice and was", "files are no slices and were")
        message = f"In {folder}, {said} left out: {cut_list(left_out)}."
        warnings.warn(message, LeftOutWarning, stacklevel=4)
    series: dict[str, list[Frame]] = {}
    for frame in frames:
        series.setdefault(frame.text("SeriesInstanceUID"), []).append(frame)
    parts = [part for group in series.values() for part in _apart(group)]
    return sorted(_named(parts), key=lambda part: _number(part[1][0]))


def _require_companion(path: Path) -> None:
    """Raise where a file that is no DICOM is called like a slice: it is damaged."""
    ending = path.suffix.lower()
    looks_like_slice = ending in {"", *SLICE_ENDINGS} or ending[1:].isdecimal()
    is_companion = not looks_like_slice or path.name.lower() in _COMPANIONS
    wanted, got = "a whole DICOM file", "one that cannot be read (it has no DICOM marker)"
    cure = "Copy it again, or take it out of the folder if it is no slice."
    require(is_companion, str(path), wanted, got, cure, error=DataError, file=path)


def _apart(group: list[Frame]) -> list[tuple[str, list[Frame]]]:
    """Split frames of one series that lie at the same positions by the fewest entries that tell them apart."""
    if _is_one_volume(group):
        return [("", group)]
    differing = [name for name in _MARKS if len({frame.text(name) for frame in group}) > 1]
    for count in range(1, _MOST_MARKS + 1):
        for names in combinations(differing, count):
            parts: dict[str, list[Frame]] = {}
            for frame in group:
                mark = " ".join(f"{name}={frame.text(name)}" for name in names)
                parts.setdefault(mark, []).append(frame)
            if all(_is_one_volume(part) for part in parts.values()):
                return list(parts.items())
    return [("", group)]  # what is wrong with it is said when it is read


def _is_one_volume(frames: Sequence[Frame]) -> bool:
    places = Counter(tuple(np.round(frame.position / _SAME_PLACE_MM).tolist()) for frame in frames)
    return max(places.values()) == 1


def _named(parts: Sequence[tuple[str, list[Frame]]]) -> list[tuple[str, list[Frame]]]:
    """Give each part a name of its own: number of the series, what tells it apart, and its identifier if need be."""
    names = [
        f"{frames[0].text('SeriesNumber')} {mark}".strip() or frames[0].text("SeriesInstanceUID")
        for mark, frames in parts
    ]
    often = Counter(names)
    return [
        (name if often[name] == 1 else f"{name} {frames[0].text('SeriesInstanceUID')}".strip(), frames)
        for name, (_, frames) in zip(names, parts, strict=True)
    ]


def _number(frame: Frame) -> float:
    text = frame.text("SeriesNumber")
    return float(text) if text.lstrip("-").isdecimal() else np.inf


def _record(name: str, frames: Sequence[Frame]) -> DicomSeries:
    first = frames[0]
    texts = [first.text(tag) for tag in ("SeriesDescription", "Modality", "SeriesInstanceUID")]
    return DicomSeries(name, texts[0], texts[1], texts[2], len(frames))


def _chosen(
    scans: Sequence[tuple[str, list[Frame]]], series: str | int | None, folder: Path
) -> tuple[str, list[Frame]]:
    """Return the scan asked for: its name and its frames, checked to be on one grid."""
    records = [_record(name, frames) for name, frames in scans]
    if series is not None:
        require_type("series", series, (str, int), "the name or number of a series")
        fitting = [i for i, record in enumerate(records) if str(series) in _answers(record)]
    else:
        fitting = list(range(len(scans)))
    listed = cut_list([f"{record.name!r} ({_about(record)})" for record in records])
    cure = "Give `series` one of these names, or each series a folder of its own."
    what = f"folder {folder}" if series is None else "series"
    wanted = "of one DICOM series" if series is None else f"the name of one series of {folder}"
    got = f"{len(fitting)} of them: {listed}" if series is None else f"{series!r} where there are {listed}"
    require(len(fitting) == 1, what, wanted, got, cure, error=DataError, file=folder)
    name, frames = scans[fitting[0]]
    _check_series(frames)
    return name, frames


def _answers(record: DicomSeries) -> Iterable[str]:
    return {record.name, record.name.split(" ")[0], record.description, record.uid} - {""}


def _about(record: DicomSeries) -> str:
    parts = (record.description, record.modality, counted(record.slices, "slice"))
    return ", ".join(part for part in parts if part)


def _check_series(frames: Sequence[Frame]) -> None:
    first = frames[0]
    cure = "Put each series into a folder of its own."
    for frame in frames:
        for name, wanted, value, tolerance in (
            ("Rows", first.size[0], frame.size[0], 0),
            ("Columns", first.size[1], frame.size[1], 0),
            ("PixelSpacing", first.spacing.tolist(), frame.spacing, 1e-4),
            ("ImageOrientationPatient", first.orientation.tolist(), frame.orientation, 1e-3),
        ):
            alike = np.allclose(wanted, value, rtol=0, atol=tolerance)
            what, shown = f"{name} of {frame.path}", f"that of {first.name}, {wanted}"
            require(alike, what, shown, np.asarray(value).tolist(), cure, error=DataError, file=frame.path)
        for name, alike in (
            ("PatientID", frame.text("PatientID") == first.text("PatientID")),
            ("RescaleSlope", bool(frame.text("RescaleSlope")) == bool(first.text("RescaleSlope"))),
        ):
            what, shown, got = f"{name} of {frame.path}", f"as in {first.name}", "another, or none"
            require(alike, what, shown, got, cure, error=DataError, file=frame.path)


def _in_order_of_position(frames: Sequence[Frame]) -> list[Frame]:
    order = np.argsort(_along_normal(frames), kind="stable").tolist()
    return [frames[place] for place in order]


def _along_normal(frames: Sequence[Frame]) -> npt.NDArray[np.float64]:
    heights: npt.NDArray[np.float64] = (
        np.stack([frame.position for frame in frames]) @ frames[0].directions[2]
    )
    return heights


def _assemble(frames: Sequence[Frame], max_bytes: int) -> Volume:
    _check_steps(frames)
    affine = series_affine(frames)
    shape = (len(frames), *frames[0].size)
    for frame in frames:
        frame.require_whole()
    largest = max(frame.path.stat().st_size for frame in frames)
    unpacking = math.prod(shape[1:]) * _BYTES_OF_SLICE[any(frame.is_compressed for frame in frames)]
    needed = math.prod(shape) * _BYTES + unpacking + largest
    require_fits(frames[0].path.parent, needed, max_bytes)
    array = np.empty(shape, np.float32)
    path, content = frames[0].path, open_dicom(frames[0].path, max_bytes)
    for place, frame in enumerate(frames):
        if frame.path != path:
            path, content = frame.path, open_dicom(frame.path, max_bytes)
        array[place] = frame.pixels(content)
    return Volume(array, affine)


def _check_steps(frames: Sequence[Frame]) -> None:
    """Raise unless the slices lie evenly on a line, as far as the decimals of the header can tell."""
    steps = np.abs(np.diff(_along_normal(frames)))
    if not steps.size:
        return
    folder, usual = frames[0].path.parent, float(np.median(steps))
    pairs = [f"{first.name} and {second.name}" for first, second in pairwise(frames)]
    same = [pairs[i] for i in np.flatnonzero(steps < _SAME_PLACE_MM).tolist()]
    cure = "Two series or two echoes in one folder look like this: give each its own."
    what, got = f"slices of {folder}", f"the same for {cut_list(same)}"
    require(not same, what, "at different positions", got, cure, error=DataError, file=folder)
    positions = np.stack([frame.position for frame in frames])
    rounding = max(frame.rounding_mm for frame in frames)
    odd = np.flatnonzero(np.abs(steps - usual) > _STEP_TOLERANCE * usual + 2 * rounding).tolist()
    jumps = [f"{steps[i]:.2f} mm between {pairs[i]}" for i in odd]
    wanted, cure = f"evenly spaced ({usual:.2f} mm apart)", "A slice is missing: copy the series again."
    require(not jumps, what, wanted, cut_list(jumps), cure, error=DataError, file=folder)
    line = positions[0] + np.linspace(0, 1, len(frames))[:, None] * (positions[-1] - positions[0])
    away = np.linalg.norm(positions - line, axis=1)
    limit = _STEP_TOLERANCE * usual + 2 * np.sqrt(3) * rounding
    worst = int(away.argmax())
    wanted, got = f"on one line (within {limit:.2f} mm)", f"{away[worst]:.2f} mm for {frames[worst].name}"
    cure = "The patient or the table moved: resample the scan, or cut it where it jumps."
    require(bool(away[worst] <= limit), what, wanted, got, cure, error=DataError, file=frames[worst].path)


def series_affine(frames: Sequence[Frame]) -> Affine:
    """Return the matrix from voxel index (x, y, z) to RAS millimetres, slices in array order."""
    first, last = frames[0], frames[-1]
    across, down, normal = first.directions
    between_rows, between_columns = first.spacing
    if len(frames) > 1:
        step = (last.position - first.position) / (len(frames) - 1)
    else:
        thickness = first.number("SpacingBetweenSlices", 0) or first.number("SliceThickness", 0)
        if not thickness:
            message = f"{first.path}, a single slice, does not say how thick it is: 1 mm is taken."
            warnings.warn(message, GeometryWarning, stacklevel=3)
        step = normal * (thickness or 1.0)
    lps = np.eye(4)
    lps[:3] = np.stack([across * between_columns, down * between_rows, step, first.position], axis=1)
    return checked_affine(LPS_RAS @ lps, f"affine of {first.path.parent}", file=first.path.parent)
