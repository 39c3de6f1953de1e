"""The networks that are trained on real volumes: the paper's, baselines, and the economical designs that were tried.

All of ours have a ResNet-18 and as many channels after it as are asked for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from examples.baselines import unet
from torch import Tensor, nn

from guided_attention import CAM, MultiScaleFusion, SegmentationModel
from guided_attention.attention import (
    AttendedFeatures,
    MultiScaleAttention,
    MultiScaleGuidedAttention,
    PooledAttention,
    SemanticAutoencoder,
)
from guided_attention.encoders import resnet_encoder
from guided_attention.models import daf, danet, ms_dual, ms_dual_guided, msga_lite

__all__ = ["FIVE", "contestants", "fusion_only"]

FIVE = ("MSGA lite", "Fusion only", "MS-Dual-Guided", "MS-Dual", "UNet (MONAI BasicUNet)")
"""The economical network, the network without attention, the paper's two and the strongest baseline."""

_SCALES = 4
_FACTOR = 4


def contestants(channels: int) -> Mapping[str, Callable[[], nn.Module]]:
    """Return what builds each network, for images of one channel and two classes."""
    ours = {"encoder": "resnet18", "channels": channels}
    return {
        "MSGA lite": partial(msga_lite, 1, 2, **ours),
        "MSGA lite, factor 2": partial(msga_lite, 1, 2, factor=2, **ours),
        "Lite, sum": partial(_sum, channels),
        "Lite, sum, factor 2": partial(_sum, channels, factor=2),
        "Lite, product": partial(_product, channels),
        "Lite, gate": partial(_gated, channels, _Gated),
        "Lite, gate, factor 2": partial(_gated, channels, _Gated, factor=2),
        "Lite, gate, fixed target": partial(_gated, channels, _FixedTarget),
        "Lite, gate, normed": partial(_gated, channels, _Normed),
        "Lite, gate, normed, own losses": partial(_with_own_losses, channels),
        "Lite, without guidance": partial(_without_guidance, channels),
        "Lite, one attention for all scales": partial(_once_a_step, channels),
        "Lite, normed, one attention for all scales": partial(_normed_once_a_step, channels),
        "Lite, mean energy": partial(_mean_energy, channels),
        "Fusion only": partial(fusion_only, channels),
        "MS-Dual-Guided": partial(ms_dual_guided, 1, 2, **ours),
        "MS-Dual": partial(ms_dual, 1, 2, **ours),
        "DAF": partial(daf, 1, 2, **ours),
        "DANet": partial(danet, 1, 2, encoder="resnet18"),
        "UNet (MONAI BasicUNet)": partial(unet, 1, 2, channels=(32, 64, 128, 256, 512)),
    }


