"""Scanner of a phantom: the signal of each tissue, blur, coil sensitivity and noise."""

from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from guided_attention._checks import require, require_number, require_type
from guided_attention.data.phantom._anatomy import paint
from guided_attention.data.phantom._frame import Body, Field, Geometry, Space, smooth
from guided_attention.data.phantom._tissues import CLASSES, INDEX, TISSUES

__all__ = ["Scan", "check_numbers", "scan_subject"]

_NOISE_STREAM = {"in": 1, "out": 2, "t2": 3, "ct": 4}
_AIR_HU, _NOISE_HU, _VARIED_HU = -1000.0, 12.0, 8.0
_MINIMUM_SIZE = 16
_MOST_TILT = 30


@dataclass(frozen=True, eq=False)
class _Textures:
    """Smooth fields that multiply the signal: `grain` inside tissues, `coil` over the whole image."""

    grain: Field
    coil: Field


def _random_signals(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return water, fat and T2 signal of each tissue, one row each, for this subject."""
    table = np.array([row[:3] for row in TISSUES.values()], dtype=np.float64).T
    table = table * rng.uniform(0.88, 1.12, table.shape)
    table[:2, INDEX["blood"]] *= rng.uniform(0.5, 2.1)
    table[:, INDEX["liver vessel"]] = table[:, INDEX["blood"]]
    table[0, INDEX["bile"]] *= rng.uniform(0.4, 2.0)
    table[0, INDEX["stomach"]] *= rng.uniform(0.5, 1.8)
    table[1, INDEX["liver"]] *= rng.uniform(0.0, 3.0)
    for side in ("cortex", "medulla"):  # both kidneys of a subject look alike
        table[:, INDEX[f"left {side}"]] = table[:, INDEX[f"right {side}"]]
    return (table * rng.uniform(0.8, 1.5)).astype(np.float32)


def _random_textures(rng: np.random.Generator, geometry: Geometry) -> _Textures:
    axes = geometry.axes_mm()
    grain = 1 + 0.05 * smooth(rng, axes, modes=24)
    near_coil = 1.6e-6 * (axes[1][:, None] ** 2 + axes[2] ** 2).astype(np.float32)
    return _Textures(grain, np.exp(0.13 * smooth(rng, axes, modes=3) + 4 * near_coil - 0.1))


@dataclass(frozen=True, eq=False)
class Scan:
    """A painted subject in front of the scanner."""

    tissues: npt.NDArray[np.uint8]
    signals: npt.NDArray[np.float32]
    textures: _Textures
    geometry: Geometry
    seed: tuple[int, int]

    @cached_property
    def labels(self) -> npt.NDArray[np.uint8]:
        """Return the class of each voxel."""
        labels: npt.NDArray[np.uint8] = CLASSES[self.tissues]
        return labels

    def channel(self, name: str) -> npt.NDArray[np.uint16] | npt.NDArray[np.int16]:
        """Return one scan of the subject with its own noise: "in", "out", "t2" or "ct"."""
        rng = np.random.default_rng([*self.seed, _NOISE_STREAM[name]])
        if name == "ct":
            return self._hounsfield(rng)
        clean = self._clean(name) * self.textures.coil
        level = 9.0 * rng.uniform(0.8, 1.6)
        real, imaginary = (level * rng.standard_normal(clean.shape, dtype=np.float32) for _ in range(2))
        noisy: Field = np.hypot(clean + real, imaginary)
        return noisy.round().astype(np.uint16)

    def _hounsfield(self, rng: np.random.Generator) -> npt.NDArray[np.int16]:
        table = np.array([row[3] for row in TISSUES.values()], dtype=np.float64)
        table[1:] += rng.uniform(-_VARIED_HU, _VARIED_HU, len(table) - 1)
        for side in ("cortex", "medulla"):
            table[INDEX[f"left {side}"]] = table[INDEX[f"right {side}"]]
        grain = 1 + 0.2 * (self.textures.grain - 1)
        density = (table - _AIR_HU).astype(np.float32)[self.tissues] * grain
        values = ndimage.gaussian_filter(density, (0.2, 0.5, 0.5)) + np.float32(_AIR_HU)
        noisy = values + _NOISE_HU * rng.standard_normal(values.shape, dtype=np.float32)
        return np.maximum(noisy.round(), -1024).astype(np.int16)

    def _clean(self, name: str) -> Field:
        if name == "t2":
            return self._blur(self.signals[2])
        water, fat = self._water_and_fat
        return water + fat if name == "in" else np.abs(water - fat)

    @cached_property
    def _water_and_fat(self) -> tuple[Field, Field]:
        return self._blur(self.signals[0]), self._blur(self.signals[1])

    def _blur(self, row: npt.NDArray[np.float32]) -> Field:
        blurred: Field = ndimage.gaussian_filter(row[self.tissues] * self.textures.grain, (0.35, 0.6, 0.6))
        return blurred


def scan_subject(seed: int, subject: int, size: int, tilt_degrees: float = 0.0) -> Scan:
    """Return the scan of one subject; the order of the calls decides which random numbers each part gets."""
    check_numbers(seed, subject, size, tilt_degrees)
    rng = np.random.default_rng([seed, subject, 0])
    body = Body.random(rng)
    geometry = replace(Geometry.random(rng, body, size), tilt_degrees=float(tilt_degrees))
    tissues = paint(rng, Space.random(rng, body, geometry))
    signals = _random_signals(rng)
    return Scan(tissues, signals, _random_textures(rng, geometry), geometry, (seed, subject))


def check_numbers(seed: int, subject: int, size: int, tilt_degrees: float = 0.0) -> None:
    """Raise unless each is a number in its range."""
    require_number("tilt_degrees", tilt_degrees)
    good, wanted = abs(tilt_degrees) <= _MOST_TILT, f"from -{_MOST_TILT} to {_MOST_TILT}"
    require(good, "tilt_degrees", wanted, tilt_degrees)
    for name, value in (("seed", seed), ("subject", subject), ("size", size)):
        require_type(name, value, Integral, "a whole number")
    require(seed >= 0, "seed", "0 or above", seed)
    require(subject >= 1, "subject", "1 or above", subject)
    require(size >= _MINIMUM_SIZE, "size", f"at least {_MINIMUM_SIZE}", size)
