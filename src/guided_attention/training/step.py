"""What happens for one batch: model and loss as one module, and the check that every number is finite."""

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from guided_attention._typing import Image, LabelMap
from guided_attention.errors import ArgumentTypeError, NonFiniteError
from guided_attention.outputs import LossTerms, SegmentationOutput

__all__ = ["Loss", "Means", "ModelWithLoss", "averaged_copy", "finite_values"]

Loss: TypeAlias = Callable[[SegmentationOutput, Tensor], LossTerms]
"""Function from the output of a network and the reference labels to the loss and its parts."""

_Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]
_Update: TypeAlias = Callable[[_Tensors, _Tensors, Tensor | int], None]


class ModelWithLoss(nn.Module):
    """A network and its loss as one module that takes images and labels to the loss.

    Data-parallel training of this module has one forward pass, and so synchronises all gradients.

    Args:
        model: A network. Its method ``outputs`` returns the `SegmentationOutput`; without one, ``model(image)`` is
            used as the logits.
        loss: Function or module from the output and the labels to `LossTerms`.

    Shape:
        - ``image``: ``(batch, in_channels, *space)``, float.
        - ``target``: ``(batch, *space)``, integer labels.

    Raises:
        ArgumentTypeError: The loss returns anything but `LossTerms`.

    Example:
        >>> import torch
        >>> def mean_square(output: SegmentationOutput, target: Tensor) -> LossTerms:
        ...     return LossTerms(total=output.logits.square().mean())
        >>> joint = ModelWithLoss(nn.Identity(), mean_square)
        >>> joint(torch.full((1, 2, 3, 5), 2.0), torch.zeros(1, 3, 5, dtype=torch.long)).total
        tensor(4.)
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, image: Image, target: LabelMap) -> LossTerms:
        """Return the loss of one batch and its parts."""
        terms = self.loss(self._output(image), target)
        if not isinstance(terms, LossTerms):
            raise ArgumentTypeError(
                f"`loss` must return LossTerms, got {type(terms).__name__}. "
                "Wrap the value: LossTerms(total=value, parts={'segmentation': value}).",
                argument="loss",
            )
        return terms

    def _output(self, image: Tensor) -> SegmentationOutput:
        outputs = getattr(self.model, "outputs", None)
        output = outputs(image) if callable(outputs) else SegmentationOutput(logits=self.model(image))
        if not isinstance(output, SegmentationOutput):
            message = f"`model.outputs` must return a SegmentationOutput, got {type(output).__name__}."
            raise ArgumentTypeError(message, argument="model")
        return output


class Means:
    """Running means of named numbers.

    >>> means = Means()
    >>> means.add({"loss": 1.0})
    >>> means.add({"loss": 3.0})
    >>> means.values(), means.count
    ({'loss': 2.0}, 2)
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self.count = 0

    def add(self, values: Mapping[str, float]) -> None:
        """Take in the numbers of one more batch."""
        self.count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def values(self) -> dict[str, float]:
        """Return the mean of each number."""
        return {name: total / self.count for name, total in self._sums.items()}


def finite_values(terms: LossTerms, gradient_norm: Tensor, *, epoch: int, batch: int) -> dict[str, float]:
    """Return the loss and its parts as numbers, or stop the run where one or a gradient is not finite.

    Raises:
        NonFiniteError: Something is NaN or infinite; the message names it, the epoch and the batch.
    """
    named = {"loss": terms.total, **{f"loss_{name}": part for name, part in terms.parts.items()}}
    # One transfer for all: every separate one would make the host wait for the device once more.
    stacked = torch.stack([value.detach().float() for value in [*named.values(), gradient_norm]])
    values = dict(zip([*named, "gradient"], stacked.tolist(), strict=True))
    broken = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise NonFiniteError(
            f"`loss` must be finite, got {', '.join(broken)} at epoch {epoch}, batch {batch}. "
            "This batch changed no weights, and last.pt holds those of the epoch before. "
            "Try a lower learning rate, clip_grad_norm=1.0 or precision='fp32', and look for NaN or "
            "very large values in the images.",
            argument="loss",
        )
    del values["gradient"]
    return values


def averaged_copy(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a network that follows the network's weights as a moving average.

    After update ``n`` the average keeps the share ``min(decay, (1 + n) / (10 + n))`` of itself, so that the
    first, untrained weights do not linger in a short run. Buffers, as those of batch norm, are averaged
    alike.
    """

    def average(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        done = int(count)
        share = min(decay, (1 + done) / (10 + done))
        update_with: Callable[[float], _Update] = get_ema_multi_avg_fn  # torch leaves it untyped
        update_with(share)(averaged, current, count)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
