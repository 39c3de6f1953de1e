"""Reading and preparing scans: cases a second beside MONAI and TorchIO, and a thousand cases opened.

    python -m benchmarks.reading LEFT_ATRIUM CHAOS_CT

The folders hold NIfTI pairs, and one case of CHAOS CT. All libraries read the same files and do the same: one
orientation, pixels of 1 mm, a common scale of the intensities. Each measurement has a process of its own with one
thread, and reads the first case before the clock runs; the libraries take turns. ``prepared`` reads and prepares every
case once, into memory; ``cached`` is the first epoch with a cache on disk, which it fills; ``later`` is an epoch after
it. Every voxel of every epoch is looked at.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from benchmarks.measure import held_bytes, peak_bytes
from benchmarks.results import ROOT, commit, head, write
from guided_attention.data import open_cohort, read_chaos_case, write_nifti
from guided_attention.preparation import Preparation, Window, ZScore
from guided_attention.sampling import VolumeCache

TURNS = 3
PIXEL_MM = 1.0
LOWEST, HIGHEST = -160.0, 240.0
"""The window of CT, in Hounsfield units."""
OPENED = 1000
LAYOUTS = ("pairs", "nnunet", "dicom", "csv")
Step: TypeAlias = Callable[[], int]
"""Does one epoch, and returns the number of its cases."""


def main() -> None:
    """Measure all of it, one process after the other, and write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="the left atria, and the case of CHAOS CT")
    parser.add_argument("--one", nargs=3, help="library, set and folder: for the processes of the others")
    parser.add_argument("--open", nargs=2, help="layout and folder: likewise")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "reading.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.one:
        print(json.dumps(epochs(*args.one)))
    elif args.open:
        print(json.dumps(opened(*args.open)))
    else:
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Compare the libraries on both sets in turns, then open many cases."""
    atria, ct = args.folders
    result = head("reading", "scans read and prepared, one thread", device="cpu", threads=1)
    result["versions"]["torchio"] = version("torchio")
    result |= {"commit": commit(), "date": datetime.now(UTC).strftime("%Y-%m-%d"), "turns": args.turns}
    with tempfile.TemporaryDirectory() as made:
        folders = {"left atria": atria, "CHAOS CT": ct_pair(ct, Path(made) / "ct")}
        result["rows"] = [compared(name, folder, args.turns) for name, folder in folders.items()]
        many = many_cases(Path(made) / "many")
        result["opened"] = [in_own_process("--open", layout, str(many)) for layout in LAYOUTS]
    write(args.out, result)
    print(json.dumps({name: result[name] for name in ("rows", "opened")}, indent=2))


def compared(name: str, folder: Path, turns: int) -> dict[str, Any]:
    """Return the medians of cases a second, of each library and kind of epoch."""
    runs: dict[str, list[Mapping[str, float]]] = {library: [] for library in LIBRARIES}
    for _ in range(turns):
        for library, done in runs.items():
            done.append(in_own_process("--one", library, name, str(folder)))
    medians = {
        library: {kind: round(statistics.median(run[kind] for run in done), 4) for kind in done[0]}
        for library, done in runs.items()
    }
    return {"set": name, "cases_a_second": medians, "runs": runs}


def in_own_process(*what: str) -> dict[str, float]:
    """Return one measurement."""
    command = [sys.executable, "-m", "benchmarks.reading", *what]
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1"
    )
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, env={**os.environ, **threads}
    )
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def epochs(library: str, name: str, folder: str) -> dict[str, float]:
    """Return the cases a second of each kind of epoch."""
    with tempfile.TemporaryDirectory() as cache:
        found = {}
        for kind, step in LIBRARIES[library](name, Path(folder), Path(cache)).items():
            started = time.perf_counter()
            cases = step()
            found[kind] = cases / (time.perf_counter() - started)
    return found


def ours(name: str, folder: Path, cache: Path) -> dict[str, Step]:
    """Read by `open_cohort`, prepare, and keep in a `VolumeCache`."""
    cohort = open_cohort(folder)
    intensity = Window(LOWEST, HIGHEST) if name == "CHAOS CT" else ZScore()
    preparation = Preparation(slice_axis="axial", spacing_mm=(None, PIXEL_MM, PIXEL_MM), intensity=intensity)
    store = VolumeCache(cache, preparation)
    cohort[0]  # imports what reads it
    kept: list[Any] = []

    def cached() -> int:
        kept.append(store.volumes(cohort))
        return touched((volume.image, volume.labels) for volume in kept[0])

    def prepared() -> int:
        volumes = [preparation.apply(case) for case in cohort]
        return touched((volume.image, volume.labels) for volume in volumes)

    return {
        "prepared": prepared,
        "cached": cached,
        "later": lambda: touched((volume.image, volume.labels) for volume in kept[0]),
    }


def monai(name: str, folder: Path, cache: Path) -> dict[str, Step]:
    """`CacheDataset` in memory, `PersistentDataset` on disk."""
    from monai import data, transforms  # noqa: PLC0415

    keys = ("image", "label")
    scale = (
        transforms.ScaleIntensityRanged("image", LOWEST, HIGHEST, 0.0, 1.0, clip=True)
        if name == "CHAOS CT"
        else transforms.NormalizeIntensityd("image")
    )
    steps = transforms.Compose(
        [
            transforms.LoadImaged(keys),
            transforms.EnsureChannelFirstd(keys),
            transforms.Orientationd(keys, axcodes="LPS"),
            transforms.Spacingd(keys, pixdim=(PIXEL_MM, PIXEL_MM, -1.0), mode=("bilinear", "nearest")),
            scale,
        ]
    )
    files = [{"image": str(image), "label": str(label)} for image, label in pairs(folder)]
    store = data.PersistentDataset(files, steps, cache)
    transforms.LoadImaged(keys)(files[0])

    def all_of(items: Iterable[Any]) -> int:
        return touched((item["image"], item["label"]) for item in items)

    return {
        "prepared": lambda: all_of(data.CacheDataset(files, steps, num_workers=0, progress=False)),
        "cached": lambda: all_of(store[place] for place in range(len(store))),
        "later": lambda: all_of(store[place] for place in range(len(store))),
    }


def torchio(name: str, folder: Path, _cache: Path) -> dict[str, Step]:
    """`SubjectsDataset`; it has no cache, so that later epochs are as the first."""
    import torchio as tio  # noqa: PLC0415

    scale = (
        [tio.Clamp(LOWEST, HIGHEST), tio.RescaleIntensity((0, 1), in_min_max=(LOWEST, HIGHEST))]
        if name == "CHAOS CT"
        else [tio.ZNormalization()]
    )
    subjects = [
        tio.Subject(image=tio.ScalarImage(image), label=tio.LabelMap(label)) for image, label in pairs(folder)
    ]
    tio.ScalarImage(pairs(folder)[0][0]).load()
    depth_mm = subjects[0]["image"].spacing[2]
    steps = tio.Compose([tio.ToCanonical(), tio.Resample((PIXEL_MM, PIXEL_MM, depth_mm)), *scale])
    found = tio.SubjectsDataset(subjects, transform=steps)

    def all_of() -> int:
        return touched((subject["image"].data, subject["label"].data) for subject in found)

    return {"prepared": all_of, "cached": all_of, "later": all_of}


LIBRARIES: Mapping[str, Callable[[str, Path, Path], dict[str, Step]]] = {
    "ours": ours,
    "monai": monai,
    "torchio": torchio,
}


def touched(volumes: Iterable[Sequence[Any]]) -> int:
    """Look at every voxel, and return the number of cases."""
    count = 0
    for arrays in volumes:
        for array in arrays:
            np.asarray(array).max()
        count += 1
    return count


def pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return image and mask of each case."""
    labels = sorted(folder.glob("*_label.nii.gz"))
    names = [label.name.removesuffix("_label.nii.gz") for label in labels]
    images = [folder / f"{name}_image.nii.gz" for name in names]
    series = [folder / f"{name}_dicom" for name in names]
    chosen = [image if image.exists() else other for image, other in zip(images, series, strict=True)]
    return list(zip(chosen, labels, strict=True))


