"""GuidedAttention: dual attention in steps, each steered by what an autoencoder understood of the map."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from guided_attention._checks import require, require_positive, require_same_shape
from guided_attention._layers import conv
from guided_attention._typing import FeatureMap, SpatialDims
from guided_attention.attention.channel import ChannelEnergy
from guided_attention.attention.dual import DualAttention
from guided_attention.attention.semantic import SemanticAutoencoder, SemanticOutput

__all__ = ["GuidedAttention", "GuidedFeatures", "MultiScaleGuidedAttention"]


@dataclass(frozen=True)
class GuidedFeatures:
    """What guided attention makes of the maps of all scales.

    Attributes:
        attended: For each step in order, the attended map of each scale, ``(batch, channels, *space)``.
        codes: Pairs of codes of successive steps on the same scale: what the guidance loss pulls together.
        reconstructions: Pairs (input, reconstruction) of each step on each scale: what the reconstruction loss reads.
            Both are empty where guidance is off.
    """

    attended: tuple[tuple[Tensor, ...], ...]
    codes: tuple[tuple[Tensor, Tensor], ...] = ()
    reconstructions: tuple[tuple[Tensor, Tensor], ...] = ()


class _GuidedStep(nn.Module):
    """One refinement step on all scales: a dual attention each, one semantic autoencoder for all."""

    def __init__(
        self,
        channels: int,
        num_scales: int,
        *,
        guided: bool,
        energy: ChannelEnergy,
        spatial_dims: SpatialDims,
    ) -> None:
        super().__init__()
        pair, scales = 2 * channels, range(num_scales)
        self.dual = nn.ModuleList(
            DualAttention(pair, channels, energy=energy, spatial_dims=spatial_dims) for _ in scales
        )
        self.project = nn.ModuleList(conv(channels, channels, 1, spatial_dims=spatial_dims) for _ in scales)
        self.semantic = SemanticAutoencoder(pair, spatial_dims=spatial_dims) if guided else None
        self.guide = conv(pair, channels, 3, spatial_dims=spatial_dims) if guided else None

    def forward(self, pairs: Sequence[Tensor]) -> tuple[list[Tensor], list[SemanticOutput]]:
        """Return the attended map of each scale, and its code and reconstruction where guided."""
        attended = [dual(pair) for dual, pair in zip(self.dual, pairs, strict=True)]
        semantics: list[SemanticOutput] = []
        if self.semantic is not None and self.guide is not None:
            semantics = [self.semantic(pair) for pair in pairs]
            guides = [self.guide(semantic.reconstruction) for semantic in semantics]
            attended = [attention * guide for attention, guide in zip(attended, guides, strict=True)]
        return [project(map_) for project, map_ in zip(self.project, attended, strict=True)], semantics


class MultiScaleGuidedAttention(nn.Module):
    """Guided attention on several scales at once, in steps: the heart of the paper's network.

    With ``F_s`` the map of scale ``s``, ``F`` the fused map of all scales, ``[a, b]`` concatenation along channels and
    ``·`` the product element by element, step ``i`` computes on every scale::

        X_1 = [F_s, F],   X_{i+1} = [F_s, A_i · F]
        code, R = autoencoder_i(X_i)
        A_i = project( (PAM branch(X_i) + CAM branch(X_i)) · guide_i(R) )

    The autoencoder and the 3 x 3 convolution ``guide`` of a step are one and the same for all scales. Without guidance
    ``A_i = project(PAM branch + CAM branch)``, the paper's "MS-Dual".

    Args:
        channels: Channels of every map.
        num_scales: How many maps come in.
        steps: How many times attention refines itself; the paper found 2 best.
        guided: Whether semantic autoencoders steer the attention.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Shape:
        Every map ``(batch, channels, *space)``, all of one shape; see `GuidedFeatures` for what goes out.

    Raises:
        ValueError: A number is below 1; on the way, another number of maps than `num_scales`, or maps that
            differ in shape.

    Example:
        >>> import torch
        >>> from guided_attention.attention import MultiScaleGuidedAttention
        >>> attention = MultiScaleGuidedAttention(4, num_scales=3, steps=2)
        >>> maps = [torch.randn(1, 4, 5, 7) for _ in range(3)]
        >>> features = attention(maps, sum(maps))
        >>> len(features.attended), len(features.codes), len(features.reconstructions)
        (2, 3, 6)

    References:
        Sinha & Dolz, JBHI 2020, section II.D, figure 3. Figure 3 draws a matrix product between attention and
        reconstruction; the original code multiplies element by element, and so do we. The code has one ``guide`` a
        scale; the paper's parameter counts hold with one for all, which is what stands here.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_scales: int = 4,
        steps: int = 2,
        guided: bool = True,
        energy: ChannelEnergy = "danet",
        spatial_dims: SpatialDims = 2,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("num_scales", num_scales), ("steps", steps)):
            require_positive(name, value)
        self.channels = channels
        self.num_scales = num_scales
        self.steps = nn.ModuleList(
            _GuidedStep(channels, num_scales, guided=guided, energy=energy, spatial_dims=spatial_dims)
            for _ in range(steps)
        )

    def forward(self, maps: Sequence[FeatureMap], fused: FeatureMap) -> GuidedFeatures:
        """Return the attended maps of every step, with the codes and reconstructions of the autoencoders."""
        require(len(maps) == self.num_scales, "maps", f"a list of {self.num_scales} maps", len(maps))
        for number, map_ in enumerate(maps):
            require_same_shape(f"maps[{number}]", map_.shape, "fused", fused.shape)
        attended, semantics = [], []
        contexts = [fused] * self.num_scales
        for step in self.steps:
            pairs = [torch.cat(pair, dim=1) for pair in zip(maps, contexts, strict=True)]
            refined, semantic = step(pairs)
            contexts = [map_ * fused for map_ in refined]
            attended.append(tuple(refined))
            semantics.append((pairs, semantic))
        return GuidedFeatures(tuple(attended), _code_pairs(semantics), _reconstruction_pairs(semantics))


