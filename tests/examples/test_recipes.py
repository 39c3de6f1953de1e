"""Planned, trained, predicted and evaluated as the scans lie: real volumes, and phantoms in other layouts."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.real_data import real_data, some_atria

from guided_attention.data import make_phantom, open_cohort, write_nifti, write_png_slices
from guided_attention.evaluation import CaseScore
from guided_attention.recipes import Plan, evaluate, info, plan_for, predict, train

pytestmark = pytest.mark.example

SMALL = {"budget.epochs": 1, "network.arguments.channels": 8, "budget.minutes": None}


def whole_way(folder: Path, out: Path, values: Mapping[str, object]) -> tuple[Plan, list[CaseScore]]:
    """Plan, train, resume, predict and evaluate; check that predictions lie on their scans."""
    plan = plan_for(folder, device="cpu").with_values({**SMALL, **values})
    train(plan, out / "run", device="cpu", quiet=True)
    assert train(out / "run", resume=True, device="cpu", quiet=True).epochs == plan.budget.epochs
    entries = predict(out / "run", None, out / "predictions", device="cpu")
    assert {entry.status for entry in entries} == {"done"}
    cohort = open_cohort(folder, layout=plan.data.layout)
    for entry in entries:
        case = cohort.read(entry.case_id)
        drawn = open_cohort(out / "predictions" / f"{entry.case_id}_prediction.nii.gz")[0]
        assert drawn.image.shape[1:] == case.image.shape[1:]
        np.testing.assert_allclose(drawn.affine, case.affine, atol=1e-4)
    rows = evaluate(out / "run", predictions=out / "predictions", device="cpu")
    assert {row.case_id for row in rows} == {entry.case_id for entry in entries}
    told = info(out / "run")
    assert (told["kind"], told["is_finished"], told["locked_by"]) == ("run", True, None)
    assert {"plan.json", "log.csv", "last.pt", "best.pt", "run.json"} <= {
        path.name for path in (out / "run").iterdir()
    }
    return plan, rows


def test_left_atrium_as_it_lies(tmp_path: Path) -> None:
    data = some_atria(tmp_path / "atria", {"train": range(1, 9), "val": (21,), "test": (25,)})
    plan, rows = whole_way(data, tmp_path, {"sampling.steps": 40})
    assert (len(plan.data.train), plan.data.val, plan.data.test) == (8, ("case21",), ("case25",))
    assert (plan.sampling.size, plan.sampling.batch_size, plan.inference.keep_largest) == ((96, 128), 8, True)
    assert np.mean([row.dice for row in rows]) > 0.2


def test_one_ct_case_of_chaos(tmp_path: Path) -> None:
    # One long epoch: each ends with a validation on the whole scan, which takes longer than its steps.
    plan, rows = whole_way(real_data("chaos-ct-case"), tmp_path, {"sampling.steps": 48})
    assert plan.data.train == plan.data.val == ("chaos-ct-case",)
    assert plan.labels.names == {1: "liver"}
    assert "CT" in plan.reasons["preparation.intensity"]
    assert rows[0].dice > 0.1
    assert "validation, not test" in (tmp_path / "run" / "evaluation" / "scores.txt").read_text()


@pytest.mark.filterwarnings("ignore::guided_attention.errors.UnfitScanWarning")
def test_mr_and_ct_in_three_orientations_as_nifti_and_dicom(tmp_path: Path) -> None:
    parts = {"data.train": ["ct_a"], "data.val": ["mr"], "data.test": ["ct_b"], "sampling.steps": 4}
    plan, rows = whole_way(real_data("abdomen-mr-ct"), tmp_path, parts)
    assert len(rows) == len(plan.labels.values)
    (entry,) = predict(
        tmp_path / "run", real_data("abdomen-mr-ct") / "mr_image.nii.gz", tmp_path / "mr", device="cpu"
    )
    assert entry.status == "done"


def test_phantoms_as_png_slices(tmp_path: Path) -> None:
    cases = [make_phantom(0, subject=number, size=48) for number in range(1, 6)]
    write_png_slices(cases[:4], tmp_path / "png" / "train")
    write_png_slices(cases[4:], tmp_path / "png" / "test")
    (tmp_path / "png" / "dataset.json").write_text(json.dumps({"spacing_mm": list(cases[0].spacing_mm)}))
    plan, rows = whole_way(tmp_path / "png", tmp_path, {})
    assert plan.data.test == (cases[4].case_id,)
    assert len(rows) == 4


def test_phantoms_as_nnunet_raw(tmp_path: Path) -> None:
    folder = tmp_path / "Dataset007_Phantoms"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    for number in range(1, 7):
        case = make_phantom(0, subject=number, size=48)
        part = "Ts" if number == 6 else "Tr"
        write_nifti(
            folder / f"images{part}" / f"phantom_{number:03d}_0000.nii.gz", case.image[0], case.affine
        )
        if part == "Tr":
            write_nifti(folder / "labelsTr" / f"phantom_{number:03d}.nii.gz", case.labels, case.affine)
    names = {"background": 0, "liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4}
    about = {"channel_names": {"0": "T1"}, "labels": names, "numTraining": 5, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about))
    plan = plan_for(folder, device="cpu").with_values(SMALL)
    assert (plan.data.layout, plan.data.test) == ("nnunet", ("phantom_006",))
    train(plan, tmp_path / "run", device="cpu", quiet=True)
    entries = predict(tmp_path / "run", None, tmp_path / "predictions", device="cpu")
    assert [(entry.case_id, entry.status) for entry in entries] == [("phantom_006", "done")]
    # The test cases have no reference: the validation cases are scored, and it is said.
    rows = evaluate(tmp_path / "run", device="cpu")
    assert {row.case_id for row in rows} == set(plan.data.val)
    assert {row.organ for row in rows} == set(names) - {"background"}
