"""Train every network of the paper's tables on the same folds, and print our figures beside the paper's.

    python examples/reproduce_paper.py --data CHAOS_FOLDER
    python examples/reproduce_paper.py --data NIFTI_FOLDER --labels "1=left atrium" --tables 1
    python examples/reproduce_paper.py --smoke

With --labels the data are NIfTI pairs. --smoke runs tiny networks through everything in some minutes: its figures mean
nothing. The same command again, after an interruption, keeps what is done and continues with the rest.
"""

from command_line import run_command

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from guided_attention import Trainer
from guided_attention.case import Case
from guided_attention.data import Split
from guided_attention.evaluation import Validation, evaluate
from guided_attention.inference import Predictor
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.preparation import Preparation
from guided_attention.sampling import FlipRotate, SliceDataset
from guided_attention.training import TrainerConfig, reduce_on_plateau, seed_everything
from paper_figures import figures, read_rows
from paper_networks import EPOCHS, builders, networks_of, parameter_counts
from paper_setup import (
    as_csv,
    describe,
    keep_settings,
    parse,
    read_cases,
    read_folds,
    require_same_scans,
    require_settings,
    write_whole,
)
from paper_tables import write_tables


def main(args: argparse.Namespace) -> None:
    """Train and score what is not done yet, then write the tables."""
    if args.smoke:
        torch.set_num_threads(1)  # with tiny networks, threads cost more time than they save
    require_settings(args)
    cases = read_cases(args)
    keep_settings(args)
    require_same_scans(args, list(cases.values()))
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
    organs, is_chaos = list(args.labels.names.values()), not args.is_nifti
    found = [figure for table in args.tables for figure in figures(table, scores, organs, is_chaos=is_chaos)]
    write_tables(args.out, found, not_run, tables=args.tables, counts=parameter_counts(), about=about)


def run(
    name: str, fold: int, cases: Mapping[str, Case], split: Split, args: argparse.Namespace
) -> list[dict[str, str]]:
    """Return the scores of one network on one fold; train and score it first if there are none."""
    folder = args.out / "runs" / re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") / f"fold_{fold}"
    if not (folder / "scores.csv").is_file():
        train, val, test = ([cases[id_] for id_ in part] for part in (split.train, split.val, split.test))
        seed_everything(args.seed)
        build = builders(smoke=args.smoke)[name]
        model = build(train[0].image.shape[0], args.labels.num_classes).to(args.device)
        print(f"{name}, fold {fold} of {args.folds}", flush=True)
        best = fit(model, train, val, folder, EPOCHS.get(name, 250), args)
        begin = {"network": name, "fold": fold, "smoke": args.smoke}
        rows = [{**begin, **row} for row in score(best, test)]
        write_whole(folder / "scores.csv", as_csv(rows))
    (folder / "last.pt").unlink(missing_ok=True)  # large, and no longer needed
    return read_rows(folder / "scores.csv")


def paper_augment(image: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Flip, mirror and rotate at random, and let organs keep their sides, as the original code does."""
    return FlipRotate()(image, labels)


def fit(
    model: torch.nn.Module,
    train: Sequence[Case],
    val: Sequence[Case],
    folder: Path,
    epochs: int,
    args: argparse.Namespace,
) -> Predictor:
    """Train with the paper's settings, resuming an interrupted run; return a predictor with the best weights."""
    size = (args.size, args.size)
    # CHAOS is acquired in axial slices; for other data the axis of the largest spacing is taken.
    preparation = Preparation(slice_axis=None if args.is_nifti else "axial", min_size=size).fit(train)
    predictor = Predictor(model, preparation, args.labels, device=args.device)
    slices = SliceDataset(
        train, preparation, args.labels, size=size, augment=paper_augment, slice_step=args.slice_step
    )
    trainer = Trainer(
        model,
        GuidedAttentionLoss(),
        torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99)),
        train_loader=DataLoader(slices, batch_size=args.batch_size, shuffle=True, drop_last=True),
        validate=Validation(predictor.with_model, val, args.labels),
        run_dir=folder,
        config=TrainerConfig(
            max_epochs=args.epochs or epochs,
            seed=args.seed,
            device=args.device,
            quiet=args.smoke,
            schedule=reduce_on_plateau(epochs=50, factor=0.5),
        ),
        metadata=predictor.metadata,
    )
    begun, best = (folder / "last.pt").is_file(), folder / "best.pt"
    if begun or not best.is_file():
        trainer.fit(resume=begun)
    return Predictor.load(best, device=args.device, model=model)


def score(predictor: Predictor, cases: Sequence[Case]) -> list[dict[str, object]]:
    """Score whole volumes: distances in millimetres, and in voxels as the paper has them."""
    predicted = {case.case_id: predictor.predict(case).labels for case in cases}
    of_voxels = [Case(case.case_id, case.image, case.labels, np.eye(4)) for case in cases]
    in_mm, in_voxels = (
        evaluate(lambda case: predicted[case.case_id], some, predictor.labels) for some in (cases, of_voxels)
    )
    return [{**asdict(mm), "assd_voxels": one.assd_mm} for mm, one in zip(in_mm, in_voxels, strict=True)]


if __name__ == "__main__":
    run_command(main, parse(str(__doc__)), needs_resume=False)
