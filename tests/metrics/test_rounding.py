"""Rounding decides nothing: masks score the same whatever the spacing is multiplied by."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice

from guided_attention.metrics import ChaosScore, DistanceDefinition, dice, surface_distances
from guided_attention.metrics._outline import mesh

SPACINGS_MM = [hundredths / 100 for hundredths in range(50, 310, 5)]
VOXELS = range(1, 7)
SURFACES = ("voxel", "surfel", "mesh")


def pair(voxels):
    """A block, and the same block shifted along the second axis."""
    block = np.zeros((7, 17, 5), dtype=bool)
    block[2:5, 2:7, 1:4] = True
    return block, np.roll(block, voxels, axis=1)


def measured(masks, side_mm, surface="voxel"):
    return surface_distances(*masks, (side_mm,) * 3, DistanceDefinition(surface))


def test_the_case_of_the_report():
    # Every point is at most three voxels of 1.1 mm away, and 3 * 1.1 > 3.3 in floating point.
    assert 3 * 1.1 > 3.3
    assert measured(pair(3), 1.1).surface_dice(3.3) == 1.0
    assert measured(pair(3), 1.1).surface_overlap(3.3) == (1.0, 1.0)
    assert measured(pair(3), 1.1).surface_dice(3.2999) == measured(pair(3), 1.0).surface_dice(2.9999) < 1.0
    in_header = float(np.float32(1.1))
    assert in_header > 1.1
    assert measured(pair(3), in_header).surface_dice(3.3) == 1.0


@pytest.mark.parametrize("surface", SURFACES)
def test_tolerances_of_whole_voxels_give_what_they_give_at_spacing_1(surface):
    spacings_mm = SPACINGS_MM if surface == "voxel" else SPACINGS_MM[1::7]
    tried = 0
    for voxels in VOXELS:
        # One shift further, so that some points are within the tolerance and some are not.
        for masks in (pair(voxels), pair(voxels + 1)):
            at_1 = measured(masks, 1.0, surface)
            wanted = [at_1.surface_dice(voxels), *at_1.surface_overlap(voxels)]
            for side_mm in spacings_mm:
                tried += 1
                distances = measured(masks, side_mm, surface)
                for tolerance_mm in (voxels * side_mm, round(voxels * side_mm, 2)):
                    shares = [distances.surface_dice(tolerance_mm), *distances.surface_overlap(tolerance_mm)]
                    assert shares == pytest.approx(wanted, rel=1e-9), (voxels, side_mm)
    assert tried == (2 * 312 if surface == "voxel" else 2 * 48)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
def test_tolerances_of_whole_voxels_give_what_monai_gives():
    for voxels in VOXELS:
        masks = pair(voxels)
        tensors = [torch.from_numpy(mask)[None, None].float() for mask in masks]
        for side_mm in SPACINGS_MM:
            tolerance_mm = round(voxels * side_mm, 2)
            settings = {"include_background": True, "spacing": [side_mm] * 3}
            theirs = compute_surface_dice(*tensors, class_thresholds=[tolerance_mm], **settings).item()
            assert theirs == 1.0
            assert measured(masks, side_mm).surface_dice(tolerance_mm) == 1.0


@pytest.mark.parametrize("surface", ["surfel", "mesh"])
def test_weighted_percentiles_are_multiples_of_those_at_spacing_1(surface):
    """Half of a symmetric surface, and other shares that the sums of the weights reach exactly."""
    masks = pair(3)
    at_1 = measured(masks, 1.0, surface)
    for side_mm in SPACINGS_MM:
        distances = measured(masks, side_mm, surface)
        for share in (12.5, 25.0, 50.0, 75.0, 95.0):
            wanted = side_mm * at_1.hausdorff_mm(share)
            assert distances.hausdorff_mm(share) == pytest.approx(wanted, rel=1e-9, abs=1e-9), (
                side_mm,
                share,
            )


def test_half_of_the_weights_has_reached_the_median():
    # Ten weights of 0.1: five of them are half, though 0.1 + 0.1 + ... stops short of it.
    distances = surface_distances(*pair(1), (1.0, 1.0, 1.0))
    weights, steps = np.full(10, 0.1), np.arange(10.0)
    found = type(distances)(steps, steps, weights, weights)
    assert np.cumsum(weights)[2] / weights.sum() != 0.3
    assert [
        found.hausdorff_mm(share) for share in (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    ] == steps.tolist()


def test_the_widest_terrace_of_a_mesh_is_a_matter_of_its_width():
    """Terraces of 13 voxels of 0.8 mm, slices of 1.25 mm: some outlines are exactly as far as the limit of 10 mm."""
    stairs = np.zeros((8, 9, 120), dtype=bool)
    for z in range(1, 7):
        stairs[z, 1:8, 1 : 1 + 13 * z] = True
    wanted = mesh(stairs, (1.25, 0.8, 0.8)).sizes
    for factor in SPACINGS_MM:
        sizes = mesh(stairs, tuple(round(side * factor, 10) for side in (1.25, 0.8, 0.8))).sizes
        np.testing.assert_allclose(sizes, wanted * factor**2, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("spacing_mm", [(7.7, 1.5, 1.3), (0.3, 0.7, 0.9)])
def test_a_perfect_match_is_exactly_0(surface, spacing_mm):
    rng = np.random.default_rng(0)
    mask = rng.random((7, 11, 13)) < 0.3
    distances = surface_distances(mask, mask, spacing_mm, DistanceDefinition(surface))
    assert (distances.assd_mm(), distances.hausdorff_mm(), distances.surface_dice(0.0)) == (0.0, 0.0, 1.0)


def test_a_dice_of_exactly_four_fifths_earns_no_points():
    for fifth in range(1, 300):
        prediction, reference = np.zeros((2, 7 * fifth), dtype=bool)
        prediction[: 5 * fifth], reference[fifth : 6 * fifth] = True, True
        assert ChaosScore(dice(prediction, reference), 0.0, 0.0, 0.0, 1, 1).dice_points == 0.0


def test_a_tolerance_that_is_missing_or_negative_is_refused():
    distances = measured(pair(1), 1.0)
    for ask in (distances.surface_dice, distances.surface_overlap):
        with pytest.raises(
            ValueError, match=r"`tolerance_mm` must be given here or in the definition, got None"
        ):
            ask()
        with pytest.raises(ValueError, match=r"`tolerance_mm` must be 0 or more, got nan"):
            ask(math.nan)


def test_the_definition_gives_the_defaults_of_the_summaries():
    masks = pair(3)
    masks[0][6, 16, 4] = True  # one stray voxel: the percentiles differ
    pooled = surface_distances(*masks, (1.0, 1.0, 1.0), DistanceDefinition("voxel", "pooled", 2.0))
    plain = surface_distances(*masks, (1.0, 1.0, 1.0))
    assert pooled.hausdorff_mm(99.0) == plain.hausdorff_mm(99.0, combine="pooled") != plain.hausdorff_mm(99.0)
    assert pooled.hausdorff_mm(99.0, combine="max") == plain.hausdorff_mm(99.0)
    assert (
        pooled.surface_dice()
        == plain.surface_dice(2.0)
        != plain.surface_dice(1.0)
        == pooled.surface_dice(1.0)
    )
    assert pooled.surface_overlap() == plain.surface_overlap(2.0)
