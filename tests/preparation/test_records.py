"""Records written and read again, damaged records, and arguments of the wrong kind: our errors only."""

import contextlib
import copy
import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.preparation.geometries import case_of, random_affine

from guided_attention import preparation as package
from guided_attention.case import Case
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError, GuidedAttentionError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import (
    BodyCrop,
    CenterCrop,
    CohortPercentiles,
    Fingerprint,
    Preparation,
    Prepared,
    Window,
    ZScore,
    crop_or_pad,
    normalize,
    resample_in_plane,
    window,
)

pytestmark = pytest.mark.usefixtures("without_shape_checks")
JUNK = (
    None,
    "median",
    "x",
    b"x",
    True,
    -1,
    0,
    2.5,
    math.nan,
    math.inf,
    10**400,
    1 + 2j,
    [],
    (),
    {},
    [None],
    object(),
)
DAMAGE = (None, "x", "3", [], {}, [1], {"a": 1}, math.nan, math.inf, -math.inf, -1, -0.5, 10**400, True)


def a_case(seed=1, channels=2, names=("T1", "T2")):
    rng = np.random.default_rng(seed)
    return case_of(rng, (5, 7, 11), random_affine(rng, (5.0, 1.25, 1.5)), channels=channels, names=names)


def fitted(**settings):
    kinds = {"intensity": (CohortPercentiles(), Window(0, 300)), "crop": BodyCrop(), "spacing_mm": "median"}
    return Preparation(**{**kinds, **settings}).fit([a_case(1), a_case(2)])


percents = st.tuples(st.floats(0, 49), st.floats(50, 100))
lengths = st.floats(0.1, 20)
intensities = st.one_of(
    st.builds(ZScore, percents),
    st.builds(Window, st.floats(-1000, 0), st.floats(1, 3000)),
    st.builds(CohortPercentiles, percents),
    st.builds(
        CohortPercentiles,
        percents,
        st.floats(-1000, 0),
        st.floats(1, 900),
        st.floats(-5, 5),
        st.floats(0.1, 90),
    ),
)
sizes = st.one_of(st.just(()), st.tuples(*[st.integers(1, 512)] * 2), st.tuples(*[st.integers(1, 512)] * 3))
preparations = st.builds(
    Preparation,
    slice_axis=st.sampled_from([None, "axial", "coronal", "sagittal"]),
    spacing_mm=st.one_of(st.none(), st.just("median"), st.tuples(*[st.none() | lengths] * 3)),
    intensity=st.one_of(st.none(), intensities, st.lists(intensities, min_size=1, max_size=3).map(tuple)),
    crop=st.one_of(
        st.none(),
        st.builds(BodyCrop, st.floats(0.01, 0.99), st.floats(0, 50)),
        st.builds(CenterCrop, st.tuples(*[st.none() | st.integers(1, 512)] * 3)),
    ),
    min_size=sizes,
    multiple=sizes,
    neighbours=st.integers(0, 5),
)


@given(preparations)
def test_a_record_is_the_same_after_json(preparation):
    text = json.dumps(preparation.to_dict(), allow_nan=False)
    assert Preparation.from_dict(json.loads(text)) == preparation


@pytest.mark.parametrize("names", [(), ("T1", "T2")])
@pytest.mark.parametrize("intensity", [ZScore(), None, (CohortPercentiles(), Window(0, 300))])
def test_a_fitted_record_is_the_same_after_json_and_prepares_the_same(names, intensity):
    cases = [a_case(seed, names=names) for seed in (1, 2)]
    preparation = Preparation(spacing_mm="median", intensity=intensity, multiple=(4, 4)).fit(cases)
    read = Preparation.from_dict(json.loads(json.dumps(preparation.to_dict(), allow_nan=False)))
    assert read == preparation
    assert read.fingerprint == preparation.fingerprint
    np.testing.assert_array_equal(read.apply(cases[0]).image, preparation.apply(cases[0]).image)
    assert (
        Fingerprint.from_dict(json.loads(json.dumps(read.fingerprint.to_dict()))) == preparation.fingerprint
    )


