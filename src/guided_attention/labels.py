"""LabelSpec: which value of a label volume is which organ, from reading to scores and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import cut_list, require, require_known_keys, require_type
from guided_attention.errors import DataError

__all__ = ["LabelSpec"]

_PALETTE = ("#e6194b", "#3cb44b", "#4363d8", "#ffe119", "#f58231", "#42d4f4", "#f032e6", "#bfef45")
_HIGHEST = 65535
_HEX = 7


@dataclass(frozen=True)
class LabelSpec:
    """The organs of a label volume: values, names, colours, left-right pairs, and the value to ignore.

    Background is 0 and has no entry. Values need not be consecutive. A network has one class for the background and one
    for each value in ascending order, so that class ``k`` stands for the ``k``-th value.

    Args:
        names: Name of each organ by its value in label volumes.
        colours: ``"#rrggbb"`` by value; values without one get a colour of a fixed palette.
        pairs: Pairs of values that change places when a body is mirrored, such as right and left kidney.
        ignore_value: Value of voxels that count neither in training nor in scores; None where there is none.

    Raises:
        DataError: There is no organ, a value is 0, negative or above 65535, two organs share a name, a pair or colour
            names a value that is no organ, or `ignore_value` is an organ or the background.

    Example:
        >>> organs = LabelSpec({1: "liver", 2: "right kidney", 3: "left kidney"}, pairs=((2, 3),))
        >>> organs.num_classes, organs.values, organs.names[2]
        (4, (1, 2, 3), 'right kidney')
    """

    names: Mapping[int, str]
    colours: Mapping[int, str] = field(default_factory=dict)
    pairs: tuple[tuple[int, int], ...] = ()
    ignore_value: int | None = None

    def __post_init__(self) -> None:
        """Check every value, and fill in the colours."""
        require_type("labels.names", self.names, Mapping, "a mapping from value to name")
        names = {_value(value): name for value, name in self.names.items()}
        require(bool(names), "labels.names", "a mapping with at least one organ", "none", error=DataError)
        cure = "Background is 0 and has no entry."
        good = all(0 < value <= _HIGHEST for value in names)
        require(good, "labels.names", f"of values from 1 to {_HIGHEST}", list(names), cure, error=DataError)
        for name in names.values():
            require_type("labels.names", name, str, "a mapping from value to name")
        different = len(set(names.values())) == len(names) and all(names.values())
        require(different, "labels.names", "of different names", list(names.values()), error=DataError)
        ordered = dict(sorted(names.items()))
        object.__setattr__(self, "names", ordered)
        object.__setattr__(self, "colours", self._all_colours(ordered))
        object.__setattr__(self, "pairs", self._checked_pairs(ordered))
        ignored = self.ignore_value
        good = ignored is None or (0 < _value(ignored) <= _HIGHEST and ignored not in names)
        wanted = f"a value from 1 to {_HIGHEST} that is no organ"
        require(good, "labels.ignore_value", wanted, ignored, error=DataError)

    def _all_colours(self, names: Mapping[int, str]) -> dict[int, str]:
        palette = {value: _PALETTE[place % len(_PALETTE)] for place, value in enumerate(names)}
        given = {_value(value): colour for value, colour in self.colours.items()}
        unknown = [value for value in given if value not in names]
        require(not unknown, "labels.colours", f"of the values {list(names)}", unknown, error=DataError)
        odd = [colour for colour in given.values() if not _is_hex(colour)]
        require(not odd, "labels.colours", 'written "#rrggbb"', cut_list(odd), error=DataError)
        return palette | given

    def _checked_pairs(self, names: Mapping[int, str]) -> tuple[tuple[int, int], ...]:
        pairs = [tuple(_value(value) for value in pair) for pair in self.pairs]
        flat = [value for pair in pairs for value in pair]
        good = (
            all(len(pair) == 2 for pair in pairs) and set(flat) <= set(names) and len(set(flat)) == len(flat)
        )
        require(good, "labels.pairs", f"pairs of different values of {list(names)}", pairs, error=DataError)
        return tuple((pair[0], pair[1]) for pair in pairs)

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

    def subset(self, organs: Sequence[str]) -> "LabelSpec":
        """Return the specification of some organs, by name.

        Raises:
            DataError: An organ is unknown or there is none.
        """
        unknown = [name for name in organs if name not in self.names.values()]
        require(
            not unknown, "organs", f"of {', '.join(self.names.values())}", cut_list(unknown), error=DataError
        )
        kept = {value: name for value, name in self.names.items() if name in organs}
        colours = {value: self.colours[value] for value in kept}
        pairs = tuple(pair for pair in self.pairs if set(pair) <= set(kept))
        return type(self)(kept, colours, pairs, self.ignore_value)

    def require_known(self, labels: npt.NDArray[Any], where: str) -> None:
        """Raise a `DataError` where a label volume holds a value that is no organ, background or ignored."""
        require(
            labels.dtype.kind in "iu", where, "a volume of integers", f"type {labels.dtype}", error=DataError
        )
        known = {0, *self.values, *(() if self.ignore_value is None else (self.ignore_value,))}
        present: set[int] = set()
        for slab in labels:
            present.update(np.unique(slab).tolist())
        odd = sorted(present - known)
        wanted = f"made of 0 and the values of {dict(self.names)}"
        cure = "Name these values in the LabelSpec, set them to 0, or pass one as `ignore_value`."
        require(not odd, where, wanted, f"also {cut_list(odd)}", cure, error=DataError)

    def to_classes(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a label volume with class numbers in place of values, ignored voxels as `ignore_index`.

        Args:
            labels: Values, any shape; all of them known, see `require_known`.

        Returns:
            An array of the same shape; `labels` itself where values and classes are equal.
        """
        if self._is_plain:
            return labels
        return self._table(
            np.array([*range(self.num_classes)]), np.array([0, *self.values]), self.ignore_index
        )[labels]

    def to_values(self, classes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values in place of class numbers, as the smallest unsigned type; the inverse of `to_classes`."""
        values = np.array([0, *self.values], dtype=np.min_scalar_type(self.values[-1]))
        return classes if self._is_plain else values[classes]

    @property
    def _is_plain(self) -> bool:
        return self.values == tuple(range(1, self.num_classes)) and self.ignore_index == self.ignore_value

    def _table(
        self, into: npt.NDArray[Any], values: npt.NDArray[Any], ignored: int | None
    ) -> npt.NDArray[Any]:
        highest = max(int(values.max()), self.ignore_value or 0)
        table = np.zeros(highest + 1, dtype=np.min_scalar_type(max(int(into.max()), ignored or 0)))
        table[values] = into
        if self.ignore_value is not None and ignored is not None:
            table[self.ignore_value] = ignored
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values, for JSON and checkpoints."""
        return {
            "names": {str(value): name for value, name in self.names.items()},
            "colours": {str(value): colour for value, colour in self.colours.items()},
            "pairs": [list(pair) for pair in self.pairs],
            "ignore_value": self.ignore_value,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LabelSpec":
        """Return the record that `to_dict` wrote.

        Raises:
            DataError: A key is unknown (the nearest known one is named) or missing, or see `LabelSpec`.
        """
        require_type("labels", values, Mapping, "a mapping")
        require_known_keys("labels", values, ("names", "colours", "pairs", "ignore_value"))
        require("names" in values, "labels", "a mapping with the key 'names'", list(values), error=DataError)
        return cls(
            {_value(value): name for value, name in values["names"].items()},
            {_value(value): colour for value, colour in values.get("colours", {}).items()},
            tuple(tuple(pair) for pair in values.get("pairs", ())),
            values.get("ignore_value"),
        )


def _value(value: object) -> int:
    """Return a label value as an int; texts are keys of JSON."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole and not (isinstance(value, str) and value.isascii() and value.isdigit()):
        require(False, "labels", "of whole numbers", repr(value), error=DataError)  # noqa: FBT003
    return int(value)  # type: ignore[call-overload, no-any-return]  # checked above


def _is_hex(colour: object) -> bool:
    return (
        isinstance(colour, str)
        and len(colour) == _HEX
        and colour[0] == "#"
        and all(digit in "0123456789abcdefABCDEF" for digit in colour[1:])
    )
