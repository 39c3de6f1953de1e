"""The command line without its work: exit codes, messages, streams. tests/examples/ runs the real commands."""

import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import guided_attention
from guided_attention import cli, recipes
from guided_attention._cli_report import _BY_VERB, CaseReport, shell_words
from guided_attention.data import write_nifti
from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    DataError,
    ExistingFileError,
    MissingFileError,
    NonFiniteError,
    TrainingInterrupted,
    WriteError,
)
from guided_attention.evaluation import CaseScore
from guided_attention.inference import LedgerEntry
from tests.examples import wrong_uses

ENTRIES = (
    LedgerEntry("a", "done", {"a_prediction.nii.gz": "1f"}, scan="2e"),
    LedgerEntry("b", "failed", error="DataError: `b` must be\nfinite."),
    LedgerEntry("c", "skipped"),
)


@pytest.fixture
def answer(monkeypatch):
    """Return a function that sets what the recipes `predict`, `evaluate`, `train` and `info` do."""

    def set_answer(work):
        for name in ("predict", "evaluate", "train", "info"):
            monkeypatch.setattr(recipes, name, work)
        monkeypatch.setattr(recipes.Plan, "load", lambda _path: None)

    return set_answer


def raising(error):
    def work(*_arguments, **_keywords):
        raise error

    return work


def predicting(entries):
    def work(*_arguments, on_case=None, **_keywords):
        for entry in entries:
            on_case(entry)
        return list(entries)

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArgumentError("`out` must be new."), 2),
        (ArgumentTypeError("`out` must be new."), 2),
        (MissingFileError("`out` must be new."), 2),
        (ExistingFileError("`out` must be new."), 2),
        (DataError("`out` must be new."), 1),
        (CheckpointError("`out` must be new."), 1),
        (NonFiniteError("`out` must be new."), 1),
        (WriteError("`out` must be new."), 1),
    ],
)
def test_a_mistake_is_one_line(answer, capsys, error, code):
    answer(raising(error))
    assert cli.main(["info", "runs"]) == code
    assert capsys.readouterr() == ("", "error: `out` must be new.\n")


def test_errors_of_the_system_are_one_line(answer, capsys):
    answer(raising(OSError(28, "No space left on device", "runs/last.pt")))
    assert cli.main(["train", "runs"]) == 1
    assert capsys.readouterr().err == "error: No space left on device: runs/last.pt\n"


def test_a_bug_shows_its_traceback(answer):
    answer(raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["info", "runs"])


def test_messages_speak_of_options(answer, capsys):
    answer(
        raising(ExistingFileError("It exists. Set resume=True to continue, overwrite=True to discard it."))
    )
    assert cli.main(["predict", "runs", "--out", "p"]) == 2
    assert (
        capsys.readouterr().err == "error: It exists. Pass --resume to continue, --overwrite to discard it.\n"
    )


@pytest.mark.parametrize("verb", ["predict runs --out p", "evaluate runs", "info runs", "train runs"])
def test_control_c_is_one_line(answer, capsys, verb):
    answer(raising(KeyboardInterrupt()))
    assert cli.main(verb.split()) == 130
    assert capsys.readouterr().err.splitlines()[0].startswith("interrupted")


def test_control_c_in_training_says_how_to_continue(answer, capsys):
    answer(raising(TrainingInterrupted("runs/first")))
    assert cli.main(["train", "runs/first"]) == 75
    way = "Continue with: guided-attention train runs/first --resume"
    assert capsys.readouterr().err == f"interrupted. {way}\n"


def folds_found(monkeypatch, *found):
    """What `train_folds` returns, and a list of the arguments that it gets."""
    calls = []

    def work(*arguments, **keywords):
        calls.append((arguments, keywords))
        return list(found)

    monkeypatch.setattr(recipes, "train_folds", work)
    monkeypatch.setattr(recipes.Plan, "load", lambda _path: "the plan")
    return calls


