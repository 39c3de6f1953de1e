"""What the data sets share: labelled volumes, surveyed once, and the checks of what they are made of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from guided_attention._checks import cut_list, require, require_integer, require_type
from guided_attention._geometry import CANONICAL, orientation_of
from guided_attention._typing import SliceAxis
from guided_attention.case import Case
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import Preparation, Prepared
from guided_attention.preparation.preparation import known_slice_axis, require_channel_order
from guided_attention.sampling.cache import CachedVolumes

__all__ = ["Surveyed", "checked_size", "require_records", "require_sizes", "surveyed_of", "volumes_of"]


@dataclass(frozen=True, eq=False)
class Surveyed:
    """What is known of a volume without its voxels.

    Attributes:
        case_id: Name of the case.
        shape: ``(channels, depth, height, width)``.
        counts: Voxels of each organ in each slice, ``(depth, organs)``. Voxels to ignore are no organ.
    """

    case_id: str
    shape: tuple[int, ...]
    counts: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, volume: Prepared, labels: LabelSpec) -> "Surveyed":
        """Look at a volume once."""
        where = f"labels of case {volume.case_id!r}"
        if volume.labels is None:
            cure = "Only cases with a reference segmentation can be trained on."
            require(False, where, "given", None, cure, error=DataError)  # noqa: FBT003
        values = np.zeros((0, 0, 0), np.uint8) if volume.labels is None else volume.labels
        labels.require_known(values, where)
        organs = np.array(labels.values)
        counts = np.empty((len(values), len(organs)), np.uint32)
        for part, into in zip(values, counts, strict=True):
            into[:] = np.bincount(part.ravel().astype(np.intp), minlength=organs[-1] + 1)[organs]
        return cls(volume.case_id, volume.image.shape, counts)


def require_records(cases: object, preparation: object, labels: object) -> None:
    """Raise unless a data set is given what it is made of."""
    require_type("cases", cases, Iterable, "an iterable of cases")
    require_type("preparation", preparation, Preparation, "a Preparation")
    require_type("labels", labels, LabelSpec, "a LabelSpec")


def checked_size(size: object, wanted: str, *, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of what is cut out of volumes as plain integers."""
    require_type("size", size, (tuple, list), wanted)
    assert isinstance(size, tuple | list)  # noqa: S101 - for the type checker
    for side in size:
        require_integer("size", side)
    good = len(size) in axes and min(size) >= 1
    require(good, "size", f"{wanted}, above 0", size)
    return tuple(int(side) for side in size)


def volumes_of(
    cases: Iterable[Case | Prepared], preparation: Preparation
) -> Sequence[Prepared] | CachedVolumes:
    """Return the prepared volumes; those of a cache stay on disk. Raise where another preparation made them."""
    slice_axis = known_slice_axis(preparation)
    if isinstance(cases, CachedVolumes):
        _require_same(preparation, cases.preparation)
        return cases
    volumes = []
    for case in cases:
        if isinstance(case, Prepared):
            _require_made_by(preparation, slice_axis, case)
            volumes.append(case)
        else:
            volumes.append(preparation.apply(case))
            require_channel_order(preparation, case)
        del case  # while the next one is read
    return volumes


def _require_same(given: Preparation, cached: Preparation) -> None:
    """Raise unless volumes were cached with the preparation that a data set is given."""
    names = [each.name for each in fields(cached)]
    other = [name for name in names if getattr(given, name) != getattr(cached, name)]
    wanted, got = "that of the cached volumes", f"one with another {cut_list(other)}"
    require(not other, "preparation", wanted, got, "Pass the one that `VolumeCache` was given.")


def _require_made_by(preparation: Preparation, slice_axis: SliceAxis, volume: Prepared) -> None:
    """Raise where a prepared volume has other neighbours, or lies otherwise, than the preparation makes it."""
    whose, cure = f"of prepared case {volume.case_id!r}", "Pass the preparation that made it."
    lies, wanted = orientation_of(volume.affine), CANONICAL[slice_axis]
    require(lies == wanted, f"orientation {whose}", f"{wanted}, for {slice_axis} slices", lies, cure)
    count, wanted = preparation.neighbours, f"{preparation.neighbours}, as of `preparation`"
    require(volume.neighbours == count, f"neighbours {whose}", wanted, volume.neighbours, cure)


def surveyed_of(volumes: Iterable[Prepared], labels: LabelSpec) -> list[Surveyed]:
    """Look at each volume once, and raise where there is none or channels differ."""
    surveyed = [Surveyed.of(volume, labels) for volume in volumes]
    require(bool(surveyed), "cases", "at least one case", "none", error=DataError)
    first = surveyed[0]
    for one in surveyed:
        wanted = f"as many as of case {first.case_id!r}, {first.shape[0]}"
        cure = "Read the same channels for all cases."
        where, got = f"channels of case {one.case_id!r}", one.shape[0]
        require(got == first.shape[0], where, wanted, got, cure, error=DataError)
    return surveyed


def require_sizes(surveyed: Iterable[Surveyed], size: tuple[int, ...]) -> None:
    """Raise where a volume is smaller than what is cut out of it: two sides of its slices, or three."""
    kind = "slices" if len(size) == 2 else "volume"  # noqa: PLR2004
    for one in surveyed:
        got = one.shape[-len(size) :]
        cure = f"Pad in the preparation, so that prediction pads too: Preparation(min_size={size})."
        fits = all(there >= wanted for there, wanted in zip(got, size, strict=True))
        where = f"size of the prepared {kind} of case {one.case_id!r}"
        require(fits, where, f"at least {size}", got, cure, error=DataError)
