"""Case: one subject's image volume, label volume and geometry, and the checks that every reader shares."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require
from guided_attention._typing import Affine, ImageVolume, LabelVolume, SpacingMm

__all__ = ["Case", "Volume", "affine_of", "moved", "spacing_of"]


@dataclass(frozen=True, eq=False)
class Volume:
    """The numbers of one file or series, and where they lie in the patient.

    Attributes:
        array: ``(depth, height, width)``, or ``(channels, depth, height, width)`` where the file has
            channels; the number type is the file's own.
        spacing_mm: Distance between voxel centres in millimetres, ``(z, y, x)``.
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` to millimetres in the RAS frame, as NIfTI has it.

    Example:
        >>> import numpy as np
        >>> Volume(np.zeros((3, 5, 7)), (9.0, 1.5, 1.5), np.diag([1.5, 1.5, 9.0, 1.0])).array.shape
        (3, 5, 7)
    """

    array: npt.NDArray[Any]
    spacing_mm: SpacingMm
    affine: Affine


@dataclass(frozen=True, eq=False)
class Case:
    """One subject: image, labels, spacing, position in the scanner.

    Arrays are indexed ``[..., z, y, x]``: depth (slices), height (rows), width (columns). The affine takes a
    voxel index in the *other* order, ``(x, y, z, 1)``, to millimetres in the RAS frame (x grows to
    the patient's right, y to the front, z to the head), which is how NIfTI and nibabel have it.

    Attributes:
        id: The subject's name, unique in its cohort.
        image: ``(channels, depth, height, width)``, float32.
        labels: ``(depth, height, width)``, integers from 0 (background); None where nobody drew them.
        spacing_mm: Distance between voxel centres in millimetres, ``(z, y, x)``.
        affine: 4 x 4, float64.

    Raises:
        ValueError: The image is empty or holds NaN or infinite values, labels and image differ in size,
            labels are negative, or a spacing is not above zero.

    Example:
        >>> import numpy as np
        >>> image = np.zeros((1, 3, 5, 7), dtype=np.float32)
        >>> case = Case("7", image, None, (9.0, 1.5, 1.5), np.diag([1.5, 1.5, 9.0, 1.0]))
        >>> case.image.shape
        (1, 3, 5, 7)
    """

    id: str
    image: ImageVolume
    labels: LabelVolume | None
    spacing_mm: SpacingMm
    affine: Affine

    def __post_init__(self) -> None:
        """Check what no room after this one should have to check again."""
        where = f"image of case {self.id!r}"
        require(self.image.size > 0, where, "of at least one voxel", f"size {self.image.shape}")
        cure = "Replace them (numpy.nan_to_num) or leave the case out."
        require(
            bool(np.isfinite(self.image).all()), where, "finite everywhere", "NaN or infinite values", cure
        )
        require(min(self.spacing_mm) > 0, f"spacing_mm of case {self.id!r}", "above 0", self.spacing_mm)
        if self.labels is not None:
            self._check_labels(self.labels)

    def _check_labels(self, labels: LabelVolume) -> None:
        where, wanted = f"labels of case {self.id!r}", self.image.shape[1:]
        require(labels.shape == wanted, where, f"of the image's size {wanted}", labels.shape)
        lowest = int(labels.min())
        require(lowest >= 0, where, "0 or above", lowest)


def spacing_of(affine: Affine) -> SpacingMm:
    """Return the lengths of an affine's columns in array order (z, y, x), in millimetres."""
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return (z, y, x)


def affine_of(spacing_mm: SpacingMm) -> Affine:
    """Return an affine without rotation or origin, for files that know their spacing at most."""
    return np.diag([*reversed(spacing_mm), 1.0]).astype(np.float64)


def moved(affine: Affine, *, start: tuple[float, float, float], step: tuple[float, float, float]) -> Affine:
    """Return the affine of a volume whose voxel ``i`` was at index ``start + i · step``, all (z, y, x)."""
    inner = np.diag([*reversed(step), 1.0]).astype(np.float64)
    inner[:3, 3] = start[::-1]
    result: Affine = affine @ inner
    return result
