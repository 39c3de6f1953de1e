import math
import tracemalloc

import numpy as np
import pytest

from guided_attention.evaluation import CaseScore, evaluate_case
from guided_attention.labels import LabelSpec
from guided_attention.metrics import (
    DistanceDefinition,
    SurfaceDistances,
    dice,
    jaccard,
    precision,
    relative_volume_difference,
    sensitivity,
    surface_distances,
    volume_similarity,
)

LABELS = LabelSpec({1: "liver", 2: "right kidney", 5: "spleen"})
SPACING_MM = (7.7, 1.5, 1.3)
SHAPE = (5, 7, 11)


def volumes(seed=0):
    rng = np.random.default_rng(seed)
    return rng.choice([0, 1, 2, 5], SHAPE).astype(np.uint8), rng.choice([0, 1, 2, 5], SHAPE).astype(np.int16)


def evaluate(prediction, reference, **settings):
    return evaluate_case(prediction, reference, labels=LABELS, spacing_mm=SPACING_MM, case_id="7", **settings)


def test_each_row_is_what_the_metrics_say_of_that_organ():
    prediction, reference = volumes()
    rows = evaluate(prediction, reference)
    assert [row.organ for row in rows] == list(LABELS.names.values())
    for label, row in zip(LABELS.values, rows, strict=True):
        masks = prediction == label, reference == label
        assert (row.case_id, row.status) == ("7", "scored")
        assert row.dice == dice(*masks)
        assert row.volume_similarity == volume_similarity(*masks)
        assert row.assd_mm == surface_distances(*masks, SPACING_MM).assd_mm()
        voxel_ml = 7.7 * 1.5 * 1.3 / 1000
        assert row.prediction_ml == pytest.approx(masks[0].sum() * voxel_ml, rel=1e-12)
        assert row.reference_ml == pytest.approx(masks[1].sum() * voxel_ml, rel=1e-12)


def test_the_rows_follow_the_names_and_not_the_values():
    prediction, reference = volumes()
    renamed = [np.choose(volume, [0, 5, 1, 0, 0, 2]) for volume in (prediction, reference)]
    labels = LabelSpec({5: "liver", 1: "right kidney", 2: "spleen"})
    kidney, spleen, liver = evaluate_case(*renamed, labels=labels, spacing_mm=SPACING_MM, case_id="7")
    assert [liver, kidney, spleen] == evaluate(prediction, reference)


def test_organs_that_are_in_one_volume_or_none_say_so():
    prediction, reference = np.zeros((2, *SHAPE), dtype=np.uint8)
    reference[1, 2, 3] = 1
    prediction[1, 2, 3] = 2
    liver, kidney, spleen = evaluate(prediction, reference)
    assert (liver.status, liver.dice, liver.volume_similarity, liver.assd_mm) == (
        "missed",
        0.0,
        0.0,
        math.inf,
    )
    assert (kidney.status, kidney.dice, kidney.volume_similarity, kidney.assd_mm) == (
        "false alarm",
        0.0,
        0.0,
        math.inf,
    )
    assert spleen.status == "absent in both"
    assert all(math.isnan(value) for value in (spleen.dice, spleen.volume_similarity, spleen.assd_mm))
    assert (spleen.prediction_ml, spleen.reference_ml) == (0.0, 0.0)


def test_without_distances_only_the_distance_is_missing():
    prediction, reference = volumes()
    for fast, slow in zip(
        evaluate(prediction, reference, definition=None), evaluate(prediction, reference), strict=True
    ):
        assert math.isnan(fast.assd_mm)
        assert (fast.dice, fast.volume_similarity, fast.status) == (
            slow.dice,
            slow.volume_similarity,
            slow.status,
        )


