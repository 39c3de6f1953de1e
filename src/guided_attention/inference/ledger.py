"""The ledger of a folder of predictions: one line a case, so that a killed run can be resumed."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from guided_attention._checks import require, require_choice, require_path, require_type
from guided_attention._files import PathLike, replacing, sha256_of_file, writing
from guided_attention.errors import ArgumentTypeError, DataError
from guided_attention.inference.shard import CasesOfShards

__all__ = ["LEDGER", "LEDGER_VERSION", "Ledger", "LedgerEntry", "LedgerStatus", "hash_of", "read_ledger"]

LEDGER = "ledger.jsonl"
LEDGER_VERSION = 1

LedgerStatus: TypeAlias = Literal["done", "skipped", "failed"]
"""Whether a case was predicted, was complete already, or could not be predicted."""


@dataclass(frozen=True)
class LedgerEntry:
    """The result of one case.

    Attributes:
        case_id: Name of the case; ``"case number 3"`` where it could not be read and its reader has no `case_id`, or
            where an earlier case has its name.
        status: ``"done"``, ``"skipped"`` or ``"failed"``.
        files: SHA-256 of each file written, by name; empty for a file that could hold nothing (DICOM without organs).
            Those of the last prediction where the case could not be read again; those written before it failed.
        scan: SHA-256 of the scan that was predicted, empty where there is no prediction.
        error: Class and message of the error of a failed case, empty otherwise.

    Example:
        >>> LedgerEntry("7", "failed", error="DataError: `image` must be finite.").files
        {}
    """

    case_id: str
    status: LedgerStatus
    files: dict[str, str] = field(default_factory=dict)
    error: str = ""
    scan: str = ""

    def __post_init__(self) -> None:
        """Check the types: entries are read from files."""
        for name in ("case_id", "status", "error", "scan"):
            require_type(name, getattr(self, name), str, "a text")
        require_choice("status", self.status, get_args(LedgerStatus))
        wanted = "a mapping from file name to SHA-256"
        require_type("files", self.files, dict, wanted)
        texts = all(isinstance(part, str) for pair in self.files.items() for part in pair)
        require(texts, "files", wanted, self.files, error=ArgumentTypeError)


def read_ledger(folder: PathLike) -> list[LedgerEntry]:
    """Return the last entry of each case of a folder that `Predictor.predict_to` wrote.

    Args:
        folder: The folder; one without a ledger gives an empty list.

    Raises:
        DataError: The ledger is damaged or of a newer version. A last line that a kill has cut short is ignored.

    Example:
        >>> import tempfile
        >>> read_ledger(tempfile.mkdtemp())
        []
    """
    return list(Ledger(require_path("folder", folder)).entries.values())


class Ledger:
    """The lines of one ledger, read once and appended to.

    Attributes:
        path: The file.
        entries: The last entry of each case.
        written: Names of all files that its lines tell of, those of earlier tries too.
        identity: The predictor that it was begun with, None where it has not been begun.
        expected: Cases of a shard, where that was known at its beginning.
        of: The cases that it is a shard of, as far as they were known then; older versions did not write them.
        finished: The cases of a shard in their order, once it has come to its end.
    """

    def __init__(self, folder: Path, *, discards: bool = False) -> None:
        """Read the lines. Where the folder is to be discarded, damaged lines of a ledger of ours are left out."""
        self.path = folder / LEDGER
        self.identity: str | None = None
        self.expected: int | None = None
        self.of = CasesOfShards()
        self.finished: list[str] | None = None
        self.entries: dict[str, LedgerEntry] = {}
        self.written: set[str] = set()
        *lines, _cut_short = self._content().split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                self._take(number, line.decode(errors="replace"))
            except DataError:
                # A power cut leaves NUL bytes, which no text has; other damage is ours below the line of a beginning.
                if not (discards and (b"\0" in line or self.identity is not None)):
                    raise

    def _content(self) -> bytes:
        """Return what the file holds; a folder, a pipe or a device is none."""
        if not self.path.exists():
            return b""
        try:
            if self.path.is_file():
                return self.path.read_bytes()
            reason = "it is no regular file"
        except OSError as error:
            reason = str(error.strerror)
        message = f"`folder` must be one whose {LEDGER} can be read, got {self.path.parent} ({reason})."
        raise DataError(f"{message} Name another folder.", argument="folder", file=self.path)

    def _take(self, number: int, line: str) -> None:
        where, wanted = f"line {number} of {self.path}", "a line that predict_to wrote"
        try:
            values = json.loads(line)
            begins = isinstance(values, dict) and "version" in values
            entry = None if begins else LedgerEntry(**values)
        except (ValueError, TypeError, RecursionError) as error:
            cure = "Move it and the predictions beside it, or name another folder."
            message = f"`{where}` must be {wanted}, got {line[:60]!r}. {cure}"
            raise DataError(message, file=self.path) from error
        if entry is not None:
            self.entries[entry.case_id] = entry
            self.written |= entry.files.keys()
            return
        require(
            values["version"] == LEDGER_VERSION,
            where,
            f"of version {LEDGER_VERSION}",
            values["version"],
            error=DataError,
        )
        self.identity = values.get("predictor")
        self.expected = values.get("expected", self.expected)
        self.of = CasesOfShards(values.get("total"), values.get("names"))
        self.finished = values.get("finished")

    def begin(self, identity: str, lines: Iterable[dict[str, Any]] = ()) -> None:
        """Write the whole file anew."""
        header = {"version": LEDGER_VERSION, "predictor": identity}
        with replacing(self.path) as draft:
            draft.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)), encoding="utf-8")

    def append(self, values: dict[str, Any]) -> None:
        """Add a line, and wait until it is on the disk."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def discard_cut_line(self) -> None:
        """Remove a last line that a kill has cut short, so that the next one begins on a line of its own."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with writing(self.path):
                os.truncate(self.path, whole)

    def is_complete(self, case_id: str, scan: str, paths: dict[str, Path]) -> bool:
        """Return whether the files of a case are those that its line tells of, made from this very scan."""
        entry = self.entries.get(case_id)
        return (
            entry is not None
            and bool(entry.files)
            and entry.scan == scan
            and all(entry.files.get(path.name) == hash_of(path) for path in paths.values())
        )


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, empty where there is none."""
    return sha256_of_file(path) if path.is_file() else ""
