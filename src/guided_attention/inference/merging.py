"""The shards of a cohort, brought into one folder with one ledger."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from itertools import chain, zip_longest
from pathlib import Path

from guided_attention._checks import cut_list, repeated, require, require_path
from guided_attention._files import PathLike, sweep_drafts, writing
from guided_attention._locks import locked_folder
from guided_attention.errors import DataError, ExistingFileError, MissingFileError
from guided_attention.inference.ledger import LEDGER, Ledger, LedgerEntry, hash_of
from guided_attention.inference.shard import Shard, require_same_cases, shards_in
from guided_attention.inference.writing import ENDINGS

__all__ = ["Merged", "merge_shards"]


@dataclass(frozen=True)
class Merged:
    """What shards have left.

    Attributes:
        entries: One entry a case, in the order of the cases.
        absent: Shards that never ran.
        unfinished: Shards that ended before their last case, or whose files are gone.
        missing: Cases of those that are not settled, as far as their number is known: ``"case number 7"``. Those whose
            files are gone, or are not those of the ledger, by name.
    """

    entries: tuple[LedgerEntry, ...] = ()
    absent: tuple[Shard, ...] = ()
    unfinished: tuple[Shard, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all shards have run to their end: failed cases are settled, too."""
        return not (self.absent or self.unfinished)

    @property
    def failed(self) -> tuple[str, ...]:
        """The cases that could not be predicted."""
        return tuple(entry.case_id for entry in self.entries if entry.status == "failed")


def merge_shards(folder: PathLike) -> Merged:
    """Bring the predictions of all shards into one folder with one ledger, as one process would have left it.

    Where shards never ran or did not finish, nothing is changed: run these, with ``resume=True``, and merge again. A
    merge that was killed is done by calling it again; in a folder that is merged, nothing is left to do. Files in the
    folders of shards that their ledgers do not name, such as logs, stay there.

    Args:
        folder: The folder that was given to `Predictor.predict_to` with `shard`.

    Raises:
        MissingFileError: The folder holds neither shards nor merged predictions.
        DataError: Shards are of different numbers, cases, predictors or `also`, or two have a case of one name.
        ExistingFileError: Another process predicts or merges here, or the folder holds other files of these names.

    Example:
        >>> import tempfile
        >>> from guided_attention.inference import Predictor
        >>> from guided_attention.data import CHAOS_MR_LABELS, make_phantom
        >>> from guided_attention.preparation import Preparation
        >>> import torch
        >>> cases = [make_phantom(0, subject=number, size=32) for number in (1, 2)]
        >>> preparation = Preparation(slice_axis="axial").fit(cases)
        >>> predictor = Predictor(torch.nn.Conv2d(1, 5, 1), preparation, CHAOS_MR_LABELS, device="cpu")
        >>> out = tempfile.mkdtemp()
        >>> entries = predictor.predict_to(out, cases, shard=Shard(1, 2))
        >>> merge_shards(out).absent
        (Shard(number=2, count=2),)
        >>> entries = predictor.predict_to(out, cases, shard=Shard(2, 2))
        >>> [entry.status for entry in merge_shards(out).entries]
        ['done', 'done']
    """
    root = require_path("folder", folder)
    held, known = shards_in(root), Ledger(root)
    if not held and known.identity is None:
        message = f"`folder` must hold the shards of predictions, got {root}, which has none."
        raise MissingFileError(
            f"{message} Predict with shard=Shard(1, 2) first.", argument="folder", file=root
        )
    with locked_folder(root, doing="merging in"):
        is_merged = known.identity is not None
        merged = Merged(tuple(known.entries.values())) if is_merged else _merged(root, held)
        for shard in held if merged.is_complete else ():
            (shard.folder(root) / LEDGER).unlink(missing_ok=True)
            with suppress(OSError):  # it holds something else
                shard.folder(root).rmdir()
        return merged


def _merged(root: Path, held: Sequence[Shard]) -> Merged:
    with ExitStack() as locks:
        for shard in held:
            locks.enter_context(locked_folder(shard.folder(root), doing="merging"))
        ledgers = {shard: Ledger(shard.folder(root)) for shard in held}
        merged = _surveyed(root, ledgers)
        if merged.is_complete:
            _require_alike(merged.entries)
            _move(root, ledgers, merged)
        return merged


