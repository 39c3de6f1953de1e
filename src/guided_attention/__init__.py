"""Medical image segmentation with multi-scale guided self-attention.

The everyday names can be imported from here. The rest is in the subpackages, which are loaded when they are first used:
``import guided_attention as ga; ga.metrics.dice``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what `__getattr__` loads, for type checkers
    from types import ModuleType

    from guided_attention import (  # noqa: F401
        attention,
        case,
        data,
        encoders,
        errors,
        evaluation,
        figures,
        fusion,
        inference,
        labels,
        losses,
        metrics,
        models,
        outputs,
        preparation,
        recipes,
        sampling,
        training,
    )
    from guided_attention.attention import CAM, PAM, DualAttention, GuidedAttention, SemanticAutoencoder
    from guided_attention.fusion import MultiScaleFusion
    from guided_attention.models import MSGA, SegmentationModel
    from guided_attention.training import Trainer

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

_SUBPACKAGES = (
    "attention",
    "case",
    "data",
    "encoders",
    "errors",
    "evaluation",
    "figures",
    "fusion",
    "inference",
    "labels",
    "losses",
    "metrics",
    "models",
    "outputs",
    "preparation",
    "recipes",
    "sampling",
    "training",
)
_HOMES = {
    "CAM": "attention",
    "MSGA": "models",
    "PAM": "attention",
    "DualAttention": "attention",
    "GuidedAttention": "attention",
    "MultiScaleFusion": "fusion",
    "SegmentationModel": "models",
    "SemanticAutoencoder": "attention",
    "Trainer": "training",
}
"""The subpackage of each everyday name: loaded when used, so that the command line answers before torch is loaded."""

if not TYPE_CHECKING:  # a type checker would take every misspelt name for a module

    def __getattr__(name: str) -> "ModuleType | type":
        """Load a subpackage or an everyday name that is used for the first time."""
        if name in _HOMES:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        if name in _SUBPACKAGES:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Return the names that are loaded and those that can be."""
        return sorted({*globals(), *_SUBPACKAGES, *_HOMES})
