"""Overlap and volume of masks: what two outlines share, what they miss, and how large they are."""

import math
from typing import NamedTuple

import numpy as np

from guided_attention._checks import require
from guided_attention._typing import MaskArray, SpacingMm
from guided_attention.metrics._masks import require_mask, require_masks, require_spacing

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
    """Voxels of the prediction, of the reference, and of both at once: all that these metrics hang on."""

    found: int
    true: int
    shared: int

    @classmethod
    def of(cls, prediction: MaskArray, reference: MaskArray) -> "Counts":
        """Count two masks."""
        masks = (prediction, reference, prediction & reference)
        return cls(*(int(np.count_nonzero(mask)) for mask in masks))

    def dice(self) -> float:
        """See `dice`."""
        total = self.found + self.true
        return 2 * self.shared / total if total else math.nan

    def jaccard(self) -> float:
        """See `jaccard`."""
        covered = self.found + self.true - self.shared
        return self.shared / covered if covered else math.nan

    def sensitivity(self) -> float:
        """See `sensitivity`."""
        return _share(self.shared, self.true, self.found)

    def precision(self) -> float:
        """See `precision`."""
        return _share(self.shared, self.found, self.true)

    def volume_similarity(self) -> float:
        """See `volume_similarity`."""
        total = self.found + self.true
        return 1 - abs(self.found - self.true) / total if total else math.nan

    def relative_volume_difference(self) -> float:
        """See `relative_volume_difference`."""
        if not self.true:
            return math.inf if self.found else math.nan
        return 100 * abs(self.found - self.true) / self.true


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
    return Counts.of(prediction, reference).dice()


def jaccard(prediction: MaskArray, reference: MaskArray) -> float:
    """Say how much of all that two outlines cover is covered by both: 1 is a perfect match, 0 is none.

    The Jaccard index, also called intersection over union, with ``|A|`` the number of voxels of mask ``A``::

        jaccard = |A ∩ B| / |A ∪ B|

    It has no unit, lies in 0..1, and higher is better. It does not change when the masks change places. It
    says the same as `dice` in other numbers, ``dice / (2 − dice)``, which are never higher: name the one that
    you report.

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
        >>> jaccard(np.array([True, True, False]), np.array([False, True, False]))
        0.5

    References:
        Jaccard, "The distribution of the flora in the alpine zone", 1912.
    """
    require_masks(prediction, reference)
    return Counts.of(prediction, reference).jaccard()


def sensitivity(prediction: MaskArray, reference: MaskArray) -> float:
    """Say which share of the organ was found: 1 is all of it, 0 is none.

    Also called recall or true positive rate. With ``P`` the prediction, ``R`` the reference and ``|A|`` the
    number of voxels of mask ``A``::

        sensitivity = |P ∩ R| / |R|

    It has no unit, lies in 0..1, and higher is better. A prediction of the whole image reaches 1: read it
    beside `precision`, never alone.

    ==============  ==============  ======
    prediction      reference       result
    ==============  ==============  ======
    empty           empty           NaN
    empty           something       0
    something       empty           0
    ==============  ==============  ======

    The last row is a decision: the formula alone has 0 / 0 there, and a NaN would let a false alarm vanish
    from a mean.

    Args:
        prediction: True where the organ was found.
        reference: True where the organ is.

    Shape:
        - both masks: ``(*space)``, any number of axes, the same for both.

    Raises:
        ValueError: A mask is not boolean, or the shapes differ.

    Example:
        >>> import numpy as np
        >>> sensitivity(np.array([True, False, False]), np.array([True, True, False]))
        0.5

    References:
        Taha and Hanbury, "Metrics for evaluating 3D medical image segmentation", BMC Medical Imaging 15, 2015.
    """
    require_masks(prediction, reference)
    return Counts.of(prediction, reference).sensitivity()


