"""Choice of the slice axis, and the orientations in which slices are looked at."""

from itertools import permutations, product

import numpy as np
import pytest

from guided_attention._geometry import CANONICAL, orientation_of, reorientation, slice_axis_of
from guided_attention.errors import DataError

ALL_ORDERS = ["".join(letters) for axes in permutations(("RL", "AP", "SI")) for letters in product(*axes)]


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
    assert slice_axis_of(affine) == axis


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
        assert slice_axis_of(stored_as(orientation, dict(zip("RAS", spacing, strict=True)))) == axis


def test_a_turned_scan_keeps_its_slice_axis():
    angle = np.radians(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert slice_axis_of(turn @ np.diag([1.0, 6.0, 1.0, 1.0])) == "coronal"


def test_a_cohort_follows_the_median_of_its_spacings():
    thick_axial = stored_as("LPS", {"R": 1.0, "A": 1.0, "S": 5.0})
    thick_sagittal = stored_as("PSR", {"R": 9.0, "A": 1.0, "S": 1.0})
    assert slice_axis_of(thick_axial, thick_sagittal, thick_axial) == "axial"
    assert slice_axis_of(thick_sagittal, thick_axial, thick_sagittal) == "sagittal"
    with pytest.raises(DataError, match="`affines` must be at least one affine, got none"):
        slice_axis_of()


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
