"""The verbs of the command line that read scans before there is a run: check, convert and plan."""

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from guided_attention._checks import counted, cut_list, repeated, require
from guided_attention._cli_report import DONE, FAILED, print_json, say, shell_words, tell
from guided_attention.errors import ArgumentError

if TYPE_CHECKING:
    from guided_attention.data import Cohort, Opening

__all__ = ["check", "convert", "plan"]


def check(arguments: argparse.Namespace) -> int:
    """List what looks wrong in a folder of scans."""
    from guided_attention.data import check as check_data  # noqa: PLC0415

    pattern = None if arguments.patient is None else _pattern(arguments.patient)
    labels, opening = _organs(arguments.organ), _opening(arguments)
    names: list[str] = []

    def on_case(name: str) -> None:
        names.append(name)
        tell(name)

    report = check_data(
        arguments.data,
        labels=labels,
        opening=opening,
        patients=None if pattern is None else partial(_patient, pattern),
        workers=arguments.workers,
        on_case=on_case,
    )
    if arguments.json:
        print_json(report.to_dict(), indent=2)
    else:
        say(shell_words(str(report), arguments.verb))
    if pattern is not None and names:
        _patients(pattern, names)
    return FAILED if report.errors or (arguments.strict and report.warnings) else DONE


def convert(arguments: argparse.Namespace) -> int:
    """Write a folder of scans in another layout."""
    from guided_attention.data import convert as convert_data  # noqa: PLC0415

    cohort = _opened(arguments)
    folder = convert_data(cohort, arguments.out, arguments.to, workers=arguments.workers, on_case=tell)
    say(f"Wrote {counted(len(cohort), 'case')} and manifest.json to {folder}")
    return DONE


def plan(arguments: argparse.Namespace) -> int:
    """Choose all settings from the scans, and write them into a run folder."""
    from guided_attention._files import made_folder, refuse_filled  # noqa: PLC0415
    from guided_attention.recipes import check_values, plan_for  # noqa: PLC0415
    from guided_attention.recipes.plan import PLAN_FILE  # noqa: PLC0415

    values = dict(arguments.set)
    check_values(values)
    run = Path(arguments.out)
    refuse_filled(run)
    pattern = None if arguments.patient is None else _pattern(arguments.patient)
    cohort = _opened(arguments)
    patients = None if pattern is None else _patients(pattern, cohort.case_ids)
    made_folder(run, "out")
    chosen = plan_for(
        cohort,
        minutes=arguments.minutes,
        seed=arguments.seed,
        device=arguments.device,
        patients=patients,
        dimensions=arguments.dimensions,
    )
    chosen = chosen.with_values(values)
    path = chosen.save(run / PLAN_FILE)
    if arguments.json:
        print_json(chosen.to_dict(), indent=2)
        return DONE
    settings = chosen.to_dict()
    for key, reason in chosen.reasons.items():
        say(f"{key} = {_value_at(settings, key)}  ({reason})")
    say(f"Wrote {path}. Next: guided-attention train {shlex.quote(str(run))}")
    return DONE


def _pattern(text: str) -> re.Pattern[str]:
    """Return the regular expression whose first group is the patient in the name of a case."""
    try:
        compiled = re.compile(text)
    except re.error as error:
        message = f"`--patient` must be a regular expression, got {text!r} ({error})."
        raise ArgumentError(message, argument="patient") from error
    if compiled.groups == 0:
        message = f"`--patient` must have a group in brackets, such as '(.*)_scan', got {text!r}."
        raise ArgumentError(message, argument="patient")
    return compiled


def _patient(pattern: re.Pattern[str], case_id: str) -> str:
    """Return the patient of a case: one whose name does not match is of a patient of its own."""
    found = pattern.search(case_id)
    return case_id if found is None else found[1] or ""


def _patients(pattern: re.Pattern[str], case_ids: Sequence[str]) -> dict[str, str]:
    """Return the patient of each case, and say how many there are; raise for a pattern that finds none."""
    found = {name: _patient(pattern, name) for name in case_ids}
    others = [name for name in case_ids if pattern.search(name) is None]
    empty = [name for name, patient in found.items() if not patient]
    got, cure = f"'{pattern.pattern}', which", "`guided-attention check` lists the names."
    wanted = "a pattern that the names of cases match"
    require(len(others) < len(case_ids), "--patient", wanted, f"{got} fits none, such as {case_ids[0]}", cure)
    wanted = "a pattern whose group is the patient"
    require(not empty, "--patient", wanted, f"{got} finds an empty text in {cut_list(empty)}", cure)
    alone = f"; each a patient of its own, as the pattern does not fit: {cut_list(others)}" if others else ""
    patients = counted(len(set(found.values())), "patient")
    tell(f"{counted(len(case_ids), 'case is', 'cases are')} of {patients}{alone}")
    return found


def _opening(arguments: argparse.Namespace) -> "Opening":
    """Return how the scans are opened."""
    from guided_attention.data import Opening  # noqa: PLC0415

    spacing, channels = arguments.spacing, arguments.channel
    return Opening(
        arguments.layout,
        None if spacing is None else (spacing[0], spacing[1], spacing[2]),
        None if channels is None else tuple(channels),
        arguments.resample_channels,
        Opening.max_bytes if arguments.max_bytes is None else arguments.max_bytes,
        arguments.series,
    )


def _opened(arguments: argparse.Namespace) -> "Cohort":
    """Open the scans, with a warning of options that change nothing."""
    from guided_attention.data import open_cohort  # noqa: PLC0415

    return open_cohort(arguments.data, labels=_organs(arguments.organ), **vars(_opening(arguments)))


def _organs(named: Sequence[tuple[int, str]]) -> dict[int, str] | None:
    """Return the organs of `--organ` by value; None without any."""
    twice = repeated(value for value, _ in named)
    require(not twice, "--organ", "of different values", f"{cut_list(twice)} more than once")
    return dict(named) or None


def _value_at(settings: Mapping[str, object], key: str) -> object:
    """Return the value of a dotted key, and the number of values in a list that is long."""
    value: object = settings
    for name in key.split("."):
        value = value.get(name, "") if isinstance(value, Mapping) else ""
    is_long = isinstance(value, (list, Mapping)) and len(str(value)) > 60  # noqa: PLR2004
    return counted(len(value), "value") if is_long and isinstance(value, (list, Mapping)) else value
