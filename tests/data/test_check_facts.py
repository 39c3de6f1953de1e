"""Hand-worked cases for what is noted of a case, and for what is suspected from that."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from guided_attention.case import Case
from guided_attention.data import check, write_nifti
from guided_attention.data.checks._alignment import Alignment, alignment_of
from guided_attention.data.checks._exchanged import (
    _log_spreads,
    brightness,
    exchanged,
    nearly_equal,
    thumbnail_of,
)
from guided_attention.data.checks._facts import CaseFacts, OrganFacts, facts_of
from guided_attention.data.checks._suspicions import in_cases
from guided_attention.data.checks._unlike import in_cohort
from guided_attention.data.layouts._records import Scan
from guided_attention.labels import LabelSpec

LPS = np.diag([-1.0, -1.0, 2.0, 1.0])
ORGANS = LabelSpec({1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"})


def facts(image, labels, affine=LPS):
    case = Case("a", image[None].astype(np.float32), labels.astype(np.uint8), affine)
    return facts_of(
        Scan("a", Path("a_image.nii"), partial(lambda: case), True, beside=(Path("a_label.nii"),))
    )


def volume(shape=(11, 13, 17)):
    return np.random.default_rng(5).normal(size=shape)


def box(shape=(11, 13, 17), where=np.s_[3:6, 4:9, 5:12], value=1):
    labels = np.zeros(shape, np.uint8)
    labels[where] = value
    return labels


def organ(**changes):
    return replace(OrganFacts(100, 10.0, (0.0, 0.0, 0.0), (), 0, 0), **changes)


def case(case_id="a", **changes):
    plain = CaseFacts(
        case_id,
        Path(f"{case_id}_image.nii"),
        shape=(11, 13, 17),
        orientation="LPS",
        channels=1,
        quantiles=(0.0, 1.0, 2.0),
        is_labelled=True,
        organs={1: organ()},
        mask=Path(f"{case_id}_label.nii"),
        roughness=0.1,
        disorder=0.7,
        image_hash=case_id,
        labels_hash=case_id,
        outline_hash=case_id,
    )
    return replace(plain, **changes)


def cohort(**changes):
    return [case(name) for name in "abcdefg"] + [case("odd", **changes)]


def kinds(suspicions):
    return [(one.kind, one.case_id, one.file.name) for one in suspicions]


def test_an_organ_is_measured():
    noted = facts(volume(), box())
    # x runs to the left in LPS: columns 5 to 11 have their centre at 8, which is RAS x = -8.
    assert noted.organs == {1: OrganFacts(105, 0.21, (-8.0, -6.0, 8.0), (), 0, 0, 1)}
    assert (noted.file.name, noted.mask.name) == ("a_image.nii", "a_label.nii")


def test_an_image_in_place_of_a_mask_is_only_counted():
    image = np.arange(7 * 11 * 13).reshape(1, 7, 11, 13)
    scan = Scan("a", Path("a_image.nii"), partial(Case, "a", image, image[0], LPS), True)
    noted = facts_of(scan)
    assert noted.organs == {
        value: OrganFacts(1, 0.002, (0.0, 0.0, 0.0), (), 0, 0) for value in range(1, 1001)
    }
    assert noted.mask_is_image


def test_borders_are_named_in_the_patient():
    assert facts(volume(), box(where=np.s_[:2, 4:9, 16:])).organs[1].borders == ("feet", "left")
    turned = np.diag([1.0, 1.0, -2.0, 1.0])  # stored as RAI
    assert facts(volume(), box(where=np.s_[:2, 4:9, 16:]), turned).organs[1].borders == ("head", "right")


@pytest.mark.parametrize(("column", "islands"), [(13, 0), (14, 0), (15, 1)])
def test_an_island_lies_more_than_two_voxels_away(column, islands):
    labels = box()  # its last column is 11
    labels[4, 6, column] = 1
    assert facts(volume(), labels).organs[1].islands == islands


def test_a_hole_is_background_that_an_organ_surrounds():
    labels = box(where=np.s_[2:7, 3:10, 4:13])
    labels[4, 5, 6:9] = 0
    assert facts(volume(), labels).organs[1].hole_voxels == 3
    labels[4, 5, 6:9] = 2  # a tumour is none
    assert facts(volume(), labels).organs[1].hole_voxels == 0
    labels[4, 5, 6:9], labels[4, 5, :6] = 0, 0  # nor is a dent
    assert facts(volume(), labels).organs[1].hole_voxels == 0


def test_slices_of_one_value_and_repeated_slices():
    image = volume()
    image[[0, 4, 10]] = 3  # the first and the last are no gap
    image[8] = image[7]
    noted = facts(image, box())
    assert (noted.blank, noted.repeated) == ((4,), (8,))


def test_slices_without_label():
    labels = box(where=np.s_[3:9, 4:9, 5:12])
    labels[[5, 6]] = 0
    assert facts(volume(), labels).gaps == (5, 6)


def test_labels_that_rise_in_steps():
    labels = np.zeros((3, 5, 7), np.uint8)
    labels[:, :, 4:] = 2  # 15 borders of 0 and 2
    assert facts(volume((3, 5, 7)), labels).between == 0
    labels[:, :3, 3] = 1  # 9 of them in steps of 1, and no jump there
    assert facts(volume((3, 5, 7)), labels).between == pytest.approx(9 / 15)


def test_roughness_order_and_rim():
    ramp = np.broadcast_to(np.arange(11.0)[:, None, None], (11, 13, 17))
    noted = facts(ramp, box())
    assert (noted.roughness, noted.disorder) == (0, 0.5)  # steps of 1, and of 2 for slices two apart
    mixed = ramp[[0, 5, 1, 6, 2, 7, 3, 8, 4, 9, 10]]
    assert facts(mixed, box()).disorder > 2
    frame = np.ones((11, 13, 17))
    frame[:, 1:-1, 1:-1] = 0
    assert (facts(frame, box()).rim, facts(1 - frame, box()).rim) == (1, 0)


def test_a_sheared_affine():
    sheared = LPS.copy()
    sheared[0, 1] = 0.3
    assert (facts(volume(), box(), sheared).is_sheared, facts(volume(), box()).is_sheared) == (True, False)


def test_the_shift_back_to_the_organ_is_found():
    labels = box((23, 29, 31), np.s_[9:14, 10:19, 8:17])
    image = (volume((23, 29, 31)) * 0.01 + 5 * labels).astype(np.float32)
    assert alignment_of(image, labels).shifted == pytest.approx(1, abs=0.01)
    moved = alignment_of(image, np.roll(labels, (2, -3, 4), (0, 1, 2)))
    assert moved.shift == (-2, 3, -4)
    assert moved.shifted > 2


def test_a_shift_into_the_dark_does_not_count():
    image = np.zeros((5, 31, 37), np.float32)
    image[:, :, :15] = np.random.default_rng(1).normal(100, 10, (5, 31, 15))
    labels = box((5, 31, 37), np.s_[1:4, 9:19, 4:11])
    assert alignment_of(image, labels).shifted < 1.6


def test_a_mask_turned_in_square_slices():
    labels = box((7, 23, 23), np.s_[2:5, 3:8, 11:20])
    image = np.where(labels, 0, 5 * volume((7, 23, 23))).astype(np.float32)
    turns = {"with rows for columns": labels.swapaxes(1, 2), "by a quarter": np.rot90(labels, 3, (1, 2))}
    for name, turned in turns.items():
        found = alignment_of(image, np.ascontiguousarray(turned)).turned
        assert max(found, key=found.__getitem__) == name


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"constant": (0,)}, [("constant image", "a", "a_image.nii")]),
        ({"at_top": 0.06}, [("clipped image", "a", "a_image.nii")]),
        ({"at_bottom": 0.995, "quantiles": (0.0, 0.0, 2.0)}, [("empty image", "a", "a_image.nii")]),
        ({"blank": (3,)}, [("blank slices", "a", "a_image.nii")]),
        ({"repeated": (3,)}, [("repeated slices", "a", "a_image.nii")]),
        ({"is_sheared": True}, [("sheared", "a", "a_image.nii")]),
        ({"organs": {}}, [("empty mask", "a", "a_label.nii")]),
        ({"mask_is_image": True}, [("mask is image", "a", "a_image.nii")]),
        ({"organs": {7: organ()}}, [("unknown labels", "a", "a_label.nii")]),
        ({"organs": {1: organ(voxels=1500)}}, [("huge organ", "a", "a_label.nii")]),
        ({"organs": {1: organ(hole_voxels=11)}}, [("holes", "a", "a_label.nii")]),
        ({"organs": {1: organ(islands=2), 4: organ(islands=1)}}, [("islands", "a", "a_label.nii")]),
        ({"gaps": (5,)}, [("gap in mask", "a", "a_label.nii")]),
        ({"skipped": {1: (4,)}}, [("gap in organ", "a", "a_label.nii")]),
        ({"skipped": {1: (4,)}, "gaps": (4,)}, [("gap in mask", "a", "a_label.nii")]),
        ({"highest": 103.0}, [("extreme values", "a", "a_image.nii")]),
        ({"lowest": -101.0}, [("extreme values", "a", "a_image.nii")]),
        ({"between": 0.21}, [("smooth mask", "a", "a_label.nii")]),
        ({"alignment": Alignment({"left to right": 1.3}, 2.0)}, [("turned mask", "a", "a_label.nii")]),
        ({"alignment": Alignment({"left to right": 1.2}, 1.7)}, [("shifted mask", "a", "a_label.nii")]),
        (
            {"organs": {2: organ(centre_mm=(-30.0, 0, 0)), 3: organ(centre_mm=(30.0, 0, 0))}},
            [("sides", "a", "a_label.nii")],
        ),
        (
            {"organs": {1: organ(centre_mm=(-30.0, 0, 0)), 4: organ(centre_mm=(30.0, 0, 0))}},
            [("sides", "a", "a_label.nii")],
        ),
        (
            {"organs": {1: organ(), 2: organ(centre_mm=(0, 0, 30.0))}},
            [("slice order", "a", "a_image.nii")],
        ),
        ({"error": "damaged"}, [("unreadable", "a", "a_image.nii")]),
        ({"notes": ("odd",)}, [("reader", "a", "a_image.nii")]),
    ],
)
def test_what_looks_wrong_in_one_case(changes, expected):
    assert kinds(in_cases([case(**changes)], ORGANS)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"image_hash": "a"}, [("duplicate image", "odd_image.nii")]),
        ({"labels_hash": "a"}, [("duplicate mask", "odd_label.nii")]),
        ({"outline_hash": "a"}, [("duplicate mask", "odd_label.nii")]),
        ({"outline_hash": "a", "labels_hash": "a"}, [("duplicate mask", "odd_label.nii")]),
        ({"channels": 2}, [("odd channels", "odd_image.nii")]),
        ({"orientation": "RAS"}, [("odd orientation", "odd_image.nii")]),
        ({"spacing_mm": (1.0, 1.0, 1.6)}, [("odd spacing", "odd_image.nii")]),
        ({"quantiles": (0.0, 1.0, 17.0)}, [("odd intensities", "odd_image.nii")]),
        ({"lowest": -1.0}, [("odd intensities", "odd_image.nii")]),
        ({"roughness": 0.18}, [("rough image", "odd_image.nii")]),
        ({"roughness": 0.04}, [("smooth image", "odd_image.nii")]),
        ({"organs": {1: organ(parts=2)}}, [("organ in parts", "odd_label.nii")]),
        ({"disorder": 0.9}, [("slices in disorder", "odd_image.nii")]),
        ({"rim": 0.6}, [("odd border", "odd_image.nii")]),
        ({"at_bottom": 0.31}, [("clipped image", "odd_image.nii")]),
        ({"alignment": Alignment({}, 1.3)}, [("shifted mask", "odd_label.nii")]),
        ({"organs": {4: organ()}}, [("missing organ", "odd_label.nii")]),
        ({"organs": {1: organ(), 9: organ()}}, [("rare label", "odd_label.nii")]),
        ({"organs": {1: organ(volume_ml=26.0)}}, [("organ size", "odd_label.nii")]),
        ({"organs": {1: organ(borders=("head",))}}, [("organ at border", "odd_label.nii")]),
    ],
)
def test_what_looks_wrong_beside_other_cases(changes, expected):
    assert kinds(in_cohort(cohort(**changes), ORGANS)) == [(kind, "odd", file) for kind, file in expected]


def _thumbnails(count=4, shape=(11, 13, 17)):
    """Cases with an organ each at a place of its own, bright in its image."""
    made = []
    for number in range(count):
        labels = box(shape, np.s_[2:6, 2 + number : 7 + number, 3:9], value=1 + number % 2)
        image = (volume(shape) + 9 * (labels > 0)).astype(np.float32)
        made.append((image, labels))
    return made


def test_exchanged_masks_are_a_pair_of_cases():
    made = _thumbnails()
    plain = [thumbnail_of(image, labels) for image, labels in made]
    assert list(exchanged(plain)) == []
    (one, mask), (other, second) = made[1], made[3]
    swapped = [
        plain[0],
        thumbnail_of(one, second),
        plain[2],
        thumbnail_of(other, mask),
    ]
    assert list(exchanged(swapped)) == [(1, 3)]
    # A mask that is turned against its own image alone is none.
    turned = thumbnail_of(one, np.ascontiguousarray(mask[::-1]))
    assert list(exchanged([plain[0], turned, *plain[2:]])) == []


def test_the_spread_within_masks_of_other_cases_is_that_of_numpy():
    thumbnails = [thumbnail_of(image, labels) for image, labels in _thumbnails()]
    thumbnails[2].labels[:50] = 7
    for row, one in zip(_log_spreads(thumbnails), thumbnails, strict=True):
        pixels = (one.image - one.image.mean()) / one.image.std()
        for got, other in zip(row, thumbnails, strict=True):
            parts = [pixels[other.labels == value] for value in np.unique(other.labels) if value]
            off = sum(((part - part.mean()) ** 2).sum() for part in parts)
            assert got == pytest.approx(np.log(np.sqrt(off / sum(map(len, parts)))))


def test_exchanged_masks_are_told_in_both_cases():
    made = _thumbnails()
    masks = [made[0][1], made[3][1], made[2][1], made[1][1]]
    cases = [
        case(name, alignment=Alignment(thumbnail=thumbnail_of(image, mask)))
        for name, (image, _), mask in zip("abcd", made, masks, strict=True)
    ]
    found = list(in_cohort(cases, ORGANS))
    assert kinds(found) == [("exchanged masks", "b", "b_label.nii"), ("exchanged masks", "d", "d_label.nii")]
    assert "case 'd'" in found[0].message


def test_the_outline_of_organs_is_the_same_in_every_margin():
    shape = (17, 23, 29)
    organs = np.random.default_rng(5).integers(0, 3, (11, 13, 17)).astype(np.int64)
    labels = np.zeros(shape, np.int64)
    labels[2:13, 3:16, 5:22] = organs
    first = facts(volume(shape), labels)
    cut = facts(volume(shape)[1:, 2:, :-3], labels[1:, 2:, :-3])
    assert first.outline_hash == cut.outline_hash != ""
    assert first.labels_hash != cut.labels_hash
    labels[7, 9, 11] = 1 + labels[7, 9, 11] % 2
    assert facts(volume(shape), labels).outline_hash != first.outline_hash


@pytest.mark.parametrize("where", [np.s_[2:12, 3:13, 5:15], np.s_[2:7, 3:10, 5:15:2]])
def test_organs_whose_outline_may_be_equal_by_chance_have_none(where):
    # A cuboid of 1000 voxels, and 175 voxels.
    assert facts(volume((17, 23, 29)), box((17, 23, 29), where)).outline_hash == ""


def test_an_organ_in_two_parts():
    labels = box(where=np.s_[3:6, 4:9, 2:5])
    labels[3:6, 4:9, 10:16] = 1
    assert facts(volume(), labels).organs[1].parts == 2
    labels[3:6, 5, 5:10] = 1  # a bridge
    assert facts(volume(), labels).organs[1].parts == 1


def test_an_organ_that_one_slice_lacks():
    labels = box(where=np.s_[2:8, 4:9, 5:12])
    labels[2:8, 4:9, 1:4] = 2
    labels[5, :, 4:] = 0
    noted = facts(volume(), labels)
    assert (noted.skipped, noted.gaps) == ({1: (5,)}, ())


def test_a_copy_with_other_contrast_and_noise_is_similar():
    made = [(volume(), box()), (np.random.default_rng(6).normal(size=(11, 13, 17)), box())]
    smooth = [(ndimage.gaussian_filter(image, 2).astype(np.float32), labels) for image, labels in made]
    copy = (smooth[0][0] * 3 + 7 + 0.001 * made[1][0]).astype(np.float32), box()
    thumbnails = [thumbnail_of(image, labels) for image, labels in (*smooth, copy)]
    assert list(nearly_equal(thumbnails)) == [(0, 2)]
    cases = [
        case(name, alignment=Alignment(thumbnail=one)) for name, one in zip("abc", thumbnails, strict=True)
    ]
    assert kinds(in_cohort(cases, ORGANS)) == [("similar image", "c", "c_image.nii")]
    cases[2] = replace(cases[2], image_hash="a")
    assert [one.kind for one in in_cohort(cases, ORGANS)] == ["duplicate image"]


def _anatomy(**moved):
    """Four organs about 80 mm apart; some of them moved."""
    places = {1: (60.0, 10.0, 20.0), 2: (50.0, -30.0, -40.0), 3: (-50.0, -30.0, -40.0), 4: (-80.0, 0.0, 40.0)}
    return {value: organ(centre_mm=moved.get(f"organ{value}", place)) for value, place in places.items()}


def test_a_patient_who_is_turned_beside_the_others():
    usual = [case(name, organs=_anatomy()) for name in "abcdefg"]
    turned = {
        value: organ(centre_mm=(one.centre_mm[1], one.centre_mm[0], one.centre_mm[2]))
        for value, one in _anatomy().items()
    }
    assert kinds(in_cohort([*usual, case("odd", organs=turned)], ORGANS)) == [
        ("odd anatomy", "odd", "odd_label.nii")
    ]
    nearly = _anatomy(organ2=(55.0, -20.0, -45.0))
    assert kinds(in_cohort([*usual, case("odd", organs=nearly)], ORGANS)) == []


def test_organs_of_another_brightness():
    labels = box() + 3 * box(where=np.s_[7:9, 4:9, 5:12])
    shades = np.array([0.0, 6.0, 0.0, 3.0])

    def seen(name, levels):
        image = (ndimage.gaussian_filter(volume(), 1) * 0.2 + levels[labels]).astype(np.float32)
        image[0, 0, 0], image[-1, -1, -1] = 0, 10
        organs = {1: organ(), 3: organ()}
        return case(name, organs=organs, alignment=Alignment(thumbnail=thumbnail_of(image, labels)))

    assert brightness(seen("a", shades).alignment.thumbnail) == pytest.approx({1: 0.6, 3: 0.3}, abs=0.05)
    usual = [seen(name, shades + 0.3 * place) for place, name in enumerate("abcdef")]
    told = in_cohort([*usual, seen("odd", shades[[0, 3, 0, 1]])], ORGANS)
    found = [one for one in told if one.kind == "odd contrast"]
    assert kinds(found) == [("odd contrast", "odd", "odd_image.nii")]


@pytest.mark.parametrize(
    "organs", [[{1}] * 3 + [{2}] * 3 + [{1, 2}], [{1}, {2}] * 4, [{1, 2}] * 5 + [{3}] * 2]
)
def test_cases_with_no_pair_of_organs_in_common_are_checked(tmp_path, organs):
    for number, values in enumerate(organs):
        mask = np.zeros((5, 16, 16), np.uint8)
        for value in values:
            mask[1:4, 3 * value : 3 * value + 3, 4:9] = value
        image = np.random.default_rng(number).normal(size=mask.shape).astype(np.float32)
        write_nifti(tmp_path / f"c{number}_image.nii.gz", image, np.eye(4))
        write_nifti(tmp_path / f"c{number}_label.nii.gz", mask, np.eye(4))
    assert check(tmp_path).summary["cases"] == len(organs)
