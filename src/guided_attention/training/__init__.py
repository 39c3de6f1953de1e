"""Training: one visible loop, its checkpoints, its schedules."""

from guided_attention._checkpoints import load_checkpoint, load_weights, save_checkpoint
from guided_attention.training.config import TrainerConfig
from guided_attention.training.log import Logger, TensorBoardLogger, read_log
from guided_attention.training.progress import Hook, Status
from guided_attention.training.schedule import (
    Schedule,
    TrainingProgress,
    cosine_decay,
    polynomial_decay,
    reduce_on_plateau,
)
from guided_attention.training.seeding import seed_everything
from guided_attention.training.step import Loss, ModelWithLoss
from guided_attention.training.trainer import Trainer, TrainingResult

__all__ = [
    "Hook",
    "Logger",
    "Loss",
    "ModelWithLoss",
    "Schedule",
    "Status",
    "TensorBoardLogger",
    "Trainer",
    "TrainerConfig",
    "TrainingProgress",
    "TrainingResult",
    "cosine_decay",
    "load_checkpoint",
    "load_weights",
    "polynomial_decay",
    "read_log",
    "reduce_on_plateau",
    "save_checkpoint",
    "seed_everything",
]
