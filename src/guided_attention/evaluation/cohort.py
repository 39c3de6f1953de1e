"""Predict and score many cases: `evaluate` for a report, `Validation` for a training run."""

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import groupby, islice, zip_longest
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from torch import Tensor, nn

from guided_attention._checks import repeated, require, require_same_shape, require_type
from guided_attention._distributed import by_all, rank, world_size
from guided_attention._geometry import checked_affine, is_sheared, require_same_place
from guided_attention._typing import AnyLabels, LabelVolume
from guided_attention.case import Case
from guided_attention.errors import ArgumentTypeError, DataError
from guided_attention.evaluation.scores import (
    CaseScore,
    evaluate_case,
    require_definition,
    require_label_spec,
)
from guided_attention.evaluation.summary import (
    METRIC_NAMES,
    OF_SURFACES,
    OVERLAPS,
    MetricName,
    mean_over_cases,
)
from guided_attention.labels import LabelSpec
from guided_attention.metrics import DistanceDefinition
from guided_attention.metrics._inputs import as_array, as_choice, as_workers
from guided_attention.outputs import Prediction

__all__ = ["Predict", "Validation", "evaluate", "evaluate_prediction", "require_scorable"]

Predict: TypeAlias = Callable[[Case], AnyLabels | Prediction]
"""A function from a case to its predicted label volume (array or tensor) or `Prediction`."""


