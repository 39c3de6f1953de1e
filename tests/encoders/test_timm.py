"""TimmEncoder against a stand-in for timm: what it asks for, keeps, turns round and refuses (timm itself: interop/)."""

import sys
from enum import StrEnum
from types import SimpleNamespace

import pytest
import torch
from tests.contracts.entries import timm_encoder
from tests.modules import drawn
from torch import nn

from guided_attention import MSGA
from guided_attention.encoders import Encoder, TimmEncoder
from guided_attention.errors import ArgumentError, CheckpointError


class Layout(StrEnum):
    FIRST = "NCHW"
    LAST = "NHWC"


class Maps(nn.Module):
    """Means over squares of 2, 4 and 8, of 3, 5 and 7 channels, in the layout asked for."""

    def __init__(self, in_channels, layout):
        super().__init__()
        self.output_fmt = layout
        self.feature_info = SimpleNamespace(reduction=lambda: [2, 4, 8], channels=lambda: [3, 5, 7])
        self.project = nn.ModuleList(nn.Conv2d(in_channels, width, 1) for width in (3, 5, 7))

    def forward(self, x):
        maps = [
            nn.functional.avg_pool2d(project(x), side)
            for project, side in zip(self.project, (2, 4, 8), strict=True)
        ]
        return [map_.permute(0, 2, 3, 1) if self.output_fmt is Layout.LAST else map_ for map_ in maps]


@pytest.fixture
def asked(monkeypatch):
    """Put the stand-in in timm's place; return what it is asked for."""
    calls = []

    def create_model(name, **wanted):
        calls.append({"name": name, **wanted})
        if name == "no_maps":
            raise RuntimeError("features_only not implemented for this network.")
        if name == "no_weights":
            raise RuntimeError("No pretrained weights exist for no_weights.")
        return Maps(wanted["in_chans"], Layout.LAST if name == "last" else Layout.FIRST)

    known = ["first", "last", "no_maps", "no_weights"]
    stand_in = SimpleNamespace(create_model=create_model, list_models=lambda: known)
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    return calls


@pytest.mark.parametrize("name", ["first", "last"])
def test_maps_of_a_quarter_and_coarser_are_kept_channels_first(name, asked):
    encoder = TimmEncoder(name, in_channels=2)
    assert isinstance(encoder, Encoder)
    assert (encoder.in_channels, encoder.out_channels, encoder.strides) == (2, (5, 7), (4, 8))
    x = drawn(1, 2, 24, 40)
    expected = [
        nn.functional.avg_pool2d(encoder.network.project[1](x), 4),
        nn.functional.avg_pool2d(encoder.network.project[2](x), 8),
    ]
    for map_, wanted in zip(encoder(x), expected, strict=True):
        torch.testing.assert_close(map_, wanted)
        assert map_.is_contiguous()
    assert asked[0]["features_only"] is True


