"""NIfTI: volumes read and written, their place in the patient kept."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from guided_attention._checks import cut_list, needs_extra, require, require_path, require_type
from guided_attention._files import PathLike, replacing
from guided_attention._geometry import checked_affine, is_same_place
from guided_attention._typing import Affine
from guided_attention.case import Case, Source, Volume, as_array
from guided_attention.data._files import (
    files_in,
    keep_ids,
    natural_key,
    require_pairs,
)
from guided_attention.data.formats._case_files import case_of_files
from guided_attention.data.formats._limits import MAX_BYTES
from guided_attention.data.formats._nifti import NIFTI_ENDINGS, Form, open_nifti, open_with_forms
from guided_attention.data.formats._table import case_id_of
from guided_attention.errors import ArgumentError, DataError

__all__ = ["is_nifti", "read_nifti", "read_nifti_case", "read_nifti_pairs", "write_nifti"]

_ENDINGS = (".nii", ".nii.gz")
_INTEGERS = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_LONGEST_SIDE = 32767


def read_nifti(path: PathLike, *, max_bytes: int = MAX_BYTES) -> Volume:
    """Read a NIfTI file: its array in (z, y, x) order and its affine in millimetres.

    The file's axes (x, y, z) are turned round and nothing is flipped or resampled, so that the affine still holds for
    voxel index (x, y, z). A fourth axis becomes the channels, in front. Whole numbers keep their type; floating-point
    numbers, and values that the header scales, become float32. The file is read in pieces, and to its end, where the
    checksum of a ``.nii.gz`` stands.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file, or one of a pair ``.hdr`` and ``.img``.
        max_bytes: What the volume may take in memory, judged before it is unpacked.

    Returns:
        The volume, ``(depth, height, width)`` or ``(channels, depth, height, width)``.

    Raises:
        MissingFileError: There is no such file.
        DataError: The file is damaged, may not be read or takes more than `max_bytes`, has not two to four axes, holds
            NaN or infinite values, or its affine is no affine.
        MissingPackageError: nibabel is not installed.

    Warns:
        GeometryWarning: The header has no orientation, or two places (sform and qform) that differ.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     affine = np.diag([1.5, 1.5, 9.0, 1.0])
        ...     path = write_nifti(f"{folder}/a.nii.gz", np.zeros((3, 5, 7), np.uint8), affine)
        ...     volume = read_nifti(path)
        >>> volume.array.shape, volume.spacing_mm
        ((3, 5, 7), (9.0, 1.5, 1.5))
    """
    file = open_nifti(path, "path", max_bytes)
    return Volume(file.array(), file.affine, Source(file.path))


def read_nifti_case(
    image: PathLike | Sequence[PathLike],
    label: PathLike | None = None,
    *,
    case_id: str | None = None,
    channel_names: Sequence[str] = (),
    resample_channels: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Case:
    """Read one subject from a NIfTI image, or from one file a channel, and its NIfTI mask.

    A mask or a channel in another storage order than the first image is reordered.

    Args:
        image: The image file, whose fourth axis becomes the channels; or a list of files, one a channel.
        label: The mask file, None where there is no mask.
        case_id: Name of the case; where left out, the image's file name without its ending, ``_image`` and ``_0000``.
        channel_names: One name a channel, such as ``("T1", "T2")``.
        resample_channels: Whether a file on another grid than the first is interpolated linearly onto it; otherwise it
            is an error.
        max_bytes: What each file may take in memory, see `read_nifti`.

    Returns:
        The case; its labels are None where no mask was given.

    Raises:
        MissingFileError: A file is missing.
        DataError: See `read_nifti`; or the mask is not made of whole numbers, has another size than the image, or lies
            further than a tenth of a voxel from it; or channels are on different grids, or hardly overlap.
        ArgumentError: The list of files is empty.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = write_nifti(f"{folder}/7_image.nii.gz", np.zeros((3, 5, 7), np.float32), np.eye(4))
        ...     case = read_nifti_case(path)
        >>> case.case_id, case.image.shape, case.labels
        ('7', (1, 3, 5, 7), None)
    """
    return case_of_files(
        image,
        label,
        partial(open_nifti, max_bytes=max_bytes),
        case_id=case_id,
        channel_names=channel_names,
        resample_channels=resample_channels,
        max_bytes=max_bytes,
    )


def read_nifti_pairs(
    images: PathLike | Sequence[PathLike],
    labels: PathLike | Sequence[PathLike] | None = None,
    *,
    image_suffix: str = "_image.nii.gz",
    label_suffix: str = "_label.nii.gz",
    case_ids: Sequence[str] | None = None,
    channel_names: Sequence[str] = (),
    max_bytes: int = MAX_BYTES,
) -> list[Case]:
    """Read every image with the mask of the same name, ordered by name with numbers as numbers.

    The name of a case is its file name without the suffix: ``case2_image.nii.gz`` and ``case2_label.nii.gz`` make the
    case ``case2``. Where file names repeat, as in ``s1/ct.nii.gz`` and ``s2/ct.nii.gz``, it is the name of the folder.
    For folders as the Medical Segmentation Decathlon and nnU-Net have them, give ``imagesTr`` and ``labelsTr`` and the
    suffix ``.nii.gz`` for both.

    Args:
        images: A folder, or the image files.
        labels: A folder, or the mask files; the folder of the images where left out.
        image_suffix: What image file names end in; other files of a folder are ignored.
        label_suffix: The same for masks.
        case_ids: Names of the cases to read, in the order wanted; all where left out.
        channel_names: One name a channel, for all cases.
        max_bytes: What each volume may take in memory, see `read_nifti`.

    Returns:
        One case a pair.

    Raises:
        MissingFileError: A folder is missing or has no such files.
        DataError: An image has no mask or a mask no image, two files have one name, or see `read_nifti_case`.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("case10_image", "case10_label", "case9_image", "case9_label"):
        ...         _ = write_nifti(f"{folder}/{name}.nii.gz", np.zeros((3, 5, 7), np.uint8), np.eye(4))
        ...     [case.case_id for case in read_nifti_pairs(folder)]
        ['case9', 'case10']
    """
    pictures = _by_id(images, image_suffix, "images")
    masks = _by_id(_beside(images) if labels is None else labels, label_suffix, "labels")
    same = next((path for name, path in pictures.items() if masks.get(name) == path), None)
    cure = "Give images and masks suffixes, or folders, of their own."
    require(
        same is None,
        "labels",
        "other files than the images",
        f"{same} as both",
        cure,
        error=DataError,
        file=same,
    )
    wanted = keep_ids(list(pictures), case_ids, folder=next(iter(pictures.values())).parent)
    require_pairs(
        {name: pictures[name] for name in wanted},
        {name: path for name, path in masks.items() if case_ids is None or name in wanted},
        cure="Add the missing files, or read images without masks by `read_nifti_case`.",
    )
    return [
        read_nifti_case(
            pictures[name], masks[name], case_id=name, channel_names=channel_names, max_bytes=max_bytes
        )
        for name in wanted
    ]


def _by_id(files: PathLike | Sequence[PathLike], suffix: str, argument: str) -> Mapping[str, Path]:
    require_type("image_suffix" if argument == "images" else "label_suffix", suffix, str, "a text")
    if isinstance(files, (tuple, list)):
        paths = [require_path(argument, path) for path in files]
        require(bool(paths), argument, "at least one file", "none")
    else:
        paths = files_in(require_path(argument, files), suffix=suffix, argument=argument)
    odd = [path.name for path in paths if not path.name.lower().endswith(suffix.lower())]
    require(not odd, argument, f"files that end in {suffix!r}", cut_list(odd), "Give the suffix they end in.")
    names = [case_id_of(path, suffix) for path in paths]
    if not all(names) or len(set(names)) < len(names):
        names = [path.parent.name for path in paths]
    named: dict[str, Path] = {}
    for name, path in sorted(zip(names, paths, strict=True), key=lambda pair: natural_key(pair[0])):
        other = named.setdefault(name, path)
        wanted, got = (
            "files with a name, or in a folder, of their own",
            f"{path} and {other}: both are {name!r}",
        )
        cure = "Read them one by one with `read_nifti_case`, each with a `case_id`."
        require(other is path and bool(name), argument, wanted, got, cure, error=DataError, file=path)
    return named


def is_nifti(path: Path) -> bool:
    """Return whether a file's name ends as that of a NIfTI file, or of one of a pair."""
    return path.name.lower().endswith(NIFTI_ENDINGS)


