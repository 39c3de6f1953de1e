"""Train every network of the paper's tables on the same folds, and lay our figures and the paper's side by side.

    python examples/reproduce_paper.py --data CHAOS_FOLDER
    python examples/reproduce_paper.py --data NIFTI_FOLDER --labels "1=left atrium" --tables 1
    python examples/reproduce_paper.py --smoke

With --labels the data are NIfTI pairs. --smoke sends tiny networks through everything in some minutes: its figures mean
nothing. The same command again, after a break, keeps what is done and goes on with what is not.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from guided_attention import Trainer
from guided_attention.case import Case
from guided_attention.data import Split
from guided_attention.evaluation import mean_dice
from guided_attention.inference import evaluate_model, evaluate_prediction, predict_case
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.sampling import FlipRotate, SliceDataset
from guided_attention.training import TrainerConfig, load_weights, reduce_on_plateau, seed_everything
from paper_figures import figures, read_rows
from paper_networks import EPOCHS, builders, networks_of, parameter_counts
from paper_setup import as_csv, describe, keep_settings, parse, read_cases, read_folds, write_whole
from paper_tables import write_tables


def main(argv: Sequence[str] | None = None) -> None:
    """Train and score what is not done yet, then write the tables."""
    args = parse(str(__doc__), argv)
    if args.smoke:
        torch.set_num_threads(1)  # tiny networks lose more time to threads than they win
    cases = read_cases(args)
    keep_settings(args)
    splits = read_folds(args, list(cases))
    about = describe(args, subjects=len(cases))
    print(about)
    scores: dict[str, list[dict[str, str]]] = {}
    not_run: dict[str, str] = {}
    for name in networks_of(args.tables):
        try:
            scores[name] = [
                row for n, split in enumerate(splits, 1) for row in run(name, n, cases, split, args)
            ]
        except (ImportError, FloatingPointError) as error:
            not_run[name] = str(error)
            print(f"{name}: not run. {error}")
    organs, is_chaos = list(args.labels.values()), not args.is_nifti
    found = [figure for table in args.tables for figure in figures(table, scores, organs, is_chaos=is_chaos)]
    write_tables(args.out, found, not_run, tables=args.tables, counts=parameter_counts(), about=about)


def run(
    name: str, fold: int, cases: Mapping[str, Case], split: Split, args: argparse.Namespace
) -> list[dict[str, str]]:
    """Return the scores of one network on one fold; train and score it first if they are not there."""
    folder = args.out / "runs" / re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") / f"fold_{fold}"
    if not (folder / "scores.csv").is_file():
        train, val, test = ([cases[id_] for id_ in part] for part in (split.train, split.val, split.test))
        seed_everything(args.seed)
        build = builders(smoke=args.smoke)[name]
        model = build(train[0].image.shape[0], max(args.labels) + 1).to(args.device)
        print(f"{name}, fold {fold} of {args.folds}", flush=True)
        fit(model, train, val, folder, EPOCHS.get(name, 250), args)
        begin = {"network": name, "fold": fold, "smoke": args.smoke}
        rows = [{**begin, **row} for row in score(model, test, args.labels, args.size)]
        write_whole(folder / "scores.csv", as_csv(rows))
    (folder / "last.pt").unlink(missing_ok=True)  # large, and of no more use
    return read_rows(folder / "scores.csv")


def fit(
    model: torch.nn.Module,
    train: Sequence[Case],
    val: Sequence[Case],
    folder: Path,
    epochs: int,
    args: argparse.Namespace,
) -> None:
    """Train with the paper's settings, from where an earlier run broke off, and load the best epoch's weights."""
    size = (args.size, args.size)
    slices = SliceDataset(
        train,
        num_classes=max(args.labels) + 1,
        size=size,
        augment=FlipRotate(),
        slice_step=args.slice_step,
    )
    trainer = Trainer(
        model,
        GuidedAttentionLoss(),
        torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99)),
        train_loader=DataLoader(slices, batch_size=args.batch_size, shuffle=True, drop_last=True),
        validate=lambda network: mean_dice(
            evaluate_model(network, val, args.labels, distances=False, min_size=size)
        ),
        run_dir=folder,
        config=TrainerConfig(
            max_epochs=args.epochs or epochs,
            seed=args.seed,
            device=args.device,
            quiet=args.smoke,
            schedule=reduce_on_plateau(epochs=50, factor=0.5),
        ),
    )
    begun, best = (folder / "last.pt").is_file(), folder / "best.pt"
    if begun or not best.is_file():
        trainer.fit(resume=begun)
    load_weights(model, best)


def score(
    model: torch.nn.Module, cases: Sequence[Case], labels: Mapping[int, str], size: int
) -> list[dict[str, object]]:
    """Score whole volumes: distances in millimetres, and in voxels as the paper has them."""
    rows: list[dict[str, object]] = []
    for case in cases:
        prediction = predict_case(model, case, min_size=(size, size))  # padded, if smaller, as in training
        unit = evaluate_prediction(prediction, replace(case, spacing_mm=(1.0, 1.0, 1.0)), labels)
        for in_mm, in_voxels in zip(evaluate_prediction(prediction, case, labels), unit, strict=True):
            rows.append({**asdict(in_mm), "assd_voxels": in_voxels.assd_mm})
    return rows


if __name__ == "__main__":
    main()
