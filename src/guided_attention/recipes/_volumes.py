"""The prepared volumes of a training run: on disk for scans on disk, so that memory holds one case a worker."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from guided_attention._checks import counted
from guided_attention._distributed import by_all, share_of, together, world_size
from guided_attention.case import Case
from guided_attention.data import Cohort
from guided_attention.evaluation.cohort import require_scorable
from guided_attention.preparation import Prepared
from guided_attention.recipes import _machine as machine
from guided_attention.recipes._cases import Source
from guided_attention.recipes.plan import Plan
from guided_attention.sampling import VolumeCache
from guided_attention.sampling.cache import digest_of, joined_digest

__all__ = ["CACHE", "RunData", "sweep"]

CACHE = "cache"
"""Folder of the prepared volumes in a run folder."""
_LINES = 10
_CASES_A_THREAD = 4
"""A thread more is worth it from so many cases on."""


@dataclass
class RunData:
    """What a run trains on and is validated with; of several processes, each prepares and checks its share.

    Args:
        plan: The plan.
        source: Where its cases are.
        folder: The run folder.
        tell: Called with a line now and then while cases are prepared.
    """

    plan: Plan
    source: Source
    folder: Path
    tell: Callable[[str], None]
    _digests: dict[str, str] = field(default_factory=dict)

    def training(self) -> Iterable[Case | Prepared]:
        """Return the training cases: prepared, on disk, or as they are where they are in memory anyway."""
        names, cohort = self.plan.data.train, self.source.cohort
        if cohort is None:
            cases = [self.source.read(name) for name in names]
            self._digests |= {case.case_id: digest_of(case) for case in cases}
            return cases
        cache = VolumeCache(_cache_of(self.plan, self.folder), self.plan.preparation)
        mine = names[share_of(len(names))]
        threads = max(1, min(machine.cores() // world_size(), len(mine) // _CASES_A_THREAD))
        together(lambda: cache.build(cohort.select(mine), workers=threads, on_case=self._counter(len(mine))))
        # Those that another machine has prepared on a disk of its own are prepared here, too.
        volumes = together(lambda: cache.volumes(cohort.select(names)))
        self._digests |= {entry.case_id: entry.digest for entry in volumes.entries}
        return volumes

    def validation(self) -> Cohort | list[Case]:
        """Return the validation cases, each of which was read once and can be scored."""
        names, cohort = self.plan.data.val, self.source.cohort
        for digests in by_all(lambda: self._checked(names[share_of(len(names))])):
            self._digests |= digests
        return [self.source.read(name) for name in names] if cohort is None else cohort.select(names)

    def _checked(self, names: Iterable[str]) -> dict[str, str]:
        """Return the hashes of cases, each read once; raise for one that cannot be scored."""
        digests = {}
        for name in names:
            case = self.source.read(name)
            require_scorable(case, self.plan.labels)
            digests[case.case_id] = digest_of(case)
            del case
        return digests

    def digest(self) -> str:
        """Return the hash of all cases that were read; their names and order change nothing."""
        return joined_digest(self._digests.values())

    def _counter(self, total: int) -> Callable[[str], None]:
        done: list[str] = []
        whose = "" if world_size() == 1 else ", the share of this process"

        def count(name: str) -> None:
            done.append(name)
            if len(done) == total or len(done) % ceil(total / _LINES) == 0:
                self.tell(f"prepared {len(done)} of {counted(total, 'case')}{whose}")

        return count


def sweep(plan: Plan, folder: Path) -> None:
    """Delete the prepared volumes of a run that has ended; those in a folder that the plan names are kept.

    All processes call it: each machine may have volumes of its own.
    """
    if plan.data.cache is None:
        shutil.rmtree(folder / CACHE, ignore_errors=True)


def _cache_of(plan: Plan, folder: Path) -> Path:
    return folder / CACHE if plan.data.cache is None else Path(plan.data.cache)
