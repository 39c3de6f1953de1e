"""A cohort of phantoms, written in the form of a CHAOS release."""

import json
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from guided_attention._checks import needs_extra, require, require_path, require_type
from guided_attention._files import PathLike, whole_folder
from guided_attention.data.phantom._frame import Geometry
from guided_attention.data.phantom._scanner import Scan, check_numbers, scan_subject

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

__all__ = ["write_phantom_cohort"]

_GREYS = np.array([0, 63, 126, 189, 252], dtype=np.uint8)
_RECIPE = "phantom.json"
_VERSION = 1


def write_phantom_cohort(folder: PathLike, *, subjects: int = 20, seed: int = 0, size: int = 256) -> Path:
    """Write synthetic subjects as a CHAOS release (DICOM slices, PNG masks), for `read_chaos` to read.

    Subject ``n`` is ``make_phantom(seed, subject=n, size=size)``, in both phases of T1 and in T2. The same
    arguments give the same files: a folder that already holds this cohort is left as it is. A subject needs
    about 14 MB at 256 x 256.

    Args:
        folder: Output folder, new or empty; written atomically.
        subjects: Number of subjects.
        seed: The cohort, as for `make_phantom`.
        size: Height and width in pixels, at least 16.

    Returns:
        The folder, which holds ``Train_Sets/MR/<n>``.

    Raises:
        ExistingFileError: The folder holds something else.
        ArgumentError: ``subjects`` is below 1, or see `make_phantom`.
        ArgumentTypeError: A number is not whole, or the folder is not a path.
        ModuleNotFoundError: pydicom is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     cohort = write_phantom_cohort(folder, subjects=2, size=16)
        ...     sorted(path.name for path in (cohort / "Train_Sets/MR").iterdir())
        ['1', '2']
    """
    root = require_path("folder", folder)
    require_type("subjects", subjects, Integral, "a whole number")
    require(subjects >= 1, "subjects", "1 or more", subjects)
    check_numbers(seed, 1, size)
    with needs_extra("dicom"):
        import pydicom  # noqa: F401, PLC0415 - asked for before anything is written
    numbers = {"version": _VERSION, "subjects": int(subjects), "seed": int(seed), "size": int(size)}
    recipe = json.dumps(numbers).encode()
    marker = root / _RECIPE
    if marker.is_file() and marker.read_bytes() == recipe:
        return root

    def fill(draft: Path) -> None:
        for subject in range(1, subjects + 1):
            scan = scan_subject(seed, subject, size)
            _write_subject(draft / "Train_Sets" / "MR" / str(subject), scan, f"{seed}.{subject}")
        (draft / _RECIPE).write_bytes(recipe)

    return whole_folder(root, fill)


def _write_subject(folder: Path, scan: Scan, name: str) -> None:
    t1, t2 = folder / "T1DUAL", folder / "T2SPIR"
    count = scan.geometry.shape[0]
    inward = [f"IMG-0004-{2 * i + 2:05d}" for i in range(count)]
    outward = [f"IMG-0004-{2 * i + 1:05d}" for i in range(count)]
    spir = [f"IMG-0002-{i + 1:05d}" for i in range(count)]
    _write_series(t1 / "DICOM_anon" / "InPhase", inward, scan, "in", f"{name}.1")
    _write_series(t1 / "DICOM_anon" / "OutPhase", outward, scan, "out", f"{name}.2")
    _write_series(t2 / "DICOM_anon", spir, scan, "t2", f"{name}.3")
    _write_masks(t1 / "Ground", inward, scan.labels)
    _write_masks(t2 / "Ground", spir, scan.labels)


def _write_masks(folder: Path, names: Sequence[str], labels: npt.NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True)
    for name, mask in zip(names, _GREYS[labels], strict=True):
        Image.fromarray(mask).save(folder / f"{name}.png")


def _write_series(folder: Path, names: Sequence[str], scan: Scan, channel: str, series: str) -> None:
    folder.mkdir(parents=True)
    pixels = scan.channel(channel)
    make = _slice_maker(scan.geometry, series)
    for i, name in enumerate(names):
        make(i, pixels[i]).save_as(folder / f"{name}.dcm", enforce_file_format=True)


def _slice_maker(geometry: Geometry, series: str) -> "Callable[[int, npt.NDArray[np.uint16]], Dataset]":
    """Return a function from slice number and pixels to a DICOM slice with CHAOS's tags."""
    left, back, head = geometry.first_mm
    step, pixel, _ = geometry.spacing_mm
    tags = _series_tags(series) | {"PixelSpacing": [pixel, pixel], "SliceThickness": round(0.8 * step, 2)}

    def make(index: int, pixels: npt.NDArray[np.uint16]) -> "Dataset":
        slice_ = _empty_slice(tags)
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = _uid(f"{series}.{index}")
        slice_.InstanceNumber = index + 1
        slice_.ImagePositionPatient = [left, back, round(head + index * step, 4)]
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.PixelData = pixels.astype("<u2").tobytes()
        return slice_

    return make


def _series_tags(series: str) -> dict[str, object]:
    subject = series.rpartition(".")[0]
    return {
        "Modality": "MR",
        "PatientName": f"PHANTOM^{subject}",
        "PatientID": subject,
        "StudyInstanceUID": _uid(subject),
        "FrameOfReferenceUID": _uid(f"{subject}.0"),
        "SeriesInstanceUID": _uid(series),
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
    }


def _empty_slice(tags: Mapping[str, object]) -> "Dataset":
    from pydicom import Dataset  # noqa: PLC0415
    from pydicom.dataset import FileMetaDataset  # noqa: PLC0415
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage  # noqa: PLC0415

    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = MRImageStorage
    for name, value in tags.items():
        setattr(slice_, name, value)
    return slice_


def _uid(name: str) -> "UID":
    from pydicom.uid import generate_uid  # noqa: PLC0415

    return generate_uid(entropy_srcs=["guided-attention phantom", name])
