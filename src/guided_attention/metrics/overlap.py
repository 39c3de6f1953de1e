"""Overlap and volume of two masks.

With ``P`` the prediction, ``R`` the reference and ``|A|`` the number of voxels of mask ``A``:

==============================  ====================================  ==========  ======  ===========
function                        formula                               both empty  missed  false alarm
==============================  ====================================  ==========  ======  ===========
`dice`                          ``2 |P ∩ R| / (|P| + |R|)``           NaN         0       0
`jaccard`                       ``|P ∩ R| / |P ∪ R|``                 NaN         0       0
`sensitivity`                   ``|P ∩ R| / |R|``                     NaN         0       0
`precision`                     ``|P ∩ R| / |P|``                     NaN         0       0
`volume_similarity`             ``1 − | |P| − |R| | / (|P| + |R|)``   NaN         0       0
`relative_volume_difference`    ``100 · | |P| − |R| | / |R|``         NaN         100     inf
==============================  ====================================  ==========  ======  ===========

An organ is *missed* if the prediction is empty and the reference is not; a *false alarm* is the reverse. The
sensitivity of a false alarm and the precision of a missed organ are 0 / 0 by the formula. Here they are 0, because a
NaN would drop the failure from a mean.

The first five have no unit, lie in 0..1, and higher is better. The last is in per cent, 0 or more, and lower is better.
None says enough on its own: a prediction of the whole image has sensitivity 1, one voxel inside the organ has precision
1, and masks that do not touch can have equal volumes. Report `dice` beside them.

All take boolean arrays or tensors of any number of axes, ``(*space)``, the same shape for both. They raise an
`ArgumentTypeError` for anything else, and an `ArgumentError` for masks that are not boolean or differ in shape.

Sinha and Dolz, equations 12 and 13, print Dice and volume similarity in per cent; here they are fractions. Jaccard,
"The distribution of the flora in the alpine zone", 1912. Taha and Hanbury, "Metrics for evaluating 3D medical image
segmentation", BMC Medical Imaging 15, 2015. Kavur et al., CHAOS challenge, Medical Image Analysis 69, 2021 ("RAVD").
"""

import math
from typing import NamedTuple

import numpy as np

from guided_attention._checks import counted, require
from guided_attention._typing import AnyMask, MaskArray, Numbers
from guided_attention.metrics._inputs import as_lengths, as_mask, as_masks

__all__ = [
    "Counts",
    "dice",
    "jaccard",
    "precision",
    "relative_volume_difference",
    "sensitivity",
    "volume_ml",
    "volume_similarity",
]

_MM3_PER_ML = 1000


class Counts(NamedTuple):
    """Voxels of the prediction, of the reference, and of both: everything that these metrics depend on."""

    predicted: int
    expected: int
    shared: int

    @classmethod
    def of(cls, prediction: MaskArray, reference: MaskArray) -> "Counts":
        """Count two masks."""
        masks = (prediction, reference, prediction & reference)
        return cls(*(int(np.count_nonzero(mask)) for mask in masks))

    def dice(self) -> float:
        """See `dice`."""
        total = self.predicted + self.expected
        return 2 * self.shared / total if total else math.nan

    def jaccard(self) -> float:
        """See `jaccard`."""
        covered = self.predicted + self.expected - self.shared
        return self.shared / covered if covered else math.nan

    def sensitivity(self) -> float:
        """See `sensitivity`."""
        return _share(self.shared, self.expected, self.predicted)

    def precision(self) -> float:
        """See `precision`."""
        return _share(self.shared, self.predicted, self.expected)

    def volume_similarity(self) -> float:
        """See `volume_similarity`."""
        total = self.predicted + self.expected
        return 1 - abs(self.predicted - self.expected) / total if total else math.nan

    def relative_volume_difference(self) -> float:
        """See `relative_volume_difference`."""
        if not self.expected:
            return math.inf if self.predicted else math.nan
        return 100 * abs(self.predicted - self.expected) / self.expected


