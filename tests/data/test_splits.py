import json
from collections import Counter

import numpy as np
import pytest

from guided_attention.data import Split, k_fold, read_nnunet_splits, split_subjects, write_nnunet_splits
from guided_attention.errors import ArgumentTypeError, DataError, MissingFileError

IDS = [str(i) for i in range(1, 21)]


def test_a_split_deals_every_part_its_count_and_nobody_twice():
    split = split_subjects(IDS, train=13, val=2, test=5, seed=3)
    assert (len(split.train), len(split.val), len(split.test)) == (13, 2, 5)
    assert sorted((*split.train, *split.val, *split.test), key=int) == IDS


def test_the_order_of_names_does_not_matter_and_the_seed_does():
    first = split_subjects(IDS, train=13, val=2, test=5, seed=3)
    assert split_subjects(IDS[::-1], train=13, val=2, test=5, seed=3) == first
    assert split_subjects(sorted(IDS), train=13, val=2, test=5, seed=3) == first
    assert split_subjects(IDS, train=13, val=2, test=5, seed=4) != first


def test_numbers_are_sorted_as_numbers():
    assert split_subjects(["10", "9", "100"], train=3, val=0, test=0, seed=0).train == ("9", "10", "100")


def test_subjects_too_many_are_left_out():
    assert len(split_subjects(IDS, train=3, val=1, test=1, seed=0).train) == 3


def test_too_few_subjects_say_how_many_are_needed():
    wanted = r"`case_ids` must be at least 20 subjects \(13 \+ 2 \+ 5\), got 19. Lower `train`"
    with pytest.raises(ValueError, match=wanted):
        split_subjects(IDS[:19], train=13, val=2, test=5, seed=0)


def test_a_name_given_twice_is_told():
    with pytest.raises(ValueError, match="`case_ids` must be each named once, got 3 more than once"):
        split_subjects([*IDS, "3"], train=13, val=2, test=5, seed=0)


def test_a_negative_count_is_told():
    with pytest.raises(ValueError, match="`val` must be 0 or more, got -1"):
        split_subjects(IDS, train=3, val=-1, test=1, seed=0)


def test_a_subject_in_two_parts_is_refused():
    with pytest.raises(
        ValueError, match="`subjects of the split` must be each named once, got 2 more than once"
    ):
        Split(train=("1", "2"), val=(), test=("2",))


@pytest.mark.parametrize(("folds", "count"), [(4, 20), (3, 20), (5, 17), (2, 7)])
def test_folds_test_everybody_once_and_never_what_they_train_on(folds, count):
    splits = k_fold(IDS[:count], folds=folds, val=2, seed=1)
    assert len(splits) == folds
    tested = [name for split in splits for name in split.test]
    assert sorted(tested, key=int) == IDS[:count]
    for split in splits:
        assert len(split.val) == 2
        assert sorted((*split.train, *split.val, *split.test), key=int) == IDS[:count]
        assert count // folds <= len(split.test) <= -(-count // folds)


def test_four_folds_of_twenty_have_the_sizes_of_the_paper():
    for split in k_fold(IDS, folds=4, val=2, seed=0):
        assert (len(split.train), len(split.val), len(split.test)) == (13, 2, 5)


def test_folds_do_not_depend_on_the_order_of_names():
    assert k_fold(IDS[::-1], folds=4, val=2, seed=7) == k_fold(IDS, folds=4, val=2, seed=7)


@pytest.mark.parametrize(("folds", "val", "count"), [(4, 2, 3), (2, 2, 4), (3, 0, 2)])
def test_too_few_subjects_for_folds_are_told(folds, val, count):
    with pytest.raises(
        ValueError, match=rf"`case_ids` must be at least {folds} subjects, .*, got {count}. Lower `folds`"
    ):
        k_fold(IDS[:count], folds=folds, val=val, seed=0)


def test_one_fold_is_none():
    with pytest.raises(ValueError, match="`folds` must be 2 or more, got 1"):
        k_fold(IDS, folds=1, val=2, seed=0)


