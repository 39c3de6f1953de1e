"""One cohort in several storage orders is one cohort: the same record, images and labels, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from tests.preparation.geometries import case_of, random_affine, rotation, stored_as

from guided_attention.case import Case, affine_of
from guided_attention.data import make_phantom
from guided_attention.errors import DataError
from guided_attention.preparation import (
    BodyCrop,
    CenterCrop,
    CohortPercentiles,
    Preparation,
    Window,
    ZScore,
)

ORDERS = ("LPS", "RAS", "LIA", "PSR")
OBLIQUE = rotation(7.0, (1, 2, 3))
# Half a turn about the axis from feet to head: the patient lies the other way round in the scanner.
HALF_TURN = np.diag([-1.0, -1.0, 1.0])
PREPARATIONS = {
    "z-score": Preparation(spacing_mm=(None, 4.3, 4.3), min_size=(32, 32), multiple=(16, 16)),
    "cohort": Preparation(spacing_mm="median", intensity=CohortPercentiles(), crop=BodyCrop()),
    "whole": Preparation(
        spacing_mm=(3.0, 5.1, 3.3), intensity=ZScore((2, 97)), crop=CenterCrop((9, None, 40))
    ),
    "window": Preparation(intensity=(Window(100, 500), ZScore()), slice_axis="sagittal", neighbours=1),
}


def cohort(names=("in", "out")):
    cases = [make_phantom(0, subject=subject, size=32, source="t1_dual") for subject in (1, 2, 3)]
    return [replace_names(case, names) for case in cases]


def replace_names(case, names):
    return Case(case.case_id, case.image, case.labels, case.affine, names)


def variants():
    cases = cohort()
    yield "as written", cases
    for order in ORDERS:
        yield order, [stored_as(case, order) for case in cases]
    yield "oblique", [stored_as(case, "RAS", turn=OBLIQUE) for case in cases]
    yield "oblique and permuted", [stored_as(case, "IPL", turn=OBLIQUE.T) for case in cases]
    mixed = zip(cases, ORDERS, strict=False)
    yield "mixed", [stored_as(case, order) for case, order in mixed]


def without_orientations(preparation):
    values = preparation.to_dict()
    values["fingerprint"].pop("orientations")
    return values


@pytest.mark.parametrize("name", PREPARATIONS)
def test_the_storage_order_changes_nothing(name):
    given = PREPARATIONS[name]
    fitted, wanted = None, []
    for order, cases in variants():
        found = given.fit(cases)
        fitted = fitted or found
        assert without_orientations(found) == without_orientations(fitted), order
        prepared = [fitted.apply(case) for case in cases]
        wanted = wanted or prepared
        for got, want in zip(prepared, wanted, strict=True):
            np.testing.assert_array_equal(got.image, want.image, err_msg=order)
            np.testing.assert_array_equal(got.labels, want.labels, err_msg=order)
            assert got.grid.axes == want.grid.axes
        if "oblique" not in order:
            np.testing.assert_allclose(prepared[0].affine, wanted[0].affine, atol=1e-9)


@pytest.mark.parametrize("name", PREPARATIONS)
def test_a_prediction_lies_on_each_scan_as_it_is_stored(name):
    fitted, case = PREPARATIONS[name].fit(cohort()), cohort()[1]
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(4, *fitted.apply(case).image.shape[1:]))
    want = fitted.apply(case).restore(scores)
    for order in (*ORDERS, "AIL"):
        other = stored_as(case, order)
        got = fitted.apply(other).restore(scores)
        assert got.shape == other.labels.shape
        np.testing.assert_array_equal(got, stored_as(replace_labels(case, want), order).labels)


def replace_labels(case, labels):
    return Case(case.case_id, case.image, labels, case.affine, case.channel_names)


def test_sums_do_not_depend_on_the_order_in_memory():
    for seed in range(40):
        channel = np.random.default_rng(seed).normal(size=(1, 131, 127)).astype(np.float32)
        other = channel.transpose(0, 2, 1).copy().transpose(0, 2, 1)
        assert ZScore().scale(other, "") == ZScore().scale(channel, "")


def test_a_patient_who_lies_the_other_way_round_is_seen_the_same_way():
    """The same voxels, but the matrix says that the patient has turned: the picture is turned back."""
    case = cohort()[0]
    fitted = PREPARATIONS["z-score"].fit(cohort())
    turned = stored_as(case, case.orientation, turn=HALF_TURN)
    assert (case.orientation, turned.orientation) == ("LPS", "RAS")
    flipped = Case("7", case.image[..., ::-1, ::-1], case.labels[:, ::-1, ::-1], case.affine, ("in", "out"))
    want, got = fitted.apply(flipped), fitted.apply(turned)
    np.testing.assert_array_equal(got.image, want.image)
    np.testing.assert_array_equal(got.labels, want.labels)
    again = fitted.apply(stored_as(turned, "PSR"))
    np.testing.assert_array_equal(again.image, got.image)
    np.testing.assert_array_equal(again.labels, got.labels)


def test_a_cohort_without_a_thick_axis_is_cut_axially_in_any_order():
    rng = np.random.default_rng(3)
    case = case_of(rng, (5, 7, 11), affine_of((2.0, 2.0, 2.0)))
    for order in ORDERS:
        assert Preparation().fit([stored_as(case, order)]).slice_axis == "axial"
    thick = case_of(rng, (5, 7, 11), affine_of((2.0, 6.0, 2.0)))
    for order in ORDERS:
        assert Preparation().fit([stored_as(thick, order)]).slice_axis == "coronal"


def test_channels_are_found_by_their_names():
    cases = cohort()
    for given in (PREPARATIONS["z-score"], PREPARATIONS["window"]):
        fitted = given.fit(cases)
        case = cases[1]
        swapped = Case("7", case.image[::-1], case.labels, case.affine, ("out", "in"))
        np.testing.assert_array_equal(fitted.apply(swapped).image, fitted.apply(case).image)


@pytest.mark.parametrize("names", [("in", "t2"), ("In", "Out"), ()])
def test_other_channels_are_refused(names):
    fitted = PREPARATIONS["z-score"].fit(cohort())
    with pytest.raises(DataError, match="`channels of case '1'` must be 2, as in the cohort: in, out, got"):
        fitted.apply(replace_names(cohort()[0], names))


def test_names_where_the_cohort_had_none_are_refused():
    fitted = PREPARATIONS["z-score"].fit(cohort(names=()))
    with pytest.raises(DataError, match=r"Name the channels of all cases \(`channel_names`\), in training"):
        fitted.apply(cohort()[0])


@pytest.mark.parametrize("channels", [1, 3])
def test_another_number_of_channels_is_refused(channels):
    fitted = PREPARATIONS["z-score"].fit(cohort(names=()))
    case = cohort(names=())[0]
    other = Case("7", np.repeat(case.image[:1], channels, axis=0), None, case.affine)
    with pytest.raises(
        DataError, match=f"must be 2, as in the cohort, got {channels}. Read the same channels"
    ):
        fitted.apply(other)


def test_a_single_channel_needs_no_name():
    rng = np.random.default_rng(1)
    case = case_of(rng, (3, 5, 7), random_affine(rng, (3.0, 1.0, 1.0)))
    named = replace_names(case, ("T1",))
    for first, second in ((case, named), (named, case)):
        fitted = Preparation().fit([first])
        np.testing.assert_array_equal(fitted.apply(second).image, fitted.apply(first).image)
    with pytest.raises(DataError, match="must be 1, as in the cohort: T1, got T2"):
        Preparation().fit([named]).apply(replace_names(case, ("T2",)))


def test_a_cohort_of_different_channels_is_refused():
    first, second = cohort()[:2]
    with pytest.raises(
        DataError, match="`channels of case '2'` must be as many as those of case '1', 2, got 1"
    ):
        Preparation().fit([first, Case("2", second.image[:1], None, second.affine)])
    with pytest.raises(DataError, match=r"must be \('in', 'out'\) as in case '1', got \('out', 'in'\)"):
        Preparation().fit([first, replace_names(second, ("out", "in"))])


def test_a_record_for_each_channel_fits_their_number():
    for records in ((ZScore(),), (ZScore(),) * 3):
        preparation = replace(PREPARATIONS["z-score"], intensity=records)
        got = "1 record" if len(records) == 1 else "3 records"
        wanted = rf"one record for all channels, or one for each of 2, got {got}\."
        with pytest.raises(ValueError, match=wanted):
            preparation.fit(cohort())
        with pytest.raises(ValueError, match=wanted):
            replace(preparation, slice_axis="axial").apply(cohort()[0])
