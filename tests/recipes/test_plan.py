import json
from dataclasses import replace
from pathlib import Path

import pytest

from guided_attention._typing import SliceAxis
from guided_attention.case import Case
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError, MissingFileError
from guided_attention.labels import LabelSpec
from guided_attention.models import ModelSettings
from guided_attention.recipes import (
    BudgetPlan,
    DataPlan,
    OptimizerPlan,
    Plan,
    SamplingPlan,
    train,
    train_folds,
)
from guided_attention.recipes._shapes import Shapes
from guided_attention.recipes.plan import differing_keys
from guided_attention.recipes.values import check_values


def test_a_plan_comes_back_from_json(plan: Plan, tmp_path: Path) -> None:
    path = plan.save(tmp_path / "plan.json")
    assert Plan.load(path) == plan
    assert Plan.load(tmp_path) == plan
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_texts_are_read_as_the_type_of_the_value_they_replace(plan: Plan) -> None:
    other = plan.with_values(
        {
            "optimizer.lr": "1e-3",
            "optimizer.name": "sgd",
            "sampling.size": "16, 16",
            "sampling.foreground": "0",
            "inference.patch_size": "16,32",
            "augmentation.strength": "none",
            "augmentation.mirror_axes": "height,width",
            "inference.mirror_axes": "height",
            "training.ema_decay": "none",
            "budget.minutes": "7",
            "data.test": "1,3",
            "data.train": "2",
            "data.val": "4",
            "network.arguments.steps": "1",
            "labels.names.1": "12",
            "seed": "5",
        }
    )
    assert (other.optimizer.lr, other.optimizer.name) == (1e-3, "sgd")
    assert (other.sampling.size, other.sampling.foreground) == ((16, 16), 0.0)
    assert (other.inference.patch_size, other.inference.mirror_axes) == ((16, 32), ("height",))
    assert (other.augmentation.strength, other.augmentation.mirror_axes) == ("none", ("height", "width"))
    assert (other.training.ema_decay, other.budget.minutes, other.seed) == (None, 7.0, 5)
    assert (other.data.train, other.data.val, other.data.test) == (("2",), ("4",), ("1", "3"))
    assert other.network.arguments["steps"] == 1
    assert other.labels.names[1] == "12"
    assert other.reasons["optimizer.lr"] == "set by hand"
    assert plan.optimizer.lr == 2e-3  # the plan itself is as it was


def test_values_that_are_no_texts_are_taken_as_they_are(plan: Plan) -> None:
    assert plan.with_values({"sampling.size": (16, 32), "optimizer.lr": 1}).sampling.size == (16, 32)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("optimiser.lr", "optimizer.lr"),
        ("lr", "optimizer.lr"),
        ("sampling.batchsize", "sampling.batch_size"),
        ("sampling", "sampling"),
        ("network.builder.x", "network.builder"),
        ("reasons.seed", "seed"),
        ("network.arguments.", "network.arguments"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_named(plan: Plan, key: str, nearest: str) -> None:
    with pytest.raises(ArgumentError, match=f"Did you mean '.*{nearest}"):
        plan.with_values({key: "1"})


def test_an_unknown_argument_of_the_network_is_refused_and_the_nearest_named(plan: Plan) -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'channels'"):
        plan.with_values({"network.arguments.chanels": "8"})


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("optimizer.lr", "fast", "`optimizer.lr` must be a finite number, got 'fast'"),
        ("optimizer.lr", "NaN", "finite"),
        ("optimizer.lr", "0", "`optimizer.lr` must be above 0"),
        ("optimizer.name", "adam", "'adamw', 'sgd', got 'adam'"),
        ("sampling.batch_size", "2.5", "`sampling.batch_size` must be a whole number, got 2.5"),
        ("sampling.batch_size", "true", "whole number, got True"),
        ("sampling.size", "32", r"a height and a width, or a depth before them, got \(32,\)"),
        ("sampling.size", "2,16,16,16", "a height and a width, or a depth before them"),
        ("sampling.size", "0,16", "`sampling.size` must be above 0"),
        (
            "sampling.size",
            "16,16,16",
            "of 2 sides, as the network.*plan with other dimensions",
        ),
        ("sampling.steps", "0", "at least 1"),
        ("sampling.foreground", "1.5", "from 0 to 1"),
        ("augmentation.strength", "strongest", "'none', 'standard', 'strong', got 'strongest'"),
        ("augmentation.mirror_axes", "width,width", "different axes"),
        ("augmentation.curve_probability", "1.5", "from 0 to 1"),
        (
            "augmentation.mirror_axes",
            "depth",
            r"`augmentation.mirror_axes` must be of height and width.*\('depth',\)",
        ),
        ("augmentation.mirror_axes", "left", "'depth', 'height', 'width', got 'left'"),
        (
            "inference.mirror_axes",
            "height,depth",
            "`inference.mirror_axes` must be of height and width for slices",
        ),
        ("inference.mirror_axes", "height,height", "different axes"),
        ("inference.patch_size", "16,16,16", "`inference.patch_size` must be of 2 sides or none"),
        ("inference.patch_size", "0,16", "`inference.patch_size` must be above 0"),
        ("inference.patch_size", "wide,16", "`inference.patch_size` must be a whole number, got 'wide'"),
        ("inference.overlap", "1", "below 1"),
        ("training.patience", "0", "above 0"),
        ("data.train", "1,1", "another part|without cases"),
        ("network.arguments.num_classes", "2", "that of the labels, 5"),
        ("network.arguments.in_channels", "2", "that of the scans, 3"),
        ("network.builder", "msga_light", "Did you mean 'msga_lite'"),
        ("preparation.slice_axis", "axil", "slice_axis"),
    ],
)
def test_values_are_checked(plan: Plan, key: str, text: str, message: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError, DataError), match=message):
        plan.with_values({key: text})


