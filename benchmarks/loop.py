"""What the training loop costs beside the arithmetic of a step, and what a run spends outside its steps.

    python -m benchmarks.loop

Steps are timed one by one, in turns: with a network that does nothing, by `Trainer` and by a bare loop written out
here; and with `msga_lite` and a ResNet-18, likewise. The median of all steps is taken, and the first ones are left out.
A default run is what `recipes.train` makes of a plan for phantoms; its time outside the steps is that of validation,
log, curves and checkpoints.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.results import ROOT, commit, head, write
from guided_attention import Trainer
from guided_attention.data import CHAOS_MR_LABELS, make_phantom
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.models import msga_lite
from guided_attention.recipes import plan_for, train
from guided_attention.training import ModelWithLoss, Status, TrainerConfig
from guided_attention.training.progress import Event

THREADS = 1
TURNS = 5
BATCH, HEIGHT, WIDTH, CLASSES = 4, 96, 128, 5
STEPS = {"nothing": 2000, "msga_lite": 12}
WARM_UP = 2
MINUTES = 4.0
SUBJECTS = 12
SIDE = 128


class Nothing(nn.Module):
    """One weight, and logits without a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Return the same logits everywhere."""
        return self.weight.view(1, -1, 1, 1).expand(len(x), CLASSES, *x.shape[2:])


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "nothing": Nothing,
    "msga_lite": lambda: msga_lite(in_channels=1, num_classes=CLASSES, encoder="resnet18", channels=16),
}
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "nothing": nn.CrossEntropyLoss,
    "msga_lite": lambda: GuidedAttentionLoss(DiceCrossEntropyLoss()),
}


def main() -> None:
    """Measure all of it and write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of the default run")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "loop.json")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    result = head("loop", "the training loop beside the arithmetic", device="cpu", threads=THREADS)
    about = {"commit": commit(), "date": datetime.now(UTC).strftime("%Y-%m-%d"), "turns": TURNS}
    result |= {**about, "steps": steps(), "default_run": default_run(args.minutes)}
    write(args.out, result)
    print(json.dumps({name: result[name] for name in ("steps", "default_run")}, indent=2))


def steps() -> dict[str, float]:
    """Return milliseconds a step and their ratios."""
    found: dict[str, list[float]] = {}
    for _ in range(TURNS):
        for name in NETWORKS:
            for who, measure in (("trainer", by_trainer), ("bare", by_hand)):
                found.setdefault(f"{name}, {who}", []).extend(measure(name)[WARM_UP:])
    ms = {name: 1000 * statistics.median(times) for name, times in found.items()}
    over = ms["nothing, trainer"] - ms["nothing, bare"]
    return {
        **{f"{name}, ms": value for name, value in ms.items()},
        "cost of the loop over the bare one, ms": over,
        "cost over a step of msga_lite": over / ms["msga_lite, bare"],
        "whole step of nothing over a step of msga_lite": ms["nothing, trainer"] / ms["msga_lite, bare"],
        "msga_lite, trainer over bare": ms["msga_lite, trainer"] / ms["msga_lite, bare"],
    }


def batches(name: str) -> list[tuple[Tensor, Tensor]]:
    """Return batches that cost nothing to load: small ones where nothing is computed."""
    height, width = (HEIGHT, WIDTH) if name == "msga_lite" else (3, 5)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(BATCH, 1, height, width, generator=generator)
    target = torch.randint(CLASSES, (BATCH, height, width), generator=generator)
    return [(image, target)] * STEPS[name]


def by_trainer(name: str) -> list[float]:
    """Return the seconds of each step of one epoch, as the trainer is by default, with its report of the progress."""
    clock = Clock()
    torch.manual_seed(0)
    model = NETWORKS[name]()
    with tempfile.TemporaryDirectory() as folder, to_nowhere():
        Trainer(
            model,
            LOSSES[name](),
            torch.optim.Adam(model.parameters(), fused=True),
            train_loader=batches(name),
            run_dir=Path(folder) / "run",
            config=TrainerConfig(max_epochs=1, device="cpu", hooks=(clock,)),
        ).fit()
    return clock.intervals()


def by_hand(name: str) -> list[float]:
    """Return the seconds of each step of a loop without anything that training could do without."""
    torch.manual_seed(0)
    model = NETWORKS[name]().train()
    joint = ModelWithLoss(model, LOSSES[name]())
    optimizer, times, total = torch.optim.Adam(model.parameters(), fused=True), [time.perf_counter()], 0.0
    for image, target in batches(name):
        optimizer.zero_grad(set_to_none=True)
        loss = joint(image, target).total
        loss.backward()
        optimizer.step()
        total += loss.item()
        times.append(time.perf_counter())
    return [after - before for before, after in pairwise(times)]


class Clock:
    """A hook that notes when each step ends."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def __call__(self, event: Event, _status: Status) -> None:
        """Note the time of a step."""
        if event == "step":
            self._ends.append(time.perf_counter())

    def intervals(self) -> list[float]:
        """Return the seconds from one step to the next."""
        return [after - before for before, after in pairwise(self._ends)]


def default_run(minutes: float) -> dict[str, float | int]:
    """Train the plan for phantoms; return how its time is divided."""
    cases = [make_phantom(0, subject=number, size=SIDE) for number in range(1, SUBJECTS + 1)]
    plan = plan_for(cases, minutes=minutes, device="cpu", labels=CHAOS_MR_LABELS)
    with tempfile.TemporaryDirectory() as folder, to_nowhere(), timed("fit", *PARTS.values()) as spent:
        result = train(plan, Path(folder) / "run", cases=cases, device="cpu")
    shares = {f"share of {what}": spent[name] / spent["fit"] for what, name in PARTS.items()}
    return {
        "minutes": spent["fit"] / 60,
        "epochs": result.epochs,
        **shares,
        "share outside the steps": 1 - spent[PARTS["steps"]] / spent["fit"],
    }


PARTS = {
    "steps": "_train_epoch",
    "validation, its state and best.pt": "_score",
    "log, curves and state of an epoch": "_end_epoch",
}


@contextmanager
def timed(*names: str) -> Iterator[dict[str, float]]:
    """Add up the seconds in methods of `Trainer`."""
    spent, before = dict.fromkeys(names, 0.0), {name: getattr(Trainer, name) for name in names}

    def wrapped(name: str) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            started = time.perf_counter()
            try:
                return before[name](*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - started

        return call

    for name in names:
        setattr(Trainer, name, wrapped(name))
    try:
        yield spent
    finally:
        for name, method in before.items():
            setattr(Trainer, name, method)


@contextmanager
def to_nowhere() -> Iterator[None]:
    """Send the report of the progress away."""
    with Path(os.devnull).open("w", encoding="utf-8") as file, redirect_stderr(file):
        yield


if __name__ == "__main__":
    main()