def _beside(images: PathLike | Sequence[PathLike]) -> PathLike:
    if isinstance(images, (tuple, list)):
        message = "`labels` must be given where `images` is a list, got None. Give the list of mask files."
        raise ArgumentError(message, argument="labels")
    return require_path("images", images)


def write_nifti(
    path: PathLike, volume: npt.NDArray[Any] | Tensor, affine: Affine, *, like: PathLike | None = None
) -> Path:
    """Write a volume as NIfTI so that any viewer lays it over the scan it belongs to; atomically.

    The array's axes (z, y, x) are turned to NIfTI's (x, y, z), channels go last. Whole numbers are written as the
    smallest type that holds them (uint8, int16, uint16, int32, ...), floating-point numbers as float32.

    The affine is written as sform and as qform, both with code 1 (scanner), in float32 as the format has it. A qform
    cannot hold shear: it then has code 0, so that nibabel and others read the sform. SimpleITK refuses sheared files
    ("no orthonormal definition found") where it would put them elsewhere otherwise.

    Args:
        path: A name that ends in ``.nii`` or ``.nii.gz``, in an existing folder.
        volume: ``(depth, height, width)`` or ``(channels, depth, height, width)``, any real number type.
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` to RAS millimetres.
        like: A NIfTI file on the same grid, such as the scan: its sform and its qform are written, with
            their codes, so that every program lays both files on each other, whichever of the two it reads.

    Returns:
        The path written.

    Raises:
        MissingFileError: The folder is missing.
        WriteError: The disk is full, or the folder cannot be written to; an older file stays as it was.
        ArgumentError: The path ends otherwise.
        DataError: The array has another number of axes, no voxel or a number beyond float32; the affine is no affine;
            or `like` has another size or place.
        MissingPackageError: nibabel is not installed.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_nifti(f"{folder}/mask.nii.gz", np.ones((3, 5, 7), np.uint8), np.eye(4)).name
        'mask.nii.gz'
    """
    with needs_extra("nifti"):
        from nibabel.fileholders import FileHolder  # noqa: PLC0415
        from nibabel.nifti1 import Nifti1Image  # noqa: PLC0415
        from nibabel.openers import ImageOpener  # noqa: PLC0415
    wanted = require_path("path", path)
    good = wanted.name.endswith(_ENDINGS)
    require(good, "path", "a name that ends in .nii or .nii.gz", wanted.name)
    place, array = checked_affine(affine, "affine"), _storable(volume)
    make: Callable[..., Any] = Nifti1Image  # nibabel leaves it untyped
    image = make(array.T, place, dtype=array.dtype)
    if like is None:
        image.set_sform(place, code=1)
        image.set_qform(place, code=1)
        if not is_same_place(image.get_qform(), place, array.shape[-3:]):
            image.set_qform(place, code=0)
    else:
        (sform, sform_code), (qform, qform_code) = _forms_of(like, place, array.shape[-3:])
        image.set_qform(qform, code=qform_code)
        image.set_sform(sform, code=sform_code)
    image.header.set_xyzt_units("mm")
    # What nibabel opens itself stays open after an error.
    with replacing(wanted) as draft, ImageOpener(str(draft), "wb") as file:
        image.to_file_map({"image": FileHolder(fileobj=file)})  # type: ignore[arg-type]  # any object that writes
    return wanted


