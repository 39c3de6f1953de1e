"""Every public block, fusion, encoder and loss, each with a small input that fits."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import torch
from tests.modules import drawn, opened
from torch import Tensor, nn

from guided_attention import CAM, MSGA, PAM, DualAttention, GuidedAttention, MultiScaleFusion, losses
from guided_attention.attention import (
    MultiScaleGatedAttention,
    MultiScaleGuidedAttention,
    PooledAttention,
    SemanticAutoencoder,
    attend,
    attention_branch,
)
from guided_attention.encoders import TimmEncoder, resnet_encoder
from guided_attention.outputs import SegmentationOutput


@dataclass(frozen=True)
class Entry:
    """One way into the library.

    Attributes:
        build: Makes the module or function.
        inputs: Makes tensors that fit, by the name of the argument.
        call: Calls it with such tensors.
        accepts: Changes of test_unfit_inputs.py that an argument takes after all, by its name.
    """

    build: Callable[[], object]
    inputs: Callable[[], dict[str, Tensor]]
    call: Callable[..., object] = lambda made, **given: made(**given)
    accepts: Mapping[str, set[str]] = field(default_factory=dict)


class _Maps(nn.Module):
    """What timm makes: maps of a half and a quarter of the image's side, each through a batch norm."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.feature_info = SimpleNamespace(reduction=lambda: [2, 4], channels=lambda: [3, 5])
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, out, 2, stride=2), nn.BatchNorm2d(out))
            for width, out in ((in_channels, 3), (3, 5))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[1:]


def timm_encoder() -> TimmEncoder:
    """Return an encoder with a stand-in for timm (the session `newest` has the real one)."""
    stand_in = SimpleNamespace(
        create_model=lambda _, in_chans, **__: _Maps(in_chans), list_models=lambda: ["stand_in"]
    )
    with patch.dict(sys.modules, {"timm": stand_in}):
        return TimmEncoder("stand_in", in_channels=2)


def _one_map() -> dict[str, Tensor]:
    return {"x": drawn(2, 3, 5, 7)}


def _three_maps() -> dict[str, Tensor]:
    return {name: drawn(2, 3, 5, 7, seed=seed) for seed, name in enumerate(("maps[0]", "maps[1]", "fused"))}


def _on_scales(made: nn.Module, **given: Tensor) -> object:
    return made([given["maps[0]"], given["maps[1]"]], given["fused"])


def _gated() -> MultiScaleGatedAttention:
    return MultiScaleGatedAttention([nn.Conv2d(6, 3, 1) for _ in range(2)], channels=3)


def _pooled() -> PooledAttention:
    return PooledAttention(MultiScaleGuidedAttention(3, num_scales=2, steps=1), factor=2)


def _rows() -> dict[str, Tensor]:
    return {"query": drawn(2, 7, 3), "key": drawn(2, 11, 3, seed=2), "value": drawn(2, 11, 5, seed=3)}


def _labels() -> Tensor:
    return torch.randint(3, (2, 5, 7), generator=torch.Generator().manual_seed(0))


def _judged() -> dict[str, Tensor]:
    return {"logits": drawn(2, 3, 5, 7), "target": _labels()}


def _pairs(name: str) -> Callable[[], dict[str, Tensor]]:
    return lambda: {f"{name}[0][{i}]": drawn(2, 3, 5, seed=i) for i in range(2)}


def _with_pairs(loss: Callable[..., object], **given: Tensor) -> object:
    return loss([tuple(given.values())])


def _whole_output() -> dict[str, Tensor]:
    names = ("logits", "codes[0][0]", "codes[0][1]")
    return {name: drawn(2, 3, 5, 7, seed=i) for i, name in enumerate(names)} | {"target": _labels()}


def _with_output(loss: nn.Module, **given: Tensor) -> object:
    codes = ((given["codes[0][0]"], given["codes[0][1]"]),)
    return loss(SegmentationOutput(given["logits"], codes=codes), given["target"])


# Losses compute in single precision at least. Without weights, any number of classes will do.
_TYPES = {"half", "double"}
_WEIGHTED = {"logits": _TYPES}
_UNWEIGHTED = {"logits": _TYPES | {"one channel more"}}

