"""Slow written-out twins of the encoders, the fusion and the whole network, read from a state dict."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.reference.attention import State, conv, conv_norm_prelu, guided, norm, sub


def resnet(x: Tensor, state: State, *, groups: int = 1) -> list[Tensor]:
    """A ResNet or ResNeXt by torchvision's names: the maps after its four stages."""
    x = norm(conv(x, state, "conv1", stride=2), state, "bn1").clamp(min=0)
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    maps = []
    for stage in (1, 2, 3, 4):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            stride = 2 if stage > 1 and block == 0 else 1
            x = _block(x, sub(state, f"layer{stage}.{block}"), stride, groups)
            block += 1
        maps.append(x)
    return maps


def _block(x: Tensor, state: State, stride: int, groups: int) -> Tensor:
    shortcut = x
    if "downsample.0.weight" in state:
        shortcut = norm(conv(x, state, "downsample.0", stride=stride), state, "downsample.1")
    if "conv3.weight" in state:
        x = norm(conv(x, state, "conv1"), state, "bn1").clamp(min=0)
        x = norm(conv(x, state, "conv2", stride=stride, groups=groups), state, "bn2").clamp(min=0)
        x = norm(conv(x, state, "conv3"), state, "bn3")
    else:
        x = norm(conv(x, state, "conv1", stride=stride), state, "bn1").clamp(min=0)
        x = norm(conv(x, state, "conv2"), state, "bn2")
    return (x + shortcut).clamp(min=0)


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def fusion(features: Sequence[Tensor], state: State) -> tuple[list[Tensor], Tensor]:
    """Return the maps of all scales at the finest size, and the map fused of them."""
    size = features[0].shape[2:]
    maps = [resized(conv_norm_prelu(x, state, f"project.{s}"), size) for s, x in enumerate(features)]
    fused = torch.cat(maps, dim=1)
    for layer in range(3):
        fused = conv_norm_prelu(fused, state, f"fuse.{layer}")
    return maps, fused


def msga(x: Tensor, state: State, *, steps: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return logits, raw logits and attended logits of a guided network with deep supervision."""
    maps, fused = fusion(resnet(x, sub(state, "encoder")), sub(state, "fusion"))
    attended, _, _ = guided(maps, fused, sub(state, "attention"), steps=steps, guidance=True)
    raw = [resized(conv(m, state, f"raw_heads.{s}"), x.shape[2:]) for s, m in enumerate(maps)]
    first = 1 if steps > 1 else 0
    per_step = [
        [resized(conv(m, state, f"attended_heads.{i}.{s}"), x.shape[2:]) for s, m in enumerate(row)]
        for i, row in enumerate(attended[first:])
    ]
    return sum(per_step[-1]) / len(maps), raw, [logits for row in per_step for logits in row]
