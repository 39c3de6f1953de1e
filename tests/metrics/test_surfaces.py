"""All three surfaces: against their reference implementations, written-out twins and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from tests.metrics.pairs import awkward_pairs, changed_pairs, random_pairs
from tests.real_data import real_data
from tests.reference import surface as written_out

from guided_attention.data import read_nifti_pairs
from guided_attention.metrics import DistanceDefinition, SurfaceDistances, surface_distances
from guided_attention.metrics._cells import sizes_of_codes
from guided_attention.metrics._nearest import to_mesh_mm
from guided_attention.metrics._outline import _PASSES, _WIDEST_TERRACE, _cuts_mm, mesh

surface_distance = pytest.importorskip("surface_distance")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning"),
]

SURFACES = ("voxel", "surfel", "mesh")
SHARES = (
    5.3,
    47.1,
    95.0,
    100.0,
)  # 50 is no test of surfels: half of a symmetric surface is a matter of rounding
TOLERANCES = (0.5, 1.6, 5.0)


def real_pairs():
    folder = real_data("abdomen-mr-ct")
    volume = next(case for case in read_nifti_pairs(folder, case_ids=["mr"]))
    organs = [volume.labels == value for value in np.unique(volume.labels) if value]
    pairs = [pair for organ in organs for pair in changed_pairs(organ, volume.spacing_mm)]
    assert len(pairs) >= 12
    return pairs


def all_pairs():
    return [*random_pairs(300), *awkward_pairs()]


def compare_to_monai(prediction, reference, spacing_mm):
    ours = surface_distances(prediction, reference, spacing_mm)
    pair = [
        torch.from_numpy(np.ascontiguousarray(mask))[None, None].float() for mask in (prediction, reference)
    ]
    settings = {"include_background": True, "spacing": list(spacing_mm)}
    average = compute_average_surface_distance(*pair, symmetric=True, **settings).item()
    largest = compute_hausdorff_distance(*pair, **settings).item()
    assert_allclose([ours.assd_mm(), ours.hausdorff_mm()], [average, largest], rtol=1e-6)
    for share in SHARES:  # MONAI interpolates in single precision
        robust = compute_hausdorff_distance(*pair, percentile=share, **settings).item()
        assert ours.hausdorff_mm(share) == pytest.approx(robust, rel=2e-5, abs=1e-6)
    dice = compute_surface_dice(*pair, class_thresholds=[1.6], **settings).item()
    assert ours.surface_dice(1.6) == pytest.approx(dice, abs=1e-6)
    points = [np.argwhere(mask & ~eroded(mask)) * np.array(spacing_mm) for mask in (prediction, reference)]
    directed = [cKDTree(points[1 - side]).query(points[side])[0] for side in (0, 1)]
    for share in SHARES:
        each = max(np.percentile(distances, share) for distances in directed)
        assert ours.hausdorff_mm(share) == pytest.approx(each, rel=1e-9)
        pooled = np.hstack(directed)
        assert ours.hausdorff_mm(share, combine="pooled") == pytest.approx(
            np.percentile(pooled, share), rel=1e-9
        )


def eroded(mask):
    padded = np.pad(mask, 1)
    shifted = [np.roll(padded, step, axis) for axis in range(mask.ndim) for step in (-1, 1)]
    return np.logical_and.reduce([padded, *shifted])[(slice(1, -1),) * mask.ndim]


def compare_to_deepmind(prediction, reference, spacing_mm):
    ours = surface_distances(prediction, reference, spacing_mm, DistanceDefinition(surface="surfel"))
    theirs = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
    back, there = surface_distance.compute_average_surface_distance(theirs)
    (found_there, area), (found_back, other) = ours._directions()
    found = [found_there @ area / area.sum(), found_back @ other / other.sum()]
    wanted = [there, back]
    for share in SHARES:
        found.append(ours.hausdorff_mm(share))
        wanted.append(surface_distance.compute_robust_hausdorff(theirs, share))
    for tolerance in TOLERANCES:
        found += [ours.surface_dice(tolerance), *reversed(ours.surface_overlap(tolerance))]
        wanted.append(surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance))
        wanted += surface_distance.compute_surface_overlap_at_tolerance(theirs, tolerance)
    assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_voxels_equal_monai_and_pooled_percentiles_on_300_pairs():
    for pair in all_pairs():
        compare_to_monai(*pair)


def test_voxels_equal_monai_on_real_organs():
    for pair in real_pairs():
        compare_to_monai(*pair)


def test_surfels_equal_deepmind_on_300_pairs():
    for pair in all_pairs():
        compare_to_deepmind(*pair)


def test_surfels_equal_deepmind_on_real_organs():
    for pair in real_pairs():
        compare_to_deepmind(*pair)


@pytest.mark.parametrize("shape", [(5, 7, 11), (13, 17)])
@pytest.mark.parametrize("surface", SURFACES)
def test_summaries_of_weighted_points_equal_the_written_out_ones(shape, surface):
    rng = np.random.default_rng(5)
    prediction, reference = gaussian_filter(rng.normal(size=(2, *shape)), (0, *[1.2] * len(shape))) > 0.05
    ours = surface_distances(
        prediction, reference, (7.7, 1.5, 1.3)[: len(shape)], DistanceDefinition(surface=surface)
    )
    there, back = ours.prediction_to_reference_mm.tolist(), ours.reference_to_prediction_mm.tolist()
    area = [1.0] * len(there) if surface == "voxel" else ours.prediction_weights.tolist()
    other = [1.0] * len(back) if surface == "voxel" else ours.reference_weights.tolist()
    sums = [sum(d * w for d, w in zip(*pair, strict=True)) for pair in ((there, area), (back, other))]
    assert ours.assd_mm() == pytest.approx(sum(sums) / (sum(area) + sum(other)), rel=1e-12)
    assert ours.masd_mm() == pytest.approx((sums[0] / sum(area) + sums[1] / sum(other)) / 2, rel=1e-12)
    near = sum(w for d, w in zip(there + back, area + other, strict=True) if d <= 1.6)
    assert ours.surface_dice(1.6) == pytest.approx(near / (sum(area) + sum(other)), rel=1e-12)
    if surface != "voxel":
        for share in (7.0, 50.0, 93.0):
            each = [written_out.weighted_percentile(*pair, share) for pair in ((there, area), (back, other))]
            assert ours.hausdorff_mm(share) == max(each)
            pooled = written_out.weighted_percentile(there + back, area + other, share)
            assert ours.hausdorff_mm(share, combine="pooled") == pooled


@pytest.mark.parametrize("axes", [2, 3])
def test_distances_to_a_mesh_equal_every_point_against_every_piece(axes):
    rng = np.random.default_rng(axes)
    shape, spacing_mm = ((13, 17), (1.9, 0.7)) if axes == 2 else ((5, 7, 11), (7.7, 1.5, 1.3))
    mask = np.pad(gaussian_filter(rng.normal(size=shape), 1.0) > 0.05, 1)
    surface = mesh(mask, spacing_mm)
    extent = np.array(mask.shape) * spacing_mm
    points = rng.uniform(-0.3, 1.3, (29, axes)) * extent
    points[:7] = surface.corners_mm[:7, 0]  # on corners
    points[7:13] = surface.corners_mm[7:13].mean(axis=1)  # on faces
    found = to_mesh_mm(points, surface, workers=1)
    assert_allclose(found, written_out.to_pieces(points, surface.corners_mm), rtol=1e-9, atol=1e-9)
    assert found[:13].max() < 1e-9


@pytest.mark.parametrize(("shape", "spacing_mm"), [((13, 11), (1.9, 0.7)), ((5, 7, 6), (7.7, 1.5, 1.3))])
def test_cuts_of_a_mesh_equal_the_written_out_ones(shape, spacing_mm):
    rng = np.random.default_rng(11)
    mask = np.pad(gaussian_filter(rng.normal(size=shape), 1.0) > 0.02, 1)
    wanted = written_out.cuts(mask, spacing_mm, passes=_PASSES, widest=_WIDEST_TERRACE)
    lows, along = np.array([low for low, _ in wanted]), np.array([axis for _, axis in wanted])
    found = _cuts_mm(lows, along, spacing_mm) / spacing_mm - lows
    assert_allclose(found.sum(axis=1), list(wanted.values()), rtol=1e-9)
    assert len({round(share, 6) for share in wanted.values()}) > 20
    corners = {tuple(corner) for corner in mesh(mask, spacing_mm).corners_mm[..., -1, :].round(6).tolist()}
    assert corners <= {tuple(cut) for cut in ((lows + found) * spacing_mm).round(6).tolist()}


@pytest.mark.parametrize("axes", [2, 3])
def test_meshes_are_closed(axes):
    """Of noise too, where voxels touch at edges and corners: every side of a triangle belongs to an even number."""
    rng = np.random.default_rng(7)
    mask = np.pad(rng.random((11, 13, 7)[:axes]) < 0.5, 1)
    sides = {}
    for piece in mesh(mask, (1.0,) * axes).corners_mm.round(9).tolist():
        corners = [tuple(corner) for corner in piece]
        for side in itertools.combinations(corners, axes - 1):
            key = tuple(sorted(side))
            sides[key] = sides.get(key, 0) + 1
    assert len(sides) > 100
    assert all(count % 2 == 0 for count in sides.values())


@pytest.mark.parametrize("spacing_mm", [(1.9, 0.7), (7.7, 1.5, 1.3)])
def test_a_mask_and_its_complement_have_one_surface_in_every_cell(spacing_mm):
    sizes = sizes_of_codes(spacing_mm)
    assert sizes[0] == sizes[-1] == 0.0
    assert min(sizes[1:-1]) > 0.0
    assert_allclose(sizes, sizes[::-1], rtol=1e-12)


def box(shape, *corners):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(start, stop) for start, stop in corners)] = True
    return mask


def ball(radius):
    steps = np.arange(71) - 35.0
    return steps[:, None, None] ** 2 + steps[:, None] ** 2 + steps**2 <= radius**2


def test_a_shifted_box():
    masks = [box((13, 40, 40), (start, start + 5), (5, 25), (5, 25)) for start in (3, 4)]
    found = {
        name: surface_distances(*masks, (5.0, 1.0, 1.0), DistanceDefinition(surface=name)).assd_mm()
        for name in SURFACES
    }
    assert found["mesh"] == pytest.approx(1.489, abs=0.01)
    assert found["voxel"] == pytest.approx(2.938, abs=0.001)


def test_parallel_plates():
    plates = [box((7, 60, 60), (start, start + 1), (0, 60), (0, 60)) for start in (1, 3)]
    found = {
        name: surface_distances(*plates, (5.0, 1.0, 1.0), DistanceDefinition(surface=name)).assd_mm()
        for name in SURFACES
    }
    assert round(found["mesh"], 2) == 7.50
    assert found["surfel"] == pytest.approx(7.5, abs=1e-9)
    assert found["voxel"] == 10.0


def test_concentric_spheres():
    found = surface_distances(ball(25), ball(30), (1.0, 1.0, 1.0), DistanceDefinition(surface="mesh"))
    assert found.assd_mm() == pytest.approx(5.00, abs=0.02)
    assert found.prediction_weights.sum() == pytest.approx(4 * math.pi * 25**2, rel=0.01)
    assert found.reference_weights.sum() == pytest.approx(4 * math.pi * 30**2, rel=0.01)


def test_a_circle_in_an_image():
    steps = np.arange(83) - 41.0
    circles = [steps[:, None] ** 2 + steps**2 <= radius**2 for radius in (25, 30)]
    found = surface_distances(*circles, (1.0, 1.0), DistanceDefinition(surface="mesh"))
    assert found.assd_mm() == pytest.approx(5.0, abs=0.05)
    assert found.prediction_weights.sum() == pytest.approx(2 * math.pi * 25, rel=0.01)


class Organ:
    """A closed surface around the origin whose radius is known in every direction: a bumpy ellipsoid."""

    def __init__(self, radii, centre, bumps):
        self.radii, self.centre, self.bumps = np.array(radii), np.array(centre), bumps

    def radius(self, direction):
        z, y, x = np.moveaxis(direction, -1, 0)
        bumpy = 1 + self.bumps * (np.sin(3 * z + 1) * np.cos(2 * y) + 0.5 * np.sin(4 * x))
        return bumpy / np.sqrt(((direction / self.radii) ** 2).sum(axis=-1))

    def mask(self, spacing_mm, half_mm):
        axes = [
            np.arange(-math.ceil(half / length), math.ceil(half / length) + 1) * length
            for half, length in zip(half_mm, spacing_mm, strict=True)
        ]
        away = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - self.centre
        length = np.linalg.norm(away, axis=-1)
        return length < self.radius(away / np.maximum(length, 1e-9)[..., None])

    def points(self):
        """Return points on the surface and the area that each stands for."""
        polar, around = np.linspace(0, math.pi, 201), np.linspace(0, 2 * math.pi, 401)
        polar, around = (polar[1:] + polar[:-1]) / 2, (around[1:] + around[:-1]) / 2

        def at(polar, around):
            p, a = np.meshgrid(polar, around, indexing="ij")
            direction = np.stack([np.cos(p), np.sin(p) * np.sin(a), np.sin(p) * np.cos(a)], axis=-1)
            return self.radius(direction)[..., None] * direction + self.centre

        step = 1e-4
        down = (at(polar + step, around) - at(polar - step, around)) / (2 * step)
        across = (at(polar, around + step) - at(polar, around - step)) / (2 * step)
        area = np.linalg.norm(np.cross(down, across), axis=-1)
        return at(polar, around).reshape(-1, 3), area.ravel()


def truth(first, second):
    """Return the pooled mean distance of the two surfaces themselves."""
    (points, area), (others, other_area) = first.points(), second.points()
    there, back = cKDTree(others).query(points)[0], cKDTree(points).query(others)[0]
    return (there @ area + back @ other_area) / (area.sum() + other_area.sum())


KIDNEY = (Organ((55, 28, 24), (0.4, 0.2, 0.1), 0.04), Organ((53, 30, 25), (2.0, 1.7, -1.1), 0.06))
LIVER = (Organ((70, 100, 60), (0.3, 0.1, 0.7), 0.12), Organ((66, 105, 63), (4.0, 5.0, -3.0), 0.16))


@pytest.mark.parametrize(
    ("organ", "half_mm", "spacing_mm"),
    [
        (KIDNEY, (75, 45, 40), (7.7, 1.5, 1.5)),
        (KIDNEY, (75, 45, 40), (9.0, 1.9, 1.9)),
        (LIVER, (105, 145, 100), (7.7, 3.1, 3.1)),  # fewer pixels than a scan has: it takes seconds otherwise
    ],
)
def test_meshes_are_nearest_to_the_truth_where_slices_are_thick(organ, half_mm, spacing_mm):
    masks = [shape.mask(spacing_mm, half_mm) for shape in organ]
    true = truth(*organ)
    off = {
        name: surface_distances(*masks, spacing_mm, DistanceDefinition(surface=name)).assd_mm() / true - 1
        for name in SURFACES
    }
    theirs = surface_distance.compute_surface_distances(masks[1], masks[0], spacing_mm)
    back, there = surface_distance.compute_average_surface_distance(theirs)
    pair = [torch.from_numpy(mask)[None, None].float() for mask in masks]
    settings = {"include_background": True, "symmetric": True, "spacing": list(spacing_mm)}
    peers = {
        "surface-distance": (back + there) / 2 / true - 1,
        "MONAI": compute_average_surface_distance(*pair, **settings).item() / true - 1,
    }
    print(true, off, peers)
    assert abs(off["mesh"]) < 0.08
    assert abs(off["mesh"]) < 0.5 * min(abs(error) for error in peers.values())


@pytest.mark.parametrize("surface", SURFACES)
def test_properties_that_hold_for_every_surface(surface):
    for prediction, reference, spacing_mm in itertools.islice(random_pairs(40), 10, None, 3):
        ours = surface_distances(prediction, reference, spacing_mm, DistanceDefinition(surface=surface))
        summaries = summary(ours)
        swapped = surface_distances(reference, prediction, spacing_mm, DistanceDefinition(surface=surface))
        assert_allclose(summary(swapped), summaries, rtol=1e-12)
        scaled = surface_distances(
            prediction, reference, [3.7 * side for side in spacing_mm], DistanceDefinition(surface=surface)
        )
        assert_allclose(summary(scaled), [3.7 * value for value in summaries], rtol=1e-9)
        order = tuple(np.random.default_rng(1).permutation(prediction.ndim))
        turned = surface_distances(
            prediction.transpose(order),
            reference.transpose(order),
            [spacing_mm[n] for n in order],
            DistanceDefinition(surface=surface),
        )
        flipped = surface_distances(
            prediction[::-1], reference[::-1], spacing_mm, DistanceDefinition(surface=surface)
        )
        assert_allclose(summary(turned), summaries, rtol=1e-9)
        assert_allclose(summary(flipped), summaries, rtol=1e-9)
        same = surface_distances(prediction, prediction, spacing_mm, DistanceDefinition(surface=surface))
        assert max(summary(same)) < 1e-6
        assert same.surface_dice(0.001) == 1.0


def summary(distances):
    return [distances.assd_mm(), distances.masd_mm(), distances.hausdorff_mm(95.0), distances.hausdorff_mm()]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("axis", range(3))
def test_a_shift_by_voxels_is_a_shift_by_their_spacing(surface, axis):
    spacing_mm = (7.7, 1.5, 1.3)
    plane = [(0, 23)] * 3
    plane[axis] = (4, 5)
    mask = box((23, 23, 23), *plane)
    distances = surface_distances(
        mask, np.roll(mask, 3, axis), spacing_mm, DistanceDefinition(surface=surface)
    )
    assert distances.hausdorff_mm() == pytest.approx(3 * spacing_mm[axis])


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_the_table_of_empties(surface, shape):
    empty, something = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    spacing_mm = (1.5,) * len(shape)
    neither = surface_distances(empty, empty, spacing_mm, DistanceDefinition(surface=surface))
    assert all(math.isnan(value) for value in [*summary(neither), neither.surface_dice(3.0)])
    for masks in ((empty, something), (something, empty)):
        missed = surface_distances(*masks, spacing_mm, DistanceDefinition(surface=surface))
        assert summary(missed) == [math.inf] * 4
        assert missed.hausdorff_mm(0.0, combine="pooled") == math.inf
        assert missed.surface_dice(1000.0) == 0.0
        assert missed.surface_overlap(1000.0) == (0.0, 0.0)
        definition = DistanceDefinition(surface=surface, one_empty="diagonal")
        known = surface_distances(*masks, spacing_mm, definition)
        diagonal_mm = 1.5 * math.sqrt(sum(size**2 for size in shape))
        assert summary(known) == pytest.approx([diagonal_mm] * 4, rel=1e-12)
        assert known.surface_dice(1000.0) == 0.0
        assert set(np.concatenate([d for d, _ in known._directions()])) == {known.missing_mm}


def test_a_missed_organ_does_not_vanish_from_the_mean_as_it_does_elsewhere():
    organ = box((7, 11, 13), (2, 5), (3, 7), (4, 9))
    shifted, missed = np.roll(organ, 1, axis=1), np.zeros_like(organ)
    pair = [
        torch.from_numpy(np.stack(masks))[:, None].float() for masks in ((shifted, missed), (organ, organ))
    ]
    with pytest.warns(UserWarning, match="is all 0"):
        theirs = compute_hausdorff_distance(*pair, include_background=True, percentile=95).flatten()
    ours = [surface_distances(mask, organ, (1.0, 1.0, 1.0)).hausdorff_mm(95.0) for mask in (shifted, missed)]
    assert theirs.nanmean() == 1.0  # the missed organ is a NaN, which the mean leaves out
    assert ours == [1.0, math.inf]
    assert np.mean(ours) == math.inf


def test_points_beyond_the_probed_places_are_found_by_the_tree():
    near, far = box((31, 37, 41), (1, 3), (1, 3), (1, 3)), box((31, 37, 41), (28, 30), (33, 36), (37, 40))
    distances = surface_distances(near, far, (7.7, 1.5, 1.3), workers=2)
    assert_allclose(distances.prediction_to_reference_mm, written_out.directed(near, far, (7.7, 1.5, 1.3)))


@pytest.mark.parametrize("surface", SURFACES)
def test_arrays_of_any_layout_give_the_same(surface):
    prediction, reference, spacing_mm = next(random_pairs(1))
    wanted = summary(
        surface_distances(prediction, reference, spacing_mm, DistanceDefinition(surface=surface))
    )
    strided = [np.repeat(np.asfortranarray(mask), 2, axis=-1)[..., ::2] for mask in (prediction, reference)]
    for mask in strided:
        mask.setflags(write=False)
    assert summary(surface_distances(*strided, spacing_mm, DistanceDefinition(surface=surface))) == wanted


@pytest.mark.usefixtures("without_shape_checks")
def test_arguments_that_do_not_fit_are_refused():
    mask = np.ones((3, 5, 7), dtype=bool)
    with pytest.raises(ValueError, match=r"`surface` must be one of 'voxel', 'surfel', 'mesh', got 'edge'\."):
        surface_distances(mask, mask, (1.0, 1.0, 1.0), DistanceDefinition(surface="edge"))
    with pytest.raises(ValueError, match=r"`missing_mm` must be above 0, got 0\.0\."):
        SurfaceDistances(np.ones(1), np.ones(0), missing_mm=0.0)
    distances = surface_distances(mask, mask, (1.0, 1.0, 1.0))
    for ask in (distances.surface_dice, distances.surface_overlap):
        with pytest.raises(ValueError, match=r"`tolerance_mm` must be 0 or more, got -1\.0\."):
            ask(-1.0)
