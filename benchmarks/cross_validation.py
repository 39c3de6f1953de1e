"""Cross-validates networks on real volumes, each under the old recipe and the new, one budget for all.

    python -m benchmarks.cross_validation --data FOLDER
    python -m benchmarks.cross_validation --data FOLDER --split --recipes new --networks "MSGA lite" --minutes 96
    python -m benchmarks.cross_validation --data FOLDER --folds 0 1 --recipes new "new, SGD"

FOLDER is that of `examples/train_left_atrium.py`. Five folds of its cases are made by a fixed seed. Each network is
trained on four of them, less three cases that choose the epoch, and predicts the fifth; a scan that is there twice
never trains the network that predicts it. `--split` trains and tests once on the parts of `cases.json`. Minutes are
those of a processor core, as in `benchmarks.left_atrium_networks`. A run that is in the results is not repeated: the
command goes on where it was stopped. A processor with fast bfloat16 takes twice the steps in a minute: runs of the two
kinds have tables of their own, and only runs of one kind are paired.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.contestants import fusion_only
from benchmarks.left_atrium_networks import LABELS, RESULTS, about, old_recipe
from guided_attention import Trainer
from guided_attention.data import Cohort, k_fold, open_cohort
from guided_attention.evaluation import CaseScore, MetricName, Validation, compare_models, evaluate
from guided_attention.inference import Predictor
from guided_attention.losses import DiceCrossEntropyLoss
from guided_attention.metrics import DistanceDefinition
from guided_attention.models import build, msga_lite
from guided_attention.outputs import LossTerms, SegmentationOutput, takes_outputs
from guided_attention.recipes import plan_for
from guided_attention.recipes._machine import has_fast_bf16
from guided_attention.recipes._parts import (
    augmentation_of,
    loader_of,
    loss_of,
    optimizer_of,
    predictor_of,
    schedule_of,
)
from guided_attention.recipes._shapes import Dimensions
from guided_attention.sampling import VolumeCache
from guided_attention.training import TrainerConfig, load_weights, seed_everything

FOLDS, SEED = 5, 12345
VALIDATED = 3
"""Cases of each fold's training part that choose the epoch."""
TWINS = {"case01": "case23", "case23": "case01"}
"""One scan of the Left Atrium Challenge that is there twice, cut out with two margins: `check` finds it. Where one is
tested, the other is left out."""
Run = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How the new recipe is varied."""

    dimensions: Dimensions | None = None
    values: Mapping[str, object] = field(default_factory=dict)


WITHOUT_CURVES: Mapping[str, object] = {"augmentation.curve_probability": 0.0}
"""The runs of "new" were trained before random curves of intensity became part of the default plan."""
RECIPES: Mapping[str, Recipe | None] = {
    "old": None,
    "new": Recipe(),
    "new, curves": Recipe(values={"augmentation.curve_probability": 0.15}),
    "new, 2-D": Recipe("2d"),
    "new, 3-D": Recipe("3d"),
    "new, strong": Recipe(values={"augmentation.strength": "strong"}),
    "new, no augmentation": Recipe(values={"augmentation.strength": "none"}),
    "new, no forced foreground": Recipe(values={"sampling.foreground": 0.0}),
    "new, SGD": Recipe(
        values={
            "optimizer.name": "sgd",
            "optimizer.lr": 1e-2,
            "optimizer.weight_decay": 3e-5,
            "training.clip_grad_norm": 12.0,
        }
    ),
    "new, batch 4": Recipe(
        values={"sampling.batch_size": 4, "sampling.steps": 500, "training.ema_decay": 0.995}
    ),
    "new, batch 2": Recipe(
        values={"sampling.batch_size": 2, "sampling.steps": 1000, "training.ema_decay": 0.998}
    ),
    "new, no mirrors": Recipe(values={"augmentation.mirror_axes": (), "inference.mirror_axes": ()}),
    "new, cosine": Recipe(values={"schedule.name": "cosine", "schedule.warmup": 0.03}),
}
"""The recipes by name; the old one is that of `benchmarks.left_atrium_networks`."""
NETWORKS = ("MSGA lite", "Fusion only", "PlainConvUNet")


class PlainConvUNet(nn.Module):
    """The network of nnU-Net, with its deep supervision."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        from dynamic_network_architectures.architectures.unet import PlainConvUNet as Network  # noqa: PLC0415

        super().__init__()
        widths = (32, 64, 128, 256, 512, 512)
        stages = len(widths)
        self.stride = 2 ** (stages - 1)
        self.network = Network(
            in_channels,
            stages,
            widths,
            nn.Conv2d,
            3,
            (1,) + (2,) * (stages - 1),
            2,
            num_classes,
            2,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=True,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits; whole slices are filled up to sides that the strides divide."""
        height, width = x.shape[2:]
        more = (0, -width % self.stride, 0, -height % self.stride)
        logits: Tensor = self.network(nn.functional.pad(x, more, mode="replicate"))[0]
        return logits[..., :height, :width]

    def outputs(self, x: Tensor) -> SegmentationOutput:
        """Return the logits of each resolution."""
        logits, *coarse = self.network(x)
        return SegmentationOutput(logits=logits, raw_logits=tuple(coarse))


@takes_outputs
class DeepSupervision(nn.Module):
    """nnU-Net's loss: each resolution half the weight of the finer one, the coarsest none."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = DiceCrossEntropyLoss()

    def forward(self, output: SegmentationOutput, target: Tensor) -> LossTerms:
        """Return the weighted mean over the resolutions."""
        logits = (output.logits, *output.raw_logits)[: max(1, len(output.raw_logits))]
        weights = [0.5**number for number in range(len(logits))]
        total = sum(
            weight * self.loss(one, _resized(target, one))
            for weight, one in zip(weights, logits, strict=True)
        ) / sum(weights)
        return LossTerms(total, {"segmentation": total})


def _resized(target: Tensor, like: Tensor) -> Tensor:
    small: Tensor = nn.functional.interpolate(target[:, None].float(), like.shape[2:], mode="nearest-exact")
    return small[:, 0].long()


def main() -> None:
    """Train and score one run after the other, and write each down as it is done."""
    args = parse()
    torch.set_num_threads(args.threads)
    path, cohort = args.out or RESULTS / "cross_validation.json", open_cohort(args.data, labels=LABELS)
    fast = has_fast_bf16(torch.device("cpu"))
    for fold in ["split"] if args.split else args.folds:
        for recipe in args.recipes:
            for network in args.networks:
                key = {
                    "network": network,
                    "recipe": recipe,
                    "fold": fold,
                    "seed": args.seed,
                    "minutes": args.minutes,
                    "bf16": fast,
                }
                if not any(key.items() <= run.items() for run in known(path)):
                    run = key | about() | trained(dealt(cohort, fold), network, recipe, args)
                    # Read anew: another process may have written runs meanwhile.
                    path.write_text(json.dumps([*known(path), run], indent=1) + "\n")
                    print({name: run[name] for name in (*key, "epochs", "dice")}, flush=True)
    print(table(known(path), args))
    print(differences(known(path), args))


def known(path: Path) -> list[Run]:
    """Return the runs that stand in the file."""
    runs: list[Run] = json.loads(path.read_text()) if path.is_file() else []
    return runs


def dealt(cohort: Cohort, fold: int | str) -> Cohort:
    """Return the cohort with the parts of a fold; those of the folder for "split"."""
    if fold == "split":
        return cohort
    split = k_fold(sorted(cohort.case_ids), folds=FOLDS, val=VALIDATED, seed=SEED)[int(fold)]
    part = {name: key for key in ("train", "val", "test") for name in getattr(split, key)}
    known = {TWINS[name] for name in split.test if name in TWINS} - set(split.test)
    kept = (scan for scan in cohort.scans if scan.case_id not in known)
    return replace(cohort, scans=tuple(replace(scan, part=part[scan.case_id]) for scan in kept))


def trained(cohort: Cohort, network: str, recipe: str, args: argparse.Namespace) -> Run:
    """Train a network on the parts of a cohort, and return the scores of its test cases."""
    varied = RECIPES[recipe]
    if varied is None:
        with tempfile.TemporaryDirectory() as folder:
            result = _by_old_recipe(cohort, network, args, Path(folder))
    else:
        result = planned(cohort, network, varied, args)
    predict, epochs, best = result
    rows = evaluate(predict, cohort.select(cohort.parts["test"]), LABELS)
    mean = round(float(np.mean([row.dice for row in rows])), 4)
    return {"epochs": epochs, "best_epoch": best, "dice": mean, "scores": [asdict(row) for row in rows]}


def _by_old_recipe(
    cohort: Cohort, network: str, args: argparse.Namespace, folder: Path
) -> tuple[Predictor, int, int]:
    train, val = ([cohort.read(name) for name in cohort.parts[part]] for part in ("train", "val"))
    settings = argparse.Namespace(
        **vars(args),
        epochs=None,
        side=(96, 128),
        batch=8,
        precision="bf16" if has_fast_bf16(torch.device("cpu")) else "fp32",
        slice_step=2,
    )
    loss = DeepSupervision() if network == "PlainConvUNet" else None
    predictor, result = old_recipe(
        lambda: network_of(network, 1), (train, val), settings, args.seed, folder, loss
    )
    return predictor, result.epochs, result.best_epoch


def planned(
    cohort: Cohort, network: str, recipe: Recipe, args: argparse.Namespace
) -> tuple[Predictor, int, int]:
    """Carry out the plan that `plan_for` makes, with another network and the clock of a core.

    Returns:
        The predictor of the best epoch, the number of epochs, and the best one.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _by_plan(cohort, network, recipe, args, Path(folder))


def _by_plan(
    cohort: Cohort, network: str, recipe: Recipe, args: argparse.Namespace, folder: Path
) -> tuple[Predictor, int, int]:
    plan = plan_for(cohort, minutes=args.minutes, seed=args.seed, device="cpu", dimensions=recipe.dimensions)
    plan = plan.with_values({**WITHOUT_CURVES, **recipe.values})
    seed_everything(args.seed)
    channels = plan.preparation.in_channels
    model = build(plan.network) if network == "MSGA lite" else network_of(network, channels)
    cache = VolumeCache(folder / "cache", plan.preparation)
    volumes = cache.volumes(cohort.select(plan.data.train))
    validated = predictor_of(plan, model, mirrored=False)
    chosen = plan.training
    trainer = Trainer(
        model,
        DeepSupervision() if network == "PlainConvUNet" else loss_of(plan),
        optimizer_of(plan.optimizer, model),
        train_loader=loader_of(plan, volumes, torch.device("cpu")),
        validate=Validation(validated.with_model, cohort.select(plan.data.val), LABELS),
        run_dir=folder / "run",
        config=TrainerConfig(
            max_epochs=plan.budget.epochs,
            max_minutes=args.minutes,
            precision=chosen.precision,
            clip_grad_norm=chosen.clip_grad_norm,
            ema_decay=chosen.ema_decay,
            validate_every=chosen.validate_every,
            seed=args.seed,
            device="cpu",
            quiet=True,
            schedule=schedule_of(plan),
            augment=augmentation_of(plan),
            clock=process_time,
        ),
    )
    result = trainer.fit()
    load_weights(model, result.run_dir / "best.pt")
    return predictor_of(plan, model), result.epochs, result.best_epoch


def network_of(name: str, in_channels: int) -> nn.Module:
    """Return a network of slices for two classes."""
    makers: Mapping[str, Callable[[], nn.Module]] = {
        "MSGA lite": lambda: msga_lite(in_channels, 2, encoder="resnet18", channels=32),
        "Fusion only": lambda: fusion_only(32, in_channels),
        "PlainConvUNet": lambda: PlainConvUNet(in_channels, 2),
    }
    return makers[name]()


def table(runs: Sequence[Run], args: argparse.Namespace) -> str:
    """Return the runs of a budget as a Markdown table, those of a kind of processor together."""
    lines = [
        "| fast bfloat16 | recipe | network | cases | DSC | spread | least | MSD (mm) | epochs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    grouped = _grouped(runs, args)
    for fast in (True, False):
        for (recipe, network), every in grouped.items():
            chosen = [run for run in every if run["bf16"] == fast]
            if chosen:
                lines.append(f"| {'yes' if fast else 'no'} | {recipe} | {network} {_means(chosen)}")
    return "\n".join(lines)


def differences(runs: Sequence[Run], args: argparse.Namespace) -> str:
    """Return as a Markdown table what networks and recipes differ by, paired by case.

    A case is paired where both were trained on one kind of processor, and counts once.
    """
    lines = ["| | less | cases | DSC (95 %) | MSD (mm, 95 %) |", "|---|---|---|---|---|"]
    grouped = _grouped(runs, args)
    names = list(grouped)
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            if name[0] == other[0] or name[1] == other[1]:
                pairs = _paired(grouped[other], grouped[name])
                if pairs:
                    cells = [_interval(pairs, "dice"), _interval(pairs, "assd_mm")]
                    head = f"| {', '.join(other[::-1])} | {', '.join(name[::-1])} | {len(pairs)} | "
                    lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines)


def _grouped(runs: Sequence[Run], args: argparse.Namespace) -> dict[tuple[str, str], list[Run]]:
    """Return the runs of a budget that there are, by recipe and network."""
    wanted = {"seed": args.seed, "minutes": args.minutes}
    folds = ["split"] if args.split else args.folds
    names = ((recipe, network) for recipe in args.recipes for network in args.networks)
    found = {
        (recipe, network): [
            run
            for run in runs
            if (wanted | {"recipe": recipe, "network": network}).items() <= run.items()
            and run["fold"] in folds
        ]
        for recipe, network in names
    }
    return {name: chosen for name, chosen in found.items() if chosen}


def _paired(ours: Sequence[Run], others: Sequence[Run]) -> list[tuple[CaseScore, CaseScore]]:
    """Return the scores of the cases that both have on one kind of processor; on the fast one where on both."""
    found: dict[str, tuple[CaseScore, CaseScore]] = {}
    for fast in (True, False):
        mine, theirs = (
            {
                score["case_id"]: _score(**score)
                for run in each
                if run["bf16"] == fast
                for score in run["scores"]
            }
            for each in (ours, others)
        )
        found = {name: (mine[name], theirs[name]) for name in mine if name in theirs} | found
    return list(found.values())


def _interval(pairs: Sequence[tuple[CaseScore, CaseScore]], metric: MetricName) -> str:
    ours, others = ([pair[which] for pair in pairs] for which in (0, 1))
    (found,) = compare_models(ours, others, metric=metric)
    digits = 3 if metric == "dice" else 2
    return f"{found.difference:+.{digits}f} ({found.low:+.{digits}f} to {found.high:+.{digits}f})"


def _score(definition: dict[str, Any], **values: Any) -> CaseScore:  # noqa: ANN401 - what JSON holds
    return CaseScore(**values, definition=DistanceDefinition(**definition))


def _means(runs: Sequence[Run]) -> str:
    scores = [score for run in runs for score in run["scores"]]
    dice, distance = (np.array([score[name] for score in scores]) for name in ("dice", "assd_mm"))
    epochs = np.mean([run["epochs"] for run in runs])
    return (
        f"| {len(scores)} | {dice.mean():.3f} | {dice.std(ddof=1):.3f} | {dice.min():.3f} "
        f"| {distance.mean():.2f} | {epochs:.0f} |"
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of_runs(__doc__)
    parser.add_argument("--split", action="store_true", help="the parts of cases.json, in place of folds")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--recipes", nargs="+", choices=tuple(RECIPES), default=["old", "new"])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    return parser.parse_args()


def parser_of_runs(description: str | None) -> argparse.ArgumentParser:
    """Return what benchmarks that train in equal minutes have in common."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the NIfTI pairs and cases.json")
    parser.add_argument("--minutes", type=float, default=24.0, help="minutes of a core for every run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file of the results")
    return parser


if __name__ == "__main__":
    main()
