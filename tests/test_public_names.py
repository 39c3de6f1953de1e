"""The inventory of public names is that of the package, and tells what has changed."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import pytest
from benchmarks.public_names import PATH, changes, entry_of, inventory, read, write
from torch import nn


def test_the_inventory_is_that_of_the_package():
    found = changes(read(), inventory())
    message = (
        f"docs/{PATH.name} does not fit the package:\n  "
        + "\n  ".join(found)
        + "\nIs each of these meant? Then name it in CHANGELOG.md, the old name and the new one, and run: "
        "python -m benchmarks.public_names"
    )
    assert not found, message


def test_the_inventory_is_written_as_the_script_writes_it(tmp_path):
    assert write(read(), tmp_path / "names.json").read_text() == PATH.read_text(encoding="utf-8")
    assert read(tmp_path / "names.json") == json.loads(PATH.read_text(encoding="utf-8"))


def test_nothing_is_in_a_file_that_is_not_there(tmp_path):
    assert read(tmp_path / "absent.json") == {}


def test_every_subpackage_is_in_it_and_nothing_private():
    modules = set(inventory())
    assert {"guided_attention", "guided_attention.metrics", "guided_attention.case"} <= modules
    assert not any("._" in module for module in modules)


# --- entries of made-up names -------------------------------------------------------------------------


def plain(a, /, b, *rest, c=1, **others):
    pass


def by_name(a, *, b, c):
    pass


@dataclass
class Record:
    first: int
    second: str = ""
    _hidden: int = 0

    @property
    def half(self):
        return self.first / 2

    @cached_property
    def twice(self):
        return 2 * self.first

    @classmethod
    def load(cls, path):
        pass

    @staticmethod
    def read(path, *, text):
        pass

    def _private(self):
        pass


class Pair(NamedTuple):
    left: int
    right: int


class Shape(Protocol):
    sides: int

    def area(self, scale): ...


class Block(nn.Module):
    """Its constructor is torch's, `forward` its own, and torch's methods are not listed."""

    def forward(self, x):
        return x


class Wide(Block):
    def __init__(self, channels, *, factor=2):
        super().__init__()
        self.size = channels * factor

    def outputs(self, x):
        return x


class Narrow(Wide):
    pass


@pytest.mark.parametrize(
    ("thing", "wanted"),
    [
        (plain, {"kind": "function", "parameters": ["a", "b", "*rest", "c", "**others"]}),
        (by_name, {"kind": "function", "parameters": ["a", "*", "b", "c"]}),
        (Pair, {"kind": "class", "parameters": ["left", "right"], "members": {}}),
        (Shape, {"kind": "class", "parameters": [], "members": {"area": ["scale"], "sides": None}}),
        (Block, {"kind": "class", "parameters": [], "members": {"forward": ["x"]}}),
        (json, {"kind": "module"}),
        (Literal["a", "b"], {"kind": "data"}),
        ({1: 2}, {"kind": "data"}),
    ],
    ids=["function", "names only", "named tuple", "protocol", "network", "module", "alias", "data"],
)
def test_the_entry_of_a_name(thing, wanted):
    assert entry_of(thing) == wanted


def test_the_entry_of_a_record_has_its_fields_once():
    assert entry_of(Record) == {
        "kind": "class",
        "parameters": ["first", "second", "_hidden"],
        "members": {"half": None, "load": ["path"], "read": ["path", "*", "text"], "twice": None},
    }


@pytest.mark.parametrize("thing", [Wide, Narrow])
def test_what_is_inherited_within_the_package_counts(thing):
    assert entry_of(thing) == {
        "kind": "class",
        "parameters": ["channels", "*", "factor"],
        "members": {"forward": ["x"], "outputs": ["x"]},
    }


# --- what has changed ---------------------------------------------------------------------------------

FUNCTION = {"kind": "function", "parameters": ["a", "b"]}
CLASS = {"kind": "class", "parameters": [], "members": {"save": ["path"], "size": None}}
DATA = {"kind": "data"}


@pytest.mark.parametrize(
    ("before", "now", "wanted"),
    [
        ({"f": FUNCTION}, {"f": FUNCTION}, []),
        ({}, {"f": FUNCTION}, ["m.f was added"]),
        ({"f": FUNCTION}, {}, ["m.f was removed"]),
        ({"f": FUNCTION}, {"g": FUNCTION}, ["m.f was removed (renamed to g?)", "m.g was added"]),
        ({"f": FUNCTION}, {"g": CLASS}, ["m.f was removed", "m.g was added"]),
        ({"f": DATA}, {"g": DATA}, ["m.f was removed", "m.g was added"]),
        (
            {"f": FUNCTION},
            {"f": {"kind": "function", "parameters": ["a", "c"]}},
            ["m.f: parameters: were (a, b), are (a, c)"],
        ),
        (
            {"f": DATA},
            {"f": FUNCTION},
            ["m.f: kind: was data, is function", "m.f: parameters: were none, are (a, b)"],
        ),
        (
            {"C": CLASS},
            {"C": CLASS | {"members": {"save": ["folder"], "length": None}}},
            [
                "m.C.size was removed",
                "m.C.length was added",
                "m.C.save: parameters: were (path), are (folder)",
            ],
        ),
    ],
)
def test_each_kind_of_change_is_told(before, now, wanted):
    assert changes({"m": before}, {"m": now}) == wanted


def test_a_name_that_moved_to_another_subpackage_is_told_with_its_new_place():
    before = {"old": {"f": DATA, "g": DATA}, "kept": {"g": DATA}}
    assert changes(before, {"new": {"f": DATA}, "kept": {"g": DATA}}) == [
        "new.f was added",
        "old.f was removed (moved to new?)",
        "old.g was removed",
    ]
