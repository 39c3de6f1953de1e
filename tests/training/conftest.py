"""A toy task that learns in a second: two textures, a network of two convolutions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from guided_attention.outputs import LossTerms, SegmentationOutput, takes_outputs
from guided_attention.training import Trainer, TrainerConfig, seed_everything

IMAGES, BATCH = 7, 3
BATCHES = 3  # of 3, 3 and 1 images


def toy_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1))


@takes_outputs
def toy_loss(output: SegmentationOutput, target: Tensor) -> LossTerms:
    segmentation = nn.functional.cross_entropy(output.logits, target)
    size = output.logits.square().mean()
    return LossTerms(total=segmentation + 0.01 * size, parts={"segmentation": segmentation, "size": size})


def toy_data(*, workers: int = 0, generator: torch.Generator | None = None) -> DataLoader:
    images = torch.rand(IMAGES, 1, 5, 11, generator=torch.Generator().manual_seed(3))
    labels = (images[:, 0] > 0.5).long()
    return DataLoader(
        TensorDataset(images, labels), BATCH, shuffle=True, num_workers=workers, generator=generator
    )


def toy_score(model: nn.Module) -> float:
    images = torch.rand(2, 1, 5, 11, generator=torch.Generator().manual_seed(5))
    return float((model(images).argmax(1) == (images[:, 0] > 0.5)).float().mean())


@dataclass
class Clock:
    """A clock that only moves when it is told to."""

    seconds: float = 1000.0
    read: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.seconds

    def pass_minutes(self, minutes: float) -> None:
        self.seconds += 60 * minutes


@pytest.fixture(autouse=True)
def _disk_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the wait for the disk, most of the time of these tests; real kills have it (test_crashes)."""
    monkeypatch.setattr("os.fsync", lambda _handle: None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_trainer(tmp_path: Path, clock: Clock) -> Callable[..., Trainer]:
    """Make trainers of the toy task; their clock stands unless a test moves it. Losses take the whole output."""

    def make(
        name="run",
        *,
        model=None,
        loss=toy_loss,
        loader=None,
        validate=toy_score,
        optimizer=None,
        metadata=None,
        **settings,
    ) -> Trainer:
        settings = {"quiet": True, "max_epochs": 3, "device": "cpu", "clock": clock, **settings}
        config = TrainerConfig(**settings)
        seed_everything(config.seed)
        model = toy_network() if model is None else model
        return Trainer(
            model,
            loss if isinstance(loss, nn.Module) else takes_outputs(loss),
            torch.optim.Adam(model.parameters(), lr=0.01) if optimizer is None else optimizer(model),
            train_loader=toy_data() if loader is None else loader,
            validate=validate,
            run_dir=tmp_path / name,
            config=config,
            metadata=metadata,
        )

    return make
