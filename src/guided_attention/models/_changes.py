"""What was changed in a network after its builder made it."""

from collections.abc import Iterator, Mapping
from types import NoneType

from torch import nn

from guided_attention._layers import BATCH_NORMS
from guided_attention._state_dicts import plain_name, plain_network

__all__ = ["changed_parts"]

_PLAIN = (str, int, float, bool, tuple, NoneType)
_NO_MATTER = frozenset({"training", "inplace", "momentum", "p", "grad_checkpointing"})
"""Settings of layers that change no logits in evaluation mode; ``p`` is that of dropout."""
_ROWS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def changed_parts(model: nn.Module, wanted: nn.Module) -> list[str]:
    """Return the names of what a network has unlike another: entries of its weights, else modules and settings.

    Values of weights may differ, and whatever changes no logits in evaluation mode. A hook of a forward pass counts as
    a change, as it cannot be seen whether it changes a map or only looks at it.
    """
    ours, theirs = _shapes(model), _shapes(wanted)
    odd = _differing(ours, theirs) | (ours.keys() - theirs.keys())
    if odd:
        return sorted(odd)
    kinds = _kinds(model), _kinds(wanted)
    # Only settings that the builder knows: users may note things of their own in a network.
    added = _added(_modules(model), _modules(wanted))
    odd = _differing(*kinds) | set(added) | _differing(_values(model), _values(wanted))
    return sorted(name or "its class" for name in odd)


def _differing(ours: dict[str, object], theirs: dict[str, object]) -> set[str]:
    return {name for name, value in theirs.items() if name not in ours or ours[name] != value}


def _added(ours: Mapping[str, nn.Module], theirs: Mapping[str, nn.Module]) -> Iterator[str]:
    """Yield added modules that a pass may take: rows take all that is in them, others what they know by name."""
    for name in ours.keys() - theirs.keys():
        above, _, key = name.rpartition(".")
        parent = theirs.get(above)
        if isinstance(parent, _ROWS) or hasattr(parent, key):
            yield name


def _shapes(model: nn.Module) -> dict[str, object]:
    return {plain_name(name): value.shape for name, value in plain_network(model).state_dict().items()}


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules by name, each once, so that parts that scales share are not those with copies of their own."""
    named = plain_network(model).named_modules()
    return {plain_name(name): plain_network(module) for name, module in named}


def _kinds(model: nn.Module) -> dict[str, object]:
    """Return the class of each module; a `forward` that was put into it counts as a class of its own."""
    kinds: dict[str, object] = {}
    for name, module in _modules(model).items():
        kind = "batch norm" if type(module) in BATCH_NORMS else type(module)  # also one for several processes
        kinds[name] = vars(module).get("forward", kind)
    return kinds


def _values(model: nn.Module) -> dict[str, object]:
    """Return the settings of each module: its public attributes that are plain values, and the number of its hooks."""
    return {
        f"{name}.{key}" if name else key: value
        for name, module in _modules(model).items()
        for key, value in (*vars(module).items(), ("forward_hooks", _hooks(module)))
        if isinstance(value, _PLAIN) and not key.startswith("_") and key not in _NO_MATTER
    }


def _hooks(module: nn.Module) -> int:
    return len(module._forward_hooks) + len(module._forward_pre_hooks)  # noqa: SLF001
