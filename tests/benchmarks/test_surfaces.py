"""The scores of volumes that are timed: every library measures the same masks, and the same thing."""

import pytest
from benchmarks.rows import NOT_RUN, Choices, Spec, rows_of
from benchmarks.turns import measure_row

from benchmarks import surfaces

pytestmark = [
    pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning"),
]


def scored(who, case="far voxel"):
    return surfaces.scored(Spec(task="surfaces", who=who, side=256, part=case))(256)()


def test_ours_and_monai_find_the_same_distances():
    ((assd, hd95, hd),) = scored("monai")
    (row,) = scored("ours")
    assert (row.assd_mm, row.hausdorff95_mm, row.hausdorff_mm) == pytest.approx((assd, hd95, hd), rel=1e-5)


def test_our_surfels_and_those_of_surface_distance_are_the_same():
    ((there, back, hd95, hd),) = scored("surface-distance")
    (row,) = scored("ours, surfel")
    assert (row.masd_mm, row.hausdorff95_mm, row.hausdorff_mm) == pytest.approx(
        ((there + back) / 2, hd95, hd), rel=1e-6
    )


def test_four_organs_are_scored_in_one_go():
    assert [row.organ for row in scored("ours", "four organs")] == ["1", "2", "3", "4"]
    assert all(0.8 < row.dice < 1 for row in scored("ours", "four organs"))


def test_a_row_has_all_libraries_and_says_what_is_missing():
    rows = rows_of("surfaces", Choices())
    assert [row.about["task"] for row in rows] == ["four organs", "far voxel", "liver"]
    assert list(rows[0].specs) == ["ours", "surface-distance", "monai", "medpy", "ours, surfel", "ours, mesh"]
    with pytest.raises(surfaces.Unavailable, match="needs `--data`"):
        scored("ours", "liver")
    calls = []
    row = measure_row(
        rows[1], repeats=3, memory_gb=0, run=lambda spec: calls.append(spec.who) or {"seconds": 1.0}
    )
    assert calls.count("ours") == 3
    assert calls.count("ours, mesh") == 1
    assert NOT_RUN not in row["measured"]["medpy"]
