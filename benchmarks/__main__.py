"""The command line: `python -m benchmarks NAME`, from the root of the repository; see benchmarks/README.md."""

import argparse
from pathlib import Path

from benchmarks import page, plots
from benchmarks.results import ROOT, head, opened
from benchmarks.rows import BENCHMARKS, Choices, rows_of
from benchmarks.turns import run_benchmark


def main() -> None:
    """Measure one benchmark or all, or draw and write down what was measured."""
    args = _parse()
    if args.name == "plots":
        plots.draw(args.out, args.docs / "images")
    elif args.name == "page":
        plots.draw(args.out, args.docs / "images")
        page.update(args.out, args.docs)
    else:
        for name in BENCHMARKS if args.name == "all" else [args.name]:
            _measure(name, args)


def _measure(name: str, args: argparse.Namespace) -> None:
    """Measure the rows of a benchmark into its file of results."""
    choices = Choices(
        sides=args.sides,
        batches=args.batches,
        precisions=args.precision,
        device=args.device,
        threads=args.threads,
        data=str(args.data.resolve()) if args.data else "",
    )
    path = args.out / (
        f"{name}.json" if args.device == "cpu" else f"{name}-{args.device.replace(':', '')}.json"
    )
    wanted = head(name, BENCHMARKS[name], device=args.device, threads=args.threads)
    result = opened(path, wanted)
    result = run_benchmark(rows_of(name, choices), result, path, repeats=args.repeats, again=args.again)
    for line in result.get("growth", []):
        print("grows with the pixels to the power of", line)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "name",
        choices=[*BENCHMARKS, "all", "plots", "page"],
        help="a benchmark, all of them, the pictures of what was measured, or those and the page in docs/",
    )
    numbers = {"type": int, "nargs": "+", "default": ()}
    parser.add_argument("--sides", **numbers, help="side lengths in place of the benchmark's own")
    parser.add_argument("--batches", **numbers, help="batch sizes in place of the benchmark's own")
    parser.add_argument(
        "--precision",
        "--dtype",
        nargs="+",
        choices=("fp32", "bf16"),
        default=(),
        help="bf16 is autocast for networks, the type of all tensors for attention alone",
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns of which the median is taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--again", action="store_true", help="measure anew what was measured before")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of the left atrium set for the training of `precision`, of the CHAOS CT case for `surfaces`",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results"
    )
    parser.add_argument(
        "--docs", type=Path, default=ROOT / "docs", help="folder of the page and its pictures"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
