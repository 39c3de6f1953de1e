"""ResNet encoders: written out by torchvision's names, weights from a file and from a (local) server."""

import hashlib
import os
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import networks as twin

from guided_attention.encoders import Encoder, resnet, resnet_encoder
from guided_attention.errors import CheckpointError

# Parameters of torchvision's networks (its documentation), less the classifier of 1,000 classes.
_PUBLISHED = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "resnext50_32x4d": 25_028_904 - 2_049_000,
    "resnext101_32x8d": 88_791_336 - 2_049_000,
}


@pytest.mark.parametrize(("name", "groups"), [("resnet18", 1), ("resnet50", 1), ("resnext50_32x4d", 32)])
def test_equals_the_layers_written_out(name, groups):
    encoder = opened(resnet_encoder(name, in_channels=2)).eval().double()
    x = drawn(1, 2, 37, 29, dtype=torch.float64)
    torch.testing.assert_close(encoder(x), twin.resnet(x, encoder.state_dict(), groups=groups))


@pytest.mark.parametrize(("name", "published"), _PUBLISHED.items())
def test_has_the_published_number_of_parameters(name, published):
    assert sum(p.numel() for p in resnet_encoder(name, in_channels=3).parameters()) == published


def test_the_trunk_of_the_paper_has_its_number_of_parameters():
    encoder = resnet_encoder("resnext101_32x4d")
    assert sum(p.numel() for p in encoder.parameters()) == 42_122_432


@pytest.mark.parametrize("space", [(1, 1), (33, 31), (64, 5), (3, 17, 9)])
def test_each_map_is_the_input_divided_by_its_stride_rounded_up(space):
    encoder = resnet_encoder("resnet18", spatial_dims=len(space))
    assert isinstance(encoder, Encoder)
    for map_, channels, stride in zip(
        encoder(drawn(1, 1, *space)), encoder.out_channels, encoder.strides, strict=True
    ):
        assert map_.shape == (1, channels, *(-(-side // stride) for side in space))


@pytest.fixture
def torchvision_file(tmp_path):
    """A state dict as torchvision publishes them: three channels, a classifier."""
    state = opened(resnet_encoder("resnet18", in_channels=3)).state_dict()
    state |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    path = tmp_path / "resnet18.pth"
    torch.save(state, path)
    return path


def test_a_file_loads_unchanged_into_three_channels(torchvision_file):
    expected = torch.load(torchvision_file, weights_only=True)
    loaded = resnet_encoder("resnet18", in_channels=3, encoder_weights=torchvision_file).state_dict()
    assert set(expected) - set(loaded) == {"fc.weight", "fc.bias"}
    for name, value in loaded.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("name", twin.PUBLISHED)
def test_every_published_file_loads_unchanged(name, tmp_path):
    # Each entry has a number of its own, stored once: the files stay small.
    state = {
        key: torch.tensor(i, dtype=torch.int64 if key.endswith("tracked") else torch.float32).expand(shape)
        for i, (key, shape) in enumerate(twin.torchvision_shapes(name).items(), start=1)
    }
    torch.save(state, tmp_path / "weights.pth")
    loaded = resnet_encoder(name, in_channels=3, encoder_weights=tmp_path / "weights.pth").state_dict()
    assert set(state) - set(loaded) == {"fc.weight", "fc.bias"}
    for key, value in loaded.items():
        assert torch.equal(value, state[key].to(value.dtype)), key


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda state: state.pop("layer3.1.bn2.weight"), r"Missing key\(s\).*layer3\.1\.bn2\.weight"),
        (lambda state: state.pop("conv1.weight"), r"Missing key\(s\).*\"conv1\.weight"),
        (lambda state: state.update(extra=torch.zeros(3)), r"Unexpected key\(s\).*extra"),
        (lambda state: state.update({"fcn.bias": torch.zeros(3)}), r"Unexpected key\(s\).*fcn\.bias"),
        (lambda state: state.update({"bn1.bias": torch.zeros(3)}), r"size mismatch for bn1\.bias"),
    ],
)
def test_entries_that_are_missing_left_over_or_misshapen_are_refused(
    change, complaint, torchvision_file, tmp_path
):
    state = torch.load(torchvision_file, weights_only=True)
    change(state)
    torch.save(state, tmp_path / "changed.pth")
    with pytest.raises(CheckpointError, match=f"(?s){complaint}"):
        resnet_encoder("resnet18", encoder_weights=tmp_path / "changed.pth")


def test_a_file_without_a_classifier_loads(torchvision_file, tmp_path):
    state = torch.load(torchvision_file, weights_only=True)
    headless = {key: value for key, value in state.items() if not key.startswith("fc.")}
    torch.save(headless, tmp_path / "headless.pth")
    loaded = resnet_encoder("resnet18", in_channels=3, encoder_weights=tmp_path / "headless.pth").state_dict()
    assert all(torch.equal(value, headless[key]) for key, value in loaded.items())


def test_a_grey_image_gets_what_three_equal_channels_would(torchvision_file):
    grey = drawn(1, 1, 37, 29)
    one = resnet_encoder("resnet18", in_channels=1, encoder_weights=torchvision_file).eval()
    three = resnet_encoder("resnet18", in_channels=3, encoder_weights=torchvision_file).eval()
    torch.testing.assert_close(one(grey), three(grey.expand(1, 3, 37, 29)), atol=1e-3, rtol=1e-3)


