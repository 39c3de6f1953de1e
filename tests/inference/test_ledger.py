"""A folder of predictions: what is whole is kept, what is bad is listed, what was cut short is done again."""

import hashlib
import json
import sys
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tests.inference.conftest import AFFINE, AS_IT_IS, LONG_S, ORGANS, Never, Threshold, network, scan
from torch import nn

from guided_attention._files import DRAFT_PREFIX
from guided_attention.data import read_nifti_case, write_nifti
from guided_attention.errors import (
    ArgumentError,
    DataError,
    ExistingFileError,
    GuidedAttentionError,
    MissingPackageError,
)
from guided_attention.inference import LedgerEntry, Predictor, read_ledger, save_prediction
from guided_attention.inference.writing import PredictionWriter
from guided_attention.labels import LabelSpec
from guided_attention.preparation import crop_or_pad, resample_in_plane

nibabel = pytest.importorskip("nibabel")
ONE = LabelSpec({1: "above"})


def _case(number, width=7):
    return scan(case_id=f"case {number}", seed=number, shape=(3, 5, width))


def _threshold(model=None):
    return Predictor(Threshold() if model is None else model, AS_IT_IS, ONE)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _statuses(entries):
    return [(entry.case_id, entry.status) for entry in entries]


def _written(folder, number):
    return np.asarray(nibabel.load(folder / f"case {number}_prediction.nii.gz").dataobj).T


def test_files_and_ledger_are_those_of_each_case(tmp_path):
    folder = tmp_path / "new" / "folder"
    entries = _threshold().predict_to(folder, [_case(1), _case(2)], also=["uncertainty"])
    kinds = ("prediction", "uncertainty")
    files = [f"case {number}_{kind}.nii.gz" for number in (1, 2) for kind in kinds]
    assert _names(folder) == [*files, "ledger.jsonl"]
    for number, entry in zip((1, 2), entries, strict=True):
        np.testing.assert_array_equal(_written(folder, number), _case(number).image[0] > 0)
        image = nibabel.load(folder / f"case {number}_prediction.nii.gz")
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
        assert entry.files == {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in (f"case {number}_{kind}.nii.gz" for kind in kinds)
        }
    assert _statuses(entries) == [("case 1", "done"), ("case 2", "done")]
    assert read_ledger(folder) == entries


def test_one_bad_case_is_listed_and_the_others_are_done(tmp_path):
    for number in (1, 3):
        write_nifti(tmp_path / f"case {number}.nii.gz", _case(number).image[0], AFFINE)
    (tmp_path / "case 2.nii.gz").write_bytes(b"damaged")
    readers = [partial(read_nifti_case, tmp_path / f"case {number}.nii.gz") for number in (1, 2, 3)]
    entries = _threshold().predict_to(tmp_path / "out", readers)
    assert _statuses(entries) == [("case 1", "done"), ("case number 2", "failed"), ("case 3", "done")]
    assert "DataError: " in entries[1].error
    assert "case 2.nii.gz" in entries[1].error
    assert _names(tmp_path / "out") == [
        "case 1_prediction.nii.gz",
        "case 3_prediction.nii.gz",
        "ledger.jsonl",
    ]


def test_a_case_that_the_network_cannot_take_is_listed(tmp_path):
    entries = Predictor(nn.Conv2d(1, 3, 1), AS_IT_IS, ORGANS).predict_to(
        tmp_path, [scan(2), scan(case_id="b")]
    )
    assert _statuses(entries) == [("case 7", "failed"), ("b", "done")]
    assert "must be of 1 channel," in entries[0].error


