"""How large scans are for the network: dimensions, voxels, and the size of the patches that training sees."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, floor, log10, prod, sqrt
from typing import Literal, TypeAlias

import torch

from guided_attention._geometry import FEW_SLICES
from guided_attention.preparation import Fingerprint, Preparation
from guided_attention.sampling import fit_patch

__all__ = ["STRIDE", "Dimensions", "Shapes", "chosen_dimensions", "fitted"]

Dimensions: TypeAlias = Literal["2d", "2.5d", "3d"]
"""Slices, slices with their neighbours as channels, or volumes."""

_EQUAL = 1.1
"""Spacings that differ by less are left as they are."""
_ANISOTROPIC = 3.0
"""Slices that lie more than so many times their pixels apart have neighbours of another anatomy."""
_PIXELS = {"cpu": 96 * 128, "cuda": 256 * 256}
"""Most pixels of the median slice."""
_VOXELS = {"cpu": 64**3, "cuda": 256**3}
"""Most voxels of the median volume, where networks see volumes."""
_PATCH = {"cpu": 64**3, "cuda": 128**3}
"""Most voxels of a patch of a volume, where memory allows them."""
_AT_ONCE = 2
"""Patches of volumes that have to fit into memory."""
STRIDE = 32
"""That of the coarsest maps of MSGA lite, which fills other sides up to a multiple of it by itself."""
_NEIGHBOURS_MM, _MOST_NEIGHBOURS = 2.5, 2
"""How far neighbours reach on either side, and how many there are at most."""
_FLOAT, _CLASS = 4, 1


@dataclass(frozen=True)
class Shapes:
    """The prepared volumes of the training cases: number, channels, sides of the median one, and its spacing."""

    cases: int
    channels: int
    sides: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, preparation: Preparation) -> "Shapes":
        """Return the shapes that a fitted preparation makes of its cohort."""
        seen = _fingerprint(preparation)
        target = preparation.spacing_mm if isinstance(preparation.spacing_mm, tuple) else (None, None, None)
        least = (1,) * (3 - len(preparation.min_size)) + preparation.min_size
        spacing = [old if new is None else new for old, new in zip(seen.spacings_mm[1], target, strict=True)]
        depth, height, width = (
            max(low, round(length * old / new))
            for length, old, new, low in zip(seen.sizes[1], seen.spacings_mm[1], spacing, least, strict=True)
        )
        return cls(seen.cases, seen.channels, (depth, height, width), (spacing[0], spacing[1], spacing[2]))

    @property
    def voxels(self) -> int:
        """Voxels of all prepared volumes."""
        return self.cases * prod(self.sides)

    @property
    def bytes_of_volumes(self) -> int:
        """Memory of all prepared volumes with their labels."""
        return self.voxels * (_FLOAT * self.channels + _CLASS)


def chosen_dimensions(
    seen: Fingerprint, asked: Dimensions | None, device: torch.device, why: dict[str, str]
) -> Dimensions:
    """Return whether the network sees slices, slices with neighbours or volumes, and write down why."""
    depth, height, width = seen.spacings_mm[1]
    ratio, slices = depth / sqrt(height * width), round(seen.sizes[1][0])
    said = f"slices are {depth:.3g} mm apart, {ratio:.2g} times the side of a pixel"
    if asked is not None:
        chosen, reason = asked, "as asked"
    elif slices < FEW_SLICES:
        chosen, reason = "2d", f"scans have fewer than {FEW_SLICES} slices, too few for neighbours"
    elif ratio > _ANISOTROPIC:
        chosen, reason = "2d", f"{said}: neighbours show other anatomy"
    elif device.type == "cpu" or slices < STRIDE:
        slow = "volumes need more time than a CPU gives them"
        but = slow if device.type == "cpu" else f"there are {slices} of them, few for volumes"
        chosen, reason = "2.5d", f"{said}: neighbours show the same organs; {but}"
    else:
        chosen, reason = "3d", f"{said}, and a GPU has the time for volumes"
    names = {"2d": "slices", "2.5d": "slices with their neighbours as channels", "3d": "volumes"}
    why["sampling.size"] = f"{names[chosen]}: {reason}"
    return chosen


def fitted(
    preparation: Preparation,
    dimensions: Dimensions,
    *,
    is_ct: bool,
    device: torch.device,
    held: Callable[[], int],
    why: dict[str, str],
) -> tuple[Preparation, tuple[int, ...]]:
    """Return a preparation with the voxels and padding that suit its cohort, and the largest size of patches.

    `held` tells how many voxels of volumes a step can train on in the free memory.
    """
    seen = _fingerprint(preparation)
    _say_intensity(preparation, is_ct=is_ct, why=why)
    few = seen.sizes[1][0] < FEW_SLICES
    why["preparation.slice_axis"] = (
        f"pictures: the axis along which scans have fewer than {FEW_SLICES} voxels"
        if few
        else "the axis of the largest spacing, axial where all are equal"
    )
    if dimensions == "3d":
        return _fitted_to_volumes(preparation, seen, device, held(), why)
    return _fitted_to_slices(preparation, seen, dimensions, device, why)


def _say_intensity(preparation: Preparation, *, is_ct: bool, why: dict[str, str]) -> None:
    given = preparation.intensity
    names = [type(one).__name__ for one in given] if isinstance(given, tuple) else []
    why["preparation.intensity"] = f"{', '.join(sorted(set(names)))}: " + (
        "values below -200 in every scan, so CT, whose numbers mean the same in all of them"
        if is_ct
        else "no Hounsfield units in every scan, so each is brought to its own mean and deviation"
    )


def _fitted_to_slices(
    preparation: Preparation,
    seen: Fingerprint,
    dimensions: Dimensions,
    device: torch.device,
    why: dict[str, str],
) -> tuple[Preparation, tuple[int, ...]]:
    target = _pixel_mm(seen, _PIXELS.get(device.type, _PIXELS["cuda"]), device, why)
    scale = [1.0 if target is None else old / target for old in seen.spacings_mm[1][1:]]
    sides = [length * factor for length, factor in zip(seen.sizes[1][1:], scale, strict=True)]
    height, width = (_rounded_to_multiple(side) for side in sides)
    why["preparation.min_size"] = (
        f"the median slice has {sides[0]:.0f} x {sides[1]:.0f} pixels as the network sees it, rounded up to multiples "
        f"of {STRIDE}; smaller slices are padded, of larger ones training sees a part"
    )
    spacing = None if target is None else (None, target, target)
    neighbours = 0
    if dimensions == "2.5d":
        between = seen.spacings_mm[1][0]
        neighbours = min(_MOST_NEIGHBOURS, max(1, round(_NEIGHBOURS_MM / between)))
        why["preparation.neighbours"] = (
            f"slices are {between:.3g} mm apart, and neighbours reach {_NEIGHBOURS_MM} mm, with at least one and at "
            f"most {_MOST_NEIGHBOURS} on either side"
        )
    made = replace(preparation, spacing_mm=spacing, min_size=(height, width), neighbours=neighbours)
    return made, (height, width)


def _fitted_to_volumes(
    preparation: Preparation, seen: Fingerprint, device: torch.device, held: int, why: dict[str, str]
) -> tuple[Preparation, tuple[int, ...]]:
    most, patch = (table.get(device.type, table["cuda"]) for table in (_VOXELS, _PATCH))
    # A memory too small for any patch is no reason to refuse: the batch gets smaller then.
    budget = max(_AT_ONCE * STRIDE**3, min(held, _AT_ONCE * patch))
    spacing = _voxel_mm(seen, most, device, why)
    sides = [
        length * old / new
        for length, old, new in zip(seen.sizes[1], seen.spacings_mm[1], spacing, strict=True)
    ]
    whole = [_rounded_to_multiple(side) for side in sides]
    size, _ = fit_patch(whole, spacing, budget, prod, voxels=prod(whole), multiple=(STRIDE,) * len(whole))
    why["preparation.min_size"] = (
        f"the median volume has {' x '.join(f'{side:.0f}' for side in sides)} voxels as the network sees it; patches "
        f"have at most {patch:,} voxels, and half of the free memory, which holds {held:,} voxels, takes {_AT_ONCE}; "
        f"sides are multiples of {STRIDE}, and smaller volumes are padded"
    )
    depth, height, width = (_rounded_to_multiple(side) for side in size)
    made = replace(preparation, spacing_mm=spacing, min_size=(depth, height, width))
    return made, (depth, height, width)


def _voxel_mm(
    seen: Fingerprint, most: int, device: torch.device, why: dict[str, str]
) -> tuple[float, float, float]:
    """Return the sides of a voxel: the median, isotropic where it is nearly so, coarser where volumes are too large."""
    spacing = list(seen.spacings_mm[1])
    fine, coarse = min(spacing), max(spacing)
    if coarse <= _ANISOTROPIC * fine:
        spacing = [prod(spacing) ** (1 / 3)] * 3
    extent = [length * old for length, old in zip(seen.sizes[1], seen.spacings_mm[1], strict=True)]
    while prod(length / side for length, side in zip(extent, spacing, strict=True)) > most:
        # The finest sides grow first, so that voxels come nearer to cubes.
        least = min(spacing)
        spacing = [side * _STEP if side < _EQUAL * least else side for side in spacing]
    depth, height, width = (_rounded_up(side) for side in spacing)
    why["preparation.spacing_mm"] = (
        f"the median voxel is {' x '.join(f'{side:.3g}' for side in seen.spacings_mm[1])} mm; these give the median "
        f"volume at most about the {most:,} voxels that a {device.type} trains with in time"
    )
    return depth, height, width


_STEP = 1.02
"""Growth of a side from one try to the next."""


def _rounded_to_multiple(side: float) -> int:
    return STRIDE * ceil(round(side, 6) / STRIDE)


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