def test_values_without_a_name_are_refused():
    prediction, reference = volumes()
    stranger = reference.copy()
    stranger[0, 0, :2] = 3, 63
    message = (
        r"`reference of case '7'` must be made of 0 and the values of "
        r"\{1: 'liver', 2: 'right kidney', 5: 'spleen'\}, got also 3, 63\. Name these"
    )
    with pytest.raises(ValueError, match=message):
        evaluate(prediction, stranger)
    with pytest.raises(ValueError, match=r"`prediction of case '7'` must be made of 0 .* got also -1\."):
        evaluate(np.full(SHAPE, -1), reference)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_mapping_in_place_of_a_label_spec_is_refused():
    volume = np.zeros(SHAPE, dtype=np.uint8)
    with pytest.raises(TypeError, match=r"`labels` must be a LabelSpec, got a dict\. Write LabelSpec\("):
        evaluate_case(volume, volume, labels={1: "liver"}, spacing_mm=SPACING_MM, case_id="7")


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance_mm": -1.0}, r"`tolerance_mm` must be 0 or more and finite, got -1\.0"),
        ({"tolerance_mm": math.inf}, r"`tolerance_mm` must be 0 or more and finite, got inf"),
        ({"tolerance_mm": math.nan}, r"`tolerance_mm` must be 0 or more and finite, got nan"),
        ({"surface": "skin"}, r"`surface` must be one of 'voxel', 'surfel', 'mesh', got 'skin'"),
        ({"combine": "mean"}, r"`combine` must be one of 'max', 'pooled', got 'mean'"),
        ({"one_empty": "0"}, r"`one_empty` must be one of 'inf', 'diagonal', got '0'"),
    ],
)
def test_definitions_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DistanceDefinition(**settings)


@pytest.mark.usefixtures("without_shape_checks")
def test_volumes_that_do_not_fit_are_refused():
    volume = np.zeros(SHAPE, dtype=np.uint8)
    with pytest.raises(
        ValueError, match=r"`prediction` must be of the shape of `reference`, \(5, 7, 11\), got"
    ):
        evaluate(volume[:1], volume)
    with pytest.raises(
        ValueError, match=r"`prediction of case '7'` must be a volume of integers, .* float32"
    ):
        evaluate(volume.astype(np.float32), volume)
    with pytest.raises(ValueError, match=r"`spacing_mm` must be above 0 and finite, got"):
        evaluate_case(
            volume, volume, labels=LABELS, spacing_mm=(7.7, -1.5, 1.3), case_id="7", definition=None
        )


@pytest.mark.parametrize("shape", [(5, 7, 11), (13, 17)])
def test_the_crop_to_the_box_changes_no_number(shape):
    rng = np.random.default_rng(3)
    prediction, reference = np.zeros((2, *shape), dtype=np.int16)
    inner = tuple(slice(1, size - 2) for size in shape)
    for volume in (prediction, reference):
        volume[inner] = rng.choice([0, 0, 0, *LABELS.values], volume[inner].shape)
    spacing_mm = SPACING_MM[-len(shape) :]
    rows = evaluate_case(prediction, reference, labels=LABELS, spacing_mm=spacing_mm, case_id="7")
    assert {row.status for row in rows} == {"scored"}
    for label, row in zip(LABELS.values, rows, strict=True):
        found, true = prediction == label, reference == label
        distances = surface_distances(found, true, spacing_mm)
        shared, either = (found & true).sum(), (found | true).sum()
        assert row.dice == dice(found, true)
        assert row.jaccard == shared / either
        assert (row.sensitivity, row.precision) == (shared / true.sum(), shared / found.sum())
        assert row.ravd_percent == 100 * abs(int(found.sum()) - int(true.sum())) / true.sum()
        assert (row.assd_mm, row.masd_mm) == (distances.assd_mm(), distances.masd_mm())
        assert (row.hausdorff95_mm, row.hausdorff_mm) == (
            distances.hausdorff_mm(95.0),
            distances.hausdorff_mm(),
        )
        assert math.isnan(row.surface_dice)


def test_a_row_names_how_its_distances_were_measured():
    prediction, reference = np.zeros((2, 13, 17), dtype=np.uint8)
    prediction[3:7, 3:7], prediction[3, 16], reference[2:12, 2:10] = 1, 1, 1  # one stray pixel
    settings = {"labels": LABELS, "spacing_mm": (1.5, 1.3), "case_id": "7"}
    by_pooling = DistanceDefinition(combine="pooled")
    pooled = evaluate_case(prediction, reference, definition=by_pooling, **settings)[0]
    by_max = evaluate_case(prediction, reference, **settings)[0]
    assert by_max.definition == DistanceDefinition("voxel", "max", None, "inf")
    assert pooled.definition is by_pooling
    distances = surface_distances(prediction == 1, reference == 1, (1.5, 1.3))
    assert pooled.hausdorff95_mm == distances.hausdorff_mm(95.0, combine="pooled") != by_max.hausdorff95_mm


