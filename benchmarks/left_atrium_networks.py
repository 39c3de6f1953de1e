"""Trains the paper's network and others on real volumes with one budget for all, and scores whole test volumes.

    python -m benchmarks.left_atrium_networks --data FOLDER --epochs 4 --seeds 0 1 2
    python -m benchmarks.left_atrium_networks --data FOLDER --minutes 24 --seeds 0 1 2

The folder is that of `examples/train_left_atrium.py`. Every network sees the same slices in the same number of epochs,
or for the same time, with the same preparation, optimizer, augmentation and seeds; only the network differs.
Minutes are those of a processor core, so that other work on the machine changes nothing: 24 of them are 12
minutes of two cores. A run that is in the results already is not repeated, so that the command continues where it
was stopped.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic, process_time

import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.contestants import FIVE, contestants
from guided_attention import Trainer, __version__
from guided_attention.case import Case
from guided_attention.data import read_nifti_pairs
from guided_attention.evaluation import Validation, evaluate
from guided_attention.inference import PostProcessing, Predictor
from guided_attention.labels import LabelSpec
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.preparation import Preparation
from guided_attention.sampling import Chain, FlipRotate, RandomIntensity, SliceDataset
from guided_attention.training import (
    TrainerConfig,
    TrainingResult,
    load_weights,
    polynomial_decay,
    seed_everything,
)

RESULTS = Path(__file__).parent / "results"
LABELS = LabelSpec({1: "left atrium"})
IN_PLANE_MM = 1.0
Runs = dict[str, list[dict[str, float | str]]]


def main() -> None:
    """Train and score the networks one after the other, and write each run down as it is done."""
    args = parse()
    torch.set_num_threads(args.threads)
    budget = {"processor_minutes": args.minutes} if args.minutes else {"epochs": args.epochs}
    chosen = ("slice_step", "channels", "side", "batch", "precision")
    settings = {**budget, **{name: getattr(args, name) for name in chosen}, "padded_in_prediction": True}
    path = args.out or RESULTS / ("left_atrium_minutes.json" if args.minutes else "left_atrium_epochs.json")
    networks = contestants(args.channels)
    train, val, test = (read_part(args.data, part) for part in ("train", "val", "test"))
    for seed in args.seeds:
        for name in args.networks or FIVE:
            if all(run["seed"] != seed for run in known(path, settings).get(name, [])):
                scores = trained(networks[name], (train, val, test), args, seed)
                run = {"seed": seed, "threads": args.threads, **about(), **scores}
                print(name, run, flush=True)
                # Read anew: another process may have written the runs of other networks meanwhile.
                runs = known(path, settings)
                runs.setdefault(name, []).append(run)
                path.write_text(json.dumps({"settings": settings, "networks": runs}, indent=2) + "\n")
    print(table(asked_for(known(path, settings), args.networks or FIVE, args.seeds)))


def known(path: Path, settings: dict[str, object]) -> Runs:
    """Return the runs that stand in the file."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text())
    if found["settings"] != settings:
        raise SystemExit(
            f"{path} holds runs of another budget, {found['settings']}: name another file with --out."
        )
    runs: Runs = found["networks"]
    return runs


def read_part(folder: Path, part: str) -> list[Case]:
    """Read the volumes of one part of the split."""
    rows = json.loads((folder / "cases.json").read_text())
    names = [f"case{row['case']:02d}" for row in rows if row["split"] == part]
    return read_nifti_pairs(folder, case_ids=names)


def preparation_of(cases: Sequence[Case], side: tuple[int, int]) -> Preparation:
    """Return what is done to scans before every network, in training and in prediction."""
    return Preparation(spacing_mm=(None, IN_PLANE_MM, IN_PLANE_MM), min_size=side).fit(cases)


def trained(
    build: Callable[[], nn.Module], parts: Sequence[Sequence[Case]], args: argparse.Namespace, seed: int
) -> dict[str, float]:
    """Train a network and return its scores on the test volumes."""
    *seen, test = parts
    with tempfile.TemporaryDirectory() as folder:
        predictor, result = old_recipe(build, seen, args, seed, Path(folder))
    scores = evaluate(predictor, test, LABELS)
    return {
        "parameters": sum(parameter.numel() for parameter in predictor.members.parameters()),
        "minutes": round(result.minutes, 2),
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        **summary("dice", [score.dice for score in scores]),
        **summary("volume_similarity", [score.volume_similarity for score in scores]),
        **summary("assd_mm", [score.assd_mm for score in scores]),
    }


