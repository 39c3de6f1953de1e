"""LabelSpec: values to classes and back against a loop over voxels, what is refused, and the way through JSON."""

import json
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from guided_attention._sides import left_right_pairs
from guided_attention.errors import ArgumentTypeError, DataError
from guided_attention.labels import LabelSpec

ORGANS = {1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"}
SPECS = {
    "consecutive": LabelSpec(ORGANS),
    "gaps": LabelSpec({5: "liver", 2: "spleen", 63: "kidney"}),
    "high": LabelSpec({1180: "vertebra", 7: "rib", 65535: "sternum"}),
    "ignored 255": LabelSpec(ORGANS, ignore_value=255),
    "ignored among the organs": LabelSpec({1: "liver", 3: "spleen"}, ignore_value=2),
    "ignored where a class is": LabelSpec({2: "liver", 3: "spleen"}, ignore_value=1),
    "ignored right behind": LabelSpec({1: "liver"}, ignore_value=2),
}


def _volume(spec, dtype, seed=0):
    values = [0, *spec.values, *(() if spec.ignore_value is None else (spec.ignore_value,))]
    return np.random.default_rng(seed).choice(values, (3, 5, 7)).astype(dtype)


def _classes_by_hand(spec, volume):
    """Class k is the k-th smallest value; ignored voxels get a number that no class has."""
    ordered = [0, *sorted(spec.names)]
    out = np.empty(volume.shape, np.int64)
    for index in np.ndindex(*volume.shape):
        value = int(volume[index])
        out[index] = spec.ignore_index if value == spec.ignore_value else ordered.index(value)
    return out


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64, ">u2"])
@pytest.mark.parametrize("name", SPECS)
def test_classes_are_the_places_of_values_in_ascending_order_and_back(name, dtype):
    spec = SPECS[name]
    volume = _volume(spec, dtype)
    classes = spec.to_classes(volume)
    np.testing.assert_array_equal(classes, _classes_by_hand(spec, volume))
    assert spec.ignore_index not in range(spec.num_classes)
    back = spec.to_values(classes)
    np.testing.assert_array_equal(back, volume)
    highest = max(*spec.values, spec.ignore_value or 0)
    assert back.dtype == (np.uint8 if highest < 256 else np.uint16)


def test_classes_and_values_by_hand():
    spec = LabelSpec({5: "liver", 2: "spleen"}, ignore_value=255)
    assert (spec.values, spec.num_classes, spec.ignore_index) == ((2, 5), 3, 255)
    np.testing.assert_array_equal(spec.to_classes(np.array([[0, 2], [5, 255]])), [[0, 1], [2, 255]])
    np.testing.assert_array_equal(spec.to_values(np.array([[2, 1, 0]])), [[5, 2, 0]])


def test_a_volume_whose_values_are_classes_is_returned_as_it_is():
    spec = LabelSpec(ORGANS, ignore_value=255)
    volume = _volume(spec, np.uint8)
    assert spec.to_classes(volume) is volume
    assert spec.to_values(volume) is volume


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 5, 7), (0, 5, 7)])
def test_any_shape_is_taken(shape):
    spec = SPECS["gaps"]
    volume = np.random.default_rng(0).choice([0, 2, 5, 63], shape)
    classes = spec.to_classes(volume)
    assert classes.shape == shape
    np.testing.assert_array_equal(spec.to_values(classes), volume)


@pytest.mark.parametrize(
    ("values", "shown"),
    [([6], "6"), ([-1], "-1"), ([70000, 3], "3, 70000"), ([2**40], str(2**40)), ([254], "254")],
)
def test_unknown_values_are_listed(values, shown):
    spec = SPECS["gaps"]
    volume = _volume(spec, np.int64)
    volume[2, 0, : len(values)] = values
    wanted = (
        r"must be made of 0 and the values of \{2: 'spleen', 5: 'liver', 63: 'kidney'\}, "
        rf"got also {shown}. Name these values in the LabelSpec, set them to 0, or pass one as `ignore_value`"
    )
    with pytest.raises(DataError, match=f"`labels of case '7'` {wanted}"):
        spec.require_known(volume, "labels of case '7'")
    with pytest.raises(DataError, match=f"`labels` {wanted}"):
        spec.to_classes(volume)


@pytest.mark.parametrize("bad", [4, -1, 255, 70000])
def test_unknown_classes_are_refused(bad):
    with pytest.raises(DataError, match=f"`classes` must be made of the classes 0, 1, 2, 3, got also {bad}"):
        SPECS["gaps"].to_values(np.array([[0, 1], [2, bad]]))


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("function", ["to_classes", "to_values"])
@pytest.mark.parametrize(
    ("bad", "error", "wanted"),
    [
        (np.zeros((3, 5, 7)), DataError, "must be a volume of integers, got type float64"),
        (np.zeros((3, 5, 7), bool), DataError, "must be a volume of integers, got type bool"),
        (torch.zeros(3, 5, 7), ArgumentTypeError, "must be an array, got a Tensor. Use numpy.asarray"),
        (None, ArgumentTypeError, "must be an array, got a NoneType"),
    ],
)
def test_what_is_no_volume_of_integers_is_refused(function, bad, error, wanted):
    with pytest.raises(error, match=wanted):
        getattr(SPECS["gaps"], function)(bad)


