"""NIfTI: volumes in and out, their place in the patient kept."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import cut_list, needs_extra, require
from guided_attention._files import PathLike, replacing
from guided_attention._typing import Affine, LabelVolume
from guided_attention.case import Case, Volume
from guided_attention.data._files import files_in, keep_ids, natural_key, require_pairs

__all__ = ["read_nifti", "read_nifti_case", "read_nifti_pairs", "write_nifti"]

_TOLERANCE_MM = 1e-3
_KEPT = ("uint8", "int16", "float32")
_ENDINGS = (".nii", ".nii.gz")


def read_nifti(path: PathLike) -> Volume:
    """Read a NIfTI file as an array in (z, y, x) order, with its spacing in millimetres and its affine.

    The file's axes (x, y, z) are turned round, nothing is flipped or resampled, so that the affine still
    holds for voxel index (x, y, z). A fourth axis becomes the channels, in front. The number type is the
    file's own, float64 where the header scales the values.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file.

    Returns:
        The volume, ``(depth, height, width)`` or ``(channels, depth, height, width)``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, has not three or four axes, or holds NaN or infinite values.
        ModuleNotFoundError: nibabel is not installed.

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
    array, affine = _load(Path(path))
    require(
        array.ndim in {3, 4},
        str(path),
        "a file of three axes, or four with channels last",
        f"{array.ndim} axes",
    )
    require(array.size > 0, str(path), "of at least one voxel", f"size {array.shape}")
    require(array.dtype.kind in "biuf", str(path), "a file of plain numbers", f"type {array.dtype}")
    finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
    require(finite, f"values of {path}", "finite everywhere", "NaN or infinite values", "Replace them first.")
    return Volume(np.ascontiguousarray(array.T), affine)


def _load(path: Path) -> tuple[npt.NDArray[Any], Affine]:
    with needs_extra("nifti"):
        import nibabel  # noqa: PLC0415
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be an existing NIfTI file, got {path}.")
    try:
        image: Any = nibabel.load(path)
        return np.asanyarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # gzip, zlib, struct and nibabel each have their own
        reason = str(error) or type(error).__name__
        message = (
            f"`{path}` must be a whole NIfTI file, got one that cannot be read ({reason}). Copy it again."
        )
        raise ValueError(message) from error


def read_nifti_case(
    image: PathLike,
    label: PathLike | None = None,
    *,
    case_id: str | None = None,
) -> Case:
    """Read one subject from a NIfTI image and, where there is one, its NIfTI mask.

    Args:
        image: The image file; a fourth axis becomes the channels.
        label: The mask file: whole numbers from 0 (background).
        case_id: The case's name; the image's file name without its ending where left out.

    Returns:
        The case, labels None where no mask was given.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, the mask is not of whole numbers, or image and mask differ in size or
            by more than 0.001 in a number of their affines.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = write_nifti(f"{folder}/7.nii.gz", np.zeros((3, 5, 7), np.float32), np.eye(4))
        ...     case = read_nifti_case(path)
        >>> case.case_id, case.image.shape, case.labels
        ('7', (1, 3, 5, 7), None)
    """
    volume = read_nifti(image)
    channels = volume.array if volume.array.ndim == 4 else volume.array[None]  # noqa: PLR2004
    labels = None if label is None else _read_labels(Path(label), Path(image), volume)
    name = _without_ending(Path(image).name) if case_id is None else case_id
    return Case(name, channels.astype(np.float32), labels, volume.affine)


def _read_labels(path: Path, image: Path, volume: Volume) -> LabelVolume:
    mask = read_nifti(path)
    wanted, got = volume.array.shape[-3:], mask.array.shape
    require(got in {wanted, (1, *wanted)}, f"size of {path}", f"that of its image {image}, {wanted}", got)
    close = np.allclose(mask.affine, volume.affine, rtol=0, atol=_TOLERANCE_MM)
    cure = "Resample the mask onto the image first."
    got_affine = mask.affine.round(3).tolist()
    require(
        close,
        f"affine of {path}",
        f"that of its image {image}, {volume.affine.round(3).tolist()}",
        got_affine,
        cure,
    )
    values = np.unique(mask.array)
    odd = [value for value in values.tolist() if value < 0 or value != int(value)]
    require(
        not odd,
        f"values of {path}",
        "whole numbers from 0",
        cut_list(odd),
        "Give the mask, not a probability.",
    )
    return mask.array.reshape(wanted).astype(np.min_scalar_type(int(values[-1])))


