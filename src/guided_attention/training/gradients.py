"""The gradient of one step: batches go to the device, are augmented, and go forward and back, in pieces if need be."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from guided_attention._checks import require
from guided_attention._distributed import numbers_of_all, pooling, rank, total, world_size
from guided_attention.errors import ArgumentTypeError
from guided_attention.outputs import LossTerms
from guided_attention.training.batches import Batch, Pair
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
        parameters: What is trained: several processes add up its gradients.
    """

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor], LossTerms],
        scaler: torch.amp.GradScaler,
        device: torch.device,
        config: TrainerConfig,
        parameters: Sequence[nn.Parameter],
    ) -> None:
        self._forward, self._scaler, self._device, self._config = forward, scaler, device, config
        self._parameters = parameters

    def add(self, group: Sequence[Batch], run: RunState) -> list[LossTerms]:
        """Average the gradients of the batches of a group; return loss and parts of each batch, without gradient.

        Of several processes, each goes forward and back with its part; all have the gradients of the whole batches.
        """
        with pooling(), _own_random_numbers(self._config.seed, run, self._device):
            terms = [
                self._of_batch(batch, run, run.batches + number, 1 / len(group))
                for number, batch in enumerate(group)
            ]
        if world_size() == 1:
            return terms
        _sum_gradients(self._parameters)
        return [_summed(one, len(batch.image) / batch.size) for one, batch in zip(terms, group, strict=True)]

    def _of_batch(self, batch: Batch, run: RunState, number: int, share: float) -> LossTerms:
        """Weigh each piece of a batch by its number of images."""
        image, target, count = batch.image, batch.target, len(batch.image)
        seeds = seeds_of(self._config.seed, run.epoch, number, range(batch.first, batch.first + count))
        pieces = min(run.pieces, batch.size // world_size())  # as many on each process
        images, targets, split = (
            [x] if pieces == 1 else x.tensor_split(pieces) for x in (image, target, seeds)
        )
        shares = [len(piece) / count for piece in images]
        found = [
            self._of_piece(x, y, s, share * part * (count / batch.size))
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
            weights = self._parameters[0].dtype
            if image.dtype != weights:
                error.add_note(f"The weights are {weights}: let the loader return images of that type.")
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
    parts = {name: mean([term.parts[name] for term in terms]) for name in names}
    return LossTerms(mean([term.total for term in terms]), parts)


def _summed(terms: LossTerms, share: float) -> LossTerms:
    """Return loss and parts of a whole batch."""
    values = torch.stack([terms.total, *(part.to(terms.total) for part in terms.parts.values())])
    whole, *parts = total(values * share)
    return LossTerms(whole, dict(zip(terms.parts, parts, strict=True)))


def _sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Give each process the sum of the gradients of all; one that no process has stays None."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    holders = numbers_of_all([float(parameter.grad is not None) for parameter in trained])
    held = [part for part, *anyone in zip(trained, *holders, strict=True) if any(anyone)]
    for kind in {(part.dtype, part.device): None for part in held}:
        alike = [part for part in held if (part.dtype, part.device) == kind]
        own = [torch.zeros_like(part) if part.grad is None else part.grad for part in alike]
        whole = total(torch.cat([gradient.reshape(-1) for gradient in own]))
        for part, gradient in zip(alike, torch.split(whole, [part.numel() for part in alike]), strict=True):
            part.grad = gradient.view_as(part)


@contextmanager
def _own_random_numbers(seed: int, run: RunState, device: torch.device) -> Iterator[None]:
    """Give each of several processes random numbers of its own for dropout; the loader keeps those that it had."""
    if world_size() == 1:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        words = np.random.SeedSequence([seed, run.epoch, run.batches, rank() + 1]).generate_state(
            1, np.uint64
        )
        torch.manual_seed(int(words[0] >> np.uint64(1)))
        yield


def _described(part: Tensor) -> str:
    return f"{part.dtype} of shape {tuple(part.shape)}"
