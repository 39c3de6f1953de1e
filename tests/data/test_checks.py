"""`check` has to find accidents that were planted by someone who had not read the checks."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.data import accidents
from tests.data.accident_maker import CLEAN, SERIES, patient_of, rename, slices
from tests.data.accidents import ACCIDENTS
from tests.data.remembered import facts_by_content, remember

from guided_attention.data import check, open_cohort
from guided_attention.data.checks._facts import CaseFacts
from guided_attention.data.phantom._harm import both, delete, relabel, voxels

_ROWS = accidents.rows_of_page()


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Mapping[str, Path]:
    return accidents.make_clean(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="session")
def known(clean) -> Mapping[bytes, CaseFacts]:
    return facts_by_content(map(open_cohort, clean.values()))


@pytest.fixture
def remembered(known, monkeypatch) -> None:
    remember(known, monkeypatch)


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("layout", CLEAN)
def test_a_clean_cohort_has_no_error_and_no_warning(clean, layout):
    assert check(clean[layout], patients=patient_of).suspicions == ()


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("place", range(len(ACCIDENTS)), ids=lambda place: ACCIDENTS[place].name)
def test_an_accident_is_found_and_its_file_named_as_the_page_says(clean, tmp_path, place):
    accident = ACCIDENTS[place]
    folder = shutil.copytree(clean[accident.layout], tmp_path / "copy", symlinks=True)
    suspicions = accidents.found(accident, folder)
    assert bool(suspicions) is not bool(accident.blind)
    assert accidents.row(accident, suspicions, folder) == _ROWS[place], "python -m tests.data.accidents"


def test_the_page_has_no_other_rows():
    assert len(_ROWS) == len(ACCIDENTS) >= 40


@pytest.mark.usefixtures("remembered")
def test_an_error_of_opening_hides_nothing(clean, tmp_path):
    folder = shutil.copytree(clean["pairs"], tmp_path / "copy")
    exchanged = voxels(relabel({2: 3, 3: 2}), "p06_a_label.nii.gz")
    twice = rename("p01_a_label.nii.gz", "p02_a_label.nii")
    both(delete("p03_a_image.nii.gz"), delete("p05_a_image.nii.gz"), exchanged, twice)(folder)
    (folder / "p08_a_image.nii.gz").unlink()
    (folder / "p08_a_image.nii.gz").symlink_to("/nowhere")
    errors = [(one.kind, one.case_id, one.file.name) for one in check(folder).errors]
    assert errors == [
        ("layout", "", "p08_a_image.nii.gz"),
        ("layout", "", "p02_a_label.nii.gz"),
        ("layout", "", "p03_a_label.nii.gz"),
        ("layout", "", "p05_a_label.nii.gz"),
        ("layout", "", "p08_a_label.nii.gz"),
        ("layout", "", "cases.json"),
        ("unreadable", "p02_a", "p02_a_label.nii"),
        ("sides", "p06_a", "p06_a_label.nii.gz"),
    ]


@pytest.mark.usefixtures("remembered")
def test_an_error_in_each_of_two_subjects_is_told_once(clean, tmp_path):
    folder = shutil.copytree(clean["dicom"], tmp_path / "copy")
    slices(folder, f"{SERIES}/*")[12].unlink()
    (folder / "Train_Sets/MR/3/T1DUAL/Ground/IMG-0004-00026.png").unlink()
    report = check(folder)
    assert [(one.kind, one.case_id) for one in report.suspicions] == [
        ("unreadable", "2"),
        ("unreadable", "3"),
    ]
    assert report.summary["cases"] == 4


@pytest.mark.usefixtures("remembered")
def test_slices_that_are_missing_hide_no_other_part(clean, tmp_path):
    folder = shutil.copytree(clean["png"], tmp_path / "copy")
    for part in ("Img", "GT"):
        slices(folder, f"train/{part}/Subj_2slice_*")[20].unlink()
    slices(folder, "test/GT/Subj_5slice_*")[20].write_bytes(b"")
    assert [(one.kind, one.case_id) for one in check(folder).suspicions] == [
        ("layout", ""),
        ("unreadable", "5"),
    ]


def test_one_file_is_checked(clean, tmp_path):
    assert check(clean["pairs"] / "p02_a_image.nii.gz").suspicions == ()
    (one,) = check(tmp_path / "none.nii.gz").suspicions
    assert (one.severity, one.file) == ("error", tmp_path / "none.nii.gz")
