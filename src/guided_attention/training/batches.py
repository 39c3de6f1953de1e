"""The training data as the loop reads it: groups of pairs, and the random numbers that decide their order."""

import functools
import itertools
import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from guided_attention._checks import counted, require, require_type
from guided_attention._distributed import numbers_of_all, rank, share_of
from guided_attention._maps import plain
from guided_attention.errors import ArgumentTypeError, CheckpointError
from guided_attention.training.shares import require_shares, shared
from guided_attention.training.signals import held_back

__all__ = [
    "Batch",
    "Batches",
    "Pair",
    "generator_states",
    "generators_in",
    "require_loader",
    "restore_generators",
]

Pair: TypeAlias = tuple[Tensor, Tensor]
"""Images and labels of one batch."""

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
_CONTAINERS: tuple[type[Iterable[object]], ...] = (list, tuple, set, frozenset, deque)
_DEEPEST, _MOST, _ALL = 12, 100, 20_000
"""Levels that the search for generators goes down; parts of a list that it visits whenever states are read or set; and
parts that it looks at before a run, to find generators behind those."""
_WITHOUT_OWN = {*sys.stdlib_module_names, "numpy", "torch"}
"""Modules whose functions read no generator but the global ones."""

_ALLOW = "or allow a resumed run to differ with TrainerConfig(exact_resume=False)."


@runtime_checkable
class _KnowsEpoch(Protocol):
    """A sampler such as torch's ``DistributedSampler``, whose order depends on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the epoch."""
        ...


@dataclass(frozen=True)
class Batch:
    """The part of a batch that this process computes.

    Attributes:
        image: Its images.
        target: Their labels.
        first: Place of its first image in the whole batch.
        size: Images of the whole batch.
    """

    image: Tensor
    target: Tensor
    first: int
    size: int


@dataclass(frozen=True)
class Batches:
    """A loader, and how its batches are read.

    Attributes:
        loader: Any iterable that can be iterated over once an epoch.
        keys: Keys of image and labels where batches are dictionaries.
    """

    loader: Iterable[object]
    keys: tuple[str, str] | None = None

    @property
    def size(self) -> int | None:
        """Batches of an epoch, None where the loader does not know."""
        try:
            return len(self.loader) if isinstance(self.loader, Sized) else None
        except (TypeError, NotImplementedError):  # a DataLoader has `__len__` over an iterable data set, too
            return None

    def groups(self, epoch: int, count: int, *, skip: int = 0) -> Iterator[list[Batch]]:
        """Yield the batches of an epoch in groups of `count`, after the first `skip` batches.

        The iterator is made, and the skipped batches are read, before the first group is asked for. Of several
        processes, each reads its part of a batch, or the batch where the loader cannot read parts.
        """
        parts = [getattr(self.loader, part, None) for part in ("sampler", "batch_sampler", "dataset")]
        for target in (self.loader, *parts, getattr(parts[1], "sampler", None)):
            if isinstance(target, _KnowsEpoch):
                target.set_epoch(epoch)
        loader = shared(self.loader)
        with held_back():
            batches = iter(self.loader if loader is None else loader)
        skipped = sum(1 for _ in itertools.islice(batches, skip))
        wanted = f"as long as when the run was stored, inside epoch {epoch} after {counted(skip, 'batch', 'batches')}"
        require(
            skipped == skip,
            "train_loader",
            wanted,
            counted(skipped, "batch", "batches"),
            error=CheckpointError,
        )
        return self._grouped(batches, count, cut=loader is None)

    def _grouped(self, batches: Iterator[object], count: int, *, cut: bool) -> Iterator[list[Batch]]:
        while True:
            pairs = [_pair(batch, self.keys) for batch in itertools.islice(batches, count)]
            if cut:
                pairs = [_cut(pair) for pair in pairs]
            group = _counted(pairs, count)
            if not group:
                return
            yield group


def _cut(pair: Pair) -> Pair:
    """Return the part of a batch that is this process's."""
    image, target = pair
    part = share_of(len(image))
    return image[part], target[part]


def _counted(pairs: Sequence[Pair], count: int) -> list[Batch]:
    """Return the parts with their places; raise where a process has none of a batch."""
    sizes = [len(image) for image, _ in pairs]
    table = numbers_of_all([*sizes, *(0 for _ in range(count - len(sizes)))])
    batches = [[int(number) for number in column] for column in zip(*table, strict=True)]
    for images in batches:
        wanted, got = "batches with an image for each process", f"one with {images}"
        cure = "Set a larger batch_size, or drop_last=True where only the last batch is too small."
        require(min(images) > 0 or max(images) == 0, "train_loader", wanted, got, cure)
    return [
        Batch(image, target, sum(images[: rank()]), sum(images))
        for (image, target), images in zip(
            pairs, batches, strict=False
        )  # none are left at the end of an epoch
    ]


