"""What a run was begun with: values of its plan that stay as they are, whatever becomes of ``plan.json``."""

from pathlib import Path
from typing import Any

from guided_attention._files import json_mapping, sha256_of_json
from guided_attention.recipes.plan import Plan, differing_keys, flat_values
from guided_attention.training.provenance import PROVENANCE

__all__ = ["changed_parts", "hashes_of_parts", "keys_of_another_plan"]

_MAY_CHANGE = (
    "budget.",
    "data.cache",
    "data.folder",
    "data.max_bytes",
    "reasons",
    "sampling.workers",
    "training.patience",
    "training.validate_every",
)
"""What a resumed run may be given anew: nothing that a step of training depends on, but the limits."""
_PART = "plan."
"""What the keys of the hashes in ``run.json`` begin with."""


def keys_of_another_plan(folder: Path, plan: Plan) -> list[str]:
    """Return the keys in which a plan differs from the one in a run folder, so that it cannot resume the run."""
    return [key for key in differing_keys(plan, Plan.load(folder)) if not key.startswith(_MAY_CHANGE)]


def hashes_of_parts(plan: Plan) -> dict[str, str]:
    """Return a hash of each part of a plan, without what a resumed run may be given anew."""
    parts: dict[str, dict[str, Any]] = {}
    for key, value in flat_values(plan.to_dict()):
        if not key.startswith(_MAY_CHANGE):
            parts.setdefault(key.partition(".")[0], {})[key] = value
    return {f"{_PART}{name}": sha256_of_json(values) for name, values in parts.items()}


def changed_parts(folder: Path, plan: Plan) -> list[str] | None:
    """Return the parts in which a plan differs from the one that the run in a folder was begun with.

    None where that is not known: of runs of earlier versions, and where ``run.json`` is damaged.
    """
    about = json_mapping(folder / PROVENANCE).get("provenance")
    known = about if isinstance(about, dict) else {}
    hashes = hashes_of_parts(plan)
    if not set(hashes) <= set(known):
        return None
    return [key.removeprefix(_PART) for key, found in hashes.items() if known[key] != found]
