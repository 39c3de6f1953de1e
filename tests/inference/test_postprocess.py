import numpy as np
import pytest
from tests.reference.components import largest_pieces

from guided_attention.inference import keep_largest_component


@pytest.mark.parametrize("connectivity", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_equals_a_flood_fill(seed, connectivity):
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=(5, 7, 11), p=[0.55, 0.25, 0.15, 0.05]).astype(np.uint8)
    got = keep_largest_component(labels, connectivity=connectivity)
    np.testing.assert_array_equal(got, largest_pieces(labels, connectivity))


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_flood_fill_on_a_single_slice(seed):
    labels = np.random.default_rng(seed).integers(0, 3, size=(13, 17))
    np.testing.assert_array_equal(keep_largest_component(labels, connectivity=2), largest_pieces(labels, 2))


def test_pieces_that_touch_at_an_edge_or_corner_join_only_when_asked_to():
    labels = np.zeros((2, 3, 5), dtype=np.int16)
    labels[0, 0, 0] = labels[0, 1, 1] = labels[1, 2, 2] = 1  # an edge, then a corner
    counts = [int((keep_largest_component(labels, connectivity=axes) > 0).sum()) for axes in (1, 2, 3)]
    assert counts == [1, 2, 3]


def test_of_equal_pieces_the_first_in_array_order_stays():
    labels = np.zeros((3, 5, 7), dtype=np.uint8)
    labels[2, 0, 0:2] = labels[1, 4, 5:7] = labels[1, 4, 0:2] = 3
    wanted = np.zeros_like(labels)
    wanted[1, 4, 0:2] = 3
    np.testing.assert_array_equal(keep_largest_component(labels), wanted)


def test_organs_that_are_not_named_are_left_alone():
    labels = np.array([[[1, 1, 0, 1, 2, 0, 2, 2]]], dtype=np.uint8)
    wanted = np.array([[[1, 1, 0, 1, 0, 0, 2, 2]]], dtype=np.uint8)
    np.testing.assert_array_equal(keep_largest_component(labels, organs=[2, 5]), wanted)


def test_the_input_is_left_as_it_is_and_the_type_is_kept():
    labels = np.array([[[1, 0, 1, 1]]], dtype=np.int16)
    before = labels.copy()
    kept = keep_largest_component(labels)
    np.testing.assert_array_equal(labels, before)
    assert kept.dtype == np.int16
    assert not np.shares_memory(kept, labels)


@pytest.mark.parametrize("shape", [(3, 5, 7), (0, 5, 7), (1, 1, 1)])
def test_a_volume_of_background_stays_one(shape):
    np.testing.assert_array_equal(
        keep_largest_component(np.zeros(shape, np.uint8)), np.zeros(shape, np.uint8)
    )


def test_doing_it_twice_changes_nothing_more():
    labels = np.random.default_rng(7).integers(0, 4, size=(5, 11, 13))
    once = keep_largest_component(labels)
    np.testing.assert_array_equal(keep_largest_component(once), once)


def test_settings_out_of_range_are_refused():
    labels = np.zeros((3, 5, 7), np.uint8)
    for connectivity in (0, 4):
        with pytest.raises(
            ValueError, match=rf"`connectivity` must be from 1 to the number of axes, 3, got {connectivity}\."
        ):
            keep_largest_component(labels, connectivity=connectivity)
    with pytest.raises(ValueError, match=r"`organs` must be labels above 0, the background, got \[0, 1\]\."):
        keep_largest_component(labels, organs=[0, 1])
