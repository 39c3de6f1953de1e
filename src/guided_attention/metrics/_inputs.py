"""What callers pass: masks, label volumes and numbers, checked and converted in this one place."""

import math
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from guided_attention._checks import require, require_same_shape, require_type
from guided_attention._typing import LabelArray, MaskArray
from guided_attention.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "as_array",
    "as_choice",
    "as_labels",
    "as_lengths",
    "as_mask",
    "as_masks",
    "as_number",
    "as_numbers",
    "as_records",
    "as_whole",
    "as_workers",
]

_Record = TypeVar("_Record")

_MOST_WORKERS = 4096


def as_array(argument: str, value: object) -> npt.NDArray[Any]:
    """Return a NumPy array; tensors may be on any device. Copies only where it must."""
    if isinstance(value, Tensor):
        value = _from_tensor(argument, value)
    if not isinstance(value, np.ndarray):
        message = f"`{argument}` must be a NumPy array or a tensor, got a {type(value).__name__}. Use numpy.asarray."
        raise ArgumentTypeError(message, argument=argument)
    masked = isinstance(value, np.ma.MaskedArray)
    require(not masked, argument, "an array without masked values", "some", cure="Use volume.filled(0).")
    return np.asarray(value)


def _from_tensor(argument: str, tensor: Tensor) -> npt.NDArray[Any]:
    """Return the values of a tensor, of a subclass too; bfloat16, which NumPy lacks, as float32."""
    is_short = tensor.is_floating_point() and tensor.element_size() <= 2  # noqa: PLR2004
    try:
        plain = tensor.as_subclass(Tensor)
        array: npt.NDArray[Any] = (plain.float() if is_short else plain).numpy(force=True)
    except (RuntimeError, TypeError) as error:
        message = (
            f"`{argument}` must be a dense tensor with values, got a {tensor.layout} tensor of {tensor.dtype} on "
            f"{tensor.device}. Use an array or an ordinary tensor."
        )
        raise ArgumentError(message, argument=argument) from error
    return array


def as_mask(argument: str, value: object) -> MaskArray:
    """Return a boolean array."""
    mask = as_array(argument, value)
    got = f"an array of {mask.dtype}"
    require(mask.dtype == bool, argument, "a boolean mask", got, cure="Pass `volume == label`.")
    return mask


def as_masks(prediction: object, reference: object) -> tuple[MaskArray, MaskArray]:
    """Return two boolean arrays of one shape."""
    masks = as_mask("prediction", prediction), as_mask("reference", reference)
    require_same_shape("prediction", masks[0].shape, "reference", masks[1].shape)
    return masks


def as_labels(argument: str, value: object, cure: str) -> LabelArray:
    """Return an array of integers."""
    labels = as_array(argument, value)
    got = f"an array of {labels.dtype}"
    require(labels.dtype.kind in "iu", argument, "a volume of integers", got, cure=cure)
    return labels


def as_lengths(spacing_mm: object, axes: int | None = None) -> tuple[float, ...]:
    """Return one length above 0 for each axis of the masks; any number of them if `axes` is None."""
    lengths = tuple(as_numbers("spacing_mm", spacing_mm).tolist())
    wanted = f"{axes} lengths, one for each axis of the masks in array order"
    require(axes in {None, len(lengths)}, "spacing_mm", wanted, lengths)
    good = bool(lengths) and all(0 < length < math.inf for length in lengths)
    require(good, "spacing_mm", "above 0 and finite", lengths)
    return lengths


def as_numbers(argument: str, values: object) -> npt.NDArray[np.float64]:
    """Return a sequence, array or tensor of real numbers as one row of double precision."""
    if isinstance(values, Tensor):
        values = _from_tensor(argument, values)
    wanted, kind = "one row of numbers", type(values).__name__
    try:
        row = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(f"`{argument}` must be {wanted}, got a {kind}.", argument=argument) from error
    require(row.dtype.kind in "iuf", argument, wanted, f"a {kind} of {row.dtype}", error=ArgumentTypeError)
    require(row.ndim == 1, argument, wanted, f"an array of shape {row.shape}")
    return row.astype(np.float64, copy=False)


def as_number(argument: str, value: object) -> float:
    """Return a real number as a float; NaN and infinite ones too."""
    require_type(argument, value, Real, "a number")
    require(not isinstance(value, bool), argument, "a number", value, error=ArgumentTypeError)
    try:
        return float(value)  # type: ignore[arg-type]  # a Real, see above
    except OverflowError as error:
        raise ArgumentError(f"`{argument}` must be a finite number, got more.", argument=argument) from error


def as_whole(argument: str, value: object, lowest: int, highest: int = sys.maxsize) -> int:
    """Return an integer from `lowest` to `highest`."""
    require_type(argument, value, Integral, "a whole number")
    require(not isinstance(value, bool), argument, "a whole number", value, error=ArgumentTypeError)
    number: int = int(value)  # type: ignore[call-overload]  # an Integral, see above
    require(number >= lowest, argument, f"at least {lowest}" if lowest else "0 or more", number)
    require(number <= highest, argument, f"at most {highest}", "more")
    return number


def as_workers(value: object) -> int:
    """Return a number of threads: 1 or more, or -1 for all cores."""
    number = as_whole("workers", value, -1, _MOST_WORKERS)
    require(number != 0, "workers", "1 or more, or -1 for all cores", number)
    return number


def as_choice(argument: str, value: object, choices: Sequence[str]) -> None:
    """Raise unless `value` is one of these texts."""
    listed = ", ".join(repr(choice) for choice in choices)
    good = isinstance(value, str) and value in choices
    require(good, argument, f"one of {listed}", repr(value))


def as_records(argument: str, values: object, kind: type[_Record]) -> Sequence[_Record]:
    """Return a list or tuple whose members are all of one class."""
    wanted = f"a list of {kind.__name__}"
    cure = "Use list(...) for other collections."
    require_type(argument, values, (list, tuple), wanted, cure)
    records: Sequence[_Record] = values  # type: ignore[assignment]  # checked here
    for record in records:
        require_type(argument, record, kind, wanted)
    return records
