"""A small run in a process of its own, which others kill; or which kills itself at a call of its choice."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from guided_attention.training import Trainer, TrainerConfig, seed_everything


@dataclass(frozen=True)
class Run:
    """What a run is like, and at which call of which function it kills itself."""

    folder: Path
    workers: int = 0
    ema_decay: float | None = None
    accumulate: int = 1
    store_minutes: float = 1e-9
    step_seconds: float = 0.004
    validation_seconds: float = 0.02
    deadly: str = ""  # "fsync", "replace", "link", "save" or "validate"
    call: int = 0
    group: bool = False  # be the first of a group of processes


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Images with noise from torch's own generator, moved by one of the data set's own."""

    def __init__(self) -> None:
        self.images = torch.rand(11, 1, 5, 7, generator=torch.Generator().manual_seed(3))
        self.generator = torch.Generator().manual_seed(5)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image = self.images[number]
        shift = int(torch.randint(3, (), generator=self.generator))
        return image.roll(shift, -1) + 0.1 * torch.rand(()), (image[0].roll(shift, -1) > 0.5).long()


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.2), nn.Conv2d(3, 2, 1)
    )


def deadly(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, which kills this process before its n-th call, or after for negative n."""
    done = 0

    def wrapper(*args: Any, **named: Any) -> Any:
        nonlocal done
        done += 1
        if done == call:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **named)
        if done == -call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapper


def train(run: Run) -> None:
    """Begin the run, or resume it where there is something to resume."""
    torch.set_num_threads(1)
    if run.group:
        os.setpgid(0, 0)
    sys.stderr = (run.folder.parent / "said").open("w", buffering=1)

    def slow_loss(logits: Tensor, target: Tensor) -> Tensor:
        time.sleep(run.step_seconds)
        return nn.functional.cross_entropy(logits, target)

    def validate(model: nn.Module) -> float:
        (run.folder.parent / "validating").touch()
        time.sleep(run.validation_seconds)
        images = torch.rand(3, 1, 5, 7)  # the random numbers that validation takes are repeated too
        return float((model(images).argmax(1) == (images[:, 0] > 0.5)).float().mean())

    if run.deadly == "save":
        torch.save = deadly(run.call, torch.save)
    elif run.deadly == "validate":
        validate = deadly(run.call, validate)
    elif run.deadly:
        setattr(os, run.deadly, deadly(run.call, getattr(os, run.deadly)))
    seed_everything(0)
    model = network()
    trainer = Trainer(
        model,
        slow_loss,
        torch.optim.Adam(model.parameters(), lr=0.01),
        train_loader=DataLoader(
            Noisy(),
            2,
            shuffle=True,
            num_workers=run.workers,
            multiprocessing_context="fork" if run.workers else None,
        ),
        validate=validate,
        run_dir=run.folder,
        config=TrainerConfig(
            max_epochs=4,
            device="cpu",
            quiet=True,
            ema_decay=run.ema_decay,
            accumulate=run.accumulate,
            store_minutes=run.store_minutes,
            validate_every=2,
            schedule=lambda progress: 1.0 - progress.share,
        ),
    )
    trainer.fit(resume=any(run.folder.glob("last*.pt")))
