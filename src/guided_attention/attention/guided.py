"""GuidedAttention: dual attention in steps, each steered by what an autoencoder understood of the map."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from guided_attention._checks import require, require_choice, require_positive, require_same_shape
from guided_attention._layers import conv, recomputed
from guided_attention._typing import FeatureMap, SpatialDims
from guided_attention.attention.channel import ChannelEnergy
from guided_attention.attention.dual import DualAttention, DualOutput
from guided_attention.attention.protocol import AttendedFeatures
from guided_attention.attention.semantic import SemanticAutoencoder

__all__ = ["Guidance", "GuidedAttention", "MultiScaleGuidedAttention"]


Guidance: TypeAlias = Literal["autoencoder", "distance", "none"]
"""What steers the attention: see `MultiScaleGuidedAttention`."""


class _ScaleFeatures(NamedTuple):
    """What one step makes of the map of one scale: a map, a code and pairs to compare."""

    attended: Tensor
    codes: tuple[Tensor, ...] = ()
    reconstructions: tuple[tuple[Tensor, Tensor], ...] = ()


class _Step(nn.Module):
    """One refinement step on all scales: a dual attention each, one semantic autoencoder for all where guided."""

    def __init__(
        self,
        channels: int,
        num_scales: int,
        *,
        guidance: Guidance,
        shared_guide: bool,
        semantic_width: int | None,
        energy: ChannelEnergy,
        spatial_dims: SpatialDims,
    ) -> None:
        super().__init__()
        pair, scales = 2 * channels, range(num_scales)
        self.dual = nn.ModuleList(
            DualAttention(pair, channels, energy=energy, spatial_dims=spatial_dims) for _ in scales
        )
        self.project = nn.ModuleList(conv(channels, channels, 1, spatial_dims=spatial_dims) for _ in scales)
        self.compares = guidance == "distance"
        self.semantic = (
            SemanticAutoencoder(pair, width=semantic_width, spatial_dims=spatial_dims)
            if guidance == "autoencoder"
            else None
        )
        guides = 0 if self.semantic is None else 1 if shared_guide else num_scales
        self.guide = nn.ModuleList(conv(pair, channels, 3, spatial_dims=spatial_dims) for _ in range(guides))

    def forward(self, pair: Tensor, scale: int) -> _ScaleFeatures:
        """Return the attended map of a scale, with its code and what to compare."""
        dual, project = _dual_outputs(self.dual[scale], pair), self.project[scale]
        if self.semantic is None:
            return _ScaleFeatures(project(dual.attended), (), dual.modules if self.compares else ())
        code, reconstruction = self.semantic(pair)
        guide = self.guide[scale % len(self.guide)]
        steered = project(dual.attended * guide(reconstruction))
        return _ScaleFeatures(steered, (code,), ((pair, reconstruction),))


def _dual_outputs(dual: nn.Module, x: Tensor) -> DualOutput:
    """Say to the type checker, which sees plain modules in a list, what stands in it."""
    if not isinstance(dual, DualAttention):
        raise TypeError(f"`dual` must be a DualAttention, got {type(dual).__name__}.")
    return dual.outputs(x)


class MultiScaleGuidedAttention(nn.Module):
    """Guided attention on several scales at once, in steps: the heart of the paper's network.

    With ``F_s`` the map of scale ``s``, ``F`` the fused map of all scales, ``[a, b]`` concatenation along channels and
    ``·`` the product element by element, step ``i`` computes on every scale::

        X_1 = [F_s, F],   X_{i+1} = [F_s, A_i · F]
        code, R = autoencoder_i(X_i)
        A_i = project( (PAM branch(X_i) + CAM branch(X_i)) · guide_i(R) )

    The autoencoder and the 3 x 3 convolution ``guide`` of a step are one and the same for all scales. Other than with
    ``guidance="autoencoder"``, ``A_i = project(PAM branch + CAM branch)``: with ``"none"`` that is all, the paper's
    "MS-Dual"; with ``"distance"`` input and output of every PAM and CAM are handed out to be compared in place of the
    reconstructions, the paper's "dist".

    Args:
        channels: Channels of every map.
        num_scales: How many maps come in.
        steps: How many times attention refines itself; the paper found 2 best.
        guidance: ``"autoencoder"``, ``"distance"`` or ``"none"``, as said above.
        shared_guide: Whether the convolution ``guide`` of a step is one for all scales or one for each.
        semantic_width: Width of the autoencoders, see `SemanticAutoencoder`; ``4 · channels`` where None.
        energy: The form of the channel attention: see `CAM`.
        spatial_dims: 2 for images, 3 for volumes.

    Shape:
        Every map ``(batch, channels, *space)``, all of one shape; see `AttendedFeatures` for what goes out.

    Raises:
        ValueError: A number is below 1 or `guidance` is none of the three; on the way, another number of maps than
            `num_scales`, or maps that differ in shape.

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
        scale; the paper's parameter counts hold with one for all, which is the default here. Of "dist" the paper says
        that input and output of each attention module are compared, not which modules those are: we take PAM and CAM.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_scales: int = 4,
        steps: int = 2,
        guidance: Guidance = "autoencoder",
        shared_guide: bool = True,
        semantic_width: int | None = None,
        energy: ChannelEnergy = "danet",
        spatial_dims: SpatialDims = 2,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("num_scales", num_scales), ("steps", steps)):
            require_positive(name, value)
        require_choice("guidance", guidance, ("autoencoder", "distance", "none"))
        self.channels = channels
        self.num_scales = num_scales
        self.steps = nn.ModuleList(
            _Step(
                channels,
                num_scales,
                guidance=guidance,
                shared_guide=shared_guide,
                semantic_width=semantic_width,
                energy=energy,
                spatial_dims=spatial_dims,
            )
            for _ in range(steps)
        )
        self.grad_checkpointing = False

    @property
    def num_steps(self) -> int:
        """How many times attention refines itself."""
        return len(self.steps)

    def forward(
        self, maps: Sequence[FeatureMap], fused: FeatureMap, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the attended maps of every step, with the codes and reconstructions of the autoencoders.

        With `attended_only` those are let go as soon as they have served: prediction takes less memory.
        """
        require(len(maps) == self.num_scales, "maps", f"a list of {self.num_scales} maps", len(maps))
        for number, map_ in enumerate(maps):
            require_same_shape(f"maps[{number}]", map_.shape, "fused", fused.shape)
        features: list[list[_ScaleFeatures]] = []
        for step in self.steps:
            found = []
            for scale, map_ in enumerate(maps):
                context = features[-1][scale].attended * fused if features else fused
                pair = torch.cat((map_, context), dim=1)
                run = partial(step, scale=scale)
                one = recomputed(run, pair) if self.grad_checkpointing else run(pair)
                found.append(_ScaleFeatures(one.attended) if attended_only else one)
            features.append(found)
        return AttendedFeatures(
            attended=tuple(tuple(one.attended for one in step) for step in features),
            codes=tuple(
                codes
                for earlier, later in pairwise(features)
                for before, after in zip(earlier, later, strict=True)
                for codes in zip(before.codes, after.codes, strict=True)
            ),
            reconstructions=tuple(pair for step in features for one in step for pair in one.reconstructions),
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep what goes into and out of each step alone: see `SegmentationModel.set_grad_checkpointing`."""
        self.grad_checkpointing = enable


class GuidedAttention(nn.Module):
    """Guided attention on a single map: a block to set into a network of your own.

    The same steps as in the full network (see `MultiScaleGuidedAttention`) where the map is its own context::

        X_1 = [x, x],   X_{i+1} = [x, A_i · x],   out = A_steps

    Args:
        channels: Channels of the map, in and out.
        steps: How many times attention refines itself.
        guidance: What steers the attention: see `MultiScaleGuidedAttention`.
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
        guidance: Guidance = "autoencoder",
        energy: ChannelEnergy = "danet",
        spatial_dims: SpatialDims = 2,
    ) -> None:
        super().__init__()
        self.attention = MultiScaleGuidedAttention(
            channels, num_scales=1, steps=steps, guidance=guidance, energy=energy, spatial_dims=spatial_dims
        )

    def forward(self, x: FeatureMap) -> FeatureMap:
        """Return the attended map of the last step."""
        return self.outputs(x).attended[-1][0]

    def outputs(self, x: FeatureMap) -> AttendedFeatures:
        """Return the attended map of every step, with the codes and reconstructions for the losses."""
        features: AttendedFeatures = self.attention([x], x)
        return features
