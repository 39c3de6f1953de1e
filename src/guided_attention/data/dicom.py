"""DICOM: a folder of slices becomes a volume whose affine says where every voxel lies."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import cut_list, needs_extra, require
from guided_attention._files import PathLike
from guided_attention._geometry import checked_affine
from guided_attention._typing import Affine, SpacingMm
from guided_attention.case import Volume, spacing_of
from guided_attention.data._files import DAMAGE, files_in, reading, require_folder
from guided_attention.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_dicom_series", "read_size_in_file_order", "read_slices_in_file_order"]

# DICOM's patient frame is LPS (left, posterior, superior), NIfTI's is RAS.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_PLACE_MM = 1e-3
_STEP_TOLERANCE = 0.1
_UNIT = 0.01
"""How far directions may be from unit length and from right angles to each other."""
_GEOMETRY = {
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "Rows": 1,
    "Columns": 1,
}
# What pydicom raises over damaged files, beside what any reader does and an error of its own.
_DICOM_DAMAGE = (*DAMAGE, AttributeError, KeyError, IndexError, RuntimeError, TypeError, struct.error)


def read_dicom_series(folder: PathLike) -> Volume:
    """Read one DICOM series, the slices of one scan in a folder, as a volume in millimetres.

    Slices are ordered by their position along the slice normal; file names do not matter, and identifiers may be blank.
    The step between slices is ``|last - first| / (slices - 1)`` of ImagePositionPatient, never SliceThickness, which is
    another length; only a single slice takes SpacingBetweenSlices or else SliceThickness. RescaleSlope and
    RescaleIntercept are applied (CT: Hounsfield units).

    Args:
        folder: A folder that holds the files of one series and nothing else.

    Returns:
        The volume: array ``(depth, height, width)`` float32, affine to RAS millimetres.

    Raises:
        MissingFileError: The folder is missing or empty.
        DataError: A file is damaged or no DICOM slice, its pixels need a decoder that is not installed, series are
            mixed, sizes or orientations differ, or the step between two slices differs by more than a tenth from the
            median step.
        MissingPackageError: pydicom is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     cohort = write_phantom_cohort(folder, subjects=1, size=16)
        ...     volume = read_dicom_series(cohort / "Train_Sets/MR/1/T2SPIR/DICOM_anon")
        >>> volume.array.shape[1:]
        (16, 16)
    """
    slices = [_Slice.read(path) for path in files_in(require_folder("folder", folder))]
    _check_series(slices)
    order = np.argsort(_along_normal(slices), kind="stable").tolist()
    return _assemble([slices[place] for place in order])


def read_slices_in_file_order(folder: Path) -> Volume:
    """Read a series whose masks are paired by file name: order kept, and checked to be the order in space.

    The order may run along the normal or against it: the third column of the affine carries the sign.
    """
    return _assemble(_in_file_order(folder))


def read_size_in_file_order(folder: Path) -> tuple[tuple[int, int, int], SpacingMm]:
    """Return how many voxels such a series has and how far they are apart, (z, y, x), from its headers only."""
    slices = _in_file_order(folder, headers=True)
    _check_steps(slices)
    rows, columns = slices[0].size
    return (len(slices), rows, columns), spacing_of(_affine(slices))


def _in_file_order(folder: Path, *, headers: bool = False) -> list["_Slice"]:
    slices = [_Slice.read(path, headers=headers) for path in files_in(folder)]
    _check_series(slices)
    steps = np.diff(_along_normal(slices))
    wrong = np.flatnonzero(np.sign(steps) != np.sign(steps.sum())).tolist()
    names = cut_list([slices[i + 1].path.name for i in wrong])
    cure = "Masks are paired with images by file name, so names must count along the body: rename the files."
    what, wanted = f"slices of {folder}", "in the same order by name as by position"
    require(not wrong, what, wanted, names, cure, error=DataError, file=folder)
    return slices


@dataclass(frozen=True, eq=False)
class _Slice:
    """One file: its geometry as numbers, and the rest of it."""

    path: Path
    content: "Dataset"
    position: npt.NDArray[np.float64]
    orientation: npt.NDArray[np.float64]
    spacing: npt.NDArray[np.float64]
    size: tuple[int, int]

    @classmethod
    def read(cls, path: Path, *, headers: bool = False) -> "_Slice":
        with needs_extra("dicom"):
            from pydicom import dcmread  # noqa: PLC0415
            from pydicom.errors import InvalidDicomError  # noqa: PLC0415
        with reading(path, "DICOM", _damage()):
            try:
                content = dcmread(path, stop_before_pixels=headers)
            except InvalidDicomError as error:
                raise ValueError("it has no DICOM marker: leave out files that are no slices") from error
            missing = [name for name in _GEOMETRY if name not in content or content[name].value in (None, "")]
            is_enhanced = int(content.get("NumberOfFrames") or 1) > 1
        cure = "Leave out localisers, reports and cut files."
        if is_enhanced:
            cure = "It holds many frames: convert it to NIfTI, for example with dcm2niix."
        wanted, got = "a DICOM slice with its geometry", f"one without {cut_list(missing)}"
        require(not missing, str(path), wanted, got, cure, error=DataError, file=path)
        position, orientation, spacing, rows, columns = (
            _numbers(path, content, name, count) for name, count in _GEOMETRY.items()
        )
        _check_directions(path, orientation.reshape(2, 3))
        good = bool((spacing > 0).all())
        require(good, f"PixelSpacing of {path}", "above 0", spacing.tolist(), error=DataError, file=path)
        return cls(path, content, position, orientation, spacing, (int(rows[0]), int(columns[0])))

    @property
    def directions(self) -> npt.NDArray[np.float64]:
        """The unit vectors across columns, down rows and along the normal, one a row, in LPS."""
        across, down = self.orientation.reshape(2, 3)
        return np.stack([across, down, np.cross(across, down)])

    def number(self, name: str, default: float) -> float:
        """Return one number of the header, `default` where the header has none."""
        with reading(self.path, "DICOM", _damage()):
            is_given = name in self.content and self.content[name].value not in (None, "")
        return float(_numbers(self.path, self.content, name, 1)[0]) if is_given else default

    def pixels(self) -> npt.NDArray[np.float32]:
        """Return the rescaled values; the file's own are freed."""
        from pydicom.pixels.utils import pixel_array  # noqa: PLC0415

        _require_decoder(self.path, self.content)
        with reading(self.path, "DICOM", _damage()):
            pixels: npt.NDArray[Any] = pixel_array(self.content)
            del self.content.PixelData
        wanted, got = "one grey-level slice", f"pixels of shape {pixels.shape}"
        cure = "Convert colour to grey levels, and many frames to NIfTI, for example with dcm2niix."
        require(pixels.shape == self.size, str(self.path), wanted, got, cure, error=DataError, file=self.path)
        slope, intercept = self.number("RescaleSlope", 1.0), self.number("RescaleIntercept", 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: npt.NDArray[np.float32] = (pixels * slope + intercept).astype(np.float32)
        finite, got = bool(np.isfinite(scaled).all()), "NaN or infinite values"
        require(finite, str(self.path), "finite everywhere", got, error=DataError, file=self.path)
        return scaled


def _damage() -> tuple[type[Exception], ...]:
    from pydicom.errors import BytesLengthException  # noqa: PLC0415

    return (*_DICOM_DAMAGE, BytesLengthException)


def _numbers(path: Path, content: "Dataset", name: str, count: int) -> npt.NDArray[np.float64]:
    """Return the numbers of one tag, or raise where they are not as many or no numbers."""
    wanted = f"{count} finite number{'s' if count > 1 else ''}, written with a point"
    try:
        raw = content[name].value
        numbers = np.atleast_1d(np.asarray(raw, dtype=np.float64))
    except _damage() as error:
        message = f"`{name} of {path}` must be {wanted}, got something else ({error}). Correct the header."
        raise DataError(message, argument=name, file=path) from error
    good = numbers.shape == (count,) and bool(np.isfinite(numbers).all())
    cure = "Correct the header, or copy the file again."
    require(good, f"{name} of {path}", wanted, numbers.tolist(), cure, error=DataError, file=path)
    return numbers


def _check_directions(path: Path, directions: npt.NDArray[np.float64]) -> None:
    apart = np.abs(directions @ directions.T - np.eye(2)).max()
    what, wanted = f"ImageOrientationPatient of {path}", "two directions of length 1 at right angles"
    require(bool(apart <= _UNIT), what, wanted, directions.tolist(), error=DataError, file=path)


def _require_decoder(path: Path, content: "Dataset") -> None:
    """Tell a decoder that is not installed from a file that is damaged."""
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415

    with reading(path, "DICOM", _damage()):
        syntax = content.file_meta.TransferSyntaxUID
        if not syntax.is_compressed:
            return
        decoder = get_decoder(syntax)
    wanted = "a slice whose pixels an installed package decodes"
    packages = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
    cure = f"Install a decoder ({packages}), or write the series again uncompressed (gdcmconv --raw)."
    require(decoder.is_available, str(path), wanted, syntax.name, cure, error=DataError, file=path)


def _check_series(slices: Sequence[_Slice]) -> None:
    first, folder = slices[0], slices[0].path.parent
    series: set[str] = set()
    for slice_ in slices:
        with reading(slice_.path, "DICOM", _damage()):
            series.add(str(slice_.content.get("SeriesInstanceUID") or ""))
    cure = "Put each series into a folder of its own."
    what, got = f"folder {folder}", f"{len(series)} of them mixed"
    require(len(series) == 1, what, "of one DICOM series", got, cure, error=DataError, file=folder)
    for slice_ in slices:
        for name, wanted, value, tolerance in (
            ("Rows", first.size[0], slice_.size[0], 0),
            ("Columns", first.size[1], slice_.size[1], 0),
            ("PixelSpacing", first.spacing.tolist(), slice_.spacing, 1e-4),
            ("ImageOrientationPatient", first.orientation.tolist(), slice_.orientation, 1e-3),
        ):
            alike = np.allclose(wanted, value, rtol=0, atol=tolerance)
            what, shown = f"{name} of {slice_.path}", f"that of {first.path.name}, {wanted}"
            require(alike, what, shown, np.asarray(value).tolist(), cure, error=DataError, file=slice_.path)


def _along_normal(slices: Sequence[_Slice]) -> npt.NDArray[np.float64]:
    heights: npt.NDArray[np.float64] = (
        np.stack([slice_.position for slice_ in slices]) @ slices[0].directions[2]
    )
    return heights


def _assemble(slices: Sequence[_Slice]) -> Volume:
    _check_steps(slices)
    affine = _affine(slices)
    array = np.empty((len(slices), *slices[0].size), np.float32)
    for place, slice_ in enumerate(slices):
        array[place] = slice_.pixels()
    return Volume(array, affine)


def _check_steps(slices: Sequence[_Slice]) -> None:
    steps = np.abs(np.diff(_along_normal(slices)))
    if not steps.size:
        return
    folder, usual = slices[0].path.parent, float(np.median(steps))
    pairs = [f"{first.path.name} and {second.path.name}" for first, second in pairwise(slices)]
    same = [pairs[i] for i in np.flatnonzero(steps < _SAME_PLACE_MM).tolist()]
    cure = "Two series or two echoes in one folder look like this: give each its own."
    what, got = f"slices of {folder}", f"the same for {cut_list(same)}"
    require(not same, what, "at different positions", got, cure, error=DataError, file=folder)
    odd = np.flatnonzero(np.abs(steps - usual) > _STEP_TOLERANCE * usual).tolist()
    jumps = [f"{steps[i]:.2f} mm between {pairs[i]}" for i in odd]
    wanted, cure = f"evenly spaced ({usual:.2f} mm apart)", "A slice is missing: copy the series again."
    require(not jumps, what, wanted, cut_list(jumps), cure, error=DataError, file=folder)


def _affine(slices: Sequence[_Slice]) -> Affine:
    """Return the matrix from voxel index (x, y, z) to RAS millimetres, slices in array order."""
    first, last = slices[0], slices[-1]
    across, down, normal = first.directions
    between_rows, between_columns = first.spacing
    if len(slices) > 1:
        step = (last.position - first.position) / (len(slices) - 1)
    else:
        step = normal * (first.number("SpacingBetweenSlices", 0) or first.number("SliceThickness", 0) or 1.0)
    lps = np.eye(4)
    lps[:3] = np.stack([across * between_columns, down * between_rows, step, first.position], axis=1)
    return checked_affine(_LPS_TO_RAS @ lps, f"affine of {first.path.parent}", file=first.path.parent)
