"""Our ResNets against torchvision's and, where its blocks do not dilate, timm's: the same file, the same maps."""

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import networks as twin

from guided_attention.encoders import resnet_encoder

DILATED = {8: [False, True, True], 16: [False, False, True]}


def maps_of(network, x):
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    maps = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)
        maps.append(x)
    return maps


def assert_the_same_maps(network, name, path, output_stride=32):
    torch.save(opened(network).eval().state_dict(), path)
    encoder = resnet_encoder(name, in_channels=3, encoder_weights=path, output_stride=output_stride)
    x = drawn(1, 3, 97, 71)
    with torch.inference_mode():
        for ours, theirs in zip(encoder.eval()(x), maps_of(network, x), strict=True):
            scale = float(theirs.abs().max())
            torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", twin.PUBLISHED)
def test_the_names_and_shapes_of_the_unit_tests_are_torchvisions(name):
    from torchvision.models import get_model

    with torch.device("meta"):
        state = get_model(name, weights=None).state_dict()
    assert twin.torchvision_shapes(name) == {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("name", twin.PUBLISHED)
def test_the_same_file_gives_the_same_maps(name, tmp_path):
    from torchvision.models import get_model

    assert_the_same_maps(get_model(name, weights=None), name, tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnext50_32x4d", "resnext101_32x8d"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_networks_give_the_same_maps(name, output_stride, tmp_path):
    from torchvision.models import get_model

    network = get_model(name, weights=None, replace_stride_with_dilation=DILATED[output_stride])
    assert_the_same_maps(network, name, tmp_path / "weights.pth", output_stride)


# torchvision's basic blocks refuse to dilate; timm's do, and bear the same names.
@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_basic_blocks_give_the_maps_of_timm(name, output_stride, tmp_path):
    import timm

    network = timm.create_model(name, output_stride=output_stride)
    network.relu = network.act1
    assert_the_same_maps(network, name, tmp_path / "weights.pth", output_stride)
