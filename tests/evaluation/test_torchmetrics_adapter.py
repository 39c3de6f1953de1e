import math
import pickle
import sys

import numpy as np
import pytest
import torch
from tests.evaluation.two_processes import DEPTH, LABELS, SPACING_MM, case
from torch.utils.data import default_collate

from guided_attention.evaluation import CaseAccumulator, evaluate_case, summarize_metric, torchmetrics_metric

torchmetrics = pytest.importorskip("torchmetrics")


def tensors(seed):
    return [torch.from_numpy(volume).long() for volume in case(seed)]


def rows(case_id, seed):
    return evaluate_case(*case(seed), labels=LABELS, spacing_mm=SPACING_MM, case_id=case_id)


def wanted(scores, metric):
    liver, spleen, mean = summarize_metric(scores, metric)
    return {
        metric: torch.tensor(mean.mean),
        f"{metric}_liver": torch.tensor(liver.mean),
        f"{metric}_spleen": torch.tensor(spleen.mean),
    }


def counts(skipped, failed):
    return {"skipped": torch.tensor(skipped), "failed": torch.tensor(failed)}


def test_it_works_in_a_collection_beside_another_metric():
    collection = torchmetrics.MetricCollection(
        {
            "cases": torchmetrics_metric(LABELS, metrics=("dice", "hausdorff95_mm"), spacing_mm=SPACING_MM),
            "pixels": torchmetrics.classification.MulticlassAccuracy(num_classes=6, average="micro"),
        }
    )
    for round_ in range(2):  # the second after a reset
        volumes = {"a": tensors(round_), "b": tensors(round_ + 2)}
        for z in range(DEPTH):
            preds, target = (torch.stack([volumes[id_][side][z] for id_ in volumes]) for side in (0, 1))
            collection.update(preds, target, case_id=list(volumes), slice_index=torch.tensor([z, z]))
        result = collection.compute()
        scores = rows("a", round_) + rows("b", round_ + 2)
        pixels = result.pop("pixels")
        torch.testing.assert_close(
            result, {**wanted(scores, "dice"), **wanted(scores, "hausdorff95_mm"), **counts(0, 0)}
        )
        every = [torch.stack([volumes[id_][side] for id_ in volumes]) for side in (0, 1)]
        torch.testing.assert_close(pixels, (every[0] == every[1]).float().mean())
        collection.reset()


def test_a_call_keeps_what_came_before():
    metric = torchmetrics_metric(LABELS, spacing_mm=SPACING_MM)
    for z in range(DEPTH):
        prediction, reference = tensors(0)
        assert metric(prediction[z], reference[z], case_id="a", slice_index=z) == {}
    torch.testing.assert_close(metric.compute(), {**wanted(rows("a", 0), "dice"), **counts(0, 0)})
    metric.reset()
    with pytest.warns(UserWarning, match="before"):  # of torchmetrics, that nothing came
        assert math.isnan(metric.compute()["dice"])


def test_copies_live_on_their_own():
    metric = torchmetrics_metric(LABELS, spacing_mm=SPACING_MM)
    metric.update(*tensors(0), case_id="a")
    for copy in (metric.clone(), pickle.loads(pickle.dumps(metric))):  # noqa: S301
        copy.update(*tensors(1), case_id="b")
        torch.testing.assert_close(
            copy.compute(), {**wanted(rows("a", 0) + rows("b", 1), "dice"), **counts(0, 0)}
        )
    torch.testing.assert_close(metric.compute(), {**wanted(rows("a", 0), "dice"), **counts(0, 0)})


def test_failures_and_absences_are_counted():
    metric = torchmetrics_metric(LABELS, metrics=("assd_mm",))
    nothing = torch.zeros(3, 5, 7, dtype=torch.int64)
    liver = nothing.clone()
    liver[1, 2, 3] = 1
    spacings = torch.tensor([SPACING_MM, (1.0, 1.0, 1.0)])
    metric.update(
        torch.stack([nothing, liver]), torch.stack([liver, liver]), case_id=["a", "b"], spacing_mm=spacings
    )
    result = metric.compute()
    assert (result["assd_mm"], result["assd_mm_liver"]) == (math.inf, math.inf)
    assert math.isnan(result["assd_mm_spleen"])
    assert (result["skipped"], result["failed"]) == (2, 1)


def test_spacings_of_each_case_come_in_every_form_that_a_loader_gives():
    spacings = {"a": (9.0, 1.5, 1.25), "b": (5.0, 0.75, 0.5), "c": (2.0, 3.0, 4.0)}  # as many as axes
    volumes = [tensors(seed) for seed in range(3)]
    wanted_rows = [
        row
        for (case_id, spacing), volume in zip(spacings.items(), volumes, strict=True)
        for row in evaluate_case(*volume, labels=LABELS, spacing_mm=spacing, case_id=case_id)
    ]
    items = [
        {"preds": volume[0], "target": volume[1], "case_id": case_id, "spacing_mm": spacings[case_id]}
        for case_id, volume in zip(spacings, volumes, strict=True)
    ]
    collated = default_collate(items)
    assert [len(axis) for axis in collated["spacing_mm"]] == [3, 3, 3]
    rows_of_cases = list(spacings.values())
    for given in (
        collated["spacing_mm"],
        tuple(collated["spacing_mm"]),
        rows_of_cases,
        [np.array(row) for row in rows_of_cases],
        torch.tensor(rows_of_cases),
    ):
        metric = torchmetrics_metric(LABELS, metrics=("assd_mm",))
        metric.update(**{**collated, "spacing_mm": given})
        assert metric.accumulator.compute() == wanted_rows
    one = torchmetrics_metric(LABELS, metrics=("assd_mm",))
    one.update(**default_collate(items[:1]))
    assert one.accumulator.compute() == wanted_rows[:2]


def test_a_batch_that_does_not_fit_is_refused():
    metric = torchmetrics_metric(LABELS, spacing_mm=SPACING_MM)
    preds = torch.zeros(2, 5, 7, dtype=torch.int64)
    for given, message in (
        ({"case_id": ["a"]}, r"`preds` must be a batch of 1, one for each case_id, got 2"),
        ({"case_id": ["a", "b"], "slice_index": [1]}, r"`slice_index` must be 2 numbers, .* got 1"),
        (
            {"case_id": ["a", "b"], "spacing_mm": [SPACING_MM]},
            r"`spacing_mm` must be one spacing, or 2, .* got 1",
        ),
        (
            {"case_id": ["a", "b"], "spacing_mm": [torch.tensor(SPACING_MM)] * 2},
            r"`spacing_mm` must be tensors of 2 numbers, one for each axis, got lengths \[3, 3\]\. Pass torch\.stack",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update(preds, preds, **given)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"`metrics` must be at least one name, got none"):
        torchmetrics_metric(LABELS, metrics=())
    with pytest.raises(ValueError, match=r"`tolerance_mm` must be given for surface_dice, got None\. Pass"):
        torchmetrics_metric(LABELS, metrics=("surface_dice",))


def test_without_torchmetrics_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "guided_attention.evaluation._torchmetrics", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'guided-attention\[torchmetrics\]'"):
        torchmetrics_metric(LABELS)
    assert CaseAccumulator(LABELS).compute() == []
