"""Measures PAM, forward and backward, against the same sums with the weights stored: time and peak memory.

    python benchmarks/position_attention.py --sides 64 128 --repeats 5

Each measurement has a process of its own; the two sides take turns. Peak memory is that of the process over what it
held with its inputs and after a first, small pass.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from guided_attention import PAM, __version__

CHANNELS = 64
RESULTS = Path(__file__).parent / "results" / "position_attention.json"


def stored(pam: PAM, x: Tensor) -> Tensor:
    """Position attention as the original code computes it: the whole matrix of weights in memory."""
    query, key, value = (project(x).flatten(2) for project in (pam.query, pam.key, pam.value))
    weights = torch.softmax(query.mT @ key, dim=-1)
    return pam.gate * (value @ weights.mT).reshape(x.shape) + x


def measure(side: int, *, ours: bool) -> dict[str, float]:
    """Return seconds and MB over the inputs of one forward and backward pass."""
    torch.manual_seed(0)
    pam = PAM(CHANNELS)
    torch.nn.init.ones_(pam.gate)
    x, small = (torch.randn(1, CHANNELS, s, s, requires_grad=True) for s in (side, 8))
    run = pam if ours else lambda map_: stored(pam, map_)
    run(small).sum().backward()
    before, started = peak_mb(), time.perf_counter()
    run(x).sum().backward()
    return {"seconds": time.perf_counter() - started, "peak_mb": peak_mb() - before}


def peak_mb() -> float:
    """Return the most memory that this process has held so far (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(side: int, repeats: int, threads: int) -> dict[str, float]:
    """Measure both sides in turns, and return medians and ratios."""
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "stored": []}
    for _ in range(repeats):
        for name, measured in runs.items():
            command = [
                sys.executable,
                __file__,
                "--one",
                name,
                "--sides",
                str(side),
                "--threads",
                str(threads),
            ]
            measured.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    row = {"side": side, "positions": side * side}
    for name, measured in runs.items():
        for unit in ("seconds", "peak_mb"):
            row[f"{name}_{unit}"] = round(statistics.median(run[unit] for run in measured), 3)
    row["time_ratio"] = round(row["ours_seconds"] / row["stored_seconds"], 3)
    row["memory_ratio"] = round(row["ours_peak_mb"] / row["stored_peak_mb"], 3)
    return row


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", choices=("ours", "stored"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(measure(args.sides[0], ours=args.one == "ours")))
        return
    rows = [compare(side, args.repeats, args.threads) for side in args.sides]
    result = {
        "what": "PAM(64), batch 1, fp32, forward + backward",
        "machine": machine(args.threads),
        "rows": rows,
    }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def machine(threads: int) -> dict[str, str | int]:
    """Name what the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True
    )
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(names),
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "guided_attention": __version__,
        "commit": commit.stdout.strip(),
    }


if __name__ == "__main__":
    main()
