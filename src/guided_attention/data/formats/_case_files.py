"""One case from its files, whatever their format: an image, or one file a channel, and a mask."""

import os
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias

from guided_attention._checks import require, require_type
from guided_attention._files import PathLike
from guided_attention.case import Case, Volume
from guided_attention.data._dicom_masks import DicomMask
from guided_attention.data._files import case_from_files
from guided_attention.data.formats._slicer import SlicerFile, padded
from guided_attention.data.formats._table import OpenedFile, case_id_of, has_geometry, image_of
from guided_attention.data.layouts._channels import stacked
from guided_attention.errors import DataError

__all__ = ["Opener", "case_of_files", "joined_case"]

Opener: TypeAlias = Callable[[PathLike, str], OpenedFile]
"""Opens the file of an argument."""


def case_of_files(
    image: object,
    label: PathLike | None,
    opener: Opener,
    *,
    case_id: str | None,
    channel_names: Sequence[str],
    resample_channels: bool,
    max_bytes: int,
) -> Case:
    """Read a case from its image, or a list of one file a channel, and its mask; see `read_volume_case`."""
    paths = [image] if isinstance(image, (str, os.PathLike)) else _listed(image)
    opened = [opener(path, "image") for path in paths]
    files = {file.path: file for file in opened}
    images = [file.path for file in opened]
    return joined_case(
        _common_id(images) if case_id is None else case_id,
        images,
        None if label is None else opener(label, "label"),
        lambda path: image_of(files[path]),
        channel_names=channel_names,
        resample_channels=resample_channels,
        max_bytes=max_bytes,
    )


def joined_case(
    case_id: str,
    images: Sequence[Path],
    mask: OpenedFile | None,
    read: Callable[[Path], Volume],
    *,
    channel_names: Sequence[str],
    resample_channels: bool,
    max_bytes: int,
) -> Case:
    """Read one image, or one a channel, and the mask; a mask of a part of the image is padded to all of it."""
    if mask is not None:
        cure = "Write it with its affine first: write_nifti(path, mask, image.affine)."
        good, wanted = has_geometry(images[0]) <= has_geometry(mask.path), "of a format that holds geometry"
        require(good, "label", wanted, f"{mask.path} for {images[0]}", cure, error=DataError, file=mask.path)
    image = stacked(images, read, resample=resample_channels, max_bytes=max_bytes)
    labels = None if mask is None else Volume(mask.labels(), mask.affine)
    if labels is not None and isinstance(mask, SlicerFile | DicomMask):
        labels = padded(labels, image)
    files = [*images, *([] if mask is None else [mask.path])]
    return case_from_files(case_id, image, labels, channel_names, files)


def _listed(images: object) -> Sequence[PathLike]:
    require_type("image", images, (tuple, list), "a path, or a list of paths, one a channel")
    assert isinstance(images, tuple | list)  # noqa: S101 - for the type checker
    require(bool(images), "image", "at least one file", "an empty list")
    return images


def _common_id(images: Sequence[Path]) -> str:
    """Return the words that all names begin with; the name of the first file where there are none."""
    stems = [case_id_of(path) for path in images]
    common = takewhile(
        lambda words: len(set(words)) == 1, zip(*(stem.split("_") for stem in stems), strict=False)
    )
    return "_".join(words[0] for words in common) or stems[0]
