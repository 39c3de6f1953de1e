"""Accidents of files, pairs, copies and splits, one entry each."""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image
from tests.data.accident_maker import (
    BOTH,
    IMAGE,
    MASK,
    SERIES,
    SPLIT,
    Accident,
    as_jpeg,
    copied,
    exchange,
    foreign,
    grid_of,
    mixed,
    rename,
    slices,
    split,
    write_case,
)

from guided_attention.data.phantom._harm import both, content, delete, load, placed, save, voxels

_TWO = ("p02_a_image.nii.gz", "p02_a_label.nii.gz", "p05_a_image.nii.gz", "p05_a_label.nii.gz")
_COPIES = ("p01_a_image.nii.gz", "p09_a_image.nii.gz", "p01_a_label.nii.gz", "p09_a_label.nii.gz")
_PATIENT = ("p01_b", "p01_a_image.nii.gz", "p01_b_image.nii.gz", SPLIT)


def _moved(affine):
    affine[:3, 3] += 20
    return affine


def _link(folder: Path) -> None:
    (folder / IMAGE).unlink()
    (folder / IMAGE).symlink_to("/annex/objects/d3/4f.nii.gz")


def _exchange_masks(folder: Path) -> None:
    (one, here), (other, there) = (load(folder / f"p0{number}_a_label.nii.gz") for number in (2, 5))
    save(folder / "p02_a_label.nii.gz", other, here)
    save(folder / "p05_a_label.nii.gz", one, there)


def _png_size(folder: Path) -> None:
    mask = slices(folder, "train/GT/Subj_2slice_*.png")[20]
    Image.open(mask).resize((31, 32)).save(mask)


def _smooth_png(folder: Path) -> None:
    for mask in slices(folder, "train/GT/Subj_2slice_*.png"):
        Image.open(mask).convert("L").resize((20, 20)).resize((32, 32), Image.Resampling.BILINEAR).save(mask)


def _last_slices(folder: Path) -> None:
    for slice_ in slices(folder, f"{SERIES}/*")[-4:]:
        slice_.unlink()


