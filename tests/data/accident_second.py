"""Accidents of a second round, planted after the checks for the first one were written."""

from pathlib import Path

import numpy as np
from scipy import ndimage
from tests.data.accident_maker import (
    BOTH,
    IMAGE,
    LEFT,
    LIVER,
    MASK,
    RIGHT,
    SEED,
    SPLEEN,
    Accident,
    copied,
)

from guided_attention.data import make_phantom
from guided_attention.data.phantom._harm import load, save, voxels

_NOISE = np.random.default_rng(11)


def _noisy(image):
    return np.abs(image * 1.2 + _NOISE.normal(0, 8, image.shape)).astype(np.int16)


def _near_copy(folder: Path) -> None:
    copied("p01_a", "p09_a", _noisy)(folder)
    voxels(lambda mask: ndimage.grey_closing(mask, (3, 3, 1)), "p09_a_label.nii.gz")(folder)


def _image_of_another(folder: Path) -> None:
    (other, _), (own, affine) = load(folder / "p02_a_image.nii.gz"), load(folder / IMAGE)
    places = (
        np.linspace(0, old - 1, new).round().astype(int)
        for old, new in zip(other.shape, own.shape, strict=True)
    )
    save(folder / IMAGE, _noisy(other[np.ix_(*places)]), affine)


def _t2(folder: Path) -> None:
    case = make_phantom(SEED, subject=3, size=48, source="t2")
    save(folder / IMAGE, case.image[0].T.round().astype(np.int16), load(folder / IMAGE)[1])


def _burnt_in(folder: Path) -> None:
    organs = load(folder / MASK)[0] > 0
    rim = organs & ~ndimage.binary_erosion(organs)
    voxels(lambda v: np.where(rim, v.max(), v).astype(v.dtype), IMAGE)(folder)


def _only_organs(folder: Path) -> None:
    near = ndimage.binary_dilation(load(folder / MASK)[0] > 0, iterations=3)
    voxels(lambda v: np.where(near, v, 0).astype(v.dtype), IMAGE)(folder)


def _hot(image):
    image = image.astype(np.int32)
    image[20, 20, 12] = 10_000_000
    return image


def _blurred(image):
    return ndimage.gaussian_filter(image.astype(np.float32), (2, 2, 0)).astype(image.dtype)


def _fifths(mask):
    return mask[..., np.arange(mask.shape[2]) // 5 * 5]


def _margin(image):
    inside = np.zeros_like(image)
    inside[12:-12, 12:-12] = image[12:-12, 12:-12]
    return inside


def _half_black(image):
    image[..., int(0.6 * image.shape[2]) :] = 0
    return image


def _mixed_kidneys(mask):
    places = np.argwhere(mask == RIGHT)
    mask[tuple(places[: len(places) // 3].T)] = LEFT
    return mask


def _bleeding(mask):
    mask[(mask == LIVER) & (np.arange(48)[:, None, None] > 20)] = SPLEEN
    return mask


def _every_second(mask):
    mask[..., 1::2] = 0
    return mask


def _liver_in_most(mask):
    mask[(mask == LIVER) & (np.arange(mask.shape[2]) % 7 == 0)] = 0
    return mask


A = Accident
SECOND = (
    A(
        "near copy",
        "A copy has other contrast, more noise and a smoothed mask.",
        ("p09_a_image.nii.gz", "p01_a"),
        _near_copy,
    ),
    A(
        "image of another",
        "An image is that of another patient, exported again.",
        (IMAGE, "p02_a_image.nii.gz"),
        _image_of_another,
    ),
    A("T2 among T1", "One scan is T2, the others are T1.", (IMAGE,), _t2),
    A(
        "burnt in",
        "Outlines of organs are burnt into an image.",
        (IMAGE,),
        _burnt_in,
        blind="The image is as it should be but for a few bright voxels.",
    ),
    A("only organs", "All but the organs is black in an image.", (IMAGE,), _only_organs),
    A("hot voxel", "One voxel has ten million.", (IMAGE,), voxels(_hot, IMAGE)),
    A("blurred", "An image has been smoothed.", (IMAGE,), voxels(_blurred, IMAGE)),
    A("black margin", "The margin of an image is black.", (IMAGE,), voxels(_margin, IMAGE)),
    A("half black", "The upper slices of an image are black.", (IMAGE,), voxels(_half_black, IMAGE)),
    A(
        "transposed",
        "Rows and columns of image and mask are exchanged.",
        BOTH,
        voxels(lambda v: v.swapaxes(0, 1), *BOTH),
    ),
    A(
        "inverted mask",
        "A mask has organ where background is.",
        (MASK,),
        voxels(lambda v: (v == 0).astype(np.uint8), MASK),
    ),
    A(
        "every fifth slice",
        "Every fifth slice of a mask was copied to the next four.",
        (MASK,),
        voxels(_fifths, MASK),
    ),
    A("every second slice", "Every second slice was annotated.", (MASK,), voxels(_every_second, MASK)),
    A(
        "liver in most slices",
        "The liver is missing in every seventh slice.",
        (MASK,),
        voxels(_liver_in_most, MASK),
    ),
    A(
        "kidneys mixed",
        "A third of the right kidney has the label of the left one.",
        (MASK,),
        voxels(_mixed_kidneys, MASK),
    ),
    A(
        "liver as spleen",
        "Half of the liver has the label of the spleen.",
        (MASK,),
        voxels(_bleeding, MASK),
        blind="The two touch, and spleens of different people differ as much.",
    ),
    A(
        "coarse mask",
        "A mask was made at a quarter of the resolution.",
        (MASK,),
        voxels(lambda v: v[::4, ::4].repeat(4, 0).repeat(4, 1), MASK),
        blind="It still lies on its organs.",
    ),
)
