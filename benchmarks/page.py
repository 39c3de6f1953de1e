"""The tables of docs/benchmarks.md, written between two marks: no number of the page is typed by hand."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import contrasts, plans
from benchmarks.cross_validation import FOLDS, NETWORKS, differences, known, table
from benchmarks.plots import picture_of, read
from benchmarks.rows import NOT_RUN, TITLES

__all__ = ["BEGIN", "END", "tables", "update"]

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def update(results: Path, docs: Path) -> None:
    """Write the tables of all results into the page; what stands outside the marks stays as it is."""
    page = docs / "benchmarks.md"
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} must have the lines {BEGIN} and {END}, with the tables between them.")
    page.write_text(f"{before}{BEGIN}\n\n{tables(results, docs / 'images')}\n{END}{after}", encoding="utf-8")


def tables(results: Path, images: Path) -> str:
    """Return a section for each file of results."""
    found = read(results)
    sections = [section for name, result in found.items() for section in _section(name, result, images)]
    sections += _loop(results / "loop.json")
    sections += _reading(results / "reading.json")
    sections += _augmentation(results / "augmentation.json")
    sections += _cross_validation(results / "cross_validation.json")
    sections += _contrasts(results / "contrasts.json")
    sections += _plans(results / "plans.json")
    sections = sections or ["Nothing has been measured yet."]
    if not any(result["device"].startswith("cuda") for result in found.values()):
        sections.insert(0, "Nothing on this page has run on a GPU.")
    return "\n\n".join(sections) + "\n"


def _section(name: str, result: Mapping[str, Any], images: Path) -> list[str]:
    """Return heading, circumstances, tables and picture of one file."""
    rows = sorted(
        result["rows"], key=lambda row: [str(row["task"]), str(row.get("precision")), row.get("side", 0)]
    )
    compared = [row for row in rows if "ratios" in row and row["task"] != "learning"]
    parts = [f"## {name}", f"{result['what'][0].upper()}{result['what'][1:]}. {_circumstances(result)}"]
    parts += [_comparison(compared)] if compared else []
    parts += [_growth(result["growth"])] if result.get("growth") else []
    reached = [row for row in rows if "reached" in row]
    parts += [_limits(reached)] if reached else []
    parts += [_learning(row) for row in rows if row["task"] == "learning" and row["ratios"]]
    if (images / picture_of(name)).is_file():
        parts.append(f"![{name}: time and memory against the side](images/{picture_of(name)})")
    return parts


def _loop(path: Path) -> list[str]:
    """Return the section of `benchmarks.loop`, whose results are no rows."""
    if not path.is_file():
        return []
    result = json.loads(path.read_text(encoding="utf-8"))
    about = {name: result[name] for name in ("commit", "date")} | {"repeats": result["turns"]}
    parts = ["## loop", f"{result['what'][0].upper()}{result['what'][1:]}. "]
    parts[1] += _circumstances({**result, "rows": [about]})
    for name, title in (("steps", "a step"), ("default_run", "a default run, planned for phantoms")):
        lines = [(what, f"{value:.3g}") for what, value in result[name].items()]
        parts.append(_table([title, ""], lines))
    return parts


def _reading(path: Path) -> list[str]:
    """Return the section of `benchmarks.reading`: cases a second, and cohorts opened."""
    if not path.is_file():
        return []
    result = json.loads(path.read_text(encoding="utf-8"))
    about = {name: result[name] for name in ("commit", "date")} | {"repeats": result["turns"]}
    parts = ["## reading", f"{result['what'][0].upper()}{result['what'][1:]}, in cases a second. "]
    parts[1] += _circumstances({**result, "rows": [about]})
    for row in result["rows"]:
        lines = [
            (TITLES.get(library, library), *(f"{value:.3g}" for value in rates.values()))
            for library, rates in row["cases_a_second"].items()
        ]
        parts.append(_table([row["set"], "prepared", "first epoch with a cache", "later epochs"], lines))
    lines = [(one["layout"], one["cases"], one["seconds"], one["over_import_mb"]) for one in result["opened"]]
    parts.append(_table(["layout", "cases opened", "seconds", "MB beyond the import"], lines))
    return parts


_NOT_THE_SAME = (
    "`table` has all changes with nnU-Net's probabilities, the other lines one change of every sample. "
    "Where the work is less than ours: in low resolution, batchgeneratorsv2 and MONAI's volumes are "
    "interpolated linearly, not by cubic convolution; batchgeneratorsv2 mirrors each axis half of the "
    "time; kornia's contrast keeps no mean and range, its gamma no mean and deviation; TorchIO has no "
    "brightness and no contrast, kornia no low resolution and no volumes."
)


def _augmentation(path: Path) -> list[str]:
    """Return the section of `benchmarks.augmentation`: samples a second."""
    if not path.is_file():
        return []
    result = json.loads(path.read_text(encoding="utf-8"))
    about = {name: result[name] for name in ("commit", "date")} | {"repeats": result["turns"]}
    parts = ["## augmentation", f"{result['what'][0].upper()}{result['what'][1:]}, in samples a second. "]
    parts[1] += _circumstances({**result, "rows": [about]})
    parts.append(_NOT_THE_SAME)
    for row in result["rows"]:
        rates = {library: each for library, each in row["samples_a_second"].items() if each}
        lines = [
            (
                change,
                *(f"{each[change]:.0f}" if change in each else "" for each in rates.values()),
                share or "",
            )
            for change, share in row["ours_to_fastest_other"].items()
        ]
        heads = [TITLES.get(library, library) for library in rates]
        parts.append(_table([row["set"], *heads, "ours to the fastest other"], lines))
    return parts


def _cross_validation(path: Path) -> list[str]:
    """Return the section of `benchmarks.cross_validation`: networks and recipes in equal minutes."""
    if not path.is_file():
        return []
    runs, minutes = known(path), 24.0
    asked = argparse.Namespace(
        split=False, folds=range(FOLDS), recipes=("new", "old"), networks=NETWORKS, seed=0, minutes=minutes
    )
    about = (
        f"Scans of left atria (MR), cross-validated in {FOLDS} folds; {minutes:.0f} minutes of a processor core a "
        'fold, counted as the time of the process. "new" is the default plan without random curves of intensity, '
        "which came later. Cases tell how many folds have run so far. A processor with fast bfloat16 takes twice the "
        f"steps in a minute. {_of_runs([run for run in runs if run['minutes'] == minutes])}"
    )
    paired = (
        "Below, what networks and recipes differ by. A case is paired where both were trained on one kind of "
        "processor, and counts once; intervals are of the mean over the cases, by bootstrap."
    )
    return [
        "## cross-validation",
        about,
        table(runs, asked),
        paired,
        differences(runs, asked),
        *_split([run for run in runs if run["fold"] == "split"]),
    ]


def _split(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what other numbers of minutes give on the parts of the folder."""
    if not runs:
        return []
    rows = [
        (
            f"{run['minutes']:g}",
            run["network"],
            run["recipe"],
            "yes" if run["bf16"] else "no",
            run["epochs"],
            f"{run['dice']:.3f}",
            f"{min(score['dice'] for score in run['scores']):.3f}",
            f"{sum(score['assd_mm'] for score in run['scores']) / len(run['scores']):.2f}",
        )
        for run in sorted(runs, key=lambda run: run["minutes"])
    ]
    header = ("minutes", "network", "recipe", "fast bfloat16", "epochs", "DSC", "least", "MSD (mm)")
    about = (
        f"Below, the six test cases of the folder, for other numbers of minutes of a core. {_of_runs(runs)}"
    )
    return [about, _table(header, rows)]


