"""convert: the cases of a cohort written in another layout, with a manifest of what came from where."""

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from guided_attention._checks import (
    counted,
    cut_list,
    require,
    require_integer,
    require_positive,
    require_type,
)
from guided_attention._files import (
    DRAFT_PREFIX,
    PathLike,
    made_folder,
    sha256_of_file,
    sha256_of_json,
    sweep_drafts,
    write_json,
)
from guided_attention._locks import LOCK, locked_folder
from guided_attention.data._processes import each
from guided_attention.data._segments import require_same_organs
from guided_attention.data._writers import (
    Target,
    TargetLayout,
    beside,
    require_cases_fit,
    require_fit,
    require_layout,
    warn_of_parts,
    write_case,
)
from guided_attention.data.cohort import Cohort, reading_of
from guided_attention.data.layouts._records import Scan
from guided_attention.errors import DataError, ExistingFileError, GuidedAttentionError
from guided_attention.labels import LabelSpec

__all__ = ["TargetLayout", "convert"]

_MANIFEST, _DONE = "manifest.json", ".converted.jsonl"


def convert(
    cohort: Cohort,
    folder: PathLike,
    layout: TargetLayout,
    *,
    labels: LabelSpec | None = None,
    workers: int = 1,
    on_case: Callable[[str], None] | None = None,
) -> Path:
    """Write the cases of a cohort in another layout.

    A conversion that was interrupted is continued: cases whose files are whole are left as they are. Cases whose source
    files, part or way of being read (the arguments of `open_cohort`) have changed since are converted anew, with a
    warning, and their old files are deleted. When it is complete, ``manifest.json`` says for each case its source files
    with their SHA-256, spacing, orientation, labels seen, and its new files. Names of cases are the only thing about
    patients that is written.

    Args:
        cohort: The cases.
        folder: Where to write: new, empty, or begun by an earlier call.
        layout: ``"pairs"`` (NIfTI files and ``cases.json``), ``"nnunet"`` (one NIfTI file a channel, labels counted
            from 1 on, test cases in ``imagesTs``, those for validation with those for training) or ``"png"`` (the
            paper's slices: one channel of 256 grey levels; spacing is kept in ``dataset.json`` where all cases have
            one).
        labels: The organs; None takes those of the cohort.
        workers: Processes that read and write.
        on_case: Called with the name of each case that is done.

    Returns:
        The folder.

    Raises:
        ExistingFileError: The folder holds something else, such as a conversion of other cases or to other organs, or
            another process is writing to it.
        DataError: A case cannot be read or does not fit the layout, its name cannot be that of a file or would be read
            as that of a channel, or the organs are not known, or not those that the cohort has for their values. Some
            cases are in a part and others in none, which only pairs can keep.
        WriteError: The disk is full, or the folder cannot be written to.
        ProcessLostError: A process that reads was killed, most likely for lack of memory. The next call continues.

    Warns:
        UserWarning: Cases for validation become training cases of nnU-Net, which has no part for them.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import open_cohort, write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     cohort = open_cohort(write_phantom_cohort(f"{folder}/chaos", subjects=2, size=16))
        ...     print(open_cohort(convert(cohort, f"{folder}/raw", "nnunet")).layout)
        nnunet
    """
    require_type("cohort", cohort, Cohort, "a Cohort")
    require_type(
        "labels", labels, (LabelSpec, type(None)), "a LabelSpec or None", "Write LabelSpec({1: 'liver'})."
    )
    require_layout(layout)
    require_integer("workers", workers)
    require_positive("workers", workers)
    organs = labels if labels is not None else cohort.labels
    if organs is None:
        cure = "Pass `labels`, such as LabelSpec({1: 'liver'})."
        raise DataError(f"`labels` must be known, got a cohort that does not name its organs. {cure}")
    require_same_organs(organs, cohort.labels, cohort.folder)
    target = Target(Path(folder), layout, organs)
    require_fit(target)
    require_cases_fit(cohort.scans, target)
    warn_of_parts(cohort.scans, target)
    root = made_folder(folder)
    with locked_folder(root, doing="converting into"):
        done = _done(root)
        _require_ours(root, done, cohort, target)
        _convert(cohort, target, done, workers, on_case or (lambda _name: None))
    return root


