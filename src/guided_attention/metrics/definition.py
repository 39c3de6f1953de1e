"""DistanceDefinition: how distances between surfaces are measured, named wherever they are reported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from guided_attention._checks import require
from guided_attention.metrics._inputs import as_choice, as_number

__all__ = ["Combine", "DistanceDefinition", "OneEmpty", "Surface"]

Surface: TypeAlias = Literal["voxel", "surfel", "mesh"]
"""What counts as the surface of a mask: see `surface_distances`."""

Combine: TypeAlias = Literal["max", "pooled"]
"""How the percentiles of two directions become one number: see `SurfaceDistances.hausdorff_mm`."""

OneEmpty: TypeAlias = Literal["inf", "diagonal"]
"""The distance of an organ that only one of two volumes has: infinite, or the length of the image's diagonal."""


@dataclass(frozen=True)
class DistanceDefinition:
    """What the distances in a report are: programs differ, and so do their numbers.

    Attributes:
        surface: ``"voxel"``, ``"surfel"`` or ``"mesh"``, see `surface_distances`.
        combine: ``"max"`` takes a percentile of each direction, then the larger one; ``"pooled"`` takes one percentile
            of both directions together.
        tolerance_mm: Surface points within this distance count as matching in `surface_dice`; None leaves the surface
            Dice out.
        one_empty: Distance of an organ that is missed or falsely found: ``"inf"``, or ``"diagonal"`` for the length of
            the image's diagonal, which no distance in the image exceeds.

    Raises:
        ArgumentError: A choice is unknown, or the tolerance is negative or infinite.

    Example:
        >>> print(DistanceDefinition(tolerance_mm=2))
        surface: voxel; HD95 of both directions: max; organ in only one volume: inf; tolerance in mm: 2
    """

    surface: Surface = "voxel"
    combine: Combine = "max"
    tolerance_mm: float | None = None
    one_empty: OneEmpty = "inf"

    def __post_init__(self) -> None:
        """Check every choice."""
        as_choice("surface", self.surface, get_args(Surface))
        as_choice("combine", self.combine, get_args(Combine))
        as_choice("one_empty", self.one_empty, get_args(OneEmpty))
        if self.tolerance_mm is not None:
            tolerance_mm = as_number("tolerance_mm", self.tolerance_mm)
            good = 0 <= tolerance_mm < math.inf
            require(good, "tolerance_mm", "0 or more and finite", tolerance_mm)
            object.__setattr__(self, "tolerance_mm", tolerance_mm)

    def __str__(self) -> str:
        """Return the definition as one line for a report."""
        parts: dict[str, str] = {
            "surface": self.surface,
            "HD95 of both directions": self.combine,
            "organ in only one volume": self.one_empty,
        }
        if self.tolerance_mm is not None:
            parts["tolerance in mm"] = f"{self.tolerance_mm:g}"
        return "; ".join(f"{what}: {value}" for what, value in parts.items())

    def missing_mm(self, shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
        """Return the distance in millimetres of an organ that only one volume of this shape has.

        Example:
            >>> DistanceDefinition(one_empty="diagonal").missing_mm((3, 4), (1.0, 1.0))
            5.0
        """
        if self.one_empty == "inf":
            return math.inf
        return math.hypot(*(size * length for size, length in zip(shape, spacing_mm, strict=True)))
