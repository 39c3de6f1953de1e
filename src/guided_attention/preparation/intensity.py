"""Intensities: brought to a common scale over the whole volume, channel by channel.

Every scale has one form, ``(clip(value, low, high) - shift) / factor``:

=====================  ==========================  ==========================  ============================
record                 low, high                   shift                       factor
=====================  ==========================  ==========================  ============================
`ZScore`               percentiles of the scan     mean after clipping         deviation after clipping
`Window`               given                       low                         high - low
`CohortPercentiles`    percentiles of the          mean of the foreground      deviation of the foreground
                       foreground of all cases     after clipping              after clipping
=====================  ==========================  ==========================  ============================

Statistics are those of the whole volume, never of a slice: a slice's own would give one tissue another intensity in
every slice.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require, require_type
from guided_attention.case import Case
from guided_attention.errors import ArgumentError, DataError
from guided_attention.preparation._percentiles import percentiles
from guided_attention.preparation._values import kind_and_values, kind_to_dict, number

__all__ = [
    "CohortPercentiles",
    "Intensity",
    "Scale",
    "Window",
    "ZScore",
    "intensity_from_dict",
    "intensity_to_dict",
    "normalize",
    "window",
]

_Channel: TypeAlias = npt.NDArray[np.float32]
_HIGHEST = 100
_PERCENTILES = (0.5, 99.5)


class Scale(NamedTuple):
    """The four numbers that a channel's intensities are brought to their scale with."""

    low: float = -math.inf
    high: float = math.inf
    shift: float = 0.0
    factor: float = 1.0

    def apply(self, values: _Channel) -> _Channel:
        """Return the values on their scale, computed in double precision."""
        clipped = values.clip(np.float32(self.low), np.float32(self.high)).astype(np.float64)
        clipped -= self.shift
        clipped /= self.factor
        return clipped.astype(np.float32)


@dataclass(frozen=True)
class ZScore:
    """Mean 0 and standard deviation 1 over the volume, after clipping to two of its percentiles: for MR.

    Attributes:
        percentiles: Lower and upper percentile, 0 to 100.

    Raises:
        ArgumentError: The percentiles are not ascending from 0 to 100.

    Example:
        >>> ZScore().percentiles
        (0.5, 99.5)
    """

    percentiles: tuple[float, float] = _PERCENTILES

    def __post_init__(self) -> None:
        """Check the percentiles."""
        object.__setattr__(self, "percentiles", _checked_percentiles(self.percentiles))

    def scale(self, channel: _Channel, where: str) -> Scale:
        """Return the scale of one channel of a scan; raise where it has one value only."""
        low, high = percentiles(channel, self.percentiles)
        mean, deviation = _mean_and_deviation(channel, low, high)
        cure = "Look at the scan: it is empty or nearly so."
        wanted, got = "of more than one value", f"{low} from percentile to percentile"
        require(deviation > 0, where, wanted, got, cure, error=DataError)
        return Scale(low, high, mean, deviation)


@dataclass(frozen=True)
class Window:
    """A fixed range of intensities, brought to 0 and 1; values outside are clipped: for CT.

    Attributes:
        low: The value that becomes 0. For soft tissue in CT, -160 HU.
        high: The value that becomes 1. For soft tissue in CT, 240 HU.

    Raises:
        ArgumentError: `low` is not below `high`.

    Example:
        >>> Window(-160, 240).scale(None, "")
        Scale(low=-160.0, high=240.0, shift=-160.0, factor=400.0)
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the range."""
        low, high = (number(name, getattr(self, name)) for name in ("low", "high"))
        require(bool(np.float32(low) < np.float32(high)), "low", f"below `high`, {high}", low)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def scale(self, channel: _Channel | None, where: str) -> Scale:  # noqa: ARG002 - as the other records
        """Return the scale, the same for every scan."""
        return Scale(self.low, self.high, self.low, self.high - self.low)


@dataclass(frozen=True)
class CohortPercentiles:
    """Clipped to percentiles of the foreground of all training cases, then scaled by its mean and deviation: for CT.

    `Preparation.fit` fills in the numbers of each channel.

    Attributes:
        percentiles: Lower and upper percentile of the foreground, 0 to 100.
        low: The lower percentile's value; None before the fit, as all that follow.
        high: The upper percentile's value.
        mean: Mean of the foreground after clipping.
        deviation: Standard deviation of the foreground after clipping.

    Raises:
        ArgumentError: The percentiles are not ascending, or only some of the numbers are given.

    Example:
        >>> CohortPercentiles().is_fitted
        False

    References:
        Isensee et al., nnU-Net, Nature Methods 18, 2021: the normalisation of CT.
    """

    percentiles: tuple[float, float] = _PERCENTILES
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    deviation: float | None = None

    def __post_init__(self) -> None:
        """Check the percentiles and the numbers."""
        object.__setattr__(self, "percentiles", _checked_percentiles(self.percentiles))
        names = ("low", "high", "mean", "deviation")
        given = {name: getattr(self, name) for name in names}
        missing = [name for name, value in given.items() if value is None]
        wanted = "given with high, mean and deviation, or none of them"
        require(len(missing) in {0, len(names)}, "low", wanted, given)
        if not missing:
            low, high, mean, deviation = (number(name, value) for name, value in given.items())
            require(low < high, "low", f"below `high`, {high}", low)
            require(deviation > 0, "deviation", "above 0", deviation)
            for name, value in zip(names, (low, high, mean, deviation), strict=True):
                object.__setattr__(self, name, value)

    @property
    def is_fitted(self) -> bool:
        """Whether the numbers are known."""
        return self.low is not None

    def fitted(self, values: npt.NDArray[np.float32], where: str) -> "CohortPercentiles":
        """Return the record with the numbers of these values of the foreground."""
        low, high = np.percentile(values.astype(np.float64), self.percentiles).tolist()
        clipped = values.clip(low, high).astype(np.float64)
        good = low < high and bool(clipped.std() > 0)
        require(good, where, "of more than one value in the foreground", low, error=DataError)
        return replace(self, low=low, high=high, mean=float(clipped.mean()), deviation=float(clipped.std()))

    def scale(self, channel: _Channel | None, where: str) -> Scale:  # noqa: ARG002 - as the other records
        """Return the scale, the same for every scan."""
        if self.low is None or self.high is None or self.mean is None or self.deviation is None:
            message = "`intensity` must be fitted, got CohortPercentiles without numbers. Call `Preparation.fit` first."
            raise ArgumentError(message, argument="intensity")
        return Scale(self.low, self.high, self.mean, self.deviation)


