"""The gradient of one step: batches go to the device, are augmented, and go forward and back, in pieces if need be."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from guided_attention._checks import require
from guided_attention.errors import ArgumentTypeError
from guided_attention.outputs import LossTerms
from guided_attention.training.batches import Pair
from guided_attention.training.config import TrainerConfig
from guided_attention.training.seeding import seeds_of
from guided_attention.training.state import RunState

__all__ = ["Gradients"]


class Gradients:
    """Adds the gradients of the batches of a step to the parameters.

    Args:
        forward: Takes images and labels to the loss, see `ModelWithLoss`.
        scaler: Of the loss.
        device: Where the batches are moved to.
        config: The settings.
    """

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor], LossTerms],
        scaler: torch.amp.GradScaler,
        device: torch.device,
        config: TrainerConfig,
    ) -> None:
        self._forward, self._scaler, self._device, self._config = forward, scaler, device, config

    def add(self, group: Sequence[Pair], run: RunState) -> list[LossTerms]:
        """Average the gradients of the batches of a group; return loss and parts of each batch, without gradient."""
        return [
            self._of_batch(image, target, run, run.batches + number, 1 / len(group))
            for number, (image, target) in enumerate(group)
        ]

    def _of_batch(self, image: Tensor, target: Tensor, run: RunState, batch: int, share: float) -> LossTerms:
        """Weigh each piece of a batch by its number of images."""
        seeds = seeds_of(self._config.seed, run.epoch, batch, range(len(image)))
        pieces = min(run.pieces, len(image))
        images, targets, split = (
            [x] if pieces == 1 else x.tensor_split(pieces) for x in (image, target, seeds)
        )
        shares = [len(piece) / len(image) for piece in images]
        found = [
            self._of_piece(x, y, s, share * part)
            for x, y, s, part in zip(images, targets, split, shares, strict=True)
        ]
        return _weighted(found, shares)

    def _of_piece(self, image: Tensor, target: Tensor, seeds: Tensor, share: float) -> LossTerms:
        precision, device = self._config.precision, self._device
        half = torch.bfloat16 if precision == "bf16" else torch.float16
        try:
            image, target = image.to(device, non_blocking=True), target.to(device, non_blocking=True)
            image, target = self._augmented(image, target, seeds)
            with torch.autocast(device.type, dtype=half, enabled=precision != "fp32"):
                terms = self._forward(image, target)
        except Exception as error:  # of the user's network or loss: say what they were given
            error.add_note(f"The images were {_described(image)}, the labels {_described(target)}.")
            raise
        cure = "Compute it of the logits, with functions that have a gradient, outside of torch.no_grad()."
        has_gradient = terms.total.requires_grad
        require(has_gradient, "loss", "one with a gradient", "one that no trained weight changes", cure)
        torch.autograd.backward(self._scaler.scale(terms.total * share))
        return LossTerms(terms.total.detach(), {name: part.detach() for name, part in terms.parts.items()})

    def _augmented(self, image: Tensor, target: Tensor, seeds: Tensor) -> Pair:
        if self._config.augment is None:
            return image, target
        with torch.no_grad():
            changed: object = self._config.augment(image, target, seeds)
        wanted = "a pair of tensors (images, labels)"
        pair = isinstance(changed, tuple) and all(isinstance(part, Tensor) for part in changed)
        name, got = "augment(images, labels, seeds)", f"a {type(changed).__name__}"
        require(pair and len(changed) == 2, name, wanted, got, error=ArgumentTypeError)  # type: ignore[arg-type]  # noqa: PLR2004
        return changed  # type: ignore[return-value]  # checked


def _weighted(terms: Sequence[LossTerms], shares: Sequence[float]) -> LossTerms:
    """Return the mean of loss and parts over the pieces of a batch."""
    if len(terms) == 1:
        return terms[0]

    def mean(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([value * share for value, share in zip(values, shares, strict=True)]).sum()

    names = terms[0].parts
    total = mean([term.total for term in terms])
    return LossTerms(total, {name: mean([term.parts[name] for term in terms]) for name in names})


def _described(part: Tensor) -> str:
    return f"{part.dtype} of shape {tuple(part.shape)}"
