"""What happens for one step: network and loss as one module, the scaled gradient, the check that all is finite."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from guided_attention._checks import require, require_type
from guided_attention._layers import resize
from guided_attention._typing import Image
from guided_attention.errors import ArgumentTypeError, NonFiniteError
from guided_attention.outputs import LossTerms, SegmentationOutput

__all__ = ["Loss", "ModelWithLoss", "averaged_copy", "finite_values", "output_of"]

Loss: TypeAlias = Callable[[SegmentationOutput, Tensor], LossTerms] | Callable[[Tensor, Tensor], Tensor]
"""Function from logits and reference labels to a scalar, or one marked with `takes_outputs`."""

_Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]
_Update: TypeAlias = Callable[[_Tensors, _Tensors, Tensor | int], None]

_LOGITS = ("logits", "out")
_MARK_IT = "Mark a loss that takes the whole output, and returns LossTerms, with @takes_outputs."


class ModelWithLoss(nn.Module):
    """A network and its loss as one module that takes images and labels to the loss.

    Data-parallel training of this module has one forward pass, and so synchronises all gradients.

    Args:
        model: A network that returns logits; a list, whose first entry is the logits and the others side logits; a
            dictionary with the key ``"logits"`` or ``"out"``; or a `SegmentationOutput`. Its method ``outputs``, if it
            has one, is called for a loss that takes the whole output.
        loss: A loss marked with `takes_outputs`, such as `GuidedAttentionLoss`, gets the `SegmentationOutput` and
            returns `LossTerms`. Every other one gets the logits and returns a scalar.

    Shape:
        - ``image``: ``(batch, in_channels, *space)``, float.
        - ``target``: as the loss takes it; the library's take integers ``(batch, *space)``.

    Raises:
        ArgumentTypeError: Network or loss return something else.

    Example:
        >>> joint = ModelWithLoss(nn.Identity(), nn.CrossEntropyLoss())
        >>> joint(torch.zeros(1, 2, 3, 5), torch.zeros(1, 3, 5, dtype=torch.long)).total
        tensor(0.6931)
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        require_type("model", model, nn.Module, "a torch.nn.Module")
        wanted = "a function of logits and labels"
        require(callable(loss), "loss", wanted, f"a {type(loss).__name__}", error=ArgumentTypeError)
        require_type("loss", loss, object if not isinstance(loss, type) else (), wanted, "Add the brackets.")
        self.model = model
        self.loss = loss

    def forward(self, image: Image, target: Tensor) -> LossTerms:
        """Return the loss of one batch and its parts."""
        if getattr(self.loss, "takes_outputs", False):
            outputs = getattr(self.model, "outputs", None)
            output = output_of(outputs(image) if callable(outputs) else self.model(image))
            terms = self.loss(output, target)  # type: ignore[arg-type]  # marked
            cure = "Wrap the value: LossTerms(total=value, parts={'segmentation': value})."
            require_type("loss(output, target)", terms, LossTerms, "LossTerms", cure)
            return terms  # type: ignore[return-value]  # checked
        output = output_of(self.model(image))
        try:
            value = self.loss(output.logits, target)  # type: ignore[arg-type]  # not marked
        except AttributeError as error:
            if error.obj is output.logits:
                message = f"`loss` must take logits, got one that reads their {error.name!r}. {_MARK_IT}"
                raise ArgumentTypeError(message, argument="loss") from error
            raise
        require_type("loss(logits, target)", value, Tensor, "a scalar tensor", _MARK_IT)
        shape = tuple(value.shape)  # type: ignore[union-attr]  # checked
        require(value.numel() == 1, "loss(logits, target)", "a scalar tensor", f"one of shape {shape}")  # type: ignore[union-attr]
        return LossTerms(value.reshape(()))  # type: ignore[union-attr]  # checked


