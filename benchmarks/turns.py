"""A benchmark from its plan to its results: measurements in turns, medians, ratios, growth."""

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.limits import least_seconds
from benchmarks.results import ROOT, Result, commit, same_row, with_row, write
from benchmarks.rows import NOT_RUN, Row, Spec

__all__ = ["Run", "growth", "in_turns", "measure_row", "ratios", "run_benchmark", "summary"]

Run: TypeAlias = Callable[[Spec], Mapping[str, Any]]
"""Makes one measurement: returns numbers by name, or the one entry `NOT_RUN` with the reason."""

_GROWS = ("training", "evaluation")
_GROWTH_FROM = 256
_STORES_WEIGHTS = ("twin", "dahead")
_KILLED = (-9, 137)


def run_benchmark(
    rows: Sequence[Row],
    result: Result,
    path: Path,
    *,
    repeats: int,
    again: bool = False,
    run: Run | None = None,
) -> Result:
    """Measure the rows that the results do not have yet, or all of them `again`; the file is written after each."""
    memory = result["machine"].get("memory_gb", 0.0)
    for row in rows:
        wanted = {**row.about, "repeats": repeats}
        if not again and any(same_row(known, wanted) for known in result["rows"]):
            continue
        measured = measure_row(row, repeats=repeats, memory_gb=memory, run=run or in_own_process)
        result = with_row(result, row.about, {"repeats": repeats, **measured})
        result = {**result, "growth": growth(result["rows"])}
        write(path, result)
        print(told(result["rows"][-1]), flush=True)
    return result


def measure_row(row: Row, *, repeats: int, memory_gb: float, run: Run) -> Result:
    """Measure the entries of a row in turns, and return medians and how ours compares."""
    measured = {name: summary(runs) for name, runs in in_turns(row, repeats, memory_gb, run).items()}
    done = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "commit": commit(), "measured": measured}
    if "ceilings" not in row.specs:
        return {**done, "ratios": ratios(measured)}
    return {**done, **_against_the_limit(row.specs["ours"], measured)}


def in_turns(row: Row, repeats: int, memory_gb: float, run: Run) -> dict[str, list[Mapping[str, Any]]]:
    """Run each entry `repeats` times, one after the other, so that what disturbs the machine disturbs all.

    An entry that does not run the first time is not tried again.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {name: [] for name in row.specs}
    for turn in range(repeats):
        for name, spec in row.specs.items():
            if turn and (name in row.once or NOT_RUN in runs[name][-1]):
                continue
            too_big = _too_big(spec, memory_gb)
            runs[name].append({NOT_RUN: too_big} if too_big else run(spec))
    return runs


def in_own_process(spec: Spec) -> Mapping[str, Any]:
    """Measure in a new process. One that the system ended for want of memory did not fit; another error is an error."""
    command = [sys.executable, "-m", "benchmarks.measure", json.dumps(asdict(spec))]
    threads = {"OMP_NUM_THREADS": str(spec.threads), "MKL_NUM_THREADS": str(spec.threads)}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode in _KILLED:
        return {NOT_RUN: "did not fit: the system ended the process"}
    done.check_returncode()
    found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(runs: Sequence[Mapping[str, Any]]) -> Result:
    """Return the median of every number, with the runs; or why there are none."""
    failed = next((run for run in runs if NOT_RUN in run), None)
    if failed is not None:
        return {NOT_RUN: failed[NOT_RUN]}
    medians = {name: _rounded(statistics.median(run[name] for run in runs)) for name in runs[0]}
    return {**medians, "runs": [{name: _rounded(value) for name, value in run.items()} for run in runs]}


def ratios(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the numbers of the first entry, ours, over those of every other: below 1 ours takes less."""
    first, *others = measured
    ours = measured[first]
    compared = {name: measured[name] for name in others if NOT_RUN not in {**ours, **measured[name]}}
    return {
        name: {
            number: _rounded(ours[number] / other[number])
            for number in other
            if number != "runs" and other[number]
        }
        for name, other in compared.items()
    }


def growth(rows: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Return the exponents of time and memory against the number of pixels, of each entry from a side of 256 on.

    1 is growth with the pixels, 2 with their square. They are slopes of lines through the logarithms (least squares).
    """
    series: dict[tuple[Any, ...], list[tuple[int, Mapping[str, Any]]]] = {}
    for row in rows:
        if row["task"] in _GROWS and row.get("side", 0) >= _GROWTH_FROM and "ratios" in row:
            for name, numbers in row["measured"].items():
                key = (row["task"], row["batch"], row.get("precision", ""), name)
                series.setdefault(key, []).append((row["side"], numbers))
    found = []
    for (task, batch, precision, name), points in series.items():
        there = [(side, numbers) for side, numbers in points if NOT_RUN not in numbers]
        if len({side for side, _ in there}) > 1:
            about = {"task": task, "batch": batch, "precision": precision, "entry": name}
            pixels = [side**2 for side, _ in there]
            exponents = {
                number: slope(pixels, [numbers[number] for _, numbers in there])
                for number in ("seconds", "over_start_mb")
            }
            found.append({**about, "sides": sorted(side for side, _ in there), **exponents})
    return found


def slope(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return the slope of the line through the logarithms; None where a value has none."""
    if min(y) <= 0:
        return None
    fit = statistics.linear_regression([math.log(value) for value in x], [math.log(value) for value in y])
    return round(fit.slope, 2)


def told(row: Mapping[str, Any]) -> str:
    """Return a row as lines to read while it runs."""
    about = {
        name: value
        for name, value in row.items()
        if isinstance(value, str | int) and name not in ("date", "commit")
    }
    lines = [", ".join(f"{name} {value}" for name, value in about.items())]
    for name, numbers in row["measured"].items():
        shown = {key: value for key, value in numbers.items() if key != "runs"}
        lines.append(f"  {name}: " + ", ".join(f"{key} {value}" for key, value in shown.items()))
    for name, compared in row.get("ratios", {}).items():
        lines.append(f"  over {name}: " + ", ".join(f"{key} {value}" for key, value in compared.items()))
    if "reached" in row:
        lines.append(f"  reached {row['reached']} of the limit, {row['least_seconds']}")
    return "\n".join(lines)


def _against_the_limit(spec: Spec, measured: Mapping[str, Mapping[str, Any]]) -> Result:
    """Say what share of the machine's best ours reaches. A ceiling is the best that any turn saw."""
    if any(NOT_RUN in numbers for numbers in measured.values()):
        return {}
    runs = measured["ceilings"]["runs"]
    best = {name: max(run[name] for run in runs) for name in runs[0]}
    least = least_seconds(measured["counts"], best, spec.precision)
    return {
        "least_seconds": {name: _rounded(value) for name, value in least.items()},
        "reached": _rounded(least["all"] / measured["ours"]["seconds"]),
    }


def _too_big(spec: Spec, memory_gb: float) -> str:
    """Say why an entry that stores the weights would not fit, before the machine has to find out."""
    if spec.who not in _STORES_WEIGHTS or spec.device != "cpu" or not memory_gb:
        return ""
    needed = spec.bytes_of_stored_weights() / 1e9
    if needed <= memory_gb:
        return ""
    return f"would not fit: attention weights of {needed:.0f} GB in {memory_gb:.0f} GB of memory"


def _rounded(value: float) -> float:
    """Return four significant digits: more are not measured."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
