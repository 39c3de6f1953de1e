"""Fingerprint: what the scans of a cohort are like, to notice a scan that is unlike them."""

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from guided_attention._checks import counted, require, require_known_keys, require_type
from guided_attention._geometry import anatomical_order
from guided_attention._typing import SliceAxis, SpacingMm
from guided_attention.errors import DataError, IntensityWarning, SpacingWarning
from guided_attention.preparation._percentiles import thinned
from guided_attention.preparation._values import number, whole
from guided_attention.preparation.intensity import Scale

__all__ = ["Fingerprint", "Observed", "Quantiles", "along", "quantiles_of", "scaled"]

_AXIS = "_axis"
"""The attribute that keeps the axis of a fingerprint; no field, as files have the axis of its preparation."""
_QUANTILES = (0.5, 50.0, 99.0, 99.5)
_SPACING_FACTOR = 1.5
"""How many times finer or coarser than every training scan a scan may be without a warning."""
_SHARE = 0.25
"""How far outside the training scans' intensities a quantile may lie, as a share of their whole range."""
_WIDTH_FACTOR = 4.0
"""How many times narrower or wider than every training scan's the range of intensities may be."""
_TAIL_FACTOR, _LEAST_TAIL = 4.0, 0.01
"""How many times shorter than every training scan's the tail may be, and the tail that a cohort must have to tell."""


class Quantiles(NamedTuple):
    """The 0.5th, 50th, 99th and 99.5th percentile of a channel."""

    low: float
    median: float
    upper: float
    high: float

    @property
    def tail(self) -> float:
        """What lies above `upper`, as a share of what lies above the median; 0 where a window has clipped the scan."""
        return (self.high - self.upper) / (self.high - self.median) if self.high > self.median else 0.0


class Observed(NamedTuple):
    """What is recorded of one scan; depth, height and width are those of the canonical orientation."""

    size: tuple[int, int, int]
    spacing_mm: SpacingMm
    orientation: str
    raw: tuple[Quantiles, ...]
    prepared: tuple[Quantiles, ...]


def quantiles_of(channel: npt.NDArray[np.float32]) -> Quantiles:
    """Return the quantiles of a regular sample of a channel."""
    return Quantiles(*np.percentile(thinned(channel), _QUANTILES).tolist())


def scaled(quantiles: Quantiles, scale: Scale) -> Quantiles:
    """Return what quantiles become on a scale."""
    return Quantiles(*scale.apply(np.array(quantiles, np.float32)).tolist())