def test_five_channels_take_the_kernels_in_turn_scaled_to_the_same_sum(torchvision_file):
    stem = torch.load(torchvision_file, weights_only=True)["conv1.weight"]
    five = resnet_encoder("resnet18", in_channels=5, encoder_weights=torchvision_file).conv1.weight
    expected = torch.stack([stem[:, i] * 3 / 5 for i in (0, 1, 2, 0, 1)], dim=1)
    torch.testing.assert_close(five.detach(), expected)


def test_imagenet_weights_are_downloaded_once_and_their_hash_is_checked(
    torchvision_file, tmp_path, monkeypatch
):
    digest = hashlib.sha256(torchvision_file.read_bytes()).hexdigest()[:8]
    served = tmp_path / "served"
    served.mkdir()
    good, bad = f"resnet18-{digest}.pth", "resnet18-00000000.pth"
    for name in (good, bad):
        (served / name).write_bytes(torchvision_file.read_bytes())
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(served))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(resnet, "_IMAGENET_ROOT", f"http://127.0.0.1:{server.server_port}/")
        _publish(monkeypatch, good)
        encoder = resnet_encoder("resnet18", in_channels=3, encoder_weights="imagenet")
        _publish(monkeypatch, bad)
        with pytest.raises(CheckpointError, match="invalid hash value"):
            resnet_encoder("resnet18", encoder_weights="imagenet")
        server.shutdown()
    assert torch.equal(encoder.conv1.weight, torch.load(torchvision_file, weights_only=True)["conv1.weight"])
    _publish(monkeypatch, good)
    resnet_encoder("resnet18", encoder_weights="imagenet")  # the server is gone: this reads the cache
    cached = tmp_path / "hub" / "checkpoints" / good
    content = bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 1
    cached.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"got {cached}, which was changed since. Delete that file"):
        resnet_encoder("resnet18", encoder_weights="imagenet")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def _publish(monkeypatch, file_name):
    layout = replace(resnet._LAYOUTS["resnet18"], imagenet=file_name)
    monkeypatch.setitem(resnet._LAYOUTS, "resnet18", layout)


def test_a_network_without_published_weights_says_which_have_them():
    with pytest.raises(
        ValueError, match=r"publishes none for resnext101_32x4d; take one of resnet18, .*32x8d"
    ):
        resnet_encoder("resnext101_32x4d", encoder_weights="imagenet")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file lies at .*absent.pth"):
        resnet_encoder("resnet18", encoder_weights=tmp_path / "absent.pth")


def test_a_state_dict_of_another_network_is_refused(torchvision_file):
    with pytest.raises(CheckpointError, match=r"(?s)Missing key.*layer1.2.conv1.weight"):
        resnet_encoder("resnet34", encoder_weights=torchvision_file)


def test_weights_for_volumes_are_refused(torchvision_file):
    with pytest.raises(ValueError, match="`spatial_dims` must be 2 where weights are given, got 3"):
        resnet_encoder("resnet18", encoder_weights=torchvision_file, spatial_dims=3)


@pytest.mark.usefixtures("without_shape_checks")
def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="`name` must be one of 'resnet18', .*'resnext101_32x8d', got 'resnet19'"
    ):
        resnet_encoder("resnet19")


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_encoders_equal_the_network_written_out(name, output_stride):
    encoder = opened(resnet_encoder(name, output_stride=output_stride)).eval().double()
    x = drawn(1, 1, 65, 41, dtype=torch.float64)
    groups = 32 if "next" in name else 1
    expected = twin.resnet(x, encoder.state_dict(), groups=groups, output_stride=output_stride)
    torch.testing.assert_close(encoder(x), expected)
    assert encoder.strides == tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
    assert [m.shape[2] for m in expected] == [-(-65 // stride) for stride in encoder.strides]


@pytest.mark.usefixtures("without_shape_checks")
def test_dilation_changes_no_parameter_and_no_other_output_stride_is_known():
    plain, dilated = (
        resnet_encoder("resnet18").state_dict(),
        resnet_encoder("resnet18", output_stride=8).state_dict(),
    )
    assert {key: value.shape for key, value in plain.items()} == {k: v.shape for k, v in dilated.items()}
    with pytest.raises(ValueError, match="`output_stride` must be one of 8, 16, 32, got 4"):
        resnet_encoder("resnet18", output_stride=4)


def test_dilated_encoders_take_volumes_too():
    encoder = resnet_encoder("resnet18", spatial_dims=3, output_stride=8)
    assert [tuple(m.shape[2:]) for m in encoder(drawn(1, 1, 9, 33, 17))][-1] == (2, 5, 3)


def test_training_on_shallow_volumes_leaves_memory_whole():
    """With padding inside the first convolution, torch's CPU kernel writes outside its memory at 5 slices."""
    code = """
import torch
from guided_attention.encoders import resnet_encoder
encoder = resnet_encoder("resnet18", spatial_dims=3)
for depth in 2 * [1, 2, 3, 5, 6]:
    sum(map_.sum() for map_ in encoder(torch.randn(2, 1, depth, 37, 23))).backward()
"""
    env = {**os.environ, "MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_padding_of_a_volume_is_that_of_the_convolution():
    encoder = resnet_encoder("resnet18", spatial_dims=3, in_channels=2)
    x = drawn(1, 2, 5, 17, 13)
    expected = torch.nn.functional.conv3d(x, encoder.conv1.weight, stride=2, padding=3)
    torch.testing.assert_close(encoder.conv1(encoder.pad(x)), expected)