def precision(prediction: MaskArray, reference: MaskArray) -> float:
    """Say which share of what was found is organ: 1 is all of it, 0 is none.

    Also called positive predictive value. With ``P`` the prediction, ``R`` the reference and ``|A|`` the
    number of voxels of mask ``A``::

        precision = |P ∩ R| / |P|

    It has no unit, lies in 0..1, and higher is better. One voxel well inside the organ reaches 1: read it
    beside `sensitivity`, never alone. `dice` is the harmonic mean of the two.

    ==============  ==============  ======
    prediction      reference       result
    ==============  ==============  ======
    empty           empty           NaN
    empty           something       0
    something       empty           0
    ==============  ==============  ======

    The middle row is a decision: the formula alone has 0 / 0 there, and a NaN would let a missed organ vanish
    from a mean.

    Args:
        prediction: True where the organ was found.
        reference: True where the organ is.

    Shape:
        - both masks: ``(*space)``, any number of axes, the same for both.

    Raises:
        ValueError: A mask is not boolean, or the shapes differ.

    Example:
        >>> import numpy as np
        >>> precision(np.array([True, True, False]), np.array([False, True, False]))
        0.5

    References:
        Taha and Hanbury, "Metrics for evaluating 3D medical image segmentation", BMC Medical Imaging 15, 2015.
    """
    require_masks(prediction, reference)
    return Counts.of(prediction, reference).precision()


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
    return Counts.of(prediction, reference).volume_similarity()


def relative_volume_difference(prediction: MaskArray, reference: MaskArray) -> float:
    """Say by how many per cent of the organ's volume the predicted volume is wrong, too large or too small.

    The absolute relative volume difference, "RAVD" in CHAOS. With ``P`` the prediction, ``R`` the reference
    and ``|A|`` the number of voxels of mask ``A``::

        relative volume difference = 100 · | |P| − |R| | / |R|

    It is in per cent of the reference, 0 or more without a limit, and lower is better. Masks that do not touch
    can still reach 0: read it beside `dice`, never alone. The masks must not change places: the reference is
    what is divided by.

    ==============  ==============  ======
    prediction      reference       result
    ==============  ==============  ======
    empty           empty           NaN
    empty           something       100
    something       empty           inf
    ==============  ==============  ======

    Too large a prediction can be worse than 100, the value of a missed organ: a mean of this quantity alone
    says little about missed organs.

    Args:
        prediction: True where the organ was found.
        reference: True where the organ is.

    Shape:
        - both masks: ``(*space)``, any number of axes, the same for both.

    Raises:
        ValueError: A mask is not boolean, or the shapes differ.

    Example:
        >>> import numpy as np
        >>> relative_volume_difference(np.array([True, True, True]), np.array([False, True, True]))
        50.0

    References:
        Kavur et al., CHAOS challenge, Medical Image Analysis 69, 2021.
    """
    require_masks(prediction, reference)
    return Counts.of(prediction, reference).relative_volume_difference()


def volume_ml(mask: MaskArray, spacing_mm: SpacingMm) -> float:
    """Give the volume of an organ in millilitres.

    With ``|A|`` the number of voxels of the mask::

        volume = |A| · spacing_z · spacing_y · spacing_x / 1000

    An empty mask has the volume 0, which is a measurement and no failure.

    Args:
        mask: True where the organ is.
        spacing_mm: Distance between voxel centres in millimetres, (z, y, x).

    Shape:
        - the mask: ``(depth, height, width)``.

    Raises:
        ValueError: The mask is not boolean or has not three axes, or a spacing is not above 0.

    Example:
        >>> import numpy as np
        >>> volume_ml(np.ones((2, 10, 10), dtype=bool), (5.0, 2.0, 1.0))
        2.0
    """
    require_mask("mask", mask)
    require(mask.ndim == 3, "mask", "of 3 axes", f"{mask.ndim} axes", cure="A slice has an area.")  # noqa: PLR2004
    require_spacing(spacing_mm, mask.ndim)
    return int(np.count_nonzero(mask)) * math.prod(float(length) for length in spacing_mm) / _MM3_PER_ML


def _share(shared: int, whole: int, other: int) -> float:
    """Return the part of `whole` that is shared; of nothing 0, or NaN where the other mask is empty too."""
    if whole:
        return shared / whole
    return 0.0 if other else math.nan
