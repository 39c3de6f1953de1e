"""Slow written-out twins of the attention blocks: sums as the paper prints them, read from a state dict."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

State = Mapping[str, Tensor]


def sub(state: State, prefix: str) -> dict[str, Tensor]:
    """Return the entries below `prefix`, without it."""
    start = prefix + "."
    return {name[len(start) :]: value for name, value in state.items() if name.startswith(start)}


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Average values one query at a time."""
    out = torch.zeros(query.shape[0], query.shape[1], value.shape[2], dtype=value.dtype)
    for b in range(query.shape[0]):
        for i in range(query.shape[1]):
            scores = [float((query[b, i] * key[b, j]).sum()) for j in range(key.shape[1])]
            highest = max(scores)
            votes = [math.exp(score - highest) for score in scores]
            for j, vote in enumerate(votes):
                out[b, i] += vote / sum(votes) * value[b, j]
    return out


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution with a kernel of one position, as a sum over channels at each position."""
    flat = x.flatten(2)
    matrix = weight.flatten(1)
    return (torch.einsum("oc,bcn->bon", matrix, flat) + bias[None, :, None]).reshape(
        x.shape[0], -1, *x.shape[2:]
    )


def pam_weights(x: Tensor, state: State) -> Tensor:
    """Return the whole matrix of position attention, ``(batch, asking, answering)``: equation 2."""
    q = pointwise(x, state["query.weight"], state["query.bias"]).flatten(2)
    k = pointwise(x, state["key.weight"], state["key.bias"]).flatten(2)
    scores = torch.einsum("bci,bcj->bij", q, k)
    votes = torch.exp(
        scores - scores.amax(dim=2, keepdim=True)
    )  # a constant of the row leaves its shares as they are
    return votes / votes.sum(dim=2, keepdim=True)


def pam(x: Tensor, state: State) -> Tensor:
    """Equation 3, with ``F_i`` under the sum."""
    values = pointwise(x, state["value.weight"], state["value.bias"]).flatten(2)
    gathered = torch.einsum("bij,bcj->bci", pam_weights(x, state), values)
    return state["gate"] * gathered.reshape(x.shape) + x


def cam(x: Tensor, gate: Tensor, energy: str) -> Tensor:
    """Equations 4 and 5, channel by channel; with ``energy="danet"`` the row's maximum minus the energy."""
    out = x.clone()
    for b in range(x.shape[0]):
        rows = [x[b, c].flatten() for c in range(x.shape[1])]
        for i, row in enumerate(rows):
            energies = [float((row * other).sum()) for other in rows]
            if energy == "danet":
                energies = [max(energies) - value for value in energies]
            votes = [math.exp(value - max(energies)) for value in energies]
            mixed = sum(vote / sum(votes) * other for vote, other in zip(votes, rows, strict=True))
            out[b, i] += gate * mixed.reshape(x.shape[2:])
    return out


