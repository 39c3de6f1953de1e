"""The accidents that `check` has to find, one line each."""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from tests.data.accidents import (
    BOTH,
    IMAGE,
    LEFT,
    LIVER,
    MASK,
    RIGHT,
    SERIES,
    SPLEEN,
    SPLIT,
    Accident,
    as_ct,
    as_jpeg,
    both,
    content,
    copied,
    delete,
    exchange,
    foreign,
    grid_of,
    header,
    load,
    mixed,
    organ,
    paint,
    placed,
    relabel,
    rename,
    save,
    slices,
    smooth,
    split,
    to_ras,
    two_forms,
    voxels,
    write_case,
)

_TWO = ("p02_a_image.nii.gz", "p02_a_label.nii.gz", "p05_a_image.nii.gz", "p05_a_label.nii.gz")
_COPIES = ("p01_a_image.nii.gz", "p09_a_image.nii.gz", "p01_a_label.nii.gz", "p09_a_label.nii.gz")
_PATIENT = ("p01_b", "p01_a_image.nii.gz", "p01_b_image.nii.gz", SPLIT)
_NOISE = np.random.default_rng(3)


def _mirror(affine):
    moved = affine.copy()
    moved[0, 0], moved[0, 3] = -affine[0, 0], affine[0, 3] + 47 * affine[0, 0]
    return moved


def _sheared(affine):
    affine[0, 1] = 0.3 * affine[1, 1]
    return affine


def _scaled(*factors):
    return lambda affine: affine @ np.diag([*factors, 1.0])


def _moved(affine):
    affine[:3, 3] += 20
    return affine


def _islands(mask):
    for place in ((4, 4, 5), (40, 6, 9), (5, 41, 30), (42, 40, 3), (24, 3, 20), (7, 24, 31)):
        mask[place] = SPLEEN
    return mask


