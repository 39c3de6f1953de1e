"""Anatomy of a phantom: organs as uneven ellipsoids, painted over each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
import numpy.typing as npt

from guided_attention.data.phantom._frame import Extent, Field, Mask, Space, oval_radius
from guided_attention.data.phantom._tissues import BOWEL, INDEX

__all__ = ["paint"]

_REACH = 1.9


@dataclass(frozen=True)
class _Blob:
    """An uneven ellipsoid: centre and radii in (u, v, w), turned in the axial plane, leaning along w."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    turn: float = 0.0
    lean: float = 0.0
    bumps: tuple[float, float] = (0.0, 0.0)

    def varied(self, rng: np.random.Generator, *, place: float = 0.03, size: float = 0.1) -> "_Blob":
        """Return this organ in another person."""
        shift = rng.uniform(-place, place, 3) * (1, 1, 15)
        grow = rng.uniform(1 - size, 1 + size) * rng.uniform(1 - size / 2, 1 + size / 2, 3)
        x, y, z = (float(c + s) for c, s in zip(self.centre, shift, strict=True))
        a, b, c = (float(r * g) for r, g in zip(self.radii, grow, strict=True))
        turn, bumps = self.turn + rng.uniform(-8, 8), rng.normal(0, 0.06, 2)
        return _Blob((x, y, z), (a, b, c), turn, self.lean, (float(bumps[0]), float(bumps[1])))

    def radius(self, space: Space) -> Field:
        """Return the distance from the centre in radii: below 1 is inside, infinite where it is far."""
        radius = np.full(space.u.shape, np.inf, dtype=np.float32)
        box = self._box(space)
        w = space.w[box] - self.centre[2]
        u, v = space.u[box] - self.centre[0] - self.lean * w, space.v[box] - self.centre[1]
        c, s = cos(radians(self.turn)), sin(radians(self.turn))
        along, across = (c * u + s * v) / self.radii[0], (c * v - s * u) / self.radii[1]
        uneven = self.bumps[0] * space.bumps[0][box] + self.bumps[1] * space.bumps[1][box]
        radius[box] = np.sqrt(along**2 + across**2 + (w / self.radii[2]) ** 2) + uneven
        return radius

    def _box(self, space: Space) -> tuple[slice, slice, slice]:
        """Return the part of the volume that the organ can reach, so that the rest costs no time."""
        flat = max(self.radii[:2])
        z, y, x = (
            _reached(extent, centre, _REACH * radius)
            for extent, centre, radius in zip(
                space.extents, reversed(self.centre), (self.radii[2], flat, flat), strict=True
            )
        )
        return z, y, x


def _reached(extent: Extent, centre: float, radius: float) -> slice:
    inside = np.flatnonzero((extent[0] < centre + radius) & (extent[1] > centre - radius)).tolist()
    return slice(inside[0], inside[-1] + 1) if inside else slice(0)