def test_folds_are_lines_and_the_next_command(monkeypatch, capsys):
    done = recipes.Fold(0, Path("runs/fold-0"), ("a", "b"), is_trained=True)
    other = replace(done, number=1, missing={"c": "training has not ended"}, held_by="`fold` is in use.")
    calls = folds_found(monkeypatch, done, other)
    assert (
        cli.main(
            [
                "train",
                "runs",
                "--folds",
                "2",
                "--fold",
                "1",
                "--resume",
                "--device",
                "cpu",
                "--quiet",
                "--take-over",
            ]
        )
        == 0
    )
    wanted = {"folds": 2, "fold": 1, "resume": True, "device": "cpu", "quiet": True, "take_over": True}
    assert calls == [(("the plan", "runs"), wanted)]
    assert capsys.readouterr().out.splitlines() == [
        "fold 0: trained, 2 cases predicted and scored",
        "fold 1: `fold` is in use.",
        "Next, when all 2 folds are done: guided-attention finalize runs",
    ]


def test_cases_of_folds_without_scores_end_with_code_3(monkeypatch, capsys):
    missing = {"a": "DataError: damaged", "b": "DataError: damaged"}
    folds_found(
        monkeypatch, recipes.Fold(0, Path("runs/fold-0"), ("a", "b"), is_trained=True, missing=missing)
    )
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (
        cli.main(["train", "runs", "--folds", "2"]) == 0
    )  # another would stop the other process of torchrun
    capsys.readouterr()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert cli.main(["train", "runs", "--folds", "2"]) == 3
    out, err = capsys.readouterr()
    assert out == "fold 0: no score of a, b: DataError: damaged\n"
    assert "guided-attention train runs --folds 2 --resume" in err


@pytest.mark.parametrize(
    ("error", "code"), [(TrainingInterrupted("runs/fold-1"), 75), (KeyboardInterrupt(), 130)]
)
def test_interrupted_folds_say_how_to_continue(answer, monkeypatch, capsys, error, code):
    answer(raising(error))
    monkeypatch.setattr(recipes, "train_folds", raising(error))
    assert cli.main(["train", "runs", "--folds", "5", "--fold", "2"]) == code
    assert capsys.readouterr().err == (
        "interrupted. Continue with: guided-attention train runs --folds 5 --fold 2 --resume\n"
    )


def test_commands_that_are_suggested_take_any_path(answer, monkeypatch, capsys):
    run = "my run; of 'ü'"
    shown = f"guided-attention train {shlex.quote(run)}"
    answer(raising(TrainingInterrupted(Path(run))))
    cli.main(["train", run])
    assert capsys.readouterr().err == f"interrupted. Continue with: {shown} --resume\n"
    monkeypatch.setattr(recipes, "train_folds", raising(KeyboardInterrupt()))
    cli.main(["train", run, "--folds", "3"])
    assert capsys.readouterr().err == f"interrupted. Continue with: {shown} --folds 3 --resume\n"
    folds_found(monkeypatch, recipes.Fold(0, Path(run), ("a",), is_trained=True))
    cli.main(["train", run, "--folds", "3"])
    assert f"guided-attention finalize {shlex.quote(run)}" in capsys.readouterr().out
    folds_found(monkeypatch, recipes.Fold(0, Path(run), ("a",), is_trained=True, missing={"a": "gone"}))
    cli.main(["train", run, "--folds", "3"])
    assert f"{shown} --folds 3 --resume" in capsys.readouterr().err


def test_a_finalized_run_is_a_table_or_json_lines(monkeypatch, capsys, tmp_path):
    score = CaseScore("7", "liver", "scored", 0.9, 0.95, 1.25, 1480.0, 1510.0)
    monkeypatch.setattr(recipes, "finalize", lambda run, *, take_over: [score] if (run, take_over) else [])
    (tmp_path / "scores.txt").write_text("the table\n", encoding="utf-8")
    assert cli.main(["finalize", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == (
        "the table",
        f"Next: guided-attention predict {tmp_path} SCANS --out PREDICTIONS",
    )
    assert cli.main(["finalize", str(tmp_path), "--json"]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["case_id"], row["status"], row["scores"][0]["dice"]) == ("7", "done", 0.9)


def test_predictions_are_lines(answer, capsys):
    answer(predicting(ENTRIES))
    assert cli.main(["predict", "runs", "--out", "p"]) == 3
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"a  done  {Path('p/a_prediction.nii.gz')}"
    assert err == "failed: b: DataError: `b` must be finite.\nerror: 1 of 3 cases failed\n"
    answer(predicting(ENTRIES[::2]))
    assert cli.main(["predict", "runs", "--out", "p"]) == 0
    assert capsys.readouterr().err == ""


def test_predictions_are_json_lines(answer, capsys):
    answer(predicting(ENTRIES))
    assert cli.main(["predict", "runs", "--out", "p", "--json"]) == 3
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"case_id": "a", "status": "done", "files": [str(Path("p/a_prediction.nii.gz"))], "error": ""},
        {"case_id": "b", "status": "failed", "files": [], "error": "DataError: `b` must be\nfinite."},
        {"case_id": "c", "status": "skipped", "files": [], "error": ""},
    ]


