"""Train the multi-scale guided attention network on abdominal MR, and score whole volumes in millimetres.

Without arguments it makes a cohort of phantoms in CHAOS's own form and trains a small network on it for a few minutes:

    python examples/train_chaos.py

With the CHAOS release (its MR part, from https://chaos.grand-challenge.org) it trains the paper's network:

    python examples/train_chaos.py --data CHAOS_FOLDER
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from guided_attention import MSGA, Trainer
from guided_attention.case import Case
from guided_attention.data import CHAOS_MR_LABELS, read_chaos, split_subjects, write_phantom_cohort
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
from guided_attention.preparation import normalize
from guided_attention.sampling import FlipRotate, SliceDataset
from guided_attention.training import TrainerConfig, load_weights, polynomial_decay, seed_everything

# What is not given on the command line. Minutes are short: phantoms are learnt from slices with organs alone.
SETTINGS = ("encoder", "channels", "size", "batch_size", "lr", "epochs", "foreground_only")
PHANTOMS = ("resnet18", 16, 112, 4, 2e-3, 5, True)
CHAOS = ("resnext101_32x4d", 64, 256, 8, 1e-3, 250, False)


def main(argv: Sequence[str] | None = None) -> None:
    """Read, train, predict, score."""
    args = parse(argv)
    seed_everything(args.seed)
    folder = args.data or write_phantom_cohort("phantom-cohort", subjects=20, size=160)
    cases = {case.case_id: normalize(case) for case in read_chaos(folder, source=args.source)}
    split = split_subjects(list(cases), train=13, val=2, test=5, seed=args.seed)
    train, val, test = ([cases[name] for name in part] for part in (split.train, split.val, split.test))
    print(f"{len(train)} training, {len(val)} validation and {len(test)} test subjects from {folder}")

    model = MSGA(
        in_channels=train[0].image.shape[0], num_classes=5, encoder=args.encoder, channels=args.channels
    ).to(args.device)
    # Organs have sides, so slices are turned a little but never mirrored.
    augment = FlipRotate(flip=0, mirror=0, degrees=15)
    size = (args.size, args.size)
    slices = SliceDataset(
        train,
        num_classes=5,
        size=size,
        augment=augment,
        foreground_only=args.foreground_only,
    )
    trainer = Trainer(
        model,
        GuidedAttentionLoss(DiceCrossEntropyLoss()),
        torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4),
        train_loader=DataLoader(slices, batch_size=args.batch_size, shuffle=True, drop_last=True),
        validate=lambda network: mean_dice(
            evaluate_model(network, val, CHAOS_MR_LABELS, distances=False, min_size=size)
        ),
        run_dir=args.out,
        config=TrainerConfig(
            max_epochs=args.epochs,
            max_minutes=args.minutes,
            precision=args.precision,
            clip_grad_norm=1.0,
            ema_decay=0.99,
            seed=args.seed,
            device=args.device,
            schedule=polynomial_decay(),
        ),
    )
    result = trainer.fit()
    split.save(result.run_dir / "split.json")
    print(f"best epoch {result.best_epoch}: mean 3D DSC {result.best_score:.3f} on the validation subjects")

    load_weights(model, result.run_dir / "best.pt")
    report(model, test, result.run_dir, size)


def report(model: torch.nn.Module, cases: Sequence[Case], out: Path, size: tuple[int, int]) -> None:
    """Predict the test subjects, and leave volumes, scores and a picture in the run folder."""
    scores, predictions = [], []
    for case in cases:
        drawn = predict_case(model, case, min_size=size)  # padded, should it be smaller, as in training
        prediction = replace(drawn, labels=keep_largest_component(drawn.labels))
        save_prediction(prediction, out / "predictions", include_uncertainty=True)
        scores += evaluate_prediction(prediction, case, CHAOS_MR_LABELS)
        predictions.append(prediction)
    write_scores_csv(scores, out / "test_scores.csv")
    save_prediction_grid(out / "test_subjects.png", cases, predictions, CHAOS_MR_LABELS)
    print(format_table(summarize(scores)))
    print(f"predictions, scores and pictures: {out}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; what is not given depends on whether there are real data."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the CHAOS release; phantoms where left out")
    parser.add_argument("--source", default="t1_in", choices=("t1_in", "t1_out", "t1_dual", "t2"))
    parser.add_argument("--out", type=Path, default=Path("runs/chaos"), help="new folder for this run")
    parser.add_argument("--encoder", help="resnet18 for phantoms, the paper's resnext101_32x4d for CHAOS")
    parser.add_argument("--channels", type=int, help="width of every map after the encoder: 16, or 64")
    parser.add_argument("--size", type=int, help="side of the slices in training, in pixels: 112, or 256")
    parser.add_argument(
        "--foreground-only", action=argparse.BooleanOptionalAction, help="leave out slices without organs"
    )
    parser.add_argument("--epochs", type=int, help="5, or 250")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes at the latest")
    parser.add_argument("--batch-size", type=int, help="4, or 8")
    parser.add_argument("--lr", type=float, help="0.002, or 0.001")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    for name, value in zip(SETTINGS, CHAOS if args.data else PHANTOMS, strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


if __name__ == "__main__":
    main()
