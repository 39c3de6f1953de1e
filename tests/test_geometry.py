"""Spacing, orientation and reordering against a slow reference and nibabel; the choice of the slice axis."""

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from guided_attention._geometry import (
    CANONICAL,
    affine_of,
    checked_affine,
    grid_affine,
    is_sheared,
    orientation_of,
    reorientation,
    slice_axis_of,
    spacing_of,
)
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError
from tests.reference import geometry as reference

ALL_ORDERS = ["".join(letters) for axes in permutations(("RL", "AP", "SI")) for letters in product(*axes)]
CUBE, OPPOSITE = (11, 11, 11), dict(zip("RLAPSI", "LRPAIS", strict=True))


def stored_as(orientation, spacing):
    """An affine with this storage order and a spacing by anatomical axis, ``{"R": mm, "A": mm, "S": mm}``."""
    positive = {"L": "R", "P": "A", "I": "S"}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, letter in enumerate(orientation):
        axis = positive.get(letter, letter)
        affine["RAS".index(axis), column] = spacing[axis] * (1 if axis == letter else -1)
    return affine


@pytest.mark.parametrize("orientation", ALL_ORDERS)
@pytest.mark.parametrize(("thick", "axis"), [("S", "axial"), ("A", "coronal"), ("R", "sagittal")])
def test_the_axis_of_the_largest_spacing_is_chosen_in_every_storage_order(orientation, thick, axis):
    affine = stored_as(orientation, {"R": 1.1, "A": 1.3, "S": 1.2} | {thick: 5.0})
    assert orientation_of(affine) == orientation
    assert slice_axis_of([(affine, CUBE)]) == axis


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((1.0, 1.0, 1.0), "axial"),
        ((1.009, 1.0, 1.0), "axial"),
        ((1.02, 1.0, 1.0), "sagittal"),
        ((1.0, 1.02, 1.0), "coronal"),
        ((3.0, 3.0, 1.0), "coronal"),
        ((3.0, 3.0, 3.02), "axial"),
    ],
)
def test_axial_comes_first_where_spacings_are_equal_within_one_percent(spacing, axis):
    for orientation in ("RAS", "LPS", "LIA", "PSR"):
        affine = stored_as(orientation, dict(zip("RAS", spacing, strict=True)))
        assert slice_axis_of([(affine, CUBE)]) == axis


@pytest.mark.parametrize("orientation", ALL_ORDERS)
@pytest.mark.parametrize(("thin", "axis"), [("S", "axial"), ("A", "coronal"), ("R", "sagittal")])
def test_pictures_are_sliced_along_their_few_voxels_whatever_the_spacing(orientation, thin, axis):
    affine = stored_as(orientation, {"R": 2.0, "A": 2.0, "S": 2.0} | {thin: 1.0})
    one, two, three = (
        tuple(count if {letter, OPPOSITE[letter]} & {thin} else 11 for letter in reversed(orientation))
        for count in (1, 2, 3)
    )
    other = {"S": "coronal", "A": "axial", "R": "axial"}[thin]
    assert [slice_axis_of([(affine, size)]) for size in (one, two, three)] == [axis, axis, other]
    assert slice_axis_of([(affine, one), (affine, three), (affine, three)]) == other


