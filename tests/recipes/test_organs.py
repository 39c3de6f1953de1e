"""Organs of a run and those that other scans are known to have: compared by name, before anything is scored."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guided_attention.case import Case
from guided_attention.data import (
    CHAOS_MR_LABELS,
    Cohort,
    convert,
    open_cohort,
    write_nifti,
    write_phantom_cohort,
)
from guided_attention.errors import DataError
from guided_attention.inference import Predictor
from guided_attention.labels import LabelSpec
from guided_attention.models import msga_lite
from guided_attention.preparation import Preparation
from guided_attention.recipes import Plan, evaluate
from guided_attention.recipes._cases import cases_of_plan, source_of
from guided_attention.recipes.prediction import source_for_run

pytest.importorskip("nibabel")

SHAPE, AFFINE = (3, 11, 13), np.diag([1.5, 1.25, 5.0, 1.0])
ORGANS = LabelSpec({1: "liver", 2: "spleen"})
PLACES = {"liver": 1, "spleen": 7}


def mask(values: dict[str, int]) -> np.ndarray:
    """Organs at their places, with these values."""
    labels = np.zeros(SHAPE, np.uint8)
    for name, value in values.items():
        labels[:2, PLACES[name] : PLACES[name] + 3, 4:9] = value
    return labels


def task(folder: Path, values: dict[str, int]) -> Path:
    """A data set of nnU-Net whose dataset.json gives the organs these values."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    write_nifti(folder / "imagesTr/a_0000.nii.gz", image, AFFINE)
    write_nifti(folder / "labelsTr/a.nii.gz", mask(values), AFFINE)
    labels = {"background": 0} | values
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels}))
    return folder


def structures(folder: Path) -> Path:
    """One subject with one file a structure."""
    (folder / "s1/segmentations").mkdir(parents=True)
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    write_nifti(folder / "s1/ct.nii.gz", image, AFFINE)
    for name in PLACES:
        write_nifti(folder / f"s1/segmentations/{name}.nii.gz", mask({name: 1}), AFFINE)
    return folder


def read(data: Path | Cohort, labels: LabelSpec) -> np.ndarray:
    source = source_of(data, labels)
    found = source.read(source.case_ids[0]).labels
    assert found is not None
    return found


def refusal(folder: Path, wanted: dict[int, str], got: str) -> str:
    names = re.escape(str(wanted))
    cure = re.escape(f'Pass open_cohort("{folder}", labels={wanted}): masks that name')
    return f"^`organs of {folder}` must be called and numbered as asked for, {names}, got {re.escape(got)}\\. {cure}"