# Where organs lie, in the order they are painted: later over earlier. Radii of 99 run the whole length.
_DIGESTIVE: Mapping[str, _Blob] = {
    "pancreas": _Blob((0.1, -0.02, 0.8), (0.42, 0.12, 1.7), turn=-14),
    "stomach": _Blob((0.36, -0.34, 4.8), (0.36, 0.36, 4.2), turn=30),
}
_LIVER = (
    _Blob((-0.42, 0.0, 2.6), (0.5, 0.76, 8.3), turn=-8),
    _Blob((-0.02, -0.44, 5.2), (0.52, 0.32, 4.4), turn=8),
)
_GALLBLADDER = _Blob((-0.22, -0.42, -0.6), (0.085, 0.14, 2.6), turn=20)
_SPLEEN = _Blob((0.62, 0.3, 4.6), (0.2, 0.42, 4.8), turn=-22)
_HEART = _Blob((0.1, -0.25, 13.0), (0.42, 0.42, 3.6))
_SPINE: Mapping[str, _Blob] = {
    "muscle": _Blob((0.0, 0.74, 0.0), (0.42, 0.17, 99)),
    "bone": _Blob((0.0, 0.8, 0.0), (0.11, 0.13, 99)),
    "marrow": _Blob((0.0, 0.5, 0.0), (0.165, 0.19, 99)),
    "csf": _Blob((0.0, 0.735, 0.0), (0.065, 0.07, 99)),
    "cord": _Blob((0.0, 0.735, 0.0), (0.034, 0.04, 99)),
}
_PSOAS = (_Blob((-0.26, 0.5, -10.0), (0.12, 0.17, 11.0)), _Blob((0.26, 0.5, -10.0), (0.12, 0.17, 11.0)))
_VESSELS = (_Blob((0.06, 0.25, 0.0), (0.07, 0.1, 99)), _Blob((-0.13, 0.26, 0.0), (0.085, 0.095, 99)))
_COLON = (_Blob((-0.63, 0.12, -8.5), (0.15, 0.2, 6.0)), _Blob((0.64, 0.2, -6.0), (0.12, 0.16, 7.5)))
_KIDNEYS: Mapping[str, _Blob] = {
    "right": _Blob((-0.43, 0.42, -2.7), (0.19, 0.26, 5.3), turn=28, lean=-0.013),
    "left": _Blob((0.43, 0.42, -1.5), (0.19, 0.26, 5.4), turn=-28, lean=0.013),
}
_WALL, _CAVITY = 1.0, 0.87
_LOOPS = 60


def paint(rng: np.random.Generator, space: Space) -> npt.NDArray[np.uint8]:
    """Return which tissue fills each voxel, painted from the skin inwards and from the belly to the back."""
    canvas = np.zeros(space.u.shape, dtype=np.uint8)
    inner = oval_radius(space.u, space.v)
    cavity = inner < _CAVITY
    _fill(canvas, "skin fat", space.body < 1)
    _fill(canvas, "muscle", (inner < _WALL) & (canvas > 0))
    _fill(canvas, "bone", _ribs(space, inner) & (canvas > 0))
    _fill(canvas, "inner fat", cavity)
    _paint_bowel(rng, space, canvas, cavity)
    _paint_organs(rng, space, canvas, cavity)
    _paint_chest(rng, space, canvas, cavity)
    _paint_back(rng, space, canvas)
    _paint_kidneys(rng, space, canvas, inner)
    return canvas


def _fill(canvas: npt.NDArray[np.uint8], tissue: str, where: Mask) -> None:
    canvas[where] = INDEX[tissue]


def _ribs(space: Space, inner: Field) -> Mask:
    around = np.arctan2(space.v, space.u)
    bars, ring = np.cos(15 * around + 1.5 * space.w) > 0.72, np.abs(inner - 0.93) < 0.03  # noqa: PLR2004
    ribs: Mask = bars & ring & (space.w > -2)  # noqa: PLR2004
    return ribs


def _paint_bowel(rng: np.random.Generator, space: Space, canvas: npt.NDArray[np.uint8], cavity: Mask) -> None:
    _fill(canvas, "mesentery", (np.abs(space.bumps[1] - 0.4) < 0.05) & cavity)  # noqa: PLR2004
    for _ in range(_LOOPS):
        centre = (rng.uniform(-0.62, 0.62), rng.uniform(-0.72, 0.2), rng.uniform(-15, 2))
        radii = (rng.uniform(0.08, 0.22), rng.uniform(0.08, 0.19), rng.uniform(1.2, 3.4))
        loop = _Blob(centre, radii, rng.uniform(0, 180), bumps=(0.1, 0.1))
        _fill(canvas, BOWEL[rng.integers(len(BOWEL))], (loop.radius(space) < 1) & cavity)
    for colon in _COLON:
        radius = colon.varied(rng).radius(space)
        _fill(canvas, BOWEL[rng.integers(len(BOWEL))], (radius < 1) & cavity)
        _fill(canvas, "gas", (radius < 0.8) & (space.v < colon.centre[1] - 0.06) & cavity)  # noqa: PLR2004


