"""A folder of predictions and its ledger: one line a case, so that a killed run can be resumed."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from guided_attention._checks import require, require_path, require_type
from guided_attention._files import DRAFT_PREFIX, PathLike
from guided_attention.case import Case
from guided_attention.errors import ArgumentError, DataError, ExistingFileError
from guided_attention.inference.stream import Failure, Reader, outcomes
from guided_attention.inference.writing import prediction_paths, write_prediction
from guided_attention.outputs import Prediction

__all__ = ["LEDGER", "LedgerEntry", "LedgerStatus", "predict_to", "read_ledger"]

LEDGER = "ledger.jsonl"
_VERSION = 1

LedgerStatus: TypeAlias = Literal["done", "skipped", "failed"]
"""Whether a case was predicted, was complete already, or could not be predicted."""


@dataclass(frozen=True)
class LedgerEntry:
    """The result of one case.

    Attributes:
        case_id: Name of the case; ``"case number 3"`` where it could not be read.
        status: ``"done"``, ``"skipped"`` or ``"failed"``.
        files: SHA-256 of each file written, by name.
        error: Class and message of the error of a failed case, empty otherwise.

    Example:
        >>> LedgerEntry("7", "failed", error="DataError: `image` must be finite.").files
        {}
    """

    case_id: str
    status: LedgerStatus
    files: dict[str, str] = field(default_factory=dict)
    error: str = ""


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
    return list(_Ledger(require_path("folder", folder)).entries.values())


class _Ledger:
    """The lines of one ledger, read once and appended to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        self.identity: str | None = None
        self.entries: dict[str, LedgerEntry] = {}
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.is_file() else []
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last line break was cut short
            self._take(number, line)

    def _take(self, number: int, line: str) -> None:
        where, wanted = f"line {number} of {self.path}", "a line that predict_to wrote"
        try:
            values = json.loads(line)
            entry = None if "version" in values else LedgerEntry(**values)
        except (ValueError, TypeError) as error:
            message = (
                f"`{where}` must be {wanted}, got {line[:60]!r}. Delete the file, or name another folder."
            )
            raise DataError(message, file=self.path) from error
        if entry is not None:
            self.entries[entry.case_id] = entry
            return
        require(
            values["version"] == _VERSION, where, f"of version {_VERSION}", values["version"], error=DataError
        )
        self.identity = values.get("predictor")

    def append(self, values: dict[str, Any]) -> None:
        """Add a line, and wait until it is on the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def discard_cut_line(self) -> None:
        """Remove a last line that a kill has cut short, so that the next one begins on a line of its own."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self.path.write_bytes(whole)

    def is_complete(self, case_id: str, paths: dict[str, Path]) -> bool:
        """Return whether the files of a case are those that its line tells of."""
        entry = self.entries.get(case_id)
        return (
            entry is not None
            and entry.status == "done"
            and all(path.is_file() and entry.files.get(path.name) == _sha256(path) for path in paths.values())
        )


def predict_to(
    predict: Callable[[Case], Prediction],
    cases: Iterable[Reader],
    folder: PathLike,
    *,
    identity: str,
    include_uncertainty: bool,
    resume: bool,
    overwrite: bool,
) -> list[LedgerEntry]:
    """Predict cases into a folder: see `Predictor.predict_to`. `identity` tells predictors apart."""
    require_type("cases", cases, Iterable, "an iterable of cases")
    both = "Resume keeps what is complete, overwrite discards it."
    if resume and overwrite:
        raise ArgumentError(f"`resume` and `overwrite` must not both be set. {both}", argument="resume")
    root = require_path("folder", folder)
    _begin(root, identity, resume=resume, overwrite=overwrite)
    ledger = _Ledger(root)
    ledger.discard_cut_line()
    if ledger.identity is None:
        ledger.append({"version": _VERSION, "predictor": identity})
    run = _Run(predict, ledger, root, include_uncertainty, resume)
    return run.entries(iter(cases))


def _begin(root: Path, identity: str, *, resume: bool, overwrite: bool) -> None:
    root.mkdir(parents=True, exist_ok=True)
    held = [
        path for path in root.iterdir() if path.name == LEDGER or path.name.endswith("_prediction.nii.gz")
    ]
    if held and not (resume or overwrite):
        raise ExistingFileError(
            f"`folder` must be without predictions, got {root}, which holds {held[0].name}. "
            "Set resume=True to continue, overwrite=True to discard them, or name another folder.",
            argument="folder",
            file=root,
        )
    known = _Ledger(root).identity if resume else None
    cure = "Name another folder, or set overwrite=True."
    same = known is None or known == identity
    require(
        same,
        "folder",
        "begun with this predictor",
        "predictions of another",
        cure,
        error=DataError,
        file=root,
    )
    for path in root.iterdir():
        if path.name.startswith(DRAFT_PREFIX) or (overwrite and path in held):
            path.unlink()


@dataclass
class _Run:
    """One call: predicts and writes what is not complete yet."""

    predict: Callable[[Case], Prediction]
    ledger: _Ledger
    root: Path
    include_uncertainty: bool
    resume: bool

    def entries(self, cases: Iterator[Reader]) -> list[LedgerEntry]:
        """Return one entry a case. A prediction is written while the next case is predicted."""
        found: list[LedgerEntry] = []
        written: Future[LedgerEntry] | None = None
        seen: set[str] = set()
        with ThreadPoolExecutor(1) as writer:
            results = outcomes(self._predicted_once(seen), cases)
            try:
                for number, result in enumerate(results, start=1):
                    if written is not None:
                        found.append(written.result())
                    written = writer.submit(self._settled, result, number)
                if written is not None:
                    found.append(written.result())
            finally:
                results.close()
        return found

    def _predicted_once(self, seen: set[str]) -> Callable[[Case], Prediction | LedgerEntry]:
        def predict(case: Case) -> Prediction | LedgerEntry:
            name = case.case_id
            cure = "Give each case an id of its own: one prediction would replace the other."
            require(name not in seen, "cases", "of different ids", f"two of {name!r}", cure, error=DataError)
            seen.add(name)
            paths = self._paths(name)
            if self.resume and self.ledger.is_complete(name, paths):
                return LedgerEntry(name, "skipped", self.ledger.entries[name].files)
            return self.predict(case)

        return predict

    def _paths(self, case_id: str) -> dict[str, Path]:
        return prediction_paths(case_id, self.root, include_uncertainty=self.include_uncertainty)

    def _settled(self, result: Prediction | LedgerEntry | Failure, number: int) -> LedgerEntry:
        """Write a prediction, and a line of the ledger after its files."""
        if isinstance(result, LedgerEntry):
            return result
        if isinstance(result, Failure):
            name = f"case number {number}" if result.case_id is None else result.case_id
            entry = LedgerEntry(name, "failed", error=f"{type(result.error).__name__}: {result.error}")
        else:
            paths = self._paths(result.case_id)
            write_prediction(result, paths)
            entry = LedgerEntry(result.case_id, "done", {path.name: _sha256(path) for path in paths.values()})
        self.ledger.append(asdict(entry))
        return entry


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