def test_a_turned_scan_keeps_its_slice_axis():
    angle = np.radians(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert slice_axis_of([(turn @ np.diag([1.0, 6.0, 1.0, 1.0]), CUBE)]) == "coronal"


def test_a_cohort_follows_the_median_of_its_spacings():
    thick_axial = stored_as("LPS", {"R": 1.0, "A": 1.0, "S": 5.0}), CUBE
    thick_sagittal = stored_as("PSR", {"R": 9.0, "A": 1.0, "S": 1.0}), CUBE
    assert slice_axis_of([thick_axial, thick_sagittal, thick_axial]) == "axial"
    assert slice_axis_of([thick_sagittal, thick_axial, thick_sagittal]) == "sagittal"
    with pytest.raises(DataError, match="`scans` must be at least one, got none"):
        slice_axis_of([])


def test_canonical_slices_lie_as_a_radiologist_looks_at_them():
    # Index along (slice, row, column) of the voxel that lies farthest to the patient's right, front and head.
    right_front_head = {"axial": (6, 0, 0), "coronal": (0, 0, 0), "sagittal": (0, 0, 0)}
    sizes = {
        "axial": (7, 5, 3),
        "coronal": (5, 7, 3),
        "sagittal": (3, 7, 5),
    }  # 3 left-right, 5 back-front, 7 up
    volume = np.zeros((7, 5, 3))
    volume[6, 4, 2] = 1  # stored as RAS: every axis grows towards the corner
    for axis, corner in right_front_head.items():
        turned = reorientation(np.eye(4), CANONICAL[axis]).apply(volume)
        wanted = np.zeros(sizes[axis])
        wanted[corner] = 1
        np.testing.assert_array_equal(turned, wanted)


KINDS = ("straight", "oblique", "turned", "tilted", "sheared")
AFFINES = [
    (kind, reference.random_affine(np.random.default_rng([seed, number]), kind))
    for number, kind in enumerate(KINDS)
    for seed in range(60)
]


def test_orientation_is_the_assignment_with_the_largest_sum_of_cosines():
    assert [orientation_of(affine) for _, affine in AFFINES] == [
        reference.orientation(affine) for _, affine in AFFINES
    ]


def test_orientation_is_that_of_nibabel_wherever_the_nearest_axis_of_each_column_is_clear():
    compared = 0
    for kind, affine in AFFINES:
        best, second = (total for total, _ in reference.assignments(affine)[:2])
        if kind in {"straight", "oblique", "tilted"} or best - second > 0.6:
            compared += 1
            assert orientation_of(affine) == "".join(nibabel.aff2axcodes(affine)), affine
            order, flips = reorientation(affine, "RAS").order, reorientation(affine, "RAS").flips
            axes = nibabel.io_orientation(affine)  # for each stored axis x, y, z: anatomical axis, direction
            assert [2 - order[2 - int(axis)] for axis, _ in axes] == [0, 1, 2]
            assert [flips[2 - int(axis)] for axis, _ in axes] == [sign < 0 for _, sign in axes]
    assert compared > 250


def test_spacing_is_the_distance_between_neighbouring_lines_and_planes():
    for _, affine in AFFINES:
        np.testing.assert_allclose(spacing_of(affine), reference.spacing(affine), rtol=1e-12)
        np.testing.assert_allclose(np.prod(spacing_of(affine)), abs(np.linalg.det(affine[:3, :3])), rtol=1e-9)


def test_a_tilted_gantry_by_hand():
    # 20 degrees: slices 8.19 mm apart along the table are 7.70 mm apart at right angles.
    affine = np.diag([-0.7, -0.7, 1.0, 1.0])
    affine[:3, 2] = [0.0, 8.19 * np.sin(np.radians(20)), 8.19 * np.cos(np.radians(20))]
    np.testing.assert_allclose(spacing_of(affine), (8.19 * np.cos(np.radians(20)), 0.7, 0.7), rtol=1e-12)
    assert is_sheared(affine)
    assert not is_sheared(np.diag([-0.7, -0.7, 8.19, 1.0]))


@pytest.mark.parametrize(("degrees", "sheared"), [(0.0, False), (0.05, False), (0.065, True), (1.0, True)])
def test_shear_begins_at_a_thousandth(degrees, sheared):
    affine = np.diag([1.0, 2.0, 5.0, 1.0])
    affine[:2, 0] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    assert is_sheared(affine) is sheared


def test_storage_order_changes_neither_spacing_by_anatomical_axis_nor_place():
    rng = np.random.default_rng(7)
    for kind, affine in AFFINES[::3]:
        volume = rng.standard_normal((2, 3, 5))
        canonical = reorientation(affine, "RAS")
        wanted = spacing_of(canonical.affine(affine, volume.shape))
        for target in ("LPS", "PSR", "LIA", "RAS"):
            turn = reorientation(affine, target)
            turned, moved = turn.apply(volume), turn.affine(affine, volume.shape)
            assert orientation_of(moved) == target, kind
            back = reorientation(moved, "RAS").affine(moved, turned.shape)
            np.testing.assert_allclose(spacing_of(back), wanted, rtol=1e-9)
            np.testing.assert_array_equal(turned, reference.moved(volume, affine, target))
            np.testing.assert_array_equal(turn.undo(turned), volume)
            olds = (np.argwhere(volume == value)[0] for value in turned.flat)
            was = [reference.place(affine, *old[::-1]) for old in olds]
            now = [reference.place(moved, x, y, z) for z, y, x in np.ndindex(*turned.shape)]
            np.testing.assert_allclose(now, was, atol=1e-9, err_msg=kind)


def test_at_45_degrees_every_storage_order_has_one_orientation():
    for turned in range(3):
        affine = np.eye(4)
        a, b = (axis for axis in range(3) if axis != turned)
        affine[[a, a, b, b], [a, b, a, b]] = np.array([1, -1, 1, 1]) / np.sqrt(2)
        affine[:3, :3] *= [1.0, 1.5, 4.0]
        volume = np.arange(30).reshape(2, 3, 5)
        canonical = reorientation(affine, "LPS")
        for target in ALL_ORDERS:
            turn = reorientation(affine, target)
            stored, place = turn.apply(volume), turn.affine(affine, volume.shape)
            back = reorientation(place, "LPS")
            np.testing.assert_array_equal(back.apply(stored), canonical.apply(volume))


def test_reordering_takes_channels_along():
    volume = np.arange(210).reshape(7, 2, 3, 5)
    turn = reorientation(np.eye(4), "PSR")
    turned = turn.apply(volume)
    for channel in range(7):
        np.testing.assert_array_equal(turned[channel], turn.apply(volume[channel]))
    np.testing.assert_array_equal(turn.undo(turned), volume)


def test_a_new_grid_lies_where_its_steps_say():
    for _, affine in AFFINES[::7]:
        grid = grid_affine(affine, start=(1.5, -2.0, 3.0), step=(2.0, 0.5, 1.25))
        for z, y, x in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (4, 6, 2)):
            wanted = reference.place(affine, 3.0 + 1.25 * x, -2.0 + 0.5 * y, 1.5 + 2.0 * z)
            np.testing.assert_allclose(reference.place(grid, x, y, z), wanted, atol=1e-9)


