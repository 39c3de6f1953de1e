"""Encoders: networks that turn an image into maps of several scales."""

from guided_attention.encoders.protocol import Encoder
from guided_attention.encoders.resnet import OutputStride, ResNetEncoder, ResNetName, resnet_encoder
from guided_attention.encoders.timm import TimmEncoder

__all__ = ["Encoder", "OutputStride", "ResNetEncoder", "ResNetName", "TimmEncoder", "resnet_encoder"]
