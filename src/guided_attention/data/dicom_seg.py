"""DICOM SEG: label volumes written beside the series they belong to, and read from other programs."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from guided_attention._checks import cut_list, needs_extra, require, require_path, require_type
from guided_attention._files import PathLike, replacing
from guided_attention._geometry import LPS_RAS, checked_affine
from guided_attention._typing import Affine
from guided_attention.case import Volume, as_array, on_grid_of
from guided_attention.data._dicom_codes import coded
from guided_attention.data._dicom_files import NoScanError, damage, open_beginning, open_dicom
from guided_attention.data._dicom_frames import Frame
from guided_attention.data._files import broken, reading, require_file
from guided_attention.data._segments import values_of, warn_of_overlap
from guided_attention.data.dicom import read_headers, series_affine
from guided_attention.data.formats._limits import MAX_BYTES, require_fits
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "COPIED",
    "Segments",
    "checked_organs",
    "read_dicom_seg",
    "read_seg_names",
    "require_identifiers",
    "write_dicom_seg",
]

_SHARE_OF_VOXEL = 0.1
_LONGEST = 64
_BYTES = 3
_SEGMENTS = 0x00620002
_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
COPIED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Entries of patient and study that segmentations take from their series, which may lack some."""


@dataclass(frozen=True, eq=False)
class Segments:
    """What a DICOM SEG holds.

    Attributes:
        volume: Labels ``(depth, height, width)`` and their affine. The value of a segment is its number, or that of the
            organs wanted.
        labels: Name and colour of each segment by its value.
    """

    volume: Volume
    labels: LabelSpec


def write_dicom_seg(
    path: PathLike,
    volume: npt.NDArray[Any] | Tensor | Volume,
    folder: PathLike,
    labels: LabelSpec,
    *,
    series: str | int | None = None,
) -> Path:
    """Write a label volume as DICOM SEG on the series that it belongs to; atomically.

    Each organ is a segment with its name, colour and SNOMED CT code; organs without a voxel are left out. The file
    refers to the slices of the series, so that viewers lay it on them, and takes patient and study from them.

    Args:
        path: The file to write, such as ``liver.dcm``, in an existing folder.
        volume: ``(depth, height, width)``, integers, on the grid of ``read_dicom_series(folder, series=series)``; or a
            `Volume`, which is reordered to that grid.
        folder: The folder of the series.
        labels: Values, names and colours.
        series: Which series, where the folder holds more than one: see `read_dicom_series`.

    Returns:
        The path.

    Raises:
        DataError: The volume has another size than the series, holds a value without a name or no organ at all; or
            identifiers that DICOM SEG refers to are blank.
        MissingPackageError: highdicom is not installed.
    """
    with needs_extra("dicom-seg"):
        import highdicom  # noqa: PLC0415
    target = require_path("path", path)
    frames, array, present = checked_organs(volume, folder, labels, series)
    described = [_described(number, labels, value) for number, value in enumerate(present, start=1)]
    sources, order = _sources(frames)
    masks = np.stack([array[order] == value for value in present], axis=-1).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the values that other programs wrote into the series
        made = highdicom.seg.Segmentation(
            sources,
            masks,
            highdicom.seg.SegmentationTypeValues.BINARY,
            described,
            series_instance_uid=highdicom.UID(),
            series_number=100,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="guided-attention",
            manufacturer_model_name="guided-attention",
            software_versions=_version(),
            device_serial_number="0",
            series_description="Segmentation",
        )
        with replacing(target) as draft:
            made.save_as(draft)
    return target


def checked_organs(
    volume: npt.NDArray[Any] | Tensor | Volume,
    folder: PathLike,
    labels: LabelSpec,
    series: str | int | None,
) -> tuple[list[Frame], npt.NDArray[Any], list[int]]:
    """Return the slices of a series, a label volume on its grid, and the values of the organs that it holds."""
    require_type("labels", labels, LabelSpec, "a LabelSpec")
    frames = read_headers(folder, series=series)
    wanted = (len(frames), *frames[0].size)
    if isinstance(volume, Volume):
        grid = Volume(np.broadcast_to(np.uint8(0), wanted), series_affine(frames))
        array = on_grid_of(grid, volume, "volume")
    else:
        array = as_array(volume, "volume")
    what = f"of the size of the series, {wanted}"
    require(array.shape == wanted, "volume", what, array.shape, error=DataError)
    labels.require_known(array, "volume")
    present = [value for value in labels.values if bool((array == value).any())]
    require(bool(present), "volume", "of at least one organ", "background only", error=DataError)
    odd = [name for value in present if not _fits(name := labels.names[value])]
    cure = "Shorten the names, or replace what is odd."
    what = f"of at most {_LONGEST} characters without \\, as DICOM holds them"
    require(not odd, "labels.names", what, cut_list(odd), cure, error=DataError)
    return frames, array, present


def _fits(name: str) -> bool:
    return len(name) <= _LONGEST and "\\" not in name and name.isprintable()


