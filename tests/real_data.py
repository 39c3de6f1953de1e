"""Finds the real volumes that some tests are run on, and skips where they are absent."""

import os
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
