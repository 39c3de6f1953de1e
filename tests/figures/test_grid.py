"""save_prediction_grid: where anatomy, letters, contours and colours are in the picture, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.reference.geometry import Storage

from guided_attention._geometry import orientation_of
from guided_attention.case import Case
from guided_attention.data import make_phantom
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError, GuidedAttentionError
from guided_attention.figures import grid, save_prediction_grid
from guided_attention.figures._views import outline, sides_of, view_of
from guided_attention.labels import LabelSpec
from guided_attention.outputs import Prediction

pytest.importorskip("matplotlib")
ORGANS = LabelSpec({1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"})
ORDERS = ("LPS", "RAS", "LIA", "PSR", "LAS", "RPI", "SAL")
SIDES = {  # where each letter has to be
    "axial": {"left": "R", "right": "L", "top": "A", "bottom": "P"},
    "coronal": {"left": "R", "right": "L", "top": "S", "bottom": "I"},
    "sagittal": {"left": "A", "right": "P", "top": "S", "bottom": "I"},
}


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(0, size=32)


def prediction_of(case, labels=None):
    labels = case.labels if labels is None else labels
    return Prediction(case.case_id, labels, np.zeros(labels.shape, np.float32), case.affine)


def stored_as(case, prediction, order):
    """The same scan and prediction in another storage order."""
    turn = Storage(case.affine, order)
    affine = turn.affine(case.affine, case.image.shape[1:])
    labels = None if case.labels is None else turn.apply(case.labels)
    turned = Case(case.case_id, turn.apply(case.image), labels, affine, case.channel_names)
    return turned, prediction_of(turned, turn.apply(prediction.labels))


def hand_made(marked, spacing=(5.0, 1.3, 0.7)):
    """A black volume stored as RAS, 11 voxels left-right, 7 back-front, 5 feet-head, with one bright labelled voxel."""
    image = np.zeros((1, 5, 7, 11), np.float32)
    image[(0, *marked)] = 100
    labels = (image[0] > 0).astype(np.uint8)
    case = Case("7", image, labels, np.diag([*reversed(spacing), 1.0]))
    assert orientation_of(case.affine) == "RAS"
    return case


class Picture:
    """A drawn row: its panels, and the colour at a pixel of the scan."""

    def __init__(self, case, prediction=None, labels=ORGANS, slice_axis="axial"):
        self.view = view_of(case, prediction or prediction_of(case), labels, slice_axis)
        self.figure = grid._draw([self.view], labels, sides_of(slice_axis))
        self.figure.canvas.draw()
        self.pixels = np.asarray(self.figure.canvas.buffer_rgba())[..., :3].astype(int)
        self.panels = dict(zip(("image", "reference", "prediction"), self.figure.axes, strict=True))

    def place(self, panel, row, column):
        x, y = self.panels[panel].transData.transform((column, row))
        return len(self.pixels) - 1 - int(y), int(x)

    def colour(self, panel, row, column):
        return tuple(self.pixels[self.place(panel, row, column)].tolist())

    def colours_near(self, panel, row, column):
        """The colours of the 3 x 3 pixels around a place: an edge need not be in the middle of a pixel."""
        y, x = self.place(panel, row, column)
        return {tuple(colour) for colour in self.pixels[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).tolist()}

    def block(self, panel, first, last):
        """The pixels of a panel between two places of the scan."""
        (top, left), (bottom, right) = self.place(panel, *first), self.place(panel, *last)
        return self.pixels[top:bottom, left:right]


@pytest.mark.parametrize("slice_axis", [None, "axial", "coronal", "sagittal"])
def test_every_storage_order_gives_the_same_picture(phantom, tmp_path, slice_axis):
    predicted = prediction_of(phantom, np.roll(phantom.labels, (1, 2, 3), axis=(0, 1, 2)))
    pictures = []
    for order in ORDERS:
        case, prediction = stored_as(phantom, predicted, order)
        assert case.orientation == order
        path = tmp_path / f"{order}.png"
        save_prediction_grid(path, [case], [prediction], ORGANS, slice_axis=slice_axis)
        pictures.append(np.asarray(Image.open(path)))
    assert len(np.unique(pictures[0].reshape(-1, pictures[0].shape[-1]), axis=0)) > 100
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("slice_axis", ["axial", "coronal", "sagittal"])
def test_the_right_front_head_corner_is_at_the_top_left(slice_axis, order):
    case = hand_made((4, 6, 10))  # the last voxel of every axis that grows to the right, front and head
    picture = Picture(*stored_as(case, prediction_of(case), order), slice_axis=slice_axis)
    height, width = picture.view.image.shape
    corners = {(r, c): picture.colour("image", r, c) for r in (0, height - 1) for c in (0, width - 1)}
    white, black = (255, 255, 255), (0, 0, 0)
    assert corners == dict.fromkeys(corners, black) | {(0, 0): white}


@pytest.mark.parametrize(
    ("marked", "slice_axis", "row", "column"),
    [
        ((2, 5, 7), "axial", 1, 3),  # 1 row from the front, 3 columns from the patient's right
        ((2, 5, 7), "coronal", 2, 3),  # 2 rows from the head, 3 columns from the right
        ((2, 5, 7), "sagittal", 2, 1),  # 2 rows from the head, 1 column from the front
    ],
)
def test_a_voxel_is_where_a_radiologist_looks_for_it(marked, slice_axis, row, column):
    case = hand_made(marked)
    view = view_of(case, prediction_of(case), ORGANS, slice_axis)
    wanted = np.zeros(view.image.shape)
    wanted[row, column] = 100
    np.testing.assert_array_equal(view.image, wanted)
    np.testing.assert_array_equal(view.reference, wanted > 0)
    np.testing.assert_array_equal(view.prediction, wanted > 0)


@pytest.mark.parametrize("order", ORDERS)
def test_slices_are_counted_from_feet_front_and_right(order):
    case = hand_made((1, 5, 7))
    places = {"axial": "2 of 5", "coronal": "2 of 7", "sagittal": "4 of 11"}
    for axis, place in places.items():
        view = view_of(*stored_as(case, prediction_of(case), order), ORGANS, axis)
        assert view.place == f"{axis} slice {place}"


@pytest.mark.parametrize("slice_axis", ["axial", "coronal", "sagittal"])
def test_every_panel_has_its_sides_marked(phantom, slice_axis):
    picture = Picture(phantom, slice_axis=slice_axis)
    renderer = picture.figure.canvas.get_renderer()
    for panel in picture.panels.values():
        box, found = panel.bbox, {}
        for text in panel.texts:
            extent = text.get_window_extent(renderer)
            x = ((extent.x0 + extent.x1) / 2 - box.x0) / box.width
            y = ((extent.y0 + extent.y1) / 2 - box.y0) / box.height
            distance = {"left": x, "right": 1 - x, "top": 1 - y, "bottom": y}
            side = min(distance, key=distance.get)
            along = y if side in {"left", "right"} else x
            assert distance[side] < 0.1
            assert abs(along - 0.5) < 0.02
            assert box.x0 < extent.x0 < extent.x1 < box.x1
            assert box.y0 < extent.y0 < extent.y1 < box.y1
            found[side] = text.get_text()
        assert found == SIDES[slice_axis]


def test_the_slice_axis_is_that_of_the_largest_spacing(tmp_path, monkeypatch):
    seen = []
    drawn = grid._draw
    monkeypatch.setattr(
        grid, "_draw", lambda views, labels, sides: seen.append(views) or drawn(views, labels, sides)
    )
    thick_coronal, thick_axial = hand_made((2, 3, 4), (1.0, 6.0, 1.0)), hand_made((2, 3, 4), (4.0, 1.0, 1.0))
    equal = hand_made((2, 3, 4), (1.0, 1.0, 1.0))
    for cases in ([thick_coronal], [thick_axial], [equal], [thick_coronal, thick_axial, thick_coronal]):
        predictions = [prediction_of(case) for case in cases]
        save_prediction_grid(tmp_path / "g.png", cases, predictions, ORGANS)
    save_prediction_grid(tmp_path / "g.png", [equal], [prediction_of(equal)], ORGANS, slice_axis="sagittal")
    axes = [[view.place.split()[0] for view in views] for views in seen]
    assert axes == [["coronal"], ["axial"], ["axial"], ["coronal"] * 3, ["sagittal"]]


@pytest.mark.parametrize(
    ("slice_axis", "width_mm", "height_mm"),
    [("axial", 11 * 0.7, 7 * 1.3), ("coronal", 11 * 0.7, 5 * 5.0), ("sagittal", 7 * 1.3, 5 * 5.0)],
)
def test_pixels_are_as_wide_and_high_as_in_the_patient(slice_axis, width_mm, height_mm):
    for order in ORDERS:
        case = hand_made((2, 3, 4))
        picture = Picture(*stored_as(case, prediction_of(case), order), slice_axis=slice_axis)
        for panel in picture.panels.values():
            assert panel.bbox.width / panel.bbox.height == pytest.approx(width_mm / height_mm, rel=1e-6)


def block_case():
    """A noisy slice with two organs: values 3 and 9 at rows 2 to 5 and 8 to 10, columns 4 to 9."""
    image = np.random.default_rng(0).normal(size=(1, 1, 13, 17)).astype(np.float32)
    labels = np.zeros((1, 13, 17), np.uint8)
    labels[0, 2:6, 4:10], labels[0, 8:11, 4:10] = 3, 9
    return Case("7", image, labels, np.diag([-1.0, -1.0, 5.0, 1.0]))


def test_contours_leave_the_image_visible():
    case = block_case()
    spec = LabelSpec({3: "liver", 9: "spleen"})
    picture = Picture(case, labels=spec)
    inside = ((1.7, 3.7), (5.3, 9.3)), ((7.7, 3.7), (10.3, 9.3))
    outside = ((-0.3, -0.3), (1.3, 7.0)), ((3.0, 10.0), (5.0, 14.0))
    for panel in ("reference", "prediction"):
        for place in (*inside, *outside):
            block = picture.block("image", *place)
            assert block.std() > 10
            np.testing.assert_array_equal(picture.block(panel, *place), block)


def test_contours_have_the_colours_of_the_label_spec_at_the_edges_of_the_organs():
    case = block_case()
    spec = LabelSpec({3: "liver", 9: "spleen"}, {3: "#12c456", 9: "#fe0cba"})
    moved = prediction_of(case, np.roll(case.labels, 2, axis=2))
    picture = Picture(case, moved, labels=spec)
    liver, spleen = (0x12, 0xC4, 0x56), (0xFE, 0x0C, 0xBA)
    for panel, shift in (("reference", 0), ("prediction", 2)):
        for row, column in ((1.5, 6), (5.5, 6), (4, 3.5), (4, 9.5)):
            assert liver in picture.colours_near(panel, row, column + shift)
        for row, column in ((7.5, 6), (10.5, 6), (9, 3.5), (9, 9.5)):
            assert spleen in picture.colours_near(panel, row, column + shift)
    legend = picture.figure.legends[0]
    names = [text.get_text() for text in legend.get_texts()]
    colours = [line.get_color() for line in legend.get_lines()]
    assert (names, colours) == (["liver", "spleen"], ["#12c456", "#fe0cba"])


def test_a_prediction_without_organs_shows_no_colour(phantom):
    picture = Picture(phantom, prediction_of(phantom, np.zeros_like(phantom.labels)))
    coloured = {
        name: int(np.ptp(picture.block(name, (0, 0), (31, 31)), axis=2).max()) for name in picture.panels
    }
    assert coloured["image"] == coloured["prediction"] == 0
    assert coloured["reference"] > 100


def test_headings_stand_over_their_panels_and_the_caption_names_case_channel_and_slice(phantom):
    picture = Picture(Case("12", phantom.image, phantom.labels, phantom.affine, ("T1",)))
    texts = {text.get_text(): text for text in picture.figure.texts}
    for name, panel in picture.panels.items():
        box = texts.pop(name).get_window_extent(picture.figure.canvas.get_renderer())
        assert (box.x0 + box.x1) / 2 == pytest.approx((panel.bbox.x0 + panel.bbox.x1) / 2, abs=2)
        assert panel.bbox.y1 < box.y0 < box.y1 < picture.figure.bbox.y1
    assert list(texts) == [f"case 12 (T1)\n{picture.view.place}"]


def test_a_case_without_labels_shows_only_its_prediction(phantom):
    blind = replace(phantom, labels=None)
    picture = Picture(blind, prediction_of(phantom))
    assert [text.get_text() for text in picture.panels["reference"].texts] == ["no reference"]
    assert len(picture.panels["reference"].images) == 0
    # The slice of the prediction: the same as if the prediction were the reference.
    known = Picture(phantom)
    assert picture.view.place == known.view.place
    whole = ((-0.4, -0.4), (31.4, 31.4))
    np.testing.assert_array_equal(picture.block("prediction", *whole), known.block("prediction", *whole))


def test_intensities_run_from_the_1st_to_the_99th_percentile():
    image = np.arange(101, dtype=np.float32)
    view = replace(
        view_of(hand_made((0, 0, 0)), prediction_of(hand_made((0, 0, 0))), ORGANS, "axial"), image=image
    )
    assert view.grey_range == (1.0, 99.0)
    rare = np.zeros(1000, np.float32)
    rare[5] = 7  # percentiles are equal
    assert replace(view, image=rare).grey_range == (0.0, 7.0)


def test_the_slice_with_most_organs_is_shown():
    labels = np.zeros((4, 9, 9), np.uint8)
    labels[0, :8, :8] = 1  # the fullest
    labels[1, :2, :2], labels[1, 5:7, 5:7] = 1, 2
    labels[2, :3, :3], labels[2, 5:8, 5:8] = 1, 2  # as many organs as before, fuller
    labels[3] = 255  # ignored
    labels[3, :4, 0] = 1
    spec = LabelSpec({1: "liver", 2: "spleen"}, ignore_value=255)
    affine = np.diag([-1.0, -1.0, 5.0, 1.0])
    case = Case("7", np.zeros((1, 4, 9, 9)), labels, affine)
    nothing = prediction_of(case, np.zeros_like(labels))
    assert view_of(case, nothing, spec, "axial").place == "axial slice 3 of 4"
    assert (
        view_of(replace(case, labels=None), prediction_of(case), spec, "axial").place == "axial slice 3 of 4"
    )
    empty = replace(case, labels=nothing.labels)
    assert view_of(empty, prediction_of(case), spec, "axial").place == "axial slice 3 of 4"
    assert view_of(empty, nothing, spec, "axial").place == "axial slice 3 of 4"  # the middle
    assert len(Picture(case, labels=spec).figure.axes[1].collections) == 2  # none for ignored voxels


def test_outlines_equal_those_found_pixel_by_pixel():
    mask = np.random.default_rng(0).random((5, 7)) < 0.5
    wanted = set()
    for y, x in np.argwhere(mask):
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            row, column = y + dy, x + dx
            if not (0 <= row < 5 and 0 <= column < 7 and mask[row, column]):
                middle = (x + dx / 2, y + dy / 2)
                half = (0.0, 0.5) if dx else (0.5, 0.0)
                ends = [(middle[0] + sign * half[0], middle[1] + sign * half[1]) for sign in (-1, 1)]
                wanted.add(tuple(ends))
    lines = outline(mask)
    assert len(lines) == len(wanted)
    assert {tuple(map(tuple, line.tolist())) for line in lines} == wanted
    assert outline(np.zeros((5, 7), bool)).shape == (0, 2, 2)


def test_nothing_but_the_picture_is_left_in_the_folder(phantom, tmp_path):
    path = tmp_path / "new" / "grid.png"
    assert save_prediction_grid(path, [phantom], [prediction_of(phantom)], ORGANS) == path
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_names_are_shown_as_they_are_and_long_ones_are_cut(phantom, tmp_path):
    spec = LabelSpec({value: rf"_organ $\number {value}$" for value in range(1, 14)})
    case = replace(phantom, case_id=r"a$\bad$ " + "long" * 40)
    assert save_prediction_grid(tmp_path / "g.png", [case], [prediction_of(case)], spec).is_file()
    picture = Picture(case, labels=spec)
    names = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert names == list(spec.names.values())
    renderer = picture.figure.canvas.get_renderer()
    for part in (*picture.figure.texts, picture.figure.legends[0]):
        box = part.get_window_extent(renderer)
        assert 0 <= box.x0 < box.x1 <= picture.figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= picture.figure.bbox.height
    caption = next(text for text in picture.figure.texts if "slice" in text.get_text())
    assert caption.get_window_extent(renderer).x1 < picture.panels["image"].bbox.x0


def test_many_rows_of_many_heights_stay_apart(phantom):
    cases = [phantom, hand_made((2, 3, 4)), phantom]
    views = [view_of(case, prediction_of(case), ORGANS, "coronal") for case in cases]
    figure = grid._draw(views, ORGANS, sides_of("coronal"))
    figure.canvas.draw()
    boxes = [figure.axes[place].bbox for place in (0, 3, 6)]
    assert boxes[0].y0 > boxes[1].y1 > boxes[1].y0 > boxes[2].y1
    assert boxes[2].y0 > figure.legends[0].get_window_extent(figure.canvas.get_renderer()).y1


def refused(error, match, cases, predictions, labels=ORGANS, path="g.png", **options):
    with pytest.raises(error, match=match) as caught:
        save_prediction_grid(path, cases, predictions, labels, **options)
    assert isinstance(caught.value, GuidedAttentionError)


def test_predictions_of_other_cases_are_refused(phantom):
    good = prediction_of(phantom)
    wanted = r"`predictions` must be those of the cases \['1'\], got "
    refused(ArgumentError, wanted + r"\['99'\]", [phantom], [replace(good, case_id="99")])
    refused(ArgumentError, wanted + r"\['1', '1'\]", [phantom], [good, good])
    refused(ArgumentError, "`cases` must be at least one case and at most 80, got 0", [], [])
    refused(
        ArgumentError, "`cases` must be at least one case and at most 80, got 81", [phantom] * 81, [good] * 81
    )


def test_predictions_on_another_grid_are_refused(phantom):
    good = prediction_of(phantom)
    short = prediction_of(phantom, good.labels[1:])
    wanted = r"`labels of prediction '1'` must be of the case's size \(42, 32, 32\), got \(41, 32, 32\)"
    refused(DataError, wanted, [phantom], [short])
    affine = phantom.affine.copy()
    affine[0, 3] += 3.0
    wanted = r"`affine of prediction '1'` must be within .* mm of the case's at every corner, got 3 mm apart"
    refused(DataError, wanted, [phantom], [replace(good, affine=affine)])
    turned = stored_as(phantom, good, "RAS")[1]  # the same size, 180 degrees turned
    assert turned.labels.shape == good.labels.shape
    refused(DataError, "`affine of prediction '1'`", [phantom], [turned])
    refused(
        DataError, "`affine of prediction '1'`", [phantom], [replace(good, affine=phantom.affine * np.nan)]
    )


def test_an_affine_rounded_to_single_precision_is_the_same_grid(phantom, tmp_path):
    rounded = replace(prediction_of(phantom), affine=phantom.affine.astype(np.float32).astype(np.float64))
    assert save_prediction_grid(tmp_path / "g.png", [phantom], [rounded], ORGANS).is_file()


def test_values_without_a_name_are_refused(phantom):
    two = LabelSpec({1: "liver", 2: "right kidney"})
    refused(
        DataError,
        r"`labels of case '1'` must be made of 0 .*, got also 3, 4",
        [phantom],
        [prediction_of(phantom, np.zeros_like(phantom.labels))],
        two,
    )
    refused(
        DataError,
        r"`labels of prediction '1'` must be made of 0",
        [replace(phantom, labels=None)],
        [prediction_of(phantom)],
        two,
    )


@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_types_are_refused(phantom, tmp_path):
    good = prediction_of(phantom)
    pair = [phantom], [good]
    refused(
        ArgumentTypeError, r"`labels` must be a LabelSpec, got a dict. Write LabelSpec", *pair, {1: "liver"}
    )
    refused(ArgumentTypeError, "`cases` must be a list of Case records, got a Case", phantom, [good])
    refused(ArgumentTypeError, "`cases` must be a list of Case records, got a str", ["1"], [good])
    refused(ArgumentTypeError, "`predictions` must be a list of Prediction", [phantom], iter([good]))
    refused(ArgumentTypeError, "`predictions` must be a list of Prediction", [phantom], [phantom])
    tensor = replace(good, labels=torch.from_numpy(phantom.labels))
    refused(
        ArgumentTypeError,
        "`labels of prediction '1'` must be a NumPy array, got a Tensor",
        [phantom],
        [tensor],
    )
    floats = replace(good, labels=phantom.labels.astype(np.float32))
    refused(DataError, "`labels of prediction '1'` must be a volume of integers", [phantom], [floats])
    refused(DataError, "`affine of prediction '1'`", [phantom], [replace(good, affine=np.eye(3))])
    refused(
        ArgumentError,
        "`slice_axis` must be one of 'axial', 'coronal', 'sagittal', got 'z'",
        *pair,
        slice_axis="z",
    )
    refused(ArgumentError, "`slice_axis` must be one of", *pair, slice_axis=0)
    refused(
        ArgumentError,
        "`path` must be a file name that ends with .png, got .*grid.pdf",
        *pair,
        path="grid.pdf",
    )
    (tmp_path / "folder.png").mkdir()
    refused(ArgumentError, "`path` must be a file name", *pair, path=tmp_path / "folder.png")
    refused(ArgumentTypeError, "`path` must be a path, got a int", *pair, path=3)
