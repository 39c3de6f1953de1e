"""Many cases: read ahead, written behind, in order, and nothing left over."""

import gc
import inspect
import threading
import time
import weakref
from contextlib import closing, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from guided_attention.case import Case
from guided_attention.data import read_nifti_case, write_nifti
from guided_attention.inference import predict_case, predict_cases, save_prediction

SHAPE = (3, 5, 7)
AFFINE = np.array([[-1.2, 0.1, 0.3, 17.0], [0.2, 1.4, -0.5, -3.0], [0.0, 0.4, 5.4, 31.0], [0, 0, 0, 1.0]])
SAVE = "guided_attention.inference.stream.save_prediction"
LONG_S = 60  # how long a thread waits for what never comes, when a test fails


def _case(number, shape=SHAPE):
    image = np.random.default_rng(number).normal(size=(1, *shape)).astype(np.float32)
    return Case(f"case {number}", image, None, AFFINE)


def _network(spatial_dims=2):
    torch.manual_seed(5)
    return (nn.Conv2d if spatial_dims == 2 else nn.Conv3d)(1, 3, 3, padding=1)


class Threshold(nn.Module):
    def forward(self, x):
        return torch.cat([-x, x], dim=1)


class Never(nn.Module):
    def forward(self, _):
        raise AssertionError("the check comes before the network")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


# What comes out


@pytest.mark.parametrize("as_list", [True, False])
def test_the_predictions_are_those_of_each_case_in_order(as_list):
    model, cases = _network(), [_case(number, (3, 5, 7 + number)) for number in (4, 2, 9, 1)]
    got = list(predict_cases(model, cases if as_list else iter(cases)))
    assert [prediction.case_id for prediction in got] == ["case 4", "case 2", "case 9", "case 1"]
    for prediction, case in zip(got, cases, strict=True):
        wanted = predict_case(model, case)
        np.testing.assert_array_equal(prediction.labels, wanted.labels)
        np.testing.assert_array_equal(prediction.uncertainty, wanted.uncertainty)


def test_no_cases_give_no_predictions():
    assert list(predict_cases(Never(), [])) == []
    assert list(predict_cases(Never(), iter([]))) == []


def test_the_arguments_are_those_of_a_single_case_and_reach_it(monkeypatch):
    ours, single = (inspect.signature(function).parameters for function in (predict_cases, predict_case))
    saved = inspect.signature(save_prediction).parameters
    own = ("include_uncertainty", "overwrite")
    assert {key: value for key, value in ours.items() if key not in ("cases", "folder", *own)} == {
        key: value for key, value in single.items() if key != "case"
    }
    assert all(ours[key] == saved[key] for key in own)
    seen = []
    monkeypatch.setattr(
        "guided_attention.inference.stream.predict_case",
        lambda *args, **kwargs: seen.append(kwargs) or predict_case(*args, **kwargs),
    )
    wanted = {
        "batch_size": 3,
        "spatial_dims": 3,
        "device": "cpu",
        "precision": "bf16",
        "in_plane_mm": 2.5,
        "min_size": (17, 19),
    }
    list(predict_cases(_network(3), [_case(1)], **wanted))
    assert seen == [wanted]


