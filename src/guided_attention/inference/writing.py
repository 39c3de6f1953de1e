"""Predictions as NIfTI files that lie on the scan in every viewer."""

from pathlib import Path

from guided_attention._checks import require, require_path, require_type
from guided_attention._files import PathLike, made_folder
from guided_attention.data import write_nifti
from guided_attention.errors import DataError, ExistingFileError
from guided_attention.outputs import Prediction

__all__ = ["prediction_paths", "save_prediction", "write_prediction"]

_NOT_IN_NAMES = '/\\:*?"<>|'
_LONGEST = 160
"""Bytes of an id: with what is added to it for a draft, file systems take 255."""


def save_prediction(
    prediction: Prediction, folder: PathLike, *, include_uncertainty: bool = False, overwrite: bool = False
) -> Path:
    """Write a prediction as NIfTI, with the affine of the scan it was made from.

    Args:
        prediction: What `Predictor.predict` returned.
        folder: Where to write ``<case_id>_prediction.nii.gz``; created where it is missing.
        include_uncertainty: Also write ``<case_id>_uncertainty.nii.gz``, float32.
        overwrite: Replace existing files.

    Returns:
        The path of the label volume.

    Raises:
        ExistingFileError: A file exists and `overwrite` is not set; nothing is written then.
        DataError: The case's id cannot be part of a file name.
        MissingPackageError: nibabel is not installed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> labels = np.ones((3, 5, 7), np.uint8)
        >>> prediction = Prediction("7", labels, np.zeros((3, 5, 7), np.float32), np.diag([1.5, 1.5, 9.0, 1.0]))
        >>> save_prediction(prediction, tempfile.mkdtemp()).name
        '7_prediction.nii.gz'
    """
    require_type("prediction", prediction, Prediction, "a Prediction")
    root = made_folder(folder)
    paths = prediction_paths(prediction.case_id, root, include_uncertainty=include_uncertainty)
    held = [str(path) for path in paths.values() if path.exists()]
    if held and not overwrite:
        raise ExistingFileError(
            f"`folder` must not hold an earlier prediction of this case, got {', '.join(held)}. "
            "Name another folder, or set overwrite=True to replace it.",
            argument="folder",
            file=folder,
        )
    write_prediction(prediction, paths)
    return paths["prediction"]


def prediction_paths(case_id: str, folder: PathLike, *, include_uncertainty: bool) -> dict[str, Path]:
    """Return where each kind of volume of a case goes; raise where its id cannot be part of a file name."""
    short = case_id.isprintable() and len(case_id.encode()) <= _LONGEST
    plain = short and bool(case_id) and not set(case_id) & set(_NOT_IN_NAMES) and not case_id.startswith(".")
    wanted = f"fit for a file name, of at most {_LONGEST} bytes"
    require(plain, "case_id", wanted, repr(case_id), "Rename the case.", error=DataError)
    kinds = ("prediction", "uncertainty") if include_uncertainty else ("prediction",)
    root = require_path("folder", folder)
    return {kind: root / f"{case_id}_{kind}.nii.gz" for kind in kinds}


def write_prediction(prediction: Prediction, paths: dict[str, Path]) -> None:
    """Write each kind of volume to its path, replacing what is there."""
    volumes = {"prediction": prediction.labels, "uncertainty": prediction.uncertainty}
    for kind, path in paths.items():
        write_nifti(path, volumes[kind], prediction.affine)
