"""Frozen records as plain values and back, by the types of their fields."""

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from guided_attention._checks import counted, require, require_choice, require_known_keys, require_type
from guided_attention.errors import ArgumentTypeError, DataError

__all__ = ["check_fields", "example", "parsed", "plain", "record_from", "require_keys", "value_of"]


def check_fields(record: object, where: str) -> None:
    """Check the type of every field of a frozen record, and store lists as tuples and whole floats as floats."""
    for name, hint in get_type_hints(type(record)).items():
        object.__setattr__(record, name, _checked(f"{where}.{name}", getattr(record, name), hint))


def _checked(where: str, value: object, hint: Any) -> object:  # noqa: ANN401 - a type, a union or a literal
    origin, options = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        (other,) = (option for option in options if option is not NoneType)
        return None if value is None else _checked(where, value, other)
    if origin is Literal:
        value = "none" if value is None and "none" in options else value  # `parsed` takes the word for None
        require_choice(where, value, options)
        return value
    if origin is tuple:
        return _checked_tuple(where, value, options)
    return _checked_scalar(where, value, hint)


def _checked_tuple(where: str, value: object, options: tuple[Any, ...]) -> tuple[object, ...]:
    value = () if value is None and options[-1] is Ellipsis else value  # `parsed` takes "none" for None
    require_type(where, value, (tuple, list), "a list")
    parts = tuple(value) if isinstance(value, (tuple, list)) else ()
    if options[-1] is not Ellipsis:
        require(len(parts) == len(options), where, counted(len(options), "value"), len(parts))
        return tuple(_checked(where, part, option) for part, option in zip(parts, options, strict=True))
    return tuple(_checked(where, part, options[0]) for part in parts)


def _checked_scalar(where: str, value: object, kind: type) -> object:
    named = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false"}
    wanted = named.get(kind, f"a {kind.__name__}")
    types = (int, float) if kind is float else kind
    good = isinstance(value, types) and (kind not in {int, float} or not isinstance(value, bool))
    require(good, where, wanted, repr(value), error=ArgumentTypeError)
    if kind is float and isinstance(value, (int, float)):
        require(math.isfinite(value), where, wanted, value)
        return float(value)
    return value


def plain(value: object) -> Any:  # noqa: ANN401 - what JSON holds
    """Return a record as JSON has it: mappings, lists, texts, numbers, booleans and None."""
    if is_dataclass(value) and not isinstance(value, type):
        own = getattr(value, "to_dict", None)
        return (
            own() if own is not None else {one.name: plain(getattr(value, one.name)) for one in fields(value)}
        )
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (tuple, list)) else value


def record_from(cls: type[Any], values: object, where: str) -> Any:  # noqa: ANN401 - an instance of `cls`
    """Return the record that `plain` wrote; a key that is unknown or missing is an error."""
    require_type(where, values, Mapping, "a mapping")
    given = dict(values) if isinstance(values, Mapping) else {}
    known = tuple(one.name for one in fields(cls))
    require_known_keys(where, given, known)
    missing = [name for name in known if name not in given]
    require(not missing, where, f"a mapping with {', '.join(known)}", f"no {missing}", error=DataError)
    hints = get_type_hints(cls)
    return cls(**{name: _checked(f"{where}.{name}", value, hints[name]) for name, value in given.items()})


def require_keys(keys: Iterable[str], known: Sequence[str]) -> None:
    """Raise for an unknown dotted key; the message names the nearest only, as there are some eighty."""
    for key in keys:
        ends = [name for name in known if name.endswith(f".{key}")]
        near = [*ends, *difflib.get_close_matches(key, known, n=1, cutoff=0.0)][0]
        require(key in known, "values", "named by keys of the plan", repr(key), f"Did you mean {near!r}?")


def example(cls: type | None, name: str, old: object) -> object:
    """Return the value that a text for a field is read like: `old`, or one of the field's type where that is empty."""
    if old not in (None, []) or cls is None or not is_dataclass(cls):
        return old
    found = _of_type(get_type_hints(cls).get(name))
    return old if found is None else found


def _of_type(hint: Any) -> object:  # noqa: ANN401 - a type, a union or a literal
    """Return a text, or a list of one, for a type whose texts could be taken for numbers; None for others."""
    options = [option for option in get_args(hint) if option is not NoneType]
    if get_origin(hint) in {Union, UnionType}:
        return _of_type(options[0]) if len(options) == 1 else None
    if get_origin(hint) is tuple:
        return [_of_type(options[0])]
    return "" if hint is str else None


def value_of(value: object, old: object) -> object:
    """Return a value as plain JSON has it; a text is read as the type of the value that it replaces."""
    return parsed(value, old) if isinstance(value, str) else plain(value)


def parsed(text: str, old: object) -> object:
    """Return the value that a text stands for: JSON, ``None``, ``1,2,3``, or the text itself.

    A text stays one where `old` is a text; where `old` is None, numbers apart make a list.

    >>> parsed("1e-3", 0.5), parsed("96,128", [1, 2]), parsed("96,128", None), parsed("12", "a name")
    (0.001, [96, 128], [96, 128], '12')
    """
    special = {"none": None, "true": True, "false": False}
    if text.lower() in special:
        return special[text.lower()]
    if isinstance(old, str):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if old is None and "," in text and value is text:
        parts = [parsed(part.strip(), None) for part in text.split(",")]
        return text if any(isinstance(part, str) for part in parts) else parts
    if isinstance(old, list) and not isinstance(value, list):
        return [parsed(part.strip(), old[0] if old else None) for part in text.split(",") if part.strip()]
    return value
