"""Splits: which subjects train, which validate, which test. Whole subjects, never slices."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from numbers import Integral
from pathlib import Path

import numpy as np

from guided_attention._checks import cut_list, repeated, require, require_path, require_type
from guided_attention._files import PathLike, replacing
from guided_attention.data._files import natural_key, reading
from guided_attention.errors import DataError, MissingFileError

__all__ = ["Split", "k_fold", "split_subjects"]

_MINIMUM_FOLDS = 2


@dataclass(frozen=True)
class Split:
    """The names of the subjects that train a model, validate it and test it.

    Attributes:
        train: Subjects the weights are fitted to.
        val: Subjects that select the epoch and the settings.
        test: Subjects that are predicted once, at the end.

    Raises:
        ArgumentError: A subject is in two parts, or twice in one.
        ArgumentTypeError: A part is no list of texts.

    Example:
        >>> Split(train=("1", "2"), val=("3",), test=("5",)).val
        ('3',)
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that no subject leaks from one part into another."""
        for part in ("train", "val", "test"):
            object.__setattr__(self, part, _checked_names(part, getattr(self, part)))
        _require_different("subjects of the split", (*self.train, *self.val, *self.test))

    def save(self, path: PathLike) -> Path:
        """Write the split as JSON, atomically, and return the path."""
        file = require_path("path", path)
        with replacing(file) as draft:
            draft.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        return file

    @classmethod
    def load(cls, path: PathLike) -> "Split":
        """Read a split that `save` wrote.

        Raises:
            MissingFileError: There is no such file.
            DataError: The file is no split, or may not be read.
            ArgumentError: A subject is in two of its parts.
        """
        file = require_path("path", path)
        if not file.is_file():
            message = f"`path` must be an existing split file, got {file}."
            raise MissingFileError(message, argument="path", file=file)
        with reading(file, "split", (OSError, UnicodeDecodeError)):
            text = file.read_text(encoding="utf-8")
        try:
            parts = json.loads(text)
            train, val, test = (_names_in(parts[name]) for name in ("train", "val", "test"))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            wanted = "JSON with the lists train, val and test"
            message = f"`{file}` must be {wanted}, got something else ({error!r})."
            raise DataError(message, file=file) from error
        return cls(train, val, test)


def _names_in(part: object) -> tuple[str, ...]:
    if not isinstance(part, list) or not all(isinstance(name, (str, int)) for name in part):
        raise TypeError(f"{part!r} is no list of names")
    return tuple(map(str, part))


def split_subjects(case_ids: Sequence[str], *, train: int, val: int, test: int, seed: int = 0) -> Split:
    """Split subjects at random into training, validation and test.

    Names are sorted (numbers as numbers) before they are shuffled, so the split depends on the set of names and the
    seed, not on their order. Subjects beyond ``train + val + test`` are omitted. The paper splits the 20 of CHAOS into
    13, 2 and 5.

    Args:
        case_ids: Names of the subjects.
        train: How many train.
        val: How many validate.
        test: How many test.
        seed: Seed of the shuffle.

    Returns:
        The split, each part sorted.

    Raises:
        ArgumentError: There are fewer subjects than asked for, a count is negative, or a name comes twice.
        ArgumentTypeError: A count is no whole number, or `case_ids` no list of texts.

    Example:
        >>> split_subjects(["1", "2", "3", "10"], train=2, val=1, test=1, seed=0)
        Split(train=('1', '3'), val=('2',), test=('10',))
    """
    _checked_names("case_ids", case_ids)
    for name, count in (("train", train), ("val", val), ("test", test), ("seed", seed)):
        require_type(name, count, Integral, "a whole number")
        require(count >= 0, name, "0 or more", count)
    needed = train + val + test
    cure = "Lower `train`, `val` or `test`, or add subjects."
    require(
        len(case_ids) >= needed,
        "case_ids",
        f"at least {needed} subjects ({train} + {val} + {test})",
        len(case_ids),
        cure,
    )
    shuffled = _shuffled(case_ids, seed)
    return Split(
        _sorted(shuffled[:train]),
        _sorted(shuffled[train : train + val]),
        _sorted(shuffled[train + val : needed]),
    )


def k_fold(case_ids: Sequence[str], *, folds: int, val: int, seed: int = 0) -> list[Split]:
    """Make splits in which every subject is tested exactly once.

    The shuffled subjects are cut into ``folds`` test parts whose sizes differ by one at most; the ``val`` subjects that
    follow a test part (the first ones after the last part) validate, the rest train. Four folds of CHAOS's 20 subjects
    with two for validation have the paper's 13, 2 and 5.

    Args:
        case_ids: Names of the subjects.
        folds: How many splits.
        val: How many validate in each.
        seed: Seed of the shuffle.

    Returns:
        One split a fold.

    Raises:
        ArgumentError: There are too few subjects to leave one to train, or fewer than two folds, or a name comes twice.
        ArgumentTypeError: A number is not whole, or `case_ids` is no list of texts.

    Example:
        >>> [split.test for split in k_fold(["1", "2", "3", "4"], folds=2, val=1)]
        [('1', '3'), ('2', '4')]
    """
    _checked_names("case_ids", case_ids)
    for name, count in (("folds", folds), ("val", val), ("seed", seed)):
        require_type(name, count, Integral, "a whole number")
    require(seed >= 0, "seed", "0 or more", seed)
    require(folds >= _MINIMUM_FOLDS, "folds", f"{_MINIMUM_FOLDS} or more", folds)
    require(val >= 0, "val", "0 or more", val)
    largest = -(-len(case_ids) // folds)
    wanted = f"at least {folds} subjects, and one more than {val} to validate and {largest} to test"
    enough = len(case_ids) >= max(folds, largest + val + 1)
    require(enough, "case_ids", wanted, len(case_ids), "Lower `folds` or `val`, or add subjects.")
    ring = _shuffled(case_ids, seed)
    edges = np.linspace(0, len(ring), folds + 1).round().astype(int).tolist()
    return [_fold(ring, start, stop, val) for start, stop in pairwise(edges)]


def _fold(ring: list[str], start: int, stop: int, val: int) -> Split:
    rest = ring[stop:] + ring[:start]
    return Split(_sorted(rest[val:]), _sorted(rest[:val]), _sorted(ring[start:stop]))


def _shuffled(case_ids: Sequence[str], seed: int) -> list[str]:
    _require_different("case_ids", case_ids)
    order = np.random.default_rng(seed).permutation(len(case_ids))
    ordered = _sorted(case_ids)
    return [ordered[i] for i in order]


def _sorted(case_ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(case_ids, key=natural_key))


def _checked_names(argument: str, names: object) -> tuple[str, ...]:
    require_type(argument, names, (tuple, list), "a list of names", 'Write ["7"] for one.')
    checked: list[str] = []
    for name in names if isinstance(names, (tuple, list)) else ():
        require_type(argument, name, str, "a list of texts")
        checked.append(name)
    return tuple(checked)


def _require_different(argument: str, case_ids: Sequence[str]) -> None:
    twice = sorted(repeated(case_ids), key=natural_key)
    require(not twice, argument, "each named once", f"{cut_list(twice)} more than once")
