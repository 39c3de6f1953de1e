"""One file a structure, as TotalSegmentator writes it, and names in segmentations of 3D Slicer."""

import json

import numpy as np
import pytest
from PIL import Image

from guided_attention.data import open_cohort, write_nifti
from guided_attention.errors import DataError, LeftOutWarning
from guided_attention.labels import LabelSpec

AFFINE = np.diag([1.5, 1.25, 5.0, 1.0])
SHAPE = (3, 5, 7)


def _mask(*planes, value=1):
    mask = np.zeros(SHAPE, np.uint8)
    mask[list(planes)] = value
    return mask


def _subject(folder, **masks):
    (folder / "segmentations").mkdir(parents=True, exist_ok=True)
    write_nifti(folder / "ct.nii.gz", np.full(SHAPE, 7, np.int16), AFFINE)
    for name, mask in masks.items():
        write_nifti(folder / "segmentations" / f"{name}.nii.gz", mask, AFFINE)
    return folder


def _planes(case):
    return case.labels[:, 0, 0].tolist()


@pytest.fixture
def folder(tmp_path):
    for name, plane in (("s2", 0), ("s10", 1)):
        masks = {"spleen": _mask(plane), "liver": _mask(2, value=255), "kidney_left": _mask()}
        _subject(tmp_path / name, **masks, kidney_right=_mask())
    return tmp_path


def test_all_structures_in_the_order_of_their_names(folder):
    cohort = open_cohort(folder)
    assert (cohort.layout, cohort.case_ids, cohort.labelled) == ("structures", ("s2", "s10"), ("s2", "s10"))
    assert dict(cohort.labels.names) == {1: "kidney_left", 2: "kidney_right", 3: "liver", 4: "spleen"}
    assert {frozenset(pair) for pair in cohort.labels.pairs} == {frozenset({1, 2})}
    assert [_planes(case) for case in cohort] == [[4, 0, 3], [0, 4, 3]]
    assert set(cohort[0].image.flat) == {7}
    single = open_cohort(folder / "s2")
    assert (single.layout, single.case_ids, _planes(single[0])) == ("structures", ("s2",), [4, 0, 3])
    assert len(cohort.scans[0].files()) == 5


@pytest.mark.parametrize(
    "labels", [{1: "liver", 9: "Kidney Left"}, LabelSpec({1: "liver", 9: "kidney_left"})]
)
def test_structures_are_chosen_by_name(folder, labels):
    cohort = open_cohort(folder, labels=labels)
    assert [_planes(case) for case in cohort] == [[0, 0, 1], [0, 0, 1]]
    assert list(cohort.labels.names) == [1, 9]
    with pytest.raises(
        DataError, match="`labels` must be names of structures of .*such as kidney_left, .*got lung"
    ):
        open_cohort(folder, labels={1: "lung"})


def test_overlaps_are_the_higher_value_and_a_warning(folder):
    _subject(folder / "s2", tumour=_mask(2))
    (folder / "s10" / "segmentations" / "tumour.nii.gz").write_bytes(
        (folder / "s10" / "segmentations" / "spleen.nii.gz").read_bytes()
    )
    cohort = open_cohort(folder, labels={1: "liver", 2: "tumour"})
    with pytest.warns(UserWarning, match=r"s2.*liver.nii.gz and .*tumour.nii.gz overlap in 35 voxels"):
        assert _planes(cohort[0]) == [0, 0, 2]
    assert _planes(cohort[1]) == [0, 2, 1]


def test_a_missing_file_of_a_case_is_a_warning(folder):
    (folder / "s2" / "segmentations" / "liver.nii.gz").unlink()
    with pytest.warns(UserWarning, match="No file of liver in s2: these structures are read as absent there"):
        cohort = open_cohort(folder, labels={1: "liver", 2: "spleen"})
    assert _planes(cohort[0]) == [2, 0, 0]
    with pytest.warns(UserWarning, match="No file of liver in s2"):
        cohort = open_cohort(folder, labels={1: "liver"})
    assert (cohort.labelled, cohort[0].labels) == (("s10",), None)


