"""Folded networks: the same logits, no norm left where one can go, and the original as it was."""

import types
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tests.modules import drawn, opened
from torch import nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import weight_norm

from guided_attention import MSGA, models
from guided_attention.case import Case, affine_of
from guided_attention.inference import Predictor
from guided_attention.labels import LabelSpec
from guided_attention.models import fuse
from guided_attention.preparation import Preparation

pytestmark = pytest.mark.usefixtures("narrow_resnets")

ALL = ["daf", "ms_pam", "ms_cam", "ms_danet", "ms_dual", "ms_dual_guided", "ms_dist", "danet"]
SPACES = {2: (37, 53), 3: (5, 37, 23)}


def small(name, **arguments):
    channels = {} if name == "danet" else {"channels": 4}
    return getattr(models, name)(**({"encoder": "resnet18", **channels} | arguments))


def norms(module):
    kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
    return [name for name, part in module.named_modules() if isinstance(part, kinds)]


def distance(got, wanted):
    """Return the largest difference relative to the largest logit."""
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(
    ("name", "spatial_dims"),
    [*((name, 2) for name in ALL), ("ms_danet", 3), ("ms_dual_guided", 3), ("danet", 3)],
)
@torch.no_grad()
def test_every_network_gives_the_same_logits_without_a_norm(name, spatial_dims):
    """In double precision, where rounding hides nothing; the networks themselves round by 1e-5 in single precision."""
    model = opened(small(name, spatial_dims=spatial_dims)).eval()
    x = drawn(2, 1, *SPACES[spatial_dims], dtype=torch.float64)
    single = fuse(model)(x.float())
    wanted = model.double()(x)
    assert distance(fuse(model)(x), wanted) < 1e-12
    assert distance(single.double(), wanted) < 5e-5
    assert len(norms(model)) > 15
    assert norms(fuse(model)) == []


@torch.no_grad()
def test_bottlenecks_in_groups_are_folded_too():
    model = opened(MSGA(encoder="resnext50_32x4d", channels=4)).double()
    x = drawn(1, 1, 37, 53, dtype=torch.float64)
    fused = fuse(model)
    assert distance(fused(x), model.eval()(x)) < 1e-12
    assert norms(fused) == []


@pytest.mark.parametrize("training", [True, False])
def test_the_original_stays_as_it_was_and_shares_nothing(training):
    model = opened(small("ms_dual_guided")).train(training)
    model.encoder.bn1.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    kinds = [type(module) for module in model.modules()]
    fused = fuse(model)
    assert not any(module.training for module in fused.modules())
    with torch.no_grad():
        for tensor in (*fused.parameters(), *fused.buffers()):
            tensor.fill_(7.0)
    assert [module.training for module in model.modules()] == modes
    assert [type(module) for module in model.modules()] == kinds
    after = model.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[key], value) for key, value in state.items())


def test_a_part_that_scales_share_stays_one():
    fused = fuse(small("ms_dual_guided"))
    names = [name for name in fused.state_dict() if ".semantic." in name]
    assert (
        len(names) == 2 * (4 * 2 + 2) * 2
    )  # steps; two convolutions in four blocks, two transposed; weight and bias


@pytest.mark.parametrize("part", ["whole", "encoder"])
def test_training_mode_is_an_error_of_the_pass_and_can_be_left_again(part):
    fused, x = fuse(small("ms_pam")), drawn(2, 1, 37, 53)
    before = fused(x)
    (fused if part == "whole" else fused.encoder).train()
    message = (
        r"`model` must be in evaluation mode, as `fuse` made it, got training mode\. Train the network that"
    )
    with pytest.raises(ValueError, match=message):
        fused(x)
    assert torch.equal(fused.eval()(x), before)


def test_a_fused_network_predicts_the_same_labels():
    image = np.random.default_rng(3).normal(size=(1, 3, 37, 53)).astype(np.float32)
    case = Case("7", image, None, affine_of((5.5, 1.5, 1.25)))
    model = opened(small("daf"))
    labels = LabelSpec({value: f"organ {value}" for value in range(1, 5)})
    plain, folded = (
        Predictor(network, Preparation(slice_axis="axial"), labels).predict(case)
        for network in (model, fuse(model))
    )
    np.testing.assert_array_equal(folded.labels, plain.labels)
    np.testing.assert_allclose(folded.uncertainty, plain.uncertainty, atol=1e-4)


