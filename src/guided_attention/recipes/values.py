"""Values that a user sets by key, checked before there is a plan."""

from collections.abc import Mapping
from dataclasses import fields
from typing import cast

from guided_attention._checkpoints import Plain
from guided_attention._checks import require_type
from guided_attention.models import ModelSettings
from guided_attention.recipes._records import plain, record_from, require_keys, value_of
from guided_attention.recipes.plan import ARGUMENTS, PARTS, require_buildable

__all__ = ["check_values"]

_OPEN = ("data", "labels", "preparation", "sampling", "network")
"""Parts whose other values come from the scans: a value of theirs is checked when the plan is made."""
_WHOLE = ("labels.names", "network.arguments")
"""Mappings, of which single entries are set."""


def check_values(values: Mapping[str, object]) -> None:
    """Raise for a key or a value that no plan can have, before scans are read to make one.

    Args:
        values: Values or their texts by dotted key, as for `Plan.with_values`.

    Raises:
        ArgumentError: A key is unknown (the nearest known one is named), or a number is out of range.
        ArgumentTypeError: A value has the wrong type.

    Example:
        >>> check_values({"optimizer.lr": "1e-3"})
        >>> check_values({"optimiser.lr": "1e-3"})
        Traceback (most recent call last):
        guided_attention.errors.ArgumentError: `values` must be named by keys of the plan, got 'optimiser.lr'. Did ...
    """
    require_type("values", values, Mapping, "a mapping from a dotted key to a value")
    known = ["seed", *(f"{part}.{one.name}" for part, kind in PARTS.items() for one in fields(kind))]
    network: dict[str, Plain] = {"in_channels": 1, "num_classes": 2, "encoder": "resnet18"}
    builder = str(values.get("network.builder", "msga_lite"))
    for key, value in values.items():
        part, _, rest = key.partition(".")
        stem = f"{part}.{rest.partition('.')[0]}" if part in _OPEN else key
        if key.startswith(ARGUMENTS) and key != ARGUMENTS:
            name = key.removeprefix(ARGUMENTS)
            network[name] = cast("Plain", value_of(value, network.get(name)))  # checked with the network
            continue
        require_keys(
            [stem if stem in known else key], [name for name in known if name not in _WHOLE or name != key]
        )
        if part in PARTS and part not in _OPEN:
            defaults = plain(PARTS[part]())
            record_from(PARTS[part], {**defaults, rest: value_of(value, defaults[rest])}, part)
    require_buildable(ModelSettings(builder, network))
