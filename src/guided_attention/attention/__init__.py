"""Attention blocks: position, channel, both, and both guided by autoencoders.

Blocks raise an `ArgumentError` or `ArgumentTypeError` for numbers out of range and for maps of another rank, number of
channels, floating type or device. In a compiled graph the maps are not checked.
"""

from guided_attention.attention.attend import attend
from guided_attention.attention.channel import CAM, ChannelEnergy
from guided_attention.attention.dual import DualAttention, DualOutput, attention_branch
from guided_attention.attention.gated import MultiScaleGatedAttention
from guided_attention.attention.guided import GuidedAttention, MultiScaleGuidedAttention
from guided_attention.attention.pooled import PooledAttention
from guided_attention.attention.position import PAM
from guided_attention.attention.protocol import AttendedFeatures, MultiScaleAttention
from guided_attention.attention.semantic import SemanticAutoencoder, SemanticOutput

__all__ = [
    "CAM",
    "PAM",
    "AttendedFeatures",
    "ChannelEnergy",
    "DualAttention",
    "DualOutput",
    "GuidedAttention",
    "MultiScaleAttention",
    "MultiScaleGatedAttention",
    "MultiScaleGuidedAttention",
    "PooledAttention",
    "SemanticAutoencoder",
    "SemanticOutput",
    "attend",
    "attention_branch",
]
