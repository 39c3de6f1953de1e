"""Checkpoints of the original code: its own computation written out, there and back, errors."""

import gzip
import json
import warnings
from pathlib import Path

import pytest
import torch
from tests.modules import drawn
from tests.reference.original import Original

from guided_attention import MSGA
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.models import export_original, load_original

LAYOUT = Path(__file__).parent / "original_state_dict.json.gz"


@pytest.fixture(scope="module")
def state():
    """A random state dict with the original's 1,372 names and shapes; layers keep the size of what they are given."""
    shapes = json.loads(gzip.decompress(LAYOUT.read_bytes()))
    generator = torch.Generator().manual_seed(0)
    return {name: _entry(name, shape, generator) for name, shape in shapes.items()}


def _entry(name, shape, generator):
    if name.endswith("num_batches_tracked"):
        return torch.tensor(17)
    noise = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return 1.0 + 0.5 * torch.rand(shape, generator=generator)
    if name.endswith("gamma"):
        return 0.7 + 0.1 * noise
    if len(shape) == 4:
        # Logits of the order of one: what is held to 1e-4 is of the size that a trained network gives.
        return noise * ((0.5 if name.startswith("predict") else 2.0) / noise[0].numel()) ** 0.5
    if name.endswith(
        "weight"
    ):  # of batch norms and PReLUs; the last of a residual block is small, as after training
        return (0.2 if ".bn3." in name else 0.25 if shape == [1] else 1.0) * (1.0 + 0.1 * noise)
    return 0.1 * noise


@pytest.fixture(scope="module")
def model(state):
    with pytest.warns(
        UserWarning, match="955,412 parameters of layers that the original never uses were omitted"
    ):
        return load_original(state)


def used(state):
    return {
        name: value
        for name, value in state.items()
        if not name.startswith(("conv6_", "conv7_", "attention", "refine"))
    }


@pytest.mark.parametrize("space", [(64, 64), (128, 96)])
def test_the_logits_are_the_originals(state, model, space):
    image = drawn(1, 1, *space)
    with torch.no_grad():
        expected, sides, _, _ = Original(state, training=False).run(image)
        output = model.eval().outputs(image)
    torch.testing.assert_close(output.logits, expected, atol=1e-4, rtol=1e-4)
    for ours, side in zip([*output.raw_logits, *output.attended_logits], sides, strict=True):
        torch.testing.assert_close(ours, side, atol=1e-4 * float(side.abs().max()), rtol=0)
    assert expected.std() > 0.05  # not a constant that anything would equal


def test_in_double_precision_there_is_no_difference_left(state, model):
    image = drawn(1, 1, 64, 64, dtype=torch.float64)
    doubled = {name: value.double() for name, value in used(state).items()}
    with torch.no_grad():
        expected = Original(doubled, training=False).run(image)[0]
        try:
            torch.testing.assert_close(model.double().eval()(image), expected, atol=1e-10, rtol=1e-10)
        finally:
            model.float()  # the same numbers as before: they came from single precision


