"""What looks wrong in a case beside the other cases."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from guided_attention._checks import cut_list
from guided_attention.data.checks._exchanged import brightness, exchanged, nearly_equal
from guided_attention.data.checks._facts import CaseFacts
from guided_attention.data.checks._suspicions import (
    SHIFTED,
    TURNED,
    Severity,
    Suspicion,
    name_of,
    shifted,
    suspicion_of,
)
from guided_attention.labels import LabelSpec

__all__ = ["in_cohort"]

_MOST = 0.8
"""Share of the cases that have to agree before one that differs stands out."""
_FEW = 5
"""Cases from which on one can stand out."""
_SPACING = 1.5
_VOLUME, _DEVIATIONS = 2.5, 5.0
"""An organ stands out if it is so many times larger or smaller, and so many robust deviations away on a log scale."""
_SCALE = 8.0
_SHIFTED_UNLIKE_OTHERS = 1.18
"""How much more mixed values are within organs than within a shifted mask, in a cohort of aligned masks."""
_ALIGNED = 1.08
_ROUGH, _SMOOTH, _DISORDER = 1.7, 0.5, 1.25
_RIM, _AT_BOTTOM, _CONTRAST = 0.5, 0.3, 0.25
_APART_MM, _FEW_WAYS, _ALIKE = 30.0, 3, 0.8
"""Organs so far apart have a direction, so many directions tell an anatomy, and it is odd below this mean cosine."""


def in_cohort(facts: Sequence[CaseFacts], labels: LabelSpec | None) -> Iterator[Suspicion]:
    """Give what looks wrong in a case beside the others."""
    read = [case for case in facts if not case.error]
    yield from _duplicates(read)
    yield from _beside_each_other(read)
    if len(read) < _FEW:
        return
    yield from _unlike_most(read)
    yield from _odd_spacing(read)
    seen = [case for case in read if not case.constant]
    if len(seen) >= _FEW:
        yield from _odd_intensities(seen)
        yield from _odd_look(seen)
    yield from _odd_alignment([case for case in read if case.organs])
    yield from _odd_organs([case for case in read if case.is_labelled], labels)


def _duplicates(read: Sequence[CaseFacts]) -> Iterator[Suspicion]:
    equal = "its {} is, voxel for voxel, also that of {}. Remove one, or correct the file."
    cut = (
        "the organs of its {} are, voxel for voxel, those of {}, within another margin: one scan, cut out twice. "
        "Remove one, or keep both in one part of the split."
    )
    for field, what, message in (
        ("image_hash", "image", equal),
        ("labels_hash", "mask", equal),
        ("outline_hash", "mask", cut),
    ):
        for cases in _alike(read, field):
            masks = [case.labels_hash for case in cases]
            for place, case in enumerate(cases[1:], 1):
                if field == "outline_hash" and case.labels_hash in masks[:place]:
                    continue  # told by its whole mask
                files = [
                    other.file if what == "image" else other.mask for other in cases if other is not case
                ]
                names = cut_list(list(map(str, files)))
                yield suspicion_of(case, "error", f"duplicate {what}", message.format(what, names))


def _alike(read: Sequence[CaseFacts], field: str) -> Iterator[list[CaseFacts]]:
    """Give the cases that have the same hash in a field."""
    same: defaultdict[str, list[CaseFacts]] = defaultdict(list)
    for case in read:
        if getattr(case, field):
            same[getattr(case, field)].append(case)
    return (cases for cases in same.values() if len(cases) > 1)


def _unlike_most(read: Sequence[CaseFacts]) -> Iterator[Suspicion]:
    least: Sequence[tuple[str, Severity, float]] = (
        ("channels", "error", 0.0),
        ("orientation", "warning", _MOST),
    )
    for field, severity, share in least:
        usual, count = Counter(getattr(case, field) for case in read).most_common(1)[0]
        odd = [case for case in read if getattr(case, field) != usual]
        for case in odd if count >= share * len(read) else ():
            message = f"{field} {getattr(case, field)}, where {count} of {len(read)} cases have {usual}."
            yield suspicion_of(case, severity, f"odd {field}", message)


def _odd_spacing(read: Sequence[CaseFacts]) -> Iterator[Suspicion]:
    spacings = np.sort([case.spacing_mm for case in read], axis=1)
    usual = np.median(spacings, axis=0)
    far = (np.maximum(spacings / usual, usual / spacings) > _SPACING).any(axis=1)
    if far.mean() > 1 - _MOST:
        return
    for case in (case for case, is_far in zip(read, far, strict=True) if is_far):
        shown, others = (" x ".join(f"{side:.3g}" for side in sides) for sides in (case.spacing_mm, usual))
        message = f"voxels of {shown} mm, where most are of about {others} mm. Check the unit and the header."
        yield suspicion_of(case, "warning", "odd spacing", message)


def _odd_intensities(read: Sequence[CaseFacts]) -> Iterator[Suspicion]:
    widths = np.array([case.quantiles[2] - case.quantiles[0] for case in read])
    usual = float(np.median(widths))
    negative = np.array([case.lowest < 0 for case in read])
    for place, case in enumerate(read):
        ratio = float(widths[place]) / usual if usual > 0 else 1.0
        if not 1 / _SCALE < ratio < _SCALE:
            message = (
                f"values spread {ratio:.2g} times as far as in most cases. Check its scaling and modality."
            )
            yield suspicion_of(case, "warning", "odd intensities", message)
        elif abs(float(negative.mean()) - float(negative[place])) > _MOST:
            sign = "values below 0" if negative[place] else "no value below 0"
            message = f"{sign}, unlike most cases. Check its scaling and modality."
            yield suspicion_of(case, "warning", "odd intensities", message)


def _odd_look(read: Sequence[CaseFacts]) -> Iterator[Suspicion]:
    """Compare noise, the order of slices and the brightness of the border with those of the other cases."""
    for kind, field, most, what, cure in (
        ("rough image", "roughness", _ROUGH, "voxels", "values did not wrap around into noise"),
        ("slices in disorder", "disorder", _DISORDER, "slices", "its slices are in order"),
    ):
        values = np.array([float(getattr(case, field)) for case in read])
        usual = float(np.median(values))
        is_odd = values > most * usual
        if usual > 0 and is_odd.mean() <= 1 - _MOST:
            for case, ratio in (
                (read[int(place)], values[place] / usual) for place in np.flatnonzero(is_odd)
            ):
                message = f"neighbouring {what} differ {ratio:.1f} times as much as usual. Check that {cure}."
                yield suspicion_of(case, "warning", kind, message)
    usual = float(np.median([case.roughness for case in read]))
    for case in (case for case in read if case.roughness < _SMOOTH * usual):
        message = (
            f"neighbouring voxels differ {case.roughness / usual:.2f} times as much as usual. Check that the image was "
            "not smoothed, or enlarged from a coarser one."
        )
        yield suspicion_of(case, "warning", "smooth image", message)
    rims = np.array([case.rim for case in read])
    far = np.abs(rims - np.median(rims)) > _RIM
    if far.mean() <= 1 - _MOST:
        for case in (case for case, is_far in zip(read, far, strict=True) if is_far):
            message = (
                "the border is bright where that of most is dark, or the reverse. Check for inverted values."
            )
            yield suspicion_of(case, "warning", "odd border", message)
    usual = float(np.median([case.at_bottom for case in read]))
    cut = [case for case in read if case.at_bottom > usual + _AT_BOTTOM]
    for case in cut if len(cut) <= (1 - _MOST) * len(read) else ():
        share = f"{case.at_bottom:.0%} of the voxels have the lowest value, and {usual:.0%} in most cases"
        yield suspicion_of(
            case, "warning", "clipped image", f"{share}. Check that dark tissue was not cut off."
        )


def _beside_each_other(read: Sequence[CaseFacts]) -> Iterator[Suspicion]:
    """Compare each case with each other one."""
    seen = [(case, case.alignment.thumbnail) for case in read]
    cases, thumbnails = [case for case, one in seen if one], [one for _, one in seen if one]
    if not cases:
        return
    for first, second in exchanged(thumbnails):
        for one, other in ((first, second), (second, first)):
            message = (
                f"this mask and that of case {cases[other].case_id!r} lie better on each other's images. "
                "Look at both, and exchange them."
            )
            yield suspicion_of(cases[one], "warning", "exchanged masks", message)
    for first, second in nearly_equal(thumbnails):
        if cases[first].image_hash != cases[second].image_hash:
            message = (
                f"but for contrast and noise, the image is that of case {cases[first].case_id!r}. "
                "Remove one of two copies, and keep scans of one patient in one part."
            )
            yield suspicion_of(cases[second], "warning", "similar image", message)


def _odd_alignment(labelled: Sequence[CaseFacts]) -> Iterator[Suspicion]:
    """Where the masks of most cases lie well on their images, a smaller shift is suspicious."""
    if sum(case.alignment.shifted <= _ALIGNED for case in labelled) < max(_FEW, _MOST * len(labelled)):
        return
    for case in labelled:
        is_turned = any(ratio > TURNED for ratio in case.alignment.turned.values())
        if _SHIFTED_UNLIKE_OTHERS < case.alignment.shifted <= SHIFTED and not is_turned:
            yield shifted(case)


def _odd_organs(labelled: Sequence[CaseFacts], labels: LabelSpec | None) -> Iterator[Suspicion]:
    if len(labelled) < _FEW:
        return
    yield from _rare_labels(labelled, labels)
    values = sorted({value for case in labelled for value in case.organs})
    with_organs = [case for case in labelled if case.organs and not case.constant]
    yield from _odd_places(with_organs)
    yield from _odd_contrast(with_organs)
    for value in values:
        having = [case for case in labelled if value in case.organs]
        name, share = name_of(value, labels), len(having) / len(labelled)
        if share >= _MOST:
            for case in (case for case in labelled if value not in case.organs and case.organs):
                message = (
                    f"{name} is missing, which {len(having)} of {len(labelled)} cases have. Look at the mask."
                )
                yield suspicion_of(case, "warning", "missing organ", message)
        if len(having) >= _FEW:
            yield from _odd_sizes(having, value, name)
            yield from _odd_borders(having, value, name)
            yield from _odd_parts(having, value, name)


def _rare_labels(labelled: Sequence[CaseFacts], labels: LabelSpec | None) -> Iterator[Suspicion]:
    counts = _organ_counts(labelled)
    named = set() if labels is None else set(labels.names)
    for case in labelled:
        rare = [v for v in case.organs if v not in named and counts[v] <= (1 - _MOST) * len(labelled)]
        if rare:
            message = f"the values {cut_list(rare)} are in few of the {len(labelled)} masks. Check the mask."
            yield suspicion_of(case, "warning", "rare label", message)


def _odd_sizes(having: Sequence[CaseFacts], value: int, name: str) -> Iterator[Suspicion]:
    logs = np.log([case.organs[value].volume_ml for case in having])
    usual = float(np.median(logs))
    deviation = 1.4826 * float(np.median(np.abs(logs - usual)))
    for case, log in zip(having, logs.tolist(), strict=True):
        if abs(log - usual) > max(math.log(_VOLUME), _DEVIATIONS * deviation):
            size, most = case.organs[value].volume_ml, math.exp(usual)
            message = f"{name} has {size:.3g} ml, where the median is {most:.3g} ml. Look at the mask."
            yield suspicion_of(case, "warning", "organ size", message)


def _odd_borders(having: Sequence[CaseFacts], value: int, name: str) -> Iterator[Suspicion]:
    counts = Counter(side for case in having for side in case.organs[value].borders)
    for case in having:
        odd = [
            side for side in case.organs[value].borders if counts[side] <= max(1, (1 - _MOST) * len(having))
        ]
        if odd:
            message = (
                f"{name} touches the border of the volume ({cut_list(odd)}). Check that it is not cut off."
            )
            yield suspicion_of(case, "warning", "organ at border", message)


def _odd_parts(having: Sequence[CaseFacts], value: int, name: str) -> Iterator[Suspicion]:
    parts = [case.organs[value].parts for case in having]
    if sum(count <= 1 for count in parts) < _MOST * len(having):
        return
    for case, count in zip(having, parts, strict=True):
        if count > 1:
            message = f"{name} is in {count} large parts, and in one piece in most cases. Look at its label in each."
            yield suspicion_of(case, "warning", "organ in parts", message)


def _odd_places(having: Sequence[CaseFacts]) -> Iterator[Suspicion]:
    """Compare the directions from organ to organ with the usual ones: a turned patient has all of them turned."""
    often = [value for value, count in _organ_counts(having).items() if count >= _MOST * len(having)]
    whole = [case for case in having if set(often) <= set(case.organs)]
    if len(whole) < _FEW or len(often) < 2:  # noqa: PLR2004 - directions are between two organs
        return
    centres = np.array([[case.organs[value].centre_mm for value in often] for case in whole])
    first, second = np.triu_indices(len(often), 1)
    ways = centres[:, first] - centres[:, second]
    usual = np.median(ways, axis=0)
    far = np.linalg.norm(usual, axis=1) > _APART_MM
    if far.sum() < _FEW_WAYS:
        return
    ways, usual = ways[:, far], usual[far]
    lengths = np.linalg.norm(ways, axis=2) * np.linalg.norm(usual, axis=1)
    alike = ((ways * usual).sum(axis=2) / np.maximum(lengths, 1)).mean(axis=1)
    for case, cosine in zip(whole, alike.tolist(), strict=True):
        if cosine < _ALIKE:
            message = (
                f"its organs lie to each other in other directions than in most cases (mean cosine {cosine:.2f}). "
                "Check the orientation of image and mask."
            )
            yield suspicion_of(case, "warning", "odd anatomy", message)


def _odd_contrast(having: Sequence[CaseFacts]) -> Iterator[Suspicion]:
    """Compare how bright organs are in their image: in another sequence or phase, they are otherwise."""
    seen = [(case, brightness(case.alignment.thumbnail)) for case in having if case.alignment.thumbnail]
    often = Counter(value for _, organs in seen for value in organs)
    usual = {
        value: float(np.median([organs[value] for _, organs in seen if value in organs]))
        for value, count in often.items()
        if count >= max(_FEW, _MOST * len(seen))
    }
    for case, organs in seen:
        apart = [abs(level - usual[value]) for value, level in organs.items() if value in usual]
        if len(apart) > 1 and float(np.mean(apart)) > _CONTRAST:
            message = (
                f"its organs are brighter or darker than in most cases, by {np.mean(apart):.0%} of the range. "
                "Check the sequence or phase, and that values are not inverted."
            )
            yield suspicion_of(case, "warning", "odd contrast", message)


def _organ_counts(having: Sequence[CaseFacts]) -> Counter[int]:
    return Counter(value for case in having for value in case.organs)
