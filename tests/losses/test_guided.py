import pytest
import torch
from tests.reference import losses as written_out
from torch import nn
from torch.testing import assert_close

from guided_attention.losses import (
    CrossEntropyLoss,
    DiceLoss,
    GuidedAttentionLoss,
    cross_entropy_loss,
    dice_loss,
    guidance_loss,
    reconstruction_loss,
)
from guided_attention.outputs import SegmentationOutput

LOSSES = [guidance_loss, reconstruction_loss]


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pairs(dtype=torch.float64):
    shapes = [(2, 3, 5, 7), (2, 11), (2, 3, 3, 5, 1)]
    return [
        (random(*shape, seed=seed, dtype=dtype), random(*shape, seed=seed + 10, dtype=dtype))
        for seed, shape in enumerate(shapes)
    ]


def output(*, raw=2, attended=3, dtype=torch.float64):
    logits = [random(2, 3, 5, 7, seed=20 + seed, dtype=dtype) for seed in range(1 + raw + attended)]
    return SegmentationOutput(
        logits=logits[0],
        raw_logits=tuple(logits[1 : 1 + raw]),
        attended_logits=tuple(logits[1 + raw :]),
        codes=tuple(pairs(dtype)[1:]),
        reconstructions=tuple(pairs(dtype)[:2]),
    )


def labels():
    return torch.randint(0, 3, (2, 5, 7), generator=torch.Generator().manual_seed(30))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("detached", [False, True])
