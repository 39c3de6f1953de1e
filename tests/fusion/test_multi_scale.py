"""MultiScaleFusion: written out, sizes, errors."""

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import networks as twin

from guided_attention import MultiScaleFusion


def test_equals_the_layers_written_out():
    fusion = opened(MultiScaleFusion((3, 5, 2), channels=7)).eval()
    features = [drawn(2, 3, 13, 11), drawn(2, 5, 7, 5), drawn(2, 2, 3, 2)]
    maps, fused = fusion(features)
    expected_maps, expected_fused = twin.fusion(features, fusion.state_dict())
    torch.testing.assert_close(maps, expected_maps)
    torch.testing.assert_close(fused, expected_fused)


def test_volumes_of_three_sizes():
    maps, fused = MultiScaleFusion((3, 5), channels=2, spatial_dims=3)(
        [drawn(1, 3, 5, 7, 3), drawn(1, 5, 1, 2, 3)]
    )
    assert fused.shape == maps[0].shape == maps[1].shape == (1, 2, 5, 7, 3)


def test_has_the_parameters_that_the_paper_counts():
    fusion = MultiScaleFusion((256, 512, 1024, 2048))
    assert sum(p.numel() for p in fusion.project.parameters()) == 246_532
    assert sum(p.numel() for p in fusion.fuse.parameters()) == 188_995


def test_another_number_of_maps_is_named():
    with pytest.raises(ValueError, match="`features` must be a list of 2 maps, got 1"):
        MultiScaleFusion((3, 5), channels=2)([drawn(1, 3, 5, 7)])


def test_no_maps_at_all_is_named():
    with pytest.raises(ValueError, match=r"`in_channels` must be the channels of at least one map, got \[\]"):
        MultiScaleFusion(())
