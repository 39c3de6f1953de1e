"""Scans unlike those of the cohort are noticed, and others of their kind are not."""

import json
import warnings
from functools import cache

import numpy as np
import pytest
from tests.real_data import real_data

from guided_attention.case import Case
from guided_attention.data import make_phantom, read_nifti_case
from guided_attention.errors import IntensityWarning, SpacingWarning
from guided_attention.preparation import CohortPercentiles, Preparation, Quantiles, Window, ZScore

WINDOW = Window(-160, 240)


def ct(seed):
    """Return a body in air, with fat, organs and bone, in Hounsfield units."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[-1:1:12j, -1.2:1.2:48j, -1.1:1.1:52j]
    radius = np.sqrt(y**2 + x**2) * rng.uniform(0.95, 1.05) + 0 * z
    image = np.full(radius.shape, -1000.0)
    image[radius < 0.95] = -100
    labels = (radius < 0.8).astype(np.uint8)
    image[radius < 0.8] = rng.uniform(40, 70)
    bone = (abs(x) < 0.15) & (y > 0.4) & (y < 0.7) & (radius < 0.8)
    image[bone] = rng.uniform(300, 1200, bone.sum())
    image += rng.normal(0, 15, image.shape)
    return Case(str(seed), image[None], labels, np.diag([-0.8, -0.8, 3.0, 1.0]))


def changed(case, image):
    return Case(case.case_id, image, case.labels, case.affine)


def windowed(case, low, high):
    return changed(case, (case.image.clip(low, high) - low) / (high - low))


def windowed_to_percentiles(case, low, high):
    return windowed(case, *np.percentile(case.image, (low, high)))


def standardized(case):
    return changed(case, (case.image - case.image.mean()) / case.image.std())


def squeezed(case, column):
    affine = case.affine.copy()
    affine[:3, column] /= 3
    return Case(case.case_id, case.image, case.labels, affine)


def assert_no_warning(preparation, cases):
    for case in cases:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            preparation.apply(case)


@pytest.mark.parametrize("intensity", [WINDOW, CohortPercentiles()])
def test_a_ct_that_was_windowed_or_standardized_before(intensity):
    fitted = Preparation(intensity=intensity).fit([ct(seed) for seed in range(5)])
    assert_no_warning(fitted, [ct(seed) for seed in range(5, 15)])
    for seed in range(5, 15):
        for wrong in (windowed(ct(seed), -160, 240), standardized(ct(seed))):
            with pytest.warns(
                IntensityWarning, match=rf"Case '{seed}', channel 0: the intensities are unlike"
            ):
                fitted.apply(wrong)


def test_a_ct_that_was_windowed_before_is_noticed_by_a_z_score():
    fitted = Preparation(intensity=ZScore()).fit([ct(seed) for seed in range(5)])
    assert_no_warning(fitted, [ct(seed) for seed in range(5, 15)])
    with pytest.warns(IntensityWarning):
        fitted.apply(windowed(ct(6), -160, 240))
    # A change of scale is no harm: the z-score takes it out.
    assert_no_warning(fitted, [standardized(ct(6)), changed(ct(6), ct(6).image * 37 + 100)])
    np.testing.assert_allclose(fitted.apply(standardized(ct(6))).image, fitted.apply(ct(6)).image, atol=1e-4)


def test_clipping_by_the_preparation_itself_is_no_window_before():
    fitted = Preparation(intensity=Window(-160, 240)).fit([ct(seed) for seed in range(5)])
    assert_no_warning(fitted, [changed(ct(7), ct(7).image.clip(-1000, 300))])


@cache
def phantoms(source):
    return [make_phantom(0, subject=subject, size=48, source=source) for subject in range(1, 21)]


@pytest.mark.parametrize("intensity", [ZScore(), CohortPercentiles(), Window(0, 400)])
@pytest.mark.parametrize("source", ["t1_in", "t2"])
def test_phantoms(intensity, source):
    cases = phantoms(source)
    fitted = Preparation(intensity=intensity).fit(cases[:5])
    assert_no_warning(fitted, cases[5:])
    for case in cases[5:11]:
        for low, high in [(5, 95), (0, 90), (20, 80)]:
            with pytest.warns(IntensityWarning, match="must not be normalized or windowed before"):
                fitted.apply(windowed_to_percentiles(case, low, high))
        for column in range(3):
            with pytest.warns(SpacingWarning, match=f"Case '{case.case_id}': the spacing of"):
                fitted.apply(squeezed(case, column))


@cache
def left_atria(folder):
    """Read the cases for training, and those for validation and test."""
    train, others = [], []
    for one in json.loads((folder / "cases.json").read_text()):
        names = (folder / f"case{one['case']:02d}_{part}.nii.gz" for part in ("image", "label"))
        (train if one["split"] == "train" else others).append(read_nifti_case(*names))
    return train, others


@pytest.mark.parametrize("intensity", [ZScore(), CohortPercentiles()])
def test_left_atria(intensity):
    train, others = left_atria(real_data("left-atrium-mr"))
    assert (len(train), len(others)) == (20, 10)
    fitted = Preparation(intensity=intensity).fit(train)
    assert_no_warning(fitted, others)
    for case in others[:4]:
        with pytest.warns(IntensityWarning):
            fitted.apply(windowed_to_percentiles(case, 5, 95))
        with pytest.warns(SpacingWarning):
            fitted.apply(squeezed(case, 1))


def test_the_limit_of_the_spacing_is_one_and_a_half():
    fitted = Preparation(slice_axis="axial").fit([ct(1)])

    def at(factor):
        return Case("9", ct(2).image, None, np.diag([-0.8 * factor, -0.8, 3.0, 1.0]))

    assert_no_warning(fitted, [at(1.49), at(1 / 1.49)])
    for factor in (1.51, 1 / 1.51):
        with pytest.warns(SpacingWarning, match=r"\(depth, height, width\) is far from that of the 1 scan "):
            fitted.apply(at(factor))


def test_the_warning_points_at_the_call():
    fitted = Preparation(slice_axis="axial").fit([ct(1)])
    with pytest.warns(SpacingWarning) as caught:
        fitted.apply(squeezed(ct(2), 0))
    assert {"test_warnings.py"} == {one.filename.rpartition("/")[2] for one in caught} or any(
        "jaxtyping" in one.filename for one in caught
    )


def test_the_fingerprint_by_hand():
    image = np.arange(1001, dtype=np.float32).reshape(1, 7, 11, 13)
    cases = [
        Case("1", image, None, np.diag([-1.0, -1.0, 5.0, 1.0]), ("T1",)),
        Case("2", image * 3, None, np.diag([2.0, -1.0, 7.0, 1.0]), ("T1",)),
    ]
    found = Preparation(intensity=Window(0, 1500)).fit(cases).fingerprint
    assert (found.cases, found.channels, found.channel_names) == (2, 1, ("T1",))
    assert found.orientations == {"LPS": 1, "RPS": 1}
    assert found.sizes == ((7, 11, 13),) * 3
    assert found.spacings_mm == ((5, 1, 1), (6, 1, 1.5), (7, 1, 2))
    assert found.intensities == ((Quantiles(5, 500, 990, 995), Quantiles(15, 1500, 2970, 2985)),)
    wanted = np.array([[5, 500, 990, 995], [15, 1500, 1500, 1500]]) / 1500
    np.testing.assert_allclose(np.array(found.prepared_intensities)[0], wanted, rtol=1e-6)
    # The window cuts the second scan off; in the files, 5 of 495 lie above the 99th percentile.
    np.testing.assert_allclose(found.tails, [(5 / 495, 0)], rtol=1e-5)
