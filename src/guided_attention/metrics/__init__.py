"""Volumetric metrics in millimetres, the rows and tables made of them, and the comparison of networks."""

from guided_attention.metrics.accumulator import CaseAccumulator
from guided_attention.metrics.calibration import (
    UncertaintyCorrelation,
    brier_score,
    expected_calibration_error,
    uncertainty_correlation,
)
from guided_attention.metrics.cases import CaseScore, OrganStatus, evaluate_case
from guided_attention.metrics.challenge import ChaosScore, chaos_points, chaos_score
from guided_attention.metrics.compare import holm, mean_interval, paired_wilcoxon
from guided_attention.metrics.overlap import (
    dice,
    jaccard,
    precision,
    relative_volume_difference,
    sensitivity,
    volume_ml,
    volume_similarity,
)
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
from guided_attention.metrics.surface import Combine, Surface, SurfaceDistances, surface_distances
from guided_attention.metrics.torchmetrics_adapter import torchmetrics_metric

__all__ = [
    "CaseAccumulator",
    "CaseScore",
    "ChaosScore",
    "Combine",
    "MetricName",
    "MetricSummary",
    "OrganStatus",
    "OrganSummary",
    "PairedRow",
    "Surface",
    "SurfaceDistances",
    "UncertaintyCorrelation",
    "brier_score",
    "chaos_points",
    "chaos_score",
    "compare_models",
    "definitions",
    "dice",
    "evaluate_case",
    "expected_calibration_error",
    "format_table",
    "holm",
    "jaccard",
    "mean_dsc",
    "mean_interval",
    "paired_wilcoxon",
    "precision",
    "read_scores",
    "relative_volume_difference",
    "sensitivity",
    "summarize",
    "summarize_metric",
    "surface_distances",
    "torchmetrics_metric",
    "uncertainty_correlation",
    "volume_ml",
    "volume_similarity",
    "worst_cases",
    "write_report",
    "write_scores_csv",
    "write_scores_json",
]
