"""Which cases train, validate and test: as the layout says, else by chance."""

from collections.abc import Iterable, Mapping

from guided_attention._checks import counted, cut_list, require
from guided_attention.data import Opening, Patients, Split, split_subjects
from guided_attention.data.splits import patient_of
from guided_attention.errors import DataError
from guided_attention.recipes._cases import Source
from guided_attention.recipes._plan_records import DataPlan

__all__ = ["split_of"]

_VAL, _TEST = 0.1, 0.2
_NO_LABELS = (
    "Masks are found by name (x_label beside x_image, or labels/ beside images/): see the page of layouts, or list "
    "images and masks in a CSV file."
)
_ENOUGH = 5
"""Labelled cases from which some are kept for a test."""


def split_of(source: Source, seed: int, patients: Patients | None, why: dict[str, str]) -> DataPlan:
    """Return the parts, all cases of a patient in one, and write down why."""
    where = source.folder or "the list"
    got, cure = f"{len(source.case_ids)} in {where}, none with labels", _NO_LABELS
    require(bool(source.labelled), "data", "of cases with labels to train on", got, cure, error=DataError)
    train, val, test = _parts_of_layout(source) if source.parts else ([*source.labelled], [], [])
    wanted = "with labelled cases in its training part"
    require(bool(train), f"{source.folder or 'data'}", wanted, "none", error=DataError)
    said = "as the layout says" if source.parts else f"by chance, seed {seed}, as the layout has no parts"
    why["data.train"] = (
        f"{said}; without labels: {counted(len(source.case_ids) - len(source.labelled), 'case')}"
    )
    why["data.val"] = why["data.test"] = said
    known = _patients_of(source, patients)
    if not source.parts:
        train, val, test = _by_chance(train, seed, known, with_test=True, why=why)
    elif not val:
        train, val, _ = _by_chance(train, seed, known, with_test=False, why=why)
    validation = () if val == train else tuple(val)  # of a single case: the training case
    _require_no_leak(Split(tuple(train), validation, tuple(test)), known)
    opening = Opening() if source.cohort is None else source.cohort.opening
    return DataPlan(
        folder=source.folder,
        layout=source.layout,
        train=tuple(train),
        val=tuple(val),
        test=tuple(test),
        spacing_mm=opening.spacing_mm,
        channels=opening.channels,
        resample_channels=opening.resample_channels,
        max_bytes=opening.max_bytes,
        series=None if opening.series is None else str(opening.series),
        patients=_several((*train, *validation, *test), known),
    )


def _several(names: Iterable[str], patients: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Return the cases of each patient who has several."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(patients.get(name, name), []).append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _patients_of(source: Source, patients: Patients | None) -> Mapping[str, str]:
    if patients is not None:
        found = {name: patient_of(patients, name) for name in source.case_ids}
        empty = [name for name, patient in found.items() if not patient]
        require(not empty, "patients", "what gives each case a name", f"'' for {cut_list(empty)}")
        return found
    return {} if source.cohort is None else source.cohort.patients


def _require_no_leak(split: Split, patients: Mapping[str, str]) -> None:
    """Raise where the layout puts cases of one patient into two parts."""
    leaks = split.leaks(lambda name: patients.get(name, name))
    wanted, cure = "of patients in one part each", "Move all of a patient's cases to one part."
    require(not leaks, "data", wanted, f"{cut_list(list(leaks))} in several", cure, error=DataError)


def _parts_of_layout(source: Source) -> tuple[list[str], list[str], list[str]]:
    """Return the parts; cases without labels can be predicted, and no more."""
    labelled = set(source.labelled)
    train, val = (
        [name for name in source.parts.get(part, ()) if name in labelled] for part in ("train", "val")
    )
    return train, val, list(source.parts.get("test", ()))


def _by_chance(
    names: list[str], seed: int, patients: Mapping[str, str], *, with_test: bool, why: dict[str, str]
) -> tuple[list[str], list[str], list[str]]:
    of = {name: patients.get(name, name) for name in names}
    count, things = len(set(of.values())), "patients" if patients else "cases"
    if count == 1:
        why["data.val"] = "the only case trains and validates: its score says nothing about other scans"
        if with_test:
            why["data.test"] = "there is no other case"
        return names, names, []
    val = max(1, round(_VAL * count))
    test = max(1, round(_TEST * count)) if with_test and count >= _ENOUGH else 0
    why["data.val"] = f"{val} of {count} {things} by chance, seed {seed}"
    if with_test:
        why["data.test"] = f"{test} of {count} {things} by chance, seed {seed}" + (
            "" if test else f": fewer than {_ENOUGH} have labels"
        )
    split = split_subjects(names, train=count - val - test, val=val, test=test, seed=seed, patients=of)
    return list(split.train), list(split.val), list(split.test)
