"""`check` has to find accidents that were planted by someone who had not read the checks."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.data import accidents
from tests.data.accident_maker import CLEAN, patient_of
from tests.data.accidents import ACCIDENTS

from guided_attention.data import check

_ROWS = accidents.rows_of_page()


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Mapping[str, Path]:
    return accidents.make_clean(tmp_path_factory.mktemp("clean"))


@pytest.mark.parametrize("layout", CLEAN)
def test_a_clean_cohort_has_no_error_and_no_warning(clean, layout):
    assert check(clean[layout], patients=patient_of).suspicions == ()


@pytest.mark.parametrize("place", range(len(ACCIDENTS)), ids=lambda place: ACCIDENTS[place].name)
def test_an_accident_is_found_and_its_file_named_as_the_page_says(clean, tmp_path, place):
    accident = ACCIDENTS[place]
    folder = shutil.copytree(clean[accident.layout], tmp_path / "copy", symlinks=True)
    suspicions = accidents.found(accident, folder)
    assert bool(suspicions) is not bool(accident.blind)
    assert accidents.row(accident, suspicions, folder) == _ROWS[place], "python -m tests.data.accidents"


def test_the_page_has_no_other_rows():
    assert len(_ROWS) == len(ACCIDENTS) >= 40
