"""Sides in the names of organs: which two are left and right of one another."""

import re
from collections.abc import Mapping

__all__ = ["is_sided", "left_right_pairs", "mirrors_sides", "side_and_rest", "words_of"]

_SIDES: Mapping[str, str] = {
    "right": "right",
    "rt": "right",
    "r": "right",
    "rh": "right",
    "left": "left",
    "lt": "left",
    "l": "left",
    "lh": "left",
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_OF_THE_HEART = {"atrium", "atria", "atrial", "auricle", "ventricle", "ventricular", "myocardium", "coronary"}
"""Of each there is one: a mirrored left atrium is still the left one."""
_OF_TWO = {"lateral", "lat", "temporal", "brain", "cerebral", "ear"}
"""Beside these words it is of the brain or the ear, which have two: the left lateral ventricle, its temporal horn."""


def words_of(name: str) -> list[str]:
    """Return the words in a name, in lower case.

    >>> words_of("LeftLung_upper lobe")
    ['left', 'lung', 'upper', 'lobe']
    """
    return [word.lower() for word in _WORD.findall(name)]


def side_and_rest(name: str) -> tuple[str, str]:
    """Return the side that a name has, "" where it has none or is of a part of the heart, and its other words.

    >>> side_and_rest("right kidney"), side_and_rest("Lung_L"), side_and_rest("left atrium")
    (('right', 'kidney'), ('left', 'lung'), ('', 'left atrium'))
    >>> side_and_rest("left ventricle"), side_and_rest("Left-Lateral-Ventricle")
    (('', 'left ventricle'), ('left', 'lateral ventricle'))
    """
    words = words_of(name)
    # The L of a vertebra, L3, is no side.
    sided = [
        place
        for place, word in enumerate(words)
        if word in _SIDES and not (len(word) == 1 and "".join(words[place + 1 : place + 2]).isdigit())
    ]
    is_of_heart = bool(_OF_THE_HEART & set(words)) and ("wall" in words or not _OF_TWO & set(words))
    if len(sided) != 1 or is_of_heart:
        return "", " ".join(words)
    side = words.pop(sided[0])
    return _SIDES[side], " ".join(words)


def is_sided(name: str) -> bool:
    """Return whether a name says a side in full, "left" or "right": a single letter may stand for anything."""
    return side_and_rest(name)[0] != "" and bool({"left", "right"} & set(words_of(name)))


def mirrors_sides(spatial_dims: int, slice_axis: str | None, neighbours: int = 0) -> bool:
    """Return whether a mirrored image shows left organs as right ones.

    A single sagittal slice does not: it shows one half of the body.

    >>> mirrors_sides(2, "axial"), mirrors_sides(2, "sagittal"), mirrors_sides(2, "sagittal", 1)
    (True, False, True)
    """
    return spatial_dims == 3 or neighbours > 0 or slice_axis != "sagittal"  # noqa: PLR2004


def left_right_pairs(names: Mapping[int, str]) -> tuple[tuple[int, int], ...]:
    """Return the values of organs whose names differ only in their side, the right one first.

    >>> left_right_pairs({1: "liver", 2: "kidney_left", 3: "kidney_right", 4: "left ventricle", 5: "right ventricle"})
    ((3, 2),)
    """
    found = {side_and_rest(name): value for value, name in names.items()}
    return tuple(
        (value, found["left", rest])
        for (side, rest), value in found.items()
        if side == "right" and ("left", rest) in found
    )
