"""Train on cardiac MR volumes in NIfTI files with one organ, the left atrium, and score whole volumes in millimetres.

    python examples/train_left_atrium.py --data FOLDER --minutes 20

FOLDER holds pairs `case01_image.nii.gz`, `case01_label.nii.gz` and `cases.json`, a list of
`{"case": 1, "split": "train"}` with the split "train", "val" or "test".
"""

from command_line import require_run_folder, run_command, run_parser

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from guided_attention import MSGA, Trainer
from guided_attention.case import Case
from guided_attention.data import read_nifti_pairs
from guided_attention.evaluation import Validation, evaluate, format_table, summarize, write_scores_csv
from guided_attention.figures import save_prediction_grid
from guided_attention.inference import Predictor, save_prediction
from guided_attention.labels import LabelSpec
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.preparation import Preparation
from guided_attention.sampling import Chain, FlipRotate, RandomIntensity, SliceDataset
from guided_attention.training import TrainerConfig, polynomial_decay, seed_everything

LABELS = LabelSpec({1: "left atrium"})


def main(args: argparse.Namespace) -> None:
    """Read, train, predict, score."""
    require_run_folder(args.out, resume=args.resume)
    seed_everything(args.seed)
    model = MSGA(1, LABELS.num_classes, encoder=args.encoder, channels=args.channels)
    train, val, test = (read_part(args.data, part) for part in ("train", "val", "test"))
    print(f"{len(train)} training, {len(val)} validation and {len(test)} test cases")

    # What is done to a scan before the network sees it, and undone after. It is stored with the weights.
    size = (args.height, args.width)
    preparation = Preparation(spacing_mm=(None, args.in_plane_mm, args.in_plane_mm), min_size=size).fit(train)
    predictor = Predictor(model, preparation, LABELS, device=args.device, keep_largest=True)
    augment = Chain((FlipRotate(degrees=15), RandomIntensity()))
    slices = SliceDataset(train, preparation, LABELS, augment=augment, size=size, slice_step=args.slice_step)
    trainer = Trainer(
        model,
        GuidedAttentionLoss(DiceCrossEntropyLoss()),
        torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4),
        train_loader=DataLoader(slices, batch_size=args.batch_size, shuffle=True, drop_last=True),
        validate=Validation(predictor.with_model, val, LABELS),
        run_dir=args.out,
        config=TrainerConfig(
            max_epochs=args.epochs,
            max_minutes=args.minutes,
            clip_grad_norm=1.0,
            ema_decay=0.99,
            seed=args.seed,
            device=args.device,
            schedule=polynomial_decay(),
        ),
        metadata=predictor.metadata,
    )
    result = trainer.fit(resume=args.resume)
    print(f"best epoch {result.best_epoch}: mean 3D Dice {result.best_score:.3f} on the validation cases")
    report(test, args)


def read_part(folder: Path, part: str) -> list[Case]:
    """Read the volumes of one part of the split."""
    rows = json.loads((folder / "cases.json").read_text())
    names = [f"case{row['case']:02d}" for row in rows if row["split"] == part]
    return read_nifti_pairs(folder, case_ids=names)


def report(cases: Sequence[Case], args: argparse.Namespace) -> None:
    """Predict the test cases with the best weights; write volumes, scores and a picture."""
    predictor = Predictor.load(args.out, device=args.device)  # needs nothing but the folder
    predictions = {prediction.case_id: prediction for prediction in predictor.stream(cases)}
    for prediction in predictions.values():
        save_prediction(prediction, args.out / "predictions", overwrite=args.resume)
    scores = evaluate(lambda case: predictions[case.case_id], cases, LABELS)
    write_scores_csv(args.out / "test_scores.csv", scores)
    save_prediction_grid(args.out / "test_cases.png", cases, list(predictions.values()), LABELS)
    print(f"{format_table(summarize(scores))}\npredictions, scores and pictures: {args.out}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = run_parser(__doc__, out=Path("runs/left-atrium"), minutes=20)
    parser.add_argument("--data", type=Path, required=True, help="folder with the NIfTI pairs and cases.json")
    parser.add_argument("--epochs", type=int, default=1000, help="stop after so many epochs at the latest")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--channels", type=int, default=16, help="width of every map after the encoder")
    parser.add_argument("--in-plane-mm", type=float, default=1.0, help="pixel size that the network sees")
    parser.add_argument("--height", type=int, default=96, help="of the slices in training, in those pixels")
    parser.add_argument("--width", type=int, default=128, help="likewise")
    parser.add_argument("--slice-step", type=int, default=1, help="train on every n-th slice")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse())