@dataclass(frozen=True)
class Fingerprint:
    """What the scans of a cohort are like. `Preparation.fit` makes it; it travels with the preparation.

    Sizes and spacings are ``(depth, height, width)`` in the canonical orientation of the preparation's slice axis, each
    as smallest, median and largest over the cohort, axis by axis. Quantiles are the 0.5th, 50th, 99th and 99.5th
    percentile of a channel's intensities, each as smallest and largest over the cohort.

    Attributes:
        cases: Number of scans.
        channels: Channels of each.
        channel_names: Their names; empty where they have none.
        orientations: How many scans are stored in which orientation.
        sizes: Three sizes in voxels.
        spacings_mm: Three spacings in millimetres.
        intensities: A channel's quantiles as stored in the files.
        prepared_intensities: The same as the network sees them.
        tails: The smallest `Quantiles.tail` over the cohort, as stored and as the network sees it, for each channel.

    Example:
        >>> from guided_attention.data import make_phantom
        >>> from guided_attention.preparation import Preparation
        >>> found = Preparation().fit([make_phantom(0, subject=n, size=16) for n in (1, 2)]).fingerprint
        >>> found.cases, found.orientations, found.channels
        (2, {'LPS': 2}, 1)
    """

    cases: int
    channels: int
    channel_names: tuple[str, ...]
    orientations: Mapping[str, int]
    sizes: tuple[tuple[float, float, float], ...]
    spacings_mm: tuple[SpacingMm, ...]
    intensities: tuple[tuple[Quantiles, Quantiles], ...]
    prepared_intensities: tuple[tuple[Quantiles, Quantiles], ...]
    tails: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ("cases", "channels"):
            object.__setattr__(self, name, whole(f"fingerprint.{name}", getattr(self, name), least=1))
        require_type("fingerprint.channel_names", self.channel_names, (tuple, list), "a list of texts")
        for name in self.channel_names:
            require_type("fingerprint.channel_names", name, str, "a list of texts")
        names = tuple(self.channel_names)
        wanted = f"{counted(self.channels, 'name', 'different names')}, or none"
        good = len(names) in {0, self.channels} and len(set(names)) == len(names)
        require(good, "fingerprint.channel_names", wanted, names, error=DataError)
        require_type("fingerprint.orientations", self.orientations, Mapping, "a mapping from name to number")
        for name, count in self.orientations.items():
            require_type("fingerprint.orientations", name, str, "a mapping from name to number")
            whole("fingerprint.orientations", count, least=1)
        object.__setattr__(self, "channel_names", names)
        object.__setattr__(self, "orientations", dict(self.orientations))
        for name in ("sizes", "spacings_mm"):
            object.__setattr__(self, name, _checked(name, getattr(self, name), (3, 3), least=0))
        for name in ("intensities", "prepared_intensities"):
            pairs = _checked(name, getattr(self, name), (self.channels, 2, len(_QUANTILES)))
            object.__setattr__(self, name, tuple((Quantiles(*low), Quantiles(*high)) for low, high in pairs))
        object.__setattr__(self, "tails", _checked("tails", self.tails, (self.channels, 2)))

    @classmethod
    def of(cls, observed: Sequence[Observed], channel_names: tuple[str, ...]) -> "Fingerprint":
        """Return the fingerprint of the scans observed."""
        return cls(
            cases=len(observed),
            channels=len(observed[0].raw),
            channel_names=channel_names,
            orientations=dict(sorted(Counter(one.orientation for one in observed).items())),
            sizes=_spread([one.size for one in observed]),
            spacings_mm=_spread([one.spacing_mm for one in observed]),
            intensities=_ranges([one.raw for one in observed]),
            prepared_intensities=_ranges([one.prepared for one in observed]),
            tails=tuple(
                (
                    min(one.raw[place].tail for one in observed),
                    min(one.prepared[place].tail for one in observed),
                )
                for place in range(len(observed[0].raw))
            ),
        )

    def warn_if_unlike(self, case_id: str, observed: Observed) -> None:
        """Warn where a scan is far from every scan of the cohort.

        Warns:
            SpacingWarning: Along an axis, the scan is more than 1.5 times finer or coarser than all of them.
            IntensityWarning: A quantile of the intensities that the network would see lies outside theirs by more than
                a quarter of their range, the range is more than 4 times narrower or wider than all of theirs, or the
                brightest voxels are cut off as none of theirs are.
        """
        self._warn_of_spacing(case_id, observed.spacing_mm)
        names = self.channel_names or range(self.channels)
        for place, (name, seen) in enumerate(zip(names, observed.prepared, strict=True)):
            if self._is_unlike(place, seen) or self._is_cut_off(place, observed.raw[place], seen):
                lowest, highest = self.prepared_intensities[place]
                given, least, most = (_shown(quantiles) for quantiles in (seen, lowest, highest))
                warnings.warn(
                    f"Case {case_id!r}, channel {name!r}: the intensities are unlike those of the "
                    f"{counted(self.cases, 'scan')} that the preparation was fitted on. After the preparation, "
                    "the 0.5th, 50th, 99th and 99.5th "
                    f"percentile are {given}, the cohort's {least} to {most}. "
                    "Pass the scan as the scanner stores it: it must not be normalized or windowed before.",
                    IntensityWarning,
                    stacklevel=4,
                )

    def _is_unlike(self, channel: int, seen: Quantiles) -> bool:
        lowest, highest = self.prepared_intensities[channel]
        slack = _SHARE * (highest.high - lowest.low)
        within = (
            low - slack <= v <= high + slack for v, low, high in zip(seen, lowest, highest, strict=True)
        )
        narrowest, widest = lowest.high - highest.low, highest.high - lowest.low
        width = seen.high - seen.low
        odd = width * _WIDTH_FACTOR < narrowest or width > widest * _WIDTH_FACTOR
        return odd or not all(within)

    def _is_cut_off(self, channel: int, raw: Quantiles, prepared: Quantiles) -> bool:
        """Whether a window was applied before: clipping by the preparation itself leaves the stored tail."""
        return all(
            tail >= _LEAST_TAIL and seen.tail * _TAIL_FACTOR < tail
            for seen, tail in zip((raw, prepared), self.tails[channel], strict=True)
        )

    def _warn_of_spacing(self, case_id: str, spacing_mm: SpacingMm) -> None:
        smallest, _, largest = self.spacings_mm
        far = any(
            not low / _SPACING_FACTOR <= length <= high * _SPACING_FACTOR
            for length, low, high in zip(spacing_mm, smallest, largest, strict=True)
        )
        if far:
            given, least, most = (_shown(lengths) for lengths in (spacing_mm, smallest, largest))
            warnings.warn(
                f"Case {case_id!r}: the spacing of {given} mm (depth, height, width) is far from that of "
                f"the {counted(self.cases, 'scan')} that the preparation was fitted on, {least} to {most} mm. "
                "Check the affine of the case.",
                SpacingWarning,
                stacklevel=5,
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values, for JSON and checkpoints."""
        lists: dict[str, Any] = _plain(asdict(self))
        return lists

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Fingerprint":
        """Return the record that `to_dict` wrote.

        Raises:
            DataError: A key is unknown or missing, or a value is of another size.
            ArgumentError: A number is out of range.
            ArgumentTypeError: A value has the wrong type.
        """
        require_type("fingerprint", values, Mapping, "a mapping")
        known = tuple(cls.__dataclass_fields__)
        require_known_keys("fingerprint", values, known)
        missing = [name for name in known if name not in values]
        require(
            not missing,
            "fingerprint",
            f"a mapping with the keys {', '.join(known)}",
            f"no {missing}",
            error=DataError,
        )
        channels = whole("fingerprint.channels", values["channels"], least=1)
        pairs = {
            name: tuple(
                (Quantiles(*low), Quantiles(*high))
                for low, high in _checked(name, values[name], (channels, 2, len(_QUANTILES)))
            )
            for name in ("intensities", "prepared_intensities")
        }
        return cls(**{**values, **pairs})


def along(seen: Fingerprint, axis: SliceAxis) -> Fingerprint:
    """Return the fingerprint of the same scans in the canonical orientation of a slice axis.

    One that no preparation has had yet is in this orientation.
    """
    was: SliceAxis | None = getattr(seen, _AXIS, None)
    if was == axis:
        return seen
    found = replace(seen) if was is None else _turned(seen, was, axis)
    object.__setattr__(found, _AXIS, axis)
    return found


def _turned(seen: Fingerprint, was: SliceAxis, wanted: SliceAxis) -> Fingerprint:
    before = anatomical_order(was)
    order = [before.index(place) for place in anatomical_order(wanted)]
    sizes, spacings_mm = (
        tuple(_three([row[place] for place in order]) for row in rows)
        for rows in (seen.sizes, seen.spacings_mm)
    )
    return replace(seen, sizes=sizes, spacings_mm=spacings_mm)


def _checked(name: str, value: object, size: tuple[int, ...], least: float = -math.inf) -> Any:  # noqa: ANN401
    """Return nested tuples of numbers, or raise where their number or size is another."""
    where = f"fingerprint.{name}"
    if not size:
        found = number(where, value)
        require(found > least, where, f"above {least}", found, error=DataError)
        return found
    wanted = counted(size[0], "value")
    require_type(where, value, (tuple, list), wanted)
    assert isinstance(value, tuple | list)  # noqa: S101 - for the type checker
    require(len(value) == size[0], where, wanted, len(value), error=DataError)
    return tuple(_checked(name, part, size[1:], least) for part in value)


def _spread(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, float, float], ...]:
    table = np.array(rows, dtype=np.float64)
    return tuple(
        _three(part.tolist()) for part in (table.min(axis=0), np.median(table, axis=0), table.max(axis=0))
    )


def _ranges(rows: Sequence[Sequence[Quantiles]]) -> tuple[tuple[Quantiles, Quantiles], ...]:
    table = np.array(rows, dtype=np.float64)  # (cases, channels, quantiles)
    lowest, highest = table.min(axis=0).tolist(), table.max(axis=0).tolist()
    return tuple((Quantiles(*low), Quantiles(*high)) for low, high in zip(lowest, highest, strict=True))


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a record holds
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value


def _shown(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
