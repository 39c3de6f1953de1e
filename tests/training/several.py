"""A run in several processes over gloo, each started as ``torchrun`` starts them; and what each of them leaves."""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset

from guided_attention import Trainer
from guided_attention.case import Case, affine_of
from guided_attention.evaluation import Validation
from guided_attention.labels import LabelSpec
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.models import msga_lite
from guided_attention.training import TrainerConfig, seed_everything


@dataclass(frozen=True)
class Run:
    """What a run is like."""

    folder: Path
    network: str = "toy"
    kind: torch.dtype = torch.float64
    optimizer: str = "SGD"
    lr: float = 0.01
    images: int = 19
    batch: int = 7
    listed: bool = False  # batches in a list, which cannot be read in parts
    tripled: bool = False  # by a loader with an iterator of its own
    dropout: float = 0.0
    validated: bool = False
    contradicted: bool = False  # scores rise in the first process and fall in the others, and decide the rate
    settings: dict[str, Any] = field(default_factory=dict)
    means: tuple[float, ...] = ()  # what each process has measured of the training scans
    resume: bool = False
    killed: tuple[int, int] | None = None  # process and step at whose loss it kills itself
    step_seconds: float = 0.0


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Random images, and which of their values are high; some labels do not count."""

    def __init__(self, run: Run) -> None:
        generator = torch.Generator().manual_seed(3)
        side = 32 if run.network == "msga_lite" else 6
        self.images = torch.rand(run.images, 1, side, side, generator=generator, dtype=torch.float64).to(
            run.kind
        )
        self.labels = (3 * self.images[:, 0]).long()
        self.labels[:, :2] = 255

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.images[number], self.labels[number]


class Tripled(DataLoader[tuple[Tensor, Tensor]]):
    """Gives each batch three times as bright, and with twice the images."""

    def __iter__(self) -> Any:
        for image, labels in super().__iter__():
            yield 3 * image.repeat(2, 1, 1, 1), labels.repeat(2, 1, 1)


def network(run: Run) -> nn.Module:
    if run.network == "msga_lite":
        return msga_lite(in_channels=1, num_classes=3, encoder="resnet18", channels=8).to(run.kind)
    parts = (
        nn.Conv2d(1, 3, 3, padding=1, bias=False),  # before a norm, a bias has no gradient but rounding
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout(run.dropout),
        nn.Conv2d(3, 3, 1),
    )
    return nn.Sequential(*parts).to(run.kind)


def validation(run: Run) -> Validation:
    """Return the validation on five cases."""
    rng = np.random.default_rng(5)
    images = rng.random((5, 1, 3, 6, 6))
    cases = [
        Case(f"{number}", image, (3 * image[0]).astype(int), affine_of((1.0, 1.0, 1.0)))
        for number, image in enumerate(images)
    ]

    def with_model(model: nn.Module) -> Callable[[Case], Tensor]:
        return lambda case: model(torch.from_numpy(case.image).transpose(0, 1).to(run.kind)).argmax(1)

    return Validation(with_model, cases, LabelSpec({1: "middle", 2: "high"}))


def train(run: Run, rank: int, processes: int, port: int) -> None:
    """Train as one of the processes; leave what it has seen in ``<folder>-<rank>.pt``."""
    torch.set_num_threads(1)
    names = {"RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    sys.stderr = Path(f"{run.folder}-{rank}.txt").open("w", buffering=1)  # noqa: SIM115 - until the process ends
    seed_everything(rank)  # the weights are those of the first process
    model = network(run)
    segmentation = DiceCrossEntropyLoss(class_weights=[1.0, 2.0, 3.0], ignore_index=255)
    joint = GuidedAttentionLoss(segmentation.to(run.kind))
    steps: list[dict[str, Any]] = []

    def note(event: str, status: Any) -> None:
        if event == "step":
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            steps.append({"loss": dict(status.losses), "weights": weights})
            time.sleep(run.step_seconds)

    calls = 0

    def count(_module: nn.Module, _inputs: object) -> None:
        nonlocal calls
        calls += 1
        if run.killed == (rank, calls):
            os.kill(os.getpid(), signal.SIGKILL)

    scores = iter(range(9) if rank == 0 else range(9, 0, -1))
    own = (lambda _model: next(scores)) if run.contradicted else None
    optimizer = getattr(torch.optim, run.optimizer)(model.parameters(), lr=run.lr)
    plateau = ReduceLROnPlateau(optimizer, "max", patience=0) if run.contradicted else None
    model.register_forward_pre_hook(count)
    loader: Any = (Tripled if run.tripled else DataLoader)(Images(run), run.batch, shuffle=not run.listed)
    trainer = Trainer(
        model,
        joint,
        optimizer,
        train_loader=list(loader) if run.listed else loader,
        run_dir=run.folder,
        validate=validation(run) if run.validated else own,
        metadata={"preparation": {"mean": run.means[rank]}} if run.means else None,
        config=TrainerConfig(
            **{"max_epochs": 2, "device": "cpu", "quiet": True, "hooks": (note,), **run.settings},
            schedule=plateau,
        ),
    )
    trainer.fit(resume=run.resume)
    average = None if trainer._averaged is None else trainer._averaged.module.state_dict()
    left = {"steps": steps, "last": model.state_dict(), "average": average}
    torch.save(left, f"{run.folder}-{rank}.pt")


def finished(run: Run, processes: int, *, seconds: float = 100.0) -> list[int | None]:
    """Do a run in so many processes, and return their exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "tests.training.several"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [context.Process(target=train, args=(run, rank, processes, port)) for rank in range(processes)]
    for process in started:
        process.start()
    until = time.monotonic() + seconds
    for process in started:
        process.join(max(0.0, until - time.monotonic()))
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    return codes


def left_by(run: Run, rank: int = 0) -> dict[str, Any]:
    """Return what a process has left."""
    return torch.load(f"{run.folder}-{rank}.pt")
