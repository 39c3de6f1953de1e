"""Organs by name: whether files agree with those asked for, and what masks that name their segments share."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import counted, cut_list, require, require_type
from guided_attention._sides import left_right_pairs
from guided_attention.data._files import natural_key
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec

__all__ = [
    "are_read",
    "merged_specs",
    "painted",
    "plain_name",
    "require_same_organs",
    "values_of",
    "warn_of_overlap",
]


def plain_name(name: str) -> str:
    """Return what names of one organ have in common: upper case, spaces, hyphens and underscores do not matter."""
    return "_".join(name.lower().replace("_", " ").replace("-", " ").split())


def require_same_organs(organs: LabelSpec, known: LabelSpec | None, folder: Path) -> None:
    """Raise where scans are known to have other names for the values of these organs, or other values for their names.

    Values are compared by number everywhere else, so that a liver would be scored as a spleen. An organ that was left
    out when the scans were opened is an error too: its voxels are read as background.
    """
    if known is None:
        return
    ours, theirs = _named_values(organs), _named_values(known)
    by_name = {name: value for value, name in theirs.items()}
    same = all(
        theirs.get(value, name) == name and by_name.get(name, value) == value for value, name in ours.items()
    )
    whole = are_read(organs, known)
    names, got = dict(organs.names), f"{dict(known.names)}"
    got += "" if whole else ", and all other values read as background"
    cure = (
        f'Pass open_cohort("{folder}", labels={names}): masks that name their organs are then read by name, '
        "others by these values. Or correct the names beside the scans."
    )
    wanted = f"called and numbered as asked for, {names}"
    require(same and whole, f"organs of {folder}", wanted, got, cure, error=DataError, file=folder)


def are_read(organs: LabelSpec, known: LabelSpec) -> bool:
    """Return whether all these organs are among those known, where all others are read as background."""
    return not known.others_are_background or set(organs.values) <= set(known.values)


def _named_values(organs: LabelSpec) -> dict[int, str]:
    """Return the plain name of each value; a name that only repeats the number, such as ``label 1``, is none."""
    ignored = {} if organs.ignore_value is None else {organs.ignore_value: "ignore"}
    return {
        value: plain_name(name)
        for value, name in {**organs.names, **ignored}.items()
        if plain_name(name) != f"label_{value}"
    }


def values_of(names: Sequence[str], own: list[int], organs: LabelSpec | None, path: Path) -> list[int]:
    """Return the values that segments get: those of the organs of their names, 0 for others; without organs, their own.

    A file without any of the organs is background, with a warning: its values may be those of other organs elsewhere.
    """
    require_type("labels", organs, (LabelSpec, type(None)), "a LabelSpec or None")
    if organs is None:
        return own
    wanted = {plain_name(name): value for value, name in organs.names.items()}
    values = [wanted.get(plain_name(name), 0) for name in names]
    odd = [name for name, value in zip(names, values, strict=True) if not value]
    good, listed = not odd or organs.others_are_background, cut_list(list(organs.names.values()))
    cure = "Rename the segments, or leave others out with `labels={value: name}`."
    require(good, f"segments of {path}", f"of {listed}", cut_list(odd), cure, error=DataError, file=path)
    if not any(values):
        message = (
            f"No segment of {path} is {listed}, only {cut_list(odd)}: all of it is read as background. "
            "If the organs were only not segmented, leave the scan out."
        )
        warnings.warn(message, UserWarning, stacklevel=2)
    return values


def merged_specs(specs: Sequence[LabelSpec]) -> LabelSpec:
    """Return names, values and colours of several files; where values differ, names count, in alphabetical order.

    Of several spellings of a name, the first counts.
    """
    values: dict[str, set[int]] = {}
    shown: dict[str, str] = {}
    for spec in specs:
        for value, name in spec.names.items():
            values.setdefault(plain_name(name), set()).add(value)
            shown.setdefault(plain_name(name), name.strip())
    flat = [value for found in values.values() for value in found]
    alike = len(flat) == len(set(flat)) == len(values)
    order = sorted(values, key=natural_key)
    by_value = {min(values[plain]) if alike else place: plain for place, plain in enumerate(order, start=1)}
    names = {value: shown[plain] for value, plain in by_value.items()}
    colours = {
        plain_name(name): spec.colours[value]
        for spec in reversed(specs)
        for value, name in spec.names.items()
    }
    return LabelSpec(
        names, {value: colours[plain] for value, plain in by_value.items()}, left_right_pairs(names)
    )


def painted(labels: npt.NDArray[Any], mask: npt.NDArray[np.bool_], value: int) -> int:
    """Write a segment into labels, in place, and return how many voxels another one had."""
    before = labels[mask]
    labels[mask] = value
    return int(np.count_nonzero((before != 0) & (before != value)))


def warn_of_overlap(path: Path, voxels: int) -> None:
    """Warn where segments overlap."""
    if voxels:
        message = f"{path} has {counted(voxels, 'voxel')} in two segments, read as the later one."
        warnings.warn(message, UserWarning, stacklevel=3)
