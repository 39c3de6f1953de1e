"""TimmEncoder on timm's own networks: strides, channels and the maps that really come."""

import pytest
import torch
from tests.modules import drawn

from guided_attention import MSGA
from guided_attention.encoders import Encoder, TimmEncoder

# name, side of the image, channels of the maps of stride 4, 8, 16, 32
FAMILIES = [
    ("resnet34d", 65, (64, 128, 256, 512)),
    ("efficientnet_b0", 65, (24, 40, 112, 320)),
    ("regnety_002", 65, (24, 56, 152, 368)),
    ("mobilenetv3_small_100", 65, (16, 24, 48, 576)),
    ("convnext_atto", 65, (40, 80, 160, 320)),
    ("swin_tiny_patch4_window7_224", 224, (96, 192, 384, 768)),
]


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize(("name", "side", "channels"), FAMILIES)
def test_each_family_gives_its_maps_fine_to_coarse(name, side, channels, in_channels):
    encoder = TimmEncoder(name, in_channels=in_channels).eval()
    assert isinstance(encoder, Encoder)
    assert encoder.strides == (4, 8, 16, 32)
    assert encoder.out_channels == channels
    maps = encoder(drawn(1, in_channels, side, side))
    rounds_down = name.startswith("convnext")
    sides = [side // stride if rounds_down else -(-side // stride) for stride in encoder.strides]
    assert [tuple(m.shape) for m in maps] == [(1, c, s, s) for c, s in zip(channels, sides, strict=True)]


def test_the_maps_are_those_of_timm_channels_last_turned_round():
    import timm

    encoder = TimmEncoder("swin_tiny_patch4_window7_224").eval()
    plain = timm.create_model("swin_tiny_patch4_window7_224", features_only=True, in_chans=1).eval()
    plain.load_state_dict(encoder.network.state_dict())
    x = drawn(1, 1, 224, 224)
    for ours, theirs in zip(encoder(x), plain(x), strict=True):
        assert theirs.shape[1] == theirs.shape[2]  # height, width, channels
        torch.testing.assert_close(ours, theirs.movedim(-1, 1))


@pytest.mark.parametrize(("name", "side"), [(name, 224 if "swin" in name else 65) for name, _, _ in FAMILIES])
def test_the_papers_network_trains_on_each(name, side):
    model = MSGA(num_classes=3, encoder=TimmEncoder(name), channels=8, steps=1)
    logits = model(drawn(2, 1, side, side))
    assert logits.shape == (2, 3, side, side)
    logits.square().mean().backward()
    stem = next(model.encoder.parameters())
    assert stem.grad is not None
    assert stem.grad.isfinite().all()


def test_a_file_of_timms_weights_loads_and_its_stem_is_adapted(tmp_path):
    import timm

    whole = timm.create_model("resnet18", pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    three = TimmEncoder("resnet18", in_channels=3, weights=tmp_path / "resnet18.pth").network.state_dict()
    for name, value in three.items():
        assert torch.equal(value, whole.state_dict()[name]), name
    one = TimmEncoder("resnet18", in_channels=1, weights=tmp_path / "resnet18.pth").network.state_dict()
    torch.testing.assert_close(one["conv1.weight"], whole.conv1.weight.detach().sum(dim=1, keepdim=True))


def test_names_that_timm_does_not_have_are_refused():
    with pytest.raises(
        ValueError, match=r"`name` must be a network of timm, got 'resnet34x'. Close ones: .*resnet34"
    ):
        TimmEncoder("resnet34x")
