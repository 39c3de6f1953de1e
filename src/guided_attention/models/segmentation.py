"""SegmentationModel: encoder, fusion, attention and heads wired together."""

from collections.abc import Sequence
from itertools import chain
from math import lcm
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from guided_attention._checks import counted, require, require_count, require_type
from guided_attention._layers import conv, cut, filled_up, resize
from guided_attention._maps import first_weight, require_map
from guided_attention._typing import AnyFeatureMap, FeatureMap, Image, Logits, SpatialDims
from guided_attention.attention import AttendedFeatures, MultiScaleAttention
from guided_attention.encoders import Encoder
from guided_attention.errors import ArgumentTypeError
from guided_attention.fusion import MultiScaleFusion
from guided_attention.models._built import BuiltModule
from guided_attention.outputs import SegmentationOutput

__all__ = ["SegmentationModel", "no_module", "require_classes", "require_dims"]


class SegmentationModel(BuiltModule):
    """A segmentation network of four parts: encoder → fusion → attention → heads.

    The attended map of every scale in the last step goes through its own head, a convolution 1 x 1 to class logits; the
    prediction is the mean of the scales' logits, resized linearly to the input::

        maps, fused = fusion(encoder(x))
        A = attention(maps, fused).attended
        model(x) = resize( mean_s head_s(A_last,s) )

    Where the coarsest stride of the encoder does not divide a side of the input, the input is filled up to the next
    multiple by repeating its last row or column, and the logits are cut: so the maps of all scales lie on one another.
    Train at sides that are multiples: a network can learn from the filled border where organs lie, and that border is
    elsewhere in images of another size.

    For training, `outputs` adds the logits of the raw maps, of the attended maps of steps 2, 3, … (of step 1 if it is
    the only one), and the pairs that the guidance and reconstruction losses read.

    Args:
        encoder: Any module that meets the `Encoder` protocol.
        fusion: Made for the encoder's ``out_channels``.
        attention: Any module that meets the `MultiScaleAttention` protocol, made for the fusion's channels and the
            encoder's number of scales.
        num_classes: Number of classes, with the background.
        deeply_supervised: Whether the raw maps and the attended maps before the last step have heads too. Without, the
            loss only sees the last step.

    Attributes:
        settings: What a builder made the network from; None for a network wired by hand or with your own modules.
        num_classes: Number of classes, with the background.
        spatial_dims: 2 for images, 3 for volumes.

    Shape:
        In ``(batch, in_channels, *space)``; logits ``(batch, num_classes, *space)``, any size from 1 up, in training
        and in evaluation mode.

    Raises:
        ArgumentError: `num_classes` is below 2, or the parts do not fit together; in `forward` and `outputs`, the input
            does not fit.
        ArgumentTypeError: A part is not a `torch.nn.Module` of its protocol.

    Example:
        >>> import torch
        >>> from guided_attention import MultiScaleFusion, SegmentationModel
        >>> from guided_attention.attention import MultiScaleGuidedAttention
        >>> from guided_attention.encoders import resnet_encoder
        >>> encoder = resnet_encoder("resnet18", in_channels=1)
        >>> model = SegmentationModel(
        ...     encoder,
        ...     MultiScaleFusion(encoder.out_channels, channels=8),
        ...     MultiScaleGuidedAttention(8, num_scales=4, steps=1),
        ...     num_classes=3,
        ... )
        >>> model(torch.randn(1, 1, 37, 53)).shape
        torch.Size([1, 3, 37, 53])

    References:
        Sinha & Dolz, JBHI 2020, figure 1 and equation 10. How four maps become one mask is not in the text; the mean of
        their logits is the original code's.
    """

    def __init__(
        self,
        encoder: Encoder,
        fusion: MultiScaleFusion,
        attention: MultiScaleAttention,
        *,
        num_classes: int,
        deeply_supervised: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module):
            raise no_module("encoder", encoder, "Encoder")
        require_type("encoder", encoder, Encoder, "a module that meets the Encoder protocol")
        require_type("fusion", fusion, MultiScaleFusion, "a MultiScaleFusion")
        if not isinstance(attention, nn.Module):
            raise no_module("attention", attention, "MultiScaleAttention")
        wanted = "a module that meets the MultiScaleAttention protocol"
        require_type("attention", attention, MultiScaleAttention, wanted)
        _check_fit(encoder, fusion, attention)
        require_classes(num_classes)
        dims = fusion.spatial_dims
        self.encoder = encoder
        self.fusion = fusion
        self.attention = attention
        self.num_classes = num_classes
        self.spatial_dims: SpatialDims = dims
        supervised = max(1, attention.num_steps - 1) if deeply_supervised else 1
        heads = [_heads(attention, num_classes, dims) for _ in range(supervised)]
        self.attended_heads = nn.ModuleList(heads)
        self.raw_heads = _heads(attention, num_classes, dims) if deeply_supervised else nn.ModuleList()

    if TYPE_CHECKING:

        def __call__(self, x: Tensor) -> Tensor:
            """Return logits; declared for type checkers, which take a module's call for anything."""
            ...

    def forward(self, x: Image) -> Logits:
        """Return logits ``(batch, num_classes, *space)`` at the input's size."""
        self._require_fit(x)
        filled = filled_up(x, lcm(*self.encoder.strides))
        maps, fused = self.fusion(self.encoder(filled))
        features: AttendedFeatures = self.attention(maps, fused, attended_only=True)
        logits = _mean_logits(self.attended_heads[-1], features.attended[-1], tuple(filled.shape[2:]))
        return cut(logits, tuple(x.shape[2:]))

    def outputs(self, x: Image) -> SegmentationOutput:
        """Return the same logits with everything that the losses read."""
        self._require_fit(x)
        filled = filled_up(x, lcm(*self.encoder.strides))
        maps, fused = self.fusion(self.encoder(filled))
        features: AttendedFeatures = self.attention(maps, fused)
        sizes = tuple(filled.shape[2:]), tuple(x.shape[2:])
        supervised = features.attended[-len(self.attended_heads) :]
        per_step = [
            _apply(heads, attended, *sizes)
            for heads, attended in zip(self.attended_heads, supervised, strict=True)
        ]
        return SegmentationOutput(
            logits=torch.stack(per_step[-1]).mean(dim=0),
            raw_logits=tuple(_apply(self.raw_heads, maps, *sizes)) if len(self.raw_heads) else (),
            attended_logits=tuple(chain.from_iterable(per_step)),
            codes=features.codes,
            reconstructions=features.reconstructions,
        )

    @property
    def in_channels(self) -> int | None:
        """Channels of the image that the encoder takes; None where the encoder does not tell."""
        return getattr(self.encoder, "in_channels", None)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Train with less memory and more time: keep few maps for the backward pass, which recomputes the others.

        Every block of the encoder and every step of the attention on each scale is computed a second time in the
        backward pass, with the same gradients and running statistics. Only torch's own batch norms, as in timm's
        networks and `torch.nn.SyncBatchNorm`, count each batch twice in their running statistics. It has no effect
        without gradients or in a compiled graph.

        Args:
            enable: Whether to recompute.

        Raises:
            ArgumentTypeError: No part of encoder and attention has a method ``set_grad_checkpointing``, as ours and
                timm's networks do.

        Example:
            >>> from guided_attention import MSGA
            >>> model = MSGA(encoder="resnet18", channels=8)
            >>> model.set_grad_checkpointing()
            >>> model.encoder.grad_checkpointing
            True

        References:
            Chen et al., "Training deep nets with sublinear memory cost", 2016, arXiv 1604.06174.
        """
        parts = [part for child in self.children() for part in child.modules()]
        found = (getattr(part, "set_grad_checkpointing", None) for part in parts)
        switches = [switch for switch in found if callable(switch)]
        if not switches:
            raise ArgumentTypeError(
                "No part of this model can compute its maps anew: neither its encoder nor its attention has a method "
                "`set_grad_checkpointing`. Give the one or the other such a method, or a network of timm as encoder."
            )
        for switch in switches:
            switch(enable)

    def _require_fit(self, x: object) -> None:
        require_map(
            "x", x, channels=self.in_channels, spatial_dims=self.spatial_dims, like=first_weight(self.encoder)
        )


def no_module(argument: str, value: object, protocol: str) -> ArgumentTypeError:
    """Return the error for a part that is no module."""
    got = type(value).__name__
    message = f"`{argument}` must be a torch.nn.Module that meets the {protocol} protocol, got {got}."
    return ArgumentTypeError(message, argument=argument)


def require_dims(name: str, part: object, dims: SpatialDims, reason: str) -> None:
    """Raise where a part knows its dimensions, and they are others."""
    got = getattr(part, "spatial_dims", None)
    require(got in (None, dims), f"{name}.spatial_dims", f"{dims}, {reason}", got)


def require_classes(num_classes: int) -> None:
    """Raise unless there is a class beside the background."""
    require_count("num_classes", num_classes)
    require(num_classes >= 2, "num_classes", "at least 2, background included", num_classes)  # noqa: PLR2004


def _mean_logits(heads: nn.Module, maps: Sequence[FeatureMap], size: tuple[int, ...]) -> AnyFeatureMap:
    """Average before the resize, not after: both are linear, and this has a quarter of the operations."""
    logits = [head(map_) for head, map_ in zip(heads.children(), maps, strict=True)]
    return resize(torch.stack(logits).mean(dim=0), size)


def _apply(
    heads: nn.Module, maps: Sequence[FeatureMap], filled: tuple[int, ...], size: tuple[int, ...]
) -> list[AnyFeatureMap]:
    return [cut(resize(head(map_), filled), size) for head, map_ in zip(heads.children(), maps, strict=True)]


def _heads(attention: MultiScaleAttention, num_classes: int, dims: SpatialDims) -> nn.ModuleList:
    scales = range(attention.num_scales)
    return nn.ModuleList(conv(attention.channels, num_classes, 1, spatial_dims=dims) for _ in scales)


def _check_fit(encoder: Encoder, fusion: MultiScaleFusion, attention: MultiScaleAttention) -> None:
    scales = len(encoder.out_channels)
    wanted = f"made for the encoder's {counted(scales, 'map')}"
    require(len(fusion.project) == scales, "fusion", wanted, len(fusion.project))
    wanted = f"made for {counted(scales, 'scale')}"
    require(attention.num_scales == scales, "attention", wanted, attention.num_scales)
    wanted = f"made for the fusion's {counted(fusion.channels, 'channel')}"
    require(attention.channels == fusion.channels, "attention", wanted, attention.channels)
    for name, part in (("encoder", encoder), ("attention", attention)):
        require_dims(name, part, fusion.spatial_dims, "as that of `fusion`")