def test_a_record_is_read_with_the_annotations_checked():
    """As in the tests of others, where JSON's lists stand for tuples."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", False)
    preparation = fitted(min_size=(8, 8))
    assert Preparation.from_dict(json.loads(json.dumps(preparation.to_dict()))) == preparation


def test_a_record_of_one_channel_is_no_record_for_all():
    for intensity in (ZScore(), (ZScore(),)):
        preparation = Preparation(intensity=intensity)
        assert Preparation.from_dict(preparation.to_dict()).intensity == intensity


def test_an_unknown_key_is_refused_with_the_nearest_right_one():
    values = fitted().to_dict()
    with pytest.raises(DataError, match=r"got 'spacing'\. Did you mean 'spacing_mm'\?"):
        Preparation.from_dict({**values, "spacing": None})
    for part, key, near in [
        ("crop", "margin", "margin_mm"),
        ("fingerprint", "channel_name", "channel_names"),
    ]:
        damaged = copy.deepcopy(values)
        damaged[part][key] = 1
        with pytest.raises(DataError, match=rf"got '{key}'\. Did you mean '{near}'\?"):
            Preparation.from_dict(damaged)
    damaged = copy.deepcopy(values)
    damaged["intensity"][1]["hihg"] = 1
    with pytest.raises(DataError, match=r"got 'hihg'\. Did you mean 'high'\?"):
        Preparation.from_dict(damaged)


def test_a_missing_key_is_named():
    for path, key in paths(fitted().to_dict(), whole=True):
        damaged = fitted().to_dict()
        parent = at(damaged, path)
        if isinstance(parent, dict) and path != ("fingerprint", "orientations"):
            parent.pop(key)
            with pytest.raises(DataError, match=f"'?{key}'?"):
                Preparation.from_dict(damaged)


@pytest.mark.parametrize("version", [2, 99, 0, None, "1", 1.5])
def test_another_version_is_refused(version):
    cure = "Update guided-attention." if version in {2, 99} else ""
    with pytest.raises(DataError, match=f"`preparation.version` must be 1, got {version}. ?{cure}$"):
        Preparation.from_dict({**fitted().to_dict(), "version": version})


def paths(values, path=(), *, whole=False):
    """Give the place of every leaf, and of every mapping and list too where `whole`."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        if whole or not isinstance(value, dict | list):
            yield path, key
        if isinstance(value, dict | list):
            yield from paths(value, (*path, key), whole=whole)


def at(values, path):
    for key in path:
        values = values[key]
    return values


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize(
    "settings", [{}, {"crop": CenterCrop((None, 5, 6)), "intensity": ZScore(), "multiple": (4, 4)}]
)
def test_a_damaged_record_is_read_in_another_sense_or_refused(damage, settings):
    """Whatever stands in place of a value or of a part: our error, or a record that can be written and used."""
    whole, case = fitted(**settings).to_dict(), a_case()
    for path, key in paths(whole, whole=True):
        damaged = copy.deepcopy(whole)
        at(damaged, path)[key] = damage
        try:
            read = Preparation.from_dict(damaged)
        except GuidedAttentionError as error:
            assert str(error).startswith("`")  # noqa: PT017
            continue
        assert Preparation.from_dict(read.to_dict()) == read
        quietly_applied(read, case)


def quietly_applied(preparation, case):
    with warnings.catch_warnings(), contextlib.suppress(GuidedAttentionError):
        warnings.simplefilter("ignore")
        preparation.apply(case)


@pytest.mark.parametrize("values", [None, "x", [], 3, [("version", 1)]])
def test_what_is_no_mapping_is_refused(values):
    with pytest.raises(ArgumentTypeError, match="`preparation` must be a mapping"):
        Preparation.from_dict(values)
    with pytest.raises(ArgumentTypeError, match="`fingerprint` must be a mapping"):
        Fingerprint.from_dict(values)