def _require_ours(root: Path, done: Mapping[str, Any], cohort: Cohort, target: Target) -> None:
    """Raise unless the folder is empty or was begun by a conversion of these cases to this layout and these organs."""
    held = [
        path.name
        for path in root.iterdir()
        if path.name not in {LOCK, _DONE} and not path.name.startswith(DRAFT_PREFIX)
    ]
    begun = (root / _DONE).is_file() or (_MANIFEST in held and bool(done))
    other = [name for name, line in done.items() if line["target"] != _key(target)]
    gone = [name for name in done if name not in cohort.case_ids]
    got = ""
    if held and not begun:
        got = f" with {held[0]}"
    elif other:
        got = ", which was begun with another layout or other organs"
    elif gone:
        got = f", which has {cut_list(gone)} of an earlier conversion"
    if got:
        message = f"`folder` must be new or empty, or begun by `convert`, got {root}{got}. Name another one."
        raise ExistingFileError(message, argument="folder", file=root)


def _key(target: Target) -> str:
    labels = target.labels
    return sha256_of_json([target.layout, list(labels.names.items()), labels.ignore_value])


def _convert(
    cohort: Cohort, target: Target, done: dict[str, Any], workers: int, on_case: Callable[[str], None]
) -> None:
    root = target.folder
    for path in (root, *(one for one in root.rglob("*") if one.is_dir())):
        sweep_drafts(path)
    parts = {scan.case_id: scan.part for scan in cohort.scans}
    reading = sha256_of_json(reading_of(cohort), str)
    changed = _changed(cohort.scans, done, reading)
    left = [scan for scan in cohort.scans if scan.case_id in changed or not _is_whole(root, done, scan)]
    if changed:
        why = "their source files, their part or how they are read has changed, or an earlier version wrote them"
        said = f"In {root}, {counted(len(changed), 'case is', 'cases are')} converted anew"
        message = f"{said}, as {why}: {cut_list(changed)}."
        warnings.warn(message, UserWarning, stacklevel=3)
    for scan in cohort.scans:
        if scan not in left:
            on_case(scan.case_id)
    with (root / _DONE).open("a", encoding="utf-8") as file:
        for line in each(partial(_converted, target=target, reading=reading), left, workers):
            earlier = done.get(line["case_id"], {"files": {}})["files"]
            for name in set(earlier) - set(line["files"]):  # such as those of a mask that was taken away
                (root / name).unlink(missing_ok=True)
            done[line["case_id"]] = line
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
            on_case(line["case_id"])
    ordered = [done[scan.case_id] for scan in cohort.scans]
    for name, content in beside(target, parts, _about(ordered, target.layout)).items():
        write_json(root / name, content)
    write_json(root / _MANIFEST, {"layout": target.layout, "cases": ordered})
    (root / _DONE).unlink()


def _converted(scan: Scan, target: Target, reading: str) -> dict[str, Any]:
    """Convert one case, and return its line of the manifest."""
    try:
        case = scan.read()
        files = write_case(case, scan.part, target)
    except GuidedAttentionError as error:
        error.add_note(f"This happened while converting case {scan.case_id!r}.")
        if error.file is not None or not isinstance(error, DataError):
            raise
        at_fault = (scan.path, *scan.beside)[-1 if (error.argument or "").startswith("labels") else 0]
        raise DataError(f"{error} Read from {at_fault}.", argument=error.argument, file=at_fault) from error
    return {
        "target": _key(target),
        "case_id": scan.case_id,
        **_made_of(scan, reading),
        "files": {path.relative_to(target.folder).as_posix(): sha256_of_file(path) for path in files},
        "spacing_mm": list(case.spacing_mm),
        "orientation": case.orientation,
        "channels": len(case.image),
        "channel_names": list(case.channel_names),
        "labels": [] if case.labels is None else np.unique(case.labels).tolist(),
        "labelled": case.labels is not None,
    }


