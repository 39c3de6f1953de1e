"""Many cases: one is read while the network works on the one before, and the result of that before is written."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias, TypeVar

from guided_attention._checks import require_type
from guided_attention.case import Case
from guided_attention.errors import ArgumentError, ArgumentTypeError, GuidedAttentionError
from guided_attention.inference.members import is_out_of_memory
from guided_attention.outputs import Prediction

__all__ = ["Failure", "Reader", "outcomes", "stream", "within_memory"]

Reader: TypeAlias = Case | Callable[[], Case]
"""A case, or a function that reads one."""

_Result = TypeVar("_Result")
_END = object()
"""What follows the last case; None among the cases is a mistake that must not end them."""


@dataclass(frozen=True)
class Failure:
    """A case that could not be read or predicted, and why; its id is known where its reader has one."""

    case_id: str | None
    error: Exception


def stream(predict: Callable[[Case], Prediction], cases: Iterable[Case]) -> Generator[Prediction, None, None]:
    """Give one prediction a case; the first error is raised in its place."""
    require_type("cases", cases, Iterable, "an iterable of cases")
    return _raising(outcomes(predict, iter(cases)))


def _raising(results: Generator[Prediction | Failure, None, None]) -> Generator[Prediction, None, None]:
    try:
        for result in results:
            if isinstance(result, Failure):
                raise result.error
            yield result
    finally:
        results.close()


def outcomes(
    work: Callable[[Case], _Result], cases: Iterator[Reader]
) -> Generator[_Result | Failure, None, None]:
    """Give for each case what `work` makes of it, or why there is nothing; it begins with the first that is asked for.

    An error of `cases` itself, which ends it, is raised in its place.
    """
    # Leaving the block waits for the thread, however it is left.
    with ThreadPoolExecutor(1) as reader:
        ahead: Future[Case | Failure | None] = reader.submit(_read, cases, 1)
        for number in count(2):
            case = ahead.result()
            if case is None:
                return
            ahead = reader.submit(_read, cases, number)
            yield case if isinstance(case, Failure) else _worked(work, case)


def _worked(work: Callable[[Case], _Result], case: Case) -> _Result | Failure:
    try:
        with _noting(f"predicting case {case.case_id!r}"):
            return within_memory(work, case)
    except (GuidedAttentionError, OSError) as error:
        return Failure(case.case_id, error)


def within_memory(work: Callable[[Case], _Result], case: Case) -> _Result:
    """Return what `work` makes of a case; a case that does not fit into memory is an `ArgumentError`."""
    try:
        return work(case)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        told = str(error)
    # Raised out here, so that it does not hold the first error, whose frames hold the tensors that fill the memory.
    message = (
        f"`case` {case.case_id!r} must fit into memory, got: {told} "
        "Set a smaller batch_size in the Predictor, or predict on another device. "
        "Or set a smaller patch_size, and predict into another folder: it changes the labels."
    )
    raise ArgumentError(message, argument="case")


def _read(cases: Iterator[Reader], number: int) -> Case | Failure | None:
    with _noting(f"reading case number {number}"):
        item: object = next(cases, _END)
    if item is _END:
        return None
    if isinstance(item, Case):
        return item
    if not callable(item):
        kind = type(item).__name__
        message = f"`cases` must be made of cases, or of functions that return one, got a {kind}."
        raise ArgumentTypeError(message, argument="cases")
    try:
        with _noting(f"reading case number {number}"):
            case: object = item()
    except Exception as error:  # noqa: BLE001 - whatever a reader of the user's own raises is of its case only
        name = getattr(item, "case_id", None)
        return Failure(name if isinstance(name, str) else None, error)
    return _checked(case)


def _checked(case: object) -> Case:
    if isinstance(case, Case):
        return case
    kind = type(case).__name__
    message = f"`cases` must be cases, or functions that return one, got a function that returns a {kind}."
    raise ArgumentTypeError(message, argument="cases")


@contextmanager
def _noting(doing: str) -> Iterator[None]:
    """Add what was being done to an error, which keeps its type and message."""
    try:
        yield
    except Exception as error:
        error.add_note(f"This happened while {doing}.")
        raise
