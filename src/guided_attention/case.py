"""Case: one scan with its labels and its geometry, converted and checked once for everything that follows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from guided_attention._checks import cut_list, require, require_type
from guided_attention._geometry import affine_of, checked_affine, orientation_of, reorientation, spacing_of
from guided_attention._typing import Affine, ImageVolume, LabelVolume, SpacingMm
from guided_attention.errors import ArgumentTypeError, DataError

__all__ = ["Case", "Volume", "affine_of", "orientation_of", "spacing_of"]

_WHOLE = 1e-3
"""How far a label may lie from a whole number: headers with a slope turn 1 into 0.99998."""
_SHARE_OF_VOXEL = 0.1
"""How far apart image and mask may lie at a corner of the volume, as a share of the smallest spacing."""
_MOST_LABELS = 65535


@dataclass(frozen=True, eq=False)
class Volume:
    """The array of one file or series, and its place in the patient.

    Attributes:
        array: ``(depth, height, width)``, or ``(channels, depth, height, width)``.
        affine: 4 x 4 matrix from voxel index ``(x, y, z)`` to millimetres in the RAS frame, as in NIfTI.

    Example:
        >>> import numpy as np
        >>> Volume(np.zeros((3, 5, 7)), np.diag([1.5, 1.5, 9.0, 1.0])).spacing_mm
        (9.0, 1.5, 1.5)
    """

    array: npt.NDArray[Any]
    affine: Affine

    @property
    def spacing_mm(self) -> SpacingMm:
        """Distance between voxel centres in millimetres, ``(z, y, x)``."""
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
        image: ``(channels, depth, height, width)``, any real number type; stored as float32.
        labels: ``(depth, height, width)``, whole numbers from 0 (background); stored as the smallest unsigned type.
            Floating-point labels are rounded where they lie within 0.001 of a whole number. None for no labels.
        affine: 4 x 4 matrix.
        channel_names: One name a channel, such as ``("T1", "T2")``; empty where the channels have no names.

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

    def __init__(
        self,
        case_id: str,
        image: npt.NDArray[Any] | Tensor,
        labels: npt.NDArray[Any] | Tensor | None,
        affine: npt.NDArray[Any],
        channel_names: Sequence[str] = (),
    ) -> None:
        require_type("case_id", case_id, str, "a text")
        checked = _checked_image(image, f"image of case {case_id!r}")
        names = _checked_names(channel_names, checked.shape[0], f"channel_names of case {case_id!r}")
        mask = (
            None
            if labels is None
            else _checked_labels(labels, checked.shape[1:], f"labels of case {case_id!r}")
        )
        fields = {
            "case_id": case_id,
            "image": checked,
            "labels": mask,
            "affine": checked_affine(affine, f"affine of case {case_id!r}"),
            "channel_names": names,
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
        array = image.array if image.array.ndim == 4 else image.array[None]  # noqa: PLR2004
        mask = None if labels is None else _on_grid_of(image, labels, f"labels of case {case_id!r}")
        return cls(case_id, array, mask, image.affine, channel_names)

    @property
    def spacing_mm(self) -> SpacingMm:
        """Distance between voxel centres in millimetres, ``(z, y, x)``: see `spacing_of`."""
        return spacing_of(self.affine)

    @property
    def orientation(self) -> str:
        """Direction of the axes ``x``, ``y``, ``z`` as three letters, such as ``"LPS"``: see `orientation_of`."""
        return orientation_of(self.affine)


def _as_array(value: object, where: str) -> npt.NDArray[Any]:
    """Return an array of real numbers in native byte order, without a copy where it is one already."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray):
        message = (
            f"`{where}` must be a NumPy array or a tensor, got a {type(value).__name__}. Use numpy.asarray."
        )
        raise ArgumentTypeError(message, argument=where)
    require(
        value.dtype.kind in "biuf", where, "an array of real numbers", f"type {value.dtype}", error=DataError
    )
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def _checked_image(image: object, where: str) -> ImageVolume:
    array = _as_array(image, where)
    wanted, cure = "of four axes (channels, depth, height, width)", "Add the channel axis: image[None]."
    require(array.ndim == 4, where, wanted, f"shape {array.shape}", cure, error=DataError)  # noqa: PLR2004
    require(array.size > 0, where, "of at least one voxel", f"size {array.shape}", error=DataError)
    with np.errstate(over="ignore"):
        single: ImageVolume = array.astype(np.float32, copy=False)
    finite = all(bool(np.isfinite(slab).all()) for slab in _slabs(single))
    cure = "Replace them (numpy.nan_to_num) or leave the case out."
    require(finite, where, "finite everywhere", "NaN or infinite values", cure, error=DataError)
    return single