class GuidedAttention(nn.Module):
    """Guided attention on a single map: a block to set into a network of your own.

    The same steps as in the full network (see `MultiScaleGuidedAttention`) where the map is its own context::

        X_1 = [x, x],   X_{i+1} = [x, A_i · x],   out = A_steps

    Args:
        channels: Channels of the map, in and out.
        steps: How many times attention refines itself.
        guided: Whether semantic autoencoders steer the attention.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Shape:
        ``(batch, channels, *space)`` in and out, any size from 1 up.

    Raises:
        ValueError: `channels` or `steps` is below 1, or another argument is not one of those named.

    Example:
        >>> import torch
        >>> from guided_attention import GuidedAttention
        >>> block = GuidedAttention(8, steps=2)
        >>> x = torch.randn(2, 8, 7, 11)
        >>> block(x).shape
        torch.Size([2, 8, 7, 11])

        The parts that the guidance and reconstruction losses need come from `outputs`:

        >>> len(block.outputs(x).codes)
        1

    References:
        Sinha & Dolz, JBHI 2020, section II.D. The paper has it on four scales with a fused context only.
    """

    def __init__(
        self,
        channels: int,
        *,
        steps: int = 2,
        guided: bool = True,
        energy: ChannelEnergy = "danet",
        spatial_dims: SpatialDims = 2,
    ) -> None:
        super().__init__()
        self.attention = MultiScaleGuidedAttention(
            channels, num_scales=1, steps=steps, guided=guided, energy=energy, spatial_dims=spatial_dims
        )

    def forward(self, x: FeatureMap) -> FeatureMap:
        """Return the attended map of the last step."""
        return self.outputs(x).attended[-1][0]

    def outputs(self, x: FeatureMap) -> GuidedFeatures:
        """Return the attended map of every step, with the codes and reconstructions for the losses."""
        features: GuidedFeatures = self.attention([x], x)
        return features


_StepRecord = tuple[list[Tensor], list[SemanticOutput]]


def _code_pairs(steps: Sequence[_StepRecord]) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return the codes of each step beside those of the next, scale by scale."""
    return tuple(
        (earlier.code, later.code)
        for (_, before), (_, after) in pairwise(steps)
        for earlier, later in zip(before, after, strict=True)
    )


def _reconstruction_pairs(steps: Sequence[_StepRecord]) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return each input of an autoencoder beside its reconstruction; none where guidance is off."""
    return tuple(
        (pair, semantic.reconstruction)
        for pairs, semantics in steps
        for pair, semantic in zip(pairs, semantics, strict=bool(semantics))
    )
