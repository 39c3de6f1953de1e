"""Case and Volume: what is converted, what is refused, and masks brought to the grid of their image."""

import pickle
import tracemalloc
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from guided_attention._geometry import reorientation
from guided_attention.case import Case, Volume
from guided_attention.errors import ArgumentTypeError, DataError
from tests.reference.geometry import random_affine


def _case(**changes):
    given = {
        "case_id": "7",
        "image": np.zeros((1, 3, 5, 7), np.float32),
        "labels": np.zeros((3, 5, 7), np.uint8),
        "affine": np.eye(4),
    }
    return Case(**(given | changes))


def test_a_case_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        _case().case_id = "8"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_name_the_case(bad):
    image = np.zeros((1, 3, 5, 7), np.float32)
    image[0, 2, 4, 6] = bad
    wanted = r"`image of case '7'` must be finite everywhere, got NaN or infinite values. Replace them"
    with pytest.raises(ValueError, match=wanted):
        _case(image=image)


def test_labels_below_zero_name_the_case():
    with pytest.raises(ValueError, match="`labels of case '7'` must be 0 or above, got -1"):
        _case(labels=np.full((3, 5, 7), -1, np.int16))


def test_a_spacing_of_zero_names_the_case():
    with pytest.raises(ValueError, match="`affine of case '7'` must be of three independent axes"):
        _case(affine=np.diag([1.5, 0.0, 5.0, 1.0]))


@pytest.mark.usefixtures("without_shape_checks")
def test_labels_of_another_size_are_refused():
    wanted = r"`labels of case '7'` must be of the image's size \(3, 5, 7\), got \(3, 7, 5\)"
    with pytest.raises(ValueError, match=wanted):
        _case(labels=np.zeros((3, 7, 5), np.uint8))


def test_an_empty_image_is_refused():
    with pytest.raises(ValueError, match="`image of case '7'` must be of at least one voxel"):
        _case(image=np.zeros((1, 0, 5, 7), np.float32), labels=None)


WHOLE = np.arange(105).reshape(3, 5, 7) % 5


def _meta_tensor(values):
    return pytest.importorskip("monai.data").MetaTensor(torch.from_numpy(values.copy()))


def _read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


FORMS = {
    "big-endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "read-only": _read_only,
    "Fortran order": np.asfortranarray,
    "backwards": lambda values: values[..., ::-1].copy()[..., ::-1],
    "every second": lambda values: np.repeat(values, 2, axis=-1)[..., ::2],
    "tensor": lambda values: torch.from_numpy(values.copy()),
    "MetaTensor": _meta_tensor,
    "tensor with gradient": lambda values: torch.from_numpy(values.astype(np.float32)).requires_grad_(),
    "sparse tensor": lambda values: torch.from_numpy(values.copy()).to_sparse(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int16", "uint8", "int64", "bool"])
def test_images_of_every_type_and_form_become_float32(dtype, form):
    values = (
        (np.arange(210) % 97 - (0 if dtype in {"uint8", "bool"} else 40)).reshape(2, 3, 5, 7).astype(dtype)
    )
    image = _case(image=FORMS[form](values)).image
    assert (type(image), image.dtype) == (np.ndarray, np.float32)
    assert image.flags.c_contiguous
    assert image.flags.writeable
    np.testing.assert_array_equal(image, values.astype(np.float64))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int16", "uint8", "int64", "bool"])
def test_labels_of_every_type_and_form_become_the_smallest_unsigned_type(dtype, form):
    values = (WHOLE > 2 if dtype == "bool" else WHOLE).astype(dtype)
    labels = _case(labels=FORMS[form](values)).labels
    assert (type(labels), labels.dtype) == (np.ndarray, np.uint8)
    assert labels.flags.c_contiguous
    assert labels.flags.writeable
    np.testing.assert_array_equal(labels, values.astype(np.int64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int32, torch.bool])
def test_tensors_of_types_that_numpy_may_lack_are_converted(dtype):
    values = torch.from_numpy(WHOLE).to(dtype)
    case = _case(image=values[None], labels=values)
    np.testing.assert_array_equal(case.image[0], values.long().numpy())
    np.testing.assert_array_equal(case.labels, values.long().numpy())


def test_arrays_that_fit_are_not_copied():
    image, labels = np.ones((1, 3, 5, 7), np.float32), np.ones((3, 5, 7), np.uint8)
    case = _case(image=image, labels=labels)
    assert np.shares_memory(case.image, image)
    assert np.shares_memory(case.labels, labels)


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (0.9999847, 1),
        (1.0000152, 1),
        (-0.0005, 0),
        (2.0009, 2),
        (1180.0, 1180),
        (65535.0, 65535),
        (255.0, 255),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f8"])
def test_labels_are_rounded_where_they_are_nearly_whole(value, whole, dtype):
    labels = WHOLE.astype(dtype)
    labels[2, 4, 6] = value
    wanted = WHOLE.copy()
    wanted[2, 4, 6] = whole
    got = _case(labels=labels).labels
    assert got.dtype == (np.uint8 if whole < 256 else np.uint16)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("value", "dtype"), [(1180, np.uint16), (255, np.uint8), (65535, np.uint16), (4, np.uint8)]
)
@pytest.mark.parametrize("given", [np.int32, np.uint64, ">u2", np.uint16])
def test_high_labels_keep_their_value(value, dtype, given):
    labels = WHOLE.astype(given)
    labels[0, 1, 2] = value
    got = _case(labels=labels).labels
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, labels.astype(np.int64))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.6, "whole numbers from 0, got 0.6.* Pass the mask, not a probability"),
        (1.002, "whole numbers from 0, got 1.002"),
        (np.nan, "whole numbers from 0, got nan"),
        (np.inf, "whole numbers from 0, got inf"),
        (-1.0, "0 or above, got -1. Set voxels without a label to 0"),
        (65536.0, "at most 65535, got 65536. Pass the mask, not the image"),
        (1e30, "at most 65535, got 1"),
    ],
)
def test_labels_that_are_none_are_refused(value, wanted):
    labels = WHOLE.astype(np.float64)
    labels[1, 2, 3] = value
    with pytest.raises(DataError, match=f"`labels of case '7'` must be {wanted}") as caught:
        _case(labels=labels)
    assert caught.value.argument == "labels of case '7'"


