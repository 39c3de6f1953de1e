"""The tables of cross-validation, of runs that are written down here."""

import argparse

from benchmarks.cross_validation import RESULTS, differences, known, table

ASKED = argparse.Namespace(
    split=False, folds=(0, 1), recipes=("new", "old"), networks=("A", "B"), seed=0, minutes=24.0
)
ROW = known(RESULTS / "cross_validation.json")[0]["scores"][0]


def run(network, fold, dice, *, fast=True, recipe="new", minutes=24.0):
    scores = [
        ROW | {"case_id": f"{fold}-{number}", "dice": value, "assd_mm": 10 * (1 - value)}
        for number, value in enumerate(dice)
    ]
    found = {"network": network, "recipe": recipe, "fold": fold, "seed": 0, "minutes": minutes, "bf16": fast}
    return found | {"epochs": 7, "scores": scores}


def test_kinds_of_processor_stand_apart():
    runs = [run("A", 0, (0.8, 0.9)), run("A", 1, (0.5, 0.7), fast=False), run("A", 0, (0.1,), minutes=12.0)]
    assert table(runs, ASKED).splitlines()[2:] == [
        "| yes | new | A | 2 | 0.850 | 0.071 | 0.800 | 1.50 | 7 |",
        "| no | new | A | 2 | 0.600 | 0.141 | 0.500 | 4.00 | 7 |",
    ]


def test_a_case_is_paired_on_one_kind_of_processor_and_counts_once():
    runs = [
        run("A", 0, (0.8, 0.9)),
        run("B", 0, (0.7, 0.8)),
        run("A", 0, (0.2, 0.2), fast=False),
        run("B", 0, (0.9, 0.9), fast=False),
        run("A", 1, (0.9, 0.9)),
        run("A", 1, (0.6, 0.6), fast=False),
        run("B", 1, (0.3, 0.3), fast=False),
        run("B", 1, (0.1,), recipe="old"),
    ]
    # Differences -0.1, -0.1 and -0.3, -0.3: not those of fold 0 on the slow kind; A and B differ in recipe or network.
    lines = differences(runs, ASKED).splitlines()[2:]
    assert [line.split(" (")[0] for line in lines] == ["| B, new | A, new | 4 | -0.200"]
