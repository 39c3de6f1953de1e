"""Cases that are as in a clean cohort are not measured again: that would take most of the time of the tests."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from guided_attention.data import Cohort
from guided_attention.data.checks import report
from guided_attention.data.checks._facts import CaseFacts, facts_of
from guided_attention.data.layouts._records import Scan


def facts_by_content(cohorts: Iterable[Cohort]) -> Mapping[bytes, CaseFacts]:
    """Return what is noted of each case, by the names and bytes of its files."""
    return {_content(scan): facts_of(scan) for cohort in cohorts for scan in cohort.scans}


def remember(known: Mapping[bytes, CaseFacts], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what is known of cases whose files are the same."""

    def facts(scan: Scan) -> CaseFacts:
        same = known.get(_content(scan))
        if same is None:
            return facts_of(scan)
        mask = scan.beside[-1] if scan.is_labelled and scan.beside else scan.path
        return replace(same, file=scan.path, mask=mask)

    monkeypatch.setattr(report, "facts_of", facts)


def _content(scan: Scan) -> bytes:
    files = [file for file in scan.files() if file.is_file()]
    return b"".join([scan.case_id.encode(), *(file.name.encode() + file.read_bytes() for file in files)])
