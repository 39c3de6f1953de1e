"""Splits: which subjects train, which validate, which test. Whole subjects, never slices."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from guided_attention._checks import counted, cut_list, repeated, require, require_path, require_type
from guided_attention._files import PathLike, write_json
from guided_attention.data._files import natural_key, reading, require_file
from guided_attention.errors import ArgumentError, DataError

__all__ = [
    "Patients",
    "Split",
    "k_fold",
    "patient_of",
    "read_nnunet_splits",
    "split_subjects",
    "write_nnunet_splits",
]

Patients: TypeAlias = Callable[[str], str] | Mapping[str, str]
"""The patient of each case: a function of its name, such as ``lambda name: name.split("_")[0]``, or a mapping."""

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
        return write_json(require_path("path", path), asdict(self))

    def leaks(self, patients: Patients) -> dict[str, tuple[str, ...]]:
        """Return the patients that are in more than one part, with the parts.

        Args:
            patients: The patient of each case.

        Example:
            >>> Split(("a_1", "b_1"), ("a_2",), ()).leaks(lambda name: name[0])
            {'a': ('train', 'val')}
        """
        parts: defaultdict[str, list[str]] = defaultdict(list)
        for part in ("train", "val", "test"):
            for patient in dict.fromkeys(patient_of(patients, name) for name in getattr(self, part)):
                parts[patient].append(part)
        return {patient: tuple(where) for patient, where in parts.items() if len(where) > 1}

    @classmethod
    def load(cls, path: PathLike) -> "Split":
        """Read a split that `save` wrote.

        Raises:
            MissingFileError: There is no such file.
            DataError: The file is no split, may not be read, or a subject is in two of its parts.
        """
        with _json_in(path, "split", "JSON with the lists train, val and test") as (file, content):
            train, val, test = (_names_in(content[name]) for name in ("train", "val", "test"))
        return _split_from(file, train, val, test)


def _names_in(part: object) -> tuple[str, ...]:
    if not isinstance(part, list) or not all(isinstance(name, (str, int)) for name in part):
        raise TypeError(f"{part!r} is no list of names")
    return tuple(map(str, part))


def split_subjects(
    case_ids: Sequence[str],
    *,
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    patients: Patients | None = None,
    strata: Mapping[str, str] | None = None,
) -> Split:
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
        patients: The patient of each case, where a patient has several: all cases of one go to one part, and the three
            numbers count patients.
        strata: A property of each case, such as its site or the organs that it has: each part gets its share of every
            value to within two, and `train` to within one. All cases of a patient count as the first.

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
    ring = _ring(case_ids, seed, patients, strata)
    cure = "Lower `train`, `val` or `test`, or add subjects."
    wanted = f"at least {counted(needed, 'subject')} ({train} + {val} + {test})"
    require(len(ring) >= needed, "case_ids", wanted, len(ring), cure)
    return Split(
        _joined(ring[:train]), _joined(ring[train : train + val]), _joined(ring[train + val : needed])
    )


def k_fold(
    case_ids: Sequence[str],
    *,
    folds: int,
    val: int,
    seed: int = 0,
    patients: Patients | None = None,
    strata: Mapping[str, str] | None = None,
) -> list[Split]:
    """Make splits in which every subject is tested exactly once.

    The shuffled subjects are cut into ``folds`` test parts whose sizes differ by one at most; the ``val`` subjects that
    follow a test part (the first ones after the last part) validate, the rest train. Four folds of CHAOS's 20 subjects
    with two for validation have the paper's 13, 2 and 5.

    Args:
        case_ids: Names of the subjects.
        folds: How many splits.
        val: How many validate in each.
        seed: Seed of the shuffle.
        patients: See `split_subjects`; ``folds`` and ``val`` then cut and count patients.
        strata: See `split_subjects`: each test part gets its share of every value to within two.

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
    ring = _ring(case_ids, seed, patients, strata)
    largest = -(-len(ring) // folds)
    wanted = f"at least {folds} subjects, and one more than {val} to validate and {largest} to test"
    enough = len(ring) >= max(folds, largest + val + 1)
    require(enough, "case_ids", wanted, len(ring), "Lower `folds` or `val`, or add subjects.")
    edges = np.linspace(0, len(ring), folds + 1).round().astype(int).tolist()
    return [_fold(ring, start, stop, val) for start, stop in pairwise(edges)]


def write_nnunet_splits(path: PathLike, splits: Sequence[Split]) -> Path:
    """Write splits as nnU-Net's ``splits_final.json``, atomically, and return the path.

    nnU-Net has two parts, ``train`` and ``val``: the second is the part of the split that is scored, `test` where there
    is one and no `val`, else `val`.

    Raises:
        DataError: A split has both.
    """
    file = require_path("path", path)
    require_type("splits", splits, (tuple, list), "a list of splits")
    both = [number for number, split in enumerate(splits) if split.val and split.test]
    cure = "Make them with val=0."
    require(
        not both, "splits", "of two parts, as nnU-Net has them", f"three in {both}", cure, error=DataError
    )
    content = [{"train": list(split.train), "val": list(split.val or split.test)} for split in splits]
    return write_json(file, content)


def read_nnunet_splits(path: PathLike) -> list[Split]:
    """Read nnU-Net's ``splits_final.json``: one split a fold, of `train` and `val`.

    Raises:
        MissingFileError: There is no such file.
        DataError: The file is no such list, or a case is in both parts of a fold.
    """
    with _json_in(path, "JSON", 'a list of {"train": [...], "val": [...]}') as (file, content):
        if not isinstance(content, list) or not content:
            raise TypeError("it is no list of folds")
        folds = [(_names_in(fold["train"]), _names_in(fold["val"])) for fold in content]
    return [_split_from(file, train, val, ()) for train, val in folds]


@contextmanager
def _json_in(path: PathLike, kind: str, wanted: str) -> Iterator[tuple[Path, Any]]:
    """Give a file and what it holds; other content than wanted is an error that names the file."""
    file = require_file("path", path, kind)
    with reading(file, kind, (OSError, UnicodeDecodeError)):
        text = file.read_text(encoding="utf-8")
    try:
        yield file, json.loads(text)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"`{file}` must be {wanted}, got something else ({error!r}).", file=file) from error


