"""Training from a folder: the same weights as from memory, with the prepared volumes on disk."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.recipes.conftest import SMALL, make_block

from guided_attention.case import Case
from guided_attention.cli import main
from guided_attention.data import open_cohort, write_nifti
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec
from guided_attention.recipes import Plan, plan_for, train
from guided_attention.recipes._cases import cases_of_plan, source_of
from guided_attention.recipes._parts import loader_of
from guided_attention.recipes._volumes import RunData, sweep
from guided_attention.recipes.prediction import source_for_run


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for number in range(5):
        case = make_block(f"c{number}", size=(5, 11 + number, 13))
        write_nifti(folder / f"c{number}_image.nii.gz", case.image[0], case.affine)
        write_nifti(folder / f"c{number}_label.nii.gz", case.labels, case.affine)
    return folder


@pytest.fixture(scope="module")
def plan(scans: Path) -> Plan:
    made = plan_for(scans, device="cpu").with_values(SMALL)
    return replace(made, budget=replace(made.budget, minutes=None, epochs=2))


def _in_memory(plan: Plan) -> tuple[Plan, list[Case]]:
    data = replace(plan.data, folder=None, layout="memory")
    return replace(plan, data=data), list(open_cohort(plan.data.folder or ""))


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "last.pt", weights_only=True)["model"]


@pytest.mark.example
def test_weights_equal_those_of_cases_in_memory(plan: Plan, tmp_path: Path) -> None:
    train(plan, tmp_path / "disk", device="cpu", quiet=True)
    other, cases = _in_memory(plan)
    train(other, tmp_path / "memory", cases=cases, device="cpu", quiet=True)
    ours, theirs = _weights(tmp_path / "disk"), _weights(tmp_path / "memory")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not (tmp_path / "disk/cache").exists()


def test_batches_equal_those_of_cases_in_memory(plan: Plan, tmp_path: Path) -> None:
    other, cases = _in_memory(plan)
    disk = RunData(plan, source_of(plan.data.folder, plan.labels), tmp_path, print).training()
    memory = RunData(other, source_of(cases, plan.labels), tmp_path, print).training()
    batches = []
    for chosen, volumes in ((plan, disk), (other, memory)):
        torch.manual_seed(0)
        loader = loader_of(chosen, volumes, torch.device("cpu"))
        batches.append([part for _epoch in range(2) for batch in loader for part in batch])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*batches, strict=True))
    assert "of disk, in the run folder" in plan.reasons["data.cache"]


def test_a_cache_that_the_plan_names_is_kept_and_used_again(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    chosen, source = plan.with_values({"data.cache": str(shared)}), source_of(plan.data.folder, plan.labels)
    RunData(chosen, source, tmp_path / "first", print).training()
    sweep(chosen, tmp_path / "first")
    held = {path: path.stat().st_mtime_ns for path in shared.rglob("*")}
    assert len(list(shared.iterdir())) == len(plan.data.train)
    monkeypatch.setattr("guided_attention.preparation.Preparation.apply", _never)
    data = RunData(chosen, source, tmp_path / "second", print)
    assert len(list(data.training())) == len(plan.data.train)
    assert {path: path.stat().st_mtime_ns for path in shared.rglob("*")} == held


def _never(*_arguments: object) -> None:
    raise AssertionError


def test_progress_and_digest(plan: Plan, tmp_path: Path) -> None:
    lines: list[str] = []
    data = RunData(plan, source_of(plan.data.folder, plan.labels), tmp_path, lines.append)
    data.training()
    data.validation()
    count = len(plan.data.train)
    assert lines == [f"prepared {number} of {count} cases" for number in range(1, count + 1)]
    other, cases = _in_memory(plan)
    memory = RunData(other, source_of(cases, plan.labels), tmp_path, lines.append)
    memory.training()
    memory.validation()
    assert memory.digest() == data.digest()
    assert (tmp_path / "cache").is_dir()
    sweep(plan, tmp_path)
    assert not (tmp_path / "cache").exists()


def test_a_case_that_cannot_be_scored_is_named_before_training(
    plan: Plan, scans: Path, tmp_path: Path
) -> None:
    (name,) = plan.data.val
    labels = LabelSpec({2: "other"})
    source = source_of(scans, None)
    data = RunData(replace(plan, labels=labels), source, tmp_path, print)
    with pytest.raises(DataError, match=f"labels of case '{name}'` must be made of 0 and the values of"):
        data.validation()


def test_channels_of_new_scans_are_called_as_in_training(tmp_path: Path) -> None:
    for part, numbers in (("imagesTr", (1, 2)), ("labelsTr", (1, 2)), ("imagesTs", (3,))):
        (tmp_path / part).mkdir()
        for number in numbers:
            case = make_block(f"c{number}")
            for channel in (0, 1) if part != "labelsTr" else ():
                write_nifti(
                    tmp_path / part / f"c{number}_{channel:04d}.nii.gz", case.image[0] + channel, case.affine
                )
            if part == "labelsTr" and case.labels is not None:
                write_nifti(tmp_path / part / f"c{number}.nii.gz", case.labels, case.affine)
    names = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "organ": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(names), encoding="utf-8")
    plan = plan_for(tmp_path, device="cpu")
    assert plan.data.channels == ("0000", "0001")
    source = source_for_run(plan, tmp_path / "imagesTs", plan.labels)
    case = source.readers(["c3"])[0]()
    assert case.channel_names == ("T2", "ADC")
    assert plan.preparation.apply(case).image.shape[0] == 2
    words = Path(f"{tmp_path}-words")
    words.mkdir()
    for number, name in enumerate(("t2", "adc")):
        shutil.copy(tmp_path / f"imagesTs/c3_000{number}.nii.gz", words / f"c3_{name}.nii.gz")
    scan = case.image
    for chosen in (("ADC",), ("adc", "T2"), ("0001", "0000"), ("0001",)):
        plan = plan_for(open_cohort(tmp_path, channels=chosen), device="cpu")
        assert plan.data.channels == ("0001", "0000")[: len(chosen)]
        for place in (tmp_path / "imagesTs", words, tmp_path):
            case = source_for_run(plan, place, plan.labels, image_only=True).read("c3")
            np.testing.assert_array_equal(case.image, scan[::-1][: len(chosen)])
            assert plan.preparation.apply(case).image.shape[0] == len(chosen)


def test_channels_that_a_list_renames_are_found_in_a_folder_without_one(tmp_path: Path) -> None:
    for folder, numbers in (("cases", (1, 2, 4)), ("new", (3,))):
        (tmp_path / folder).mkdir()
        for number in numbers:
            case, path = make_block(f"c{number}"), tmp_path / folder / f"c{number}"
            for channel, name in enumerate(("t1", "t2")):
                write_nifti(f"{path}_{name}.nii.gz", case.image[0] + 7 * channel, case.affine)
            if folder == "cases" and case.labels is not None:
                write_nifti(f"{path}_seg.nii.gz", case.labels, case.affine)
    (tmp_path / "cases/cases.json").write_text(json.dumps({"channel_names": ["before", "after"]}))
    for chosen, names in {
        None: ("before", "after"),
        ("t2", "t1"): ("after", "before"),
        ("after",): ("after",),
    }.items():
        plan = plan_for(open_cohort(tmp_path / "cases", channels=chosen, labels={1: "organ"}), device="cpu")
        case = source_for_run(plan, tmp_path / "new", plan.labels, image_only=True).read("c3")
        assert case.channel_names == names
        assert case.image[:, 0, 0, 0].tolist() == [7.0 * (name == "after") for name in names]
        assert plan.preparation.apply(case).image.shape[0] == len(names)
        again = cases_of_plan(plan).read("c4")
        assert (again.channel_names, len(again.image)) == (names, len(names))


def test_a_table_is_planned_from_the_command_line(scans: Path, tmp_path: Path) -> None:
    rows = [f"s{n},{scans}/c{n}_image.nii.gz,{scans}/c{n}_label.nii.gz,p{n // 2}" for n in range(4)]
    table = tmp_path / "cases.csv"
    table.write_text("\n".join(["case_id,image:T1,label,patient", *rows]), encoding="utf-8")
    assert main(["plan", str(table), "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    plan = Plan.load(tmp_path / "run")
    assert (plan.data.folder, plan.data.layout) == (str(table), "csv")
    assert {len(plan.data.train), len(plan.data.val)} == {2}  # both cases of a patient in one part
    assert plan.preparation.fingerprint is not None
    assert plan.preparation.fingerprint.channel_names == ("T1",)
    found = cases_of_plan(plan)
    assert found.read("s1").channel_names == ("T1",)
