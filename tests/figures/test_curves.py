from pathlib import Path

import pytest

from guided_attention.errors import ArgumentError
from guided_attention.figures import curves, save_training_curves

pytest.importorskip("matplotlib")

ROWS = [
    {"epoch": 1.0, "loss": 0.9, "loss_dice": 0.5, "lr": 0.1, "batches": 7.0},
    {"epoch": 2.0, "loss": 0.6, "loss_dice": 0.4, "lr": 0.1, "batches": 7.0, "validation_score": 0.7},
    {"epoch": 3.0, "loss": 0.5, "loss_dice": 0.3, "lr": 0.0, "batches": 7.0, "validation_score": 0.6},
]


def test_each_number_is_a_curve_over_its_epochs_in_its_panel() -> None:
    loss, score, rate = curves._drawn(ROWS).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert drawn == {"loss": [[1, 0.9], [2, 0.6], [3, 0.5]], "loss_dice": [[1, 0.5], [2, 0.4], [3, 0.3]]}
    assert [line.get_label() for line in score.lines] == ["validation_score", "best, 0.700 in epoch 2"]
    assert score.lines[0].get_xydata().tolist() == [[2, 0.7], [3, 0.6]]
    assert score.lines[1].get_xydata().tolist() == [[2, 0.7]]
    assert [line.get_label() for line in rate.lines] == ["lr"]
    assert [panel.get_title() for panel in (loss, score, rate)] == [
        "loss",
        "validation score",
        "learning rate",
    ]


def test_the_picture_is_replaced_and_a_single_row_or_nan_is_drawn_too(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    pictures = []
    for rows in (ROWS[:1], ROWS, [*ROWS, {"epoch": 4.0, "validation_score": float("nan")}]):
        assert save_training_curves(path, rows) == path
        pictures.append(path.read_bytes())
    assert pictures[0] != pictures[1]
    assert [one.name for one in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(("rows", "message"), [([], "at least one row"), ([{"loss": 1.0}], "'epoch'")])
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, rows: list[dict[str, float]], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        save_training_curves(tmp_path / "curves.png", rows)
    with pytest.raises(ArgumentError, match=r"\.png"):
        save_training_curves(tmp_path / "curves.jpg", ROWS)