Intensity: TypeAlias = ZScore | Window | CohortPercentiles
"""What brings the intensities of a channel to a common scale."""

_KINDS: Mapping[str, type[Intensity]] = {
    "zscore": ZScore,
    "window": Window,
    "cohort_percentiles": CohortPercentiles,
}


def intensity_to_dict(intensity: Intensity) -> dict[str, Any]:
    """Return the record as plain values."""
    return kind_to_dict(intensity, _KINDS)


def intensity_from_dict(values: object) -> Intensity:
    """Return the record that `intensity_to_dict` wrote."""
    cls, rest = kind_and_values("intensity", values, _KINDS)
    return cls(**rest)


def normalize(case: Case, *, percentiles: tuple[float, float] = _PERCENTILES) -> Case:
    """Bring each channel to mean 0 and standard deviation 1 over the volume: `ZScore` as a function.

    Args:
        case: A scan.
        percentiles: Lower and upper percentile to clip to, 0 to 100.

    Returns:
        The case with the new image.

    Raises:
        ArgumentError: The percentiles are not ascending.
        DataError: A channel has one value between the percentiles.

    Example:
        >>> from guided_attention.data import make_phantom
        >>> image = normalize(make_phantom(0, size=16)).image
        >>> abs(float(image.mean())) < 1e-5, abs(float(image.std()) - 1) < 1e-4
        (True, True)
    """
    return _rescaled(case, ZScore(percentiles))


def window(case: Case, low: float, high: float) -> Case:
    """Bring `low` to 0 and `high` to 1, and clip what lies outside: `Window` as a function.

    Args:
        case: A scan.
        low: The value that becomes 0.
        high: The value that becomes 1.

    Returns:
        The case with the new image.

    Raises:
        ArgumentError: `low` is not below `high`.

    Example:
        >>> import numpy as np
        >>> from guided_attention.case import affine_of
        >>> case = Case("7", np.full((1, 2, 3, 5), 40.0, np.float32), None, affine_of((9.0, 1.5, 1.5)))
        >>> float(window(case, -160, 240).image.max())
        0.5
    """
    return _rescaled(case, Window(low, high))


def _rescaled(case: Case, intensity: Intensity) -> Case:
    require_type("case", case, Case, "a Case")
    where = f"image of case {case.case_id!r}"
    image = np.empty_like(case.image, order="C")
    for channel, into in zip(case.image, image, strict=True):
        scale = intensity.scale(channel, where)
        for slab, place in zip(channel, into, strict=True):
            place[...] = scale.apply(slab)
    return replace(case, image=image)


def _mean_and_deviation(channel: _Channel, low: float, high: float) -> tuple[float, float]:
    """Return both after clipping, slice by slice: all at once would need eight bytes more for every voxel."""
    mean = sum(float(slab.sum()) for slab in _clipped(channel, low, high)) / channel.size
    variance = sum(_squares(slab, mean) for slab in _clipped(channel, low, high)) / channel.size
    return mean, math.sqrt(variance)


def _squares(slab: npt.NDArray[np.float64], mean: float) -> float:
    slab -= mean
    return float(np.square(slab, out=slab).sum())


def _clipped(channel: _Channel, low: float, high: float) -> Iterator[npt.NDArray[np.float64]]:
    """Give each slice in the same memory: new memory for each takes longer than the sums."""
    single, double = np.empty(channel.shape[1:], np.float32), np.empty(channel.shape[1:], np.float64)
    for slab in channel:
        # Sums depend on the order of their parts: that in memory would differ with the storage order of the scan.
        double[...] = np.clip(slab, low, high, out=single)
        yield double


def _checked_percentiles(given: Sequence[float]) -> tuple[float, float]:
    wanted = "two percentiles, ascending from 0 to 100"
    require_type("percentiles", given, (tuple, list), wanted)
    require(len(given) == 2, "percentiles", wanted, given)  # noqa: PLR2004
    low, high = (number("percentiles", value) for value in given)
    require(0 <= low < high <= _HIGHEST, "percentiles", wanted, given)
    return low, high
