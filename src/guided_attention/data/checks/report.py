"""The check of a cohort: its cases are read one after another, and what looks wrong is listed."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from guided_attention._checks import counted, cut_list, require_integer, require_path, require_positive
from guided_attention._files import PathLike
from guided_attention.data._files import setting_aside
from guided_attention.data._processes import each
from guided_attention.data.checks._facts import CaseFacts, facts_of
from guided_attention.data.checks._suspicions import Suspicion, in_cases
from guided_attention.data.checks._unlike import in_cohort
from guided_attention.data.cohort import Cohort, Opening, open_cohort, organs_of
from guided_attention.data.splits import Patients, Split, patient_of
from guided_attention.errors import GuidedAttentionError
from guided_attention.labels import LabelSpec

__all__ = ["CheckReport", "Suspicion", "check"]

_MOST_ASIDE = 200
"""Files that hinder the opening, and are set aside one after another."""


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes:
        suspicions: What looks wrong, errors first.
        summary: What the cohort is like, as plain values.
    """

    suspicions: tuple[Suspicion, ...]
    summary: dict[str, Any]

    @property
    def errors(self) -> tuple[Suspicion, ...]:
        """What cannot be right."""
        return tuple(one for one in self.suspicions if one.severity == "error")

    @property
    def warnings(self) -> tuple[Suspicion, ...]:
        """What should be looked at."""
        return tuple(one for one in self.suspicions if one.severity == "warning")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "summary": self.summary,
            "suspicions": [asdict(one) | {"file": str(one.file)} for one in self.suspicions],
        }

    def __str__(self) -> str:
        """Return the report as text, one line a suspicion."""
        lines = [f"{name}: {_shown(value)}" for name, value in self.summary.items()]
        lines += [
            f"{one.severity}: {one.case_id or 'cohort'}: {one.kind}: {one.message} [{one.file}]"
            for one in self.suspicions
        ]
        found = counted(len(self.errors), "error"), counted(len(self.warnings), "warning")
        return "\n".join([*lines, ", ".join(found)])


def check(
    cohort: Cohort | PathLike,
    *,
    labels: LabelSpec | Mapping[int, str] | None = None,
    opening: Opening | None = None,
    patients: Patients | None = None,
    workers: int = 1,
    on_case: Callable[[str], None] | None = None,
) -> CheckReport:
    """Read every case of a cohort once, and list what looks wrong.

    Args:
        cohort: A cohort, a folder that `open_cohort` opens, or one file. Files that do not fit the layout, such as a
            mask without an image, are errors in the report, and the other cases are checked.
        labels: The organs, see `open_cohort`; None takes those of the cohort.
        opening: How a folder is opened, see `open_cohort`; None finds out.
        patients: The patient of each case, to find one in two parts of the split that the layout has; None takes those
            that a CSV file names.
        workers: Processes that read.
        on_case: Called with the name of each case that has been read.

    Returns:
        The report. A case that cannot be read is an error in it.

    Raises:
        ArgumentError, ArgumentTypeError: An argument is out of range, or of the wrong type.
        ProcessLostError: A process that reads was killed, most likely for lack of memory.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     report = check(write_phantom_cohort(folder, subjects=2, size=16))
        >>> len(report.errors), report.summary["cases"]
        (0, 2)
    """
    require_integer("workers", workers)
    require_positive("workers", workers)
    organs = organs_of(labels)
    opened, suspicions = _opened(cohort, organs, opening or Opening())
    if opened is None:
        return CheckReport(tuple(suspicions), {"cases": 0})
    facts = _facts(opened, workers, on_case)
    suspicions = _not_of_a_case(suspicions, opened, facts)
    organs = organs if organs is not None else opened.labels
    suspicions += [
        *in_cases(facts, organs),
        *in_cohort(facts, organs),
        *_leaks(opened, patients or opened.patients),
    ]
    ordered = sorted(suspicions, key=lambda one: one.severity != "error")
    return CheckReport(tuple(ordered), _summary(opened, facts))