def ct_pair(case: Path, folder: Path) -> Path:
    """Lay the DICOM series of a case of CHAOS beside its masks as NIfTI, which all libraries read."""
    folder.mkdir(parents=True)
    shutil.copytree(case / "DICOM_anon", folder / "ct_dicom")
    read = read_chaos_case(case, source="ct")
    if read.labels is None:
        raise AssertionError(case)
    write_nifti(folder / "ct_label.nii.gz", read.labels, read.affine)
    return folder


def many_cases(folder: Path) -> Path:
    """Make a thousand cases in each layout, as links to one small case."""
    source = folder / "source"
    source.mkdir(parents=True)
    volume = np.zeros((7, 32, 32), np.int16)
    image = write_nifti(source / "image.nii.gz", volume, np.eye(4))
    label = write_nifti(source / "label.nii.gz", volume, np.eye(4))
    slices = [source / f"{number}.dcm" for number in range(5)]
    for path in slices:
        path.write_bytes(bytes(128) + b"DICM")
    rows = ["case_id,image,label"]
    for number in range(OPENED):
        links = {
            f"pairs/c{number}_image.nii.gz": image,
            f"pairs/c{number}_label.nii.gz": label,
            f"nnunet/imagesTr/c{number}_0000.nii.gz": image,
            f"nnunet/imagesTr/c{number}_0001.nii.gz": image,
            f"nnunet/labelsTr/c{number}.nii.gz": label,
        }
        links |= {f"dicom/s{number}/{path.name}": path for path in slices}
        for name, target in links.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(target)
        rows.append(f"c{number},pairs/c{number}_image.nii.gz,pairs/c{number}_label.nii.gz")
    (folder / "cases.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def opened(layout: str, folder: str) -> dict[str, float | str]:
    """Open the cases of a layout, with the memory beyond what the import takes."""
    path = Path(folder) / ("cases.csv" if layout == "csv" else layout)
    held = held_bytes(cuda=False)
    started = time.perf_counter()
    cohort = open_cohort(path)
    seconds = time.perf_counter() - started
    over = (peak_bytes(cuda=False) - held) / 2**20
    return {
        "layout": layout,
        "cases": len(cohort),
        "seconds": round(seconds, 3),
        "over_import_mb": round(over, 1),
    }


if __name__ == "__main__":
    main()
