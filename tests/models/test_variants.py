"""The paper's networks: counted to the digit, written out, trained for a step in 2-D and 3-D."""

import inspect

import pytest
import torch
from tests.modules import drawn, opened
from tests.reference import attention as twin
from tests.reference import networks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from guided_attention import MSGA, models
from guided_attention.losses import GuidedAttentionLoss

pytestmark = pytest.mark.usefixtures("narrow_resnets")

VARIANTS = ["daf", "ms_pam", "ms_cam", "ms_danet", "ms_dual", "ms_dual_guided", "ms_dist"]
ALL = [*VARIANTS, "danet"]


def build(name, **arguments):
    return getattr(models, name)(**arguments)


def small(name, **arguments):
    channels = {} if name == "danet" else {"channels": 4}
    return build(name, **({"encoder": "resnet18", **channels} | arguments))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "number"),
    [
        ("daf", {}, 43_482_179),
        ("ms_pam", {}, 43_486_343),
        ("ms_cam", {}, 43_465_543),  # printed 43,485,543
        ("ms_danet", {}, 43_980_179),
        ("ms_dual", {"steps": 1}, 43_485_831),
        ("ms_dual", {}, 44_411_103),
        ("ms_dual", {"steps": 3}, 45_337_675),
        ("ms_dual", {"steps": 5}, 47_190_819),
        ("ms_dist", {"steps": 1}, 43_485_831),
        ("ms_dist", {}, 44_411_103),
        ("ms_dist", {"steps": 3}, 45_337_675),
        ("ms_dist", {"steps": 5}, 47_190_819),
        ("ms_dual_guided", {"steps": 1}, 50_530_119),  # printed 50,531,399
        ("ms_dual_guided", {}, 58_499_679),
        ("ms_dual_guided", {"steps": 3}, 66_470_539),
        ("ms_dual_guided", {"steps": 5}, 82_412_259),
        ("ms_dual_guided", {"steps": 1, "deeply_supervised": False}, 50_530_119 - 1_300),
        ("ms_dual_guided", {"deeply_supervised": False}, 58_498_379),
        ("ms_dual_guided", {"steps": 3, "deeply_supervised": False}, 66_467_939),
        ("ms_dual_guided", {"steps": 5, "deeply_supervised": False}, 82_407_059),
        ("danet", {}, 68_475_961 - 2_049_000),  # the printed number has a classifier of 1,000 classes in it
    ],
)
def test_the_networks_have_the_published_number_of_parameters(name, arguments, number):
    with torch.device("meta"):
        assert count(build(name, **arguments)) == number


def test_the_layout_of_the_original_has_its_number_of_parameters_in_use():
    with torch.device("meta"):
        model = MSGA(encoder="resnext101_32x8d", shared_guide=False)
    assert count(model) == 104_511_475 - 955_412 == 103_556_063


@pytest.mark.parametrize("name", ALL)
def test_the_defaults_are_the_papers(name):
    parameters = inspect.signature(getattr(models, name)).parameters
    defaults = {key: value.default for key, value in parameters.items()}
    assert defaults["in_channels"] == 1
    assert defaults["num_classes"] == 5
    assert defaults["encoder"] == ("resnet101" if name == "danet" else "resnext101_32x4d")
    assert defaults["spatial_dims"] == 2


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("space", "in_channels", "num_classes"),
    [((37, 53), 1, 2), ((23, 41), 4, 9), ((5, 37, 23), 1, 9), ((3, 19, 31), 4, 2)],
)
def test_one_training_step_reaches_every_parameter_at_any_size(name, space, in_channels, num_classes):
    model = small(name, in_channels=in_channels, num_classes=num_classes, spatial_dims=len(space)).train()
    target = torch.randint(num_classes, (2, *space), generator=torch.Generator().manual_seed(0))
    output = model.outputs(drawn(2, in_channels, *space))
    assert output.logits.shape == (2, num_classes, *space)
    GuidedAttentionLoss()(output, target).total.backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", ["ms_dual", "ms_dual_guided", "ms_dist"])
def test_other_numbers_of_steps_reach_every_parameter(name, steps):
    model = small(name, steps=steps).train()
    target = torch.zeros(2, 37, 29, dtype=torch.long)
    GuidedAttentionLoss()(model.outputs(drawn(2, 1, 37, 29)), target).total.backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def test_without_deep_supervision_every_parameter_is_reached_too():
    model = small("ms_dual_guided", steps=3, deeply_supervised=False).train()
    target = torch.zeros(2, 37, 29, dtype=torch.long)
    GuidedAttentionLoss()(model.outputs(drawn(2, 1, 37, 29)), target).total.backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ["daf", "ms_pam", "ms_cam", "ms_danet"])
def test_gated_networks_equal_the_gates_written_out(name):
    model = opened(small(name, channels=3)).eval().double()
    x = drawn(2, 1, 37, 61, dtype=torch.float64)
    state = model.state_dict()
    maps, fused = networks.fusion(
        networks.resnet(networks.filled_up(x, 32), networks.sub(state, "encoder")),
        networks.sub(state, "fusion"),
    )
    predictions = []
    for s, map_ in enumerate(maps):
        gate_of = getattr(networks, f"gate_{name}")
        gate = gate_of(torch.cat([map_, fused], dim=1), networks.sub(state, f"attention.gates.{s}"))
        refined = torch.cat([map_, gate * fused], dim=1)
        for layer in range(3):
            refined = twin.conv_norm_prelu(refined, state, f"attention.refine.{s}.{layer}")
        logits = twin.conv(refined, state, f"attended_heads.0.{s}")
        predictions.append(networks.cut(networks.resized(logits, (64, 64)), x))
    output = model.outputs(x)
    torch.testing.assert_close(list(output.attended_logits), predictions)
    torch.testing.assert_close(output.logits, sum(predictions) / 4)
    assert len(output.raw_logits) == 4