def _opened(
    cohort: Cohort | PathLike, labels: LabelSpec | None, opening: Opening
) -> tuple[Cohort | None, list[Suspicion]]:
    """Open a folder. A file that hinders is noted and set aside, so that it does not hide what is wrong elsewhere."""
    if isinstance(cohort, Cohort):
        return cohort, []
    root, aside, found, last = require_path("cohort", cohort), list[Path](), list[Suspicion](), ""
    while True:
        opened, notes = _tried(partial(open_cohort, root, labels=labels, **vars(opening)), aside)
        if isinstance(opened, Cohort):
            return opened, [*found, *(Suspicion("warning", "layout", "", root, note) for note in notes)]
        # Where the same error comes again, setting the file aside did not help: its folder is next.
        is_new, at = str(opened) != last, opened.file or root
        if is_new:
            found.append(Suspicion("error", "layout", "", at, str(opened)))
        aside.append(at if is_new else aside[-1].parent)
        last = str(opened)
        if root not in aside[-1].parents or len(aside) > _MOST_ASIDE:
            return None, found


def _tried(
    open_it: Callable[[], Cohort], aside: Sequence[Path]
) -> tuple[Cohort | GuidedAttentionError, list[str]]:
    """Return the cohort without some files, or why it cannot be opened, with the warnings that came."""
    with warnings.catch_warnings(record=True) as caught, setting_aside(aside):
        warnings.simplefilter("always")
        try:
            opened: Cohort | GuidedAttentionError = open_it()
        except GuidedAttentionError as error:
            opened = error
    return opened, list(dict.fromkeys(str(one.message) for one in caught))


def _not_of_a_case(
    suspicions: Sequence[Suspicion], cohort: Cohort, facts: Sequence[CaseFacts]
) -> list[Suspicion]:
    """Drop what hindered the opening and the reading of a case as well: it is told once, with the case."""
    errors = {case.case_id: case.error for case in facts if case.error}
    folders = [
        path
        for scan in cohort.scans
        for path in (scan.path, *scan.beside)
        if scan.case_id in errors and path.is_dir()
    ]
    return [
        one
        for one in suspicions
        if one.message not in errors.values() and not any(folder in one.file.parents for folder in folders)
    ]


def _facts(cohort: Cohort, workers: int, on_case: Callable[[str], None] | None) -> list[CaseFacts]:
    noted = []
    for facts in each(facts_of, cohort.scans, workers):
        noted.append(facts)
        if on_case is not None:
            on_case(facts.case_id)
    return noted


def _leaks(cohort: Cohort, patients: Patients) -> list[Suspicion]:
    if not patients or not cohort.parts:
        return []
    split = Split(*(cohort.parts.get(part, ()) for part in ("train", "val", "test")))
    return [_leak(split, patients, patient, cohort.folder) for patient in split.leaks(patients)]


def _leak(split: Split, patients: Patients, patient: str, folder: Path) -> Suspicion:
    where = {
        part: [name for name in getattr(split, part) if patient_of(patients, name) == patient]
        for part in ("train", "val", "test")
    }
    shown = " and ".join(f"{part} ({cut_list(names)})" for part, names in where.items() if names)
    message = f"patient {patient!r} is in the parts {shown}. Move all of a patient's cases to one part."
    return Suspicion("error", "leak", "", folder, message)


def _summary(cohort: Cohort, facts: list[CaseFacts]) -> dict[str, Any]:
    read = [case for case in facts if not case.error]
    spacings = np.array([case.spacing_mm for case in read]) if read else np.zeros((1, 3))
    shapes = np.array([case.shape for case in read]) if read else np.zeros((1, 3), int)
    return {
        "folder": str(cohort.folder),
        "layout": cohort.layout,
        "cases": len(facts),
        "with labels": sum(case.is_labelled for case in read),
        "parts": {part: len(names) for part, names in cohort.parts.items()},
        "channels": sorted({case.channels for case in read}),
        "orientations": sorted({case.orientation for case in read}),
        "sizes": [np.min(shapes, axis=0).tolist(), np.max(shapes, axis=0).tolist()],
        "spacings in mm": [np.min(spacings, axis=0).tolist(), np.max(spacings, axis=0).tolist()],
        "organs": sorted({value for case in read for value in case.organs}),
    }


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return (
            " to ".join(map(str, value))
            if value and isinstance(value[0], list)
            else ", ".join(map(str, value))
        )
    return str(value)
