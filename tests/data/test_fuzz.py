"""A short run of the fuzz over every reader; `python -m tests.data.fuzz` is the long one."""

import time
from pathlib import Path

import numpy as np
import pytest
from tests.data import fuzz
from tests.data.doors import DOORS, Door

from guided_attention.errors import DataError

SLOW = {"chaos case": 2, "cohort of chaos": 2, "cohort of png": 5, "png": 5}


@pytest.mark.parametrize("name", DOORS)
def test_damaged_files_raise_our_errors_only(tmp_path, name):
    tally = fuzz.run(fuzz.targets(tmp_path, [name]), range(SLOW.get(name, 12)), 7, lambda _tally: None)
    assert tally.faults == []
    assert tally.inputs == tally.accepted + tally.refused == SLOW.get(name, 12)


def _write(folder: Path, _shape) -> None:
    (folder / "a.gz").write_bytes(b"0123456789" * 9)


def _foreign(folder: Path, _limit):
    if (folder / "a.gz").read_bytes() != b"0123456789" * 9:
        raise KeyError("a")
    return [np.zeros(3)]


def _blind(folder: Path, _limit):
    return [np.frombuffer((folder / "a.gz").read_bytes(), np.uint8)]


def _nameless(folder: Path, limit):
    if (folder / "a.gz").read_bytes() != b"0123456789" * 9:
        raise DataError("`file` must be whole.")
    return _blind(folder, limit)


def _endless(folder: Path, _limit):
    if (folder / "a.gz").read_bytes() != b"0123456789" * 9:
        time.sleep(9)
    return [np.zeros(3)]


@pytest.mark.parametrize(
    ("read", "wanted"),
    [
        (_foreign, "KeyError: 'a'"),
        (_blind, "changed voxels were accepted"),
        (_nameless, "no file in `file` must be whole."),
        (_endless, "more than 0.1 s"),
    ],
)
def test_the_fuzz_sees_what_a_reader_does_wrong(tmp_path, monkeypatch, read, wanted):
    monkeypatch.setitem(DOORS, "odd", Door(_write, read, (".gz",)))
    monkeypatch.setattr(fuzz, "SECONDS", 0.1)
    monkeypatch.setattr(fuzz, "repacked", lambda content, change: bytes(change(bytearray(content))))
    tally = fuzz.run(fuzz.targets(tmp_path, ["odd"]), range(4), 1, lambda _tally: None)
    assert tally.inputs == 4
    assert any(wanted in fault for fault in tally.faults)
    assert (tmp_path / "odd/a.gz").read_bytes() == b"0123456789" * 9  # and is mended after each
