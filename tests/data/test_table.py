"""Cohorts listed in a CSV file, however a spreadsheet writes it."""

import numpy as np
import pytest
from tests.data.dicom_maker import numbered, write_series
from tests.data.test_cohort import _values, _write

from guided_attention.data import check, open_cohort, split_subjects, write_nifti
from guided_attention.errors import DataError, MissingFileError


@pytest.fixture
def scans(tmp_path):
    _write(tmp_path / "scans", a_t1=1, a_t2=2, a_seg=1, b_t1=3, b_t2=4, b_seg=2)
    return tmp_path


def _table(folder, text, encoding="utf-8"):
    path = folder / "cases.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_images_labels_parts_and_patients(scans):
    cohort = open_cohort(
        _table(
            scans,
            "case_id,image,label,part,patient\n"
            "two,scans/a_t1.nii.gz,scans/a_seg.nii.gz,train,p1\n"
            "one,scans/b_t1.nii.gz,,Test,\n",
        )
    )
    assert (cohort.layout, cohort.case_ids, cohort.labelled) == ("csv", ("two", "one"), ("two",))
    assert cohort.parts == {"train": ("two",), "test": ("one",)}
    assert cohort.patients == {"two": "p1", "one": "one"}
    assert _values(cohort) == {"two": ([{1}], {1}), "one": ([{3}], None)}
    assert open_cohort(cohort.folder, layout="csv").case_ids == cohort.case_ids


def test_one_column_a_channel(scans):
    text = "label,image:T2,CASE_ID,image: T1 ,#age\nscans/a_seg.nii.gz,scans/a_t2.nii.gz,a,scans/a_t1.nii.gz,70\n"
    cohort = open_cohort(_table(scans, text))
    assert cohort.channel_names == cohort[0].channel_names == ("T2", "T1")
    assert _values(cohort) == {"a": ([{2}, {1}], {1})}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_files_of_spreadsheets(scans, encoding, end, sign):
    rows = [
        ["", "", ""],
        ["case_id", "image", ""],
        [' "Müller; 1"'.strip(), '"scans/a_t1.nii.gz"', ""],
        ["", "", ""],
        ["b", " scans/b_t1.nii.gz ", ""],
        [],
    ]
    cohort = open_cohort(_table(scans, end.join(sign.join(row) for row in rows), encoding))
    assert _values(cohort) == {"Müller; 1": ([{1}], None), "b": ([{3}], None)}


def test_series_and_absolute_paths(scans):
    write_series(scans / "series", numbered(depth=3))
    text = f"case_id,image\nd,series\na,{scans}/scans/a_t1.nii.gz\n"
    cohort = open_cohort(_table(scans, text))
    assert (cohort[0].image.shape[1], np.unique(cohort[1].image).tolist()) == (3, [1])


HEADER = "case_id,image,label,part,patient\n"
WRONG = [
    ("", DataError, "cases.csv` must be a table with at least one case, got none"),
    ("case_id,image\n", DataError, "a table with at least one case"),
    (
        "id,image\na,scans/a_t1.nii.gz\n",
        DataError,
        "row 1 of .* must be the columns case_id, .*, got 'id'. Rename",
    ),
    ("image\na\n", DataError, "row 1 of .*no case_id"),
    ("case_id,label\na,b\n", DataError, "row 1 of .*either image or image:<channel>"),
    ("case_id,image,image:t1\na,b,c\n", DataError, "row 1 of .*either image or image:<channel>"),
    ("case_id,image:\na,b\n", DataError, "row 1 of .*got 'image:'"),
    ("case_id,image,image\na,b,c\n", DataError, "row 1 of .*each column once"),
    (
        HEADER + "a,scans/a_t1.nii.gz\n\nb,gone.nii.gz\n",
        MissingFileError,
        "row 4 of .*no such file: .*gone.nii.gz",
    ),
    (
        HEADER + "a,scans/link.nii.gz\n",
        MissingFileError,
        "row 2 of .*a link that leads nowhere: .*link.nii.gz",
    ),
    (HEADER + "a,scans/a_t1.nii.gz,gone.nii\n", MissingFileError, "row 2 of .*no such file: .*gone.nii"),
    (HEADER + "a,empty\n", DataError, "row 2 of .*a scan in column image, got .*empty. Give a file such as"),
    (
        HEADER + "a,scans/a_t1.nii.gz,empty\n",
        DataError,
        "row 2 of .*a file of a known format in column label",
    ),
    (HEADER + ",scans/a_t1.nii.gz\n", DataError, "row 2 of .*a case_id, got an empty cell"),
    (HEADER + "a,\n", DataError, "row 2 of .*a file in column image, got an empty cell"),
    (
        HEADER + "a,scans/a_t1.nii.gz,,exam\n",
        DataError,
        "row 2 of .*train, val or test in column part, got 'exam'",
    ),
    (HEADER + "a,scans/a_t1.nii.gz,,,,x\n", DataError, "row 2 of .*5 cells, got 6"),
    (
        HEADER + "a,scans/a_t1.nii.gz\na,scans/b_t1.nii.gz\n",
        DataError,
        "row 3 of .*a new case_id, got 'a', as in row 2",
    ),
    (HEADER + 'a,"scans/a_t1.nii.gz\n', DataError, "a CSV file, got a mistake in row"),
]


@pytest.mark.parametrize(("text", "error", "message"), WRONG)
def test_mistakes_are_named_with_their_row(scans, text, error, message):
    (scans / "scans/link.nii.gz").symlink_to("nowhere")
    (scans / "empty").mkdir()
    with pytest.raises(error, match=message) as caught:
        open_cohort(_table(scans, text))
    assert caught.value.file


def test_other_encodings_are_named(scans):
    for encoding in ("utf-16", "latin-1"):
        with pytest.raises(DataError, match=r"cases.csv` must be a CSV file in UTF-8, got another encoding"):
            open_cohort(_table(scans, "case_id,image\nMüller,a.nii\n", encoding))


def test_cases_of_one_patient_stay_together(scans):
    rows = [f"c{number},scans/a_t1.nii.gz,,,p{number // 2}" for number in range(6)]
    cohort = open_cohort(_table(scans, HEADER + "\n".join(rows)))
    split = split_subjects(cohort.case_ids, train=1, val=1, test=1, patients=cohort.patients)
    assert split.leaks(cohort.patients) == {}
    assert sorted(split.train + split.val + split.test) == sorted(cohort.case_ids)


def test_check_finds_a_patient_that_the_table_has_in_two_parts(tmp_path):
    rows = ["case_id,image,label,part,patient"]
    for number, (part, patient) in enumerate([("train", "p7"), ("train", "p8"), ("test", "p7")]):
        image = np.random.default_rng(number).normal(size=(5, 11, 13)).astype(np.float32)
        mask = np.zeros((5, 11, 13), np.uint8)
        mask[2, 4:7, 5:9] = 1
        write_nifti(tmp_path / f"{number}.nii.gz", image, np.eye(4))
        write_nifti(tmp_path / f"{number}-mask.nii.gz", mask, np.eye(4))
        rows.append(f"{number},{number}.nii.gz,{number}-mask.nii.gz,{part},{patient}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    leaks = [one for one in check(tmp_path / "cases.csv").errors if one.kind == "leak"]
    assert [one.message for one in leaks] == [
        "patient 'p7' is in the parts train (0) and test (2). Move all of a patient's cases to one part."
    ]
    alone = check(tmp_path / "cases.csv", patients=lambda case_id: case_id)
    assert "leak" not in {one.kind for one in alone.errors}
