"""Each step of a preparation, and several together, against the slow reference; and cases worked by hand."""

import numpy as np
import pytest
import torch
from tests.preparation.geometries import case_of, random_affine
from tests.reference import preparation as reference

from guided_attention.case import Case
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import BodyCrop, CenterCrop, CohortPercentiles, Preparation, Window, ZScore

SPACING = (5.0, 1.25, 1.5)
SHAPES = [(7, 11, 13), (1, 5, 17), (3, 19, 2)]
AXES = ("axial", "coronal", "sagittal")


def a_case(seed=0, shape=(7, 11, 13), **kinds):
    rng = np.random.default_rng(seed)
    return case_of(rng, shape, random_affine(rng, SPACING, degrees=kinds.pop("degrees", 9.0)), **kinds)


def expected(
    case, preparation, *, wanted=(None, None, None), scales=None, crop=None, least=None, multiple=None
):
    """Follow the documentation of `Preparation` step by step."""
    image, affine, way = reference.canonical(case.image, case.affine, preparation.slice_axis)
    labels, _, _ = reference.canonical(case.labels, case.affine, preparation.slice_axis)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    scaled = [
        scale(channel) for scale, channel in zip(scales or [lambda c: c] * len(image), image, strict=True)
    ]
    lines = [reference.placed(*axis) for axis in zip(labels.shape, spacing, wanted, strict=True)]
    lines = lines if crop is None else crop(lines, image, spacing)
    lines = reference.padded(lines, least or (1, 1, 1), multiple or (1, 1, 1))
    volumes = [reference.filled(reference.resampled(c, lines), lines, c.min()) for c in scaled]
    return np.stack(volumes), reference.filled(reference.nearest(labels, lines), lines, 0), affine, lines, way


def assert_prepared(case, preparation, **steps):
    prepared = preparation.apply(case)
    image, labels, affine, lines, way = expected(case, preparation, **steps)
    np.testing.assert_allclose(prepared.image, image, atol=3e-5, rtol=1e-6)
    np.testing.assert_array_equal(prepared.labels, labels)
    assert prepared.labels.dtype == case.labels.dtype
    for place in [(0, 0, 0), tuple(size - 1 for size in labels.shape)]:
        inner = [line.places[0] + (i - line.before) * line.step for line, i in zip(lines, place, strict=True)]
        np.testing.assert_allclose(prepared.affine @ [*place[::-1], 1], affine @ [*inner[::-1], 1], atol=1e-3)
    scores = np.random.default_rng(5).normal(size=(3, *labels.shape)).astype(np.float32)
    back = reference.back_in_storage(reference.restored(scores, lines), way)
    np.testing.assert_array_equal(prepared.restore(scores), back)
    return prepared


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("seed", range(6))
def test_orientation(axis, seed):
    assert_prepared(a_case(seed, channels=2), Preparation(slice_axis=axis, intensity=None))


def test_orientation_by_hand():
    """x runs to the back, y to the feet and z to the left: depth runs to the right, rows to the back."""
    affine = np.array([[0, 0, -2.0, 0], [-3, 0, 0, 0], [0, -5, 0, 0], [0, 0, 0, 1]])
    image = np.arange(2 * 3 * 4, dtype=np.float32).reshape(1, 2, 3, 4)  # (left, feet, back)
    case = Case("7", image, None, affine)
    assert case.orientation == "PIL"
    axial = Preparation(slice_axis="axial", intensity=None).apply(case).image[0]
    assert axial.shape == (3, 4, 2)  # head, back, left
    np.testing.assert_array_equal(axial, image[0].transpose(1, 2, 0)[::-1])
    sagittal = Preparation(slice_axis="sagittal", intensity=None).apply(case).image
    np.testing.assert_array_equal(sagittal, image)  # left, feet, back: as it is stored


@pytest.mark.parametrize("percents", [(0.5, 99.5), (3.0, 90.0), (0, 100)])
def test_zscore(percents):
    preparation = Preparation(slice_axis="axial", intensity=ZScore(percents))
    assert_prepared(a_case(channels=2), preparation, scales=[lambda c: reference.zscore(c, percents)] * 2)


def test_window():
    scales = [lambda c: reference.window(c, 60, 150)]
    assert_prepared(a_case(), Preparation(slice_axis="axial", intensity=Window(60, 150)), scales=scales)


