"""Loss of the guided attention network: segmentation, guidance between steps, reconstruction."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from guided_attention._checks import require, require_choice, require_same_shape
from guided_attention._typing import LabelMap, Scalar
from guided_attention.losses._shared import full_precision
from guided_attention.losses.cross_entropy import CrossEntropyLoss
from guided_attention.outputs import LossTerms, SegmentationOutput

__all__ = ["GuidedAttentionLoss", "Reduction", "guidance_loss", "reconstruction_loss"]

Reduction: TypeAlias = Literal["mean", "sum"]
"""How the squared differences of a pair become a number: their mean, or their sum for each item of the
batch."""


def guidance_loss(
    codes: Sequence[tuple[Tensor, Tensor]],
    *,
    reduction: Reduction = "mean",
    detached: bool = False,
) -> Scalar:
    """Punish steps of the attention that disagree on what the image shows; 0 is agreement.

    Each pair holds the codes of two successive steps on one scale, the earlier one first. Summed over the
    pairs::

        loss = Σ_pairs mean((later − earlier)²)                 reduction "mean"
        loss = Σ_pairs Σ (later − earlier)² / batch             reduction "sum"

    Args:
        codes: The pairs, such as `SegmentationOutput.codes`.
        reduction: ``"mean"`` over all elements of a code, as the authors' code has it, so that the loss does
            not depend on the size of the image; ``"sum"``, the squared norm that the paper prints, for each
            item of the
            batch: larger by the number of elements of one code.
        detached: Whether to hold the earlier code of each pair, the first, fixed: it then gets no gradient,
            and only the later step moves towards it. The original detaches nothing.

    Shape:
        - each code: ``(batch, ...)``, the same for both of a pair.
        - returns: a scalar, in float32 even for codes of half precision; 0 where there is no pair.

    Raises:
        ValueError: The two of a pair differ in shape, or `reduction` is neither of the two.

    Example:
        >>> import torch
        >>> guidance_loss([(torch.zeros(1, 4), torch.full((1, 4), 3.0))])
        tensor(9.)

    References:
        Sinha and Dolz, equation 6 for each scale, summed over the scales by equation 8.
    """
    return _sum_of_squares("codes", codes, reduction, detached)


def reconstruction_loss(
    pairs: Sequence[tuple[Tensor, Tensor]],
    *,
    reduction: Reduction = "mean",
    detached: bool = False,
) -> Scalar:
    """Punish autoencoders that lose what they were shown; 0 is a perfect reconstruction.

    Each pair holds the input of an autoencoder and its reconstruction. Summed over the pairs::

        loss = Σ_pairs mean((reconstruction − input)²)          reduction "mean"
        loss = Σ_pairs Σ (reconstruction − input)² / batch      reduction "sum"

    Args:
        pairs: The pairs, such as `SegmentationOutput.reconstructions`.
        reduction: ``"mean"`` over all elements of a map, as the authors' code has it; ``"sum"``, the squared
            norm that the paper prints, for each item of the batch: larger by the number of elements of one
            map.
        detached: Whether to hold the input of each pair, the first, fixed: it then gets no gradient here (it
            still has the one through the autoencoder), and cannot make itself easy to reconstruct by fading.
            The original detaches nothing.

    Shape:
        - each map: ``(batch, ...)``, the same for both of a pair.
        - returns: a scalar, in float32 even for maps of half precision; 0 where there is no pair.

    Raises:
        ValueError: The two of a pair differ in shape, or `reduction` is neither of the two.

    Example:
        >>> import torch
        >>> reconstruction_loss([(torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3))], reduction="sum")
        tensor(18.)

    References:
        Sinha and Dolz, equation 7 for each scale, summed over the scales by equation 9.
    """
    return _sum_of_squares("pairs", pairs, reduction, detached)


class GuidedAttentionLoss(nn.Module):
    """Train a guided attention network: right labels on every scale, steps that agree, faithful autoencoders.

    The segmentation loss is summed over the side predictions of the raw maps and over those of the attended
    maps::

        segmentation = Σ_s loss(raw_logits[s], target) + Σ_s loss(attended_logits[s], target)
        total = segmentation_weight · segmentation + guidance_weight · guidance
                + reconstruction_weight · reconstruction

    A network that has no such predictions is judged by its `logits` alone, so the same loss trains a plain
    network. Parts that the network does not give are 0.

    Args:
        segmentation: Module that takes ``(logits, target)`` and returns a scalar; None is
            `CrossEntropyLoss()`.
        segmentation_weight: The paper's alpha, 0 or more.
        guidance_weight: The paper's beta, 0 or more.
        reconstruction_weight: The paper's gamma, 0 or more.
        reduction: ``"mean"`` or ``"sum"`` for guidance and reconstruction, see `guidance_loss`. The default
            weights belong to ``"mean"``.
        detached: Whether the first of each pair, the earlier code or the autoencoder's input, is held fixed.

    Shape:
        - logits of ``output``: ``(batch, classes, *space)``; ``target``: ``(batch, *space)``.
        - returns: `LossTerms` of scalars. `total` has the gradient; `parts` are ``"segmentation"``,
          ``"guidance"`` and ``"reconstruction"``, unweighted and without gradient.

    Raises:
        ValueError: A weight is negative, or `reduction` is neither of the two; on the call, as the
            segmentation loss, or if the two of a pair differ in shape.

    Example:
        >>> import torch
        >>> from guided_attention.outputs import SegmentationOutput
        >>> side = torch.zeros(1, 2, 3, 3)
        >>> codes = (torch.zeros(1, 4), torch.ones(1, 4))
        >>> output = SegmentationOutput(side, raw_logits=(side,), attended_logits=(side,), codes=(codes,))
        >>> terms = GuidedAttentionLoss()(output, torch.ones(1, 3, 3, dtype=torch.long))
        >>> {name: round(part.item(), 4) for name, part in terms.parts.items()}
        {'segmentation': 1.3863, 'guidance': 1.0, 'reconstruction': 0.0}
        >>> round(terms.total.item(), 4)
        1.6363

    References:
        Sinha and Dolz, equations 6 to 11, with the weights 1, 0.25 and 0.1 of their text. Means instead of
        the printed squared norms follow the authors' code.
    """

    def __init__(
        self,
        segmentation: nn.Module | None = None,
        *,
        segmentation_weight: float = 1.0,
        guidance_weight: float = 0.25,
        reconstruction_weight: float = 0.1,
        reduction: Reduction = "mean",
        detached: bool = False,
    ) -> None:
        super().__init__()
        require(segmentation_weight >= 0, "segmentation_weight", "0 or more", segmentation_weight)
        require(guidance_weight >= 0, "guidance_weight", "0 or more", guidance_weight)
        require(reconstruction_weight >= 0, "reconstruction_weight", "0 or more", reconstruction_weight)
        require_choice("reduction", reduction, ("mean", "sum"))
        self.segmentation = CrossEntropyLoss() if segmentation is None else segmentation
        self.segmentation_weight = segmentation_weight
        self.guidance_weight = guidance_weight
        self.reconstruction_weight = reconstruction_weight
        self.reduction: Reduction = reduction
        self.detached = detached

    def forward(self, output: SegmentationOutput, target: LabelMap) -> LossTerms:
        """Return the total and its parts for what `model.outputs(x)` gave."""
        predictions = (*output.raw_logits, *output.attended_logits) or (output.logits,)
        segmentation = torch.stack([self.segmentation(logits, target) for logits in predictions]).sum()
        guidance = guidance_loss(output.codes, reduction=self.reduction, detached=self.detached)
        reconstruction = reconstruction_loss(
            output.reconstructions, reduction=self.reduction, detached=self.detached
        )
        parts = {
            "segmentation": segmentation,
            "guidance": guidance.to(segmentation),
            "reconstruction": reconstruction.to(segmentation),
        }
        total = (
            self.segmentation_weight * parts["segmentation"]
            + self.guidance_weight * parts["guidance"]
            + self.reconstruction_weight * parts["reconstruction"]
        )
        return LossTerms(total, {name: part.detach() for name, part in parts.items()})


def _sum_of_squares(
    argument: str, pairs: Sequence[tuple[Tensor, Tensor]], reduction: Reduction, detached: bool
) -> Scalar:
    require_choice("reduction", reduction, ("mean", "sum"))
    if not pairs:
        return torch.zeros(())
    terms = []
    for number, (fixed, moving) in enumerate(pairs):
        require_same_shape(f"{argument}[{number}][1]", moving.shape, f"{argument}[{number}][0]", fixed.shape)
        goal = full_precision(fixed.detach() if detached else fixed)
        square = F.mse_loss(full_precision(moving), goal, reduction=reduction)
        terms.append(square if reduction == "mean" else square / fixed.shape[0])
    return torch.stack(terms).sum()
