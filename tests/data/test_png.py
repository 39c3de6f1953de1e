"""PNG slices in the layout of the paper's code: read, written, damaged."""

import numpy as np
import pytest
from PIL import Image
from tests.real_data import real_data

from guided_attention._geometry import reorientation
from guided_attention.case import Case
from guided_attention.data import read_png_slices, write_png_slices
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError, GuidedAttentionError

SPACING = (7.0, 1.25, 1.5)
LPS = np.diag([-1.5, -1.25, 7.0, 1.0])


def _case(name="7", shape=(1, 3, 11, 7), *, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, shape).astype(np.float32)
    labels = rng.integers(0, classes, shape[1:]).astype(np.uint8)
    return Case(name, image, labels, LPS)


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
    np.testing.assert_array_equal(cases[0].affine, np.diag([-1.5, -1.25, 7.0, 1.0]))
    assert (cases[0].orientation, cases[0].spacing_mm) == ("LPS", SPACING)


def test_what_is_written_is_read_back(tmp_path):
    cases = [_case("2"), _case("10", (1, 5, 11, 7), seed=1)]
    back = read_png_slices(write_png_slices(cases, tmp_path / "train"), spacing_mm=SPACING)
    for old, new in zip(cases, back, strict=True):
        assert old.case_id == new.case_id
        np.testing.assert_array_equal(new.image, old.image)
        np.testing.assert_array_equal(new.labels, old.labels)


def test_other_grey_values_are_stretched_over_the_whole_volume(tmp_path):
    image = np.linspace(-1, 3, 105, dtype=np.float32).reshape(1, 3, 5, 7)
    case = Case("7", image, None, LPS)
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


@pytest.mark.parametrize("stored", ["RAS", "LPI", "LIA", "PSR"])
def test_cases_of_any_orientation_are_written_as_a_radiologist_looks_at_them(tmp_path, stored):
    case = _case()
    turn = reorientation(case.affine, stored)
    place = turn.affine(case.affine, case.labels.shape)
    turned = Case("7", turn.apply(case.image), turn.apply(case.labels), place)
    (back,) = read_png_slices(write_png_slices([turned], tmp_path / "a"), spacing_mm=SPACING)
    np.testing.assert_array_equal(back.image, case.image)
    np.testing.assert_array_equal(back.labels, case.labels)
    np.testing.assert_array_equal(back.affine, case.affine)


def test_the_first_row_is_the_front_and_the_first_column_the_patients_right(tmp_path):
    labels = np.zeros((3, 5, 7), np.uint8)
    labels[2, 4, 6] = 1  # stored as RAS: farthest to the right, front and head
    case = Case("7", labels[None], labels, np.diag([1.5, 1.25, 7.0, 1.0]))
    folder = write_png_slices([case], tmp_path / "a")
    assert np.argwhere(np.array(Image.open(folder / "GT" / "Subj_7slice_3.png"))).tolist() == [[0, 0]]


def test_an_ending_in_capitals_is_read(tmp_path):
    file = _layout(tmp_path, (1, 2), subjects=["9"]) / "Img" / "Subj_9slice_2.png"
    file.rename(file.with_suffix(".PNG"))
    (tmp_path / "GT" / "Subj_9slice_2.png").rename(tmp_path / "GT" / "Subj_9slice_2.PNG")
    (case,) = read_png_slices(tmp_path, spacing_mm=SPACING)
    assert case.image.shape == (1, 2, 5, 7)


def test_another_format_under_the_name_of_png_is_told(tmp_path):
    file = _layout(tmp_path, (1, 2)) / "Img" / "Subj_9slice_2.png"
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(file, format="JPEG")
    with pytest.raises(DataError, match="must be a PNG file, got another format") as caught:
        read_png_slices(tmp_path, spacing_mm=SPACING)
    assert caught.value.file == file


@pytest.mark.parametrize("mode", ["L", "1", "I;16"])
def test_every_flipped_bit_is_refused_or_changes_nothing(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 2, (5, 7)).astype(np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(pixels * 255 if mode == "1" else pixels)
    file = _layout(tmp_path, (1, 2)) / "Img" / "Subj_9slice_2.png"
    for path in (file, file.with_name("Subj_9slice_1.png")):
        image.convert("1").save(path) if mode == "1" else image.save(path)
    whole = file.read_bytes()
    wanted = {case.case_id: case.image for case in read_png_slices(tmp_path, spacing_mm=SPACING)}
    np.testing.assert_array_equal(wanted["9"][0, 1], pixels * 255 if mode == "1" else pixels)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        with pytest.raises(GuidedAttentionError) as caught:
            read_png_slices(tmp_path, spacing_mm=SPACING)
        assert caught.value.file == file
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(GuidedAttentionError, match="must be a (whole )?PNG file"):
            read_png_slices(tmp_path, spacing_mm=SPACING)


def test_a_file_without_permission_is_not_called_damaged(tmp_path, monkeypatch):
    _layout(tmp_path, (1, 2))

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(DataError, match="must be a PNG that you may read, got: permission denied"):
        read_png_slices(tmp_path, spacing_mm=SPACING)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("changes", "error", "wanted"),
    [
        ({"folder": 5}, ArgumentTypeError, "`folder` must be a path, got a int"),
        ({"spacing_mm": 5}, ArgumentError, "`spacing_mm` must be three numbers above 0"),
        ({"spacing_mm": (7.0, 0.0, 1.5)}, ArgumentError, "`spacing_mm` must be three numbers above 0"),
        ({"spacing_mm": None}, ArgumentTypeError, "`spacing_mm` must be three numbers above 0"),
        (
            {"grey_levels": [0, 63]},
            ArgumentTypeError,
            "`grey_levels` must be a mapping from grey level to class",
        ),
        ({"grey_levels": {}}, ArgumentError, "`grey_levels` must be a mapping from grey level to class"),
        ({"grey_levels": {0: 0, 300: 1}}, ArgumentError, "each a whole number from 0 to 255"),
        ({"grey_levels": {0: "liver"}}, ArgumentError, "each a whole number from 0 to 255"),
    ],
)
def test_wrong_arguments_of_the_reader_are_told(tmp_path, changes, error, wanted):
    arguments = {"folder": _layout(tmp_path), "spacing_mm": SPACING} | changes
    with pytest.raises(error, match=wanted):
        read_png_slices(arguments.pop("folder"), **arguments)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("cases", "error", "wanted"),
    [
        ([], DataError, "`cases` must be at least one case, got none"),
        (_case(), ArgumentTypeError, "`cases` must be a list of cases, got a Case"),
        ([None], ArgumentTypeError, "`cases` must be a list of cases, got a NoneType"),
        ([_case("a/b")], DataError, "`cases` must be of ids that can be part of a file name, got a/b"),
        (
            [_case("1"), Case("2", np.zeros((1, 3, 5, 7)), None, LPS)],
            DataError,
            "all with labels or all without",
        ),
    ],
)
def test_wrong_cases_are_told(tmp_path, cases, error, wanted):
    with pytest.raises(error, match=wanted):
        write_png_slices(cases, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
