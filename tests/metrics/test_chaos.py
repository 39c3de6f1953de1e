"""The scores that the organisers of CHAOS published for a real submission, from the same two volumes."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_erosion, generate_binary_structure
from scipy.spatial import KDTree
from tests.real_data import real_data

from guided_attention.evaluation import evaluate_case
from guided_attention.labels import LabelSpec
from guided_attention.metrics import SurfaceDistances, dice, surface_distances

SPACING_MM = (2.0, 0.7265625, 0.7265625)


def liver(folder):
    files = sorted(folder.glob("*.png"))
    return np.stack([np.asarray(Image.open(file)) for file in files]) > 0


@pytest.fixture(scope="module")
def masks():
    case = real_data("chaos-ct-case")
    return liver(case / "Segmentation"), liver(case / "Ground")


def test_dice_and_the_largest_distance_are_the_published_ones(masks):
    assert round(dice(*masks), 3) == 0.978
    assert surface_distances(*masks, SPACING_MM).hausdorff_mm() == 14


def test_the_mean_distance_is_the_published_one_but_for_the_edge_of_the_image(masks):
    # The organisers count no surface where the edge of the image cuts an organ, as here; most others do.
    cube = generate_binary_structure(3, 1)
    points = [np.argwhere(mask & ~binary_erosion(mask, cube, border_value=1)) * SPACING_MM for mask in masks]
    there, back = (KDTree(points[1 - side]).query(points[side])[0] for side in (0, 1))
    assert round(SurfaceDistances(there, back).assd_mm(), 3) == 0.734
    assert round(surface_distances(*masks, SPACING_MM).assd_mm(), 3) == 0.713


def test_a_case_has_the_published_difference_of_volumes(masks):
    prediction, reference = (mask.astype(np.uint8) for mask in masks)
    labels = LabelSpec({1: "liver"})
    (row,) = evaluate_case(
        prediction, reference, labels=labels, spacing_mm=SPACING_MM, case_id="ct", definition=None
    )
    assert (round(row.dice, 3), row.status) == (0.978, "scored")
    # relative to the reference, in per cent
    assert round(100 * abs(row.prediction_ml - row.reference_ml) / row.reference_ml, 3) == 0.665