def conv(
    x: Tensor, state: State, prefix: str, *, stride: int = 1, groups: int = 1, dilation: int = 1
) -> Tensor:
    """Convolution that keeps the size, in 2-D or 3-D."""
    weight = state[prefix + ".weight"]
    run = F.conv2d if x.ndim == 4 else F.conv3d
    bias = state.get(prefix + ".bias")
    return run(
        x,
        weight,
        bias,
        stride=stride,
        padding=dilation * (weight.shape[2] // 2),
        dilation=dilation,
        groups=groups,
    )


def norm(x: Tensor, state: State, prefix: str) -> Tensor:
    """Batch norm by its running statistics."""
    shape = (1, -1, *([1] * (x.ndim - 2)))
    mean, var = state[prefix + ".running_mean"].reshape(shape), state[prefix + ".running_var"].reshape(shape)
    weight, bias = state[prefix + ".weight"].reshape(shape), state[prefix + ".bias"].reshape(shape)
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def conv_norm_prelu(x: Tensor, state: State, prefix: str) -> Tensor:
    """Convolution (0), batch norm (1), PReLU (2)."""
    x = norm(conv(x, state, prefix + ".0"), state, prefix + ".1")
    return torch.where(x > 0, x, state[prefix + ".2.weight"] * x)


def dual(x: Tensor, state: State, energy: str = "danet") -> Tensor:
    """Position branch plus channel branch."""
    (_, p), (_, c) = dual_modules(x, state, energy)
    return conv_norm_prelu(p, state, "position.2") + conv_norm_prelu(c, state, "channel.2")


def dual_modules(x: Tensor, state: State, energy: str = "danet") -> list[tuple[Tensor, Tensor]]:
    """What goes into the position attention and comes out, and the same of the channel attention."""
    before_p, before_c = conv_norm_prelu(x, state, "position.0"), conv_norm_prelu(x, state, "channel.0")
    p = pam(before_p, sub(state, "position.1"))
    return [(before_p, p), (before_c, cam(before_c, state["channel.1.gate"], energy))]


def _two_convs(x: Tensor, state: State, prefix: str) -> Tensor:
    x = norm(conv(x, state, prefix + ".0"), state, prefix + ".1").clamp(min=0)
    return norm(conv(x, state, prefix + ".3"), state, prefix + ".4").clamp(min=0)


def _up(x: Tensor, state: State, prefix: str, like: Tensor) -> Tensor:
    """Each position becomes a 2 x 2 patch; then a resize where that misses the size wanted."""
    patches = torch.einsum("bchw,coyx->bohywx", x, state[prefix + ".weight"])
    b, o, h, _, w, _ = patches.shape
    doubled = patches.reshape(b, o, 2 * h, 2 * w) + state[prefix + ".bias"][None, :, None, None]
    if doubled.shape[2:] == like.shape[2:]:
        return doubled
    return F.interpolate(doubled, like.shape[2:], mode="bilinear", align_corners=False)


def autoencoder(x: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """Return code and reconstruction of a 2-D map whose sides are at least 4."""
    half = F.max_pool2d(_two_convs(x, state, "encoder1"), 2)
    code = F.max_pool2d(_two_convs(half, state, "encoder2"), 2)
    middle = _up(_two_convs(code, state, "decoder2.0"), state, "decoder2.1", half)
    return code, _up(_two_convs(middle, state, "decoder1.0"), state, "decoder1.1", x)


def guided(
    maps: Sequence[Tensor], fused: Tensor, state: State, *, steps: int, guidance: str
) -> tuple[list[list[Tensor]], list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    """Return attended maps [step][scale], pairs of codes, pairs (input, reconstruction)."""
    attended: list[list[Tensor]] = []
    codes: list[list[Tensor]] = []
    reconstructions = []
    for i in range(steps):
        here = sub(state, f"steps.{i}")
        row, row_codes = [], []
        for s, map_ in enumerate(maps):
            context = fused if i == 0 else attended[i - 1][s] * fused
            x = torch.cat([map_, context], dim=1)
            a = dual(x, sub(here, f"dual.{s}"))
            if guidance == "distance":
                reconstructions += dual_modules(x, sub(here, f"dual.{s}"))
            if guidance == "autoencoder":
                code, drawn = autoencoder(x, sub(here, "semantic"))
                row_codes.append(code)
                reconstructions.append((x, drawn))
                a = a * conv(drawn, here, _guide(here, s))
            row.append(conv(a, here, f"project.{s}"))
        attended.append(row)
        codes.append(row_codes)
    pairs = [
        (codes[i][s], codes[i + 1][s])
        for i in range(steps - 1)
        for s in range(len(maps))
        if guidance == "autoencoder"
    ]
    return attended, pairs, reconstructions


def _guide(here: State, scale: int) -> str:
    return f"guide.{scale}" if "guide.1.weight" in here else "guide.0"


def gated(maps: Sequence[Tensor], fused: Tensor, attention: torch.nn.Module) -> list[Tensor]:
    """Each scale's gate on [map, fused], then three convolutions on [map, gate · fused]."""
    state, out = attention.state_dict(), []
    for s, map_ in enumerate(maps):
        gate = attention.gates[s](torch.cat([map_, fused], dim=1))
        x = torch.cat([map_, gate * fused], dim=1)
        for layer in range(3):
            x = conv_norm_prelu(x, state, f"refine.{s}.{layer}")
        out.append(x)
    return out
