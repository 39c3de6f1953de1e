import json
from argparse import Namespace

import pytest
import torch
from benchmarks.contestants import FIVE, contestants
from benchmarks.left_atrium_networks import asked_for, known, summary, table, trained
from torch import nn

from guided_attention.case import Case, affine_of


def _run(dice, minutes=24.0, *, seed=0, epochs=4):
    scores = {"dice": dice, "dice_sd": dice / 10, "volume_similarity": dice + 0.1, "assd_mm": 2.0}
    return {"seed": seed, "parameters": 1234, "minutes": minutes, "epochs": epochs, **scores}


def _bright_box(number):
    generator = torch.Generator().manual_seed(number)
    labels = torch.zeros(3, 13, 17)
    labels[:, 2 + number : 9 + number, 3:12] = 1
    noise = torch.randn(1, 3, 13, 17, generator=generator)
    return Case(str(number), 9 * labels + noise, labels, affine_of((3.0, 1.0, 1.0)))


@pytest.mark.peer
def test_a_network_is_trained_and_scored_on_its_test_volumes():
    train, val, test = [_bright_box(n) for n in range(2)], [_bright_box(2)], [_bright_box(n) for n in (3, 4)]
    args = Namespace(side=[11, 13], slice_step=1, batch=2, minutes=None, epochs=60, precision="fp32")
    torch.manual_seed(0)
    scores = trained(lambda: nn.Conv2d(1, 2, 1), (train, val, test), args, 0)
    assert (scores["parameters"], scores["epochs"]) == (4, 60)
    assert scores["dice"] > 0.9, "one threshold on the intensity tells the box"
    assert scores.keys() >= {"dice_sd", "volume_similarity", "assd_mm"}


@pytest.mark.peer
def test_every_network_of_the_benchmark_can_be_built_and_predicts():
    networks, image = contestants(4), torch.randn(2, 1, 33, 37)
    assert set(FIVE) < set(networks)
    for build in networks.values():
        assert build().eval()(image).shape == (2, 2, 33, 37)


def test_a_table_has_the_mean_over_the_seeds_and_the_least_and_greatest_score():
    drawn = table({"A": [_run(0.5, 20.0), _run(0.75, 21.0), _run(0.7, 25.0, epochs=13)], "B": []})
    header, rule, row = drawn.splitlines()
    assert header.count("|") == rule.count("|") == row.count("|")
    assert row == "| A | 1,234 | 3 | 22.0 | 7 | 0.650 (0.500 to 0.750) | 0.065 | 0.750 | 2.00 |"


def test_a_table_begins_with_the_best():
    drawn = table({"A": [_run(0.5)], "B": [_run(0.6), _run(0.8)], "C": [_run(0.75)]})
    rows = drawn.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| C", "| B", "| A"]
    assert "| 0.750 |" in rows[0], "one seed lies between nothing"


def test_networks_and_seeds_that_were_not_asked_for_are_left_out():
    runs = {"A": [_run(0.5, seed=0), _run(0.6, seed=2)], "B": [_run(0.7)]}
    assert asked_for(runs, ["C", "A"], [2, 3]) == {"C": [], "A": [_run(0.6, seed=2)]}


def test_a_summary_has_mean_and_spread_over_the_volumes():
    assert summary("dice", [0.5, 0.7, 0.9]) == {"dice": 0.7, "dice_sd": 0.2}


def test_runs_of_another_budget_are_never_mixed(tmp_path):
    path = tmp_path / "runs.json"
    assert known(path, {"epochs": 4}) == {}
    path.write_text(json.dumps({"settings": {"epochs": 4}, "networks": {"A": [_run(0.5)]}}))
    assert known(path, {"epochs": 4}) == {"A": [_run(0.5)]}
    with pytest.raises(SystemExit, match="holds runs of another budget"):
        known(path, {"epochs": 5})
