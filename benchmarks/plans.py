"""Trains 2-D, 2.5-D and 3-D plans through the command line, and tells what mirrors, ensemble and post-processing gain.

    python -m benchmarks.plans --data LEFT_ATRIA --name "left atria" --minutes 12 --work WORK
    python -m benchmarks.plans --phantoms 15 --name "four organs" --minutes 6 --work WORK

Each plan is trained for the minutes given, with the threads of `OMP_NUM_THREADS`, and predicts the test cases. Then
the default plan is trained in folds, a third of the minutes each. Its ensemble predicts the test cases with and
without mirrors and post-processing, beside one of its networks. Times are those of the processor. Steps that are done
are not repeated: the work folder keeps them.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import torch

from benchmarks.left_atrium_networks import RESULTS, about
from guided_attention.case import Case
from guided_attention.data import write_phantom_cohort
from guided_attention.evaluation import evaluate, mean_dice, read_scores
from guided_attention.inference import PostProcessing, Predictor
from guided_attention.labels import LabelSpec
from guided_attention.recipes import Plan
from guided_attention.recipes._cases import cases_of_plan

PLANS = ("2d", "2.5d", "3d")
FOLDS = 3
Row = dict[str, Any]


def main() -> None:
    """Train, score, and write the results down."""
    args = parse()
    data = args.data or phantoms(args.work / "scans", args.phantoms)
    plans = [by_command_line(args.work, data, plan, args.minutes) for plan in PLANS]
    gains = of_folds(args.work / "folds", data, args.minutes / FOLDS)
    path = RESULTS / "plans.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    known[args.name] = {
        **about(),
        "minutes": args.minutes,
        "threads": torch.get_num_threads(),
        "plans": plans,
        "gains": gains,
    }
    path.write_text(json.dumps(known, indent=1) + "\n")
    print(table(plans), table(gains), sep="\n\n")


def phantoms(folder: Path, subjects: int) -> Path:
    """Write scans of bodies with four organs."""
    return folder if folder.is_dir() else write_phantom_cohort(folder, subjects=subjects, size=64)


def by_command_line(work: Path, data: Path, dimensions: str, minutes: float) -> Row:
    """Plan, train, predict and score with the command line; return the scores of the test cases."""
    run, out = work / dimensions, work / f"{dimensions}-predictions"
    if not (run / "plan.json").is_file():
        command("plan", data, "--out", run, "--minutes", minutes, "--dimensions", dimensions)
    if not (run / "best.pt").is_file():
        command("train", run, "--quiet")
    if not (out / "scores.csv").is_file():
        command("predict", run, "--out", out, "--overwrite")
        command("evaluate", run, "--predictions", out, "--out", out)
    return {"plan": dimensions, **scored(read_scores(out / "scores.csv"))}


def command(*arguments: object) -> None:
    """Run the command line; its output goes to this one's."""
    subprocess.run([sys.executable, "-m", "guided_attention", *map(str, arguments)], check=True)


def of_folds(run: Path, data: Path, minutes: float) -> list[Row]:
    """Train folds, and return what each part of the prediction gains and costs on the test cases."""
    if not (run / "plan.json").is_file():
        command("plan", data, "--out", run, "--minutes", minutes)
    if not (run / "ensemble").is_dir():
        command("train", run, "--folds", FOLDS, "--resume", "--quiet")
        command("finalize", run)
    plan = Plan.load(run)
    source = cases_of_plan(plan)
    cases = [source.read(name) for name in plan.data.test]
    ensemble = Predictor.load(run / "ensemble", device="cpu")
    one = replace(ensemble, model=ensemble.members[0])
    plain = {"mirror_axes": (), "postprocess": PostProcessing()}
    mirrors = {"mirror_axes": plan.inference.mirror_axes}
    chosen = {"postprocess": ensemble.postprocess}
    tried: Mapping[str, Predictor] = {
        "one network": replace(one, **plain),
        "with mirrors": replace(one, **plain | mirrors),
        "with post-processing": replace(one, **plain | chosen),
        "ensemble": replace(ensemble, **plain),
        "ensemble with mirrors": replace(ensemble, **plain | mirrors),
        "ensemble with mirrors and post-processing": ensemble,
    }
    return [{"prediction": name, **timed(each, cases, plan.labels)} for name, each in tried.items()]


def timed(predictor: Predictor, cases: Sequence[Case], labels: LabelSpec) -> Row:
    """Return the scores of a predictor, and the seconds of the processor for each case."""
    seconds: list[float] = []

    def predict(case: Case) -> Any:  # noqa: ANN401 - what the predictor returns
        start = process_time()
        prediction = predictor.predict(case)
        seconds.append(process_time() - start)
        return prediction

    found = scored(evaluate(predict, cases, labels))
    return {**found, "seconds": round(statistics.median(seconds), 2)}


def scored(rows: Sequence[Any]) -> Row:
    """Return the mean Dice, that of each organ, and the least of a case and organ."""
    organs = dict.fromkeys(row.organ for row in rows)
    return {
        "cases": len({row.case_id for row in rows}),
        "dice": round(mean_dice(rows), 4),
        "least": round(min(row.dice for row in rows), 4),
        "organs": {
            organ: round(mean_dice([row for row in rows if row.organ == organ]), 4) for organ in organs
        },
    }


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    names = [name for name in rows[0] if name != "organs"]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of scans")
    parser.add_argument("--phantoms", type=int, default=15, help="subjects, without --data")
    parser.add_argument("--name", required=True, help="what the results are called")
    parser.add_argument("--minutes", type=float, required=True, help="of each plan")
    parser.add_argument("--work", type=Path, required=True, help="folder for scans and runs, kept")
    return parser.parse_args()


if __name__ == "__main__":
    main()
