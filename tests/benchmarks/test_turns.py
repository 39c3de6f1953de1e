"""From runs to results: turns, medians, ratios, growth, limits, and going on after a stop. Nothing is measured here."""

import json
import os

import pytest
from benchmarks.limits import attention_counts, least_seconds
from benchmarks.results import opened, write
from benchmarks.rows import BENCHMARKS, NOT_RUN, Choices, Row, Spec, rows_of
from benchmarks.turns import growth, in_turns, measure_row, ratios, run_benchmark, slope, summary

HEAD = {"name": "training", "machine": {"memory_gb": 25.0}, "sources": "abc"}


def row_of(side, *names, task="training", **settings):
    return Row(
        {"task": task, "side": side, "batch": 1}, {name: Spec(task, name, side, **settings) for name in names}
    )


def fake(seconds=1.0, calls=None):
    def run(spec):
        if calls is not None:
            calls.append((spec.who, spec.side))
        return {"seconds": seconds, "peak_mb": 9.0, "over_start_mb": 4.0}

    return run


def test_the_median_of_each_number_is_taken_and_the_runs_are_kept():
    runs = [{"seconds": s, "peak_mb": m} for s, m in ((3.0, 10.0), (1.0, 30.0), (100.0, 20.0))]
    assert summary(runs) == {"seconds": 3.0, "peak_mb": 20.0, "runs": runs}


def test_four_digits_are_kept():
    assert summary([{"seconds": 0.0123456, "flops": 123456789}])["seconds"] == 0.01235
    assert summary([{"flops": 123456789}])["flops"] == 123456789


def test_ratios_are_those_of_ours_over_each_other_entry():
    measured = {
        "ours": summary([{"seconds": 1.0, "peak_mb": 2.0}]),
        "twin": summary([{"seconds": 4.0, "peak_mb": 2.5}]),
        "dahead": {NOT_RUN: "did not fit"},
        "zero": summary([{"seconds": 0.0, "peak_mb": 1.0}]),
    }
    assert ratios(measured) == {"twin": {"seconds": 0.25, "peak_mb": 0.8}, "zero": {"peak_mb": 2.0}}
    assert ratios({"ours": {NOT_RUN: "did not fit"}, "twin": measured["twin"]}) == {}


def test_entries_take_turns():
    calls = []
    in_turns(row_of(64, "ours", "twin"), 3, 25.0, fake(calls=calls))
    assert [who for who, _ in calls] == ["ours", "twin"] * 3


def test_an_entry_that_does_not_run_is_not_tried_again_and_one_that_never_changes_runs_once():
    calls = []

    def run(spec):
        calls.append(spec.who)
        return {NOT_RUN: "did not fit: out of memory"} if spec.who == "unet" else {"seconds": 1.0}

    row = row_of(64, "ours", "unet", "counts")
    row = Row(row.about, row.specs, once=frozenset({"counts"}))
    runs = in_turns(row, 3, 25.0, run)
    assert calls == ["ours", "unet", "counts", "ours", "ours"]
    assert summary(runs["unet"]) == {NOT_RUN: "did not fit: out of memory"}


@pytest.mark.parametrize(
    ("spec", "gb"),
    [
        (Spec("training", "twin", 512), 11 * 16384**2 * 4 / 1e9),
        (Spec("training", "twin", 256, batch=2), 2 * 11 * 4096**2 * 4 / 1e9),
        (Spec("evaluation", "twin", 1024), 2 * 65536**2 * 4 / 1e9),
        (Spec("attention", "dahead", 128), 4 * 16384**2 * 4 / 1e9),
    ],
)
def test_stored_weights_that_exceed_the_machine_are_not_tried(spec, gb):
    calls = []
    row = Row({}, {"twin": spec})
    assert NOT_RUN not in in_turns(row, 1, gb * 1.001, fake(calls=calls))["twin"][0]
    (left_out,) = in_turns(row, 1, gb * 0.999, fake(calls=calls))["twin"]
    assert left_out[NOT_RUN].startswith("would not fit: attention weights of ")
    assert len(calls) == 1


def test_what_stores_no_weights_is_always_tried():
    assert NOT_RUN not in in_turns(row_of(4096, "ours"), 1, 1.0, fake())["ours"][0]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_slope_of_a_power_is_its_exponent(power):
    pixels = [256**2, 512**2, 1024**2]
    assert slope(pixels, [3.0 * x**power for x in pixels]) == power
    assert slope(pixels, [1.0, 0.0, 2.0]) is None


def test_growth_is_that_of_each_entry_from_256_on():
    def run(spec):
        if spec.who == "twin" and spec.side > 256:
            return {NOT_RUN: "did not fit"}
        steep = 1e9 if spec.side < 256 else spec.side**4
        return {"seconds": float(steep), "over_start_mb": float(spec.side**2), "peak_mb": 1.0}

    rows = [row_of(side, "msga", "twin", "unet") for side in (128, 256, 512, 1024)]
    done = [{**row.about, **measure_row(row, repeats=1, memory_gb=0.0, run=run)} for row in rows]
    found = {line["entry"]: line for line in growth(done)}
    assert found.keys() == {"msga", "unet"}  # of the twin there is one point
    assert found["msga"]["sides"] == [256, 512, 1024]
    assert (found["msga"]["seconds"], found["msga"]["over_start_mb"]) == (2.0, 1.0)


