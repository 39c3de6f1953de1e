"""Volumetric metrics in millimetres, and the rows and tables made of them."""

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
    "mean_dsc",
    "summarize",
    "surface_distances",
    "volume_similarity",
    "write_scores_csv",
]