def test_scores_are_a_table_or_json_lines(answer, capsys, tmp_path):
    rows = [
        CaseScore("a", "liver", "scored", 0.5, 0.75, 1.25, 2.0, 3.0),
        CaseScore("a", "spleen", "missed", 0.0, 0.0, float("inf"), 0.0, 3.0),
    ]

    def work(*_arguments, on_case=None, **_keywords):
        on_case(LedgerEntry("a", "done"))
        on_case(ENTRIES[1])
        (tmp_path / "scores.txt").write_text("1 case (validation, not test)\n\n| organ  |\n")
        return rows

    answer(work)
    assert cli.main(["evaluate", "runs", "--out", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "1 case (validation, not test)",
        "",
        "| organ  |",
        f"Wrote the scores of each case to {tmp_path}",
    ]
    assert err.splitlines()[:2] == ["a done", "b failed"]
    assert cli.main(["evaluate", "runs", "--json"]) == 3
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["case_id"], first["status"], len(first["scores"])) == ("a", "done", 2)
    spleen = first["scores"][1]
    assert (spleen["organ"], spleen["dice"], spleen["assd_mm"], spleen["surface_dice"]) == (
        "spleen",
        0,
        None,
        None,
    )
    assert second == {"case_id": "b", "status": "failed", "scores": [], "error": ENTRIES[1].error}


