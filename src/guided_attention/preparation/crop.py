"""Crops: the part of a scan that a network sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require, require_type
from guided_attention._typing import SpacingMm
from guided_attention.preparation._percentiles import thinned
from guided_attention.preparation._values import kind_and_values, kind_to_dict, number, whole
from guided_attention.preparation.grid import Axis

__all__ = ["BodyCrop", "CenterCrop", "Crop", "crop_from_dict", "crop_to_dict"]

_EXTREMES = (0.5, 99.5)


@dataclass(frozen=True)
class CenterCrop:
    """A box about the centre of the resampled scan.

    Attributes:
        size: Voxels along depth, height and width, after resampling; None keeps an axis, and shorter axes stay.

    Raises:
        ArgumentError: There are not three sizes, or one is below 1.

    Example:
        >>> CenterCrop((None, 192, 192)).size
        (None, 192, 192)
    """

    size: tuple[int | None, int | None, int | None]

    def __post_init__(self) -> None:
        """Check the sizes."""
        require_type("size", self.size, (tuple, list), "three sizes")
        require(len(self.size) == 3, "size", "three sizes, (depth, height, width)", self.size)  # noqa: PLR2004
        depth, height, width = (None if size is None else whole("size", size, least=1) for size in self.size)
        object.__setattr__(self, "size", (depth, height, width))

    def apply(
        self,
        axes: tuple[Axis, Axis, Axis],
        channels: Sequence[npt.NDArray[np.float32]],  # noqa: ARG002 - as `BodyCrop`
        spacing_mm: SpacingMm,  # noqa: ARG002
    ) -> tuple[Axis, Axis, Axis]:
        """Return the cropped axes."""
        depth, height, width = (
            axis if size is None or size >= axis.size else axis.cropped((axis.size - size) // 2, size)
            for axis, size in zip(axes, self.size, strict=True)
        )
        return depth, height, width


@dataclass(frozen=True)
class BodyCrop:
    """The box around all that is brighter than the air around the body.

    A voxel counts as body where any channel lies above ``low + threshold * (high - low)``, with the channel's 0.5th and
    99.5th percentile as `low` and `high`.

    Attributes:
        threshold: Share of the range of intensities, between 0 and 1.
        margin_mm: Added on every side, in millimetres.

    Raises:
        ArgumentError: The threshold is not between 0 and 1, or the margin is negative.

    Example:
        >>> BodyCrop().margin_mm
        5.0
    """

    threshold: float = 0.1
    margin_mm: float = 5.0

    def __post_init__(self) -> None:
        """Check both numbers."""
        threshold, margin = number("threshold", self.threshold), number("margin_mm", self.margin_mm)
        require(0 < threshold < 1, "threshold", "between 0 and 1", threshold)
        require(margin >= 0, "margin_mm", "0 or above", margin)
        object.__setattr__(self, "threshold", threshold)
        object.__setattr__(self, "margin_mm", margin)

    def apply(
        self,
        axes: tuple[Axis, Axis, Axis],
        channels: Sequence[npt.NDArray[np.float32]],
        spacing_mm: SpacingMm,
    ) -> tuple[Axis, Axis, Axis]:
        """Return the axes cropped to the body of the canonical image; all of the scan where there is no body."""
        cropped = []
        for axis, present, spacing in zip(axes, self._present(channels), spacing_mm, strict=True):
            places = np.flatnonzero(present)
            if not places.size:
                return axes
            margin = self.margin_mm / spacing
            first, size = axis.around(float(places[0]) - margin, float(places[-1]) + margin)
            cropped.append(axis.cropped(first, size))
        return cropped[0], cropped[1], cropped[2]

    def _present(self, channels: Sequence[npt.NDArray[np.float32]]) -> tuple[npt.NDArray[np.bool_], ...]:
        """Return for each axis which of its positions hold a voxel of the body."""
        depth, height, width = (np.zeros(size, np.bool_) for size in channels[0].shape)
        for channel in channels:
            low, high = np.percentile(thinned(channel), _EXTREMES).tolist()
            limit = low + self.threshold * (high - low)
            for z, slab in enumerate(channel):
                body = slab > limit
                depth[z] |= bool(body.any())
                height |= body.any(axis=1)
                width |= body.any(axis=0)
        return depth, height, width


Crop: TypeAlias = CenterCrop | BodyCrop
"""Which part of a scan a network sees."""

_KINDS: Mapping[str, type[Crop]] = {"center": CenterCrop, "body": BodyCrop}


def crop_to_dict(crop: Crop) -> dict[str, Any]:
    """Return the record as plain values."""
    return kind_to_dict(crop, _KINDS)


def crop_from_dict(values: Mapping[str, Any]) -> Crop:
    """Return the record that `crop_to_dict` wrote."""
    cls, rest = kind_and_values("crop", values, _KINDS)
    return cls(**rest)
