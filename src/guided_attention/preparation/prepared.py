"""Prepared: a scan as a network sees it, with the way back to the scan's own grid."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guided_attention._checks import counted, require, require_type
from guided_attention._typing import Affine, ImageVolume, LabelVolume
from guided_attention.preparation._values import whole
from guided_attention.preparation.grid import Grid

__all__ = ["Prepared"]

_SLICES = 8
"""Slices of another precision that are converted at once."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan as a network sees it. `Preparation.apply` makes it.

    Axes are those of the canonical orientation: slices lie along the first one.

    Attributes:
        case_id: Name of the case.
        image: ``(channels, depth, height, width)``, float32.
        labels: ``(depth, height, width)``, values as in the case; None for a case without labels.
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` of this volume to RAS millimetres.
        grid: Where each voxel lies in the scan.
        neighbours: Slices on either side that `slices` adds as channels.

    Example:
        >>> from guided_attention.data import make_phantom
        >>> from guided_attention.preparation import Preparation
        >>> case = make_phantom(0, size=16)
        >>> prepared = Preparation(slice_axis="axial", multiple=(32, 32)).apply(case)
        >>> prepared.image.shape[2:], prepared.slices(0, 2).shape
        ((32, 32), torch.Size([2, 1, 32, 32]))
        >>> scores = torch.nn.functional.one_hot(torch.from_numpy(prepared.labels).long()).permute(3, 0, 1, 2)
        >>> bool((prepared.restore(scores.float()) == case.labels).all())
        True
    """

    case_id: str
    image: ImageVolume
    labels: LabelVolume | None
    affine: Affine
    grid: Grid
    neighbours: int = 0

    def slices(self, start: int, stop: int) -> Tensor:
        """Return slices as a batch ``(slices, channels * (2 * neighbours + 1), height, width)``.

        The channels of slice ``z - neighbours`` come first; the edges of the volume repeat.

        Args:
            start: First slice.
            stop: The slice after the last.

        Raises:
            ArgumentError: The slices do not lie in the volume.
            ArgumentTypeError: A number is not whole.
        """
        start, stop = whole("start", start, least=0), whole("stop", stop, least=1)
        depth = self.image.shape[1]
        require(0 <= start < stop <= depth, "start", f"a range of slices from 0 to {depth}", (start, stop))
        reach = range(-self.neighbours, self.neighbours + 1)
        places = [np.clip(np.arange(start, stop) + offset, 0, depth - 1) for offset in reach]
        stacked = np.concatenate([self.image[:, place] for place in places])
        return torch.from_numpy(np.ascontiguousarray(stacked.swapaxes(0, 1)))

    def restored(self, blocks: Iterable[Tensor]) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """Bring scores to the scan's own grid, slice by slice.

        Scores are interpolated linearly before any arg-max. Voxels that a crop removed are background.

        Args:
            blocks: Logits or probabilities ``(classes, slices, height, width)`` of consecutive slices of this volume,
                from the first to the last.

        Yields:
            Index into the canonical view of a volume of the scan (see `Grid.turn`), and the scores
            ``(classes, slices, height, width)`` there.

        Raises:
            ArgumentTypeError: A block is no tensor.
            ArgumentError: A block has another size or number of classes, is not floating-point, or there are not as
                many slices as in this volume.
        """
        require_type("blocks", blocks, Iterable, "an iterable of tensors")
        for part, scores in self.grid.restored(self._checked_blocks(blocks)):
            yield (part,), scores

    def _checked_blocks(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        depth, height, width = self.image.shape[1:]
        classes, seen = 0, 0
        for block in blocks:
            require_type("blocks", block, Tensor, "an iterable of tensors")
            classes = classes or (block.shape[0] if block.ndim else 0)
            wanted = f"of shape ({classes or 'classes'}, slices, {height}, {width})"
            good = block.ndim == 4 and block.shape[0] == classes and block.shape[2:] == (height, width)  # noqa: PLR2004
            require(good, "blocks", wanted, tuple(block.shape))
            require(
                block.is_floating_point(),
                "blocks",
                "of floating-point numbers",
                block.dtype,
                "Call `.float()`.",
            )
            seen += block.shape[1]
            require(seen <= depth, "blocks", f"of {counted(depth, 'slice')} together", f"{seen} or more")
            yield block.detach().float()
        require(seen == depth, "blocks", f"of {counted(depth, 'slice')} together", seen)

    def restore(self, scores: Tensor | npt.NDArray[Any]) -> LabelVolume:
        """Return the class of the highest score at every voxel of the scan, in the scan's own storage order.

        Args:
            scores: Logits or probabilities ``(classes, depth, height, width)`` on the grid of this volume.

        Returns:
            Class numbers ``(depth, height, width)``, the smallest unsigned type; of equal scores the lowest class.

        Raises:
            ArgumentTypeError: `scores` is no array or tensor.
            ArgumentError: The scores have another size, are not floating-point, hold NaN, or are of one class.
        """
        checked = self._checked_scores(scores)
        at_once = checked.shape[1] if checked.dtype == torch.float32 else _SLICES
        blocks = (checked[:, z : z + at_once] for z in range(0, checked.shape[1], at_once))
        labels = np.empty(self.grid.scan_shape, np.min_scalar_type(len(checked) - 1))
        view = self.grid.turn.apply(labels)
        for part, block in self.restored(blocks):
            highest = block.max(dim=0)  # as argmax, in a fraction of its time
            known = not bool(highest.values.isnan().any())
            require(
                known,
                "scores",
                "numbers",
                "NaN",
                "Look for NaN, or infinite scores, in what the network gives.",
            )
            view[part] = highest.indices.cpu().numpy()
        return labels

    def _checked_scores(self, scores: Tensor | npt.NDArray[Any]) -> Tensor:
        require_type("scores", scores, (Tensor, np.ndarray), "a tensor or an array")
        if isinstance(scores, Tensor):
            plain = scores.layout == torch.strided and not scores.is_meta
            require(
                plain, "scores", "a dense tensor with values", f"one of {scores.layout} on {scores.device}"
            )
            tensor = scores.detach()
        else:
            require(scores.dtype.kind == "f", "scores", "of floating-point numbers", scores.dtype)
            tensor = torch.from_numpy(np.ascontiguousarray(scores, dtype=np.float32))
        wanted = f"(classes, {', '.join(map(str, self.image.shape[1:]))})"
        good = tensor.ndim == 4 and tuple(tensor.shape[1:]) == self.image.shape[1:]  # noqa: PLR2004
        require(good, "scores", f"of shape {wanted}", tuple(tensor.shape))
        require(tensor.shape[0] > 1, "scores", "of at least 2 classes", tensor.shape[0])
        require(
            tensor.is_floating_point(),
            "scores",
            "of floating-point numbers",
            tensor.dtype,
            "Call `.float()`.",
        )
        return tensor