def test_a_subset_keeps_values_colours_pairs_and_the_ignored_value():
    spec = LabelSpec(ORGANS, {2: "#000000"}, ((2, 3),), 255)
    kidneys = spec.subset(["left kidney", "right kidney"])
    assert kidneys.names == {2: "right kidney", 3: "left kidney"}
    assert kidneys.colours == {2: "#000000", 3: spec.colours[3]}
    assert (kidneys.pairs, kidneys.ignore_value, kidneys.num_classes) == (((2, 3),), 255, 3)
    assert spec.subset(("left kidney", "liver")).pairs == ()


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("organs", "error", "wanted"),
    [
        (
            ["lung", "liver"],
            DataError,
            "`organs` must be of liver, right kidney, left kidney, spleen, got lung",
        ),
        ([], DataError, "a mapping with at least one organ, got none"),
        ("liver", ArgumentTypeError, r"`organs` must be a list of names, got a str. Write \[\"liver\"\]"),
        (None, ArgumentTypeError, "`organs` must be a list of names, got a NoneType"),
        ([1], DataError, "got 1"),
    ],
)
def test_a_subset_of_something_else_is_refused(organs, error, wanted):
    with pytest.raises(error, match=wanted):
        LabelSpec(ORGANS).subset(organs)


@pytest.mark.parametrize("name", SPECS)
def test_the_record_comes_back_from_json_and_from_another_process(name):
    spec = SPECS[name]
    assert LabelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301 - our own bytes


def test_a_full_record_as_plain_values():
    spec = LabelSpec({3: "left kidney", 2: "right kidney"}, {3: "#0a0B0c"}, ((2, 3),), 255)
    assert spec.to_dict() == {
        "names": {"2": "right kidney", "3": "left kidney"},
        "colours": {"2": "#e6194b", "3": "#0a0B0c"},
        "pairs": [[2, 3]],
        "ignore_value": 255,
        "others_are_background": False,
    }
    assert LabelSpec.from_dict({"names": {"2": "a"}}) == LabelSpec({2: "a"})


def test_every_organ_has_a_colour():
    spec = LabelSpec({value: f"organ {value}" for value in range(1, 21)})
    assert len(spec.colours) == 20
    assert len({spec.colours[value] for value in range(1, 9)}) == 8
    assert spec.colours[9] == spec.colours[1]


@pytest.mark.usefixtures("without_shape_checks")
def test_numpy_integers_are_values():
    spec = LabelSpec({np.int64(2): "a", np.uint8(1): "b"}, pairs=[[np.int64(1), 2]], ignore_value=np.uint8(9))
    assert spec == LabelSpec({1: "b", 2: "a"}, pairs=((1, 2),), ignore_value=9)
    assert all(type(value) is int for value in (*spec.values, *spec.pairs[0], spec.ignore_value))


