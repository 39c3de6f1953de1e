"""Where the voxels of a phantom lie: in the scanner, in millimetres, and in the body of one subject."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import cos, radians, sin
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._typing import Affine, SpacingMm

__all__ = ["Body", "Extent", "Field", "Geometry", "Mask", "Space", "oval_radius", "smooth"]

Field: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
Extent: TypeAlias = tuple[Field, Field]


@dataclass(frozen=True)
class Body:
    """Half width and half depth of the body, and thickness of its fat, in millimetres."""

    wide_mm: float
    deep_mm: float
    fat_mm: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Body":
        """Return the body of another subject."""
        wide = rng.uniform(140, 172)
        return cls(wide, wide * rng.uniform(0.64, 0.8), rng.uniform(8, 26))


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels lie, in DICOM's directions (x to the left, y to the back, z to the head).

    Under a tilted gantry the back of each slice lies higher, and the table still moves along z.

    Attributes:
        shape: Voxels, (z, y, x).
        spacing_mm: Step of the table, and side of a pixel.
        first_mm: The first voxel, before the gantry is tilted about the x-axis.
        tilt_degrees: How far it is tilted.
    """

    shape: tuple[int, int, int]
    spacing_mm: SpacingMm
    first_mm: tuple[float, float, float]
    tilt_degrees: float = 0.0

    @property
    def row_step(self) -> tuple[float, float, float]:
        """The direction from a row to the next, as `ImageOrientationPatient` has it."""
        return (0.0, cos(radians(self.tilt_degrees)), sin(radians(self.tilt_degrees)))

    def position_mm(self, index: int) -> tuple[float, float, float]:
        """Return where the first voxel of a slice lies."""
        left, back, head = self.first_mm
        _, y, z = self.row_step
        return left, back * y, head + index * self.spacing_mm[0] + back * z

    @classmethod
    def random(cls, rng: np.random.Generator, body: Body, size: int) -> "Geometry":
        """Return a field of view that holds the body, of `size` by `size` pixels a slice."""
        field_mm = float(np.clip(2 * body.wide_mm * rng.uniform(1.12, 1.3), 256 * 1.36, 256 * 1.89))
        pixel = round(field_mm / size, 5)
        step = round(rng.uniform(5.5, 9.0), 2)
        count = int(np.clip(round(rng.uniform(225, 280) / step), 26, 50))
        corner = -pixel * (size - 1) / 2
        lowest = rng.uniform(-8, 8) - step * (count - 1) / 2
        left, back = round(corner + rng.uniform(-6, 6), 3), round(corner + rng.uniform(-6, 6), 3)
        return cls((count, size, size), (step, pixel, pixel), (left, back, round(lowest, 3)))

    @property
    def affine(self) -> Affine:
        (z, y, x), (_, along, up) = self.spacing_mm, self.row_step
        left, back, head = self.position_mm(0)
        rows = [[-x, 0, 0, -left], [0, -y * along, 0, -back], [0, y * up, z, head], [0, 0, 0, 1]]
        return np.array(rows, dtype=np.float64)

    def axes_mm(self) -> list[npt.NDArray[np.floating]]:
        """Return the coordinates along z, y and x, before the gantry is tilted."""
        starts = reversed(self.first_mm)
        return [
            start + step * np.arange(n)
            for start, step, n in zip(starts, self.spacing_mm, self.shape, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Space:
    """Where each voxel lies in the subject: bent and scaled so that one anatomy fits all.

    Attributes:
        u: From the right (-1) to the left (1) of the body inside its fat.
        v: From the front (-1) to the back (1).
        w: From feet to head, in centimetres of a subject of medium height.
        body: Radius in the cross-section of the body, fat included; 1 at the skin.
        bumps: Two smooth fields of unit variance, for uneven surfaces.
    """

    u: Field
    v: Field
    w: Field
    body: Field
    bumps: tuple[Field, Field]

    @cached_property
    def extents(self) -> tuple[Extent, Extent, Extent]:
        """Return the smallest and largest w of each plane, v of each row and u of each column."""
        w, v, u = (
            (field.min(axis=axes), field.max(axis=axes))
            for field, axes in ((self.w, (1, 2)), (self.v, (0, 2)), (self.u, (0, 1)))
        )
        return w, v, u

    @classmethod
    def random(cls, rng: np.random.Generator, body: Body, geometry: Geometry) -> "Space":
        """Return the space of one subject, bent at random."""
        axes = geometry.axes_mm()
        z, y, x = np.ix_(*(axis.astype(np.float32) for axis in axes))
        _, along, up = geometry.row_step
        z, y = z + np.float32(up) * y, np.float32(along) * y
        outline = oval_radius(x / body.wide_mm, y / body.deep_mm) + 0.012 * smooth(rng, axes, modes=4)
        bend = [smooth(rng, axes, modes=4) for _ in range(3)]
        turn, height = radians(rng.uniform(-5, 5)), rng.uniform(0.9, 1.1)
        right, back = x + 3.5 * bend[0], y + 3.0 * bend[1]
        u = (cos(turn) * right + sin(turn) * back) / (body.wide_mm - body.fat_mm)
        v = (cos(turn) * back - sin(turn) * right) / (body.deep_mm - 0.8 * body.fat_mm)
        bumps = (smooth(rng, axes, modes=7), smooth(rng, axes, modes=9))
        return cls(_f32(u), _f32(v), _f32((z + 4.0 * bend[2]) / (10 * height)), outline, bumps)


def _f32(values: npt.NDArray[Any]) -> Field:
    return values.astype(np.float32, copy=False)


def oval_radius(u: Field, v: Field) -> Field:
    """Return the radius in a body cross-section: an oval with flat flanks and a flatter back."""
    flat = v / np.where(v > 0, np.float32(0.93), np.float32(1))
    return _f32((np.abs(u) ** 2.4 + np.abs(flat) ** 2.4) ** (1 / 2.4))


def smooth(rng: np.random.Generator, axes_mm: Iterable[npt.NDArray[np.floating]], *, modes: int) -> Field:
    """Return a smooth random field of unit variance: waves of up to `modes` half periods in 400 mm.

    Wavelengths are in millimetres, so that the same random numbers give the same anatomy at every size.
    """
    order = np.arange(1, modes + 1)
    z, y, x = (
        np.cos(np.pi * order[:, None] * axis / 400 + rng.uniform(0, 2 * np.pi, (modes, 1)))
        for axis in axes_mm
    )
    decay = 1 / np.sqrt(order[:, None, None] ** 2 + order[:, None] ** 2 + order**2)
    weights = rng.standard_normal(decay.shape) * decay / np.sqrt((decay**2).sum() / 8)
    planes = np.einsum("klm,ly,mx->kyx", weights, y, x, optimize=True)
    field: Field = np.tensordot(z.astype(np.float32), planes.astype(np.float32), axes=(0, 0))
    return field
