"""The name and number of a patient stay in the scanner's files: nothing that is written says them."""

import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from guided_attention.cli import main
from guided_attention.data import check, convert, find_dicom_series, open_cohort, write_phantom_cohort
from guided_attention.preparation import Preparation
from guided_attention.sampling import VolumeCache

_SECRETS = ("Doeringhausen", "Janevieve", "MRN48151623", "19520311", "Hospital Secretham")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release in the layout of CHAOS, before anybody took the names out."""
    folder = write_phantom_cohort(tmp_path_factory.mktemp("scanner") / "release", subjects=3, size=32)
    for path in folder.rglob("*.dcm"):
        slice_ = pydicom.dcmread(path)
        slice_.PatientName, slice_.PatientID = "Doeringhausen^Janevieve", "MRN48151623"
        slice_.PatientBirthDate, slice_.InstitutionName = "19520311", "Hospital Secretham"
        slice_.ReferringPhysicianName, slice_.AccessionNumber = "Doeringhausen^Jane", "MRN48151623"
        slice_.save_as(path)
    return folder


def _told(folder: Path, *texts: str) -> list[str]:
    """Return the secrets in names and bytes of all files of a folder, and in texts."""
    found = list(texts)
    for path in folder.rglob("*"):
        found.append(str(path.relative_to(folder)))
        if path.is_file():
            content = path.read_bytes()
            found.append((gzip.decompress(content) if path.suffix == ".gz" else content).decode("latin-1"))
    return [secret for secret in _SECRETS for text in found if secret.lower() in text.lower()]


def test_the_files_of_the_scanner_do_hold_them(release):
    assert set(_told(release)) == set(_SECRETS)


@pytest.mark.filterwarnings("ignore:spacing differs between cases")
def test_reports_conversions_and_the_cache_do_not(release, tmp_path):
    cohort, labels = open_cohort(release), open_cohort(release).labels
    report = check(release)
    for layout in ("pairs", "nnunet", "png"):
        convert(cohort, tmp_path / layout, layout)
    fitted = Preparation().fit(iter(cohort))
    VolumeCache(tmp_path / "cache", fitted).build(cohort)
    series = find_dicom_series(release / "Train_Sets/MR/1/T1DUAL/DICOM_anon/InPhase")
    said = (
        str(report),
        json.dumps(report.to_dict()),
        repr(cohort),
        repr(labels),
        repr(cohort[0]),
        repr(series),
    )
    assert _told(tmp_path, *said, json.dumps(fitted.to_dict())) == []


def test_errors_do_not(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "broken")
    phases = folder / "Train_Sets/MR/1/T1DUAL/DICOM_anon"
    first, second, third = sorted((phases / "InPhase").iterdir())[:3]
    first.write_bytes(first.read_bytes()[:-100])
    second.write_bytes(b"no slice")
    shutil.copy(min((phases / "OutPhase").iterdir()), third)
    report = check(folder)
    assert len(report.errors) >= 1
    assert _told(tmp_path / "none", str(report)) == []


def test_what_a_nifti_header_says_of_a_patient_is_not_copied(tmp_path):
    (tmp_path / "in").mkdir()
    for kind in ("image", "label"):
        image = nib.Nifti1Image(np.arange(210, dtype=np.uint8).reshape(5, 6, 7) % 3, np.eye(4))
        image.header["descrip"], image.header["aux_file"] = b"Doeringhausen", b"MRN48151623"
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Janevieve"))
        image.to_filename(tmp_path / "in" / f"a_{kind}.nii.gz")
    convert(open_cohort(tmp_path / "in", labels={1: "one", 2: "two"}), tmp_path / "out", "pairs")
    assert _told(tmp_path / "in") != []
    assert _told(tmp_path / "out") == []


@pytest.mark.example  # half a minute
def test_runs_and_predictions_do_not(release, tmp_path, capsys):
    out = tmp_path / "out"
    small = ["network.arguments.channels=8", "network.arguments.steps=1", "budget.epochs=1"]
    options = [part for value in small for part in ("--set", value)]
    verbs = (
        ["check", str(release), "--json"],
        ["plan", str(release), "--out", str(out / "run"), "--minutes", "1", *options],
        ["train", str(out / "run"), "--device", "cpu"],
        ["predict", str(out / "run"), str(release), "--out", str(out / "predicted")],
        ["evaluate", str(out / "run"), "--out", str(out / "scores")],
        ["info", str(out / "run")],
        ["info", str(release)],
    )
    for verb in verbs:
        assert main(verb) == 0, verb
    printed = capsys.readouterr()
    assert len(list((out / "predicted").rglob("*.nii.gz"))) == 3
    assert _told(out, printed.out, printed.err) == []