def _without_ending(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".nii")


def read_nifti_pairs(
    images: PathLike | Sequence[PathLike],
    labels: PathLike | Sequence[PathLike] | None = None,
    *,
    image_suffix: str = "_image.nii.gz",
    label_suffix: str = "_label.nii.gz",
    case_ids: Sequence[str] | None = None,
) -> list[Case]:
    """Read every image with the mask of the same name, ordered by name with numbers as numbers.

    A subject's name is its file name without the suffix: ``case2_image.nii.gz`` and ``case2_label.nii.gz``
    make the case ``case2``. For folders as the Medical Segmentation Decathlon has them, give ``imagesTr`` and
    ``labelsTr`` and the suffix ``.nii.gz`` for both.

    Args:
        images: A folder, or the image files.
        labels: A folder, or the mask files; the folder of the images where left out.
        image_suffix: What image file names end in. Files of a folder that end otherwise are no images.
        label_suffix: The same for masks.
        case_ids: Names of the subjects to read, in the order wanted; all where left out.

    Returns:
        One case a pair.

    Raises:
        FileNotFoundError: A folder is missing or has no such files.
        ValueError: An image lacks its mask or a mask its image (names listed), or see `read_nifti_case`.

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
    wanted = keep_ids(list(pictures), case_ids, folder=next(iter(pictures.values())).parent)
    require_pairs(
        {name: pictures[name] for name in wanted},
        {name: path for name, path in masks.items() if case_ids is None or name in wanted},
        cure="Add the missing files, or read images without masks by `read_nifti_case`.",
    )
    return [read_nifti_case(pictures[name], masks[name], case_id=name) for name in wanted]


def _by_id(files: PathLike | Sequence[PathLike], suffix: str, argument: str) -> Mapping[str, Path]:
    if isinstance(files, str) or not isinstance(files, Sequence):
        paths = files_in(Path(files), suffix=suffix, argument=argument)
    else:
        paths = sorted(map(Path, files), key=lambda path: natural_key(path.name))
        require(bool(paths), argument, "at least one file", "none")
    odd = [path.name for path in paths if not path.name.endswith(suffix)]
    require(not odd, argument, f"files that end in {suffix!r}", cut_list(odd), "Give the suffix they end in.")
    return {path.name.removesuffix(suffix): path for path in paths}


def _beside(images: PathLike | Sequence[PathLike]) -> Path:
    if isinstance(images, str) or not isinstance(images, Sequence):
        return Path(images)
    raise ValueError(
        "`labels` must be given where `images` is a list, got None. Give the list of mask files."
    )


def write_nifti(path: PathLike, volume: npt.NDArray[Any], affine: Affine) -> Path:
    """Write a volume as NIfTI so that any viewer lays it over the scan it belongs to.

    The array's axes (z, y, x) are turned to NIfTI's (x, y, z), channels go last, sform and qform are both set
    with code 1 (scanner), in float32 as the format has it, and the number type is kept. The file appears
    whole or not at all: an existing one is replaced at the end.

    Args:
        path: A name that ends in ``.nii`` or ``.nii.gz``, in an existing folder.
        volume: ``(depth, height, width)`` or ``(channels, depth, height, width)``; uint8, int16 or float32.
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` to RAS millimetres.

    Returns:
        The path written.

    Raises:
        FileNotFoundError: The folder is missing.
        ValueError: The ending, the number of axes or the number type is another.
        ModuleNotFoundError: nibabel is not installed.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_nifti(f"{folder}/mask.nii.gz", np.ones((3, 5, 7), np.uint8), np.eye(4)).name
        'mask.nii.gz'
    """
    with needs_extra("nifti"):
        from nibabel.nifti1 import Nifti1Image  # noqa: PLC0415
    wanted = Path(path)
    require(wanted.name.endswith(_ENDINGS), "path", "a name that ends in .nii or .nii.gz", wanted.name)
    require(volume.ndim in {3, 4}, "volume", "of three axes, or four with channels first", volume.shape)
    cure = "Convert it: volume.astype(numpy.uint8) suits masks, numpy.float32 images."
    require(str(volume.dtype) in _KEPT, "volume", f"of type {', '.join(_KEPT)}", volume.dtype, cure)
    make: Callable[[npt.NDArray[Any], Affine], Any] = Nifti1Image  # nibabel leaves it untyped
    image = make(np.ascontiguousarray(volume.T), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with replacing(wanted) as draft:
        image.to_filename(draft)
    return wanted
