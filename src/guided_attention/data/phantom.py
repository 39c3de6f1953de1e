"""Phantom: made-up abdominal MR scans with known organs, to try everything on before real data arrive."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import cos, radians, sin
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from guided_attention._checks import needs_extra, require, require_choice
from guided_attention._files import PathLike, whole_folder
from guided_attention._typing import Affine, SpacingMm
from guided_attention.case import Case

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

__all__ = ["PhantomSource", "make_phantom", "write_phantom_cohort"]

PhantomSource: TypeAlias = Literal["t1_in", "t1_out", "t1_dual", "t2"]
"""Which scan of a phantom: T1 in phase, T1 out of phase, both as two channels, or fat-suppressed T2."""

_Field: TypeAlias = npt.NDArray[np.float32]
_Mask: TypeAlias = npt.NDArray[np.bool_]
_Extent: TypeAlias = tuple[_Field, _Field]

_CHANNELS = {"t1_in": ("in",), "t1_out": ("out",), "t1_dual": ("in", "out"), "t2": ("t2",)}
_NOISE_STREAM = {"in": 1, "out": 2, "t2": 3}
_MINIMUM_SIZE = 16
_RECIPE = "phantom.json"
_VERSION = 1

# Signal of water and of fat in T1, signal in T2, class. Grey levels overlap on purpose: bowel, pancreas,
# heart and marrow look like organs, so that position and shape have to be learnt.
_TISSUES: Mapping[str, tuple[float, float, float, int]] = {
    "air": (0, 0, 0, 0),
    "skin fat": (30, 430, 70, 0),
    "inner fat": (40, 390, 65, 0),
    "muscle": (150, 8, 45, 0),
    "bone": (25, 5, 8, 0),
    "marrow": (130, 110, 90, 0),
    "disc": (150, 10, 150, 0),
    "csf": (70, 0, 420, 0),
    "cord": (180, 0, 180, 0),
    "blood": (110, 0, 25, 0),
    "lung": (14, 0, 12, 0),
    "heart": (160, 5, 80, 0),
    "stomach": (140, 0, 300, 0),
    "pancreas": (235, 35, 110, 0),
    "bile": (150, 0, 450, 0),
    "gas": (8, 0, 6, 0),
    "bowel 1": (110, 0, 120, 0),
    "bowel 2": (150, 5, 230, 0),
    "bowel 3": (190, 10, 280, 0),
    "bowel 4": (225, 15, 170, 0),
    "bowel 5": (255, 20, 90, 0),
    "bowel 6": (175, 60, 350, 0),
    "mesentery": (120, 130, 60, 0),
    "liver": (245, 18, 80, 1),
    "liver vessel": (110, 0, 25, 1),
    "right cortex": (210, 0, 260, 2),
    "right medulla": (170, 0, 300, 2),
    "left cortex": (210, 0, 260, 3),
    "left medulla": (170, 0, 300, 3),
    "spleen": (165, 0, 235, 4),
}
_INDEX = {name: index for index, name in enumerate(_TISSUES)}
_CLASSES = np.array([row[3] for row in _TISSUES.values()], dtype=np.uint8)
_BOWEL = [name for name in _TISSUES if name.startswith("bowel")]
_GREYS = np.array([0, 63, 126, 189, 252], dtype=np.uint8)


def make_phantom(
    seed: int = 0, *, subject: int = 1, size: int = 256, source: PhantomSource = "t1_in"
) -> Case:
    """Make one abdominal MR scan of a subject who does not exist, with liver, kidneys and spleen known.

    A body with its fat, wall, ribs, spine, great vessels, lung bases, stomach and bowel is drawn from
    ellipsoids whose place, size, tilt and surface vary from subject to subject. Each voxel has some signal of
    water ``W`` and of fat ``F``, mixed at edges by the blur of the scanner: T1 in phase is ``W + F``, out of
    phase ``|W - F|`` (dark lines round the organs), T2 has its fat suppressed. A smooth field of coil
    sensitivity multiplies it and the noise is Rician. Several tissues share the grey of an organ, so grey
    alone does not tell organs.

    The field of view is 348 to 484 mm whatever the size; at 256 pixels are 1.36 to 1.89 mm, slices lie 5.5 to
    9 mm apart, 26 to 50 of them, as in CHAOS. Same seed and subject give the same anatomy at every size.

    Args:
        seed: The cohort, 0 or above.
        subject: Which subject of the cohort, 1 or above.
        size: Height and width in pixels, at least 16.
        source: Which scan, as for `read_chaos`.

    Returns:
        The case, called after the subject; classes as in `CHAOS_MR_LABELS`.

    Raises:
        ValueError: Seed, subject or size is too small, or the source is unknown.

    Example:
        >>> case = make_phantom(0, size=32, source="t1_dual")
        >>> case.image.shape[0], case.image.shape[2:], sorted(set(case.labels.ravel().tolist()))
        (2, (32, 32), [0, 1, 2, 3, 4])
    """
    require_choice("source", source, tuple(_CHANNELS))
    scan = _scan(seed, subject, size)
    image = np.stack([scan.channel(name) for name in _CHANNELS[source]]).astype(np.float32)
    return Case(str(subject), image, scan.labels, scan.geometry.affine)


def write_phantom_cohort(folder: PathLike, *, subjects: int = 20, seed: int = 0, size: int = 256) -> Path:
    """Write made-up subjects as a CHAOS release (DICOM slices, PNG masks), for `read_chaos` to read.

    Subject ``n`` is ``make_phantom(seed, subject=n, size=size)`` in both phases of T1 and in T2. Same
    arguments, same pixels: a folder that already holds this very cohort is left as it is. About 14 MB a
    subject at 256 x 256.

    Args:
        folder: Where to; new or empty. It appears whole or not at all.
        subjects: How many.
        seed: Another seed, other people.
        size: Height and width in pixels.

    Returns:
        The folder, which holds ``Train_Sets/MR/<n>``.

    Raises:
        FileExistsError: The folder holds something else.
        ValueError: ``subjects`` is below 1, or see `make_phantom`.
        ModuleNotFoundError: pydicom is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     cohort = write_phantom_cohort(folder, subjects=2, size=16)
        ...     sorted(path.name for path in (cohort / "Train_Sets/MR").iterdir())
        ['1', '2']
    """
    require(subjects >= 1, "subjects", "1 or more", subjects)
    _check_numbers(seed, 1, size)
    with needs_extra("dicom"):
        import pydicom  # noqa: F401, PLC0415 - asked for before anything is written
    recipe = json.dumps({"version": _VERSION, "subjects": subjects, "seed": seed, "size": size})
    marker = Path(folder) / _RECIPE
    if marker.is_file() and marker.read_text(encoding="utf-8") == recipe:
        return Path(folder)

    def fill(draft: Path) -> None:
        for subject in range(1, subjects + 1):
            _write_subject(
                draft / "Train_Sets" / "MR" / str(subject), _scan(seed, subject, size), f"{seed}.{subject}"
            )
        (draft / _RECIPE).write_text(recipe, encoding="utf-8")

    return whole_folder(folder, fill)


def _check_numbers(seed: int, subject: int, size: int) -> None:
    require(seed >= 0, "seed", "0 or above", seed)
    require(subject >= 1, "subject", "1 or above", subject)
    require(size >= _MINIMUM_SIZE, "size", f"at least {_MINIMUM_SIZE}", size)


def _scan(seed: int, subject: int, size: int) -> "_Scan":
    _check_numbers(seed, subject, size)
    rng = np.random.default_rng([seed, subject, 0])
    body = _draw_body(rng)
    geometry = _draw_geometry(rng, body, size)
    space = _Space.of(rng, body, geometry)
    return _Scan(
        _paint(rng, space), _draw_signals(rng), _draw_textures(rng, geometry), geometry, (seed, subject)
    )


# --- the subject's frame ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Body:
    """Half width and half depth of the body, and thickness of its fat, in millimetres."""

    wide_mm: float
    deep_mm: float
    fat_mm: float


@dataclass(frozen=True, eq=False)
class _Geometry:
    """Where the voxels lie: `first_mm` is DICOM's position (x to the left, y to the back, z to the head)."""

    shape: tuple[int, int, int]
    spacing_mm: SpacingMm
    first_mm: tuple[float, float, float]

    @property
    def affine(self) -> Affine:
        (z, y, x), (left, back, head) = self.spacing_mm, self.first_mm
        affine = np.diag([-x, -y, z, 1.0]).astype(np.float64)
        affine[:3, 3] = (-left, -back, head)
        return affine

    def axes_mm(self) -> list[npt.NDArray[Any]]:
        """Return the coordinates along z, y and x."""
        starts = reversed(self.first_mm)
        return [
            start + step * np.arange(n)
            for start, step, n in zip(starts, self.spacing_mm, self.shape, strict=True)
        ]


