"""Percentiles without a copy of the volume are those of NumPy."""

import numpy as np
import pytest

from guided_attention.preparation import _percentiles

PERCENTS = (0, 0.3, 0.5, 3.7, 50, 77.7, 99.5, 100)


def volumes():
    rng = np.random.default_rng(0)
    yield rng.normal(100, 50, (7, 11, 13))
    yield rng.normal(100, 50, (1, 1, 1))
    yield rng.normal(100, 50, (1, 1, 2))
    yield np.maximum(rng.normal(size=(17, 19, 23)), 0.5)  # most voxels share the lowest value
    yield rng.choice([0, 1, 2.5, 1000], size=(17, 19, 23))
    yield np.full((3, 5, 7), 2.0)
    yield np.sort(rng.normal(size=17 * 19 * 23)).reshape(17, 19, 23)
    for _ in range(100):
        yield rng.choice([0, 1, 2, 3], size=rng.integers(1, 9, 3)) + rng.choice([0, 0.25], size=1)


@pytest.mark.parametrize("voxels", [2**20, 500, 10])
def test_they_are_numpy_s(monkeypatch, voxels):
    """A small sample misleads, and every branch is walked through."""
    monkeypatch.setattr(_percentiles, "_FEW_VOXELS", voxels)
    for volume in volumes():
        channel = volume.astype(np.float32)
        got = _percentiles.percentiles(channel, PERCENTS)
        want = np.percentile(channel.astype(np.float64), PERCENTS)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_a_sample_that_misleads_is_noticed(monkeypatch):
    monkeypatch.setattr(_percentiles, "_FEW_VOXELS", 8)
    channel = np.random.default_rng(0).uniform(1, 2, (6, 6, 6)).astype(np.float32)
    channel[::3, ::3, ::3] = 0
    assert _percentiles.thinned(channel).max() == 0
    got = _percentiles.percentiles(channel, (10, 50, 75.3, 90, 99))
    np.testing.assert_allclose(got, np.percentile(channel.astype(np.float64), (10, 50, 75.3, 90, 99)))


def test_the_sample_is_regular():
    channel = np.arange(200 * 200 * 200, dtype=np.float32).reshape(200, 200, 200)
    np.testing.assert_array_equal(_percentiles.thinned(channel), channel)
    assert _percentiles.thinned(np.zeros((210, 210, 210), np.float32)).shape == (105, 105, 105)
