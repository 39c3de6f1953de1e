"""Volumetric metrics: arrays in, numbers out. Lengths are in millimetres."""

from guided_attention.metrics.calibration import (
    UncertaintyCorrelation,
    brier_score,
    expected_calibration_error,
    uncertainty_correlation,
)
from guided_attention.metrics.challenge import ChaosScore, chaos_points, chaos_score
from guided_attention.metrics.definition import Combine, DistanceDefinition, OneEmpty, Surface
from guided_attention.metrics.overlap import (
    dice,
    jaccard,
    precision,
    relative_volume_difference,
    sensitivity,
    volume_ml,
    volume_similarity,
)
from guided_attention.metrics.statistics import holm, mean_interval, paired_wilcoxon
from guided_attention.metrics.surface import SurfaceDistances, surface_distances

__all__ = [
    "ChaosScore",
    "Combine",
    "DistanceDefinition",
    "OneEmpty",
    "Surface",
    "SurfaceDistances",
    "UncertaintyCorrelation",
    "brier_score",
    "chaos_points",
    "chaos_score",
    "dice",
    "expected_calibration_error",
    "holm",
    "jaccard",
    "mean_interval",
    "paired_wilcoxon",
    "precision",
    "relative_volume_difference",
    "sensitivity",
    "surface_distances",
    "uncertainty_correlation",
    "volume_ml",
    "volume_similarity",
]
