"""Augmentation: samples a second beside MONAI, TorchIO, batchgeneratorsv2 and kornia, with the same changes.

    python -m benchmarks.augmentation

A batch of slices and a batch of volumes, one channel, one thread, the processor's time. `table` makes the changes of
nnU-Net's trainer with its probabilities, many batches in a row. The others make one change to every sample. Each
library is used as its pages say: on batches where it takes them, else on one sample after the other. Changes that a
library does not have are left out, and its table is shorter. Each measurement has its own process; the libraries take
turns. ``--device cuda`` measures those that work on a GPU.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from benchmarks.results import ROOT, commit, head, write
from guided_attention.sampling import (
    Augmentation,
    Brightness,
    Contrast,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    LowResolution,
    Mirror,
    Spatial,
)

TURNS = 5
SETS: Mapping[str, tuple[int, ...]] = {"slices": (8, 1, 256, 256), "patches": (2, 1, 64, 64, 64)}
TABLE: Mapping[str, float] = {
    "spatial": 0.36,  # rotation 0.2, scaling 0.2
    "noise": 0.1,
    "blur": 0.1,  # 0.2, then half of the channels: there is one
    "brightness": 0.15,
    "contrast": 0.15,
    "low resolution": 0.125,
    "inverted gamma": 0.1,
    "gamma": 0.3,
    "mirror": 0.5,
}
SECONDS = 0.2
"""How long one change is measured, at least; the table, which is drawn, ten times that."""
LEAST = 3
"""How many batches it has, at least."""
Step: TypeAlias = Callable[[Tensor, Tensor], object]
"""Changes a batch: images ``(n, 1, *space)``, labels ``(n, *space)``."""
Build: TypeAlias = Callable[[Sequence[int], Mapping[str, float]], Step]
"""Makes a step of a shape and the probability of each change, named as in `TABLE`."""


def main() -> None:
    """Measure all of it, one process after the other, and write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation", description=__doc__)
    parser.add_argument("--one", help="a library: for the processes of the measurements")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "augmentation.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.one:
        print(json.dumps({name: measured(args.one, shape, args.device) for name, shape in SETS.items()}))
        return
    result = head(
        "augmentation", "random changes of training samples, one thread", device=args.device, threads=1
    )
    result["versions"] |= {name: version(name) for name in ("torchio", "batchgeneratorsv2", "kornia")}
    result |= {"commit": commit(), "date": datetime.now(UTC).strftime("%Y-%m-%d"), "turns": args.turns}
    libraries = [name for name in LIBRARIES if args.device == "cpu" or name in ON_DEVICE]
    runs: dict[str, list[dict[str, dict[str, float]]]] = {library: [] for library in libraries}
    for _ in range(args.turns):
        for library, done in runs.items():
            done.append(in_own_process(library, args.device))
    result["rows"] = [compared(runs, name) for name in SETS]
    write(args.out, result)
    print(json.dumps(result["rows"], indent=2))


def compared(runs: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]], name: str) -> dict[str, Any]:
    """Return the medians of samples a second on one set, and the share of the others' fastest in ours."""
    medians = {
        library: {
            kind: round(statistics.median(run[name][kind] for run in done), 1) for kind in done[0][name]
        }
        for library, done in runs.items()
    }
    ratios = {}
    for kind, mine in medians["ours"].items():
        others = [rates[kind] for library, rates in medians.items() if library != "ours" and kind in rates]
        ratios[kind] = round(mine / max(others), 2) if others else None
    return {
        "set": name,
        "shape": SETS[name],
        "samples_a_second": medians,
        "ours_to_fastest_other": ratios,
        "runs": {library: [run[name] for run in done] for library, done in runs.items()},
    }