# One norm


class _WithReLU(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


class _Doubled(nn.Conv2d):
    def forward(self, x):
        return super().forward(2 * x)


def _equal(model, x):
    """Say whether the fused copy gives the same; return the names of the norms that are left."""
    model = opened(model).double().eval()
    fused = fuse(model)
    torch.testing.assert_close(fused(x), model(x), rtol=0, atol=1e-11)
    return norms(fused)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_kind_of_convolution_is_folded(axes, bias):
    x = drawn(2, 4, *(7, 11, 5)[:axes], dtype=torch.float64)
    norm = getattr(nn, f"BatchNorm{axes}d")
    conv, transposed = getattr(nn, f"Conv{axes}d"), getattr(nn, f"ConvTranspose{axes}d")
    made = conv(4, 6, 3, stride=2, dilation=2, groups=2, padding=3, padding_mode="replicate", bias=bias)
    assert _equal(nn.Sequential(made, norm(6)), x) == []
    assert _equal(nn.Sequential(transposed(4, 6, 3, stride=2, bias=bias), norm(6, affine=False)), x) == []


_shared = nn.ReLU()
_STAYS = {
    "before the convolution": nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3)),
    "behind an activation": nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.BatchNorm2d(6)),
    "behind an activation that stood there before": nn.Sequential(
        nn.Conv2d(4, 6, 3), _shared, nn.Conv2d(6, 6, 3), _shared, nn.BatchNorm2d(6)
    ),
    "of batches alone": nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)),
    "with an activation in it": nn.Sequential(nn.Conv2d(4, 6, 3), _WithReLU(6)),
    "behind a convolution of another kind": nn.Sequential(_Doubled(4, 6, 3), nn.BatchNorm2d(6)),
    "behind a spectral norm": nn.Sequential(spectral_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)),
    "behind a weight norm": nn.Sequential(weight_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)),
    "behind a transposed convolution in groups": nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)
    ),
}


@pytest.mark.parametrize("where", _STAYS)
def test_a_norm_that_cannot_be_folded_stays(where):
    assert len(_equal(_STAYS[where], drawn(2, 4, 7, 11, dtype=torch.float64))) == 1


def test_a_norm_stays_whose_neighbour_only_lies_beside_it_in_a_list():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)])

        def forward(self, x):
            return self.layers[0](self.layers[1](x))

    assert _equal(Backwards(), drawn(2, 4, 7, 11, dtype=torch.float64)) == ["layers.1"]


class _Block(nn.Module):
    """Two convolutions and a norm, registered side by side; `order` is what its forward pass makes of them."""

    def __init__(self, order):
        super().__init__()
        self.first, self.conv = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.order = order

    def forward(self, x):
        return self.order(self, x)


def _by_size(block, x):
    out = block.conv(x)
    return block.norm(out) if x.shape[2] > 5 else block.norm(x)


_ORDERS = {
    "in a row": (lambda block, x: block.norm(block.conv(block.first(x))).relu() + x, []),
    "on a sum, as in timm's RepVggDw": (
        lambda block, x: block.norm(block.first(x) + block.conv(x) + x),
        ["norm"],
    ),
    "before the convolution": (lambda block, x: block.conv(block.norm(x)), ["norm"]),
    "on another map": (lambda block, x: block.norm(block.first(x)) + block.conv(x), ["norm"]),
    "on a map that is used elsewhere": (
        lambda block, x: sum([(out := block.conv(x)), block.norm(out)]),
        ["norm"],
    ),
    "behind an activation": (lambda block, x: block.norm(block.conv(x).relu()), ["norm"]),
    "twice": (lambda block, x: block.norm(block.conv(block.norm(block.conv(x)))), []),
    "on another map the second time": (
        lambda block, x: block.norm(block.first(block.norm(block.conv(x)))),
        ["norm"],
    ),
    "on a map of twice": (lambda block, x: block.norm(block.conv(block.conv(x))), ["norm"]),
    "of a map that is returned": (
        lambda block, x: (block.norm(out := block.conv(x)), out)[0] + out,
        ["norm"],
    ),
    "beside a read weight": (
        lambda block, x: block.norm(block.conv(x)) + block.conv.weight.sum(),
        ["norm"],
    ),
    "beside a read mean": (
        lambda block, x: block.norm(block.conv(x)) + block.norm.running_mean.sum(),
        ["norm"],
    ),
    "beside the weight of another": (
        lambda block, x: block.norm(block.conv(x)) * block.first.weight.sum(),
        [],
    ),
    "where the size decides": (_by_size, ["norm"]),
}


