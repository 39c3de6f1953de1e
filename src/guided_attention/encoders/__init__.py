"""Encoders: networks that turn an image into maps of several scales."""

from guided_attention.encoders.protocol import Encoder
from guided_attention.encoders.resnet import OutputStride, ResNetEncoder, ResNetName, resnet_encoder

__all__ = ["Encoder", "OutputStride", "ResNetEncoder", "ResNetName", "resnet_encoder"]
