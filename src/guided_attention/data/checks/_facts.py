"""What is noted of each case while it is read: small numbers, from which suspicions are made later."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from guided_attention._geometry import reorientation
from guided_attention._typing import LabelVolume, SpacingMm
from guided_attention.case import Case
from guided_attention.data._layouts import Scan
from guided_attention.errors import GuidedAttentionError

__all__ = ["FLIPS", "CaseFacts", "OrganFacts", "facts_of"]

FLIPS: Mapping[str, tuple[int, ...]] = {
    "head to foot": (0,),
    "back to front": (1,),
    "left to right": (2,),
    "head to foot and left to right": (0, 2),
    "back to front and left to right": (1, 2),
}
"""Ways in which a mask may be turned against its image; axes of a volume in the orientation LPS."""

_SIDE = 96
"""Voxels along an axis from which on tissues are judged on every n-th voxel only."""
_ISLAND_SHARE = 0.01
_ISLAND_VOXELS = 10


@dataclass(frozen=True)
class OrganFacts:
    """One organ of one case.

    Attributes:
        voxels: Its size.
        volume_ml: Its volume.
        centre_mm: Its centre, RAS millimetres.
        borders: Sides of the volume that it touches, such as ``"head"``.
        islands: Components of a few voxels beside the largest one.
    """

    voxels: int
    volume_ml: float
    centre_mm: tuple[float, float, float]
    borders: tuple[str, ...]
    islands: int


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
        at_top: Share of voxels at the largest value of the first channel, and at_bottom at the smallest.
        at_bottom: See `at_top`.
        constant: Channels without any contrast.
        image_hash: Hash of all voxels.
        labels_hash: Hash of the labels, in every orientation; empty where there are none or no organ.
        is_labelled: Whether there are labels.
        mask_is_image: Whether labels and image are the same numbers.
        organs: Facts of each organ by value.
        mixture: Spread of the image's values within organs, over that within each turned mask.
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
    at_top: float = 0.0
    at_bottom: float = 0.0
    constant: tuple[int, ...] = ()
    image_hash: str = ""
    labels_hash: str = ""
    is_labelled: bool = False
    mask_is_image: bool = False
    organs: Mapping[int, OrganFacts] = field(default_factory=dict)
    mixture: Mapping[str, float] = field(default_factory=dict)


def facts_of(scan: Scan) -> CaseFacts:
    """Read a case and return what is noted of it; the case itself is not kept."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            case = scan.read()
        except GuidedAttentionError as error:
            return CaseFacts(scan.case_id, error.file or scan.path, error=str(error))
    notes = tuple(dict.fromkeys(str(one.message) for one in caught))
    first = case.image[0]
    low, high = float(first.min()), float(first.max())
    sample = first.reshape(-1)[:: max(1, first.size // 200_000)]
    q1, q50, q99 = (float(value) for value in np.percentile(sample, (1, 50, 99)))
    return CaseFacts(
        scan.case_id,
        scan.path,
        notes=notes,
        shape=(first.shape[0], first.shape[1], first.shape[2]),
        spacing_mm=case.spacing_mm,
        orientation=case.orientation,
        channels=len(case.image),
        quantiles=(q1, q50, q99),
        lowest=low,
        at_top=float((first == high).mean()),
        at_bottom=float((first == low).mean()),
        constant=tuple(i for i, channel in enumerate(case.image) if channel.min() == channel.max()),
        image_hash=_hash(case.image),
        **_of_labels(case),
    )


def _of_labels(case: Case) -> dict[str, Any]:
    if case.labels is None:
        return {}
    turn = reorientation(case.affine, "LPS")
    labels, image = turn.apply(case.labels), turn.apply(case.image[0])
    affine = turn.affine(case.affine, case.labels.shape)
    organs = {int(value): _organ(labels, int(value), affine) for value in np.unique(labels) if value}
    return {
        "is_labelled": True,
        "labels_hash": _hash(labels) if organs else "",
        "mask_is_image": bool(organs) and bool((case.image[0] == case.labels).all()),
        "organs": organs,
        "mixture": _mixture(image, labels) if organs else {},
    }


def _organ(labels: LabelVolume, value: int, affine: npt.NDArray[np.float64]) -> OrganFacts:
    mask = labels == value
    inner = ndimage.find_objects(mask.astype(np.uint8))[0]
    part = mask[inner]
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
    components, _ = ndimage.label(part, np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel())[1:]
    small = sizes < min(_ISLAND_VOXELS + 1, max(2.0, _ISLAND_SHARE * voxels))
    islands = int(small.sum()) if len(sizes) > 1 else 0
    volume = voxels * abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    return OrganFacts(
        voxels, volume, (float(centre[0]), float(centre[1]), float(centre[2])), borders, islands
    )


def _mixture(image: npt.NDArray[np.float32], labels: LabelVolume) -> dict[str, float]:
    """Return how mixed the values within the organs are, beside those within each turned mask.

    Organs are of one tissue each. A mask that is turned against its image covers several: the turned one, which is then
    the right one, is less mixed.
    """
    step = tuple(slice(None, None, max(1, side // _SIDE)) for side in image.shape)
    small, few = image[step], labels[step]
    low, high = np.percentile(small, (1, 99))
    smooth = np.clip(ndimage.gaussian_filter(small.astype(np.float32), 0.7), float(low), float(high))
    own = _spread_within(smooth, few)
    turned = {name: _spread_within(smooth, np.flip(few, axes)) for name, axes in FLIPS.items()}
    return {name: own / value for name, value in turned.items() if value > 0}


def _spread_within(image: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> float:
    """Return the standard deviation within labels, pooled over them."""
    values, counts = image[labels > 0], labels[labels > 0]
    sums = [
        ((part - part.mean()) ** 2).sum() for part in (values[counts == one] for one in np.unique(counts))
    ]
    return float(np.sqrt(np.sum(sums) / max(1, len(values))))


def _hash(volume: npt.NDArray[Any]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(volume).data, digest_size=16).hexdigest()
