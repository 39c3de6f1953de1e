"""VolumeCache: prepared volumes on disk, mapped into memory, so that a thousand cases need the memory of one."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require_integer, require_path, require_positive, require_type
from guided_attention._files import DRAFT_PREFIX, PathLike, made_folder, replacing, whole_folder
from guided_attention._geometry import Reorientation
from guided_attention.data import Cohort
from guided_attention.data._layouts import Scan
from guided_attention.errors import ExistingFileError
from guided_attention.preparation import Grid, Preparation, Prepared
from guided_attention.preparation.grid import Axis

__all__ = ["VolumeCache"]

_VERSION = 1
_IMAGE, _LABELS, _ENTRY = "image.npy", "labels.npy", "entry.json"


@dataclass(frozen=True)
class VolumeCache:
    """Prepared volumes of a cohort on disk, one folder a case, mapped into memory when they are used.

    An entry belongs to the files that a case is read from (their names, sizes and times of change) and to the
    preparation: another preparation makes other entries beside the old ones. Several processes may use and build one
    cache at once. A build that was interrupted is continued; an entry whose checksum is wrong is built again.

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
            workers: Processes that read and prepare; each holds one case.
            on_case: Called with the name of each case that is done.

        Raises:
            DataError: A case cannot be read or prepared.
            WriteError: The disk is full, or the folder cannot be written to.
        """
        require_type("cohort", cohort, Cohort, "a Cohort")
        require_integer("workers", workers)
        require_positive("workers", workers)
        made_folder(self.folder)
        done = on_case or (lambda _name: None)
        if workers == 1:
            for scan in cohort.scans:
                self._entry(scan)
                done(scan.case_id)
            return
        # A fork of a process with threads, such as one that has used torch, may hang.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for name in pool.map(self._built, cohort.scans):
                done(name)

    def volumes(self, cohort: Cohort) -> Iterator[Prepared]:
        """Give the prepared volume of each case, mapped into memory; those that are missing are built.

        Args:
            cohort: The cases.

        Raises:
            DataError, WriteError: As `build`.
        """
        require_type("cohort", cohort, Cohort, "a Cohort")
        made_folder(self.folder)
        return (_opened(self._entry(scan)) for scan in cohort.scans)

    def _built(self, scan: Scan) -> str:
        self._entry(scan)
        return scan.case_id

    def _entry(self, scan: Scan) -> Path:
        """Return the folder of a whole entry, built if need be."""
        entry = Path(self.folder) / self._key(scan)
        if _is_whole(entry):
            return entry
        _discard(entry)
        prepared = self.preparation.apply(scan.read())
        # Another process may have built it meanwhile: both have the same bytes.
        with suppress(ExistingFileError, FileExistsError):
            whole_folder(entry, lambda draft: _write(draft, prepared))
        return entry

    def _key(self, scan: Scan) -> str:
        """Return the name of an entry: that of the case, and a hash of its files and the preparation."""
        files = [
            (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
            for path in scan.files()
            for stat in [path.stat()]
        ]
        about = [_VERSION, scan.case_id, files, self.preparation.to_dict()]
        digest = _hash({"about": about})[:20]
        plain = "".join(char if char.isalnum() or char in "-." else "_" for char in scan.case_id)
        return f"{plain[:60].lstrip('.')}-{digest}"


def _write(draft: Path, prepared: Prepared) -> None:
    """Write the volumes, and last the record with their checksums."""
    volumes = {_IMAGE: prepared.image, _LABELS: prepared.labels}
    for name, volume in volumes.items():
        if volume is not None:
            with replacing(draft / name) as path, path.open("wb") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(volume), allow_pickle=False)
    about = {
        "version": _VERSION,
        "case_id": prepared.case_id,
        "affine": prepared.affine.tolist(),
        "turn": asdict(prepared.grid.turn),
        "axes": [asdict(axis) for axis in prepared.grid.axes],
        "neighbours": prepared.neighbours,
        "files": {name: _checksum(draft / name) for name, volume in volumes.items() if volume is not None},
    }
    with replacing(draft / _ENTRY) as path:
        path.write_text(json.dumps(about | {"checksum": _hash(about)}), encoding="utf-8")


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


def _opened(entry: Path) -> Prepared:
    about = _record(entry)
    turn = about["turn"]
    axes = [Axis(**axis) for axis in about["axes"]]
    grid = Grid(Reorientation(_three(turn["order"]), _three(turn["flips"])), (axes[0], axes[1], axes[2]))
    labels = _mapped(entry / _LABELS) if _LABELS in about["files"] else None
    affine = np.array(about["affine"], np.float64)
    return Prepared(about["case_id"], _mapped(entry / _IMAGE), labels, affine, grid, about["neighbours"])


def _three(values: list[Any]) -> tuple[Any, Any, Any]:
    return values[0], values[1], values[2]


def _mapped(path: Path) -> npt.NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return volume
