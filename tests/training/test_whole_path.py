"""The subpackages together: cases, preparation, slices, network, loss, trainer, predictor, scores."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from guided_attention.case import Case
from guided_attention.evaluation import Validation, evaluate, mean_dice
from guided_attention.inference import Predictor
from guided_attention.labels import LabelSpec
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.models import MSGA
from guided_attention.preparation import Preparation
from guided_attention.sampling import SliceDataset
from guided_attention.training import (
    Trainer,
    TrainerConfig,
    load_checkpoint,
    load_weights,
    read_log,
    seed_everything,
)

LABELS = LabelSpec({3: "box"})


def _case(number):
    """Make a bright box at a place of its own."""
    rng = np.random.default_rng(number)
    labels = np.zeros((3, 32, 32), np.uint8)
    top, left = rng.integers(2, 12, size=2)
    labels[:, top : top + 16, left : left + 16] = 3
    image = (labels + rng.normal(size=labels.shape))[None].astype(np.float32)
    return Case(str(number), image, labels, np.diag([1.5, 1.5, 7.0, 1.0]))


def test_the_network_of_the_paper_trains_and_its_best_weights_give_the_score_of_the_log(tmp_path):
    seed_everything(0)
    train, held_out = [_case(n) for n in range(2)], [_case(7)]
    model = MSGA(in_channels=1, num_classes=LABELS.num_classes, encoder="resnet18", channels=8)
    preparation = Preparation().fit(train)
    predictor = Predictor(model, preparation, LABELS, device="cpu")
    trainer = Trainer(
        model,
        GuidedAttentionLoss(),
        torch.optim.Adam(model.parameters(), lr=1e-3),
        train_loader=DataLoader(SliceDataset(train, preparation, LABELS), 3, shuffle=True),
        validate=Validation(predictor.with_model, held_out, LABELS),
        run_dir=tmp_path / "run",
        config=TrainerConfig(max_epochs=2, quiet=True),
        metadata=predictor.metadata,
    )
    result = trainer.fit()
    rows = read_log(result.run_dir / "log.csv")
    assert {"loss_segmentation", "loss_guidance", "loss_reconstruction"} <= rows[0].keys()
    assert rows[1]["loss"] < rows[0]["loss"]

    best = Predictor.load(result.run_dir, device="cpu")
    assert mean_dice(evaluate(best, held_out, LABELS)) == result.best_score
    assert result.best_score == max(row["validation_score"] for row in rows)
    assert (best.preparation, best.labels) == (preparation, LABELS)
    prediction = best.predict(held_out[0])
    assert prediction.labels.shape == (3, 32, 32)
    assert set(np.unique(prediction.labels)) <= {0, 3}

    load_weights(model, result.run_dir / "best.pt")
    np.testing.assert_array_equal(prediction.labels, predictor.predict(held_out[0]).labels)
    np.testing.assert_array_equal(prediction.uncertainty, predictor.predict(held_out[0]).uncertainty)
    for name in ("best.pt", "last.pt"):
        assert load_checkpoint(result.run_dir / name)["metadata"] == predictor.metadata


class Placed(nn.Module):
    """Keeps a map of places, which grows with the largest image so far."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(1, LABELS.num_classes, 1)
        self.places = torch.zeros(0, 0)

    def forward(self, image):
        height, width = image.shape[-2:]
        if height > len(self.places):
            self.places = torch.linspace(0, 1, height)[:, None] * torch.linspace(1, 2, width)
        return self.head(image) * self.places[:height, :width]


def test_a_network_trains_on_with_what_it_has_kept_from_a_prediction(tmp_path):
    model, cases = Placed(), [_case(0)]
    preparation = Preparation().fit(cases)
    predictor = Predictor(model, preparation, LABELS, device="cpu")
    trainer = Trainer(
        model,
        nn.CrossEntropyLoss(),
        torch.optim.SGD(model.parameters(), lr=0.1),
        train_loader=DataLoader(SliceDataset(cases, preparation, LABELS, size=(16, 16)), 3),
        validate=Validation(predictor.with_model, cases, LABELS),
        run_dir=tmp_path / "run",
        config=TrainerConfig(max_epochs=2, quiet=True, device="cpu"),
    )
    assert trainer.fit().epochs == 2
    assert model.places.shape == (32, 32)
