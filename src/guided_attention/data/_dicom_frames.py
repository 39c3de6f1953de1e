"""DICOM files read frame by frame: the geometry of each, and its pixels when they are asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import counted, cut_list, require
from guided_attention.data._dicom_files import NoScanError, damage, decoder_of, open_dicom
from guided_attention.data._files import broken, reading, require_finite
from guided_attention.data.formats._limits import MAX_BYTES
from guided_attention.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Frame", "kind_of_other", "read_frames"]

_GEOMETRY = {
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "Rows": 1,
    "Columns": 1,
}
_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "MREchoSequence",
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "TemporalPositionSequence",
    "MRDiffusionSequence",
    "CardiacSynchronizationSequence",
)
"""Functional groups of enhanced files whose entries a file of a single slice has at its top."""
_UNIT = 0.01
"""How far directions may be from unit length and from right angles to each other."""
_NO_SCAN = {
    "1.2.840.10008.5.1.4.1.1.66": "a segmentation, a registration or raw data",
    "1.2.840.10008.5.1.4.1.1.481": "radiotherapy: a dose, structures or a plan",
    "1.2.840.10008.5.1.4.1.1.88": "a report",
    "1.2.840.10008.5.1.4.1.1.11": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.104": "a document",
    "1.2.840.10008.5.1.4.1.1.9": "a waveform",
    "1.2.840.10008.5.1.4.1.1.67": "a mapping of values",
    "1.2.840.10008.5.1.4.1.1.7": "a secondary capture",
    "1.2.840.10008.5.1.4.1.1.4.2": "a spectroscopy",
    "1.2.840.10008.1.3.10": "a DICOMDIR",
}
_BITS = 8
_MOST_DEFLATED = 1032


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: a file of its own, or one frame of a file that holds many.

    Attributes:
        path: The file.
        content: The file without its pixels.
        groups: Where the entries of this frame stand, the first that has one counts.
        index: Number of the frame in its file, from 0; None for a file of a single slice.
        position: Of the centre of the first voxel, LPS millimetres.
        orientation: Directions along rows and down columns.
        spacing: Between rows and between columns, in millimetres.
        size: Rows and columns.
    """

    path: Path
    content: "Dataset"
    groups: tuple["Dataset", ...]
    index: int | None
    position: npt.NDArray[np.float64]
    orientation: npt.NDArray[np.float64]
    spacing: npt.NDArray[np.float64]
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path.name if self.index is None else f"frame {self.index + 1} of {self.path.name}"

    @property
    def directions(self) -> npt.NDArray[np.float64]:
        """The unit vectors across columns, down rows and along the normal, one a row, in LPS."""
        across, down = self.orientation.reshape(2, 3)
        return np.stack([across, down, np.cross(across, down)])

    @property
    def rounding_mm(self) -> float:
        """How far the header's last decimal lets each number of the position be off."""
        with reading(self.path, "DICOM", damage()):
            return max(_half_unit(_written(value)) for value in _entry(self.groups, "ImagePositionPatient"))

    def text(self, name: str) -> str:
        """Return an entry as text, empty where there is none."""
        with reading(self.path, "DICOM", damage()):
            value = _entry(self.groups, name)
            return "" if value is None else str(value)

    def number(self, name: str, default: float) -> float:
        """Return one number of the header, `default` where the header has none."""
        with reading(self.path, "DICOM", damage()):
            is_given = _entry(self.groups, name) is not None
        return float(_numbers(self.path, self.groups, name, 1)[0]) if is_given else default

    def require_whole(self) -> None:
        """Raise where the header claims more pixels than the file can hold."""
        with reading(self.path, "DICOM", damage()):
            syntax = self.content.file_meta.TransferSyntaxUID
            bits = int(self.content.get("BitsAllocated") or 1) * int(self.content.get("SamplesPerPixel") or 1)
            frames, size = int(self.content.get("NumberOfFrames") or 1), self.path.stat().st_size
            held = size * _MOST_DEFLATED if syntax.is_deflated else size
            needed = frames * self.size[0] * self.size[1] * bits // _BITS
        if not self.is_compressed and needed > held:
            raise broken(
                self.path, "DICOM", f"its header claims {needed} bytes of pixels, the file has {size}"
            )

    @property
    def is_compressed(self) -> bool:
        """Whether a decoder is needed for its pixels."""
        with reading(self.path, "DICOM", damage()):
            return bool(self.content.file_meta.TransferSyntaxUID.is_encapsulated)

    def pixels(self, content: "Dataset") -> npt.NDArray[np.float32]:
        """Return the rescaled values, from the whole content of the file."""
        from pydicom.pixels.processing import apply_modality_lut  # noqa: PLC0415
        from pydicom.pixels.utils import pixel_array  # noqa: PLC0415

        decoder = decoder_of(self.path, content, self.index, self.size)
        with reading(self.path, "DICOM", damage()):
            pixels: npt.NDArray[Any] = pixel_array(content, index=self.index, decoding_plugin=decoder)
        wanted, got = "one grey-level slice", f"pixels of shape {pixels.shape}"
        cure = "Convert colour to grey levels."
        require(pixels.shape == self.size, str(self.path), wanted, got, cure, error=DataError, file=self.path)
        with np.errstate(over="ignore", invalid="ignore"):
            if "ModalityLUTSequence" in content:
                with reading(self.path, "DICOM", damage()):
                    scaled = np.asarray(apply_modality_lut(pixels, content), np.float32)
            else:
                slope, intercept = self.number("RescaleSlope", 1.0), self.number("RescaleIntercept", 0.0)
                scaled = (pixels * slope + intercept).astype(np.float32)
        require_finite(scaled, self.path)
        return scaled


