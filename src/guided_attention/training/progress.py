"""How training tells where it stands: a bar on a terminal, plain lines everywhere else."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from guided_attention._distributed import rank

__all__ = ["Event", "Hook", "Progress", "Status", "Stream", "format_duration", "format_status"]

Event: TypeAlias = Literal["step", "validation", "epoch"]
"""What has just been done."""

_SECONDS_BETWEEN_LINES = 30.0


@runtime_checkable
class Stream(Protocol):
    """Where reports go: a file, a terminal, the cell of a notebook."""

    def write(self, text: str, /) -> int:
        """Take text."""
        ...

    def flush(self) -> None:
        """Let it be seen."""
        ...

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        ...


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a training run stands.

    Attributes:
        epoch: Number of the epoch, from 1.
        batch: Batches of this epoch that are done.
        share: Share of the whole run that is done, 0 to 1.
        learning_rate: Of the first group of parameters.
        losses: The loss and its parts by name: means over this epoch so far.
        score: Validation score of this epoch, None where there was no validation.
        best_score: The best one so far.
    """

    epoch: int
    batch: int
    share: float
    learning_rate: float
    losses: Mapping[str, float]
    score: float | None = None
    best_score: float | None = None


Hook: TypeAlias = Callable[[Event, Status], None]
"""Function that is called after each step, validation and epoch: ``hook("epoch", status)``, see `Status`."""


def format_duration(seconds: float) -> str:
    """Write a time in the two units that matter.

    >>> [format_duration(seconds) for seconds in (7.4, 185.0, 3725.0)]
    ['7 s', '3 min 05 s', '1 h 02 min']
    """
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_status(status: Status, *, epochs: int, batches: int | None, seconds_left: float) -> str:
    """Write a status as one line.

    >>> status = Status(epoch=3, batch=12, share=0.1, learning_rate=0.001, losses={"loss": 0.5})
    >>> format_status(status, epochs=100, batches=40, seconds_left=185.0)
    'epoch 3/100  batch 12/40  loss 0.5000  lr 0.001  ETA 3 min 05 s'
    """
    of_all = "" if batches is None else f"/{batches}"
    parts = [f"epoch {status.epoch}/{epochs}", f"batch {status.batch}{of_all}"]
    parts += [f"{name} {value:.4f}" for name, value in status.losses.items()]
    if status.score is not None and status.best_score is not None:
        parts.append(f"validation {status.score:.4f} (best {status.best_score:.4f})")
    parts += [f"lr {status.learning_rate:.3g}", f"ETA {format_duration(seconds_left)}"]
    return "  ".join(parts)


class Progress:
    """Reports a run while it goes on: a bar where tqdm is installed and the stream is a terminal, else lines.

    Lines come once an epoch, and in long epochs every half a minute. A stream that is closed or missing ends the
    reports, never the run. Of several processes, only the first reports. `close` it at the end.

    Args:
        epochs: Epochs of the whole run.
        batches: Batches of one epoch, None where that is not known.
        quiet: Report nothing; `say` still says what a user must know.
        stream: Where to write, by default standard error.
        clock: Returns seconds.
    """

    def __init__(
        self,
        *,
        epochs: int,
        batches: int | None,
        quiet: bool = False,
        stream: Stream | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._epochs = epochs
        self._batches = batches
        self._quiet = quiet
        self._clock = clock
        self._stream: Stream | None = None if rank() > 0 else stream if stream is not None else sys.stderr
        self._started = self._last_line = clock()
        self._share_at_start = 0.0
        self._bar: Any = None
        if not quiet:
            self._safely(self._open_bar)

    def close(self) -> None:
        """Close the bar, so that what is written next starts on a line of its own."""
        if self._bar is not None:
            self._safely(self._bar.close)

    def count_from(self, share: float) -> None:
        """Take this share of the run as done before: a run that is resumed does not take its time again."""
        self._share_at_start = share

    def batch(self, status: Status) -> None:
        """Report after a batch."""
        if self._bar is not None:
            self._safely(lambda: self._update_bar(status))
        elif self._clock() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self.epoch(status)

    def epoch(self, status: Status) -> None:
        """Report after an epoch."""
        self._last_line = self._clock()
        if not self._quiet:
            self.say(self._line(status))

    def say(self, text: str) -> None:
        """Write a line."""
        self._safely(lambda: self._write(text))

    def _safely(self, report: Callable[[], object]) -> None:
        """Report, or stop reporting where nobody can read it any more."""
        if self._stream is None:
            return
        try:
            report()
        except (OSError, ValueError):  # the reader of a pipe is gone; the stream is closed
            self._stream = self._bar = None

    def _open_bar(self) -> None:
        if isinstance(self._stream, Stream) and self._stream.isatty():
            self._bar = _bar(self._stream)

    def _update_bar(self, status: Status) -> None:
        self._bar.update(status.share - self._bar.n)
        self._bar.set_postfix_str(self._line(status), refresh=False)

    def _write(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self._stream is not None:
            self._stream.write(text + "\n")
            self._stream.flush()

    def _line(self, status: Status) -> str:
        seconds_left = self._seconds_left(status.share)
        return format_status(status, epochs=self._epochs, batches=self._batches, seconds_left=seconds_left)

    def _seconds_left(self, share: float) -> float:
        done = share - self._share_at_start
        return (self._clock() - self._started) * (1.0 - share) / done if done > 0 else 0.0


def _bar(stream: Stream) -> Any:  # noqa: ANN401
    """Return a bar of tqdm, or None where tqdm is not installed."""
    try:
        from tqdm import tqdm  # noqa: PLC0415
    except ModuleNotFoundError:
        return None
    return tqdm(total=1.0, file=stream, bar_format="{percentage:3.0f}%|{bar:20}| {postfix}")