def test_a_record_for_each_channel():
    preparation = Preparation(slice_axis="coronal", intensity=(Window(60, 150), ZScore((2, 98))))
    scales = [lambda c: reference.window(c, 60, 150), lambda c: reference.zscore(c, (2, 98))]
    assert_prepared(a_case(channels=2), preparation, scales=scales)


def test_percentiles_of_the_cohort_leave_out_ignored_voxels():
    cases = [a_case(seed, channels=2, case_id=str(seed)) for seed in (1, 2, 4)]
    organs = LabelSpec({1: "a", 2: "b"}, ignore_value=3)
    given = (CohortPercentiles((5, 90)), CohortPercentiles((0.5, 99.5)))
    fitted = Preparation(slice_axis="axial", intensity=given).fit(cases, organs)
    inside = [(case.labels > 0) & (case.labels != 3) for case in cases]
    for channel, percents in enumerate([(5, 90), (0.5, 99.5)]):
        values = [case.image[channel][where] for case, where in zip(cases, inside, strict=True)]
        low, high, mean, deviation = reference.cohort(values, percents)
        found = fitted.intensity[channel]
        np.testing.assert_allclose(
            (found.low, found.high, found.mean, found.deviation), (low, high, mean, deviation), rtol=1e-5
        )

    def scaled(found):
        return lambda c: (np.clip(c, found.low, found.high) - found.mean) / found.deviation

    assert_prepared(cases[0], fitted, scales=[scaled(found) for found in fitted.intensity])


def test_without_an_ignored_value_all_labels_are_foreground():
    case = a_case(3)
    values = case.image[0][case.labels > 0]
    found = Preparation(intensity=CohortPercentiles((0, 100))).fit([case]).intensity[0]
    assert (found.low, found.high) == (values.min(), values.max())
    np.testing.assert_allclose((found.mean, found.deviation), (values.mean(), values.std()), rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "wanted",
    [(None, 1.0, 1.0), (None, 3.1, 2.0), (None, 0.7, 4.7), (2.0, 2.0, 2.0), (11.0, None, 1.5), (1.1, 9, 0.9)],
)
def test_resampling(shape, wanted):
    preparation = Preparation(slice_axis="axial", spacing_mm=wanted, intensity=None)
    assert_prepared(a_case(2, shape), preparation, wanted=wanted)


def test_resampling_by_hand():
    """Twice as coarse: a triangle of four pixels about the middle of two; twice as fine: quarters."""
    image = np.array([0, 8, 0, 0, 16, 0], np.float32).reshape(1, 1, 1, 6)
    case = Case("7", image, None, np.diag([-1.0, -1.0, 1.0, 1.0]))
    coarse = Preparation(slice_axis="axial", spacing_mm=(None, None, 2.0), intensity=None).apply(case)
    np.testing.assert_allclose(coarse.image.ravel(), [3, 3, 6])  # weights 1, 3, 3, 1 of 8
    fine = Preparation(slice_axis="axial", spacing_mm=(None, None, 0.5), intensity=None).apply(case)
    np.testing.assert_allclose(fine.image.ravel(), [0, 2, 6, 6, 2, 0, 0, 4, 12, 12, 4, 0])
    np.testing.assert_allclose(fine.affine[:3, 3], [0.25, 0, 0])  # x runs to the left


def test_a_spacing_that_the_reader_rounded_is_no_other_spacing():
    case = a_case()
    same = Preparation(slice_axis="axial", spacing_mm=(5.00001, 1.25 - 1e-6, 1.5), intensity=None).apply(
        Case("7", case.image, case.labels, np.diag([-1.5, -1.25, 5.0, 1.0]))
    )
    np.testing.assert_array_equal(same.image, case.image)


@pytest.mark.parametrize("size", [(None, 5, 6), (2, 99, 3), (1, 1, 1)])
@pytest.mark.parametrize("wanted", [(None, None, None), (None, 1.0, 2.0), (3.0, 1.0, 2.0)])
def test_a_box_about_the_centre(size, wanted):
    preparation = Preparation(slice_axis="axial", spacing_mm=wanted, intensity=None, crop=CenterCrop(size))
    crop = lambda lines, *_: reference.center_box(lines, size)  # noqa: E731
    assert_prepared(a_case(4), preparation, wanted=wanted, crop=crop)


