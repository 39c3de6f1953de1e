import shutil

import numpy as np
import pytest
from PIL import Image
from tests.data.dicom_maker import numbered, write_masks, write_series
from tests.real_data import real_data

from guided_attention.data import (
    CHAOS_CT_LABELS,
    CHAOS_MR_LABELS,
    make_phantom,
    read_chaos,
    read_chaos_case,
    write_phantom_cohort,
)
from guided_attention.errors import ArgumentTypeError, DataError

GREYS = np.array([0, 63, 126, 189, 252, 55, 70, 110, 135, 175, 200, 240, 255], np.uint8)
CLASSES = [0, 1, 2, 3, 4, 1, 1, 2, 2, 3, 3, 4, 4]


def _masks(depth=3):
    masks = np.zeros((depth, 5, 7), np.uint8)
    masks.reshape(depth, -1)[:, : len(GREYS)] = GREYS
    return masks


def _mr(folder, depth=3, size=(5, 7)):
    volume = numbered(depth, *size)
    even = [f"IMG-0004-{2 * i + 2:05d}" for i in range(depth)]
    odd = [f"IMG-0004-{2 * i + 1:05d}" for i in range(depth)]
    dicom = folder / "T1DUAL" / "DICOM_anon"
    write_series(dicom / "InPhase", volume, names=[f"{name}.dcm" for name in even])
    write_series(dicom / "OutPhase", volume + 1, series="2", names=[f"{name}.dcm" for name in odd])
    write_masks(folder / "T1DUAL" / "Ground", _masks(depth), [f"{name}.png" for name in even])
    write_series(folder / "T2SPIR" / "DICOM_anon", volume + 2)
    write_masks(folder / "T2SPIR" / "Ground", _masks(depth))
    return folder


def _ct(folder, depth=3, masks=None):
    names = [f"i{i:04d},0000b.dcm" for i in range(depth)]
    write_series(folder / "DICOM_anon", numbered(depth), names=names, step=(0, 0, -2), RescaleIntercept=-1000)
    default = np.arange(depth * 35).reshape(depth, 5, 7) % 2 == 1
    names = [f"liver_GT_{i:03d}.png" for i in range(depth)]
    write_masks(folder / "Ground", default if masks is None else masks, names)
    return folder


@pytest.mark.parametrize(("source", "offset"), [("t1_in", 0), ("t1_out", 1), ("t2", 2)])
def test_each_scan_is_read_with_the_masks_it_shares(tmp_path, source, offset):
    case = read_chaos_case(_mr(tmp_path / "21"), source=source)
    np.testing.assert_array_equal(case.image, (numbered() + offset)[None].astype(np.float32))
    np.testing.assert_array_equal(case.labels.reshape(3, -1)[:, : len(CLASSES)], [CLASSES] * 3)
    assert (case.case_id, case.spacing_mm) == ("21", (5.0, 1.5, 1.25))


def test_both_phases_become_channels_in_then_out(tmp_path):
    case = read_chaos_case(_mr(tmp_path), source="t1_dual", case_id="x")
    np.testing.assert_array_equal(case.image, np.stack([numbered(), numbered() + 1]))
    assert case.case_id == "x"


def test_ct_keeps_file_order_and_the_affine_says_that_it_runs_to_the_feet(tmp_path):
    case = read_chaos_case(_ct(tmp_path / "3"), source="ct")
    np.testing.assert_array_equal(case.image[0], numbered() - 1000.0)
    np.testing.assert_array_equal(case.labels, np.arange(105).reshape(3, 5, 7) % 2)
    np.testing.assert_allclose(case.affine[:3, 2], [0, 0, -2])
    np.testing.assert_allclose(case.affine @ [0, 0, 2, 1], [10, -20, 26, 1])
    assert case.spacing_mm == (2.0, 1.5, 1.25)


@pytest.mark.parametrize("white", [1, 255])
def test_ct_masks_may_be_written_with_one_or_with_white(tmp_path, white):
    masks = np.full((3, 5, 7), white, np.uint8)
    np.testing.assert_array_equal(read_chaos_case(_ct(tmp_path, masks=masks), source="ct").labels, 1)


@pytest.mark.parametrize("inside", [".", "Train_Sets", "Train_Sets/MR"])
def test_the_release_is_found_from_any_of_its_folders_ordered_by_number(tmp_path, inside):
    for name in ("10", "2"):
        _mr(tmp_path / "Train_Sets" / "MR" / name)
    (tmp_path / "Train_Sets" / "MR" / "__MACOSX").mkdir()
    assert [case.case_id for case in read_chaos(tmp_path / inside)] == ["2", "10"]
    assert [case.case_id for case in read_chaos(tmp_path / inside, case_ids=["10"])] == ["10"]


