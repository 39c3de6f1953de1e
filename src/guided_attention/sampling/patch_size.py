"""fit_patch: the largest patch that a memory budget holds, and how many of them."""

from collections.abc import Callable, Sequence
from math import floor, isfinite, prod

from guided_attention._checks import require, require_count, require_positive, require_type

__all__ = ["fit_patch"]

_DIMS = (2, 3)
_MOST = {2: 2048**2, 3: 256**3}
"""Voxels of the patch at first, before it is clipped to the median volume."""
_PLENTY = {2: 12, 3: 2}
"""Patches of a batch that have to fit before the patch may be as large as it is."""
_LEAST, _SHARE = 2, 0.05
"""Patches of a batch at the least, and its largest share of the voxels of the data set."""
_LITTLE = 1 / 8


def fit_patch(
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    budget: float,
    bytes_of: Callable[[tuple[int, ...]], float],
    *,
    voxels: int,
    multiple: Sequence[int],
) -> tuple[tuple[int, ...], int]:
    """Return the size of a patch, and the number of patches of a batch, for a budget of memory.

    As nnU-Net plans it: the patch begins isotropic in millimetres, clipped to the median volume. While 12 patches of
    slices, or 2 of volumes, do not fit, the side that covers most of its axis is shrunk. A batch then takes what the
    budget holds, at most 5 % of the voxels of the data set, and at least 2 patches.

    Args:
        shape: Median size of the prepared volumes, ``(depth, height, width)``, or of their slices.
        spacing_mm: Their spacing, in the same order.
        budget: Bytes that a batch may take; weights are not counted.
        bytes_of: Bytes that one patch of a size takes in training.
        voxels: Voxels of all training volumes.
        multiple: Total stride of the network along each axis. Sides become the nearest multiple of it where that
            changes them by no more than an eighth.

    Raises:
        ArgumentError: A number is not above 0, there are not 2 or 3 axes, or the budget is too small for any patch.

    Example:
        >>> def bytes_of(size):
        ...     return 1000 * size[0] * size[1] * size[2]
        >>> fit_patch((88, 190, 140), (1.25, 1.0, 1.0), 2e9, bytes_of, voxels=50_000_000, multiple=(16, 16, 16))
        ((64, 144, 96), 2)
    """
    _require_axes(shape, spacing_mm, multiple)
    require_positive("budget", budget)
    require(isfinite(budget), "budget", "finite", budget)
    require_count("voxels", voxels)
    dims = len(shape)
    side_mm = (_MOST[dims] * prod(spacing_mm)) ** (1 / dims)
    clipped = [min(side_mm / step, there) for step, there in zip(spacing_mm, shape, strict=True)]
    size = tuple(_rounded(side, factor) for side, factor in zip(clipped, multiple, strict=True))
    while bytes_of(size) * _PLENTY[dims] > budget and (smaller := _shrunk(size, shape, multiple)):
        size = smaller
    taken = bytes_of(size)
    require_positive("bytes_of(size)", taken)
    cure = "Free memory, or choose a smaller network."
    wanted = f"at least {_LEAST * taken:.0f} bytes, for {_LEAST} patches of {size}"
    require(_LEAST * taken <= budget, "budget", wanted, budget, cure)
    return size, max(_LEAST, min(floor(budget / taken), floor(_SHARE * voxels / prod(size))))


def _rounded(side: float, factor: int) -> int:
    """Return the nearest multiple where it costs little, else the side as it is."""
    near = max(1, round(side / factor)) * factor
    return near if abs(near - side) <= _LITTLE * side else max(1, floor(side))


def _shrunk(size: tuple[int, ...], shape: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...] | None:
    """Return the size with one side shrunk to the next multiple: the one that covers most; None where none can be."""
    able = [axis for axis, side in enumerate(size) if side > multiple[axis]]
    if not able:
        return None
    widest = max(able, key=lambda axis: size[axis] / shape[axis])
    factor = multiple[widest]
    return tuple((side - 1) // factor * factor if axis == widest else side for axis, side in enumerate(size))


def _require_axes(shape: Sequence[int], spacing_mm: Sequence[float], multiple: Sequence[int]) -> None:
    for name, given in (("shape", shape), ("spacing_mm", spacing_mm), ("multiple", multiple)):
        require_type(name, given, (tuple, list), "a number for each axis")
        good = len(given) in _DIMS and len(given) == len(shape)
        require(good, name, "of 2 or 3 axes, as `shape`", given)
        for one in given:
            require_positive(name, one)
