"""The files of results: what they were measured on, written whole after each row, and read again to go on."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["ROOT", "Result", "commit", "head", "opened", "same_row", "with_row", "write"]

Result: TypeAlias = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
_SOURCES = (
    "src/**/*.py",
    "tests/reference/original.py",
    "benchmarks/entries.py",
    "examples/baselines.py",
    "benchmarks/measure.py",
    "benchmarks/surfaces.py",
)
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_PACKAGES = (
    "torch",
    "guided-attention",
    "monai",
    "segmentation-models-pytorch",
    "surface-distance",
    "medpy",
    "torchio",
)


def head(name: str, what: str, *, device: str, threads: int) -> Result:
    """Say what is measured, on which machine, with which versions: results of another head are not mixed with these."""
    return {
        "name": name,
        "what": what,
        "device": device,
        "threads": threads,
        "machine": machine(device),
        "versions": {"python": platform.python_version(), **_versions()},
        "sources": _digest(),
    }


def opened(path: Path, wanted: Result) -> Result:
    """Return the results at `path` where they have the head that is wanted, else that head without rows."""
    if path.is_file():
        known: Result = json.loads(path.read_text(encoding="utf-8"))
        if all(known.get(name) == value for name, value in wanted.items()):
            return known
    return {**wanted, "rows": []}


def same_row(row: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Tell whether a row of results is the one that `about` says."""
    return all(row.get(name) == value for name, value in about.items())


def with_row(result: Result, about: Mapping[str, Any], row: Mapping[str, Any]) -> Result:
    """Return the results with a row added, in place of the one that was the same."""
    others = [other for other in result["rows"] if not same_row(other, about)]
    return {**result, "rows": [*others, {**about, **row}]}


def write(path: Path, result: Result) -> None:
    """Write the results under a temporary name, then rename: a file is whole or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished.{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(result, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def commit() -> str:
    """Return the commit that is checked out, with a plus where sources differ from it."""
    name = _output("git", "rev-parse", "--short", "HEAD")
    changed = _output("git", "status", "--porcelain", "--", "src", "tests/reference", "benchmarks/*.py")
    return f"{name}+" if changed else name


def machine(device: str) -> Result:
    """Name the processor, what it can do, its memory, and the GPU where that is what is measured."""
    lines = _lines("/proc/cpuinfo")
    cpus = [value for name, value in lines if name == "model name"]
    flags = next((value.split() for name, value in lines if name == "flags"), [])
    memory_kib = next((value.split()[0] for name, value in _lines("/proc/meminfo") if name == "MemTotal"), 0)
    about: Result = {
        "cpu": cpus[0] if cpus else platform.processor(),
        "cores": os.cpu_count(),
        "features": [name for name in _FEATURES if name in flags],
        "memory_gb": round(int(memory_kib) * 1024 / 1e9, 1),
    }
    if device.startswith("cuda"):
        about["gpu"] = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    return about


def _lines(path: str) -> list[tuple[str, str]]:
    text = Path(path).read_text(encoding="utf-8") if Path(path).is_file() else ""
    pairs = [line.partition(":") for line in text.splitlines()]
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _digest() -> str:
    """Return a number of the sources that are measured: it tells of changes that were not committed."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
