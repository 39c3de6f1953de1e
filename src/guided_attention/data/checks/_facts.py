"""What is noted of each case while it is read: small numbers, from which suspicions are made later."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from guided_attention._geometry import is_sheared, reorientation
from guided_attention._typing import LabelVolume, SpacingMm
from guided_attention.case import Case
from guided_attention.data.checks._alignment import Alignment, alignment_of
from guided_attention.data.layouts._records import Scan
from guided_attention.errors import GuidedAttentionError

__all__ = ["CaseFacts", "OrganFacts", "facts_of"]

_SLICES = 32
"""Slices from which on the roughness is judged on every n-th slice only."""
_EVERY = 3
"""Rows and columns by which neighbouring slices are compared: every third."""
_TWO_APART = 2
_ISLAND_SHARE = 0.01
_ISLAND_VOXELS = 10
_PART = 0.05
_MOST_ORGANS = 256
"""Values above which an organ is only counted: an image in place of a mask has thousands, which would take hours."""
_TELLING = 1000
"""Voxels from which on organs of one outline are those of one scan."""
_SKIPPED_VOXELS = 10
_CUBE = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class OrganFacts:
    """One organ of one case.

    Attributes:
        voxels: Its size.
        volume_ml: Its volume.
        centre_mm: Its centre, RAS millimetres.
        borders: Sides of the volume that it touches, such as ``"head"``.
        islands: Components of a few voxels that lie apart from the largest one.
        hole_voxels: Voxels of the background that it surrounds.
        parts: Large components, of a twentieth of the organ or more.
    """

    voxels: int
    volume_ml: float
    centre_mm: tuple[float, float, float]
    borders: tuple[str, ...]
    islands: int
    hole_voxels: int
    parts: int = 1


@dataclass(frozen=True)
class CaseFacts:
    """One case, or why it cannot be read.

    Attributes:
        case_id: Its name.
        file: The file at fault, or the image.
        error: Why the case cannot be read; empty where it can.
        notes: Warnings of the reader.
        shape: Voxels, (z, y, x), in the file's own order.
        spacing_mm: Spacing, (z, y, x), in the file's own order.
        orientation: Such as ``"RAS"``.
        channels: How many.
        quantiles: 1st, 50th and 99th percentile of the first channel.
        lowest: Smallest value of the first channel.
        highest: Largest value of the first channel.
        at_top: Share of voxels at the largest value of the first channel, and at_bottom at the smallest.
        at_bottom: See `at_top`.
        constant: Channels without any contrast.
        image_hash: Hash of all voxels.
        labels_hash: Hash of the labels, in every orientation; empty where there are none or no organ.
        outline_hash: Hash of the labels within the box around the organs, so whatever the margin of the scan; empty
            where the organs are small or fill their box, and may be equal by chance.
        is_labelled: Whether there are labels.
        mask_is_image: Whether labels and image are the same numbers.
        organs: Facts of each organ by value; only sizes where there are more than 256.
        alignment: How well the mask lies on the image.
        mask: The file of the mask; the image where both are one.
        is_sheared: Whether two axes are not at right angles.
        roughness: Mean difference of neighbouring voxels of a slice, over the range of values.
        disorder: Mean difference of neighbouring slices, over that of slices two apart: 1 where order is lost.
        rim: Where the border of the slices lies in the range of values, from 0 (dark) to 1.
        blank: Slices of one value between others.
        repeated: Slices equal to the one before.
        gaps: Slices without label between others with labels.
        skipped: By organ, slices that lack it though it lies at one place in the slices before and after.
        between: Share of the borders of organs at which labels rise in steps, as after smooth resampling.
    """

    case_id: str
    file: Path
    error: str = ""
    notes: tuple[str, ...] = ()
    shape: tuple[int, int, int] = (0, 0, 0)
    spacing_mm: SpacingMm = (1.0, 1.0, 1.0)
    orientation: str = ""
    channels: int = 0
    quantiles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lowest: float = 0.0
    highest: float = 0.0
    at_top: float = 0.0
    at_bottom: float = 0.0
    constant: tuple[int, ...] = ()
    image_hash: str = ""
    labels_hash: str = ""
    outline_hash: str = ""
    is_labelled: bool = False
    mask_is_image: bool = False
    organs: Mapping[int, OrganFacts] = field(default_factory=dict)
    alignment: Alignment = field(default_factory=Alignment)
    mask: Path = Path()
    is_sheared: bool = False
    roughness: float = 0.0
    disorder: float = 0.0
    rim: float = 0.0
    blank: tuple[int, ...] = ()
    repeated: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()
    skipped: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    between: float = 0.0


def facts_of(scan: Scan) -> CaseFacts:
    """Read a case and return what is noted of it; the case itself is not kept."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            case = scan.read()
        except GuidedAttentionError as error:
            return CaseFacts(scan.case_id, error.file or scan.path, error=str(error))
    notes = tuple(dict.fromkeys(str(one.message) for one in caught))
    return CaseFacts(
        scan.case_id,
        scan.path,
        notes=notes,
        mask=scan.beside[-1] if scan.is_labelled and scan.beside else scan.path,
        **_of_image(case),
        **_of_labels(case),
    )


