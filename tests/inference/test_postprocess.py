import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.reference.components import largest_pieces

from guided_attention.inference import PostProcessing, choose_postprocessing, keep_largest_component
from guided_attention.labels import LabelSpec


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
    empty = np.zeros(shape, np.uint8)
    both = PostProcessing(foreground_as_one=True, keep_largest=(2,))
    for got in (keep_largest_component(empty), keep_largest_component(empty, organs=[2]), both.apply(empty)):
        np.testing.assert_array_equal(got, empty)


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


# What is stored with a predictor


def test_all_organs_as_one_come_first_and_then_each():
    labels = np.array([[[1, 2, 2, 0, 2, 0, 1, 1, 0, 3], [0, 0, 1, 1, 1, 0, 0, 0, 0, 3]]], np.uint16)
    both = PostProcessing(foreground_as_one=True, keep_largest=(1,))
    as_one = np.array([[[1, 2, 2, 0, 2, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]]], np.uint16)
    each = np.array([[[0, 2, 2, 0, 2, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]]], np.uint16)
    got = PostProcessing(foreground_as_one=True).apply(labels)
    np.testing.assert_array_equal(got, as_one)
    np.testing.assert_array_equal(both.apply(labels), each)
    assert got.dtype == np.uint16
    assert PostProcessing().apply(labels) is labels


@pytest.mark.parametrize("seed", range(3))
def test_the_record_equals_flood_fills(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=(5, 7, 11), p=[0.7, 0.15, 0.1, 0.05]).astype(np.uint8)
    as_one = labels * (largest_pieces((labels > 0).astype(np.uint8), 1) > 0)
    each = np.where(np.isin(as_one, (1, 3)), largest_pieces(as_one, 1), as_one)
    got = PostProcessing(foreground_as_one=True, keep_largest=(3, 1)).apply(labels)
    np.testing.assert_array_equal(got, each)
    assert (each != labels).any()


def test_the_record_comes_back_from_plain_values():
    record = PostProcessing(foreground_as_one=True, keep_largest=(5, 2, 5))
    assert record.keep_largest == (2, 5)
    assert PostProcessing.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"foreground_as_one": 1}, "`foreground_as_one` must be True or False"),
        ({"keep_largest": True}, "`keep_largest` must be a tuple of values of organs"),
        ({"keep_largest": (0,)}, "`keep_largest` must be 1 or above, got 0"),
        ({"keep_largest": ("liver",)}, "`keep_largest` must be a whole number"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields, message):
    with pytest.raises((ValueError, TypeError), match=message):
        PostProcessing(**fields)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("apply", [PostProcessing(foreground_as_one=True).apply, keep_largest_component])
def test_a_tensor_is_refused(apply):
    with pytest.raises(TypeError, match="`labels` must be a NumPy array of integers, got a Tensor"):
        apply(torch.ones(3, 5, dtype=torch.long))


ORGANS = LabelSpec({1: "liver", 4: "spleen"})


def volume(*rows):
    return np.array([rows], np.uint8)


def test_the_choice_by_hand():
    """The liver has a false piece in one case; the spleen has two true pieces; neither touches the other."""
    reference = volume([1, 1, 1, 0, 0, 0, 4, 0, 4], [0] * 9)
    prediction = volume([1, 1, 1, 0, 0, 0, 4, 0, 4], [0, 0, 0, 0, 1, 0, 0, 0, 0])
    # As one, the spleen would be lost.
    assert choose_postprocessing([prediction] * 2, [reference] * 2, ORGANS) == PostProcessing(
        keep_largest=(1,)
    )


def test_all_organs_as_one_are_chosen_where_far_pieces_are_false():
    reference = volume([1, 1, 4, 4, 0, 0, 0], [0] * 7)
    prediction = volume([1, 1, 4, 4, 0, 4, 0], [0, 0, 0, 0, 0, 1, 0])
    wanted = PostProcessing(foreground_as_one=True)
    assert choose_postprocessing([prediction], [reference], ORGANS) == wanted


def test_what_helps_one_case_and_harms_another_more_is_not_chosen():
    right = volume([1, 1, 0, 1, 1, 0])
    harmed = (right, right)
    helped = (volume([1, 1, 1, 1, 0, 1]), volume([1, 1, 1, 1, 0, 0]))
    predictions, references = zip(harmed, helped, strict=True)
    assert choose_postprocessing(predictions, references, ORGANS) == PostProcessing()
    predictions, references = zip(helped, helped, strict=True)
    assert choose_postprocessing(predictions, references, ORGANS) == PostProcessing(foreground_as_one=True)


@pytest.mark.parametrize("seed", range(4))
def test_the_choice_equals_the_trial_of_each_correction_in_turn(seed):
    rng = np.random.default_rng(seed)
    references = [rng.choice([0, 1, 4], size=(3, 5, 7), p=[0.3, 0.4, 0.3]).astype(np.uint8) for _ in range(3)]
    noise = [rng.random((3, 5, 7)) < 0.2 for _ in references]
    predictions = [
        np.where(odd, rng.choice([0, 1, 4], size=odd.shape), one).astype(np.uint8)
        for one, odd in zip(references, noise, strict=True)
    ]

    def dice(chosen, organ):
        """Return the mean over cases; all organs are in all volumes."""
        overlaps = []
        for prediction, reference in zip(predictions, references, strict=True):
            one, other = chosen.apply(prediction) == organ, reference == organ
            overlaps.append(2 * (one & other).sum() / (one.sum() + other.sum()))
        return np.mean(overlaps)

    def mean(chosen):
        return (dice(chosen, 1) + dice(chosen, 4)) / 2

    best = PostProcessing()
    if mean(PostProcessing(foreground_as_one=True)) > mean(best):
        best = PostProcessing(foreground_as_one=True)
    kept = tuple(
        organ for organ in (1, 4) if dice(replace(best, keep_largest=(organ,)), organ) > dice(best, organ)
    )
    # A generator is read once, case by case.
    got = choose_postprocessing(iter(predictions), iter(references), ORGANS)
    assert got == replace(best, keep_largest=kept)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "`predictions` must be of at least one case"),
        ([volume([1])], [], "`references` must be one label volume for each case, got a NoneType"),
        ([], [volume([1])], "`predictions` must be one label volume for each case"),
        ([volume([1])], [volume([1, 0])], "same shape|shape"),
        ([volume([2])], [volume([1])], "also 2"),
        ([volume([1])], ["1.nii.gz"], "`references` must be one label volume"),
        (
            volume([1]),
            volume([1]),
            r"`predictions` must be a list .* got a ndarray\. Write \[volume\] for one case",
        ),
        ([volume([1])], volume([1])[0], "`references` must be a list of label volumes, got a ndarray"),
        (torch.ones(1, 3, 5), [volume([1])], "`predictions` must be a list of label volumes, got a Tensor"),
        (3, [volume([1])], "`predictions` must be a list of label volumes, got a int"),
    ],
)
def test_volumes_that_do_not_fit_are_refused(predictions, references, message):
    with pytest.raises((ValueError, TypeError), match=message):
        choose_postprocessing(predictions, references, ORGANS)