@pytest.mark.parametrize("order", _ORDERS)
def test_a_norm_is_folded_where_it_takes_the_output_of_the_convolution_whatever_the_order_of_registration(
    order,
):
    forward, left = _ORDERS[order]
    assert _equal(_Block(forward), drawn(2, 4, 7, 11, dtype=torch.float64)) == left


def test_a_row_of_layers_with_a_forward_of_its_own_is_no_row():
    class Added(nn.Sequential):
        def forward(self, x):
            conv, norm = self
            return norm(conv(x) + x)

    assert _equal(
        Added(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)), drawn(2, 4, 7, 11, dtype=torch.float64)
    ) == ["1"]


def _before(block, x):
    return block.conv(block.norm(x))


def _with_forward(block):
    block.forward = types.MethodType(_before, block)


_PUT_IN = {
    "forward": _with_forward,
    "forward of the convolution": lambda block: setattr(block.conv, "forward", torch.tanh),
    "forward of the norm": lambda block: setattr(block.norm, "forward", torch.tanh),
    "hook of the convolution": lambda block: block.conv.register_forward_hook(
        lambda *given: given[-1].relu()
    ),
    "hook before the norm": lambda block: block.norm.register_forward_pre_hook(
        lambda _norm, given: given[0] ** 2
    ),
    "hook of the norm": lambda block: block.norm.register_forward_hook(lambda *given: given[-1].relu()),
}


@pytest.mark.parametrize("row", [True, False])
@pytest.mark.parametrize("what", _PUT_IN)
def test_a_norm_stays_where_something_was_put_into_the_pass(what, row):
    block = _Block(_ORDERS["in a row"][0])
    if row:  # whose parts have names here, too
        block = nn.Sequential(OrderedDict(first=block.first, conv=block.conv, norm=block.norm))
    _PUT_IN[what](block)
    assert _equal(block, drawn(2, 4, 7, 11, dtype=torch.float64)) == ["norm"]


class _Around(nn.Module):
    """A block and a row of layers in a module that uses their parts as `order` says."""

    def __init__(self, order):
        super().__init__()
        self.block = _Block(_ORDERS["in a row"][0])
        self.row = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.order = order

    def forward(self, x):
        return self.order(self.block, self.row, x)


def _then_fails(block, row, x):
    out = block(x) + row[0](x)
    return out if x.shape[2] > 5 else row(x)


_FROM_OUTSIDE = {
    "whole": (lambda block, row, x: row(block(x)), []),
    "the convolution of a block": (lambda block, row, x: row(block(x)) + block.conv(x), ["block.norm"]),
    "the norm of a block": (lambda block, row, x: row(block(x)) + block.norm(x), ["block.norm"]),
    "a weight of a block": (lambda block, row, x: row(block(x)) + block.conv.weight.sum(), ["block.norm"]),
    "the convolution of a row": (lambda block, row, x: block(row[0](x)), ["row.1"]),
    "a part of a row": (lambda block, row, x: block(row[:1](x)), ["row.1"]),
    "both one after the other": (
        lambda block, row, x: row(block.norm(block.conv(x))) + row[1](row[0](x)),
        [],
    ),
    "before the size decides": (_then_fails, ["row.1"]),
}


@pytest.mark.parametrize("what", _FROM_OUTSIDE)
def test_a_norm_stays_where_a_module_further_outside_uses_one_without_the_other(what):
    order, left = _FROM_OUTSIDE[what]
    assert _equal(_Around(order), drawn(2, 4, 7, 11, dtype=torch.float64)) == left


