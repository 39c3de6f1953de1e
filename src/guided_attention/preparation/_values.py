"""Checks of the numbers in records, and records of several kinds as plain values."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from guided_attention._checks import require, require_known_keys, require_type
from guided_attention.errors import ArgumentTypeError, DataError

__all__ = ["kind_and_values", "kind_to_dict", "number", "tuples", "whole"]

Record = TypeVar("Record")
_LARGEST = float(np.finfo(np.float32).max)
_HIGHEST = 2**31 - 1


def number(argument: str, value: object) -> float:
    """Return a finite number that single precision holds, or raise."""
    good = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    require(good, argument, "a number", f"a {type(value).__name__}", error=ArgumentTypeError)
    assert isinstance(value, (int, float, np.integer, np.floating))  # noqa: S101 - for the type checker
    require(bool(-_LARGEST <= value <= _LARGEST), argument, "a finite number of single precision", value)
    return float(value)


def whole(argument: str, value: object, *, least: int) -> int:
    """Return a whole number of at least `least`, or raise."""
    good = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    require(good, argument, "a whole number", f"a {type(value).__name__}", error=ArgumentTypeError)
    assert isinstance(value, (int, np.integer))  # noqa: S101 - for the type checker
    require(bool(value >= least), argument, f"{least} or above", value)
    require(bool(value <= _HIGHEST), argument, f"at most {_HIGHEST}", "a number beyond it")
    return int(value)


def tuples(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return plain values with tuples in place of lists: JSON has lists only, and records hold tuples."""
    if isinstance(value, Mapping):
        return {name: tuples(part) for name, part in value.items()}
    return tuple(tuples(part) for part in value) if isinstance(value, list | tuple) else value


def kind_to_dict(record: object, kinds: Mapping[str, type[Any]]) -> dict[str, Any]:
    """Return a record as plain values, with the name of its kind."""
    kind = next(name for name, cls in kinds.items() if type(record) is cls)
    values = {
        name: list(value) if isinstance(value, tuple) else value for name, value in vars(record).items()
    }
    return {"kind": kind, **values}


def kind_and_values(
    argument: str, values: object, kinds: Mapping[str, type[Record]]
) -> tuple[type[Record], dict[str, Any]]:
    """Return the class that `kind_to_dict` wrote, and its values; raise where one is missing or unknown."""
    require_type(argument, values, Mapping, "a mapping with the key 'kind'")
    assert isinstance(values, Mapping)  # noqa: S101 - for the type checker
    kind = values.get("kind")
    good = isinstance(kind, str) and kind in kinds
    require(good, f"{argument}.kind", f"one of {', '.join(kinds)}", repr(kind), error=DataError)
    cls = kinds[str(kind)]
    known = tuple(cls.__dataclass_fields__)  # type: ignore[attr-defined]  # all are records
    rest = {name: value for name, value in values.items() if name != "kind"}
    require_known_keys(argument, rest, known)
    missing = [name for name in known if name not in rest]
    require(
        not missing, argument, f"a mapping with the keys {', '.join(known)}", f"no {missing}", error=DataError
    )
    return cls, rest