ENTRIES: Mapping[str, Entry] = {
    "attention.PAM": Entry(lambda: PAM(3, reduction=2), _one_map),
    "attention.PAM.attention_map": Entry(
        lambda: PAM(3, reduction=2), _one_map, lambda made, x: made.attention_map(x, [(0, 0), (4, 6)])
    ),
    # Any floating type, any number of channels and of axes: it has no projections.
    "attention.CAM": Entry(
        CAM,
        _one_map,
        accepts={"x": _TYPES | {"another rank", "a rank less", "one channel more"}},
    ),
    "attention.DualAttention": Entry(lambda: DualAttention(3, 2), _one_map),
    "attention.DualAttention.outputs": Entry(
        lambda: DualAttention(3), _one_map, lambda made, x: made.outputs(x)
    ),
    "attention.attention_branch": Entry(
        lambda: attention_branch(3, CAM(), 2), _one_map, lambda made, x: made(x)
    ),
    "attention.SemanticAutoencoder": Entry(lambda: SemanticAutoencoder(3, width=2), _one_map),
    "attention.GuidedAttention": Entry(lambda: GuidedAttention(3), _one_map),
    "attention.GuidedAttention.outputs": Entry(
        lambda: GuidedAttention(3), _one_map, lambda made, x: made.outputs(x)
    ),
    "attention.MultiScaleGuidedAttention": Entry(
        lambda: MultiScaleGuidedAttention(3, num_scales=2), _three_maps, _on_scales
    ),
    "attention.MultiScaleGatedAttention": Entry(_gated, _three_maps, _on_scales),
    "attention.PooledAttention": Entry(_pooled, _three_maps, _on_scales),
    "attention.attend": Entry(lambda: attend, _rows, accepts={"query": {"one channel more"}}),
    "fusion.MultiScaleFusion": Entry(
        lambda: MultiScaleFusion((3, 2), channels=4),
        lambda: {"features[0]": drawn(2, 3, 5, 7), "features[1]": drawn(2, 2, 3, 4)},
        lambda made, **given: made(list(given.values())),
    ),
    "encoders.resnet_encoder": Entry(
        lambda: resnet_encoder("resnet18", in_channels=2), lambda: {"x": drawn(2, 2, 37, 41)}
    ),
    "encoders.TimmEncoder": Entry(timm_encoder, lambda: {"x": drawn(2, 2, 13, 17)}),
    "losses.cross_entropy_loss": Entry(
        lambda: partial(losses.cross_entropy_loss, class_weights=[1.0, 2.0, 0.5], ignore_index=2),
        _judged,
        accepts=_WEIGHTED,
    ),
    "losses.CrossEntropyLoss": Entry(losses.CrossEntropyLoss, _judged, accepts=_UNWEIGHTED),
    "losses.dice_loss": Entry(
        lambda: partial(losses.dice_loss, ignore_index=1), _judged, accepts=_UNWEIGHTED
    ),
    "losses.DiceLoss": Entry(
        lambda: losses.DiceLoss(class_weights=[1.0, 2.0, 0.5]), _judged, accepts=_WEIGHTED
    ),
    "losses.dice_cross_entropy_loss": Entry(
        lambda: losses.dice_cross_entropy_loss, _judged, accepts=_UNWEIGHTED
    ),
    "losses.DiceCrossEntropyLoss": Entry(losses.DiceCrossEntropyLoss, _judged, accepts=_UNWEIGHTED),
    "losses.guidance_loss": Entry(
        lambda: losses.guidance_loss,
        _pairs("codes"),
        _with_pairs,
        accepts={"codes[0][0]": _TYPES, "codes[0][1]": _TYPES},
    ),
    "losses.reconstruction_loss": Entry(
        lambda: losses.reconstruction_loss,
        _pairs("pairs"),
        _with_pairs,
        accepts={"pairs[0][0]": _TYPES, "pairs[0][1]": _TYPES},
    ),
    "losses.GuidedAttentionLoss": Entry(
        losses.GuidedAttentionLoss,
        _whole_output,
        _with_output,
        accepts=_UNWEIGHTED | {"codes[0][0]": _TYPES, "codes[0][1]": _TYPES},
    ),
    "losses.GuidedAttentionLoss of logits": Entry(
        losses.GuidedAttentionLoss,
        _judged,
        lambda loss, logits, target: loss(logits, target),
        accepts={"logits": _UNWEIGHTED["logits"] | {"record"}},
    ),
    "models.MSGA": Entry(
        lambda: MSGA(num_classes=3, encoder="resnet18", channels=4), lambda: {"x": drawn(2, 1, 37, 41)}
    ),
    "models.MSGA.outputs": Entry(
        lambda: MSGA(num_classes=3, encoder="resnet18", channels=4),
        lambda: {"x": drawn(2, 1, 37, 41)},
        lambda made, x: made.outputs(x),
    ),
}

RECORDS = {
    "attention": {"AttendedFeatures", "ChannelEnergy", "DualOutput", "MultiScaleAttention", "SemanticOutput"},
    "fusion": {"FusedMaps"},
    "encoders": {
        "Encoder",
        "OutputStride",
        "ResNetEncoder",
        "ResNetName",
    },  # resnet_encoder builds ResNetEncoder
    "losses": {"Reduction"},
}
"""Public names that take no tensors, or that another entry builds."""


def made_by(name: str) -> object:
    """Build the module or function of an entry, its gates open."""
    made = ENTRIES[name].build()
    return opened(made) if isinstance(made, nn.Module) else made


def tensors_of(result: object) -> list[Tensor]:
    """Return all tensors of a result, in order."""
    if isinstance(result, Tensor):
        return [result]
    if is_dataclass(result):
        return [t for part in fields(result) for t in tensors_of(getattr(result, part.name))]
    if isinstance(result, Mapping):
        return [t for part in result.values() for t in tensors_of(part)]
    assert isinstance(result, (list, tuple)), type(result)
    return [t for part in result for t in tensors_of(part)]
