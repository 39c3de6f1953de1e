"""Trains the default plan with and without random curves of intensity, and tests it on scans of other contrasts.

    python -m benchmarks.contrasts --data FOLDER --minutes 12 --probabilities 0 0.15 0.3
    python -m benchmarks.contrasts --data FOLDER --folds 0 1 --probabilities 0 0.15

FOLDER is that of `examples/train_left_atrium.py`, whose parts are used; with `--folds`, those of
`benchmarks.cross_validation`. The contrasts are made from the test cases: no scan of them trains a network. Minutes are
those of a processor core. A run that is in the results is not repeated.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from benchmarks.cross_validation import Recipe, Run, dealt, known, parser_of_runs, planned
from benchmarks.left_atrium_networks import LABELS, RESULTS, about
from guided_attention.case import Case
from guided_attention.data import Cohort, open_cohort
from guided_attention.evaluation import evaluate
from guided_attention.recipes._machine import has_fast_bf16

_Image = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]


def _as_it_is(image: _Image, atrium: _Mask) -> _Image:
    del atrium
    return image


def _dark_blood(image: _Image, atrium: _Mask) -> _Image:
    """Whatever is as bright as blood, or brighter, becomes darker than the rest: a smooth fall beyond 0.8."""
    del atrium
    darker: _Image = image - 2.2 / (1 + np.exp(-(image - 0.8) / 0.1))
    return darker


def _dark_atrium(image: _Image, atrium: _Mask) -> _Image:
    """The atrium becomes darker, with soft edges, and other blood does not."""
    darker: _Image = image - 1.5 * ndimage.gaussian_filter(atrium.astype(np.float32), 1.0)
    return darker


def _folded(image: _Image, atrium: _Mask) -> _Image:
    """The middle of the intensities is the brightest, blood and air are dark."""
    del atrium
    folded: _Image = -np.abs(image - 0.3)
    return folded


def _inverted(image: _Image, atrium: _Mask) -> _Image:
    del atrium
    return -image


CONTRASTS: Mapping[str, Callable[[_Image, _Mask], _Image]] = {
    "as it is": _as_it_is,
    "dark blood": _dark_blood,
    "dark atrium": _dark_atrium,
    "folded": _folded,
    "inverted": _inverted,
}
"""Each takes an image of mean 0 and standard deviation 1, and where the atrium is."""


def main() -> None:
    """Train, test on every contrast, and write each run down as it is done."""
    args = _parse()
    torch.set_num_threads(args.threads)
    path, cohort = args.out or RESULTS / "contrasts.json", open_cohort(args.data, labels=LABELS)
    fast = _kind_of_processor(path, args.minutes)
    for fold in args.folds or ["split"]:
        for probability in args.probabilities:
            key = {
                "curve_probability": probability,
                "fold": fold,
                "seed": args.seed,
                "minutes": args.minutes,
            }
            if not any(key.items() <= run.items() for run in known(path)):
                run = key | about() | {"bf16": fast} | _trained(dealt(cohort, fold), probability, args)
                # Read anew: another process may have written runs meanwhile.
                path.write_text(json.dumps([*known(path), run], indent=1) + "\n", encoding="utf-8")
                print(table([run]), flush=True)
    print(table(known(path)))


def _kind_of_processor(path: Path, minutes: float) -> bool:
    """Return whether bfloat16 is fast here; stop where the file has runs of so many minutes of the other kind."""
    fast = has_fast_bf16(torch.device("cpu"))
    if any(run["minutes"] == minutes and run["bf16"] != fast for run in known(path)):
        sys.exit(f"{path} has runs of {minutes:g} minutes on another kind of processor. Pass another --out.")
    return fast


def _trained(cohort: Cohort, probability: float, args: argparse.Namespace) -> Run:
    """Train on the parts of a cohort, and return the Dice of its test cases by contrast."""
    values = {"augmentation.curve_probability": probability}
    predict, epochs, _ = planned(cohort, "MSGA lite", Recipe(values=values), args)
    run: Run = {"epochs": epochs}
    for name in CONTRASTS:
        cases = (_changed(cohort.read(case_id), name) for case_id in cohort.parts["test"])
        rows = evaluate(predict, cases, LABELS, definition=None)
        run[name] = {row.case_id: round(row.dice, 4) for row in rows}
    return run


def _changed(case: Case, contrast: str) -> Case:
    image = case.image[0]
    standard = ((image - image.mean()) / image.std()).astype(np.float32)
    assert case.labels is not None  # noqa: S101 - the folder has a mask for every scan
    return replace(case, image=CONTRASTS[contrast](standard, case.labels > 0)[None])


def table(runs: list[Run]) -> str:
    """Return mean and least Dice by contrast as a Markdown table, over all folds of a probability."""
    lines = [
        "| random curves | minutes | folds | cases | epochs | " + " | ".join(CONTRASTS) + " |",
        "|" + "---|" * (5 + len(CONTRASTS)),
    ]
    for (minutes, split, probability), chosen in _grouped(runs).items():
        dice = {name: [value for run in chosen for value in run[name].values()] for name in CONTRASTS}
        cells = [f"{np.mean(values):.3f} ({min(values):.2f})" for values in dice.values()]
        folds = "the split" if split else ", ".join(str(run["fold"]) for run in chosen)
        epochs = np.mean([run["epochs"] for run in chosen])
        head = f"| {probability:g} | {minutes:g} | {folds} | {len(dice['as it is'])} | {epochs:.0f} | "
        lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines)


def _grouped(runs: list[Run]) -> dict[tuple[float, bool, float], list[Run]]:
    """Return the runs by minutes, whether they are of the split, and probability; the folds in order."""
    found: dict[tuple[float, bool, float], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run["minutes"], str(run["fold"]), run["curve_probability"])):
        key = run["minutes"], run["fold"] == "split", run["curve_probability"]
        found.setdefault(key, []).append(run)
    return found


def _parse() -> argparse.Namespace:
    parser = parser_of_runs(__doc__)
    parser.add_argument("--probabilities", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--folds", type=int, nargs="+", help="folds, in place of the parts of cases.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
