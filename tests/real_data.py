"""Finds the real volumes that some tests are run on, and skips where they are absent."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).parents[2] / "shared" / "data"


def real_data(name: str) -> Path:
    """Return the folder `name` of the real data, or skip the test that asks."""
    root = Path(os.environ.get("GUIDED_ATTENTION_DATA", _DEFAULT))
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}: set GUIDED_ATTENTION_DATA to the folder that holds it")
    return folder


def some_atria(folder: Path, parts: Mapping[str, Sequence[int]]) -> Path:
    """Link some cases of the left atria into a new folder, with the part of each: to read all takes a minute."""
    data = real_data("left-atrium-mr").resolve()
    folder.mkdir()
    for number in (number for numbers in parts.values() for number in numbers):
        for kind in ("image", "label"):
            name = f"case{number:02d}_{kind}.nii.gz"
            (folder / name).symlink_to(data / name)
    split = [{"case": number, "split": part} for part, numbers in parts.items() for number in numbers]
    (folder / "cases.json").write_text(json.dumps(split), encoding="utf-8")
    return folder
