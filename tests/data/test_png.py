"""PNG slices in the layout of the original code: read, written and read back, and what is refused."""

import numpy as np
import pytest
from PIL import Image
from tests.real_data import real_data

from guided_attention.case import Case, affine_of
from guided_attention.data import read_png_slices, write_png_slices

SPACING = (7.0, 1.25, 1.5)
MAP = {0: 0, 63: 1, 126: 2, 189: 3, 252: 4}


def _case(name="7", shape=(1, 3, 11, 7), *, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, shape).astype(np.float32)
    labels = rng.integers(0, classes, shape[1:]).astype(np.uint8)
    return Case(name, image, labels, np.diag([1.5, 1.25, 7.0, 1.0]))


def _png(folder, part, name, pixels):
    (folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / part / name)


def _layout(folder, numbers=(1, 2, 10), subjects=("10", "9")):
    for subject in subjects:
        for number in numbers:
            name = f"Subj_{subject}slice_{number}.png"
            _png(folder, "Img", name, np.full((5, 7), 10 * int(subject) + number, np.uint8))
            _png(folder, "GT", name, np.full((5, 7), 63 * (number % 5), np.uint8))
    return folder


def test_subjects_and_slices_are_ordered_as_numbers(tmp_path):
    cases = read_png_slices(_layout(tmp_path, range(9, 12)), spacing_mm=SPACING)
    assert [case.case_id for case in cases] == ["9", "10"]
    np.testing.assert_array_equal(cases[0].image[0, :, 0, 0], [99, 100, 101])
    np.testing.assert_array_equal(cases[0].labels[:, 4, 6], [4, 0, 1])
    assert cases[0].image.shape == (1, 3, 5, 7)
    np.testing.assert_array_equal(cases[0].affine, np.diag([1.5, 1.25, 7.0, 1.0]))


def test_what_is_written_is_read_back(tmp_path):
    cases = [_case("2"), _case("10", (1, 5, 11, 7), seed=1)]
    back = read_png_slices(write_png_slices(cases, tmp_path / "train"), spacing_mm=SPACING)
    for old, new in zip(cases, back, strict=True):
        assert old.case_id == new.case_id
        np.testing.assert_array_equal(new.image, old.image)
        np.testing.assert_array_equal(new.labels, old.labels)


def test_other_grey_values_are_stretched_over_the_whole_volume(tmp_path):
    image = np.linspace(-1, 3, 105, dtype=np.float32).reshape(1, 3, 5, 7)
    case = Case("7", image, None, affine_of(SPACING))
    (back,) = read_png_slices(write_png_slices([case], tmp_path / "a"), spacing_mm=SPACING)
    np.testing.assert_array_equal(back.image, ((image + 1) * 255 / 4).round())
    assert back.labels is None


@pytest.mark.parametrize("lost", ["Img", "GT"])
def test_pairs_that_are_none_are_named(tmp_path, lost):
    (_layout(tmp_path) / lost / "Subj_9slice_2.png").unlink()
    kind = "image" if lost == "Img" else "mask"
    with pytest.raises(
        ValueError, match=rf"must be pairs, got no {kind} for Subj_9slice_2.png. Add the missing"
    ):
        read_png_slices(tmp_path, spacing_mm=SPACING)


def test_slices_missing_in_the_middle_are_named(tmp_path):
    wanted = (
        r"`slices of subject '9'` must be numbered without gaps, got no slice 3, 4, 5, 6, 7, 8 and 1 more"
    )
    with pytest.raises(ValueError, match=wanted):
        read_png_slices(_layout(tmp_path, subjects=["9"]), spacing_mm=SPACING)


def test_grey_levels_outside_the_map_are_printed_with_it(tmp_path):
    _layout(tmp_path, (1, 2))
    _png(tmp_path, "GT", "Subj_9slice_2.png", np.full((5, 7), 64, np.uint8))
    wanted = (
        r"`grey values of .*Subj_9slice_2.png` must be in the map, got 64. The map is \{0: 0, 63: 1, 126: 2"
    )
    with pytest.raises(ValueError, match=wanted):
        read_png_slices(tmp_path, spacing_mm=SPACING)


def test_slices_of_different_sizes_are_named(tmp_path):
    _layout(tmp_path, (1, 2))
    _png(tmp_path, "Img", "Subj_9slice_2.png", np.zeros((5, 8), np.uint8))
    with pytest.raises(
        ValueError, match=r"`size of .*9slice_2.png` must be that of Subj_9slice_1.png, \(5, 7\)"
    ):
        read_png_slices(tmp_path, spacing_mm=SPACING)


def test_a_mask_of_another_size_is_named(tmp_path):
    _layout(tmp_path, (1, 2))
    _png(tmp_path, "GT", "Subj_9slice_2.png", np.zeros((5, 8), np.uint8))
    with pytest.raises(ValueError, match=r"`size of .*9slice_2.png` must be that of its image, \(5, 7\)"):
        read_png_slices(tmp_path, spacing_mm=SPACING)


def test_a_truncated_png_is_named(tmp_path):
    file = _layout(tmp_path, (1, 2)) / "Img" / "Subj_9slice_2.png"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"`.*Img/Subj_9slice_2.png` must be a whole PNG file"):
        read_png_slices(tmp_path, spacing_mm=SPACING)


def test_a_file_called_otherwise_is_named(tmp_path):
    _png(_layout(tmp_path), "Img", "slice7.png", np.zeros((5, 7), np.uint8))
    with pytest.raises(ValueError, match=r"must be called Subj_<id>slice_<number>.png, got slice7.png"):
        read_png_slices(tmp_path, spacing_mm=SPACING)


def test_an_empty_split_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`folder` must be an existing folder, got .*Img"):
        read_png_slices(tmp_path, spacing_mm=SPACING)


def test_a_filled_folder_is_not_written_into(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"`folder` must be new or empty, got .*Choose another name"):
        write_png_slices([_case()], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_what_the_layout_cannot_hold_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"`image of case '7'` must be of one channel, got 2"):
        write_png_slices([_case(shape=(2, 3, 5, 7))], tmp_path / "a")
    with pytest.raises(ValueError, match=r"`labels of case '7'` must be classes of the map .*, got 5"):
        write_png_slices([_case(classes=6)], tmp_path / "a")
    with pytest.raises(ValueError, match="`cases` must be of different ids"):
        write_png_slices([_case(), _case()], tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_the_real_slice_reads_with_its_three_organs():
    (case,) = read_png_slices(real_data("chaos-mr-slice") / "train", spacing_mm=SPACING)
    assert (case.case_id, case.image.shape) == ("21", (1, 1, 256, 256))
    assert set(np.unique(case.labels)) == {0, 1, 2, 3}
