"""Trains the paper's network and its rivals on real volumes with one budget for all, and scores whole test volumes.

    python benchmarks/left_atrium_networks.py --data FOLDER --epochs 4 --seeds 0 1 2
    python benchmarks/left_atrium_networks.py --data FOLDER --minutes 12 --seeds 0 1 2

The folder is that of `examples/train_left_atrium.py`. Every network sees the same slices in the same number of epochs,
or for the same time, with the same optimizer, augmentation and seeds; only the network differs. A run that stands in
the results already is not made again, so that the command goes on where it was stopped.
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
from torch import Tensor, nn
from torch.utils.data import DataLoader

from guided_attention import MultiScaleFusion, SegmentationModel, Trainer, __version__
from guided_attention.attention import AttendedFeatures
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
from guided_attention.encoders import resnet_encoder
from guided_attention.inference import (
    evaluate_model,
    evaluate_prediction,
    keep_largest_component,
    predict_case,
)
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.metrics import CaseScore, mean_dsc
from guided_attention.models import daf, danet, ms_dual, ms_dual_guided, msga_lite, unet
from guided_attention.training import TrainerConfig, load_weights, polynomial_decay, seed_everything

RESULTS = Path(__file__).parent / "results"
LABELS = {1: "left atrium"}
IN_PLANE_MM = 1.0
Runs = dict[str, list[dict[str, float | str]]]


class NoAttention(nn.Module):
    """Hands the fused map to every head: what is left of the network where its attention is taken out."""

    num_steps = 1

    def __init__(self, channels: int, num_scales: int) -> None:
        super().__init__()
        self.channels, self.num_scales = channels, num_scales

    def forward(self, maps: Sequence[Tensor], fused: Tensor) -> AttendedFeatures:
        """Attend to nothing."""
        return AttendedFeatures(attended=(tuple(fused for _ in maps),))


def fusion_only(in_channels: int, num_classes: int) -> SegmentationModel:
    """Return trunk, fusion and heads of the paper's network, without attention."""
    encoder = resnet_encoder("resnet18", in_channels=in_channels)
    fusion = MultiScaleFusion(encoder.out_channels, channels=16)
    return SegmentationModel(encoder, fusion, NoAttention(16, 4), num_classes=num_classes)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MSGA lite": partial(msga_lite, 1, 2, encoder="resnet18", channels=16),
    "Fusion only": partial(fusion_only, 1, 2),
    "MS-Dual-Guided": partial(ms_dual_guided, 1, 2, encoder="resnet18", channels=16),
    "MS-Dual": partial(ms_dual, 1, 2, encoder="resnet18", channels=16),
    "DAF": partial(daf, 1, 2, encoder="resnet18", channels=16),
    "DANet": partial(danet, 1, 2, encoder="resnet18"),
    "UNet (MONAI BasicUNet)": partial(unet, 1, 2, channels=(32, 64, 128, 256, 512)),
}


def main() -> None:
    """Train and score the networks one after the other, and write each run down as it is done."""
    args = parse()
    torch.set_num_threads(args.threads)
    budget = {"minutes": args.minutes} if args.minutes else {"epochs": args.epochs}
    settings = {**budget, "slice_step": args.slice_step}
    path = args.out or RESULTS / ("left_atrium_minutes.json" if args.minutes else "left_atrium_networks.json")
    known = json.loads(path.read_text()) if path.is_file() else {}
    if known and known["settings"] != settings:
        raise SystemExit(
            f"{path} holds runs of another budget, {known['settings']}: name another file with --out."
        )
    runs: Runs = known.get("networks", {})
    train, val, test = (read_part(args.data, part) for part in ("train", "val", "test"))
    for seed in args.seeds:
        for name in args.networks or NETWORKS:
            done = runs.setdefault(name, [])
            if all(run["seed"] != seed for run in done):
                scores = trained(NETWORKS[name], (train, val, test), args, seed)
                done.append({"seed": seed, "threads": args.threads, **about(), **scores})
                print(name, done[-1], flush=True)
                path.write_text(json.dumps({"settings": settings, "networks": runs}, indent=2) + "\n")
    print(table(runs))


def read_part(folder: Path, part: str) -> list[Case]:
    """Read and normalise the volumes of one part of the split."""
    rows = json.loads((folder / "cases.json").read_text())
    names = [f"case{row['case']:02d}" for row in rows if row["split"] == part]
    return [normalize(case) for case in read_nifti_pairs(folder, ids=names)]


def trained(
    build: Callable[[], nn.Module], parts: Sequence[Sequence[Case]], args: argparse.Namespace, seed: int
) -> dict[str, float]:
    """Train a network and return its scores on the test volumes."""
    train, val, test = parts
    seed_everything(seed)
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
            config=TrainerConfig(
                max_epochs=1000 if args.minutes else args.epochs,
                max_minutes=args.minutes,
                clip_grad_norm=1.0,
                ema_decay=0.99,
                seed=seed,
            ),
            schedule=polynomial_decay(),
        )
        result = trainer.fit()
        load_weights(model, result.run_dir / "best.pt")
    scores = [score for case in test for score in scored(model, case)]
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "minutes": round(result.minutes, 2),
        "epochs": result.epochs,
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


def table(runs: Runs) -> str:
    """Return the results as a Markdown table: means over the seeds, and the least and greatest DSC of a seed."""
    lines = [
        "| network | parameters | seeds | minutes | DSC | VS | MSD (mm) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, done in runs.items():
        if done:
            mean = {
                key: statistics.mean(float(run[key]) for run in done)
                for key in ("minutes", "dsc", "vs", "msd_mm")
            }
            dsc = [float(run["dsc"]) for run in done]
            lines.append(
                f"| {name} | {done[0]['parameters']:,} | {len(done)} | {mean['minutes']:.1f} "
                f"| {mean['dsc']:.3f} ({min(dsc):.3f} to {max(dsc):.3f}) | {mean['vs']:.3f} | {mean['msd_mm']:.2f} |"
            )
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
    parser.add_argument("--minutes", type=float, help="the budget of every network, in place of epochs")
    parser.add_argument("--slice-step", type=int, default=2, help="train on every n-th slice")
    parser.add_argument(
        "--out", type=Path, help="file of the results; one a budget in benchmarks/results otherwise"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
