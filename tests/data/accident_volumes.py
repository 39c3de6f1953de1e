"""Accidents of voxels, masks and geometry, one entry each."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage
from tests.data.accident_maker import (
    BOTH,
    IMAGE,
    LEFT,
    LIVER,
    MASK,
    RIGHT,
    SPLEEN,
    Accident,
    as_ct,
    grid_of,
    header,
    two_forms,
)

from guided_attention.data.phantom._harm import (
    Array,
    both,
    content,
    organ,
    placed,
    relabel,
    smooth,
    to_ras,
    voxels,
)

_NOISE = np.random.default_rng(3)


def paint(where: tuple[Any, ...], value: float, dtype: type | None = None) -> Callable[[Array], Array]:
    """Return what sets some voxels to a value."""

    def changed(array: Array) -> Array:
        array = array.astype(dtype or array.dtype)
        array[where] = value
        return array

    return changed


def _mirror(affine):
    moved = affine.copy()
    moved[0, 0], moved[0, 3] = -affine[0, 0], affine[0, 3] + 47 * affine[0, 0]
    return moved


def _sheared(affine):
    affine[0, 1] = 0.3 * affine[1, 1]
    return affine


def _scaled(*factors):
    return lambda affine: affine @ np.diag([*factors, 1.0])


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


A = Accident
OF_VOLUMES = (
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
    A(
        "mask by a quarter",
        "A mask is turned by 90 degrees.",
        BOTH,
        voxels(np.rot90, MASK),
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
    A(
        "slices in disorder",
        "The slices of an image are in no order.",
        (IMAGE,),
        voxels(lambda v: v[..., _NOISE.permutation(v.shape[2])], IMAGE),
    ),
    A(
        "dark clipped",
        "Dark tissue is cut off at one value.",
        (IMAGE,),
        voxels(lambda v: np.maximum(v, 150), IMAGE),
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
    A(
        "grown",
        "The spleen is two and a half times too large.",
        (MASK,),
        voxels(organ(SPLEEN, _grown), MASK),
        blind="Spleens of different people differ as much.",
    ),
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
    A(
        "eroded",
        "The border of the liver was left out.",
        (MASK,),
        voxels(organ(LIVER, lambda s: ndimage.binary_erosion(s, iterations=2)), MASK),
        blind="Livers of different people differ as much, and what is left is all liver.",
    ),
    A(
        "half an organ",
        "Half of the liver was left out.",
        (MASK,),
        voxels(organ(LIVER, lambda s: s & (np.arange(48)[:, None, None] < 21)), MASK),
        blind="Livers of different people differ as much, and what is left is all liver.",
    ),
)
