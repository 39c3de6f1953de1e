"""Inference: from a case to labels and uncertainty with the geometry it came with."""

from guided_attention.inference.postprocess import keep_largest_component
from guided_attention.inference.stream import predict_cases
from guided_attention.inference.volume import (
    evaluate_model,
    evaluate_prediction,
    predict_case,
    save_prediction,
)

__all__ = [
    "evaluate_model",
    "evaluate_prediction",
    "keep_largest_component",
    "predict_case",
    "predict_cases",
    "save_prediction",
]
