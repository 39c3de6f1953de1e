"""Prediction of many cases into a folder, where a ledger tells what is done."""

import hashlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeAlias

from guided_attention._checks import cut_list, require, require_type
from guided_attention._files import PathLike, made_folder, sweep_drafts, writing
from guided_attention._locks import locked_folder
from guided_attention.case import Case
from guided_attention.errors import (
    ArgumentError,
    DataError,
    ExistingFileError,
    GuidedAttentionError,
    MissingPackageError,
    WriteError,
)
from guided_attention.inference.ledger import LEDGER, LEDGER_VERSION, Ledger, LedgerEntry, hash_of
from guided_attention.inference.shard import CasesOfShards, Shard, names_of, require_same_cases, shards_in
from guided_attention.inference.stream import Failure, Reader, outcomes
from guided_attention.inference.writing import ENDINGS, PredictionWriter
from guided_attention.outputs import Prediction

__all__ = ["existing_of", "predict_to"]

Existing: TypeAlias = Literal["refuse", "resume", "overwrite"]
"""What becomes of predictions that a folder holds."""


def predict_to(
    predict: Callable[[Case], Prediction],
    cases: Iterable[Reader],
    folder: PathLike,
    *,
    writer: PredictionWriter,
    identity: str,
    existing: Existing,
    shard: Shard | None = None,
    on_case: Callable[[LedgerEntry], None] | None = None,
) -> list[LedgerEntry]:
    """Predict cases into a folder: see `Predictor.predict_to`. `identity` tells predictors apart."""
    require_type("cases", cases, Iterable, "an iterable of cases")
    require_type("shard", shard, (Shard, NoneType), "a Shard", "Write Shard(1, 2) for the first of two.")
    whole = made_folder(folder)
    _require_shards(whole, shard)
    root = whole if shard is None else made_folder(shard.folder(whole))
    of = CasesOfShards.of(cases)
    of_cases = {file for name in names_of(cases) if name for file in writer.names(name).values()}
    with locked_folder(root, doing="predicting into"):
        if shard is not None and existing != "overwrite":
            require_same_cases([*(Ledger(held.folder(whole)).of for held in shards_in(whole)), of])
        if shard is not None and existing == "refuse":
            _require_no_predictions(whole, "Move them, or name another folder.")
        _begin(root, identity, existing, of_cases, in_shards=shard is not None)
        ledger = Ledger(root)
        ledger.discard_cut_line()
        header: dict[str, Any] = {"version": LEDGER_VERSION, "predictor": identity}
        if shard is not None:
            header |= asdict(of)
            ledger.append({**header, "expected": shard.size(cases)})  # and not finished
        elif ledger.identity is None:
            ledger.append(header)
        run = _Run(predict, ledger, root, writer, existing == "resume", shard or Shard(1, 1))
        found = []
        with closing(run.entries(run.shard.part(cases))) as entries:
            for entry in entries:
                found.append(entry)
                if on_case is not None:
                    on_case(entry)
        if shard is not None:
            ledger.append({**header, "finished": [entry.case_id for entry in found]})
        return found


def existing_of(*, resume: bool, overwrite: bool) -> Existing:
    """Return what becomes of predictions that are there."""
    if resume and overwrite:
        both = "Resume keeps what is complete, overwrite discards it."
        raise ArgumentError(f"`resume` and `overwrite` must not both be set. {both}", argument="resume")
    return "resume" if resume else "overwrite" if overwrite else "refuse"


def _require_shards(root: Path, shard: Shard | None) -> None:
    """Raise where a folder holds shards of another number, or a shard comes to a folder that is merged."""
    # A merge takes away the ledgers of shards, and their folders where nothing else lies in these.
    counts = sorted({held.count for held in shards_in(root) if (held.folder(root) / LEDGER).exists()})
    ours = 1 if shard is None else shard.count
    got, cure = f"shards of {cut_list(counts)}", "Predict with shards of this number, or name another folder."
    if shard is None:
        cure = "Merge these shards first, name one of them, or name another folder."
    require(
        counts in ([], [ours]),
        "shard",
        f"that of the folder {root}",
        f"{shard or 'none'} for {got}",
        cure,
        error=DataError,
    )
    merged, cure = (
        (root / LEDGER).exists(),
        "It was predicted by one process, or is merged: leave `shard` out.",
    )
    good = shard is None or not merged
    require(good, "folder", "one of shards", f"{root}, which holds {LEDGER}", cure, error=DataError)


def _predictions_in(root: Path) -> list[Path]:
    endings = tuple(ENDINGS.values())
    files = (path for path in sorted(root.iterdir()) if path.is_file())
    return [path for path in files if path.name == LEDGER or path.name.endswith(endings)]


def _require_no_predictions(root: Path, cure: str) -> None:
    held = _predictions_in(root)
    if held:
        message = f"`folder` must be without predictions, got {root}, which holds {held[0].name}. {cure}"
        raise ExistingFileError(message, argument="folder", file=root)


def _begin(
    root: Path, identity: str, existing: Existing, of_cases: Collection[str], *, in_shards: bool
) -> None:
    """Raise for a folder that cannot be continued or discarded, and tidy it; `of_cases` are files of this call."""
    # The ledger comes before all predictions, and goes after them. Their lines come after them: where a run was killed
    # between both, files of this library are not named.
    is_begun = (root / LEDGER).exists()
    if existing == "refuse" or (existing == "resume" and not is_begun):
        discard = f"delete {root}" if in_shards else "overwrite=True to discard them"
        cure = f"Set resume=True to continue, {discard}" if is_begun else "Move them"
        _require_no_predictions(root, f"{cure}, or name another folder.")
    ledger = Ledger(root, discards=existing == "overwrite")
    known = ledger.identity if existing == "resume" else None
    cure = "Name another folder" + (" for all shards." if in_shards else ", or set overwrite=True.")
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
    held = _predictions_in(root) if existing == "overwrite" else []
    _require_ours(root, held, {LEDGER, *ledger.written, *of_cases})
    sweep_drafts(root)
    for path in sorted(held, key=lambda path: path.name == LEDGER):
        _remove(path)


