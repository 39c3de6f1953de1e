"""The score of a whole submission to CHAOS, read from its folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from guided_attention._checks import require, require_path
from guided_attention._files import PathLike
from guided_attention._typing import LabelVolume
from guided_attention.data import CHAOS_CT_LABELS, CHAOS_MR_LABELS, ChaosSource
from guided_attention.data.chaos import (
    MaskedScan,
    find_drawn_masks,
    find_masked_scans,
    read_drawn_masks,
    scan_folder,
)
from guided_attention.errors import DataError, MissingFileError
from guided_attention.labels import LabelSpec
from guided_attention.metrics import ChaosScore, chaos_score
from guided_attention.metrics._inputs import as_choice, as_records

__all__ = ["score_submission"]

# Names of the folder of masks: in the organisers' example, in their rules of submission, in the release.
_MASK_FOLDERS = ("Segmentation", "Results", "")


def score_submission(
    submission: PathLike,
    reference: PathLike,
    *,
    source: ChaosSource = "ct",
    case_ids: Sequence[str] | None = None,
) -> dict[str, dict[str, ChaosScore]]:
    """Score a submission to CHAOS, one case or many, as the challenge does.

    Slices are paired by the order of their file names, whatever the names are. CT masks are liver wherever they are
    above 0; MR masks are read by ranges of grey values (55-70 liver, 110-135 right kidney, 175-200 left kidney, 240-255
    spleen). The distance between slices comes from ImagePositionPatient of the first and last DICOM slice.

    Every file is checked before the first case is scored. Masks are read twice, and those of one case are in memory at
    a time.

    Args:
        submission: Of one case or of many, the PNG files in ``Segmentation``, in ``Results`` or beside one another. Of
            many: ``<id>/Segmentation``, ``Results/<id>`` and the like, also below ``CT`` or ``MR`` and below
            ``Train_Sets`` or ``Test_Sets``; of MR the folder ``T1DUAL`` or ``T2SPIR`` may come after the id.
        reference: The folder of one case with ``Ground`` and ``DICOM_anon`` in it, or a CHAOS release or a folder of
            it, as for `read_chaos`. The submission may stand in the same folders.
        source: Which scan, as for `read_chaos`: ``"ct"``, ``"t1_in"``, ``"t1_out"``, ``"t1_dual"`` or ``"t2"``. Both
            phases of T1 share their masks.
        case_ids: Names of the cases to score; None for all of the reference.

    Returns:
        The score of each organ of each case, by the name of the case, then of the organ. An organ that is nowhere is
        there too, with NaN; see `chaos_score`. `chaos_points` makes one number of them.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        DataError: Slices differ in number or size, a mask has a grey value without an organ, a case has no reference,
            or the DICOM series is damaged or incomplete.
        MissingFileError: A folder is missing, or a case has no masks in the submission.
        MissingPackageError: pydicom is not installed.

    Example:
        The masks of phantoms, submitted as they are.

        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import write_phantom_cohort
        >>> from guided_attention.metrics import chaos_points
        >>> with TemporaryDirectory() as folder:
        ...     release = write_phantom_cohort(folder, subjects=1, size=16) / "Train_Sets/MR"
        ...     scores = score_submission(release / "1/T2SPIR/Ground", release / "1", source="t2")
        >>> list(scores), list(scores["1"])
        (['1'], ['liver', 'right kidney', 'left kidney', 'spleen'])
        >>> chaos_points([score for organs in scores.values() for score in organs.values()])
        100.0

    References:
        Kavur et al., CHAOS challenge: combined (CT-MR) healthy abdominal organ segmentation, Medical Image Analysis 69,
        2021. https://chaos.grand-challenge.org
    """
    for argument, path in (("submission", submission), ("reference", reference)):
        require_path(argument, path)
    as_choice("source", source, get_args(ChaosSource))
    if case_ids is not None:
        as_records("case_ids", case_ids, str)
    folder = Path(submission)
    if not folder.is_dir():
        message = f"`submission` must be an existing folder, got {folder}. Check the path."
        raise MissingFileError(message, argument="submission", file=folder)
    scans = find_masked_scans(reference, source=source, case_ids=case_ids, argument="reference")
    submitted = [_find_submitted(folder, scan, source, single=len(scans) == 1) for scan in scans]
    pairs = list(zip(submitted, scans, strict=True))
    for masks, scan in pairs:
        _read_both(masks, scan, source)
    labels = CHAOS_CT_LABELS if source == "ct" else CHAOS_MR_LABELS
    return {scan.case_id: _score(*_read_both(masks, scan, source), labels, scan) for masks, scan in pairs}


def _score(
    prediction: LabelVolume, reference: LabelVolume, labels: LabelSpec, scan: MaskedScan
) -> dict[str, ChaosScore]:
    return {
        organ: chaos_score(prediction == label, reference == label, scan.spacing_mm)
        for label, organ in labels.names.items()
    }


def _read_both(
    masks: Sequence[Path], scan: MaskedScan, source: ChaosSource
) -> tuple[LabelVolume, LabelVolume]:
    return read_drawn_masks(masks, scan.shape, source), read_drawn_masks(scan.masks, scan.shape, source)


def _find_submitted(submission: Path, scan: MaskedScan, source: ChaosSource, *, single: bool) -> list[Path]:
    """Return the masks of one case in the order of their slices."""
    cases = _case_folders(submission, scan.case_id, source)
    if single:
        cases.append(submission)
    parts = [part for name in _MASK_FOLDERS for part in (Path(scan_folder(source)) / name, Path(name))]
    for folder in (case / part for case in cases for part in parts):
        masks = find_drawn_masks(folder)
        if masks:
            wanted, got = f"{len(scan.masks)}, as many as the reference has", len(masks)
            cure = "Submit one for each slice, those without an organ too."
            good, what = got == len(scan.masks), f"number of masks in {folder}"
            require(good, what, wanted, got, cure, error=DataError, file=folder)
            return masks
    places = ", ".join(str(case) for case in cases)
    message = (
        f"`submission` must be a folder with the masks of case {scan.case_id!r}, got none: looked for *.png "
        f"in {places}, and in the folders Segmentation and Results there."
    )
    raise MissingFileError(message, argument="submission", file=submission)


def _case_folders(submission: Path, name: str, source: ChaosSource) -> list[Path]:
    modality = "CT" if source == "ct" else "MR"
    within = (".", "Results", modality, f"Train_Sets/{modality}", f"Test_Sets/{modality}")
    return [submission / folder / name for folder in within]
