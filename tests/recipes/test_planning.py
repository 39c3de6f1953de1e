from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch

from guided_attention.case import Case, affine_of
from guided_attention.data import (
    CHAOS_MR_LABELS,
    open_cohort,
    write_nifti,
    write_phantom_cohort,
    write_png_slices,
)
from guided_attention.errors import ArgumentError, DataError, MissingFileError, WriteError
from guided_attention.labels import LabelSpec
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.models import ModelSettings
from guided_attention.preparation import CohortPercentiles, ZScore
from guided_attention.recipes import Plan, _machine, plan_for, train
from guided_attention.recipes._cases import cases_of_plan, source_of
from guided_attention.recipes._machine import (
    bytes_of_checkpoints,
    bytes_of_step,  # the one that conftest.py does not replace
    megabytes,
)
from guided_attention.recipes._split import split_of
from guided_attention.recipes.prediction import source_for_run
from guided_attention.training import run_folder

Block = Callable[..., Case]
IN_PLANE = ("height", "width")


def test_every_chosen_value_has_a_reason_that_names_a_key(plan: Plan) -> None:
    values = plan.to_dict()
    for key, reason in plan.reasons.items():
        inner = values
        for name in key.split("."):
            inner = inner[name]
        assert reason
    chosen = {"data.train", "labels.names", "preparation.spacing_mm", "sampling.batch_size", "sampling.size"}
    assert chosen <= plan.reasons.keys()


