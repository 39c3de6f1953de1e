"""DANet: written out, its heads, its errors."""

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import networks

from guided_attention.encoders import resnet_encoder
from guided_attention.models import DualAttentionNetwork, danet


def test_equals_the_network_written_out():
    model = (
        opened(DualAttentionNetwork(resnet_encoder("resnet18", output_stride=8), 5, num_classes=3))
        .eval()
        .double()
    )
    x = drawn(2, 1, 37, 61, dtype=torch.float64)
    expected = networks.danet(x, model.state_dict())
    output = model.outputs(x)
    torch.testing.assert_close(list(output.attended_logits), expected)
    torch.testing.assert_close(output.logits, expected[0])
    torch.testing.assert_close(model(x), expected[0])
    assert output.raw_logits == output.codes == output.reconstructions == ()


def test_the_builder_dilates_a_named_encoder_to_an_eighth():
    model = danet(in_channels=3, encoder="resnet18")
    assert model.encoder.strides == (4, 8, 8, 8)
    assert model.in_channels == 3
    assert [tuple(m.shape[2:]) for m in model.encoder(drawn(1, 3, 65, 33))] == [
        (17, 9),
        (9, 5),
        (9, 5),
        (9, 5),
    ]
    assert model.position[0][0].out_channels == 512 // 4


def test_arguments_that_cannot_be_are_named():
    encoder = resnet_encoder("resnet18")
    with pytest.raises(ValueError, match="`num_classes` must be at least 2, background included, got 1"):
        DualAttentionNetwork(encoder, 8, num_classes=1)
    with pytest.raises(ValueError, match="`channels` must be above 0, got 0"):
        DualAttentionNetwork(encoder, 0, num_classes=2)
