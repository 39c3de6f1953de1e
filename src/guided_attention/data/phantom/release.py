"""A cohort of phantoms, written as a CHAOS release or in another layout."""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from guided_attention._checks import needs_extra, require, require_choice, require_path, require_type
from guided_attention._files import PathLike, whole_folder
from guided_attention._geometry import check_orientation
from guided_attention.case import Case
from guided_attention.data._writers import Target, TargetLayout, beside, write_case
from guided_attention.data.chaos import CHAOS_MR_LABELS
from guided_attention.data.phantom._frame import Geometry
from guided_attention.data.phantom._scanner import Scan, check_numbers, scan_subject
from guided_attention.data.phantom.phantom import CHANNELS, PhantomSource, make_phantom

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

__all__ = ["PhantomLayout", "write_phantom_cohort"]

PhantomLayout: TypeAlias = Literal["chaos", "pairs", "nnunet", "png"]
"""How phantoms are written: as a CHAOS release, or as `convert` writes."""

_Pixels: TypeAlias = npt.NDArray[np.integer[Any]]

_GREYS = np.array([0, 63, 126, 189, 252], dtype=np.uint8)
_RECIPE = "phantom.json"
_VERSION = 1


def write_phantom_cohort(
    folder: PathLike,
    *,
    subjects: int = 20,
    seed: int = 0,
    size: int = 256,
    layout: PhantomLayout = "chaos",
    source: PhantomSource = "t1_in",
    orientations: Sequence[str] = ("LPS",),
    tilt_degrees: float = 0.0,
) -> Path:
    """Write synthetic subjects in one of the layouts that `open_cohort` reads.

    Subject ``n`` is ``make_phantom(seed, subject=n, size=size)``. The same arguments give the same files: a folder that
    already holds this cohort is left as it is. A subject of CHAOS needs about 14 MB at 256 x 256.

    Args:
        folder: Output folder, new or empty; written atomically.
        subjects: Number of subjects.
        seed: The cohort, as for `make_phantom`.
        size: Height and width in pixels, at least 16.
        layout: ``"chaos"`` is a CHAOS release (DICOM slices, PNG masks): both phases of T1 and T2, or CT with its
            liver. ``"pairs"``, ``"nnunet"`` and ``"png"`` are those of `convert`.
        source: Which scan; with ``"chaos"``, all of MR unless it is ``"ct"``.
        orientations: How the scans are stored, taken in turn; ``"chaos"`` and ``"png"`` know LPS only.
        tilt_degrees: Tilt of the gantry, as for `make_phantom`.

    Returns:
        The folder, which holds ``Train_Sets/MR/<n>`` or what the layout says.

    Raises:
        ExistingFileError: The folder holds something else.
        ArgumentError: ``subjects`` is below 1, the layout cannot hold what is asked for, or see `make_phantom`.
        ArgumentTypeError: A number is not whole, or the folder is not a path.
        ModuleNotFoundError: pydicom or nibabel is not installed.

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
    check_numbers(seed, 1, size, tilt_degrees)
    asked = _asked(layout, source, orientations, tilt_degrees)
    numbers = {"version": _VERSION, "subjects": int(subjects), "seed": int(seed), "size": int(size)}
    recipe = json.dumps(numbers | asked).encode()
    marker = root / _RECIPE
    if marker.is_file() and marker.read_bytes() == recipe:
        return root

    def fill(draft: Path) -> None:
        cases = []
        for subject in range(1, subjects + 1):
            if layout == "chaos":
                scan = scan_subject(seed, subject, size, tilt_degrees)
                (_write_ct if source == "ct" else _write_mr)(draft, subject, scan, f"{seed}.{subject}")
            else:
                turned = orientations[(subject - 1) % len(orientations)]
                cases.append(
                    make_phantom(
                        seed,
                        subject=subject,
                        size=size,
                        source=source,
                        orientation=turned,
                        tilt_degrees=tilt_degrees,
                    )
                )
                write_case(cases[-1], "", Target(draft, layout, CHAOS_MR_LABELS))
        if layout != "chaos":
            _write_beside(draft, layout, cases)
        (draft / _RECIPE).write_bytes(recipe)

    return whole_folder(root, fill)


def _asked(layout: str, source: str, orientations: Sequence[str], tilt_degrees: float) -> dict[str, object]:
    """Check what is asked for beside the numbers, and return what is not as usual."""
    require_choice("layout", layout, get_args(PhantomLayout))
    require_choice("source", source, tuple(CHANNELS))
    require_type("orientations", orientations, (tuple, list), 'a list such as ["LPS", "RAS"]')
    require(len(orientations) > 0, "orientations", "at least one", "none")
    for orientation in orientations:
        check_orientation("orientations", orientation)
    is_plain = tilt_degrees == 0 and set(orientations) == {"LPS"}
    good = layout in {"pairs", "nnunet"} or (set(orientations) == {"LPS"} and (layout == "chaos" or is_plain))
    cure = "Slices know LPS, PNG slices no tilt. Write pairs, or nnunet."
    require(good, "layout", "one that can hold such scans", layout, cure)
    good = layout != "png" or len(CHANNELS[source]) == 1
    require(good, "source", "of one channel for PNG slices", source)
    with needs_extra("dicom" if layout == "chaos" else "nifti"):
        import_module("pydicom" if layout == "chaos" else "nibabel")  # asked for before anything is written
    asked = {"layout": layout, "source": source, "orientations": list(orientations), "tilt": tilt_degrees}
    usual = {"layout": "chaos", "source": "t1_in", "orientations": ["LPS"], "tilt": 0.0}
    return {} if asked == usual else asked


def _write_beside(folder: Path, layout: TargetLayout, cases: Sequence[Case]) -> None:
    names = [case.case_id for case in cases]
    about = {"channel_names": cases[0].channel_names, "channels": len(cases[0].image), "labelled": names}
    spacings = {case.spacing_mm for case in cases}
    about["spacing_mm"] = spacings.pop() if len(spacings) == 1 else None
    target = Target(folder, layout, CHAOS_MR_LABELS)
    for name, content in beside(target, dict.fromkeys(names, ""), about).items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _write_ct(root: Path, subject: int, scan: Scan, name: str) -> None:
    folder = root / "Train_Sets" / "CT" / str(subject)
    names = [f"i{i:04d},0000b" for i in range(scan.geometry.shape[0])]
    _write_series(folder / "DICOM_anon", names, scan, "ct", f"{name}.4")
    liver = np.where(scan.labels == 1, 255, 0).astype(np.uint8)
    _write_masks(folder / "Ground", [f"liver_GT_{i:03d}" for i in range(len(names))], liver)


def _write_mr(root: Path, subject: int, scan: Scan, name: str) -> None:
    folder = root / "Train_Sets" / "MR" / str(subject)
    t1, t2 = folder / "T1DUAL", folder / "T2SPIR"
    count = scan.geometry.shape[0]
    inward = [f"IMG-0004-{2 * i + 2:05d}" for i in range(count)]
    outward = [f"IMG-0004-{2 * i + 1:05d}" for i in range(count)]
    spir = [f"IMG-0002-{i + 1:05d}" for i in range(count)]
    _write_series(t1 / "DICOM_anon" / "InPhase", inward, scan, "in", f"{name}.1")
    _write_series(t1 / "DICOM_anon" / "OutPhase", outward, scan, "out", f"{name}.2")
    _write_series(t2 / "DICOM_anon", spir, scan, "t2", f"{name}.3")
    _write_masks(t1 / "Ground", inward, _GREYS[scan.labels])
    _write_masks(t2 / "Ground", spir, _GREYS[scan.labels])


def _write_masks(folder: Path, names: Sequence[str], greys: npt.NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True)
    for name, mask in zip(names, greys, strict=True):
        Image.fromarray(mask).save(folder / f"{name}.png")


def _write_series(folder: Path, names: Sequence[str], scan: Scan, channel: str, series: str) -> None:
    folder.mkdir(parents=True)
    pixels = scan.channel(channel)
    make = _slice_maker(scan.geometry, series, channel)
    for i, name in enumerate(names):
        make(i, pixels[i]).save_as(folder / f"{name}.dcm", enforce_file_format=True)


def _slice_maker(geometry: Geometry, series: str, channel: str) -> "Callable[[int, _Pixels], Dataset]":
    """Return a function from slice number and pixels to a DICOM slice with CHAOS's tags."""
    step, pixel, _ = geometry.spacing_mm
    tags = _series_tags(series) | {"PixelSpacing": [pixel, pixel], "SliceThickness": round(0.8 * step, 2)}
    tags["ImageOrientationPatient"] = [1, 0, 0, *(round(part, 6) for part in geometry.row_step)]
    if channel == "ct":
        signed = {"PixelRepresentation": 1, "RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "HU"}
        tags |= {"Modality": "CT", **signed, "GantryDetectorTilt": geometry.tilt_degrees}

    def make(index: int, pixels: _Pixels) -> "Dataset":
        slice_ = _empty_slice(tags)
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = _uid(f"{series}.{index}")
        slice_.InstanceNumber = index + 1
        slice_.ImagePositionPatient = [round(part, 4) for part in geometry.position_mm(index)]
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
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
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage  # noqa: PLC0415

    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    kind = CTImageStorage if tags["Modality"] == "CT" else MRImageStorage
    slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = kind
    for name, value in tags.items():
        setattr(slice_, name, value)
    return slice_


def _uid(name: str) -> "UID":
    from pydicom.uid import generate_uid  # noqa: PLC0415

    return generate_uid(entropy_srcs=["guided-attention phantom", name])
