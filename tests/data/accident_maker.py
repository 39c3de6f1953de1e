"""Clean cohorts, and functions that each break one thing in a copy of one."""

import gzip
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from guided_attention.data import make_phantom, write_nifti, write_phantom_cohort, write_png_slices
from guided_attention.data.phantom._harm import Array, both, load, save, voxels

SEED = 7
IDS = tuple(f"p{number:02}_a" for number in range(1, 9))
IDS_AND_COPIES = (*IDS, "p01_b", "p09_a")
ORGANS = {"1": "liver", "2": "right kidney", "3": "left kidney", "4": "spleen"}
LIVER, RIGHT, LEFT, SPLEEN = 1, 2, 3, 4
IMAGE, MASK = "p03_a_image.nii.gz", "p03_a_label.nii.gz"
BOTH = (IMAGE, MASK)
SERIES = "Train_Sets/MR/2/T1DUAL/DICOM_anon/InPhase"
SPLIT = "cases.json"


def write_pairs(folder: Path) -> None:
    """Write eight phantoms as NIfTI pairs with organs and a split."""
    for number, name in enumerate(IDS, 1):
        write_case(folder, name, number)
    parts = {"train": IDS[:5], "val": IDS[5:6], "test": IDS[6:]}
    (folder / SPLIT).write_text(json.dumps(parts | {"labels": ORGANS}), encoding="utf-8")


def write_case(folder: Path, name: str, subject: int) -> None:
    """Write one phantom as a NIfTI pair."""
    case = make_phantom(SEED, subject=subject, size=48)
    write_nifti(folder / f"{name}_image.nii.gz", case.image[0].round().astype(np.int16), case.affine)
    write_nifti(folder / f"{name}_label.nii.gz", case.labels, case.affine)


def write_dicom(folder: Path) -> None:
    """Write four phantoms as DICOM series with PNG masks, in the layout of CHAOS."""
    write_phantom_cohort(folder, subjects=4, seed=SEED, size=32)


def write_png(folder: Path) -> None:
    """Write five phantoms as PNG slices, three to train on and two to test on."""
    cases = [make_phantom(SEED, subject=subject, size=32) for subject in range(1, 6)]
    write_png_slices(cases[:3], folder / "train")
    write_png_slices(cases[3:], folder / "test")
    (folder / "dataset.json").write_text('{"spacing_mm": [7.0, 11.5, 11.5]}', encoding="utf-8")


CLEAN: dict[str, Callable[[Path], None]] = {"pairs": write_pairs, "dicom": write_dicom, "png": write_png}
"""What writes the clean cohort of each layout into an empty folder."""


@dataclass(frozen=True)
class Accident:
    """One thing that goes wrong.

    Attributes:
        name: What it is called.
        sentence: What has happened, for a user.
        files: The file at fault, relative to the folder; several where each of them is a right answer.
        plant: Breaks that one thing in a folder.
        layout: Which clean cohort it is planted in.
        blind: Why no check can know it; empty where one can.
    """

    name: str
    sentence: str
    files: tuple[str, ...]
    plant: Callable[[Path], None]
    layout: str = "pairs"
    blind: str = ""

    @property
    def cases(self) -> set[str]:
        """The cases of the files at fault."""
        if self.layout != "pairs":
            return {"2"}
        return {name for file in self.files for name in IDS_AND_COPIES if file.startswith(f"{name}_")}


def patient_of(case_id: str) -> str:
    """Return the patient: ``p03`` of ``p03_a``."""
    return case_id.partition("_")[0]


def header(offset: int, layout: str, *values: float) -> Callable[[bytes], bytes]:
    """Return what overwrites numbers at a place of the header in a `.nii.gz`."""

    def change(data: bytes) -> bytes:
        raw = bytearray(gzip.decompress(data))
        struct.pack_into(layout, raw, offset, *values)
        return gzip.compress(bytes(raw), 1)

    return change


def copied(
    source: str, target: str, change: Callable[[Array], Array] | None = None
) -> Callable[[Path], None]:
    """Return what adds a case that is a copy of another, its image changed by `change`."""

    def plant(folder: Path) -> None:
        for kind in ("image", "label"):
            shutil.copy(folder / f"{source}_{kind}.nii.gz", folder / f"{target}_{kind}.nii.gz")
        if change is not None:
            voxels(change, f"{target}_image.nii.gz")(folder)

    return plant


def split(change: Callable[[dict[str, list[str]]], object]) -> Callable[[Path], None]:
    """Return what changes the split in place."""

    def plant(folder: Path) -> None:
        parts = json.loads((folder / SPLIT).read_text(encoding="utf-8"))
        change(parts)
        (folder / SPLIT).write_text(json.dumps(parts), encoding="utf-8")

    return plant


def rename(old: str, new: str) -> Callable[[Path], None]:
    """Return what gives a file another name."""

    def plant(folder: Path) -> None:
        (folder / old).rename(folder / new)

    return plant


def exchange(one: str, other: str) -> Callable[[Path], None]:
    """Return what exchanges the names of two files."""
    return both(rename(one, "third"), rename(other, one), rename("third", other))


def grid_of(source: str, target: str) -> Callable[[Path], None]:
    """Return what puts the voxels of one file into another that keeps its affine."""

    def plant(folder: Path) -> None:
        save(folder / target, load(folder / source)[0], load(folder / target)[1])

    return plant


def slices(folder: Path, pattern: str) -> Sequence[Path]:
    """Return the files of a pattern, of which there has to be one at least, in order."""
    found = sorted(folder.glob(pattern))
    assert found, pattern
    return found


def as_ct(image: Array) -> Array:
    """Return an image with air, fat and organs at the values that CT gives them."""
    return np.where(image < 40, -1000, np.where(image > 350, -100, 40 + image // 10)).astype(np.int16)


def two_forms(path: Path) -> None:
    """Give a file a qform that lies 25 mm beside its sform."""
    image = nib.load(path)
    moved = image.affine.copy()
    moved[:3, 3] += 25
    image = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine)
    image.set_sform(image.affine, 1)
    image.set_qform(moved, 1)
    image.to_filename(path)


def as_jpeg(folder: Path) -> None:
    """Send a PNG mask through JPEG."""
    mask = slices(folder, "train/GT/Subj_2slice_*.png")[20]
    Image.open(mask).convert("L").save(folder / "lossy.jpg", quality=60)
    Image.open(folder / "lossy.jpg").save(mask)
    (folder / "lossy.jpg").unlink()


def mixed(folder: Path) -> None:
    """Put slices of the other phase among those of a series."""
    for number, slice_ in enumerate(slices(folder, f"{SERIES.replace('InPhase', 'OutPhase')}/*")[:3]):
        shutil.copy(slice_, folder / SERIES / f"other{number}.dcm")


def foreign(folder: Path) -> None:
    """Put the slices of another subject in place of a series."""
    shutil.rmtree(folder / SERIES)
    shutil.copytree(folder / SERIES.replace("/2/", "/3/"), folder / SERIES)
