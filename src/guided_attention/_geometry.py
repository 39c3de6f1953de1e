"""Geometry of voxel grids: spacing, orientation, and the affine after flips, crops and resampling.

Arrays are indexed ``[..., z, y, x]``; an affine takes the voxel index ``(x, y, z, 1)`` to RAS millimetres. Array axis
``a`` (0 is depth) belongs to column ``2 - a`` of the affine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guided_attention._checks import require, require_type
from guided_attention._typing import Affine, SliceAxis, SpacingMm
from guided_attention.errors import ArgumentTypeError, DataError

__all__ = [
    "CANONICAL",
    "FEW_SLICES",
    "LPS_RAS",
    "Reorientation",
    "affine_of",
    "anatomical_order",
    "check_orientation",
    "checked_affine",
    "checked_spacing",
    "grid_affine",
    "is_same_place",
    "is_sheared",
    "orientation_of",
    "radiological_affine",
    "reorientation",
    "require_same_place",
    "slice_axis_of",
    "spacing_of",
]

CANONICAL: Mapping[SliceAxis, str] = {"axial": "LPS", "coronal": "LIP", "sagittal": "PIL"}
"""Orientation inside the library by slice axis: slices are array axis 0, and each lies as a radiologist looks at it.

The patient's right is on the left of axial and coronal slices, the front at the top of axial ones and on the left of
sagittal ones, the head at the top of coronal and sagittal ones.
"""

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the patient frame LPS (DICOM, NRRD, MetaImage) to RAS (NIfTI), and back."""
_NEGATIVE, _POSITIVE = "LPI", "RAS"
FEW_SLICES = 3
"""Scans of fewer slices are pictures."""
_EQUAL = 1.01
"""Spacings count as equal up to this ratio."""
_SHEAR = 1e-3
"""Cosine of the angle between two axes from which on they count as not at right angles (0.06 degrees off)."""
_FLAT = 1e-3
"""Volume that three directions must span to count as independent; at right angles it is 1."""
_SHORTEST = 1e-9
_SHARE_OF_VOXEL = 0.1
"""How far apart two volumes of one place may lie at a corner, as a share of the smallest spacing."""


