"""Train on cardiac MR volumes in NIfTI files with one organ, the left atrium, and score whole volumes in millimetres.

    python examples/train_left_atrium.py --data FOLDER --minutes 20

FOLDER holds pairs `case01_image.nii.gz`, `case01_label.nii.gz` and `cases.json`, a list of
`{"case": 1, "split": "train"}` with the split "train", "val" or "test". `guided-attention plan`, `train`, `predict` and
`evaluate` do the same for any organs.
"""

from command_line import require_run_folder, run_command, run_parser

import argparse
from pathlib import Path

from guided_attention.labels import LabelSpec
from guided_attention.recipes import Plan, check_values, evaluate, plan_for, train

LABELS = LabelSpec({1: "left atrium"})
OPTIONS = {
    "minutes": "budget.minutes",
    "epochs": "budget.epochs",
    "encoder": "network.arguments.encoder",
    "channels": "network.arguments.channels",
    "steps": "sampling.steps",
    "batch_size": "sampling.batch_size",
    "lr": "optimizer.lr",
}
"""What each option is called in a plan; the plan chooses where an option is left out."""


def main(args: argparse.Namespace) -> None:
    """Plan, train, predict, score."""
    require_run_folder(args.out, resume=args.resume)
    values = {key: getattr(args, name) for name, key in OPTIONS.items() if getattr(args, name) is not None}
    check_values(values)
    if args.resume:  # the data may have moved; another seed is refused
        values |= {"data.folder": str(args.data)} | ({} if args.seed is None else {"seed": args.seed})
    plan = (
        Plan.load(args.out)
        if args.resume
        else plan_for(args.data, seed=args.seed or 0, device=args.device, labels=LABELS)
    )
    plan, parts = plan.with_values(values), plan.data
    print(f"{len(parts.train)} training, {len(parts.val)} validation and {len(parts.test)} test cases")
    result = train(plan, args.out, resume=args.resume, device=args.device)
    print(f"best epoch {result.best_epoch}: mean 3D Dice {result.best_score:.3f} on the validation cases")

    # Predicts the test cases with the best weights, and scores the volumes.
    evaluate(args.out, device=args.device)
    scores = (args.out / "evaluation" / "scores.txt").read_text()
    print(f"{scores}\npredictions, scores and learning curves: {args.out}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = run_parser(__doc__, out=Path("runs/left-atrium"), minutes=None)
    parser.set_defaults(seed=None)  # 0, and when a run is resumed, its own
    parser.add_argument("--data", type=Path, required=True, help="folder with the NIfTI pairs and cases.json")
    parser.add_argument("--epochs", type=int, help="stop after so many epochs at the latest")
    parser.add_argument("--encoder", help="such as resnet50")
    parser.add_argument("--channels", type=int, help="width of every map after the encoder")
    parser.add_argument("--steps", type=int, help="batches of an epoch")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--lr", type=float, help="learning rate at the start")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse())