def _surveyed(root: Path, ledgers: dict[Shard, Ledger]) -> Merged:
    require_same_cases(ledger.of for ledger in ledgers.values())
    count = next(iter(ledgers)).count
    everyone = [Shard(number, count) for number in range(1, count + 1)]
    gone = {shard: _gone(root, shard, ledger) for shard, ledger in ledgers.items()}
    unfinished = [shard for shard, ledger in ledgers.items() if ledger.finished is None or gone[shard]]
    missing = [
        shard.place(number + 1)
        for shard in unfinished
        for number in range(len(ledgers[shard].entries), ledgers[shard].expected or 0)
    ]
    turns = zip_longest(*(_entries(ledgers[shard]) for shard in everyone if shard in ledgers))
    entries = [entry for turn in turns for entry in turn if entry is not None]
    twice, cure = repeated(entry.case_id for entry in entries), "Give each case an id of its own."
    require(not twice, "cases", "of different ids", f"{cut_list(twice)} in two shards", cure, error=DataError)
    identities = {ledger.identity for ledger in ledgers.values()}
    cure = "Predict all shards with one predictor, into another folder."
    require(len(identities) == 1, "shards", "of one predictor", len(identities), cure, error=DataError)
    lost = {*chain(*gone.values())}
    return Merged(
        tuple(entry for entry in entries if entry.case_id not in lost),
        tuple(shard for shard in everyone if shard not in ledgers),
        tuple(unfinished),
        (*(f"case number {number}" for number in sorted(missing)), *chain(*gone.values())),
    )


def _entries(ledger: Ledger) -> Sequence[LedgerEntry]:
    """Return the entries in the order of the cases; those of an earlier try are left out."""
    if ledger.finished is None:
        return list(ledger.entries.values())
    return [ledger.entries[name] for name in ledger.finished]


def _require_alike(entries: Sequence[LedgerEntry]) -> None:
    """Raise where some cases have files of other kinds than others."""
    endings = {kind: ending for kind, ending in ENDINGS.items() if kind != "prediction"}
    kinds = {
        tuple(kind for kind, ending in endings.items() if f"{entry.case_id}{ending}" in entry.files)
        for entry in entries
        if entry.status == "done"
    }
    wanted, got = "alike in the files of their cases", [", ".join(each) or "none" for each in sorted(kinds)]
    needed = sorted({kind for each in kinds for kind in each})
    cure = f"Predict all shards with resume=True and `also` of {cut_list(needed)}."
    require(
        len(kinds) <= 1, "shards", wanted, f"{' or '.join(got)} beside the predictions", cure, error=DataError
    )


def _gone(root: Path, shard: Shard, ledger: Ledger) -> list[str]:
    """Return the cases whose files are not those of the ledger; a merge that was killed has moved some."""
    folders = (shard.folder(root), root)
    return [
        entry.case_id
        for entry in _entries(ledger)
        if not all(
            content in {hash_of(one / name) for one in folders} for name, content in entry.files.items()
        )
    ]


def _move(root: Path, ledgers: dict[Shard, Ledger], merged: Merged) -> None:
    """Move the files, then write the ledger, which tells that all are there."""
    files = [path for shard, ledger in ledgers.items() for path in _files_of(shard.folder(root), ledger)]
    _require_free(root, files)
    for path in files:
        with writing(root / path.name):
            path.replace(root / path.name)
    first = next(iter(ledgers.values()))
    Ledger(root).begin(first.identity or "", [asdict(entry) for entry in merged.entries])


def _files_of(folder: Path, ledger: Ledger) -> list[Path]:
    """Return the files that a ledger names, also of earlier tries; others, such as logs, stay where they are."""
    sweep_drafts(folder)
    return [path for path in sorted(folder.iterdir()) if path.name in ledger.written and path.is_file()]


def _require_free(root: Path, files: Sequence[Path]) -> None:
    """Raise where a file would replace one that is not the same: shards have not written it."""
    others = [
        path.name
        for path in files
        if (root / path.name).exists() and hash_of(root / path.name) != hash_of(path)
    ]
    if others:
        message = f"`folder` must be without other files of these names, got {root} with {cut_list(others)}."
        raise ExistingFileError(
            f"{message} Move them, and merge again.", argument="folder", file=root / others[0]
        )
