"""What breaks one thing in a folder of NIfTI files; accidents are made of these."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy import ndimage

from guided_attention._checks import needs_extra
from guided_attention._geometry import reorientation

__all__ = [
    "Array",
    "Plant",
    "both",
    "content",
    "delete",
    "load",
    "organ",
    "placed",
    "relabel",
    "save",
    "smooth",
    "to_ras",
    "voxels",
]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Plant: TypeAlias = Callable[[Path], None]
"""Breaks something in a folder."""


def load(path: Path) -> tuple[Array, Array]:
    """Return the voxels ``(x, y, z)`` and the affine of a NIfTI file."""
    with needs_extra("nifti"):
        import nibabel as nib  # noqa: PLC0415
    image = nib.Nifti1Image.from_filename(path)
    return np.asanyarray(image.dataobj), image.affine


def save(path: Path, array: Array, affine: Array) -> None:
    """Write any voxels and any affine as a NIfTI file."""
    with needs_extra("nifti"):
        import nibabel as nib  # noqa: PLC0415
    nib.Nifti1Image(array, affine, dtype=array.dtype).to_filename(path)  # type: ignore[no-untyped-call]  # nibabel leaves it untyped


def voxels(change: Callable[[Array], Array], *files: str) -> Plant:
    """Return what changes the voxels ``(x, y, z)`` of files, and keeps the affine."""

    def plant(folder: Path) -> None:
        for file in files:
            array, affine = load(folder / file)
            save(folder / file, np.ascontiguousarray(change(array.copy())), affine)

    return plant


def placed(change: Callable[[Array], Array], *files: str) -> Plant:
    """Return what changes the affine of files, and keeps the voxels."""

    def plant(folder: Path) -> None:
        for file in files:
            array, affine = load(folder / file)
            save(folder / file, array, change(affine.copy()))

    return plant


def content(change: Callable[[bytes], bytes], file: str) -> Plant:
    """Return what changes the bytes of a file."""

    def plant(folder: Path) -> None:
        (folder / file).write_bytes(change((folder / file).read_bytes()))

    return plant


def relabel(table: dict[int, int]) -> Callable[[Array], Array]:
    """Return what gives labels other numbers."""
    return lambda mask: np.vectorize(lambda label: table.get(int(label), int(label)))(mask).astype(np.int16)


def organ(label: int, change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return what changes the shape of one organ; other organs stay as they are."""

    def changed(mask: Array) -> Array:
        shape = change(mask == label)
        mask[mask == label] = 0
        mask[shape & (mask == 0)] = label
        return mask

    return changed


def both(*plants: Plant) -> Plant:
    """Return what does one thing after another."""

    def plant(folder: Path) -> None:
        for each in plants:
            each(folder)

    return plant


def delete(file: str) -> Plant:
    """Return what deletes a file."""
    return lambda folder: (folder / file).unlink()


def smooth(mask: Array) -> Array:
    """Return a mask as linear interpolation makes it, with values between those of the organs."""
    return ndimage.uniform_filter(mask.astype(np.float32), 3)


def to_ras(path: Path) -> None:
    """Store a volume in the orientation RAS, each voxel in its place in the patient."""
    array, affine = load(path)
    turn = reorientation(affine, "RAS")
    save(path, np.ascontiguousarray(turn.apply(array.T).T), turn.affine(affine, array.T.shape))
