"""VolumeCache: prepared volumes on disk, mapped into memory, so that a thousand cases need the memory of one."""

import hashlib
import io
import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require_integer, require_path, require_positive, require_type
from guided_attention._files import (
    DRAFT_PREFIX,
    PathLike,
    made_folder,
    replacing,
    whole_folder,
)
from guided_attention._geometry import Reorientation
from guided_attention._typing import Affine
from guided_attention.case import Case
from guided_attention.data import Cohort
from guided_attention.data.cohort import reading_of
from guided_attention.data.layouts._records import Scan
from guided_attention.errors import ExistingFileError
from guided_attention.preparation import Grid, Preparation, Prepared
from guided_attention.preparation.grid import Axis
from guided_attention.preparation.preparation import require_channel_order

__all__ = ["CachedVolumes", "VolumeCache", "digest_of", "joined_digest"]

_VERSION = 4
_IMAGE, _LABELS, _ENTRY = "image.npy", "labels.npy", "entry.json"


@dataclass(frozen=True)
class _Stored:
    """A volume in a file whose header was read before, so that it is mapped without reading it again."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    offset: int

    @classmethod
    def of(cls, path: Path) -> "_Stored":
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            return cls(path, shape, dtype.str, file.tell())

    def mapped(self) -> npt.NDArray[Any]:
        with self.path.open("rb") as file:
            voxels = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.ndarray(self.shape, self.dtype, voxels, self.offset)


@dataclass(frozen=True)
class _Entry:
    """A whole entry: all of it but the voxels, which are mapped when they are wanted."""

    case_id: str
    image: _Stored
    labels: _Stored | None
    affine: Affine
    grid: Grid
    neighbours: int
    digest: str

    @classmethod
    def of(cls, folder: Path) -> "_Entry":
        about = _record(folder)
        turn, axes = about["turn"], [Axis(**axis) for axis in about["axes"]]
        grid = Grid(Reorientation(_three(turn["order"]), _three(turn["flips"])), (axes[0], axes[1], axes[2]))
        image = _Stored.of(folder / _IMAGE)
        labels = _Stored.of(folder / _LABELS) if _LABELS in about["files"] else None
        affine = np.array(about["affine"], np.float64)
        return cls(about["case_id"], image, labels, affine, grid, about["neighbours"], about["digest"])

    def opened(self) -> Prepared:
        labels = None if self.labels is None else self.labels.mapped()
        return Prepared(self.case_id, self.image.mapped(), labels, self.affine, self.grid, self.neighbours)


@dataclass(frozen=True)
class CachedVolumes:
    """Prepared volumes of a `VolumeCache`, used like a list; each is mapped into memory when it is asked for.

    It holds no open file, and a worker process gets the names of the files, not the volumes.

    Attributes:
        entries: Where each volume lies.
        preparation: What made them.
    """

    entries: tuple[_Entry, ...]
    preparation: Preparation

    def __len__(self) -> int:
        """Return the number of volumes."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Prepared:
        """Map a volume by its place."""
        return self.entries[index].opened()

    def __iter__(self) -> Iterator[Prepared]:
        """Map one volume after another."""
        return (entry.opened() for entry in self.entries)

    @property
    def digest(self) -> str:
        """The hash of the cases that the volumes were made of; their names and order change nothing."""
        return joined_digest(entry.digest for entry in self.entries)


