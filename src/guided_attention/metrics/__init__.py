"""Volumetric metrics in millimetres, the rows and tables made of them, and the comparison of networks."""

from guided_attention.metrics.accumulator import CaseAccumulator
from guided_attention.metrics.cases import CaseScore, OrganStatus, evaluate_case
from guided_attention.metrics.compare import holm, mean_interval, paired_wilcoxon
from guided_attention.metrics.overlap import dice, volume_similarity
from guided_attention.metrics.paired import PairedRow, compare_models
from guided_attention.metrics.report import (
    format_table,
    read_scores,
    write_report,
    write_scores_csv,
    write_scores_json,
)
from guided_attention.metrics.summary import (
    MetricName,
    MetricSummary,
    OrganSummary,
    definitions,
    mean_dsc,
    summarize,
    summarize_metric,
    worst_cases,
)
from guided_attention.metrics.surface import SurfaceDistances, surface_distances
from guided_attention.metrics.torchmetrics_adapter import torchmetrics_metric

__all__ = [
    "CaseAccumulator",
    "CaseScore",
    "MetricName",
    "MetricSummary",
    "OrganStatus",
    "OrganSummary",
    "PairedRow",
    "SurfaceDistances",
    "compare_models",
    "definitions",
    "dice",
    "evaluate_case",
    "format_table",
    "holm",
    "mean_dsc",
    "mean_interval",
    "paired_wilcoxon",
    "read_scores",
    "summarize",
    "summarize_metric",
    "surface_distances",
    "torchmetrics_metric",
    "volume_similarity",
    "worst_cases",
    "write_report",
    "write_scores_csv",
    "write_scores_json",
]
