"""Evaluation: scores of each organ of each case, tables and files made of them, and the comparison of networks."""

from guided_attention.evaluation.accumulator import CaseAccumulator
from guided_attention.evaluation.cohort import Predict, Validation, evaluate, evaluate_prediction
from guided_attention.evaluation.comparison import PairedRow, compare_models
from guided_attention.evaluation.files import read_scores, write_scores_csv, write_scores_json
from guided_attention.evaluation.scores import CaseScore, OrganStatus, evaluate_case
from guided_attention.evaluation.submission import score_submission
from guided_attention.evaluation.summary import (
    MetricName,
    MetricSummary,
    OrganSummary,
    definitions,
    mean_dice,
    summarize,
    summarize_metric,
    worst_cases,
)
from guided_attention.evaluation.tables import format_table, write_report
from guided_attention.evaluation.torchmetrics_adapter import torchmetrics_metric

__all__ = [
    "CaseAccumulator",
    "CaseScore",
    "MetricName",
    "MetricSummary",
    "OrganStatus",
    "OrganSummary",
    "PairedRow",
    "Predict",
    "Validation",
    "compare_models",
    "definitions",
    "evaluate",
    "evaluate_case",
    "evaluate_prediction",
    "format_table",
    "mean_dice",
    "read_scores",
    "score_submission",
    "summarize",
    "summarize_metric",
    "torchmetrics_metric",
    "worst_cases",
    "write_report",
    "write_scores_csv",
    "write_scores_json",
]
