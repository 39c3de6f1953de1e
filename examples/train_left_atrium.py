"""Train on cardiac MR volumes in NIfTI files with one organ, the left atrium, and score whole volumes in millimetres.

    python examples/train_left_atrium.py --data FOLDER --minutes 20

FOLDER holds pairs `case01_image.nii.gz`, `case01_label.nii.gz` and `cases.json`, a list of
`{"case": 1, "split": "train"}` with the split "train", "val" or "test".
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from guided_attention import MSGA, Trainer
from guided_attention.case import Case
from guided_attention.data import read_nifti_pairs
from guided_attention.evaluation import format_table, mean_dice, summarize, write_scores_csv
from guided_attention.figures import save_prediction_grid
from guided_attention.inference import (
    evaluate_model,
    evaluate_prediction,
    keep_largest_component,
    predict_case,
    save_prediction,
)
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.preparation import normalize, resample_in_plane
from guided_attention.sampling import Chain, FlipRotate, RandomIntensity, SliceDataset
from guided_attention.training import TrainerConfig, load_weights, polynomial_decay, seed_everything

LABELS = {1: "left atrium"}


def main(argv: Sequence[str] | None = None) -> None:
    """Read, train, predict, score."""
    args = parse(argv)
    seed_everything(args.seed)
    train, val, test = (read_part(args.data, part) for part in ("train", "val", "test"))
    seen = [resample_in_plane(case, args.in_plane_mm) for case in train]
    print(f"{len(train)} training, {len(val)} validation and {len(test)} test cases")

    model = MSGA(in_channels=1, num_classes=2, encoder=args.encoder, channels=args.channels)
    size = (args.height, args.width)
    slices = SliceDataset(
        seen,
        num_classes=2,
        size=size,
        slice_step=args.slice_step,
        augment=Chain((FlipRotate(degrees=15), RandomIntensity())),
    )
    # Slices that were padded in training are padded in prediction too.
    validate = partial(
        evaluate_model,
        cases=val,
        labels=LABELS,
        distances=False,
        in_plane_mm=args.in_plane_mm,
        min_size=size,
    )
    trainer = Trainer(
        model,
        GuidedAttentionLoss(DiceCrossEntropyLoss()),
        torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4),
        train_loader=DataLoader(slices, batch_size=args.batch_size, shuffle=True, drop_last=True),
        validate=lambda network: mean_dice(validate(network)),
        run_dir=args.out,
        config=TrainerConfig(
            max_epochs=args.epochs,
            max_minutes=args.minutes,
            clip_grad_norm=1.0,
            ema_decay=0.99,
            seed=args.seed,
            schedule=polynomial_decay(),
        ),
    )
    result = trainer.fit()
    print(f"best epoch {result.best_epoch}: mean 3D DSC {result.best_score:.3f} on the validation cases")

    load_weights(model, result.run_dir / "best.pt")
    report(model, test, args)


def read_part(folder: Path, part: str) -> list[Case]:
    """Read and normalise the volumes of one part of the split."""
    rows = json.loads((folder / "cases.json").read_text())
    names = [f"case{row['case']:02d}" for row in rows if row["split"] == part]
    return [normalize(case) for case in read_nifti_pairs(folder, case_ids=names)]


def report(model: torch.nn.Module, cases: Sequence[Case], args: argparse.Namespace) -> None:
    """Predict the test cases, and leave volumes, scores and a picture in the run folder."""
    scores, predictions = [], []
    for case in cases:
        drawn = predict_case(model, case, in_plane_mm=args.in_plane_mm, min_size=(args.height, args.width))
        prediction = replace(drawn, labels=keep_largest_component(drawn.labels))
        save_prediction(prediction, args.out / "predictions")
        scores += evaluate_prediction(prediction, case, LABELS)
        predictions.append(prediction)
    write_scores_csv(scores, args.out / "test_scores.csv")
    save_prediction_grid(args.out / "test_cases.png", cases, predictions, LABELS)
    print(format_table(summarize(scores)))
    print(f"predictions, scores and pictures: {args.out}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the NIfTI pairs and cases.json")
    parser.add_argument("--out", type=Path, default=Path("runs/left-atrium"), help="new folder for this run")
    parser.add_argument("--minutes", type=float, default=20, help="time for training, validation included")
    parser.add_argument("--epochs", type=int, default=1000, help="stop after so many epochs at the latest")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--channels", type=int, default=16, help="width of every map after the encoder")
    parser.add_argument(
        "--in-plane-mm", type=float, default=1.0, help="pixels of the slices that the network sees"
    )
    parser.add_argument("--height", type=int, default=96, help="of the slices in training, in those pixels")
    parser.add_argument("--width", type=int, default=128, help="likewise")
    parser.add_argument("--slice-step", type=int, default=1, help="train on every n-th slice")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