class _NoAttention(nn.Module):
    """Passes the fused map to every head: the network without attention."""

    num_steps = 1
    num_scales = _SCALES

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(
        self, maps: Sequence[Tensor], fused: Tensor, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Attend to nothing."""
        del attended_only
        return AttendedFeatures(attended=(tuple(fused for _ in maps),))


class _Pooled(nn.Module):
    """The first design: attention on the coarse grid, added to the fused map as it is."""

    def __init__(self, attention: MultiScaleAttention, *, factor: int) -> None:
        super().__init__()
        self.attention, self.factor = attention, factor
        self.channels, self.num_scales = attention.channels, attention.num_scales
        self.num_steps = attention.num_steps

    def forward(
        self, maps: Sequence[Tensor], fused: Tensor, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the fused map with each step's attention added."""
        pooled = [nn.functional.avg_pool2d(map_, self.factor, ceil_mode=True) for map_ in [*maps, fused]]
        found: AttendedFeatures = self.attention(pooled[:-1], pooled[-1], attended_only=attended_only)
        size = fused.shape[2:]
        added = [
            [fused + nn.functional.interpolate(map_, size, mode="bilinear") for map_ in step]
            for step in found.attended
        ]
        return replace(found, attended=tuple(tuple(step) for step in added))


class _Product(_Pooled):
    """Scales the fused map by what the coarse attention found: ``F + F · A`` in place of ``F + A``."""

    def forward(
        self, maps: Sequence[Tensor], fused: Tensor, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the fused map steered by each step's attention."""
        added = super().forward(maps, fused, attended_only=attended_only)
        steered = [[fused + fused * (map_ - fused) for map_ in step] for step in added.attended]
        return replace(added, attended=tuple(tuple(step) for step in steered))


class _Gated(_Pooled):
    """Weighs the attention by channel before it is added: ``F + w · A``, where ``w`` is 0 at initialization."""

    def __init__(self, attention: MultiScaleAttention, *, factor: int) -> None:
        super().__init__(attention, factor=factor)
        self.gate = nn.Parameter(torch.zeros(attention.channels, 1, 1))

    def forward(
        self, maps: Sequence[Tensor], fused: Tensor, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the fused map with as much of each step's attention as the gate lets through."""
        added = super().forward(maps, fused, attended_only=attended_only)
        weighed = [[fused + self.gate * (map_ - fused) for map_ in step] for step in added.attended]
        return replace(added, attended=tuple(tuple(step) for step in weighed))


class _FixedTarget(_Gated):
    """The same, and the reconstruction loss does not move the maps that are to be reconstructed."""

    def forward(
        self, maps: Sequence[Tensor], fused: Tensor, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the same with fixed targets."""
        return _with_fixed_targets(super().forward(maps, fused, attended_only=attended_only))


class _Normed(_Gated):
    """The same, and what the attention is given has mean 0 and variance 1: no loss of maps outgrows the others."""

    def __init__(self, attention: MultiScaleAttention, *, factor: int) -> None:
        super().__init__(attention, factor=factor)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(attention.channels, affine=False) for _ in range(attention.num_scales + 1)
        )

    def forward(
        self, maps: Sequence[Tensor], fused: Tensor, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the fused map with the attention to the normed maps added."""
        *normed, context = (norm(map_) for norm, map_ in zip(self.norms, [*maps, fused], strict=True))
        found = super().forward(normed, context, attended_only=attended_only)
        added = [[fused + map_ - context for map_ in step] for step in found.attended]
        return replace(found, attended=tuple(tuple(step) for step in added))


class _NormedOwn(_Normed):
    """The same with fixed targets."""

    def forward(
        self, maps: Sequence[Tensor], fused: Tensor, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the same with fixed targets."""
        return _with_fixed_targets(super().forward(maps, fused, attended_only=attended_only))


def _with_fixed_targets(found: AttendedFeatures) -> AttendedFeatures:
    return replace(found, reconstructions=tuple((map_.detach(), of) for map_, of in found.reconstructions))


class _MeanEnergyCAM(CAM):
    """Channel attention whose energies are means over positions, not sums: the same on a crop and on a whole slice."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with a mixture of its channels added to each: on maps this much smaller, sums are means."""
        scale = math.sqrt(x.shape[2:].numel())
        return scale * super().forward(x / scale)


class _OnceAStep(nn.Module):
    """Attends once a step, to the mean of the scales, in place of once for each scale."""

    num_scales = _SCALES

    def __init__(self, attention: MultiScaleAttention) -> None:
        super().__init__()
        self.attention = attention
        self.channels, self.num_steps = attention.channels, attention.num_steps

    def forward(
        self, maps: Sequence[Tensor], fused: Tensor, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the same attended map for every scale."""
        mean = torch.stack(list(maps)).mean(dim=0)
        found: AttendedFeatures = self.attention([mean], fused, attended_only=attended_only)
        return replace(found, attended=tuple(step * _SCALES for step in found.attended))


def _coarse(channels: int, *, num_scales: int = _SCALES, guided: bool = True) -> MultiScaleGuidedAttention:
    """Build the attention that works on the coarse grid."""
    autoencoder = partial(SemanticAutoencoder, width=channels) if guided else None
    return MultiScaleGuidedAttention(channels, num_scales=num_scales, autoencoder=autoencoder)


def _sum(channels: int, *, factor: int = _FACTOR) -> SegmentationModel:
    return _on_resnet18(_Pooled(_coarse(channels), factor=factor))


def _product(channels: int) -> SegmentationModel:
    return _on_resnet18(_Product(_coarse(channels), factor=_FACTOR))


def _gated(channels: int, wrapper: type[_Gated], *, factor: int = _FACTOR) -> SegmentationModel:
    return _on_resnet18(wrapper(_coarse(channels), factor=factor))


def _with_own_losses(channels: int) -> SegmentationModel:
    """Build the design with a norm whose autoencoders learn from the maps and do not move them."""
    attention = _coarse(channels)
    for module in attention.modules():
        if isinstance(module, SemanticAutoencoder):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].detach(),))
    return _on_resnet18(_NormedOwn(attention, factor=_FACTOR))


def _without_guidance(channels: int) -> SegmentationModel:
    attention = _coarse(channels, guided=False)
    return _on_resnet18(_Pooled(attention, factor=_FACTOR))


def _once_a_step(channels: int) -> SegmentationModel:
    return _on_resnet18(_OnceAStep(_Pooled(_coarse(channels, num_scales=1), factor=_FACTOR)))


def _normed_once_a_step(channels: int) -> SegmentationModel:
    return _on_resnet18(PooledAttention(_OnceAStep(_coarse(channels, num_scales=1)), factor=_FACTOR))


def _mean_energy(channels: int) -> SegmentationModel:
    model = msga_lite(1, 2, encoder="resnet18", channels=channels)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, CAM):
                setattr(parent, name, _MeanEnergyCAM())
    return model


def fusion_only(channels: int, in_channels: int = 1) -> SegmentationModel:
    """Build the network without attention."""
    return _on_resnet18(_NoAttention(channels), in_channels)


def _on_resnet18(attention: MultiScaleAttention, in_channels: int = 1) -> SegmentationModel:
    encoder = resnet_encoder("resnet18", in_channels=in_channels)
    fusion = MultiScaleFusion(encoder.out_channels, channels=attention.channels)
    return SegmentationModel(encoder, fusion, attention, num_classes=2)
