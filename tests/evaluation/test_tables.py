import csv
import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scores import absent, missed, score

from guided_attention.evaluation import (
    CaseScore,
    format_table,
    read_scores,
    summarize,
    write_report,
    write_scores_csv,
    write_scores_json,
)
from guided_attention.metrics import DistanceDefinition


def test_the_table_has_the_columns_and_hides_no_failure():
    scores = [
        score("a", "liver", 0.9, volume_similarity=0.8, assd_mm=1.0),
        missed("a", "spleen"),
        absent("a", "right kidney"),
        score("b", "liver", 0.7, volume_similarity=1.0, assd_mm=2.0),
        score("b", "spleen", 0.5, assd_mm=3.25),
    ]
    assert format_table(summarize(scores)).splitlines() == [
        "| organ        |           DSC |            VS |             MSD mm | n | skipped | failed |",
        "|--------------|--------------:|--------------:|-------------------:|--:|--------:|-------:|",
        "| liver        | 0.800 ± 0.141 | 0.900 ± 0.141 |      1.500 ± 0.707 | 2 |       0 |      0 |",
        "| spleen       | 0.250 ± 0.354 | 0.250 ± 0.354 | inf (scored 3.250) | 2 |       0 |      1 |",
        "| right kidney |             – |             – |                  – | 0 |       1 |      0 |",
        "| mean         | 0.525 ± 0.106 | 0.575 ± 0.247 | inf (scored 1.812) | 2 |       0 |      1 |",
    ]


def test_the_columns_of_the_file_are_the_attributes_of_a_row(tmp_path):
    scores = [score("Ä, 1", "liver", 1 / 3), missed("b", "liver"), absent("b", "spleen")]
    write_scores_csv(tmp_path / "scores.csv", scores)
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [field.name for field in fields(CaseScore) if field.name != "definition"]
    names += ["surface", "combine", "tolerance_mm", "one_empty"]
    assert list(rows[0]) == names
    assert names[:4] == ["case_id", "organ", "status", "dice"]
    assert [row["dice"] for row in rows] == [repr(1 / 3), "0.0", "nan"]
    assert [row["assd_mm"] for row in rows] == ["1.0", "inf", "nan"]


def test_an_older_file_survives_a_failure_and_is_replaced_by_success(tmp_path, monkeypatch):
    path = tmp_path / "scores.csv"
    write_scores_csv(path, [score("a", "liver", 0.5)])
    before = path.read_text(encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(csv.DictWriter, "writerows", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_scores_csv(path, [score("a", "liver", 0.6)])
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.iterdir()) == [path]
    write_scores_csv(path, [score("a", "liver", 0.6)])
    assert "0.6" in path.read_text(encoding="utf-8")


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`path` must be in an existing folder, got .*nowhere"):
        write_scores_csv(tmp_path / "nowhere" / "scores.csv", [])


WRITERS = {".csv": write_scores_csv, ".json": write_scores_json}


def all_kinds():
    third = replace(
        score("Ä, 1", "liver", 1 / 3),
        definition=DistanceDefinition("surfel", "pooled", 0.1 + 0.2, "diagonal"),
        hausdorff95_mm=0.1 + 0.2,
    )
    unmeasured = replace(score("8", "liver", 0.5, assd_mm=math.nan), definition=None)
    return [unmeasured, third, missed('b "c"', "liver"), absent("007", "spleen"), score("7", "liver", 0.5)]


@pytest.mark.parametrize("ending", WRITERS)
def test_written_scores_are_read_back_without_loss(ending, tmp_path):
    path = tmp_path / f"scores{ending}"
    WRITERS[ending](path, all_kinds())
    assert read_scores(path) == all_kinds()
    WRITERS[ending](path, [])
    assert read_scores(path) == []
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, int])
def test_scores_in_numbers_of_numpy_are_written_and_read_back_without_loss(ending, kind, tmp_path):
    numbers = {field.name: kind(1.7) for field in fields(CaseScore) if field.type is float}
    row = replace(score("7", "liver", 0.5), **numbers)
    assert {type(getattr(row, name)) for name in numbers} == {float}
    assert read_scores(WRITERS[ending](tmp_path / f"scores{ending}", [row])) == [row]
    assert row.dice == float(kind(1.7))


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''",
    "'",
    "'liver'",
    "=",
    "a=1",
    "",
    " =1",
]


@pytest.mark.parametrize("ending", WRITERS)
def test_names_that_a_spreadsheet_takes_for_formulas_are_quoted_and_read_back(ending, tmp_path):
    rows = [score(name, f"{name} organ", 0.5) for name in FORMULAS]
    path = WRITERS[ending](tmp_path / f"scores{ending}", rows)
    assert read_scores(path) == rows
    if ending == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.DictReader(file) for cell in (row["case_id"], row["organ"])]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        assert cells[0] == "'=1+1"


@given(names=st.lists(st.text(), unique=True, max_size=7))
@pytest.mark.parametrize("ending", WRITERS)
def test_any_names_are_read_back_or_refused(ending, names, tmp_path_factory):
    rows = [score(name, name[::-1], 0.5) for name in names]
    path = tmp_path_factory.getbasetemp() / f"scores{ending}"
    assert read_scores(WRITERS[ending](path, rows)) == rows


@pytest.mark.parametrize("ending", WRITERS)
def test_names_that_utf_8_cannot_hold_are_refused(ending, tmp_path):
    with pytest.raises(ValueError, match=r"`scores.case_id` must be text that UTF-8 can hold, got '.udc80'"):
        WRITERS[ending](tmp_path / f"scores{ending}", [score("\udc80", "liver", 0.5)])
    assert list(tmp_path.iterdir()) == []


