"""DICOM RTSTRUCT: label volumes as contours on the series they belong to, and contours as label volumes."""

import datetime as dt
import math
import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from guided_attention._checks import cut_list, needs_extra, require, require_path
from guided_attention._files import PathLike, replacing
from guided_attention._geometry import LPS_RAS
from guided_attention._typing import Affine
from guided_attention.case import Volume
from guided_attention.data._contours import Contour, fill, outlines
from guided_attention.data._dicom_files import NoScanError, damage, open_beginning, open_dicom
from guided_attention.data._dicom_frames import Frame
from guided_attention.data._files import broken, reading, require_file
from guided_attention.data._segments import painted, values_of, warn_of_overlap
from guided_attention.data.dicom import read_headers, series_affine
from guided_attention.data.dicom_seg import COPIED, Segments, checked_organs, require_identifiers
from guided_attention.data.formats._limits import MAX_BYTES, require_fits
from guided_attention.errors import DataError, LeftOutWarning
from guided_attention.labels import LabelSpec

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_rtstruct", "read_rtstruct_names", "write_rtstruct"]

_ORGANS = 0x30060020
_CLOSED = "CLOSED_PLANAR"
_CHANNELS, _WHITE = 3, 255
_SHARE_OF_STEP = 0.1
_COPIED = (*COPIED, "StudyInstanceUID", "FrameOfReferenceUID")


def write_rtstruct(
    path: PathLike,
    volume: npt.NDArray[Any] | Tensor | Volume,
    folder: PathLike,
    labels: LabelSpec,
    *,
    series: str | int | None = None,
) -> Path:
    """Write a label volume as RTSTRUCT, contours slice by slice, on the series that it belongs to; atomically.

    Contours run through the middles between voxels. Holes are joined to the contour around them by a seam. Organs
    without a voxel are left out.

    Args:
        path: The file to write, in an existing folder.
        volume: ``(depth, height, width)``, integers, on the grid of ``read_dicom_series(folder, series=series)``; or a
            `Volume`, which is reordered to that grid.
        folder: The folder of the series.
        labels: Values, names and colours.
        series: Which series, where the folder holds more than one: see `read_dicom_series`.

    Returns:
        The path.

    Raises:
        DataError: The volume has another size than the series, holds a value without a name or no organ at all; or
            identifiers that the file refers to are blank.
        MissingPackageError: pydicom or contourpy is not installed.
    """
    target = require_path("path", path)
    frames, array, present = checked_organs(volume, folder, labels, series)
    require_identifiers(frames)
    file = _header(frames)
    to_lps = LPS_RAS @ series_affine(frames)
    for number, value in enumerate(present, start=1):
        _add_organ(file, number, labels.names[value], labels.colours[value])
        lines = file.ROIContourSequence[-1].ContourSequence
        for place, frame in enumerate(frames):
            lines += [_line(contour, place, frame, to_lps) for contour in outlines(array[place] == value)]
    with replacing(target) as draft:
        file.save_as(draft, enforce_file_format=True)
    return target


def read_rtstruct(
    path: PathLike,
    folder: PathLike,
    *,
    series: str | int | None = None,
    labels: LabelSpec | None = None,
    max_bytes: int = MAX_BYTES,
) -> Segments:
    """Read the contours of an RTSTRUCT as a label volume on the grid of a series.

    A voxel belongs to an organ if its middle lies inside an odd number of the organ's contours of that slice.

    Args:
        path: The file.
        folder: The folder of the series that it was made on.
        series: Which series, where the folder holds more than one.
        labels: The organs wanted: those of their names get their values, whatever the case of the letters. With
            `others_are_background`, others are not read; by default they are errors. None takes all organs, numbered.
        max_bytes: What the labels may take in memory, judged before they are made.

    Returns:
        Labels with the number of the organ as value, or that of `labels`, and names and colours. Organs without a
        contour are left out; where organs overlap, such as BODY and what lies in it, the later one counts, with a
        warning.

    Raises:
        MissingFileError: There is no such file.
        DataError: The file is damaged, no RTSTRUCT, or takes more than `max_bytes`; it belongs to another
            series, holds no contour or organs that `labels` lacks, or a contour lies across slices or between them.
        ArgumentTypeError: `labels` is no LabelSpec.
        MissingPackageError: pydicom is not installed.
    """
    file, frames = require_file("path", path, "RTSTRUCT"), read_headers(folder, series=series)
    content = _read(file, max_bytes)
    affine = series_affine(frames)
    to_voxels = np.linalg.inv(LPS_RAS @ affine).astype(np.float64)
    with reading(file, "RTSTRUCT", damage()):
        frame_uids = {str(item.ReferencedFrameOfReferenceUID) for item in content.StructureSetROISequence}
        names = _names_of(content)
        organs = [item for item in content.ROIContourSequence if item.get("ContourSequence")]
    here = frames[0].text("FrameOfReferenceUID")
    good, cure = not here or here in frame_uids, "Name the series that it was made on."
    wanted = f"on the frame of reference of {frames[0].path.parent}"
    require(good, str(file), wanted, cut_list(sorted(frame_uids)), cure, error=DataError, file=file)
    require(bool(organs), str(file), "with at least one contour", "none", error=DataError, file=file)
    with reading(file, "RTSTRUCT", damage()):
        own = _spec_of(organs, names)
    values = values_of(list(own.names.values()), list(own.names), labels, file)
    shape, dtype = (len(frames), *frames[0].size), np.min_scalar_type(max(values))
    require_fits(file, math.prod(shape) * dtype.itemsize, max_bytes)
    array, overlap = np.zeros(shape, dtype), 0
    for value, organ in zip(values, organs, strict=True):
        if value:  # one that is not wanted must not cover one that is
            for place, lines in _by_slice(file, organ, to_voxels, shape).items():
                overlap += painted(array[place], fill(lines, frames[0].size), value)
    warn_of_overlap(file, overlap)
    return Segments(Volume(array, affine), own if labels is None else labels)