def require_loader(loader: object, *, exact: bool) -> None:
    """Raise for what cannot be iterated over once an epoch or, where `exact`, could not be repeated after a resume."""
    wanted = "an iterable of batches, such as a DataLoader"
    require_type("train_loader", loader, Iterable, wanted)
    again = "It is empty after one epoch: pass what it was made from."
    got = f"an iterator ({type(loader).__name__})"
    require(not isinstance(loader, Iterator), "train_loader", wanted, got, again, error=ArgumentTypeError)
    size = Batches(loader).size  # type: ignore[arg-type]  # checked
    if size == 0 and isinstance(loader, DataLoader):
        got = f"none, with batch_size={loader.batch_size} and drop_last={loader.drop_last}"
        cure = "Give it more images or a smaller batch_size, or set drop_last=False."
        require(False, "train_loader", "at least one batch long", got, cure)  # noqa: FBT003
    require(size != 0, "train_loader", "at least one batch long", "none", "Give it more images.")
    if isinstance(loader, DataLoader):
        require_shares(loader)
    if exact:
        _require_repeatable(loader)


def _require_repeatable(loader: object) -> None:
    wanted, several = "one that a resumed run can repeat", getattr(loader, "num_workers", 0) > 0
    kept = several and getattr(loader, "persistent_workers", False)
    cure = f"Set persistent_workers=False, {_ALLOW}"
    got = "persistent_workers=True: their random numbers continue from epoch to epoch and cannot be stored"
    require(not kept, "train_loader", wanted, got, cure)
    unordered = several and not getattr(loader, "in_order", True)
    require(not unordered, "train_loader", wanted, "in_order=False", f"Set in_order=True, {_ALLOW}")
    found = generators_in(loader)
    stored = {id(source) for source in found.values()}
    missed = [name for name, one in generators_in(loader, everywhere=True).items() if id(one) not in stored]
    got = f"{missed[0]} and others behind the first {_MOST} parts of a list" if missed else ""
    require(not missed, "train_loader", wanted, got, f"Let its parts share one generator, {_ALLOW}")
    for name, source in found.items():
        secret = isinstance(source, random.SystemRandom)
        got = f"{name}, a random.SystemRandom"
        require(not secret, "train_loader", wanted, got, f"Use random.Random(seed), {_ALLOW}")


def _pair(batch: object, keys: tuple[str, str] | None) -> Pair:
    """Return image and labels of a batch as plain tensors."""
    wanted = (
        "pairs (image, labels)" if keys is None else f"dictionaries with the keys {keys[0]!r} and {keys[1]!r}"
    )
    if keys is not None:
        require_type("train_loader", batch, Mapping, wanted, "Set batch_keys=None for pairs.")
        missing = [key for key in keys if key not in batch]  # type: ignore[operator]  # checked
        got = f"one with {list(batch)}"  # type: ignore[call-overload]  # checked
        require(not missing, "train_loader", wanted, got, "Set batch_keys to two of these.")
        parts: Sequence[object] = [batch[key] for key in keys]  # type: ignore[index]  # checked
    else:
        if isinstance(batch, Mapping):
            cure = f'Name two of its keys {list(batch)}: TrainerConfig(batch_keys=("image", "label")).'
            require_type("train_loader", batch, tuple, wanted, cure)
        require_type("train_loader", batch, (tuple, list), wanted, "Collate a batch into two tensors.")
        parts = batch  # type: ignore[assignment]  # checked
        cure = "Leave out the others in the data set, or return dictionaries and set TrainerConfig(batch_keys=…)."
        require(len(parts) == 2, "train_loader", wanted, f"{counted(len(parts), 'thing')} a batch", cure)  # noqa: PLR2004
    for name, part in zip(keys or ("image", "labels"), parts, strict=True):
        require_type(f"train_loader[{name!r}]", part, Tensor, "a tensor")
    image, target = (plain(part) for part in parts if isinstance(part, Tensor))
    cure = "Convert images to float32."
    require(image.is_floating_point(), "train_loader", "images of a floating type", image.dtype, cure)
    cure = "Leave out empty batches in the loader."
    require(image.shape[:1] != (0,), "train_loader", "batches of at least one image", "one of none", cure)
    return image, target


def generators_in(loader: object, *, everywhere: bool = False) -> dict[str, _Source]:
    """Return the generators of random numbers that a loader, its samplers, data set and transforms hold, by path.

    What a mapping makes when it is asked, such as samples from a file, is not looked at: only a `dict` holds its parts.
    Only `everywhere` looks behind the first parts of long lists, at no more than `_ALL` parts: a data set may be large.
    """
    found: dict[str, _Source] = {}
    seen: dict[int, object] = {}  # with the objects: the id of one that is gone would be given again
    # Level by level, so that what is reached in two ways is visited by the shorter one.
    waiting = deque([("train_loader", iter([("", loader)]), 0)])
    most, remaining = (_ALL, itertools.repeat(None, _ALL)) if everywhere else (_MOST, itertools.repeat(None))
    while waiting:
        above, parts, depth = waiting.popleft()
        for (name, value), _ in zip(parts, remaining, strict=False):
            if isinstance(value, _PLAIN) or id(value) in seen:
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
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())
        for kind in type(value).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            names = [slots] if isinstance(slots, str) else slots
            yield from ((f".{name}", getattr(value, name, None)) for name in names)
            if kind.__module__.partition(".")[0] not in _WITHOUT_OWN:
                # By its name, since an object may have an attribute of the name of a variable of its class.
                yield from ((f".{kind.__name__}.{name}", part) for name, part in vars(kind).items())


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