def dice(prediction: AnyMask, reference: AnyMask) -> float:
    """Return the Dice coefficient: twice the shared voxels divided by the voxels of both masks.

    See `guided_attention.metrics.overlap`.

    Example:
        >>> import numpy as np
        >>> dice(np.array([True, True, False]), np.array([False, True, False]))
        0.6666666666666666
    """
    return Counts.of(*as_masks(prediction, reference)).dice()


def jaccard(prediction: AnyMask, reference: AnyMask) -> float:
    """Return the Jaccard index (intersection over union), ``dice / (2 − dice)``.

    See `guided_attention.metrics.overlap`.

    Example:
        >>> import numpy as np
        >>> jaccard(np.array([True, True, False]), np.array([False, True, False]))
        0.5
    """
    return Counts.of(*as_masks(prediction, reference)).jaccard()


def sensitivity(prediction: AnyMask, reference: AnyMask) -> float:
    """Return the share of the reference that was found: recall, true positive rate.

    See `guided_attention.metrics.overlap`.

    Example:
        >>> import numpy as np
        >>> sensitivity(np.array([True, False, False]), np.array([True, True, False]))
        0.5
    """
    return Counts.of(*as_masks(prediction, reference)).sensitivity()


def precision(prediction: AnyMask, reference: AnyMask) -> float:
    """Return the share of the prediction that is right: positive predictive value.

    See `guided_attention.metrics.overlap`.

    Example:
        >>> import numpy as np
        >>> precision(np.array([True, True, False]), np.array([False, True, False]))
        0.5
    """
    return Counts.of(*as_masks(prediction, reference)).precision()


def volume_similarity(prediction: AnyMask, reference: AnyMask) -> float:
    """Return how similar the volumes of two masks are, wherever the masks lie.

    Some programs give this name to a signed quantity. See `guided_attention.metrics.overlap`.

    Example:
        >>> import numpy as np
        >>> volume_similarity(np.array([True, True, True]), np.array([False, True, False]))
        0.5
    """
    return Counts.of(*as_masks(prediction, reference)).volume_similarity()


def relative_volume_difference(prediction: AnyMask, reference: AnyMask) -> float:
    """Return the absolute difference of the volumes in per cent of the reference: "RAVD" in CHAOS.

    See `guided_attention.metrics.overlap`.

    Example:
        >>> import numpy as np
        >>> relative_volume_difference(np.array([True, True, True]), np.array([False, True, True]))
        50.0
    """
    return Counts.of(*as_masks(prediction, reference)).relative_volume_difference()


def volume_ml(mask: AnyMask, spacing_mm: Numbers) -> float:
    """Return the volume of a mask in millilitres; an empty mask has the volume 0.

    Args:
        mask: True where the organ is, ``(depth, height, width)``.
        spacing_mm: Distance between voxel centres in millimetres, (z, y, x).

    Raises:
        ArgumentError: The mask is not boolean or has not three axes, or a spacing is not above 0.
        ArgumentTypeError: The mask is no array, or the spacing is not made of numbers.

    Example:
        >>> import numpy as np
        >>> volume_ml(np.ones((2, 10, 10), dtype=bool), (5.0, 2.0, 1.0))
        2.0
    """
    voxels = as_mask("mask", mask)
    got, cure = counted(voxels.ndim, "axis", "axes"), "A slice has an area."
    require(voxels.ndim == 3, "mask", "of 3 axes", got, cure)  # noqa: PLR2004
    lengths = as_lengths(spacing_mm, voxels.ndim)
    return int(np.count_nonzero(voxels)) * math.prod(lengths) / _MM3_PER_ML


def _share(shared: int, whole: int, other: int) -> float:
    """Return the part of `whole` that is shared; of nothing 0, or NaN where the other mask is empty too."""
    if whole:
        return shared / whole
    return 0.0 if other else math.nan
