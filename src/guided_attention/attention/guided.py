"""GuidedAttention: dual attention in steps, each guided by an autoencoder's reconstruction of the map."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from guided_attention._checks import require, require_count
from guided_attention._layers import conv, recomputed
from guided_attention._maps import first_weight, require_factory, require_map, require_maps
from guided_attention._typing import FeatureMap, SpatialDims
from guided_attention.attention.channel import CAM
from guided_attention.attention.dual import DualAttention, DualOutput
from guided_attention.attention.protocol import AttendedFeatures
from guided_attention.attention.semantic import SemanticAutoencoder
from guided_attention.errors import ArgumentTypeError

__all__ = ["GuidedAttention", "MultiScaleGuidedAttention"]


class _ScaleFeatures(NamedTuple):
    """What one step makes of the map of one scale: a map, a code and pairs to compare."""

    attended: Tensor
    codes: tuple[Tensor, ...] = ()
    reconstructions: tuple[tuple[Tensor, Tensor], ...] = ()


class _Step(nn.Module):
    """One refinement step on all scales: a dual attention for each, one autoencoder for all or none."""

    def __init__(
        self,
        channels: int,
        num_scales: int,
        *,
        autoencoder: Callable[..., nn.Module] | None,
        compare_modules: bool,
        shared_guide: bool,
        channel_attention: Callable[[], nn.Module],
        spatial_dims: SpatialDims,
    ) -> None:
        super().__init__()
        pair, scales = 2 * channels, range(num_scales)
        dual = partial(DualAttention, channel_attention=channel_attention, spatial_dims=spatial_dims)
        self.dual = nn.ModuleList(dual(pair, channels) for _ in scales)
        self.project = nn.ModuleList(conv(channels, channels, 1, spatial_dims=spatial_dims) for _ in scales)
        self.compare_modules = compare_modules
        self.semantic = None if autoencoder is None else autoencoder(pair, spatial_dims=spatial_dims)
        guides = 0 if self.semantic is None else 1 if shared_guide else num_scales
        self.guide = nn.ModuleList(conv(pair, channels, 3, spatial_dims=spatial_dims) for _ in range(guides))

    def forward(self, pair: Tensor, scale: int) -> _ScaleFeatures:
        """Return the attended map of a scale, with its code and what to compare."""
        dual, project = _dual_outputs(self.dual[scale], pair), self.project[scale]
        if self.semantic is None:
            return _ScaleFeatures(project(dual.attended), (), dual.modules if self.compare_modules else ())
        code, reconstruction = self.semantic(pair)
        guide = self.guide[scale % len(self.guide)]
        guided = project(dual.attended * guide(reconstruction))
        return _ScaleFeatures(guided, (code,), ((pair, reconstruction),))


def _dual_outputs(dual: nn.Module, x: Tensor) -> DualOutput:
    """Tell the type checker, which sees plain modules in a list, what the list holds."""
    if not isinstance(dual, DualAttention):
        raise ArgumentTypeError(
            f"`dual` must be a DualAttention, got {type(dual).__name__}.", argument="dual"
        )
    return dual.outputs(x)


class MultiScaleGuidedAttention(nn.Module):
    """Guided attention on several scales at once, in steps: the core of the paper's network.

    With ``F_s`` the map of scale ``s``, ``F`` the fused map of all scales, ``[a, b]`` concatenation along channels and
    ``·`` the product element by element, step ``i`` computes on every scale::

        X_1 = [F_s, F],   X_{i+1} = [F_s, A_i · F]
        code, R = autoencoder_i(X_i)
        A_i = project( (PAM branch(X_i) + CAM branch(X_i)) · guide_i(R) )

    All scales share the autoencoder and the 3 x 3 convolution ``guide`` of a step. Without an autoencoder,
    ``A_i = project(PAM branch + CAM branch)``: the paper's "MS-Dual". With `compare_modules`, input and output of every
    PAM and CAM are then returned in place of the reconstructions: the paper's "dist".

    Args:
        channels: Channels of every map ``(batch, channels, *space)``; all have one shape.
        num_scales: Number of maps that come in.
        steps: Number of refinement steps; the paper found 2 best.
        autoencoder: Builds the autoencoder of a step from its channels and ``spatial_dims``: `SemanticAutoencoder`,
            ``partial(SemanticAutoencoder, width=…)``; None for attention without guidance.
        compare_modules: Whether the loss compares input and output of PAM and CAM; only without an autoencoder.
        shared_guide: Whether all scales share the convolution ``guide`` of a step, or each has its own; the second only
            with an autoencoder.
        channel_attention: Builds the channel attention: `CAM`, or ``partial(CAM, energy="paper")``.
        spatial_dims: 2 for images, 3 for volumes.

    Example:
        >>> attention = MultiScaleGuidedAttention(4, num_scales=3, steps=2)
        >>> maps = [torch.randn(1, 4, 5, 7) for _ in range(3)]
        >>> features = attention(maps, sum(maps))
        >>> len(features.attended), len(features.codes), len(features.reconstructions)
        (2, 3, 6)

    References:
        Sinha & Dolz, JBHI 2020, section II.D. Figure 3 shows a matrix product between attention and reconstruction; we
        multiply element by element, as the original code. Its code has one ``guide`` per scale; the paper's parameter
        counts hold with one for all. The paper does not say which modules "dist" compares: we take PAM and CAM.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_scales: int = 4,
        steps: int = 2,
        autoencoder: Callable[..., nn.Module] | None = SemanticAutoencoder,
        compare_modules: bool = False,
        shared_guide: bool = True,
        channel_attention: Callable[[], nn.Module] = CAM,
        spatial_dims: SpatialDims = 2,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("num_scales", num_scales), ("steps", steps)):
            require_count(name, value)
        if autoencoder is not None:
            require_factory("autoencoder", autoencoder, "partial(SemanticAutoencoder, width=64)")
            cure = "Set `autoencoder=None`, or leave out `compare_modules`."
            require(
                not compare_modules, "compare_modules", "False with an autoencoder", compare_modules, cure
            )
        else:
            cure = "Leave out `shared_guide`, or set `autoencoder`: without one there is no `guide`."
            require(shared_guide, "shared_guide", "True without an autoencoder", shared_guide, cure)
        self.channels = channels
        self.num_scales = num_scales
        self.spatial_dims = spatial_dims
        self.steps = nn.ModuleList(
            _Step(
                channels,
                num_scales,
                autoencoder=autoencoder,
                compare_modules=compare_modules,
                shared_guide=shared_guide,
                channel_attention=channel_attention,
                spatial_dims=spatial_dims,
            )
            for _ in range(steps)
        )
        self.grad_checkpointing = False

    @property
    def num_steps(self) -> int:
        """Number of refinement steps."""
        return len(self.steps)

    def forward(
        self, maps: Sequence[FeatureMap], fused: FeatureMap, *, attended_only: bool = False
    ) -> AttendedFeatures:
        """Return the attended maps of every step, with the codes and reconstructions of the autoencoders.

        With `attended_only` codes and reconstructions are discarded after use: prediction takes less memory.
        """
        require_maps(
            maps,
            fused,
            number=self.num_scales,
            channels=self.channels,
            spatial_dims=self.spatial_dims,
            like=first_weight(self),
        )
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
        """Keep only input and output of each step: see `SegmentationModel.set_grad_checkpointing`."""
        self.grad_checkpointing = enable