def _forms_of(like: PathLike, affine: Affine, shape: Sequence[int]) -> tuple[Form, Form]:
    """Return sform and qform of a file, which has to lie on the grid."""
    header, *forms = open_with_forms(like, "like")
    good = header.shape[-3:] == tuple(shape) and is_same_place(header.affine, affine, shape)
    wanted, got = "on the grid of the volume", f"{header.path} on another"
    require(good, "like", wanted, got, "Leave it out.", error=DataError, file=header.path)
    return forms[0], forms[1]


def _storable(volume: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    """Return the array in a type that NIfTI and its readers have."""
    array = as_array(volume, "volume")
    wanted = "of three axes, or four with channels first"
    require(array.ndim in {3, 4}, "volume", wanted, f"shape {array.shape}", error=DataError)
    good = array.size > 0 and max(array.shape) <= _LONGEST_SIDE
    wanted = f"of at least one voxel and at most {_LONGEST_SIDE} along an axis"
    require(good, "volume", wanted, f"shape {array.shape}", error=DataError)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            single = array.astype(np.float32, copy=False)
        lost = any(
            bool((np.isinf(new) & ~np.isinf(old)).any()) for new, old in zip(single, array, strict=True)
        )
        require(
            not lost, "volume", "of numbers that float32 holds", "larger ones", "Scale them.", error=DataError
        )
        return single
    lowest, highest = int(array.min()), int(array.max())
    holds = (name for name in _INTEGERS if np.iinfo(name).min <= lowest and highest <= np.iinfo(name).max)
    return array.astype(next(holds), copy=False)