def spacing_of(affine: Affine) -> SpacingMm:
    """Return the distance between the voxels of neighbouring slices, rows and columns.

    These are the lengths of the affine's columns. Under shear, such as a tilted gantry, the axis nearest to left-right
    keeps its length, the one nearest to back-front counts at right angles to it, and the one nearest to feet-head at
    right angles to both, in every storage order: the product is the volume of a voxel.

    Args:
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` to RAS millimetres.

    Returns:
        Spacing in millimetres, ``(z, y, x)``.

    Raises:
        DataError: The matrix is no affine.

    Example:
        >>> import numpy as np
        >>> spacing_of(np.diag([1.5, 1.5, 9.0, 1.0]))
        (9.0, 1.5, 1.5)
    """
    columns = checked_affine(affine, "affine")[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if is_sheared(affine):
        order = np.argsort(_anatomical_axes(columns))
        lengths[order] = np.abs(np.diag(np.linalg.qr(columns[:, order]).R))
    x, y, z = lengths.tolist()
    return (z, y, x)


def affine_of(spacing_mm: SpacingMm) -> Affine:
    """Return an affine with this spacing, without rotation or origin: array axes ``x``, ``y``, ``z`` run along R, A, S.

    Args:
        spacing_mm: Distance between voxel centres in millimetres, ``(z, y, x)``.

    Returns:
        4 x 4 matrix from voxel index ``(x, y, z)`` to RAS millimetres.

    Raises:
        ArgumentError: The spacing is not made of three numbers above 0.
        ArgumentTypeError: It is not a sequence of numbers.

    Example:
        >>> affine_of((9.0, 1.5, 1.5)).diagonal().tolist()
        [1.5, 1.5, 9.0, 1.0]
    """
    return np.diag([*reversed(checked_spacing(spacing_mm)), 1.0]).astype(np.float64)


def radiological_affine(spacing_mm: SpacingMm) -> Affine:
    """Return the affine of files without geometry: slices as a radiologist looks at them, in orientation "LPS"."""
    affine: Affine = LPS_RAS @ affine_of(spacing_mm)
    return affine


def checked_spacing(spacing_mm: object) -> SpacingMm:
    """Return a spacing as three floats, or raise where it is not one."""
    wanted = "three numbers above 0, (z, y, x) in millimetres"
    numbers = _as_numbers(spacing_mm)
    require(numbers is not None, "spacing_mm", wanted, repr(spacing_mm), error=ArgumentTypeError)
    lengths = np.zeros(0) if numbers is None else numbers
    good = lengths.shape == (3,) and bool(np.isfinite(lengths).all()) and bool((lengths > 0).all())
    require(good, "spacing_mm", wanted, repr(spacing_mm))
    z, y, x = lengths.tolist()
    return (z, y, x)


def grid_affine(
    affine: Affine, *, start: tuple[float, float, float], step: tuple[float, float, float]
) -> Affine:
    """Return the affine of the grid whose voxel ``i`` lies at index ``start + i * step`` of the old one, (z, y, x)."""
    inner = np.diag([*reversed(step), 1.0]).astype(np.float64)
    inner[:3, 3] = start[::-1]
    result: Affine = affine @ inner
    return result


def is_same_place(affine: Affine, reference: Affine, shape: Sequence[int]) -> bool:
    """Return whether no corner of a ``(z, y, x)`` volume is further than a tenth of a voxel from its place."""
    return _apart_mm(affine, reference, shape) <= _SHARE_OF_VOXEL * min(spacing_of(reference))


def require_same_place(
    where: str, affine: Affine, reference: Affine, shape: Sequence[int], whose: str, cure: str
) -> None:
    """Raise a `DataError` unless `is_same_place`; `whose` names what has the affine `reference`."""
    limit = _SHARE_OF_VOXEL * min(spacing_of(reference))
    wanted, got = f"within {limit:.3g} mm of {whose} at every corner", _apart_mm(affine, reference, shape)
    good = is_same_place(affine, reference, shape)
    require(good, where, wanted, f"{got:.3g} mm apart", cure, error=DataError)


def _apart_mm(first: Affine, second: Affine, shape: Sequence[int]) -> float:
    """Return the largest distance between the corners of a volume under two affines."""
    corners = [[*corner, 1.0] for corner in product(*((0, size) for size in reversed(shape)))]
    return float(np.linalg.norm(((first - second) @ np.transpose(corners))[:3], axis=0).max())


def is_sheared(affine: Affine) -> bool:
    """Return whether two axes of the grid are not at right angles."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = directions.T @ directions - np.eye(3)
    return bool(np.abs(cosines).max() > _SHEAR)


def checked_affine(affine: object, where: str, *, file: object = None) -> Affine:
    """Return a float64 copy of an affine, or raise where it is not one."""
    wanted = "a 4 x 4 matrix of finite numbers with last row 0, 0, 0, 1"
    matrix = _as_numbers(affine)
    if matrix is None:
        message = f"`{where}` must be {wanted}, got a {type(affine).__name__} of something else."
        raise DataError(message, argument=where, file=file)
    good = matrix.shape == (4, 4) and bool(np.isfinite(matrix).all()) and matrix[3].tolist() == [0, 0, 0, 1]
    got = matrix.tolist() if matrix.shape == (4, 4) else f"shape {matrix.shape}"
    require(good, where, wanted, got, error=DataError, file=file)
    with np.errstate(over="ignore", under="ignore"):
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    usable = bool((lengths > _SHORTEST).all()) and bool((lengths < 1 / _SHORTEST).all())
    independent = usable and abs(float(np.linalg.det(matrix[:3, :3] / lengths))) >= _FLAT
    cure = "Give each axis a direction of its own and a spacing above 0."
    wanted = "of three independent axes"
    require(independent, where, wanted, matrix[:3, :3].tolist(), cure, error=DataError, file=file)
    return matrix


def _as_numbers(values: object) -> npt.NDArray[np.float64] | None:
    """Return a float64 copy of nested numbers, an array or a tensor; None where it holds something else."""
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu().to(torch.float64).numpy()
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # ragged, or a tensor without values
        return None
    return array.astype(np.float64) if array.dtype.kind in "iuf" else None


def orientation_of(affine: Affine) -> str:
    """Return the direction of the array's axes ``x``, ``y``, ``z`` as three letters, the nearest ones if oblique.

    Args:
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` to RAS millimetres.

    Returns:
        For example ``"LPS"``: ``x`` grows towards the patient's left, ``y`` to the back, ``z`` to the head.

    Example:
        >>> import numpy as np
        >>> orientation_of(np.diag([-1.5, -1.5, 9.0, 1.0]))
        'LPS'
    """
    columns = checked_affine(affine, "affine")[:3, :3]
    axes = _anatomical_axes(columns)
    return "".join(
        _POSITIVE[axis] if columns[axis, column] > 0 else _NEGATIVE[axis] for column, axis in enumerate(axes)
    )


def _anatomical_axes(columns: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """Return for each column the anatomical axis that it is nearest to: 0 left-right, 1 back-front, 2 feet-head.

    The three cosines have the largest sum. At 45 degrees several choices are equal; what neither the order nor a flip
    of the columns changes decides, so that one scan stored in two orders has one orientation: products of two
    components, then the directions themselves, axis by axis, each with its first component above 0.
    """
    directions = columns / np.linalg.norm(columns, axis=0)
    cosines, slants = np.abs(directions), (directions * np.roll(directions, 1, axis=0)).sum(axis=0)
    first = directions[(cosines > _FLAT).argmax(axis=0), range(3)]
    upward = directions * np.sign(first)

    def nearness(axes: tuple[int, ...]) -> tuple[bool, float, float, tuple[float, ...]]:
        chosen = cosines[axes, range(3)]
        slant = float(slants @ np.array(axes))
        by_axis = upward[:, np.argsort(axes)].round(6).ravel().tolist()
        return bool(chosen.min() > _FLAT), round(float(chosen.sum()), 6), round(slant, 6), tuple(by_axis)

    return max(permutations(range(3)), key=nearness)


@dataclass(frozen=True)
class Reorientation:
    """A change of storage order: axes are permuted and flipped, voxel values stay.

    Attributes:
        order: For each new array axis, the old array axis it comes from.
        flips: For each new array axis, whether it runs backwards.
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of ``(..., z, y, x)`` in the new order."""
        lead = array.ndim - 3
        return self._flipped(array.transpose(*range(lead), *(lead + axis for axis in self.order)))

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of an array in the new order as it was before."""
        lead = array.ndim - 3
        inverse = np.argsort(self.order).tolist()
        return self._flipped(array).transpose(*range(lead), *(lead + axis for axis in inverse))

    def _flipped(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        z, y, x = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return array[..., z, y, x]

    def affine(self, affine: Affine, shape: tuple[int, ...]) -> Affine:
        """Return the affine of the reordered array, given the affine and ``(z, y, x)`` shape of the old one."""
        inner = np.zeros((4, 4))
        inner[3, 3] = 1.0
        for new, (old, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            inner[2 - old, 2 - new] = -1.0 if flip else 1.0
            inner[2 - old, 3] = shape[old] - 1 if flip else 0.0
        result: Affine = affine @ inner
        return result


def reorientation(affine: Affine, target: str) -> Reorientation:
    """Return the change that brings an array with this affine to the orientation `target`, such as ``"LPS"``."""
    check_orientation("target", target)
    source = orientation_of(affine)
    order, flips = [], []
    for letter in reversed(target):  # array axes are (z, y, x)
        column = next(c for c, have in enumerate(source) if _axis(have) == _axis(letter))
        order.append(2 - column)
        flips.append(source[column] != letter)
    return Reorientation((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))


def check_orientation(argument: str, orientation: object) -> None:
    """Raise unless the three letters name one direction each of left-right, back-front and feet-head."""
    wanted = 'three letters, one each of L or R, P or A, I or S, such as "LPS"'
    require_type(argument, orientation, str, wanted)
    good = sorted(map(_axis, str(orientation))) == [0, 1, 2]
    require(good, argument, wanted, repr(orientation))


def anatomical_order(slice_axis: SliceAxis) -> tuple[int, int, int]:
    """Return for depth, height and width of a slice axis their place among feet-head, front-back and right-left.

    >>> anatomical_order("axial"), anatomical_order("coronal")
    ((0, 1, 2), (1, 0, 2))
    """
    depth, height, width = (_place(letter) for letter in reversed(CANONICAL[slice_axis]))
    return depth, height, width


def _place(letter: str) -> int:
    return next(place for place, pair in enumerate(("SI", "AP", "RL")) if letter in pair)


def slice_axis_of(scans: Sequence[tuple[Affine, tuple[int, ...]]]) -> SliceAxis:
    """Return the slice axis of a scan or a cohort: the anatomical axis with the largest spacing, axial where equal.

    The spacing of a cohort is the median of its scans along each anatomical axis. Spacings up to 1 % apart are equal;
    of equal ones, axial comes before coronal, coronal before sagittal. The storage order changes nothing. Pictures,
    scans with fewer than `FEW_SLICES` voxels along an axis, are sliced along that axis: what stands for its spacing
    may be made up.

    Args:
        scans: Of each scan, the 4 x 4 matrix from voxel index ``(x, y, z)`` to RAS millimetres and the size
            ``(z, y, x)``; at least one.

    Example:
        >>> import numpy as np
        >>> slice_axis_of([(np.diag([1.5, 1.5, 9.0, 1.0]), (5, 64, 64))])
        'axial'
        >>> slice_axis_of([(np.diag([1.5, 9.0, 1.5, 1.0]), (64, 5, 64))])
        'coronal'
    """
    require(len(scans) > 0, "scans", "at least one", "none", error=DataError)
    turns = [reorientation(affine, CANONICAL["axial"]) for affine, _ in scans]
    spacings = [spacing_of(turn.affine(one, size)) for turn, (one, size) in zip(turns, scans, strict=True)]
    sizes = [[size[axis] for axis in turn.order] for turn, (_, size) in zip(turns, scans, strict=True)]
    lengths: list[float] = np.median(spacings, axis=0).tolist()
    counts: list[float] = np.median(sizes, axis=0).tolist()
    axes: tuple[SliceAxis, ...] = ("axial", "coronal", "sagittal")
    if min(counts) < FEW_SLICES:
        return axes[counts.index(min(counts))]
    return next(axis for axis, length in zip(axes, lengths, strict=True) if length * _EQUAL >= max(lengths))


def _axis(letter: str) -> int:
    return _POSITIVE.find(letter) if letter in _POSITIVE else _NEGATIVE.find(letter)
