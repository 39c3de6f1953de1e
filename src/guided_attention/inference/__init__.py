"""Inference: a scan in, a label volume and its uncertainty on the scan's own grid out."""

from guided_attention.inference.knowledge import Precision
from guided_attention.inference.ledger import LedgerEntry, LedgerStatus, read_ledger
from guided_attention.inference.mirrors import MirrorAxis
from guided_attention.inference.postprocess import (
    PostProcessing,
    choose_postprocessing,
    keep_largest_component,
)
from guided_attention.inference.predictor import Predictor
from guided_attention.inference.writing import ExtraFile, save_prediction

__all__ = [
    "ExtraFile",
    "LedgerEntry",
    "LedgerStatus",
    "MirrorAxis",
    "PostProcessing",
    "Precision",
    "Predictor",
    "choose_postprocessing",
    "keep_largest_component",
    "read_ledger",
    "save_prediction",
]
