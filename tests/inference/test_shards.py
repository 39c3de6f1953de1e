"""Cohorts in shards: the same files as of one process, and a merge that says what is missing."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.inference.conftest import scan
from tests.inference.test_ledger import _threshold

from guided_attention._locks import LOCK
from guided_attention.errors import ArgumentError, DataError, ExistingFileError, MissingFileError
from guided_attention.inference import Shard, merge_shards, read_ledger
from guided_attention.recipes._cases import source_of

CASES = 7


def read(number):
    if number == 4:
        raise DataError("`scan` must be whole.")
    return scan(case_id=f"case {number}", seed=number)


def readers():
    return [partial(read, number) for number in range(1, CASES + 1)]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    _threshold().predict_to(folder, readers(), also=["uncertainty"])
    return contents(folder)


@pytest.mark.parametrize("count", [1, 2, 5, 11])
def test_shards_give_the_files_of_one_process(tmp_path, whole, count):
    for number in range(count, 0, -1):
        _threshold().predict_to(tmp_path, readers(), also=["uncertainty"], shard=Shard(number, count))
    merged = merge_shards(tmp_path)
    assert contents(tmp_path) == whole
    assert merged.is_complete
    assert merged.failed == ("case number 4",)
    assert [entry.case_id for entry in merged.entries] == [entry.case_id for entry in read_ledger(tmp_path)]
    assert merge_shards(tmp_path) == merged
    assert contents(tmp_path) == whole


def test_a_shard_that_never_ran_and_the_cases_of_a_killed_one_are_named(tmp_path, whole):
    _threshold().predict_to(tmp_path, readers(), also=["uncertainty"], shard=Shard(1, 3))

    def killed(_entry):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _threshold().predict_to(tmp_path, readers(), also=["uncertainty"], shard=Shard(2, 3), on_case=killed)
    merged = merge_shards(tmp_path)
    assert not merged.is_complete
    assert merged.absent == (Shard(3, 3),)
    assert merged.unfinished == (Shard(2, 3),)
    assert merged.missing in ((), ("case number 5",))  # as far as it came
    assert not (tmp_path / "ledger.jsonl").exists()
    for number in (2, 3):
        _threshold().predict_to(
            tmp_path, readers(), also=["uncertainty"], shard=Shard(number, 3), resume=True
        )
    assert merge_shards(tmp_path).is_complete
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("calls", range(1, 12))
def test_a_merge_that_was_killed_is_done_by_another(tmp_path, whole, monkeypatch, calls):
    for number in (1, 2):
        _threshold().predict_to(tmp_path, readers(), also=["uncertainty"], shard=Shard(number, 2))
    left = calls

    def counted(function):
        def call(path, *arguments, **named):
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return function(path, *arguments, **named)

        return call

    path = type(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(path, "replace", counted(path.replace))
        patch.setattr(path, "rmdir", counted(path.rmdir))
        try:
            merge_shards(tmp_path)
        except KeyboardInterrupt:
            assert left == 0
    assert merge_shards(tmp_path).is_complete
    assert contents(tmp_path) == whole


def test_what_does_not_belong_together_is_an_error(tmp_path):
    with pytest.raises(MissingFileError, match="must hold the shards of predictions"):
        merge_shards(tmp_path)
    _threshold().predict_to(tmp_path / "a", readers(), shard=Shard(1, 2))
    with pytest.raises(DataError, match="got 1/3 for shards of 2"):
        _threshold().predict_to(tmp_path / "a", readers(), shard=Shard(1, 3))
    with pytest.raises(DataError, match="got none for shards of 2. Merge these shards first"):
        _threshold().predict_to(tmp_path / "a", readers())
    with pytest.raises(
        ExistingFileError, match=r"Set resume=True to continue, delete \S*/shard-1-of-2, or name"
    ):
        _threshold().predict_to(tmp_path / "a", readers(), shard=Shard(1, 2))
    twice = [*readers()[:5], partial(read, 1), *readers()[6:]]
    _threshold().predict_to(tmp_path / "a", twice, shard=Shard(2, 2))
    with pytest.raises(DataError, match="of different ids, got case 1 in two shards"):
        merge_shards(tmp_path / "a")
    _threshold().predict_to(tmp_path / "b", readers())
    with pytest.raises(DataError, match=r"which holds ledger.jsonl"):
        _threshold().predict_to(tmp_path / "b", readers(), shard=Shard(1, 2), resume=True)


@dataclass(frozen=True)
class Named:
    case_id: str

    def __call__(self):
        return scan(case_id=self.case_id)


OTHER_CASES = [
    ([read] * 4, [read] * 6, "got parts of 4 and of 6"),
    ([Named(name) for name in "1234"], [Named(name) for name in "23x4"], "got others of the same number"),
    ([scan(case_id=name) for name in "12"], [Named(name) for name in "21"], "got others of the same number"),
]


@pytest.mark.parametrize(("before", "after", "message"), OTHER_CASES)
def test_shards_of_cases_that_have_changed_are_refused(tmp_path, monkeypatch, before, after, message):
    """A scan that is added or removed between two shards moves others: some would be predicted in neither."""
    threshold = _threshold()
    for cases, number in ((before, 1), (after, 2)):
        monkeypatch.setattr(Shard, "part", lambda *_: iter([scan(case_id=f"of {number}")]))  # noqa: B023
        root = tmp_path / f"{number}"
        threshold.predict_to(root, cases, shard=Shard(number, 2))
    for shard, resume in ((Shard(1, 2), True), (Shard(2, 2), False)):
        with pytest.raises(DataError, match=f"`shards` must be parts of the same cases, {message}"):
            threshold.predict_to(tmp_path / "1", after, shard=shard, resume=resume)
    (tmp_path / "2" / "shard-2-of-2").rename(tmp_path / "1" / "shard-2-of-2")  # both began at the same time
    with pytest.raises(DataError, match=f"`shards` must be parts of the same cases, {message}"):
        merge_shards(tmp_path / "1")


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"another")])
def test_a_prediction_that_is_gone_or_another_is_missing_until_it_is_made_again(tmp_path, damage):
    threshold, cases = _threshold(), [scan(case_id=name) for name in "123"]
    for number in (1, 2):
        threshold.predict_to(tmp_path, cases, shard=Shard(number, 2))
    path = tmp_path / "shard-1-of-2" / "3_prediction.nii.gz"
    damage(path)
    merged = merge_shards(tmp_path)
    assert (merged.absent, merged.unfinished, merged.missing) == ((), (Shard(1, 2),), ("3",))
    assert [entry.case_id for entry in merged.entries] == ["1", "2"]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["shard-1-of-2", "shard-2-of-2"]
    entries = threshold.predict_to(tmp_path, cases, shard=Shard(1, 2), resume=True)
    assert [entry.status for entry in entries] == ["skipped", "done"]
    assert merge_shards(tmp_path).is_complete
    assert len(list(tmp_path.glob("*_prediction.nii.gz"))) == 3


def test_shards_with_other_files_are_refused_until_all_have_them(tmp_path):
    threshold, cases = _threshold(), [scan(case_id=name) for name in "123"]
    threshold.predict_to(tmp_path, cases, shard=Shard(1, 2), also=["uncertainty"])
    threshold.predict_to(tmp_path, cases, shard=Shard(2, 2))
    message = r"got none or uncertainty beside the predictions\. .* resume=True and `also` of uncertainty"
    with pytest.raises(DataError, match=message):
        merge_shards(tmp_path)
    assert not list(tmp_path.glob("*.nii.gz"))
    threshold.predict_to(tmp_path, cases, shard=Shard(2, 2), also=["uncertainty"], resume=True)
    assert merge_shards(tmp_path).is_complete
    assert len(list(tmp_path.glob("*_uncertainty.nii.gz"))) == 3


def test_a_file_of_the_folder_is_not_replaced(tmp_path):
    threshold, cases = _threshold(), [scan(case_id=name) for name in "12"]
    mine = tmp_path / "2_prediction.nii.gz"
    mine.write_text("mine")
    with pytest.raises(
        ExistingFileError, match=r"holds 2_prediction.nii.gz\. Move them, or name another folder\."
    ):
        threshold.predict_to(tmp_path, cases, shard=Shard(1, 2))
    assert list(tmp_path.rglob("*.nii.gz")) == [mine]
    for number in (1, 2):
        threshold.predict_to(tmp_path, cases, shard=Shard(number, 2), resume=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExistingFileError, match=r"with 2_prediction.nii.gz\. Move them, and merge again\."):
        merge_shards(tmp_path)
    assert (mine.read_text(), sorted(tmp_path.rglob("*"))) == ("mine", before)
    mine.unlink()
    assert merge_shards(tmp_path).is_complete


def test_the_scans_of_a_run_have_names_before_they_are_read():
    readers = source_of([scan(case_id="one"), scan(case_id="other")]).readers(["other", "one"])
    assert [(read.case_id, read().case_id) for read in readers] == [("other", "other"), ("one", "one")]


def test_shards_of_older_versions_and_of_unknown_cases_are_merged(tmp_path):
    threshold, cases = _threshold(), [scan(case_id=name) for name in "12345"]
    threshold.predict_to(tmp_path, cases, shard=Shard(1, 3))
    path = tmp_path / "shard-1-of-3" / "ledger.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    old = [{key: value for key, value in line.items() if key not in {"total", "names"}} for line in lines]
    assert old != lines
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    threshold.predict_to(tmp_path, cases, shard=Shard(1, 3), resume=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    threshold.predict_to(tmp_path, iter(cases), shard=Shard(2, 3))
    threshold.predict_to(tmp_path, [partial(scan, case_id=case.case_id) for case in cases], shard=Shard(3, 3))
    assert [entry.case_id for entry in merge_shards(tmp_path).entries] == list("12345")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({}, None),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None),
        ({"WORLD_SIZE": "3", "RANK": "2", "SLURM_ARRAY_TASK_COUNT": "7"}, Shard(3, 3)),
        ({"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_ID": "2"}, Shard(3, 4)),
        (
            {
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_ID": "5",
                "SLURM_ARRAY_TASK_MIN": "3",
                "SLURM_ARRAY_TASK_MAX": "6",
            },
            Shard(3, 4),
        ),
        (
            {
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_ID": "11",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_MAX": "11",
                "SLURM_ARRAY_TASK_STEP": "5",
            },
            Shard(3, 3),
        ),
    ],
)
def test_the_shard_of_a_process_is_that_of_its_environment(monkeypatch, names, expected):
    for name in (
        "WORLD_SIZE",
        "RANK",
        *(f"SLURM_ARRAY_TASK_{part}" for part in ("ID", "MIN", "MAX", "STEP", "COUNT")),
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert Shard.from_environment() == expected


@pytest.mark.parametrize(("task", "count", "step"), [("7", "3", "1"), ("2", "3", "1"), ("0", "4", "3")])
def test_an_array_with_gaps_is_an_error(monkeypatch, task, count, step):
    """Of --array=0,2,7 task 2 would be the third part, and the second would never run."""
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    values = {"ID": task, "MIN": "0", "MAX": "7", "COUNT": count, "STEP": step}
    for name, value in values.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    with pytest.raises(ArgumentError, match=r"without gaps, got \d tasks from 0 to 7\. Name the shard"):
        Shard.from_environment()


@pytest.mark.parametrize(("number", "count"), [(0, 3), (4, 3), (1, 0)])
def test_a_shard_out_of_range_is_an_error(number, count):
    with pytest.raises(ValueError, match="`(number|count)` must be"):
        Shard(number, count)


def test_shards_share_all_items_once():
    items = np.arange(23)
    for count in (1, 2, 5, 29):
        parts = [list(Shard(number, count).part(items)) for number in range(1, count + 1)]
        assert sorted(item for part in parts for item in part) == list(items)
        assert [len(part) for part in parts] == [Shard(n, count).size(items) for n in range(1, count + 1)]
        assert [Shard(2, 5).place(n) for n in (1, 2, 3)] == [2, 7, 12]


def test_folders_that_only_look_like_shards_are_ignored(tmp_path):
    for name in ("shard-old-of-5", "shard-0-of-3", "shard-1-of-2 copy"):
        (tmp_path / name).mkdir()
    entries = _threshold().predict_to(tmp_path, [scan(case_id="one")])
    assert [entry.status for entry in entries] == ["done"]


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_the_lock_of_another_machine_is_taken_away_as_the_message_says(tmp_path, shard):
    """A job that was killed may start again on another node."""
    folder = tmp_path if shard is None else shard.folder(tmp_path)
    _threshold().predict_to(tmp_path, readers(), shard=shard)
    (folder / LOCK).write_text(json.dumps({"host": "elsewhere", "process": 7, "since": "2026-01-01"}))
    message = rf"process 7 on elsewhere .* delete {folder / LOCK}\."
    for work in (
        partial(_threshold().predict_to, tmp_path, readers(), shard=shard, resume=True),
        merge_shards,
    ):
        with pytest.raises(ExistingFileError, match=message):
            work() if isinstance(work, partial) else work(tmp_path)
    (folder / LOCK).unlink()
    _threshold().predict_to(tmp_path, readers(), shard=shard, resume=True)
    assert len(merge_shards(tmp_path).entries) == (CASES if shard is None else 4)
