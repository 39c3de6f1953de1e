"""Other libraries give the same where they mean the same."""

import numpy as np
import pytest
import torch
from monai.transforms import CenterSpatialCrop, DivisiblePad, Orientation, ScaleIntensityRange, SpatialPad
from scipy import ndimage
from tests.preparation.geometries import case_of, random_affine
from torch.nn import functional

from guided_attention.case import Case
from guided_attention.preparation import CenterCrop, Preparation, Window

AXIAL = np.diag([-1.0, -1.0, 5.0, 1.0])
ORIENTATION = {"axial": "LPS", "coronal": "LIP", "sagittal": "PIL"}

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning"
)


def a_case(shape=(7, 11, 13), affine=AXIAL, seed=0):
    return case_of(np.random.default_rng(seed), shape, affine)


def as_monai(case):
    """MONAI indexes (channel, x, y, z)."""
    from monai.data import MetaTensor

    return MetaTensor(
        torch.from_numpy(case.image.transpose(0, 3, 2, 1).copy()), affine=torch.from_numpy(case.affine)
    )


@pytest.mark.parametrize("axis", ORIENTATION)
@pytest.mark.parametrize("seed", range(8))
def test_monai_reorders_axes_in_the_same_way(axis, seed):
    rng = np.random.default_rng(seed)
    case = a_case(affine=random_affine(rng, (5.0, 1.25, 1.5), degrees=10.0), seed=seed)
    prepared = Preparation(slice_axis=axis, intensity=None).apply(case)
    turned = Orientation(axcodes=ORIENTATION[axis])(as_monai(case))
    np.testing.assert_array_equal(prepared.image, turned.numpy().transpose(0, 3, 2, 1))
    np.testing.assert_allclose(prepared.affine, turned.affine.numpy(), atol=1e-9)


@pytest.mark.parametrize("size", [(5, 7, 9), (3, 11, 5), (7, 4, 6)])
def test_monai_crops_the_same_box(size):
    case = a_case((7, 11, 13) if size[1] % 2 else (7, 12, 14))
    got = Preparation(slice_axis="axial", intensity=None, crop=CenterCrop(size)).apply(case).image
    np.testing.assert_array_equal(got, CenterSpatialCrop(size)(torch.from_numpy(case.image)).numpy())


def test_monai_pads_in_the_same_way():
    case = a_case()
    fill = float(case.image.min())
    preparation = Preparation(slice_axis="axial", intensity=None, min_size=(9, 20, 1), multiple=(4, 4, 4))
    least = SpatialPad((9, 20, 1), constant_values=fill)
    want = DivisiblePad((4, 4, 4), constant_values=fill)(torch.from_numpy(case.image))
    got = preparation.apply(case)
    assert got.image.shape[1:] == (12, 20, 16)
    assert want.shape[1:] == (8, 12, 16)
    np.testing.assert_array_equal(
        Preparation(slice_axis="axial", intensity=None, multiple=(4, 4, 4)).apply(case).image, want.numpy()
    )
    np.testing.assert_array_equal(
        Preparation(slice_axis="axial", intensity=None, min_size=(9, 20, 1)).apply(case).image,
        least(torch.from_numpy(case.image)).numpy(),
    )


def test_monai_windows_in_the_same_way():
    case = a_case()
    want = ScaleIntensityRange(60, 150, 0.0, 1.0, clip=True)(torch.from_numpy(case.image))
    got = Preparation(slice_axis="axial", intensity=Window(60, 150)).apply(case).image
    np.testing.assert_allclose(got, want.numpy(), atol=1e-6)


@pytest.mark.parametrize(("old", "new"), [((22, 26), (11, 13)), ((30, 33), (10, 11)), ((35, 42), (14, 12))])
def test_torch_averages_in_the_same_way_where_pixels_grow(old, new):
    """The grids are the same where sizes divide; at the edge, torch takes away from the triangle what lies outside."""
    case = a_case((3, *old))
    wanted = (None, old[0] / new[0], old[1] / new[1])
    got = Preparation(slice_axis="axial", spacing_mm=wanted, intensity=None).apply(case).image
    want = functional.interpolate(
        torch.from_numpy(case.image[0][:, None]), new, mode="bilinear", antialias=True
    )
    inner = (slice(None), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(got[0][inner], want[:, 0].numpy()[inner], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("old", "new"), [((11, 13), (22, 26)), ((10, 11), (30, 33))])
def test_torch_interpolates_in_the_same_way_where_pixels_shrink_and_on_the_way_back(old, new):
    case = a_case((3, *old))
    wanted = (None, old[0] / new[0], old[1] / new[1])
    prepared = Preparation(slice_axis="axial", spacing_mm=wanted, intensity=None).apply(case)
    want = functional.interpolate(torch.from_numpy(case.image[0][:, None]), new, mode="bilinear")
    np.testing.assert_allclose(prepared.image[0], want[:, 0].numpy(), rtol=1e-5, atol=1e-3)
    coarse = Preparation(
        slice_axis="axial", spacing_mm=(None, new[0] / old[0], new[1] / old[1]), intensity=None
    ).apply(Case("7", np.zeros((1, 3, *new)), None, AXIAL))
    scores = torch.randn(4, 3, *old)
    got = torch.cat([part for _, part in coarse.restored([scores])], dim=1)
    want = functional.interpolate(scores.transpose(0, 1), new, mode="bilinear").transpose(0, 1)
    np.testing.assert_allclose(got.numpy(), want.numpy(), atol=1e-5)


@pytest.mark.parametrize("wanted", [(4.0, 0.8, 0.7), (5.0, 0.9, 1.0), (2.1, 0.3, 0.61)])
def test_scipy_interpolates_in_the_same_way_at_the_same_places(wanted):
    case = a_case()
    prepared = Preparation(slice_axis="axial", spacing_mm=wanted, intensity=None).apply(case)
    shape = prepared.image.shape[1:]
    back = np.linalg.inv(case.affine) @ prepared.affine
    grid = np.indices(shape).reshape(3, -1)[::-1]
    places = (back @ np.vstack([grid, np.ones(grid.shape[1])]))[:3][::-1]
    want = ndimage.map_coordinates(case.image[0].astype(float), places, order=1, mode="nearest")
    np.testing.assert_allclose(prepared.image[0].ravel(), want, atol=1e-3)
    nearest = ndimage.map_coordinates(case.labels, places - 1e-7, order=0, mode="nearest")
    np.testing.assert_array_equal(prepared.labels.ravel(), nearest)