def _checked_labels(labels: object, wanted: tuple[int, ...], where: str) -> LabelVolume:
    array = _as_array(labels, where)
    require(array.shape == wanted, where, f"of the image's size {wanted}", array.shape, error=DataError)
    if array.dtype.kind == "f":
        _require_whole(array, where)
    lowest, highest = float(array.min()), float(array.max())
    require(lowest > -_WHOLE, where, "0 or above", lowest, error=DataError)
    require(highest < _MOST_LABELS + 0.5, where, f"at most {_MOST_LABELS}", highest, error=DataError)
    dtype = np.min_scalar_type(round(highest))
    if array.dtype == dtype:
        return array
    converted = np.empty(array.shape, dtype)
    for slab, into in zip(array, converted, strict=True):
        into[...] = np.rint(slab) if array.dtype.kind == "f" else slab
    return converted


def _require_whole(array: npt.NDArray[Any], where: str) -> None:
    odd: list[float] = []
    for slab in array:
        off = ~(np.abs(slab - np.rint(slab)) <= _WHOLE)
        odd += np.unique(slab[off]).tolist() if off.any() else []
    cure = "Pass the mask, not a probability; resample masks with nearest-neighbour interpolation."
    require(not odd, where, "whole numbers", cut_list(odd), cure, error=DataError)


def _slabs(image: ImageVolume) -> Iterator[npt.NDArray[np.float32]]:
    """Give the image slice by slice: a check of all at once would hold a byte for every voxel."""
    for channel in image:
        yield from channel


def _checked_names(names: Sequence[str], channels: int, where: str) -> tuple[str, ...]:
    require_type(where, names, (tuple, list), "a list of texts", 'Write ("T1",) for one channel.')
    for name in names:
        require_type(where, name, str, "a list of texts")
    wanted = f"{channels} different names, one a channel, or none"
    good = len(names) in {0, channels} and len(set(names)) == len(names)
    require(good, where, wanted, list(names), error=DataError)
    return tuple(names)


def _on_grid_of(image: Volume, labels: Volume, where: str) -> npt.NDArray[Any]:
    """Return the mask in the storage order of the image, or raise where it lies on another grid."""
    turn = reorientation(labels.affine, orientation_of(image.affine))
    wanted, mask = image.array.shape[-3:], labels.array
    is_single = mask.ndim == 4 and mask.shape[0] == 1  # noqa: PLR2004
    mask = mask[0] if is_single else mask
    require(mask.ndim == 3, where, "of three axes", f"shape {labels.array.shape}", error=DataError)  # noqa: PLR2004
    turned = turn.apply(mask)
    require(turned.shape == wanted, where, f"of the image's size {wanted}", turned.shape, error=DataError)
    affine = turn.affine(labels.affine, mask.shape)
    corners = np.array(
        [[x, y, z, 1.0] for z in (0, wanted[0]) for y in (0, wanted[1]) for x in (0, wanted[2])]
    ).T
    apart = float(np.linalg.norm(((affine - image.affine) @ corners)[:3], axis=0).max())
    limit = _SHARE_OF_VOXEL * min(spacing_of(image.affine))
    wanted_place = f"within {limit:.3g} mm of the image at every corner"
    cure = "Resample the mask onto the image's grid first."
    require(apart <= limit, where, wanted_place, f"{apart:.3g} mm apart", cure, error=DataError)
    return turned
