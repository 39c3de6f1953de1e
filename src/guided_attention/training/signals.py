"""Signals that end a run: the step is finished first, and the state stored."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from guided_attention._distributed import hurry, numbers_of_all
from guided_attention.errors import TrainingInterrupted

__all__ = ["Interruption", "held_back"]

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def held_back() -> Iterator[None]:
    """Hold signals back for the block, and for ever in processes that are started in it.

    Workers of a loader that start so outlive a signal to the whole group of processes, and the step can be finished;
    they end with the process that started them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Interruption:
    """Notes SIGTERM, SIGINT and SIGHUP while it is entered; a second SIGINT is a `KeyboardInterrupt`.

    Only the main thread receives signals: elsewhere nothing is noted. One that is ignored, as by ``nohup``, stays so.

    Args:
        run_dir: For the error.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._before: dict[int, object] = {}
        self._process = os.getpid()
        self._waiting = False
        self.name: str | None = None

    def __enter__(self) -> "Interruption":  # noqa: PYI034 - beartype does not know Self
        """Take the signals."""
        hurry(now=False)  # after a signal to an earlier training of this process
        if threading.current_thread() is threading.main_thread():
            taken = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in taken}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as it was

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal interrupt the block: all is stored."""
        self.check()
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def share(self) -> bool:
        """Tell the other processes of a signal, and take theirs; return the same on all, whether there was one."""
        mine = 0 if self.name is None else signal.Signals[self.name]
        first = next((int(number) for (number,) in numbers_of_all([mine]) if number), None)
        if first is not None:
            self.name = self.name or signal.Signals(first).name
        return first is not None

    def check(self) -> None:
        """Raise if there was a signal."""
        if self.name is not None:
            raise TrainingInterrupted(self._run_dir)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked process of the user
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
        hurry()
        if self._waiting:
            self.check()