A = Accident
OF_FILES = (
    # files
    A("mask missing", "A scan has lost its mask.", (IMAGE,), delete(MASK)),
    A("image missing", "A mask has lost its scan.", (MASK,), delete(IMAGE)),
    A("cut gzip", "A copy stopped half-way.", (IMAGE,), content(lambda data: data[:-900], IMAGE)),
    A(
        "flipped bit",
        "One bit of a compressed file is wrong.",
        (MASK,),
        content(lambda data: data[:700] + bytes([data[700] ^ 4]) + data[701:], MASK),
    ),
    A("zero bytes", "A file has no bytes.", (MASK,), content(lambda _: b"", MASK)),
    A("link to nowhere", "A link leads to a file that was not fetched.", (IMAGE,), _link),
    A("wrong ending", "An uncompressed file is called .nii.gz.", (IMAGE,), content(gzip.decompress, IMAGE)),
    A(
        "wrong ending, compressed",
        "A compressed file is called .nii.",
        (IMAGE, "p03_a_image.nii"),
        rename(IMAGE, "p03_a_image.nii"),
    ),
    A(
        "web page",
        "An error page was downloaded.",
        (IMAGE,),
        content(lambda _: b"<html>404 Not Found</html>", IMAGE),
    ),
    A(
        "pointer",
        "A Git LFS pointer lies there.",
        (MASK,),
        content(lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12345\n", MASK),
    ),
    A(
        "second copy",
        "A download came twice.",
        (IMAGE, "p03_a_image (1).nii.gz"),
        lambda f: (f / "p03_a_image (1).nii.gz").write_bytes((f / IMAGE).read_bytes()),
    ),
    A("names exchanged", "Image and mask have each other's name.", BOTH, exchange(*BOTH)),
    # pairs
    A(
        "mask of another patient",
        "A mask has been copied over that of another patient.",
        _TWO,
        grid_of("p02_a_label.nii.gz", "p05_a_label.nii.gz"),
    ),
    A("masks exchanged", "Two patients of one grid have each other's mask.", _TWO, _exchange_masks),
    A(
        "mask file of another patient",
        "The file of another patient's mask has been copied.",
        (MASK, IMAGE),
        lambda f: (f / MASK).write_bytes((f / "p06_a_label.nii.gz").read_bytes()),
    ),
    A("mask of another size", "A mask lacks a slice.", BOTH, voxels(lambda mask: mask[..., 1:], MASK)),
    A(
        "mask at half size",
        "A mask was made on a coarser grid.",
        BOTH,
        voxels(lambda mask: mask[::2, ::2], MASK),
    ),
    A("mask moved in millimetres", "The mask's origin is 20 mm off.", BOTH, placed(_moved, MASK)),
    # copies and splits
    A("duplicate", "A case is there under two names.", _COPIES, copied("p01_a", "p09_a")),
    A(
        "duplicate of another type",
        "A copy is stored as another number type.",
        _COPIES,
        copied("p01_a", "p09_a", lambda v: v.astype(np.float64)),
    ),
    A(
        "duplicate, brighter",
        "A copy has other intensities.",
        _COPIES,
        copied("p01_a", "p09_a", lambda v: (v * 1.5 + 10).astype(np.int16)),
    ),
    A(
        "duplicate within another margin",
        "A scan is there twice, cut out with another margin.",
        _COPIES,
        both(
            copied("p01_a", "p09_a"),
            voxels(lambda v: v[:-1, 2:, 1:], "p09_a_image.nii.gz", "p09_a_label.nii.gz"),
        ),
    ),
    A(
        "duplicate mask",
        "Two patients have one mask.",
        (*_TWO, *BOTH),
        lambda f: (f / "p05_a_label.nii.gz").write_bytes((f / "p02_a_label.nii.gz").read_bytes()),
    ),
    A(
        "training case in the test",
        "A copy of a training case is tested.",
        _COPIES,
        both(copied("p01_a", "p09_a"), split(lambda s: s["test"].append("p09_a"))),
    ),
    A(
        "patient in two parts",
        "A second scan of a training patient is tested.",
        _PATIENT,
        both(lambda f: write_case(f, "p01_b", 9), split(lambda s: s["test"].append("p01_b"))),
    ),
    A(
        "case in two parts",
        "The split lists a case twice.",
        _PATIENT,
        split(lambda s: s["test"].append("p01_a")),
    ),
    A(
        "unknown case in the split",
        "The split names a case that is not there.",
        (SPLIT,),
        split(lambda s: s["test"].append("p77_a")),
    ),
    A("damaged split", "The file of the split has no end.", (SPLIT,), content(lambda data: data[:-9], SPLIT)),
    # DICOM
    A(
        "DICOM slice missing",
        "A slice in the middle of a DICOM series is not there.",
        (SERIES,),
        lambda f: slices(f, f"{SERIES}/*")[12].unlink(),
        "dicom",
    ),
    A(
        "DICOM, last slices missing",
        "The last DICOM slices are not there.",
        (SERIES,),
        _last_slices,
        "dicom",
    ),
    A("DICOM series mixed", "Slices of another DICOM series lie in the folder.", (SERIES,), mixed, "dicom"),
    A(
        "DICOM of another patient",
        "The slices of a DICOM series are those of another patient.",
        (SERIES, SERIES.replace("/2/", "/3/")),
        foreign,
        "dicom",
    ),
    A(
        "DICOM file cut",
        "One DICOM slice is not whole.",
        (SERIES,),
        lambda f: (p := slices(f, f"{SERIES}/*")[12]).write_bytes(p.read_bytes()[:-700]),
        "dicom",
    ),
    A(
        "DICOM mask missing",
        "One slice of a series has no mask.",
        (SERIES, "Train_Sets/MR/2/T1DUAL/Ground"),
        lambda f: slices(f, "Train_Sets/MR/2/T1DUAL/Ground/*")[12].unlink(),
        "dicom",
    ),
    # PNG
    A(
        "PNG through JPEG",
        "A mask has been JPEG once: grey levels lie between those of organs.",
        ("train/GT/Subj_2",),
        as_jpeg,
        "png",
    ),
    A("PNG resized smoothly", "Masks have been resized smoothly.", ("train/GT/Subj_2",), _smooth_png, "png"),
    A(
        "PNG slice missing",
        "An image and its mask are missing in the middle of a scan.",
        ("train/Img/Subj_2",),
        lambda f: [slices(f, f"train/{part}/Subj_2slice_*")[20].unlink() for part in ("Img", "GT")],
        "png",
    ),
    A(
        "PNG mask missing",
        "One PNG slice has no mask.",
        ("train/Img/Subj_2",),
        lambda f: slices(f, "train/GT/Subj_2slice_*")[20].unlink(),
        "png",
    ),
    A("PNG of another size", "One mask has another size.", ("train/GT/Subj_2",), _png_size, "png"),
    A(
        "PNG patient in two parts",
        "A subject of the training part is tested as well.",
        ("Subj_2",),
        lambda f: [
            (f / "test" / p.parent.name / p.name).write_bytes(p.read_bytes())
            for p in slices(f, "train/*/Subj_2slice_*")
        ],
        "png",
    ),
)
