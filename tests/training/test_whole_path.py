"""The rooms together: a phantom, slices, the network, the loss, the trainer, volumes, scores."""

import numpy as np
import torch
from torch.utils.data import DataLoader

from guided_attention.case import Case
from guided_attention.evaluation import mean_dice
from guided_attention.inference import evaluate_model, predict_case
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.models import MSGA
from guided_attention.sampling import SliceDataset
from guided_attention.training import Trainer, TrainerConfig, load_weights, read_log, seed_everything


def _case(number):
    """Draw a bright box at a place of its own."""
    rng = np.random.default_rng(number)
    labels = np.zeros((3, 32, 32), np.uint8)
    top, left = rng.integers(2, 12, size=2)
    labels[:, top : top + 16, left : left + 16] = 1
    image = (3.0 * labels + rng.normal(size=labels.shape))[None].astype(np.float32)
    return Case(str(number), image, labels, np.diag([1.5, 1.5, 7.0, 1.0]))


def test_the_network_of_the_paper_trains_and_its_best_weights_give_the_score_of_the_log(tmp_path):
    names = {1: "box"}
    seed_everything(0)
    model = MSGA(in_channels=1, num_classes=2, encoder="resnet18", channels=8)
    held_out = [_case(7)]
    trainer = Trainer(
        model,
        GuidedAttentionLoss(),
        torch.optim.Adam(model.parameters(), lr=1e-3),
        train_loader=DataLoader(SliceDataset([_case(n) for n in range(2)], num_classes=2), 3, shuffle=True),
        validate=lambda model: mean_dice(evaluate_model(model, held_out, names, distances=False)),
        run_dir=tmp_path / "run",
        config=TrainerConfig(max_epochs=2, quiet=True),
    )
    result = trainer.fit()
    rows = read_log(result.run_dir / "log.csv")
    assert {"loss_segmentation", "loss_guidance", "loss_reconstruction"} <= rows[0].keys()
    assert rows[1]["loss"] < rows[0]["loss"]
    load_weights(model, result.run_dir / "best.pt")
    again = evaluate_model(model, held_out, names, batch_size=8)
    assert mean_dice(again) == result.best_score == max(row["validation_score"] for row in rows)
    assert predict_case(model, held_out[0]).labels.shape == (3, 32, 32)
