"""Small networks and scans for the tests of predictors."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from guided_attention.case import Case
from guided_attention.labels import LabelSpec
from guided_attention.preparation import Preparation

SHAPE = (7, 11, 13)
AFFINE = np.array([[-1.2, 0.1, 0.3, 17.0], [0.2, 1.4, -0.5, -3.0], [0.0, 0.4, 5.4, 31.0], [0, 0, 0, 1.0]])
ORGANS = LabelSpec({1: "liver", 2: "spleen"})
AS_IT_IS = Preparation(slice_axis="axial", intensity=None)
LONG_S = 60  # how long a thread waits for what never comes, when a test fails


def scan(channels=1, *, case_id="case 7", seed=3, shape=SHAPE, affine=AFFINE):
    image = np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)
    return Case(case_id, image, None, affine)


def network(spatial_dims=2, channels=1, classes=3):
    torch.manual_seed(5)
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if spatial_dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
    layers = [conv(channels, 5, 3, padding=1), norm(5), nn.ReLU(), nn.Dropout(0.5), conv(5, classes, 1)]
    nn.init.normal_(layers[-1].weight)
    nn.init.zeros_(layers[-1].bias)
    return nn.Sequential(*layers)


class Threshold(nn.Module):
    """Class 1 where the image is above 0."""

    def forward(self, x):
        return torch.cat([-x, x], dim=1)


class Never(nn.Module):
    def forward(self, _):
        raise AssertionError("the check comes before the network")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before
