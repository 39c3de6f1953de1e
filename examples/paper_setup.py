"""What a reproduction starts from: command line, settings, cases, folds; and files that are written atomically."""

import argparse
import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from guided_attention.case import Case
from guided_attention.data import (
    CHAOS_MR_LABELS,
    Split,
    k_fold,
    read_chaos,
    read_nifti_pairs,
    write_phantom_cohort,
)
from guided_attention.labels import LabelSpec

# What is not given on the command line: as the paper has it, and for a smoke run.
FULL = {"folds": 3, "val": 2, "epochs": None, "size": 256, "batch_size": 8, "slice_step": 1}
SMOKE = {"folds": 2, "val": 1, "epochs": 2, "size": 48, "batch_size": 4, "slice_step": 8}
SMOKE_NOTE = "SMOKE RUN: tiny networks, hardly trained. These figures mean nothing about the networks."
CHAOS_SUBJECTS = 20


def parse(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `labels` become a `LabelSpec`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of CHAOS or of NIfTI pairs; smoke: phantoms")
    parser.add_argument(
        "--labels", type=organ, nargs="+", help='organs of NIfTI pairs, such as "1=left atrium"'
    )
    parser.add_argument("--source", default="t1_in", choices=("t1_in", "t1_out", "t1_dual", "t2"))
    parser.add_argument("--tables", type=int, nargs="+", default=[1, 2, 3], choices=(1, 2, 3))
    parser.add_argument("--out", type=Path, help="folder of all runs: runs/paper, or runs/paper-smoke")
    parser.add_argument("--smoke", action="store_true", help="tiny networks, to see that all of it works")
    parser.add_argument("--folds", type=int, help="3")
    parser.add_argument("--val", type=int, help="validation subjects of a fold: 2")
    parser.add_argument("--epochs", type=int, help="of every network: 250, but 400 of DANet and PAN")
    parser.add_argument("--size", type=int, help="side of the slices in training, in pixels: 256")
    parser.add_argument("--batch-size", type=int, help="8")
    parser.add_argument("--slice-step", type=int, help="train on every n-th slice: 1")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.data is None and not args.smoke:
        parser.error("--data is needed, or --smoke")
    for name, value in (SMOKE if args.smoke else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.out = args.out or Path("runs") / ("paper-smoke" if args.smoke else "paper")
    args.is_nifti = args.labels is not None
    args.labels = LabelSpec(dict(args.labels)) if args.labels else CHAOS_MR_LABELS
    return args


def organ(text: str) -> tuple[int, str]:
    """Read one label of the command line.

    >>> organ("1=left atrium")
    (1, 'left atrium')
    """
    value, name = text.split("=", 1)
    return int(value), name


def describe(args: argparse.Namespace, subjects: int) -> str:
    """Say in a line what the figures are of."""
    data = args.data or "made for this run"
    if args.data is None or (args.data / "phantom.json").exists():  # which every cohort of phantoms holds
        data = f"{data}, phantoms and not CHAOS"
    note = f" {SMOKE_NOTE}" if args.smoke else ""
    return f"Data: {data}; {subjects} subjects, folds: {args.folds}, seed: {args.seed}.{note}"


def read_cases(args: argparse.Namespace) -> dict[str, Case]:
    """Read the subjects by name: NIfTI pairs, a CHAOS release, or phantoms made for a smoke run."""
    if args.is_nifti:
        cases = read_nifti_pairs(args.data)
    else:
        folder = args.data or write_phantom_cohort(args.out / "phantoms", subjects=6, size=48)
        cases = read_chaos(folder, source=args.source)
    return {case.case_id: case for case in cases}


def read_folds(args: argparse.Namespace, ids: Sequence[str]) -> list[Split]:
    """Deal the subjects once and write the folds to files; later runs, and your own folds, are read from there.

    Folds of CHAOS's 20 subjects are the first of four with 13, 2 and 5: no subject is tested twice.
    """
    folder = args.out / "folds"
    folder.mkdir(exist_ok=True)
    few = len(ids) == CHAOS_SUBJECTS and args.folds <= 4  # noqa: PLR2004
    dealt = k_fold(ids, folds=4 if few else max(2, args.folds), val=args.val, seed=args.seed)
    splits = []
    for number, split in enumerate(dealt[: args.folds], start=1):
        path = folder / f"fold_{number}.json"
        if not path.is_file():
            split.save(path)
        splits.append(Split.load(path))
        held = {*splits[-1].train, *splits[-1].val, *splits[-1].test}
        if held != set(ids):
            odd = ", ".join(sorted(held ^ set(ids)))
            raise SystemExit(
                f"`--data` must hold the subjects of {path}, got others: {odd}. Name another --out."
            )
    return splits


def settings(args: argparse.Namespace) -> dict[str, object]:
    """Return what all runs of a folder have in common, as JSON has it."""
    values = {name: getattr(args, name) for name in (*FULL, "smoke", "seed", "source")}
    held: dict[str, object] = json.loads(json.dumps({**values, "labels": args.labels.to_dict()["names"]}))
    return held


def require_settings(args: argparse.Namespace) -> None:
    """End the command in one line if the folder holds runs with other settings."""
    path, now = args.out / "settings.json", settings(args)
    held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else now
    odd = [f"{name} {held.get(name)} and now {now[name]}" for name in now if held.get(name) != now[name]]
    if odd:
        raise SystemExit(
            f"`--out` must hold runs of the same settings, got {path} with {', '.join(odd)}. Name another folder."
        )


def keep_settings(args: argparse.Namespace) -> None:
    """Write down the settings of all runs of a folder."""
    args.out.mkdir(parents=True, exist_ok=True)
    write_whole(args.out / "settings.json", json.dumps(settings(args), indent=2) + "\n")


def require_same_scans(args: argparse.Namespace, cases: Sequence[Case]) -> None:
    """End the command in one line if the folder holds runs on other scans; write down the hash of the first ones."""
    path, now = args.out / "scans.sha256", hash_of(cases)
    if path.is_file() and path.read_text(encoding="utf-8").strip() != now:
        raise SystemExit(
            f"`--data` must hold the scans that {path} was made of, got others. Name another --out."
        )
    write_whole(path, now + "\n")


def hash_of(cases: Sequence[Case]) -> str:
    """Return one hash of images, labels and geometry, wherever the files lie."""
    found = hashlib.sha256()
    for case in cases:
        for array in (case.image, case.labels, case.affine):
            if array is not None:
                found.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Write rows as text, with their names on top."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically."""
    draft = path.with_name(f".unfinished-{os.getpid()}.{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