def test_a_test_set_without_masks_has_no_labels(tmp_path):
    subject = _mr(tmp_path / "Test_Sets" / "MR" / "7")
    shutil.rmtree(subject / "T1DUAL" / "Ground")
    (case,) = read_chaos(tmp_path)
    assert case.labels is None


def test_the_maps_name_the_organs():
    assert CHAOS_MR_LABELS.names == {1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"}
    assert CHAOS_MR_LABELS.pairs == ((2, 3),)
    assert CHAOS_CT_LABELS.names == {1: "liver"}


def test_a_folder_without_subjects_lists_where_it_looked(tmp_path):
    (tmp_path / "MR").mkdir()
    wanted = r"CHAOS release for source 't2', got none: looked for .*Train_Sets/MR/<id>/T2SPIR/DICOM_anon"
    with pytest.raises(FileNotFoundError, match=wanted):
        read_chaos(tmp_path, source="t2")


def test_a_missing_release_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"existing folder, got .*nowhere. Download CHAOS from https"):
        read_chaos(tmp_path / "nowhere")


@pytest.mark.usefixtures("without_shape_checks")
def test_an_unknown_source_lists_the_known(tmp_path):
    with pytest.raises(
        ValueError, match="`source` must be one of 't1_in', 't1_out', 't1_dual', 't2', 'ct', got 't3'"
    ):
        read_chaos(tmp_path, source="t3")


def test_an_unknown_id_lists_what_was_found(tmp_path):
    _mr(tmp_path / "MR" / "5")
    with pytest.raises(
        ValueError, match=r"`case_ids` must be names of subjects in .*, got 6. Found there: 5."
    ):
        read_chaos(tmp_path, case_ids=["6"])


def test_a_subject_without_the_scan_is_named(tmp_path):
    shutil.rmtree(_mr(tmp_path / "MR" / "5") / "T2SPIR")
    with pytest.raises(FileNotFoundError, match=r"got .*MR/5/T2SPIR/DICOM_anon"):
        read_chaos(tmp_path, source="t2")


def test_an_image_without_its_mask_is_named(tmp_path):
    (_mr(tmp_path) / "T1DUAL" / "Ground" / "IMG-0004-00004.png").unlink()
    with pytest.raises(ValueError, match=r"got no mask for IMG-0004-00004.dcm. Copy the missing files"):
        read_chaos_case(tmp_path)


def test_a_mask_without_its_image_is_named(tmp_path):
    (_mr(tmp_path) / "T1DUAL" / "DICOM_anon" / "InPhase" / "IMG-0004-00006.dcm").unlink()
    with pytest.raises(ValueError, match=r"must be pairs, got no image for IMG-0004-00006.png"):
        read_chaos_case(tmp_path)


def test_a_lost_image_of_one_phase_is_told_though_the_other_is_complete(tmp_path):
    (_mr(tmp_path) / "T1DUAL" / "DICOM_anon" / "OutPhase" / "IMG-0004-00005.dcm").unlink()
    with pytest.raises(ValueError, match="must be equal in number, got 2 images and 3 masks"):
        read_chaos_case(tmp_path, source="t1_out")


def test_a_ct_image_without_its_mask_is_named_by_number(tmp_path):
    (_ct(tmp_path, depth=5) / "Ground" / "liver_GT_003.png").unlink()
    with pytest.raises(ValueError, match=r"got no mask for i0003,0000b.dcm"):
        read_chaos_case(tmp_path, source="ct")


def test_losing_one_image_and_another_mask_is_not_taken_for_pairs(tmp_path):
    _ct(tmp_path, depth=5)
    (tmp_path / "DICOM_anon" / "i0004,0000b.dcm").unlink()
    (tmp_path / "Ground" / "liver_GT_002.png").unlink()
    wanted = r"numbered without gaps, got a gap between liver_GT_001.png and liver_GT_003.png"
    with pytest.raises(ValueError, match=wanted):
        read_chaos_case(tmp_path, source="ct")


def test_a_slice_missing_in_both_is_told_by_its_position(tmp_path):
    _mr(tmp_path, depth=7)
    (tmp_path / "T2SPIR" / "DICOM_anon" / "i0003.dcm").unlink()
    (tmp_path / "T2SPIR" / "Ground" / "i0003.png").unlink()
    with pytest.raises(ValueError, match=r"got 10.00 mm between i0002.dcm and i0004.dcm. A slice is missing"):
        read_chaos_case(tmp_path, source="t2")


def test_names_that_run_across_positions_are_told(tmp_path):
    folder = tmp_path / "DICOM_anon"
    write_series(folder, numbered(5), names=[f"i{i}.dcm" for i in (0, 1, 3, 2, 4)])
    with pytest.raises(ValueError, match=r"must be in the same order by name as by position, got i3.dcm"):
        read_chaos_case(tmp_path, source="ct")


