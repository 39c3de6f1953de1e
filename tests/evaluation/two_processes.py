"""One of two processes of an evaluation: `python two_processes.py RANK FOLDER`; leaves what it computed."""

import json
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from guided_attention.evaluation import CaseAccumulator, torchmetrics_metric, write_scores_json
from guided_attention.labels import LabelSpec

LABELS = LabelSpec({1: "liver", 5: "spleen"})
SPACING_MM = (7.7, 1.5, 1.3)
DEPTH = 5


def case(seed):
    """The volumes of a case, of pieces so that slices differ from each other."""
    rng = np.random.default_rng(seed)
    return rng.choice([0, 1, 5], (2, DEPTH, 7, 11)).astype(np.uint8)


def give_slices(gathered, case_id, seed, indices, **more):
    prediction, reference = case(seed)
    for z in indices:
        slices = (torch.from_numpy(volume[z]) for volume in (prediction, reference))
        gathered.update(*slices, case_id=case_id, slice_index=z, **more)


def give_all(gathered, rank=None):
    """What one process gives (rank None: a single process, without what is padding)."""
    if rank in {None, 0}:
        give_slices(gathered, "split", 0, [4, 0, 2])
        give_slices(gathered, "whole on 0", 1, range(DEPTH))
        gathered.update(*case(2), case_id="volume on both")
    if rank in {None, 1}:
        give_slices(gathered, "split", 0, [3, 1])
        give_slices(gathered, "of 1 alone", 4, reversed(range(DEPTH)), spacing_mm=(3.0, 1.0, 1.0))
        gathered.update(*case(3), case_id="volume on 1")
    if rank == 1:  # the sampler's padding
        give_slices(gathered, "split", 0, [0, 4])
        gathered.update(*case(2), case_id="volume on both")


def refusal(gathered):
    try:
        gathered.compute()
    except ValueError as error:
        return str(error)
    return ""


def evaluate(rank, folder):
    gathered = CaseAccumulator(LABELS, spacing_mm=SPACING_MM)
    give_all(gathered, rank)
    write_scores_json(folder / f"first_{rank}.json", gathered.compute())
    write_scores_json(folder / f"again_{rank}.json", gathered.compute())

    refusals = []
    gathered.reset()
    give_slices(gathered, "a", 0, [0, 1] if rank else [4])
    refusals.append(refusal(gathered))
    gathered.reset()
    give_slices(gathered, "a", 0, [1] if rank else [0, 2], spacing_mm=(1.0, 1.0, 1.0 + rank))
    refusals.append(refusal(gathered))
    gathered.reset()
    give_slices(gathered, "a", rank, [0])
    refusals.append(refusal(gathered))
    (folder / f"refusals_{rank}.json").write_text(json.dumps(refusals), encoding="utf-8")

    if find_spec("torchmetrics"):
        metric = torchmetrics_metric(LABELS, spacing_mm=SPACING_MM)
        give_slices(metric, "a", 0, range(rank, DEPTH, 2))
        means = {name: value.item() for name, value in metric.compute().items()}
        (folder / f"means_{rank}.json").write_text(json.dumps(means), encoding="utf-8")


def main(rank, folder):
    meeting = {"init_method": f"file://{folder}/meeting", "timeout": timedelta(seconds=60)}
    distributed.init_process_group("gloo", rank=rank, world_size=2, **meeting)
    try:
        evaluate(rank, folder)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
