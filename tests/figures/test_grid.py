"""save_prediction_grid: what is drawn where, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from guided_attention.data import make_phantom
from guided_attention.figures import grid, save_prediction_grid
from guided_attention.outputs import Prediction

pytest.importorskip("matplotlib")
LABELS = {1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"}


@pytest.fixture(scope="module")
def case():
    return make_phantom(0, size=32)


def prediction_of(case, labels):
    return Prediction(case.case_id, labels, np.zeros(labels.shape, np.float32), case.affine)


def thirds(path):
    """The three panels of a one-row grid, as arrays of colour."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    width = pixels.shape[1] // 3
    return [pixels[:, start * width : (start + 1) * width] for start in range(3)]


def colourful(panel):
    """How many pixels of the picture part are coloured, not grey."""
    panel = panel[: int(0.85 * len(panel))]
    return int((panel.max(axis=2) - panel.min(axis=2) > 40).sum())


def test_truth_and_prediction_are_drawn_over_the_image(case, tmp_path):
    path = save_prediction_grid(tmp_path / "grid.png", [case], [prediction_of(case, case.labels)], LABELS)
    image, truth, prediction = map(colourful, thirds(path))
    assert image == 0
    assert truth > 500
    assert abs(truth - prediction) < 0.02 * truth


def test_an_empty_prediction_shows_no_colour(case, tmp_path):
    empty = prediction_of(case, np.zeros_like(case.labels))
    _, truth, prediction = map(
        colourful, thirds(save_prediction_grid(tmp_path / "g.png", [case], [empty], LABELS))
    )
    assert truth > 500
    assert prediction == 0


def test_a_case_without_labels_shows_its_prediction_alone(case, tmp_path):
    blind = replace(case, labels=None)
    path = save_prediction_grid(tmp_path / "g.png", [blind], [prediction_of(case, case.labels)], LABELS)
    _, truth, prediction = map(colourful, thirds(path))
    assert truth == 0
    assert prediction > 500


def test_nothing_but_the_picture_is_left_in_the_folder(case, tmp_path):
    save_prediction_grid(tmp_path / "new" / "grid.png", [case], [prediction_of(case, case.labels)], LABELS)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_predictions_of_other_cases_are_refused(case, tmp_path):
    other = replace(prediction_of(case, case.labels), id="99")
    with pytest.raises(ValueError, match=r"`predictions` must be those of the cases \['.*'\], got \['99'\]"):
        save_prediction_grid(tmp_path / "g.png", [case], [other], LABELS)
    with pytest.raises(ValueError, match="`cases` must be at least one case, got none"):
        save_prediction_grid(tmp_path / "g.png", [], [], LABELS)


def test_the_slice_with_most_organs_is_shown():
    labels = np.zeros((4, 9, 9), np.uint8)
    labels[0, :8, :8] = 1  # the fullest
    labels[1, :2, :2], labels[1, 5:7, 5:7] = 1, 2
    labels[2, :3, :3], labels[2, 5:8, 5:8] = 1, 2  # as many organs as before, fuller
    assert grid._telling_slice(labels) == 2
