"""Corrections of predicted label volumes, and the choice among them on cross-validated predictions."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from guided_attention._checks import require, require_known_keys, require_type
from guided_attention._typing import LabelArray
from guided_attention.errors import ArgumentTypeError
from guided_attention.evaluation import CaseScore, evaluate_case, mean_dice
from guided_attention.labels import LabelSpec
from guided_attention.preparation._values import tuples, whole

__all__ = ["PostProcessing", "choose_postprocessing", "keep_largest_component"]

_ARRAY = "a NumPy array of integers"


@dataclass(frozen=True)
class PostProcessing:
    """What is corrected in a predicted label volume: first all organs as one, then each organ.

    Attributes:
        foreground_as_one: Whether only the largest connected piece of all organs together is kept.
        keep_largest: Values of the organs of which only the largest connected piece is kept.

    Raises:
        ArgumentError: A value is not above 0.
        ArgumentTypeError: A field has the wrong type.

    Example:
        >>> import numpy as np
        >>> PostProcessing(keep_largest=(2,)).apply(np.array([[1, 0, 1, 2, 0, 2, 2]]))
        array([[1, 0, 1, 0, 0, 2, 2]])
    """

    foreground_as_one: bool = False
    keep_largest: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the types."""
        require_type("foreground_as_one", self.foreground_as_one, bool, "True or False")
        cure = "Pass keep_largest=labels.values for all organs."
        require_type("keep_largest", self.keep_largest, (tuple, list), "a tuple of values of organs", cure)
        values = {whole("keep_largest", value, least=1) for value in self.keep_largest}
        object.__setattr__(self, "keep_largest", tuple(sorted(values)))

    def apply(self, labels: LabelArray) -> LabelArray:
        """Return a corrected label volume; `labels` itself where nothing is to be corrected."""
        require_type("labels", labels, np.ndarray, _ARRAY)
        if self.foreground_as_one:
            labels = labels * keep_largest_component((labels > 0).astype(np.uint8))
        return keep_largest_component(labels, organs=self.keep_largest) if self.keep_largest else labels

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values, for JSON and checkpoints."""
        return {"foreground_as_one": self.foreground_as_one, "keep_largest": list(self.keep_largest)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PostProcessing":
        """Return the record that `to_dict` wrote.

        Raises:
            DataError: A key is unknown.
        """
        require_type("postprocess", values, Mapping, "a mapping")
        require_known_keys("postprocess", values, tuple(cls.__dataclass_fields__))
        return cls(values.get("foreground_as_one", False), tuples(values.get("keep_largest", ())))


def choose_postprocessing(
    predictions: Iterable[npt.NDArray[Any]], references: Iterable[npt.NDArray[Any]], labels: LabelSpec
) -> PostProcessing:
    """Choose the corrections that raise the mean Dice of predictions that were made without any.

    All organs as one are corrected if the mean over organs and cases rises; then each organ if its own mean over the
    cases rises. Predictions come from cross-validation: on its training cases a network makes few mistakes to correct.

    Args:
        predictions: One label volume a case; a generator keeps one in memory.
        references: The reference of each, in the same order.
        labels: The organs and their values.

    Raises:
        ArgumentError: There is no case, or a reference has another size than its prediction.
        ArgumentTypeError: There are not as many references as predictions, or one is no array.
        DataError: A volume holds a value without a name.

    Example:
        >>> import numpy as np
        >>> reference = np.array([[0, 1, 1, 1, 0, 0]])
        >>> prediction = np.array([[0, 1, 1, 0, 0, 1]])
        >>> choose_postprocessing([prediction], [reference], LabelSpec({1: "liver"}))
        PostProcessing(foreground_as_one=True, keep_largest=())
    """
    require_type("labels", labels, LabelSpec, "a LabelSpec")
    for name, volumes in (("predictions", predictions), ("references", references)):
        wanted, cure = "a list of label volumes", "Write [volume] for one case."
        require_type(name, volumes, Iterable, wanted, cure)
        got = f"a {type(volumes).__name__}"
        require(not hasattr(volumes, "shape"), name, wanted, got, cure, error=ArgumentTypeError)
    tried = [
        PostProcessing(as_one, organs) for as_one in (False, True) for organs in ((), tuple(labels.values))
    ]
    scores: dict[PostProcessing, list[CaseScore]] = {one: [] for one in tried}
    for number, (prediction, reference) in enumerate(zip_longest(predictions, references), 1):
        for name, volume in (("predictions", prediction), ("references", reference)):
            require_type(name, volume, np.ndarray, "one label volume for each case")
        for one in tried:
            scores[one] += _scored(one.apply(prediction), reference, labels, f"number {number}")
    require(bool(scores[tried[0]]), "predictions", "of at least one case", "none")
    plain, plain_each, joined, joined_each = (scores[one] for one in tried)
    as_one = mean_dice(joined) > mean_dice(plain)
    without, kept = (joined, joined_each) if as_one else (plain, plain_each)
    better = [v for v, name in labels.names.items() if _dice(kept, name) > _dice(without, name)]
    return PostProcessing(as_one, tuple(better))


def _scored(
    prediction: LabelArray, reference: LabelArray, labels: LabelSpec, case_id: str
) -> list[CaseScore]:
    # Dice does not depend on the spacing.
    unit = (1.0,) * prediction.ndim
    return evaluate_case(
        prediction, reference, labels=labels, spacing_mm=unit, case_id=case_id, definition=None
    )


def _dice(rows: Iterable[CaseScore], organ: str) -> float:
    return mean_dice([row for row in rows if row.organ == organ])


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
    require_type("labels", labels, np.ndarray, _ARRAY)
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
    if not mask.any():
        return
    boxes = ndimage.find_objects(mask.astype(np.uint8))
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