def _contrasts(path: Path) -> list[str]:
    """Return the section of `benchmarks.contrasts`: what random curves of intensity gain and cost."""
    if not path.is_file():
        return []
    runs = known(path)
    about = (
        "The default plan on left atria (MR), trained with the probabilities of random curves of intensity "
        "(`augmentation.curve_probability`), tested on the six test cases and on other contrasts that are made from "
        f"them: mean Dice, in brackets the least. {_of_runs(runs)}"
    )
    if not any(run["bf16"] for run in runs):
        about += " A processor with fast bfloat16 takes twice the steps in a minute."
    return ["## contrasts", about, contrasts.table(runs)]


def _plans(path: Path) -> list[str]:
    """Return the section of `benchmarks.plans`: plans of all dimensions, and what each part of a prediction gains."""
    if not path.is_file():
        return []
    parts = ["## plans"]
    for name, result in json.loads(path.read_text(encoding="utf-8")).items():
        about = f"{name[0].upper()}{name[1:]}: each plan trained for {result['minutes']:g} minutes with "
        about += f"{result['threads']} thread(s) and predicted by the command line. {_of_runs([result])}"
        about += f" {result['note']}" if "note" in result else ""
        parts += [about, plans.table(result["plans"])]
        folds = f"Below, one network and the ensemble of {plans.FOLDS} folds, a third of the minutes each; seconds "
        folds += (
            "are those of the processor for a case. A plan of several organs without pairs mirrors nothing."
        )
        parts += [folds, plans.table(result["gains"])]
    return parts


