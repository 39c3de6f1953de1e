"""Loss of the guided attention network: segmentation, guidance between steps, reconstruction."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from guided_attention._checks import require, require_choice, require_same_shape, require_type
from guided_attention._maps import plain, require_tensor
from guided_attention._typing import LabelMap, Scalar
from guided_attention.errors import ArgumentTypeError
from guided_attention.losses._shared import full_precision, require_weight
from guided_attention.losses.cross_entropy import CrossEntropyLoss
from guided_attention.outputs import LossTerms, SegmentationOutput, takes_outputs

__all__ = ["GuidedAttentionLoss", "Reduction", "guidance_loss", "reconstruction_loss"]

Reduction: TypeAlias = Literal["mean", "sum"]
"""How the squared differences of a pair become a number: their mean, or their sum per item of the batch."""


def guidance_loss(
    codes: Sequence[tuple[Tensor, Tensor]],
    *,
    reduction: Reduction = "mean",
    detached: bool = False,
) -> Scalar:
    """Penalise differences between the codes of successive attention steps; 0 is agreement.

    Summed over the pairs of codes, the earlier step first (equations 6 and 8)::

        loss = Σ_pairs mean((later − earlier)²)                 reduction "mean"
        loss = Σ_pairs Σ (later − earlier)² / batch             reduction "sum"

    It is computed in float32 even for codes of half precision, and 0 if there is no pair.

    Args:
        codes: The pairs, such as `SegmentationOutput.codes`; both of a pair have one shape ``(batch, ...)``.
        reduction: ``"mean"`` over all elements, as in the authors' code: the loss does not depend on the image's size.
            ``"sum"``, the squared norm of the paper, per item of the batch: larger by the number of elements of a code.
        detached: Whether the first of each pair gets no gradient, so that only the second moves towards it. The
            original detaches nothing.

    Example:
        >>> guidance_loss([(torch.zeros(1, 4), torch.full((1, 4), 3.0))])
        tensor(9.)
    """
    return _sum_of_squares("codes", codes, reduction, detached)


def reconstruction_loss(
    pairs: Sequence[tuple[Tensor, Tensor]],
    *,
    reduction: Reduction = "mean",
    detached: bool = False,
) -> Scalar:
    """Penalise differences between the inputs of autoencoders and their reconstructions; 0 is a perfect one.

    The formulas are those of `guidance_loss`, with the input as the earlier and the reconstruction as the later of a
    pair (equations 7 and 9).

    Args:
        pairs: The pairs, such as `SegmentationOutput.reconstructions`; both of a pair have one shape ``(batch, ...)``.
        reduction: As in `guidance_loss`.
        detached: Whether the input of each pair gets no gradient here (it keeps the one through the autoencoder), so
            that it cannot become easy to reconstruct by fading. The original detaches nothing.

    Example:
        >>> reconstruction_loss([(torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3))], reduction="sum")
        tensor(18.)
    """
    return _sum_of_squares("pairs", pairs, reduction, detached)


@takes_outputs
class GuidedAttentionLoss(nn.Module):
    """Train a guided attention network: segmentation on every scale, guidance between steps, reconstruction.

    The segmentation loss is summed over the side predictions of the raw maps and those of the attended maps::

        segmentation = Σ_s loss(raw_logits[s], target) + Σ_s loss(attended_logits[s], target)
        total = segmentation_weight · segmentation + guidance_weight · guidance
                + reconstruction_weight · reconstruction

    A network without side predictions is judged by its `logits`, so the same loss trains a plain network. Parts that
    the network does not return are 0. The call takes what ``model.outputs(x)`` returns or plain logits, and a target
    ``(batch, *space)``; it returns `LossTerms` of scalars, whose `parts` are unweighted and without gradient.

    Args:
        segmentation: Function or module of ``(logits, target)`` that returns a scalar; None is `CrossEntropyLoss()`.
        segmentation_weight: The paper's alpha, 0 or more.
        guidance_weight: The paper's beta, 0 or more.
        reconstruction_weight: The paper's gamma, 0 or more.
        reduction: See `guidance_loss`; the default weights are made for ``"mean"``.
        detached: See `guidance_loss`.

    Example:
        >>> side = torch.zeros(1, 2, 3, 3)
        >>> codes = (torch.zeros(1, 4), torch.ones(1, 4))
        >>> output = SegmentationOutput(side, raw_logits=(side,), attended_logits=(side,), codes=(codes,))
        >>> terms = GuidedAttentionLoss()(output, torch.ones(1, 3, 3, dtype=torch.long))
        >>> {name: round(part.item(), 4) for name, part in terms.parts.items()}
        {'segmentation': 1.3863, 'guidance': 1.0, 'reconstruction': 0.0}

    References:
        Sinha and Dolz, equations 6 to 11, with the weights 1, 0.25 and 0.1 of their text. Means instead of the printed
        squared norms follow the authors' code.
    """

    def __init__(
        self,
        segmentation: nn.Module | Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        segmentation_weight: float = 1.0,
        guidance_weight: float = 0.25,
        reconstruction_weight: float = 0.1,
        reduction: Reduction = "mean",
        detached: bool = False,
    ) -> None:
        super().__init__()
        require_weight("segmentation_weight", segmentation_weight)
        require_weight("guidance_weight", guidance_weight)
        require_weight("reconstruction_weight", reconstruction_weight)
        require_choice("reduction", reduction, ("mean", "sum"))
        is_function, got = segmentation is None or callable(segmentation), f"a {type(segmentation).__name__}"
        require(is_function, "segmentation", "a function of logits and target", got, error=ArgumentTypeError)
        self.segmentation = CrossEntropyLoss() if segmentation is None else segmentation
        self.segmentation_weight = segmentation_weight
        self.guidance_weight = guidance_weight
        self.reconstruction_weight = reconstruction_weight
        self.reduction: Reduction = reduction
        self.detached = detached

    def forward(self, output: SegmentationOutput | Tensor, target: LabelMap) -> LossTerms:
        """Return the total and its parts for what `model.outputs(x)` or `model(x)` gave."""
        if isinstance(output, Tensor):
            output = SegmentationOutput(output)
        wanted = "a SegmentationOutput or a tensor of logits"
        require_type("output", output, SegmentationOutput, wanted, "Pass `model.outputs(x)` or `model(x)`.")
        predictions = (*output.raw_logits, *output.attended_logits) or (output.logits,)
        segmentation = torch.stack([self._judged(logits, target) for logits in predictions]).sum()
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

    def _judged(self, logits: Tensor, target: Tensor) -> Tensor:
        called, wanted = "segmentation(logits, target)", "a scalar tensor"
        loss = plain(require_tensor(called, self.segmentation(logits, target), wanted))
        cure = "Take its mean."
        require(loss.numel() == 1, called, wanted, f"one of shape {tuple(loss.shape)}", cure)
        return loss.reshape(())


def _sum_of_squares(
    argument: str, pairs: Sequence[tuple[Tensor, Tensor]], reduction: Reduction, detached: bool
) -> Scalar:
    require_choice("reduction", reduction, ("mean", "sum"))
    require_type(argument, pairs, Sequence, "a list of pairs of tensors")
    if not pairs:
        return torch.zeros(())
    terms = []
    for number, pair in enumerate(pairs):
        fixed, moving = _checked_pair(f"{argument}[{number}]", pair)
        goal = full_precision(fixed.detach() if detached else fixed)
        square = F.mse_loss(full_precision(moving), goal, reduction=reduction)
        terms.append(square if reduction == "mean" else square / fixed.shape[0])
    return torch.stack(terms).sum()


def _checked_pair(argument: str, pair: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the two of a pair as plain tensors, or raise."""
    require_type(argument, pair, Sequence, "a pair of tensors")
    require(len(pair) == 2, argument, "a pair of tensors", f"{len(pair)} of them")  # noqa: PLR2004
    for number, part in enumerate(pair):
        name = f"{argument}[{number}]"
        require_tensor(name, part, "a tensor (batch, ...)")
        require(
            part.is_floating_point() and part.ndim > 0,
            name,
            "of a floating type, with a batch axis",
            part.dtype,
        )
    first, second = map(plain, pair)
    require_same_shape(f"{argument}[1]", second.shape, f"{argument}[0]", first.shape)
    require(
        second.device == first.device, f"{argument}[1]", f"on the device of `{argument}[0]`", second.device
    )
    return first, second