def output_of(value: object) -> SegmentationOutput:
    """Return what a network gave as the record that losses read.

    Raises:
        ArgumentTypeError: It is nothing that has logits; the message names what it is.

    Example:
        >>> main, side = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)
        >>> output = output_of([main, side])
        >>> [logits.shape[2] for logits in (*output.raw_logits, *output.attended_logits)]
        [4, 4]
        >>> output_of({"out": main, "aux": side}).raw_logits
        ()
    """
    if isinstance(value, SegmentationOutput):
        return value
    if isinstance(value, Tensor):
        return SegmentationOutput(value)
    if isinstance(value, Mapping):
        return SegmentationOutput(_logits_in(value))
    if isinstance(value, Sequence) and value and all(_like(value[0], part) for part in value):
        main, *sides = value
        resized = tuple(resize(side, tuple(main.shape[2:])) for side in sides)
        # Losses judge the side logits where there are some, so the prediction must be among them.
        return SegmentationOutput(main, raw_logits=resized, attended_logits=(main,) if sides else ())
    got = f"a {type(value).__name__}" + (
        f" of {[_named(part) for part in value]}" if isinstance(value, Sequence) else ""
    )
    wanted = "logits, a list of logits of one batch, a dictionary of them or a SegmentationOutput"
    raise ArgumentTypeError(f"`model(image)` must be {wanted}, got {got}.", argument="model")


def _logits_in(value: Mapping[object, object]) -> Tensor:
    tensors = [part for part in value.values() if isinstance(part, Tensor)]
    named = [value[key] for key in _LOGITS if isinstance(value.get(key), Tensor)]
    found = named or (tensors if len(tensors) == 1 else [])
    wanted = "logits, or a dictionary with them under 'logits' or 'out'"
    got = f"a dictionary with the keys {list(value)}"
    require(bool(found), "model(image)", wanted, got, "Rename the key.", error=ArgumentTypeError)
    return found[0]  # type: ignore[return-value]  # a tensor


def _like(main: object, part: object) -> bool:
    """Whether both are logits of one batch, at any size."""
    if not isinstance(main, Tensor) or not isinstance(part, Tensor):
        return False
    return main.ndim == part.ndim > 2 and main.shape[:2] == part.shape[:2]  # noqa: PLR2004


def _named(part: object) -> str:
    return f"tensor {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__


def finite_values(
    terms: Sequence[LossTerms], gradient_norm: Tensor, where: str, *, skippable: Sequence[Tensor] = ()
) -> tuple[list[dict[str, float]], float]:
    """Return loss and parts of each batch of a step and its gradient norm as numbers, or stop where one is not finite.

    Raises:
        NonFiniteError: Something is NaN or infinite; the message names it, and `where` it came up. A gradient in
            `skippable` may be: the scaler skips its step. It would not skip one of which only the norm overflows.
    """
    named = [
        {"loss": term.total, **{f"loss_{name}": part for name, part in term.parts.items()}} for term in terms
    ]
    tensors = [value for values in named for value in values.values()]
    # One transfer for all: every separate one would make the host wait for the device once more.
    kind = torch.float64 if tensors[0].dtype == torch.float64 else torch.float32
    # To one device, since the norm of no gradients is on the CPU.
    values_and_norm = [value.detach().to(tensors[0].device, kind) for value in (*tensors, gradient_norm)]
    stacked = torch.stack(values_and_norm)
    *numbers, gradient = stacked.tolist()
    remaining = iter(numbers)
    found = [{name: next(remaining) for name in values} for values in named]
    skipped = not math.isfinite(gradient) and any(not part.isfinite().all() for part in skippable)
    checked = found if skipped else [*found, {"gradient": gradient}]
    broken = [
        f"{name} = {value}"
        for values in checked
        for name, value in values.items()
        if not math.isfinite(value)
    ]
    if broken:
        raise NonFiniteError(
            f"`loss` must be finite, got {', '.join(broken)} at {where}. "
            "This step changed no weights, and last.pt holds those stored before it. "
            "Try a lower learning rate, clip_grad_norm=1.0 or precision='fp32', and look for NaN or "
            "very large values in the images.",
            argument="loss",
        )
    return found, gradient


def averaged_copy(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a network that follows the network's weights as a moving average.

    After update ``n`` the average keeps the share ``min(decay, (1 + n) / (10 + n))`` of itself, so that the
    first, untrained weights do not linger in a short run. Buffers of numbers, as those of batch norm, are averaged
    alike; whole-number and boolean ones, such as counters and tables of indices, are copied.
    """

    def average(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        first = averaged[0]  # all are of one type: torch groups them
        if not (first.is_floating_point() or first.is_complex()):
            # The mean is rounded down, to other indices even where both are the same.
            for copy, value in zip(averaged, current, strict=True):
                copy.copy_(value)
            return
        done = int(count)
        share = min(decay, (1 + done) / (10 + done))
        update_with: Callable[[float], _Update] = get_ema_multi_avg_fn  # torch leaves it untyped
        update_with(share)(averaged, current, count)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