def _draw_body(rng: np.random.Generator) -> _Body:
    wide = rng.uniform(140, 172)
    return _Body(wide, wide * rng.uniform(0.64, 0.8), rng.uniform(8, 26))


def _draw_geometry(rng: np.random.Generator, body: _Body, size: int) -> _Geometry:
    field_mm = float(np.clip(2 * body.wide_mm * rng.uniform(1.12, 1.3), 256 * 1.36, 256 * 1.89))
    pixel = round(field_mm / size, 5)
    step = round(rng.uniform(5.5, 9.0), 2)
    count = int(np.clip(round(rng.uniform(225, 280) / step), 26, 50))
    corner = -pixel * (size - 1) / 2
    lowest = rng.uniform(-8, 8) - step * (count - 1) / 2
    first = (round(corner + rng.uniform(-6, 6), 3), round(corner + rng.uniform(-6, 6), 3), round(lowest, 3))
    return _Geometry((count, size, size), (step, pixel, pixel), first)


@dataclass(frozen=True, eq=False)
class _Space:
    """Where each voxel lies in the subject: bent and scaled so that one anatomy fits all.

    Attributes:
        u: From the right (-1) to the left (1) of the body inside its fat.
        v: From the front (-1) to the back (1).
        w: From feet to head, in centimetres of a subject of medium height.
        body: Radius in the body outline, fat included; 1 at the skin.
        bumps: Two smooth fields of unit variance, for uneven surfaces.
    """

    u: _Field
    v: _Field
    w: _Field
    body: _Field
    bumps: tuple[_Field, _Field]

    @cached_property
    def extents(self) -> tuple[_Extent, _Extent, _Extent]:
        """Return the least and greatest w of each plane, v of each row and u of each column."""
        w, v, u = (
            (field.min(axis=axes), field.max(axis=axes))
            for field, axes in ((self.w, (1, 2)), (self.v, (0, 2)), (self.u, (0, 1)))
        )
        return w, v, u

    @classmethod
    def of(cls, rng: np.random.Generator, body: _Body, geometry: _Geometry) -> "_Space":
        axes = geometry.axes_mm()
        z, y, x = np.ix_(*(axis.astype(np.float32) for axis in axes))
        outline = _radius(x / body.wide_mm, y / body.deep_mm) + 0.012 * _smooth(rng, axes, modes=4)
        bend = [_smooth(rng, axes, modes=4) for _ in range(3)]
        turn, height = radians(rng.uniform(-5, 5)), rng.uniform(0.9, 1.1)
        right, back = x + 3.5 * bend[0], y + 3.0 * bend[1]
        u = (cos(turn) * right + sin(turn) * back) / (body.wide_mm - body.fat_mm)
        v = (cos(turn) * back - sin(turn) * right) / (body.deep_mm - 0.8 * body.fat_mm)
        bumps = (_smooth(rng, axes, modes=7), _smooth(rng, axes, modes=9))
        return cls(_f32(u), _f32(v), _f32((z + 4.0 * bend[2]) / (10 * height)), outline, bumps)