@runtime_checkable
class _Indexed(Protocol):
    """A collection whose cases are read one by one, such as a list or a cohort."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Case: ...


def evaluate(
    predict: Predict,
    cases: Iterable[Case],
    labels: LabelSpec,
    *,
    definition: DistanceDefinition | None = DistanceDefinition(),
    workers: int = 1,
) -> list[CaseScore]:
    """Predict each case and score it against its labels: one row a case and organ.

    Cases are taken one after another, so that a generator that reads them from disk needs memory for one. What makes a
    case impossible to score is an error before its prediction.

    Args:
        predict: Any function from a case to a label volume of its size (array or tensor, any device, any integer type)
            or to a `Prediction` of it.
        cases: With labels, each of another name.
        labels: The organs and their values.
        definition: How surface distances are measured; None leaves them out, which is most of the work.
        workers: Threads that search for the nearest points; -1 for all cores.

    Returns:
        The rows of all cases, in their order: see `evaluate_case`.

    Raises:
        DataError: A case has no labels, labels without a name, the name of another case, or axes that are not at right
            angles though distances are measured; or see `evaluate_prediction`.
        ArgumentTypeError: An argument has the wrong type.

    Example:
        >>> import numpy as np
        >>> from guided_attention.case import affine_of
        >>> image = np.arange(15, dtype=np.float32).reshape(1, 1, 3, 5)
        >>> case = Case("7", image, image[0] > 7, affine_of((9.0, 1.5, 1.5)))
        >>> rows = evaluate(lambda case: (case.image[0] > 9).astype(int), [case], LabelSpec({1: "liver"}))
        >>> round(rows[0].dice, 3)
        0.833
    """
    _require_function("predict", predict, "a function from a case to its label volume")
    _require_collection(cases)
    _require_settings(labels, definition, workers)
    _require_scorable_list(cases, labels, definition)
    rows: list[CaseScore] = []
    for case in _different(cases):
        require_scorable(case, labels, definition)
        rows += evaluate_prediction(predict(case), case, labels, definition=definition, workers=workers)
        del case  # while the next one is read
    return rows


def evaluate_prediction(
    prediction: AnyLabels | Prediction,
    case: Case,
    labels: LabelSpec,
    *,
    definition: DistanceDefinition | None = DistanceDefinition(),
    workers: int = 1,
) -> list[CaseScore]:
    """Score the prediction of one case against its labels: one row an organ.

    Args:
        prediction: A label volume of the case's size (array or tensor), or a `Prediction` of this case on its grid.
        case: The case, with labels.
        labels: The organs and their values.
        definition: See `evaluate`.
        workers: See `evaluate`.

    Returns:
        The rows in the order of ``labels.values``: see `evaluate_case`.

    Raises:
        DataError: The prediction is that of another case or lies on another grid; the case has no labels, or axes that
            are not at right angles though distances are measured; or a volume holds a value without a name.
        ArgumentError: The prediction has another size than the case, or is not of integers.
        ArgumentTypeError: An argument has the wrong type.

    Example:
        >>> import numpy as np
        >>> from guided_attention.case import affine_of
        >>> mask = np.ones((1, 3, 5), np.uint8)
        >>> case = Case("7", np.zeros((1, 1, 3, 5)), mask, affine_of((9.0, 1.5, 1.5)))
        >>> evaluate_prediction(mask, case, LabelSpec({1: "liver"}))[0].dice
        1.0
    """
    require_type("case", case, Case, "a Case")
    _require_settings(labels, definition, workers)
    reference = _labels_of(case)
    _require_right_angles(case, definition)
    predicted = prediction
    if isinstance(prediction, Prediction):
        _require_same_grid(prediction, case)
        predicted = prediction.labels
    where = f"prediction of case {case.case_id!r}"
    array = as_array(where, predicted)
    require_same_shape(where, array.shape, "case.labels", reference.shape)
    return evaluate_case(
        array,
        reference,
        labels=labels,
        spacing_mm=case.spacing_mm,
        case_id=case.case_id,
        definition=definition,
        workers=workers,
    )


class Validation:
    """The validation of a training run: the mean of one metric over whole cases, higher is better.

    ``validation(model)`` predicts all cases and averages the metric over the organs of each case, then over the cases:
    the row ``mean`` of `summarize_metric`. Of several processes, each predicts its part of the cases; all must
    call, and all get the same number. A distance, which is better when lower, comes with a minus sign, because the
    trainer keeps the weights of the highest score. Distances are measured only if the metric needs them. The score of a
    missed organ is finite, so that a network that misses one can still become better than another: for a distance it
    is the diagonal of the volume. `ravd_percent`, which is infinite for an organ that is not there, is no choice.

    Args:
        with_model: Takes a network to a function from a case to its label volume or `Prediction`, for example the
            method `with_model` of a predictor.
        cases: With labels; a list or another collection that can be read once for each validation.
        labels: The organs and their values.
        metric: Name of an attribute of `CaseScore`, except `ravd_percent`.
        definition: How surface distances are measured, with ``one_empty="diagonal"``.
        workers: Threads that search for the nearest points; -1 for all cores.

    Attributes:
        metric: Name of the metric; a resumed run tells by it whether scores can be compared.

    Raises:
        ArgumentError: There is no such metric, `surface_dice` is asked for without a tolerance, a distance with
            ``one_empty="inf"``, or there is no case.
        ArgumentTypeError: An argument has the wrong type; an iterator, which is used up after one validation.
        DataError: A case of a list cannot be scored, see `evaluate`.

    Example:
        >>> import numpy as np
        >>> from guided_attention.case import affine_of
        >>> case = Case("7", np.zeros((1, 1, 3, 5)), np.ones((1, 3, 5)), affine_of((9.0, 1.5, 1.5)))
        >>> validation = Validation(lambda model: lambda case: case.labels, [case], LabelSpec({1: "liver"}))
        >>> validation(nn.Identity())
        1.0
    """

    def __init__(
        self,
        with_model: Callable[[nn.Module], Predict],
        cases: Iterable[Case],
        labels: LabelSpec,
        *,
        metric: MetricName = "dice",
        definition: DistanceDefinition = DistanceDefinition(one_empty="diagonal"),
        workers: int = 1,
    ) -> None:
        wanted = "a function from a network to one that predicts a case"
        _require_function("with_model", with_model, wanted)
        as_choice("metric", metric, tuple(name for name in METRIC_NAMES if name != "ravd_percent"))
        require_type("definition", definition, DistanceDefinition, "a DistanceDefinition")
        self._definition = definition if metric in OF_SURFACES else None
        _require_settings(labels, self._definition, workers)
        cure = "Pass definition=DistanceDefinition(tolerance_mm=...)."
        has_tolerance = metric != "surface_dice" or definition.tolerance_mm is not None
        require(has_tolerance, "tolerance_mm", "given for surface_dice", None, cure=cure)
        finite = metric not in OF_SURFACES or metric == "surface_dice" or definition.one_empty == "diagonal"
        wanted, cure = (
            f"'diagonal' for the validation by {metric}",
            'Set one_empty="diagonal" in `definition`.',
        )
        require(finite, "one_empty", wanted, repr(definition.one_empty), cure)
        _require_collection(cases)
        again = not isinstance(cases, Iterator)
        cure = "Write list(...)."
        require(again, "cases", "a collection that can be read more than once", "an iterator", cure=cure)
        some = not isinstance(cases, Sized) or len(cases) > 0
        require(some, "cases", "at least one case", "none")
        _require_scorable_list(cases, labels, self._definition)
        self._with_model, self._cases, self._labels = with_model, cases, labels
        self.metric: MetricName = metric
        self._workers = workers

    def __call__(self, model: nn.Module) -> float:
        """Return the mean of the metric over the cases that `model` predicts; NaN if no organ is anywhere."""
        in_turns = zip_longest(*by_all(lambda: self._scored(model)), fillvalue=[])
        cases = [case for turn in in_turns for case in turn if case]
        twice, cure = repeated(case[0].case_id for case in cases), "Give each case its own name."
        require(not twice, "cases", "of different names", f"{twice} more than once", cure, error=DataError)
        rows = [row for case in cases for row in case]
        mean = mean_over_cases(rows, self.metric)
        return mean if self.metric in OVERLAPS else -mean

    def _scored(self, model: nn.Module) -> list[list[CaseScore]]:
        """Return the rows of each case that is this process's: every second case of two processes."""
        predict = self._with_model(model)
        mine: Iterable[Case] = islice(self._cases, rank(), None, world_size())
        if isinstance(self._cases, _Indexed):  # reads no others
            mine = (self._cases[number] for number in range(rank(), len(self._cases), world_size()))
        rows = evaluate(predict, mine, self._labels, definition=self._definition, workers=self._workers)
        return [list(case) for _, case in groupby(rows, key=lambda row: row.case_id)]