@pytest.mark.parametrize("value", [-1, 65536, 2**40, 2**63 - 1])
def test_integer_labels_out_of_range_are_refused(value):
    labels = WHOLE.astype(np.int64)
    labels[1, 2, 3] = value
    with pytest.raises(DataError, match=f"must be (0 or above|at most 65535), got {value}"):
        _case(labels=labels)


def test_a_probability_map_lists_a_few_of_its_values():
    labels = np.linspace(0, 1, 105).reshape(3, 5, 7)
    with pytest.raises(DataError, match=r"whole numbers from 0, got 0.0096\d+, .* and 1 more. Pass the mask"):
        _case(labels=labels)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("changes", "error", "wanted"),
    [
        ({"case_id": 7}, ArgumentTypeError, r"`case_id` must be a text, got a int. Use str\(case_id\)"),
        ({"case_id": ""}, DataError, "`case_id` must be a text, got an empty one"),
        (
            {"image": [[[[1.0]]]]},
            ArgumentTypeError,
            "must be a NumPy array or a tensor, got a list. Use numpy.asarray",
        ),
        (
            {"image": None},
            ArgumentTypeError,
            "`image of case '7'` must be a NumPy array or a tensor, got a NoneType",
        ),
        (
            {"image": np.zeros((3, 5, 7))},
            DataError,
            r"four axes .* got shape \(3, 5, 7\). Add the channel axis",
        ),
        ({"image": np.zeros((1, 1, 3, 5, 7))}, DataError, r"four axes .* got shape \(1, 1, 3, 5, 7\)"),
        (
            {"image": np.zeros((1, 3, 5, 7), complex)},
            DataError,
            "an array of real numbers, got type complex128",
        ),
        ({"image": np.zeros((1, 3, 5, 7), object)}, DataError, "an array of real numbers, got type object"),
        ({"image": np.zeros((1, 3, 5, 7), "U1")}, DataError, "an array of real numbers, got type <U1"),
        ({"image": np.full((1, 3, 5, 7), 1e300)}, DataError, "finite everywhere"),
        (
            {"image": torch.zeros(1, 3, 5, 7, device="meta")},
            ArgumentTypeError,
            "plain numbers, got one of .* on meta",
        ),
        (
            {"image": torch.zeros(1, 3, 5, 7, dtype=torch.complex64)},
            DataError,
            "real numbers, got type complex64",
        ),
        ({"image": np.ma.masked_equal(np.zeros((1, 3, 5, 7)), 1)}, ArgumentTypeError, r"Use .* .filled\(0\)"),
        (
            {"labels": [[[1]]]},
            ArgumentTypeError,
            "`labels of case '7'` must be a NumPy array or a tensor, got a list",
        ),
        (
            {"labels": np.zeros((1, 3, 5, 7), int)},
            DataError,
            r"got \(1, 3, 5, 7\). Take the channel axis away",
        ),
        ({"labels": np.zeros((3, 5), int)}, DataError, r"of the image's size \(3, 5, 7\), got \(3, 5\)"),
        (
            {"affine": np.eye(3)},
            DataError,
            r"`affine of case '7'` must be a 4 x 4 matrix .* got shape \(3, 3\)",
        ),
        ({"affine": None}, DataError, "`affine of case '7'` must be a 4 x 4 matrix"),
        ({"affine": np.full((4, 4), np.nan)}, DataError, "a 4 x 4 matrix of finite numbers"),
        ({"affine": np.zeros((4, 4))}, DataError, "with last row 0, 0, 0, 1"),
        (
            {"channel_names": "T1"},
            ArgumentTypeError,
            r"must be a list of texts, got a str. Write \(\"T1\",\)",
        ),
        (
            {"channel_names": (1,)},
            ArgumentTypeError,
            "`channel_names of case '7'` must be a list of texts, got a int",
        ),
        ({"channel_names": None}, ArgumentTypeError, "must be a list of texts, got a NoneType"),
        (
            {"channel_names": ("a", "b")},
            DataError,
            r"1 name, one a channel, or none, got \['a', 'b'\]",
        ),
        ({"image": np.zeros((2, 3, 5, 7)), "channel_names": ("a", "a")}, DataError, "2 different names"),
    ],
)
def test_what_does_not_fit_names_argument_and_cure(changes, error, wanted):
    with pytest.raises(error, match=wanted):
        _case(**changes)