def _f32(values: npt.NDArray[Any]) -> _Field:
    return values.astype(np.float32, copy=False)


def _radius(u: _Field, v: _Field) -> _Field:
    """Return the radius in a body cross-section: an oval with flat flanks and a flatter back."""
    flat = v / np.where(v > 0, np.float32(0.93), np.float32(1))
    return _f32((np.abs(u) ** 2.4 + np.abs(flat) ** 2.4) ** (1 / 2.4))


def _smooth(rng: np.random.Generator, axes_mm: Iterable[npt.NDArray[Any]], *, modes: int) -> _Field:
    """Return a smooth random field of unit variance: waves of up to `modes` half periods in 400 mm.

    The waves live in millimetres, so that the same draw gives the same anatomy at every number of pixels.
    """
    order = np.arange(1, modes + 1)
    z, y, x = (
        np.cos(np.pi * order[:, None] * axis / 400 + rng.uniform(0, 2 * np.pi, (modes, 1)))
        for axis in axes_mm
    )
    decay = 1 / np.sqrt(order[:, None, None] ** 2 + order[:, None] ** 2 + order**2)
    weights = rng.standard_normal(decay.shape) * decay / np.sqrt((decay**2).sum() / 8)
    planes = np.einsum("klm,ly,mx->kyx", weights, y, x, optimize=True)
    field: _Field = np.tensordot(z.astype(np.float32), planes.astype(np.float32), axes=(0, 0))
    return field