def _require_function(argument: str, value: object, wanted: str) -> None:
    got = f"a {type(value).__name__}"
    require(callable(value), argument, wanted, got, error=ArgumentTypeError)


def _require_collection(cases: object) -> None:
    good = isinstance(cases, Iterable) and not isinstance(cases, (str, bytes, np.ndarray, Tensor))
    got, cure = f"a {type(cases).__name__}", "Write [case] for one."
    require(good, "cases", "a collection of cases", got, cure, error=ArgumentTypeError)


def _require_settings(labels: object, definition: object, workers: object) -> None:
    require_label_spec(labels)
    require_definition(definition)
    as_workers(workers)


def _require_scorable_list(
    cases: Iterable[Case], labels: LabelSpec, definition: DistanceDefinition | None
) -> None:
    """Raise for a case of a list that cannot be scored, before any is predicted; a generator tells too late."""
    if isinstance(cases, (list, tuple)):
        for case in _different(cases):
            require_scorable(case, labels, definition)


def _different(cases: Iterable[Case]) -> Iterator[Case]:
    """Give the cases; raise for a second one of the same name."""
    seen: set[str] = set()
    for case in cases:
        require_type("cases", case, Case, "cases")
        cure = "Give each case its own name."
        new = case.case_id not in seen
        require(new, "cases", "of different names", f"two called {case.case_id!r}", cure, error=DataError)
        seen.add(case.case_id)
        yield case
        del case


def require_scorable(case: Case, labels: LabelSpec, definition: DistanceDefinition | None = None) -> None:
    """Raise where a case cannot be scored, whatever is predicted."""
    labels.require_known(_labels_of(case), f"labels of case {case.case_id!r}")
    _require_right_angles(case, definition)


def _labels_of(case: Case) -> LabelVolume:
    if case.labels is None:
        message = f"`case` must be a case with labels, got case {case.case_id!r} without any. Leave it out."
        raise DataError(message, argument="case")
    return case.labels


def _require_right_angles(case: Case, definition: DistanceDefinition | None) -> None:
    cure = (
        "Pass definition=None for overlaps and volumes, which are right, "
        "or resample the case to a right-angled grid for distances."
    )
    good = definition is None or not is_sheared(case.affine)
    where = f"axes of case {case.case_id!r}"
    require(good, where, "at right angles to measure distances", "others", cure, error=DataError)


def _require_same_grid(prediction: Prediction, case: Case) -> None:
    wanted, got = f"that of case {case.case_id!r}", f"case {prediction.case_id!r}"
    require(prediction.case_id == case.case_id, "prediction", wanted, got, error=DataError)
    affine = checked_affine(prediction.affine, f"affine of the prediction of case {case.case_id!r}")
    where = f"prediction of case {case.case_id!r}"
    cure = "Predict this scan, or resample the prediction onto its grid."
    require_same_place(where, affine, case.affine, case.image.shape[1:], "the scan", cure)