@pytest.mark.parametrize("margin", [0.0, 2.0, 7.0])
@pytest.mark.parametrize("wanted", [(None, None, None), (None, 1.0, 2.0), (3.0, 0.9, 2.0)])
def test_a_box_about_the_body(margin, wanted):
    case = a_case(1, (11, 17, 19), channels=2)
    body = np.zeros(case.labels.shape, bool)
    body[3:7, 5:11, 4:13] = True
    image = np.where(body, case.image, 5 + 0.01 * case.image)
    image[1, 2:8, 8:12, 3:15] += 300
    case = Case("7", image, case.labels, case.affine)
    preparation = Preparation(
        slice_axis="coronal", spacing_mm=wanted, intensity=None, crop=BodyCrop(0.2, margin)
    )
    crop = lambda lines, channels, mm: reference.body_box(lines, channels, 0.2, margin, mm)  # noqa: E731
    prepared = assert_prepared(case, preparation, wanted=wanted, crop=crop)
    # On its own grid, the box is less than half of the scan: the crop did something.
    kept = wanted == (None, None, None)
    assert not kept or margin == 7 or prepared.image[0].size < case.image[0].size / 2


def test_a_scan_without_a_body_keeps_all_of_it():
    case = Case("7", np.ones((1, 2, 3, 5)), None, np.diag([-1.0, -1.0, 1.0, 1.0]))
    prepared = Preparation(slice_axis="axial", intensity=None, crop=BodyCrop()).apply(case)
    np.testing.assert_array_equal(prepared.image, case.image)


@pytest.mark.parametrize(
    ("least", "multiple", "as_given"),
    [((1, 16, 3), (1, 8, 4), False), ((9, 1, 1), (4, 3, 7), True), ((1, 1, 1), (1, 32, 32), False)],
)
def test_padding(least, multiple, as_given):
    case = a_case(5, channels=2)
    sizes = {"min_size": least, "multiple": multiple}
    given = sizes if as_given else {name: size[1:] for name, size in sizes.items()}
    preparation = Preparation(slice_axis="sagittal", intensity=ZScore(), **given)
    scales = [lambda c: reference.zscore(c, (0.5, 99.5))] * 2
    assert_prepared(case, preparation, scales=scales, least=least, multiple=multiple)


@pytest.mark.parametrize("seed", range(8))
def test_all_steps_together(seed):
    rng = np.random.default_rng(seed)
    case = a_case(seed, (7, 13, 11), channels=2)
    wanted = tuple(rng.choice([None, 0.9, 1.7, 3.3], 3).tolist())
    size, least, multiple = (tuple(rng.integers(2, 9, 3).tolist()) for _ in range(3))
    body = bool(rng.integers(2))

    def crop(lines, channels, mm):
        return (
            reference.body_box(lines, channels, 0.4, 1.0, mm) if body else reference.center_box(lines, size)
        )

    preparation = Preparation(
        slice_axis=AXES[seed % 3],
        spacing_mm=wanted,
        intensity=(ZScore((1, 99)), Window(50, 200)),
        crop=BodyCrop(0.4, 1.0) if body else CenterCrop(size),
        min_size=least,
        multiple=multiple,
    )
    scales = [lambda c: reference.zscore(c, (1, 99)), lambda c: reference.window(c, 50, 200)]
    assert_prepared(
        case, preparation, wanted=wanted, scales=scales, crop=crop, least=least, multiple=multiple
    )


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_neighbouring_slices_are_channels(reach):
    prepared = Preparation(slice_axis="axial", intensity=None, neighbours=reach).apply(a_case(channels=2))
    depth = prepared.image.shape[1]
    batch = prepared.slices(1, depth)
    assert prepared.neighbours == reach
    for place, z in enumerate(range(1, depth)):
        np.testing.assert_array_equal(batch[place].numpy(), reference.neighbours(prepared.image, z, reach))


def test_channels_that_the_network_sees():
    cases = [a_case(1, channels=2), a_case(2, channels=2)]
    assert Preparation(neighbours=2).fit(cases).in_channels == 10
    with pytest.raises(ValueError, match="must be fitted to know its channels"):
        _ = Preparation().in_channels


