"""Tensors, their subclasses and foreign byte orders are scored as the arrays that they hold."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from guided_attention import metrics
from guided_attention.metrics import (
    brier_score,
    chaos_score,
    expected_calibration_error,
    holm,
    mean_interval,
    paired_wilcoxon,
    surface_distances,
    uncertainty_correlation,
    volume_ml,
)

SHAPE = (5, 7, 11)
SPACING_MM = (7.7, 1.5, 1.3)
OVERLAPS = (
    "dice",
    "jaccard",
    "precision",
    "sensitivity",
    "volume_similarity",
    "relative_volume_difference",
)
KINDS = {
    "tensor": torch.from_numpy,
    "MetaTensor": lambda array: MetaTensor(torch.from_numpy(array)),
    "strided": lambda array: torch.from_numpy(np.repeat(array, 2, axis=-1))[..., ::2],
    "fortran": np.asfortranarray,
}


def masks():
    rng = np.random.default_rng(0)
    return rng.random(SHAPE) < 0.4, rng.random(SHAPE) < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_masks(kind):
    arrays = masks()
    tensors = [KINDS[kind](mask) for mask in arrays]
    for name in OVERLAPS:
        assert getattr(metrics, name)(*tensors) == getattr(metrics, name)(*arrays)
    assert metrics.dice(tensors[0], arrays[1]) == metrics.dice(*arrays)
    assert volume_ml(tensors[0], SPACING_MM) == volume_ml(arrays[0], SPACING_MM)
    assert chaos_score(*tensors, SPACING_MM) == chaos_score(*arrays, SPACING_MM)
    found, wanted = (surface_distances(*pair, SPACING_MM) for pair in (tensors, arrays))
    np.testing.assert_array_equal(found.prediction_to_reference_mm, wanted.prediction_to_reference_mm)
    np.testing.assert_array_equal(found.reference_to_prediction_mm, wanted.reference_to_prediction_mm)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("metric", [brier_score, expected_calibration_error])
def test_probabilities(metric, dtype):
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(size=(3, *SHAPE))).requires_grad_()
    probabilities = logits.softmax(dim=0).to(dtype)
    if dtype is torch.bfloat16:  # eight bits do not sum to 1: what the conversion must keep are the values
        probabilities = torch.tensor([0.5, 0.25, 0.25], dtype=dtype)[:, None, None, None].expand(3, *SHAPE)
    reference = torch.from_numpy(rng.integers(3, size=SHAPE))
    mask = torch.from_numpy(rng.random(SHAPE) < 0.5)
    wanted = metric(probabilities.detach().double().numpy(), reference.numpy(), mask=mask.numpy())
    assert metric(probabilities, reference.to(torch.uint8), mask=mask) == pytest.approx(wanted, rel=1e-12)
    assert metric(MetaTensor(probabilities.detach()), reference, mask=mask) == pytest.approx(
        wanted, rel=1e-12
    )


@pytest.mark.usefixtures("without_shape_checks")
def test_rows_of_numbers():
    first, second = [0.9, 0.8, 0.7, 0.95, 0.6, 0.5, 0.4], [0.85, 0.7, 0.5, 0.9, 0.3, 0.45, 0.2]
    for kind in (
        torch.tensor,
        np.array,
        tuple,
        lambda row: [torch.tensor(x, dtype=torch.float64) for x in row],
    ):
        ours, theirs = (
            kind(row) if kind is not torch.tensor else torch.tensor(row, dtype=torch.float64)
            for row in (first, second)
        )
        assert mean_interval(ours) == mean_interval(first)
        assert paired_wilcoxon(ours, theirs) == paired_wilcoxon(first, second)
        assert holm(ours) == holm(first)
        assert uncertainty_correlation(ours, theirs) == uncertainty_correlation(first, second)
    assert volume_ml(masks()[0], torch.tensor(SPACING_MM, dtype=torch.float64)) == volume_ml(
        masks()[0], SPACING_MM
    )


@pytest.mark.usefixtures("without_shape_checks")
def test_a_reference_of_another_byte_order():
    probabilities = np.full((2, *SHAPE), 0.5)
    reference = masks()[0].astype(np.int16)
    swapped = reference.astype(reference.dtype.newbyteorder(">"))
    big = probabilities.astype(probabilities.dtype.newbyteorder(">"))
    assert brier_score(big, swapped) == brier_score(probabilities, reference)


@pytest.mark.usefixtures("without_shape_checks")
def test_what_a_tensor_must_not_be_is_named():
    mask, _ = masks()
    for odd, message in (
        (
            torch.zeros(SHAPE, dtype=torch.bool, device="meta"),
            r"dense tensor with values, got a .* on meta\.",
        ),
        (torch.zeros(SHAPE).to_sparse(), r"dense tensor with values, got a torch\.sparse_coo tensor"),
        (
            torch.zeros(SHAPE, dtype=torch.uint8),
            r"boolean mask, got an array of uint8\. Pass `volume == label`",
        ),
        (np.ma.masked_array(mask, mask=mask), r"without masked values, got some\. Use volume\.filled\(0\)"),
        (mask.tolist(), r"a NumPy array or a tensor, got a list\. Use numpy\.asarray"),
    ):
        with pytest.raises(
            (ValueError, TypeError), match=f"`prediction` must be (a |an array )?{message}"
        ) as caught:
            metrics.dice(odd, mask)
        assert caught.value.argument == "prediction"
    assert math.isnan(metrics.dice(torch.zeros(0, dtype=torch.bool), np.zeros(0, dtype=bool)))