def test_a_failed_reader_with_a_name_is_listed_by_it_and_tried_again(tmp_path):
    class Reader:
        case_id = "case 2"
        whole = False

        def __call__(self):
            if not self.whole:
                raise KeyError("no such series")  # of a reader of the user's own
            return _case(2)

    reader = Reader()
    entries = _threshold().predict_to(tmp_path, [lambda: _case(1), reader, lambda: 1 / 0, lambda: _case(3)])
    names = [("case 1", "done"), ("case 2", "failed"), ("case number 3", "failed"), ("case 3", "done")]
    assert _statuses(entries) == names
    assert entries[1].error == "KeyError: 'no such series'"
    reader.whole = True
    _threshold().predict_to(tmp_path, [reader], resume=True)
    assert _statuses(read_ledger(tmp_path))[1] == ("case 2", "done")
    reader.whole = False  # a drive that is away for a while costs no prediction
    assert _statuses(_threshold().predict_to(tmp_path, [reader], resume=True)) == [("case 2", "failed")]
    reader.whole = True
    assert _statuses(_threshold().predict_to(tmp_path, [reader], resume=True)) == [("case 2", "skipped")]
    reader.whole = False
    _threshold().predict_to(tmp_path, [reader], resume=True)
    other = replace(scan(2), case_id="case 2")  # of too many channels, and not the scan that was predicted
    assert _statuses(_threshold().predict_to(tmp_path, [other], resume=True)) == [("case 2", "failed")]
    assert not (tmp_path / "case 2_prediction.nii.gz").exists()


def test_a_package_that_is_missing_ends_the_work_at_once(tmp_path, monkeypatch):
    def needs(_writer, _prediction, _paths):
        raise MissingPackageError("`nibabel` is not installed.")

    monkeypatch.setattr(PredictionWriter, "write", needs)
    with pytest.raises(MissingPackageError):
        _threshold().predict_to(tmp_path, [_case(1), _case(2)])
    assert read_ledger(tmp_path) == []


no_memory = pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError("Unable to allocate 2.00 GiB for an array."),
    ],
)