def read_dicom_seg(
    path: PathLike,
    folder: PathLike | None = None,
    *,
    series: str | int | None = None,
    labels: LabelSpec | None = None,
    max_bytes: int = MAX_BYTES,
) -> Segments:
    """Read a DICOM SEG: segments as one label volume, with names and colours.

    Where segments overlap, the later one counts, with a warning.

    Args:
        path: The file.
        folder: The folder of the series that it was made on: the labels then have the size of
            ``read_dicom_series(folder, series=series)``. Without it, they end where the segments end, since files leave
            out empty slices.
        series: Which series, where the folder holds more than one.
        labels: The organs wanted: segments of their names get their values, whatever the case of the letters. With
            `others_are_background`, others are not read; by default they are errors. None takes all segments by number.
        max_bytes: What the labels may take in memory while they are read, judged before they are unpacked.

    Returns:
        The labels and their `LabelSpec`.

    Raises:
        MissingFileError: There is no such file.
        DataError: The file is damaged, no DICOM SEG, or takes more than `max_bytes`; segments hold shares in place of
            masks, lie on another grid than the series, or are of organs that `labels` lacks.
        ArgumentTypeError: `labels` is no LabelSpec.
        MissingPackageError: highdicom is not installed.
    """
    with needs_extra("dicom-seg"):
        import highdicom  # noqa: PLC0415
    file = require_file("path", path, "DICOM SEG")
    with _reading(file):
        seg = highdicom.seg.Segmentation.from_dataset(_opened(file, max_bytes), copy=False)
        fractional = seg.SegmentationType == "FRACTIONAL"
    cure = "Write masks, not shares."
    require(
        not fractional, str(file), "a DICOM SEG of masks", "one of shares", cure, error=DataError, file=file
    )
    with _reading(file):
        own = LabelSpec(_names_of(seg), _colours_of(seg))
    values = values_of(list(own.names.values()), list(own.names), labels, file)
    with _reading(file):
        found, overlap = _volume_of(seg, dict(zip(own.names, values, strict=True)), file, max_bytes)
    warn_of_overlap(file, overlap)
    frames = None if folder is None else read_headers(folder, series=series)
    whole = found if frames is None else _placed(found, frames, file, max_bytes)
    return Segments(whole, own if labels is None else labels)


def _volume_of(
    seg: Any,  # noqa: ANN401 - highdicom leaves it untyped
    values: Mapping[int, int],
    file: Path,
    max_bytes: int,
) -> tuple[Volume, int]:
    """Return segments with their values, those of 0 left out, and how many voxels are in two of them."""
    geometry = seg.get_volume_geometry(allow_missing_positions=True)
    if geometry is None:
        raise broken(file, "DICOM SEG", "its slices are no volume")
    shape = tuple(map(int, geometry.spatial_shape))
    require_fits(file, math.prod(shape) * _BYTES, max_bytes)
    chosen, overlap = [number for number, value in values.items() if value], 0
    array = np.zeros(shape, np.uint8)
    if chosen:
        read = partial(seg.get_volume, segment_numbers=chosen, combine_segments=True)
        apart = _without_overlap(read)
        array = np.asarray((read(skip_overlap_checks=True) if apart is None else apart).array)
        if apart is None:  # of two segments, the one of the higher number was taken
            sizes = [np.count_nonzero(seg.get_volume(segment_numbers=[number]).array) for number in chosen]
            overlap = int(sum(sizes) - np.count_nonzero(array))
    table = np.zeros(max(values) + 1, np.min_scalar_type(max(values.values())))
    table[list(values)] = list(values.values())
    require_fits(file, array.nbytes + array.size * table.itemsize, max_bytes)
    return Volume(table[array], _affine_of(geometry, file)), overlap