def test_the_loss_equals_the_squares_written_out(loss, reduction, detached):
    value = loss(pairs(), reduction=reduction, detached=detached)
    wanted = written_out.squares(pairs(), reduction)
    assert_close(value, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("loss", LOSSES)
def test_two_pairs_by_hand(loss):
    first = (torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    second = (torch.tensor([[5.0], [5.0]]), torch.tensor([[3.0], [5.0]]))
    assert torch.equal(loss([first, second]), torch.tensor(30 / 4 + 4 / 2))
    assert torch.equal(loss([first, second], reduction="sum"), torch.tensor(30 / 2 + 4 / 2))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_are_right(loss, reduction):
    first, second = random(2, 3, seed=1).requires_grad_(), random(2, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: loss([(a, b), (b, 2 * a)], reduction=reduction), (first, second)
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_both_of_a_pair_move_unless_the_first_is_held_fixed(loss):
    first, second = random(2, 3, seed=1).requires_grad_(), random(2, 3, seed=2).requires_grad_()
    loss([(first, second)]).backward()
    pull = 2 * (second - first).detach() / 6
    assert_close(second.grad, pull)
    assert_close(first.grad, -pull)
    first.grad = second.grad = None
    loss([(first, second)], detached=True).backward()
    assert_close(second.grad, pull)
    assert first.grad is None


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_neither_the_order_of_pairs_nor_that_of_the_batch_matters(loss, reduction):
    value = loss(pairs(), reduction=reduction)
    assert_close(loss(pairs()[::-1], reduction=reduction), value)
    assert_close(loss([(a.flip(0), b.flip(0)) for a, b in pairs()], reduction=reduction), value)
    assert_close(loss([(b, a) for a, b in pairs()], reduction=reduction), value)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_doubled_batch_costs_the_same(loss, reduction):
    doubled = [(torch.cat([a, a]), torch.cat([b, b])) for a, b in pairs()]
    assert_close(loss(doubled, reduction=reduction), loss(pairs(), reduction=reduction))


@pytest.mark.parametrize("loss", LOSSES)
def test_agreement_costs_nothing_and_no_pair_neither(loss):
    assert torch.equal(loss([(a, a) for a, _ in pairs()]), torch.zeros((), dtype=torch.float64))
    assert torch.equal(loss([]), torch.zeros(()))


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_single(loss):
    large = [
        (torch.full((1, 3), 300.0, dtype=torch.float16), torch.full((1, 3), -300.0, dtype=torch.float16))
    ]
    assert torch.equal(loss(large), torch.tensor(360000.0))
    rounded = pairs(torch.bfloat16)
    assert torch.equal(loss(rounded), loss([(a.float(), b.float()) for a, b in rounded]))


@pytest.mark.parametrize(("loss", "name"), [(guidance_loss, "codes"), (reconstruction_loss, "pairs")])
def test_pairs_that_do_not_fit_are_refused(loss, name):
    message = rf"`{name}\[1\]\[1\]` must be of the shape of `{name}\[1\]\[0\]`, \(2, 3\), got \(1, 3\)\."
    with pytest.raises(ValueError, match=message):
        loss([pairs()[0], (torch.zeros(2, 3), torch.zeros(1, 3))])


@pytest.mark.usefixtures("without_shape_checks")
def test_a_reduction_that_does_not_exist_is_refused():
    message = r"`reduction` must be one of 'mean', 'sum', got 'none'\."
    for call in (guidance_loss, reconstruction_loss):
        with pytest.raises(ValueError, match=message):
            call([], reduction="none")
    with pytest.raises(ValueError, match=message):
        GuidedAttentionLoss(reduction="none")


def test_the_total_is_the_paper_s_sum_of_the_parts():
    given, target = output(), labels()
    terms = GuidedAttentionLoss()(given, target)
    segmentation = sum(
        written_out.cross_entropy(logits, target) for logits in (*given.raw_logits, *given.attended_logits)
    )
    guidance = written_out.squares(given.codes, "mean")
    reconstruction = written_out.squares(given.reconstructions, "mean")
    assert list(terms.parts) == ["segmentation", "guidance", "reconstruction"]
    wanted = [torch.tensor(value, dtype=torch.float64) for value in (segmentation, guidance, reconstruction)]
    assert_close(list(terms.parts.values()), wanted)
    assert_close(terms.total, wanted[0] + 0.25 * wanted[1] + 0.1 * wanted[2])


@pytest.mark.parametrize("weights", [(1.0, 0.25, 0.1), (0.3, 7.0, 11.0), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_total_is_exactly_the_weighted_parts(weights, reduction):
    alpha, beta, gamma = weights
    loss = GuidedAttentionLoss(
        segmentation_weight=alpha, guidance_weight=beta, reconstruction_weight=gamma, reduction=reduction
    )
    given = output(dtype=torch.float32)
    terms = loss(given, labels())
    parts = terms.parts
    total = alpha * parts["segmentation"] + beta * parts["guidance"] + gamma * parts["reconstruction"]
    assert torch.equal(terms.total, total)
    assert torch.equal(parts["guidance"], guidance_loss(given.codes, reduction=reduction))
    assert torch.equal(
        parts["reconstruction"], reconstruction_loss(given.reconstructions, reduction=reduction)
    )


@pytest.mark.parametrize(("raw", "attended"), [(0, 3), (2, 0), (2, 3)])
def test_the_segmentation_is_judged_on_the_side_predictions_there_are(raw, attended):
    given, target = output(raw=raw, attended=attended), labels()
    terms = GuidedAttentionLoss(DiceLoss())(given, target)
    wanted = sum(dice_loss(logits, target) for logits in (*given.raw_logits, *given.attended_logits))
    assert_close(terms.parts["segmentation"], wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_plain_network_is_judged_by_its_logits(dtype):
    logits, target = random(2, 3, 5, 7, dtype=dtype), labels()
    terms = GuidedAttentionLoss()(SegmentationOutput(logits), target)
    wanted = cross_entropy_loss(logits, target)
    assert torch.equal(terms.total, wanted)
    assert torch.equal(terms.parts["guidance"], torch.zeros_like(wanted))
    assert torch.equal(terms.parts["reconstruction"], torch.zeros_like(wanted))


def test_parts_that_are_not_there_are_on_the_device_of_the_logits():
    class Nowhere(nn.Module):
        def forward(self, logits, target):  # noqa: ARG002
            return logits.sum()

    terms = GuidedAttentionLoss(Nowhere())(
        SegmentationOutput(torch.zeros(2, 3, 5, device="meta")), labels()[..., 0]
    )
    assert {part.device.type for part in terms.parts.values()} == {"meta"}


def test_the_total_has_the_gradient_and_the_parts_do_not():
    given = output()
    leaves = [*given.raw_logits, *given.attended_logits]
    leaves += [tensor for pair in (*given.codes, *given.reconstructions) for tensor in pair]
    for leaf in leaves:
        leaf.requires_grad_()
    terms = GuidedAttentionLoss()(given, labels())
    assert not any(part.requires_grad for part in terms.parts.values())
    terms.total.backward()
    assert all(leaf.grad is not None and leaf.grad.abs().sum() > 0 for leaf in leaves)


def test_held_fixed_reaches_guidance_and_reconstruction():
    given = output()
    for first, second in (*given.codes, *given.reconstructions):
        first.requires_grad_()
        second.requires_grad_()
    GuidedAttentionLoss(detached=True)(given, labels()).total.backward()
    for first, second in (*given.codes, *given.reconstructions):
        assert first.grad is None
        assert second.grad is not None


@pytest.mark.parametrize("shape", [(2, 3), (1, 1)])
def test_only_a_segmentation_loss_of_one_number_is_added(shape):
    logits, target = torch.zeros(2, 2, 3, 5), torch.ones(2, 3, 5, dtype=torch.long)
    loss = GuidedAttentionLoss(lambda logits, _: logits.mean() * torch.ones(shape))
    if shape == (1, 1):
        assert loss(logits, target).total.shape == ()
        return
    message = (
        r"`segmentation\(logits, target\)` must be a scalar tensor, got one of shape \(2, 3\)\. Take its mean"
    )
    with pytest.raises(ValueError, match=message):
        loss(logits, target)


def test_the_segmentation_loss_moves_with_the_module():
    loss = GuidedAttentionLoss(CrossEntropyLoss([1.0, 2.0, 3.0]))
    assert_close(dict(loss.state_dict()), {"segmentation.class_weights": torch.tensor([1.0, 2.0, 3.0])})
    assert loss.to("meta").segmentation.class_weights.device.type == "meta"


@pytest.mark.parametrize("name", ["segmentation_weight", "guidance_weight", "reconstruction_weight"])
def test_a_negative_weight_is_refused(name):
    with pytest.raises(ValueError, match=rf"`{name}` must be 0 or more, got -0\.5\."):
        GuidedAttentionLoss(**{name: -0.5})