# --- anatomy ------------------------------------------------------------------------------------------


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

    def radius(self, space: _Space) -> _Field:
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

    def _box(self, space: _Space) -> tuple[slice, slice, slice]:
        """Return the part of the volume that the organ can reach, so that the rest costs no time."""
        flat = max(self.radii[:2])
        z, y, x = (
            _reached(extent, centre, _REACH * radius)
            for extent, centre, radius in zip(
                space.extents, reversed(self.centre), (self.radii[2], flat, flat), strict=True
            )
        )
        return z, y, x


_REACH = 1.9


def _reached(extent: _Extent, centre: float, radius: float) -> slice:
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


def _paint(rng: np.random.Generator, space: _Space) -> npt.NDArray[np.uint8]:
    """Return which tissue fills each voxel, painted from the skin inwards and from the belly to the back."""
    canvas = np.zeros(space.u.shape, dtype=np.uint8)
    inner = _radius(space.u, space.v)
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


def _fill(canvas: npt.NDArray[np.uint8], tissue: str, where: _Mask) -> None:
    canvas[where] = _INDEX[tissue]


def _ribs(space: _Space, inner: _Field) -> _Mask:
    around = np.arctan2(space.v, space.u)
    bars, ring = np.cos(15 * around + 1.5 * space.w) > 0.72, np.abs(inner - 0.93) < 0.03  # noqa: PLR2004
    ribs: _Mask = bars & ring & (space.w > -2)  # noqa: PLR2004
    return ribs


def _paint_bowel(
    rng: np.random.Generator, space: _Space, canvas: npt.NDArray[np.uint8], cavity: _Mask
) -> None:
    _fill(canvas, "mesentery", (np.abs(space.bumps[1] - 0.4) < 0.05) & cavity)  # noqa: PLR2004
    for _ in range(_LOOPS):
        centre = (rng.uniform(-0.62, 0.62), rng.uniform(-0.72, 0.2), rng.uniform(-15, 2))
        radii = (rng.uniform(0.08, 0.22), rng.uniform(0.08, 0.19), rng.uniform(1.2, 3.4))
        loop = _Blob(centre, radii, rng.uniform(0, 180), bumps=(0.1, 0.1))
        _fill(canvas, _BOWEL[rng.integers(len(_BOWEL))], (loop.radius(space) < 1) & cavity)
    for colon in _COLON:
        radius = colon.varied(rng).radius(space)
        _fill(canvas, _BOWEL[rng.integers(len(_BOWEL))], (radius < 1) & cavity)
        _fill(canvas, "gas", (radius < 0.8) & (space.v < colon.centre[1] - 0.06) & cavity)  # noqa: PLR2004


def _paint_organs(
    rng: np.random.Generator, space: _Space, canvas: npt.NDArray[np.uint8], cavity: _Mask
) -> None:
    for tissue, organ in _DIGESTIVE.items():
        _fill(canvas, tissue, (organ.varied(rng).radius(space) < 1) & cavity)
    stomach_gas = (canvas == _INDEX["stomach"]) & (space.v < rng.uniform(-0.6, -0.4))
    _fill(canvas, "gas", stomach_gas)
    lobes = [lobe.varied(rng, size=0.12).radius(space) for lobe in _LIVER]
    liver = np.minimum(*lobes)
    _fill(canvas, "inner fat", (liver < 1.04) & cavity)  # noqa: PLR2004
    _fill(canvas, "liver", (liver < 1) & cavity)
    _fill(canvas, "liver vessel", (np.abs(space.bumps[1]) < 0.04) & (canvas == _INDEX["liver"]))  # noqa: PLR2004
    _fill(canvas, "bile", (_GALLBLADDER.varied(rng).radius(space) < 1) & cavity)
    spleen = _SPLEEN.varied(rng, size=0.18).radius(space)
    _fill(canvas, "inner fat", (spleen < 1.05) & cavity)  # noqa: PLR2004
    _fill(canvas, "spleen", (spleen < 1) & cavity)