def attempts(make, names, good):
    """Call with each of the junk values in place of each argument."""
    for name in names:
        for junk in (*JUNK, np.ones(3), torch.ones(3), np.array(2)):
            try:
                make(**{**good, name: junk})
            except GuidedAttentionError as error:
                assert "must be" in str(error)  # noqa: PT017


RECORDS = {
    ZScore: {"percentiles": (1, 99)},
    Window: {"low": 1, "high": 2},
    CohortPercentiles: {"percentiles": (1, 99), "low": 1, "high": 2, "mean": 1, "deviation": 1},
    CenterCrop: {"size": (None, 3, 3)},
    BodyCrop: {"threshold": 0.1, "margin_mm": 3},
    Preparation: dict.fromkeys(("slice_axis", "spacing_mm", "intensity", "crop", "fingerprint"))
    | {"min_size": (), "multiple": (), "neighbours": 0},
}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_records_of_the_wrong_kind(record):
    attempts(record, RECORDS[record], RECORDS[record])


def test_a_fingerprint_of_the_wrong_kind():
    found = fitted().fingerprint
    good = {name: getattr(found, name) for name in Fingerprint.__dataclass_fields__}
    attempts(Fingerprint, good, good)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda: ZScore((99, 1)), "`percentiles` must be two percentiles, ascending from 0 to 100"),
        (lambda: ZScore((0, 101)), "`percentiles` must be two percentiles, ascending from 0 to 100"),
        (lambda: Window(5, 3), "`low` must be below `high`, 3.0, got 5.0"),
        (lambda: Window(0, math.inf), "`high` must be a finite number of single precision, got inf"),
        (lambda: CohortPercentiles(low=1.0), "`low` must be given with high, mean and deviation, or none"),
        (lambda: CohortPercentiles((1, 99), 1, 2, 1, 0), "`deviation` must be above 0, got 0"),
        (lambda: CenterCrop((3, 3)), r"`size` must be three sizes, \(depth, height, width\)"),
        (lambda: CenterCrop((0, 3, 3)), "`size` must be 1 or above, got 0"),
        (lambda: BodyCrop(1.0), "`threshold` must be between 0 and 1, got 1.0"),
        (lambda: BodyCrop(margin_mm=-1), "`margin_mm` must be 0 or above, got -1"),
        (
            lambda: Preparation(slice_axis="oblique"),
            "`slice_axis` must be one of 'axial', 'coronal', 'sagittal'",
        ),
        (
            lambda: Preparation(spacing_mm=(1, 2)),
            r"`spacing_mm` must be \(depth, height, width\) in millimetres",
        ),
        (lambda: Preparation(spacing_mm=(None, 0, 1)), "`spacing_mm` must be above 0"),
        (
            lambda: Preparation(spacing_mm="mean"),
            "`spacing_mm` must be lengths, \"median\" or None, got 'mean'",
        ),
        (
            lambda: Preparation(min_size=(3,)),
            r"`min_size` must be \(height, width\), \(depth, height, width\)",
        ),
        (lambda: Preparation(multiple=(0, 3)), "`multiple` must be 1 or above, got 0"),
        (lambda: Preparation(neighbours=-1), "`neighbours` must be 0 or above, got -1"),
        (lambda: Preparation(intensity=()), "`intensity` must be a ZScore, Window or CohortPercentiles"),
    ],
)
def test_numbers_out_of_range(record, message):
    with pytest.raises(ArgumentError, match=message):
        record()


@pytest.mark.parametrize("name", ["neighbours", "min_size", "spacing_mm"])
def test_true_is_no_number(name):
    wrong = True if name == "neighbours" else (True,) * 3
    with pytest.raises(ArgumentTypeError, match=f"`{name}` must be a (whole )?number, got a bool"):
        Preparation(**{name: wrong})


