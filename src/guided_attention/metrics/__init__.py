"""Volumetric metrics in millimetres, the rows and tables made of them, and the comparison of networks."""

from guided_attention.metrics.cases import (
    CaseScore,
    OrganStatus,
    OrganSummary,
    evaluate_case,
    format_table,
    mean_dsc,
    summarize,
    write_scores_csv,
)
from guided_attention.metrics.compare import holm, mean_interval, paired_wilcoxon
from guided_attention.metrics.overlap import dice, volume_similarity
from guided_attention.metrics.surface import SurfaceDistances, surface_distances

__all__ = [
    "CaseScore",
    "OrganStatus",
    "OrganSummary",
    "SurfaceDistances",
    "dice",
    "evaluate_case",
    "format_table",
    "holm",
    "mean_dsc",
    "mean_interval",
    "paired_wilcoxon",
    "summarize",
    "surface_distances",
    "volume_similarity",
    "write_scores_csv",
]
