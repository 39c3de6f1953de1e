"""The files of one run: written atomically, the last few states kept, a damaged one passed over."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from guided_attention._checkpoints import load_checkpoint, save_checkpoint
from guided_attention._files import draft_of, made_folder, require_space, sweep_drafts, writing
from guided_attention.errors import CheckpointError, ExistingFileError, MissingFileError
from guided_attention.training.log import write_log

__all__ = ["BEST", "LAST", "LOG", "RunFolder", "files_of_run", "require_no_run", "size_of"]

LOG, LAST, BEST = "log.csv", "last.pt", "best.pt"
_FILES = (LOG, BEST, "run.json")


def files_of_run(folder: Path) -> list[str]:
    """Return the names of the files that only a run leaves, as far as they are in a folder."""
    return [name for name in (LOG, LAST, BEST) if (folder / name).exists()]


def require_no_run(folder: Path) -> None:
    """Raise where a folder already holds a run."""
    held = files_of_run(folder)
    if held:
        message = f"`run_dir` must be a folder without a run, got {folder}, which holds {', '.join(held)}. "
        cure = "Set resume=True to continue it, or name another folder."
        raise ExistingFileError(message + cure, argument="run_dir", file=folder)


def size_of(contents: object) -> int:
    """Return the bytes of all tensors in nested containers, about what a checkpoint of them takes.

    >>> import torch
    >>> size_of({"weight": torch.zeros(3), "rest": [torch.zeros(2, dtype=torch.float64), "text"]})
    28
    """
    if isinstance(contents, Tensor):
        return contents.numel() * contents.element_size()
    parts: Iterable[object] = ()
    if isinstance(contents, Mapping):
        parts = contents.values()
    elif isinstance(contents, (list, tuple)):
        parts = contents
    return sum(size_of(part) for part in parts)


class RunFolder:
    """``log.csv``, ``last.pt``, the states before it and ``best.pt`` of one run.

    Args:
        path: The folder.
        keep: States to keep: ``last.pt``, ``last-1.pt`` and so on.
    """

    def __init__(self, path: Path, *, keep: int) -> None:
        self.path = path
        self._states = [path / LAST, *(path / f"last-{number}.pt" for number in range(1, keep))]

    def require_state(self) -> None:
        """Raise where there is no state to resume from."""
        if not self._stored():
            message = f"`path` must be a checkpoint, got {self.path / LAST}, which is no file. "
            cure = "Check the name of the run folder, or begin the run: fit()."
            raise MissingFileError(message + cure, argument="path", file=self.path / LAST)

    def prepare(self, state: int, best: int) -> None:
        """Sweep the drafts of killed processes, and raise unless the states to come can be written.

        Args:
            state: Bytes of a state.
            best: Bytes of ``best.pt``.
        """
        made_folder(self.path, "run_dir")
        for path in (*self._states, *(self.path / name for name in _FILES)):
            if path.is_dir():
                message = f"`run_dir` must have a file or nothing as {path.name}, got the folder {path}. Move it away."
                raise ExistingFileError(message, argument="run_dir", file=path)
        sweep_drafts(self.path)
        held = sum(path.stat().st_size for path in {*self._states, self.path / BEST} if path.is_file())
        require_space(self.path, (len(self._states) + 1) * state + 2 * best - held, "run_dir")

    def save_last(self, contents: Mapping[str, object]) -> None:
        """Write ``last.pt``; the one before becomes ``last-1.pt``. At every moment there is a whole ``last.pt``."""
        last = self._states[0]
        draft = draft_of(last)
        save_checkpoint(draft, contents)
        with writing(last):
            self._rotate()
            draft.replace(last)

    def _rotate(self) -> None:
        """Move each state to the place of the one before it; ``last.pt`` stays where it is, too."""
        last, *older = self._states
        if not older or not last.exists() or (older[0].exists() and older[0].samefile(last)):
            return  # nothing to keep, or done by a process that was killed then
        for target, source in zip(older[:0:-1], older[-2::-1], strict=True):
            if source.exists():
                source.replace(target)
        copy = draft_of(older[0])
        _link(last, copy)
        copy.replace(older[0])

    def save_best(self, contents: Mapping[str, object]) -> None:
        """Write ``best.pt``."""
        save_checkpoint(self.path / BEST, contents)

    def save_log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write ``log.csv``."""
        write_log(self.path / LOG, rows)

    def load_last(self, say: Callable[[str], None]) -> tuple[dict[str, Any], Path]:
        """Return the newest state that is whole and its file; `say` is told of damaged ones, which are set aside.

        Raises:
            MissingFileError: There is none.
            CheckpointError: All are damaged.
        """
        self.require_state()
        stored = self._stored()
        if stored[0] != self._states[0]:
            say(f"{self._states[0]} is missing: {stored[0].name} is used.")
        for number, path in enumerate(stored):
            try:
                contents = load_checkpoint(path)
            except CheckpointError as error:
                if number + 1 == len(stored):
                    raise
                say(f"{error} {stored[number + 1].name}, the state before it, is used.")
            else:
                for damaged in stored[:number]:  # else the next state would push the whole one out
                    damaged.replace(damaged.with_name(f"{damaged.name}.damaged"))
                return contents, path
        raise AssertionError  # the last one returns or raises

    def has_best(self) -> bool:
        """Whether ``best.pt`` is there and whole."""
        try:
            load_checkpoint(self.path / BEST)
        except (MissingFileError, CheckpointError):
            return False
        return True

    def _stored(self) -> list[Path]:
        """Return the states that are there, the newest first; more than are kept now, if more were kept before."""
        older = sorted(self.path.glob("last-*.pt"), key=_number)
        return [path for path in (self._states[0], *older) if path.is_file()]


def _number(path: Path) -> int:
    text = path.stem.removeprefix("last-")
    return int(text) if text.isascii() and text.isdecimal() else 10**9


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without hard links
        shutil.copyfile(source, target)