class GuidedAttention(nn.Module):
    """Guided attention on a single map: a block for a network of your own.

    The steps of `MultiScaleGuidedAttention` on one scale, with the map itself as context::

        X_1 = [x, x],   X_{i+1} = [x, A_i · x],   out = A_steps

    Args:
        channels: Channels of the map, ``(batch, channels, *space)``, any size from 1 up.
        steps: Number of refinement steps.
        autoencoder: See `MultiScaleGuidedAttention`.
        compare_modules: See `MultiScaleGuidedAttention`.
        channel_attention: Builds the channel attention.
        spatial_dims: 2 for images, 3 for volumes.

    Example:
        >>> block, x = GuidedAttention(8, steps=2), torch.randn(2, 8, 7, 11)
        >>> block(x).shape, len(block.outputs(x).codes)
        (torch.Size([2, 8, 7, 11]), 1)
    """

    def __init__(
        self,
        channels: int,
        *,
        steps: int = 2,
        autoencoder: Callable[..., nn.Module] | None = SemanticAutoencoder,
        compare_modules: bool = False,
        channel_attention: Callable[[], nn.Module] = CAM,
        spatial_dims: SpatialDims = 2,
    ) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.attention = MultiScaleGuidedAttention(
            channels,
            num_scales=1,
            steps=steps,
            autoencoder=autoencoder,
            compare_modules=compare_modules,
            channel_attention=channel_attention,
            spatial_dims=spatial_dims,
        )

    def forward(self, x: FeatureMap) -> FeatureMap:
        """Return the attended map of the last step."""
        self._require_fit(x)
        features: AttendedFeatures = self.attention([x], x, attended_only=True)
        return features.attended[-1][0]

    def outputs(self, x: FeatureMap) -> AttendedFeatures:
        """Return the attended map of every step, with the codes and reconstructions for the losses."""
        self._require_fit(x)
        features: AttendedFeatures = self.attention([x], x)
        return features

    def _require_fit(self, x: object) -> None:
        channels, like = self.attention.channels, first_weight(self)
        require_map("x", x, channels=channels, spatial_dims=self.spatial_dims, like=like)