def _sources(scan: Scan) -> dict[str, str]:
    """Return the checksum of each file by its name, as seen from the image: an image and its mask may share one."""
    return {
        Path(os.path.relpath(path, scan.path.parent)).as_posix(): sha256_of_file(path)
        for path in scan.files()
    }


def _made_of(scan: Scan, reading: str) -> dict[str, Any]:
    """Return what decides, beside the target, which files a case becomes."""
    how = sha256_of_json([reading, scan.is_labelled])
    return {"part": scan.part, "source": _sources(scan), "reading": how}


def _changed(scans: Sequence[Scan], done: Mapping[str, Mapping[str, Any]], reading: str) -> list[str]:
    """Return the cases that were made of something else than what they are now."""
    return [
        scan.case_id
        for scan in scans
        if scan.case_id in done
        and any(done[scan.case_id].get(key) != value for key, value in _made_of(scan, reading).items())
    ]


def _is_whole(root: Path, done: Mapping[str, Mapping[str, Any]], scan: Scan) -> bool:
    """Whether a case was converted, and its files are whole."""
    files = done[scan.case_id]["files"] if scan.case_id in done else {}
    return bool(files) and all(
        (root / name).is_file() and sha256_of_file(root / name) == wanted for name, wanted in files.items()
    )


def _done(root: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of an earlier call by case; what a kill cut short, or something else wrote, is left out."""
    texts = []
    if (root / _MANIFEST).is_file():
        texts.append((root / _MANIFEST).read_text(encoding="utf-8", errors="replace"))
    if (root / _DONE).is_file():
        texts += (root / _DONE).read_text(encoding="utf-8", errors="replace").splitlines()
    lines: list[Any] = []
    for text in texts:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            continue
        cases = content.get("cases", [content]) if isinstance(content, dict) else []
        lines += cases if isinstance(cases, list) else []
    return {line["case_id"]: line for line in lines if _is_line(line)}


def _is_line(line: object) -> bool:
    """Return whether a line is one of ours, whose files lie in the folder."""
    if not isinstance(line, dict):
        return False
    kinds = {"case_id": str, "target": str, "source": dict, "files": dict}
    good = all(isinstance(line.get(key), kind) for key, kind in kinds.items())
    return good and not any(Path(name).is_absolute() or ".." in Path(name).parts for name in line["files"])


def _about(lines: list[dict[str, Any]], layout: TargetLayout) -> dict[str, Any]:
    counts = {line["channels"] for line in lines}
    require(len(counts) == 1, "cohort", "of one number of channels", sorted(counts), error=DataError)
    spacings = {tuple(round(side, 6) for side in _axial_spacing(line)) for line in lines}
    if layout == "png" and len(spacings) > 1:
        message = f"spacing differs between cases, and PNG slices hold none: it is lost, but for that in {_MANIFEST}."
        warnings.warn(message, UserWarning, stacklevel=2)
    return {
        "channels": counts.pop(),
        "channel_names": lines[0]["channel_names"],
        "spacing_mm": next(iter(spacings)) if len(spacings) == 1 else None,
        "labelled": {line["case_id"] for line in lines if line["labelled"]},
    }


def _axial_spacing(line: Mapping[str, Any]) -> list[float]:
    """Return the spacing along the body, from front to back and from side to side, as slices are written."""
    sides = dict(zip(line["orientation"], reversed(line["spacing_mm"]), strict=True))
    return [next(sides[letter] for letter in pair if letter in sides) for pair in ("SI", "AP", "LR")]
