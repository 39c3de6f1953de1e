"""Prepared volumes on disk: the same numbers as without, whatever was killed, changed or damaged before."""

import json
import mmap
import multiprocessing
import os
import pickle
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.deadly import killed_at_random, killed_until_done
from tests.sampling.stripes import STRIPES_BYTES, cached_stripes

from guided_attention.case import affine_of
from guided_attention.data import open_cohort, write_nifti
from guided_attention.errors import ArgumentTypeError, DataError
from guided_attention.labels import LabelSpec
from guided_attention.preparation import CenterCrop, Preparation
from guided_attention.sampling import SliceDataset, VolumeCache

ORGANS = LabelSpec({1: "one", 3: "two"})


def _cohort(folder, cases=3):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(cases):
        size, affine = (5 + number, 13, 11), affine_of((3.0, 1.0 + 0.1 * number, 1.25))
        write_nifti(folder / f"c{number}_image.nii.gz", rng.normal(size=size).astype(np.float32), affine)
        write_nifti(folder / f"c{number}_label.nii.gz", rng.choice([0, 1, 3], size).astype(np.uint8), affine)
    return open_cohort(folder)


def _preparation(cohort, **settings):
    return Preparation(slice_axis="axial", spacing_mm=(None, 1.3, 1.3), min_size=(17, 19), **settings).fit(
        cohort
    )


