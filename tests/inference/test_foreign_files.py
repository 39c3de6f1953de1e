"""Files that the library has not written: no call deletes or moves them, nor replaces those it does not write itself.

`resume` replaces files that have names of those that it writes: a run that was killed leaves such without a line.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.inference.conftest import AS_IT_IS, Never, Threshold, scan

from guided_attention.case import Case
from guided_attention.data import write_nifti
from guided_attention.errors import DataError, ExistingFileError
from guided_attention.inference import Predictor, Shard, merge_shards, read_ledger
from guided_attention.inference.writing import PredictionWriter
from guided_attention.labels import LabelSpec
from guided_attention.outputs import Prediction

pytest.importorskip("nibabel")
ONE = LabelSpec({1: "above"})
CASES = [scan(case_id=name, seed=number) for number, name in enumerate("abc")]


def _threshold() -> Predictor:
    return Predictor(Threshold(), AS_IT_IS, ONE)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Reader:
    """Has a name before it reads."""

    case: Case

    @property
    def case_id(self) -> str:
        return self.case.case_id

    def __call__(self) -> Case:
        return self.case


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    "foreign",
    [
        "expert_rtstruct.dcm",
        "other_segmentation.dcm",
        "x_uncertainty.nii.gz",
        "x_prediction.nii.gz",
        "a_rtstruct.dcm",  # of a case of the call, of a kind that it does not write
    ],
)
def test_overwrite_refuses_a_folder_with_files_that_its_ledger_does_not_name(
    tmp_path: Path, foreign: str, begun: bool
) -> None:
    if begun:
        _threshold().predict_to(tmp_path, CASES[:2], also=["uncertainty"])
    write_nifti(tmp_path / "volume.nii.gz", CASES[0].image[0], CASES[0].affine)
    (tmp_path / "volume.nii.gz").rename(tmp_path / foreign)
    before = _contents(tmp_path)
    message = rf"ledger\.jsonl does not name, got .* with {foreign}\. A run .* Move them, or name"
    with pytest.raises(ExistingFileError, match=message):
        Predictor(Never(), AS_IT_IS, ONE).predict_to(tmp_path, CASES, overwrite=True)
    assert _contents(tmp_path) == before
    (tmp_path / foreign).rename(tmp_path / "moved.nii.gz")
    entries = _threshold().predict_to(tmp_path, CASES[1:], overwrite=True)
    assert [entry.status for entry in entries] == ["done", "done"]
    assert sorted(_contents(tmp_path)) == [
        "b_prediction.nii.gz",
        "c_prediction.nii.gz",
        "ledger.jsonl",
        "moved.nii.gz",
    ]


def test_overwrite_discards_what_any_line_of_the_ledger_names(tmp_path: Path) -> None:
    _threshold().predict_to(tmp_path, CASES, also=["uncertainty"])
    (tmp_path / "a_prediction.nii.gz").write_bytes(b"cut")
    _threshold().predict_to(tmp_path, CASES, resume=True)  # the last line of the case names one file
    assert list(read_ledger(tmp_path)[0].files) == ["a_prediction.nii.gz"]
    (tmp_path / "an old ledger.jsonl").write_text("mine")
    _threshold().predict_to(tmp_path, CASES[2:], overwrite=True)
    assert sorted(_contents(tmp_path)) == ["an old ledger.jsonl", "c_prediction.nii.gz", "ledger.jsonl"]


@pytest.mark.parametrize("cases", [CASES, [Reader(case) for case in CASES]])
def test_overwrite_replaces_predictions_of_the_same_cases_without_a_ledger(
    tmp_path: Path, cases: list[Case]
) -> None:
    _threshold().predict_to(tmp_path / "whole", CASES)
    (tmp_path / "out").mkdir()
    for name in "ab":
        (tmp_path / "out" / f"{name}_prediction.nii.gz").write_bytes(b"earlier")
    _threshold().predict_to(tmp_path / "out", cases, overwrite=True)
    assert _contents(tmp_path / "out") == _contents(tmp_path / "whole")


def test_overwrite_refuses_a_ledger_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text('{"paid": 3}\n')
    with pytest.raises(ValueError, match="must be a line that predict_to wrote"):
        _threshold().predict_to(tmp_path, CASES, overwrite=True)
    assert _contents(tmp_path) == {"ledger.jsonl": b'{"paid": 3}\n'}


@pytest.mark.parametrize(
    ("kept", "damaged"),
    [
        (4, b"\0" * 64),  # as a power cut leaves it
        (0, b"\0" * 64),
        (3, b'{"case_id": "c", "sta'),
    ],
    ids=["zeros-last", "zeros-only", "cut"],
)
def test_overwrite_discards_a_folder_whose_ledger_is_damaged(
    tmp_path: Path, kept: int, damaged: bytes
) -> None:
    _threshold().predict_to(tmp_path, CASES)
    whole, ledger = _contents(tmp_path), tmp_path / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:kept]) + damaged + b"\n")
    before = _contents(tmp_path)
    with pytest.raises(DataError, match="Move it and the predictions beside it, or name another folder"):
        _threshold().predict_to(tmp_path, CASES, resume=True)
    assert _contents(tmp_path) == before
    _threshold().predict_to(tmp_path, CASES, overwrite=True)
    assert _contents(tmp_path) == whole


def _write_then_fail(monkeypatch: pytest.MonkeyPatch, *, before: str) -> None:
    """Let the first case fail as its file of this kind is to be written."""
    write = PredictionWriter.write

    def fail(self: PredictionWriter, prediction: Prediction, paths: dict[str, Path]) -> None:
        if prediction.case_id != "a":
            return write(self, prediction, paths)
        write(self, prediction, {kind: path for kind, path in paths.items() if kind != before})
        raise DataError("`series` is odd")

    monkeypatch.setattr(PredictionWriter, "write", fail)


def test_what_a_case_wrote_before_it_failed_is_discarded_and_other_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _threshold().predict_to(tmp_path, CASES[1:])
    (tmp_path / "a_uncertainty.nii.gz").write_bytes(b"of an expert")
    with monkeypatch.context() as patch:
        _write_then_fail(patch, before="uncertainty")
        entries = _threshold().predict_to(tmp_path, CASES, also=["uncertainty"], resume=True)
    assert [entry.status for entry in entries] == ["failed", "done", "done"]
    assert list(entries[0].files) == ["a_prediction.nii.gz"]
    before = _contents(tmp_path)
    with pytest.raises(ExistingFileError, match=r"got .* with a_uncertainty\.nii\.gz\. "):
        _threshold().predict_to(tmp_path, CASES[1:], overwrite=True)
    assert _contents(tmp_path) == before
    (tmp_path / "a_uncertainty.nii.gz").unlink()
    _threshold().predict_to(tmp_path, CASES[1:], overwrite=True)
    assert sorted(_contents(tmp_path)) == ["b_prediction.nii.gz", "c_prediction.nii.gz", "ledger.jsonl"]


@pytest.mark.parametrize("before", ["uncertainty", "none"])
def test_a_case_that_failed_as_it_was_written_is_predicted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    _threshold().predict_to(tmp_path / "whole", CASES, also=["uncertainty"])
    with monkeypatch.context() as patch:
        _write_then_fail(patch, before=before)
        _threshold().predict_to(tmp_path / "out", CASES, also=["uncertainty"])
    entries = _threshold().predict_to(tmp_path / "out", CASES, also=["uncertainty"], resume=True)
    assert [entry.status for entry in entries] == ["done", "skipped", "skipped"]
    assert read_ledger(tmp_path / "out") == read_ledger(tmp_path / "whole")


def test_a_merge_moves_what_a_case_wrote_before_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_then_fail(monkeypatch, before="none")
    _threshold().predict_to(tmp_path / "whole", CASES, also=["uncertainty"])
    for number in (1, 2):
        _threshold().predict_to(tmp_path / "root", CASES, also=["uncertainty"], shard=Shard(number, 2))
    assert merge_shards(tmp_path / "root").failed == ("a",)
    assert _contents(tmp_path / "root") == _contents(tmp_path / "whole")


def test_resume_refuses_predictions_without_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "a_prediction.nii.gz").write_bytes(b"of an expert")
    with pytest.raises(ExistingFileError, match=r"holds a_prediction\.nii\.gz\. Move them, or name another"):
        _threshold().predict_to(tmp_path, CASES, resume=True)
    assert _contents(tmp_path) == {"a_prediction.nii.gz": b"of an expert"}


def test_another_scan_of_a_name_takes_away_only_what_the_ledger_names(tmp_path: Path) -> None:
    _threshold().predict_to(tmp_path, CASES, also=["uncertainty"])
    (tmp_path / "a_rtstruct.dcm").write_bytes(b"of an expert")
    other = scan(case_id="a", seed=9)
    _threshold().predict_to(tmp_path, [other], resume=True)
    left = _contents(tmp_path)
    assert left.pop("a_rtstruct.dcm") == b"of an expert"
    assert sorted(left) == [
        "a_prediction.nii.gz",
        *(f"{name}_{kind}.nii.gz" for name in "bc" for kind in ("prediction", "uncertainty")),
        "ledger.jsonl",
    ]


def test_a_merge_moves_only_what_the_ledgers_name(tmp_path: Path) -> None:
    _threshold().predict_to(tmp_path / "whole", CASES, also=["uncertainty"])
    root = tmp_path / "root"
    others = {}
    for number in (1, 2):
        _threshold().predict_to(root, CASES, also=["uncertainty"], shard=Shard(number, 2))
        for name in ("log.txt", "expert_rtstruct.dcm", "@eaDir/thumbnail"):
            path = Shard(number, 2).folder(root) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{name} of {number}")
            others[str(path.relative_to(root))] = path.read_bytes()
    assert merge_shards(root).is_complete
    assert _contents(root) == _contents(tmp_path / "whole") | others
    assert merge_shards(root).is_complete


@pytest.mark.parametrize("existing", ["resume", "overwrite"])
def test_a_merged_folder_whose_shards_held_other_folders_is_used_as_any_other(
    tmp_path: Path, existing: str
) -> None:
    for number in (1, 2):
        _threshold().predict_to(tmp_path, CASES, shard=Shard(number, 2))
        (Shard(number, 2).folder(tmp_path) / ".ipynb_checkpoints").mkdir()
    merge_shards(tmp_path)
    whole = _contents(tmp_path)
    assert sorted(whole) == [*(f"{name}_prediction.nii.gz" for name in "abc"), "ledger.jsonl"]
    assert Shard(1, 2).folder(tmp_path).is_dir()
    entries = _threshold().predict_to(tmp_path, CASES, **{existing: True})
    assert [entry.status for entry in entries] == ["skipped" if existing == "resume" else "done"] * 3
    assert _contents(tmp_path) == whole
    with pytest.raises(DataError, match=r"which holds ledger\.jsonl\. .* leave `shard` out"):
        _threshold().predict_to(tmp_path, CASES, shard=Shard(1, 2), resume=True)


def test_a_merged_folder_with_a_shard_that_is_not_cleared_yet_is_merged_first(tmp_path: Path) -> None:
    """As a merge leaves it that was killed after the ledger of the whole folder."""
    for number in (1, 2):
        _threshold().predict_to(tmp_path, CASES, shard=Shard(number, 2))
    held = _contents(Shard(2, 2).folder(tmp_path))
    merge_shards(tmp_path)
    Shard(2, 2).folder(tmp_path).mkdir()
    (Shard(2, 2).folder(tmp_path) / "ledger.jsonl").write_bytes(held["ledger.jsonl"])
    with pytest.raises(DataError, match="got none for shards of 2. Merge these shards first"):
        _threshold().predict_to(tmp_path, CASES, resume=True)
    merge_shards(tmp_path)
    assert [entry.status for entry in _threshold().predict_to(tmp_path, CASES, resume=True)] == [
        "skipped"
    ] * 3