def test_numpy_numbers_become_plain_ones():
    given = Preparation(
        spacing_mm=[None, np.float32(1.5), np.int64(2)],
        intensity=[Window(np.float32(0), np.int16(5))],
        crop=CenterCrop([None, np.int64(3), 4]),
        min_size=[np.int64(8), 8],
        neighbours=np.int8(1),
    )
    assert json.dumps(given.to_dict())
    assert given.spacing_mm == (None, 1.5, 2.0)
    assert Preparation.from_dict(given.to_dict()) == given


@pytest.mark.parametrize(
    "junk", [*JUNK, np.ones((1, 3, 5, 7)), torch.ones(3)], ids=lambda value: repr(value)[:12]
)
def test_entry_points_with_the_wrong_things(junk):
    preparation, case = fitted(), a_case()
    prepared = preparation.apply(case)
    calls = [
        lambda: preparation.apply(junk),
        lambda: preparation.fit(junk),
        lambda: preparation.fit([case, junk]),
        lambda: preparation.fit([case], junk),
        lambda: prepared.slices(junk, 2),
        lambda: prepared.slices(0, junk),
        lambda: prepared.restore(junk),
        lambda: list(prepared.restored(junk)),
        lambda: list(prepared.restored([junk])),
        lambda: normalize(junk),
        lambda: normalize(case, percentiles=junk),
        lambda: window(junk, 0, 1),
        lambda: window(case, junk, 1),
        lambda: window(case, 0, junk),
        lambda: crop_or_pad(junk, (3, 3)),
        lambda: crop_or_pad(case, junk),
        lambda: crop_or_pad(case, (3, junk)),
        lambda: resample_in_plane(junk, 1.0),
        lambda: resample_in_plane(case, junk),
        lambda: resample_in_plane(case, (1.0, junk)),
    ]
    raised = 0
    for call in calls:
        try:
            call()
        except GuidedAttentionError as error:
            raised += 1
            assert "must be" in str(error)  # noqa: PT017
    assert raised > 10