def _spec_of(organs: Sequence["Dataset"], names: Mapping[int, str]) -> LabelSpec:
    """Return names and colours of the organs with contours, numbered from 1."""
    numbered = list(enumerate(organs, start=1))
    found = {value: names.get(int(organ.ReferencedROINumber), "") for value, organ in numbered}
    colours = {value: colour for value, organ in numbered if (colour := _hex(organ)) is not None}
    return LabelSpec(_different(found), colours)


def read_rtstruct_names(path: Path, known: Collection[str] = ()) -> LabelSpec:
    """Return the names of the organs, with or without contours, by their numbers.

    Colours stand among the contours: they are read only where a name is not `known`.
    """
    with reading(path, "RTSTRUCT", damage()):
        content = open_beginning(path, "RTSTRUCT", _ORGANS)
        names = _names_of(content)
        if set(names.values()) <= set(known):
            return LabelSpec(names)
        whole = _read(path, MAX_BYTES)
        colours = {
            number: colour
            for organ in whole.get("ROIContourSequence") or ()
            if (number := int(organ.ReferencedROINumber)) in names and (colour := _hex(organ)) is not None
        }
    return LabelSpec(names, colours)


def _names_of(content: "Dataset") -> dict[int, str]:
    items = content.StructureSetROISequence
    return _different({int(item.ROINumber): str(item.ROIName) for item in items})


def _read(file: Path, max_bytes: int) -> "Dataset":
    with needs_extra("dicom"):
        from pydicom.uid import RTStructureSetStorage  # noqa: PLC0415
    try:
        content = open_dicom(file, max_bytes, kind="RTSTRUCT")
    except NoScanError as error:
        raise broken(file, "RTSTRUCT", str(error)) from error
    with reading(file, "RTSTRUCT", damage()):
        kind = content.get("SOPClassUID")
    got = getattr(kind, "name", "another file")
    require(kind == RTStructureSetStorage, str(file), "an RTSTRUCT", got, error=DataError, file=file)
    return content


def _by_slice(
    file: Path, organ: "Dataset", to_voxels: Affine, size: tuple[int, int, int]
) -> dict[int, list[Contour]]:
    """Return the contours of an organ by slice, in voxels."""
    found: defaultdict[int, list[Contour]] = defaultdict(list)
    left_out = 0
    for line in organ.ContourSequence:
        with reading(file, "RTSTRUCT", damage()):
            kind = str(line.ContourGeometricType)
            points = np.asarray(line.ContourData, np.float64).reshape(-1, 3)
        if kind != _CLOSED:  # points mark places, not organs
            left_out += 1
            continue
        if not np.isfinite(points).all():
            raise broken(file, "RTSTRUCT", "a contour has points that are not finite")
        voxels = points @ to_voxels[:3, :3].T + to_voxels[:3, 3]
        place = round(float(voxels[:, 2].mean()))
        flat = bool(np.abs(voxels[:, 2] - place).max() <= _SHARE_OF_STEP)
        wanted, cure = "of contours on the slices of the series", "Name the series that it was made on."
        got = f"one at slice {voxels[:, 2].min():.2f} to {voxels[:, 2].max():.2f}"
        require(flat and 0 <= place < size[0], str(file), wanted, got, cure, error=DataError, file=file)
        low, high = voxels[:, :2].min(axis=0), voxels[:, :2].max(axis=0)
        within, got = (
            bool((high >= 0).all() and (low < size[:0:-1]).all()),
            f"one beside them, in slice {place}",
        )
        require(within, str(file), wanted, got, cure, error=DataError, file=file)
        found[place].append(voxels[:, :2])
    if left_out:
        message = f"{left_out} contours of {file} are not closed, such as points, and were left out."
        warnings.warn(message, LeftOutWarning, stacklevel=3)
    return found