def _bytes(folder):
    """Return the entries of a cache; drafts of killed processes are none."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".unfinished" not in str(path)]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize("workers", [1, 2])
def test_volumes_equal_those_of_the_preparation(tmp_path, workers):
    cohort = _cohort(tmp_path / "scans")
    preparation = _preparation(cohort, crop=CenterCrop((None, 9, 7)), neighbours=1)
    cache, seen = VolumeCache(tmp_path / "cache", preparation), []
    cache.build(cohort, workers=workers, on_case=seen.append)
    assert seen == ["c0", "c1", "c2"]
    for got, case in zip(cache.volumes(cohort), cohort, strict=True):
        wanted = preparation.apply(case)
        assert isinstance(got.image.base, mmap.mmap)
        assert not got.image.flags.writeable
        assert got.image.dtype == np.float32
        np.testing.assert_array_equal(got.image, wanted.image)
        np.testing.assert_array_equal(got.labels, wanted.labels)
        np.testing.assert_array_equal(got.affine, wanted.affine)
        assert (got.case_id, got.neighbours) == (wanted.case_id, 1)
        scores = torch.randn(3, *wanted.image.shape[1:])
        np.testing.assert_array_equal(got.restore(scores), wanted.restore(scores))


def test_slices_equal_those_of_the_cases(tmp_path):
    cohort = _cohort(tmp_path / "scans")
    preparation = _preparation(cohort)
    cached = SliceDataset(
        VolumeCache(tmp_path / "cache", preparation).volumes(cohort), preparation, ORGANS, size=(16, 16)
    )
    plain = SliceDataset(cohort, preparation, ORGANS, size=(16, 16))
    assert len(cached) == len(plain) == 5 + 6 + 7
    for (image, labels), (wanted, classes) in zip(cached, plain, strict=True):
        torch.testing.assert_close(image, wanted, rtol=0, atol=0)
        torch.testing.assert_close(labels, classes, rtol=0, atol=0)


def test_another_file_or_preparation_makes_another_entry(tmp_path):
    cohort = _cohort(tmp_path / "scans")
    preparation = _preparation(cohort)
    cache = VolumeCache(tmp_path / "cache", preparation)
    cache.build(cohort)
    before = _bytes(tmp_path / "cache")
    cache.build(cohort)
    assert _bytes(tmp_path / "cache") == before
    label = tmp_path / "scans/c1_label.nii.gz"
    write_nifti(label, np.full((6, 13, 11), 3, np.uint8), affine_of((3.0, 1.1, 1.25)))
    os.utime(label, ns=(1, 1))
    read = {volume.case_id: volume for volume in cache.volumes(cohort)}
    assert np.unique(read["c1"].labels).tolist() in ([3], [0, 3])  # what the padding adds is background
    assert len(list((tmp_path / "cache").iterdir())) == 4
    VolumeCache(tmp_path / "cache", _preparation(cohort, multiple=(4, 4))).build(cohort)
    assert len(list((tmp_path / "cache").iterdir())) == 7


def test_cohorts_that_read_the_files_otherwise_share_no_entry(tmp_path):
    whole, folder = _cohort(tmp_path / "scans", cases=1), tmp_path / "scans"
    cache = VolumeCache(tmp_path / "cache", _preparation(whole))
    for cohort, values in (
        (whole.without_labels(), None),
        (whole, [0, 1, 3]),
        (open_cohort(folder, labels={1: "one"}), [0, 1]),
        (open_cohort(folder, labels={3: "two"}), [0, 3]),
        (whole, [0, 1, 3]),
    ):
        (volume,) = cache.volumes(cohort)
        assert (None if volume.labels is None else np.unique(volume.labels).tolist()) == values
    cache.build(open_cohort(folder, max_bytes=1 << 20))
    assert len(list((tmp_path / "cache").iterdir())) == 4


@pytest.mark.filterwarnings("ignore:PNG files and others")
def test_a_spacing_said_later_makes_another_entry(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    np.save(folder / "a_image.npy", np.random.default_rng(0).normal(size=(5, 13, 11)).astype(np.float32))
    cohort = open_cohort(folder)
    cache = VolumeCache(tmp_path / "cache", Preparation(slice_axis="axial", intensity=None).fit(cohort))
    cache.build(cohort)
    (folder / "dataset.json").write_text('{"spacing_mm": [1.25, 1.5, 1.5]}')
    (volume,) = cache.volumes(open_cohort(folder))
    np.testing.assert_array_equal(np.abs(np.diag(volume.affine)), [1.5, 1.5, 1.25, 1])
    (folder / "dataset.json").write_text("[1, 2]")  # of something else
    cache.build(cohort)


def test_channels_named_in_another_order_are_read_anew(tmp_path):
    cohort = open_cohort(_task(tmp_path / "Dataset001", ["t1", "t2"]))
    cache = VolumeCache(tmp_path / "cache", Preparation(slice_axis="axial", intensity=None).fit(cohort))
    (first,) = cache.volumes(cohort)
    turned = open_cohort(_task(tmp_path / "Dataset001", ["t2", "t1"]))
    (second,) = cache.volumes(turned)
    np.testing.assert_array_equal(second.image, first.image[::-1])


def _task(folder, names):
    """A data set of nnU-Net of one case with two channels; what is there already stays."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    affine = affine_of((3.0, 1.0, 1.25))
    for channel in (0, 1):
        if not (path := folder / f"imagesTr/a_000{channel}.nii.gz").exists():
            ramp = np.arange(5 * 13 * 11, dtype=np.float32).reshape(5, 13, 11)
            write_nifti(path, ramp[::-1] if channel else ramp, affine)
    if not (path := folder / "labelsTr/a.nii.gz").exists():
        write_nifti(path, np.ones((5, 13, 11), np.uint8), affine)
    about = {"channel_names": dict(enumerate(names)), "labels": {"background": 0, "organ": 1}}
    about |= {"numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize("file", ["image.npy", "labels.npy", "entry.json"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_a_damaged_entry_is_built_again(tmp_path, file, harm):
    cohort = _cohort(tmp_path / "scans", cases=2)
    cache = VolumeCache(tmp_path / "cache", _preparation(cohort))
    cache.build(cohort)
    before = _bytes(tmp_path / "cache")
    path = next((tmp_path / "cache").glob(f"c1-*/{file}"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content if harm == "flipped" else content[: len(content) // 2])
    list(cache.volumes(cohort))
    assert _bytes(tmp_path / "cache") == before


def _build(scans, folder):
    cohort = open_cohort(scans)
    VolumeCache(folder, _preparation(cohort)).build(cohort)


@pytest.mark.crash
def test_two_at_once_do_no_harm(tmp_path):
    cohort = _cohort(tmp_path / "scans")
    VolumeCache(tmp_path / "one", _preparation(cohort)).build(cohort)
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_build, args=(tmp_path / "scans", tmp_path / "two")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert _bytes(tmp_path / "two") == _bytes(tmp_path / "one")


@pytest.mark.crash
def test_a_killed_build_ends_with_the_same_bytes(tmp_path):
    cohort = _cohort(tmp_path / "scans")
    VolumeCache(tmp_path / "whole", _preparation(cohort)).build(cohort)
    assert killed_until_done(partial(_build, tmp_path / "scans", tmp_path / "cache"), step=4) >= 5
    assert _bytes(tmp_path / "cache") == _bytes(tmp_path / "whole")


@pytest.mark.crash
def test_a_build_killed_at_any_moment_ends_with_the_same_bytes(tmp_path):
    _cohort(tmp_path / "scans")
    targets = [tmp_path / f"cache {number}" for number in range(21)]
    killed_at_random(partial(_build, tmp_path / "scans"), targets, seed=0)
    for target in targets[1:]:
        assert _bytes(target) == _bytes(targets[0])


def test_memory_is_that_of_one_case(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    volume = np.zeros((40, 64, 64), np.float32)
    volume[::2] = 1
    for number in range(24):
        write_nifti(folder / f"c{number}.nii.gz", volume, np.eye(4))
    cohort = open_cohort(folder)
    preparation = Preparation(slice_axis="axial", intensity=None).fit(cohort.select(["c0"]))
    cache = VolumeCache(tmp_path / "cache", preparation)
    cache.build(cohort.select(["c0"]))
    tracemalloc.start()
    cache.build(cohort)
    volumes = list(cache.volumes(cohort))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(volumes) == 24
    assert peak < 8 * volume.nbytes


@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_arguments_are_told(tmp_path):
    cohort = _cohort(tmp_path / "scans")
    with pytest.raises(ArgumentTypeError, match="`preparation` must be a Preparation, got a int"):
        VolumeCache(tmp_path, 3)
    cache = VolumeCache(tmp_path / "cache", _preparation(cohort))
    with pytest.raises(ArgumentTypeError, match="`cohort` must be a Cohort, got a list"):
        cache.build([1])
    with pytest.raises(ValueError, match="`workers` must be above 0"):
        cache.build(cohort, workers=0)
    path = tmp_path / "scans/c1_image.nii.gz"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="c1_image.nii.gz"):
        cache.build(cohort)


def test_an_epoch_holds_no_volume_and_no_file(tmp_path):
    """Cases are counted by the volumes that they take: a batch takes far less than one."""
    volumes, preparation = cached_stripes(tmp_path, 24)
    tracemalloc.start()
    slices = SliceDataset(volumes, preparation, LabelSpec({1: "one"}), slice_step=8)
    for _ in slices:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(slices) == 24 * 5
    assert peak < STRIPES_BYTES
    assert len(pickle.dumps(slices)) < STRIPES_BYTES / 4  # what a worker process gets
    held = [path.resolve() for path in Path("/proc/self/fd").glob("*")]
    assert not [path for path in held if tmp_path in path.parents]