def test_a_size_above_the_padding_is_refused_with_the_cure(plan: Plan) -> None:
    with pytest.raises(ArgumentError, match="Set preparation.min_size to 48,32 too"):
        plan.with_values({"sampling.size": "48,32"})
    assert plan.with_values({"sampling.size": "48,32", "preparation.min_size": "48,32"}).sampling.size == (
        48,
        32,
    )


@pytest.mark.usefixtures("without_shape_checks")
def test_a_damaged_file_is_named(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for text in ("", "[1]", "{", json.dumps(plan.to_dict() | {"optimiser": {}}), json.dumps({"version": 1})):
        path.write_text(text)
        with pytest.raises(DataError, match="plan.json") as caught:
            Plan.load(path)
        assert caught.value.file == path
    with pytest.raises(MissingFileError, match="plan_for"):
        Plan.load(tmp_path / "no")


def test_a_plan_of_a_newer_version_asks_for_an_update(plan: Plan) -> None:
    with pytest.raises(DataError, match="Update guided-attention"):
        Plan.from_dict(plan.to_dict() | {"version": 4})
    for older in (1, 2):
        with pytest.raises(DataError, match=rf"must be 3, got {older}\. Plan and train anew.*best\.pt"):
            Plan.from_dict(plan.to_dict() | {"version": older})


def test_slices_with_neighbours_have_sides_that_a_lone_sagittal_slice_lacks(plan: Plan) -> None:
    kidneys = LabelSpec({1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"})
    values = {"preparation.slice_axis": "sagittal", "augmentation.mirror_axes": "height"}
    assert plan.preparation.neighbours == 1
    with pytest.raises(DataError, match="right kidney and left kidney"):
        replace(plan, labels=kidneys).with_values(values)
    lone = {"preparation.neighbours": 0, "network.arguments.in_channels": 1}
    assert replace(plan, labels=kidneys).with_values(values | lone).augmentation.mirror_axes == ("height",)


def test_volumes_have_no_neighbours_as_channels(plan: Plan) -> None:
    values = {
        "sampling.size": "16,16,16",
        "network.arguments.spatial_dims": 3,
        "preparation.min_size": "16,16,16",
    }
    with pytest.raises(ArgumentError, match="`preparation.neighbours` must be 0 for volumes, got 1"):
        plan.with_values(values)
    values |= {"preparation.neighbours": 0, "network.arguments.in_channels": 1}
    volumes = plan.with_values(
        values | dict.fromkeys(("augmentation.mirror_axes", "inference.mirror_axes"), "depth")
    )
    assert (volumes.sampling.size, volumes.inference.mirror_axes) == ((16, 16, 16), ("depth",))
    assert volumes.inference.patch_size == (16, 16, 16)
    with pytest.raises(ArgumentError, match="`inference.patch_size` must be of 3 sides or none"):
        volumes.with_values({"inference.patch_size": "16,16"})
    with pytest.raises(ArgumentError, match="Set preparation.min_size to 32,16,16 too"):
        volumes.with_values({"sampling.size": "32,16,16"})


def test_an_unknown_or_missing_key_inside_is_named(plan: Plan) -> None:
    values = plan.to_dict()
    values["optimizer"] = {"name": "adamw", "learning_rate": 1.0, "weight_decay": 0.0}
    with pytest.raises(DataError, match="'learning_rate'"):
        Plan.from_dict(values)
    values["optimizer"] = {"name": "adamw", "lr": 1.0}
    with pytest.raises(DataError, match="weight_decay"):
        Plan.from_dict(values)


@pytest.mark.usefixtures("without_shape_checks")
def test_records_turn_lists_into_tuples_and_whole_floats_into_floats() -> None:
    record = SamplingPlan(size=[16, 32], foreground=1)
    assert record.size == (16, 32)
    assert isinstance(record.foreground, float)
    assert BudgetPlan(minutes=3).minutes == 3.0


def test_no_case_is_in_two_parts_but_a_single_one_may_validate_itself() -> None:
    about = {"folder": None, "layout": "memory"}
    assert DataPlan(train=("1",), val=("1",), **about).val == ("1",)
    for parts in (
        {"train": ("1", "2"), "val": ("2",)},
        {"train": ("1",), "val": ("2",), "test": ("1",)},
        {"train": ("1",), "val": ("2",), "test": ("2",)},
        {"train": ("1", "1"), "val": ("2",)},
        {"train": (), "val": ("2",)},
    ):
        with pytest.raises(ArgumentError, match="data."):
            DataPlan(**about, **parts)


def test_the_cases_of_a_patient_are_in_one_part() -> None:
    about = {"folder": None, "layout": "memory", "patients": (("1", "2"),)}
    DataPlan(train=("3",), val=("4",), test=("1", "2"), **about).require_patients_apart()
    DataPlan(train=("1", "2"), val=("1", "2"), **about).require_patients_apart()
    for parts in (
        {"train": ("1",), "val": ("2",)},
        {"train": ("1", "3"), "val": ("4",), "test": ("2",)},
        {"train": ("3",), "val": ("2", "4"), "test": ("1",)},
    ):
        with pytest.raises(ArgumentError, match=r"one part for the cases of a patient, \('1', '2'\), got"):
            DataPlan(**about, **parts).require_patients_apart()


def test_cases_of_a_patient_that_are_moved_by_hand_are_refused(plan: Plan, tmp_path: Path) -> None:
    moved = replace(plan.data, patients=((plan.data.train[0], plan.data.train[1]),))
    with pytest.raises(ArgumentError, match="one part for the cases of a patient"):
        replace(plan, data=moved).with_values(
            {"data.train": plan.data.train[1:], "data.test": plan.data.train[:1]}
        )
    parts = {"train": plan.data.train[1:], "test": (*plan.data.test, plan.data.train[0])}
    by_hand = replace(plan, data=replace(moved, **parts))
    by_hand.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path) == by_hand  # an older run still predicts
    with pytest.raises(ArgumentError, match="one part for the cases of a patient"):
        train(by_hand, tmp_path / "run")
    on_disk = replace(by_hand, data=replace(by_hand.data, folder="/scans", layout="pairs"))
    with pytest.raises(ArgumentError, match="one part for the cases of a patient"):
        train_folds(on_disk, tmp_path / "run", folds=2)
    assert not (tmp_path / "run").exists()


def test_texts_are_read_by_the_type_of_the_field_where_it_is_empty(plan: Plan) -> None:
    values = {"data.series": "3", "data.channels": "t1,7", "data.test": "9", "data.spacing_mm": "5,1,1"}
    data = plan.with_values(values).data
    assert (data.series, data.channels, data.test) == ("3", ("t1", "7"), ("9",))
    assert data.spacing_mm == (5.0, 1.0, 1.0)
    assert plan.with_values({"data.channels": "none"}).data.channels is None


def test_none_empties_a_list_that_cannot_be_none(plan: Plan) -> None:
    axes = {"inference.mirror_axes": "width", "augmentation.mirror_axes": "width"}
    mirrored = plan.with_values({"labels.pairs": ((2, 3),), **axes})
    assert (mirrored.inference.mirror_axes, mirrored.augmentation.mirror_axes) == (("width",), ("width",))
    emptied = dict.fromkeys((*axes, "data.test", "inference.patch_size"), "none")
    check_values(emptied)
    other = mirrored.with_values(emptied)
    assert (other.inference.mirror_axes, other.augmentation.mirror_axes) == ((), ())
    assert (other.data.test, other.inference.patch_size) == ((), None)
    with pytest.raises(ArgumentError, match=r"`data\.train` must be at least one case, got none"):
        plan.with_values({"data.train": "none"})
    with pytest.raises(ArgumentError, match=r"`sampling\.size` must be a height and a width"):
        plan.with_values({"sampling.size": "none"})


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_another_slice_axis_turns_the_fingerprint(plan: Plan, cases: list[Case], axis: SliceAxis) -> None:
    trained = [case for case in cases if case.case_id in plan.data.train]
    fresh = replace(plan.preparation, slice_axis=axis).fit(trained, plan.labels)
    for was in ("coronal", "sagittal"):
        before = plan.with_values({"preparation.slice_axis": was})
        turned = before.with_values({"preparation.slice_axis": axis})
        assert turned.preparation == fresh
        assert Shapes.of(turned.preparation) == Shapes.of(fresh)


def test_a_preparation_that_is_to_be_fitted_again_is_refused(plan: Plan) -> None:
    with pytest.raises(ArgumentError, match="of a known axis and spacing, got None and"):
        plan.with_values({"preparation.slice_axis": "none"})
    median = replace(plan.preparation, spacing_mm="median")
    with pytest.raises(ArgumentError, match=r"and median\. Set slice_axis to .*, or plan anew\."):
        replace(plan, preparation=median)


def test_the_folder_of_the_data_is_absolute(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan.with_values({"data.folder": "scans"}).data.folder == str(tmp_path.resolve() / "scans")
    with pytest.raises(ArgumentTypeError, match=r"data\.folder"):
        plan.with_values({"data.folder": 3})


def test_another_builder_keeps_the_arguments_that_it_takes(plan: Plan) -> None:
    other = plan.with_values({"network.builder": "danet"})
    assert set(plan.network.arguments) - set(other.network.arguments) == {"channels"}
    assert plan.with_values({"network.builder": "daf"}).network.arguments == plan.network.arguments
    with pytest.raises(ArgumentError, match="'channels'"):
        plan.with_values({"network.builder": "danet", "network.arguments.channels": 8})
    with pytest.raises(ArgumentError, match=r"Did you mean 'network\.arguments\.encoder'"):
        plan.with_values({"network.arguments.encoder.depth": 3})


def test_differing_keys_are_dotted(plan: Plan) -> None:
    other = replace(
        plan, optimizer=OptimizerPlan(lr=0.5), network=ModelSettings("msga", plan.network.arguments)
    )
    assert differing_keys(plan, other) == ["network.builder", "optimizer.lr"]
    assert differing_keys(plan, plan) == []


def test_what_is_planned_as_in_training_stays_so(plan: Plan) -> None:
    keys = ("inference.mirror_axes", "inference.patch_size", "inference.precision")

    def of_inference(one: Plan) -> dict[str, object]:
        return {key: (getattr(one.inference, key.partition(".")[2]), one.reasons.get(key)) for key in keys}

    planned = [plan.reasons[key] for key in keys]
    pairs = plan.with_values({"labels.pairs": ((2, 3),)})
    mirrored = pairs.with_values(
        {
            "augmentation.mirror_axes": "width",
            "sampling.size": "16,16",
            "training.precision": "bf16",
        }
    )
    values = [("width",), (16, 16), "bf16"]
    assert of_inference(mirrored) == dict(zip(keys, zip(values, planned, strict=True), strict=True))
    plain = mirrored.with_values({"augmentation.mirror_axes": "none", "training.precision": "fp16"})
    values, reasons = [(), (16, 16), "bf16"], [*planned[:2], None]
    assert of_inference(plain) == dict(zip(keys, zip(values, reasons, strict=True), strict=True))

    by_hand = {
        "inference.mirror_axes": "width",
        "inference.patch_size": "none",
        "inference.precision": "fp32",
    }
    chosen = mirrored.with_values(by_hand)
    later = chosen.with_values(
        {"augmentation.mirror_axes": "height,width", "sampling.size": "32,32", "training.precision": "fp32"}
    )
    values = [("width",), None, "fp32"]
    assert (
        of_inference(chosen)
        == of_inference(later)
        == {key: (value, "set by hand") for key, value in zip(keys, values, strict=True)}
    )


def test_mirrors_that_training_lacks_are_told(plan: Plan) -> None:
    pairs = plan.with_values({"labels.pairs": ((2, 3),)})
    message = (
        "`inference.mirror_axes` has height, along which training mirrors no patch: the network has never seen such "
        "a copy. Set inference.mirror_axes=width, or mirror in training too."
    )
    with pytest.warns(UserWarning, match=message):
        other = pairs.with_values(
            {"inference.mirror_axes": "height,width", "augmentation.mirror_axes": "width"}
        )
    assert other.with_values({"optimizer.lr": 1}).inference.mirror_axes == ("height", "width")
    with pytest.warns(UserWarning, match="has height, width, .*Set inference.mirror_axes=none, or"):
        other.with_values({"augmentation.mirror_axes": "none"})