def _paint_organs(
    rng: np.random.Generator, space: Space, canvas: npt.NDArray[np.uint8], cavity: Mask
) -> None:
    for tissue, organ in _DIGESTIVE.items():
        _fill(canvas, tissue, (organ.varied(rng).radius(space) < 1) & cavity)
    stomach_gas = (canvas == INDEX["stomach"]) & (space.v < rng.uniform(-0.6, -0.4))
    _fill(canvas, "gas", stomach_gas)
    lobes = [lobe.varied(rng, size=0.12).radius(space) for lobe in _LIVER]
    liver = np.minimum(*lobes)
    _fill(canvas, "inner fat", (liver < 1.04) & cavity)  # noqa: PLR2004
    _fill(canvas, "liver", (liver < 1) & cavity)
    _fill(canvas, "liver vessel", (np.abs(space.bumps[1]) < 0.04) & (canvas == INDEX["liver"]))  # noqa: PLR2004
    _fill(canvas, "bile", (_GALLBLADDER.varied(rng).radius(space) < 1) & cavity)
    spleen = _SPLEEN.varied(rng, size=0.18).radius(space)
    _fill(canvas, "inner fat", (spleen < 1.05) & cavity)  # noqa: PLR2004
    _fill(canvas, "spleen", (spleen < 1) & cavity)


def _paint_chest(rng: np.random.Generator, space: Space, canvas: npt.NDArray[np.uint8], cavity: Mask) -> None:
    dome = rng.uniform(9.3, 10.8) - 7 * (0.6 * space.u**2 + 0.8 * space.v**2) + 0.4 * space.bumps[0]
    _fill(canvas, "lung", cavity & (space.w > dome))
    _fill(canvas, "heart", (_HEART.varied(rng).radius(space) < 1) & (space.w > dome))


def _paint_back(rng: np.random.Generator, space: Space, canvas: npt.NDArray[np.uint8]) -> None:
    inside = canvas != INDEX["air"]
    for psoas in _PSOAS:
        _fill(canvas, "muscle", (psoas.varied(rng).radius(space) < 1) & inside)
    for tissue, part in _SPINE.items():
        radius = part.radius(space)
        _fill(canvas, tissue, (radius < 1) & inside)
        if tissue == "marrow":
            _fill(canvas, "bone", (np.abs(radius - 1) < 0.06) & inside)  # noqa: PLR2004
    discs = np.sin(2 * np.pi * space.w / 3.6 + rng.uniform(0, 6)) > 0.86  # noqa: PLR2004
    _fill(canvas, "disc", discs & (canvas == INDEX["marrow"]))
    for vessel in _VESSELS:
        _fill(canvas, "blood", (vessel.varied(rng, size=0.15).radius(space) < 1) & inside)


def _paint_kidneys(
    rng: np.random.Generator, space: Space, canvas: npt.NDArray[np.uint8], inner: Field
) -> None:
    inside = inner < 0.9  # noqa: PLR2004
    for side, organ in _KIDNEYS.items():
        kidney = organ.varied(rng, size=0.12)
        radius = kidney.radius(space)
        _fill(canvas, "inner fat", (radius < 1.13) & inside)  # noqa: PLR2004
        _fill(canvas, f"{side} cortex", (radius < 1) & inside)
        _fill(canvas, f"{side} medulla", (radius < 0.7) & inside)  # noqa: PLR2004
        towards_spine = -0.55 * float(np.sign(kidney.centre[0])) * kidney.radii[0]
        middle = (kidney.centre[0] + towards_spine, kidney.centre[1] - 0.05, kidney.centre[2])
        sinus = _Blob(middle, (0.13, 0.09, 0.42 * kidney.radii[2]), kidney.turn, bumps=(0.12, 0.12))
        _fill(canvas, "inner fat", (sinus.radius(space) < 1) & inside)