def test_the_record_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        LabelSpec(ORGANS).ignore_value = 255


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("fields", "error", "wanted"),
    [
        ({"names": {}}, DataError, "`labels.names` must be a mapping with at least one organ, got none"),
        (
            {"names": ["liver"]},
            ArgumentTypeError,
            "`labels.names` must be a mapping from value to name, got a list",
        ),
        (
            {"names": None},
            ArgumentTypeError,
            "`labels.names` must be a mapping from value to name, got a NoneType",
        ),
        (
            {"names": {1: None}},
            ArgumentTypeError,
            "`labels.names` must be a mapping from value to name, got a NoneType",
        ),
        (
            {"names": {0: "background"}},
            DataError,
            r"of values from 1 to 65535, got \[0\]. Background is 0 and has no",
        ),
        ({"names": {65536: "a"}}, DataError, "of values from 1 to 65535"),
        ({"names": {-1: "a"}}, DataError, "of values from 1 to 65535"),
        ({"names": {1.0: "a"}}, DataError, "`labels.names` must be of whole numbers, got 1.0"),
        ({"names": {True: "a"}}, DataError, "`labels.names` must be of whole numbers, got True"),
        (
            {"names": {"liver": 1}},
            ArgumentTypeError,
            "`labels.names` must be a mapping from value to name, got a int",
        ),
        ({"names": {"x": "liver"}}, DataError, "`labels.names` must be of whole numbers, got 'x'"),
        ({"names": {1: "a", "1": "b"}}, DataError, "`labels.names` must be of different values"),
        ({"names": {1: "a", 2: "a"}}, DataError, "`labels.names` must be of different names"),
        ({"names": {1: ""}}, DataError, "`labels.names` must be of different names"),
        (
            {"colours": {9: "#000000"}},
            DataError,
            r"`labels.colours` must be of the values \[1, 2, 3, 4\], got \[9\]",
        ),
        ({"colours": {1: "red"}}, DataError, '`labels.colours` must be written "#rrggbb", got red'),
        ({"colours": {1: "#00000g"}}, DataError, "got #00000g"),
        ({"colours": {1: (0, 0, 0)}}, ArgumentTypeError, "a mapping from value to colour, got a tuple"),
        (
            {"colours": ["#000000"]},
            ArgumentTypeError,
            "`labels.colours` must be a mapping from value to colour",
        ),
        ({"pairs": ((2, 9),)}, DataError, "`labels.pairs` must be pairs of different values"),
        ({"pairs": ((2, 2),)}, DataError, "`labels.pairs` must be pairs of different values"),
        ({"pairs": ((1, 2), (2, 3))}, DataError, "`labels.pairs` must be pairs of different values"),
        ({"pairs": (2, 3)}, DataError, r"got 2. Write \(\(2, 3\),\) for one pair"),
        ({"pairs": ((2, 3, 4),)}, DataError, r"got \(2, 3, 4\)"),
        ({"pairs": None}, DataError, "got None"),
        ({"pairs": (("a", "b"),)}, DataError, "`labels.pairs` must be of whole numbers, got 'a'"),
        (
            {"ignore_value": 0},
            DataError,
            "a value from 1 to 65535 that is no organ, got 0",
        ),
        ({"ignore_value": 1}, DataError, "that is no organ, got 1"),
        ({"ignore_value": 65536}, DataError, "a value from 1 to 65535"),
        ({"ignore_value": 2.5}, DataError, "`labels.ignore_value` must be of whole numbers, got 2.5"),
        ({"ignore_value": "none"}, DataError, "`labels.ignore_value` must be of whole numbers, got 'none'"),
    ],
)
def test_what_does_not_fit_is_refused(fields, error, wanted):
    with pytest.raises(error, match=wanted):
        LabelSpec(**({"names": ORGANS} | fields))


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("values", "error", "wanted"),
    [
        ({"names": {"1": "a"}, "colors": {}}, DataError, "got 'colors'. Did you mean 'colours'?"),
        ({"names": {"1": "a"}, "ignore": 3}, DataError, "got 'ignore'. Did you mean 'ignore_value'?"),
        ({"pairs": []}, DataError, "`labels` must be a mapping with the key 'names'"),
        ([], ArgumentTypeError, "`labels` must be a mapping, got a list"),
        ({"names": None}, ArgumentTypeError, "`labels.names` must be a mapping"),
        (
            {"names": {"1": "a"}, "pairs": None},
            DataError,
            "`labels.pairs` must be made of pairs of values, got None",
        ),
        ({"names": {"1": "a"}, "colours": None}, ArgumentTypeError, "`labels.colours` must be a mapping"),
    ],
)
def test_a_dictionary_that_is_no_record_is_refused(values, error, wanted):
    with pytest.raises(error, match=wanted):
        LabelSpec.from_dict(values)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("Left-Lateral-Ventricle", "Right-Lateral-Ventricle", "Left-Hippocampus", "Right-Hippocampus"), 2),
        (("Left-Inf-Lat-Vent", "Right-Inf-Lat-Vent"), 1),
        (("left inferior lateral ventricle", "right inferior lateral ventricle"), 1),
        (("LateralVentricle_L", "LateralVentricle_R"), 1),
        (("lat_ventricle_left", "lat_ventricle_right"), 1),
        (("left brain ventricle", "right brain ventricle"), 1),
        (("atrium of left lateral ventricle", "atrium of right lateral ventricle"), 1),
        (("ctx-lh-cuneus", "ctx-rh-cuneus"), 1),
        (("left auricle of ear", "right auricle of ear"), 1),
        (("left ventricle", "right ventricle", "left atrium", "right atrium"), 0),
        (("Ventricle_L", "Ventricle_R"), 0),
        (("heart_ventricle_left", "heart_ventricle_right"), 0),
        (("lateral wall of left ventricle", "lateral wall of right ventricle"), 0),
        (("left ventricle inferior", "right ventricle inferior"), 0),
        (("vertebrae_L3", "vertebrae_R3"), 0),
        (("kidney_L", "kidney_R"), 1),
        (("123", "!!"), 0),
        (("_", "Ж"), 0),
    ],
)
def test_ventricles_of_the_brain_are_pairs_and_those_of_the_heart_are_not(names, pairs):
    numbered = dict(enumerate(names, 1))
    wanted = tuple((2 * place + 2, 2 * place + 1) for place in range(pairs))
    assert left_right_pairs(numbered) == wanted
    LabelSpec(numbered, pairs=wanted).require_sides("labels")
    if wanted:
        with pytest.raises(DataError, match="of left and right organs in pairs"):
            LabelSpec(numbered).require_sides("labels")
    else:
        LabelSpec(numbered).require_sides("labels")