def test_the_table_of_empties_holds_for_every_number():
    prediction, reference = np.zeros((2, *SHAPE), dtype=np.uint8)
    reference[1, 2, 3] = 1
    prediction[1, 2, 3] = 2
    missed, false_alarm, absent = evaluate(prediction, reference)
    for row in (missed, false_alarm):
        assert (row.dice, row.volume_similarity, row.jaccard, row.sensitivity, row.precision) == (0.0,) * 5
        assert (row.assd_mm, row.masd_mm, row.hausdorff95_mm, row.hausdorff_mm) == (math.inf,) * 4
    assert (missed.ravd_percent, false_alarm.ravd_percent) == (100.0, math.inf)
    numbers = "dice volume_similarity jaccard sensitivity precision ravd_percent "
    numbers += "assd_mm masd_mm hausdorff95_mm hausdorff_mm surface_dice"
    assert all(math.isnan(getattr(absent, name)) for name in numbers.split())


def test_a_missed_organ_can_be_as_far_as_the_image_is_long():
    prediction, reference = np.zeros((2, *SHAPE), dtype=np.uint8)
    reference[1, 2, 3] = 1
    missed, _, absent = evaluate(prediction, reference, definition=DistanceDefinition(one_empty="diagonal"))
    diagonal_mm = math.sqrt((5 * 7.7) ** 2 + (7 * 1.5) ** 2 + (11 * 1.3) ** 2)
    assert missed.assd_mm == pytest.approx(diagonal_mm, rel=1e-12)
    assert missed.assd_mm == missed.masd_mm == missed.hausdorff95_mm == missed.hausdorff_mm
    assert (missed.status, missed.dice, missed.definition.one_empty) == ("missed", 0.0, "diagonal")
    assert math.isnan(absent.hausdorff_mm)


def test_values_far_from_0_are_scored_as_any_others():
    plain, plain_reference = volumes()
    wanted = evaluate(plain, plain_reference)
    labels = LabelSpec({7: "liver", 4097: "right kidney", 65535: "spleen"})
    table = np.array([0, 7, 4097, 0, 0, 65535])
    far, far_reference = table[plain], table[plain_reference]
    tracemalloc.start()
    rows = evaluate_case(far, far_reference, labels=labels, spacing_mm=SPACING_MM, case_id="7")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == wanted
    assert peak_bytes < 2**20
    for stranger in (-3, 2**40, -(2**63)):
        far[0, 0, 0] = stranger
        with pytest.raises(ValueError, match=rf"got also {stranger}\."):
            evaluate_case(far, far_reference, labels=labels, spacing_mm=SPACING_MM, case_id="7")


def test_no_organ_costs_memory_of_the_size_of_the_image():
    prediction = np.zeros((37, 101, 103), dtype=np.uint8)
    for label in range(1, 18):
        prediction[label : label + 2, 5:8, 5:8] = label
    labels = LabelSpec({label: f"organ {label}" for label in range(1, 19)})
    tracemalloc.start()
    evaluate_case(prediction, prediction, labels=labels, spacing_mm=SPACING_MM, case_id="7")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < prediction.nbytes / 2