def test_a_split_is_saved_and_loaded_unchanged(tmp_path):
    split = split_subjects(IDS, train=13, val=2, test=5, seed=3)
    assert split.save(str(tmp_path / "split.json")) == tmp_path / "split.json"
    assert Split.load(tmp_path / "split.json") == split
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]
    assert json.loads((tmp_path / "split.json").read_text())["val"] == list(split.val)


@pytest.mark.parametrize("text", ["{", "[]", '{"train": ["1"], "val": []}', "3"])
def test_a_file_that_is_no_split_is_named(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=r"`.*split.json` must be JSON with the lists train, val and test"):
        Split.load(tmp_path / "split.json")


def test_a_missing_split_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`path` must be an existing split file, got .*nowhere.json"):
        Split.load(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b'{"train": "123", "val": [], "test": []}',
        b'{"train": [null], "val": [], "test": []}',
        b'{"train": [[1]], "val": [], "test": []}',
    ],
)
def test_a_damaged_split_names_the_file(tmp_path, content):
    (tmp_path / "split.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        Split.load(tmp_path / "split.json")
    assert caught.value.file == tmp_path / "split.json"


def test_numbers_in_a_file_are_names(tmp_path):
    (tmp_path / "split.json").write_text('{"train": [1, 2], "val": [], "test": ["3"]}')
    assert Split.load(tmp_path / "split.json") == Split(("1", "2"), (), ("3",))


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    "call",
    [
        lambda: Split(train="123", val=(), test=()),
        lambda: Split(train=(1,), val=(), test=()),
        lambda: Split.load(5),
        lambda: Split((), (), ()).save(5),
        lambda: split_subjects("123", train=1, val=1, test=1),
        lambda: split_subjects(IDS, train=1.5, val=1, test=1),
        lambda: split_subjects(IDS, train=1, val=1, test=1, seed=None),
        lambda: k_fold(None, folds=2, val=1),
        lambda: k_fold([1, 2, 3, 4], folds=2, val=1),
        lambda: k_fold(IDS, folds="2", val=1),
    ],
)
def test_wrong_types_are_told(call):
    with pytest.raises(ArgumentTypeError, match="must be a (list|path|whole number)"):
        call()


@pytest.mark.usefixtures("without_shape_checks")
def test_lists_are_taken_and_kept_as_tuples():
    assert Split(train=["1"], val=["2"], test=[]) == Split(("1",), ("2",), ())


def test_a_missing_folder_to_save_in_is_told(tmp_path):
    with pytest.raises(MissingFileError, match="`path` must be in an existing folder"):
        Split((), (), ()).save(tmp_path / "nowhere" / "split.json")


def _scans():
    """Thirteen patients with one to three scans each, from two sites."""
    names = [f"p{patient:02d}_{scan}" for patient in range(13) for scan in range(1 + patient % 3)]
    sites = {name: "a" if int(name[1:3]) % 3 else "b" for name in names}
    return names, sites


