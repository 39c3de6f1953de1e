"""Every public name of `metrics`, with every argument replaced by what it does not want."""

import numpy as np
import pytest
from tests.metrics.junk import callables, try_all

from guided_attention import metrics
from guided_attention.metrics import ChaosScore, DistanceDefinition, SurfaceDistances

MASK = np.zeros((3, 5, 7), dtype=bool)
MASK[1, 1:4, 1:5] = True
MASKS = {"prediction": MASK, "reference": MASK}
SPACED = {**MASKS, "spacing_mm": (7.7, 1.5, 1.3)}
PROBABILITIES = {
    "probabilities": np.full((2, 3, 5, 7), 0.5),
    "reference": MASK.astype(int),
    "mask": MASK,
}
ROW = [0.5, 0.7, 0.9]
DISTANCES = SurfaceDistances(np.array([0.0, 3.0]), np.array([1.0]))
SCORE = ChaosScore(0.9, 1.0, 3.0, 30.0, prediction_voxels=7, reference_voxels=7)
CALLS = {
    **dict.fromkeys(("dice", "jaccard", "precision", "sensitivity", "volume_similarity"), MASKS),
    "relative_volume_difference": MASKS,
    "volume_ml": {"mask": MASK, "spacing_mm": (7.7, 1.5, 1.3)},
    "surface_distances": {**SPACED, "definition": DistanceDefinition(), "workers": 1},
    "chaos_score": SPACED,
    "chaos_points": {"scores": [SCORE]},
    "expected_calibration_error": {**PROBABILITIES, "bins": 5},
    "brier_score": PROBABILITIES,
    "uncertainty_correlation": {"uncertainties": ROW, "dice": ROW},
    "mean_interval": {"values": ROW, "level": 0.9, "resamples": 7, "seed": 0},
    "paired_wilcoxon": {"first": ROW, "second": ROW},
    "holm": {"p_values": ROW},
    "DistanceDefinition": {"surface": "voxel", "combine": "max", "tolerance_mm": 1.0, "one_empty": "inf"},
    "SurfaceDistances": {
        "prediction_to_reference_mm": ROW,
        "reference_to_prediction_mm": ROW,
        "prediction_weights": ROW,
        "reference_weights": ROW,
        "definition": DistanceDefinition(),
        "missing_mm": 1.0,
    },
    "ChaosScore": {
        "dice": 1.0,
        "ravd_percent": 1.0,
        "assd_mm": 1.0,
        "hausdorff_mm": 1.0,
        "prediction_voxels": 1,
        "reference_voxels": 1,
    },
}
NOT_CALLED = {"Combine", "OneEmpty", "Surface", "UncertaintyCorrelation"}
METHODS = {
    "hausdorff_mm": {"percentile": 50.0, "combine": "max"},
    "surface_dice": {"tolerance_mm": 1.0},
    "surface_overlap": {"tolerance_mm": 1.0},
}
ALWAYS_WRONG = {"object", "1j", "ragged", "dict", "complex128 array", "object array", "meta tensor", "class"}
ALWAYS_WRONG = ALWAYS_WRONG - {"1j"} | {"(1+2j)", "b'x'", "set()"}


def test_every_public_name_is_tried():
    assert set(CALLS) | NOT_CALLED == set(metrics.__all__)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("name", "argument"), [(name, key) for name, keys in CALLS.items() for key in keys])
def test_only_errors_of_the_library_come_of_wrong_arguments(name, argument):
    function = getattr(metrics, name)
    function(**CALLS[name])
    assert try_all(function, CALLS[name], argument, more=callables().items()) >= ALWAYS_WRONG


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("name", "argument"), [(name, key) for name, keys in METHODS.items() for key in keys]
)
def test_methods_refuse_them_too(name, argument):
    method = getattr(DISTANCES, name)
    method(**METHODS[name])
    assert try_all(method, METHODS[name], argument, more=callables().items()) >= ALWAYS_WRONG
