"""Skips these tests where torchvision, timm or smp are missing or do not fit the torch that is installed."""

import importlib

import pytest


def _unusable() -> str:
    """Return why the libraries cannot be used; nothing where they can."""
    for name in ("torchvision", "timm", "segmentation_models_pytorch"):
        try:
            importlib.import_module(name)
        except (
            ImportError,
            RuntimeError,
        ) as error:  # RuntimeError: torchvision's operators fit another torch
            return f"{name}: {error}"
    return ""


@pytest.fixture(autouse=True, scope="session")
def _libraries():
    why = _unusable()
    if why:
        pytest.skip(f"`nox -s newest` installs what these tests need ({why})")
