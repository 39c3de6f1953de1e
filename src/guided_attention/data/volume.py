"""Volumes of any format, read by the ending of the file's name; segmentations of 3D Slicer with their names."""

from collections.abc import Sequence
from functools import partial

from guided_attention._checks import require
from guided_attention._files import PathLike
from guided_attention._typing import SpacingMm
from guided_attention.case import Case, Source, Volume
from guided_attention.data.dicom_seg import Segments
from guided_attention.data.formats._case_files import case_of_files
from guided_attention.data.formats._limits import MAX_BYTES
from guided_attention.data.formats._slicer import SlicerFile, open_slicer, spec_of
from guided_attention.data.formats._table import OpenedFile, has_geometry, open_volume
from guided_attention.labels import LabelSpec

__all__ = ["read_slicer_seg", "read_volume", "read_volume_case"]


def read_volume(path: PathLike, *, spacing_mm: SpacingMm | None = None, max_bytes: int = MAX_BYTES) -> Volume:
    """Read a volume by the reader that the ending of its name asks for.

    ==============================  =====================================================================
    NIfTI                           ``.nii``, ``.nii.gz``: as `read_nifti`
    NRRD, MetaImage                 ``.nrrd``, ``.nhdr``, ``.mha``, ``.mhd``: read to their checksum, turned from
                                    their frame to RAS; sheared grids are kept as they are
    NumPy                           ``.npy``, ``.npz``: ``(height, width)``, ``(depth, height, width)`` or with
                                    channels in front
    TIFF                            ``.tif``, ``.tiff``: one page a slice
    PNG, JPEG                       ``.png``, ``.jpg``, ``.jpeg``: one slice
    ==============================  =====================================================================

    The last three hold no geometry: `spacing_mm` has to be given, and slices count as shown in radiological convention
    (orientation "LPS"). RGB and vectors become channels, in front.

    Args:
        path: The file.
        spacing_mm: Distance between voxel centres in millimetres, ``(z, y, x)``, of a file that holds none.
        max_bytes: What the volume may take in memory, judged before it is unpacked.

    Returns:
        The volume, ``(depth, height, width)`` or ``(channels, depth, height, width)``.

    Raises:
        MissingFileError: There is no such file.
        DataError: The file is damaged or of another format, see `read_nifti`; its transparency varies; it is an
            animation, holds pickled objects, or stores its voxels in several files.
        ArgumentError: The spacing is missing, or given for a file that has its own.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/scan.npy", np.zeros((3, 5, 7), np.int16))
        ...     volume = read_volume(f"{folder}/scan.npy", spacing_mm=(9.0, 1.5, 1.5))
        >>> volume.array.shape, volume.spacing_mm
        ((3, 5, 7), (9.0, 1.5, 1.5))
    """
    file = open_volume(path, "path", spacing_mm=spacing_mm, max_bytes=max_bytes)
    cure = "Leave it out."
    good = spacing_mm is None or not has_geometry(file.path)
    require(good, "spacing_mm", f"None for {file.path}, which has its own", spacing_mm, cure)
    return _as_volume(file)


def read_volume_case(
    image: PathLike | Sequence[PathLike],
    label: PathLike | None = None,
    *,
    case_id: str | None = None,
    channel_names: Sequence[str] = (),
    resample_channels: bool = False,
    spacing_mm: SpacingMm | None = None,
    labels: LabelSpec | None = None,
    max_bytes: int = MAX_BYTES,
) -> Case:
    """Read one subject from an image and a mask, each of any format that `read_volume` reads.

    The values of masks are grey levels or indices of a palette. A JPEG file is no mask. The mask of a ``.seg.nrrd``
    is made of its segments, also where it covers only a part of the image. An ``.npz`` may be both files.

    Args:
        image: The image; or a list of files, one a channel.
        label: The mask, None where there is none.
        case_id: Name of the case; where left out, the image's file name without its ending, ``_image`` and ``_0000``.
        channel_names: One name a channel.
        resample_channels: Whether a file on another grid than the first is interpolated linearly onto it.
        spacing_mm: Distance between voxel centres, ``(z, y, x)``, where the files hold none.
        labels: Colours of a mask in colours (black is background); values of segments by their names. A file
            without any of them is background, with a warning.
        max_bytes: What each file may take in memory, see `read_volume`.

    Returns:
        The case; its labels are None where no mask was given.

    Raises:
        MissingFileError: A file is missing.
        DataError: See `read_volume` and `read_nifti_case`; or the mask has a colour that no organ has, or holds no
            geometry beside an image that does.
        ArgumentError: The spacing is missing for a file that holds none, or the list of images is empty.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/7.npz", image=np.zeros((3, 5, 7)), label=np.ones((3, 5, 7), np.uint8))
        ...     case = read_volume_case(f"{folder}/7.npz", f"{folder}/7.npz", spacing_mm=(9.0, 1.5, 1.5))
        >>> case.case_id, int(case.labels.max())
        ('7', 1)
    """
    opener = partial(open_volume, spacing_mm=spacing_mm, organs=labels, max_bytes=max_bytes)
    return case_of_files(
        image,
        label,
        opener,
        case_id=case_id,
        channel_names=channel_names,
        resample_channels=resample_channels,
        max_bytes=max_bytes,
    )


def read_slicer_seg(path: PathLike, *, max_bytes: int = MAX_BYTES) -> Segments:
    """Read a segmentation of 3D Slicer (``.seg.nrrd``) with the names, values and colours of its segments.

    Segments in overlapping layers are merged into one label volume, numbered from 1 in the order of the file; a voxel
    of several is that of the last, with a warning. In one layer they keep their values.

    Args:
        path: The file.
        max_bytes: What it may take in memory, see `read_volume`.

    Returns:
        The labels on the file's own grid, which may be a part of the scan's, and the names.

    Raises:
        MissingFileError: There is no such file.
        DataError: The file is damaged, names no segments, or holds a value that is none of them.
    """
    file = open_slicer(path, "path", max_bytes)
    return Segments(_as_volume(file), spec_of(file.segments, file.path))


def _as_volume(file: OpenedFile) -> Volume:
    array = file.labels() if isinstance(file, SlicerFile) else file.array()
    return Volume(array, file.affine, Source(file.path))