def _require_ours(root: Path, held: Sequence[Path], ours: Collection[str]) -> None:
    """Raise where files that are to be discarded are not of this library, such as the contours of an expert."""
    others = [path.name for path in held if path.name not in ours]
    if others:
        wanted = f"without predictions that {LEDGER} does not name"
        message = f"`folder` must be {wanted}, got {root} with {cut_list(others)}."
        cure = "A run that was killed may have left them. Move them, or name another folder."
        raise ExistingFileError(f"{message} {cure}", argument="folder", file=root / others[0])


@dataclass
class _Run:
    """One call: predicts and writes what is not complete yet."""

    predict: Callable[[Case], Prediction]
    ledger: Ledger
    root: Path
    writer: PredictionWriter
    resume: bool
    shard: Shard
    scans: dict[str, str] = field(default_factory=dict)

    def entries(self, cases: Iterator[Reader]) -> Generator[LedgerEntry, None, None]:
        """Give one entry a case. A prediction is written while the next case is predicted."""
        written: Future[LedgerEntry] | None = None
        seen: set[str] = set()
        with ThreadPoolExecutor(1) as writer:
            results = outcomes(self._predicted_once(seen), cases)
            try:
                for number, result in enumerate(results, start=1):
                    if written is not None:
                        yield written.result()
                    written = writer.submit(self._settled, result, number)
                if written is not None:
                    yield written.result()
            finally:
                results.close()

    def _predicted_once(self, seen: set[str]) -> Callable[[Case], Prediction | LedgerEntry | Failure]:
        def predict(case: Case) -> Prediction | LedgerEntry | Failure:
            name = case.case_id
            if name in seen:  # listed by its number: the line of this id tells of the first of them
                cure = "Give each case an id of its own: one prediction would replace the other."
                message = f"`cases` must be of different ids, got two of {name!r}. {cure}"
                return Failure(None, DataError(message, argument="cases"))
            seen.add(name)
            paths, scan = self._paths(name), _scan_hash(case)
            if self.resume and self.ledger.is_complete(name, scan, paths):
                return LedgerEntry(name, "skipped", self.ledger.entries[name].files, scan=scan)
            self.scans[name] = scan
            self.writer.require_series(case.source)
            return self.predict(case)

        return predict

    def _paths(self, case_id: str) -> dict[str, Path]:
        paths = self.writer.paths(case_id, self.root)
        blocked = [path.name for path in paths.values() if path.is_dir()]
        require(
            not blocked, "folder", "without folders of these names", blocked, error=DataError, file=self.root
        )
        return paths

    def _settled(self, result: Prediction | LedgerEntry | Failure, number: int) -> LedgerEntry:
        """Write a prediction, and a line of the ledger after its files."""
        if isinstance(result, LedgerEntry):
            return result
        entry = self._failed(result, number) if isinstance(result, Failure) else self._written(result)
        self.ledger.append(asdict(entry))
        return entry

    def _written(self, result: Prediction) -> LedgerEntry:
        name, paths = result.case_id, self._paths(result.case_id)
        self._discard_of_another(self.scans[name], name)
        before = {path: hash_of(path) for path in paths.values()}
        try:
            self.writer.write(result, paths)
        except (WriteError, MissingPackageError):
            raise  # it would come again with every case
        except GuidedAttentionError as error:  # of this scan, such as a series that DICOM SEG cannot refer to
            entry = self._failed(Failure(name, error), 0)
            left = {
                path.name: hash_of(path) for path in paths.values() if hash_of(path) not in {"", before[path]}
            }
            return replace(entry, files=left)  # of no scan: the case is not complete
        files = {path.name: hash_of(path) for path in paths.values()}
        return LedgerEntry(name, "done", files, scan=self.scans.pop(name))

    def _failed(self, failure: Failure, number: int) -> LedgerEntry:
        name = f"case number {self.shard.place(number)}" if failure.case_id is None else failure.case_id
        entry = LedgerEntry(name, "failed", error=f"{type(failure.error).__name__}: {failure.error}")
        scan = self.scans.pop(name, "")
        self._discard_of_another(scan, name)
        known = self.ledger.entries.get(name)
        # What was not read may be the same as before: its prediction stays known.
        return entry if scan or known is None else replace(entry, files=known.files, scan=known.scan)

    def _discard_of_another(self, scan: str, name: str) -> None:
        """Remove what was predicted of another scan of this name: it would be scored and shown as of this one."""
        known = self.ledger.entries.get(name)
        if scan and known is not None and known.scan not in {"", scan}:
            for file in {f"{name}{ending}" for ending in ENDINGS.values()} & self.ledger.written:
                _remove(self.root / file)


def _remove(path: Path) -> None:
    """Remove a file; one that another program holds open is a `WriteError`."""
    if path.is_file():
        with writing(path):
            path.unlink()


def _scan_hash(case: Case) -> str:
    """Return a hash of all that a prediction is made from: another scan under the same name is predicted anew."""
    about = f"{case.image.shape} {case.affine.tolist()} {case.channel_names}"
    digest = hashlib.sha256(about.encode())
    digest.update(case.image.data)
    return digest.hexdigest()