def kind_of_other(uid: str) -> str:
    """Return what a SOPClassUID stands for that is no scan, "" for scans."""
    return next((what for kind, what in _NO_SCAN.items() if uid == kind or uid.startswith(f"{kind}.")), "")


def read_frames(path: Path, max_bytes: int = MAX_BYTES) -> list[Frame]:
    """Read the header of one file: one frame, or as many as an enhanced file holds.

    Raises:
        NoScanError: The file is no DICOM, or DICOM of another kind.
        DataError: The file is damaged, or a slice without its geometry.
    """
    content = open_dicom(path, max_bytes, headers=True)
    with reading(path, "DICOM", damage()):
        kind = str(content.get("SOPClassUID") or "")
        what = kind_of_other(kind)
        if what:
            raise NoScanError(what)
        is_mosaic = "MOSAIC" in [str(part).upper() for part in content.get("ImageType") or ()]
        per_frame = content.get("PerFrameFunctionalGroupsSequence") or ()
        shared = content.get("SharedFunctionalGroupsSequence") or ()
        frames = int(content.get("NumberOfFrames") or 1)
    cure = "Convert it to NIfTI, for example with dcm2niix, which takes mosaics apart."
    require(not is_mosaic, str(path), "a slice", "a mosaic of many slices", cure, error=DataError, file=path)
    if not per_frame:
        cure = "It is of no enhanced class: convert it to NIfTI, for example with dcm2niix."
        wanted, got = "one slice, or an enhanced file", f"{frames} frames without the position of each"
        require(frames == 1, str(path), wanted, got, cure, error=DataError, file=path)
        return [_frame(path, content, (content,), None)]
    got = f"{counted(frames, 'frame')} and {counted(len(per_frame), 'position')}"
    good, wanted = len(per_frame) == frames, "a file with the position of each frame"
    require(good, str(path), wanted, got, error=DataError, file=path)
    with reading(path, "DICOM", damage()):
        outer = _flat(shared[0]) if shared else ()
        groups = [(*_flat(own), *outer, content) for own in per_frame]
    return [_frame(path, content, inside, index) for index, inside in enumerate(groups)]


def _flat(groups: "Dataset") -> tuple["Dataset", ...]:
    """Return the functional groups that tell where a frame lies and what it shows."""
    return tuple(groups[name].value[0] for name in _GROUPS if name in groups and groups[name].value)


def _frame(path: Path, content: "Dataset", groups: tuple["Dataset", ...], index: int | None) -> Frame:
    with reading(path, "DICOM", damage()):
        missing = [name for name in _GEOMETRY if _entry(groups, name) is None]
        kind = getattr(content.get("SOPClassUID"), "name", "") or "no known kind"
    cure = f"It is of the kind {kind!r}. Leave out localisers, captures and cut files."
    wanted, got = "a DICOM slice with its geometry", f"one without {cut_list(missing)}"
    require(not missing, str(path), wanted, got, cure, error=DataError, file=path)
    position, orientation, spacing, rows, columns = (
        _numbers(path, groups, name, count) for name, count in _GEOMETRY.items()
    )
    _check_directions(path, orientation.reshape(2, 3))
    good = bool((spacing > 0).all())
    require(good, f"PixelSpacing of {path}", "above 0", spacing.tolist(), error=DataError, file=path)
    return Frame(
        path, content, groups, index, position, orientation, spacing, (int(rows[0]), int(columns[0]))
    )


def _entry(groups: Iterable["Dataset"], name: str) -> Any:  # noqa: ANN401
    """Return the value of a tag from the first group that has one, None where none has."""
    found = (group[name].value for group in groups if name in group)
    return next((value for value in found if value not in (None, "")), None)


def _numbers(path: Path, groups: Iterable["Dataset"], name: str, count: int) -> npt.NDArray[np.float64]:
    """Return the numbers of one tag, or raise where they are not as many or no numbers."""
    wanted = f"{count} finite number{'s' if count > 1 else ''}, written with a point"
    try:
        numbers = np.atleast_1d(np.asarray(_entry(groups, name), dtype=np.float64))
    except damage() as error:
        message = f"`{name} of {path}` must be {wanted}, got something else ({error}). Correct the header."
        raise DataError(message, argument=name, file=path) from error
    good = numbers.shape == (count,) and bool(np.isfinite(numbers).all())
    cure = "Correct the header, or copy the file again."
    require(good, f"{name} of {path}", wanted, numbers.tolist(), cure, error=DataError, file=path)
    return numbers


def _written(value: object) -> str:
    """Return a decimal string as the file has it."""
    text = getattr(value, "original_string", None)
    return str(value) if text is None else str(text)


def _half_unit(text: str) -> float:
    """Return half of what the last decimal of a number stands for.

    >>> _half_unit("-12.5"), _half_unit("3"), _half_unit("1.25e1")
    (0.05, 0.5, 0.05)
    """
    mantissa, _, exponent = text.lower().strip().partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return float(0.5 * 10.0**-decimals)


def _check_directions(path: Path, directions: npt.NDArray[np.float64]) -> None:
    apart = np.abs(directions @ directions.T - np.eye(2)).max()
    what, wanted = f"ImageOrientationPatient of {path}", "two directions of length 1 at right angles"
    require(bool(apart <= _UNIT), what, wanted, directions.tolist(), error=DataError, file=path)
