import csv
import math
from dataclasses import astuple, fields

import numpy as np
import pytest

from guided_attention.metrics import (
    CaseScore,
    dice,
    evaluate_case,
    format_table,
    mean_dsc,
    summarize,
    surface_distances,
    volume_similarity,
    write_scores_csv,
)

LABELS = {1: "liver", 2: "right kidney", 5: "spleen"}
SPACING_MM = (7.7, 1.5, 1.3)
SHAPE = (5, 7, 11)


def volumes(seed=0):
    rng = np.random.default_rng(seed)
    return rng.choice([0, 1, 2, 5], SHAPE).astype(np.uint8), rng.choice([0, 1, 2, 5], SHAPE).astype(np.int16)


def evaluate(prediction, reference, **settings):
    return evaluate_case(prediction, reference, labels=LABELS, spacing_mm=SPACING_MM, case_id="7", **settings)


def score(case_id, organ, dsc, *, vs=0.5, msd_mm=1.0, status="scored"):
    return CaseScore(case_id, organ, status, dsc, vs, msd_mm, 1.0, 1.0)


def missed(case_id, organ):
    return score(case_id, organ, 0.0, vs=0.0, msd_mm=math.inf, status="missed")


def absent(case_id, organ):
    return score(case_id, organ, math.nan, vs=math.nan, msd_mm=math.nan, status="absent in both")


def test_each_row_is_what_the_metrics_say_of_that_organ():
    prediction, reference = volumes()
    rows = evaluate(prediction, reference)
    assert [row.organ for row in rows] == list(LABELS.values())
    for label, row in zip(LABELS, rows, strict=True):
        masks = prediction == label, reference == label
        assert (row.case_id, row.status) == ("7", "scored")
        assert row.dsc == dice(*masks)
        assert row.vs == volume_similarity(*masks)
        assert row.msd_mm == surface_distances(*masks, SPACING_MM).assd_mm()
        voxel_ml = 7.7 * 1.5 * 1.3 / 1000
        assert row.prediction_ml == pytest.approx(masks[0].sum() * voxel_ml, rel=1e-12)
        assert row.reference_ml == pytest.approx(masks[1].sum() * voxel_ml, rel=1e-12)


def test_the_rows_follow_the_names_and_not_the_values():
    prediction, reference = volumes()
    renamed = [np.choose(volume, [0, 5, 1, 0, 0, 2]) for volume in (prediction, reference)]
    labels = {5: "liver", 1: "right kidney", 2: "spleen"}
    assert evaluate_case(*renamed, labels=labels, spacing_mm=SPACING_MM, case_id="7") == evaluate(
        prediction, reference
    )


def test_organs_that_are_in_one_volume_or_none_say_so():
    prediction, reference = np.zeros((2, *SHAPE), dtype=np.uint8)
    reference[1, 2, 3] = 1
    prediction[1, 2, 3] = 2
    liver, kidney, spleen = evaluate(prediction, reference)
    assert (liver.status, liver.dsc, liver.vs, liver.msd_mm) == ("missed", 0.0, 0.0, math.inf)
    assert (kidney.status, kidney.dsc, kidney.vs, kidney.msd_mm) == ("false alarm", 0.0, 0.0, math.inf)
    assert spleen.status == "absent in both"
    assert all(math.isnan(value) for value in (spleen.dsc, spleen.vs, spleen.msd_mm))
    assert (spleen.prediction_ml, spleen.reference_ml) == (0.0, 0.0)


def test_without_distances_only_the_distance_is_missing():
    prediction, reference = volumes()
    for fast, slow in zip(
        evaluate(prediction, reference, distances=False), evaluate(prediction, reference), strict=True
    ):
        assert math.isnan(fast.msd_mm)
        assert (fast.dsc, fast.vs, fast.status) == (slow.dsc, slow.vs, slow.status)