def _different(names: dict[int, str]) -> dict[int, str]:
    """Return names of which no two are equal or empty."""
    used: dict[int, str] = {}
    for value, name in names.items():
        used[value] = name if name and name not in used.values() else f"{name} {value}".strip()
    return used


def _hex(organ: "Dataset") -> str | None:
    """Return the colour of an organ, None where there is none or it is no colour."""
    parts = [int(part) for part in organ.get("ROIDisplayColor") or ()]
    good = len(parts) == _CHANNELS and all(0 <= part <= _WHITE for part in parts)
    return "#" + "".join(f"{part:02x}" for part in parts) if good else None


def _header(frames: Sequence[Frame]) -> "Dataset":
    """Return an RTSTRUCT without organs that refers to the slices of a series."""
    from pydicom import Dataset  # noqa: PLC0415
    from pydicom.dataset import FileMetaDataset  # noqa: PLC0415
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid  # noqa: PLC0415

    first, file, now = frames[0].content, Dataset(), dt.datetime.now(tz=dt.UTC)
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.SeriesInstanceUID, file.Modality, file.SeriesNumber = generate_uid(), "RTSTRUCT", 101
    for name in _COPIED:
        setattr(file, name, first.get(name, ""))
    file.Manufacturer, file.StructureSetLabel = "guided-attention", "Segmentation"
    file.StructureSetDate, file.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    file.ApprovalStatus = "UNAPPROVED"
    reference, study, inside = Dataset(), Dataset(), Dataset()
    inside.SeriesInstanceUID = first.SeriesInstanceUID
    inside.ContourImageSequence = [_slice_of(frame) for frame in frames]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = (
        "1.2.840.10008.3.1.2.3.1",
        first.StudyInstanceUID,
    )
    study.RTReferencedSeriesSequence = [inside]
    reference.FrameOfReferenceUID, reference.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    file.ReferencedFrameOfReferenceSequence = [reference]
    file.StructureSetROISequence, file.ROIContourSequence, file.RTROIObservationsSequence = [], [], []
    return file


def _slice_of(frame: Frame) -> "Dataset":
    from pydicom import Dataset  # noqa: PLC0415

    item = Dataset()
    item.ReferencedSOPClassUID = frame.content.SOPClassUID
    item.ReferencedSOPInstanceUID = frame.content.SOPInstanceUID
    if frame.index is not None:
        item.ReferencedFrameNumber = frame.index + 1
    return item


def _add_organ(file: "Dataset", number: int, name: str, colour: str) -> None:
    from pydicom import Dataset  # noqa: PLC0415

    organ, lines, about = Dataset(), Dataset(), Dataset()
    organ.ROINumber, organ.ROIName, organ.ROIGenerationAlgorithm = number, name, "AUTOMATIC"
    organ.ReferencedFrameOfReferenceUID = file.FrameOfReferenceUID
    lines.ReferencedROINumber, lines.ContourSequence = number, []
    lines.ROIDisplayColor = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    about.ObservationNumber = about.ReferencedROINumber = number
    about.RTROIInterpretedType, about.ROIInterpreter = "ORGAN", ""
    file.StructureSetROISequence.append(organ)
    file.ROIContourSequence.append(lines)
    file.RTROIObservationsSequence.append(about)


def _line(contour: Contour, place: int, frame: Frame, to_lps: Affine) -> "Dataset":
    from pydicom import Dataset  # noqa: PLC0415

    voxels = np.column_stack([contour, np.full(len(contour), place), np.ones(len(contour))])
    points = (voxels @ to_lps.T)[:, :3]
    line = Dataset()
    line.ContourImageSequence, line.ContourGeometricType = [_slice_of(frame)], _CLOSED
    line.NumberOfContourPoints = len(points)
    line.ContourData = [f"{value:.10g}"[:16] for value in points.ravel()]
    return line
