"""Submissions to CHAOS from folders: a real one, and phantoms handed in with known mistakes."""

import math
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.data.dicom_maker import numbered, write_masks, write_series
from tests.real_data import real_data

from guided_attention.data import CHAOS_MR_LABELS, read_chaos, write_phantom_cohort
from guided_attention.evaluation import score_submission
from guided_attention.metrics import chaos_points, chaos_score

SPACING_MM = (5.0, 1.5, 1.25)


def test_the_real_submission_has_the_figures_that_the_organisers_publish():
    case = real_data("chaos-ct-case")
    scores = score_submission(case / "Segmentation", case)
    assert list(scores) == ["chaos-ct-case"]
    liver = scores["chaos-ct-case"]["liver"]
    assert (liver.prediction_voxels, liver.reference_voxels) == (1_333_673, 1_342_595)
    figures = liver.dice, liver.ravd_percent, liver.assd_mm, liver.hausdorff_mm
    assert figures == pytest.approx((0.9784341, 0.6645340, 0.7341310, 14.0), abs=5e-8)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_phantom_cohort(tmp_path_factory.mktemp("cohort") / "chaos", subjects=2, size=32)


def hand_in(folder, cohort, change, *, scan="T2SPIR", inside="{id}/{scan}/Results"):
    """Copy the masks of every subject as a submission, changed on the way, under other names."""
    for subject in (cohort / "Train_Sets/MR").iterdir():
        files = sorted((subject / scan / "Ground").iterdir())
        masks = change(np.stack([np.asarray(Image.open(file)) for file in files]))
        place = folder / inside.format(id=subject.name, scan=scan)
        write_masks(place, masks, [f"img{i + 1}.png" for i in range(len(masks))])
    return folder


def without_spleen_and_two_slices_up(masks):
    return np.roll(np.where(masks == 252, 0, masks), 2, axis=0)


@pytest.mark.parametrize(("scan", "source"), [("T2SPIR", "t2"), ("T1DUAL", "t1_in"), ("T1DUAL", "t1_dual")])
def test_phantoms_are_scored_organ_by_organ_as_their_volumes_are(tmp_path, cohort, scan, source):
    folder = hand_in(tmp_path, cohort, without_spleen_and_two_slices_up, scan=scan)
    scores = score_submission(folder, cohort, source=source)
    assert list(scores) == ["1", "2"]
    for case in read_chaos(cohort, source=source):
        drawn = np.roll(np.where(case.labels == 4, 0, case.labels), 2, axis=0)
        assert list(scores[case.case_id]) == list(CHAOS_MR_LABELS.names.values())
        for label, organ in CHAOS_MR_LABELS.names.items():
            wanted = chaos_score(drawn == label, case.labels == label, case.spacing_mm)
            assert scores[case.case_id][organ] == wanted
        assert 0 < scores[case.case_id]["liver"].points < 100
        spleen = scores[case.case_id]["spleen"]
        assert (spleen.points, spleen.dice, spleen.assd_mm) == (0.0, 0.0, math.inf)
    rows = [score for organs in scores.values() for score in organs.values()]
    assert chaos_points(rows) == pytest.approx(np.mean([row.points for row in rows]))


@pytest.mark.parametrize(
    "inside",
    [
        "{id}/{scan}/Results",
        "{id}/{scan}/Segmentation",
        "{id}/Segmentation",
        "{id}",
        "Results/{id}",
        "Results/{id}/{scan}",
        "MR/{id}/{scan}/Results",
        "Test_Sets/MR/{id}/{scan}/Results",
    ],
)
def test_a_submission_is_found_in_every_layout(tmp_path, cohort, inside):
    folder = hand_in(tmp_path, cohort, lambda masks: masks, inside=inside)
    scores = score_submission(folder, cohort / "Train_Sets", source="t2")
    assert [organs["liver"].points for organs in scores.values()] == [100.0, 100.0]
    one = score_submission(folder, cohort / "Train_Sets/MR/2", source="t2")
    assert one == {"2": scores["2"]}
    assert score_submission(folder, cohort, source="t2", case_ids=["2"]) == one


def test_the_submission_may_stand_beside_the_ground_truth(tmp_path, cohort):
    truth = shutil.copytree(cohort / "Train_Sets/MR/1", tmp_path / "1")
    shutil.copytree(truth / "T1DUAL/Ground", truth / "T1DUAL/Segmentation")
    scores = score_submission(truth, truth, source="t1_out")
    assert scores["1"]["liver"].points == 100.0


def ct(folder, masks, depth=12):
    names = [f"i{i:04d},0000b.dcm" for i in range(depth)]
    write_series(folder / "DICOM_anon", numbered(depth), names=names, step=(0, 0, -5))
    write_masks(folder / "Ground", masks, [f"liver_GT_{i:03d}.png" for i in range(depth)])
    return folder


