"""Any function from a case to labels, scored: over cohorts, as a validation, with voxels that do not count."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from guided_attention.case import Case, affine_of
from guided_attention.errors import DataError
from guided_attention.evaluation import (
    CaseScore,
    Validation,
    evaluate,
    evaluate_case,
    evaluate_prediction,
    mean_dice,
    summarize_metric,
)
from guided_attention.labels import LabelSpec
from guided_attention.metrics import DistanceDefinition
from guided_attention.outputs import Prediction

LABELS = LabelSpec({1: "liver", 2: "right kidney", 5: "spleen"})
SPACING_MM = (7.7, 1.5, 1.3)
SHAPE = (5, 7, 11)


def volume(seed, values=(0, 1, 2, 5)):
    return np.random.default_rng(seed).choice(values, SHAPE).astype(np.uint8)


def scan(case_id, seed, *, affine=None, labels=None):
    reference = volume(seed) if labels is None else labels
    return Case(
        case_id, np.zeros((1, *SHAPE)), reference, affine_of(SPACING_MM) if affine is None else affine
    )


def predictions():
    return {"a": volume(10), "b": volume(11)}


def wanted(**settings):
    rows = []
    for case_id, seed in (("a", 0), ("b", 1)):
        settings = {"labels": LABELS, "spacing_mm": SPACING_MM, "case_id": case_id, **settings}
        rows += evaluate_case(predictions()[case_id], volume(seed), **{**settings, "case_id": case_id})
    return rows


FORMS = {
    "array": lambda labels, _: labels,
    "wide array": lambda labels, _: labels.astype(np.int64),
    "other byte order": lambda labels, _: labels.astype(">u2"),
    "strided": lambda labels, _: np.repeat(labels, 2, axis=2)[..., ::2],
    "tensor": lambda labels, _: torch.from_numpy(labels),
    "int32 tensor": lambda labels, _: torch.from_numpy(labels).int(),
    "uint16 tensor": lambda labels, _: torch.from_numpy(labels).to(torch.uint16),
    "MetaTensor": lambda labels, _: MetaTensor(torch.from_numpy(labels)),
    "prediction": lambda labels, case: Prediction(
        case.case_id, labels, np.zeros(SHAPE, np.float32), case.affine.copy()
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_function_from_a_case_to_labels_in_any_form_is_scored(form):
    cases = [scan("a", 0), scan("b", 1)]

    def predict(case):
        return FORMS[form](predictions()[case.case_id], case)

    assert evaluate(predict, iter(cases), LABELS) == wanted()
    definition = DistanceDefinition("surfel", "pooled", 1.4, "diagonal")
    assert evaluate(predict, cases, LABELS, definition=definition, workers=2) == wanted(definition=definition)
    assert evaluate(predict, cases, LABELS, definition=None) == wanted(definition=None)
    only = evaluate_prediction(predict(cases[1]), cases[1], LABELS, definition=definition, workers=2)
    assert only == wanted(definition=definition)[3:]


def test_tensors_are_scored_by_evaluate_case_as_arrays_are():
    arrays = volume(0), volume(1)
    rest = {"labels": LABELS, "spacing_mm": SPACING_MM, "case_id": "a"}
    rows = evaluate_case(*arrays, **rest)
    assert evaluate_case(*(torch.from_numpy(array).long() for array in arrays), **rest) == rows
    assert evaluate_case(*(MetaTensor(torch.from_numpy(array)) for array in arrays), **rest) == rows
    assert evaluate_case(torch.from_numpy(arrays[0]), arrays[1], **rest) == rows


# What cannot be scored is an error before the prediction


def never(case):
    pytest.fail(f"predicted {case.case_id}")


def test_a_case_that_cannot_be_scored_is_an_error_before_its_prediction():
    bare = Case("7", np.zeros((1, *SHAPE)), None, affine_of(SPACING_MM))
    with pytest.raises(
        DataError, match=r"`case` must be a case with labels, got case '7' without any\. Leave it"
    ):
        evaluate(never, [bare], LABELS)
    with pytest.raises(
        DataError, match=r"`labels of case '7'` must be made of 0 and the values of .* got also 3\."
    ):
        evaluate(never, [scan("7", 0, labels=np.full(SHAPE, 3))], LABELS)
    seen = []
    with pytest.raises(
        DataError, match=r"`cases` must be of different names, got two called 'a'\. Give each"
    ):
        evaluate(lambda case: seen.append(case) or volume(2), iter([scan("a", 0), scan("a", 1)]), LABELS)
    assert len(seen) == 1


@pytest.mark.parametrize("kind", [list, tuple])
def test_no_case_of_a_list_is_predicted_where_one_cannot_be_scored(kind):
    bare = Case("7", np.zeros((1, *SHAPE)), None, affine_of(SPACING_MM))
    with pytest.raises(DataError, match=r"got case '7' without any"):
        evaluate(never, kind([scan("a", 0), bare]), LABELS)
    with pytest.raises(DataError, match=r"got two called 'a'"):
        evaluate(never, kind([scan("a", 0), scan("a", 1)]), LABELS)


SHEARED = np.array([[1.3, 0, 0, 5], [0, 1.5, 2.8, 7], [0, 0, 7.7, 9], [0, 0, 0, 1]])


def test_distances_across_sheared_axes_are_refused_and_the_rest_is_right():
    case = scan("a", 0, affine=SHEARED)
    message = (
        r"`axes of case 'a'` must be at right angles to measure distances, got others\. "
        r"Pass definition=None .* or resample the case to a right-angled grid"
    )
    with pytest.raises(DataError, match=message):
        evaluate(never, [case], LABELS)
    with pytest.raises(DataError, match=message):
        evaluate_prediction(volume(10), case, LABELS)
    with pytest.raises(DataError, match=message):
        Validation(lambda _: never, [case], LABELS, metric="assd_mm")
    rows = evaluate(lambda _: volume(10), [case], LABELS, definition=None)
    for row, straight in zip(rows, wanted(definition=None), strict=False):
        assert row.dice == straight.dice
        voxels = np.count_nonzero(
            volume(0) == next(v for v, name in LABELS.names.items() if name == row.organ)
        )
        assert row.reference_ml == pytest.approx(
            voxels * abs(np.linalg.det(SHEARED[:3, :3])) / 1000, rel=1e-9
        )
        assert math.isnan(row.assd_mm)


def test_a_prediction_of_another_case_or_grid_is_refused():
    case = scan("a", 0)

    def prediction(case_id="a", affine=case.affine, labels=None):
        labels = volume(10) if labels is None else labels
        return Prediction(case_id, labels, np.zeros(labels.shape, np.float32), affine)

    with pytest.raises(DataError, match=r"`prediction` must be that of case 'a', got case 'b'"):
        evaluate_prediction(prediction("b"), case, LABELS)
    moved = case.affine.copy()
    moved[0, 3] = 0.14
    message = (
        r"`prediction of case 'a'` must be within 0\.13 mm of the scan at every corner, got 0\.14 mm apart"
    )
    with pytest.raises(DataError, match=message):
        evaluate_prediction(prediction(affine=moved), case, LABELS)
    moved[0, 3] = 0.12
    assert evaluate_prediction(prediction(affine=moved), case, LABELS) == wanted()[:3]
    turned = np.diag([-1.3, 1.5, 7.7, 1.0])
    turned[0, 3] = 1.3 * (SHAPE[2] - 1)  # the other way round: the far end is 13 mm - 2 * 11 * 1.3 mm away
    with pytest.raises(DataError, match=r"at every corner, got 15\.6 mm apart"):
        evaluate_prediction(prediction(affine=turned), case, LABELS)
    with pytest.raises(ValueError, match=r"`prediction of case 'a'` must be of the shape of `case\.labels`"):
        evaluate_prediction(prediction(labels=volume(10)[:, :, :-1]), case, LABELS)


@pytest.mark.usefixtures("without_shape_checks")
def test_logits_and_masks_are_refused_with_their_cure():
    logits = torch.zeros(4, *SHAPE)
    with pytest.raises(ValueError, match=r"`prediction of case 'a'` must be of the shape of `case\.labels`"):
        evaluate(lambda _: logits, [scan("a", 0)], LABELS)
    with pytest.raises(
        ValueError, match=r"must be a volume of integers, got an array of float32\. Take the arg-max"
    ):
        evaluate(lambda _: logits[0], [scan("a", 0)], LABELS)
    with pytest.raises(
        TypeError, match=r"`prediction of case 'a'` must be a NumPy array or a tensor, got a NoneTyp"
    ):
        evaluate(lambda _: None, [scan("a", 0)], LABELS)


# Voxels that do not count

IGNORING = LabelSpec(LABELS.names, ignore_value=255)


def slow_rows(prediction, reference, definition):
    """Set every ignored voxel to background in both volumes, one by one, and score without an ignored value."""
    prediction, reference = prediction.copy(), reference.copy()
    for index in np.ndindex(reference.shape):
        if reference[index] == 255:
            prediction[index] = reference[index] = 0
        if prediction[index] == 255:
            prediction[index] = 0
    return evaluate_case(
        prediction, reference, labels=LABELS, spacing_mm=SPACING_MM, case_id="a", definition=definition
    )


@pytest.mark.parametrize("surface", ["voxel", "surfel", "mesh"])
@pytest.mark.parametrize("ignored", [255, 65535])
def test_voxels_without_a_reference_count_nowhere(surface, ignored):
    definition = DistanceDefinition(surface, tolerance_mm=1.6)
    reference = volume(3, (0, 1, 2, 5, 255)).astype(np.uint16)
    prediction = volume(4, (0, 1, 2, 5, 255)).astype(np.uint16)
    rows = slow_rows(prediction, reference, definition)
    assert {row.status for row in rows} == {"scored"}
    prediction[prediction == 255], reference[reference == 255] = ignored, ignored
    spec = LabelSpec(LABELS.names, ignore_value=ignored)
    rest = {"labels": spec, "spacing_mm": SPACING_MM, "case_id": "a", "definition": definition}
    copies = prediction.copy(), reference.copy()
    assert evaluate_case(prediction, reference, **rest) == rows
    assert evaluate_case(torch.from_numpy(prediction), torch.from_numpy(reference), **rest) == rows
    np.testing.assert_array_equal((prediction, reference), copies)
    ignoring = evaluate(lambda _: prediction, [scan("a", 0, labels=reference)], spec, definition=definition)
    assert ignoring == rows


def test_an_organ_found_only_where_nothing_counts_is_absent():
    reference, prediction = np.zeros((2, *SHAPE), dtype=np.uint8)
    reference[1:3, 2:5] = 255
    reference[4, :2, :2] = 2
    prediction[1:3, 2:5, 3:7] = 1
    prediction[1, 2, 3] = prediction[4, :2, :2] = 2
    liver, kidney, spleen = evaluate_case(
        prediction, reference, labels=IGNORING, spacing_mm=SPACING_MM, case_id="a"
    )
    assert (liver.status, kidney.status, spleen.status) == ("absent in both", "scored", "absent in both")
    assert (liver.prediction_ml, kidney.dice, kidney.hausdorff_mm) == (0.0, 1.0, 0.0)
    empty = np.zeros(SHAPE, dtype=np.uint8)
    rest = {"labels": LABELS, "spacing_mm": SPACING_MM, "case_id": "a"}
    assert [liver, spleen] == evaluate_case(empty, empty, **rest)[::2]
    assert kidney.prediction_ml == pytest.approx(4 * 7.7 * 1.5 * 1.3 / 1000)


# Validation


def with_model(model):
    return lambda case: torch.from_numpy(predictions()[case.case_id]) * int(model.weight.item())


def network(weight=1.0):
    model = nn.Linear(1, 1)
    model.weight.data.fill_(weight)
    return model


@pytest.mark.parametrize("metric", ["dice", "volume_similarity", "jaccard", "sensitivity", "precision"])
def test_a_validation_is_the_mean_over_organs_and_cases(metric):
    cases = [scan("a", 0), scan("b", 1)]
    validation = Validation(with_model, cases, LABELS, metric=metric)
    mean = summarize_metric(wanted(definition=None), metric)[-1].mean
    assert validation(network()) == validation(network()) == mean
    assert validation(network(0.0)) == 0.0
    if metric == "dice":
        assert mean == mean_dice(wanted())


@pytest.mark.parametrize("metric", ["assd_mm", "masd_mm", "hausdorff95_mm", "hausdorff_mm"])
def test_what_is_better_when_lower_has_a_minus_sign(metric):
    cases, definition = [scan("a", 0), scan("b", 1)], DistanceDefinition("surfel", one_empty="diagonal")
    validation = Validation(with_model, cases, LABELS, metric=metric, definition=definition)
    assert validation(network()) == -summarize_metric(wanted(definition=definition), metric)[-1].mean < 0
    diagonal = math.dist(np.multiply(SHAPE, SPACING_MM), (0, 0, 0))
    assert validation(network(0.0)) == pytest.approx(-diagonal, rel=0.2)  # of the outermost voxel centres


@pytest.mark.parametrize("metric", ["assd_mm", "masd_mm", "hausdorff95_mm", "hausdorff_mm"])
def test_of_two_networks_that_miss_an_organ_the_better_one_has_the_higher_score(metric):
    """With infinite distances every epoch would be as bad as the first, whose weights would be kept."""
    cases, liver = [scan("a", 0)], next(iter(LABELS.names))

    def predicting(shift):
        return lambda _: lambda case: np.roll(np.where(case.labels == liver, liver, 0), shift, axis=-1)

    scores = [Validation(predicting(shift), cases, LABELS, metric=metric)(network()) for shift in (3, 0)]
    assert -math.inf < scores[0] < scores[1] < 0
    message = f"`one_empty` must be 'diagonal' for the validation by {metric}, got 'inf'. Set one_empty"
    with pytest.raises(ValueError, match=message):
        Validation(with_model, cases, LABELS, metric=metric, definition=DistanceDefinition())
    with pytest.raises(ValueError, match="`metric` must be one of .*, got 'ravd_percent'"):
        Validation(with_model, cases, LABELS, metric="ravd_percent")


def test_a_validation_measures_distances_only_for_a_metric_that_needs_them(monkeypatch):
    cases = [scan("a", 0), scan("b", 1)]
    tolerant = DistanceDefinition(tolerance_mm=1.4)
    mean = summarize_metric(wanted(definition=tolerant), "surface_dice")[-1].mean
    assert (
        Validation(with_model, cases, LABELS, metric="surface_dice", definition=tolerant)(network()) == mean
    )
    overlap = mean_dice(wanted())
    monkeypatch.setattr(
        "guided_attention.evaluation.scores.surface_distances", lambda *_, **__: pytest.fail("measured")
    )
    assert Validation(with_model, cases, LABELS, definition=tolerant)(network()) == overlap


class Lazy:
    """Cases that are read when they are asked for."""

    def __iter__(self):
        yield from (scan("a", 0), scan("b", 1))


def test_cases_are_read_again_for_each_validation():
    validation = Validation(with_model, Lazy(), LABELS)
    assert validation(network()) == validation(network()) == mean_dice(wanted())
    with pytest.raises(
        ValueError, match=r"`cases` must be a collection that can be read more than once, got an it"
    ):
        Validation(with_model, iter([scan("a", 0)]), LABELS)
    with pytest.raises(ValueError, match=r"`cases` must be at least one case, got none"):
        Validation(with_model, [], LABELS)


def test_a_validation_refuses_at_its_making_what_cannot_be_scored():
    bare = Case("7", np.zeros((1, *SHAPE)), None, affine_of(SPACING_MM))
    with pytest.raises(DataError, match=r"got case '7' without any"):
        Validation(with_model, [scan("a", 0), bare], LABELS)
    with pytest.raises(
        ValueError, match=r"`tolerance_mm` must be given for surface_dice, got None\. Pass definition"
    ):
        Validation(with_model, [scan("a", 0)], LABELS, metric="surface_dice")


def test_a_validation_of_nothing_is_not_a_number():
    nothing = scan("a", 0, labels=np.zeros(SHAPE, np.uint8))
    validation = Validation(lambda _: lambda case: case.labels, [nothing], LABELS)
    assert math.isnan(validation(network()))


def test_rows_name_their_definition_or_none():
    assert {row.definition for row in wanted(definition=None)} == {None}
    assert {row.definition for row in wanted()} == {DistanceDefinition()}
    assert CaseScore("7", "liver", "scored", 0.9, 0.9, 1.0, 1.0, 1.0).definition == DistanceDefinition()