@pytest.mark.parametrize(("batch", "space"), [(2, (64, 64)), (2, (96, 64)), (1, (128, 96))])
def test_the_parts_of_the_loss_are_the_originals(state, model, batch, space):
    image = drawn(batch, 1, *space)
    target = torch.randint(5, (batch, *space), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = Original(state, training=True).loss_parts(image, target)
        before = {name: value.clone() for name, value in model.named_buffers()}
        terms = GuidedAttentionLoss()(model.train().outputs(image), target)
    for name, value in model.named_buffers():
        value.copy_(before[name])
    model.eval()
    torch.testing.assert_close(dict(terms.parts), expected, atol=1e-4, rtol=1e-4)
    total = expected["segmentation"] + 0.25 * expected["guidance"] + 0.1 * expected["reconstruction"]
    torch.testing.assert_close(terms.total, total, atol=1e-4, rtol=1e-4)
    assert all(value > 0.01 for value in expected.values())


def test_every_gate_of_the_original_is_heard(state):
    image = drawn(1, 1, 64, 64)
    with torch.no_grad():
        logits = Original(state, training=False).run(image)[0]
        for prefix in ("pam", "cam"):
            shut = {n: v * 0 if n.startswith(prefix) and n.endswith("gamma") else v for n, v in state.items()}
            assert (Original(shut, training=False).run(image)[0] - logits).abs().max() > 1e-2


def test_the_network_has_the_parameters_that_the_original_uses(model):
    assert sum(parameter.numel() for parameter in model.parameters()) == 103_556_063


def test_exported_and_read_again_every_tensor_is_the_same(state, model):
    exported = export_original(model)
    assert exported.keys() == used(state).keys()
    assert all(torch.equal(exported[name], state[name]) for name in exported)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing unused is in it, so there is nothing to warn of
        again = load_original(exported).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_a_file_with_names_of_data_parallel_training_is_read(state, tmp_path, key):
    # One number an entry, spread over its shape: the file is small.
    flat = {
        name: torch.tensor(float(number), dtype=value.dtype).expand(value.shape)
        for number, (name, value) in enumerate(state.items())
    }
    named = {f"module.{name}": value for name, value in flat.items()}
    torch.save({key: named, "epoch": 3} if key else named, tmp_path / "original.pth")
    with pytest.warns(UserWarning, match=r"attention1, .*, conv6_1, .*, conv7_4, refine1, .*refine4\."):
        loaded = load_original(tmp_path / "original.pth")
    assert all(torch.equal(value, flat[name]) for name, value in export_original(loaded).items())
    assert not loaded.training
    assert all(parameter.requires_grad and parameter.is_contiguous() for parameter in loaded.parameters())


def test_classes_and_channels_of_the_image_are_read_from_the_shapes(state):
    other = used(state)
    other["resnext.layer0.0.weight"] = torch.randn(64, 3, 7, 7)
    for name in [name for name in other if name.startswith("predict")]:
        other[name] = torch.randn(2, *other[name].shape[1:])
    loaded = load_original(other)
    assert loaded.num_classes == 2
    assert loaded.in_channels == 3
    assert all(torch.equal(value, other[name]) for name, value in export_original(loaded).items())


def test_the_network_does_not_share_tensors_with_the_checkpoint(state, model):
    ours = {value.data_ptr() for value in model.state_dict().values()}
    assert ours.isdisjoint(value.data_ptr() for value in state.values())


def test_entries_that_are_missing_unknown_or_misshapen_are_named(state):
    broken = used(state)
    del broken["conv8_13.bias"]
    broken["conv9_1.weight"] = torch.zeros(1)
    broken["down2.0.weight"] = torch.zeros(64, 511, 1, 1)
    message = (
        r"1 missing: conv8_13\.bias; 1 unknown: conv9_1\.weight; "
        r"1 of another shape: down2\.0\.weight \(64, 511, 1, 1\) for \(64, 512, 1, 1\)"
    )
    with pytest.raises(ValueError, match=message):
        load_original(broken)
    with pytest.raises(
        ValueError, match=r"`source` must be a state dict of the original with an entry predict1"
    ):
        load_original({"fc.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    "name", ["refine9.0.weight", "attention_1.weight", "conv6_12.weight", "conv6.weight"]
)
def test_only_the_layers_known_to_be_unused_are_left_out(state, name):
    with pytest.raises(ValueError, match=f"1 unknown: {name}"):
        load_original({**used(state), name: torch.zeros(1)})


@pytest.mark.parametrize("name", ["predict1.weight", "resnext.layer0.0.weight"])
def test_numbers_are_read_from_weights_of_convolutions_alone(state, name):
    with pytest.raises(ValueError, match=f"`source` must be a state dict with four axes in {name}, got "):
        load_original({**used(state), name: torch.zeros(64)})


def test_an_entry_with_and_without_the_prefix_is_named(state):
    with pytest.raises(ValueError, match=r"got with and without module\. predict2\.bias\."):
        load_original({**used(state), "module.predict2.bias": torch.zeros(5)})


def test_files_that_are_no_state_dict_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="`source` must be a checkpoint, got .*missing.pth"):
        load_original(tmp_path / "missing.pth")
    (tmp_path / "damaged.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="`source` must be a state dict of plain tensors, got .*damaged.pth"):
        load_original(str(tmp_path / "damaged.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="`source` must be a state dict: names and tensors"):
        load_original(tmp_path / "list.pth")
    torch.save({"predict1.weight": 3, 7: torch.zeros(1)}, tmp_path / "mixed.pth")
    with pytest.raises(ValueError, match=r"names and tensors, got something else in predict1\.weight, 7\."):
        load_original(tmp_path / "mixed.pth")


@pytest.mark.parametrize(
    "changes",
    [
        {"shared_guide": True},
        {"encoder": "resnext101_32x4d"},
        {"steps": 3},
        {"deeply_supervised": False},
        {"channels": 32},
        {"spatial_dims": 3},
        {"energy": "paper"},
        {"shared_guide": True, "encoder": "resnext101_32x4d"},
    ],
)
def test_networks_of_another_layout_are_not_exported(changes):
    arguments = {"encoder": "resnext101_32x8d", "shared_guide": False} | changes
    with torch.device("meta"):
        other = MSGA(**arguments)
    with pytest.raises(ValueError, match="`model` must be the layout of the original"):
        export_original(other)


def test_a_network_that_was_changed_in_what_its_weights_do_not_show_is_not_exported():
    with torch.device("meta"):
        other = MSGA(encoder="resnext101_32x8d", shared_guide=False)
    other.encoder.conv1.stride = (1, 1)
    with pytest.raises(ValueError, match=r"got a network that differs from it in encoder\.conv1\.stride"):
        export_original(other)


def test_what_is_exported_shares_no_tensor_with_the_network(model):
    ours = {value.data_ptr() for value in model.state_dict().values()}
    assert ours.isdisjoint(value.data_ptr() for value in export_original(model).values())
