"""The benchmark of the training loop times every step, and divides a run without a rest."""

import json

import pytest

from benchmarks import loop


def test_every_step_is_timed_by_both(monkeypatch):
    monkeypatch.setattr(loop, "STEPS", {"nothing": 7})
    assert len(loop.by_hand("nothing")) == 7
    times = loop.by_trainer("nothing")
    assert len(times) == 6  # from the end of the first to that of the last
    assert all(0 < seconds < 5 for seconds in times)


@pytest.mark.peer
def test_a_default_run_is_divided_into_its_parts(monkeypatch):
    monkeypatch.setattr(loop, "SUBJECTS", 5)
    monkeypatch.setattr(loop, "SIDE", 32)
    found = loop.default_run(0.02)
    shares = [found[f"share of {what}"] for what in loop.PARTS]
    assert all(0 < share < 1 for share in shares)
    assert sum(shares) <= 1
    assert found["share outside the steps"] == 1 - shares[0]
    json.dumps(found)
