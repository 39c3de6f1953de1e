"""Generators of random numbers: found in what a run is given, stored with its state, and set again."""

import functools
import itertools
import random
import sys
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import PurePath
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from guided_attention._checks import require

__all__ = ["generator_states", "generators_in", "require_repeatable", "restore_generators"]

_Source: TypeAlias = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
_SOURCES = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_PLAIN = (
    str,
    bytes,
    int,
    float,
    bool,
    type,
    ModuleType,
    PurePath,
    Tensor,
    np.ndarray,
    type(None),
)
_DICTS = {dict, OrderedDict}
"""Most of those of a network are empty, and not worth a visit."""
_CONTAINERS: tuple[type[Iterable[object]], ...] = (list, tuple, set, frozenset, deque)
_DEEPEST, _MOST, _ALL = 12, 100, 20_000
"""Levels that the search for generators goes down; parts of a list that it visits whenever states are read or set; and
parts that it looks at before a run, to find generators behind those."""
_WITHOUT_OWN = {*sys.stdlib_module_names, "numpy", "torch", "guided_attention"}
"""Modules whose functions read no generator but the global ones."""

_ALLOW = "or allow a resumed run to differ with TrainerConfig(exact_resume=False)."


def require_repeatable(sources: Mapping[str, object], *, exact: bool) -> None:
    """Raise where `exact`, and a resumed run could not repeat what it is given, by the name of the argument."""
    if not exact:
        return
    wanted, loader = "one that a resumed run can repeat", sources["train_loader"]
    several = getattr(loader, "num_workers", 0) > 0
    kept = several and getattr(loader, "persistent_workers", False)
    cure = f"Set persistent_workers=False, {_ALLOW}"
    got = "persistent_workers=True: their random numbers continue from epoch to epoch and cannot be stored"
    require(not kept, "train_loader", wanted, got, cure)
    unordered = several and not getattr(loader, "in_order", True)
    require(not unordered, "train_loader", wanted, "in_order=False", f"Set in_order=True, {_ALLOW}")
    stored = {id(source) for source in generators_in(sources).values()}
    for argument, part in sources.items():
        found = generators_in({argument: part}, everywhere=True)
        missed = [name for name, source in found.items() if id(source) not in stored]
        got = f"{missed[0]} and others behind the first {_MOST} parts of a list" if missed else ""
        require(not missed, argument, wanted, got, f"Let its parts share one generator, {_ALLOW}")
        secret = [name for name, source in found.items() if isinstance(source, random.SystemRandom)]
        got = f"{secret[0]}, a random.SystemRandom" if secret else ""
        require(not secret, argument, wanted, got, f"Use random.Random(seed), {_ALLOW}")


def generators_in(sources: Mapping[str, object], *, everywhere: bool = False) -> dict[str, _Source]:
    """Return the generators of random numbers that a loader, a network and the like hold, by path.

    What a mapping makes when it is asked, such as samples from a file, is not looked at: only a `dict` holds its parts.
    Only `everywhere` looks behind the first parts of long lists, at no more than `_ALL` parts: a data set may be large.
    """
    found: dict[str, _Source] = {}
    seen: dict[int, object] = {}  # with the objects: the id of one that is gone would be given again
    # Level by level, so that what is reached in two ways is visited by the shorter one.
    waiting: deque[tuple[str, Iterator[tuple[str, object]], int]] = deque([("", iter(sources.items()), 0)])
    most, remaining = (_ALL, itertools.repeat(None, _ALL)) if everywhere else (_MOST, itertools.repeat(None))
    while waiting:
        above, parts, depth = waiting.popleft()
        for (name, value), _ in zip(parts, remaining, strict=False):
            if isinstance(value, _PLAIN) or id(value) in seen or (type(value) in _DICTS and not value):
                continue
            seen[id(value)] = value
            path = above + name
            if isinstance(value, _SOURCES):
                found[_unused(path, found)] = value
            elif depth < _DEEPEST:
                waiting.append((path, _parts_of(value, most), depth + 1))
    return found


