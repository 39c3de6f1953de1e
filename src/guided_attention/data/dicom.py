"""DICOM: a folder of slices becomes a volume whose affine says where every voxel lies."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import cut_list, needs_extra, require
from guided_attention._files import PathLike
from guided_attention._typing import Affine, SpacingMm
from guided_attention.case import Volume, spacing_of
from guided_attention.data._files import files_in

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_dicom_series", "read_size_in_file_order", "read_slices_in_file_order"]

# DICOM's patient frame is LPS (left, posterior, superior), NIfTI's is RAS.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_PLACE_MM = 1e-3
_STEP_TOLERANCE = 0.1
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")


def read_dicom_series(folder: PathLike) -> Volume:
    """Read one DICOM series, the slices of one scan in a folder, as a volume in millimetres.

    Slices are put in the order of their position along the slice normal, whatever the files are called; names
    need no ending and identifiers may be blank. The step between slices comes from ImagePositionPatient of
    the first and last, ``|last - first| / (slices - 1)``, never from SliceThickness, which is another length.
    For a lone slice, which has no step, it is SpacingBetweenSlices, else SliceThickness. RescaleSlope and
    RescaleIntercept are applied (CT: Hounsfield units). Voxel ``(x, y, z)`` of the affine is
    ``array[z, y, x]``.

    Args:
        folder: A folder that holds the files of one series and nothing else.

    Returns:
        The volume: array ``(depth, height, width)`` float32, spacing in millimetres, RAS affine.

    Raises:
        FileNotFoundError: The folder is missing or empty.
        ValueError: A file is no whole DICOM slice, series are mixed, sizes or orientations differ, or slices
            are missing in the middle (a step that differs by more than a tenth from the median step).
        ModuleNotFoundError: pydicom is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     cohort = write_phantom_cohort(folder, subjects=1, size=16)
        ...     volume = read_dicom_series(cohort / "Train_Sets/MR/1/T2SPIR/DICOM_anon")
        >>> volume.array.shape[1:]
        (16, 16)
    """
    files = files_in(Path(folder))
    slices = [_read(path) for path in files]
    _check_series(files, slices)
    order = np.argsort(_along_normal(slices), kind="stable").tolist()
    return _assemble([files[i] for i in order], [slices[i] for i in order])


def read_slices_in_file_order(folder: Path) -> Volume:
    """Read a series whose masks are paired by file name: order kept, and checked to be the order in space.

    The order may run along the normal or against it: the third column of the affine carries the sign.
    """
    return _assemble(*_in_file_order(folder))


def read_size_in_file_order(folder: Path) -> tuple[tuple[int, int, int], SpacingMm]:
    """Return how many voxels such a series has and how far they are apart, (z, y, x), from its headers alone."""
    files, slices = _in_file_order(folder, headers=True)
    _check_steps(files, _along_normal(slices))
    rows, columns = int(slices[0].Rows), int(slices[0].Columns)
    return (len(slices), rows, columns), spacing_of(_affine(slices))


def _in_file_order(folder: Path, *, headers: bool = False) -> tuple[list[Path], list["Dataset"]]:
    files = files_in(folder)
    slices = [_read(path, headers=headers) for path in files]
    _check_series(files, slices)
    steps = np.diff(_along_normal(slices))
    wrong = np.flatnonzero(np.sign(steps) != np.sign(steps.sum())).tolist()
    names = cut_list([files[i + 1].name for i in wrong])
    cure = "Masks are paired with images by file name, so names must count along the body: rename the files."
    require(not wrong, f"slices of {folder}", "in the same order by name as by position", names, cure)
    return files, slices


def _read(path: Path, *, headers: bool = False) -> "Dataset":
    with needs_extra("dicom"):
        from pydicom import dcmread  # noqa: PLC0415
    try:
        slice_ = dcmread(path, stop_before_pixels=headers)
    except Exception as error:  # the parser raises whatever a broken file makes it trip over
        raise _broken(path, error) from error
    missing = [name for name in _GEOMETRY if slice_.get(name) in (None, "")]
    cure = "Leave out localisers, reports and cut files."
    require(
        not missing, str(path), "a DICOM slice with its geometry", f"one without {cut_list(missing)}", cure
    )
    return slice_


def _broken(path: Path, error: Exception) -> ValueError:
    reason = str(error) or type(error).__name__
    return ValueError(
        f"`{path}` must be a whole DICOM file, got one that cannot be read ({reason}). Copy it again."
    )


def _check_series(files: Sequence[Path], slices: Sequence["Dataset"]) -> None:
    folder = files[0].parent
    series = sorted({str(slice_.get("SeriesInstanceUID") or "") for slice_ in slices})
    cure = "Put each series into a folder of its own."
    require(len(series) == 1, f"folder {folder}", "of one DICOM series", f"{len(series)} of them mixed", cure)
    for path, slice_ in zip(files, slices, strict=True):
        for name, tolerance in (
            ("Rows", 0),
            ("Columns", 0),
            ("PixelSpacing", 1e-4),
            ("ImageOrientationPatient", 1e-3),
        ):
            wanted, got = _numbers(slices[0], name), _numbers(slice_, name)
            alike = wanted.shape == got.shape and np.allclose(wanted, got, rtol=0, atol=tolerance)
            require(
                alike, f"{name} of {path}", f"that of {files[0].name}, {wanted.tolist()}", got.tolist(), cure
            )


def _numbers(slice_: "Dataset", name: str) -> npt.NDArray[np.float64]:
    return np.atleast_1d(np.asarray(slice_[name].value, dtype=np.float64))


def _positions(slices: Sequence["Dataset"]) -> npt.NDArray[np.float64]:
    return np.stack([_numbers(slice_, "ImagePositionPatient") for slice_ in slices])


def _directions(slice_: "Dataset") -> npt.NDArray[np.float64]:
    """Return the unit vectors across columns, down rows and along the normal, one a row, in LPS."""
    across, down = _numbers(slice_, "ImageOrientationPatient").reshape(2, 3)
    return np.stack([across, down, np.cross(across, down)])


def _along_normal(slices: Sequence["Dataset"]) -> npt.NDArray[np.float64]:
    heights: npt.NDArray[np.float64] = _positions(slices) @ _directions(slices[0])[2]
    return heights


def _assemble(files: Sequence[Path], slices: Sequence["Dataset"]) -> Volume:
    _check_steps(files, _along_normal(slices))
    affine = _affine(slices)
    array = np.stack([_pixels(path, slice_) for path, slice_ in zip(files, slices, strict=True)])
    return Volume(array, affine)


def _check_steps(files: Sequence[Path], heights: npt.NDArray[np.float64]) -> None:
    steps = np.abs(np.diff(heights))
    if not steps.size:
        return
    folder, usual = files[0].parent, float(np.median(steps))
    pairs = [f"{first.name} and {second.name}" for first, second in pairwise(files)]
    same = [pairs[i] for i in np.flatnonzero(steps < _SAME_PLACE_MM).tolist()]
    cure = "Two series or two echoes in one folder look like this: give each its own."
    require(not same, f"slices of {folder}", "at different positions", f"the same for {cut_list(same)}", cure)
    odd = np.flatnonzero(np.abs(steps - usual) > _STEP_TOLERANCE * usual).tolist()
    jumps = [f"{steps[i]:.2f} mm between {pairs[i]}" for i in odd]
    wanted = f"evenly spaced ({usual:.2f} mm apart)"
    require(
        not jumps,
        f"slices of {folder}",
        wanted,
        cut_list(jumps),
        "A slice is missing: copy the series again.",
    )


def _affine(slices: Sequence["Dataset"]) -> Affine:
    """Return the matrix from voxel index (x, y, z) to RAS millimetres, slices in array order."""
    first, positions = slices[0], _positions(slices)
    across, down, normal = _directions(first)
    between_rows, between_columns = _numbers(first, "PixelSpacing")
    step = (
        (positions[-1] - positions[0]) / (len(slices) - 1) if len(slices) > 1 else normal * _lone_step(first)
    )
    lps = np.eye(4)
    lps[:3] = np.stack([across * between_columns, down * between_rows, step, positions[0]], axis=1)
    affine: Affine = _LPS_TO_RAS @ lps
    return affine


def _lone_step(slice_: "Dataset") -> float:
    return float(slice_.get("SpacingBetweenSlices") or slice_.get("SliceThickness") or 1.0)


def _pixels(path: Path, slice_: "Dataset") -> npt.NDArray[np.float32]:
    try:
        pixels: npt.NDArray[Any] = slice_.pixel_array
    except Exception as error:  # every decoder has its own exceptions
        raise _broken(path, error) from error
    require(pixels.ndim == 2, str(path), "one grey-level slice", f"pixels of shape {pixels.shape}")  # noqa: PLR2004
    slope, intercept = slice_.get("RescaleSlope"), slice_.get("RescaleIntercept")
    scaled = pixels * float(1 if slope is None else slope) + float(intercept or 0)
    require(bool(np.isfinite(scaled).all()), str(path), "finite everywhere", "NaN or infinite values")
    return scaled.astype(np.float32)
