"""Inference: a scan in, a label volume and its uncertainty on the scan's own grid out."""

from guided_attention.inference.ledger import LedgerEntry, LedgerStatus, read_ledger
from guided_attention.inference.postprocess import keep_largest_component
from guided_attention.inference.predictor import Predictor
from guided_attention.inference.saved import Precision
from guided_attention.inference.writing import ExtraFile, save_prediction

__all__ = [
    "ExtraFile",
    "LedgerEntry",
    "LedgerStatus",
    "Precision",
    "Predictor",
    "keep_largest_component",
    "read_ledger",
    "save_prediction",
]
