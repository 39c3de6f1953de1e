"""Every public name of `evaluation`, with every argument replaced by what it does not want."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.metrics.junk import callables, try_all, values
from tests.scores import score
from torch import nn

from guided_attention import evaluation
from guided_attention.case import Case, affine_of
from guided_attention.data import write_phantom_cohort
from guided_attention.errors import GuidedAttentionError
from guided_attention.evaluation import (
    CaseAccumulator,
    Validation,
    evaluate,
    evaluate_prediction,
    summarize,
    torchmetrics_metric,
    write_scores_csv,
    write_scores_json,
)
from guided_attention.labels import LabelSpec
from guided_attention.metrics import DistanceDefinition
from guided_attention.outputs import Prediction

LABELS = LabelSpec({1: "liver"})
VOLUME = np.zeros((3, 5, 7), dtype=np.uint8)
VOLUME[1, 1:4, 1:5] = 1
CASE = Case("7", np.zeros((1, 3, 5, 7)), VOLUME, affine_of((7.7, 1.5, 1.3)))
SCORES = [score("a", "liver", 0.9), score("b", "liver", 0.7)]
SETTINGS = {"labels": LABELS, "definition": DistanceDefinition(), "workers": 1}
COMMON = {"level": 0.9, "seed": 0, "metric": "dice"}
CALLS = {
    "evaluate": {"predict": lambda case: case.labels, "cases": [CASE], **SETTINGS},
    "evaluate_prediction": {"prediction": VOLUME, "case": CASE, **SETTINGS},
    "Validation": {
        "with_model": lambda _: None,
        "cases": [CASE],
        "metric": "assd_mm",
        **SETTINGS,
        "definition": DistanceDefinition(one_empty="diagonal"),
    },
    "evaluate_case": {
        "prediction": VOLUME,
        "reference": VOLUME,
        "spacing_mm": (7.7, 1.5, 1.3),
        "case_id": "7",
        **SETTINGS,
    },
    "CaseAccumulator": {"spacing_mm": (7.7, 1.5, 1.3), **SETTINGS},
    "torchmetrics_metric": {"metrics": ("dice",), "spacing_mm": (7.7, 1.5, 1.3), **SETTINGS},
    "summarize": {"scores": SCORES},
    "mean_dice": {"scores": SCORES},
    "definitions": {"scores": SCORES},
    "summarize_metric": {"scores": SCORES, **COMMON},
    "worst_cases": {"scores": SCORES, "count": 1, "metric": "dice"},
    "compare_models": {"first_scores": SCORES, "second_scores": SCORES, **COMMON},
    "format_table": {"summaries": summarize(SCORES)},
    "write_report": {"path": "report.md", "scores": SCORES, "title": "Scores", "worst": 1, "level": 0.9},
    "write_scores_csv": {"path": "scores.csv", "scores": SCORES},
    "write_scores_json": {"path": "scores.json", "scores": SCORES},
    "read_scores": {"path": "read.csv"},
    "CaseScore": {
        "case_id": "7",
        "organ": "liver",
        "status": "scored",
        "dice": 0.9,
        "volume_similarity": 0.9,
        "assd_mm": 1.0,
        "prediction_ml": 1.0,
        "reference_ml": 1.0,
        "surface_dice": 0.5,
        "definition": None,
    },
}
NOT_CALLED = {
    "MetricName",
    "MetricSummary",
    "OrganStatus",
    "OrganSummary",
    "PairedRow",
    "Predict",
    "score_submission",  # below: it wants folders
}
FUNCTIONS = {"predict", "with_model"}
ALWAYS_WRONG = {"object", "(1+2j)", "ragged", "b'x'", "complex128 array", "meta tensor", "object array"}
UPDATE = {"case_id": "7", "slice_index": None, "spacing_mm": (7.7, 1.5, 1.3)}


def pairs(calls):
    return [(name, argument) for name, arguments in calls.items() for argument in arguments]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scores_csv("read.csv", SCORES)


def test_every_public_name_is_tried():
    assert set(evaluation.__all__) == set(CALLS) | NOT_CALLED


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("name", "argument"), pairs(CALLS))
def test_only_errors_of_the_library_come_of_wrong_arguments(name, argument):
    if name == "torchmetrics_metric" and not find_spec("torchmetrics"):
        pytest.skip("torchmetrics is not installed")
    function = getattr(evaluation, name)
    function(**CALLS[name])
    more = {} if argument in FUNCTIONS else callables()
    assert try_all(function, CALLS[name], argument, more=more.items()) >= ALWAYS_WRONG


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("argument", ["prediction", "reference", *UPDATE])
def test_the_accumulator_refuses_them_as_they_come(argument):
    def update(**arguments):
        CaseAccumulator(LABELS).update(**arguments)

    valid = {"prediction": VOLUME, "reference": VOLUME, **UPDATE}
    assert try_all(update, valid, argument, more=callables().items()) >= ALWAYS_WRONG


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("argument", ["preds", "target", *UPDATE])
def test_the_metric_of_torchmetrics_refuses_them_as_they_come(argument, batch):
    pytest.importorskip("torchmetrics")

    def update(**arguments):
        torchmetrics_metric(LABELS).update(**arguments)

    valid = {"preds": VOLUME, "target": VOLUME, **UPDATE}
    if batch:
        valid |= {"preds": VOLUME[None], "target": VOLUME[None], "case_id": ["7"]}
    assert try_all(update, valid, argument, more=callables().items()) >= ALWAYS_WRONG


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("name", values())
@pytest.mark.filterwarnings("ignore:Casting complex values to real:UserWarning")
def test_predictions_of_a_wrong_kind_are_refused(name):
    odd = values()[name]
    inside = Prediction("7", odd, odd, CASE.affine)
    placed = Prediction("7", VOLUME, odd, odd)
    calls = [
        lambda: evaluate(lambda _: odd, [CASE], LABELS),
        lambda: evaluate(lambda _: inside, [CASE], LABELS),
        lambda: evaluate_prediction(placed, CASE, LABELS),
        lambda: Validation(lambda _: lambda _: odd, [CASE], LABELS)(nn.Identity()),
    ]
    for call in calls:
        try:
            call()
        except GuidedAttentionError:
            continue
        assert name in {"int64 array (3, 5, 7)", ">i4 array", "torch.uint8 tensor"}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("argument", ["submission", "reference", "source", "case_ids"])
def test_a_submission_refuses_them(argument, tmp_path):
    release = write_phantom_cohort(tmp_path / "cohort", subjects=1, size=16)
    valid = {"submission": release, "reference": release, "source": "t2", "case_ids": None}
    given = {name: value for name, value in values().items() if not isinstance(value, (str, Path))}
    for name, value in {**given, **callables()}.items():
        if argument == "case_ids" and name in {"None", "[]", "()"}:
            continue
        with pytest.raises(GuidedAttentionError):
            evaluation.score_submission(**{**valid, argument: value})


# Files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"\xff\xfe"),
        ("a.json", b"[" * 100_000),
        ("a.json", b"[]"),
        ("a.json", b'{"scores": 7}'),
        ("a.json", b'{"scores": [7]}'),
        ("a.json", b'{"scores": [{"case_id": "7"}]}'),
        ("a.csv", b"\xff\xfe,\n1\n"),
        ("a.csv", b"case_id\n7\n"),
        ("a.csv", b'case_id\n"7\n'),
        ("a.csv", b"case_id,size\n7,1\n"),
        ("a.csv", b"x" * 200_000),
    ],
)
def test_damaged_files_are_named(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GuidedAttentionError, match="`path` must be ") as caught:
        evaluation.read_scores(tmp_path / name)
    assert caught.value.file == tmp_path / name


@pytest.mark.parametrize("ending", ["csv", "json"])
@pytest.mark.parametrize(
    ("old", "new"),
    [("0.9", "high"), ("scored", "found"), ("voxel", "skin"), ("voxel,max", "voxel"), ("liver", "liver,1")],
)
def test_damaged_rows_are_named(ending, old, new, tmp_path):
    path = tmp_path / f"scores.{ending}"
    write = write_scores_csv if ending == "csv" else write_scores_json
    text = write(path, SCORES).read_text(encoding="utf-8")
    changed = text.replace(old, new, 1) if ending == "csv" else text.replace(f"{old}", f'"{new}"', 1)
    if changed == text:
        pytest.skip("JSON has no commas between cells")
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(GuidedAttentionError) as caught:
        evaluation.read_scores(path)
    assert caught.value.file == path


def test_a_file_that_is_cut_short_is_named(tmp_path):
    whole = write_scores_csv(tmp_path / "scores.csv", SCORES).read_text(encoding="utf-8")
    (tmp_path / "scores.csv").write_text(whole[: whole.rindex(",0.7,") + 4], encoding="utf-8")
    with pytest.raises(GuidedAttentionError, match="as many cells in each row as in the first"):
        evaluation.read_scores(tmp_path / "scores.csv")


def test_what_is_no_file_is_no_file_of_scores(tmp_path):
    (tmp_path / "device.json").symlink_to("/dev/null")
    (tmp_path / "folder.csv").mkdir()
    for name in ("device.json", "folder.csv", "missing.csv"):
        with pytest.raises(
            FileNotFoundError, match=r"`path` must be a file of scores, got .* which is no file"
        ):
            evaluation.read_scores(tmp_path / name)
    with pytest.raises(ValueError, match=r"`path` must be the name of a file, got the folder"):
        write_scores_csv(tmp_path / "folder.csv", SCORES)