class Small(Threshold):
    """A network that holds images up to 7 voxels wide."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        if x.shape[-1] > 7:
            raise self.error
        return super().forward(x)


@no_memory
def test_a_scan_that_memory_cannot_hold_is_listed_and_the_others_are_done(tmp_path, error):
    entries = _threshold(Small(error)).predict_to(tmp_path, [_case(1, width=11), _case(2)])
    assert _statuses(entries) == [("case 1", "failed"), ("case 2", "done")]
    assert "must fit into memory" in entries[0].error
    assert f"{error} Set a smaller batch_size in the Predictor, or predict on another" in entries[0].error
    assert entries[0].error.endswith(
        "a smaller patch_size, and predict into another folder: it changes the labels."
    )


@no_memory
@pytest.mark.parametrize("method", ["predict", "probabilities", "__call__"])
def test_one_scan_that_memory_cannot_hold_is_an_error_that_holds_no_tensors(error, method):
    with pytest.raises(ArgumentError, match="'case 1' must fit into memory") as raised:
        getattr(_threshold(Small(error)), method)(_case(1, width=11))
    assert str(error) in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


def test_a_cropped_scan_is_written_on_its_own_grid(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", _case(1).image[0], AFFINE)
    cropped = crop_or_pad(read_nifti_case(tmp_path / "a.nii.gz"), (3, 5))
    coarse = resample_in_plane(replace(read_nifti_case(tmp_path / "a.nii.gz"), case_id="b"), 3.0)
    entries = _threshold().predict_to(tmp_path / "out", [cropped, coarse])
    assert [entry.status for entry in entries] == ["done", "done"], entries
    for case, entry in zip((cropped, coarse), entries, strict=True):
        image = nibabel.load(tmp_path / "out" / next(iter(entry.files)))
        np.testing.assert_allclose(image.affine, case.affine, atol=1e-5)
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, case.image[0] > 0)


def test_a_prediction_that_cannot_be_written_of_its_scan_fails_its_case_only(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", _case(1).image[0], AFFINE)
    moved = replace(read_nifti_case(tmp_path / "a.nii.gz"), affine=AFFINE @ np.diag([1, 1, 2, 1.0]))
    entries = _threshold().predict_to(tmp_path / "out", [moved, _case(2)])
    assert [entry.status for entry in entries] == ["failed", "done"]
    assert "must be on the grid of the volume" in entries[0].error
    # What was known of an earlier scan of this name went with its files.
    folder = tmp_path / "again"
    _threshold().predict_to(folder, [replace(_case(3), case_id=moved.case_id)])
    (entry,) = _threshold().predict_to(folder, [moved], resume=True)
    assert (entry.status, entry.files, entry.scan) == ("failed", {}, "")
    assert _names(folder) == ["ledger.jsonl"]


@pytest.mark.parametrize("bad", ["a/b", "..", 'a"b', ".hidden"])
def test_an_id_that_cannot_be_a_file_name_is_listed(tmp_path, bad):
    entries = _threshold().predict_to(tmp_path, [scan(case_id=bad), scan(case_id="b")])
    assert _statuses(entries) == [(bad, "failed"), ("b", "done")]
    assert _names(tmp_path) == ["b_prediction.nii.gz", "ledger.jsonl"]


def test_the_second_case_of_one_id_is_listed_by_its_number(tmp_path):
    cases = [_case(1), scan(case_id="case 1", seed=9)]
    entries = _threshold().predict_to(tmp_path, cases)
    assert _statuses(entries) == [("case 1", "done"), ("case number 2", "failed")]
    assert entries[1].error == (
        "DataError: `cases` must be of different ids, got two of 'case 1'. "
        "Give each case an id of its own: one prediction would replace the other."
    )
    np.testing.assert_array_equal(_written(tmp_path, 1), _case(1).image[0] > 0)
    # What the ledger tells of the first stays: it is not predicted again.
    assert read_ledger(tmp_path) == entries
    again = _threshold().predict_to(tmp_path, cases, resume=True)
    assert _statuses(again) == [("case 1", "skipped"), ("case number 2", "failed")]


def test_a_network_that_raises_any_error_fails_its_case_only(tmp_path):
    class Looks(Threshold):
        def forward(self, x):
            {7: 0}[x.shape[-1]]  # a KeyError for other widths
            return super().forward(x)

    entries = _threshold(Looks()).predict_to(tmp_path, [_case(1, width=11), _case(2)])
    assert _statuses(entries) == [("case 1", "failed"), ("case 2", "done")]
    assert entries[0].error.startswith(
        "ArgumentError: `model` must take images of shape (3, 1, 5, 11), got KeyError from it: 11. "
    )


@pytest.mark.usefixtures("without_shape_checks")
def test_what_is_no_shard_is_refused_before_the_folder_is_made(tmp_path):
    for wrong in ((1, 2), "1/2"):
        with pytest.raises(TypeError, match=r"`shard` must be a Shard, got a .*\. Write Shard\(1, 2\)"):
            _threshold().predict_to(tmp_path / "out", [_case(1)], shard=wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_shape_checks")
def test_a_text_is_no_list_of_formats(tmp_path):
    prediction = _threshold().predict(_case(1))
    for call in (
        lambda also: _threshold().predict_to(tmp_path / "out", [_case(1)], also=also),
        lambda also: save_prediction(prediction, tmp_path / "out", also=also),
    ):
        with pytest.raises(TypeError, match="`also` must be a list of formats, got 'uncertainty'") as caught:
            call("uncertainty")
        assert str(caught.value).endswith("Write ['uncertainty'].")
        with pytest.raises(TypeError, match="`also` must be a list of formats, got a NoneType"):
            call(None)
    assert not (tmp_path / "out").exists()


def test_another_batch_size_continues_a_folder_and_another_size_of_windows_does_not(tmp_path):
    first = Predictor(network(), AS_IT_IS, ORGANS, patch_size=(5, 7))
    first.predict_to(tmp_path, [_case(1)])
    smaller = replace(first, batch_size=1)
    assert _statuses(smaller.predict_to(tmp_path, [_case(1), _case(2)], resume=True)) == [
        ("case 1", "skipped"),
        ("case 2", "done"),
    ]
    with pytest.raises(DataError, match="`folder` must be begun with this predictor"):
        replace(first, patch_size=(3, 7)).predict_to(tmp_path, [_case(3)], resume=True)


def test_resume_skips_what_is_whole_and_does_the_rest(tmp_path):
    first, second = _threshold(), _threshold()
    first.predict_to(tmp_path, [_case(1), _case(2), _case(3)])
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in _names(tmp_path)}
    (tmp_path / "case 2_prediction.nii.gz").write_bytes(b"cut")
    (tmp_path / "case 3_prediction.nii.gz").unlink()
    draft = tmp_path / ".unfinished-1234.case 3_prediction.nii.gz"
    draft.write_bytes(b"draft of a killed process")
    entries = second.predict_to(tmp_path, [_case(number) for number in (1, 2, 3, 4)], resume=True)
    assert _statuses(entries) == [
        ("case 1", "skipped"),
        ("case 2", "done"),
        ("case 3", "done"),
        ("case 4", "done"),
    ]
    for number in (1, 2, 3, 4):
        np.testing.assert_array_equal(_written(tmp_path, number), _case(number).image[0] > 0)
    assert (tmp_path / "case 1_prediction.nii.gz").stat().st_mtime_ns == before["case 1_prediction.nii.gz"]
    assert not draft.exists()


def test_resume_makes_the_uncertainty_that_was_not_asked_for_before(tmp_path):
    _threshold().predict_to(tmp_path, [_case(1)])
    entries = _threshold().predict_to(tmp_path, [_case(1)], resume=True, also=["uncertainty"])
    assert _statuses(entries) == [("case 1", "done")]
    assert (tmp_path / "case 1_uncertainty.nii.gz").is_file()


def test_a_failed_case_is_tried_again(tmp_path):
    predictor = Predictor(nn.Conv2d(1, 3, 1), AS_IT_IS, ORGANS)
    predictor.predict_to(tmp_path, [scan(2)])
    assert _statuses(predictor.predict_to(tmp_path, [scan(1)], resume=True)) == [("case 7", "done")]
    assert _statuses(read_ledger(tmp_path)) == [("case 7", "done")]


def test_a_folder_of_another_predictor_is_not_continued(tmp_path):
    Predictor(network(), AS_IT_IS, ORGANS).predict_to(tmp_path, [_case(1)])
    before = (tmp_path / "ledger.jsonl").read_bytes()
    other = network()
    nn.init.zeros_(other[0].weight)
    with pytest.raises(DataError, match="`folder` must be begun with this predictor"):
        Predictor(other, AS_IT_IS, ORGANS).predict_to(tmp_path, [_case(2)], resume=True)
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("held", "cure"),
    [("ledger.jsonl", "Set resume=True"), ("case 9_prediction.nii.gz", "Move them, or name")],
)
def test_a_folder_with_predictions_is_refused_before_the_network(tmp_path, held, cure):
    (tmp_path / held).write_text("")
    with pytest.raises(ExistingFileError, match=rf"which holds {held}\. {cure}"):
        Predictor(Never(), AS_IT_IS, ORGANS).predict_to(tmp_path, [_case(1)])
    assert _names(tmp_path) == [held]


def test_overwrite_discards_what_was_there(tmp_path):
    _threshold().predict_to(tmp_path, [_case(1), _case(2)])
    (tmp_path / "notes.txt").write_text("mine")
    entries = _threshold().predict_to(tmp_path, [_case(2)], overwrite=True)
    assert _statuses(entries) == _statuses(read_ledger(tmp_path)) == [("case 2", "done")]
    assert _names(tmp_path) == ["case 2_prediction.nii.gz", "ledger.jsonl", "notes.txt"]
    with pytest.raises(ValueError, match="`resume` and `overwrite` must not both be set"):
        _threshold().predict_to(tmp_path, [], resume=True, overwrite=True)


def test_a_line_that_was_cut_short_is_no_entry_and_is_ended(tmp_path):
    _threshold().predict_to(tmp_path, [_case(1)])
    whole = (tmp_path / "ledger.jsonl").read_bytes()
    (tmp_path / "ledger.jsonl").write_bytes(whole + b'{"case_id": "case 2", "sta')
    assert _statuses(read_ledger(tmp_path)) == [("case 1", "done")]
    _threshold().predict_to(tmp_path, [_case(1), _case(2)], resume=True)
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line).get("case_id") for line in lines] == [None, "case 1", "case 2"]


@pytest.mark.parametrize("line", ["no json", "[]", '{"case_id": 1, "odd": 2}', "3", '{"version": 99}'])
def test_a_ledger_of_something_else_is_refused(tmp_path, line):
    (tmp_path / "ledger.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"ledger\.jsonl"):
        read_ledger(tmp_path)


def test_an_error_of_the_disk_ends_the_work_and_the_ledger_tells_what_is_done(tmp_path, monkeypatch):
    write_prediction = PredictionWriter.write

    def full(writer, prediction, paths):
        if prediction.case_id == "case 2":
            raise OSError("disk full")
        write_prediction(writer, prediction, paths)

    monkeypatch.setattr(PredictionWriter, "write", full)
    with pytest.raises(OSError, match="disk full"):
        _threshold().predict_to(tmp_path, [_case(number) for number in (1, 2, 3)])
    assert _statuses(read_ledger(tmp_path)) == [("case 1", "done")]


def test_a_prediction_is_written_while_the_network_works(tmp_path, monkeypatch):
    write_prediction = PredictionWriter.write

    writes_first, works_on_second = threading.Event(), threading.Event()
    met, passes = [], []

    def write(writer, prediction, paths):
        writes_first.set()
        met.append(works_on_second.wait(LONG_S))
        write_prediction(writer, prediction, paths)

    class Meets(Threshold):
        def forward(self, x):
            if len(passes) == 1:
                works_on_second.set()
                met.append(writes_first.wait(LONG_S))
            passes.append(x)
            return super().forward(x)

    monkeypatch.setattr(PredictionWriter, "write", write)
    _threshold(Meets()).predict_to(tmp_path, [_case(1), _case(2)])
    assert met == [True] * 3


def test_entries_are_plain_records():
    assert LedgerEntry("7", "done", {"a": "b"}) == LedgerEntry("7", "done", {"a": "b"})


def test_another_scan_of_the_same_name_is_predicted_anew(tmp_path):
    _threshold().predict_to(tmp_path, [_case(1), _case(2)])
    other = replace(_case(3), case_id="case 1")
    moved = replace(_case(2), affine=AFFINE @ np.diag([1, 1, 2, 1.0]))
    assert _statuses(_threshold().predict_to(tmp_path, [other, moved], resume=True)) == [
        ("case 1", "done"),
        ("case 2", "done"),
    ]
    np.testing.assert_array_equal(_written(tmp_path, 1), other.image[0] > 0)
    written = nibabel.load(tmp_path / "case 2_prediction.nii.gz")
    np.testing.assert_allclose(written.affine, moved.affine, atol=1e-6)


def test_nothing_of_the_earlier_scan_of_a_name_is_left(tmp_path):
    _threshold().predict_to(tmp_path, [_case(1), _case(2), _case(3)], also=["uncertainty"])
    blank, other = replace(scan(2), case_id="case 1"), replace(_case(9), case_id="case 2")
    (tmp_path / "case 3_prediction.nii.gz").write_bytes(b"cut")  # of the same scan, as is its uncertainty
    entries = _threshold().predict_to(tmp_path, [blank, other, _case(3)], resume=True)
    assert _statuses(entries) == [("case 1", "failed"), ("case 2", "done"), ("case 3", "done")]
    kept = ["case 2_prediction.nii.gz", "case 3_prediction.nii.gz", "case 3_uncertainty.nii.gz"]
    assert _names(tmp_path) == [*kept, "ledger.jsonl"]


def test_overwrite_leaves_no_uncertainty_of_an_earlier_prediction(tmp_path):
    _threshold().predict_to(tmp_path, [_case(1), _case(2)], also=["uncertainty"])
    _threshold().predict_to(tmp_path, [_case(1)], overwrite=True)
    assert _names(tmp_path) == ["case 1_prediction.nii.gz", "ledger.jsonl"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")
def test_a_folder_in_use_is_refused_and_its_drafts_are_left(tmp_path):
    def cases():
        (tmp_path / f"{DRAFT_PREFIX}x.nii.gz").touch()
        with pytest.raises(ExistingFileError, match=r"which process \d+ on .* is predicting into"):
            _threshold().predict_to(tmp_path, [_case(2)], resume=True)
        assert (tmp_path / f"{DRAFT_PREFIX}x.nii.gz").exists()
        yield _case(1)

    assert _statuses(_threshold().predict_to(tmp_path, cases())) == [("case 1", "done")]
    assert _statuses(_threshold().predict_to(tmp_path, [_case(2)], resume=True)) == [("case 2", "done")]


@pytest.mark.parametrize("bad", ["a\nb", "a\tb", "a\x1b[31m", "a\udc80", "ä" * 81, "a" * 161])
def test_an_id_of_odd_or_too_many_characters_is_listed_and_the_others_are_done(tmp_path, bad):
    entries = _threshold().predict_to(tmp_path, [replace(_case(1), case_id=bad), _case(2)])
    assert _statuses(entries) == [(bad, "failed"), ("case 2", "done")]
    assert entries[0].error.startswith(
        "DataError: `case_id` must be fit for a file name, of at most 160 bytes"
    )


def test_the_longest_id_is_written(tmp_path):
    entries = _threshold().predict_to(tmp_path, [replace(_case(1), case_id="a" * 160)], also=["uncertainty"])
    assert entries[0].status == "done"


def test_a_folder_in_the_place_of_a_prediction_fails_its_case_only(tmp_path):
    (tmp_path / "case 1_prediction.nii.gz").mkdir()
    entries = _threshold().predict_to(tmp_path, [_case(1), _case(2)], resume=True)
    assert _statuses(entries) == [("case 1", "failed"), ("case 2", "done")]


@pytest.mark.parametrize(
    "line",
    [
        b'"version"',
        b"\xff\xfe",
        b'{"case_id": ["7"], "status": "done"}',
        b'{"case_id": "7", "status": "done", "files": null}',
        b'{"case_id": "7", "status": "done", "files": {"a": 3}}',
        b'{"case_id": "7", "status": "perhaps"}',
        b"[" * 100_000,
    ],
)
def test_a_line_of_the_wrong_types_is_refused(tmp_path, line):
    (tmp_path / "ledger.jsonl").write_bytes(line + b"\n")
    with pytest.raises(DataError, match="line 1 of .* must be a line that predict_to wrote"):
        read_ledger(tmp_path)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    predictor, prediction = _threshold(), _threshold().predict(_case(1))
    for folder, error in (
        (tmp_path / "file", FileExistsError),
        (tmp_path / "file" / "x", FileExistsError),
        (3, TypeError),
    ):
        for call in (
            lambda folder: predictor.predict_to(folder, [_case(1)]),
            lambda folder: save_prediction(prediction, folder),
        ):
            with pytest.raises(GuidedAttentionError, match="`folder` must be a") as caught:
                call(folder)
            assert isinstance(caught.value, error)
    (tmp_path / "ledger.jsonl").mkdir()
    with pytest.raises(DataError, match=r"ledger\.jsonl can be read"):
        predictor.predict_to(tmp_path, [_case(1)], resume=True)
