"""One case written in each layout, and what stands beside the cases."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from guided_attention._checks import cut_list, require
from guided_attention.case import Case
from guided_attention.data.layouts._records import Scan
from guided_attention.data.nifti import write_nifti
from guided_attention.data.png import write_png_subject
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec

__all__ = [
    "Target",
    "TargetLayout",
    "beside",
    "require_cases_fit",
    "require_fit",
    "require_layout",
    "warn_of_parts",
    "write_case",
]

TargetLayout: TypeAlias = Literal["pairs", "nnunet", "png"]
"""A layout that `convert` writes."""

_LAYOUTS: Sequence[str] = get_args(TargetLayout)
_PNG_STEP, _PNG_HIGHEST = 63, 255
_LONGEST = 200
_CHANNEL, _FIRST = re.compile(r".*_\d{4}"), "_0000"


@dataclass(frozen=True)
class Target:
    """Where and how cases are written: folder, layout, organs."""

    folder: Path
    layout: TargetLayout
    labels: LabelSpec


def require_fit(target: Target) -> None:
    """Raise where a layout cannot hold these organs."""
    most = _PNG_HIGHEST // _grey_step(target.labels)
    good, got = target.layout != "png" or len(target.labels.values) <= most, len(target.labels.values)
    require(good, "labels", f"at most {most} organs for PNG slices", got, error=DataError)
    plain = target.layout == "pairs" or target.labels.ignore_value is None
    cure = "Convert to pairs, which keep the value."
    require(plain, "labels", "without a value to ignore", target.labels.ignore_value, cure, error=DataError)


def require_cases_fit(scans: Sequence[Scan], target: Target) -> None:
    """Raise where the name of a case cannot be that of its files, or masks cannot be told from missing ones."""
    odd = [scan for scan in scans if not _is_file_name(scan.case_id)]
    numbered = _read_as_channels(scans, target)
    wanted = f"names of files: at most {_LONGEST} bytes, without / and \\, not beginning with . or __"
    wanted += ", not ending in a channel such as _0000" if numbered else ""
    odd += numbered
    got, file = cut_list([repr(scan.case_id)[:80] for scan in odd]), odd[0].path if odd else None
    require(not odd, "names of cases", wanted, got, "Rename the cases.", error=DataError, file=file)
    if target.layout == "pairs":
        return
    loose = [scan for scan in scans if not scan.part and any(other.part for other in scans)]
    wanted = f"all in a part, or none, as {target.layout} would put the others among those that train"
    got, file = f"no part for {cut_list([scan.case_id for scan in loose])}", loose[0].path if loose else None
    cure = "Name their part, leave them out with cohort.select, or convert to pairs, which keep them."
    require(not loose, "cases", wanted, got, cure, error=DataError, file=file)
    if target.layout == "nnunet":
        return
    masked = {scan.part for scan in scans if scan.is_labelled}
    bare = [scan for scan in scans if not scan.is_labelled and scan.part in masked]
    wanted = "all with masks or all without, within a part, for PNG slices"
    got, file = f"none for {cut_list([scan.case_id for scan in bare])}", bare[0].path if bare else None
    cure = "Add the masks, or leave these cases out: cohort.select(cohort.labelled)."
    require(not bare, "cases", wanted, got, cure, error=DataError, file=file)


def _read_as_channels(scans: Sequence[Scan], target: Target) -> list[Scan]:
    """Return the cases whose names end in a number that would be read as that of a channel."""
    numbered = [scan for scan in scans if _CHANNEL.fullmatch(scan.case_id)]
    if target.layout != "pairs":
        return numbered if target.layout == "nnunet" else []
    # As `channels_by_number`: the name of a mask, or no number 0, says that the numbers are those of scans.
    is_safe = any(scan.is_labelled for scan in numbered)
    is_safe = is_safe or not any(scan.case_id.endswith(_FIRST) for scan in numbered)
    return [] if is_safe else numbered


def warn_of_parts(scans: Sequence[Scan], target: Target) -> None:
    """Warn where a layout has no place for a part."""
    val = [scan.case_id for scan in scans if scan.part == "val" and scan.is_labelled]
    if target.layout == "nnunet" and val:
        message = f"nnU-Net has no validation part: {cut_list(val)} will be among the cases that train, in imagesTr."
        warnings.warn(message, UserWarning, stacklevel=3)


def _is_file_name(name: str) -> bool:
    good = name.isprintable() and not set(name) & set("/\\") and not name.startswith((".", "__"))
    return good and 0 < len(name.encode()) <= _LONGEST


def write_case(case: Case, part: str, target: Target) -> list[Path]:
    """Write one case into a folder that may hold others, and return its files."""
    writers: Mapping[str, Callable[[Case, str, Target], list[Path]]] = {
        "pairs": _as_pair,
        "nnunet": _as_nnunet,
        "png": _as_png,
    }
    if case.labels is not None:
        target.labels.require_known(case.labels, f"labels of case {case.case_id!r}")
    return writers[target.layout](case, part, target)


def beside(target: Target, parts: Mapping[str, str], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON files that stand beside the cases, by name.

    Args:
        target: Where cases are written.
        parts: The part of each case, empty where the source has none.
        about: What was seen of the cases: ``channel_names``, ``spacing_mm`` and ``labelled``.
    """
    labels = target.labels
    if target.layout == "pairs":
        lists = {
            part: [name for name, own in parts.items() if own == part] for part in ("train", "val", "test")
        }
        names = {str(value): name for value, name in labels.names.items()}
        ignored = {} if labels.ignore_value is None else {str(labels.ignore_value): "ignore"}
        channels = {"channel_names": list(about["channel_names"])} if about["channel_names"] else {}
        split = {part: names for part, names in lists.items() if names}
        return {"cases.json": {"labels": {"0": "background"} | names | ignored, **channels, **split}}
    classes = {name: index for index, name in enumerate(labels.names.values(), start=1)}
    if target.layout == "nnunet":
        given = about["channel_names"] or [f"channel {i}" for i in range(about["channels"])]
        content = {
            "channel_names": {str(i): name for i, name in enumerate(given)},
            "labels": {"background": 0} | classes,
            "numTraining": sum(_is_training(name, part, about) for name, part in parts.items()),
            "file_ending": ".nii.gz",
        }
        return {"dataset.json": content}
    step = _grey_step(labels)
    greys = {str(step * index): index for index in range(len(classes) + 1)}
    spacing = {"spacing_mm": list(about["spacing_mm"])} if about["spacing_mm"] else {}
    return {"dataset.json": {"labels": {"background": 0} | classes, "grey_levels": greys, **spacing}}


