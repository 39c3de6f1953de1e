"""Data sets take prepared volumes, cached or not, only with the preparation that made them."""

from dataclasses import replace
from math import cos, radians, sin

import numpy as np
import pytest
import torch

from guided_attention.case import Case
from guided_attention.data import open_cohort, write_nifti
from guided_attention.errors import ArgumentError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import Preparation
from guided_attention.sampling import FlipRotate, PatchDataset, PatchPlace, SliceDataset, VolumeCache
from guided_attention.sampling.augment import exchanged

KIDNEYS = LabelSpec({1: "liver", 4: "right kidney", 5: "left kidney"}, pairs=((4, 5),))
CORONAL = np.diag([-2.0, -5.0, 2.0, 1.0])
SETTINGS = Preparation(intensity=None)


def slices_of(volumes, preparation, **options):
    return SliceDataset(volumes, preparation, KIDNEYS, **options)


def patches_of(volumes, preparation):
    return PatchDataset(volumes, preparation, KIDNEYS, size=(3, 5))


both = pytest.mark.parametrize("made", [slices_of, patches_of], ids=["slices", "patches"])
cached_or_not = pytest.mark.parametrize("kept", [lambda cached: cached, list], ids=["cached", "prepared"])


@pytest.fixture
def cohort(tmp_path):
    rng = np.random.default_rng(5)
    for number in (1, 2):
        shape = (5, 7, 11)
        write_nifti(tmp_path / f"c{number}_image.nii.gz", rng.normal(size=shape).astype(np.float32), CORONAL)
        labels = rng.choice([0, 1, 4, 5], shape).astype(np.uint8)
        write_nifti(tmp_path / f"c{number}_label.nii.gz", labels, CORONAL)
    return open_cohort(tmp_path)


def cached(cohort, tmp_path, preparation):
    return VolumeCache(tmp_path / "cache", preparation).volumes(cohort)


@both
@cached_or_not
def test_one_that_is_not_fitted_is_refused(cohort, tmp_path, kept, made):
    volumes = kept(cached(cohort, tmp_path, SETTINGS.fit(cohort)))
    for left_to_fit in (SETTINGS, replace(SETTINGS, slice_axis="coronal", spacing_mm="median")):
        with pytest.raises(ArgumentError) as caught:
            made(volumes, left_to_fit)
        assert str(caught.value) == (
            "`slice_axis` and `spacing_mm` must be known. Call `Preparation.fit` first."
        )


@both
def test_another_one_than_that_of_the_cache_is_refused(cohort, tmp_path, made):
    volumes = cached(cohort, tmp_path, SETTINGS.fit(cohort))
    assert volumes.preparation == SETTINGS.fit(cohort)
    other = replace(SETTINGS, slice_axis="sagittal", neighbours=1).fit(cohort)
    with pytest.raises(ArgumentError) as caught:
        made(volumes, other)
    assert str(caught.value) == (
        "`preparation` must be that of the cached volumes, got one with another slice_axis, neighbours, "
        "fingerprint. Pass the one that `VolumeCache` was given."
    )


@both
def test_prepared_volumes_of_another_one_are_refused(cohort, made):
    volumes = [SETTINGS.fit(cohort).apply(case) for case in cohort]
    with pytest.raises(ArgumentError) as caught:
        made(volumes, replace(SETTINGS, slice_axis="sagittal").fit(cohort))
    assert str(caught.value) == (
        "`orientation of prepared case 'c1'` must be PIL, for sagittal slices, got LIP. "
        "Pass the preparation that made it."
    )
    with pytest.raises(ArgumentError) as caught:
        made(volumes, replace(SETTINGS, neighbours=1).fit(cohort))
    assert str(caught.value) == (
        "`neighbours of prepared case 'c1'` must be 1, as of `preparation`, got 0. "
        "Pass the preparation that made it."
    )


@cached_or_not
def test_the_one_that_made_them_is_taken_and_mirrored_kidneys_are_exchanged(cohort, tmp_path, kept):
    fitted = replace(SETTINGS, neighbours=1).fit(cohort)
    volumes, again = kept(cached(cohort, tmp_path, fitted)), Preparation.from_dict(fitted.to_dict())
    mirrored = slices_of(volumes, again, augment=FlipRotate(flip=0, mirror=1, rotate=0))
    plain, patches = slices_of(cohort, fitted), patches_of(volumes, again)
    assert len(mirrored) == len(plain) == len(patches) == 14
    for (image, labels), (seen, names) in zip(mirrored, plain, strict=True):
        torch.testing.assert_close(image, seen.flip(-1), rtol=0, atol=0)
        torch.testing.assert_close(labels, exchanged(names.flip(-1), ((2, 3),)), rtol=0, atol=0)
    image, labels = patches[PatchPlace(1, (2, 1, 4))]
    torch.testing.assert_close(image, plain[7 + 2][0][:, 1:4, 4:9], rtol=0, atol=0)
    torch.testing.assert_close(labels, plain[7 + 2][1][1:4, 4:9], rtol=0, atol=0)


@pytest.mark.parametrize("degrees", [-45.0, 30.0, 45.0, 100.0])
@pytest.mark.parametrize("slice_axis", ["axial", "coronal", "sagittal"])
def test_oblique_volumes_lie_as_their_preparation_makes_them(degrees, slice_axis):
    c, s = cos(radians(degrees)), sin(radians(degrees))
    turned = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ np.diag([2.0, 1, 5, 1])
    case = Case("1", np.zeros((1, 5, 7, 11), np.float32), np.ones((5, 7, 11), np.uint8), turned)
    preparation = Preparation(slice_axis=slice_axis, intensity=None, spacing_mm=(1.5, 1.3, 1.1))
    volume = preparation.apply(case)
    assert len(slices_of([volume], preparation)) == volume.image.shape[1]