def test_the_disk_that_checkpoints_ask_for_is_said_and_is_what_a_run_asks_for(
    plan: Plan, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def note(folder: Path, needed: int, argument: str) -> None:
        asked.append(needed)
        raise WriteError(f"{argument}: {folder}")

    monkeypatch.setattr(run_folder, "require_space", note)
    with pytest.raises(WriteError):
        train(plan, tmp_path / "run", cases=cases, device="cpu", quiet=True)
    assert asked == [
        pytest.approx(bytes_of_checkpoints(plan.network), rel=0.01)
    ]  # running statistics are small
    planned = plan_for(cases, labels=CHAOS_MR_LABELS, device="cpu")
    said = megabytes(bytes_of_checkpoints(planned.network))
    assert f"the checkpoints of a run ask for {said} of free disk" in planned.reasons["network.builder"]


def test_a_plan_is_repeatable_and_its_seed_deals_the_cases(cases: list[Case]) -> None:
    first, again, other = (plan_for(cases, seed=seed, minutes=3, device="cpu") for seed in (0, 0, 1))
    assert replace(first, reasons={}) == replace(again, reasons={})  # memory that is free changes
    assert first.budget.minutes == 3.0
    assert first.data != other.data
    assert (len(first.data.train), len(first.data.val), len(first.data.test)) == (3, 1, 1)
    assert set(first.data.train + first.data.val + first.data.test) == {case.case_id for case in cases}


@pytest.mark.parametrize(("count", "parts"), [(1, (1, 1, 0)), (2, (1, 1, 0)), (3, (2, 1, 0)), (4, (3, 1, 0))])
def test_few_cases_are_split_as_far_as_they_go(block: Block, count: int, parts: tuple[int, int, int]) -> None:
    plan = plan_for([block(f"{number}") for number in range(count)], device="cpu")
    assert (len(plan.data.train), len(plan.data.val), len(plan.data.test)) == parts
    if count == 1:
        assert plan.data.train == plan.data.val
        assert "says nothing about other scans" in plan.reasons["data.val"]


def test_parts_of_a_layout_are_kept_and_cases_without_labels_do_not_train(block: Block) -> None:
    cases = [block("1"), replace(block("2"), labels=None), block("3")]
    plan = plan_for(cases, device="cpu")
    assert set(plan.data.train + plan.data.val) == {"1", "3"}
    assert "without labels: 1" in plan.reasons["data.train"]


def test_mr_is_scaled_case_by_case_ct_by_the_cohort_and_a_mixture_case_by_case(block: Block) -> None:
    mr, ct = [block("1"), block("2")], [block("3", low=-1000.0), block("4", low=-1000.0)]
    assert plan_for(mr, device="cpu").preparation.intensity == (ZScore(),)
    of_ct = plan_for(ct, device="cpu").preparation.intensity
    assert of_ct is not None
    assert isinstance(of_ct, tuple)
    assert isinstance(of_ct[0], CohortPercentiles)
    assert plan_for([*ct, *mr], device="cpu").preparation.intensity == (ZScore(),)


def test_random_curves_of_intensity_are_for_mr_and_not_for_ct(block: Block) -> None:
    mr, ct = [block("1"), block("2")], [block("3", low=-1000.0), block("4", low=-1000.0)]
    for cases, probability, reason in (
        (mr, 0.15, "scans of other contrasts score higher"),
        (ct, 0.0, "values of CT mean the same"),
        ([*ct, *mr], 0.15, "scans of other contrasts score higher"),
    ):
        plan = plan_for(cases, device="cpu")
        assert plan.augmentation.curve_probability == probability
        assert plan.reasons["augmentation.curve_probability"].startswith(reason)


def test_labels_are_those_given_else_one_organ_a_value(block: Block) -> None:
    cases = [block("1"), block("2", value=7), block("3")]
    assert plan_for(cases, device="cpu").labels.names == {1: "label 1", 7: "label 7"}
    spec = LabelSpec({1: "heart", 7: "lung"})
    plan = plan_for(cases, labels=spec, device="cpu")
    assert plan.labels == spec
    assert plan.network.arguments["num_classes"] == 3
    with pytest.raises(DataError, match="labels of case '2'"):
        plan_for([cases[1]], labels=LabelSpec({1: "heart"}), device="cpu")


def test_an_organ_that_only_a_test_case_has_is_known_before_the_training(block: Block) -> None:
    names = split_of(source_of([block(f"{number}") for number in range(6)]), 0, None, {}).test
    cases = [block(f"{number}", 7 if f"{number}" in names else 1) for number in range(6)]
    assert plan_for(cases).labels.values == (1, 7)


def test_one_organ_may_be_mirrored_and_several_may_not(block: Block, plan: Plan) -> None:
    one = plan_for([block("1")], device="cpu")
    assert one.augmentation.mirror_axes == one.inference.mirror_axes == IN_PLANE
    assert plan.augmentation.mirror_axes == plan.inference.mirror_axes == ()
    volumes = plan_for([block("1")], device="cpu", dimensions="3d")
    assert volumes.augmentation.mirror_axes == volumes.inference.mirror_axes == ("depth", *IN_PLANE)
    assert volumes.training.precision == volumes.inference.precision == "fp32"


def test_left_and_right_are_mirrored_as_pairs(block: Block) -> None:
    cases = [block("1"), block("2", value=7)]
    names = {1: "right kidney", 7: "left kidney"}
    plan = plan_for(cases, labels=LabelSpec(names, pairs=((1, 7),)), device="cpu")
    assert plan.augmentation.mirror_axes == IN_PLANE
    unpaired = LabelSpec(names)
    message = r"got right kidney and left kidney. Pass LabelSpec\(pairs=\(\(1, 7\),\)\)"
    with pytest.raises(DataError, match=message):
        plan_for(cases, labels=unpaired, device="cpu")
    with pytest.raises(DataError, match=message):
        replace(plan, labels=unpaired)
    for name in ("left kidney", "Kidney_L", "Kidney_R", "Left-Lateral-Ventricle"):
        single = plan_for([block("1")], labels=LabelSpec({1: name}), device="cpu")
        assert single.augmentation.mirror_axes == single.inference.mirror_axes == ()
        assert single.reasons["augmentation.mirror_axes"].startswith(f"{name}, which looks like the organ of")
    atrium = plan_for([block("1")], labels=LabelSpec({1: "left atrium"}), device="cpu")
    assert atrium.augmentation.mirror_axes == IN_PLANE


def test_only_organs_in_one_piece_keep_their_largest_component(block: Block) -> None:
    whole, torn = block("1"), block("2")
    assert torn.labels is not None
    torn.labels[1:4, 4] = 0  # 2 of 5 rows are apart
    assert plan_for([whole], device="cpu").inference.keep_largest
    plan = plan_for([torn], device="cpu")
    assert not plan.inference.keep_largest
    assert "50.0%" in plan.reasons["inference.keep_largest"]


def test_slices_are_made_of_at_most_so_many_pixels_and_equal_ones_are_kept(block: Block) -> None:
    small = plan_for([block("1")], device="cpu")
    assert small.preparation.spacing_mm is None
    assert small.sampling.size == small.preparation.min_size == (32, 32)
    # 192 x 256 pixels of 1.5 mm are four times 96 x 128: the side of a pixel doubles.
    large = plan_for([block("1", size=(5, 192, 256))], device="cpu")
    assert large.preparation.spacing_mm == (None, 3.0, 3.0)
    assert large.sampling.size == (96, 128)


def test_unequal_pixels_become_those_of_the_median(block: Block) -> None:
    cases = [
        replace(block(str(n)), affine=affine_of((9.0, side, side))) for n, side in enumerate((1.0, 1.5, 2.0))
    ]
    plan = plan_for(cases, device="cpu", seed=2)
    median = np.median([case.spacing_mm[1] for case in cases if case.case_id in plan.data.train])
    near = pytest.approx(median, rel=0.05)
    assert plan.preparation.spacing_mm == (None, near, near)


@pytest.mark.parametrize(
    # Half of what is left beside weights holds slices of twice 10 MB.
    ("free", "batch", "accumulate"),
    [(10_000_000_000, 8, 1), (221_000_000, 3, 2), (140_000_000, 1, 8), (0, 1, 8)],
)
def test_the_batch_fits_into_the_free_memory(
    block: Block, monkeypatch: pytest.MonkeyPatch, free: int, batch: int, accumulate: int
) -> None:
    monkeypatch.setattr(_machine, "free_bytes", lambda _: free)
    plan = plan_for([block("1", size=(40, 11, 13))], device="cpu")
    assert (plan.sampling.batch_size, plan.training.accumulate) == (batch, accumulate)


@pytest.mark.parametrize(
    # 3 of the 8 slices of a batch are forced to hold an organ, so that 5 go through all slices.
    ("depth", "steps"),
    [(5, 4), (31, 7), (1301, 250)],
)
def test_an_epoch_sees_all_slices_within_limits(block: Block, depth: int, steps: int) -> None:
    sampling = plan_for([block("1", size=(depth, 11, 13))], device="cpu").sampling
    assert (sampling.batch_size, sampling.steps) == (8, steps)


def test_the_precision_is_that_of_the_hardware(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(_machine, "has_fast_bf16", lambda _, fast=fast: fast)
        plan = plan_for([block("1")], device="cpu")
        assert plan.training.precision == plan.inference.precision == precision


def test_mistakes_are_found(block: Block, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(MissingFileError):
        plan_for(tmp_path_factory.mktemp("plans") / "none")
    with pytest.raises(DataError, match="labels to train on"):
        plan_for([replace(block("1"), labels=None)])
    with pytest.raises(DataError, match="at least one organ"):
        plan_for([replace(block("1"), labels=np.zeros((5, 11, 13), np.uint8))])
    with pytest.raises(ArgumentError, match="different names"):
        plan_for([block("1"), block("1")])
    with pytest.raises(DataError, match="fit for a file name, of at most 160 bytes, got 'xxxx"):
        plan_for([block("x" * 161)])  # else it could be trained on, and never predicted
    for options in (
        {"seed": -1},
        {"seed": 2**32},
        {"minutes": 0},
        {"minutes": nan},
        {"device": "tpu"},
        {"device": "meta"},
    ):
        with pytest.raises(ArgumentError):
            plan_for([block("1")], **options)


def test_a_folder_is_read_one_case_after_another(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_phantom_cohort(tmp_path_factory.mktemp("cohort"), subjects=2, size=16, layout="pairs")
    plan = plan_for(open_cohort(folder), device="cpu")
    assert plan.data.folder == str(folder.resolve())
    assert plan.data.layout == "pairs"
    assert plan.labels.names == CHAOS_MR_LABELS.names
    assert replace(plan, reasons={}) == replace(plan_for(folder, device="cpu"), reasons={})


def test_free_memory_is_the_least_of_machine_and_container(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   7000 kB\n"}
    monkeypatch.setattr(_machine, "_text", lambda path: texts.get(path, ""))
    cpu = torch.device("cpu")
    assert _machine.free_bytes(cpu) == 7_168_000
    texts |= {"/sys/fs/cgroup/memory.max": "max\n", "/sys/fs/cgroup/memory.current": "5000\n"}
    assert _machine.free_bytes(cpu) == 7_168_000
    texts["/sys/fs/cgroup/memory.max"] = "12000\n"
    assert _machine.free_bytes(cpu) == 7000
    texts.clear()
    assert _machine.free_bytes(cpu) == 4 * 2**30


def test_the_memory_of_a_step_grows_with_the_slice() -> None:
    network = ModelSettings("daf", {"in_channels": 1, "num_classes": 2, "encoder": "resnet18", "channels": 8})
    loss = GuidedAttentionLoss(DiceCrossEntropyLoss())
    state = torch.random.get_rng_state()
    small, large = (bytes_of_step(network, loss, channels=1, size=(32, side)) for side in (32, 64))
    assert torch.equal(state, torch.random.get_rng_state())
    assert small[0] == large[0]
    # 64 channels at half of the sides, after convolution, norm and ReLU, are kept at the least.
    assert small[1] > 3 * 64 * 16 * 16 * 4
    assert large[1] == pytest.approx(2 * small[1], rel=0.1)


def test_the_memory_of_a_step_on_volumes_is_measured_by_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"in_channels": 1, "num_classes": 2, "encoder": "resnet18", "channels": 4, "spatial_dims": 3}
    network, loss = ModelSettings("daf", arguments), GuidedAttentionLoss(DiceCrossEntropyLoss())
    whole = bytes_of_step(network, loss, channels=1, size=(32, 64, 64))
    monkeypatch.setattr(_machine, "_MEASURED", 32 * 64 * 32)
    part = bytes_of_step(network, loss, channels=1, size=(32, 64, 64))
    assert whole[0] == part[0]
    # 64 channels at half of the sides, after convolution, norm and ReLU, are kept at the least.
    assert whole[1] > 3 * 64 * 16 * 32 * 32 * 4
    assert part[1] == pytest.approx(whole[1], rel=0.1)


def test_only_the_named_organs_of_a_cohort_are_planned(tmp_path: Path) -> None:
    folder = write_phantom_cohort(tmp_path / "scans", subjects=2, size=16, layout="pairs")
    cohort = open_cohort(folder, labels={2: "right kidney", 3: "left kidney"})
    plan = plan_for(cohort, minutes=1, device="cpu")
    assert plan.labels == LabelSpec(
        {2: "right kidney", 3: "left kidney"}, pairs=((2, 3),), others_are_background=True
    )
    assert plan.network.arguments["num_classes"] == 3
    assert plan.reasons["labels.names"].endswith("; other values are background")
    assert Plan.from_dict(plan.to_dict()) == plan
    with pytest.raises(DataError, match="`labels` must be organs that a training case has, got also 97"):
        plan_for(open_cohort(folder, labels={2: "right kidney", 97: "spleen"}), device="cpu")


def test_the_spacing_of_png_slices_goes_with_the_plan(tmp_path, block):
    write_png_slices([block("1"), block("2")], tmp_path / "png" / "train")
    cohort = open_cohort(tmp_path / "png", spacing_mm=(7.0, 1.5, 1.3))
    plan = Plan.from_dict(plan_for(cohort, minutes=1, device="cpu").to_dict())
    assert plan.data.spacing_mm == (7.0, 1.5, 1.3)
    source = cases_of_plan(plan)
    assert source.read(plan.data.train[0]).spacing_mm == (7.0, 1.5, 1.3)


def test_a_patient_in_two_parts_of_the_layout_is_no_plan(tmp_path):
    rows = ["case_id,image,label,part,patient"]
    for number, (part, patient) in enumerate([("train", "p7"), ("train", "p8"), ("test", "p7")]):
        for name in (number, f"m{number}"):
            write_nifti(tmp_path / f"{name}.nii.gz", np.ones((3, 32, 32), np.uint8), np.eye(4))
        rows.append(f"{number},{number}.nii.gz,m{number}.nii.gz,{part},{patient}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"of patients in one part each, got p7 in several\. Move all of"):
        plan_for(tmp_path / "cases.csv")


def test_all_slices_of_a_patient_go_into_one_part():
    image = np.random.default_rng(0).normal(size=(1, 1, 32, 37)).astype(np.float32)
    labels = (image[0] > 0).astype(np.uint8)
    cases = [
        Case(f"p{patient}_{number}", image, labels, np.eye(4)) for patient in range(6) for number in range(4)
    ]
    plan = plan_for(cases, patients=lambda case_id: case_id.split("_")[0])
    parts = (plan.data.train, plan.data.val, plan.data.test)
    assert sum(len({name.split("_")[0] for name in part}) for part in parts) == 6
    assert [len(part) for part in parts] == [16, 4, 4]
    assert "of 6 patients" in plan.reasons["data.val"]


def test_scans_to_predict_are_read_without_masks(tmp_path):
    folder = write_phantom_cohort(tmp_path, subjects=2, size=16, layout="pairs")
    plan = plan_for(folder, device="cpu")
    (name,) = plan.data.val
    assert cases_of_plan(plan).read(name).labels is not None
    for source in (
        cases_of_plan(plan, image_only=True),
        source_for_run(plan, folder, plan.labels, image_only=True),
        source_for_run(plan, open_cohort(folder), plan.labels, image_only=True),
    ):
        assert source.read(name).labels is None