@pytest.mark.parametrize("given", [[[2, 0, 0, 1], [0, 3, 0, 1], [0, 0, 5, 1], [0, 0, 0, 1]]])
@pytest.mark.parametrize("form", [list, np.array, torch.tensor, lambda rows: np.array(rows, ">f4")])
def test_an_affine_may_be_any_table_of_numbers(given, form):
    matrix = checked_affine(form(given), "affine")
    np.testing.assert_array_equal(matrix, np.array(given, np.float64))
    assert (matrix.dtype, matrix.flags.writeable) == (np.float64, True)


@pytest.mark.parametrize(
    ("bad", "wanted"),
    [
        (np.eye(3), r"a 4 x 4 matrix of finite numbers with last row 0, 0, 0, 1, got shape \(3, 3\)"),
        ([[1, 0], [0]], "a 4 x 4 matrix .*, got a list of something else"),
        (None, "a 4 x 4 matrix .*, got a NoneType of something else"),
        ("affine", "a 4 x 4 matrix .*, got a str of something else"),
        ([["1"] * 4] * 4, "a 4 x 4 matrix .*, got a list of something else"),
        (np.eye(4, dtype=complex), "a 4 x 4 matrix .*, got a ndarray of something else"),
        (torch.eye(4, device="meta"), "a 4 x 4 matrix .*, got a Tensor of something else"),
        (np.diag([1, 1, 1, 2.0]), "with last row 0, 0, 0, 1, got .*2.0"),
        (np.diag([1, np.nan, 1, 1]), "finite numbers .* got .*nan"),
        (np.diag([1, 1, np.inf, 1]), "finite numbers .* got .*inf"),
        (np.diag([1, 0, 1, 1.0]), "of three independent axes, got .*Give each axis a direction of its own"),
        (np.diag([1, 1e-200, 1, 1.0]), "of three independent axes"),
        (np.diag([1e200, 1, 1, 1.0]), "of three independent axes"),
        (
            np.array([[1, 1, 0, 0], [0, 1e-5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
            "of three independent axes",
        ),
    ],
)
def test_what_is_no_affine_is_refused(bad, wanted):
    with pytest.raises(DataError, match=f"`affine of x` must be .*{wanted}") as caught:
        checked_affine(bad, "affine of x", file="x.nii")
    assert (caught.value.argument, caught.value.file) == ("affine of x", Path("x.nii"))


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("function", [spacing_of, orientation_of])
@pytest.mark.parametrize("bad", [np.eye(3), None, "RAS", np.zeros((4, 4))])
def test_public_functions_of_an_affine_refuse_anything_else(function, bad):
    with pytest.raises(DataError, match="`affine` must be"):
        function(bad)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ((1.0, 2.0), ArgumentError),
        ((1.0, 0.0, 2.0), ArgumentError),
        ((1.0, -1.0, 2.0), ArgumentError),
        ((1.0, np.nan, 2.0), ArgumentError),
        ((1.0, np.inf, 2.0), ArgumentError),
        (1.0, ArgumentError),
        (None, ArgumentTypeError),
        ("abc", ArgumentTypeError),
        ((1, 2, None), ArgumentTypeError),
    ],
)
def test_what_is_no_spacing_is_refused(bad, error):
    with pytest.raises(
        error, match=r"`spacing_mm` must be three numbers above 0, \(z, y, x\) in millimetres"
    ):
        affine_of(bad)


@pytest.mark.parametrize("bad", ["LP", "LPSS", "LPX", "LRS", "lps", ""])
def test_what_is_no_orientation_is_refused(bad):
    with pytest.raises(ArgumentError, match="`target` must be three letters, one each of L or R"):
        reorientation(np.eye(4), bad)


def test_an_affine_of_a_spacing_runs_right_front_head():
    np.testing.assert_array_equal(affine_of((9, 1.5, 2)), np.diag([2, 1.5, 9, 1]))
    assert orientation_of(affine_of((9.0, 1.5, 2.0))) == "RAS"


def test_turned_by_45_degrees_about_two_axes_every_storage_order_has_one_orientation():
    half = np.sqrt(0.5)
    about_x = np.array([[1, 0, 0], [0, half, -half], [0, half, half]])
    about_y = np.array([[half, 0, half], [0, 1, 0], [-half, 0, half]])
    about_z = np.array([[half, -half, 0], [half, half, 0], [0, 0, 1]])
    volume = np.arange(30).reshape(2, 3, 5)
    for first, second in permutations((about_x, about_y, about_z), 2):
        affine = np.eye(4)
        affine[:3, :3] = first @ second * [1.0, 1.5, 4.0]
        canonical = reorientation(affine, "LPS")
        for target in ALL_ORDERS:
            turn = reorientation(affine, target)
            stored, place = turn.apply(volume), turn.affine(affine, volume.shape)
            back = reorientation(place, "LPS")
            np.testing.assert_array_equal(back.apply(stored), canonical.apply(volume))


@pytest.mark.parametrize("target", ["LPS", "RAS", "LIA", "PSR", "ASL", "IRP"])
def test_the_storage_orders_that_other_tests_write_are_those_of_the_loop_over_voxels(target):
    affine = np.array([[0.0, 1.25, 0.0, 3.0], [-1.5, 0.0, 0.0, 7.0], [0.0, 0.0, 5.0, -11.0], [0, 0, 0, 1.0]])
    array = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    wanted = reference.moved(array, affine, target)
    storage = reference.Storage(affine, target)
    np.testing.assert_array_equal(storage.apply(array), wanted)
    np.testing.assert_array_equal(storage.undo(wanted), array)
    new = storage.affine(affine, array.shape)
    assert reference.orientation(new) == target
    for z, y, x in np.ndindex(array.shape):
        c, b, a = (int(places[0]) for places in np.nonzero(wanted == array[z, y, x]))
        np.testing.assert_allclose(
            reference.place(new, a, b, c), reference.place(affine, x, y, z), atol=1e-12
        )
