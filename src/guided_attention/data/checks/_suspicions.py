"""What looks wrong in a case by itself."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guided_attention._checks import counted, cut_list
from guided_attention._sides import left_right_pairs
from guided_attention.data.checks._facts import CaseFacts
from guided_attention.labels import LabelSpec

__all__ = ["SHIFTED", "TURNED", "Severity", "Suspicion", "in_cases", "name_of", "shifted", "suspicion_of"]

Severity = Literal["error", "warning"]

_OF_MASK = {
    "duplicate mask",
    "empty mask",
    "exchanged masks",
    "gap in mask",
    "gap in organ",
    "holes",
    "huge organ",
    "islands",
    "missing organ",
    "odd anatomy",
    "organ at border",
    "organ in parts",
    "organ size",
    "rare label",
    "shifted mask",
    "sides",
    "smooth mask",
    "turned mask",
    "unknown labels",
}
"""Suspicions of which the mask is the file at fault."""

_CLIPPED = 0.05
TURNED = 1.25
"""How much more mixed values are within organs than within a turned mask before the mask counts as turned."""
SHIFTED = 1.6
"""How much more mixed they are than within a shifted mask before the mask counts as shifted."""
_PART_OF_VOLUME = 0.6
_FAR = 50.0
_HOLES, _HOLE_VOXELS = 0.1, 10
_STEPS = 0.2
_ABOVE_MM, _SIDE_MM = 20.0, 10.0


@dataclass(frozen=True)
class Suspicion:
    """Something that looks wrong.

    Attributes:
        severity: ``"error"`` for what cannot be right, ``"warning"`` for what should be looked at.
        kind: What it is about, such as ``"sides"``.
        case_id: The case, empty for the whole cohort.
        file: The file at fault.
        message: What was seen, and what to do.
    """

    severity: Severity
    kind: str
    case_id: str
    file: Path
    message: str


def in_cases(facts: Sequence[CaseFacts], labels: LabelSpec | None) -> Iterator[Suspicion]:
    """Give what looks wrong in each case by itself."""
    for case in facts:
        if case.error:
            yield suspicion_of(case, "error", "unreadable", case.error)
            continue
        yield from (suspicion_of(case, "warning", "reader", note) for note in case.notes)
        yield from _of_image(case)
        yield from _of_labels(case, labels)
        yield from _of_sides(case, labels)


def _of_image(case: CaseFacts) -> Iterator[Suspicion]:
    if case.constant:
        message = f"channel {cut_list(case.constant)} has one value everywhere. Export the image again."
        yield suspicion_of(case, "error", "constant image", message)
        return
    q1, q50, q99 = case.quantiles
    at_top = case.at_top > _CLIPPED and q99 > q50
    if at_top:
        share = f"{case.at_top:.0%} of the voxels have the highest value"
        yield suspicion_of(
            case, "warning", "clipped image", f"{share}: the image was cut off. Export it in full."
        )
    if case.at_bottom > 1 - _CLIPPED / 5 and q1 == q50:
        share = f"{case.at_bottom:.0%} of the voxels have the lowest value"
        yield suspicion_of(
            case, "warning", "empty image", f"{share}: nearly nothing is in it. Look at the image."
        )
    far = max(case.highest - q99, q1 - case.lowest)
    if q99 > q1 and far > _FAR * (q99 - q1):
        ends = f"{case.lowest:.4g} to {case.highest:.4g}, 98 % of them from {q1:.4g} to {q99:.4g}"
        message = (
            f"values run from {ends}. Check for voxels that are no tissue, and for a value that marks none."
        )
        yield suspicion_of(case, "warning", "extreme values", message)
    for kind, slices, what in (
        ("blank slices", case.blank, "have one value"),
        ("repeated slices", case.repeated, "repeat the one before"),
    ):
        if slices:
            message = f"slices {cut_list(slices)} (from 0) {what}. Export the image again."
            yield suspicion_of(case, "warning", kind, message)
    if case.is_sheared:
        message = "two axes are not at right angles. Resample the scan, or correct its header."
        yield suspicion_of(case, "warning", "sheared", message)


def _of_labels(case: CaseFacts, labels: LabelSpec | None) -> Iterator[Suspicion]:
    if not case.is_labelled:
        return
    if not case.organs:
        yield suspicion_of(
            case, "warning", "empty mask", "the mask has no organ. Check that it is the right file."
        )
    if case.mask_is_image:
        yield suspicion_of(
            case, "error", "mask is image", "image and mask are the same numbers. Give the image."
        )
    known = None if labels is None else {*labels.values, labels.ignore_value}
    unknown = [value for value in case.organs if known is not None and value not in known]
    if unknown:
        message = f"the mask holds {cut_list(unknown)}, which is no organ. Name it, or correct the mask."
        yield suspicion_of(case, "error", "unknown labels", message)
    yield from _of_shapes(case, labels)
    yield from _of_alignment(case)


def _of_shapes(case: CaseFacts, labels: LabelSpec | None) -> Iterator[Suspicion]:
    total = math.prod(case.shape)
    for value, organ in case.organs.items():
        name = name_of(value, labels)
        if organ.voxels > _PART_OF_VOLUME * total:
            message = f"{name} fills {organ.voxels / total:.0%} of the volume. Check that background is 0."
            yield suspicion_of(case, "warning", "huge organ", message)
        if organ.hole_voxels > max(_HOLE_VOXELS, _HOLES * organ.voxels):
            message = f"{name} has holes of {counted(organ.hole_voxels, 'voxel')}. Fill them, or keep them knowingly."
            yield suspicion_of(case, "warning", "holes", message)
    islands = [
        f"{name_of(value, labels)} ({organ.islands})" for value, organ in case.organs.items() if organ.islands
    ]
    if islands:
        message = f"islands of a few voxels: {cut_list(islands)}. Remove them, or keep them knowingly."
        yield suspicion_of(case, "warning", "islands", message)
    if case.gaps:
        message = (
            f"slices {cut_list(case.gaps)} (from 0) have no label between others that have. Look at the mask."
        )
        yield suspicion_of(case, "warning", "gap in mask", message)
    missing = [
        f"{name_of(value, labels)} ({cut_list(places)})"
        for value, places in case.skipped.items()
        if not set(places) <= set(case.gaps)
    ]
    if missing:
        message = (
            f"missing in slices (from 0) between others that have it: {cut_list(missing)}. Look at the mask."
        )
        yield suspicion_of(case, "warning", "gap in organ", message)
    if case.between > _STEPS:
        message = (
            f"at {case.between:.0%} of the borders labels rise in steps, as smooth resampling makes them. "
            "Resample masks with nearest-neighbour interpolation."
        )
        yield suspicion_of(case, "warning", "smooth mask", message)


def _of_alignment(case: CaseFacts) -> Iterator[Suspicion]:
    turned = {name: ratio for name, ratio in case.alignment.turned.items() if ratio > TURNED}
    if turned:
        best = max(turned, key=lambda name: turned[name])
        message = (
            f"values within organs are {turned[best]:.1f} times as mixed as within the mask turned {best}. "
            "Check the orientation of both files."
        )
        yield suspicion_of(case, "warning", "turned mask", message)
    elif case.alignment.shifted > SHIFTED:
        yield shifted(case)


def shifted(case: CaseFacts) -> Suspicion:
    message = (
        f"values within organs are {case.alignment.shifted:.1f} times as mixed as within the mask shifted by "
        f"{case.alignment.shift} voxels (to the head, back and left). Check that it is the mask of this image."
    )
    return suspicion_of(case, "warning", "shifted mask", message)


def _of_sides(case: CaseFacts, labels: LabelSpec | None) -> Iterator[Suspicion]:
    """Compare where organs lie with what their names say; x runs to the patient's right."""
    if labels is None:
        return
    names = {value: labels.names[value] for value in case.organs if value in labels.names}
    for right, left in left_right_pairs(names):
        if case.organs[right].centre_mm[0] < case.organs[left].centre_mm[0]:
            message = f"{names[right]} lies to the left of its mate. Swap the two labels, or correct the orientation."
            yield suspicion_of(case, "error", "sides", message)
    centres = {name.lower(): case.organs[value].centre_mm for value, name in names.items()}
    liver, spleen = centres.get("liver"), centres.get("spleen")
    if liver is not None and spleen is not None and liver[0] < spleen[0] - _SIDE_MM:
        message = "the liver lies to the left of the spleen. Correct the orientation, or the labels."
        yield suspicion_of(case, "warning", "sides", message)
    kidneys = [c for n, c in centres.items() if "kidney" in n]
    if liver is not None and kidneys and min(c[2] for c in kidneys) > liver[2] + _ABOVE_MM:
        message = (
            "the kidneys lie above the liver: the order of the slices looks turned. Check the orientation."
        )
        yield suspicion_of(case, "warning", "slice order", message)


def name_of(value: int, labels: LabelSpec | None) -> str:
    names: Mapping[int, str] = {} if labels is None else labels.names
    return names.get(value, f"label {value}")


def suspicion_of(case: CaseFacts, severity: Severity, kind: str, message: str) -> Suspicion:
    file = case.mask if kind in _OF_MASK else case.file
    return Suspicion(severity, kind, case.case_id, file, message)