def test_the_median_spacing_of_the_cohort():
    spacings = [(5.0, 1.0, 1.0), (7.0, 1.2, 1.25), (6.0, 3.0, 1.5)]
    cases = [case_of(np.random.default_rng(1), (3, 5, 7), np.diag([*s[::-1], 1.0])) for s in spacings]
    fitted = Preparation(spacing_mm="median").fit(cases)
    assert fitted.spacing_mm == pytest.approx((6.0, 1.2, 1.25), rel=1e-6)
    assert fitted.slice_axis == "axial"
    assert fitted.fingerprint.spacings_mm == tuple(
        pytest.approx(row, rel=1e-6) for row in [(5, 1, 1), (6, 1.2, 1.25), (7, 3, 1.5)]
    )
    assert fitted.fingerprint.sizes == ((3, 5, 7),) * 3


def test_a_leaning_scan_has_one_spacing_in_training_and_prediction():
    """Under shear the distance between slices depends on the axis that is the first."""
    rng = np.random.default_rng(1)
    affine = np.diag([-1.5, -1.25, 5.0, 1.0])
    affine[0, 2], affine[1, 2] = 1.0, 0.7
    case = case_of(rng, (7, 11, 13), affine)
    for axis in AXES:
        fitted = Preparation(slice_axis=axis, spacing_mm="median", intensity=None).fit([case])
        prepared = fitted.apply(case)
        assert [line.step for line in prepared.grid.axes] == [1, 1, 1]
        assert fitted.spacing_mm == fitted.fingerprint.spacings_mm[0]


def test_a_blank_channel_names_the_case():
    case = Case("7", np.full((1, 3, 5, 7), 2.0), None, np.eye(4))
    with pytest.raises(ValueError, match="`image of case '7'` must be of more than one value, got 2.0 from"):
        Preparation(slice_axis="axial").apply(case)


def test_a_case_is_not_changed():
    case = a_case(channels=2)
    before = case.image.copy(), case.labels.copy(), case.affine.copy()
    prepared = Preparation(slice_axis="axial", intensity=None).apply(case)
    prepared.image[...] = 0
    prepared.labels[...] = 0
    for array, copy in zip((case.image, case.labels, case.affine), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_case_without_labels_has_none():
    case = a_case()
    assert Preparation(slice_axis="axial").apply(Case("7", case.image, None, case.affine)).labels is None


def test_equal_scores_go_to_the_lowest_class():
    prepared = Preparation(slice_axis="axial", intensity=None).apply(a_case())
    scores = torch.zeros(3, *prepared.image.shape[1:])
    assert not prepared.restore(scores).any()
    scores[1:] = 1
    assert (prepared.restore(scores) == 1).all()


@pytest.mark.parametrize("wanted", [1e-3, 1e-300, 2e4, 1e30])
def test_a_spacing_in_other_units_is_refused_before_memory_is_taken(wanted):
    case = Case("7", np.arange(30.0).reshape(1, 2, 3, 5), None, np.diag([10.0, 10.0, 10.0, 1.0]))
    preparation = Preparation(slice_axis="axial", spacing_mm=(None, None, wanted))
    with pytest.raises(DataError, match=r"factor of 1000 of the wanted .* lengths are in millimetres"):
        preparation.apply(case)


def test_a_volume_that_no_memory_holds_is_refused():
    case = Case("7", np.arange(30.0).reshape(1, 2, 3, 5), None, np.eye(4))
    with pytest.raises(DataError, match=r"`prepared volume of case '7'` must be of at most"):
        Preparation(slice_axis="axial", min_size=(10**6, 10**6)).apply(case)


def test_scores_that_are_no_numbers_are_not_background():
    case = Case("7", np.arange(30.0).reshape(1, 2, 3, 5), None, np.eye(4))
    prepared = Preparation(slice_axis="axial").apply(case)
    scores = torch.zeros(3, 2, 3, 5)
    scores[1, 1, 2, 4] = torch.nan
    with pytest.raises(ValueError, match="`scores` must be numbers, got NaN"):
        prepared.restore(scores)
    for odd in (scores.to("meta"), scores.to_sparse()):
        with pytest.raises(ValueError, match="`scores` must be a dense tensor with values"):
            prepared.restore(odd)
