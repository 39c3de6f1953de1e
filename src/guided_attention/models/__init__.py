"""Models: the wiring, and the paper's network as one call."""

from guided_attention.models.msga import MSGA
from guided_attention.models.segmentation import SegmentationModel

__all__ = ["MSGA", "SegmentationModel"]
