"""Our ResNets against torchvision's: the same state dict, the same maps."""

import pytest
import torch
from tests.modules import drawn, opened

from guided_attention.encoders import resnet_encoder

NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "resnext101_32x8d"]
DILATED = {8: [False, True, True], 16: [False, False, True]}


def maps_of(network, x):
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    maps = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)
        maps.append(x)
    return maps


def assert_the_same_maps(network, encoder):
    state = opened(network).eval().state_dict()
    encoder.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc.")})
    x = drawn(1, 3, 97, 71)
    with torch.inference_mode():
        for ours, theirs in zip(encoder.eval()(x), maps_of(network, x), strict=True):
            scale = float(theirs.abs().max())
            torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_weights_give_the_same_maps(name):
    from torchvision.models import get_model

    assert_the_same_maps(get_model(name, weights=None), resnet_encoder(name, in_channels=3))


# torchvision dilates bottlenecks alone: its basic blocks refuse.
@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_networks_give_the_same_maps(name, output_stride):
    from torchvision.models import get_model

    network = get_model(name, weights=None, replace_stride_with_dilation=DILATED[output_stride])
    assert_the_same_maps(network, resnet_encoder(name, in_channels=3, output_stride=output_stride))