def _paint_chest(
    rng: np.random.Generator, space: _Space, canvas: npt.NDArray[np.uint8], cavity: _Mask
) -> None:
    dome = rng.uniform(9.3, 10.8) - 7 * (0.6 * space.u**2 + 0.8 * space.v**2) + 0.4 * space.bumps[0]
    _fill(canvas, "lung", cavity & (space.w > dome))
    _fill(canvas, "heart", (_HEART.varied(rng).radius(space) < 1) & (space.w > dome))


def _paint_back(rng: np.random.Generator, space: _Space, canvas: npt.NDArray[np.uint8]) -> None:
    inside = canvas != _INDEX["air"]
    for psoas in _PSOAS:
        _fill(canvas, "muscle", (psoas.varied(rng).radius(space) < 1) & inside)
    for tissue, part in _SPINE.items():
        radius = part.radius(space)
        _fill(canvas, tissue, (radius < 1) & inside)
        if tissue == "marrow":
            _fill(canvas, "bone", (np.abs(radius - 1) < 0.06) & inside)  # noqa: PLR2004
    discs = np.sin(2 * np.pi * space.w / 3.6 + rng.uniform(0, 6)) > 0.86  # noqa: PLR2004
    _fill(canvas, "disc", discs & (canvas == _INDEX["marrow"]))
    for vessel in _VESSELS:
        _fill(canvas, "blood", (vessel.varied(rng, size=0.15).radius(space) < 1) & inside)


