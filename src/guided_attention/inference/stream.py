"""Many cases one after another: one is read and one is written while the network works on a third."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from guided_attention._checks import require
from guided_attention._typing import SpatialDims
from guided_attention.case import Case
from guided_attention.inference.volume import check_settings, free_paths, predict_case, save_prediction
from guided_attention.outputs import Prediction

__all__ = ["predict_cases"]


def predict_cases(  # noqa: PLR0913 - those of predict_case and of save_prediction
    model: nn.Module,
    cases: Iterable[Case],
    *,
    folder: Path | str | None = None,
    include_uncertainty: bool = False,
    overwrite: bool = False,
    batch_size: int = 8,
    spatial_dims: SpatialDims = 2,
    device: torch.device | str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    in_plane_mm: float | None = None,
    min_size: tuple[int, int] | None = None,
) -> Generator[Prediction, None, None]:
    """Predict one case after another; meanwhile the next one is read, and the last one is written.

    ::

        reading    case 1   case 2   case 3
        network             case 1   case 2   case 3
        writing                      case 1   case 2   case 3

    Reading overlaps where `cases` reads when it is asked, as a generator does; it runs in a thread of its own. Only one
    case is read ahead and only one prediction waits for the disk, so that memory holds a few volumes however many
    cases there are. Work begins with the first prediction that is asked for and goes no further than one case ahead.

    Whoever stops early (``break``, or ``close()`` on what is returned) waits for the case that is being read and for
    the prediction that is being written: no thread is left, and the folder holds what was handed out, whole. An error
    of reading, predicting or writing comes out where the next prediction is asked for, after those before it, with a
    note that names the case.

    Args:
        model: See `predict_case`.
        cases: What to predict: ``(read_nifti_case(path) for path in paths)`` reads each when its turn comes.
        folder: Where `save_prediction` writes each prediction; None writes nothing.
        include_uncertainty: See `save_prediction`.
        overwrite: See `save_prediction`.
        batch_size: See `predict_case`.
        spatial_dims: See `predict_case`.
        device: See `predict_case`.
        precision: See `predict_case`.
        in_plane_mm: See `predict_case`.
        min_size: See `predict_case`.

    Yields:
        One prediction a case, in their order.

    Raises:
        FileExistsError: A prediction of a case is in the folder already, and `overwrite` is not set: at once where
            `cases` is a list, before the network begins that case where it is not.
        ValueError: Two cases for the folder have one id, as soon; or see `predict_case` and `save_prediction`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from torch import nn
        >>> from guided_attention.case import Case, affine_of
        >>> image = np.ones((1, 3, 5, 7), np.float32)
        >>> cases = (Case(name, image, None, affine_of((9.0, 1.5, 1.5))) for name in ("7", "9"))
        >>> folder = tempfile.mkdtemp()
        >>> [prediction.case_id for prediction in predict_cases(nn.Conv2d(1, 4, 1), cases, folder=folder)]
        ['7', '9']
        >>> sorted(path.name for path in Path(folder).iterdir())
        ['7_prediction.nii.gz', '9_prediction.nii.gz']
    """
    check_settings(batch_size, spatial_dims, precision, in_plane_mm, min_size)
    predict = partial(
        predict_case,
        model,
        batch_size=batch_size,
        spatial_dims=spatial_dims,
        device=device,
        precision=precision,
        in_plane_mm=in_plane_mm,
        min_size=min_size,
    )
    if folder is None:
        return _stream(iter(cases), predict, None)
    output = _Output(folder, include_uncertainty, overwrite)
    if isinstance(cases, Sequence):
        list(output.checked(cases))
    return _stream(output.checked(cases), predict, output.save)


@dataclass(frozen=True)
class _Output:
    """Where predictions go."""

    folder: Path | str
    include_uncertainty: bool
    overwrite: bool

    def checked(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Pass cases on whose predictions have a place of their own."""
        ids: set[str] = set()
        for case in cases:
            cure = "Give each an id of its own: one would replace the other."
            require(case.case_id not in ids, "cases", "of different ids", f"two of {case.case_id!r}", cure)
            ids.add(case.case_id)
            free_paths(
                case.case_id,
                self.folder,
                include_uncertainty=self.include_uncertainty,
                overwrite=self.overwrite,
            )
            yield case

    def save(self, prediction: Prediction) -> None:
        with _noting(f"writing the prediction of case {prediction.case_id!r}"):
            save_prediction(
                prediction,
                self.folder,
                include_uncertainty=self.include_uncertainty,
                overwrite=self.overwrite,
            )


def _stream(
    cases: Iterator[Case],
    predict: Callable[[Case], Prediction],
    save: Callable[[Prediction], None] | None,
) -> Generator[Prediction, None, None]:
    written: Future[None] | None = None
    # Leaving the block waits for both threads, however it is left.
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = reader.submit(_read, cases, 1)
        try:
            for number in count(2):
                case = ahead.result()
                if case is None:
                    return
                ahead = reader.submit(_read, cases, number)
                with _noting(f"predicting case {case.case_id!r}"):
                    prediction = predict(case)
                if save is not None:
                    if written is not None:
                        written.result()
                    # A copy: who is handed the prediction may change it while it is being written.
                    written = writer.submit(save, deepcopy(prediction))
                yield prediction
        finally:
            if written is not None:
                written.result()


def _read(cases: Iterator[Case], number: int) -> Case | None:
    with _noting(f"reading case number {number}"):
        return next(cases, None)


@contextmanager
def _noting(doing: str) -> Iterator[None]:
    """Let an error say what was being done, and keep its type and message."""
    try:
        yield
    except Exception as error:
        error.add_note(f"This happened while {doing}.")
        raise
