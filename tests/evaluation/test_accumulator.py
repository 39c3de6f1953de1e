import json
import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluation.two_processes import DEPTH, LABELS, SPACING_MM, case, give_all, give_slices, main

from guided_attention.evaluation import CaseAccumulator, evaluate_case, read_scores, summarize_metric
from guided_attention.metrics import DistanceDefinition

SCRIPT = Path(__file__).with_name("two_processes.py")


def accumulator(**settings):
    return CaseAccumulator(LABELS, spacing_mm=SPACING_MM, **settings)


def wanted(case_id, seed, spacing_mm=SPACING_MM, **settings):
    return evaluate_case(*case(seed), labels=LABELS, spacing_mm=spacing_mm, case_id=case_id, **settings)


@pytest.mark.parametrize("order", list(permutations(range(DEPTH)))[::23])
def test_slices_in_any_order_are_scored_as_their_volume(order):
    gathered = accumulator()
    give_slices(gathered, "a", 0, order)
    assert gathered.compute() == wanted("a", 0)


def test_slices_of_several_cases_may_alternate_and_cases_come_out_sorted():
    gathered = accumulator()
    for z in range(DEPTH):
        give_slices(gathered, "b", 1, [z])
        give_slices(gathered, "a", 0, [z])
    gathered.update(*case(2), case_id="aa")
    assert gathered.compute() == wanted("a", 0) + wanted("aa", 2) + wanted("b", 1)


def test_tensors_and_settings_reach_the_scores():
    gathered = CaseAccumulator(LABELS, definition=DistanceDefinition(combine="pooled", one_empty="diagonal"))
    prediction, reference = (torch.from_numpy(volume.astype(np.int64)) for volume in case(0))
    prediction[prediction == 5] = 0
    gathered.update(prediction, reference, case_id="a", spacing_mm=[3.0, 2.0, 1.0])
    rows = evaluate_case(
        prediction.numpy(),
        reference.numpy(),
        labels=LABELS,
        spacing_mm=(3.0, 2.0, 1.0),
        case_id="a",
        definition=DistanceDefinition(combine="pooled", one_empty="diagonal"),
    )
    assert gathered.compute() == rows
    assert (rows[1].status, rows[1].definition.combine) == ("missed", "pooled")
    assert rows[1].definition.one_empty == "diagonal"


def test_a_batch_that_is_written_over_does_not_change_what_was_given():
    gathered = accumulator()
    prediction, reference = case(0)
    for z in range(DEPTH):
        buffer = prediction[z].copy()
        gathered.update(buffer, reference[z], case_id="a", slice_index=z)
        buffer[:] = 0
    assert gathered.compute() == wanted("a", 0)


def test_more_may_come_after_a_first_result_until_the_reset():
    gathered = accumulator(definition=None)
    gathered.update(*case(0), case_id="a")
    assert gathered.compute() == gathered.compute() == wanted("a", 0, definition=None)
    gathered.update(*case(1), case_id="b")
    assert len(gathered.compute()) == 4
    gathered.reset()
    assert gathered.compute() == []


def test_what_comes_twice_with_one_content_counts_once():
    gathered = accumulator()
    give_slices(gathered, "a", 0, [*range(DEPTH), 2])
    for _ in range(2):
        gathered.update(*case(1), case_id="b")
    assert gathered.compute() == wanted("a", 0) + wanted("b", 1)


def _two_contents_of_a_slice(gathered):
    give_slices(gathered, "a", 0, range(DEPTH))
    give_slices(gathered, "a", 1, [3])


def _two_contents_of_a_case(gathered):
    gathered.update(*case(0), case_id="a")
    gathered.update(*case(1), case_id="a")


def _volume_and_slices(gathered):
    gathered.update(*case(0), case_id="a")
    give_slices(gathered, "a", 0, range(DEPTH))


def _gaps(gathered):
    give_slices(gathered, "a", 0, [0, 4, 2])


def _two_spacings(gathered):
    give_slices(gathered, "a", 0, [0])
    give_slices(gathered, "a", 0, [1], spacing_mm=(1.0, 1.0, 1.0))