@pytest.mark.parametrize("form", [np.array, torch.tensor, list])
def test_an_affine_of_whole_numbers_is_converted(form):
    rows = [[-2, 0, 0, 10], [0, -2, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]]
    case = _case(affine=form(rows))
    np.testing.assert_array_equal(case.affine, rows)
    assert (case.affine.dtype, case.spacing_mm, case.orientation) == (np.float64, (5.0, 2.0, 2.0), "LPS")


def test_the_affine_is_a_copy_and_names_are_a_tuple():
    affine = np.eye(4)
    case = _case(affine=affine, channel_names=["T2"])
    affine[0, 0] = 2
    assert case.affine[0, 0] == 1
    assert case.channel_names == ("T2",)


def test_a_case_can_be_replaced_in_part_and_pickled():
    case = _case(channel_names=("T2",))
    changed = pickle.loads(pickle.dumps(replace(case, labels=WHOLE)))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(changed.labels, WHOLE)
    assert (changed.case_id, changed.channel_names, changed.image.shape) == ("7", ("T2",), (1, 3, 5, 7))


@pytest.mark.parametrize("dtype", ["int16", "float64", ">f4", "float32"])
def test_making_a_case_needs_no_more_than_what_it_keeps(dtype):
    image, labels = np.zeros((1, 64, 256, 256), dtype), np.zeros((64, 256, 256), "float64")
    tracemalloc.start()
    case = Case("7", image, labels, np.eye(4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = case.labels.nbytes + (0 if np.shares_memory(case.image, image) else case.image.nbytes)
    assert peak <= kept + 0.05 * image.size * 4


AFFINES = [
    (kind, random_affine(np.random.default_rng([seed, number]), kind))
    for number, kind in enumerate(("straight", "oblique", "turned", "tilted", "sheared"))
    for seed in range(20)
]


def test_a_mask_in_any_storage_order_is_brought_to_that_of_the_image():
    rng = np.random.default_rng(0)
    for _, affine in AFFINES:
        mask = rng.permutation(30).reshape(2, 3, 5)
        turn = reorientation(affine, rng.choice(["LPS", "RAS", "LIA", "PSR", "SAL", "IRP"]))
        stored = Volume(turn.apply(mask), turn.affine(affine, mask.shape))
        case = Case.from_volumes("7", Volume(np.zeros(mask.shape), affine), stored)
        np.testing.assert_array_equal(case.labels, mask)
        np.testing.assert_array_equal(case.affine, affine)
        one_channel = Volume(stored.array[None], stored.affine)
        twice = Volume(np.zeros((2, *mask.shape)), affine)
        case = Case.from_volumes("7", twice, one_channel, channel_names=("a", "b"))
        np.testing.assert_array_equal(case.labels, mask)
        assert (case.image.shape, case.channel_names) == ((2, 2, 3, 5), ("a", "b"))


@pytest.mark.parametrize("noise", [1e-9, 1e-4])
def test_a_mask_turned_by_45_degrees_like_its_image_is_not_reordered_by_rounding(noise):
    rng = np.random.default_rng(0)
    affine = np.eye(4)
    affine[1:3, 1:3] = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    mask = rng.permutation(30).reshape(2, 3, 5)
    for _ in range(20):
        near = affine.copy()
        near[:3, :3] += rng.uniform(-noise, noise, (3, 3))
        case = Case.from_volumes("7", Volume(np.zeros((2, 3, 5)), affine), Volume(mask, near))
        np.testing.assert_array_equal(case.labels, mask)


@pytest.mark.parametrize(
    ("change", "apart"),
    [
        ({"origin": 0.002}, None),
        ({"origin": 0.12}, None),
        ({"origin": 0.13}, "0.13 mm apart"),
        ({"scale": 1.01}, None),
        ({"scale": 1.02}, "0.175 mm apart"),  # 7 columns of 1.25 mm: 0.0875 and 0.175 mm at the far corner
    ],
)
def test_image_and_mask_may_lie_a_tenth_of_a_voxel_apart_at_the_corners(change, apart):
    affine = np.diag([1.25, 1.5, 5.0, 1.0])
    moved = affine.copy()
    moved[0, 3] += change.get("origin", 0.0)
    moved[0, 0] *= change.get("scale", 1.0)
    image, mask = Volume(np.zeros((3, 5, 7)), affine), Volume(np.zeros((3, 5, 7), np.uint8), moved)
    if apart is None:
        np.testing.assert_array_equal(Case.from_volumes("7", image, mask).affine, affine)
        return
    wanted = (
        rf"`labels of case '7'` must be within 0.125 mm of the image at every corner, got {apart}. Resample"
    )
    with pytest.raises(DataError, match=wanted):
        Case.from_volumes("7", image, mask)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("image", "labels", "error", "wanted"),
    [
        (
            np.zeros((3, 5, 7)),
            None,
            ArgumentTypeError,
            "`image` must be a Volume, got a ndarray. Join array and",
        ),
        (
            Volume(np.zeros((3, 5, 7)), np.eye(4)),
            np.zeros((3, 5, 7)),
            ArgumentTypeError,
            "`labels` must be a Volume",
        ),
        (
            Volume(np.zeros((3, 5, 7)), np.eye(4)),
            Volume(np.zeros((2, 3, 5, 7)), np.eye(4)),
            DataError,
            r"`labels of case '7'` must be of three axes, got shape \(2, 3, 5, 7\)",
        ),
        (
            Volume(np.zeros((3, 5, 7)), np.eye(4)),
            Volume(np.zeros((3, 7, 5)), np.eye(4)),
            DataError,
            r"`labels of case '7'` must be of the image's size \(3, 5, 7\), got \(3, 7, 5\)",
        ),
    ],
)
def test_volumes_that_cannot_be_joined_say_why(image, labels, error, wanted):
    with pytest.raises(error, match=wanted):
        Case.from_volumes("7", image, labels)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("array", "affine", "error", "wanted"),
    [
        (np.zeros((5, 7)), np.eye(4), DataError, r"`array` must be of three axes .* got shape \(5, 7\)"),
        ([1], np.eye(4), ArgumentTypeError, "`array` must be a NumPy array or a tensor, got a list"),
        (np.zeros((3, 5, 7), "U2"), np.eye(4), DataError, "`array` must be an array of real numbers"),
        (np.zeros((3, 5, 7)), np.eye(3), DataError, "`affine` must be a 4 x 4 matrix"),
    ],
)
def test_a_volume_checks_itself(array, affine, error, wanted):
    with pytest.raises(error, match=wanted):
        Volume(array, affine)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_volume_takes_tensors_and_lists_for_the_affine():
    volume = Volume(
        torch.arange(105).reshape(3, 5, 7), [[2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]]
    )
    np.testing.assert_array_equal(volume.array, np.arange(105).reshape(3, 5, 7))
    assert (volume.array.dtype, volume.affine.dtype, volume.spacing_mm) == (
        np.int64,
        np.float64,
        (5.0, 3.0, 2.0),
    )


def test_a_volume_is_in_native_byte_order():
    volume = Volume(np.arange(105, dtype=">i2").reshape(3, 5, 7), np.eye(4))
    assert volume.array.dtype == np.int16
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, np.arange(105).reshape(3, 5, 7))
