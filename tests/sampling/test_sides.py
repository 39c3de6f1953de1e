"""Mirroring exchanges left and right organs, where the labels say which they are."""

import numpy as np
import pytest
import torch
from tests.reference import slices as reference
from torch.utils.data import DataLoader

from guided_attention.case import Case
from guided_attention.errors import DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import Preparation
from guided_attention.sampling import Chain, FlipRotate, RandomIntensity, SliceDataset, flip_rotate
from guided_attention.sampling.augment import exchanged

NAMES = {1: "liver", 4: "right kidney", 5: "left kidney", 6: "right lung", 9: "left lung"}
PAIRED = LabelSpec(NAMES, pairs=((4, 5), (9, 6)), ignore_value=255)
LPS = np.diag([-2.0, -2.0, 5.0, 1.0])
CORONAL, SAGITTAL = np.diag([-2.0, -5.0, 2.0, 1.0]), np.diag([-5.0, -2.0, 2.0, 1.0])


def abdomen(affine=LPS, shape=(5, 7, 11)):
    rng = np.random.default_rng(2)
    labels = rng.choice([0, *NAMES, 255], shape).astype(np.uint8)
    return Case("7", rng.normal(size=(1, *shape)).astype(np.float32), labels, affine)


def dataset(case, labels=PAIRED, **chances):
    augment = Chain((RandomIntensity(0.0), FlipRotate(rotate=0, **{"flip": 0, "mirror": 0} | chances)))
    return SliceDataset([case], Preparation(intensity=None).fit([case]), labels, augment=augment)


def test_by_hand():
    labels = torch.tensor([[1, 2, 0, 3], [0, 2, 2, 8]])
    image = torch.arange(8.0).reshape(1, 2, 4)
    augment = FlipRotate(flip=0, mirror=1, rotate=0, labels=PAIRED)  # classes: 2 and 3, 4 and 5, 255 is 255
    got_image, got = augment(image, labels)
    assert got.tolist() == [[2, 0, 3, 1], [8, 3, 3, 0]]
    assert got_image.tolist() == [[[3.0, 2.0, 1.0, 0.0], [7.0, 6.0, 5.0, 4.0]]]


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_equals_the_pixel_by_pixel_one_and_twice_is_nothing(flipped, mirrored):
    rng = np.random.default_rng(3)
    image, labels = torch.from_numpy(rng.normal(size=(2, 5, 7))), torch.from_numpy(rng.integers(0, 6, (5, 7)))
    pairs = ((2, 3), (5, 4))
    changes = {"flipped": flipped, "mirrored": mirrored, "degrees": 0.0, "pairs": pairs}
    once = flip_rotate(image, labels, **changes)
    want = reference.mirrored_body(
        image.numpy(), labels.numpy(), upside_down=flipped, left_to_right=mirrored, pairs=pairs
    )
    torch.testing.assert_close(once, tuple(map(torch.from_numpy, want)), rtol=0, atol=0)
    torch.testing.assert_close(flip_rotate(*once, **changes), (image, labels), rtol=0, atol=0)


def test_half_a_turn_is_a_flip_and_a_mirror_and_exchanges_nothing():
    image, labels = torch.rand(1, 7, 7, dtype=torch.float64), torch.randint(0, 4, (7, 7))
    turned = flip_rotate(image, labels, flipped=False, mirrored=False, degrees=180.0, pairs=((2, 3),))
    both = flip_rotate(image, labels, flipped=True, mirrored=True, degrees=0.0, pairs=((2, 3),))
    torch.testing.assert_close(turned, both)
    torch.testing.assert_close(both[1], labels.flip((0, 1)), rtol=0, atol=0)


@pytest.mark.parametrize("affine", [LPS, CORONAL], ids=["axial", "coronal"])
def test_slices_of_a_mirrored_patient(affine):
    """What augmentation makes of a patient are the slices of the patient in a mirror, annotated by an expert."""
    case = abdomen(affine)
    mates = np.arange(256, dtype=np.uint8)
    mates[[4, 5, 6, 9]] = [5, 4, 9, 6]
    patient = Case("7", case.image[..., ::-1], mates[case.labels][..., ::-1], affine)
    got, want = dataset(case, mirror=1), dataset(patient)
    assert len(got) == len(want) == {"axial": 5, "coronal": 7}[Preparation().fit([case]).slice_axis]
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_sagittal_slice_with_its_neighbours_is_of_a_mirrored_body():
    case = abdomen(SAGITTAL)
    with_neighbours = Preparation(intensity=None, neighbours=1).fit([case])
    assert with_neighbours.slice_axis == "sagittal"
    mirrored = SliceDataset([case], with_neighbours, PAIRED, augment=FlipRotate(0, 1, 0))
    plain = SliceDataset([case], with_neighbours, PAIRED)
    for (image, labels), (seen, names) in zip(mirrored, plain, strict=True):
        torch.testing.assert_close(image, seen.flip(-1), rtol=0, atol=0)
        torch.testing.assert_close(labels, exchanged(names.flip(-1), PAIRED.class_pairs), rtol=0, atol=0)
    with pytest.raises(DataError, match="right kidney"):
        SliceDataset([case], with_neighbours, LabelSpec(NAMES, ignore_value=255), augment=FlipRotate())


def test_a_sagittal_slice_seen_from_its_other_side_keeps_its_organs():
    case = abdomen(SAGITTAL)
    for (image, labels), (plain, names) in zip(dataset(case, mirror=1), dataset(case), strict=True):
        torch.testing.assert_close((image, labels), (plain.flip(-1), names.flip(-1)), rtol=0, atol=0)


def test_a_batch_is_its_items():
    slices = dataset(abdomen(), mirror=1)
    image, labels = next(iter(DataLoader(slices, batch_size=5)))
    torch.testing.assert_close(image, torch.stack([slices[i][0] for i in range(5)]), rtol=0, atol=0)
    torch.testing.assert_close(labels, torch.stack([slices[i][1] for i in range(5)]), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            (),
            r"got right kidney and left kidney and right lung and left lung\. .*pairs=\(\(4, 5\), \(6, 9\)\)",
        ),
        (
            ((4, 5),),
            r"got right lung and left lung\. Pass LabelSpec\(pairs=\(\(4, 5\), \(6, 9\)\)\), or mirror",
        ),
    ],
)
@pytest.mark.parametrize("chances", [{"mirror": 0.1}, {"flip": 0.1}])
def test_without_the_pair_it_is_refused(pairs, message, chances):
    labels = LabelSpec(NAMES, pairs=pairs, ignore_value=255)
    with pytest.raises(DataError, match=message):
        FlipRotate(**{"flip": 0, "mirror": 0} | chances, labels=labels)
    with pytest.raises(DataError, match=message):
        dataset(abdomen(), labels, **chances)
    dataset(abdomen(), labels)
    dataset(abdomen(SAGITTAL), labels, **chances)


@pytest.mark.parametrize(
    ("names", "is_refused"),
    [
        ({1: "kidney_left"}, True),
        ({1: "LeftLung", 2: "heart"}, True),
        ({1: "Lung_L", 2: "Lung_R"}, True),
        ({1: "left atrium"}, False),
        ({1: "heart_ventricle_left", 2: "heart_ventricle_right"}, False),
        ({1: "bright spot", 2: "cleft"}, False),
        ({1: "vertebrae L"}, False),
    ],
)
def test_names_with_a_side(names, is_refused):
    if not is_refused:
        assert FlipRotate(labels=LabelSpec(names)).labels is not None
        return
    with pytest.raises(DataError, match="must be of left and right organs in pairs"):
        FlipRotate(labels=LabelSpec(names))
