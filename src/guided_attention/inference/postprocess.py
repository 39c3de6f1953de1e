"""Corrections of predicted label volumes."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from guided_attention._checks import require
from guided_attention._typing import LabelArray

__all__ = ["keep_largest_component"]


def keep_largest_component(
    labels: LabelArray, *, organs: Collection[int] | None = None, connectivity: int = 1
) -> LabelArray:
    """Keep the largest connected piece of each organ and turn its smaller pieces into background.

    Meant for organs that a healthy body has in one piece. Organs are treated separately: two that touch do not join.
    Of pieces of equal size, the first in array order (slice by slice, row by row) is kept.

    Args:
        labels: ``(depth, height, width)``, or any other number of axes; integers, 0 is background. Not changed.
        organs: The labels to treat; None treats every label but the background.
        connectivity: Along how many axes at once two neighbouring voxels may differ and still belong
            together: 1 joins across faces, 2 across edges too, 3 across corners too.

    Returns:
        A new array of the same shape and integer type.

    Raises:
        ArgumentError: An organ is not above 0, or the connectivity is not from 1 to the number of axes.

    Example:
        >>> import numpy as np
        >>> keep_largest_component(np.array([[1, 0, 1, 1], [2, 0, 0, 0]]))
        array([[0, 0, 1, 1],
               [2, 0, 0, 0]])
    """
    axes = f"from 1 to the number of axes, {labels.ndim}"
    require(1 <= connectivity <= labels.ndim, "connectivity", axes, connectivity)
    chosen = [int(organ) for organ in (np.unique(labels[labels > 0]) if organs is None else organs)]
    require(all(organ > 0 for organ in chosen), "organs", "labels above 0, the background", chosen)
    kept = labels.copy()
    for organ in chosen:
        _clear_small_pieces(kept, organ, connectivity)
    return kept


def _clear_small_pieces(labels: LabelArray, organ: int, connectivity: int) -> None:
    """Set the voxels of an organ outside its largest piece to 0, in place."""
    mask = labels == organ
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return
    # Only in the organ's box, which is small compared with the volume.
    inside = mask[boxes[0]]
    pieces, count = ndimage.label(inside, ndimage.generate_binary_structure(labels.ndim, connectivity))
    if count > 1:
        labels[boxes[0]][inside & (pieces != _largest(pieces))] = 0


def _largest(pieces: npt.NDArray[np.integer[Any]]) -> int:
    """Return the number of the largest piece, of equal ones that which comes first in array order."""
    flat = pieces.ravel()
    sizes = np.bincount(flat)
    sizes[0] = 0
    is_largest = sizes == sizes.max()
    return int(flat[np.argmax(is_largest[flat])])