def test_masks_that_cannot_be_merged(folder):
    path = folder / "s2" / "segmentations" / "liver.nii.gz"

    def fails(message):
        with pytest.raises(DataError, match=message) as caught:
            open_cohort(folder)[0]
        assert caught.value.file == path

    write_nifti(path, np.arange(105).reshape(SHAPE).astype(np.uint8) % 3, AFFINE)
    fails(r"values of .*liver.nii.gz. must be a binary mask, of 0 and one other value, got 0, 1, 2")
    write_nifti(path, _mask()[:2], AFFINE)
    fails("mask .*liver.nii.gz. must be of the image's size")
    write_nifti(path, _mask(), AFFINE * np.array([2, 1, 1, 1])[:, None])
    fails("mask .*liver.nii.gz. must be within")
    write_nifti(
        path,
        _mask(2)[:, :, ::-1],
        AFFINE @ np.array([[-1, 0, 0, 6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    )
    assert _planes(open_cohort(folder)[0]) == [4, 0, 3]
    write_nifti(folder / "s2" / "mr.nii.gz", _mask(), AFFINE)
    wanted = "one image beside its folder of masks, or masks that are called as their images"
    with pytest.raises(DataError, match=f"s2. must be {wanted}, got .*ct.* and .*mr"):
        open_cohort(folder)


def test_structures_in_parts_and_of_other_formats(tmp_path):
    for part in ("train", "test"):
        place = tmp_path / part / f"{part}1"
        (place / "masks").mkdir(parents=True)
        Image.fromarray(np.zeros((5, 7), np.uint8)).save(place / "image.png")
        Image.fromarray(np.ones((5, 7), bool)).save(place / "masks" / "Liver.PNG")
    cohort = open_cohort(tmp_path, spacing_mm=(1.0, 1.0, 1.0))
    assert (cohort.layout, cohort.parts) == ("structures", {"train": ("train1",), "test": ("test1",)})
    assert set(cohort[0].labels.flat) == {1}


PAIRS = {
    "as the subject's folder": (["s1/ct", "s2/ct"], ["s1/seg/s1_seg", "s2/seg/s2_seg"], ("s1", "s2")),
    "as the folder, no word": (["s1/ct", "s2/ct"], ["s1/masks/s1", "s2/masks/S2"], ("s1", "s2")),
    "a word and no name": (["s1/ct", "s2/ct"], ["s1/labels/label", "s2/labels/label"], ("s1", "s2")),
    "one scan": (["p1"], ["labels/p1_seg"], ("p1",)),
    "several scans": (["p1", "p2"], ["labels/p1_seg", "labels/p2_seg"], ("p1", "p2")),
    "words for both": (["p1_image"], ["labels/p1_label"], ("p1",)),
    "a number": (["p1_0000"], ["labels/p1"], ("p1",)),
    "a subject's folder": (["ct"], ["seg/scans_seg"], ("scans",)),
}


@pytest.mark.parametrize("names", PAIRS)
def test_masks_that_are_called_as_scans_are_pairs(tmp_path, names):
    images, masks, case_ids = PAIRS[names]
    for place, name in enumerate([*images, *masks]):
        path = tmp_path / "scans" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, _mask(place % len(images), value=3 if name in masks else 7), AFFINE)
    cohort = open_cohort(tmp_path / "scans")
    assert (cohort.layout, cohort.labels, cohort.case_ids) == ("pairs", None, case_ids)
    planes = [[3 * (plane == place) for plane in range(3)] for place in range(len(images))]
    assert [_planes(case) for case in cohort] == planes


def test_images_that_share_a_folder_of_masks_of_other_names_are_told_to_be_paired(tmp_path):
    for name in ("p1", "p2", "labels/x1", "labels/x2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_nifti(tmp_path / f"{name}.nii.gz", _mask(0), AFFINE)
    wanted = "one image beside its folder of masks, or masks that are called as their images"
    got = f"{tmp_path / 'p1.nii.gz'} and {tmp_path / 'p2.nii.gz'} with masks x1, x2"
    with pytest.raises(
        DataError, match=f"^`{tmp_path}` must be {wanted}, got {got}. Keep one image, rename the masks"
    ):
        open_cohort(tmp_path)


def _files(folder, *names):
    """Images of 7, and masks of 1 in the plane of their place, in folders that are called as masks are."""
    for place, name in enumerate(names):
        path = folder / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        is_mask = path.parent.name in {"seg", "masks", "labels"} or name.endswith("label")
        write_nifti(path, _mask(place % 3) if is_mask else np.full(SHAPE, 7, np.int16), AFFINE)


def _read(cohort):
    return [
        (case.case_id, None if case.labels is None else case.labels.any((1, 2)).tolist()) for case in cohort
    ]


@pytest.mark.parametrize(
    ("names", "spare", "masked"),
    [
        (("image", "label", "masks/brain"), "masks/brain", [False, True, False]),
        (("ct", "masks/liver", "masks/spleen"), "masks/liver", None),
        (("{0}_image", "{0}_label", "masks/{0}"), "masks/{0}", [False, True, False]),
        (("ct", "seg/ct_seg", "seg/ct_body"), "seg/ct_body", [False, True, False]),
    ],
)
def test_pairs_take_masks_from_a_folder_below_only_where_they_are_called_as_the_scan(
    tmp_path, names, spare, masked
):
    for subject in ("s1", "s2"):
        _files(tmp_path / subject, *(name.format(subject) for name in names))
    if spare == "masks/brain":
        with pytest.raises(DataError, match='got .*image.* and .*label.* with masks brain. .*layout="pairs"'):
            open_cohort(tmp_path)
    elif masked is not None:
        with pytest.warns(LeftOutWarning, match="belong to no case"):
            assert _read(open_cohort(tmp_path)) == [("s1", masked), ("s2", masked)]
    with pytest.warns(LeftOutWarning, match="belong to no case") as told:
        cohort = open_cohort(tmp_path, layout="pairs")
    assert f"{spare.format('s1')}.nii.gz" in str(told[0].message)
    assert (cohort.layout, _read(cohort)) == ("pairs", [("s1", masked), ("s2", masked)])


def test_channels_and_masks_below_are_paired_by_the_name_of_the_subject(tmp_path):
    for subject in ("s1", "s2"):
        _files(tmp_path / "a" / subject, "t1", "t2", f"seg/{subject}_seg")
        _files(tmp_path / "b" / subject, f"{subject}_0000", f"{subject}_0001", f"labels/{subject}")
        _files(tmp_path / "c" / subject, f"p{subject}_t1", f"p{subject}_t2", f"labels/p{subject}_seg")
    for place in "abc":
        cohort = open_cohort(tmp_path / place)
        assert (cohort.layout, cohort[0].image.shape) == ("pairs", (2, *SHAPE))
        assert [mask is None for _, mask in _read(cohort)] == [False, False]


def test_a_subject_that_is_called_as_the_structure_of_others_is_one(tmp_path):
    for name in ("a/liver/ct", "a/s2/ct", "b/s1/liver_image", "b/s2/ct", "train/liver/ct", "test/s2/ct"):
        _files(tmp_path, name, f"{name.rpartition('/')[0]}/seg/liver")
    for place, names in {"a": ("liver", "s2"), "b": ("s1", "s2"), "": ("liver", "s2")}.items():
        cohort = open_cohort(tmp_path / place) if place else open_cohort(_moved(tmp_path))
        assert (cohort.layout, dict(cohort.labels.names)) == ("structures", {1: "liver"})
        assert cohort.case_ids == cohort.labelled == names


def _moved(folder):
    (folder / "parts").mkdir()
    for part in ("train", "test"):
        (folder / part).rename(folder / "parts" / part)
    return folder / "parts"


def test_masks_of_some_subjects_that_are_called_as_scans_are_no_structures_of_others(tmp_path):
    _files(tmp_path, "s1/ct", "s1/seg/s1", "s2/ct", "s2/seg/liver", "s3/ct", "s3/seg/spleen")
    one, other = tmp_path / "s1/seg/s1.nii.gz", tmp_path / "s2/seg/liver.nii.gz"
    wanted = f"all called as their scans, or all as structures, got {one} and the structure {other}"
    with pytest.raises(
        DataError, match=f"^`masks of subjects` must be {wanted}. Rename one like the others"
    ) as told:
        open_cohort(tmp_path)
    assert told.value.file == one


@pytest.mark.parametrize("masks", [("liver", "spleen"), ("tumour",)])
def test_two_images_beside_one_folder_of_structures_are_an_error(tmp_path, masks):
    _files(tmp_path / "s1", "t1", "t2", *(f"masks/{name}" for name in masks))
    got = rf"got .*t1\.nii\.gz and .*t2\.nii\.gz with masks {', '.join(masks)}"
    wanted = f"s1` must be one image beside its folder of masks, .*, {got}"
    for place in (tmp_path, tmp_path / "s1"):
        with pytest.raises(DataError, match=f"{wanted}. Keep one image"):
            open_cohort(place)


def test_a_list_of_cases_beside_structures(folder):
    content = {
        "train": ["s2"],
        "val": ["s10"],
        "labels": {"1": "spleen", "2": "liver"},
        "channel_names": ["CT"],
    }
    (folder / "cases.json").write_text(json.dumps(content))
    cohort = open_cohort(folder)
    assert (cohort.layout, cohort.parts) == ("structures", {"train": ("s2",), "val": ("s10",)})
    assert (dict(cohort.labels.names), [_planes(case) for case in cohort]) == (
        {1: "spleen", 2: "liver"},
        [[1, 0, 2], [0, 1, 2]],
    )
    assert cohort.channel_names == cohort[0].channel_names == ("CT",)
    assert dict(open_cohort(folder, labels={4: "liver"}).labels.names) == {4: "liver"}
    (folder / "cases.json").write_text(json.dumps({"train": ["s3"]}))
    with pytest.raises(DataError, match=r"cases.json` must be a file of the cases s2, s10, got 's3'"):
        open_cohort(folder)


def _slicer(path, *segments):
    head = ["NRRD0004", "type: uint8", "dimension: 3", "space: RAS", "sizes: 7 5 3", "encoding: raw"]
    head += ["space directions: (1.5,0,0) (0,1.25,0) (0,0,5)", "space origin: (0,0,0)"]
    array = np.zeros(SHAPE, np.uint8)
    for number, (name, value) in enumerate(segments):
        head += [f"Segment{number}_Name:={name}", f"Segment{number}_LabelValue:={value}"]
        head += [f"Segment{number}_Color:=0 {number} 1"]
        array[number] = value
    path.write_bytes("\n".join([*head, "", ""]).encode() + array.tobytes())


def test_names_of_slicer_travel_to_the_cohort(tmp_path):
    for name in "ab":
        write_nifti(tmp_path / f"{name}.nii.gz", np.zeros(SHAPE, np.int16), AFFINE)
        _slicer(tmp_path / f"{name}.seg.nrrd", ("liver", 4), ("spleen", 2))
    cohort = open_cohort(tmp_path)
    assert (dict(cohort.labels.names), cohort.labels.colours[4]) == ({2: "spleen", 4: "liver"}, "#0000ff")
    assert [_planes(case) for case in cohort] == [[4, 2, 0]] * 2
    _slicer(tmp_path / "b.seg.nrrd", ("spleen", 4), ("liver", 2))
    cohort = open_cohort(tmp_path)
    assert dict(cohort.labels.names) == {1: "liver", 2: "spleen"}
    assert [_planes(case) for case in cohort] == [[1, 2, 0], [2, 1, 0]]
    cohort = open_cohort(tmp_path, labels={7: "spleen"})
    assert [_planes(case) for case in cohort] == [[0, 7, 0], [7, 0, 0]]


def test_a_file_of_other_segments_is_background_whatever_their_values(tmp_path):
    for name, segments in {"ill": (("liver", 1), ("tumour", 2)), "well": (("liver", 1),)}.items():
        write_nifti(tmp_path / f"{name}.nii.gz", np.zeros(SHAPE, np.int16), AFFINE)
        _slicer(tmp_path / f"{name}.seg.nrrd", *segments)
    ill, well = open_cohort(tmp_path, labels={1: "tumour"}).scans
    assert _planes(ill.read()) == [0, 1, 0]
    with pytest.warns(
        UserWarning, match=r"^No segment of .*well\.seg\.nrrd is tumour, only liver: all of it is read"
    ):
        assert _planes(well.read()) == [0, 0, 0]
    wanted = r"segments of .*well\.seg\.nrrd` must be of tumour, got liver"
    with pytest.raises(DataError, match=wanted):
        open_cohort(tmp_path, labels=LabelSpec({1: "tumour"})).read("well")


def test_spellings_of_a_name_are_one_organ(tmp_path):
    spelled = {"a": ("Liver", "left kidney"), "b": ("liver", "Left_Kidney"), "c": ("liver ", "left  kidney")}
    for name, (liver, kidney) in spelled.items():
        write_nifti(tmp_path / f"{name}.nii.gz", np.zeros(SHAPE, np.int16), AFFINE)
        _slicer(tmp_path / f"{name}.seg.nrrd", (liver, 3), (kidney, 5))
    cohort = open_cohort(tmp_path)
    assert cohort.labels == LabelSpec({3: "Liver", 5: "left kidney"}, {3: "#0000ff", 5: "#00ffff"})
    assert [_planes(case) for case in cohort] == [[3, 5, 0]] * 3
    _slicer(tmp_path / "c.seg.nrrd", (" left-kidney", 3), ("LIVER", 5))
    cohort = open_cohort(tmp_path)
    assert dict(cohort.labels.names) == {1: "left kidney", 2: "Liver"}
    assert [_planes(case) for case in cohort] == [[2, 1, 0], [2, 1, 0], [1, 2, 0]]
    assert [_planes(case) for case in open_cohort(tmp_path, labels={7: "LEFT KIDNEY"})] == [[0, 7, 0]] * 2 + [
        [7, 0, 0]
    ]


def test_a_list_of_cases_gives_the_organs_that_files_name_their_values(tmp_path):
    for name in "ab":
        write_nifti(tmp_path / f"{name}.nii.gz", np.zeros(SHAPE, np.int16), AFFINE)
        _slicer(tmp_path / f"{name}.seg.nrrd", ("liver", 1), ("tumour", 2))
    content = {"train": ["a"], "val": ["b"], "labels": {"background": 0, "tumour": 1, "liver": 2}}
    (tmp_path / "cases.json").write_text(json.dumps(content))
    cohort = open_cohort(tmp_path)
    assert dict(cohort.labels.names) == {1: "tumour", 2: "liver"}
    assert [_planes(case) for case in cohort] == [[2, 1, 0]] * 2
    assert [_planes(case) for case in open_cohort(tmp_path, labels={5: "tumour"})] == [[0, 5, 0]] * 2