def _of_runs(runs: Sequence[Mapping[str, Any]]) -> str:
    found = {name: _each(sorted({str(run[name]) for run in runs})) for name in ("cpu", "torch", "commit")}
    return f"{found['cpu']}; torch {found['torch']}; commit {found['commit']}."


def _circumstances(result: Mapping[str, Any]) -> str:
    machine, versions, rows = result["machine"], result["versions"], result["rows"]
    device = (
        machine.get("gpu") or f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['features'])})"
    )
    repeats = sorted({row["repeats"] for row in rows})
    return (
        f"{device}, {machine['memory_gb']} GB of memory, threads: {result['threads']}; torch {versions['torch']}, "
        f"Python {versions['python']}; commit {_each(row['commit'] for row in rows)}, "
        f"{_each(row['date'] for row in rows)}; turns of which the median is taken: {_each(map(str, repeats))}."
    )


def _comparison(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each entry; the last columns say what share of its numbers ours takes."""
    numbers = {"seconds": _seconds, "over_start_mb": _mb, "peak_mb": _mb}
    lines = []
    for row in rows:
        for entry, measured in row["measured"].items():
            line = [row["task"], row["side"], row["batch"], row.get("precision", ""), TITLES[entry]]
            if NOT_RUN in measured:
                lines.append(
                    [*line, f"{NOT_RUN}: {_plain(measured[NOT_RUN])}", *[""] * (2 * len(numbers) - 1)]
                )
            else:
                shares = row["ratios"].get(entry, {})
                line += [shown(measured[name]) for name, shown in numbers.items()]
                lines.append([*line, *(f"{shares[name]:.2g}" if name in shares else "" for name in numbers)])
    titles = ["task", "side", "batch", "precision", "", "seconds", "MB over the start", "MB at most"]
    return _table([*titles, "share of time", "share over the start", "share at most"], lines)


def _growth(found: Sequence[Mapping[str, Any]]) -> str:
    titles = ["task", "", "batch", "precision", "sides", "time", "memory over the start"]
    lines = [
        [
            line["task"],
            TITLES[line["entry"]],
            line["batch"],
            line["precision"],
            ", ".join(map(str, line["sides"])),
            line["seconds"],
            line["over_start_mb"],
        ]
        for line in found
    ]
    words = "Growth against the number of pixels, as an exponent: 1 is in step with the pixels, 2 with their square."
    return f"{words}\n\n{_table(titles, lines)}"


def _limits(rows: Sequence[Mapping[str, Any]]) -> str:
    titles = ["task", "part", "side", "batch", "precision", "seconds", "at least", "reached"]
    parts = ["products", "exponentials", "bytes"]
    lines = [
        [
            *(row[name] for name in ("task", "part", "side", "batch", "precision")),
            _seconds(row["measured"]["ours"]["seconds"]),
            _seconds(row["least_seconds"]["all"]),
            f"{100 * row['reached']:.0f} %",
            *(_seconds(row["least_seconds"][part]) for part in parts),
        ]
        for row in rows
    ]
    return _table([*titles, *(f"seconds of {part}" for part in parts)], lines)


def _learning(row: Mapping[str, Any]) -> str:
    bf16, fp32, ratios = row["measured"]["bf16"], row["measured"]["fp32"], row["ratios"]["fp32"]
    return (
        f"{row['steps']} steps of training on real slices with one seed: the mean loss of the last 50 is "
        f"{bf16['loss']} in bf16 and {fp32['loss']} in fp32, {100 * (ratios['loss'] - 1):+.2f} %; bf16 takes "
        f"{ratios['seconds']:.2f} of the time."
    )


def _table(titles: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    rows = [titles, ["---"] * len(titles), *lines]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def _each(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _plain(text: str) -> str:
    """Keep a message from ending its cell or its line."""
    return " ".join(text.replace("|", "/").split())


def _seconds(value: float) -> str:
    return f"{value:.3g}"


def _mb(value: float) -> str:
    return f"{value:,.0f}"
