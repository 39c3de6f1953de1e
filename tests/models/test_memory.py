"""What training and prediction hold in memory: checkpointing computes maps anew, prediction lets go of them."""

import weakref
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from guided_attention import CAM, MSGA, PAM, MultiScaleFusion, SegmentationModel, _layers
from guided_attention._layers import conv_norm_prelu
from guided_attention.attention import (
    AttendedFeatures,
    MultiScaleGuidedAttention,
    PooledAttention,
    SemanticAutoencoder,
)
from guided_attention.encoders import resnet_encoder
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.models import daf, ms_dist, ms_dual, msga_lite
from guided_attention.training import ModelWithLoss

pytestmark = pytest.mark.usefixtures("narrow_resnets")


class Plain(nn.Module):
    """Attends to nothing, and records what it is asked for."""

    channels, num_scales, num_steps = 8, 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bool] = []

    def forward(
        self, maps: Sequence[Tensor], fused: Tensor, *, attended_only: bool = False
    ) -> AttendedFeatures:
        self.asked.append(attended_only)
        return AttendedFeatures(attended=(tuple(map_ + fused for map_ in maps),))


def opened(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, PAM | CAM):
            nn.init.constant_(module.gate, 0.7)
    return model.double()


def after_a_step(model: nn.Module, precision: torch.dtype | None = None) -> dict[str, Tensor]:
    """Return the loss, the gradients and the buffers (running statistics) after one forward and backward pass."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(2, 1, 43, 37, generator=generator, dtype=next(model.parameters()).dtype)
    target = torch.randint(3, (2, 43, 37), generator=generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None):
        loss = ModelWithLoss(model, GuidedAttentionLoss())(image, target).total
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients
    return {"loss": loss.detach(), **gradients, **dict(model.named_buffers())}


@pytest.mark.parametrize(
    ("builder", "encoder"),
    [
        (MSGA, "resnet18"),
        (MSGA, "resnet50"),
        (ms_dual, "resnet18"),
        (ms_dist, "resnet18"),
        (msga_lite, "resnet18"),
    ],
)
def test_checkpointing_changes_no_number(builder, encoder):
    torch.manual_seed(0)
    plain = opened(builder(1, 3, encoder=encoder, channels=8)).train()
    sparing = deepcopy(plain)
    sparing.set_grad_checkpointing()
    torch.testing.assert_close(after_a_step(sparing), after_a_step(plain), rtol=0, atol=0)


def test_checkpointing_changes_no_number_under_autocast_and_in_evaluation_mode():
    torch.manual_seed(0)
    for mode in (True, False):
        plain = opened(MSGA(1, 3, encoder="resnet18", channels=8)).float().train(mode)
        sparing = deepcopy(plain)
        sparing.set_grad_checkpointing()
        expected = after_a_step(plain, torch.bfloat16)
        torch.testing.assert_close(after_a_step(sparing, torch.bfloat16), expected, rtol=0, atol=0)


def test_checkpointing_computes_blocks_and_steps_twice_and_holds_less():
    held, calls = {}, {}
    for sparing in (False, True):
        model = opened(MSGA(1, 3, encoder="resnet18", channels=8)).train()
        model.set_grad_checkpointing(sparing)
        seen: Counter[type] = Counter()
        for module in model.modules():
            module.register_forward_hook(lambda module, _, __, seen=seen: seen.update([type(module)]))
        sizes: list[int] = []

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model.outputs(torch.randn(2, 1, 43, 37).double()).logits.sum()
        held[sparing] = sum(sizes)
        loss.backward()
        calls[sparing] = (seen[SemanticAutoencoder], seen[PAM])
    assert calls == {False: (8, 8), True: (16, 16)}
    assert held[True] < 0.6 * held[False]


def test_checkpointing_is_switched_off_again_and_has_no_part_in_prediction():
    model = MSGA(1, 3, encoder="resnet18", channels=8).eval()
    model.set_grad_checkpointing()
    seen: Counter[type] = Counter()
    for module in model.modules():
        module.register_forward_hook(lambda module, _, __: seen.update([type(module)]))
    with torch.no_grad():
        model(torch.randn(1, 1, 43, 37))
    model.set_grad_checkpointing(False)
    model(torch.randn(1, 1, 43, 37)).sum().backward()
    assert seen[SemanticAutoencoder] == 16


def test_checkpointing_says_where_no_part_can():
    class Single(nn.Module):
        out_channels, strides = (5, 5, 5, 5), (1, 1, 1, 1)

        def forward(self, x):
            return [x.expand(-1, 5, -1, -1)] * 4

    model = SegmentationModel(Single(), MultiScaleFusion((5,) * 4, channels=8), Plain(), num_classes=3)
    with pytest.raises(TypeError, match="neither its encoder nor its attention"):
        model.set_grad_checkpointing()


def test_second_derivatives_pass_through_checkpointing():
    torch.manual_seed(0)
    attention = opened(MultiScaleGuidedAttention(2, num_scales=2)).eval()
    maps = [torch.randn(1, 2, 5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    found = []
    for sparing in (False, True):
        attention.set_grad_checkpointing(sparing)
        out = attention(maps, maps[0] + maps[1]).attended[-1][0].square().sum()
        (first,) = torch.autograd.grad(out, maps[0], create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), maps[1])[0])
    assert found[0].abs().max() > 0
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=0)


@pytest.fixture
def from_any_size(monkeypatch):
    """Compute maps anew however small they are; hands back what ends that."""
    monkeypatch.setattr(_layers, "_LARGE", 0)
    return lambda: monkeypatch.setattr(_layers, "_LARGE", 2**40)


@pytest.mark.parametrize(("builder", "precision"), [(MSGA, None), (MSGA, torch.bfloat16), (daf, None)])
def test_norms_computed_anew_change_no_number(from_any_size, builder, precision):
    torch.manual_seed(0)
    spared = opened(builder(1, 3, encoder="resnet18", channels=8)).train()
    spared = spared.float() if precision else spared
    plain = deepcopy(spared)
    found = after_a_step(spared, precision)
    from_any_size()
    torch.testing.assert_close(found, after_a_step(plain, precision), rtol=0, atol=0)


def held_by(run) -> int:
    """Return how many values a forward pass keeps for the backward pass, each tensor once."""
    kept: dict[int, Tensor] = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    del result
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_large_maps_that_leave_a_norm_are_not_held():
    torch.manual_seed(0)
    autoencoder = SemanticAutoencoder(64)
    group = conv_norm_prelu(64, 64, 1, spatial_dims=2)
    large, small = torch.randn(1, 64, 67, 71), torch.randn(1, 64, 31, 29)
    weights = sum(weight.nbytes for weight in autoencoder.parameters())
    map_ = large.nbytes
    # Of widths 128, 128 | 256, 256 at half the side | 128, 128 at a quarter | 64, 64 at half: what enters the norms.
    entering = (2 + 2 + 4 / 4 * 2 + 2 / 16 * 2 + 1 / 4 * 2) * map_
    held = held_by(lambda: autoencoder(large)) - weights - map_
    assert entering * 0.9 < held < entering * 1.5  # pooled maps, their indices and what is resized on top
    assert held_by(lambda: group(large)) < 2.2 * map_  # what goes in and what enters the norm
    assert held_by(lambda: group(small)) > 2.9 * small.nbytes  # what enters the PReLU too
    autoencoder.eval()
    assert held_by(lambda: autoencoder(large)) - weights - map_ > 1.6 * held


@pytest.mark.usefixtures("from_any_size")
def test_no_convolution_is_computed_twice_for_the_norms_sake():
    autoencoder = SemanticAutoencoder(3).train()
    seen: Counter[nn.Module] = Counter()
    for module in autoencoder.modules():
        module.register_forward_hook(lambda module, _, __: seen.update([module]))
    output = autoencoder(torch.randn(2, 3, 13, 11))
    (output.code.sum() + output.reconstruction.sum()).backward()
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    times = {
        kind: {seen[module] for module in autoencoder.modules() if isinstance(module, kind)} for kind in kinds
    }
    assert times == {nn.Conv2d: {1}, nn.BatchNorm2d: {2}}


@pytest.mark.usefixtures("from_any_size")
def test_within_a_step_that_is_computed_anew_norms_are_not_computed_a_third_time():
    attention = MultiScaleGuidedAttention(4, num_scales=1, steps=1).train()
    attention.set_grad_checkpointing()
    seen: Counter[nn.Module] = Counter()
    for module in attention.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda module, _, __: seen.update([module]))
    x = torch.randn(2, 4, 13, 11)
    attention([x], x).attended[-1][0].sum().backward()
    assert set(seen.values()) == {2}


@pytest.mark.usefixtures("from_any_size")
def test_torchs_own_norms_are_asked_once_a_batch():
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(SemanticAutoencoder(3)).train()
    norms = [module for module in synced.modules() if isinstance(module, nn.SyncBatchNorm)]
    seen: Counter[nn.Module] = Counter()
    for norm in norms:
        # Alone and without a GPU it refuses to work: what counts here is how often it is asked.
        norm.forward = lambda x, norm=norm: seen.update([norm]) or x * 2
    group = conv_norm_prelu(3, 3, 3, spatial_dims=2)
    group[1] = nn.BatchNorm2d(3)
    output = synced(group(torch.randn(2, 3, 13, 11)))
    (output.code.sum() + output.reconstruction.sum()).backward()
    assert [seen[norm] for norm in norms] == [1] * 8
    assert group[1].num_batches_tracked == 1


@pytest.mark.usefixtures("from_any_size")
def test_second_derivatives_pass_through_norms_computed_anew():
    torch.manual_seed(0)
    autoencoder = SemanticAutoencoder(2, width=3).double().train()
    for module in autoencoder.modules():
        if isinstance(module, nn.ReLU):
            module.forward = torch.tanh  # smooth, so that the differences of the check cross no kink
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: autoencoder(x).code, x, fast_mode=True)


def living(model: SegmentationModel, run) -> int:
    """Return how many reconstructions of the first step live on when the last one is made."""
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def hook(_, __, output):
        alive.append(sum(ref() is not None for ref in made[:3]))
        made.append(weakref.ref(output.reconstruction))

    for module in model.modules():
        if isinstance(module, SemanticAutoencoder):
            module.register_forward_hook(hook)
    with torch.no_grad():
        run(torch.randn(1, 1, 43, 37))
    return alive[-1]


@pytest.mark.parametrize("builder", [MSGA, msga_lite])
def test_prediction_lets_go_of_what_the_losses_alone_read(builder):
    model = builder(1, 3, encoder="resnet18", channels=8).eval()
    assert living(model, model.outputs) == 3
    assert living(model, model) == 0


def test_prediction_asks_any_attention_for_its_attended_maps_only():
    torch.manual_seed(0)
    encoder = resnet_encoder("resnet18")
    fusion = MultiScaleFusion(encoder.out_channels, channels=8)
    plain = Plain()
    for attention in (plain, PooledAttention(plain, factor=2)):
        model = SegmentationModel(encoder, fusion, attention, num_classes=3).eval()
        x = torch.randn(1, 1, 43, 37)
        plain.asked.clear()
        torch.testing.assert_close(model(x), model.outputs(x).logits)
        assert plain.asked == [True, False]
