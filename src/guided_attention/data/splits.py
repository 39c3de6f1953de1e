"""Splits: which subjects train, which choose the model, which test it. Whole subjects, never slices."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from guided_attention._checks import cut_list, require
from guided_attention._files import PathLike, replacing
from guided_attention.data._files import natural_key

__all__ = ["Split", "k_fold", "split_subjects"]

_MINIMUM_FOLDS = 2


@dataclass(frozen=True)
class Split:
    """The names of the subjects that train a model, choose it and test it.

    Attributes:
        train: Subjects the weights are fitted to.
        val: Subjects that choose the epoch and the settings.
        test: Subjects that are looked at once, at the end.

    Raises:
        ValueError: A subject stands in two parts, or twice in one: what was trained on must not test.

    Example:
        >>> Split(train=("1", "2"), val=("3",), test=("5",)).val
        ('3',)
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that no subject leaks from one part into another."""
        _require_different("subjects of the split", (*self.train, *self.val, *self.test))

    def save(self, path: PathLike) -> None:
        """Write the split as JSON, whole or not at all."""
        with replacing(Path(path)) as draft:
            draft.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: PathLike) -> "Split":
        """Read a split that `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no split, or a subject stands in two of its parts.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"`path` must be an existing split file, got {path}.")
        try:
            parts = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{name: tuple(map(str, parts[name])) for name in ("train", "val", "test")})
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            message = (
                f"`{path}` must be JSON with the lists train, val and test, got something else ({error!r})."
            )
            raise ValueError(message) from error


def split_subjects(case_ids: Sequence[str], *, train: int, val: int, test: int, seed: int = 0) -> Split:
    """Deal subjects at random to training, validation and test.

    Names are sorted (numbers as numbers) before they are shuffled, so the split depends on the set of names
    and the seed, not on the order they came in. Subjects beyond ``train + val + test`` are left out. The
    paper deals the 20 of CHAOS as 13, 2 and 5.

    Args:
        case_ids: Names of the subjects.
        train: How many train.
        val: How many validate.
        test: How many test.
        seed: Another seed, another deal.

    Returns:
        The split, each part sorted.

    Raises:
        ValueError: There are fewer subjects than asked for, a count is negative, or a name comes twice.

    Example:
        >>> split_subjects(["1", "2", "3", "10"], train=2, val=1, test=1, seed=0)
        Split(train=('1', '3'), val=('2',), test=('10',))
    """
    for name, count in (("train", train), ("val", val), ("test", test)):
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
    dealt = _shuffled(case_ids, seed)
    return Split(
        _sorted(dealt[:train]), _sorted(dealt[train : train + val]), _sorted(dealt[train + val : needed])
    )


def k_fold(case_ids: Sequence[str], *, folds: int, val: int, seed: int = 0) -> list[Split]:
    """Make splits in which every subject is tested exactly once.

    The shuffled subjects stand in a ring that is cut into ``folds`` test parts whose sizes differ by one at
    most; the ``val`` subjects that follow a test part validate, the rest train. Four folds of CHAOS's 20
    subjects with two for validation have the paper's 13, 2 and 5.

    Args:
        case_ids: Names of the subjects.
        folds: How many splits.
        val: How many validate in each.
        seed: Another seed, another deal.

    Returns:
        One split a fold.

    Raises:
        ValueError: There are too few subjects to leave one to train, or fewer than two folds, or a name comes
            twice.

    Example:
        >>> [split.test for split in k_fold(["1", "2", "3", "4"], folds=2, val=1)]
        [('1', '3'), ('2', '4')]
    """
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


def _require_different(argument: str, case_ids: Sequence[str]) -> None:
    twice = sorted({name for name in case_ids if case_ids.count(name) > 1}, key=natural_key)
    require(not twice, argument, "each named once", f"{cut_list(twice)} more than once")
