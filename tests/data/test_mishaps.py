"""Each mishap with the files of each reader: the right value, or a message with the file."""

import re
import shutil

import numpy as np
import pytest
from tests.data.doors import DOORS, SHAPE, quiet
from tests.data.mishaps import MISHAPS, PAGE, SAME, rows, says

SLOW = ("chaos", "png")
"""Readers of many files: the last is tried."""


def _is_read(path):
    return path.name != "phantom.json" and "T2SPIR" not in path.parts


def test_the_page_lists_them():
    assert set(rows()) <= set(PAGE.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("name", DOORS)
def test_each_mishap_is_met_by_each_reader(tmp_path, name):
    door = DOORS[name]
    door.write(tmp_path, SHAPE)
    wanted = quiet(door.read, tmp_path, 2**30)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and _is_read(path))
    tried = [files[-1]] if any(word in name for word in SLOW) else [files[0], files[-1]]
    for mishap in MISHAPS:
        for path in (path for path in dict.fromkeys(tried) if mishap.fits(path)):
            whole, got = path.read_bytes(), []
            made = mishap.happen(path)
            message, error = says(lambda got=got: got.extend(quiet(door.read, tmp_path, 2**30)))
            where = f"{mishap.sentence} {path.name}: {message}"
            if error is not None:
                assert mishap.wanted != SAME, where
                assert re.search(mishap.wanted, message), where
                assert error.file is not None or str(path) in message, where
            else:  # nothing silent: only what does no harm is taken
                assert len(got) == len(wanted), where
                assert all(map(np.array_equal, got, wanted)), where
                assert mishap.wanted == SAME or "^$" in mishap.wanted, where
            for other in made:
                shutil.rmtree(other) if other.is_dir() else other.unlink()
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
