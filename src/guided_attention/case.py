"""Case: one scan with its labels and its geometry, converted and checked once for everything that follows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guided_attention._checks import HIGHEST_LABEL, counted, cut_list, require, require_type
from guided_attention._geometry import (
    affine_of,
    checked_affine,
    orientation_of,
    reorientation,
    require_same_place,
    spacing_of,
)
from guided_attention._typing import Affine, ImageVolume, LabelVolume, SpacingMm
from guided_attention.errors import ArgumentTypeError, DataError

__all__ = ["Case", "Source", "Volume", "affine_of", "orientation_of", "spacing_of"]

_WHOLE = 1e-3
"""How far a label may lie from a whole number: headers with a slope turn 1 into 0.99998."""
_SHOWN = 6
_AXES = 3


@dataclass(frozen=True)
class Source:
    """Where an image was read from: predictions can then be written as its file or series needs them.

    Attributes:
        path: The image file, or the folder of the DICOM series.
        series: Name of the series in the folder, as `guided_attention.data.find_dicom_series` has it; empty for files.
    """

    path: Path
    series: str = ""


@dataclass(frozen=True, eq=False)
class Volume:
    """The array of one file or series, and its place in the patient.

    Attributes:
        array: ``(depth, height, width)`` or ``(channels, depth, height, width)``, any real number type.
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` to millimetres in the RAS frame, as in NIfTI.
        source: Where it was read from, None where it was not.

    Raises:
        DataError: The array has another number of axes or no numbers, or the affine is no affine.
        ArgumentTypeError: The array is no NumPy array or tensor.

    Example:
        >>> import numpy as np
        >>> Volume(np.zeros((3, 5, 7)), np.diag([1.5, 1.5, 9.0, 1.0])).spacing_mm
        (9.0, 1.5, 1.5)
    """

    array: npt.NDArray[Any]
    affine: Affine
    source: Source | None = None

    def __post_init__(self) -> None:
        """Convert both to arrays in native byte order, and check them."""
        array = as_array(self.array, "array")
        wanted = "of three axes (depth, height, width), or four with channels first"
        good = array.ndim in {_AXES, _AXES + 1}
        require(good, "array", wanted, f"shape {array.shape}", error=DataError)
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        object.__setattr__(self, "array", native)
        object.__setattr__(self, "affine", checked_affine(self.affine, "affine"))

    @property
    def spacing_mm(self) -> SpacingMm:
        """Distance between voxel centres in millimetres, ``(z, y, x)``: see `spacing_of`."""
        return spacing_of(self.affine)


@dataclass(frozen=True, eq=False, init=False)
class Case:
    """One scan: image, labels, and the affine that places both in the patient.

    Arrays are indexed ``[..., z, y, x]``: depth (slices), height (rows), width (columns). The affine takes a voxel
    index in the *other* order, ``(x, y, z, 1)``, to millimetres in the RAS frame (x grows to the patient's right, y to
    the front, z to the head), as in NIfTI. It is the only record of the geometry: spacing and orientation follow
    from it.

    Args:
        case_id: Name of the case, unique in its cohort.
        image: ``(channels, depth, height, width)``, an array or tensor of any real number type; stored as float32.
        labels: ``(depth, height, width)``, whole numbers from 0 (background) to 65535; stored as the smallest unsigned
            type. Floating-point labels are rounded where they lie within 0.001 of a whole number. None for no labels.
        affine: 4 x 4 matrix.
        channel_names: One name a channel, such as ``("T1", "T2")``; empty where the channels have no names.
        source: Where the image was read from; set by readers, None where it lies on another grid now.

    Raises:
        DataError: The image has not four axes, is empty or not finite; labels have another size, are negative or not
            whole; the affine is no affine; or there is not one name for each channel.
        ArgumentTypeError: `image` or `labels` is no array, or `case_id` no text.

    Example:
        >>> import numpy as np
        >>> image = np.zeros((1, 3, 5, 7), dtype=np.int16)
        >>> case = Case("7", image, None, np.diag([1.5, 1.5, 9.0, 1.0]))
        >>> case.image.dtype, case.spacing_mm, case.orientation
        (dtype('float32'), (9.0, 1.5, 1.5), 'RAS')
    """

    case_id: str
    image: ImageVolume
    labels: LabelVolume | None
    affine: Affine
    channel_names: tuple[str, ...] = ()
    source: Source | None = None

    def __init__(
        self,
        case_id: str,
        image: npt.NDArray[Any] | Tensor,
        labels: npt.NDArray[Any] | Tensor | None,
        affine: npt.NDArray[Any] | Tensor | Sequence[Sequence[float]],
        channel_names: Sequence[str] = (),
        source: Source | None = None,
    ) -> None:
        require_type("case_id", case_id, str, "a text", "Use str(case_id).")
        require_type("source", source, (Source, type(None)), "a Source or None")
        require(bool(case_id), "case_id", "a text", "an empty one", error=DataError)
        checked = _checked_image(image, f"image of case {case_id!r}")
        where, size = f"labels of case {case_id!r}", checked.shape[1:]
        fields = {
            "case_id": case_id,
            "image": checked,
            "labels": None if labels is None else _checked_labels(labels, size, where),
            "affine": checked_affine(affine, f"affine of case {case_id!r}"),
            "channel_names": _checked_names(
                channel_names, len(checked), f"channel_names of case {case_id!r}"
            ),
            "source": source,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_volumes(
        cls, case_id: str, image: Volume, labels: Volume | None = None, *, channel_names: Sequence[str] = ()
    ) -> "Case":
        """Join an image and a mask from two files, each with its own affine.

        A mask stored in another orientation than its image, for example a NIfTI mask of a DICOM series, is reordered to
        the image's axes first.

        Args:
            case_id: Name of the case.
            image: The image; an array of three axes becomes one channel.
            labels: The mask, None for no labels.
            channel_names: One name a channel.

        Returns:
            The case, with the image's affine.

        Raises:
            DataError: The mask lies on another grid: another size, or a corner of the volume further than a tenth of a
                voxel from the image's; or see `Case`.

        Example:
            >>> import numpy as np
            >>> mask = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
            >>> flipped = Volume(mask[:, :, ::-1], np.array([[-1., 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
            >>> case = Case.from_volumes("7", Volume(np.zeros((1, 2, 3)), np.eye(4)), flipped)
            >>> bool((case.labels == mask).all())
            True
        """
        require_type("image", image, Volume, "a Volume", "Join array and affine: Volume(array, affine).")
        if labels is not None:
            require_type("labels", labels, Volume, "a Volume or None", "Join array and affine in a Volume.")
        array = image.array[None] if image.array.ndim == _AXES else image.array
        mask = None if labels is None else on_grid_of(image, labels, f"labels of case {case_id!r}")
        return cls(case_id, array, mask, image.affine, channel_names, image.source)

    @property
    def spacing_mm(self) -> SpacingMm:
        """Distance between voxel centres in millimetres, ``(z, y, x)``: see `spacing_of`."""
        return spacing_of(self.affine)

    @property
    def orientation(self) -> str:
        """Direction of the axes ``x``, ``y``, ``z`` as three letters, such as ``"LPS"``: see `orientation_of`."""
        return orientation_of(self.affine)


def as_array(value: object, where: str) -> npt.NDArray[Any]:
    """Return a plain array of real numbers, without a copy."""
    array = _of_tensor(value, where) if isinstance(value, Tensor) else value
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        cure = "Use numpy.asarray, or .filled(0) for a masked array."
        message = f"`{where}` must be a NumPy array or a tensor, got a {type(value).__name__}. {cure}"
        raise ArgumentTypeError(message, argument=where)
    kind = f"type {array.dtype}"
    require(array.dtype.kind in "biuf", where, "an array of real numbers", kind, error=DataError)
    return np.asarray(array)


def _of_tensor(value: Tensor, where: str) -> npt.NDArray[Any]:
    numpy_has_it = not value.is_floating_point() or value.dtype in {
        torch.float64,
        torch.float32,
        torch.float16,
    }
    try:
        plain = value.detach().to_dense().as_subclass(Tensor).cpu()
        array: npt.NDArray[Any] = (plain if numpy_has_it else plain.float()).numpy()
    except (RuntimeError, TypeError) as error:  # a tensor without values ("meta"), or quantized
        message = f"`{where}` must be a tensor of plain numbers, got one of {value.dtype} on {value.device}."
        raise ArgumentTypeError(message, argument=where) from error
    return array


def _checked_image(image: object, where: str) -> ImageVolume:
    array = as_array(image, where)
    wanted, cure = "of four axes (channels, depth, height, width)", "Add the channel axis: image[None]."
    require(array.ndim == _AXES + 1, where, wanted, f"shape {array.shape}", cure, error=DataError)
    require(array.size > 0, where, "of at least one voxel", f"size {array.shape}", error=DataError)
    with np.errstate(over="ignore"):
        single: ImageVolume = np.require(array, np.float32, ["C", "W"])
    finite = all(bool(np.isfinite(slab).all()) for slab in _slabs(single))
    cure = "Replace them (numpy.nan_to_num) or leave the case out."
    require(finite, where, "finite everywhere", "NaN or infinite values", cure, error=DataError)
    return single


def _slabs(image: ImageVolume) -> Iterator[npt.NDArray[np.float32]]:
    """Give the image slice by slice: a check of all at once would hold a byte for every voxel."""
    for channel in image:
        yield from channel


def _checked_labels(labels: object, wanted: tuple[int, ...], where: str) -> LabelVolume:
    array = as_array(labels, where)
    cure = "Take the channel axis away: labels[0]." if array.shape == (1, *wanted) else ""
    require(array.shape == wanted, where, f"of the image's size {wanted}", array.shape, cure, error=DataError)
    highest = max(_require_labels(slab, where) for slab in array)
    dtype = np.min_scalar_type(highest)
    if array.dtype == dtype:
        return np.require(array, requirements=["C", "W"])
    converted = np.empty(array.shape, dtype)
    for slab, into in zip(array, converted, strict=True):
        into[...] = np.rint(slab) if array.dtype.kind == "f" else slab
    return converted


def whole_labels(array: npt.NDArray[Any], where: str, *, file: object = None) -> npt.NDArray[Any]:
    """Return labels of any number type as the smallest unsigned type, rounded; `where` names them in errors."""
    dtype = np.min_scalar_type(_require_labels(array, where, file))
    return (np.rint(array) if array.dtype.kind == "f" else array).astype(dtype, copy=False)


def _require_labels(array: npt.NDArray[Any], where: str, file: object = None) -> int:
    """Return the highest label; raise where one is negative, too high or no whole number."""
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            odd = ~(np.abs(array - np.rint(array)) <= _WHOLE)
        cure = "Pass the mask, not a probability; resample masks with nearest-neighbour interpolation."
        shown = np.unique(array[odd])[: _SHOWN + 1].tolist() if odd.any() else []
        require(not shown, where, "whole numbers from 0", cut_list(shown), cure, error=DataError, file=file)
        lowest, highest = round(float(array.min())), round(float(array.max()))
    else:
        lowest, highest = int(array.min()), int(array.max())
    cure = "Set voxels without a label to 0."
    require(lowest >= 0, where, "0 or above", lowest, cure, error=DataError, file=file)
    wanted, cure = f"at most {HIGHEST_LABEL}", "Pass the mask, not the image, or renumber the labels."
    require(highest <= HIGHEST_LABEL, where, wanted, highest, cure, error=DataError, file=file)
    return highest


def _checked_names(names: object, channels: int, where: str) -> tuple[str, ...]:
    cure = 'Write ("T1",) for one channel.'
    if not isinstance(names, (tuple, list)):
        require_type(where, names, (tuple, list), "a list of texts", cure)
        return ()
    for name in names:
        require_type(where, name, str, "a list of texts", cure)
    wanted = f"{counted(channels, 'name', 'different names')}, one a channel, or none"
    good = len(names) in {0, channels} and len(set(names)) == len(names)
    require(good, where, wanted, list(names), error=DataError)
    return tuple(names)


def on_grid_of(image: Volume, labels: Volume, where: str) -> npt.NDArray[Any]:
    """Return the mask in the storage order of the image, or raise where it lies on another grid."""
    mask = labels.array[0] if labels.array.ndim > _AXES and len(labels.array) == 1 else labels.array
    require(mask.ndim == _AXES, where, "of three axes", f"shape {labels.array.shape}", error=DataError)
    turned, wanted = reordered(Volume(mask, labels.affine), image), image.array.shape[-_AXES:]
    got = turned.array.shape
    require(got == wanted, where, f"of the image's size {wanted}", got, error=DataError)
    cure = "Resample the mask onto the image's grid first."
    require_same_place(where, turned.affine, image.affine, wanted, "the image", cure)
    return turned.array


def reordered(volume: Volume, like: Volume) -> Volume:
    """Return a volume in the storage order of another one, however oblique both lie in the patient."""
    relative = np.eye(4)
    relative[:3, :3] = np.linalg.solve(like.affine[:3, :3], volume.affine[:3, :3])
    turn = reorientation(relative, "RAS")
    affine = turn.affine(volume.affine, volume.array.shape[-_AXES:])
    return Volume(turn.apply(volume.array), affine, volume.source)
