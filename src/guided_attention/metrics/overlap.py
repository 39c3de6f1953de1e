"""Overlap of two masks: the Dice coefficient and the volume similarity."""

import math

import numpy as np

from guided_attention._typing import MaskArray
from guided_attention.metrics._masks import require_masks

__all__ = ["dice", "volume_similarity"]


def dice(prediction: MaskArray, reference: MaskArray) -> float:
    """Say how much of two outlines of one organ is the same: 1 is a perfect match, 0 is none.

    The Dice similarity coefficient, with ``|A|`` the number of voxels of mask ``A``::

        dice = 2 |A ∩ B| / (|A| + |B|)

    It has no unit, lies in 0..1, and higher is better. It does not change when the masks change places.

    ==============  ==============  ======
    prediction      reference       result
    ==============  ==============  ======
    empty           empty           NaN
    empty           something       0
    something       empty           0
    ==============  ==============  ======

    Args:
        prediction: True where the organ was found.
        reference: True where the organ is.

    Shape:
        - both masks: ``(*space)``, any number of axes, the same for both.

    Raises:
        ValueError: A mask is not boolean, or the shapes differ.

    Example:
        >>> import numpy as np
        >>> dice(np.array([True, True, False]), np.array([False, True, False]))
        0.6666666666666666

    References:
        Sinha and Dolz, equation 12, which prints it in per cent; here it is a fraction.
    """
    require_masks(prediction, reference)
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    shared = int(np.count_nonzero(prediction & reference))
    return 2 * shared / total if total else math.nan


def volume_similarity(prediction: MaskArray, reference: MaskArray) -> float:
    """Say how alike the sizes of two outlines are, wherever they lie: 1 is the same volume, 0 is none.

    With ``|A|`` the number of voxels of mask ``A``::

        volume similarity = 1 − | |A| − |B| | / (|A| + |B|)

    It has no unit, lies in 0..1, and higher is better. Masks that do not touch can still reach 1: read it
    beside `dice`, never alone. (Some programs give a signed quantity, ``2 (|A| − |B|) / (|A| + |B|)``, the
    same name.)

    ==============  ==============  ======
    prediction      reference       result
    ==============  ==============  ======
    empty           empty           NaN
    empty           something       0
    something       empty           0
    ==============  ==============  ======

    Args:
        prediction: True where the organ was found.
        reference: True where the organ is.

    Shape:
        - both masks: ``(*space)``, any number of axes, the same for both.

    Raises:
        ValueError: A mask is not boolean, or the shapes differ.

    Example:
        >>> import numpy as np
        >>> volume_similarity(np.array([True, True, True]), np.array([False, True, False]))
        0.5

    References:
        Sinha and Dolz, equation 13, which prints it in per cent; here it is a fraction.
    """
    require_masks(prediction, reference)
    found, true = int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))
    return 1 - abs(found - true) / (found + true) if found + true else math.nan