def test_information_is_text_or_json(answer, capsys):
    answer(
        lambda _path: {
            "kind": "run",
            "plan": {"size": [3, 5], "reasons": {"size": "asked"}},
            "score": float("nan"),
        }
    )
    assert cli.main(["info", "runs"]) == 0
    assert capsys.readouterr().out == "kind: run\nplan\n  size: 3, 5\nscore: nan\n"
    assert cli.main(["info", "runs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"kind": "run", "plan": {"size": [3, 5], "reasons": {"size": "asked"}}, "score": None}


def test_warnings_are_one_line(answer, capsys):
    def work(_path):
        warnings.warn("spacing\nis unlike", UserWarning, stacklevel=1)
        return {}

    answer(work)
    assert cli.main(["info", "runs"]) == 0
    assert capsys.readouterr().err == "warning: spacing is unlike\n"


@pytest.mark.parametrize(("verb", "cure"), [("info", " there."), ("convert", " there, or pass --spacing.")])
def test_warnings_offer_options_that_the_verb_has(tmp_path, capsys, verb, cure):
    scans = tmp_path / "scans"
    scans.mkdir()
    np.save(scans / "a.npy", np.zeros((3, 5, 7), np.int16))
    options = (
        ["--out", str(tmp_path / "raw"), "--to", "pairs", "--organ", "1=liver"] if verb == "convert" else []
    )
    assert cli.main([verb, str(scans), *options]) == 0
    told = (
        f"warning: PNG files and others without geometry hold no spacing: 1 mm is assumed for {scans}, so distances in "
        f'mm count pixels. Write {{"spacing_mm": [z, y, x]}} into dataset.json{cure}'
    )
    assert told in capsys.readouterr().err.splitlines()


def test_words_for_options_are_those_of_messages_and_of_each_verb(capsys):
    package = Path(guided_attention.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in (package / "data").rglob("*.py"))
    for verb in wrong_uses.VERBS:
        cli.main([verb, "--help"])
        options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        for word in (entry[0] for entry in _BY_VERB):
            assert word in source
            said = shell_words(word, verb).partition("`guided-attention convert")[0]
            assert set(re.findall(r"--[a-z-]+", said)) <= options, (verb, said)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_with_the_time_left_on_a_terminal(answer, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("guided_attention.data.open_cohort", lambda _path: range(3))
    answer(predicting(ENTRIES[::2]))
    assert cli.main(["predict", "runs", "scans", "--out", "p"]) == 0
    shown = sys.stderr.getvalue()
    assert "1/3 |######              | ETA 0 s" in shown
    assert "2/3 |#############       | ETA" in shown
    assert capsys.readouterr().out.count("\n") == 2


def test_the_bar_ends_with_the_last_case(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    report = CaseReport(1, lambda _entry: None)
    report(ENTRIES[0])
    assert sys.stderr.getvalue() == "\r\x1b[K"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_is_gone_harms_nothing(answer, monkeypatch, stream):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as broken:
        monkeypatch.setattr(sys, stream, broken)
        answer(predicting(ENTRIES))
        assert cli.main(["predict", "runs", "--out", "p"]) == 3
        broken.flush()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")  # noqa: PTH110
def test_a_full_disk_under_the_results_is_said_and_stops_no_case(answer, monkeypatch, capsys):
    done = [entry for entry in ENTRIES if entry.status != "failed"]
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        answer(predicting(done))
        assert cli.main(["predict", "runs", "--out", "p"]) == 1
    message = (
        "error: standard output cannot be written: No space left on device. The work goes on without it.\n"
    )
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("encoding", "name", "shown"),
    [("cp1252", "a中", r"a\u4e2d"), ("ascii", "é", r"\xe9"), ("utf-8", "a\udcff", r"a\udcff")],
)
def test_a_name_that_the_console_cannot_show_stops_no_case(answer, monkeypatch, encoding, name, shown):
    """The last is a name of bytes that are no letters, as Python reads it from the disk."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    done = LedgerEntry(name, "done", {f"{name}_prediction.nii.gz": "1f"}, scan="2e")
    answer(predicting([done, ENTRIES[2]]))
    assert cli.main(["predict", "runs", "--out", "p"]) == 0
    lines = f"{shown}  done  {Path('p', shown)}_prediction.nii.gz\nc  skipped\n"
    assert sys.stdout.buffer.getvalue().decode("ascii") == lines


def test_a_scan_whose_name_the_console_cannot_show_is_listed(tmp_path, monkeypatch):
    for name in ("a中", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", np.zeros((3, 5, 7), np.uint8), np.eye(4))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "cp1252"))
    assert cli.main(["info", str(tmp_path)]) == 0
    assert r"a\u4e2d, b" in sys.stdout.buffer.getvalue().decode("ascii")


def test_no_standard_error_harms_nothing(answer, monkeypatch, capsys):
    answer(predicting(ENTRIES))
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["predict", "runs", "--out", "p"]) == 3
    assert capsys.readouterr().out.count("\n") == 3


def test_arguments_reach_the_recipes(answer, monkeypatch):
    taken = []
    answer(lambda *arguments, on_case, **keywords: taken.append((arguments, keywords)) or [])  # noqa: ARG005
    cli.main(
        ["predict", "r", "s", "t", "--out", "p", "--overwrite", "--also", "uncertainty", "--device", "cpu"]
    )
    keywords = {"device": "cpu", "also": ["uncertainty"], "resume": False, "overwrite": True}
    assert taken.pop() == (("r", ["s", "t"], Path("p")), keywords)
    cli.main(["predict", "r", "--out", "p", "--resume"])
    assert taken.pop()[0][1] is None
    assert cli.main(["predict", "r", "--out", "p", "--series", "2"]) == 2
    cli.main(["evaluate", "r", "d", "--predictions", "p", "--out", "o"])
    assert taken.pop() == (("r", "d"), {"predictions": "p", "out": "o", "device": "auto"})
    values = {}
    plan = type("Plan", (), {"with_values": lambda _self, given: values.update(given) or "changed"})()
    answer(raising(MissingFileError("stop")))
    monkeypatch.setattr(recipes.Plan, "load", lambda _path: plan)
    monkeypatch.setattr(
        recipes, "train", lambda *arguments, **keywords: taken.append((arguments, keywords)) or raise_()
    )
    options = ["--resume", "--take-over", "--init-from", "q", "--set", "a.b=1=2", "--set", "c=3", "--quiet"]
    cli.main(["train", "r", *options])
    keywords = {"resume": True, "init_from": "q", "device": "auto", "quiet": True, "take_over": True}
    assert taken.pop() == (("changed", "r"), keywords)
    assert values == {"a.b": "1=2", "c": "3"}


def raise_():
    raise DataError("stop")


def test_help_and_version_load_no_torch():
    code = (
        "import sys; from guided_attention.cli import main; main(['--version']); main(['plan', '--help'])\n"
    )
    code += "print('torch' in sys.modules, 'numpy' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = finished.stdout.splitlines()
    assert (lines[0], lines[-1]) == (f"guided-attention {guided_attention.__version__}", "False False")


def test_the_page_shows_the_help_as_it_is(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = wrong_uses.section(wrong_uses.PAGE.read_text(encoding="utf-8"), "help")[1]
    # Versions of Python break lines at other places.
    assert shown.split() == wrong_uses.help_texts().split(), "python -m tests.examples.wrong_uses"


def test_every_verb_has_an_example():
    assert wrong_uses.help_texts().count("example:\n  guided-attention ") == len(wrong_uses.VERBS)


def test_scans_are_opened_alike_by_every_verb_that_reads_them(tmp_path, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    for case, word in itertools.product(("a", "b"), ("t1", "t2", "seg")):
        volume = np.random.default_rng(len(word)).integers(0, 2, (5, 32, 37))
        write_nifti(scans / f"{case}_{word}.nii.gz", volume.astype(np.uint8), np.eye(4))
    how = ["--channel", "t2", "--organ", "1=liver", "--layout", "pairs"]
    cli.main(["check", str(scans), *how, "--json"])
    assert json.loads(capsys.readouterr().out)["summary"]["channels"] == [1]
    assert cli.main(["convert", str(scans), *how, "--out", str(tmp_path / "raw"), "--to", "nnunet"]) == 0
    assert sorted(path.name for path in (tmp_path / "raw/imagesTr").iterdir()) == [
        "a_0000.nii.gz",
        "b_0000.nii.gz",
    ]
    capsys.readouterr()
    small = ["--max-bytes", "2000"]
    assert cli.main(["check", str(scans), *how, *small]) == 1
    assert "`--max-bytes " in capsys.readouterr().out
    assert cli.main(["convert", str(scans), *how, *small, "--out", str(tmp_path / "x"), "--to", "pairs"]) == 1
    assert "pass `--max-bytes 23680` or more (or set data.max_bytes in the plan)" in capsys.readouterr().err


@pytest.fixture
def two_visits(tmp_path):
    for name in ("p1_a", "p1_b", "p2_a", "other"):
        for kind in ("image", "label"):
            path = tmp_path / "scans" / f"{name}_{kind}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            write_nifti(path, np.ones((3, 5, 7), np.uint8), np.eye(4))
    return tmp_path / "scans"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(p\d+)-", r"'(p\d+)-', which fits none, such as other."),
        (r"(\d*)", r"'(\d*)', which finds an empty text in other, p1_a, p1_b, p2_a."),
        (r"(p\d)|other", r"'(p\d)|other', which finds an empty text in other."),
    ],
)
def test_a_pattern_that_finds_no_patients_is_refused(two_visits, capsys, pattern, message):
    """Otherwise scans of one patient train and validate, or all are of one patient."""
    out = two_visits.parent / "run"
    assert cli.main(["plan", str(two_visits), "--out", str(out), "--patient", pattern]) == 2
    said = capsys.readouterr().err
    assert "`--patient` must be a pattern" in said
    assert message in said
    assert not out.exists()
    assert cli.main(["check", str(two_visits), "--patient", pattern, "--json"]) == 2
    report, said = capsys.readouterr()
    assert json.loads(report)["summary"]["cases"] == 4
    assert message in said


def test_the_patients_that_a_pattern_finds_are_counted(two_visits, capsys, monkeypatch):
    found = {}

    def plan_for(_cohort, *, patients, **_settings):
        found.update(patients)
        raise DataError("`data` must be more.")

    monkeypatch.setattr(recipes, "plan_for", plan_for)
    said = "4 cases are of 3 patients; each a patient of its own, as the pattern does not fit: other\n"
    command = ["plan", str(two_visits), "--out", str(two_visits.parent / "run"), "--patient", r"(p\d+)_"]
    assert cli.main(command) == 1
    assert found == {"p1_a": "p1", "p1_b": "p1", "p2_a": "p2", "other": "other"}
    assert said in capsys.readouterr().err
    cli.main(["check", str(two_visits), "--patient", r"(p\d+)_"])
    assert said in capsys.readouterr().err