def test_a_run_goes_on_where_it_was_stopped(tmp_path):
    path, calls = tmp_path / "training.json", []
    rows = [row_of(side, "ours", "twin") for side in (64, 128)]

    def stopped(spec):
        if spec.side == 128:
            raise KeyboardInterrupt
        return fake(calls=calls)(spec)

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(rows, opened(path, HEAD), path, repeats=2, run=stopped)
    kept = opened(path, HEAD)
    assert [row["side"] for row in kept["rows"]] == [64]
    result = run_benchmark(rows, kept, path, repeats=2, run=fake(calls=calls))
    assert [side for _, side in calls] == [64] * 4 + [128] * 4
    assert result == json.loads(path.read_text())
    assert [row["side"] for row in result["rows"]] == [64, 128]


def test_other_repeats_measure_a_row_anew_and_replace_it(tmp_path):
    path = tmp_path / "training.json"
    first = run_benchmark([row_of(64, "ours")], opened(path, HEAD), path, repeats=1, run=fake(1.0))
    second = run_benchmark([row_of(64, "ours")], first, path, repeats=2, run=fake(2.0))
    assert [row["measured"]["ours"]["seconds"] for row in second["rows"]] == [2.0]


def test_again_measures_the_chosen_rows_anew_and_keeps_the_others(tmp_path):
    path, rows = tmp_path / "training.json", [row_of(64, "ours"), row_of(128, "ours")]
    first = run_benchmark(rows, opened(path, HEAD), path, repeats=1, run=fake(1.0))
    kept = run_benchmark(rows[:1], first, path, repeats=1, run=fake(2.0))
    assert kept == first
    second = run_benchmark(rows[:1], first, path, repeats=1, again=True, run=fake(2.0))
    seconds = {row["side"]: row["measured"]["ours"]["seconds"] for row in second["rows"]}
    assert seconds == {64: 2.0, 128: 1.0}


@pytest.mark.parametrize("change", [{"sources": "other"}, {"threads": 1}, {"machine": {"memory_gb": 1.0}}])
def test_results_of_other_sources_settings_or_machines_are_not_gone_on_with(tmp_path, change):
    path = tmp_path / "training.json"
    write(path, {**HEAD, "rows": [{"side": 64}]})
    assert opened(path, HEAD)["rows"] == [{"side": 64}]
    assert opened(path, {**HEAD, **change}) == {**HEAD, **change, "rows": []}


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "new" / "training.json"
    write(path, {"rows": [1]})

    def broken(_):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="no space"):
        write(path, {"rows": [1, 2]})
    assert json.loads(path.read_text()) == {"rows": [1]}


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_row_of_a_benchmark_is_another_and_ours_comes_first(name, device):
    rows = rows_of(name, Choices(device=device, data="somewhere"))
    abouts = [tuple(row.about.items()) for row in rows]
    assert len(set(abouts)) == len(abouts) > 0
    assert {next(iter(row.specs)) for row in rows} <= {"ours", "msga", "bf16"}
    assert all("somewhere" not in map(str, row.about.values()) for row in rows)


def test_the_limit_is_the_time_of_all_sums_or_of_all_bytes():
    counts = {"flops": 100.0, "exponentials": 10.0, "bytes": 60.0}
    best = {"fp32_flops_a_second": 50.0, "bf16_flops_a_second": 100.0, "exponentials_a_second": 5.0}
    assert least_seconds(counts, {**best, "bytes_a_second": 20.0}, "fp32")["all"] == 2.0 + 2.0
    assert least_seconds(counts, {**best, "bytes_a_second": 20.0}, "bf16")["all"] == 1.0 + 2.0
    assert least_seconds(counts, {**best, "bytes_a_second": 6.0}, "fp32")["all"] == 10.0
    del best["exponentials_a_second"]
    assert least_seconds(counts, {**best, "bytes_a_second": 60.0}, "fp32")["all"] == 2.0


def test_a_ceiling_is_the_best_of_all_turns_and_counts_are_made_once():
    flops, turn = iter((10.0, 30.0, 20.0)), []

    def run(spec):
        if spec.task == "ceilings":
            return {"fp32_flops_a_second": next(flops), "exponentials_a_second": 1.0, "bytes_a_second": 1.0}
        if spec.task.startswith("counts"):
            turn.append(spec.task)
            return {"flops": 60.0, "exponentials": 0.0, "bytes": 1.0}
        return {"seconds": 8.0, "peak_mb": 1.0, "over_start_mb": 1.0}

    (row,) = [
        row
        for row in rows_of("limits", Choices(sides=[64], precisions=["fp32"]))
        if row.about["part"] == "both"
    ]
    result = measure_row(row, repeats=3, memory_gb=25.0, run=run)
    assert result["least_seconds"]["all"] == 2.0
    assert result["reached"] == 0.25
    assert turn == ["counts of training"]


def test_attention_is_counted_by_its_formula():
    forward, backward = (attention_counts(100, 3, part) for part in ("forward", "backward"))
    assert forward == {
        "flops": 2 * 3 * 100**2 * 72,
        "exponentials": 3 * 100**2,
        "bytes": 2 * 3 * 100 * 64 * 4,
    }
    assert backward == {
        "flops": 2 * 3 * 100**2 * 152,
        "exponentials": 3 * 100**2,
        "bytes": 3 * 3 * 100 * 64 * 4,
    }
    assert attention_counts(100, 3) == {name: forward[name] + backward[name] for name in forward}