@pytest.mark.parametrize("given", [{}, {"flipped": True}])
@pytest.mark.parametrize("named", [True, False])
def test_a_norm_stays_where_another_argument_decides(named, given):
    class Turned(_Block):
        def forward(self, x, flipped=False):
            return _before(self, x) if flipped else self.order(self, x)

    class Open(_Block):
        def forward(self, x, **more):
            return _before(self, x) if more else self.order(self, x)

    model = opened((Turned if named else Open)(_ORDERS["in a row"][0])).eval()
    x = drawn(2, 4, 7, 11)
    torch.testing.assert_close(fuse(model)(x, **given), model(x, **given), rtol=0, atol=1e-5)
    assert norms(fuse(model)) == ["norm"]


def test_other_threads_predict_while_a_module_is_traced():
    other, image, found = small("daf").eval(), drawn(1, 1, 37, 53), []

    def with_a_guest(block, x):
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(other, image).result())
        return block.norm(block.conv(x))

    assert norms(fuse(_Block(with_a_guest))) == []
    assert len(found) == 1
    assert torch.equal(found[0], other(image))


def test_tracing_leaves_nothing_behind():
    def keeping(block, x):
        block.count.add_(1)
        block.maps.append(out := block.norm(block.conv(x)))
        block.kept = out
        return out

    block, hooked = _Block(keeping), []
    block.maps = []
    block.register_buffer("count", torch.tensor(0))
    block.first.register_forward_hook(lambda *given: hooked.append(given))
    fused = fuse(nn.ModuleList([block]))[0]
    assert norms(fused) == []
    assert (fused.maps, int(fused.count), hasattr(fused, "kept"), hooked) == ([], 0, False, [])
    assert (block.maps, int(block.count), hasattr(block, "kept")) == ([], 0, False)


def test_a_norm_of_another_width_stays():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.conv(self.norm(x))

    assert _equal(Beside(), drawn(2, 4, 7, 11, dtype=torch.float64)) == ["norm"]


def test_one_convolution_before_two_norms_is_folded_with_each():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), conv, nn.BatchNorm2d(4))
    assert _equal(model, drawn(2, 4, 7, 11, dtype=torch.float64)) == []


# Norms of timm


class BatchNormAct2d(nn.BatchNorm2d):
    """As timm's: a batch norm, then two modules."""

    __module__ = "timm.layers.norm_act"

    def __init__(self, num_features):
        super().__init__(num_features)
        self.drop, self.act = nn.Dropout(0.5), nn.SiLU(inplace=True)

    def forward(self, x):
        assert x.ndim == 4
        mean, variance = self.running_mean, self.running_var
        x = nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)
        return self.act(self.drop(x))


class SyncBatchNormAct(nn.SyncBatchNorm):
    """As timm's: what `BatchNormAct2d` becomes for several processes; only some have both modules."""

    __module__ = "timm.layers.norm_act"

    def forward(self, x):
        x = super().forward(x)
        return self.act(x) if hasattr(self, "act") else x


class FrozenBatchNormAct2d(BatchNormAct2d):
    __module__ = "timm.layers.norm_act"


class _ConvNormAct(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.conv, self.bn1 = nn.Conv2d(4, 6, 3, bias=False), norm

    def forward(self, x):
        return self.bn1(self.conv(x))


def _for_processes():
    norm = SyncBatchNormAct(6)
    norm.act = nn.Sigmoid()
    return norm


@pytest.mark.parametrize(
    ("norm", "left"),
    [
        (lambda: BatchNormAct2d(6), []),
        (_for_processes, []),
        (lambda: SyncBatchNormAct(6), []),
        (lambda: FrozenBatchNormAct2d(6), ["bn1"]),
        (lambda: type("BatchNormAct2d", (_WithReLU,), {"__module__": "others"})(6), ["bn1"]),
    ],
)
def test_a_norm_of_timm_is_folded_and_its_activation_stays(norm, left):
    assert _equal(_ConvNormAct(norm()), drawn(2, 4, 7, 11, dtype=torch.float64)) == left