def test_an_apostrophe_of_an_earlier_version_stays(tmp_path):
    line = "'t Hart,liver,missed,0.0,0.0,inf,0.0,1.5\n"
    header = "case_id,organ,status,dice,volume_similarity,assd_mm,prediction_ml,reference_ml\n"
    (tmp_path / "old.csv").write_text(header + line, encoding="utf-8")
    assert read_scores(tmp_path / "old.csv")[0].case_id == "'t Hart"


def test_files_of_the_last_version_are_read(tmp_path):
    columns = "jaccard,sensitivity,precision,ravd_percent,masd_mm,hausdorff95_mm,hausdorff_mm,surface_dice"
    header = "case_id,organ,status,dice,volume_similarity,assd_mm,prediction_ml,reference_ml," + columns
    line = (
        "7,liver,scored,0.9,0.95,1.2,1480.0,1510.0,0.8,0.9,0.9,2.0,1.3,3.0,7.0,0.7,surfel,pooled,2.0,diagonal"
    )
    text = f"{header},surface,combine,tolerance_mm,one_empty\n{line}\n"
    (tmp_path / "old.csv").write_text(text, encoding="utf-8")
    (row,) = read_scores(tmp_path / "old.csv")
    assert row.definition == DistanceDefinition("surfel", "pooled", 2.0, "diagonal")
    assert (row.hausdorff_mm, row.surface_dice) == (7.0, 0.7)
    assert write_scores_csv(tmp_path / "new.csv", [row]).read_text(encoding="utf-8") == text


def test_writers_return_the_path_and_take_texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for write, name in (
        (write_scores_csv, "a.csv"),
        (write_scores_json, "a.json"),
        (write_report, "a.md"),
    ):
        assert write(name, [score("a", "liver", 0.5)]) == Path(name)
        assert Path(name).is_file()


def test_names_do_not_break_the_tables_of_the_report(tmp_path):
    path = write_report(tmp_path / "report.md", [score("a|b\nc", "liver", 0.5)])
    assert "| liver | a\\|b c | scored | 0.500 |  1.000 |       – |\n" in path.read_text(encoding="utf-8")


def test_a_report_without_distances_says_so(tmp_path):
    row = replace(score("a", "liver", 0.5, assd_mm=math.nan), definition=None)
    text = write_report(tmp_path / "report.md", [row]).read_text(encoding="utf-8")
    assert "How distances were measured: not measured." in text
    assert "Mean surface distance" not in text


def test_the_json_is_strict(tmp_path):
    write_scores_json(tmp_path / "scores.json", all_kinds())

    def refuse(constant):
        raise AssertionError(constant)

    rows = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"), parse_constant=refuse)["scores"]
    assert (rows[2]["assd_mm"], rows[3]["dice"], rows[1]["dice"]) == ("inf", None, 1 / 3)


def test_a_file_of_an_earlier_version_is_read_with_nan_for_what_it_lacks(tmp_path):
    lines = "case_id,organ,status,dice,volume_similarity,assd_mm,prediction_ml,reference_ml\n"
    lines += "7,liver,missed,0.0,0.0,inf,0.0,1.5\n"
    (tmp_path / "old.csv").write_text(lines, encoding="utf-8")
    assert read_scores(tmp_path / "old.csv") == [
        CaseScore("7", "liver", "missed", 0.0, 0.0, math.inf, 0.0, 1.5)
    ]


def test_files_that_hold_no_scores_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`path.suffix` must be one of '.csv', '.json', got '.txt'"):
        read_scores(tmp_path / "scores.txt")
    (tmp_path / "a.csv").write_text("case_id,size\n7,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"must be made of the keys case_id, organ, .* got 'size'\."):
        read_scores(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("case_id\n7\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"first 8 columns of `CaseScore`, got none for \['organ', "):
        read_scores(tmp_path / "a.csv")


def test_the_report_names_the_definitions_and_the_worst(tmp_path):
    pooled = DistanceDefinition(combine="pooled")
    scores = [
        replace(score("a", "liver", 0.9, assd_mm=1.0), definition=pooled, hausdorff95_mm=3.0),
        replace(missed("b", "liver"), definition=pooled, hausdorff95_mm=math.inf),
        replace(absent("a", "spleen"), definition=pooled),
    ]
    write_report(tmp_path / "report.md", scores, title="Livers", worst=1)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.startswith(
        "# Livers\n\nHow distances were measured: surface: voxel; HD95 of both directions: pooled"
    )
    assert format_table(summarize(scores)) in text
    assert "## 95th percentile of the surface distances in mm\n" in text
    assert "| liver  | inf ± – |    inf |  3.000 to inf | 2 |       0 |      1 |" in text
    assert "Surface Dice" not in text  # not measured
    assert text.endswith("| liver |    b | missed | 0.000 |    inf |     inf |\n")


@pytest.mark.parametrize(("level", "shown"), [(0.95, "95 %"), (0.995, "99.5 %"), (0.9, "90 %")])
def test_a_report_names_the_level_of_its_intervals(tmp_path, level, shown):
    write_report(tmp_path / "report.md", [score("a", "liver", 0.5)], level=level)
    assert f" {shown} interval |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_report_without_scores_says_so(tmp_path):
    write_report(tmp_path / "report.md", [])
    assert "there are no scores" in (tmp_path / "report.md").read_text(encoding="utf-8")
