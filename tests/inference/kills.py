"""Run by test_kills.py: predicts into folders, in children that kill themselves, and resumes in other children.

A child of `os.fork` has torch loaded already, so that a hundred of them take seconds.
"""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel.nifti1  # noqa: F401 - loaded here, so that children spend their time on predictions
from tests.inference.conftest import AS_IT_IS, Threshold, scan

from guided_attention._files import DRAFT_PREFIX
from guided_attention.case import Case
from guided_attention.inference import Predictor, read_ledger
from guided_attention.labels import LabelSpec

SMALL = [scan(case_id=f"case {number}", seed=number, shape=(3, 5, 7)) for number in range(3)]
LARGE = [scan(case_id=f"case {number}", seed=number, shape=(7, 211, 223)) for number in range(5)]


def predict(folder: Path, cases: list[Case]) -> None:
    predictor = Predictor(Threshold(), AS_IT_IS, LabelSpec({1: "above"}), device="cpu")
    predictor.predict_to(folder, cases, also=["uncertainty"], resume=True)


def in_child(work: Callable[[], None], *, killed_after: float | None = None) -> bool:
    """Call `work` in a child, and return whether it came to its end and was not killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # nothing may go on as a second parent
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    if killed_after is not None:
        time.sleep(killed_after)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}, code
    return code == 0


def dies_at(number: int, folder: Path, cases: list[Case]) -> None:
    """Predict, and be killed just before the n-th call to the file system about something in the folder."""
    asked = 0

    def watch(_event: str, arguments: tuple[object, ...]) -> None:
        nonlocal asked
        names = [os.fspath(argument) for argument in arguments if isinstance(argument, str | os.PathLike)]
        if any(isinstance(name, str) and name.startswith(str(folder)) for name in names):
            asked += 1
            if asked == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    predict(folder, cases)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "ledger.jsonl"}


def require_honest(folder: Path) -> None:
    """What the ledger calls done is complete, whatever else lies there."""
    whole = {path.name for path in folder.iterdir() if not path.name.startswith(DRAFT_PREFIX)}
    for entry in read_ledger(folder):
        assert entry.status == "done"
        assert entry.files.keys() <= whole


def at_every_call(root: Path) -> int:
    """Kill a run before each of its calls to the file system; return how many there are."""
    wanted = root / "whole"
    assert in_child(partial(predict, wanted, SMALL))
    for number in range(1, 1000):
        folder = root / f"killed {number}"
        is_done = in_child(partial(dies_at, number, folder, SMALL))
        if folder.is_dir():
            require_honest(folder)
        assert in_child(partial(predict, folder, SMALL))
        assert files(folder) == files(wanted), number
        if is_done:
            return number - 1
    raise AssertionError("a run without end")


def at_random(root: Path) -> int:
    """Kill one run again and again, also in the middle of a file; return how often."""
    wanted, folder, moments = root / "whole, large", root / "killed at random", random.Random(0)  # noqa: S311
    since = time.monotonic()
    assert in_child(partial(predict, wanted, LARGE))
    seconds, kills = time.monotonic() - since, 0
    while not in_child(partial(predict, folder, LARGE), killed_after=moments.uniform(0.1, 0.5) * seconds):
        kills += 1
        assert kills < 50, "a resumed run gets no further"
        require_honest(folder)
    assert files(folder) == files(wanted)
    return kills


if __name__ == "__main__":
    print(at_every_call(Path(sys.argv[1])), at_random(Path(sys.argv[1])))