def _of_image(case: Case) -> dict[str, Any]:
    first = case.image[0]
    low, high = float(first.min()), float(first.max())
    sample = first.reshape(-1)[:: max(1, first.size // 200_000)]
    q1, q50, q99 = (float(value) for value in np.percentile(sample, (1, 50, 99)))
    border = np.concatenate([first[:, [0, -1]].ravel(), first[:, :, [0, -1]].ravel()])
    blank, repeated = _odd_slices(first)
    return {
        "shape": first.shape,
        "spacing_mm": case.spacing_mm,
        "orientation": case.orientation,
        "is_sheared": is_sheared(case.affine),
        "channels": len(case.image),
        "quantiles": (q1, q50, q99),
        "lowest": low,
        "highest": high,
        "at_top": float((first == high).mean()),
        "at_bottom": float((first == low).mean()),
        "constant": tuple(i for i, channel in enumerate(case.image) if channel.min() == channel.max()),
        "image_hash": _hash(case.image),
        "roughness": _roughness(first, q1, q99),
        "disorder": _disorder(first[:, ::_EVERY, ::_EVERY]),
        "rim": (float(np.median(border)) - q1) / (q99 - q1) if q99 > q1 else 0.0,
        "blank": blank,
        "repeated": repeated,
    }


def _roughness(image: npt.NDArray[np.float32], low: float, high: float) -> float:
    """Return the mean difference of neighbouring voxels of a slice, over the range of values."""
    if high <= low:
        return 0.0
    part = np.clip(image[:: max(1, len(image) // _SLICES)], low, high)
    steps = [np.abs(np.diff(part, axis=axis)) for axis in (1, 2) if part.shape[axis] > 1]
    return float(np.mean([step.mean() for step in steps])) / (high - low) if steps else 0.0


def _disorder(image: npt.NDArray[np.float32]) -> float:
    """Return the mean difference of neighbouring slices, over that of slices two apart."""
    far = float(np.abs(image[2:] - image[:-2]).mean()) if len(image) > _TWO_APART else 0.0
    return float(np.abs(np.diff(image, axis=0)).mean()) / far if far else 0.0


def _odd_slices(image: npt.NDArray[np.float32]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the slices of one value between others, and the slices that repeat the one before."""
    is_flat = [bool(pixels.min() == pixels.max()) for pixels in image]
    blank = _between([not flat for flat in is_flat])
    pairs = pairwise(image)
    equal = [place for place, (one, other) in enumerate(pairs, 1) if np.array_equal(one, other)]
    return blank, tuple(place for place in equal if not is_flat[place])


def _between(used: Sequence[bool]) -> tuple[int, ...]:
    """Return the places of what is not used, between the first and the last that is.

    Example:
        >>> _between([False, True, False, True, False])
        (2,)
    """
    places = [place for place, is_used in enumerate(used) if is_used]
    return tuple(place for place in range(places[0], places[-1]) if not used[place]) if places else ()


def _of_labels(case: Case) -> dict[str, Any]:
    if case.labels is None:
        return {}
    turn = reorientation(case.affine, "LPS")
    labels, image = turn.apply(case.labels), turn.apply(case.image[0])
    affine = turn.affine(case.affine, case.labels.shape)
    organs = _organs(labels, affine)
    return {
        "is_labelled": True,
        "labels_hash": _hash(labels) if organs else "",
        "outline_hash": _outline_hash(labels) if organs else "",
        "mask_is_image": bool(organs) and bool((case.image[0] == case.labels).all()),
        "organs": organs,
        "alignment": alignment_of(image, labels) if organs else Alignment(),
        "gaps": _between([bool(part.any()) for part in case.labels]),
        "skipped": _skipped(case.labels),
        "between": _share_of_steps(labels),
    }


def _organs(labels: LabelVolume, affine: npt.NDArray[np.float64]) -> dict[int, OrganFacts]:
    values, counts = np.unique(labels, return_counts=True)
    sizes = {value: count for value, count in zip(values.tolist(), counts.tolist(), strict=True) if value}
    if len(sizes) > _MOST_ORGANS:
        voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
        nowhere = (0.0, 0.0, 0.0)
        return {value: OrganFacts(size, size * voxel_ml, nowhere, (), 0, 0) for value, size in sizes.items()}
    boxes = ndimage.find_objects(labels)
    return {value: _organ(labels, value, boxes[value - 1], affine) for value in sizes}


def _organ(
    labels: LabelVolume, value: int, inner: tuple[slice, ...], affine: npt.NDArray[np.float64]
) -> OrganFacts:
    part = labels[inner] == value
    voxels = int(part.sum())
    z, y, x = (float(c) + one.start for c, one in zip(ndimage.center_of_mass(part), inner, strict=True))
    centre = (affine @ [x, y, z, 1.0])[:3]
    names = (("feet", "head"), ("front", "back"), ("right", "left"))
    borders = tuple(
        names[axis][end]
        for axis, one in enumerate(inner)
        for end, touches in enumerate((one.start == 0, one.stop == labels.shape[axis]))
        if touches
    )
    islands, parts = _components(part)
    volume = voxels * abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    return OrganFacts(
        voxels,
        volume,
        (float(centre[0]), float(centre[1]), float(centre[2])),
        borders,
        islands,
        _hole_voxels(part, labels[inner] == 0),
        parts,
    )


def _components(organ: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Count the components of a few voxels and the large ones; what lies within two voxels is one component."""
    near = ndimage.binary_dilation(np.pad(organ, 1), _CUBE)[1:-1, 1:-1, 1:-1]
    components, _ = ndimage.label(near, _CUBE)
    sizes, total = np.bincount(components[organ])[1:], int(organ.sum())
    small = sizes < min(_ISLAND_VOXELS + 1, max(2.0, _ISLAND_SHARE * total))
    return int(small.sum()) if len(sizes) > 1 else 0, int((sizes >= _PART * total).sum())


def _skipped(labels: LabelVolume) -> dict[int, tuple[int, ...]]:
    """Return by organ the slices that lack it, though it lies at one place in the slices before and after."""
    skipped: dict[int, list[int]] = {}
    for place in range(1, len(labels) - 1):
        before, here, after = labels[place - 1 : place + 2]
        values, counts = np.unique(before[(before == after) & (before > 0)], return_counts=True)
        for value in values[counts >= _SKIPPED_VOXELS].tolist():
            if not (here == value).any():
                skipped.setdefault(value, []).append(place)
    return {value: tuple(places) for value, places in skipped.items()}


def _hole_voxels(organ: npt.NDArray[np.bool_], background: npt.NDArray[np.bool_]) -> int:
    """Count the voxels of the background that an organ surrounds."""
    components, _ = ndimage.label(np.pad(~organ, 1, constant_values=True))
    enclosed = components[1:-1, 1:-1, 1:-1]
    return int((background & (enclosed > 0) & (enclosed != components[0, 0, 0])).sum())


def _share_of_steps(labels: LabelVolume) -> float:
    """Return the share of the borders of organs at which labels rise in steps, among those of labels above 1."""
    steps, jumps = 0, 0
    for axis in range(3):
        along = np.moveaxis(labels, axis, 0)
        before, here, after = along[:-2], along[1:-1], along[2:]
        steps += int((((before < here) & (here < after)) | ((before > here) & (here > after))).sum())
        low, high = np.minimum(along[:-1], along[1:]), np.maximum(along[:-1], along[1:])
        jumps += int(((low == 0) & (high > 1)).sum())
    return steps / (steps + jumps) if steps + jumps else 0.0


def _outline_hash(labels: LabelVolume) -> str:
    (box,) = ndimage.find_objects((labels != 0).astype(np.int8))
    organs = labels[box]
    by_chance = np.count_nonzero(organs) < _TELLING or organs.all()
    return "" if by_chance else _hash(np.array(organs.shape)) + _hash(organs)


def _hash(volume: npt.NDArray[Any]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(volume).data, digest_size=16).hexdigest()
