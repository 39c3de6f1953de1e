"""Transforms: normalisation of whole volumes, cropping, resampling, random changes of slices in training."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, radians, sin
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from scipy import ndimage
from torch import Tensor

from guided_attention._checks import require
from guided_attention._typing import ImageSlice, LabelSlice
from guided_attention.data._geometry import moved
from guided_attention.data.case import Case

__all__ = [
    "Chain",
    "FlipRotate",
    "RandomIntensity",
    "crop_or_pad",
    "flip_rotate",
    "normalize",
    "resample_in_plane",
    "window",
]


def normalize(case: Case, *, percentiles: tuple[float, float] = (0.5, 99.5)) -> Case:
    """Bring the grey values of a scan to mean 0 and standard deviation 1, over the whole volume.

    Each channel apart: values are clipped to two percentiles of the volume, then
    ``(value - mean) / standard deviation`` of what the clipping left. Never slice by slice, as the paper's
    code does (least to greatest value of each slice): that would give the same tissue another grey in every
    slice.

    Args:
        case: A scan whose grey values have no unit (MR). For CT, `window` keeps Hounsfield units comparable.
        percentiles: Lower and upper percentile, 0 to 100.

    Returns:
        The case with the new image.

    Raises:
        ValueError: A channel has one value between the percentiles, or the percentiles are not ascending.

    Example:
        >>> from guided_attention.data import make_phantom
        >>> image = normalize(make_phantom(0, size=16)).image
        >>> abs(float(image.mean())) < 1e-5, abs(float(image.std()) - 1) < 1e-4
        (True, True)
    """
    low, high = percentiles
    require(0 <= low < high <= 100, "percentiles", "ascending from 0 to 100", percentiles)  # noqa: PLR2004
    channels = [_standardised(channel, percentiles, f"image of case {case.id!r}") for channel in case.image]
    return replace(case, image=np.stack(channels))


def _standardised(
    channel: npt.NDArray[np.float32], percentiles: tuple[float, float], where: str
) -> npt.NDArray[np.float32]:
    low, high = np.percentile(channel, percentiles).tolist()
    cure = "Look at the scan: it is empty or nearly so."
    require(low < high, where, "more than one grey value", f"{low} from percentile to percentile", cure)
    clipped = channel.clip(low, high).astype(np.float64)
    standardised: npt.NDArray[np.float64] = (clipped - clipped.mean()) / clipped.std()
    return standardised.astype(np.float32)


def window(case: Case, low: float, high: float) -> Case:
    """Show a range of grey values, as a radiologist's window does: ``low`` becomes 0, ``high`` becomes 1.

    Values outside are clipped. For CT, -160 to 240 Hounsfield units show soft tissue.

    Args:
        case: A scan.
        low: The value that becomes 0.
        high: The value that becomes 1.

    Returns:
        The case with the new image.

    Raises:
        ValueError: ``low`` is not below ``high``.

    Example:
        >>> import numpy as np
        >>> case = Case("7", np.full((1, 2, 3, 5), 40.0, np.float32), None, (9.0, 1.5, 1.5), np.eye(4))
        >>> float(window(case, -160, 240).image.max())
        0.5
    """
    require(low < high, "low", f"below `high`, {high}", low)
    image = (case.image.clip(low, high) - low) / (high - low)
    return replace(case, image=image.astype(np.float32))


def crop_or_pad(case: Case, size: tuple[int, int]) -> Case:
    """Bring every slice to one size about its centre; voxels keep their place in the patient.

    Where a number of pixels is odd, the one more goes to the end of the axis. Images are padded with the
    volume's least value (each channel apart), labels with background; the affine moves with the first voxel.

    Args:
        case: A scan.
        size: Height and width wanted, in pixels.

    Returns:
        The case with new image, labels and affine.

    Raises:
        ValueError: A size is not above 0.

    Example:
        >>> import numpy as np
        >>> case = Case("7", np.zeros((1, 2, 3, 5), np.float32), None, (9.0, 1.5, 1.5), np.eye(4))
        >>> changed = crop_or_pad(case, (7, 3))
        >>> changed.image.shape, changed.affine[:3, 3].tolist()
        ((1, 2, 7, 3), [1.0, -2.0, 0.0])
    """
    require(min(size) > 0, "size", "above 0", size)
    old = (case.image.shape[2], case.image.shape[3])
    start = (_centred(old[0], size[0]), _centred(old[1], size[1]))
    image = np.stack([_boxed(channel, start, size, float(channel.min())) for channel in case.image])
    labels = None if case.labels is None else _boxed(case.labels, start, size, 0)
    affine = moved(case.affine, start=(0.0, float(start[0]), float(start[1])), step=(1.0, 1.0, 1.0))
    return replace(case, image=image, labels=labels, affine=affine)


def _centred(old: int, new: int) -> int:
    """Return the old index at which the new axis starts, negative where it is padded."""
    return (old - new) // 2 if old >= new else -((new - old) // 2)


def _boxed(
    array: npt.NDArray[Any], start: tuple[int, int], size: tuple[int, int], fill: float
) -> npt.NDArray[Any]:
    boxed = np.full((*array.shape[:-2], *size), fill, dtype=array.dtype)
    rows, columns = (_overlap(*axis) for axis in zip(array.shape[-2:], start, size, strict=True))
    boxed[..., rows[1], columns[1]] = array[..., rows[0], columns[0]]
    return boxed


def _overlap(old: int, start: int, new: int) -> tuple[slice, slice]:
    """Return where the new axis and the old one meet: as indices of the old and of the new."""
    first, last = max(start, 0), min(start + new, old)
    return slice(first, last), slice(first - start, last - start)


def crop_or_pad_slice(
    image: ImageSlice, labels: LabelSlice, size: tuple[int, int], *, fill: Tensor, random: bool
) -> tuple[Tensor, Tensor]:
    """Bring one slice to a size, about its centre or at random; padded with `fill`, one value a channel."""
    old = image.shape[1:]
    rows, columns = (_start(*axis, random=random) for axis in zip(old, size, strict=True))
    tall, wide = _overlap(old[0], rows, size[0]), _overlap(old[1], columns, size[1])
    new_image, new_labels = fill[:, None, None].repeat(1, *size), labels.new_zeros(size)
    new_image[:, tall[1], wide[1]] = image[:, tall[0], wide[0]]
    new_labels[tall[1], wide[1]] = labels[tall[0], wide[0]]
    return new_image, new_labels


def _start(old: int, new: int, *, random: bool) -> int:
    if not random:
        return _centred(old, new)
    drawn = int(torch.randint(abs(old - new) + 1, ()))
    return drawn if old >= new else -drawn


def resample_in_plane(case: Case, spacing_mm: float | tuple[float, float]) -> Case:
    """Bring the pixels of every slice to another size in millimetres; slices and their distance stay.

    The new grid has the old one's centre and ``round(pixels · old / new)`` pixels along an axis, exactly
    ``spacing_mm`` apart; the affine is updated so that every position in the patient stays where it was.
    Images are interpolated linearly (without smoothing before, so halving a size averages pairs and more
    loses detail unevenly), labels take their nearest voxel; beyond the edge, the edge goes on.

    Args:
        case: A scan.
        spacing_mm: Distance between pixels in millimetres: one for both directions, or ``(y, x)``.

    Returns:
        The case with new image, labels, spacing and affine.

    Raises:
        ValueError: A spacing is not above 0.

    Example:
        >>> import numpy as np
        >>> affine = np.diag([1.5, 1.5, 9.0, 1.0])
        >>> case = Case("7", np.zeros((1, 2, 8, 6), np.float32), None, (9.0, 1.5, 1.5), affine)
        >>> changed = resample_in_plane(case, 3.0)
        >>> changed.image.shape, changed.affine[:3, 3].tolist()
        ((1, 2, 4, 3), [0.75, 0.75, 0.0])
    """
    wanted = spacing_mm if isinstance(spacing_mm, tuple) else (spacing_mm, spacing_mm)
    require(min(wanted) > 0, "spacing_mm", "above 0", spacing_mm)
    old = np.array(case.image.shape[2:])
    step = np.array(wanted) / np.array(case.spacing_mm[1:])
    new = np.maximum(np.round(old / step), 1).astype(int)
    start = (old - 1) / 2 - (new - 1) / 2 * step
    resample = _resampler(start, step, new)
    labels = None if case.labels is None else resample(case.labels, 0)
    affine = moved(
        case.affine, start=(0.0, float(start[0]), float(start[1])), step=(1.0, float(step[0]), float(step[1]))
    )
    image = np.stack([resample(channel, 1) for channel in case.image])
    return replace(case, image=image, labels=labels, spacing_mm=(case.spacing_mm[0], *wanted), affine=affine)


def _resampler(
    start: npt.NDArray[np.float64], step: npt.NDArray[np.float64], new: npt.NDArray[np.int_]
) -> Callable[[npt.NDArray[Any], Literal[0, 1]], npt.NDArray[Any]]:
    matrix, offset = np.array([1.0, *step]), np.array([0.0, *start])

    def resample(volume: npt.NDArray[Any], order: Literal[0, 1]) -> npt.NDArray[Any]:
        shape = (volume.shape[0], int(new[0]), int(new[1]))
        return ndimage.affine_transform(
            volume, matrix, offset, output_shape=shape, order=order, mode="nearest"
        )

    return resample


def flip_rotate(
    image: ImageSlice, labels: LabelSlice, *, flipped: bool, mirrored: bool, degrees: float
) -> tuple[ImageSlice, LabelSlice]:
    """Flip a slice upside down, mirror it left to right, then turn it about its centre; labels alike.

    Flips are exact. The turn (counterclockwise as displayed, rows downwards) interpolates the image linearly
    and takes the nearest label; what turns in from outside is the image's least value, each channel apart,
    and background. Pixels are taken as square.

    Args:
        image: ``(channels, height, width)``.
        labels: ``(height, width)``.
        flipped: Whether top and bottom change places.
        mirrored: Whether left and right change places.
        degrees: How far to turn.

    Returns:
        Image and labels of the same shapes.

    Example:
        >>> import torch
        >>> image, labels = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[0, 1]])
        >>> flip_rotate(image, labels, flipped=False, mirrored=True, degrees=0.0)
        (tensor([[[2., 1.]]]), tensor([[1, 0]]))
    """
    axes = [axis for axis, wanted in ((-2, flipped), (-1, mirrored)) if wanted]
    image, labels = image.flip(axes), labels.flip(axes)
    return (image, labels) if degrees == 0 else _rotated(image, labels, degrees)


def _rotated(image: Tensor, labels: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    height, width = labels.shape
    grid = _rotation_grid(height, width, degrees, image.dtype).to(image.device)
    # Outside is zero to grid_sample: with the least value at zero, the outside is the least value.
    lowest = image.amin(dim=(1, 2), keepdim=True)
    turned = F.grid_sample((image - lowest)[None], grid, mode="bilinear", align_corners=False)[0] + lowest
    nearest = F.grid_sample(labels[None, None].to(image.dtype), grid, mode="nearest", align_corners=False)[
        0, 0
    ]
    return turned, nearest.to(labels.dtype)


def _rotation_grid(height: int, width: int, degrees: float, dtype: torch.dtype) -> Tensor:
    """Return where to sample: a turn in pixels, in grid_sample's units of half a height and width."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    matrix = torch.tensor([[[c, -s * height / width, 0.0], [s * width / height, c, 0.0]]], dtype=dtype)
    return F.affine_grid(matrix, [1, 1, height, width], align_corners=False)