def _patient(name):
    return name.split("_")[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("as_mapping", [False, True])
def test_patients_stay_together_and_each_is_tested_once(seed, as_mapping):
    names, _ = _scans()
    patients = {name: _patient(name) for name in names} if as_mapping else _patient
    splits = k_fold(names, folds=5, val=2, seed=seed, patients=patients)
    tested = [name for split in splits for name in split.test]
    assert sorted(tested) == sorted(names)
    for split in splits:
        assert split.leaks(patients) == {}
        assert sorted(split.train + split.val + split.test) == sorted(names)
        assert len({_patient(name) for name in split.val}) == 2
    sizes = [len({_patient(name) for name in split.test}) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    split = split_subjects(names, train=7, val=2, test=4, seed=seed, patients=patients)
    assert split.leaks(patients) == {}
    assert [len({_patient(name) for name in part}) for part in (split.train, split.val, split.test)] == [
        7,
        2,
        4,
    ]


@pytest.mark.parametrize("seed", range(5))
def test_each_fold_has_its_share_of_every_stratum(seed):
    names, sites = _scans()
    splits = k_fold(names, folds=4, val=0, seed=seed, patients=_patient, strata=sites)
    for site, patients in (("a", 8), ("b", 5)):
        counts = [len({_patient(name) for name in split.test if sites[name] == site}) for split in splits]
        assert sum(counts) == patients
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("rare", [False, True])
def test_parts_have_their_share_of_every_stratum(seed, rare):
    """Also where a stratum has one member, as a rare combination of organs."""
    rng = np.random.default_rng(seed)
    names = [str(number) for number in range(rng.integers(8, 60))]
    kinds = [
        f"only {name}" if rare and int(name) % 2 else "abcde"[rng.choice(2 if rare else 5)] for name in names
    ]
    strata = dict(zip(names, kinds, strict=True))
    train, val = (int(count) for count in rng.multinomial(len(names), (0.5, 0.2, 0.3))[:2])
    split = split_subjects(
        names, train=train, val=val, test=len(names) - train - val, seed=seed, strata=strata
    )
    for part, most in ((split.train, 1), (split.val, 2), (split.test, 1)):
        _require_shares(part, strata, most)
    folds = k_fold(names, folds=4, val=1, seed=seed, strata=strata)
    assert sorted(name for fold in folds for name in fold.test) == sorted(names)
    for fold in folds:
        _require_shares(fold.test, strata, 2)


def _require_shares(part, strata, most):
    held = Counter(strata[name] for name in part)
    for kind, count in Counter(strata.values()).items():
        assert abs(held[kind] - count * len(part) / len(strata)) < most


def test_strata_change_nothing_where_all_are_equal():
    plain = k_fold(IDS, folds=4, val=2, seed=3)
    assert k_fold(IDS, folds=4, val=2, seed=3, strata=dict.fromkeys(IDS, "x")) == plain
    assert k_fold(IDS, folds=4, val=2, seed=3, patients=lambda name: name) == plain


def test_a_leak_is_named():
    split = Split(("a_1", "b_1"), ("c_1",), ("a_2", "c_2"))
    assert split.leaks(_patient) == {"a": ("train", "test"), "c": ("val", "test")}
    with pytest.raises(
        ValueError, match="`patients` must be a mapping that has every case, got none for 'b_1'"
    ):
        split.leaks({"a_1": "a"})


def test_splits_of_nnunet_come_back(tmp_path):
    splits = k_fold(IDS, folds=5, val=0, seed=1)
    path = write_nnunet_splits(tmp_path / "splits_final.json", splits)
    read = read_nnunet_splits(path)
    assert [(fold.train, fold.val, fold.test) for fold in read] == [(s.train, s.test, ()) for s in splits]
    assert read_nnunet_splits(write_nnunet_splits(tmp_path / "again.json", read)) == read
    with pytest.raises(
        ValueError, match=r"`splits` must be of two parts, as nnU-Net has them, got three in \[0\]"
    ):
        write_nnunet_splits(tmp_path / "x.json", [Split(("a",), ("b",), ("c",))])


@pytest.mark.parametrize(
    "text", ["[]", "{}", "[{}]", '[{"train": ["a"]}]', '[{"train": "a", "val": ["b"]}]', "[1", "3"]
)
def test_a_file_that_is_no_split_of_nnunet_is_named(tmp_path, text):
    path = tmp_path / "splits_final.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r'splits_final.json` must be a list of {"train": \[...\], "val": \[...\]}'
    ):
        read_nnunet_splits(path)


def test_a_case_in_both_parts_of_a_fold_names_the_file(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text('[{"train": ["1", "2"], "val": ["2"]}]')
    with pytest.raises(DataError, match=r"Read from .*splits_final.json") as caught:
        read_nnunet_splits(path)
    assert caught.value.file == path


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("patients", [lambda _case_id: None, {"a": 1, "b": 2}])
def test_patients_have_to_be_texts(patients):
    with pytest.raises(ArgumentTypeError, match="`patients` must be what gives each case a text, for 'a'"):
        split_subjects(["a", "b"], train=1, val=1, test=0, patients=patients)