def _unused(path: str, found: Mapping[str, _Source]) -> str:
    """Return the path, with a number where another generator has it: two classes may have one name."""
    numbered = (f"{path} ({number})" for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if name not in found)


def _parts_of(value: object, most: int) -> Iterator[tuple[str, object]]:
    """Return what an object holds and its code refers to, by name; of a container, the first `most` parts.

    Containers are read as Python's own ones: a subclass may make its parts when it is asked for them.
    """
    kind = next((kind for kind in _CONTAINERS if isinstance(value, kind)), None)
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in itertools.islice(dict.items(value), most))
    elif kind is not None:
        held = itertools.islice(kind.__iter__(value), most)  # type: ignore[arg-type]  # of that kind
        yield from ((f"[{number}]", part) for number, part in enumerate(held))
    elif isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, (MethodType, BuiltinMethodType)):
        yield ".__self__", value.__self__
        yield "", getattr(value, "__func__", None)
    elif isinstance(value, (staticmethod, classmethod)):
        yield "", value.__func__
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, property):
        yield ".fget", value.fget
    else:
        yield from _parts_of_object(value)


def _parts_of_object(value: object) -> Iterator[tuple[str, object]]:
    """Return attributes, those of its class too, and all modules inside a module."""
    if isinstance(value, nn.Module):  # networks nest deeper than the search goes down
        yield from ((_path_in_module(name), part) for name, part in value.named_modules() if name)
    yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names = [slots] if isinstance(slots, str) else slots
        yield from ((f".{name}", getattr(value, name, None)) for name in names)
        if kind.__module__.partition(".")[0] not in _WITHOUT_OWN:
            # By its name, since an object may have an attribute of the name of a variable of its class.
            yield from ((f".{kind.__name__}.{name}", part) for name, part in vars(kind).items())


def _path_in_module(name: str) -> str:
    return "".join(f"._modules[{part!r}]" for part in name.split("."))


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Return what a function holds, and the variables of its module that it reads; not for functions of torch."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a cell that is not filled yet
            yield f".{name}", cell.cell_contents
    yield ".__defaults__", function.__defaults__
    yield ".__kwdefaults__", function.__kwdefaults__
    if (function.__module__ or "").partition(".")[0] not in _WITHOUT_OWN:
        yield from ((f".{name}", function.__globals__.get(name)) for name in _names_in(code))


def _names_in(code: CodeType) -> Iterator[str]:
    """Return the names that code reads beyond its own variables, with those of the functions defined in it."""
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _names_in(part)


def generator_states(sources: Mapping[str, _Source]) -> dict[str, Any]:
    """Return the states as plain values."""
    return {
        name: _state(source)
        for name, source in sources.items()
        if not isinstance(source, random.SystemRandom)
    }


def restore_generators(sources: Mapping[str, _Source], states: Mapping[str, Any]) -> None:
    """Set the generators to what `generator_states` returned; one without a stored state is left as it is."""
    for name, source in sources.items():
        if name not in states:
            continue
        if isinstance(source, torch.Generator):
            source.set_state(states[name])
        elif isinstance(source, np.random.Generator):
            source.bit_generator.state = _with_arrays(states[name])
        elif isinstance(source, np.random.RandomState):
            source.set_state(_with_arrays(states[name]))
        else:
            source.setstate(states[name])


def _state(source: _Source) -> Any:  # noqa: ANN401 - plain values of each kind's own form
    if isinstance(source, torch.Generator):
        return source.get_state()
    if isinstance(source, np.random.Generator):
        return _with_lists(source.bit_generator.state)
    if isinstance(source, np.random.RandomState):
        return _with_lists(source.get_state(legacy=False))
    return source.getstate()


def _with_lists(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _with_lists(part) for key, part in value.items()}
    return [str(value.dtype), value.tolist()] if isinstance(value, np.ndarray) else value


def _with_arrays(value: object) -> Any:  # noqa: ANN401 - as NumPy has it
    if isinstance(value, Mapping):
        return {key: _with_arrays(part) for key, part in value.items()}
    return np.array(value[1], dtype=value[0]) if isinstance(value, list) else value
