"""A short training on real slices: the loss that it ends with, to hold one precision against another."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.contestants import contestants
from benchmarks.left_atrium_networks import LABELS, preparation_of, read_part
from benchmarks.rows import Spec
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.sampling import Chain, FlipRotate, RandomIntensity, SliceDataset
from guided_attention.training import ModelWithLoss, seed_everything

__all__ = ["learned"]

_LAST = 50
_SEED = 0


def learned(spec: Spec) -> dict[str, float]:
    """Train as `left_atrium_networks.py` does, for as many steps as the spec says.

    Both precisions have the same seed: they begin with the same weights and see the same slices in the same order.
    Returns the mean loss of the last 50 steps.
    """
    seed_everything(_SEED)
    model = contestants(16)["MS-Dual-Guided"]().to(spec.device).train()
    joint = ModelWithLoss(model, GuidedAttentionLoss(DiceCrossEntropyLoss()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    loader = _loader(Path(spec.data))
    losses = []
    started = time.perf_counter()
    for image, target in islice(_endless(loader), spec.steps):
        optimizer.zero_grad()
        with torch.autocast(spec.device.split(":")[0], torch.bfloat16, enabled=spec.precision == "bf16"):
            total = joint(image.to(spec.device), target.to(spec.device)).total
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(total.item())
    return {"seconds": time.perf_counter() - started, "loss": mean(losses[-_LAST:])}


def _loader(folder: Path) -> DataLoader[tuple[Tensor, Tensor]]:
    """Read the volumes; batches are of four slices."""
    cases, size = read_part(folder, "train"), (96, 128)
    augment = Chain((FlipRotate(degrees=15), RandomIntensity()))
    preparation = preparation_of(cases, size)
    slices = SliceDataset(cases, preparation, LABELS, size=size, slice_step=2, augment=augment)
    return DataLoader(slices, batch_size=4, shuffle=True, drop_last=True)


def _endless(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader
