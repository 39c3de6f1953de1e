"""Inference: a scan in, a label volume and its uncertainty on the scan's own grid out."""

from guided_attention.inference.knowledge import Precision
from guided_attention.inference.ledger import LedgerEntry, LedgerStatus, read_ledger
from guided_attention.inference.merging import Merged, merge_shards
from guided_attention.inference.mirrors import MirrorAxis
from guided_attention.inference.postprocess import (
    PostProcessing,
    choose_postprocessing,
    keep_largest_component,
)
from guided_attention.inference.predictor import Predictor
from guided_attention.inference.shard import Shard
from guided_attention.inference.writing import ExtraFile, save_prediction

__all__ = [
    "ExtraFile",
    "LedgerEntry",
    "LedgerStatus",
    "Merged",
    "MirrorAxis",
    "PostProcessing",
    "Precision",
    "Predictor",
    "Shard",
    "choose_postprocessing",
    "keep_largest_component",
    "merge_shards",
    "read_ledger",
    "save_prediction",
]
