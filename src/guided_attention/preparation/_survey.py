"""What `Preparation.fit` collects, one case after another."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import counted, require, require_type
from guided_attention._geometry import CANONICAL, anatomical_order, reorientation, slice_axis_of, spacing_of
from guided_attention._typing import Affine, SliceAxis, SpacingMm
from guided_attention.case import Case
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation.fingerprint import Fingerprint, Observed, Quantiles, quantiles_of, scaled
from guided_attention.preparation.intensity import CohortPercentiles, Intensity, Scale, ZScore

__all__ = ["Survey", "per_channel", "rounded_spacing"]

_PLAIN = CANONICAL["axial"]
_SAMPLES = 20_000
"""Voxels of the foreground that a case and channel contributes, evenly spaced over it."""
_BITS = 20


def rounded_spacing(affine: Affine) -> SpacingMm:
    """Return the spacing rounded to 20 binary digits, about one part in a million.

    The affines of one scan in two storage orders differ in their last digits; without the rounding, so would the grids.
    """
    z, y, x = (_rounded(length) for length in spacing_of(affine))
    return (z, y, x)


def _rounded(length: float) -> float:
    mantissa, exponent = math.frexp(length)
    return math.ldexp(round(math.ldexp(mantissa, _BITS)), exponent - _BITS)


def per_channel(
    intensities: Intensity | tuple[Intensity, ...] | None, channels: int
) -> tuple[Intensity | None, ...]:
    """Return the intensity record of each channel; raise where a tuple has not one for each."""
    if not isinstance(intensities, tuple):
        return (intensities,) * channels
    wanted = f"one record for all channels, or one for each of {channels}"
    require(len(intensities) == channels, "intensity", wanted, counted(len(intensities), "record"))
    return intensities


class Survey:
    """Collects sizes, spacings, orientations and intensities of a cohort, and samples of its foreground.

    Args:
        labels: Which voxels are ignored; None where none are.
        intensities: A tuple with one for each channel, or one for all; None leaves the intensities as they are.
    """

    def __init__(
        self, labels: LabelSpec | None, intensities: Intensity | tuple[Intensity, ...] | None
    ) -> None:
        self._ignored = None if labels is None else labels.ignore_value
        self._intensities = intensities
        self._affines: list[Affine] = []
        self._sizes: list[tuple[int, ...]] = []
        self._orientations: list[str] = []
        self._quantiles: list[list[Quantiles]] = []
        self._scales: list[list[Scale | None]] = []
        self._foreground: list[list[npt.NDArray[np.float32]]] = []
        self._names: tuple[str, ...] = ()
        self._first = ""

    def add(self, case: object) -> None:
        """Take in one case."""
        require_type("cases", case, Case, "cases")
        assert isinstance(case, Case)  # noqa: S101 - for the type checker
        self._check_channels(case)
        turn = reorientation(case.affine, _PLAIN)
        image = turn.apply(case.image)
        self._affines.append(turn.affine(case.affine, case.image.shape[1:]))
        self._sizes.append(image.shape[1:])
        self._orientations.append(case.orientation)
        self._quantiles.append([quantiles_of(channel) for channel in image])
        per_channel = self._per_channel(len(image))
        where = f"image of case {case.case_id!r}"
        self._scales.append(
            [
                one.scale(channel, where) if isinstance(one, ZScore) else None
                for channel, one in zip(image, per_channel, strict=True)
            ]
        )
        if any(isinstance(one, CohortPercentiles) for one in per_channel):
            self._foreground.append(self._samples(image, turn.apply(_labels_of(case))))

    def _check_channels(self, case: Case) -> None:
        if not self._affines:
            self._names, self._first = case.channel_names, case.case_id
            return
        wanted, got = len(self._quantiles[0]), case.image.shape[0]
        where = f"channels of case {case.case_id!r}"
        require(
            got == wanted, where, f"as many as those of case {self._first!r}, {wanted}", got, error=DataError
        )
        same = case.channel_names == self._names
        cure = "Read all cases with their channels in one order."
        require(
            same,
            where,
            f"{self._names} as in case {self._first!r}",
            case.channel_names,
            cure,
            error=DataError,
        )

    def _samples(
        self, image: npt.NDArray[np.float32], labels: npt.NDArray[Any]
    ) -> list[npt.NDArray[np.float32]]:
        inside = labels > 0
        if self._ignored is not None:
            inside &= labels != self._ignored
        places = np.flatnonzero(inside)
        kept = places[:: max(1, places.size // _SAMPLES)]
        index = np.unravel_index(kept, labels.shape)
        return [channel[index] for channel in image]

    def _per_channel(self, channels: int) -> tuple[Intensity | None, ...]:
        return per_channel(self._intensities, channels)

    def require_cases(self) -> None:
        """Raise where no case was added."""
        require(bool(self._affines), "cases", "at least one case", "none", error=DataError)

    @property
    def slice_axis(self) -> SliceAxis:
        """The axis of the largest spacing over the cohort, of pictures that of the fewest voxels: `slice_axis_of`."""
        return slice_axis_of([*zip(self._affines, self._sizes, strict=True)])

    def intensities(self) -> tuple[Intensity, ...] | None:
        """Return one record a channel, with the numbers of the cohort filled in."""
        if self._intensities is None:
            return None
        fitted: list[Intensity] = []
        for channel, one in enumerate(self._per_channel(len(self._quantiles[0]))):
            if isinstance(one, CohortPercentiles):
                values = np.concatenate([samples[channel] for samples in self._foreground])
                require(values.size > 0, "labels of cases", "of at least one organ", "none", error=DataError)
                fitted.append(one.fitted(values, "cases"))
            elif one is not None:
                fitted.append(one)
        return tuple(fitted)

    def fingerprint(self, slice_axis: SliceAxis, intensities: tuple[Intensity, ...] | None) -> Fingerprint:
        """Return the fingerprint in the canonical orientation of a slice axis."""
        target, order = CANONICAL[slice_axis], anatomical_order(slice_axis)
        observed = []
        for number, quantiles in enumerate(self._quantiles):
            scales = [
                known if known is not None else _fixed_scale(intensities, channel)
                for channel, known in enumerate(self._scales[number])
            ]
            size, affine = self._sizes[number], self._affines[number]
            # Under shear, the distance between slices depends on which axis they lie along.
            spacing = rounded_spacing(reorientation(affine, target).affine(affine, size))
            observed.append(
                Observed(
                    (size[order[0]], size[order[1]], size[order[2]]),
                    spacing,
                    self._orientations[number],
                    tuple(quantiles),
                    tuple(scaled(one, scale) for one, scale in zip(quantiles, scales, strict=True)),
                )
            )
        return Fingerprint.of(observed, self._names)


def _fixed_scale(intensities: tuple[Intensity, ...] | None, channel: int) -> Scale:
    if intensities is None:
        return Scale()
    one = intensities[channel]
    assert not isinstance(one, ZScore)  # noqa: S101 - its scale is the case's own
    return one.scale(None, "")


def _labels_of(case: Case) -> npt.NDArray[Any]:
    if case.labels is None:
        message = f"`labels` of case {case.case_id!r} must be given to fit CohortPercentiles, got None."
        raise DataError(message, argument="cases")
    return case.labels
