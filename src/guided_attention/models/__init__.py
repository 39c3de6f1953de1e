"""Models: the wiring, the paper's network, and every network it is compared with; saving and loading."""

from guided_attention._checkpoints import ModelSettings
from guided_attention.models.danet import DualAttentionNetwork, danet
from guided_attention.models.folding import fuse
from guided_attention.models.msga import MSGA, msga_lite
from guided_attention.models.original import export_original, load_original
from guided_attention.models.pretrained import build, from_pretrained, save_pretrained
from guided_attention.models.segmentation import SegmentationModel
from guided_attention.models.variants import daf, ms_cam, ms_danet, ms_dist, ms_dual, ms_dual_guided, ms_pam

__all__ = [
    "MSGA",
    "DualAttentionNetwork",
    "ModelSettings",
    "SegmentationModel",
    "build",
    "daf",
    "danet",
    "export_original",
    "from_pretrained",
    "fuse",
    "load_original",
    "ms_cam",
    "ms_danet",
    "ms_dist",
    "ms_dual",
    "ms_dual_guided",
    "ms_pam",
    "msga_lite",
    "save_pretrained",
]