def test_values_without_a_name_are_refused():
    prediction, reference = volumes()
    stranger = reference.copy()
    stranger[0, 0, :2] = 3, 63
    message = (
        r"`reference of case '7'` must be made of 0 and the values of `labels`, "
        r"\{1: 'liver', 2: 'right kidney', 5: 'spleen'\}, got also \[3, 63\]\. Name these"
    )
    with pytest.raises(ValueError, match=message):
        evaluate(prediction, stranger)
    with pytest.raises(ValueError, match=r"`prediction of case '7'` must be made of 0 .* got also \[-1\]"):
        evaluate(np.full(SHAPE, -1), reference)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, r"`labels` must be a map from value to organ with at least one entry, got \{\}\."),
        ({0: "background", 1: "liver"}, r"`labels` must be of values other than 0, got .* leave it out\."),
        (
            {1: "kidney", 2: "kidney"},
            r"`labels` must be of different names, got .* Give each organ its own name\.",
        ),
    ],
)
def test_a_map_of_labels_that_cannot_be_scored_is_refused(labels, message):
    volume = np.zeros(SHAPE, dtype=np.uint8)
    with pytest.raises(ValueError, match=message):
        evaluate_case(volume, volume, labels=labels, spacing_mm=SPACING_MM, case_id="7")


@pytest.mark.usefixtures("without_shape_checks")
def test_volumes_that_do_not_fit_are_refused():
    volume = np.zeros(SHAPE, dtype=np.uint8)
    with pytest.raises(
        ValueError, match=r"`prediction` must be of the shape of `reference`, \(5, 7, 11\), got"
    ):
        evaluate(volume[:1], volume)
    with pytest.raises(
        ValueError, match=r"`prediction of case '7'` must be a volume of integers, .* float32"
    ):
        evaluate(volume.astype(np.float32), volume)
    with pytest.raises(ValueError, match=r"`spacing_mm` must be above 0, got -1\.5"):
        evaluate_case(
            volume, volume, labels=LABELS, spacing_mm=(7.7, -1.5, 1.3), case_id="7", distances=False
        )


def test_a_summary_by_hand():
    scores = [
        score("a", "liver", 0.9, vs=0.8, msd_mm=1.0),
        score("a", "spleen", 0.5, vs=0.6, msd_mm=3.0),
        score("b", "liver", 0.7, vs=1.0, msd_mm=2.0),
        score("b", "spleen", 0.9, vs=0.8, msd_mm=6.0),
    ]
    liver, spleen, mean = summarize(scores)
    root = math.sqrt(2)
    assert astuple(liver) == pytest.approx(
        ("liver", 0.8, 0.2 / root, 0.9, 0.2 / root, 1.5, 1 / root, 1.5, 2, 0, 0)
    )
    assert spleen.dsc_mean == pytest.approx(0.7)
    assert astuple(mean) == pytest.approx(
        ("mean", 0.75, 0.1 / root, 0.8, 0.2 / root, 3.0, 2 / root, 3.0, 2, 0, 0)
    )
    assert mean_dsc(scores) == pytest.approx(0.75)


def test_a_missed_organ_is_never_hidden():
    scores = [
        score("a", "liver", 0.8, msd_mm=1.0),
        missed("b", "liver"),
        score("b", "spleen", 0.6, msd_mm=3.0),
    ]
    liver, spleen, mean = summarize(scores)
    assert (liver.dsc_mean, liver.count, liver.failed) == (pytest.approx(0.4), 2, 1)
    assert (liver.msd_mm_mean, liver.msd_mm_mean_scored) == (math.inf, 1.0)
    assert math.isnan(liver.msd_mm_std)
    assert (spleen.failed, spleen.msd_mm_mean) == (0, 3.0)
    assert (mean.dsc_mean, mean.failed) == (pytest.approx((0.8 + 0.3) / 2), 1)
    assert (mean.msd_mm_mean, mean.msd_mm_mean_scored) == (math.inf, 2.0)


def test_an_organ_absent_in_both_is_left_out_and_counted():
    scores = [
        score("a", "liver", 0.8),
        absent("a", "spleen"),
        score("b", "liver", 0.6),
        score("b", "spleen", 0.4),
    ]
    liver, spleen, mean = summarize(scores)
    assert (liver.skipped, liver.count) == (0, 2)
    assert (spleen.dsc_mean, spleen.count, spleen.skipped, spleen.failed) == (0.4, 1, 1, 0)
    assert math.isnan(spleen.dsc_std)
    assert (mean.dsc_mean, mean.count, mean.skipped) == (pytest.approx((0.8 + 0.5) / 2), 2, 0)


