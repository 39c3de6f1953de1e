"""Medical image segmentation with multi-scale guided self-attention.

The everyday names stand here; every room (`attention`, `fusion`, `encoders`, `models`, `losses`, `metrics`, `data`,
`training`, `inference`, `figures`) has the rest of its own.
"""

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