@dataclass(frozen=True)
class FlipRotate:
    """Random flip, mirror and rotation of training slices: the three changes the paper names, each by chance.

    Draws come from torch's generator: seed it with `torch.manual_seed`, a `DataLoader` seeds its workers.
    See `flip_rotate` for what is done with what was drawn.

    Attributes:
        flip: Probability of an upside-down flip.
        mirror: Probability of a left-right mirror. It puts the liver on the left: organs are told from their
            sides by position, so a network for CHAOS may do better with 0.
        rotate: Probability of a rotation.
        degrees: Rotations are drawn evenly from ``-degrees`` to ``degrees``. The paper gives no angle.

    Raises:
        ValueError: A probability is not from 0 to 1.

    Example:
        >>> import torch
        >>> augment = FlipRotate(degrees=15.0)
        >>> image, labels = augment(torch.rand(1, 7, 5), torch.zeros(7, 5, dtype=torch.long))
        >>> image.shape, labels.dtype
        (torch.Size([1, 7, 5]), torch.int64)

    References:
        Sinha and Dolz, Multi-scale self-guided attention for medical image segmentation, section IV.
    """

    flip: float = 0.5
    mirror: float = 0.5
    rotate: float = 0.5
    degrees: float = 30.0

    def __post_init__(self) -> None:
        """Check the probabilities."""
        for name in ("flip", "mirror", "rotate"):
            _require_probability(name, getattr(self, name))

    def __call__(self, image: ImageSlice, labels: LabelSlice) -> tuple[ImageSlice, LabelSlice]:
        """Draw a change and apply it to both."""
        flipped, mirrored, rotated = _chance(self.flip), _chance(self.mirror), _chance(self.rotate)
        degrees = _between(-self.degrees, self.degrees) if rotated else 0.0
        return flip_rotate(image, labels, flipped=flipped, mirrored=mirrored, degrees=degrees)


