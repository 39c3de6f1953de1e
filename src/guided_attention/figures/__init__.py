"""Pictures of predictions and of training, the only part of the library that needs matplotlib (extra `plot`)."""

from guided_attention.figures.curves import save_training_curves
from guided_attention.figures.grid import save_prediction_grid

__all__ = ["save_prediction_grid", "save_training_curves"]
