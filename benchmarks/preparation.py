"""Memory and time of preparing a scan and of bringing scores back to its grid.

    python -m benchmarks.preparation

Each measurement has a process of its own. Memory is what the process held at most, over what it held before: inputs
are not counted, and of the restoring not the label volume that it returns. The time of restoring stands beside that of
`msga_lite` with a ResNet-18 on the same slices: some slices are predicted, and their time is scaled.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import held_bytes, peak_bytes
from benchmarks.results import ROOT, commit, head, write
from guided_attention.case import Case, affine_of
from guided_attention.models import msga_lite
from guided_attention.preparation import Preparation, Prepared

CLASSES = 5
MM = 0.7
SIDE, DEPTH, SHORT_DEPTH = 512, 400, 50
WAYS = {
    "in plane, from 320 x 320": (1, 320),
    "every axis, from half the slices of 256 x 256": (2, 256),
}
"""How many times coarser the slices lie, and the side of a prepared slice."""
PREPARED_DEPTH = 200
SLICES = 40
THREADS = 2


def main() -> None:
    """Measure all of it, one process after the other, and write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preparation", description=__doc__)
    parser.add_argument("--one", nargs="*", help="one measurement, for the processes of the others")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "preparation.json")
    args = parser.parse_args()
    if args.one:
        torch.set_num_threads(THREADS)
        name, *numbers = args.one
        print(json.dumps(MEASUREMENTS[name](*map(int, numbers))))
        return
    result = head(
        "preparation", "a scan prepared, and scores brought back to it", device="cpu", threads=THREADS
    )
    result |= {
        "commit": commit(),
        "rows": [*map(restoring, WAYS), in_own_process("preparing", PREPARED_DEPTH)],
    }
    write(args.out, result)
    print(json.dumps(result["rows"], indent=2))


def restoring(way: str) -> dict[str, float | str]:
    """Compare many slices with few, and the restoring with the network that gave the scores."""
    factor, side = WAYS[way]
    many = in_own_process("restored", DEPTH, factor, side)
    few = in_own_process("restored", SHORT_DEPTH, factor, side)
    network = in_own_process("predicted", side)["seconds"] * (DEPTH / factor) / SLICES
    return {
        "what": f"restoring {SIDE} x {SIDE} x {DEPTH} with {CLASSES} classes, {way}",
        "seconds": many["seconds"],
        "network_seconds": network,
        "time_ratio": many["seconds"] / network,
        "over_inputs_and_outputs_mb": many["over_mb"],
        f"over_inputs_and_outputs_of_{SHORT_DEPTH}_slices_mb": few["over_mb"],
        "memory_ratio": many["over_mb"] / few["over_mb"],
    }


def in_own_process(*what: object) -> dict[str, float]:
    """Return one measurement."""
    command = [sys.executable, "-m", "benchmarks.preparation", "--one", *map(str, what)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    numbers: dict[str, float] = json.loads(done.stdout)
    return numbers


def prepared_grid(depth: int, factor: int, side: int) -> Prepared:
    """Return a prepared scan of which only the grid is of interest."""
    case = Case("1", np.zeros((1, depth, SIDE, SIDE), np.float32), None, affine_of((3.0, MM, MM)))
    step = MM * SIDE / side
    preparation = Preparation(slice_axis="axial", spacing_mm=(3.0 * factor, step, step), intensity=None)
    prepared = preparation.apply(case)
    if prepared.image.shape[1:] != (depth // factor, side, side):
        raise AssertionError(prepared.image.shape)
    return prepared


def restored(depth: int, factor: int, side: int) -> dict[str, float]:
    """Restore a small scan, to load what is needed, then the one that counts."""
    small = prepared_grid(4, factor, side)
    small.restore(torch.zeros(CLASSES, *small.image.shape[1:]))
    prepared = prepared_grid(depth, factor, side)
    scores = torch.randn(CLASSES, *prepared.image.shape[1:])
    held = held_bytes(cuda=False)
    started = time.perf_counter()
    labels = prepared.restore(scores)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "over_mb": (peak_bytes(cuda=False) - held - labels.nbytes) / 2**20}


def predicted(side: int) -> dict[str, float]:
    """Predict some slices of this size, four at a time."""
    model = msga_lite(in_channels=1, num_classes=CLASSES, encoder="resnet18", channels=16).eval()
    with torch.inference_mode():
        model(torch.randn(4, 1, side, side))
        started = time.perf_counter()
        for _ in range(SLICES // 4):
            model(torch.randn(4, 1, side, side))
    return {"seconds": time.perf_counter() - started}


def preparing(depth: int) -> dict[str, float | str]:
    """Prepare a scan with a z-score and coarser pixels; its own four bytes a voxel count."""
    preparation = Preparation(slice_axis="axial", spacing_mm=(None, 1.0, 1.0))
    rng = np.random.default_rng(0)

    def scan(slices: int) -> Case:
        image = rng.standard_normal((1, slices, SIDE, SIDE), dtype=np.float32)
        return Case("1", image, None, affine_of((3.0, MM, MM)))

    preparation.apply(scan(4))
    case = scan(depth)
    held = held_bytes(cuda=False)
    started = time.perf_counter()
    prepared = preparation.apply(case)
    seconds = time.perf_counter() - started
    over = peak_bytes(cuda=False) - held
    sizes = " x ".join(map(str, prepared.image.shape[1:]))
    return {
        "what": f"preparing {depth} x {SIDE} x {SIDE} from {MM} to 1.0 mm, {sizes}",
        "seconds": seconds,
        "peak_bytes_a_voxel": (over + case.image.nbytes) / case.image.size,
    }


MEASUREMENTS = {"restored": restored, "predicted": predicted, "preparing": preparing}

if __name__ == "__main__":
    main()
