"""Frozen records that pass between subpackages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from guided_attention._geometry import spacing_of
from guided_attention._typing import Affine, LabelVolume, SpacingMm, UncertaintyVolume
from guided_attention.case import Source

__all__ = ["LossTerms", "Prediction", "SegmentationOutput", "takes_outputs"]

_MARK = "takes_outputs"

_Loss = TypeVar("_Loss", bound=Callable[..., object])


@dataclass(frozen=True)
class SegmentationOutput:
    """Everything that one pass through a segmentation network gives for training.

    All logits have the shape ``(batch, classes, *space)`` of the network's input. A network without side
    outputs, codes or reconstructions leaves those tuples empty.

    Attributes:
        logits: The prediction: what ``model(x)`` returns.
        raw_logits: Side predictions from the maps before attention, one a scale, fine to coarse
            (the first sum of equation 10).
        attended_logits: Predictions from the attended maps (the second sum of equation 10): for each supervised
            step in order, one a scale, fine to coarse.
        codes: Pairs of codes of successive steps on the same scale, ``(E_i, E_{i+1})`` of equation 6.
        reconstructions: Pairs ``(input, reconstruction)`` of each autoencoder on each scale, equation 7.

    Example:
        >>> import torch
        >>> SegmentationOutput(logits=torch.zeros(1, 5, 8, 8)).codes
        ()
    """

    logits: Tensor
    raw_logits: tuple[Tensor, ...] = ()
    attended_logits: tuple[Tensor, ...] = ()
    codes: tuple[tuple[Tensor, Tensor], ...] = ()
    reconstructions: tuple[tuple[Tensor, Tensor], ...] = ()


@dataclass(frozen=True)
class LossTerms:
    """A loss and the named parts it is the sum of.

    Attributes:
        total: The scalar to call ``backward`` on.
        parts: Each part as a scalar, unweighted, by name: what the training log reports.

    Example:
        >>> import torch
        >>> terms = LossTerms(total=torch.tensor(2.0), parts={"segmentation": torch.tensor(2.0)})
        >>> sorted(terms.parts)
        ['segmentation']
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


def takes_outputs(loss: _Loss) -> _Loss:
    """Mark a loss that takes the whole `SegmentationOutput` and returns `LossTerms`: a function, or a class of modules.

    `Trainer` passes the logits to every other loss, such as ``torch.nn.CrossEntropyLoss()``.

    Example:
        >>> @takes_outputs
        ... def loss(output, target):
        ...     value = torch.nn.functional.cross_entropy(output.logits, target)
        ...     return LossTerms(value, parts={"segmentation": value})
        >>> import torch
        >>> loss(SegmentationOutput(torch.zeros(1, 2, 3)), torch.ones(1, 3, dtype=torch.long)).total
        tensor(0.6931)
    """
    setattr(loss, _MARK, True)
    return loss


@dataclass(frozen=True, eq=False)
class Prediction:
    """The predicted labels of one case, with the geometry the case came with.

    Attributes:
        case_id: Name of the case.
        labels: Label of each voxel, ``(depth, height, width)``, the smallest unsigned type.
        uncertainty: Entropy of the class probabilities of each voxel divided by ``log(classes)``: 0 is certain,
            1 means that all classes are equally probable. Same shape, float32.
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` to millimetres in the RAS frame: that of the scan.
        source: Where the scan was read from, None where that is unknown.
    """

    case_id: str
    labels: LabelVolume
    uncertainty: UncertaintyVolume
    affine: Affine
    source: Source | None = None

    @property
    def spacing_mm(self) -> SpacingMm:
        """Distance between voxel centres in millimetres, ``(z, y, x)``."""
        return spacing_of(self.affine)