def test_a_folder_that_numbers_the_organs_of_a_run_otherwise_is_not_scored(tmp_path: Path) -> None:
    scans, same = (
        task(tmp_path / "other", {"spleen": 1, "liver": 2}),
        task(tmp_path / "same", {"liver": 1, "spleen": 2}),
    )
    preparation = Preparation(slice_axis="axial", min_size=(32, 32)).fit([open_cohort(scans)[0]])
    network = msga_lite(1, 3, encoder="resnet18", channels=4)
    Predictor(network, preparation, ORGANS, device="cpu").save(tmp_path / "run")
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    write_nifti(drawn / "a_prediction.nii.gz", mask({"liver": 1, "spleen": 2}), AFFINE)
    with pytest.raises(
        DataError, match=refusal(scans, {1: "liver", 2: "spleen"}, "{1: 'spleen', 2: 'liver'}")
    ):
        evaluate(tmp_path / "run", scans, predictions=drawn, out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()
    for good in (same, open_cohort(same), open_cohort(same, labels={1: "Liver", 2: "spleen"})):
        rows = evaluate(tmp_path / "run", good, predictions=drawn, out=tmp_path / "out", device="cpu")
        assert [(row.organ, row.dice) for row in rows] == [("liver", 1.0), ("spleen", 1.0)]


def test_organs_are_compared_by_name_and_by_value(tmp_path: Path) -> None:
    scans = task(tmp_path / "a", {"spleen": 1, "liver": 2})
    others = ({2: "liver", 3: "Spleen"}, {1: "kidney"}, {2: "liver", 4: "spleen"}, {1: "ignore"})
    for names in others:
        for data in (scans, open_cohort(scans)):
            with pytest.raises(DataError, match=refusal(scans, names, "{1: 'spleen', 2: 'liver'}")):
                source_of(data, LabelSpec(names))
            assert source_of(data, LabelSpec(names), image_only=True).labelled == ()  # no mask is read
        given = open_cohort(scans, labels=names)  # as the message says
        assert source_of(given, LabelSpec(names)).case_ids == ("a",)
    whole = mask({"spleen": 1, "liver": 2})
    for agreeing in ({1: "Spleen", 2: "liver"}, {1: "label 1", 2: "label 2"}, {2: "liver", 3: "kidney"}):
        np.testing.assert_array_equal(read(scans, LabelSpec(agreeing)), whole)
        np.testing.assert_array_equal(read(open_cohort(scans), LabelSpec(agreeing)), whole)


def test_one_file_a_structure_is_numbered_by_name_and_not_by_its_alphabet(tmp_path: Path) -> None:
    scans, organs = structures(tmp_path / "s"), LabelSpec({1: "kidney", 2: "liver", 3: "spleen"})
    with pytest.raises(DataError, match=refusal(scans, dict(organs.names), "{1: 'liver', 2: 'spleen'}")):
        source_of(open_cohort(scans), organs)
    with pytest.raises(DataError, match="`labels` must be names of structures of .*, got kidney"):
        source_of(scans, organs)
    swapped = LabelSpec({1: "spleen", 2: "liver"})
    wanted = mask({"liver": 2, "spleen": 1})
    for data in (scans, open_cohort(scans, labels={1: "spleen", 2: "liver"})):
        np.testing.assert_array_equal(read(data, swapped), wanted)


def test_an_organ_that_was_left_out_when_a_cohort_was_opened_is_not_absent(tmp_path: Path) -> None:
    scans = task(tmp_path / "a", {"liver": 1, "spleen": 2})
    got = "{1: 'liver'}, and all other values read as background"
    with pytest.raises(DataError, match=refusal(scans, {1: "liver", 2: "spleen"}, got)):
        source_of(open_cohort(scans, labels={1: "liver"}), ORGANS)
    whole = open_cohort(scans, labels={1: "liver", 2: "spleen"})
    np.testing.assert_array_equal(read(whole, ORGANS), mask({"liver": 1, "spleen": 2}))
    np.testing.assert_array_equal(
        read(whole, LabelSpec({1: "liver"}, others_are_background=True)), mask({"liver": 1})
    )


@pytest.mark.parametrize("how", [LabelSpec({1: "liver"}), {1: "liver"}, "cases.json"])
def test_a_structure_that_was_not_chosen_is_not_absent(
    tmp_path: Path, how: LabelSpec | dict[int, str] | str
) -> None:
    scans, drawn = structures(tmp_path / "s"), tmp_path / "drawn"
    drawn.mkdir()
    write_nifti(drawn / "s1_prediction.nii.gz", mask({"liver": 1, "spleen": 2}), AFFINE)
    preparation = Preparation(slice_axis="axial", min_size=(32, 32)).fit([open_cohort(scans)[0]])
    network = msga_lite(1, 3, encoder="resnet18", channels=4)
    Predictor(network, preparation, ORGANS, device="cpu").save(tmp_path / "run")
    if isinstance(how, str):
        (scans / how).write_text(json.dumps({"labels": {"1": "liver"}}))
    chosen = open_cohort(scans, labels=None if isinstance(how, str) else how)
    assert np.array_equal(read(chosen, LabelSpec({1: "liver"})), mask({"liver": 1}))
    got = "{1: 'liver'}, and all other values read as background"
    calls = (
        lambda: evaluate(tmp_path / "run", chosen, predictions=drawn, out=tmp_path / "out", device="cpu"),
        lambda: convert(chosen, tmp_path / "new", "pairs", labels=ORGANS),
        lambda: source_of(chosen, ORGANS),
    )
    for call in calls:
        with pytest.raises(DataError, match=refusal(scans, {1: "liver", 2: "spleen"}, got)):
            call()
    assert source_of(chosen, ORGANS, image_only=True).labels == ORGANS  # no mask is read
    whole = open_cohort(scans, labels=ORGANS)
    assert whole.labels == ORGANS
    rows = evaluate(tmp_path / "run", whole, predictions=drawn, out=tmp_path / "out", device="cpu")
    assert [(row.organ, row.dice) for row in rows] == [("liver", 1.0), ("spleen", 1.0)]


def test_what_is_read_as_background_cannot_be_named_afterwards(tmp_path: Path) -> None:
    for scans in (structures(tmp_path / "s"), task(tmp_path / "t", {"liver": 1, "spleen": 2})):
        cohort = open_cohort(scans, labels={2: "spleen"})
        wanted = (
            f"`labels` must be of the values of {{2: 'spleen'}}: all others are read as 0, got {ORGANS.names}"
        )
        for narrowed in (cohort, cohort.with_labels(LabelSpec({2: "Milz"})).with_labels({2: "spleen"})):
            for again in ({1: "liver", 2: "spleen"}, ORGANS):
                with pytest.raises(DataError, match=f"^{re.escape(wanted)}. Pass open_cohort"):
                    narrowed.with_labels(again)
            assert narrowed.without_labels().with_labels(ORGANS).labels == ORGANS
            np.testing.assert_array_equal(read(narrowed, LabelSpec({2: "spleen"})), mask({"spleen": 2}))


def test_names_that_replaced_those_of_the_folder_in_a_plan_stay(plan: Plan, tmp_path: Path) -> None:
    names = dict(zip((1, 2, 3, 4), ("Leber", "rechte Niere", "linke Niere", "Milz"), strict=True))
    made = replace(plan, labels=replace(plan.labels, names=names))
    scans = task(tmp_path.resolve() / "a", {"liver": 1, "spleen": 4})
    own = replace(made, data=replace(made.data, folder=str(scans), layout="nnunet"))
    case: Case = cases_of_plan(own).read("a")
    np.testing.assert_array_equal(case.labels, mask({"liver": 1, "spleen": 4}))
    with pytest.raises(DataError, match="called and numbered as asked for"):
        cases_of_plan(own, open_cohort(scans))


def test_a_run_of_t2_takes_a_release_in_which_a_subject_has_no_t1(plan: Plan, tmp_path: Path) -> None:
    release = write_phantom_cohort(tmp_path / "chaos", subjects=2, size=16)
    shutil.rmtree(release / "Train_Sets/MR/2/T1DUAL")
    source = source_for_run(
        replace(plan, data=replace(plan.data, layout="chaos:t2")), release, CHAOS_MR_LABELS
    )
    assert (source.layout, source.labelled) == ("chaos:t2", ("1", "2"))
    with pytest.raises(DataError, match="that all have T1DUAL"):
        source_for_run(replace(plan, data=replace(plan.data, layout="chaos")), release, CHAOS_MR_LABELS)
