"""Tell what a run folder, a plan, a checkpoint, a saved predictor or a data folder holds."""

from typing import Any

from guided_attention._files import PathLike

__all__ = ["info"]


def info(path: PathLike) -> dict[str, Any]:
    """Return what lies at `path` as plain values, with the key ``"kind"``.

    Kinds: ``"run"``, ``"plan"``, ``"checkpoint"``, ``"predictor"``, ``"cohort"``.
    """
    raise NotImplementedError