def _is_training(name: str, part: str, about: Mapping[str, Any]) -> bool:
    return part != "test" and name in about["labelled"]


def _as_pair(case: Case, part: str, target: Target) -> list[Path]:
    del part  # it stands in cases.json
    image = case.image[0] if len(case.image) == 1 else case.image
    files = [write_nifti(target.folder / f"{case.case_id}_image.nii.gz", image, case.affine)]
    if case.labels is not None:
        files.append(write_nifti(target.folder / f"{case.case_id}_label.nii.gz", case.labels, case.affine))
    return files


def _as_nnunet(case: Case, part: str, target: Target) -> list[Path]:
    """Write channels one by one; what is not trained on goes to imagesTs."""
    ending = "Ts" if part == "test" or case.labels is None else "Tr"
    images = _made(target.folder / f"images{ending}")
    files = [
        write_nifti(images / f"{case.case_id}_{index:04d}.nii.gz", channel, case.affine)
        for index, channel in enumerate(case.image)
    ]
    if case.labels is not None:
        classes = target.labels.to_classes(case.labels)
        labels = _made(target.folder / f"labels{ending}")
        files.append(write_nifti(labels / f"{case.case_id}.nii.gz", classes, case.affine))
    return files


def _as_png(case: Case, part: str, target: Target) -> list[Path]:
    step = _grey_step(target.labels)
    levels = {step * index: index for index in range(target.labels.num_classes)}
    classes = None if case.labels is None else target.labels.to_classes(case.labels).astype(np.uint8)
    plain = Case(case.case_id, case.image, classes, case.affine)
    return write_png_subject(plain, _made(target.folder / (part or "train")), levels)


def _grey_step(labels: LabelSpec) -> int:
    """Return how far grey levels are apart: the paper's 63 where they fit."""
    return min(_PNG_STEP, max(1, _PNG_HIGHEST // len(labels.values)))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def require_layout(layout: object) -> None:
    """Raise unless `convert` writes this layout."""
    wanted = f"one of {cut_list([repr(one) for one in _LAYOUTS])}"
    require(layout in _LAYOUTS, "layout", wanted, repr(layout))
