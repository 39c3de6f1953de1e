from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from guided_attention.case import Case


def _case(**changes):
    given = {
        "case_id": "7",
        "image": np.zeros((1, 3, 5, 7), np.float32),
        "labels": np.zeros((3, 5, 7), np.uint8),
        "affine": np.eye(4),
    }
    return Case(**(given | changes))


def test_a_case_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        _case().case_id = "8"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_name_the_case(bad):
    image = np.zeros((1, 3, 5, 7), np.float32)
    image[0, 2, 4, 6] = bad
    wanted = r"`image of case '7'` must be finite everywhere, got NaN or infinite values. Replace them"
    with pytest.raises(ValueError, match=wanted):
        _case(image=image)


def test_labels_below_zero_name_the_case():
    with pytest.raises(ValueError, match="`labels of case '7'` must be 0 or above, got -1"):
        _case(labels=np.full((3, 5, 7), -1, np.int16))


def test_a_spacing_of_zero_names_the_case():
    with pytest.raises(ValueError, match="`affine of case '7'` must be of three independent axes"):
        _case(affine=np.diag([1.5, 0.0, 5.0, 1.0]))


@pytest.mark.usefixtures("without_shape_checks")
def test_labels_of_another_size_are_refused():
    wanted = r"`labels of case '7'` must be of the image's size \(3, 5, 7\), got \(3, 7, 5\)"
    with pytest.raises(ValueError, match=wanted):
        _case(labels=np.zeros((3, 7, 5), np.uint8))


def test_an_empty_image_is_refused():
    with pytest.raises(ValueError, match="`image of case '7'` must be of at least one voxel"):
        _case(image=np.zeros((1, 0, 5, 7), np.float32), labels=None)
