"""Attention blocks: position, channel, both, and both guided by semantic autoencoders."""

from guided_attention.attention.attend import attend
from guided_attention.attention.channel import CAM, ChannelEnergy
from guided_attention.attention.dual import DualAttention
from guided_attention.attention.guided import GuidedAttention, GuidedFeatures, MultiScaleGuidedAttention
from guided_attention.attention.position import PAM
from guided_attention.attention.semantic import SemanticAutoencoder, SemanticOutput

__all__ = [
    "CAM",
    "PAM",
    "ChannelEnergy",
    "DualAttention",
    "GuidedAttention",
    "GuidedFeatures",
    "MultiScaleGuidedAttention",
    "SemanticAutoencoder",
    "SemanticOutput",
    "attend",
]