def test_dist_compares_input_and_output_of_every_attention():
    model = opened(small("ms_dist", steps=2)).eval().double()
    x = drawn(2, 1, 37, 53, dtype=torch.float64)
    output = model.outputs(x)
    assert output.codes == ()
    assert len(output.reconstructions) == 2 * 4 * 2  # steps, scales, position and channel attention
    state = networks.sub(model.state_dict(), "attention")
    with torch.no_grad():
        maps, fused = model.fusion(model.encoder(networks.filled_up(x, 32)))
    _, _, expected = twin.guided(maps, fused, state, steps=2, guidance="distance")
    torch.testing.assert_close(list(output.reconstructions), expected)
    dual = small("ms_dual", steps=2).eval().double()
    dual.load_state_dict(model.state_dict())
    assert torch.equal(dual(x), model(x))
    assert dual.outputs(x).reconstructions == ()


def test_ms_dual_guided_is_msga():
    network, other = (
        small("ms_dual_guided", num_classes=3).eval(),
        MSGA(num_classes=3, encoder="resnet18", channels=4),
    )
    other.load_state_dict(network.state_dict())
    x = drawn(1, 1, 37, 53)
    assert torch.equal(network(x), other.eval()(x))


def test_guides_of_their_own_differ_from_scale_to_scale():
    model = opened(MSGA(encoder="resnet18", channels=3, shared_guide=False)).eval().double()
    x = drawn(2, 1, 37, 61, dtype=torch.float64)
    assert {key for key in model.state_dict() if ".guide." in key and key.endswith("weight")} == {
        f"attention.steps.{i}.guide.{s}.weight" for i in range(2) for s in range(4)
    }
    logits, _, _ = networks.msga(x, model.state_dict(), steps=2)
    torch.testing.assert_close(model(x), logits)


def test_the_dropout_of_ms_danet_drops_whole_channels_in_training_alone():
    gate = small("ms_danet", channels=32).attention.gates[0]
    dropout = gate.position[1]
    assert dropout.p == gate.channel[1].p == 0.1
    x = torch.ones(4, 32, 5, 7)
    kept = dropout.train()(x).flatten(2)
    assert (kept == kept[..., :1]).all()
    assert 0 < (kept == 0).float().mean() < 0.5
    assert torch.equal(dropout.eval()(x), x)


# What a prediction computes


class _Reads(TorchFunctionMode):
    """Notes which tensors torch's functions make and which they read."""

    def __init__(self):
        super().__init__()
        self.made, self.read = [], {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.made += [(func.__name__, tensor) for tensor in made]
        # Asking for a shape reads nothing. The tensors themselves are kept: a number is given anew once one is gone.
        if made:
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            self.read |= {id(tensor): tensor for tensor in given}
        return out


def predicted(name):
    has_steps = "steps" in inspect.signature(getattr(models, name)).parameters
    return small(name, **({"steps": 3} if has_steps else {}))


@pytest.mark.parametrize("name", ALL)
def test_a_prediction_computes_nothing_that_nothing_reads(name, monkeypatch):
    # `attend` may keep sums for a gradient that nothing reads here.
    monkeypatch.setattr(
        "guided_attention.attention.position.weighted_average",
        lambda q, k, v: torch.softmax(q @ k.mT, dim=-1) @ v,
    )
    model, x = predicted(name).eval(), drawn(1, 1, 33, 37)
    with torch.inference_mode(), _Reads() as reads:
        logits = model(x)
    assert len(reads.made) > 100
    assert [function for function, tensor in reads.made if id(tensor) not in reads.read] == ["__getitem__"]
    assert reads.made[-1][1] is logits


def side_heads(model):
    if isinstance(model, models.DualAttentionNetwork):
        return model.position_head, model.channel_head
    return model.raw_heads, *model.attended_heads[:-1]


@pytest.mark.parametrize("name", ALL)
def test_a_prediction_calls_every_layer_but_the_side_heads_and_each_moves_the_logits(name):
    model = opened(predicted(name)).eval()
    layers = {layer: key for key, layer in model.named_modules() if list(layer.parameters(recurse=False))}
    calls = []

    def scaled(layer, _arguments, output):
        # Not shifted: a constant added to all keys changes no attention.
        calls.append((layer, torch.ones((), requires_grad=True)))
        return output * calls[-1][1]

    for layer in layers:
        layer.register_forward_hook(scaled)
    logits = model(drawn(1, 1, 33, 37))
    slopes = torch.autograd.grad(logits.square().sum(), [factor for _, factor in calls], allow_unused=True)
    assert [layers[layer] for (layer, _), slope in zip(calls, slopes, strict=True) if not slope] == []
    sides = {layer for heads in side_heads(model) for layer in heads.modules()}
    assert {layers[layer] for layer, _ in calls} == {
        key for layer, key in layers.items() if layer not in sides
    }