def _crumb(shape):
    left = np.zeros_like(shape)
    left[tuple(np.argwhere(shape)[len(np.argwhere(shape)) // 2])] = True
    return left


def _grown(shape):
    return ndimage.binary_dilation(shape, iterations=2)


def _rim(mask):
    mask[[0, -1]], mask[:, [0, -1]] = 255, 255
    return mask


def _half(mask):
    mask[..., mask.shape[2] // 2 :] = 0
    return mask


def _repeated(image):
    image[..., 12:20] = image[..., 12:13]
    return image


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
ACCIDENTS = (
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
    # masks on the wrong place
    A(
        "mask flipped in x",
        "A mask is mirrored from left to right.",
        BOTH,
        voxels(lambda mask: mask[::-1], MASK),
    ),
    A(
        "mask flipped in y",
        "A mask is mirrored from front to back.",
        BOTH,
        voxels(lambda mask: mask[:, ::-1], MASK),
    ),
    A("mask flipped in z", "A mask is upside down.", BOTH, voxels(lambda mask: mask[..., ::-1], MASK)),
    A(
        "mask transposed",
        "Rows and columns of a mask are exchanged.",
        BOTH,
        voxels(lambda mask: mask.swapaxes(0, 1), MASK),
    ),
    A(
        "mask shifted",
        "A mask lies five voxels beside its organs.",
        BOTH,
        voxels(lambda mask: np.roll(mask, 5, 0), MASK),
    ),
    A(
        "mask shifted by slices",
        "A mask lies three slices too high.",
        BOTH,
        voxels(lambda mask: np.roll(mask, 3, 2), MASK),
    ),
    A(
        "kidneys exchanged",
        "Left and right kidney have each other's label.",
        BOTH,
        voxels(relabel({2: 3, 3: 2}), MASK),
    ),
    A(
        "labels permuted",
        "Liver and spleen have each other's label.",
        BOTH,
        voxels(relabel({1: 4, 4: 1}), MASK),
    ),
    A("sides exchanged", "A wrong sign in the affine mirrors the patient.", BOTH, placed(_mirror, *BOTH)),
    A(
        "slices in reverse",
        "Slices are stored in reverse, and the affine does not know.",
        BOTH,
        voxels(lambda v: v[..., ::-1], *BOTH),
    ),
    A(
        "image in reverse",
        "The slices of an image are stored in reverse, those of its mask not.",
        BOTH,
        voxels(lambda v: v[..., ::-1], IMAGE),
    ),
    # geometry
    A(
        "micrometres",
        "Spacing is in micrometres, and no unit says so.",
        BOTH,
        placed(_scaled(1000, 1000, 1000), *BOTH),
    ),
    A(
        "metres",
        "Spacing is in metres, and no unit says so.",
        BOTH,
        placed(_scaled(0.001, 0.001, 0.001), *BOTH),
    ),
    A("lost header", "Spacing is 1 mm along each axis.", BOTH, placed(lambda _: np.eye(4), *BOTH)),
    A(
        "lost header of the image",
        "The image has lost its spacing, the mask not.",
        BOTH,
        placed(lambda _: np.eye(4), IMAGE),
    ),
    A("ten times", "Slices lie ten times too far apart.", BOTH, placed(_scaled(1, 1, 10), *BOTH)),
    A(
        "NaN in the affine",
        "The affine holds NaN.",
        (IMAGE,),
        content(header(280, "<f", float("nan")), IMAGE),
    ),
    A("sheared", "The axes of a scan are not at right angles.", BOTH, placed(_sheared, *BOTH)),
    A(
        "two places",
        "qform and sform name two places.",
        BOTH,
        lambda f: [two_forms(f / file) for file in BOTH],
    ),
    A(
        "no orientation",
        "Both forms are switched off.",
        BOTH,
        both(*(content(header(252, "<hh", 0, 0), file) for file in BOTH)),
    ),
    A(
        "another orientation",
        "A scan is stored in another orientation than the others.",
        BOTH,
        lambda f: [to_ras(f / file) for file in BOTH],
    ),
    A("one slice", "A scan is a single slice.", BOTH, voxels(lambda v: v[..., 16:17], *BOTH)),
    # intensities
    A("NaN", "A voxel is NaN.", (IMAGE,), voxels(paint((20, 21, 12), np.nan, np.float32), IMAGE)),
    A("infinite", "A voxel is infinite.", (IMAGE,), voxels(paint((20, 21, 12), np.inf, np.float32), IMAGE)),
    A("constant", "Each voxel has one value.", (IMAGE,), voxels(lambda v: np.full_like(v, 113), IMAGE)),
    A("empty", "Each voxel is zero.", (IMAGE,), voxels(np.zeros_like, IMAGE)),
    A(
        "clipped",
        "Bright tissue is cut off at one value.",
        (IMAGE,),
        voxels(lambda v: np.minimum(v, 150), IMAGE),
    ),
    A(
        "overflow",
        "Values above 255 have wrapped around.",
        (IMAGE,),
        voxels(lambda v: v.astype(np.uint8), IMAGE),
    ),
    A("CT among MR", "One scan is a CT.", (IMAGE,), voxels(as_ct, IMAGE)),
    A(
        "scaled by 1000",
        "One scan is a thousand times brighter.",
        (IMAGE,),
        voxels(lambda v: v * np.float32(1000), IMAGE),
    ),
    A(
        "normalized",
        "One scan has been standardized before.",
        (IMAGE,),
        voxels(lambda v: ((v - v.mean()) / v.std()).astype(np.float32), IMAGE),
    ),
    A("inverted", "Black and white are exchanged.", (IMAGE,), voxels(lambda v: v.max() - v, IMAGE)),
    A("image is the mask", "The mask has been saved as the image.", (IMAGE,), grid_of(MASK, IMAGE)),
    A(
        "noise",
        "The image is noise.",
        (IMAGE,),
        voxels(lambda v: _NOISE.integers(0, 600, v.shape, dtype=np.int16), IMAGE),
    ),
    A(
        "black slices",
        "Slices in the middle are black.",
        (IMAGE,),
        voxels(paint((..., slice(12, 20)), 0), IMAGE),
    ),
    A("slice repeated", "One slice stands where eight were.", (IMAGE,), voxels(_repeated, IMAGE)),
    A(
        "two channels",
        "One scan has two channels, the others one.",
        (IMAGE,),
        voxels(lambda v: np.stack([v, v + 1], -1), IMAGE),
    ),
    # label values
    A("empty mask", "A mask has no organ.", (MASK,), voxels(np.zeros_like, MASK)),
    A("all organ", "A mask has no background.", (MASK,), voxels(np.ones_like, MASK)),
    A("organ missing", "The spleen was forgotten.", (MASK,), voxels(relabel({SPLEEN: 0}), MASK)),
    A(
        "two organs in one",
        "Both kidneys have the label of the right one.",
        (MASK,),
        voxels(relabel({LEFT: RIGHT}), MASK),
    ),
    A(
        "unknown label",
        "One organ has a number that the list of organs lacks.",
        (MASK,),
        voxels(relabel({SPLEEN: 7}), MASK),
    ),
    A("rim of 255", "The border of the mask has the label 255.", (MASK,), voxels(_rim, MASK)),
    A("negative label", "An organ has the number -1.", (MASK,), voxels(relabel({SPLEEN: -1}), MASK)),
    A("fraction", "A mask holds 0.6.", (MASK,), voxels(paint((20, 21, 12), 0.6, np.float32), MASK)),
    A("smooth", "A mask has been resampled smoothly.", (MASK,), voxels(smooth, MASK)),
    A(
        "smooth and rounded",
        "A mask has been resampled smoothly and rounded: each organ has a rim of others.",
        (MASK,),
        voxels(lambda v: np.rint(smooth(v)).astype(np.uint8), MASK),
    ),
    A(
        "grey levels",
        "Labels are stored as grey levels.",
        (MASK,),
        voxels(lambda v: (v * 63).astype(np.uint8), MASK),
    ),
    # shapes of organs
    A("cut organ", "The scan ends in the middle of the liver.", BOTH, voxels(lambda v: v[..., 17:], *BOTH)),
    A("half annotated", "Annotation stopped half-way through the slices.", (MASK,), voxels(_half, MASK)),
    A("grown", "The spleen is several times too large.", (MASK,), voxels(organ(SPLEEN, _grown), MASK)),
    A("crumb", "One voxel is left of the spleen.", (MASK,), voxels(organ(SPLEEN, _crumb), MASK)),
    A("islands", "Voxels of the spleen lie all over the body.", (MASK,), voxels(_islands, MASK)),
    A(
        "slice of the mask missing",
        "One slice in the middle of an organ has no label.",
        (MASK,),
        voxels(paint((..., 17), 0), MASK),
    ),
    A(
        "holes",
        "The middle of the liver has no label.",
        (MASK,),
        voxels(organ(LIVER, lambda s: s & ~ndimage.binary_erosion(s, iterations=2)), MASK),
    ),
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
        "A slice in the middle is not there.",
        (SERIES,),
        lambda f: slices(f, f"{SERIES}/*")[12].unlink(),
        "dicom",
    ),
    A("DICOM, last slices missing", "The transfer stopped before the end.", (SERIES,), _last_slices, "dicom"),
    A("DICOM series mixed", "Slices of another series lie in the folder.", (SERIES,), mixed, "dicom"),
    A(
        "DICOM of another patient",
        "The slices are those of another patient.",
        (SERIES, SERIES.replace("/2/", "/3/")),
        foreign,
        "dicom",
    ),
    A(
        "DICOM file cut",
        "One slice is not whole.",
        (SERIES,),
        lambda f: (p := slices(f, f"{SERIES}/*")[12]).write_bytes(p.read_bytes()[:-700]),
        "dicom",
    ),
    A(
        "DICOM mask missing",
        "One slice has no mask.",
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
        "One slice has no mask.",
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
