"""LabelSpec: which value of a label volume is which organ, from reading to scores and pictures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import HIGHEST_LABEL, cut_list, require, require_known_keys, require_type
from guided_attention._sides import is_sided, left_right_pairs
from guided_attention.errors import ArgumentTypeError, DataError

__all__ = ["LabelSpec"]

_PALETTE = ("#e6194b", "#3cb44b", "#4363d8", "#ffe119", "#f58231", "#42d4f4", "#f032e6", "#bfef45")


@dataclass(frozen=True)
class LabelSpec:
    """The organs of a label volume: values, names, colours, left-right pairs, and the value to ignore.

    Background is 0 and has no entry. Values need not be consecutive. A network has one class for the background and one
    for each value in ascending order, so that class ``k`` stands for the ``k``-th value.

    Args:
        names: Name of each organ by its value in label volumes.
        colours: ``"#rrggbb"`` by value; values without one get a colour of a fixed palette.
        pairs: Pairs of values that change places when a body is mirrored, such as right and left kidney.
        ignore_value: Value of voxels that training and scores leave out; None where there is none.
        others_are_background: Whether `open_cohort` sets all other values of a volume to 0. By default they are errors.

    Raises:
        DataError: There is no organ, a value is 0, negative or above 65535, two organs share a name, a pair or colour
            names a value that is no organ, or `ignore_value` is an organ or the background.
        ArgumentTypeError: A field is no mapping or list, or a name is no text.

    Example:
        >>> organs = LabelSpec({1: "liver", 2: "right kidney", 3: "left kidney"}, pairs=((2, 3),))
        >>> organs.num_classes, organs.values, organs.names[2]
        (4, (1, 2, 3), 'right kidney')
    """

    names: Mapping[int, str]
    colours: Mapping[int, str] = field(default_factory=dict)
    pairs: tuple[tuple[int, int], ...] = ()
    ignore_value: int | None = None
    others_are_background: bool = False

    def __post_init__(self) -> None:
        """Check every value, and fill in the colours."""
        names = dict(sorted(_by_value("labels.names", self.names, "name").items()))
        require(bool(names), "labels.names", "a mapping with at least one organ", "none", error=DataError)
        good, cure = all(0 < value <= HIGHEST_LABEL for value in names), "Background is 0 and has no entry."
        require(
            good, "labels.names", f"of values from 1 to {HIGHEST_LABEL}", list(names), cure, error=DataError
        )
        different = len(set(names.values())) == len(names) and all(names.values())
        require(different, "labels.names", "of different names", list(names.values()), error=DataError)
        ignored = None if self.ignore_value is None else _value("labels.ignore_value", self.ignore_value)
        good = ignored is None or (0 < ignored <= HIGHEST_LABEL and ignored not in names)
        wanted = f"a value from 1 to {HIGHEST_LABEL} that is no organ"
        require(good, "labels.ignore_value", wanted, ignored, error=DataError)
        wanted = "True or False"
        require_type("labels.others_are_background", self.others_are_background, bool, wanted)
        checked = {
            "names": names,
            "colours": _all_colours(self.colours, names),
            "pairs": _checked_pairs(self.pairs, names),
            "ignore_value": ignored,
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def values(self) -> tuple[int, ...]:
        """Values of the organs in ascending order, background left out."""
        return tuple(self.names)

    @property
    def num_classes(self) -> int:
        """Classes of a network: the organs and the background."""
        return len(self.names) + 1

    @property
    def ignore_index(self) -> int | None:
        """What stands for `ignore_value` among the classes, for the losses; None where nothing is ignored."""
        return None if self.ignore_value is None else max(self.ignore_value, self.num_classes)

    @property
    def class_pairs(self) -> tuple[tuple[int, int], ...]:
        """`pairs` as classes."""
        place = {value: index for index, value in enumerate(self.values, 1)}
        return tuple((place[one], place[other]) for one, other in self.pairs)

    def require_sides(self, where: str) -> None:
        """Raise a `DataError` where an organ is named left or right and has no mate in `pairs`.

        Such an organ looks like its mate in a mirrored body, so that slices must not be mirrored. Chambers of the heart
        have no mates.
        """
        paired = {value for pair in self.pairs for value in pair}
        by_name = left_right_pairs(self.names)
        missing = [pair for pair in by_name if not set(pair) <= paired]
        mates = {value for pair in by_name for value in pair}
        unpaired = [n for v, n in self.names.items() if v not in paired | mates and is_sided(n)]
        cure = f"Pass LabelSpec(pairs={(*self.pairs, *missing)}), or mirror and flip nothing."
        got = " and ".join(self.names[value] for pair in missing for value in pair)
        require(not missing, where, "of left and right organs in pairs", got, cure, error=DataError)
        cure = "Mirrored, it looks like the organ of the other side. Mirror and flip nothing."
        require(
            not unpaired,
            where,
            "of left and right organs in pairs",
            cut_list(unpaired),
            cure,
            error=DataError,
        )

    def subset(self, organs: Sequence[str]) -> "LabelSpec":
        """Return the specification of some organs, by name.

        Raises:
            DataError: An organ is unknown or there is none.
        """
        require_type("organs", organs, (tuple, list), "a list of names", 'Write ["liver"] for one organ.')
        unknown = [name for name in organs if name not in self.names.values()]
        listed = ", ".join(self.names.values())
        require(not unknown, "organs", f"of {listed}", cut_list(unknown), error=DataError)
        kept = {value: name for value, name in self.names.items() if name in organs}
        colours = {value: self.colours[value] for value in kept}
        pairs = tuple(pair for pair in self.pairs if set(pair) <= set(kept))
        return type(self)(kept, colours, pairs, self.ignore_value, self.others_are_background)

    def require_known(self, labels: npt.NDArray[Any], where: str) -> None:
        """Raise a `DataError` where a label volume holds a value that is no organ, background or ignored."""
        cure = "Name these values in the LabelSpec, set them to 0, or pass one as `ignore_value`."
        wanted = f"made of 0 and the values of {dict(self.names)}"
        _require_among([value for value, _ in self._pairings], labels, where, wanted, cure)

    def without_others(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a label volume, any shape, with 0 in place of every value that is no organ and not ignored."""
        known = [value for value, _ in self._pairings]
        return np.where(np.isin(labels, known), labels, 0).astype(labels.dtype, copy=False)

    def to_classes(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a label volume with class numbers in place of values, ignored voxels as `ignore_index`.

        Args:
            labels: Values as an array of integers, any shape.

        Returns:
            An array of the same shape; `labels` itself where values and classes are equal.

        Raises:
            DataError: A value is unknown, see `require_known`.
        """
        self.require_known(labels, "labels")
        return labels if self._is_plain else _table(self._pairings)[labels]

    def to_values(self, classes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values in place of class numbers, as the smallest unsigned type; the inverse of `to_classes`.

        Raises:
            DataError: A class is not below `num_classes`, nor `ignore_index`.
        """
        pairings = [(index, value) for value, index in self._pairings]
        known = [index for index, _ in pairings]
        _require_among(known, classes, "classes", f"made of the classes {cut_list(known)}")
        table = _table(pairings)
        return classes.astype(table.dtype, copy=False) if self._is_plain else table[classes]

    @property
    def _pairings(self) -> list[tuple[int, int]]:
        """Values with their classes, background and ignored included."""
        pairings = [(value, index) for index, value in enumerate((0, *self.values))]
        if self.ignore_value is not None and self.ignore_index is not None:
            pairings.append((self.ignore_value, self.ignore_index))
        return pairings

    @property
    def _is_plain(self) -> bool:
        return all(value == index for value, index in self._pairings)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values, for JSON and checkpoints."""
        return {
            "names": {str(value): name for value, name in self.names.items()},
            "colours": {str(value): colour for value, colour in self.colours.items()},
            "pairs": [list(pair) for pair in self.pairs],
            "ignore_value": self.ignore_value,
            "others_are_background": self.others_are_background,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LabelSpec":
        """Return the record that `to_dict` wrote.

        Raises:
            DataError: A key is unknown (the nearest known one is named) or missing, or see `LabelSpec`.
        """
        require_type("labels", values, Mapping, "a mapping")
        require_known_keys("labels", values, tuple(each.name for each in fields(cls)))
        require("names" in values, "labels", "a mapping with the key 'names'", list(values), error=DataError)
        return cls(
            _by_value("labels.names", values["names"], "name"),
            _by_value("labels.colours", values.get("colours", {}), "colour"),
            _as_pairs(values.get("pairs", ())),
            values.get("ignore_value"),
            values.get("others_are_background", False),
        )


def _value(where: str, value: object) -> int:
    """Return a label value as an int; texts are keys of JSON."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise DataError(f"`{where}` must be of whole numbers, got {value!r}.", argument=where)


def _by_value(where: str, texts: object, kind: str) -> dict[int, str]:
    wanted = f"a mapping from value to {kind}"
    require(isinstance(texts, Mapping), where, wanted, f"a {type(texts).__name__}", error=ArgumentTypeError)
    given = dict(texts) if isinstance(texts, Mapping) else {}
    for text in given.values():
        require_type(where, text, str, wanted)
    converted = {_value(where, value): text for value, text in given.items()}
    require(len(converted) == len(given), where, "of different values", list(given), error=DataError)
    return converted


def _all_colours(colours: object, names: Mapping[int, str]) -> dict[int, str]:
    palette = {value: _PALETTE[place % len(_PALETTE)] for place, value in enumerate(names)}
    given = _by_value("labels.colours", colours, "colour")
    unknown = [value for value in given if value not in names]
    require(not unknown, "labels.colours", f"of the values {list(names)}", unknown, error=DataError)
    odd = [colour for colour in given.values() if not re.fullmatch("#[0-9a-fA-F]{6}", colour)]
    require(not odd, "labels.colours", 'written "#rrggbb"', cut_list(odd), error=DataError)
    return palette | given


def _as_pairs(pairs: object) -> tuple[tuple[int, int], ...]:
    cure = "Write ((2, 3),) for one pair."
    converted: list[tuple[int, int]] = []
    for pair in pairs if isinstance(pairs, (tuple, list)) else [pairs]:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:  # noqa: PLR2004
            message = f"`labels.pairs` must be made of pairs of values, got {pair!r}. {cure}"
            raise DataError(message, argument="labels.pairs")
        converted.append((_value("labels.pairs", pair[0]), _value("labels.pairs", pair[1])))
    return tuple(converted)


def _checked_pairs(pairs: object, names: Mapping[int, str]) -> tuple[tuple[int, int], ...]:
    checked = _as_pairs(pairs)
    flat = [value for pair in checked for value in pair]
    good = set(flat) <= set(names) and len(set(flat)) == len(flat)
    wanted = f"pairs of different values of {list(names)}"
    require(good, "labels.pairs", wanted, list(checked), error=DataError)
    return checked


def _table(pairings: Sequence[tuple[int, int]]) -> npt.NDArray[Any]:
    """Return the array that takes the first of each pair to the second."""
    table = np.zeros(max(old for old, _ in pairings) + 1, np.min_scalar_type(max(new for _, new in pairings)))
    for old, new in pairings:
        table[old] = new
    return table


def _require_among(
    known: Sequence[int], volume: npt.NDArray[Any], where: str, wanted: str, cure: str = ""
) -> None:
    """Raise unless an array of integers holds only known values; a table is faster than sorting them."""
    require_type(where, volume, np.ndarray, "an array", "Use numpy.asarray.")
    kind = f"type {volume.dtype}"
    require(volume.dtype.kind in "iu", where, "a volume of integers", kind, error=DataError)
    is_known = np.zeros(max(known) + 1, dtype=bool)
    is_known[list(known)] = True
    slabs = list(volume) if volume.ndim > 1 else [volume]
    if all(_is_inside(slab, len(is_known)) and bool(is_known[slab].all()) for slab in slabs):
        return
    odd = sorted({value for slab in slabs for value in np.unique(slab).tolist()} - set(known))
    require(not odd, where, wanted, f"also {cut_list(odd)}", cure, error=DataError)


def _is_inside(slab: npt.NDArray[Any], length: int) -> bool:
    return slab.size == 0 or (int(slab.min()) >= 0 and int(slab.max()) < length)