def test_scores_that_do_not_fit():
    prepared = Preparation(slice_axis="axial").apply(a_case())
    shape = prepared.image.shape[1:]
    for scores, message in [
        (torch.zeros(3, *shape).long(), "`scores` must be of floating-point numbers, got torch.int64"),
        (np.zeros((3, *shape), bool), "`scores` must be of floating-point numbers, got bool"),
        (np.full((3, *shape), "a"), "`scores` must be of floating-point numbers, got <U1"),
        (torch.zeros(1, *shape), "`scores` must be of at least 2 classes, got 1"),
        (torch.zeros(3, *shape[1:]), r"`scores` must be of shape \(classes, 7, 11, 5\)|\(classes, "),
        (torch.zeros(3, *shape[:2], 99), r"`scores` must be of shape \(classes, "),
    ]:
        with pytest.raises(ArgumentError, match=message):
            prepared.restore(scores)
    depth, height, width = shape
    for blocks, message in [
        ([torch.zeros(3, depth - 1, height, width)], f"of {depth} slices together, got {depth - 1}"),
        ([torch.zeros(3, depth, height, width)] * 2, f"of {depth} slices together, got {2 * depth} or more"),
        ([torch.zeros(3, 1, height, width), torch.zeros(2, 1, height, width)], r"of shape \(3, slices, "),
        ([torch.zeros(3, depth, height + 1, width)], r"of shape \(3, slices, "),
        ([torch.zeros(3, depth, height, width).long()], "of floating-point numbers, got torch.int64"),
        ([], f"of {depth} slices together, got 0"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            list(prepared.restored(blocks))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scores_of_any_precision(kind):
    prepared = Preparation(slice_axis="axial", spacing_mm=(4.0, 1.0, 1.0)).apply(a_case())
    scores = torch.randint(0, 9, (3, *prepared.image.shape[1:])).to(kind).requires_grad_()
    want = prepared.restore(scores.detach().float())
    np.testing.assert_array_equal(prepared.restore(scores), want)
    array = scores.detach().float().numpy()
    for kind_of_array in (">f4", "f2", "f8", np.longdouble):
        np.testing.assert_array_equal(prepared.restore(array.astype(kind_of_array)), want)


def test_slices_outside_the_volume():
    prepared = Preparation(slice_axis="axial").apply(a_case())
    depth = prepared.image.shape[1]
    for start, stop in [(-1, 2), (0, depth + 1), (2, 2), (3, 1)]:
        with pytest.raises(ArgumentError, match="`start` must be"):
            prepared.slices(start, stop)


def test_what_only_a_fit_can_fill_in():
    case = a_case()
    for unfitted in (Preparation(), Preparation(slice_axis="axial", spacing_mm="median")):
        with pytest.raises(ArgumentError, match=r"must be known\. Call `Preparation\.fit` first"):
            unfitted.apply(case)
    open_ = Preparation(slice_axis="axial", intensity=CohortPercentiles())
    with pytest.raises(
        ArgumentError, match=r"`intensity` must be fitted, got CohortPercentiles without numbers"
    ):
        open_.apply(case)


def test_cohorts_that_cannot_be_fitted():
    case = a_case()
    unlabelled = Case("7", case.image, None, case.affine, case.channel_names)
    empty = Case("8", case.image, np.zeros_like(case.labels), case.affine, case.channel_names)
    cohort = Preparation(intensity=CohortPercentiles())
    with pytest.raises(DataError, match="`cases` must be at least one case, got none"):
        Preparation().fit([])
    with pytest.raises(
        DataError, match=r"`labels` of case '7' must be given to fit CohortPercentiles, got None"
    ):
        cohort.fit([unlabelled])
    with pytest.raises(DataError, match="`labels of cases` must be of at least one organ, got none"):
        cohort.fit([empty])
    only = LabelSpec({9: "a"}, ignore_value=2)
    ignored = Case("9", case.image, np.full_like(case.labels, 2), case.affine, case.channel_names)
    with pytest.raises(DataError, match="`labels of cases` must be of at least one organ, got none"):
        cohort.fit([ignored], only)
    flat = Case("1", np.ones_like(case.image), case.labels, case.affine, case.channel_names)
    with pytest.raises(DataError, match="must be of more than one value"):
        cohort.fit([flat])


def test_a_case_without_organs_gives_no_intensities_to_the_cohort():
    case = a_case()
    empty = Case("8", case.image * 3 + 50, np.zeros_like(case.labels), case.affine, case.channel_names)
    cohort = Preparation(intensity=CohortPercentiles())
    assert cohort.fit([empty, case]).intensity == cohort.fit([case]).intensity
    assert cohort.fit([empty, case]).fingerprint.cases == 2


def test_a_fit_can_be_repeated_on_another_cohort():
    first = fitted()
    again = replace(first, slice_axis=None, spacing_mm="median").fit([a_case(3)])
    assert again.fingerprint.cases == 1
    assert again.intensity != first.intensity
    assert again == replace(Preparation(intensity=first.intensity, crop=first.crop), spacing_mm="median").fit(
        [a_case(3)]
    )


def test_another_slice_axis_turns_the_fingerprint_and_back():
    first = fitted(slice_axis="axial")
    depth, height, width = zip(*first.fingerprint.spacings_mm, strict=True)
    assert len({depth, height, width}) == 3
    other = replace(first, slice_axis="coronal")
    assert other.fingerprint == fitted(slice_axis="coronal").fingerprint
    assert tuple(zip(*other.fingerprint.spacings_mm, strict=True)) == (height, depth, width)
    for again in (other, copy.deepcopy(other), replace(other, slice_axis=None)):
        assert replace(again, slice_axis="axial") == first
    assert first == fitted(slice_axis="axial")  # as it was
    read = Preparation.from_dict(first.to_dict())
    assert replace(read, slice_axis="coronal") == other
    assert (
        replace(first, fingerprint=replace(first.fingerprint, cases=7)).fingerprint.sizes
        == first.fingerprint.sizes
    )


def test_the_names_of_the_package():
    assert {Preparation, Prepared, Fingerprint} <= {getattr(package, name) for name in package.__all__}
