"""Many cases: read ahead, in order, and no thread left over."""

import gc
import threading
import weakref
from contextlib import closing

import numpy as np
import pytest
from tests.inference.conftest import AS_IT_IS, LONG_S, ORGANS, Never, Threshold, network, scan

from guided_attention.inference import Predictor
from guided_attention.labels import LabelSpec

ONE = LabelSpec({1: "above"})


def _case(number, width=7):
    return scan(case_id=f"case {number}", seed=number, shape=(3, 5, width))


def _never():
    return Predictor(Never(), AS_IT_IS, ORGANS)


def _threshold(model=None):
    return Predictor(Threshold() if model is None else model, AS_IT_IS, ONE)


@pytest.mark.parametrize("as_list", [True, False])
def test_the_predictions_are_those_of_each_case_in_order(as_list):
    predictor, cases = (
        Predictor(network(), AS_IT_IS, ORGANS),
        [_case(number, 7 + number) for number in (4, 2, 9, 1)],
    )
    got = list(predictor.stream(cases if as_list else iter(cases)))
    assert [prediction.case_id for prediction in got] == ["case 4", "case 2", "case 9", "case 1"]
    for prediction, case in zip(got, cases, strict=True):
        wanted = predictor.predict(case)
        np.testing.assert_array_equal(prediction.labels, wanted.labels)
        np.testing.assert_array_equal(prediction.uncertainty, wanted.uncertainty)


def test_no_cases_give_no_predictions():
    assert list(_never().stream([])) == []
    assert list(_never().stream(iter([]))) == []


def test_the_next_case_is_read_while_the_network_works():
    reads_second, works_on_first = threading.Event(), threading.Event()
    met = []

    def cases():
        yield _case(1)
        reads_second.set()
        met.append(works_on_first.wait(LONG_S))
        yield _case(2)

    class Meets(Threshold):
        def forward(self, x):
            works_on_first.set()
            met.append(reads_second.wait(LONG_S))
            return super().forward(x)

    assert len(list(_threshold(Meets()).stream(cases()))) == 2
    assert met == [True] * 3


def test_no_more_than_two_cases_are_in_memory_and_one_is_read_ahead():
    alive, counts, read = weakref.WeakSet(), [], []

    def cases():
        for number in range(3):
            gc.collect()
            counts.append(len(alive))
            case = _case(number)
            alive.add(case)
            read.append(number)
            yield case
            del case

    for asked, _ in enumerate(_threshold().stream(cases())):
        assert len(read) <= asked + 2
    assert max(counts) == 1  # with the one that is then made, two


def test_nothing_begins_before_the_first_prediction_is_asked_for():
    def cases():
        raise AssertionError("read too early")
        yield

    _never().stream(cases())


def test_who_stops_early_leaves_nothing_running():
    read = []

    def cases():
        for number in range(9):
            read.append(number)
            yield _case(number)

    with closing(_threshold().stream(cases())) as predictions:
        next(predictions)
        next(predictions)
    assert read == [0, 1, 2]


def test_an_error_of_the_reader_comes_after_the_predictions_before_it():
    def cases():
        yield _case(1)
        raise OSError("damaged")

    got = []
    with pytest.raises(OSError, match="damaged") as caught:
        got.extend(prediction.case_id for prediction in _threshold().stream(cases()))
    assert caught.value.__notes__ == ["This happened while reading case number 2."]
    assert got == ["case 1"]


def test_an_error_of_the_network_names_the_case():
    class Breaks(Threshold):
        def forward(self, x):
            return super().forward(x)[:, : 1 if x.shape[-1] == 8 else 2]

    got = []
    with pytest.raises(ValueError, match="logits of shape") as caught:
        got.extend(one.case_id for one in _threshold(Breaks()).stream([_case(1), _case(2, 8), _case(3)]))
    assert caught.value.__notes__ == ["This happened while predicting case 'case 2'."]
    assert got == ["case 1"]


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("given", [3, None])
def test_what_is_no_list_of_cases_is_refused(given):
    with pytest.raises(TypeError, match="`cases` must be an iterable of cases"):
        _never().stream(given)


@pytest.mark.usefixtures("without_shape_checks")
def test_what_is_no_case_is_refused_where_it_comes():
    with pytest.raises(TypeError, match="`case"):
        list(_never().stream(["scan.nii.gz"]))


@pytest.mark.usefixtures("without_shape_checks")
def test_none_among_the_cases_does_not_end_them():
    predictor = Predictor(network(), AS_IT_IS, ORGANS)
    got = predictor.stream([scan(), None, scan()])
    next(got)
    with pytest.raises(TypeError, match="made of cases, or of functions that return one, got a NoneType"):
        next(got)