def test_a_grey_value_outside_the_map_prints_file_values_and_map(tmp_path):
    _mr(tmp_path)
    file = tmp_path / "T1DUAL" / "Ground" / "IMG-0004-00004.png"
    mask = np.zeros((5, 7), np.uint8)
    mask[0, :2] = 71, 30
    Image.fromarray(mask).save(file)
    wanted = (
        r"`grey values of .*00004.png` must be in the map, got 30, 71. The map is 0 background, 55-70 liver, "
        r"110-135 right kidney, 175-200 left kidney, 240-255 spleen."
    )
    with pytest.raises(ValueError, match=wanted):
        read_chaos_case(tmp_path)


def test_a_mask_of_another_size_names_both(tmp_path):
    _mr(tmp_path)
    file = tmp_path / "T1DUAL" / "Ground" / "IMG-0004-00004.png"
    Image.fromarray(np.zeros((7, 5), np.uint8)).save(file)
    wanted = r"`size of .*00004.png` must be that of its image IMG-0004-00004.dcm, \(5, 7\), got \(7, 5\)"
    with pytest.raises(ValueError, match=wanted):
        read_chaos_case(tmp_path)


def test_a_truncated_mask_is_named(tmp_path):
    _mr(tmp_path)
    file = tmp_path / "T1DUAL" / "Ground" / "IMG-0004-00004.png"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"`.*IMG-0004-00004.png` must be a whole PNG file"):
        read_chaos_case(tmp_path)


def test_a_mask_in_colour_is_named(tmp_path):
    _mr(tmp_path)
    Image.new("RGB", (7, 5), "red").save(tmp_path / "T1DUAL" / "Ground" / "IMG-0004-00004.png")
    with pytest.raises(
        ValueError, match=r"colours of .*IMG-0004-00004.png. must be of grey levels, got #ff0000"
    ):
        read_chaos_case(tmp_path)


def test_phases_that_lie_elsewhere_are_not_stacked(tmp_path):
    _mr(tmp_path)
    odd = [f"IMG-0004-{2 * i + 1:05d}.dcm" for i in range(3)]
    folder = tmp_path / "T1DUAL" / "DICOM_anon" / "OutPhase"
    write_series(folder, numbered(), series="2", names=odd, first=(-9.0, 20.0, 30.0))
    with pytest.raises(ValueError, match=r"`position of .*OutPhase` must be that of .*InPhase"):
        read_chaos_case(tmp_path, source="t1_dual")


def test_the_real_ct_case_reads_with_its_published_geometry():
    case = read_chaos_case(real_data("chaos-ct-case"), source="ct")
    assert case.image.shape == (1, 78, 512, 512)
    assert case.spacing_mm == (2.0, 0.7265625, 0.7265625)
    np.testing.assert_allclose(case.affine[:3, 2], [0, 0, -2.0])
    np.testing.assert_allclose(case.affine[:3, 3], [185, 98, 1690.5])
    liver = case.image[0][case.labels == 1]
    # Contrast-enhanced liver, in Hounsfield units.
    assert 70 < np.median(liver) < 170
    assert set(np.unique(case.labels)) == {0, 1}
    assert 1000 < liver.size * np.prod(case.spacing_mm) / 1000 < 2500  # millilitres


@pytest.mark.parametrize(
    ("source", "names"),
    [("t1_in", ("in",)), ("t1_out", ("out",)), ("t1_dual", ("in", "out")), ("t2", ("t2",))],
)
def test_channels_are_named_as_those_of_a_phantom(tmp_path, source, names):
    case = read_chaos_case(_mr(tmp_path / "21"), source=source)
    assert case.channel_names == names
    assert make_phantom(0, size=16, source=source).channel_names == names
    (read,) = read_chaos(write_phantom_cohort(tmp_path / "cohort", subjects=1, size=16), source=source)
    phantom = make_phantom(0, size=16, source=source)
    assert read.channel_names == phantom.channel_names
    np.testing.assert_array_equal(read.image, phantom.image)


def test_the_channel_of_ct_is_named(tmp_path):
    assert read_chaos_case(_ct(tmp_path / "3"), source="ct").channel_names == ("ct",)


def test_errors_name_the_file(tmp_path):
    _mr(tmp_path)
    file = tmp_path / "T1DUAL" / "Ground" / "IMG-0004-00004.png"
    Image.fromarray(np.full((5, 7), 30, np.uint8)).save(file)
    with pytest.raises(DataError) as caught:
        read_chaos_case(tmp_path)
    assert caught.value.file == file


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("reader", [read_chaos, read_chaos_case])
def test_what_is_no_path_is_told(reader):
    with pytest.raises(ArgumentTypeError, match="`folder` must be a path, got a int"):
        reader(5)


@pytest.mark.usefixtures("without_shape_checks")
def test_one_id_is_no_list(tmp_path):
    _mr(tmp_path / "MR" / "5")
    with pytest.raises(ArgumentTypeError, match=r"`case_ids` must be a list of names, got a str. Write"):
        read_chaos(tmp_path, case_ids="5")
