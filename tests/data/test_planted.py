"""Accidents on demand: each is found, in the case that it happened to."""

import shutil

import pytest
from tests.data.remembered import facts_by_content, remember

from guided_attention.data import ACCIDENTS, check, open_cohort, plant_accident, write_phantom_cohort
from guided_attention.errors import ArgumentError


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "clean"
    return write_phantom_cohort(folder, subjects=6, size=32, layout="pairs", seed=7)


@pytest.fixture(scope="module")
def known(cohort):
    return facts_by_content([open_cohort(cohort)])


@pytest.fixture(autouse=True)
def remembered(known, monkeypatch):
    remember(known, monkeypatch)


def patient_of(case_id):
    return case_id.partition("_")[0]


def test_the_clean_cohort_is_clean(cohort):
    assert check(cohort, patients=patient_of).suspicions == ()


@pytest.mark.parametrize("name", ACCIDENTS)
def test_an_accident_is_found_where_it_was_planted(cohort, tmp_path, name):
    folder = shutil.copytree(cohort, tmp_path / "copy")
    accident = plant_accident(folder, name, seed=1)
    assert accident.name == name
    assert accident.file.exists()
    told = [
        one
        for one in check(folder, patients=patient_of).suspicions
        if one.case_id == accident.case_id
        or accident.file.name in f"{one.file} {one.message}"
        or (one.kind == "leak" and repr(accident.case_id) in one.message)
    ]
    assert told, name


def test_one_seed_is_one_accident(cohort, tmp_path):
    first, second = (shutil.copytree(cohort, tmp_path / name) for name in "ab")
    one, two = (plant_accident(folder, "stray islands", seed=3) for folder in (first, second))
    assert one.file.relative_to(first) == two.file.relative_to(second)
    changed = [
        file for file in sorted(cohort.rglob("*.gz")) if file.read_bytes() != (first / file.name).read_bytes()
    ]
    assert changed == [cohort / one.file.name]
    assert one.file.read_bytes() == two.file.read_bytes()
    assert len({plant_accident(first, "organ missing", seed=seed).case_id for seed in range(9)}) > 2


def test_what_cannot_be_planted(cohort, tmp_path):
    with pytest.raises(ArgumentError, match="`name` must be one of"):
        plant_accident(cohort, "fire")
    single = write_phantom_cohort(tmp_path / "single", subjects=1, size=16, layout="pairs")
    with pytest.raises(ArgumentError, match="a folder of NIfTI pairs, two at least, got 1 in"):
        plant_accident(single, "duplicate")