def _two_shapes(gathered):
    give_slices(gathered, "a", 0, [0])
    gathered.update(*np.zeros((2, 3, 5), dtype=int), case_id="a", slice_index=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            _two_contents_of_a_slice,
            r"`case_id` must be of one content each, got two for slice 3 of case 'a'\.",
        ),
        (_two_contents_of_a_case, r"`case_id` must be of one content each, got two for case 'a'\."),
        (_volume_and_slices, r"`case_id` must be given as a volume or as slices, got both for \['a'\]"),
        (
            _gaps,
            r"`slice_index` must be each from 0 to 4 once for case 'a', got none for \[1, 3\]\. Evaluate",
        ),
        (_two_spacings, r"`spacing_mm` must be one for all slices of case 'a', got \[\(1\.0, .*\(7\.7, "),
        (
            _two_shapes,
            r"`prediction` must be of one shape in all slices of case 'a', got \[\(3, 5\), \(7, 11\)",
        ),
    ],
)
def test_cases_that_cannot_be_put_together_are_named_at_the_end(given, message):
    gathered = accumulator()
    given(gathered)
    with pytest.raises(ValueError, match=message):
        gathered.compute()


@pytest.mark.usefixtures("without_shape_checks")
def test_what_cannot_be_scored_is_refused_as_it_comes():
    gathered = CaseAccumulator(LABELS)
    prediction, reference = case(0)
    with pytest.raises(
        ValueError, match=r"`spacing_mm` must be given for case 'a', got None\. Pass it here or"
    ):
        gathered.update(prediction, reference, case_id="a")
    given = {"case_id": "a", "spacing_mm": SPACING_MM}
    with pytest.raises(
        ValueError, match=r"`prediction` must be of 2 axes where `slice_index` is given, got 3"
    ):
        gathered.update(prediction, reference, slice_index=0, **given)
    with pytest.raises(ValueError, match=r"`prediction` must be of the shape of `reference`"):
        gathered.update(prediction[0], reference[0, :3], slice_index=0, **given)
    with pytest.raises(ValueError, match=r"`reference of slice 0 of case 'a'` must be made of 0 .* also 6\."):
        gathered.update(prediction[0], np.full((7, 11), 6), slice_index=0, **given)
    assert gathered.compute() == []
    with pytest.raises(TypeError, match=r"`labels` must be a LabelSpec, got a dict\. Write LabelSpec"):
        CaseAccumulator({1: "liver"})


def test_two_processes_give_what_one_gives(tmp_path, monkeypatch):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(SCRIPT), "1", str(tmp_path)]
    other = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    try:
        main(0, tmp_path)
    finally:
        error = other.communicate(timeout=300)[1]
    assert other.returncode == 0, error
    gathered = accumulator()
    give_all(gathered)
    alone = gathered.compute()
    assert len(alone) == 10
    for rank in (0, 1):
        assert read_scores(tmp_path / f"first_{rank}.json") == alone
        assert read_scores(tmp_path / f"again_{rank}.json") == alone
    refusals = [json.loads((tmp_path / f"refusals_{rank}.json").read_text()) for rank in (0, 1)]
    assert refusals[0] == refusals[1]
    for message, start in zip(
        refusals[0],
        (
            "`slice_index` must be each from 0 to 4 once for case 'a', got none for [2, 3].",
            "`spacing_mm` must be one for all slices of case 'a'",
            "`case_id` must be of one content each, got two for slice 0 of case 'a'.",
        ),
        strict=True,
    ):
        assert message.startswith(start)
    if find_spec("torchmetrics"):
        of_all = summarize_metric(wanted("a", 0), "dice")
        for rank in (0, 1):
            means = json.loads((tmp_path / f"means_{rank}.json").read_text())
            liver, spleen, mean = (pytest.approx(summary.mean, rel=1e-6) for summary in of_all)
            assert means == {
                "dice": mean,
                "dice_liver": liver,
                "dice_spleen": spleen,
                "skipped": 0,
                "failed": 0,
            }
