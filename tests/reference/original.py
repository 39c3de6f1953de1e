"""Written-out twin of the original code's network, on its own names, from the description of what it computes.

Norms, PReLUs and ReLUs are torch's own, the ReLUs in place, as the original's modules have them, so that the benchmarks
count what the original wastes and nothing that the writing out would add.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

State = Mapping[str, Tensor]

# Scale 4 is the coarsest. The numbers are the original's, as they stand.
GUIDES = {
    1: {4: "conv_sem_1_1", 3: "conv_sem_1_2", 2: "conv_sem_1_3", 1: "conv_sem_1_4"},
    2: {4: "conv_sem_2_1", 3: "conv_sem_2_2", 2: "conv_sem_2_3", 1: "conv_sem_2_4"},
}
PROJECTIONS = {
    1: {4: "conv8_1", 3: "conv8_2", 2: "conv8_3", 1: "conv8_4"},
    2: {4: "conv8_11", 3: "conv8_12", 2: "conv8_13", 1: "conv8_14"},
}


class Original:
    """The forward pass; batch norms take the batch's statistics where `training`, else the running ones.

    In training the running statistics move too, as the original's do; they are copies, and `state` stays as it is.
    """

    def __init__(self, state: State, *, training: bool):
        self.state = {
            name: value.clone() if name.endswith(("running_mean", "running_var")) else value
            for name, value in state.items()
        }
        self.training = training

    def conv(self, x: Tensor, name: str, *, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        padding = weight.shape[2] // 2
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, padding, groups=groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (self.state[f"{name}.{part}"] for part in names)
        return F.batch_norm(x, mean, var, weight, bias, training=self.training)

    def norm_relu(self, x: Tensor, name: str) -> Tensor:
        return F.relu(self.norm(x, name), inplace=True)

    def conv_norm_prelu(self, x: Tensor, name: str, first: int) -> Tensor:
        x = self.norm(self.conv(x, f"{name}.{first}"), f"{name}.{first + 1}")
        return F.prelu(x, self.state[f"{name}.{first + 2}.weight"])

    def trunk(self, x: Tensor) -> list[Tensor]:
        x = self.norm_relu(self.conv(x, "resnext.layer0.0", stride=2), "resnext.layer0.1")
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        maps = []
        for stage, blocks in enumerate((3, 4, 23, 3), start=1):
            name = "resnext.layer1.1" if stage == 1 else f"resnext.layer{stage}"
            for block in range(blocks):
                x = self.bottleneck(x, f"{name}.{block}", stride=2 if stage > 1 and block == 0 else 1)
            maps.append(x)
        return maps

    def bottleneck(self, x: Tensor, name: str, *, stride: int) -> Tensor:
        shortcut = x
        if f"{name}.downsample.0.weight" in self.state:
            shortcut = self.conv(x, f"{name}.downsample.0", stride=stride)
            shortcut = self.norm(shortcut, f"{name}.downsample.1")
        x = self.norm_relu(self.conv(x, f"{name}.conv1"), f"{name}.bn1")
        x = self.norm_relu(self.conv(x, f"{name}.conv2", stride=stride, groups=32), f"{name}.bn2")
        x = self.norm(self.conv(x, f"{name}.conv3"), f"{name}.bn3")
        return F.relu(x + shortcut, inplace=True)

    def position(self, x: Tensor, name: str) -> Tensor:
        q, k, v = (self.conv(x, f"{name}.{part}_conv").flatten(2) for part in ("query", "key", "value"))
        weights = torch.softmax(torch.bmm(q.transpose(1, 2), k), dim=-1)
        gathered = torch.bmm(v, weights.transpose(1, 2)).reshape(x.shape)
        return self.state[f"{name}.gamma"] * gathered + x

    def channel(self, x: Tensor, name: str) -> Tensor:
        rows = x.flatten(2)
        energy = torch.bmm(rows, rows.transpose(1, 2))
        weights = torch.softmax(energy.amax(dim=-1, keepdim=True) - energy, dim=-1)
        return self.state[f"{name}.gamma"] * torch.bmm(weights, rows).reshape(x.shape) + x

    def branch(self, x: Tensor, name: str) -> Tensor:
        x = self.conv_norm_prelu(x, f"{name}.attn", 0)
        attention = self.position if name.startswith("pam") else self.channel
        return self.conv_norm_prelu(attention(x, f"{name}.attn.3"), f"{name}.attn", 4)

    def two_convs(self, x: Tensor, name: str) -> Tensor:
        x = self.norm_relu(self.conv(x, f"{name}.0"), f"{name}.1")
        return self.norm_relu(self.conv(x, f"{name}.3"), f"{name}.4")

    def up(self, x: Tensor, name: str) -> Tensor:
        return F.conv_transpose2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], stride=2)

    def semantic(self, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        name = f"semanticModule_{step}_1"
        half = F.max_pool2d(self.two_convs(x, f"{name}.enc1.encode"), 2)
        code = F.max_pool2d(self.two_convs(half, f"{name}.enc2.encode"), 2)
        middle = self.up(self.two_convs(code, f"{name}.dec2.decode"), f"{name}.dec2.decode.6")
        middle = _resized(middle, half)
        return code, self.up(self.two_convs(middle, f"{name}.dec1.decode"), f"{name}.dec1.decode.6")

    def run(self, image: Tensor) -> tuple[Tensor, list[Tensor], list[tuple[Tensor, Tensor]], list]:
        """Return the evaluation's logits, the eight side logits, pairs of codes, pairs (input, reconstruction)."""
        maps = self.trunk(image)
        scales = {s: self.conv_norm_prelu(maps[s - 1], f"down{s}", 0) for s in (1, 2, 3, 4)}
        scales = {s: _resized(map_, scales[1]) for s, map_ in scales.items()}
        fused = torch.cat([scales[4], scales[3], scales[2], scales[1]], dim=1)
        for first in (0, 3, 6):
            fused = self.conv_norm_prelu(fused, "fuse1.fuse_attn", first)
        sides = [_resized(self.conv(scales[s], f"predict{s}"), image) for s in (1, 2, 3, 4)]
        refined, codes, reconstructions = [], [], []
        for s in (1, 2, 3, 4):
            context, seen = fused, []
            for step in (1, 2):
                x = torch.cat([scales[s], context], dim=1)
                code, drawn = self.semantic(x, step)
                both = self.branch(x, f"cam_attention_{step}_{s}") + self.branch(
                    x, f"pam_attention_{step}_{s}"
                )
                attention = self.conv(both * self.conv(drawn, GUIDES[step][s]), PROJECTIONS[step][s])
                context = attention * fused
                seen.append(code)
                reconstructions.append((x, drawn))
            codes.append((seen[0], seen[1]))
            refined.append(_resized(self.conv(attention, f"predict{s}_2"), image))
        return sum(refined) / 4, sides + refined, codes, reconstructions

    def loss_parts(self, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        _, sides, codes, reconstructions = self.run(image)
        return {
            "segmentation": sum(F.cross_entropy(logits, target) for logits in sides),
            "guidance": sum(F.mse_loss(a, b) for a, b in codes),
            "reconstruction": sum(F.mse_loss(drawn, x) for x, drawn in reconstructions),
        }


def _resized(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)
