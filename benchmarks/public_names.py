"""The inventory of public names, docs/public_names.json: what the package promises to keep, held by a test.

    python -m benchmarks.public_names        # writes it anew, and prints what has changed

A name is public where it stands in the `__all__` of the package, of a subpackage or of a module beside them. Each has
its kind (class, function, module or data). Functions and classes have their parameters in order, with ``*`` before
those that are given by name only. Classes have their public methods, properties and attributes; the fields of a record
are its parameters and are not listed again.
"""

import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

__all__ = ["PATH", "changes", "entry_of", "inventory", "read", "write"]

PATH = Path(__file__).parents[1] / "docs" / "public_names.json"
_PACKAGE = "guided_attention"
_STARS: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}

Entry: TypeAlias = dict[str, Any]
Inventory: TypeAlias = dict[str, dict[str, Entry]]


def inventory() -> Inventory:
    """Return every public name of the package as it is imported here, by subpackage."""
    package = importlib.import_module(_PACKAGE)
    below = sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_")
    modules = [package, *(importlib.import_module(f"{_PACKAGE}.{name}") for name in below)]
    return {module.__name__: _names_of(module) for module in modules}


def _names_of(module: ModuleType) -> dict[str, Entry]:
    return {name: entry_of(getattr(module, name)) for name in sorted(module.__all__)}


def entry_of(thing: object) -> Entry:
    """Return kind, parameters and members of one name."""
    if isinstance(thing, type):
        return {"kind": "class", "parameters": _constructor(thing), "members": _members(thing)}
    # Aliases of types can be called like functions: only what was defined by `def` is one.
    if hasattr(thing, "__code__") and callable(thing):
        return {"kind": "function", "parameters": _parameters(thing)}
    return {"kind": "module" if isinstance(thing, ModuleType) else "data"}


def _parameters(function: Callable[..., Any], *, bound: bool = False) -> list[str]:
    """Return the names in order, ``*`` before the first that is given by name only."""
    names: list[str] = []
    for parameter in list(inspect.signature(function).parameters.values())[bound:]:
        by_name = parameter.kind is parameter.KEYWORD_ONLY
        if by_name and not any(name.startswith("*") for name in names):
            names.append("*")
        names.append(_STARS.get(parameter.kind, "") + parameter.name)
    return names


def _own(thing: type) -> list[type]:
    """Return the class and its bases, those of other libraries left out: they are not this package's to promise."""
    return [
        base
        for base in thing.__mro__
        if base.__module__.partition(".")[0] == thing.__module__.partition(".")[0]
    ]


def _constructor(thing: type) -> list[str]:
    if hasattr(thing, "_fields"):  # a NamedTuple
        return list(thing._fields)
    for base in _own(thing):
        function = vars(base).get("__init__")
        # A protocol gets an `__init__` from `typing`, which is no promise.
        if isinstance(function, FunctionType) and function.__module__ != "typing":
            return _parameters(function, bound=True)
    return []


def _members(thing: type) -> dict[str, list[str] | None]:
    """Return the parameters of each public method, and None for each property and annotated attribute."""
    found: dict[str, list[str] | None] = {}
    for base in reversed(_own(thing)):
        found |= dict.fromkeys(inspect.get_annotations(base))
        for name, value in vars(base).items():
            if isinstance(value, property | cached_property):
                found[name] = None
            elif isinstance(value, FunctionType | classmethod | staticmethod):
                function = value if isinstance(value, FunctionType) else value.__func__
                found[name] = _parameters(function, bound=not isinstance(value, staticmethod))
    fields = _constructor(thing) if is_dataclass(thing) or hasattr(thing, "_fields") else []
    return {name: found[name] for name in sorted(found) if not name.startswith("_") and name not in fields}


def changes(before: Mapping[str, Mapping[str, Entry]], now: Mapping[str, Mapping[str, Entry]]) -> list[str]:
    """Return a line for each name that was added, removed, moved or renamed, or whose kind or parameters changed."""
    lines: list[str] = []
    for module in sorted({*before, *now}):
        old, new = before.get(module, {}), now.get(module, {})
        added = sorted(set(new) - set(old))
        for name in sorted(set(old) - set(new)):
            likely = (
                [other for other in added if new[other] == old[name]] if old[name]["kind"] != "data" else []
            )
            moved = [other for other in now if name in now[other] and name not in before.get(other, {})]
            hint = f" (moved to {moved[0]}?)" if moved else f" (renamed to {likely[0]}?)" if likely else ""
            lines.append(f"{module}.{name} was removed{hint}")
        lines += [f"{module}.{name} was added" for name in added]
        for name in sorted(set(old) & set(new)):
            lines += _differences(f"{module}.{name}", old[name], new[name])
    return lines


def _differences(name: str, old: Entry, new: Entry) -> list[str]:
    lines = [f"{name}: kind: was {old['kind']}, is {new['kind']}"] if old["kind"] != new["kind"] else []
    lines += _changed(name, old.get("parameters"), new.get("parameters"))
    before, now = old.get("members", {}), new.get("members", {})
    lines += [f"{name}.{member} was removed" for member in before if member not in now]
    lines += [f"{name}.{member} was added" for member in now if member not in before]
    for member in before:
        lines += _changed(f"{name}.{member}", before[member], now[member]) if member in now else []
    return lines


def _changed(name: str, old: list[str] | None, new: list[str] | None) -> list[str]:
    return [f"{name}: parameters: were {_shown(old)}, are {_shown(new)}"] if old != new else []


def _shown(parameters: list[str] | None) -> str:
    return "none" if parameters is None else f"({', '.join(parameters)})"


def read(path: Path = PATH) -> Inventory:
    """Return the inventory of a file, nothing where there is none."""
    found: Inventory = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def write(names: Mapping[str, Mapping[str, Entry]], path: Path = PATH) -> Path:
    """Write an inventory with one name a line, so that a change is one line of a diff."""
    blocks = [
        f'  "{module}": {{\n'
        + ",\n".join(f'    "{name}": {json.dumps(entry)}' for name, entry in entries.items())
        + "\n  }"
        for module, entries in names.items()
    ]
    path.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")
    return path


def main() -> int:
    """Write the inventory anew and print what has changed."""
    before, now = read(), inventory()
    print(*(changes(before, now) or ["Nothing has changed."]), sep="\n")
    print(f"Wrote {write(now)}. Name each change in CHANGELOG.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
