"""A folder of predictions after SIGKILL at any moment: resumed, it holds the same files as if nothing had happened."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nibabel")


@pytest.mark.crash
@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
def test_a_run_that_is_killed_at_any_moment_and_resumed_leaves_the_same_files(tmp_path):
    command = [sys.executable, "-m", "tests.inference.kills", str(tmp_path)]
    # As a module of this folder: other packages install tests of their own under that name.
    root = Path(__file__).parents[2]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=500)
    assert finished.returncode == 0, finished.stderr
    calls, kills = map(int, finished.stdout.split())
    assert calls >= 3 * 2 * 4, "each volume is opened, flushed, renamed and hashed"
    assert kills >= 2