def old_recipe(
    build: Callable[[], nn.Module],
    parts: Sequence[Sequence[Case]],
    args: argparse.Namespace,
    seed: int,
    folder: Path,
    loss: nn.Module | None = None,
) -> tuple[Predictor, TrainingResult]:
    """Train a network on single slices with flips, small turns and gamma, as plans did at first."""
    train, val = parts
    seed_everything(seed)
    model = build()
    side = (args.side[0], args.side[1])
    preparation = preparation_of(train, side)
    predictor = Predictor(model, preparation, LABELS, device=None)
    augment = Chain((FlipRotate(degrees=15), RandomIntensity()))
    slices = SliceDataset(train, preparation, LABELS, size=side, slice_step=args.slice_step, augment=augment)
    trainer = Trainer(
        model,
        GuidedAttentionLoss(DiceCrossEntropyLoss()) if loss is None else loss,
        torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4),
        train_loader=DataLoader(slices, batch_size=args.batch, shuffle=True, drop_last=True),
        validate=Validation(predictor.with_model, val, LABELS),
        run_dir=folder / "run",
        config=TrainerConfig(
            max_epochs=1000 if args.minutes else args.epochs,
            max_minutes=args.minutes,
            precision=args.precision,
            clip_grad_norm=1.0,
            ema_decay=0.99,
            seed=seed,
            device="cpu",
            schedule=polynomial_decay(),
            # Minutes are those that the process works, of all threads, in place of those that pass.
            clock=process_time if args.minutes else monotonic,
        ),
    )
    result = trainer.fit()
    load_weights(model, result.run_dir / "best.pt")
    largest = PostProcessing(keep_largest=LABELS.values)
    return Predictor(model, preparation, LABELS, device=None, postprocess=largest), result


def summary(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return mean and standard deviation over the test volumes."""
    return {name: round(statistics.mean(values), 4), f"{name}_sd": round(statistics.stdev(values), 4)}


def asked_for(runs: Runs, networks: Sequence[str], seeds: Sequence[int]) -> Runs:
    """Return the runs of these networks with these seeds."""
    return {name: [run for run in runs.get(name, []) if run["seed"] in seeds] for name in networks}


def table(runs: Runs) -> str:
    """Return the results as a Markdown table, the best DSC first.

    Every number is a mean over the seeds; in brackets are the lowest and the highest DSC of a seed. The spread is the
    standard deviation over the test volumes.
    """
    lines = [
        "| network | parameters | seeds | minutes | epochs | DSC | spread | VS | MSD (mm) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    done = {name: runs_of for name, runs_of in runs.items() if runs_of}
    for name in sorted(done, key=lambda name: -_mean(done[name], "dice")):
        mean = partial(_mean, done[name])
        dice = [float(run["dice"]) for run in done[name]]
        between = f" ({min(dice):.3f} to {max(dice):.3f})" if len(dice) > 1 else ""
        lines.append(
            f"| {name} | {done[name][0]['parameters']:,} | {len(dice)} | {mean('minutes'):.1f} | {mean('epochs'):.0f} "
            f"| {mean('dice'):.3f}{between} | {mean('dice_sd'):.3f} | {mean('volume_similarity'):.3f} "
            f"| {mean('assd_mm'):.2f} |"
        )
    return "\n".join(lines)


def _mean(runs: Sequence[dict[str, float | str]], key: str) -> float:
    return statistics.mean(float(run[key]) for run in runs)


def about() -> dict[str, str]:
    """Name the machine, the versions and the commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "unknown")
    return {
        "cpu": cpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "guided_attention": __version__,
        "commit": commit.stdout.strip(),
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the NIfTI pairs and cases.json")
    parser.add_argument(
        "--networks", nargs="+", help="some of the networks in `contestants.py`; five otherwise"
    )
    parser.add_argument("--epochs", type=int, default=4, help="the budget of every network")
    parser.add_argument(
        "--minutes", type=float, help="minutes of a core for every network, in place of epochs"
    )
    parser.add_argument("--channels", type=int, default=32, help="channels of ours after the encoder")
    parser.add_argument("--side", type=int, nargs=2, default=[96, 128], help="height and width of a slice")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--slice-step", type=int, default=2, help="train on every n-th slice")
    parser.add_argument(
        "--out", type=Path, help="file of the results; one a budget in benchmarks/results otherwise"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
