"""Work on one case after another, in several processes where asked for."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from guided_attention.data.layouts._records import Scan
from guided_attention.errors import ProcessLostError

__all__ = ["each"]

_Result = TypeVar("_Result")


def each(work: Callable[[Scan], _Result], scans: Sequence[Scan], workers: int) -> Iterator[_Result]:
    """Give what a function returns for each scan, in order.

    Raises:
        ProcessLostError: A process was killed.
    """
    if workers == 1 or len(scans) <= 1:
        yield from map(work, scans)
        return
    done = 0
    try:
        # A fork of a process with threads, such as one that has used torch, may hang.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for result in pool.map(work, scans):
                done += 1
                yield result
    except BrokenProcessPool as error:
        message = (
            f"`workers` must be so few that their cases fit into memory, got {workers}, one of which was killed before "
            f"case {scans[done].case_id!r} was done, most likely for lack of memory. Set workers={workers // 2}. "
            'In a script, call it below `if __name__ == "__main__":`.'
        )
        raise ProcessLostError(message, argument="workers", file=scans[done].path) from error
