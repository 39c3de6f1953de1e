"""Predictions as files that lie on the scan in every viewer: NIfTI, and DICOM on its series."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from guided_attention._checks import require, require_choice, require_path, require_type
from guided_attention._files import PathLike, made_folder, writing
from guided_attention.case import Source, Volume
from guided_attention.data import write_dicom_seg, write_nifti, write_rtstruct
from guided_attention.data.dicom import read_headers
from guided_attention.data.dicom_seg import require_identifiers
from guided_attention.data.nifti import is_nifti
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError, ExistingFileError
from guided_attention.labels import LabelSpec
from guided_attention.outputs import Prediction

__all__ = ["ENDINGS", "ExtraFile", "PredictionWriter", "save_prediction"]

ExtraFile: TypeAlias = Literal["uncertainty", "dicom-seg", "rtstruct"]
"""What can be written of a prediction beside its label volume."""

ENDINGS = {
    "prediction": "_prediction.nii.gz",
    "uncertainty": "_uncertainty.nii.gz",
    "dicom-seg": "_segmentation.dcm",
    "rtstruct": "_rtstruct.dcm",
}
"""What file names end in, by what the file holds."""

_NOT_IN_NAMES = '/\\:*?"<>|'
_LONGEST = 160
"""Bytes of an id: with what is added to it for a draft, file systems take 255."""


def save_prediction(
    prediction: Prediction,
    folder: PathLike,
    *,
    also: Sequence[ExtraFile] = (),
    labels: LabelSpec | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a prediction as NIfTI, with the geometry of the scan it was made from.

    Where the scan was a NIfTI file, its sform and qform are written, with their codes.

    Args:
        prediction: What `Predictor.predict` returned.
        folder: Where to write ``<case_id>_prediction.nii.gz``; created where it is missing.
        also: Other files to write: ``"uncertainty"`` (``<case_id>_uncertainty.nii.gz``, float32); and, for scans read
            from a DICOM series, ``"dicom-seg"`` (``<case_id>_segmentation.dcm``) and ``"rtstruct"``
            (``<case_id>_rtstruct.dcm``). Where no organ was found, these two are not written: they cannot be empty.
        labels: Names and colours of the organs, which DICOM needs.
        overwrite: Replace existing files.

    Returns:
        The path of the label volume.

    Raises:
        ExistingFileError: A file exists and `overwrite` is not set; nothing is written then.
        DataError: The case's id cannot be part of a file name; or DICOM is asked for and the scan was not read from a
            DICOM series, or its identifiers are blank.
        ArgumentError: DICOM is asked for without `labels`, or `also` is not made of formats.
        MissingPackageError: nibabel, highdicom (DICOM SEG) or contourpy (RTSTRUCT) is not installed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> labels = np.ones((3, 5, 7), np.uint8)
        >>> prediction = Prediction("7", labels, np.zeros((3, 5, 7), np.float32), np.diag([1.5, 1.5, 9.0, 1.0]))
        >>> save_prediction(prediction, tempfile.mkdtemp()).name
        '7_prediction.nii.gz'
    """
    require_type("prediction", prediction, Prediction, "a Prediction")
    writer = PredictionWriter(also, labels)
    root = made_folder(folder)
    paths = writer.paths(prediction.case_id, root)
    writer.require_series(prediction.source)
    held = [str(path) for path in paths.values() if path.exists()]
    if held and not overwrite:
        raise ExistingFileError(
            f"`folder` must not hold an earlier prediction of this case, got {', '.join(held)}. "
            "Name another folder, or set overwrite=True to replace it.",
            argument="folder",
            file=folder,
        )
    writer.write(prediction, paths)
    return paths["prediction"]


@dataclass(frozen=True)
class PredictionWriter:
    """Which files are written of each prediction."""

    also: Sequence[ExtraFile] = ()
    labels: LabelSpec | None = None

    def __post_init__(self) -> None:
        """Check the formats."""
        # A text is a sequence too, of its letters.
        good, got = not isinstance(self.also, str), repr(self.also)
        require(good, "also", "a list of formats", got, f"Write [{got}].", error=ArgumentTypeError)
        require_type("also", self.also, Iterable, "a list of formats")
        object.__setattr__(self, "also", tuple(self.also))
        for name in self.also:
            require_choice("also", name, get_args(ExtraFile))
        if self._of_dicom and self.labels is None:
            message = "`labels` must be a LabelSpec where DICOM is written, got None. Give names and colours."
            raise ArgumentError(message, argument="labels")

    @property
    def _of_dicom(self) -> list[str]:
        return [name for name in self.also if name != "uncertainty"]

    def paths(self, case_id: str, folder: PathLike) -> dict[str, Path]:
        """Return where each file of a case goes; raise where its id cannot be part of a file name."""
        short = case_id.isprintable() and len(case_id.encode()) <= _LONGEST
        plain = (
            short and bool(case_id) and not set(case_id) & set(_NOT_IN_NAMES) and not case_id.startswith(".")
        )
        wanted = f"fit for a file name, of at most {_LONGEST} bytes"
        require(plain, "case_id", wanted, repr(case_id), "Rename the case.", error=DataError)
        root = require_path("folder", folder)
        return {kind: root / name for kind, name in self.names(case_id).items()}

    def names(self, case_id: str) -> dict[str, str]:
        """Return what each file of a case is called, whether its id can be part of a name or not."""
        return {kind: f"{case_id}{ENDINGS[kind]}" for kind in ("prediction", *self.also)}

    def require_series(self, source: Source | None) -> None:
        """Raise where DICOM is to be written and the scan is no series that it can refer to."""
        if self._of_dicom:
            require_identifiers(read_headers(*_series_of(source)))

    def write(self, prediction: Prediction, paths: dict[str, Path]) -> None:
        """Write each file of a prediction to its path, replacing what is there.

        DICOM that would be empty is not written, and what an earlier prediction left in its place is removed.
        """
        source, place = prediction.source, prediction.affine
        like = source.path if source is not None and is_nifti(source.path) else None
        write_nifti(paths["prediction"], prediction.labels, place, like=like)
        if "uncertainty" in paths:
            write_nifti(paths["uncertainty"], prediction.uncertainty, place, like=like)
        if self.labels is None or not self._of_dicom:
            return
        if not prediction.labels.any():
            for name in self._of_dicom:
                with writing(paths[name]):
                    paths[name].unlink(missing_ok=True)
            return
        volume, (folder, series) = Volume(prediction.labels, place), _series_of(source)
        for name in self._of_dicom:
            write = write_dicom_seg if name == "dicom-seg" else write_rtstruct
            write(paths[name], volume, folder, self.labels, series=series)


def _series_of(source: Source | None) -> tuple[Path, str | None]:
    if source is None or not source.path.is_dir():
        got = "one in memory" if source is None else str(source.path)
        message = f"`also` must be left out unless a scan is read from a DICOM series, got {got}."
        raise DataError(message, argument="also", file=None if source is None else source.path)
    return source.path, source.series or None
