"""State dicts: found in a checkpoint, named without the prefixes of wrappers, compared entry by entry."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from guided_attention._checks import cut_list
from guided_attention._files import PathLike
from guided_attention.errors import CheckpointError

__all__ = ["is_changed", "kind_of", "matching_entries", "plain_name", "plain_network", "weights_in"]

_NAMES_SHOWN = 5


def plain_network(model: nn.Module) -> nn.Module:
    """Return the network inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    inner = model.module if isinstance(model, wrappers) else getattr(model, "_orig_mod", None)
    return plain_network(inner) if isinstance(inner, nn.Module) else model


def is_changed(model: nn.Module) -> bool:
    """Whether a network says that it was changed after it was built; those of the library can, see `BuiltModule`."""
    is_as_built = getattr(plain_network(model), "_is_as_built", None)
    return is_as_built is not None and not is_as_built()


def plain_name(name: object) -> str:
    """Return a name without ``module.`` at its start and ``_orig_mod.`` anywhere.

    >>> plain_name("module.encoder._orig_mod.conv1.weight")
    'encoder.conv1.weight'
    """
    parts = [part for part in str(name).split(".") if part != "_orig_mod"]
    while len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)


def weights_in(contents: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state dict of a checkpoint: its entry ``model`` or ``state_dict``, or all of it."""
    held = [contents[key] for key in ("model", "state_dict") if isinstance(contents.get(key), Mapping)]
    return held[0] if held else contents


def matching_entries(wanted: Mapping[str, Any], given: Mapping[str, Any], path: PathLike) -> dict[str, Any]:
    """Return the entries of a file under the names of a network's state dict; raise unless every entry fits."""
    got = _renamed(wanted, given)
    problems = [
        _listed("missing in the file", (name for name in wanted if name not in got)),
        _listed("unknown to the network", (str(name) for name in got if name not in wanted)),
        _listed("of another shape", _misshapen(wanted, got)),
        _listed("of another kind", _of_another_kind(wanted, got)),
    ]
    found = "; ".join(problem for problem in problems if problem)
    if found:
        raise CheckpointError(
            f"`path` must be a checkpoint of this very network, got {path}, where entries are {found}. "
            "Build the network with the settings it was trained with.",
            argument="path",
            file=path,
        )
    return got


def _renamed(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given entries under the wanted names, prefixes of wrappers disregarded on both sides."""
    ours = {plain_name(name): name for name in wanted}
    theirs = [plain_name(name) for name in given]
    if wanted.keys() == given.keys() or len(ours) < len(wanted) or len(set(theirs)) < len(theirs):
        return dict(given)
    return {ours.get(plain, name): value for (name, value), plain in zip(given.items(), theirs, strict=True)}


def _misshapen(wanted: Mapping[str, Any], got: Mapping[str, Any]) -> Iterator[str]:
    for name in wanted.keys() & got.keys():
        ours, theirs = wanted[name], got[name]
        if isinstance(ours, Tensor) and isinstance(theirs, Tensor) and ours.shape != theirs.shape:
            yield f"{name} {tuple(theirs.shape)} instead of {tuple(ours.shape)}"


def _of_another_kind(wanted: Mapping[str, Any], got: Mapping[str, Any]) -> Iterator[str]:
    for name in wanted.keys() & got.keys():
        ours, theirs = kind_of(wanted[name]), kind_of(got[name])
        if ours != theirs:
            yield f"{name} {theirs} instead of {ours}"


def kind_of(value: object) -> str:
    """Return what copying must not change: floating, complex, whole or boolean values, densely stored."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.is_quantized or value.layout != torch.strided:
        return "a quantized tensor" if value.is_quantized else f"a tensor of layout {value.layout}"
    if value.is_floating_point() or value.is_complex():
        return "complex values" if value.is_complex() else "floating values"
    return "boolean values" if value.dtype == torch.bool else "integer values"


def _listed(what: str, names: Iterable[str]) -> str:
    found = sorted(names)
    return f"{what}: {cut_list(found, shown=_NAMES_SHOWN)}" if found else ""