def _paint_kidneys(
    rng: np.random.Generator, space: _Space, canvas: npt.NDArray[np.uint8], inner: _Field
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


# --- signal -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Textures:
    """Smooth fields that multiply the signal: `grain` inside tissues, `coil` over the whole image."""

    grain: _Field
    coil: _Field


def _draw_signals(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return water, fat and T2 signal of each tissue, one row each, as this subject has them."""
    table = np.array([row[:3] for row in _TISSUES.values()], dtype=np.float64).T
    table = table * rng.uniform(0.88, 1.12, table.shape)
    table[:2, _INDEX["blood"]] *= rng.uniform(0.5, 2.1)
    table[:, _INDEX["liver vessel"]] = table[:, _INDEX["blood"]]
    table[0, _INDEX["bile"]] *= rng.uniform(0.4, 2.0)
    table[0, _INDEX["stomach"]] *= rng.uniform(0.5, 1.8)
    table[1, _INDEX["liver"]] *= rng.uniform(0.0, 3.0)
    for side in ("cortex", "medulla"):  # two kidneys of one person look alike
        table[:, _INDEX[f"left {side}"]] = table[:, _INDEX[f"right {side}"]]
    return (table * rng.uniform(0.8, 1.5)).astype(np.float32)


def _draw_textures(rng: np.random.Generator, geometry: _Geometry) -> _Textures:
    axes = geometry.axes_mm()
    grain = 1 + 0.05 * _smooth(rng, axes, modes=24)
    near_coil = 1.6e-6 * (axes[1][:, None] ** 2 + axes[2] ** 2).astype(np.float32)
    return _Textures(grain, np.exp(0.13 * _smooth(rng, axes, modes=3) + 4 * near_coil - 0.1))


@dataclass(frozen=True, eq=False)
class _Scan:
    """A painted subject in front of the scanner."""

    tissues: npt.NDArray[np.uint8]
    signals: npt.NDArray[np.float32]
    textures: _Textures
    geometry: _Geometry
    seed: tuple[int, int]

    @cached_property
    def labels(self) -> npt.NDArray[np.uint8]:
        """Return the class of each voxel."""
        labels: npt.NDArray[np.uint8] = _CLASSES[self.tissues]
        return labels

    @cached_property
    def _blurred(self) -> list[_Field]:
        return [self._blur(row) for row in self.signals]

    def _blur(self, row: npt.NDArray[np.float32]) -> _Field:
        blurred: _Field = ndimage.gaussian_filter(row[self.tissues] * self.textures.grain, (0.35, 0.6, 0.6))
        return blurred

    def channel(self, name: str) -> npt.NDArray[np.uint16]:
        """Return one scan of the subject with its own noise."""
        water, fat, t2 = self._blurred
        clean = {"in": water + fat, "out": np.abs(water - fat), "t2": t2}[name] * self.textures.coil
        rng = np.random.default_rng([*self.seed, _NOISE_STREAM[name]])
        level = 9.0 * rng.uniform(0.8, 1.6)
        real, imaginary = (level * rng.standard_normal(clean.shape, dtype=np.float32) for _ in range(2))
        noisy: _Field = np.hypot(clean + real, imaginary)
        return noisy.round().astype(np.uint16)


# --- CHAOS's layout -----------------------------------------------------------------------------------


def _write_subject(folder: Path, scan: _Scan, name: str) -> None:
    t1, t2 = folder / "T1DUAL", folder / "T2SPIR"
    count = scan.geometry.shape[0]
    inward = [f"IMG-0004-{2 * i + 2:05d}" for i in range(count)]
    outward = [f"IMG-0004-{2 * i + 1:05d}" for i in range(count)]
    spir = [f"IMG-0002-{i + 1:05d}" for i in range(count)]
    _write_series(t1 / "DICOM_anon" / "InPhase", inward, scan, "in", f"{name}.1")
    _write_series(t1 / "DICOM_anon" / "OutPhase", outward, scan, "out", f"{name}.2")
    _write_series(t2 / "DICOM_anon", spir, scan, "t2", f"{name}.3")
    _write_masks(t1 / "Ground", inward, scan.labels)
    _write_masks(t2 / "Ground", spir, scan.labels)


def _write_masks(folder: Path, names: Sequence[str], labels: npt.NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True)
    for name, mask in zip(names, _GREYS[labels], strict=True):
        Image.fromarray(mask).save(folder / f"{name}.png")


def _write_series(folder: Path, names: Sequence[str], scan: _Scan, channel: str, series: str) -> None:
    folder.mkdir(parents=True)
    pixels = scan.channel(channel)
    make = _slice_maker(scan.geometry, series)
    for i, name in enumerate(names):
        make(i, pixels[i]).save_as(folder / f"{name}.dcm", enforce_file_format=True)


def _slice_maker(geometry: _Geometry, series: str) -> "Callable[[int, npt.NDArray[np.uint16]], Dataset]":
    """Return a function from slice number and pixels to a DICOM slice with CHAOS's tags."""
    left, back, head = geometry.first_mm
    step, pixel, _ = geometry.spacing_mm
    tags = _series_tags(series) | {"PixelSpacing": [pixel, pixel], "SliceThickness": round(0.8 * step, 2)}

    def make(index: int, pixels: npt.NDArray[np.uint16]) -> "Dataset":
        slice_ = _empty_slice(tags)
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = _uid(f"{series}.{index}")
        slice_.InstanceNumber = index + 1
        slice_.ImagePositionPatient = [left, back, round(head + index * step, 4)]
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.PixelData = pixels.astype("<u2").tobytes()
        return slice_

    return make


def _series_tags(series: str) -> dict[str, Any]:
    subject = series.rpartition(".")[0]
    return {
        "Modality": "MR",
        "PatientName": f"PHANTOM^{subject}",
        "PatientID": subject,
        "StudyInstanceUID": _uid(subject),
        "SeriesInstanceUID": _uid(series),
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
    }


def _empty_slice(tags: Mapping[str, Any]) -> "Dataset":
    from pydicom import Dataset  # noqa: PLC0415
    from pydicom.dataset import FileMetaDataset  # noqa: PLC0415
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage  # noqa: PLC0415

    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = MRImageStorage
    for name, value in tags.items():
        setattr(slice_, name, value)
    return slice_


def _uid(name: str) -> "UID":
    from pydicom.uid import generate_uid  # noqa: PLC0415

    return generate_uid(entropy_srcs=["guided-attention phantom", name])
