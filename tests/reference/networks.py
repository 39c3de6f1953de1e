"""Slow written-out twins of the encoders, the fusion and the whole network, read from a state dict."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.reference.attention import State, cam, conv, conv_norm_prelu, guided, norm, pam, sub


def resnet(x: Tensor, state: State, *, groups: int = 1, output_stride: int = 32) -> list[Tensor]:
    """A ResNet or ResNeXt by torchvision's names: the maps after its four stages.

    Where the next stage would pass the output stride, its kernels are spread instead; its first block still has the
    dilation of the stage before.
    """
    x = norm(conv(x, state, "conv1", stride=2), state, "bn1").clamp(min=0)
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    maps, reached, dilation = [], 4, 1
    for stage in (1, 2, 3, 4):
        stride, first = 1, dilation
        if stage > 1 and reached < output_stride:
            stride, reached = 2, 2 * reached
        elif stage > 1:
            dilation *= 2
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            spread = (first if block == 0 else dilation, dilation)
            x = _block(x, sub(state, f"layer{stage}.{block}"), stride if block == 0 else 1, groups, spread)
            block += 1
        maps.append(x)
    return maps


def _block(x: Tensor, state: State, stride: int, groups: int, spread: tuple[int, int]) -> Tensor:
    shortcut = x
    if "downsample.0.weight" in state:
        shortcut = norm(conv(x, state, "downsample.0", stride=stride), state, "downsample.1")
    if "conv3.weight" in state:
        x = norm(conv(x, state, "conv1"), state, "bn1").clamp(min=0)
        x = norm(
            conv(x, state, "conv2", stride=stride, groups=groups, dilation=spread[0]), state, "bn2"
        ).clamp(min=0)
        x = norm(conv(x, state, "conv3"), state, "bn3")
    else:
        x = norm(conv(x, state, "conv1", stride=stride, dilation=spread[0]), state, "bn1").clamp(min=0)
        x = norm(conv(x, state, "conv2", dilation=spread[1]), state, "bn2")
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
    attended, _, _ = guided(maps, fused, sub(state, "attention"), steps=steps, guidance="autoencoder")
    raw = [resized(conv(m, state, f"raw_heads.{s}"), x.shape[2:]) for s, m in enumerate(maps)]
    first = 1 if steps > 1 else 0
    per_step = [
        [resized(conv(m, state, f"attended_heads.{i}.{s}"), x.shape[2:]) for s, m in enumerate(row)]
        for i, row in enumerate(attended[first:])
    ]
    return sum(per_step[-1]) / len(maps), raw, [logits for row in per_step for logits in row]


def gate_daf(x: Tensor, state: State) -> Tensor:
    """Two convolutions 3 x 3, one 1 x 1, shares of the channels."""
    x = conv(conv_norm_prelu(conv_norm_prelu(x, state, "0"), state, "1"), state, "2")
    votes = torch.exp(x - x.amax(dim=1, keepdim=True))
    return votes / votes.sum(dim=1, keepdim=True)


def gate_ms_pam(x: Tensor, state: State) -> Tensor:
    return conv_norm_prelu(pam(conv_norm_prelu(x, state, "0"), sub(state, "1")), state, "2")


def gate_ms_cam(x: Tensor, state: State) -> Tensor:
    return conv_norm_prelu(cam(conv_norm_prelu(x, state, "0"), state["1.gate"], "danet"), state, "2")


def gate_ms_danet(x: Tensor, state: State) -> Tensor:
    p = conv(gate_ms_pam(x, sub(state, "position.0")), state, "position.2")
    c = conv(gate_ms_cam(x, sub(state, "channel.0")), state, "channel.2")
    return conv(p + c, state, "project")


def danet(x: Tensor, state: State) -> list[Tensor]:
    """Logits of sum, position and channel attention at the input's size."""
    last = resnet(x, sub(state, "encoder"), output_stride=8)[-1]
    p = pam(_conv_norm_relu(last, state, "position.0"), sub(state, "position.1"))
    c = cam(_conv_norm_relu(last, state, "channel.0"), state["channel.1.gate"], "danet")
    p, c = _conv_norm_relu(p, state, "position.2"), _conv_norm_relu(c, state, "channel.2")
    heads = [(p + c, "head.1"), (p, "position_head.1"), (c, "channel_head.1")]
    return [resized(conv(map_, state, head), x.shape[2:]) for map_, head in heads]


def _conv_norm_relu(x: Tensor, state: State, prefix: str) -> Tensor:
    return norm(conv(x, state, prefix + ".0"), state, prefix + ".1").clamp(min=0)
