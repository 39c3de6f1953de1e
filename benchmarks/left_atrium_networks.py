"""Trains the paper's network and its rivals on real volumes with one budget for all, and scores whole test volumes.

    python benchmarks/left_atrium_networks.py --data FOLDER --epochs 4 --slice-step 2

The folder is that of `examples/train_left_atrium.py`. Every network sees the same slices in the same number of epochs,
with the same optimizer, augmentation and seed; only the network differs. A network that stands in the results with the
same settings is not trained again, so that the command goes on where it was stopped.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from guided_attention import Trainer, __version__
from guided_attention.data import (
    Case,
    Chain,
    FlipRotate,
    RandomIntensity,
    SliceDataset,
    normalize,
    read_nifti_pairs,
    resample_in_plane,
)
from guided_attention.inference import (
    evaluate_model,
    evaluate_prediction,
    keep_largest_component,
    predict_case,
)
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.metrics import CaseScore, mean_dsc
from guided_attention.models import daf, danet, ms_dual, ms_dual_guided, unet
from guided_attention.training import TrainerConfig, load_weights, polynomial_decay, seed_everything

RESULTS = Path(__file__).parent / "results" / "left_atrium_networks.json"
LABELS = {1: "left atrium"}
IN_PLANE_MM = 1.0
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MS-Dual-Guided": partial(ms_dual_guided, 1, 2, encoder="resnet18", channels=16),
    "MS-Dual": partial(ms_dual, 1, 2, encoder="resnet18", channels=16),
    "DAF": partial(daf, 1, 2, encoder="resnet18", channels=16),
    "DANet": partial(danet, 1, 2, encoder="resnet18"),
    "UNet (MONAI BasicUNet)": partial(unet, 1, 2, channels=(32, 64, 128, 256, 512)),
}


def main() -> None:
    """Train and score the networks one after the other, and write each down as it is done."""
    args = parse()
    torch.set_num_threads(args.threads)
    settings = {name: value for name, value in vars(args).items() if name not in ("data", "networks")}
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    rows = known.get("networks", {}) if known.get("settings") == settings else {}
    train, val, test = (read_part(args.data, part) for part in ("train", "val", "test"))
    for name in args.networks or NETWORKS:
        if name not in rows:
            rows[name] = trained(NETWORKS[name], (train, val, test), args)
            print(name, rows[name], flush=True)
        RESULTS.write_text(json.dumps({"settings": settings, **about(), "networks": rows}, indent=2) + "\n")
    print(table(rows))


def read_part(folder: Path, part: str) -> list[Case]:
    """Read and normalise the volumes of one part of the split."""
    rows = json.loads((folder / "cases.json").read_text())
    names = [f"case{row['case']:02d}" for row in rows if row["split"] == part]
    return [normalize(case) for case in read_nifti_pairs(folder, ids=names)]


def trained(
    build: Callable[[], nn.Module], parts: Sequence[Sequence[Case]], args: argparse.Namespace
) -> dict[str, float]:
    """Train a network and return its scores on the test volumes."""
    train, val, test = parts
    seed_everything(args.seed)
    model = build()
    seen = [resample_in_plane(case, IN_PLANE_MM) for case in train]
    augment = Chain((FlipRotate(degrees=15), RandomIntensity()))
    slices = SliceDataset(seen, num_classes=2, size=(96, 128), slice_step=args.slice_step, augment=augment)
    validate = partial(evaluate_model, cases=val, labels=LABELS, distances=False, in_plane_mm=IN_PLANE_MM)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            GuidedAttentionLoss(DiceCrossEntropyLoss()),
            torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4),
            train_loader=DataLoader(slices, batch_size=4, shuffle=True, drop_last=True),
            validate=lambda network: mean_dsc(validate(network)),
            run_dir=Path(folder) / "run",
            config=TrainerConfig(max_epochs=args.epochs, clip_grad_norm=1.0, ema_decay=0.99, seed=args.seed),
            schedule=polynomial_decay(),
        )
        result = trainer.fit()
        load_weights(model, result.run_dir / "best.pt")
    scores = [score for case in test for score in scored(model, case)]
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "minutes": round(result.minutes, 2),
        "best_epoch": result.best_epoch,
        **summary("dsc", [score.dsc for score in scores]),
        **summary("vs", [score.vs for score in scores]),
        **summary("msd_mm", [score.msd_mm for score in scores]),
    }


def scored(model: nn.Module, case: Case) -> list[CaseScore]:
    """Return the scores of one test volume, its largest component alone."""
    prediction = predict_case(model, case, in_plane_mm=IN_PLANE_MM)
    return evaluate_prediction(
        replace(prediction, labels=keep_largest_component(prediction.labels)), case, LABELS
    )


def summary(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return mean and standard deviation over the test volumes."""
    return {name: round(statistics.mean(values), 4), f"{name}_sd": round(statistics.stdev(values), 4)}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| network | parameters | minutes | DSC | VS | MSD (mm) |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {name} | {row['parameters']:,} | {row['minutes']:.1f} | {row['dsc']:.3f} ({row['dsc_sd']:.3f}) "
        f"| {row['vs']:.3f} ({row['vs_sd']:.3f}) | {row['msd_mm']:.2f} ({row['msd_mm_sd']:.2f}) |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


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
        "--networks", nargs="+", choices=list(NETWORKS), help="some of the networks; all otherwise"
    )
    parser.add_argument("--epochs", type=int, default=4, help="the budget of every network")
    parser.add_argument("--slice-step", type=int, default=2, help="train on every n-th slice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
