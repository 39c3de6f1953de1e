"""How large slices are for the network: their pixels, and the size that training sees."""

from dataclasses import dataclass, replace
from math import ceil, floor, log10, sqrt

import torch

from guided_attention.preparation import Fingerprint, Preparation

__all__ = ["Shapes", "fitted_to_slices"]

_EQUAL = 1.1
"""Spacings that differ by less are left as they are."""
_PIXELS = {"cpu": 96 * 128, "cuda": 256 * 256}
"""Most pixels of the median slice."""
_MULTIPLE = 16
"""The grid of the attention of MSGA lite is a sixteenth of the slice's sides."""
_FLOAT, _CLASS = 4, 1


@dataclass(frozen=True)
class Shapes:
    """The prepared volumes of the training cases: number, slices of the median one, and how far apart they are."""

    cases: int
    channels: int
    depth: int
    pixels: int
    between_mm: float

    @classmethod
    def of(cls, preparation: Preparation) -> "Shapes":
        """Return the shapes that a fitted preparation makes of its cohort."""
        seen = _fingerprint(preparation)
        target = preparation.spacing_mm if isinstance(preparation.spacing_mm, tuple) else (None, None, None)
        sides = [
            max(low, round(length * (1.0 if new is None else old / new)))
            for length, old, new, low in zip(
                seen.sizes[1][1:], seen.spacings_mm[1][1:], target[1:], preparation.min_size, strict=True
            )
        ]
        depth, between = round(seen.sizes[1][0]), seen.spacings_mm[1][0]
        return cls(seen.cases, seen.channels, depth, sides[0] * sides[1], between)

    @property
    def bytes_of_volumes(self) -> int:
        """Memory of all prepared volumes with their labels."""
        return self.cases * self.depth * self.pixels * (_FLOAT * self.channels + _CLASS)


def fitted_to_slices(
    preparation: Preparation, *, is_ct: bool, device: torch.device, why: dict[str, str]
) -> tuple[Preparation, tuple[int, int]]:
    """Return a preparation with the pixels and the padding that suit its cohort, and the size of slices in training."""
    seen = _fingerprint(preparation)
    names = (
        [type(one).__name__ for one in preparation.intensity]
        if isinstance(preparation.intensity, tuple)
        else []
    )
    why["preparation.intensity"] = f"{', '.join(sorted(set(names)))}: " + (
        "values below -200 in every scan, so CT, whose numbers mean the same in all of them"
        if is_ct
        else "no Hounsfield units in every scan, so each is brought to its own mean and deviation"
    )
    why["preparation.slice_axis"] = "the axis of the largest spacing, axial where all are equal"
    target = _pixel_mm(seen, _PIXELS.get(device.type, _PIXELS["cuda"]), device, why)
    scale = [1.0 if target is None else old / target for old in seen.spacings_mm[1][1:]]
    height, width = (
        _MULTIPLE * ceil(round(length * factor, 6) / _MULTIPLE)
        for length, factor in zip(seen.sizes[1][1:], scale, strict=True)
    )
    sides = " x ".join(
        f"{length * factor:.0f}" for length, factor in zip(seen.sizes[1][1:], scale, strict=True)
    )
    why["sampling.size"] = why["preparation.min_size"] = (
        f"the median slice has {sides} pixels as the network sees it, rounded up to multiples of {_MULTIPLE}; "
        "smaller slices are padded, of larger ones training sees a part"
    )
    spacing = None if target is None else (None, target, target)
    return replace(preparation, spacing_mm=spacing, min_size=(height, width)), (height, width)


def _pixel_mm(seen: Fingerprint, most: int, device: torch.device, why: dict[str, str]) -> float | None:
    """Return the side of a pixel in millimetres; None keeps that of the scans."""
    _, height, width = seen.spacings_mm[1]
    pixels = seen.sizes[1][1] * seen.sizes[1][2]
    coarser = sqrt(max(1.0, pixels / most))
    lengths = [length for spacing in seen.spacings_mm for length in spacing[1:]]
    about = f"pixels are {min(lengths):.3g} to {max(lengths):.3g} mm wide"
    if coarser < _EQUAL and max(lengths) / min(lengths) < _EQUAL:
        why["preparation.spacing_mm"] = f"{about}: nearly equal, so slices are not resampled"
        return None
    target = _rounded_up(sqrt(height * width) * coarser)
    made = f"{about}; {target:.3g} mm"
    why["preparation.spacing_mm"] = (
        f"{made} give the median slice at most the {most:,} pixels that a {device.type} trains with in time"
        if coarser >= _EQUAL
        else f"{made} is the median"
    )
    return target


def _rounded_up(length: float) -> float:
    """Return a length rounded up to two digits."""
    unit = 10.0 ** (floor(log10(length)) - 1)
    return round(ceil(round(length / unit, 6)) * unit, 9)


def _fingerprint(preparation: Preparation) -> Fingerprint:
    assert preparation.fingerprint is not None  # noqa: S101 - the preparation is fitted
    return preparation.fingerprint