def in_own_process(library: str, device: str) -> dict[str, dict[str, float]]:
    """Return one measurement."""
    command = [sys.executable, "-m", "benchmarks.augmentation", "--one", library, "--device", device]
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1"
    )
    done = subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads}
    )
    numbers: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def measured(library: str, shape: Sequence[int], device: str) -> dict[str, float]:
    """Return samples a second of the table, and of each change that the library has."""
    build = LIBRARIES[library]
    torch.manual_seed(0)
    images = torch.randn(*shape, device=device)
    labels = torch.zeros(len(images), *shape[2:], dtype=torch.long, device=device)
    labels[:, *(slice(length // 4, length // 2) for length in shape[2:])] = 1
    kinds = {"table": TABLE} | {kind: {kind: 1.0} for kind in TABLE}
    rates = {}
    for kind, chances in kinds.items():
        try:
            step = build(shape[1:], chances)
        except KeyError:  # the library has no such change
            continue
        rates[kind] = rate(step, images, labels, 10 * SECONDS if kind == "table" else SECONDS)
    return rates


def rate(step: Step, images: Tensor, labels: Tensor, seconds: float) -> float:
    """Return samples a second: of the processor's time on the CPU, which other programs do not change."""
    clock = time.perf_counter if images.is_cuda else time.process_time
    for _ in range(3):
        step(images, labels)
    count, started = 0, finished(images, clock)
    while count < LEAST or finished(images, clock) - started < seconds:
        step(images, labels)
        count += 1
    return count * len(images) / (finished(images, clock) - started)


def finished(images: Tensor, clock: Callable[[], float]) -> float:
    """Return the time after what a GPU still does."""
    if images.is_cuda:
        torch.cuda.synchronize()
    return clock()


def chosen(table: Mapping[str, Callable[[float], Any]], chances: Mapping[str, float]) -> list[Any]:
    """Return the changes that a library has, or raise where it has none of those wanted."""
    made = [table[name](chance) for name, chance in chances.items() if name in table]
    if not made:
        raise KeyError(*chances)
    return made


def one_by_one(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Step:
    """Return a step for a library that takes one sample: image ``(1, *space)``, labels ``(1, *space)``."""

    def step(images: Tensor, labels: Tensor) -> object:
        pairs = [change(image, classes[None]) for image, classes in zip(images, labels, strict=True)]
        return torch.stack([image for image, _ in pairs]), torch.stack([classes for _, classes in pairs])

    return step


def ours(shape: Sequence[int], chances: Mapping[str, float]) -> Step:
    """`Augmentation`, with a new seed for each sample."""
    dims = len(shape) - 1
    joint = 1 - math.sqrt(1 - TABLE["spatial"])  # each of rotation and scaling
    table: Mapping[str, Callable[[float], Any]] = {
        "spatial": lambda p: Spatial(
            (1.0,) * dims,
            180.0 if dims == 2 else 30.0,  # noqa: PLR2004
            rotation_probability=p if p == 1 else joint,
            scaling_probability=p if p == 1 else joint,
        ),
        "noise": GaussianNoise,
        "blur": lambda p: GaussianBlur(p, 1.0),
        "brightness": Brightness,
        "contrast": Contrast,
        "low resolution": lambda p: LowResolution(p, 1.0),
        "inverted gamma": lambda p: Gamma(p, inverted=True),
        "gamma": Gamma,
        "mirror": lambda p: Mirror(tuple(range(dims)), p),
    }
    augment = Augmentation(tuple(chosen(table, chances)))
    seeds = batches_of_seeds()
    return lambda images, labels: augment(images, labels, next(seeds)[: len(images)])


def batches_of_seeds() -> Iterator[Tensor]:
    """Give new seeds for ever."""
    start = 0
    while True:
        yield torch.arange(start, start + 64)
        start += 64


def batchgenerators(shape: Sequence[int], chances: Mapping[str, float]) -> Step:
    """batchgeneratorsv2: what nnU-Net's trainer uses, with its arguments."""
    from batchgeneratorsv2.transforms.intensity import (  # noqa: PLC0415
        brightness,
        contrast,
        gamma,
        gaussian_noise,
    )
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform  # noqa: PLC0415
    from batchgeneratorsv2.transforms.spatial import (  # noqa: PLC0415
        low_resolution,
        mirroring,
        spatial,
    )
    from batchgeneratorsv2.transforms.utils import compose, random  # noqa: PLC0415

    dims = len(shape) - 1
    angle = math.pi if dims == 2 else math.pi / 6  # noqa: PLR2004
    range_, exponents = contrast.BGContrast((0.75, 1.25)), contrast.BGContrast((0.7, 1.5))

    def raised(inverted: float) -> object:
        return gamma.GammaTransform(
            exponents, inverted, synchronize_channels=False, p_per_channel=1, p_retain_stats=1
        )

    def sometimes(change: object) -> Callable[[float], object]:
        return lambda p: random.RandomTransform(change, apply_probability=p)

    table: Mapping[str, Callable[[float], Any]] = {
        "spatial": lambda p: spatial.SpatialTransform(
            tuple(shape[1:]),
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=p if p == 1 else 0.2,
            rotation=(-angle, angle),
            p_scaling=p if p == 1 else 0.2,
            scaling=(0.7, 1.4),
            p_synchronize_scaling_across_axes=1,
        ),
        "noise": sometimes(gaussian_noise.GaussianNoiseTransform((0, 0.1), synchronize_channels=True)),
        "blur": sometimes(GaussianBlurTransform((0.5, 1.0), benchmark=True)),
        "brightness": sometimes(
            brightness.MultiplicativeBrightnessTransform(range_, synchronize_channels=False)
        ),
        "contrast": sometimes(
            contrast.ContrastTransform(range_, preserve_range=True, synchronize_channels=False)
        ),
        "low resolution": sometimes(
            low_resolution.SimulateLowResolutionTransform(
                (0.5, 1), synchronize_channels=False, synchronize_axes=True, ignore_axes=None
            )
        ),
        "inverted gamma": sometimes(raised(1)),
        "gamma": sometimes(raised(0)),
        "mirror": lambda _: mirroring.MirrorTransform(tuple(range(dims))),
    }
    every = compose.ComposeTransforms(chosen(table, chances))

    def change(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # It changes images in place.
        found = every(image=image.clone(), segmentation=labels)
        return found["image"], found["segmentation"]

    return one_by_one(change)


def monai(shape: Sequence[int], chances: Mapping[str, float]) -> Step:
    """MONAI's dictionary transforms."""
    from monai import transforms  # noqa: PLC0415

    dims = len(shape) - 1
    angle = math.pi if dims == 2 else math.pi / 6  # noqa: PLR2004
    width = (0.5, 1.0)

    def gamma(p: float, *, inverted: bool = False) -> object:
        return transforms.RandAdjustContrastd("image", p, (0.7, 1.5), inverted, True)  # noqa: FBT003

    table: Mapping[str, Callable[[float], Any]] = {
        "spatial": lambda p: transforms.RandAffined(
            ("image", "label"),
            prob=p,
            rotate_range=[angle] * (1 if dims == 2 else 3),  # noqa: PLR2004
            scale_range=[(-0.3, 0.4)] * dims,
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        "noise": lambda p: transforms.RandGaussianNoised("image", p, std=0.32),
        "blur": lambda p: transforms.RandGaussianSmoothd("image", width, width, width, prob=p),
        "brightness": lambda p: transforms.RandScaleIntensityd("image", (-0.25, 0.25), p),
        "contrast": lambda p: transforms.RandScaleIntensityFixedMeand(
            "image", (-0.25, 0.25), preserve_range=True, prob=p
        ),
        "low resolution": lambda p: transforms.RandSimulateLowResolutiond(
            "image",
            p,
            upsample_mode="bicubic" if dims == 2 else "trilinear",  # noqa: PLR2004
        ),
        "inverted gamma": lambda p: gamma(p, inverted=True),
        "gamma": gamma,
        "mirror": lambda p: transforms.Compose(
            [transforms.RandFlipd(("image", "label"), p, axis) for axis in range(dims)]
        ),
    }
    every = transforms.Compose(chosen(table, chances))

    def change(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        found = every({"image": image, "label": labels})
        return torch.as_tensor(found["image"]), torch.as_tensor(found["label"])

    return one_by_one(change)


def torchio(shape: Sequence[int], chances: Mapping[str, float]) -> Step:
    """TorchIO, whose images are volumes: a slice has a depth of 1. It has no brightness and no contrast."""
    import torchio as tio  # noqa: PLC0415

    flat = len(shape) == 3  # noqa: PLR2004
    axes = (0, 1) if flat else (0, 1, 2)
    degrees = (0, 0, 0, 0, -180, 180) if flat else 30
    table: Mapping[str, Callable[[float], Any]] = {
        "spatial": lambda p: tio.RandomAffine((0.7, 1.4), degrees, isotropic=True, p=p),
        "noise": lambda p: tio.RandomNoise(std=(0, 0.32), p=p),
        "blur": lambda p: tio.RandomBlur((0.5, 1.0), p=p),
        "low resolution": lambda p: tio.RandomAnisotropy(axes, (1.0, 2.0), p=p),
        "gamma": lambda p: tio.RandomGamma((-0.36, 0.4), p=p),
        "mirror": lambda p: tio.RandomFlip(axes, flip_probability=p),
    }
    every = tio.Compose(chosen(table, chances))

    def change(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        volumes = (image[..., None], labels[..., None]) if flat else (image, labels)
        found = every(
            tio.Subject(image=tio.ScalarImage(tensor=volumes[0]), label=tio.LabelMap(tensor=volumes[1]))
        )
        return found["image"].data, found["label"].data

    return one_by_one(change)


def kornia(shape: Sequence[int], chances: Mapping[str, float]) -> Step:
    """kornia, on whole batches. It has no low resolution, and changes no masks of volumes."""
    from kornia import augmentation  # noqa: PLC0415

    range_, gammas = (0.75, 1.25), (0.7, 1.5)
    table: Mapping[str, Callable[[float], Any]] = {
        "spatial": lambda p: augmentation.RandomAffine(180.0, scale=(0.7, 1.4), p=p),
        "noise": lambda p: augmentation.RandomGaussianNoise(0.0, 0.32, p=p),
        "blur": lambda p: augmentation.RandomGaussianBlur((9, 9), (0.5, 1.0), "replicate", p=p),
        "brightness": lambda p: augmentation.RandomBrightness(range_, clip_output=False, p=p),
        "contrast": lambda p: augmentation.RandomContrast(range_, clip_output=False, p=p),
        "gamma": lambda p: augmentation.RandomGamma(gammas, p=p),
        "mirror": lambda p: augmentation.AugmentationSequential(
            augmentation.RandomHorizontalFlip(p=p), augmentation.RandomVerticalFlip(p=p)
        ),
    }
    made = chosen(table if len(shape) == 3 else {}, chances)  # noqa: PLR2004
    every = augmentation.AugmentationSequential(*made, data_keys=["input", "mask"])
    return lambda images, labels: every(images, labels[:, None].to(images.dtype))


LIBRARIES: Mapping[str, Build] = {
    "ours": ours,
    "batchgeneratorsv2": batchgenerators,
    "monai": monai,
    "torchio": torchio,
    "kornia": kornia,
}
ON_DEVICE = ("ours", "batchgeneratorsv2", "monai", "kornia")


if __name__ == "__main__":
    main()
