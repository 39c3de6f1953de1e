"""SliceDataset against a slow reference: every item, whole, for chosen slices, classes, channels and crops."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from guided_attention.case import Case, affine_of
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import CenterCrop, Preparation, Window
from guided_attention.sampling import Augmentation, Chain, FlipRotate, Mirror, SliceDataset

LABELS = LabelSpec({1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"}, pairs=((2, 3),))
ODD = LabelSpec({7: "liver", 3: "spleen"}, ignore_value=200)
SPACING = (7.0, 1.25, 1.5)
CANONICAL = affine_of(SPACING) * [[-1], [-1], [1], [1]]  # LPS: how the library stores axial slices
PLAIN = Preparation(slice_axis="axial", intensity=None)


def _case(name="7", shape=(1, 3, 11, 7), *, values=(0, 1, 2, 3, 4), seed=0, affine=CANONICAL):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, shape).astype(np.float32)
    return Case(name, image, rng.choice(np.array(values, np.uint8), shape[1:]), affine)


def _clamped(z, depth):
    return min(max(z, 0), depth - 1)


def slow_items(cases, preparation, labels, *, size=None, foreground_only=False, slice_step=1):
    """Write every item out, voxel by voxel."""
    classes_of = {0: 0, labels.ignore_value: labels.ignore_index}
    classes_of |= {value: number for number, value in enumerate(sorted(labels.names), start=1)}
    items = []
    for case in cases:
        prepared = preparation.apply(case)
        channels, depth, height, width = prepared.image.shape
        rows, columns = (height, width) if size is None else size
        top, left = (height - rows) // 2, (width - columns) // 2
        n = preparation.neighbours
        for z in range(0, depth, slice_step):
            values = prepared.labels[z].tolist()
            if foreground_only and not any(value in labels.names for row in values for value in row):
                continue
            image = torch.empty(channels * (2 * n + 1), rows, columns)
            target = torch.empty(rows, columns, dtype=torch.int64)
            for y in range(rows):
                for x in range(columns):
                    target[y, x] = classes_of[values[top + y][left + x]]
                    for step, offset in enumerate(range(-n, n + 1)):
                        for channel in range(channels):
                            seen = prepared.image[channel, _clamped(z + offset, depth), top + y, left + x]
                            image[step * channels + channel, y, x] = float(seen)
            items.append((image, target))
    return items


def assert_items_equal(got, wanted):
    assert len(got) == len(wanted)
    for (image, labels), (slow_image, slow_labels) in zip(
        [got[i] for i in range(len(got))], wanted, strict=True
    ):
        torch.testing.assert_close(image, slow_image, rtol=0, atol=0)
        torch.testing.assert_close(labels, slow_labels, rtol=0, atol=0)


TWO = [_case("1", (2, 3, 11, 7)), _case("2", (2, 5, 13, 17), seed=1)]


@pytest.mark.parametrize(
    ("preparation", "options"),
    [
        (PLAIN, {"size": (5, 7)}),
        (Preparation(slice_axis="axial", neighbours=1), {"size": (7, 3)}),
        (Preparation(slice_axis="axial", intensity=Window(0, 255), min_size=(19, 23)), {"size": (17, 19)}),
        (Preparation(slice_axis="axial", min_size=(19, 23), neighbours=2), {"slice_step": 2}),
        (Preparation(slice_axis="coronal", multiple=(19, 37)), {"slice_step": 3, "size": (3, 5)}),
        (Preparation(slice_axis="sagittal", crop=CenterCrop((3, 2, 5))), {}),
        (Preparation(spacing_mm=(None, 2.0, 3.0)), {"size": (3, 2)}),
    ],
)
def test_items_equal_those_written_out(preparation, options):
    fitted = preparation.fit(TWO)
    assert_items_equal(
        SliceDataset(TWO, fitted, LABELS, **options), slow_items(TWO, fitted, LABELS, **options)
    )


def test_values_become_classes_and_ignored_voxels_the_ignore_index():
    cases = [_case("1", values=(0, 3, 7, 200)), _case("2", values=(0, 200), seed=1)]
    slices = SliceDataset(cases, PLAIN, ODD)
    assert_items_equal(slices, slow_items(cases, PLAIN, ODD))
    assert slices[0][1].unique().tolist() == [0, 1, 2, 200]
    only = SliceDataset(cases, PLAIN, ODD, foreground_only=True)
    assert_items_equal(only, slow_items(cases, PLAIN, ODD, foreground_only=True))
    assert len(only) == 3, "ignored voxels are no organ"


def test_items_are_the_slices_of_canonical_scans_in_order():
    """Worked by hand, without `Preparation.apply`: nothing is done to these scans."""
    cases = [_case("1"), _case("2", (1, 2, 11, 7), seed=1)]
    slices = SliceDataset(cases, PLAIN, LABELS)
    assert len(slices) == 5
    for index, (case, z) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        image, labels = slices[index]
        torch.testing.assert_close(image, torch.from_numpy(cases[case].image[:, z]), rtol=0, atol=0)
        torch.testing.assert_close(labels, torch.from_numpy(cases[case].labels[z].astype(np.int64)))


def test_the_storage_order_of_a_scan_changes_nothing():
    case = _case(shape=(2, 5, 11, 7))
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[0, 3], flip[1, 3] = 6, 10
    turned = Case("7", case.image[:, :, ::-1, ::-1], case.labels[:, ::-1, ::-1], CANONICAL @ flip)
    preparation = Preparation(neighbours=1).fit([case])
    assert_items_equal(SliceDataset([turned], preparation, LABELS), slow_items([case], preparation, LABELS))


def test_changing_an_item_changes_neither_the_case_nor_later_items():
    case = _case()
    before, labels = case.image.copy(), case.labels.copy()
    slices = SliceDataset([case], PLAIN, LABELS)
    for size in (None, (5, 3)):
        slices.size = size
        image, target = slices[0]
        kept = image.clone(), target.clone()
        image.zero_()
        target.zero_()
        assert torch.equal(slices[0][0], kept[0])
        assert torch.equal(slices[0][1], kept[1])
    np.testing.assert_array_equal(case.image, before)
    np.testing.assert_array_equal(case.labels, labels)


def test_read_only_and_reversed_arrays_are_taken():
    case = _case()
    case.image.setflags(write=False)
    case.labels.setflags(write=False)
    other = Case("8", case.image[:, ::-1], case.labels[::-1].astype(np.uint16), CANONICAL)
    image, labels = SliceDataset([case, other], PLAIN, LABELS)[3]
    torch.testing.assert_close(image, torch.from_numpy(case.image[:, 2].copy()))
    torch.testing.assert_close(labels, torch.from_numpy(case.labels[2].astype(np.int64)))


def test_classes_above_255_and_a_value_to_ignore_above_them():
    values = np.random.default_rng(0).integers(0, 301, (3, 11, 7)).astype(np.uint16)
    values[values == 300] = 999
    labels = LabelSpec({value: str(value) for value in range(1, 300)}, ignore_value=999)
    case = Case("7", np.zeros((1, 3, 11, 7)), values, CANONICAL)
    assert torch.equal(
        SliceDataset([case], PLAIN, labels)[1][1], torch.from_numpy(values[1].astype(np.int64))
    )


@pytest.mark.parametrize("augment", [None, FlipRotate()])
def test_cases_of_different_sizes_batch_together_by_size(augment):
    cases = [_case("1"), _case("2", (1, 3, 5, 13), seed=1)]
    slices = SliceDataset(
        cases, Preparation(slice_axis="axial", min_size=(8, 9)), LABELS, size=(8, 9), augment=augment
    )
    images, labels = next(iter(DataLoader(slices, batch_size=6)))
    assert images.shape == (6, 1, 8, 9)
    assert labels.shape == (6, 8, 9)


def test_the_centre_is_kept_and_the_rest_padded_with_the_volume_s_lowest_value():
    case = Case("1", np.full((1, 1, 5, 7), 4, np.float32), np.ones((1, 5, 7), np.uint8), CANONICAL)
    case.image[0, 0, 2, 3] = -2.0
    preparation = Preparation(slice_axis="axial", intensity=None, min_size=(7, 3))
    image, labels = SliceDataset([case], preparation, LABELS, size=(7, 3))[0]
    want = torch.full((1, 7, 3), -2.0)
    want[0, 1:6] = 4
    want[0, 3, 1] = -2
    torch.testing.assert_close(image, want)
    torch.testing.assert_close(labels, torch.tensor([[0], [1], [1], [1], [1], [1], [0]]).expand(7, 3))


def test_augmented_crops_come_from_everywhere_with_labels_in_step():
    ramp = np.arange(11 * 13, dtype=np.uint8).reshape(1, 11, 13)
    case = Case("1", ramp[None].astype(np.float32), ramp, CANONICAL)
    labels = LabelSpec({value: str(value) for value in range(1, 143)})
    slices = SliceDataset([case], PLAIN, labels, size=(7, 7), augment=lambda image, labels: (image, labels))
    torch.manual_seed(0)
    corners = set()
    for _ in range(300):
        image, classes = slices[0]
        torch.testing.assert_close(image[0], classes.float())
        corners.add(int(classes[0, 0]))
    assert corners == {13 * row + column for row in range(5) for column in range(7)}


def test_augmentation_comes_last_and_repeats_with_the_seed():
    def seen(image, labels):
        return image + torch.rand(()), labels + image.shape[1]

    slices = SliceDataset([_case()], PLAIN, LABELS, size=(5, 3), augment=seen)
    torch.manual_seed(3)
    image, labels = slices[2]
    torch.manual_seed(3)
    row, column = (int(torch.randint(old - new + 1, ())) for old, new in ((11, 5), (7, 3)))
    plain, classes = SliceDataset([_case()], PLAIN, LABELS)[2]
    window = (slice(row, row + 5), slice(column, column + 3))
    torch.testing.assert_close(image, plain[:, *window] + torch.rand(()), rtol=0, atol=0)
    torch.testing.assert_close(labels, classes[window] + 5)


def test_every_nth_slice_and_only_those_with_organs():
    case = _case(shape=(1, 7, 5, 3))
    case.labels[[0, 4]] = 0
    assert len(SliceDataset([case], PLAIN, LABELS, slice_step=2)) == 4
    options = {"slice_step": 2, "foreground_only": True}
    only = SliceDataset([case], PLAIN, LABELS, **options)
    assert len(only) == 2
    assert_items_equal(only, slow_items([case], PLAIN, LABELS, **options))
    torch.testing.assert_close(only[1][0], torch.from_numpy(case.image[:, 6]))


def test_cases_are_read_once_and_may_come_from_a_generator():
    cases = [_case("1"), _case("2", seed=1)]
    got = SliceDataset((case for case in cases), PLAIN, LABELS)
    assert_items_equal(got, slow_items(cases, PLAIN, LABELS))


# --- what is refused --------------------------------------------------------------------------------------


def test_no_cases_are_told():
    with pytest.raises(DataError, match="`cases` must be at least one case, got none"):
        SliceDataset([], PLAIN, LABELS)


def test_unknown_labels_are_named():
    wanted = r"`labels of case '7'` must be made of 0 and the values of .* got also 3, 4\. Name these values"
    with pytest.raises(DataError, match=wanted):
        SliceDataset([_case()], PLAIN, LABELS.subset(["liver", "right kidney"]))


def test_sizes_that_differ_are_named_with_the_cure():
    cases = [_case("1"), _case("2", (1, 3, 5, 13))]
    wanted = (
        r"`size of the prepared slices of case '2'` must be that of case '1', \(11, 7\), got \(5, 13\)\. "
        r"Pass `size=\(height, width\)`"
    )
    with pytest.raises(DataError, match=wanted):
        SliceDataset(cases, PLAIN, LABELS)


def test_slices_below_the_size_are_named_with_the_cure():
    wanted = (
        r"`size of the prepared slices of case '7'` must be at least \(11, 8\), got \(11, 7\)\. "
        r"Pad in the preparation, .* Preparation\(min_size=\(11, 8\)\)"
    )
    with pytest.raises(DataError, match=wanted):
        SliceDataset([_case()], PLAIN, LABELS, size=(11, 8))


@pytest.mark.parametrize("fitted", [False, True])
def test_channels_that_differ_are_named(fitted):
    preparation = PLAIN.fit([_case("1")]) if fitted else PLAIN
    with pytest.raises(DataError, match=r"`channels of case '2'` must be .*1.*, got 2"):
        SliceDataset([_case("1"), _case("2", (2, 3, 11, 7))], preparation, LABELS)


def test_a_case_without_labels_is_named():
    case = Case("9", np.zeros((1, 3, 5, 7), np.float32), None, CANONICAL)
    with pytest.raises(DataError, match="`labels of case '9'` must be given, got None"):
        SliceDataset([case], PLAIN, LABELS)


def test_nothing_left_is_told():
    case = Case("9", np.zeros((1, 3, 5, 7), np.float32), np.zeros((3, 5, 7), np.uint8), CANONICAL)
    with pytest.raises(
        DataError, match=r"with at least one labelled slice, got none. Set foreground_only=False"
    ):
        SliceDataset([case], PLAIN, LABELS, foreground_only=True)


def test_a_preparation_that_is_not_fitted_is_refused():
    with pytest.raises(ArgumentError, match="Call `Preparation.fit` first"):
        SliceDataset([_case()], Preparation(), LABELS)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((3, PLAIN, LABELS), "cases"),
        (([np.zeros((1, 3, 5, 7))], PLAIN, LABELS), "case"),
        (([_case()], None, LABELS), "preparation"),
        (([_case()], PLAIN, {1: "liver"}), "labels"),
    ],
)
def test_arguments_of_the_wrong_type_are_named(arguments, named):
    with pytest.raises(ArgumentTypeError, match=f"`{named}` must be"):
        SliceDataset(*arguments)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": 5}, ArgumentTypeError),
        ({"size": (5.0, 3)}, ArgumentTypeError),
        ({"size": (5,)}, ArgumentError),
        ({"size": (0, 3)}, ArgumentError),
        ({"slice_step": 0}, ArgumentError),
        ({"slice_step": 1.0}, ArgumentTypeError),
        ({"slice_step": True}, ArgumentTypeError),
        ({"augment": "flip"}, ArgumentTypeError),
        ({"foreground_only": 1}, ArgumentTypeError),
    ],
)
def test_options_that_cannot_be_are_named(options, error):
    (name,) = options
    with pytest.raises(error, match=f"`{name}` must be"):
        SliceDataset([_case()], PLAIN, LABELS, **options)


def test_an_augmentation_of_batches_is_told_where_it_goes():
    augment = Augmentation((Mirror(),))
    message = (
        r"must be a function of an image and its labels, got a Augmentation that cannot be called with 2 arguments "
        r"\(missing a required argument: 'seeds'\)\. One of batches and seeds, such as an Augmentation, goes to "
        r"TrainerConfig\(augment=…\)\."
    )
    with pytest.raises(ArgumentTypeError, match=f"`augment` {message}"):
        SliceDataset([_case()], PLAIN, LABELS, augment=augment)
    with pytest.raises(ArgumentTypeError, match=rf"`steps\[1\]` {message}"):
        Chain((FlipRotate(), augment))
