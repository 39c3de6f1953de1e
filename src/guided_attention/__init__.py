"""Medical image segmentation with multi-scale guided self-attention.

The everyday names can be imported from here. The rest is in the subpackages, which are loaded when they are first used:
``import guided_attention as ga; ga.metrics.dice``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from guided_attention.attention import CAM, PAM, DualAttention, GuidedAttention, SemanticAutoencoder
from guided_attention.fusion import MultiScaleFusion
from guided_attention.models import MSGA, SegmentationModel
from guided_attention.training import Trainer

if TYPE_CHECKING:
    from types import ModuleType

    from guided_attention import (  # noqa: F401 - for type checkers, which know nothing of `__getattr__`
        case,
        data,
        errors,
        evaluation,
        figures,
        inference,
        labels,
        metrics,
        outputs,
        preparation,
        sampling,
    )

__all__ = [
    "CAM",
    "MSGA",
    "PAM",
    "DualAttention",
    "GuidedAttention",
    "MultiScaleFusion",
    "SegmentationModel",
    "SemanticAutoencoder",
    "Trainer",
]

__version__ = "0.1.0"

_LOADED_WHEN_USED = (
    "case",
    "data",
    "errors",
    "evaluation",
    "figures",
    "inference",
    "labels",
    "metrics",
    "outputs",
    "preparation",
    "sampling",
)

if not TYPE_CHECKING:  # a type checker would take every misspelt name for a module

    def __getattr__(name: str) -> "ModuleType":
        """Load a subpackage that is used for the first time."""
        if name in _LOADED_WHEN_USED:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Return the names that are loaded and those that can be."""
        return sorted({*globals(), *_LOADED_WHEN_USED})
