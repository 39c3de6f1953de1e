"""A cohort in parts, each predicted by a process of its own into a folder of its own."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from guided_attention._checks import cut_list, require, require_integer
from guided_attention._distributed import started
from guided_attention.data import Cohort
from guided_attention.errors import DataError

__all__ = ["CasesOfShards", "Shard", "names_of", "require_same_cases", "shards_in"]

_T = TypeVar("_T")
_PREFIX = "shard-"
_NAME = re.compile(rf"{_PREFIX}([1-9][0-9]*)-of-([1-9][0-9]*)")


@dataclass(frozen=True)
class Shard:
    """One of several parts of a cohort: shard 2 of 5 has the cases 2, 7, 12 and so on.

    Attributes:
        number: Which part, from 1.
        count: Number of parts.

    Raises:
        ArgumentError: A number is out of range.

    Example:
        >>> list(Shard(2, 3).part("abcdefgh"))
        ['b', 'e', 'h']
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_integer("count", self.count)
        require_integer("number", self.number)
        require(self.count >= 1, "count", "at least 1", self.count)
        require(1 <= self.number <= self.count, "number", f"from 1 to {self.count}", self.number)

    def __str__(self) -> str:
        """Return it as the command line takes it: ``2/5``."""
        return f"{self.number}/{self.count}"

    @classmethod
    def from_environment(cls) -> "Shard | None":
        """Return the shard of this process as ``torchrun`` or a SLURM array names it, None where there is one only.

        A part of an array that is submitted again counts itself only: name its shard then. An array with gaps, such as
        0,2,7, is an `ArgumentError`.

        Example:
            >>> os.environ |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}
            >>> Shard.from_environment()
            Shard(number=3, count=4)
            >>> for name in ("ID", "MIN", "COUNT"):
            ...     del os.environ[f"SLURM_ARRAY_TASK_{name}"]
        """
        rank, processes = started()
        if processes > 1:
            return cls(rank + 1, processes)
        count, first = _number("SLURM_ARRAY_TASK_COUNT", 1), _number("SLURM_ARRAY_TASK_MIN", 0)
        if count == 1:
            return None
        place, step = (
            _number("SLURM_ARRAY_TASK_ID", first) - first,
            max(1, _number("SLURM_ARRAY_TASK_STEP", 1)),
        )
        last = _number("SLURM_ARRAY_TASK_MAX", first + (count - 1) * step)
        wanted, cure = "an array without gaps", "Name the shard of each task, --shard K/N or Shard(K, N)."
        got = f"{count} tasks from {first} to {last}"
        require((last - first) // step + 1 == count, "SLURM_ARRAY_TASK_COUNT", wanted, got, cure)
        return cls(place // step + 1, count)

    def part(self, items: Iterable[_T]) -> Iterator[_T]:
        """Return the part of these items that is this shard's."""
        return islice(iter(items), self.number - 1, None, self.count)

    def size(self, items: object) -> int | None:
        """Return how many items that part has, None where that is not known before."""
        return len(range(self.number - 1, len(items), self.count)) if isinstance(items, Sized) else None

    def place(self, number: int) -> int:
        """Return which of all cases its n-th is, both from 1."""
        return (number - 1) * self.count + self.number

    def folder(self, root: Path) -> Path:
        """Return the folder that this shard writes to, which `merge_shards` empties."""
        return root / f"{_PREFIX}{self.number}-of-{self.count}"


@dataclass(frozen=True)
class CasesOfShards:
    """The cases that shards are parts of, as far as they are known before they are read.

    Attributes:
        total: Their number.
        names: A hash of their names, in order.
    """

    total: int | None = None
    names: str | None = None

    @classmethod
    def of(cls, cases: object) -> "CasesOfShards":
        """Return those of a list of cases, or of functions that have a `case_id` as `Cohort.readers` has."""
        total = len(cases) if isinstance(cases, Sized) else None
        names = names_of(cases)
        known = bool(names) and None not in names
        return cls(total, hashlib.sha256(json.dumps(names).encode()).hexdigest() if known else None)


def names_of(cases: object) -> list[str | None]:
    """Return the names of cases, and None for each that has none before it is read; nothing for an iterator."""
    listed = cases.scans if isinstance(cases, Cohort) else cases if isinstance(cases, Sequence) else ()
    return [getattr(case, "case_id", None) for case in listed]


def require_same_cases(found: Iterable[CasesOfShards]) -> None:
    """Raise where shards are parts of different cases: some cases would be in none of them."""
    known = list(found)
    totals = sorted({one.total for one in known if one.total is not None})
    names = {one.names for one in known if one.names is not None}
    got = f"parts of {' and of '.join(map(str, totals))}" if len(totals) > 1 else "others of the same number"
    cure = "Put the scans back as they were, or predict all shards into another folder."
    same = len(totals) <= 1 and len(names) <= 1
    require(same, "shards", "parts of the same cases", got, cure, error=DataError)


def shards_in(root: Path) -> list[Shard]:
    """Return the shards that a folder holds; raise where not all are parts of as many."""
    names = (_NAME.fullmatch(path.name) for path in root.glob(f"{_PREFIX}*") if path.is_dir())
    numbers = ((int(name[1]), int(name[2])) for name in names if name is not None)
    found = [Shard(number, count) for number, count in sorted(numbers)]
    counts = sorted({shard.count for shard in found})
    cure = "Name another folder, or delete those that are wrong."
    where = f"shards in {root}"
    got = f"parts of {cut_list(counts)}"
    require(len(counts) <= 1, where, "parts of one number of shards", got, cure, error=DataError)
    return found


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else otherwise
