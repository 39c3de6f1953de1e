"""`check` has to find accidents that were planted by someone who had not read the checks."""

import shutil
from pathlib import Path

import pytest
from tests.data.accident_list import ACCIDENTS
from tests.data.accidents import CLEAN, Accident, patient_of

from guided_attention.data import Suspicion, check
from guided_attention.errors import GuidedAttentionError


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> dict[str, Path]:
    folders = {layout: tmp_path_factory.mktemp(layout) for layout in CLEAN}
    for layout, write in CLEAN.items():
        write(folders[layout])
    return folders


def found(accident: Accident, folder: Path) -> list[str]:
    """Return what was said about the files at fault: suspicions, or the error that stopped the check."""
    try:
        report = check(folder, patients=patient_of)
    except GuidedAttentionError as error:
        lines = [f"error opening: {error}"]
    else:
        lines = [_line(suspicion, folder) for suspicion in report.suspicions]
    return [line for line in lines if any(name in line for name in _names(accident))]


def _line(suspicion: Suspicion, folder: Path) -> str:
    file = suspicion.file.relative_to(folder) if suspicion.file.is_relative_to(folder) else suspicion.file
    return f"{suspicion.severity} {suspicion.kind} case {suspicion.case_id}: {file} {suspicion.message}"


def _names(accident: Accident) -> set[str]:
    """Return the files at fault, and the cases that they belong to."""
    cases = {f"case {file.split('_image')[0].split('_label')[0]}:" for file in accident.files}
    if accident.layout != "pairs":
        cases = {"case 2:", "'2'"}
    return set(accident.files) | cases


@pytest.mark.parametrize("layout", CLEAN)
def test_a_clean_cohort_has_no_error_and_no_warning(clean, layout):
    assert check(clean[layout], patients=patient_of).suspicions == ()


@pytest.mark.parametrize("accident", ACCIDENTS, ids=lambda accident: accident.name)
def test_an_accident_is_found_and_its_file_named(clean, tmp_path, accident):
    folder = shutil.copytree(clean[accident.layout], tmp_path / "copy", symlinks=True)
    accident.plant(folder)
    assert found(accident, folder)