def test_ct_is_liver_above_zero_and_slices_count_by_the_numbers_in_their_names(tmp_path):
    truth = np.zeros((12, 5, 7), dtype=bool)
    truth[1:4, 1:4, 1:5] = True
    case = ct(tmp_path / "3", truth)
    greys = np.where(truth, np.array([1, 63, 255])[np.arange(12) % 3][:, None, None], 0).astype(np.uint8)
    # Sorted as text, 10 comes before 2: the organ would be torn.
    write_masks(tmp_path / "mine", greys, [f"{i + 1}.png" for i in range(12)])
    (liver,) = score_submission(tmp_path / "mine", case)["3"].values()
    assert (liver.points, liver.prediction_voxels) == (100.0, 36)
    moved = np.roll(greys, 1, axis=0)
    write_masks(tmp_path / "moved", moved)
    (liver,) = score_submission(tmp_path / "moved", case)["3"].values()
    assert liver == chaos_score(np.roll(truth, 1, axis=0), truth, SPACING_MM)
    assert liver.hausdorff_mm == 5.0


@pytest.fixture
def one_case(tmp_path):
    truth = np.zeros((12, 5, 7), dtype=bool)
    truth[2:5, 1:3, 1:3] = True
    return ct(tmp_path / "3", truth), truth.astype(np.uint8) * 255


def test_folders_that_are_missing_are_named(tmp_path, one_case, cohort):
    case, _ = one_case
    with pytest.raises(FileNotFoundError, match=r"`submission` must be an existing folder, got .*nowhere\."):
        score_submission(tmp_path / "nowhere", case)
    with pytest.raises(FileNotFoundError, match=r"`reference` must be an existing folder, got .*nowhere"):
        score_submission(case, tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"`submission` must be .* of case '3', got none: looked for \*\.png"
    ):
        score_submission(tmp_path / "bare", case)
    with pytest.raises(
        FileNotFoundError, match=r"`reference` must be a CHAOS release for source 'ct', got none"
    ):
        score_submission(case, tmp_path / "bare")
    folder = hand_in(tmp_path / "half", cohort, lambda masks: masks)
    shutil.rmtree(folder / "2")
    with pytest.raises(FileNotFoundError, match=r"`submission` must be .* of case '2', got none"):
        score_submission(folder, cohort, source="t2")


def test_a_case_without_ground_truth_cannot_be_scored(tmp_path, one_case):
    case, greys = one_case
    shutil.rmtree(case / "Ground")
    mine = write_masks(tmp_path / "mine", greys)
    with pytest.raises(
        ValueError, match=r"`masks of case '3'` must be in .*Ground, got none\. Only cases whose"
    ):
        score_submission(mine, case)


def test_a_number_or_size_of_slices_that_differs_is_refused(tmp_path, one_case):
    case, greys = one_case
    mine = write_masks(tmp_path / "few", greys[:11])
    message = r"`number of masks in .*few` must be 12, as many as the reference has, got 11\. Submit one"
    with pytest.raises(ValueError, match=message):
        score_submission(mine, case)
    mine = write_masks(tmp_path / "turned", greys.transpose(0, 2, 1))
    with pytest.raises(
        ValueError, match=r"`size of .*i0000\.png` must be that of the scan, \(5, 7\), got \(7, 5\)\."
    ):
        score_submission(mine, case)


def test_unknown_greys_of_the_last_case_are_refused_before_the_first_is_scored(tmp_path, cohort, monkeypatch):
    folder = hand_in(tmp_path, cohort, lambda masks: masks)
    last = max((folder / "2/T2SPIR/Results").iterdir())
    masks = np.array(Image.open(last))
    masks[0, 0] = 99
    Image.fromarray(masks).save(last)
    monkeypatch.setattr(
        "guided_attention.evaluation.submission.chaos_score", lambda *_: pytest.fail("scored")
    )
    message = rf"`grey values of .*{last.name}` must be in the map, got 99\. The map is .* 55-70 liver"
    with pytest.raises(ValueError, match=message):
        score_submission(folder, cohort, source="t2")


@pytest.mark.usefixtures("without_shape_checks")
def test_a_scan_or_case_that_does_not_exist_is_refused(tmp_path, cohort):
    with pytest.raises(ValueError, match=r"`source` must be one of 't1_in', .* got 'pet'\."):
        score_submission(tmp_path, cohort, source="pet")
    with pytest.raises(
        ValueError, match=r"`case_ids` must be names of subjects in .*, got 9\. Found there: 1, 2"
    ):
        score_submission(tmp_path, cohort, source="t2", case_ids=["9"])
