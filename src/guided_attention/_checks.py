"""Checks of arguments, with one form of message: what, what was wanted, what came, what to do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["needs_extra", "require", "require_choice", "require_positive", "require_same_shape"]


def require(condition: bool, argument: str, wanted: str, got: object, cure: str = "") -> None:
    """Raise a `ValueError` in the house's form unless `condition` holds.

    >>> require(False, "steps", "at least 1", 0, cure="Ask for one step or more.")
    Traceback (most recent call last):
    ValueError: `steps` must be at least 1, got 0. Ask for one step or more.
    """
    if not condition:
        raise ValueError(f"`{argument}` must be {wanted}, got {got}." + (f" {cure}" if cure else ""))


def require_choice(argument: str, value: object, choices: Sequence[object]) -> None:
    """Raise unless `value` is one of `choices`."""
    listed = ", ".join(repr(choice) for choice in choices)
    require(value in choices, argument, f"one of {listed}", repr(value))


def require_positive(argument: str, value: float) -> None:
    """Raise unless `value` is above zero."""
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
        raise ModuleNotFoundError(message, name=error.name) from error
