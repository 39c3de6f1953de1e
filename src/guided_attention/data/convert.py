"""convert: the cases of a cohort written in another layout, with a manifest of what came from where."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from guided_attention._checks import require, require_integer, require_positive, require_type
from guided_attention._files import (
    DRAFT_PREFIX,
    PathLike,
    made_folder,
    sha256_of_file,
    sweep_drafts,
    write_json,
)
from guided_attention._locks import LOCK, locked_folder
from guided_attention.data._layouts import Scan
from guided_attention.data._writers import (
    Target,
    TargetLayout,
    beside,
    require_fit,
    require_layout,
    write_case,
)
from guided_attention.data.cohort import Cohort
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

    A conversion that was interrupted is continued: cases whose files are whole are left as they are. When it is
    complete, ``manifest.json`` says for each case its source files with their SHA-256, spacing, orientation, labels
    seen, and its new files. Names of cases are the only thing about patients that is written.

    Args:
        cohort: The cases.
        folder: Where to write: new, empty, or begun by an earlier call.
        layout: ``"pairs"`` (NIfTI files and ``cases.json``), ``"nnunet"`` (one NIfTI file a channel, labels counted
            from 1 on, test cases in ``imagesTs``) or ``"png"`` (the paper's slices: one channel of 256 grey levels;
            spacing is kept in ``dataset.json`` where all cases have one).
        labels: The organs; None takes those of the cohort.
        workers: Processes that read and write.
        on_case: Called with the name of each case that is done.

    Returns:
        The folder.

    Raises:
        ExistingFileError: The folder holds something else, or another process is writing to it.
        DataError: A case cannot be read or does not fit the layout, or the organs are not known.
        WriteError: The disk is full, or the folder cannot be written to.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import open_cohort, write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     cohort = open_cohort(write_phantom_cohort(f"{folder}/chaos", subjects=2, size=16))
        ...     print(open_cohort(convert(cohort, f"{folder}/raw", "nnunet")).layout)
        nnunet
    """
    require_type("cohort", cohort, Cohort, "a Cohort")
    require_layout(layout)
    require_integer("workers", workers)
    require_positive("workers", workers)
    organs = labels if labels is not None else cohort.labels
    if organs is None:
        cure = "Pass `labels`, such as LabelSpec({1: 'liver'})."
        raise DataError(f"`labels` must be known, got a cohort that does not name its organs. {cure}")
    root = made_folder(folder)
    target = Target(root, layout, organs)
    require_fit(target)
    with locked_folder(root, doing="converting into"):
        _require_ours(root)
        _convert(cohort, target, workers, on_case or (lambda _name: None))
    return root


def _require_ours(root: Path) -> None:
    """Raise unless the folder is empty or was begun by a conversion."""
    held = [
        path.name for path in root.iterdir() if path.name != LOCK and not path.name.startswith(DRAFT_PREFIX)
    ]
    if held and _DONE not in held and _MANIFEST not in held:
        message = f"`folder` must be new or empty, or begun by `convert`, got {root} with {held[0]}. Name another one."
        raise ExistingFileError(message, argument="folder", file=root)


def _convert(cohort: Cohort, target: Target, workers: int, on_case: Callable[[str], None]) -> None:
    root = target.folder
    for path in (root, *(one for one in root.rglob("*") if one.is_dir())):
        sweep_drafts(path)
    done = _done(root)
    parts = {scan.case_id: scan.part for scan in cohort.scans}
    left = [scan for scan in cohort.scans if not _is_whole(root, done.get(scan.case_id), scan)]
    for scan in cohort.scans:
        if scan not in left:
            on_case(scan.case_id)
    with (root / _DONE).open("a", encoding="utf-8") as file:
        for line in _lines(left, target, workers):
            done[line["case_id"]] = line
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
            on_case(line["case_id"])
    ordered = [done[scan.case_id] for scan in cohort.scans]
    for name, content in beside(target, parts, _about(ordered)).items():
        write_json(root / name, content)
    write_json(root / _MANIFEST, {"layout": target.layout, "cases": ordered})
    (root / _DONE).unlink()


def _lines(scans: list[Scan], target: Target, workers: int) -> Iterator[dict[str, Any]]:
    work = partial(_converted, target=target)
    if workers == 1 or len(scans) <= 1:
        yield from map(work, scans)
        return
    # A fork of a process with threads, such as one that has used torch, may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, scans)


def _converted(scan: Scan, target: Target) -> dict[str, Any]:
    """Convert one case, and return its line of the manifest."""
    try:
        case = scan.read()
        files = write_case(case, scan.part, target)
    except GuidedAttentionError as error:
        error.add_note(f"This happened while converting case {scan.case_id!r}.")
        raise
    return {
        "case_id": scan.case_id,
        "part": scan.part,
        "source": _sources(scan),
        "files": {path.relative_to(target.folder).as_posix(): sha256_of_file(path) for path in files},
        "spacing_mm": list(case.spacing_mm),
        "orientation": case.orientation,
        "channels": len(case.image),
        "channel_names": list(case.channel_names),
        "labels": [] if case.labels is None else np.unique(case.labels).tolist(),
        "labelled": case.labels is not None,
    }


def _sources(scan: Scan) -> dict[str, str]:
    return {path.name: sha256_of_file(path) for path in scan.files()}


def _is_whole(root: Path, line: Mapping[str, Any] | None, scan: Scan) -> bool:
    """Whether a case was written from these very files, and its own are whole."""
    return line is not None and (
        line["source"] == _sources(scan)
        and all(
            (root / name).is_file() and sha256_of_file(root / name) == wanted
            for name, wanted in line["files"].items()
        )
    )


def _done(root: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of an earlier call by case; a line that a kill cut short is left out."""
    lines: list[Any] = []
    if (root / _MANIFEST).is_file():
        content = json.loads((root / _MANIFEST).read_text(encoding="utf-8"))
        lines += content.get("cases", [])
    if (root / _DONE).is_file():
        for text in (root / _DONE).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
    return {line["case_id"]: line for line in lines if isinstance(line, dict) and "case_id" in line}


def _about(lines: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {line["channels"] for line in lines}
    require(len(counts) == 1, "cohort", "of one number of channels", sorted(counts), error=DataError)
    spacings = {tuple(round(side, 6) for side in line["spacing_mm"]) for line in lines}
    return {
        "channels": counts.pop(),
        "channel_names": lines[0]["channel_names"],
        "spacing_mm": next(iter(spacings)) if len(spacings) == 1 else None,
        "labelled": {line["case_id"] for line in lines if line["labelled"]},
    }
