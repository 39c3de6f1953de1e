"""Accidents on demand: one thing broken in a folder of NIfTI pairs, to see what `check` says."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from guided_attention._checks import require, require_choice, require_path, require_seed
from guided_attention._files import PathLike
from guided_attention.data.cohort import Cohort, open_cohort
from guided_attention.data.layouts._records import Scan
from guided_attention.data.phantom._harm import (
    Array,
    Plant,
    both,
    content,
    delete,
    load,
    organ,
    placed,
    relabel,
    save,
    smooth,
    to_ras,
    voxels,
)
from guided_attention.errors import DataError

__all__ = ["ACCIDENTS", "Accident", "plant_accident"]

ACCIDENTS: Mapping[str, str] = {
    "image missing": "A mask has lost its image.",
    "mask missing": "An image has lost its mask.",
    "damaged file": "A copy stopped half-way.",
    "unequal geometry": "A mask lies 20 mm beside its image.",
    "unequal size": "A mask lacks a slice.",
    "unknown label": "One organ has a number that no organ has.",
    "organ missing": "An organ was forgotten.",
    "organ too large": "An organ has grown by a multiple.",
    "organ too small": "A single voxel is left of an organ.",
    "organ at border": "The scan ends in the middle of an organ.",
    "stray islands": "Voxels of an organ lie all over the body.",
    "wrong side": "Left and right organs have each other's label.",
    "slices in reverse": "Slices are stored in reverse, and the affine does not know.",
    "mask turned": "A mask is mirrored from front to back.",
    "masks exchanged": "Two patients have each other's mask.",
    "duplicate": "A case is there under two names.",
    "patient in two parts": "A second scan of a training patient is tested.",
    "constant image": "Each voxel of an image has one value.",
    "clipped image": "Bright tissue is cut off at one value.",
    "smooth mask": "A mask was resampled smoothly and rounded.",
    "odd spacing": "Slices lie ten times too far apart.",
    "odd orientation": "A scan is stored in another orientation.",
}
"""What can go wrong, and what has happened then."""

_ISLANDS = 7
_COPY = "_b"


@dataclass(frozen=True)
class Accident:
    """An accident that has been planted.

    Attributes:
        name: Which one of `ACCIDENTS`.
        case_id: The case.
        file: The file at fault.
    """

    name: str
    case_id: str
    file: Path


@dataclass(frozen=True)
class _Victim:
    """A case that an accident happens to, and another one of the same cohort."""

    cohort: Cohort
    scan: Scan
    other: Scan
    rng: np.random.Generator

    @property
    def image(self) -> str:
        return self._relative(self.scan.path)

    @property
    def mask(self) -> str:
        return self._relative(self.scan.beside[-1])

    @property
    def both(self) -> tuple[str, str]:
        return self.image, self.mask

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.cohort.folder).as_posix()

    def organ(self) -> int:
        """Return the value of the smallest organ."""
        mask, _ = load(self.cohort.folder / self.mask)
        values, counts = np.unique(mask[mask > 0], return_counts=True)
        require(len(values) > 0, "folder", "of masks with organs", f"none in {self.mask}", error=DataError)
        return int(values[counts.argmin()])


def plant_accident(folder: PathLike, name: str, *, seed: int = 0) -> Accident:
    """Break one thing in a folder of NIfTI files with masks, such as `write_phantom_cohort` writes as pairs.

    Work on a copy: files are changed in place.

    Args:
        folder: A cohort of NIfTI pairs, each image a file of its own, of two labelled cases at least.
        name: One of `ACCIDENTS`.
        seed: Which case it happens to.

    Returns:
        What has happened to which file.

    Raises:
        ArgumentError: There is no such accident, or the folder is no cohort that it can happen to.
        ArgumentTypeError: The seed is no whole number.
        MissingFileError, DataError: The folder cannot be opened as a cohort.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import check, write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     cohort = write_phantom_cohort(f"{folder}/scans", subjects=5, size=32, layout="pairs")
        ...     accident = plant_accident(cohort, "wrong side")
        ...     found = check(cohort).errors
        >>> accident.file.name, [(one.kind, one.file.name) for one in found]
        ('1_label.nii.gz', [('sides', '1_label.nii.gz')])
    """
    require_choice("name", name, tuple(ACCIDENTS))
    require_seed(seed)
    cohort = open_cohort(require_path("folder", folder))
    scans = [
        scan for scan in cohort.scans if scan.is_labelled and scan.path.is_file() and len(scan.beside) == 1
    ]
    wanted = "a folder of NIfTI pairs, two at least"
    require(cohort.layout == "pairs" and len(scans) > 1, "folder", wanted, f"{len(scans)} in {folder}")
    rng = np.random.default_rng([seed, *name.encode()])
    first, second = (scans[int(place)] for place in rng.permutation(len(scans))[:2])
    victim = _Victim(cohort, first, second, rng)
    file = _PLANTS[name](victim)
    return Accident(name, first.case_id, cohort.folder / file)


def _at(plant: Plant, file: str, victim: _Victim) -> str:
    plant(victim.cohort.folder)
    return file


def _of_image(change: Callable[[Array], Array]) -> Callable[[_Victim], str]:
    return lambda victim: _at(voxels(change, victim.image), victim.image, victim)


def _of_mask(change: Callable[[Array, _Victim], Array]) -> Callable[[_Victim], str]:
    return lambda victim: _at(voxels(lambda mask: change(mask, victim), victim.mask), victim.mask, victim)


def _of_both(change: Callable[[Array], Array]) -> Callable[[_Victim], str]:
    return lambda victim: _at(voxels(change, *victim.both), victim.mask, victim)


def _moved(affine: Array) -> Array:
    affine[:3, 3] += 20
    return affine


def _only_voxel(shape: Array) -> Array:
    left, inside = np.zeros_like(shape), np.argwhere(shape)
    left[tuple(inside[len(inside) // 2])] = True
    return left


def _islands(mask: Array, victim: _Victim) -> Array:
    value = victim.organ()
    far = np.argwhere(ndimage.distance_transform_cdt(mask == 0) > 3)  # noqa: PLR2004
    for place in victim.rng.choice(far, _ISLANDS, replace=False):
        mask[tuple(place)] = value
    return mask


def _exchanged_sides(mask: Array, victim: _Victim) -> Array:
    labels = victim.cohort.labels
    pairs = labels.pairs if labels is not None else ()
    require(bool(pairs), "folder", "a cohort whose organs have left-right pairs", "none")
    return relabel({one: other for pair in pairs for one, other in (pair, pair[::-1])})(mask)


def _cut(volume: Array) -> Array:
    return volume[..., volume.shape[2] // 2 :]


def _exchange_masks(victim: _Victim) -> str:
    """Exchange two masks voxel by voxel; where sizes differ, the nearest voxels are taken."""
    paths = victim.scan.beside[-1], victim.other.beside[-1]
    (one, here), (other, there) = map(load, paths)
    save(paths[0], _sampled(other, one.shape), here)
    save(paths[1], _sampled(one, other.shape), there)
    return victim.mask


def _sampled(mask: Array, shape: tuple[int, ...]) -> Array:
    places = (
        np.linspace(0, old - 1, new).round().astype(int) for old, new in zip(mask.shape, shape, strict=True)
    )
    sampled: Array = mask[np.ix_(*places)]
    return sampled


def _copied(victim: _Victim) -> str:
    """Copy a case under another name."""
    for path in (victim.scan.path, victim.scan.beside[-1]):
        shutil.copy(path, _copy_of(victim, path))
    return _copy_of(victim, victim.scan.path).relative_to(victim.cohort.folder).as_posix()


def _copy_of(victim: _Victim, path: Path) -> Path:
    return path.with_name(path.name.replace(victim.scan.case_id, f"{victim.scan.case_id}{_COPY}", 1))


def _two_parts(victim: _Victim) -> str:
    """Add a noisier scan of a patient, and put it into the test."""
    copy = _copied(victim)
    folder, listed = victim.cohort.folder, victim.cohort.folder / "cases.json"
    masks = (_copy_of(victim, victim.scan.beside[-1]).relative_to(folder).as_posix(),)
    voxels(
        lambda image: image + victim.rng.normal(0, image.std() / 50, image.shape).astype(np.float32), copy
    )(folder)
    voxels(lambda mask: ndimage.grey_closing(mask, (3, 3, 1)), *masks)(folder)
    about = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else {}
    about = about if isinstance(about, dict) else {}
    train = [name for name in victim.cohort.case_ids if name != victim.other.case_id]
    parts = {"train": train, "test": [victim.other.case_id, f"{victim.scan.case_id}{_COPY}"]}
    listed.write_text(json.dumps(about | {"val": []} | parts), encoding="utf-8")
    return copy


_PLANTS: Mapping[str, Callable[[_Victim], str]] = {
    "image missing": lambda victim: _at(delete(victim.image), victim.mask, victim),
    "mask missing": lambda victim: _at(delete(victim.mask), victim.image, victim),
    "damaged file": lambda victim: _at(
        content(lambda data: data[: len(data) // 2], victim.image), victim.image, victim
    ),
    "unequal geometry": lambda victim: _at(placed(_moved, victim.mask), victim.mask, victim),
    "unequal size": _of_mask(lambda mask, _: mask[..., 1:]),
    "unknown label": _of_mask(lambda mask, victim: relabel({victim.organ(): int(mask.max()) + 3})(mask)),
    "organ missing": _of_mask(lambda mask, victim: relabel({victim.organ(): 0})(mask)),
    "organ too large": _of_mask(
        lambda mask, victim: organ(victim.organ(), lambda part: ndimage.binary_dilation(part, iterations=6))(
            mask
        )
    ),
    "organ too small": _of_mask(lambda mask, victim: organ(victim.organ(), _only_voxel)(mask)),
    "organ at border": _of_both(_cut),
    "stray islands": _of_mask(_islands),
    "wrong side": _of_mask(_exchanged_sides),
    "slices in reverse": _of_both(lambda volume: volume[..., ::-1]),
    "mask turned": _of_mask(lambda mask, _: mask[:, ::-1]),
    "masks exchanged": _exchange_masks,
    "duplicate": _copied,
    "patient in two parts": _two_parts,
    "constant image": _of_image(lambda image: np.full_like(image, image.mean())),
    "clipped image": _of_image(lambda image: np.minimum(image, np.percentile(image, 85)).astype(image.dtype)),
    "smooth mask": _of_mask(lambda mask, _: np.rint(smooth(mask)).astype(mask.dtype)),
    "odd spacing": lambda victim: _at(
        placed(lambda affine: affine @ np.diag([1.0, 1.0, 10.0, 1.0]), *victim.both), victim.image, victim
    ),
    "odd orientation": lambda victim: _at(
        both(*(lambda folder, file=file: to_ras(folder / file) for file in victim.both)), victim.image, victim
    ),
}