def test_files_read_back_with_their_geometry(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for number in (1, 2, 3):
        write_nifti(tmp_path / f"{number}.nii.gz", _case(number).image[0], AFFINE)
    cases = (read_nifti_case(tmp_path / f"{number}.nii.gz") for number in (1, 2, 3))
    folder = tmp_path / "new" / "folder"
    for prediction in predict_cases(Threshold(), cases, folder=folder, include_uncertainty=True):
        np.testing.assert_allclose(prediction.affine, AFFINE, atol=1e-6)
    assert _names(folder) == [
        f"{number}_{kind}.nii.gz" for number in (1, 2, 3) for kind in ("prediction", "uncertainty")
    ]
    for number in (1, 2, 3):
        written = nibabel.load(folder / f"{number}_prediction.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj).T, _case(number).image[0] > 0)
        np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)


def test_what_is_done_to_a_prediction_does_not_reach_its_file(tmp_path, monkeypatch):
    nibabel = pytest.importorskip("nibabel")
    changed = threading.Event()

    def save_late(*args, **kwargs):
        assert changed.wait(LONG_S)
        return save_prediction(*args, **kwargs)

    monkeypatch.setattr(SAVE, save_late)
    for prediction in predict_cases(Threshold(), [_case(1)], folder=tmp_path):
        prediction.labels.fill(7)
        changed.set()
    written = nibabel.load(tmp_path / "case 1_prediction.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, _case(1).image[0] > 0)


# At the same time


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

    assert len(list(predict_cases(Meets(), cases()))) == 2
    assert met == [True] * 3


def test_a_prediction_is_written_while_the_network_works(tmp_path, monkeypatch):
    writes_first, works_on_second = threading.Event(), threading.Event()
    met = []

    def save(prediction, *args, **kwargs):
        writes_first.set()
        met.append(works_on_second.wait(LONG_S))
        return save_prediction(prediction, *args, **kwargs)

    class Meets(Threshold):
        def forward(self, x):
            if len(passes) == 1:
                works_on_second.set()
                met.append(writes_first.wait(LONG_S))
            passes.append(x)
            return super().forward(x)

    passes = []
    monkeypatch.setattr(SAVE, save)
    assert len(list(predict_cases(Meets(), [_case(1), _case(2)], folder=tmp_path))) == 2
    assert met == [True] * 3
    assert len(_names(tmp_path)) == 2


def test_no_more_than_two_cases_are_in_memory_and_one_is_read_ahead():
    alive, counts, read = weakref.WeakSet(), [], []

    def cases():
        for number in range(5):
            gc.collect()
            counts.append(len(alive))
            case = _case(number)
            alive.add(case)
            read.append(number)
            yield case
            del case

    for asked, _ in enumerate(predict_cases(_network(), cases())):
        assert len(read) <= asked + 2
    assert max(counts) == 1  # with the one that is then made, two


# Stopping


def test_nothing_begins_before_the_first_prediction_is_asked_for():
    def cases():
        raise AssertionError("read too early")
        yield

    predict_cases(Never(), cases())


@pytest.mark.parametrize("how", ["return", "close", "error"])
def test_who_stops_early_waits_for_what_is_being_written_and_read(tmp_path, monkeypatch, how):
    read = []

    def cases():
        for number in range(9):
            read.append(number)
            yield _case(number)

    def save(*args, **kwargs):
        time.sleep(0.3)  # were it not waited for, the file would come too late
        return save_prediction(*args, **kwargs)

    monkeypatch.setattr(SAVE, save)

    def use():
        for prediction in predict_cases(Threshold(), cases(), folder=tmp_path):
            if prediction.case_id == "case 1":
                return 1 / (how != "error")
        return None

    if how == "close":
        with closing(predict_cases(Threshold(), cases(), folder=tmp_path)) as predictions:
            next(predictions)
            next(predictions)
    else:
        with pytest.raises(ZeroDivisionError) if how == "error" else nullcontext():
            use()
    assert _names(tmp_path) == ["case 0_prediction.nii.gz", "case 1_prediction.nii.gz"]
    assert read == [0, 1, 2]


# Errors


def test_an_error_of_the_reader_comes_after_the_predictions_before_it(tmp_path):
    def cases():
        yield _case(1)
        raise OSError("damaged")

    got = []
    with pytest.raises(OSError, match="damaged") as caught:
        got.extend(prediction.case_id for prediction in predict_cases(Threshold(), cases(), folder=tmp_path))
    assert caught.value.__notes__ == ["This happened while reading case number 2."]
    assert got == ["case 1"]
    assert _names(tmp_path) == ["case 1_prediction.nii.gz"]


def test_an_error_of_the_network_names_the_case(tmp_path):
    class Breaks(Threshold):
        def forward(self, x):
            return super().forward(x)[:, : 1 if x.shape[-1] == 8 else 2]

    with pytest.raises(ValueError, match="must be of 2 to 256 classes") as caught:
        list(predict_cases(Breaks(), [_case(1), _case(2, (3, 5, 8)), _case(3)], folder=tmp_path))
    assert caught.value.__notes__ == ["This happened while predicting case 'case 2'."]
    assert _names(tmp_path) == ["case 1_prediction.nii.gz"]


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_an_error_of_the_writer_names_the_case_and_ends_the_work(tmp_path, monkeypatch, bad):
    def save(prediction, *args, **kwargs):
        if prediction.case_id == f"case {bad}":
            raise OSError("disk full")
        return save_prediction(prediction, *args, **kwargs)

    monkeypatch.setattr(SAVE, save)
    predictions = predict_cases(Threshold(), [_case(number) for number in (1, 2, 3)], folder=tmp_path)
    got = []
    with pytest.raises(OSError, match="disk full") as caught:
        got.extend(prediction.case_id for prediction in predictions)
    assert caught.value.__notes__ == [f"This happened while writing the prediction of case 'case {bad}'."]
    assert _names(tmp_path) == [f"case {number}_prediction.nii.gz" for number in range(1, bad)]
    assert list(predictions) == []


def test_an_error_of_the_writer_is_not_lost_by_stopping(tmp_path, monkeypatch):
    monkeypatch.setattr(SAVE, lambda *_, **__: 1 / 0)
    predictions = predict_cases(Threshold(), [_case(1), _case(2)], folder=tmp_path)
    next(predictions)
    with pytest.raises(ZeroDivisionError):
        predictions.close()


@pytest.mark.parametrize("held", ["case 2_prediction.nii.gz", "case 2_uncertainty.nii.gz"])
def test_an_earlier_prediction_of_a_case_in_a_list_is_refused_at_once(tmp_path, held):
    (tmp_path / held).write_text("earlier")
    with pytest.raises(FileExistsError, match=rf"got .*{held}\. .*overwrite=True"):
        predict_cases(Never(), [_case(1), _case(2)], folder=tmp_path, include_uncertainty=True)
    assert _names(tmp_path) == [held]


def test_an_earlier_prediction_of_a_case_yet_unread_is_refused_before_the_network(tmp_path):
    (tmp_path / "case 2_prediction.nii.gz").write_text("earlier")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        list(predict_cases(Never(), iter([_case(2)]), folder=tmp_path))
    assert (tmp_path / "case 2_prediction.nii.gz").read_text() == "earlier"


def test_an_earlier_prediction_is_replaced_when_asked_to(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    (tmp_path / "case 2_prediction.nii.gz").write_text("earlier")
    list(predict_cases(Threshold(), [_case(1), _case(2)], folder=tmp_path, overwrite=True))
    written = np.asarray(nibabel.load(tmp_path / "case 2_prediction.nii.gz").dataobj).T
    np.testing.assert_array_equal(written, _case(2).image[0] > 0)


@pytest.mark.parametrize("as_list", [True, False])
def test_two_cases_of_one_id_are_refused_where_one_would_replace_the_other(tmp_path, as_list):
    cases = [_case(1), replace(_case(2), case_id="case 1")]
    message = r"`cases` must be of different ids, got two of 'case 1'\. Give each an id of its own"
    with pytest.raises(ValueError, match=message):
        list(predict_cases(Threshold(), cases if as_list else iter(cases), folder=tmp_path, overwrite=True))
    assert _names(tmp_path) == ([] if as_list else ["case 1_prediction.nii.gz"])
    assert len(list(predict_cases(Threshold(), cases))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"in_plane_mm": 0.0}, "`in_plane_mm` must be above"),
        ({"min_size": (0, 7)}, "`min_size` must be above"),
    ],
)
def test_an_argument_out_of_range_is_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        predict_cases(Never(), [_case(1)], **arguments)