@dataclass(frozen=True)
class VolumeCache:
    """Prepared volumes of a cohort on disk, one folder a case, mapped into memory when they are used.

    An entry belongs to the files that a case is read from (their names, sizes and times of change), to how they are
    read (the organs and the arguments of `open_cohort`) and to the preparation: a change of one makes other entries
    beside the old ones. Several processes may use and build one cache at once. A build that was interrupted is
    continued; an entry whose checksum is wrong is built again.

    Args:
        folder: Where entries are kept; created if it is missing.
        preparation: What is done to each case; fitted.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import CHAOS_MR_LABELS, open_cohort, write_phantom_cohort
        >>> from guided_attention.sampling import SliceDataset
        >>> with TemporaryDirectory() as folder:
        ...     cohort = open_cohort(write_phantom_cohort(f"{folder}/scans", subjects=2, size=32))
        ...     preparation = Preparation(slice_axis="axial").fit(cohort)
        ...     cache = VolumeCache(f"{folder}/cache", preparation)
        ...     slices = SliceDataset(cache.volumes(cohort), preparation, CHAOS_MR_LABELS)
        ...     print(slices[0][0].shape)
        torch.Size([1, 32, 32])
    """

    folder: PathLike
    preparation: Preparation

    def __post_init__(self) -> None:
        """Check the types."""
        require_type("preparation", self.preparation, Preparation, "a Preparation")
        object.__setattr__(self, "folder", require_path("folder", self.folder))

    def build(
        self, cohort: Cohort, *, workers: int = 1, on_case: Callable[[str], None] | None = None
    ) -> None:
        """Prepare every case that the cache does not hold yet.

        Args:
            cohort: The cases.
            workers: Threads that read and prepare; each holds one case.
            on_case: Called with the name of each case that is done.

        Raises:
            DataError: A case cannot be read or prepared.
            WriteError: The disk is full, or the folder cannot be written to.
        """
        require_type("cohort", cohort, Cohort, "a Cohort")
        require_integer("workers", workers)
        require_positive("workers", workers)
        made_folder(self.folder)
        done, build = on_case or (lambda _name: None), partial(self._built, reading_of(cohort))
        if workers == 1:
            for scan in cohort.scans:
                done(build(scan))
            return
        # Threads: most of the work is done in code that runs beside other Python, and a script needs no `__main__`.
        pool = ThreadPoolExecutor(workers)
        try:
            for name in pool.map(build, cohort.scans):
                done(name)
        finally:
            pool.shutdown(cancel_futures=True)

    def volumes(self, cohort: Cohort) -> CachedVolumes:
        """Return the prepared volume of each case; those that are missing or damaged are built first.

        Args:
            cohort: The cases.

        Raises:
            DataError, WriteError: As `build`.
        """
        require_type("cohort", cohort, Cohort, "a Cohort")
        made_folder(self.folder)
        reading = reading_of(cohort)
        entries = tuple(_Entry.of(self._entry(reading, scan)) for scan in cohort.scans)
        return CachedVolumes(entries, self.preparation)

    def _built(self, reading: Mapping[str, Any], scan: Scan) -> str:
        self._entry(reading, scan)
        return scan.case_id

    def _entry(self, reading: Mapping[str, Any], scan: Scan) -> Path:
        """Return the folder of a whole entry, built if need be."""
        entry = Path(self.folder) / self._key(reading, scan)
        if entry.exists():  # else another process may have built it by the time that it is discarded
            if _is_whole(entry):
                return entry
            _discard(entry)
        case = scan.read()
        require_channel_order(self.preparation, case)
        prepared, digest = self.preparation.apply(case), digest_of(case)
        del case
        # Another process may have built it meanwhile: both have the same bytes.
        with suppress(ExistingFileError, FileExistsError):
            whole_folder(entry, lambda draft: _write(draft, prepared, digest))
        return entry

    def _key(self, reading: Mapping[str, Any], scan: Scan) -> str:
        """Return the name of an entry: that of the case, and a hash of its files, their reading and preparation."""
        files = [
            (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
            for path in scan.files()
            for stat in [path.stat()]
        ]
        about = [_VERSION, scan.case_id, files, reading, scan.is_labelled, self.preparation.to_dict()]
        digest = _hash({"about": about})[:20]
        plain = "".join(char if char.isalnum() or char in "-." else "_" for char in scan.case_id)
        return f"{plain[:60].lstrip('.')}-{digest}"


def digest_of(case: Case) -> str:
    """Return a hash of what was read: image, labels and place."""
    digest = hashlib.blake2b(repr((case.image.shape, case.affine.tolist())).encode())
    for volume in (case.image, case.labels):
        if volume is not None:
            digest.update(np.ascontiguousarray(volume).data)
    return digest.hexdigest()


def joined_digest(digests: Iterable[str]) -> str:
    """Return one hash for the hashes of some cases, in whatever order."""
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def _write(draft: Path, prepared: Prepared, digest: str) -> None:
    """Write the volumes, and last the record with their checksums."""
    volumes = {_IMAGE: prepared.image, _LABELS: prepared.labels}
    about = {
        "version": _VERSION,
        "case_id": prepared.case_id,
        "affine": prepared.affine.tolist(),
        "turn": asdict(prepared.grid.turn),
        "axes": [asdict(axis) for axis in prepared.grid.axes],
        "neighbours": prepared.neighbours,
        "digest": digest,
        "files": {name: _stored(draft / name, one) for name, one in volumes.items() if one is not None},
    }
    with replacing(draft / _ENTRY) as path:
        path.write_text(json.dumps(about | {"checksum": _hash(about)}), encoding="utf-8")


def _stored(path: Path, volume: npt.NDArray[Any]) -> str:
    """Write a volume, and return the checksum of its file."""
    whole = np.ascontiguousarray(volume)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(whole))
    digest = hashlib.blake2b(head.getvalue(), digest_size=16)
    digest.update(whole.data)
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(head.getvalue())
        file.write(whole.data)
    return digest.hexdigest()


def _record(entry: Path) -> Mapping[str, Any]:
    """Return the record of an entry, nothing where it cannot be read."""
    try:
        found = json.loads((entry / _ENTRY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    checksum = found.pop("checksum", None)
    return found if found.get("version") == _VERSION and checksum == _hash(found) else {}


def _hash(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _is_whole(entry: Path) -> bool:
    files = _record(entry).get("files")
    return isinstance(files, dict) and all(
        (entry / name).is_file() and _checksum(entry / name) == wanted for name, wanted in files.items()
    )


def _checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _discard(entry: Path) -> None:
    """Take a damaged entry away in one step; what another process has mapped stays readable for it."""
    away = entry.with_name(f"{DRAFT_PREFIX}{os.getpid()}.{entry.name}")
    with suppress(FileNotFoundError):
        entry.rename(away)
        shutil.rmtree(away, ignore_errors=True)


def _three(values: list[Any]) -> tuple[Any, Any, Any]:
    return values[0], values[1], values[2]
