"""Memory of predicting with sliding windows, and their time beside MONAI's.

    python -m benchmarks.windows

Each measurement has a process of its own. Memory is what `Predictor.predict` held at most, over what the process held
before: not counted are the scan, the prepared scan and the two volumes of the result. The network is a single
convolution, so that what is measured is the work around it. The times are those of the same network in the same
windows, in turns, in seconds of the processor.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import held_bytes, peak_bytes
from benchmarks.results import ROOT, commit, head, write
from guided_attention._typing import SpatialDims
from guided_attention.case import Case, affine_of
from guided_attention.inference import Predictor
from guided_attention.inference.windows import Windows
from guided_attention.labels import LabelSpec
from guided_attention.models import msga_lite
from guided_attention.preparation import Preparation

CLASSES = 5
LABELS = LabelSpec({value: f"organ {value}" for value in range(1, CLASSES)})
PREPARATION = Preparation(slice_axis="axial")
SIDE, DEPTH, SHORT_DEPTH = 512, 400, 50
SIZES = {2: (256, 256), 3: (32, 256, 256)}
CONVOLUTIONS = {2: (nn.Conv2d, 4), 3: (nn.Conv3d, 1)}
"""The network, and how many windows at once."""
VOLUME, WINDOW, OVERLAP = (48, 160, 160), (32, 96, 96), 0.5
REPEATS = 3
THREADS = 1


def main() -> None:
    """Measure all of it, one process after the other, and write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.windows", description=__doc__)
    parser.add_argument("--one", nargs="*", help="one measurement, for the processes of the others")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "windows.json")
    args = parser.parse_args()
    if args.one:
        torch.set_num_threads(THREADS)
        name, *numbers = args.one
        print(json.dumps(MEASUREMENTS[name](*map(int, numbers))))
        return
    result = head("windows", "prediction with sliding windows", device="cpu", threads=THREADS)
    rows = [memory(2), memory(3), *(in_own_process("timed", real) for real in (1, 0))]
    write(args.out, result | {"commit": commit(), "rows": rows})
    print(json.dumps(rows, indent=2))


def memory(dims: int) -> dict[str, float | str]:
    """Compare many slices with few."""
    many, few = (in_own_process("predicted", dims, depth) for depth in (DEPTH, SHORT_DEPTH))
    size = " x ".join(map(str, SIZES[dims]))
    return {
        "what": f"predicting {SIDE} x {SIDE} x {DEPTH} with {CLASSES} classes in windows of {size}",
        "seconds": many["seconds"],
        "over_inputs_and_outputs_mb": many["over_mb"],
        f"over_inputs_and_outputs_of_{SHORT_DEPTH}_slices_mb": few["over_mb"],
        "memory_ratio": many["over_mb"] / few["over_mb"],
    }


def in_own_process(*what: object) -> dict[str, float]:
    """Return one measurement."""
    command = [sys.executable, "-m", "benchmarks.windows", "--one", *map(str, what)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    numbers: dict[str, float] = json.loads(done.stdout)
    return numbers


def scan(depth: int, side: int) -> Case:
    """Return noise."""
    image = np.random.default_rng(0).standard_normal((1, depth, side, side), dtype=np.float32)
    return Case("1", image, None, affine_of((3.0, 0.7, 0.7)))


def predicted(dims: int, depth: int) -> dict[str, float]:
    """Predict a small scan, to load what is needed, then the one that counts."""
    conv, batch = CONVOLUTIONS[dims]
    model = conv(1, CLASSES, 3, padding=1)
    size: SpatialDims = 3 if conv is nn.Conv3d else 2
    predictor = Predictor(
        model,
        PREPARATION,
        LABELS,
        device="cpu",
        batch_size=batch,
        spatial_dims=size,
        patch_size=SIZES[dims],
    )
    predictor.predict(scan(4, 64))
    case = scan(depth, SIDE)
    held = held_bytes(cuda=False)
    started = time.perf_counter()
    prediction = predictor.predict(case)
    seconds = time.perf_counter() - started
    known = case.image.nbytes + prediction.labels.nbytes + prediction.uncertainty.nbytes
    return {"seconds": seconds, "over_mb": (peak_bytes(cuda=False) - held - known) / 2**20}


def timed(real: int) -> dict[str, float | str]:
    """Predict the same windows by ours and by MONAI, in turns, and compare the results."""
    from monai.inferers import sliding_window_inference  # noqa: PLC0415

    torch.manual_seed(0)
    model = (
        msga_lite(1, CLASSES, encoder="resnet18", channels=16, spatial_dims=3)
        if real
        else nn.Conv3d(1, CLASSES, 1)
    )
    model.eval()
    depth, side, _ = VOLUME
    prepared = PREPARATION.apply(scan(depth, side))
    image, windows = torch.from_numpy(prepared.image)[None], Windows(WINDOW, OVERLAP, 1)

    def ours() -> Tensor:
        return torch.cat([*windows.logits(prepared, model, is_volume=True)], dim=1)

    def theirs() -> Tensor:
        found: Tensor = sliding_window_inference(image, WINDOW, 1, model, OVERLAP, mode="gaussian")[0]
        return found

    with torch.inference_mode():
        difference = float((ours() - theirs()).abs().max())
        seconds = [(clocked(ours), clocked(theirs)) for _ in range(REPEATS)]
    mine, other = (statistics.median(column) for column in zip(*seconds, strict=True))
    network = "msga_lite, ResNet-18, 16 channels" if real else "a convolution 1 x 1 x 1"
    return {
        "what": f"{VOLUME} in windows of {WINDOW}, overlap {OVERLAP}, {network}",
        "processor_seconds": mine,
        "monai_processor_seconds": other,
        "time_ratio": mine / other,
        "largest_difference": difference,
    }


def clocked(work: Callable[[], object]) -> float:
    """Return the processor seconds of one call, which other work on the machine hardly changes."""
    started = time.process_time()
    work()
    return time.process_time() - started


MEASUREMENTS: dict[str, Callable[..., dict[str, float] | dict[str, float | str]]] = {
    "predicted": predicted,
    "timed": timed,
}

if __name__ == "__main__":
    main()