def _without_overlap(read: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return the segments in one volume; None where highdicom refuses, which has no error of its own for overlaps."""
    try:
        return read()
    except RuntimeError:  # whatever else it may be, the next try raises it again
        return None


def _affine_of(geometry: Any, file: Path) -> Affine:  # noqa: ANN401
    # highdicom's affine takes (slice, row, column) to LPS; ours takes (column, row, slice) to RAS.
    lps = np.eye(4)
    lps[:3] = np.asarray(geometry.affine, np.float64)[:3][:, [2, 1, 0, 3]]
    return checked_affine(LPS_RAS @ lps, f"affine of {file}", file=file)


def read_seg_names(path: Path) -> LabelSpec:
    """Return names and colours of a DICOM SEG as `read_dicom_seg` does, without what comes after them in the file."""
    with needs_extra("dicom-seg"):
        import highdicom  # noqa: F401, PLC0415
    with _reading(path):
        seg = open_beginning(path, "DICOM SEG", _SEGMENTS)
        return LabelSpec(_names_of(seg), _colours_of(seg))


def _placed(found: Volume, frames: Sequence[Frame], file: Path, max_bytes: int) -> Volume:
    """Put the slices of a segmentation where they lie in the volume of the series."""
    affine = series_affine(frames)
    to_scan = np.linalg.inv(affine) @ found.affine
    depth, *size = found.array.shape
    places = (to_scan @ np.array([[0, 0, index, 1] for index in range(depth)], np.float64).T)[:3].T
    rows = np.round(places[:, 2]).astype(int)
    on_grid = np.allclose(places, np.stack([0 * rows, 0 * rows, rows], axis=1), rtol=0, atol=_SHARE_OF_VOXEL)
    upright = np.allclose(to_scan[:2, :2], np.eye(2), rtol=0, atol=_SHARE_OF_VOXEL / max(size))
    inside = tuple(size) == frames[0].size and rows.min() >= 0 and rows.max() < len(frames)
    good, cure = bool(on_grid and upright and inside), "Name the series that it was made on."
    wanted = f"on the grid of {frames[0].path.parent}"
    require(good, f"segments of {file}", wanted, "another grid", cure, error=DataError, file=file)
    shape = (len(frames), *frames[0].size)
    require_fits(file, math.prod(shape) * found.array.itemsize + found.array.nbytes, max_bytes)
    out = np.zeros(shape, found.array.dtype)
    out[rows] = found.array
    return Volume(out, affine)


def _opened(file: Path, max_bytes: int) -> "Dataset":
    try:
        return open_dicom(file, max_bytes, kind="DICOM SEG")
    except NoScanError as error:
        raise broken(file, "DICOM SEG", str(error)) from error


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    with reading(file, "DICOM SEG", damage()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the values that other programs wrote
        yield


def _segments_of(seg: Any) -> list[Any]:  # noqa: ANN401 - highdicom leaves it untyped
    """Return what describes each segment; label maps describe the background as well, as number 0."""
    return [item for item in seg.SegmentSequence if int(item.SegmentNumber)]


def _names_of(seg: Any) -> dict[int, str]:  # noqa: ANN401
    """Return the name of each segment; of equal ones the later get their number."""
    names: dict[int, str] = {}
    for item in _segments_of(seg):
        name = str(item.SegmentLabel)
        names[int(item.SegmentNumber)] = f"{name} {item.SegmentNumber}" if name in names.values() else name
    return names


def _colours_of(seg: Any) -> dict[int, str]:  # noqa: ANN401
    return {
        int(item.SegmentNumber): _hex_of(item.RecommendedDisplayCIELabValue)
        for item in _segments_of(seg)
        if "RecommendedDisplayCIELabValue" in item
    }


def _described(number: int, labels: LabelSpec, value: int) -> Any:  # noqa: ANN401
    import highdicom  # noqa: PLC0415
    from highdicom.sr.coding import CodedConcept  # noqa: PLC0415

    name = labels.names[value]
    category, kind = coded(name)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="guided-attention",
        family=CodedConcept("123110", "DCM", "Artificial Intelligence"),
        version=_version(),
    )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=CodedConcept(category[0], "SCT", category[1]),
        segmented_property_type=CodedConcept(kind[0], "SCT", kind[1]),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=highdicom.color.CIELabColor.from_string(labels.colours[value]),
    )


def _hex_of(numbers: Any) -> str:  # noqa: ANN401
    import highdicom  # noqa: PLC0415

    red, green, blue = highdicom.color.CIELabColor.from_dicom_value(
        [int(number) for number in numbers]
    ).to_rgb()
    return f"#{red:02x}{green:02x}{blue:02x}"


def require_identifiers(frames: Sequence[Frame]) -> None:
    """Raise where identifiers are blank by which other objects refer to the slices of a series."""
    folder = frames[0].path.parent
    blank = [name for name in _IDENTIFIERS if any(not frame.content.get(name) for frame in frames)]
    wanted, cure = (
        "with the identifiers that segmentations refer to",
        "Write NIfTI for it, or restore the identifiers.",
    )
    got = f"blank {cut_list(blank)}"
    require(not blank, f"series of {folder}", wanted, got, cure, error=DataError, file=folder)


def _sources(frames: Sequence[Frame]) -> tuple[list["Dataset"], list[int]]:
    """Return the files of a series, and which slice of the volume belongs to each of their frames."""
    first = frames[0]
    files = [first.content] if first.index is not None else [frame.content for frame in frames]
    require_identifiers(frames)
    for file in files:
        for name in COPIED:
            if name not in file:
                setattr(file, name, "")
    if first.index is None:
        return files, list(range(len(frames)))
    folder = first.path.parent
    whole = len({frame.path for frame in frames}) == 1 and int(first.content.NumberOfFrames) == len(frames)
    wanted, cure = "one file that holds this scan only", "Write NIfTI for it."
    require(
        whole, f"series of {folder}", wanted, "several scans or files", cure, error=DataError, file=folder
    )
    return files, np.argsort([frame.index or 0 for frame in frames]).tolist()


def _version() -> str:
    return version("guided-attention")
