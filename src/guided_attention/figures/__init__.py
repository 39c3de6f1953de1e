"""Figures: the one room that draws. Needs the extra `plot`."""

from guided_attention.figures.grid import save_prediction_grid

__all__ = ["save_prediction_grid"]
