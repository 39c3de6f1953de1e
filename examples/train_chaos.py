"""Train the multi-scale guided attention network on abdominal MR by hand, and score whole volumes in millimetres.

python examples/train_chaos.py                          a small network on phantoms, in minutes
python examples/train_chaos.py --data CHAOS_FOLDER      the paper's network on the CHAOS release, its MR part
"""

from command_line import require_run_folder, run_command, run_parser

import argparse
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from guided_attention import MSGA, Trainer
from guided_attention.case import Case
from guided_attention.data import CHAOS_MR_LABELS as LABELS
from guided_attention.data import Split, read_chaos, split_subjects, write_phantom_cohort
from guided_attention.evaluation import Validation, evaluate, format_table, summarize, write_scores_csv
from guided_attention.figures import save_prediction_grid
from guided_attention.inference import PostProcessing, Predictor, save_prediction
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.preparation import Preparation
from guided_attention.sampling import FlipRotate, SliceDataset
from guided_attention.training import TrainerConfig, polynomial_decay, seed_everything

SOURCES = {"t1_in": 1, "t1_out": 1, "t1_dual": 2, "t2": 1}  # and their channels
# Options, and their defaults for phantoms and for CHAOS.
OPTIONS = ("encoder", "channels", "size", "batch_size", "lr", "epochs")
PHANTOMS, CHAOS = ("resnet18", 16, 128, 4, 2e-3, 5), ("resnext101_32x4d", 64, 256, 8, 1e-3, 250)


def main(args: argparse.Namespace) -> None:
    """Read, train, predict, score."""
    require_run_folder(args.out, resume=args.resume)
    seed_everything(args.seed)
    model = MSGA(SOURCES[args.source], LABELS.num_classes, encoder=args.encoder, channels=args.channels)

    folder = args.data or write_phantom_cohort("phantom-cohort", subjects=20, size=160)
    # A resumed run keeps its split, whatever the seed: a subject that has trained the network is never tested.
    kept = Split.load(args.out / "split.json") if args.resume else None
    names = None if kept is None else [*kept.train, *kept.val, *kept.test]
    cases = {case.case_id: case for case in read_chaos(folder, source=args.source, case_ids=names)}
    split = kept or split_subjects(list(cases), train=13, val=2, test=5, seed=args.seed)
    train, val, test = ([cases[name] for name in part] for part in (split.train, split.val, split.test))
    print(f"{len(train)} training, {len(val)} validation and {len(test)} test subjects from {folder}")

    # What is done to a scan before the network sees it, and undone after. It is stored with the weights.
    size, few = (args.size, args.size), args.data is None
    preparation = Preparation(slice_axis="axial", min_size=size).fit(train)
    largest = PostProcessing(keep_largest=LABELS.values)
    predictor = Predictor(model, preparation, LABELS, device=args.device, postprocess=largest)
    # Organs have sides, so slices are rotated a little but never mirrored. Phantoms train on slices with organs only.
    augment = FlipRotate(flip=0, mirror=0, degrees=15)
    slices = SliceDataset(train, preparation, LABELS, augment=augment, size=size, foreground_only=few)
    limits = {"max_epochs": args.epochs, "max_minutes": args.minutes}
    numbers = {"precision": args.precision, "clip_grad_norm": 1.0, "ema_decay": 0.99, "seed": args.seed}
    trainer = Trainer(
        model,
        GuidedAttentionLoss(DiceCrossEntropyLoss()),
        torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4),
        train_loader=DataLoader(slices, batch_size=args.batch_size, shuffle=True, drop_last=True),
        validate=Validation(predictor.with_model, val, LABELS),
        run_dir=args.out,
        config=TrainerConfig(**limits, **numbers, device=args.device, schedule=polynomial_decay()),
        metadata=predictor.metadata,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    split.save(args.out / "split.json")
    result = trainer.fit(resume=args.resume)
    print(f"best epoch {result.best_epoch}: mean 3D Dice {result.best_score:.3f} on the validation subjects")
    report(test, args)


def report(cases: list[Case], args: argparse.Namespace) -> None:
    """Predict the test subjects with the best weights; write volumes, scores and a picture."""
    predictor = Predictor.load(args.out, device=args.device)  # needs nothing but the folder
    predictions = {prediction.case_id: prediction for prediction in predictor.stream(cases)}
    for prediction in predictions.values():
        save_prediction(prediction, args.out / "predictions", also=["uncertainty"], overwrite=args.resume)
    scores = evaluate(lambda case: predictions[case.case_id], cases, LABELS)
    write_scores_csv(args.out / "test_scores.csv", scores)
    save_prediction_grid(args.out / "test_subjects.png", cases, list(predictions.values()), LABELS)
    print(f"{format_table(summarize(scores))}\npredictions, scores and pictures: {args.out}")


def parse() -> argparse.Namespace:
    """Read the command line; defaults depend on whether there are real data."""
    parser = run_parser(__doc__, out=Path("runs/chaos"), minutes=None)
    parser.add_argument("--data", type=Path, help="folder of the CHAOS release; without it, phantoms")
    parser.add_argument("--source", default="t1_in", choices=SOURCES)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    for name, small, full in zip(OPTIONS, PHANTOMS, CHAOS, strict=True):
        about = f"{small} for phantoms, {full} for CHAOS"
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(small), help=about)
    args = parser.parse_args()
    for name, value in zip(OPTIONS, CHAOS if args.data else PHANTOMS, strict=True):
        setattr(args, name, value if getattr(args, name) is None else getattr(args, name))
    return args


if __name__ == "__main__":
    run_command(main, parse())
