"""Checks of arguments, with one form of message: what, what was wanted, what came, what to do."""

import difflib
import inspect
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import TypeVar

from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    DataError,
    MissingPackageError,
)

__all__ = [
    "HIGHEST_LABEL",
    "counted",
    "cut_list",
    "needs_extra",
    "repeated",
    "require",
    "require_choice",
    "require_count",
    "require_integer",
    "require_known_keys",
    "require_number",
    "require_path",
    "require_positive",
    "require_same_shape",
    "require_seed",
    "require_takes",
    "require_type",
]

HIGHEST_LABEL = 65535
"""The highest value of a label volume: 16 bits hold it."""

_SHOWN = 6

_Name = TypeVar("_Name", str, int)


def require(
    condition: bool,
    argument: str,
    wanted: str,
    got: object,
    cure: str = "",
    *,
    error: type[ArgumentError | ArgumentTypeError | CheckpointError | DataError] = ArgumentError,
    file: object = None,
) -> None:
    """Raise an error of the common form unless `condition` holds.

    >>> require(False, "steps", "at least 1", 0, cure="Use one step or more.")
    Traceback (most recent call last):
    guided_attention.errors.ArgumentError: `steps` must be at least 1, got 0. Use one step or more.
    """
    if not condition:
        message = f"`{argument}` must be {wanted}, got {got}." + (f" {cure}" if cure else "")
        raise error(message, argument=argument, file=file)


def require_type(
    argument: str, value: object, types: type | tuple[type, ...], wanted: str, cure: str = ""
) -> None:
    """Raise an `ArgumentTypeError` unless `value` is an instance of `types`."""
    require(
        isinstance(value, types), argument, wanted, f"a {type(value).__name__}", cure, error=ArgumentTypeError
    )


def require_known_keys(
    argument: str,
    keys: Iterable[str],
    known: Sequence[str],
    *,
    error: type[ArgumentError | CheckpointError | DataError] = DataError,
    file: object = None,
) -> None:
    """Raise an error for the first key that is not known, and name the nearest known one."""
    for key in keys:
        # Only for a wrong key: with eighty known ones, the search takes longer than reading the record.
        near = [] if key in known else difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
        cure = f"Did you mean {near[0]!r}?" if near else ""
        require(
            key in known,
            argument,
            f"made of the keys {', '.join(known)}",
            repr(key),
            cure,
            error=error,
            file=file,
        )


def cut_list(names: Sequence[object], *, shown: int = _SHOWN) -> str:
    """Return the first names and how many more there are."""
    listed = ", ".join(str(name) for name in names[:shown])
    return listed + (f" and {len(names) - shown} more" if len(names) > shown else "")


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun; `many` where its plural is not `one` with an s.

    >>> counted(1, "case"), counted(0, "case"), counted(2, "class is", "classes are")
    ('1 case', '0 cases', '2 classes are')
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def repeated(names: Iterable[_Name]) -> list[_Name]:
    """Return the names that come more than once, sorted.

    >>> repeated(["case2", "case1", "case2"])
    ['case2']
    """
    return sorted(name for name, count in Counter(names).items() if count > 1)


def require_choice(
    argument: str,
    value: object,
    choices: Sequence[object],
    *,
    error: type[ArgumentError | DataError] = ArgumentError,
) -> None:
    """Raise unless `value` is one of `choices`."""
    listed = ", ".join(repr(choice) for choice in choices)
    require(value in choices, argument, f"one of {listed}", repr(value), error=error)


def require_takes(argument: str, function: object, count: int, wanted: str, cure: str) -> None:
    """Raise unless `function` can be called with so many arguments; one that does not tell its signature passes."""
    good = callable(function) and not isinstance(function, type)
    require(good, argument, wanted, f"a {type(function).__name__}", error=ArgumentTypeError)
    try:
        inspect.signature(function).bind(*range(count))  # type: ignore[arg-type]  # callable: checked above
    except TypeError as error:
        got = f"a {type(function).__name__} that cannot be called with {count} arguments ({error})"
        message = f"`{argument}` must be {wanted}, got {got}. {cure}"
        raise ArgumentTypeError(message, argument=argument) from error
    except ValueError:  # of a builtin
        return


def require_path(argument: str, path: object, cure: str = "") -> Path:
    """Return a path, or raise for anything else, bytes included."""
    require_type(argument, path, (str, os.PathLike), "a path", cure)
    text = os.fspath(path)  # type: ignore[call-overload]  # a str or PathLike: checked above
    require_type(argument, text, str, "a path of text", "Use os.fsdecode.")
    return Path(text)


def require_number(argument: str, value: object) -> None:
    """Raise an `ArgumentTypeError` unless `value` is a number."""
    require_type(argument, value, Real, "a number")


def require_integer(argument: str, value: object) -> None:
    """Raise an `ArgumentTypeError` unless `value` is an integer."""
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    require(integer, argument, "an integer", repr(value), error=ArgumentTypeError)


def require_count(argument: str, value: int) -> None:
    """Raise unless `value` is an integer above zero."""
    require_integer(argument, value)
    require_positive(argument, value)


def require_seed(value: int) -> None:
    """Raise unless `value` is a seed that all generators take."""
    require_integer("seed", value)
    require(0 <= value < 2**32, "seed", "from 0 to 2**32 - 1", value)


def require_positive(argument: str, value: float) -> None:
    """Raise unless `value` is a number above zero."""
    require_number(argument, value)
    require(value > 0, argument, "above 0", value)


def require_same_shape(first: str, shape: Sequence[int], second: str, other: Sequence[int]) -> None:
    """Raise unless two arrays have the same whole shape, batch axis included."""
    require(tuple(shape) == tuple(other), first, f"of the shape of `{second}`, {tuple(other)}", tuple(shape))


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a missing optional package into an error that names the extra to install.

    The import stands inside the block, so that readers and linters see it::

        with needs_extra("nifti"):
            import nibabel
    """
    try:
        yield
    except ModuleNotFoundError as error:
        message = (
            f"This needs the package {error.name!r}. Install it with: pip install 'guided-attention[{extra}]'"
        )
        raise MissingPackageError(message, name=error.name) from error