@dataclass(frozen=True)
class RandomIntensity:
    """Random contrast, brightness and gamma of training slices, for scanners that show tissue otherwise.

    All channels change alike: with ``lowest`` and ``range`` of the slice,
    ``((value - lowest) / range) ** g · range · a + lowest + b · range``, where ``g`` is drawn evenly on a log
    scale from ``1 / (1 + gamma)`` to ``1 + gamma``, ``a`` from ``1 ± scale`` and ``b`` from ``± shift``. The
    paper does none.

    Attributes:
        probability: How often a slice is changed.
        gamma: How far the exponent goes; 0 leaves it at 1.
        scale: How far the contrast goes.
        shift: How far the brightness goes, in parts of the slice's range.

    Raises:
        ValueError: A probability is not from 0 to 1, or ``gamma``, ``scale`` or ``shift`` is negative.

    Example:
        >>> import torch
        >>> image, _ = RandomIntensity()(torch.rand(1, 7, 5), torch.zeros(7, 5, dtype=torch.long))
        >>> image.shape
        torch.Size([1, 7, 5])
    """

    probability: float = 0.5
    gamma: float = 0.3
    scale: float = 0.1
    shift: float = 0.1

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_probability("probability", self.probability)
        for name in ("gamma", "scale", "shift"):
            require(getattr(self, name) >= 0, name, "0 or above", getattr(self, name))

    def __call__(self, image: ImageSlice, labels: LabelSlice) -> tuple[ImageSlice, LabelSlice]:
        """Draw a change and apply it to the image; labels come back as they are."""
        if not _chance(self.probability):
            return image, labels
        widest = float(np.log1p(self.gamma))
        exponent = float(np.exp(_between(-widest, widest)))
        factor, offset = 1 + _between(-self.scale, self.scale), _between(-self.shift, self.shift)
        lowest, extent = image.min(), image.max() - image.min()
        unit = (image - lowest) / extent.clamp(min=torch.finfo(image.dtype).tiny)
        return unit**exponent * extent * factor + lowest + offset * extent, labels


@dataclass(frozen=True)
class Chain:
    """Several random changes, one after the other.

    Attributes:
        steps: Called in order on image and labels.

    Example:
        >>> import torch
        >>> augment = Chain((FlipRotate(), RandomIntensity()))
        >>> image, labels = augment(torch.rand(1, 7, 5), torch.zeros(7, 5, dtype=torch.long))
        >>> image.shape
        torch.Size([1, 7, 5])
    """

    steps: tuple[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], ...]

    def __call__(self, image: ImageSlice, labels: LabelSlice) -> tuple[ImageSlice, LabelSlice]:
        """Apply every step."""
        for step in self.steps:
            image, labels = step(image, labels)
        return image, labels


def _require_probability(name: str, value: float) -> None:
    require(0 <= value <= 1, name, "a probability from 0 to 1", value)


def _chance(probability: float) -> bool:
    return bool(torch.rand(()) < probability)


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
