"""Functions as texts, by which a resumed run tells another one from the one it was begun with."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from types import FunctionType

import numpy as np
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["changed_settings", "described"]

_DEEPEST, _MOST = 4, 100
"""Functions inside functions, and numbers of a list, that are written out."""
_SHOWN = 200
"""Letters of a value that are said."""


def described(function: object, *, depth: int = 0) -> str | None:
    """Return the name of a function, or of the class of an object, with the numbers that it was made with.

    Texts are left out: they may be names of patients. So are places of code and memory, which change from run to run.

    >>> described(functools.partial(round, ndigits=2))
    'partial(func=round, ndigits=2)'
    """
    if function is None:
        return None
    name: str = getattr(function, "__qualname__", type(function).__qualname__).replace(".<locals>", "")
    written = {part: _written(value, depth) for part, value in _made_with(function)}
    values = ", ".join(f"{part}={text}" for part, text in written.items() if text is not None)
    return f"{name}({values})" if values else name


def _made_with(function: object) -> Iterator[tuple[str, object]]:
    """Yield what a function holds; not for a scheduler of torch, whose state is compared."""
    if isinstance(function, FunctionType):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # a cell that is not filled yet
                yield name, cell.cell_contents
    elif isinstance(function, functools.partial):
        yield from (("func", function.func), ("args", function.args), *function.keywords.items())
    elif not isinstance(function, (type, nn.Module, LRScheduler)):
        held = getattr(function, "__dict__", {}).items()
        yield from ((name, value) for name, value in held if not name.startswith("_"))


def _written(value: object, depth: int) -> str | None:
    """Return numbers, functions and lists of them as a text; None for anything else."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (bool, int, float, type(None))):
        return repr(value)
    if depth < _DEEPEST and isinstance(value, (tuple, list)) and 0 < len(value) <= _MOST:
        parts = [_written(part, depth + 1) for part in value]
        return f"[{', '.join(part for part in parts if part)}]" if any(parts) else None
    known = callable(value) or is_dataclass(value)
    return described(value, depth=depth + 1) if depth < _DEEPEST and known else None


def changed_settings(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return which settings are not what they were; those that an older state does not tell are not compared."""
    differing = [name for name, value in now.items() if name in before and before[name] != value]
    return [f"{name}: {_change(str(before[name]), str(now[name]))}" for name in differing]


def _change(before: str, now: str) -> str:
    short = [text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…" for text in (before, now)]
    return " → ".join(short) if short[0] != short[1] else "it has other values"
