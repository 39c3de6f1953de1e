"""The cases of a folder, a cohort or a list: known by name, read when they are asked for."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from guided_attention._checks import cut_list, require, require_type
from guided_attention._files import PathLike
from guided_attention.case import Case
from guided_attention.data import Cohort, Opening
from guided_attention.data._segments import require_same_organs
from guided_attention.data.cohort import open_agreeing
from guided_attention.errors import ArgumentError, DataError
from guided_attention.labels import LabelSpec
from guided_attention.recipes._plan_records import absolute
from guided_attention.recipes.plan import Plan

__all__ = ["Data", "Reader", "Source", "cases_of_plan", "source_of"]

Reader = Callable[[], Case]
Data = PathLike | Cohort | Sequence[Case]


@dataclass(frozen=True)
class Source:
    """Cases by name.

    Attributes:
        folder: Where they lie; None in memory.
        layout: How the folder is laid out.
        labels: What is known of their labels.
        case_ids: All names.
        labelled: Names of those with a reference.
        parts: Names by part, where the layout says it.
        read: Reads one.
        cohort: The cases on disk; None in memory.
    """

    folder: str | None
    layout: str
    labels: LabelSpec | None
    case_ids: tuple[str, ...]
    labelled: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]]
    read: Callable[[str], Case]
    cohort: Cohort | None = None

    def require(self, case_ids: Sequence[str]) -> None:
        """Raise for a name that is not there."""
        there = set(self.case_ids)
        missing = [name for name in case_ids if name not in there]
        wanted, got = f"with the case {', '.join(missing[:1])}", f"{cut_list(self.case_ids)}"
        cure = "Put the scan back, or make a new plan."
        require(not missing, f"{self.folder or 'cases'}", wanted, got, cure, error=DataError)

    def readers(self, case_ids: Sequence[str]) -> list[Reader]:
        """Return a function for each case that reads it; raise for a name that is not there."""
        self.require(case_ids)
        return [_NamedReader(name, self.read) for name in case_ids]


@dataclass(frozen=True)
class _NamedReader:
    """Reads a case whose name is known before."""

    case_id: str
    read: Callable[[str], Case]

    def __call__(self) -> Case:
        """Read it."""
        return self.read(self.case_id)


def source_of(
    data: object,
    labels: LabelSpec | None = None,
    *,
    opening: Opening | None = None,
    image_only: bool = False,
) -> Source:
    """Return the cases of a folder, a `Cohort` or a sequence of cases, without reading a volume.

    Organs that are known of the scans have to agree with `labels`, unless masks are not read.
    """
    if isinstance(data, (str, os.PathLike)):
        how = opening or Opening()
        data = how.open(data, labels) if labels is None or image_only else open_agreeing(data, labels, how)
    elif isinstance(data, Cohort) and labels is not None and not image_only:
        require_same_organs(labels, data.labels, data.folder)
    if isinstance(data, Cohort):
        if image_only:
            data = replace(data.without_labels(), labels=data.labels if labels is None else labels)
        elif labels is not None:
            data = data.with_labels(labels)
        return Source(
            folder=absolute(data.folder),
            layout=data.layout,
            labels=data.labels,
            case_ids=data.case_ids,
            labelled=data.labelled,
            parts=data.parts,
            read=data.read,
            cohort=data,
        )
    return _in_memory(data, labels)


def _in_memory(data: object, labels: LabelSpec | None) -> Source:
    wanted = "a folder, a Cohort or a list of cases"
    require_type("data", data, Sequence, wanted)
    cases: dict[str, Case] = {}
    for case in data if isinstance(data, Sequence) else ():
        require_type("data", case, Case, wanted)
        require(case.case_id not in cases, "data", "of cases of different names", f"two of {case.case_id!r}")
        cases[case.case_id] = case
    require(bool(cases), "data", "at least one case", "none", error=DataError)
    labelled = tuple(name for name, case in cases.items() if case.labels is not None)
    return Source(None, "memory", labels, tuple(cases), labelled, {}, cases.__getitem__)


def cases_of_plan(
    plan: Plan, cases: object = None, *, labels: LabelSpec | None = None, image_only: bool = False
) -> Source:
    """Return the cases of a plan: those of its folder, or `cases`, which a plan for cases in memory needs.

    `labels` are those of a trained network, whatever the plan says by now.
    """
    organs = plan.labels if labels is None else labels
    if cases is not None:
        return source_of(cases, organs)
    if plan.data.folder is None:
        message = "`cases` must be given for a plan that was made for cases in memory, got None."
        raise ArgumentError(message, argument="cases")
    # The plan says what the values of this folder are: names of its own may have been replaced when it was made.
    cohort = plan.data.opening.open(plan.data.folder, organs)
    return source_of(cohort, organs, image_only=image_only)