def _split_from(file: Path, train: tuple[str, ...], val: tuple[str, ...], test: tuple[str, ...]) -> Split:
    try:
        return Split(train, val, test)
    except ArgumentError as error:
        raise DataError(f"{error} Read from {file}.", argument=error.argument, file=file) from error


def _fold(ring: list[tuple[str, ...]], start: int, stop: int, val: int) -> Split:
    rest = ring[stop:] + ring[:start]
    return Split(_joined(rest[val:]), _joined(rest[:val]), _joined(ring[start:stop]))


def _ring(
    case_ids: Sequence[str], seed: int, patients: Patients | None, strata: Mapping[str, str] | None
) -> list[tuple[str, ...]]:
    """Return the cases of each patient in an order of chance, in which every stretch has its share of each stratum."""
    _require_different("case_ids", case_ids)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in _sorted(case_ids):
        groups[name if patients is None else patient_of(patients, name)].append(name)
    units = [tuple(groups[name]) for name in _sorted(list(groups))]
    shuffled = [units[i] for i in np.random.default_rng(seed).permutation(len(units))]
    if strata is None:
        return shuffled
    missing = [name for name in case_ids if name not in strata]
    require(not missing, "strata", "a mapping that has every case", f"none for {cut_list(missing)}")
    members: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for unit in shuffled:
        members[strata[unit[0]]].append(unit)
    return _spread(members)


def _spread(members: Mapping[str, list[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """Return the members of all strata in an order whose every beginning has its share of each, to within one.

    Of the strata that a beginning has too few of, the one comes next whose next member would first be late: the
    earliest deadline of periodic tasks, which misses none.
    """
    total, sizes = sum(map(len, members.values())), {name: len(some) for name, some in members.items()}
    taken = dict.fromkeys(members, 0)
    order = []
    for place in range(1, total + 1):
        due = {
            name: -(-(taken[name] + 1) * total // size)
            for name, size in sizes.items()
            if taken[name] * total < place * size
        }
        chosen = min(due, key=lambda name: due[name])
        order.append(members[chosen][taken[chosen]])
        taken[chosen] += 1
    return order


def patient_of(patients: Patients, case_id: str) -> str:
    """Return the patient of a case, or raise where a mapping has none."""
    known = not isinstance(patients, Mapping) or case_id in patients
    require(known, "patients", "a mapping that has every case", f"none for {case_id!r}")
    patient = patients[case_id] if isinstance(patients, Mapping) else patients(case_id)
    require_type("patients", patient, str, f"what gives each case a text, for {case_id!r} as well")
    return patient


def _joined(units: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return _sorted([name for unit in units for name in unit])


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
