"""Preparation: all that is done to a scan before a network sees it, as one record that travels with the weights."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require, require_choice, require_known_keys, require_type
from guided_attention._geometry import CANONICAL, reorientation
from guided_attention._typing import SliceAxis, SpacingMm
from guided_attention.case import Case
from guided_attention.errors import ArgumentError, DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation._survey import Survey, per_channel, rounded_spacing
from guided_attention.preparation._values import number, tuples, whole
from guided_attention.preparation.crop import BodyCrop, CenterCrop, Crop, crop_from_dict, crop_to_dict
from guided_attention.preparation.fingerprint import Fingerprint, Observed, along, quantiles_of, scaled
from guided_attention.preparation.grid import Axis, Grid, resampled_axis
from guided_attention.preparation.intensity import (
    CohortPercentiles,
    Intensity,
    Scale,
    Window,
    ZScore,
    intensity_from_dict,
    intensity_to_dict,
)
from guided_attention.preparation.prepared import Prepared

__all__ = ["Preparation", "Spacing", "known_slice_axis", "require_channel_order"]

Spacing: TypeAlias = tuple[float | None, float | None, float | None]
"""Spacing to resample to in millimetres, (depth, height, width); None keeps an axis as it is."""

_VERSION = 1
_INTENSITIES = (ZScore, Window, CohortPercentiles)
_DEFAULT = ZScore()
_LARGEST = 2**33
"""Voxels of a prepared channel, 32 GiB: far above any scan, and below what no machine could hold."""
_Channel: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """All that is done to a scan before a network sees it, and undone after.

    The steps, in order:

    1. The channels are put in the order of the cohort's names.
    2. The axes are reordered and flipped to the canonical orientation of the slice axis, so that the storage order of a
       scan changes nothing: depth runs along the slice axis, and slices lie as a radiologist looks at them.
    3. Intensities are brought to a common scale, with statistics of the whole volume.
    4. The volume is resampled: images linearly, with antialiasing where an axis becomes coarser, labels to the nearest
       voxel. The new grid has the old centre and ``max(1, round(voxels * old / new))`` voxels exactly ``new`` apart.
    5. It is cropped, then padded about its centre: images with the scaled lowest value of the channel, labels with 0.

    `apply` does them; `Prepared.restore` brings scores back to the scan's own grid.

    ``dataclasses.replace(preparation, slice_axis=…)`` turns the fingerprint. Spacing, sizes and crop stay as they are,
    (depth, height, width) of the new axis: fit anew where `spacing_mm` was ``"median"``.

    Args:
        slice_axis: ``"axial"``, ``"coronal"`` or ``"sagittal"``; None lets `fit` choose the axis of the largest
            spacing, axial where spacings are equal; of pictures, the axis of one or two voxels.
        spacing_mm: Spacing to resample to, ``(depth, height, width)``, with None for an axis that is kept:
            ``(None, 1.0, 1.0)`` resamples slices in plane. ``"median"`` lets `fit` take the cohort's. None
            resamples nothing.
        intensity: One record for all channels, one for each, or None to keep the intensities.
        crop: `CenterCrop`, `BodyCrop` or None.
        min_size: Least size after padding, (height, width) or (depth, height, width); empty pads nothing.
        multiple: What the padded size is a multiple of, likewise.
        neighbours: Slices on either side that become channels.
        fingerprint: What the cohort is like; `fit` fills it in.

    Raises:
        ArgumentError: A number is out of range, or a choice is unknown.
        ArgumentTypeError: A value has the wrong type.

    Example:
        >>> from guided_attention.data import make_phantom
        >>> cases = [make_phantom(0, subject=number, size=96) for number in (1, 2)]
        >>> preparation = Preparation(spacing_mm=(None, 4.0, 4.0), min_size=(96, 96)).fit(cases)
        >>> preparation.slice_axis, preparation.apply(cases[0]).image.shape[2:]
        ('axial', (109, 109))
        >>> Preparation.from_dict(preparation.to_dict()) == preparation
        True
    """

    slice_axis: SliceAxis | None = None
    spacing_mm: Spacing | Literal["median"] | None = None
    intensity: Intensity | tuple[Intensity, ...] | None = _DEFAULT
    crop: Crop | None = None
    min_size: tuple[int, ...] = ()
    multiple: tuple[int, ...] = ()
    neighbours: int = 0
    fingerprint: Fingerprint | None = None

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.slice_axis is not None:
            require_type("slice_axis", self.slice_axis, str, "a text or None")
            require_choice("slice_axis", self.slice_axis, tuple(CANONICAL))
        object.__setattr__(self, "spacing_mm", _checked_spacing(self.spacing_mm))
        object.__setattr__(self, "intensity", _checked_intensity(self.intensity))
        if self.crop is not None:
            require_type("crop", self.crop, (CenterCrop, BodyCrop), "a CenterCrop or a BodyCrop")
        for name in ("min_size", "multiple"):
            object.__setattr__(self, name, _checked_sizes(name, getattr(self, name)))
        object.__setattr__(self, "neighbours", whole("neighbours", self.neighbours, least=0))
        if self.fingerprint is not None:
            require_type("fingerprint", self.fingerprint, Fingerprint, "a Fingerprint")
            if self.slice_axis is not None:  # `dataclasses.replace` may have set another one
                object.__setattr__(self, "fingerprint", along(self.fingerprint, self.slice_axis))

    @property
    def in_channels(self) -> int:
        """Channels that the network sees: those of the cohort, times the slices that are joined.

        Raises:
            ArgumentError: The preparation is not fitted.
        """
        if self.fingerprint is None:
            raise ArgumentError(
                "`preparation` must be fitted to know its channels. Call `Preparation.fit` first."
            )
        return self.fingerprint.channels * (2 * self.neighbours + 1)

    def fit(self, cases: Iterable[Case], labels: LabelSpec | None = None) -> "Preparation":
        """Return the preparation with all that depends on the cohort filled in, and with its `Fingerprint`.

        The same cohort gives the same preparation whatever the storage order of its scans.

        Args:
            cases: The training cases, each looked at once; `CohortPercentiles` needs their labels.
            labels: Tells which voxels are ignored.

        Raises:
            DataError: There is no case, or channels differ between cases.
        """
        require_type("cases", cases, Iterable, "an iterable of cases")
        require_type("labels", labels, (LabelSpec, type(None)), "a LabelSpec or None")
        survey = Survey(labels, self.intensity)
        for case in cases:
            survey.add(case)
            del case  # while the next one is read
        survey.require_cases()
        slice_axis = survey.slice_axis if self.slice_axis is None else self.slice_axis
        intensities = survey.intensities()
        fingerprint = survey.fingerprint(slice_axis, intensities)
        spacing = fingerprint.spacings_mm[1] if self.spacing_mm == "median" else self.spacing_mm
        return replace(
            self, slice_axis=slice_axis, spacing_mm=spacing, intensity=intensities, fingerprint=fingerprint
        )

    def apply(self, case: Case) -> Prepared:
        """Return what a network sees of a scan, with the way back.

        Args:
            case: A scan, as its reader gives it.

        Raises:
            ArgumentError: The preparation has settings that only `fit` can fill in.
            DataError: The scan has other channels than the cohort, a channel of one value, or a spacing so far from the
                wanted one that it is hardly in millimetres.

        Warns:
            SpacingWarning: The spacing is far from that of the cohort.
            IntensityWarning: So are the intensities.
        """
        require_type("case", case, Case, "a Case", "Read the scan with a reader of guided_attention.data.")
        turn = reorientation(case.affine, CANONICAL[known_slice_axis(self)])
        channels = [turn.apply(case.image[place]) for place in self._channel_order(case)]
        affine = turn.affine(case.affine, case.image.shape[1:])
        spacing = rounded_spacing(affine)
        grid = Grid(turn, self._axes(channels, spacing))
        wanted, cure = f"of at most {_LARGEST} voxels", "Check `spacing_mm`, `min_size` and `multiple`."
        fits = math.prod(grid.shape) <= _LARGEST
        require(fits, f"prepared volume of case {case.case_id!r}", wanted, grid.shape, cure, error=DataError)
        scales = self._scales(channels, f"image of case {case.case_id!r}")
        self._warn_if_unlike(case, channels, spacing, scales)
        image = np.empty((len(channels), *grid.shape), np.float32)
        for channel, scale, into in zip(channels, scales, image, strict=True):
            if grid.shape != tuple(axis.size for axis in grid.axes):
                into[...] = scale.apply(channel.min(keepdims=True))
            grid.sample(channel, scale.apply, into)
        labels = None if case.labels is None else grid.labels(turn.apply(case.labels))
        return Prepared(case.case_id, image, labels, grid.affine(affine), grid, self.neighbours)

    def _channel_order(self, case: Case) -> Sequence[int]:
        """Return for each channel of the cohort its place in the case."""
        got, seen = case.channel_names, self.fingerprint
        if seen is None:
            return range(case.image.shape[0])
        where = f"channels of case {case.case_id!r}"
        wanted = f"{seen.channels}, as in the cohort" + (
            f": {', '.join(seen.channel_names)}" if seen.channel_names else ""
        )
        count = case.image.shape[0]
        require(
            count == seen.channels,
            where,
            wanted,
            count,
            "Read the same channels as in training.",
            error=DataError,
        )
        if seen.channels == 1 and not (got and seen.channel_names):
            return (0,)
        if bool(got) != bool(seen.channel_names):
            cure = (
                "Name the channels of all cases (`channel_names`), in training and in prediction, or of none."
            )
            require(False, where, wanted, f"the names {got}", cure, error=DataError)  # noqa: FBT003
        require(set(got) == set(seen.channel_names), where, wanted, ", ".join(got), error=DataError)
        return [got.index(name) for name in seen.channel_names] if got else range(count)

    def _axes(self, channels: Sequence[_Channel], spacing_mm: SpacingMm) -> tuple[Axis, Axis, Axis]:
        wanted = self.spacing_mm if isinstance(self.spacing_mm, tuple) else (None, None, None)
        depth, height, width = (
            resampled_axis(old, length, goal)
            for old, length, goal in zip(channels[0].shape, spacing_mm, wanted, strict=True)
        )
        axes = (depth, height, width)
        if self.crop is not None:
            axes = self.crop.apply(axes, channels, spacing_mm)
        least, multiple = ((1,) * (3 - len(sizes)) + sizes for sizes in (self.min_size, self.multiple))
        depth, height, width = (
            axis.padded(low, factor) for axis, low, factor in zip(axes, least, multiple, strict=True)
        )
        return depth, height, width

    def _scales(self, channels: Sequence[_Channel], where: str) -> list[Scale]:
        records = per_channel(self.intensity, len(channels))
        return [
            Scale() if record is None else record.scale(channel, where)
            for record, channel in zip(records, channels, strict=True)
        ]

    def _warn_if_unlike(
        self, case: Case, channels: Sequence[_Channel], spacing_mm: SpacingMm, scales: Sequence[Scale]
    ) -> None:
        if self.fingerprint is None:
            return
        raw = tuple(quantiles_of(channel) for channel in channels)
        prepared = tuple(scaled(one, scale) for one, scale in zip(raw, scales, strict=True))
        depth, height, width = channels[0].shape
        observed = Observed((depth, height, width), spacing_mm, case.orientation, raw, prepared)
        self.fingerprint.warn_if_unlike(case.case_id, observed)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values, for JSON and checkpoints."""
        given = self.intensity
        return {
            "version": _VERSION,
            "slice_axis": self.slice_axis,
            "spacing_mm": list(self.spacing_mm) if isinstance(self.spacing_mm, tuple) else self.spacing_mm,
            "intensity": [intensity_to_dict(one) for one in given]
            if isinstance(given, tuple)
            else given and intensity_to_dict(given),
            "crop": None if self.crop is None else crop_to_dict(self.crop),
            "min_size": list(self.min_size),
            "multiple": list(self.multiple),
            "neighbours": self.neighbours,
            "fingerprint": None if self.fingerprint is None else self.fingerprint.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preparation":
        """Return the record that `to_dict` wrote.

        Raises:
            DataError: A key is unknown (the nearest known one is named), or the record is of a newer version.
            ArgumentError: A value is out of range.
        """
        require_type("preparation", values, Mapping, "a mapping")
        known = ("version", *cls.__dataclass_fields__)
        require_known_keys("preparation", values, known)
        version = values.get("version")
        cure = "Update guided-attention." if isinstance(version, int) and version > _VERSION else ""
        good = isinstance(version, int) and version == _VERSION
        require(good, "preparation.version", str(_VERSION), version, cure, error=DataError)
        missing = [name for name in known if name not in values]
        wanted = f"a mapping with the keys {', '.join(known)}"
        require(not missing, "preparation", wanted, f"no {missing}", error=DataError)
        rest = {name: tuples(value) for name, value in values.items() if name != "version"}
        intensity = rest.get("intensity")
        if intensity is not None:
            several = isinstance(intensity, list | tuple)
            rest["intensity"] = (
                tuple(intensity_from_dict(one) for one in intensity)
                if several
                else intensity_from_dict(intensity)
            )
        if rest.get("crop") is not None:
            rest["crop"] = crop_from_dict(rest["crop"])
        if rest.get("fingerprint") is not None:
            rest["fingerprint"] = Fingerprint.from_dict(rest["fingerprint"])
        return cls(**rest)


def known_slice_axis(preparation: Preparation) -> SliceAxis:
    """Return the slice axis, or raise where it or the spacing is left to `Preparation.fit`."""
    if preparation.slice_axis is None or preparation.spacing_mm == "median":
        raise ArgumentError("`slice_axis` and `spacing_mm` must be known. Call `Preparation.fit` first.")
    return preparation.slice_axis


def require_channel_order(preparation: Preparation, case: Case) -> None:
    """Raise where channels have names and the preparation, not fitted, does not know their order."""
    got = case.channel_names
    cure = "Fit the preparation, which then knows their order (`Preparation.fit`), or leave out the names."
    good = preparation.fingerprint is not None or len(got) < 2  # noqa: PLR2004
    require(good, "preparation", "fitted for channels with names", f"the names {', '.join(got)}", cure)


def _checked_spacing(spacing: object) -> Spacing | Literal["median"] | None:
    if spacing is None or isinstance(spacing, str):
        require(spacing in {None, "median"}, "spacing_mm", 'lengths, "median" or None', repr(spacing))
        return None if spacing is None else "median"
    wanted = '(depth, height, width) in millimetres, with None for an axis that is kept, "median", or None'
    require_type("spacing_mm", spacing, (tuple, list), wanted)
    assert isinstance(spacing, tuple | list)  # noqa: S101 - for the type checker
    require(len(spacing) == 3, "spacing_mm", wanted, spacing)  # noqa: PLR2004
    depth, height, width = (None if length is None else number("spacing_mm", length) for length in spacing)
    good = all(length is None or length > 0 for length in (depth, height, width))
    require(good, "spacing_mm", "above 0", spacing)
    return depth, height, width


def _checked_intensity(intensity: object) -> Intensity | tuple[Intensity, ...] | None:
    wanted = "a ZScore, Window or CohortPercentiles, one of them for each channel, or None"
    if isinstance(intensity, tuple | list):
        require(len(intensity) > 0, "intensity", wanted, "an empty list")
        for one in intensity:
            require_type("intensity", one, _INTENSITIES, wanted)
        return tuple(intensity)
    require_type("intensity", intensity, (*_INTENSITIES, type(None)), wanted)
    return intensity  # type: ignore[return-value]  # checked above


def _checked_sizes(name: str, sizes: object) -> tuple[int, ...]:
    wanted = "(height, width), (depth, height, width), or empty"
    require_type(name, sizes, (tuple, list), wanted)
    assert isinstance(sizes, tuple | list)  # noqa: S101 - for the type checker
    require(len(sizes) in {0, 2, 3}, name, wanted, sizes)
    return tuple(whole(name, size, least=1) for size in sizes)