def saved(tmp_path, state):
    torch.save(state, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_weights_come_from_timm_or_from_a_file(asked, tmp_path):
    state = Maps(1, Layout.FIRST).state_dict() | {"head.weight": torch.ones(2)}
    TimmEncoder("first")
    TimmEncoder("first.tag", encoder_weights="pretrained")
    TimmEncoder("first", encoder_weights=saved(tmp_path, state))
    assert [(call["name"], call["pretrained"]) for call in asked] == [
        ("first", False),
        ("first.tag", True),
        ("first", True),
    ]
    assert [set(call["pretrained_cfg_overlay"]) for call in asked] == [set(), set(), {"state_dict"}]
    torch.testing.assert_close(asked[2]["pretrained_cfg_overlay"]["state_dict"], state, rtol=0, atol=0)


@pytest.mark.usefixtures("asked")
def test_a_file_must_have_every_entry_of_the_network(tmp_path):
    state = Maps(1, Layout.FIRST).state_dict()
    flat = {name.replace("project.1", "project_1"): value for name, value in state.items()}
    TimmEncoder("first", encoder_weights=saved(tmp_path, flat))
    del state["project.1.bias"]
    with pytest.raises(CheckpointError, match=r"got a file without project\.1\.bias\. Save the state_dict"):
        TimmEncoder("first", encoder_weights=saved(tmp_path, state))
    wrapped = {f"model.{name}": value for name, value in Maps(1, Layout.FIRST).state_dict().items()}
    with pytest.raises(CheckpointError, match=r"weights of the whole network, got a file without project"):
        TimmEncoder("first", encoder_weights=saved(tmp_path, wrapped))


@pytest.mark.usefixtures("asked")
def test_a_damaged_file_is_an_error_before_timm_reads_it(tmp_path):
    path = saved(tmp_path, Maps(1, Layout.FIRST).state_dict())
    (tmp_path / "other.pth").touch()
    damaged = bytearray(path.read_bytes())
    place = damaged.find(torch.load(path)["project.2.weight"].numpy().tobytes()[:8])
    damaged[place] ^= 1
    for content in (bytes(damaged), b"no weights at all"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="which torch cannot read") as raised:
            TimmEncoder("first", encoder_weights=path)
        assert str(raised.value).endswith("Copy the file again.")  # the other file is of another network


@pytest.mark.usefixtures("asked")
def test_a_model_is_built_on_it_and_trains():
    model = MSGA(num_classes=3, encoder=TimmEncoder("last"), channels=4)
    assert model.in_channels == 1
    logits = model(drawn(2, 1, 40, 24))
    assert logits.shape == (2, 3, 40, 24)
    logits.square().mean().backward()
    assert model.encoder.network.project[1].weight.grad.abs().sum() > 0


@pytest.mark.usefixtures("asked")
def test_what_cannot_be_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"`name` must be a network of timm, got 'frist'. Close ones: first\."
    ):
        TimmEncoder("frist")
    with pytest.raises(
        ValueError, match=r"`name` must be a network of timm, got 'zzz'. timm.list_models\(\) lists them"
    ):
        TimmEncoder("zzz")
    with pytest.raises(
        ValueError, match=r"`name` must be a network of timm that returns its maps, got 'no_maps'"
    ):
        TimmEncoder("no_maps")
    with pytest.raises(CheckpointError, match="No pretrained weights exist"):
        TimmEncoder("no_weights", encoder_weights="pretrained")
    with pytest.raises(ValueError, match="`in_channels` must be above 0, got 0"):
        TimmEncoder("first", in_channels=0)
    with pytest.raises(FileNotFoundError, match=r"no file lies at .*absent\.pth"):
        TimmEncoder("first", encoder_weights=tmp_path / "absent.pth")


def test_a_last_batch_of_one_slice_trains_by_the_running_statistics():
    """A map of one position from one image has no variance; the map before it has one."""
    encoder, x = timm_encoder().train(), drawn(1, 2, 4, 4)
    first, last = encoder.network.layers
    nn.init.constant_(last[1].running_mean, 0.3)
    nn.init.constant_(last[1].running_var, 2.0)
    halved = nn.functional.batch_norm(first[0](x), None, None, first[1].weight, first[1].bias, training=True)
    expected = (last[0](halved) - 0.3) / (2.0 + last[1].eps) ** 0.5
    (map_,) = encoder(x)
    torch.testing.assert_close(map_, expected)
    map_.square().sum().backward()
    assert last[0].weight.grad.abs().max() > 0
    assert torch.equal(last[1].running_mean, torch.full((5,), 0.3))
    assert (first[1].num_batches_tracked, last[1].num_batches_tracked) == (1, 0)
    encoder(drawn(2, 2, 4, 4))
    assert (first[1].num_batches_tracked, last[1].num_batches_tracked) == (2, 1)
    assert all(module.training for module in encoder.modules())
    assert set(vars(last[1])) == set(vars(nn.BatchNorm2d(5)))


def test_an_image_that_the_network_cannot_take_is_named(monkeypatch):
    encoder = timm_encoder()
    with pytest.raises(
        ArgumentError, match=r"`x` must be an image of a size .*, got \(1, 2, 1, 1\): .*Kernel size"
    ):
        encoder(drawn(1, 2, 1, 1))

    def refuse(_):
        raise AssertionError("Input height (8) doesn't match model (224).")

    monkeypatch.setattr(encoder.network, "forward", refuse)
    with pytest.raises(ArgumentError, match=r"got \(1, 2, 8, 8\): Input height \(8\) doesn't match model"):
        encoder(drawn(1, 2, 8, 8))

    def run_out(_):
        raise torch.OutOfMemoryError("Tried to allocate 2 GiB, the size of a map.")

    monkeypatch.setattr(encoder.network, "forward", run_out)
    with pytest.raises(torch.OutOfMemoryError):
        encoder(drawn(1, 2, 8, 8))


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'guided-attention\[timm\]'"):
        TimmEncoder("resnet34d")


def test_a_torchvision_that_does_not_fit_is_named(monkeypatch):
    class Broken:
        def find_spec(self, name, *_):
            if name == "timm":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ImportError, match="torchvision::nms does not exist. Install a torchvision"):
        TimmEncoder("resnet34d")
