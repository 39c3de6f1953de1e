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


# Blocks a stage, channels of the first stage's 3 x 3 convolutions, their groups.
PUBLISHED = {
    "resnet18": ((2, 2, 2, 2), 64, 1),
    "resnet34": ((3, 4, 6, 3), 64, 1),
    "resnet50": ((3, 4, 6, 3), 64, 1),
    "resnet101": ((3, 4, 23, 3), 64, 1),
    "resnext50_32x4d": ((3, 4, 6, 3), 128, 32),
    "resnext101_32x8d": ((3, 4, 23, 3), 256, 32),
}


def torchvision_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict that torchvision publishes, for 3 channels and 1,000 classes."""
    depths, inner, groups = PUBLISHED[name]
    expansion = 1 if name in {"resnet18", "resnet34"} else 4
    shapes = {"conv1.weight": (64, 3, 7, 7), **_norm_shapes("bn1", 64)}
    before = 64
    for stage, depth in enumerate(depths):
        wide, after = inner * 2**stage, expansion * 64 * 2**stage
        for block in range(depth):
            if expansion == 1:
                convs = [(wide, before, 3, 3), (wide, wide, 3, 3)]
            else:
                convs = [(wide, before, 1, 1), (wide, wide // groups, 3, 3), (after, wide, 1, 1)]
            at = f"layer{stage + 1}.{block}."
            for i, shape in enumerate(convs, start=1):
                shapes |= {f"{at}conv{i}.weight": shape, **_norm_shapes(f"{at}bn{i}", shape[0])}
            if before != after:
                shapes[f"{at}downsample.0.weight"] = (after, before, 1, 1)
                shapes |= _norm_shapes(f"{at}downsample.1", after)
            before = after
    return shapes | {"fc.weight": (1000, before), "fc.bias": (1000,)}


def _norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{v}": (channels,) for v in vectors} | {f"{name}.num_batches_tracked": ()}


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def filled_up(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both numbers are multiples."""
    rows, columns = (
        [min(place, side - 1) for place in range(-(-side // multiple) * multiple)] for side in x.shape[2:]
    )
    return x[:, :, rows][:, :, :, columns]


def cut(x: Tensor, like: Tensor) -> Tensor:
    """Keep as many rows and columns as the image has."""
    height, width = like.shape[2:]
    return x[:, :, :height, :width]


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
    image, x = x, filled_up(x, 32)
    maps, fused = fusion(resnet(x, sub(state, "encoder")), sub(state, "fusion"))
    attended, _, _ = guided(maps, fused, sub(state, "attention"), steps=steps, guidance="autoencoder")
    raw = [cut(resized(conv(m, state, f"raw_heads.{s}"), x.shape[2:]), image) for s, m in enumerate(maps)]
    first = 1 if steps > 1 else 0
    per_step = [
        [
            cut(resized(conv(m, state, f"attended_heads.{i}.{s}"), x.shape[2:]), image)
            for s, m in enumerate(row)
        ]
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
    image, x = x, filled_up(x, 8)
    last = resnet(x, sub(state, "encoder"), output_stride=8)[-1]
    p = pam(_conv_norm_relu(last, state, "position.0"), sub(state, "position.1"))
    c = cam(_conv_norm_relu(last, state, "channel.0"), state["channel.1.gate"], "danet")
    p, c = _conv_norm_relu(p, state, "position.2"), _conv_norm_relu(c, state, "channel.2")
    heads = [(p + c, "head.1"), (p, "position_head.1"), (c, "channel_head.1")]
    return [cut(resized(conv(map_, state, head), x.shape[2:]), image) for map_, head in heads]


def _conv_norm_relu(x: Tensor, state: State, prefix: str) -> Tensor:
    return norm(conv(x, state, prefix + ".0"), state, prefix + ".1").clamp(min=0)