def test_long_lists_of_unknown_values_are_cut():
    volume = np.arange(100).reshape(4, 25)
    with pytest.raises(ValueError, match=r"got also 3, 4, 6, 7, 8, 9 and 90 more\. Name these"):
        evaluate_case(volume, volume, labels=LABELS, spacing_mm=(1.5, 1.3), case_id="7")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spacing_mm": (1.0, 2.0)}, r"`spacing_mm` must be 3 lengths, .* got \(1\.0, 2\.0\)"),
        ({"spacing_mm": (1.0, 2.0, math.inf)}, r"`spacing_mm` must be above 0 and finite, got"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_settings_that_make_no_sense_are_refused(settings, message):
    prediction, reference = volumes()
    given = {"labels": LABELS, "spacing_mm": SPACING_MM, "case_id": "7", **settings}
    with pytest.raises(ValueError, match=message):
        evaluate_case(prediction, reference, **given)


def test_rows_with_the_same_numbers_are_equal_nan_included():
    one, other = (CaseScore("7", "liver", "scored", float("nan"), 1.0, 1.0, 1.0, 1.0) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != CaseScore("7", "liver", "scored", 0.5, 1.0, 1.0, 1.0, 1.0)
    assert one != "7"


def test_the_surface_dice_is_measured_only_where_a_tolerance_is_given(monkeypatch):
    def within(distances):
        return float((distances.prediction_to_reference_mm <= distances.definition.tolerance_mm).mean())

    monkeypatch.setattr(SurfaceDistances, "surface_dice", within)
    prediction, reference = volumes()
    prediction[prediction == 5] = 0
    liver, _, missed = evaluate(prediction, reference, definition=DistanceDefinition(tolerance_mm=1.4))
    definition = DistanceDefinition(tolerance_mm=1.4)
    wanted = within(surface_distances(prediction == 1, reference == 1, SPACING_MM, definition))
    assert (liver.surface_dice, liver.definition.tolerance_mm) == (wanted, 1.4)
    assert 0.0 < wanted < 1.0
    assert (missed.status, missed.surface_dice) == ("missed", 0.0)
    without = evaluate(prediction, reference)
    assert all(math.isnan(row.surface_dice) and row.definition.tolerance_mm is None for row in without)


def test_surface_and_workers_reach_the_measurement(monkeypatch):
    asked = []

    def recorded(*masks, workers=1):
        asked.append((masks[-1].surface, workers))
        return surface_distances(*masks)

    monkeypatch.setattr("guided_attention.evaluation.scores.surface_distances", recorded)
    prediction, reference = volumes()
    rows = evaluate(prediction, reference, definition=DistanceDefinition("surfel"), workers=2)
    assert asked == [("surfel", 2)] * 3
    assert {row.definition.surface for row in rows} == {"surfel"}


@pytest.mark.parametrize("surface", ["voxel", "surfel", "mesh"])
@pytest.mark.parametrize("combine", ["max", "pooled"])
@pytest.mark.parametrize(("shape", "spacing_mm"), [((5, 11, 13), (7.7, 1.5, 1.3)), ((17, 19), (0.7, 1.9))])
def test_a_row_holds_what_the_functions_give_for_the_whole_masks(surface, combine, shape, spacing_mm):
    reference, prediction = np.zeros((2, *shape), dtype=np.uint8)
    where = (slice(1, 4),) * (len(shape) - 2)
    reference[(*where, slice(2, 9), slice(3, 8))] = 1
    prediction[(*where, slice(3, 10), slice(2, 8))] = 1
    reference[(..., slice(8, 11), slice(9, 12))] = 2
    prediction[(..., slice(7, 10), slice(9, 12))] = 2
    rows = evaluate_case(
        prediction,
        reference,
        labels=LABELS,
        spacing_mm=spacing_mm,
        case_id="7",
        definition=DistanceDefinition(surface, combine, 1.4),
        workers=2,
    )
    for value, row in zip(LABELS.values, rows, strict=True):
        masks = prediction == value, reference == value
        if not masks[1].any():
            continue
        distances = surface_distances(*masks, spacing_mm, DistanceDefinition(surface))
        assert row.status == "scored"
        assert row.assd_mm == pytest.approx(distances.assd_mm(), rel=1e-12)
        assert row.masd_mm == pytest.approx(distances.masd_mm(), rel=1e-12)
        assert row.hausdorff95_mm == pytest.approx(distances.hausdorff_mm(95.0, combine=combine), rel=1e-12)
        assert row.hausdorff_mm == pytest.approx(distances.hausdorff_mm(), rel=1e-12)
        assert row.surface_dice == pytest.approx(distances.surface_dice(1.4), rel=1e-12)
        assert row.definition == DistanceDefinition(surface, combine, 1.4)
        overlaps = [measure(*masks) for measure in (dice, volume_similarity, jaccard, sensitivity, precision)]
        assert [row.dice, row.volume_similarity, row.jaccard, row.sensitivity, row.precision] == overlaps
        assert row.ravd_percent == relative_volume_difference(*masks)
        assert row.reference_ml == pytest.approx(np.count_nonzero(masks[1]) * math.prod(spacing_mm) / 1000)