def test_the_mean_weighs_cases_alike_and_not_rows():
    scores = [
        score("a", "liver", 1.0),
        score("b", "liver", 0.0),
        score("b", "spleen", 0.0),
        absent("a", "spleen"),
    ]
    assert mean_dsc(scores) == 0.5


@pytest.mark.parametrize("scores", [[], [absent("a", "liver")]])
def test_a_mean_of_nothing_is_not_a_number(scores):
    mean = summarize(scores)[-1]
    assert math.isnan(mean_dsc(scores))
    assert math.isnan(mean.vs_mean)
    assert math.isnan(mean.msd_mm_mean)
    assert math.isnan(mean.msd_mm_mean_scored)
    assert (mean.count, mean.skipped, mean.failed) == (0, len(scores), 0)


def test_distances_that_were_not_measured_do_not_look_measured():
    rows = [score("a", "liver", 0.8, msd_mm=math.nan), score("b", "liver", 0.6, msd_mm=2.0)]
    assert math.isnan(summarize(rows)[0].msd_mm_mean)


def test_organs_keep_their_order_and_cases_theirs_does_not_matter():
    scores = [
        score("a", "spleen", 0.9),
        score("b", "spleen", 0.5),
        score("a", "liver", 0.3),
        missed("b", "liver"),
    ]
    assert [summary.organ for summary in summarize(scores)] == ["spleen", "liver", "mean"]
    assert mean_dsc(scores[::-1]) == pytest.approx(mean_dsc(scores))


def test_one_case_scored_twice_is_refused():
    message = r"`scores` must be one row for each case and organ, got two for \('a', 'liver'\)\. Give cases"
    with pytest.raises(ValueError, match=message):
        summarize([score("a", "liver", 0.5), score("a", "liver", 0.6)])


def test_the_table_has_the_columns_and_hides_no_failure():
    scores = [
        score("a", "liver", 0.9, vs=0.8, msd_mm=1.0),
        missed("a", "spleen"),
        absent("a", "right kidney"),
        score("b", "liver", 0.7, vs=1.0, msd_mm=2.0),
        score("b", "spleen", 0.5, msd_mm=3.25),
    ]
    assert format_table(summarize(scores)).splitlines() == [
        "| organ        |           DSC |            VS |             MSD mm | n | skipped | failed |",
        "|--------------|--------------:|--------------:|-------------------:|--:|--------:|-------:|",
        "| liver        | 0.800 ± 0.141 | 0.900 ± 0.141 |      1.500 ± 0.707 | 2 |       0 |      0 |",
        "| spleen       | 0.250 ± 0.354 | 0.250 ± 0.354 | inf (scored 3.250) | 2 |       0 |      1 |",
        "| right kidney |             – |             – |                  – | 0 |       1 |      0 |",
        "| mean         | 0.525 ± 0.106 | 0.575 ± 0.247 | inf (scored 1.812) | 2 |       0 |      1 |",
    ]


def test_a_written_file_reads_back_to_the_same_rows(tmp_path):
    scores = [score("Ä, 1", "liver", 1 / 3), missed("b", "liver"), absent("b", "spleen")]
    write_scores_csv(scores, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field.name for field in fields(CaseScore)]
    read = [CaseScore(*list(row.values())[:3], *map(float, list(row.values())[3:])) for row in rows]
    np.testing.assert_equal([astuple(row) for row in read], [astuple(row) for row in scores])


def test_an_older_file_survives_a_failure_and_is_replaced_by_success(tmp_path, monkeypatch):
    path = tmp_path / "scores.csv"
    write_scores_csv([score("a", "liver", 0.5)], path)
    before = path.read_text(encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(csv.DictWriter, "writerows", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_scores_csv([score("a", "liver", 0.6)], path)
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.iterdir()) == [path]
    write_scores_csv([score("a", "liver", 0.6)], path)
    assert "0.6" in path.read_text(encoding="utf-8")


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`path` must be in a folder that exists, got .*nowhere"):
        write_scores_csv([], tmp_path / "nowhere" / "scores.csv")
