"""What cross-entropy, Dice and their sum have in common."""

import copy

import pytest
import torch
from tests.reference import losses as written_out
from torch.testing import assert_close

from guided_attention.losses import (
    CrossEntropyLoss,
    DiceCrossEntropyLoss,
    DiceLoss,
    cross_entropy_loss,
    dice_cross_entropy_loss,
    dice_loss,
)

SPACES = [(), (5,), (5, 7), (2, 3, 5)]
BATCH, CLASSES = 3, 4
WEIGHTS = [0.5, 2.0, 0.25, 3.0]
FUNCTIONS = [cross_entropy_loss, dice_loss, dice_cross_entropy_loss]
PAIRS = [
    (cross_entropy_loss, CrossEntropyLoss),
    (dice_loss, DiceLoss),
    (dice_cross_entropy_loss, DiceCrossEntropyLoss),
]


def dice_cross_entropy(logits, target, weights=None, ignored=None):
    return written_out.dice(logits, target, weights, ignored) + written_out.cross_entropy(
        logits, target, weights, ignored
    )


TWINS = [
    (cross_entropy_loss, written_out.cross_entropy),
    (dice_loss, written_out.dice),
    (dice_cross_entropy_loss, dice_cross_entropy),
]


def inputs(space=(5, 7), dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(BATCH, CLASSES, *space, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(0, CLASSES, (BATCH, *space), generator=generator)


def with_ignored(target, value=255):
    mask = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    return target.masked_fill(mask, value), mask


@pytest.mark.parametrize(("loss", "twin"), TWINS)
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_loss_equals_the_sum_written_out(loss, twin, space, weights):
    logits, target = inputs(space)
    wanted = twin(logits, target, weights)
    assert_close(loss(logits, target, class_weights=weights), torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize(("loss", "twin"), TWINS)
@pytest.mark.parametrize("ignored", [255, -100, 0, 2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ignored_positions_are_left_out_of_the_sum(loss, twin, ignored, weights):
    logits, target = inputs()
    target, _ = with_ignored(target, ignored)
    wanted = twin(logits, target, weights, ignored)
    value = loss(logits, target, class_weights=weights, ignore_index=ignored)
    assert_close(value, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ignoring_is_cropping(loss, weights):
    logits, target = inputs((5, 7))
    marked = target.clone()
    marked[:, :, 4:] = 255
    value = loss(logits, marked, class_weights=weights, ignore_index=255)
    assert_close(value, loss(logits[..., :4], target[..., :4], class_weights=weights))


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_an_ignored_position_has_no_gradient_at_all(loss, weights):
    logits, target = inputs()
    target, mask = with_ignored(target)
    logits.requires_grad_()
    loss(logits, target, class_weights=weights, ignore_index=255).backward()
    ignored = logits.grad.movedim(1, -1)[mask]
    assert torch.equal(ignored, torch.zeros_like(ignored))
    assert (logits.grad.movedim(1, -1)[~mask] != 0).any(-1).all()


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_nothing_to_count_costs_exactly_nothing_and_still_has_a_graph(loss, weights):
    logits, target = inputs(dtype=torch.float32)
    logits.requires_grad_()
    value = loss(logits, torch.full_like(target, 255), class_weights=weights, ignore_index=255)
    value.backward()
    assert torch.equal(value.detach(), torch.zeros(()))
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_classes_of_weight_zero_alone_cost_nothing():
    logits, target = inputs(dtype=torch.float32)
    background = torch.zeros_like(target)
    assert torch.equal(
        cross_entropy_loss(logits, background, class_weights=[0.0, 1.0, 1.0, 1.0]), torch.zeros(())
    )
    assert torch.equal(dice_loss(logits, target, class_weights=[1.0, 0.0, 0.0, 0.0]), torch.zeros(()))


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("settings", [{}, {"class_weights": WEIGHTS}, {"ignore_index": 2}])
def test_gradients_are_right(loss, settings):
    logits, target = inputs((2, 3))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, target, **settings), (logits,))


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_a_shuffle_of_positions_changes_nothing(loss):
    logits, target = inputs((5, 7))
    order = torch.randperm(35, generator=torch.Generator().manual_seed(2))
    shuffled = loss(logits.flatten(2)[..., order], target.flatten(1)[:, order], class_weights=WEIGHTS)
    assert_close(shuffled, loss(logits, target, class_weights=WEIGHTS))


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_the_order_of_the_batch_changes_nothing(loss):
    logits, target = inputs()
    assert_close(loss(logits.flip(0), target.flip(0)), loss(logits, target))


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_classes_may_be_renumbered_with_their_weights(loss):
    logits, target = inputs()
    order = torch.tensor([0, 3, 1, 2])  # the background keeps its place
    renumbered = loss(
        logits[:, order], torch.argsort(order)[target], class_weights=[WEIGHTS[index] for index in order]
    )
    assert_close(renumbered, loss(logits, target, class_weights=WEIGHTS))


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_only_the_ratio_of_the_weights_counts(loss):
    logits, target = inputs()
    scaled = loss(logits, target, class_weights=[7 * weight for weight in WEIGHTS])
    assert_close(scaled, loss(logits, target, class_weights=WEIGHTS))


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_certainty_of_the_truth_costs_nothing_and_of_an_error_much(loss):
    _, target = inputs()
    truth = 100 * torch.nn.functional.one_hot(target, CLASSES).movedim(-1, 1).double()
    assert_close(loss(truth, target), torch.zeros((), dtype=torch.float64))
    assert loss(truth.roll(1, dims=1), target) > 0.9


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_every_integer_type_of_labels_gives_the_same(loss, dtype):
    logits, target = inputs()
    target, _ = with_ignored(target, 200 if dtype == torch.uint8 else -100)
    ignored = int(target.max()) if dtype == torch.uint8 else -100
    value = loss(logits, target.to(dtype), ignore_index=ignored)
    assert torch.equal(value, loss(logits, target, ignore_index=ignored))


def test_a_small_integer_type_does_not_wrap_the_ignored_label():
    logits, target = inputs()
    target[0, 0, 0] = 156  # −100 in eight bits
    with pytest.raises(ValueError, match=r"got also \[156\]"):
        cross_entropy_loss(logits, target.to(torch.uint8), ignore_index=-100)


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(loss, dtype):
    logits, target = inputs(dtype=dtype)
    value = loss(logits, target, class_weights=WEIGHTS)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(logits.float(), target, class_weights=WEIGHTS))


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_autocast_changes_nothing(loss):
    logits, target = inputs(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, target, class_weights=WEIGHTS)
    assert torch.equal(value, loss(logits, target, class_weights=WEIGHTS))


@pytest.mark.parametrize(("loss", "module"), PAIRS)
def test_the_module_is_the_function(loss, module):
    logits, target = inputs(dtype=torch.float32)
    target, _ = with_ignored(target)
    settings = {"class_weights": WEIGHTS, "ignore_index": 255}
    assert torch.equal(module(**settings)(logits, target), loss(logits, target, **settings))
    assert torch.equal(module()(logits, target % CLASSES), loss(logits, target % CLASSES))


@pytest.mark.parametrize("module", [CrossEntropyLoss, DiceLoss, DiceCrossEntropyLoss])
def test_class_weights_travel_with_the_module(module):
    weighted = module(class_weights=WEIGHTS)
    assert_close(dict(weighted.state_dict()), {"class_weights": torch.tensor(WEIGHTS)})
    assert weighted.to(torch.float64).class_weights.dtype == torch.float64
    assert weighted.to("meta").class_weights.device.type == "meta"
    assert list(weighted.parameters()) == []
    assert dict(module().state_dict()) == {}
    other = module(class_weights=[1.0] * CLASSES)
    other.load_state_dict(copy.deepcopy(module(class_weights=WEIGHTS)).state_dict())
    logits, target = inputs(dtype=torch.float32)
    assert torch.equal(other(logits, target), module(class_weights=WEIGHTS)(logits, target))


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_the_inputs_are_left_as_they_came(loss):
    logits, target = inputs()
    target, _ = with_ignored(target)
    copies = logits.clone(), target.clone()
    loss(logits, target, ignore_index=255)
    assert torch.equal(logits, copies[0])
    assert torch.equal(target, copies[1])


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_labels_that_are_no_class_are_named(loss):
    logits, target = inputs()
    target[0, 0, :3] = torch.tensor([-1, 4, 255])
    message = (
        r"`target` must be made of the classes 0 to 3, `num_classes` being 4, got also \[-1, 4, 255\]\. "
        r"Map the labels to classes, or name the value to leave out as `ignore_index`\."
    )
    with pytest.raises(ValueError, match=message):
        loss(logits, target)
    with pytest.raises(ValueError, match=r"got also \[-1, 4\]\."):
        loss(logits, target, ignore_index=255)


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("stranger", [-1, CLASSES])
def test_a_single_label_next_to_the_classes_is_found(loss, stranger):
    logits, target = inputs()
    target[2, 3, 4] = stranger
    with pytest.raises(ValueError, match=rf"got also \[{stranger}\]\."):
        loss(logits, target)


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.usefixtures("without_shape_checks")
def test_targets_that_do_not_fit_are_refused(loss):
    logits, target = inputs((5, 7))
    wanted = r"`target` must be of the shape of `logits` without the class axis, \(3, 5, 7\), got "
    with pytest.raises(ValueError, match=wanted + r"\(1, 5, 7\)\.$"):
        loss(logits, target[:1])
    with pytest.raises(
        ValueError, match=wanted + r"\(3, 1, 5, 7\)\. Take off the channel axis: `target\[:, 0\]`\."
    ):
        loss(logits, target[:, None])
    with pytest.raises(ValueError, match=r"`target` must be of an integer type, got torch\.float64\. Pass"):
        loss(logits, target.double())


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("weights", [[1.0, 2.0, 3.0], torch.ones(5)])
def test_weights_of_another_number_than_the_classes_are_refused(loss, weights):
    logits, target = inputs()
    wanted = "`class_weights` must be one weight for each of the 4 classes of `logits`"
    message = f"{wanted}, got {len(weights)} weights"
    with pytest.raises(ValueError, match=message):
        loss(logits, target, class_weights=weights)


@pytest.mark.parametrize("module", [CrossEntropyLoss, DiceLoss, DiceCrossEntropyLoss])
@pytest.mark.parametrize("weights", [[1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")], [0.0, 0.0]])
def test_weights_that_are_no_weights_are_refused(module, weights):
    with pytest.raises(
        ValueError, match=r"`class_weights` must be finite numbers, none below 0, not all 0, got \["
    ):
        module(class_weights=weights)


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("kind", [list, torch.tensor])
@pytest.mark.parametrize("weights", [[1.0, -2.0, 1.0, 1.0], [1.0, float("nan"), 1.0, 1.0], [0.0] * 4])
def test_functions_refuse_weights_that_are_none_whatever_holds_them(loss, kind, weights):
    logits, target = inputs()
    with pytest.raises(ValueError, match=r"`class_weights` must be finite numbers, none below 0, not all 0"):
        loss(logits, target, class_weights=kind(weights))


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.usefixtures("without_shape_checks")
def test_a_loss_compiles_into_one_graph(loss):
    logits, target = inputs(dtype=torch.float32)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    assert_close(compiled(logits, target, ignore_index=255), loss(logits, target, ignore_index=255))
