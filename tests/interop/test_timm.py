"""TimmEncoder on timm's own networks: strides, channels and the maps that really come."""

import pytest
import torch
from tests.modules import drawn, opened

from guided_attention import MSGA
from guided_attention.encoders import Encoder, TimmEncoder
from guided_attention.models import fuse

HALVING = (4, 8, 16, 32)

# name, sides of images that it takes, channels of the maps, their strides
FAMILIES = [
    ("resnet34d", (64, 65), (64, 128, 256, 512), HALVING),
    ("efficientnet_b0.ra_in1k", (64, 65), (24, 40, 112, 320), HALVING),
    ("regnety_002", (64, 65), (24, 56, 152, 368), HALVING),
    ("mobilenetv3_small_100", (64, 65), (16, 24, 48, 576), HALVING),
    ("hrnet_w18_small", (64, 65), (128, 256, 512, 1024), HALVING),
    ("convnext_atto", (64, 65), (40, 80, 160, 320), HALVING),
    ("mambaout_femto", (64, 65), (48, 96, 192, 288), HALVING),
    ("swin_tiny_patch4_window7_224", (224,), (96, 192, 384, 768), HALVING),
    ("swinv2_tiny_window8_256", (256,), (96, 192, 384, 768), HALVING),
    ("vit_tiny_patch16_224", (224,), (192, 192, 192), (16, 16, 16)),
]


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize(("name", "sides", "channels", "strides"), FAMILIES)
def test_each_family_gives_its_maps_fine_to_coarse(name, sides, channels, strides, in_channels):
    encoder = TimmEncoder(name, in_channels=in_channels).eval()
    assert isinstance(encoder, Encoder)
    assert encoder.strides == strides
    assert encoder.out_channels == channels
    rounds_down = name.startswith("convnext")
    for side in sides:
        with torch.inference_mode():
            maps = encoder(drawn(1, in_channels, side, side))
        expected = [side // stride if rounds_down else -(-side // stride) for stride in strides]
        assert [tuple(m.shape) for m in maps] == [
            (1, c, s, s) for c, s in zip(channels, expected, strict=True)
        ]


def test_hrnet_sees_other_sizes_filled_up_with_zeros_and_whole_ones_as_they_are():
    encoder = TimmEncoder("hrnet_w18_small").eval()
    x = drawn(1, 1, 67, 97)
    filled = torch.zeros(1, 1, 96, 128)
    filled[:, :, :67, :97] = x
    with torch.inference_mode():
        for ours, theirs, (height, width) in zip(
            encoder(x), encoder.network(filled)[-4:], [(17, 25), (9, 13), (5, 7), (3, 4)], strict=True
        ):
            assert torch.equal(ours, theirs[:, :, :height, :width])
        for ours, theirs in zip(encoder(filled), encoder.network(filled)[-4:], strict=True):
            assert torch.equal(ours, theirs)


def test_the_maps_are_those_of_timm_channels_last_turned_round():
    import timm

    encoder = TimmEncoder("swin_tiny_patch4_window7_224").eval()
    plain = timm.create_model("swin_tiny_patch4_window7_224", features_only=True, in_chans=1).eval()
    plain.load_state_dict(encoder.network.state_dict())
    x = drawn(1, 1, 224, 224)
    for ours, theirs in zip(encoder(x), plain(x), strict=True):
        assert theirs.shape[1] == theirs.shape[2]  # height, width, channels
        torch.testing.assert_close(ours, theirs.movedim(-1, 1))


@pytest.mark.parametrize(("name", "side"), [(name, sides[-1]) for name, sides, _, _ in FAMILIES])
def test_the_papers_network_trains_on_each(name, side):
    model = MSGA(num_classes=3, encoder=TimmEncoder(name), channels=8, steps=1)
    logits = model(drawn(2, 1, side, side))
    assert logits.shape == (2, 3, side, side)
    logits.square().mean().backward()
    stem = next(model.encoder.parameters())
    assert stem.grad is not None
    assert stem.grad.isfinite().all()


@pytest.mark.parametrize(("name", "side"), [(name, sides[-1]) for name, sides, _, _ in FAMILIES])
def test_a_file_of_timms_weights_fits_each_family(tmp_path, name, side):
    import timm

    whole = timm.create_model(name).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    encoder = TimmEncoder(name, in_channels=3, encoder_weights=tmp_path / "weights.pth").eval()
    plain = timm.create_model(name, features_only=True).eval()
    plain.load_state_dict(encoder.network.state_dict())
    held = {key.replace(".", "_"): value for key, value in whole.state_dict().items()}
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(value, held[key.removeprefix("model.").replace(".", "_")], rtol=0, atol=0)
    assert len(encoder(drawn(1, 3, side, side))) > 0


def test_a_file_of_timms_weights_loads_and_its_stem_is_adapted(tmp_path):
    import timm

    whole = timm.create_model("resnet18", pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    three = TimmEncoder(
        "resnet18", in_channels=3, encoder_weights=tmp_path / "resnet18.pth"
    ).network.state_dict()
    for name, value in three.items():
        assert torch.equal(value, whole.state_dict()[name]), name
    one = TimmEncoder(
        "resnet18", in_channels=1, encoder_weights=tmp_path / "resnet18.pth"
    ).network.state_dict()
    torch.testing.assert_close(one["conv1.weight"], whole.conv1.weight.detach().sum(dim=1, keepdim=True))


@pytest.mark.parametrize(
    ("name", "left"), [("resnet18", 0), ("efficientnet_b0", None), ("repvit_m1_0", None)]
)
@torch.no_grad()
def test_folded_norms_give_the_same_maps(name, left):
    """RepViT's norms take the sum of two convolutions and the input, and are registered behind one of them."""
    encoder = opened(TimmEncoder(name)).double().eval()
    fused, x = fuse(encoder), drawn(1, 1, 64, 64, dtype=torch.float64)
    for got, wanted in zip(fused(x), encoder(x), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9 * float(wanted.abs().max()))
    kept = [module for module in fused.modules() if type(module) is torch.nn.BatchNorm2d]
    assert left is None or len(kept) == left


def test_names_that_timm_does_not_have_are_refused():
    with pytest.raises(
        ValueError, match=r"`name` must be a network of timm, got 'resnet34x'. Close ones: .*resnet34"
    ):
        TimmEncoder("resnet34x")
